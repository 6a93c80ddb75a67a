"""What a person sees while an engine works, and how it fails."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

Log = Callable[[str], None]
"""Takes one line, from any thread."""

QUICK_SECONDS = 0.5
"""What takes no longer than this is not told."""


class EngineError(RuntimeError):
    """A run failed; the text is for the person who started it."""


class NothingMade(EngineError):
    """A creation was refused before anything was there that would have to be deleted."""


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str) -> float | None:
    """Go's way to write a duration (``1h30m``) in seconds; nothing for nothing.

    Raises:
        EngineError: it is none.
    """
    if not duration:
        return None
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise EngineError(f"{duration!r}: want a duration such as 30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


SHORTEST_SECRET = 4
"""A shorter text is not hidden: it would make holes all over a message, and hide nothing."""


def texts_in(value: Any) -> list[str]:
    """All lines of all texts in a value, to be given to :func:`hide`."""
    if isinstance(value, dict):
        return [line for item in value.values() for line in texts_in(item)]
    if isinstance(value, list | tuple):
        return [line for item in value for line in texts_in(item)]
    return value.splitlines() if isinstance(value, str) else []


def hide(text: str, secrets: Collection[str]) -> str:
    """A text without the secrets that are in it."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret.strip()) >= SHORTEST_SECRET:
            text = text.replace(secret.strip(), "[secret]")
    return text


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
