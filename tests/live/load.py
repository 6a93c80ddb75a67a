"""HTTP requests without end, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

from sandbox import dev

THREADS = 4
PAUSE_SECONDS = 0.02


class Load:
    """Asks for a page from several threads, each request on a connection of its own, while the body runs.

    Args:
        address: where to.
        host: the page's host name.

    Attributes:
        sent: how many were sent.
        lost: what became of those that were not answered 200, by how often.
    """

    def __init__(self, address: str, host: str) -> None:
        self._address, self._host = address, host
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(THREADS)]
        self.sent = 0
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            began = time.strftime("%H:%M:%S")
            try:
                status, _ = dev.get(self._address, self._host)
                fault = "" if status == 200 else f"status {status}"
            except OSError as error:
                fault = f"{type(error).__name__}: {error}"
            with self._lock:
                self.sent += 1
                if fault:
                    self.lost[f"{began} {fault}"] += 1
