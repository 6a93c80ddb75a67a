"""What the stand-in has created, in order, so that it can delete it again.

It is no state in the real engine's sense: nothing is compared with it. It holds secrets (keys, kubeconfig)
in clear and is for nobody else to read.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

WORKERS = 16


@dataclass(frozen=True)
class Record:
    """One created resource.

    Attributes:
        urn: what the program calls it.
        type: its type token.
        name: its name.
        id: what its children name it by, if it is a provider.
        inputs: as much as deleting it takes.
        provider: id of its provider.
        after: URNs that it was created after, and so is deleted before.
        deleted_with: URN of what takes it along when it goes.
        secret: names of inputs that are secrets.
        ignored: names of inputs whose changes are left alone (``ignore_changes``).
        protected: it must not be deleted (``protect``).
        retained: it is forgotten where it would be deleted (``retain_on_delete``).
    """

    urn: str
    type: str
    name: str
    id: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    provider: str = ""
    after: tuple[str, ...] = ()
    deleted_with: str = ""
    secret: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    protected: bool = False
    retained: bool = False


class Journal:
    """A file of records; every change is on disk before the call returns.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        listed = json.loads(path.read_text()) if path.exists() else []
        self._records = {entry["urn"]: _record(entry) for entry in listed}

    def records(self) -> list[Record]:
        """All records in the order of their creation."""
        with self._lock:
            return list(self._records.values())

    def get(self, urn: str) -> Record | None:
        """One record."""
        with self._lock:
            return self._records.get(urn)

    def put(self, record: Record) -> None:
        """Add a record, or replace the one of the same URN in its place."""
        with self._lock:
            self._records[record.urn] = record
            self._write()

    def drop(self, urn: str) -> None:
        """Forget a record."""
        with self._lock:
            self._records.pop(urn, None)
            self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        with draft.open("w") as file:
            json.dump([asdict(record) for record in self._records.values()], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _record(entry: Mapping[str, Any]) -> Record:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Record(**values)


def delete_all(
    records: Iterable[Record], delete: Callable[[Record], None], journal: Journal
) -> dict[str, Exception]:
    """Delete records, each after all that were created after it; independent ones side by side.

    Once one fails, nothing further is begun.

    Args:
        records: what shall go.
        delete: deletes one.
        journal: forgets each as soon as it is gone.

    Returns:
        The failures by resource name.
    """
    doomed = {record.urn: record for record in records}
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(doomed, ()))
    for record in doomed.values():
        for earlier in record.after:
            if earlier in doomed and earlier != record.urn:
                order.add(earlier, record.urn)
    order.prepare()
    failures: dict[str, Exception] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        running: dict[Future[None], Record] = {}
        while order.is_active():
            if not failures:
                for urn in order.get_ready():
                    running[pool.submit(_delete_one, doomed, doomed[urn], delete)] = doomed[urn]
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                record = running.pop(done)
                error = done.exception()
                if isinstance(error, Exception):
                    failures[record.name] = error
                else:
                    journal.drop(record.urn)
                    order.done(record.urn)
    return failures


def _delete_one(
    doomed: Mapping[str, Record], record: Record, delete: Callable[[Record], None]
) -> None:
    if record.deleted_with not in doomed:
        delete(record)
