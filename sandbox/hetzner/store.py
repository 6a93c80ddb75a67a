"""The API's books: every resource and action, in one JSON file.

The process may be killed at any point: the file is replaced as a whole at each change, so that it
holds the state after one of them. What is in memory is never ahead of it, except inside
:meth:`Store.change`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sandbox.hetzner.errors import not_found

Record = dict[str, Any]
"""A resource as the books have it; other resources in it are ids."""

KINDS: Final = (
    "ssh_key",
    "network",
    "firewall",
    "placement_group",
    "primary_ip",
    "server",
    "load_balancer",
    "floating_ip",
    "volume",
    "action",
)
_KEPT_ACTIONS: Final = 1000
_FIRST_ID: Final = 1001


class Store:
    """All records, by kind and id.

    Args:
        path: The file; made at the first change, its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.closed = False
        self._text = path.read_text() if path.exists() else _empty()
        self._load()

    def close(self) -> None:
        """Allow no change any more: what still runs is for the next process to take up."""
        with self.lock:
            self.closed = True

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change records: all of it is written at the end, or nothing if an exception leaves it."""
        with self.lock:
            if self.closed:
                raise RuntimeError(f"{self.path}: the process that kept these books has ended")
            try:
                yield
            except BaseException:
                self._load()
                raise
            self._save()

    def before(self) -> Record:
        """All data as they were before the change that is under way."""
        data: Record = json.loads(self._text)
        return data

    def new_id(self) -> int:
        """An id that no resource and no action has or had."""
        number: int = self.data["next_id"]
        self.data["next_id"] = number + 1
        return number

    def add(self, kind: str, record: Record) -> Record:
        """Add a record; gives it an id and the time of creation."""
        new = {"id": self.new_id(), "created": now(), **record}
        self.data["tables"][kind][str(new["id"])] = new
        return new

    def find(self, kind: str, number: int | None) -> Record | None:
        """A record, or None."""
        found: Record | None = self.data["tables"][kind].get(str(number))
        return found

    def get(self, kind: str, number: int) -> Record:
        """A record.

        Raises:
            ApiError: There is none.
        """
        found = self.find(kind, number)
        if found is None:
            raise not_found(kind, number)
        return found

    def all(self, kind: str) -> list[Record]:
        """All records of a kind, oldest first."""
        return list(self.data["tables"][kind].values())

    def remove(self, kind: str, number: int) -> None:
        """Forget a record; it may be gone."""
        self.data["tables"][kind].pop(str(number), None)

    @property
    def applied(self) -> dict[str, Any]:
        """What the world was told last, by what it is about: see :mod:`sandbox.hetzner.derive`."""
        applied: dict[str, Any] = self.data["applied"]
        return applied

    @property
    def unavailable(self) -> list[list[str]]:
        """Server types that cannot be had now: pairs of type and location."""
        pairs: list[list[str]] = self.data["unavailable"]
        return pairs

    def _load(self) -> None:
        self.data: Record = json.loads(self._text)

    def _save(self) -> None:
        self._forget_old_actions()
        text = json.dumps(self.data, indent=1)
        if text == self._text:
            return
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)
        self._text = text

    def _forget_old_actions(self) -> None:
        actions = self.data["tables"]["action"]
        done = [key for key, action in actions.items() if action["status"] != "running"]
        for key in done[: max(0, len(actions) - _KEPT_ACTIONS)]:
            del actions[key]


def now() -> str:
    """This moment as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _empty() -> str:
    tables: dict[str, Record] = {kind: {} for kind in KINDS}
    return json.dumps(
        {"next_id": _FIRST_ID, "tables": tables, "applied": {}, "unavailable": []}, indent=1
    )
