"""Faults that tests order, and the rate limit that is always there.

A fault is an object with a ``kind`` and what belongs to it (``POST /control/faults``):

- ``rate_limit``: ``times`` requests, or all for ``seconds``, are answered with 429.
- ``refuse``: all requests for ``seconds`` are answered with 503.
- ``fail``: ``times`` requests are answered with ``code`` (and ``status``, ``message``), and not done.
- ``cut``: ``times`` requests are done, but the connection is cut before the answer.
- ``slow``: ``times`` requests are done and answered after ``seconds``.
- ``fail_action``: ``times`` actions with this ``command`` end with an error (and ``message``).

``times`` is 1 where it is not said. ``fail``, ``cut`` and ``slow`` look at ``method`` and ``path``, a
regular expression for all that follows ``/v1``; without them any request matches. Faults are in
memory only: they end with the process.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from sandbox.hetzner.errors import ApiError, invalid

_KINDS: Final = ("rate_limit", "refuse", "fail", "cut", "slow", "fail_action")
_PER_HOUR: Final = 3600
"""Requests an hour; one is given back each second."""


class Faults:
    """The faults that are ordered now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: list[dict[str, Any]] = []
        self._left = float(_PER_HOUR)
        self._counted = time.monotonic()

    def order(self, fault: Mapping[str, Any]) -> None:
        """Order a fault.

        Raises:
            ApiError: There is no such kind.
        """
        if fault.get("kind") not in _KINDS:
            raise invalid("kind", f"must be one of {', '.join(_KINDS)}")
        new = dict(fault)
        if fault["kind"] == "refuse" or (fault["kind"] == "rate_limit" and "seconds" in fault):
            new["end"] = time.monotonic() + float(fault["seconds"])
        else:
            new.setdefault("times", 1)
        with self._lock:
            self._ordered.append(new)

    def clear(self) -> None:
        """Drop all faults, and give back all requests."""
        with self._lock:
            self._ordered = []
            self._left = float(_PER_HOUR)

    def ordered(self) -> list[dict[str, Any]]:
        """The faults that are left."""
        with self._lock:
            return [{k: v for k, v in fault.items() if k != "end"} for fault in self._ordered]

    def before(self, method: str, path: str) -> None:
        """Fail a request that is not to be done.

        Raises:
            ApiError: What it is answered with.
        """
        limited = self._take("rate_limit", method, path) is not None
        if not self._count(limited):
            raise ApiError("rate_limit_exceeded", "limit of requests per hour reached")
        if self._take("refuse", method, path):
            raise ApiError("unavailable", "the API is currently not available")
        if fault := self._take("fail", method, path):
            message = str(fault.get("message", "this fault was ordered"))
            code = str(fault.get("code", "server_error"))
            raise ApiError(code, message, status=fault.get("status"))

    def cut(self, method: str, path: str) -> bool:
        """Whether a request that was done gets no answer; may take a while before it says so."""
        if fault := self._take("slow", method, path):
            time.sleep(float(fault.get("seconds", 1)))
        return self._take("cut", method, path) is not None

    def of_action(self, command: str) -> str | None:
        """The error that an action ends with, if one was ordered for its command."""
        fault = self._take("fail_action", "", "", command)
        return None if fault is None else str(fault.get("message", "this fault was ordered"))

    def headers(self) -> dict[str, str]:
        """The rate limit's headers, which are in every answer."""
        with self._lock:
            limited = any(fault["kind"] == "rate_limit" for fault in self._ordered)
            left = 0 if limited else int(self._left)
        return {
            "RateLimit-Limit": str(_PER_HOUR),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(int(time.time()) + _PER_HOUR - left),
        }

    def _count(self, limited: bool) -> bool:
        with self._lock:
            now = time.monotonic()
            self._left = min(_PER_HOUR, self._left + now - self._counted)
            self._counted = now
            if limited or self._left < 1:
                return False
            self._left -= 1
            return True

    def _take(self, kind: str, method: str, path: str, command: str = "") -> dict[str, Any] | None:
        with self._lock:
            now = time.monotonic()
            self._ordered = [f for f in self._ordered if f.get("end", now) >= now]
            for fault in self._ordered:
                if fault["kind"] == kind and _meant(fault, method, path, command):
                    self._use_up(fault)
                    return fault
        return None

    def _use_up(self, fault: dict[str, Any]) -> None:
        if "end" in fault:
            return
        fault["times"] -= 1
        if fault["times"] < 1:
            self._ordered.remove(fault)


def _meant(fault: Mapping[str, Any], method: str, path: str, command: str) -> bool:
    if fault["kind"] == "fail_action":
        return bool(fault.get("command", command) == command)
    asked = fault.get("method", method) == method
    return asked and re.fullmatch(str(fault.get("path", ".*")), path) is not None
