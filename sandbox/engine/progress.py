"""What a person sees while an engine works, and how it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Log = Callable[[str], None]
"""Takes one line, from any thread."""

QUICK_SECONDS = 0.5
"""What takes no longer than this is not told."""


class EngineError(RuntimeError):
    """A run failed; the text is for the person who started it."""


class Progress:
    """Lines with the time since the start and the resource they are about.

    Args:
        log: where lines go.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def line(self, name: str, text: str) -> None:
        """One line, or several with the same head."""
        with self._lock:
            for part in text.splitlines():
                self._log(f"[{self.seconds:6.1f} s] {name:<22} {part.rstrip()}")

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Tell begin and end of what takes longer than ``QUICK_SECONDS``, and every failure."""
        began = time.monotonic()
        slow = threading.Timer(QUICK_SECONDS, self.line, (name, f"{what} ..."))
        slow.daemon = True
        slow.start()
        outcome = "FAILED"
        try:
            yield
            outcome = "done"
        finally:
            slow.cancel()
            took = time.monotonic() - began
            if took > QUICK_SECONDS or outcome != "done":
                self.line(name, f"{what} {outcome} in {took:.1f} s")
