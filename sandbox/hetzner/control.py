"""The stand-in's own endpoints, for tests: nothing at Hetzner is like them.

They ask for no token, and are there for this host only, not for its servers:

    GET    /control/ready        an empty object, when it serves
    GET    /control/store        everything that exists, by kind
    GET    /control/log          the requests so far: method, path, status; oldest first
    DELETE /control/log          forget them
    GET    /control/faults       the faults that are left
    POST   /control/faults       order one, see :mod:`sandbox.hetzner.faults`
    DELETE /control/faults       drop them all
    POST   /control/unavailable  a ``server_type`` cannot be had at a ``location``; it can again
                                 with ``"available": true``; kept over restarts

To delete something behind a program's back, delete it with the API.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from sandbox.hetzner import catalog, fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError
from sandbox.hetzner.faults import Faults
from sandbox.hetzner.store import KINDS, Record
from sandbox.hetzner.web import EMPTY, Answer

PREFIX: Final = "/control"
_KEPT: Final = 10_000


class Control:
    """Answers under ``/control``.

    Args:
        cloud: The stand-in.
        faults: Its faults.
    """

    def __init__(self, cloud: Cloud, faults: Faults) -> None:
        self._cloud = cloud
        self._faults = faults
        self._log: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def note(self, method: str, path: str, status: int) -> None:
        """Log a request to the API."""
        self._log.append({"method": method, "path": path, "status": status})

    def answer(self, method: str, path: str, body: Record) -> Answer:
        """Answer a request.

        Raises:
            ApiError: There is nothing at this path for this method, or the body is wrong.
        """
        match method, path.removeprefix(PREFIX):
            case "GET", "/ready":
                return Answer(200, {})
            case "GET", "/store":
                return Answer(200, self._store())
            case "GET", "/log":
                return Answer(200, {"log": list(self._log)})
            case "DELETE", "/log":
                self._log.clear()
            case "GET", "/faults":
                return Answer(200, {"faults": self._faults.ordered()})
            case "POST", "/faults":
                self._faults.order(body)
            case "DELETE", "/faults":
                self._faults.clear()
            case "POST", "/unavailable":
                self._make_unavailable(body)
            case _:
                raise ApiError("not_found", f"there is nothing at {path} for {method}")
        return EMPTY

    def _store(self) -> Record:
        with self._cloud.store.lock:
            return {kind: [dict(r) for r in self._cloud.store.all(kind)] for kind in KINDS}

    def _make_unavailable(self, body: Record) -> None:
        location = catalog.location(body.get("location"))["name"]
        pair = [catalog.server_type(body.get("server_type")).name, location]
        with self._cloud.store.change():
            pairs = self._cloud.store.unavailable
            pairs[:] = [other for other in pairs if other != pair]
            if not fields.flag(body, "available", False):
                pairs.append(pair)
