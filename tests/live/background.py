"""What goes on beside a block of a test."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Does one thing again and again, until its block ends.

    Args:
        pause: seconds between two times.
        threads: how many do it at once.
    """

    def __init__(self, pause: float, threads: int = 1) -> None:
        self._pause = pause
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    @abstractmethod
    def once(self) -> None:
        """Do it."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            self.once()
