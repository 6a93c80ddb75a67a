"""HTTP requests without end, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import Counter

from sandbox import dev
from tests.live.background import Background

THREADS = 4
PAUSE_SECONDS = 0.02


class Load(Background):
    """Asks for a page from several threads, each request on a connection of its own, while the body runs.

    Args:
        address: where to.
        host: the page's host name.

    Attributes:
        sent: how many were sent.
        lost: what became of those that were not answered 200, by how often.
    """

    def __init__(self, address: str, host: str) -> None:
        super().__init__(PAUSE_SECONDS, THREADS)
        self._address, self._host = address, host
        self._lock = threading.Lock()
        self.sent = 0
        self.lost: Counter[str] = Counter()

    def once(self) -> None:
        """One request."""
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
