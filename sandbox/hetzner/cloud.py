"""The stand-in's core: books, actions that run beside the requests, and the world."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Final

from sandbox.hetzner.derive import Sync
from sandbox.hetzner.errors import conflict, locked
from sandbox.hetzner.reality import World
from sandbox.hetzner.store import Record, Store, now

Reference = tuple[str, int]
"""Kind and id of a resource."""
Job = Callable[["Cloud", Record], None]
"""What an action does; gets the action's record."""


class Cloud:
    """Everything that a request may use.

    Args:
        store: The books.
        world: What the books describe.
        jobs: What actions do, by name; repeated from the start when the process was killed in one.
        pace: Seconds that each action takes at least.

    Attributes:
        health: By load balancer, which of its targets were healthy when somebody last looked.
        fail_action: Asked before an action's job, with its command; what it returns is the error
            that the action ends with instead.
    """

    def __init__(
        self, store: Store, world: World, jobs: Mapping[str, Job], pace: float = 0.0
    ) -> None:
        self.store = store
        self.world = world
        self.sync = Sync(store, world)
        self.health: dict[int, Mapping[IPv4Address, bool]] = {}
        self.fail_action: Callable[[str], str | None] = lambda _command: None
        self._jobs = jobs
        self._pace = pace
        self._begun: list[int] = []
        self._stale = False

    def begin(
        self,
        command: str,
        *resources: Reference,
        job: str = "settle",
        after: Record | None = None,
        locks: bool = True,
    ) -> Record:
        """Note an action that starts when this change is written.

        Args:
            command: The API's name of what is done.
            resources: What it is about; a server is locked until its last action has ended.
            job: Name of what is run.
            after: An action begun in this change that must succeed before.
            locks: Lock the servers; else others may act on them meanwhile.
        """
        action = self.store.add("action", _action(command, resources))
        action |= {"job": job, "undo": []}
        action["chain"] = after["chain"] if after else action["id"]
        for kind, number in resources:
            if kind == "server" and locks:
                self.store.get(kind, number)["busy"] = action["chain"]
        if not after:
            self._begun.append(action["id"])
        return action

    def done(self, command: str, *resources: Reference) -> Record:
        """Note an action that only changes the books, and has."""
        ended = {"status": "success", "progress": 100, "finished": now()}
        return self.store.add("action", _action(command, resources) | ended)

    def free(self, kind: str, number: int) -> Record:
        """A resource on which no action runs.

        Raises:
            ApiError: There is none, or an action runs on it.
        """
        record = self.store.get(kind, number)
        if kind == "server":
            if record["busy"] is not None:
                raise locked(kind, number)
        elif self.changing(kind, number):
            raise conflict(kind, number)
        return record

    def changing(self, kind: str, number: int) -> bool:
        """Whether an action runs on a resource."""
        about = {"id": number, "type": kind}
        return any(
            action["status"] == "running" and about in action["resources"]
            for action in self.store.all("action")
        )

    def refresh_after(self) -> None:
        """Tell the world what this change changes once it is written, without an action."""
        self._stale = True

    @contextmanager
    def change(self) -> Iterator[None]:
        """A change of the books whose actions start when it is written; none if it fails.

        The lock is held to the end: what is begun in here is begun by this change alone.
        """
        with self.store.lock:
            self._begun, self._stale = [], False
            with self.store.change():
                yield
                self._remember()
            self._start()

    def _remember(self) -> None:
        """Note with the actions begun what this change changes, for those that fail."""
        before = self.store.before() if self._begun else {}
        for chain in self._begun:
            for action in self._chain(chain):
                action["undo"] = [
                    {**resource, "fields": _changed(before, self.store, resource)}
                    for resource in action["resources"]
                ]

    def _start(self) -> None:
        if self._stale:
            self.refresh()
        for chain in self._begun:
            threading.Thread(target=self._run, args=(chain,), daemon=True).start()

    def resume(self) -> None:
        """Take up the actions that ran when the process ended, and tell the world what it missed."""
        with self.store.lock:
            running = [a for a in self.store.all("action") if a["status"] == "running"]
            self._begun = list(dict.fromkeys(action["chain"] for action in running))
            self._stale = True
            self._start()

    def refresh(self) -> None:
        """Tell the world what has changed, beside the requests."""
        threading.Thread(target=self._settle, daemon=True).start()

    def _settle(self) -> None:
        try:
            self.sync.run()
        except Exception:  # the world's errors are of any type; the next change tries again
            traceback.print_exc()

    def _run(self, chain: int) -> None:
        try:
            while (action := self._next(chain)) is not None:
                self._do(action)
        except Exception:  # the store is closed: the next process goes on
            if not self.store.closed:
                traceback.print_exc()

    def _next(self, chain: int) -> Record | None:
        with self.store.lock:
            waiting = (a for a in self._chain(chain) if a["status"] == "running")
            action = next(waiting, None)
            return None if action is None else dict(action)

    def _do(self, action: Record) -> None:
        time.sleep(self._pace)
        try:
            if problem := self.fail_action(action["command"]):
                raise RuntimeError(problem)
            self._jobs[action["job"]](self, action)
        except Exception as error:  # the world's errors are of any type
            if self.store.closed:
                raise
            traceback.print_exc()
            self._end(action, str(error) or type(error).__name__)
        else:
            self._end(action, None)

    def _end(self, action: Record, problem: str | None) -> None:
        with self.change():
            running = [a for a in self._chain(action["chain"]) if a["status"] == "running"]
            if problem is None:
                running.remove(ended := self.store.get("action", action["id"]))
                ended |= {"status": "success", "progress": 100, "finished": now()}
            else:
                for each in running:
                    each |= _failed(problem)
                    self._undo(each)
                running = []
            if not running:
                self._unlock(action["chain"])

    def _undo(self, action: Record) -> None:
        for resource in action["undo"]:
            record = self.store.find(resource["type"], resource["id"])
            if record is None:
                continue
            record |= resource["fields"]
            if record.get("status") in _PASSING:
                record["status"] = "running" if record.get("made") else "off"
        self.refresh_after()

    def _chain(self, chain: int) -> list[Record]:
        return [a for a in self.store.all("action") if a.get("chain") == chain]

    def _unlock(self, chain: int) -> None:
        for server in self.store.all("server"):
            if server["busy"] == chain:
                server["busy"] = None


def _action(command: str, resources: tuple[Reference, ...]) -> Record:
    return {
        "command": command,
        "status": "running",
        "progress": 0,
        "started": now(),
        "finished": None,
        "error": None,
        "resources": [{"id": number, "type": kind} for kind, number in resources],
    }


_PASSING: Final = ("initializing", "starting", "rebuilding", "deleting")
"""A server's status that an action must end."""
_OWN: Final = ("status", "busy", "made")
"""What actions set themselves."""


def _changed(before: Record, store: Store, resource: Record) -> Record:
    """The old values of the fields of a resource that this change changes."""
    old = before["tables"][resource["type"]].get(str(resource["id"])) or {}
    new = store.find(resource["type"], resource["id"]) or {}
    return {key: old[key] for key in old if key not in _OWN and new.get(key) != old[key]}


def _failed(problem: str) -> Record:
    error = {"code": "action_failed", "message": problem}
    return {"status": "error", "progress": 100, "finished": now(), "error": error}
