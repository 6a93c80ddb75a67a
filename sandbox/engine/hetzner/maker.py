"""How a resource of Hetzner Cloud is made, in general."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import hcloud

from sandbox.engine.hetzner.api import Api, absent, describe, refused
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError, NothingMade


class Maker:
    """How one kind of resource is made.

    Attributes:
        takes: inputs that are known here.
        finds: inputs by which it is found again to be deleted; they are written down, others are not.
    """

    takes: ClassVar[frozenset[str]] = frozenset()
    finds: ClassVar[tuple[str, ...]] = ()

    def __init__(self, api: Api) -> None:
        self.api = api
        self.client = api.client

    @classmethod
    def check(cls, record: Record) -> None:
        """Refuse what would silently be left out.

        Raises:
            EngineError: an input that is not known here.
        """
        if unknown := sorted(k for k, v in record.inputs.items() if v and k not in cls.takes):
            raise EngineError(f"{record.type}: not in the stand-in: {', '.join(unknown)}")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """Make it, or bring what is there to what is wanted.

        Args:
            record: what is wanted; its id if it has one.
            begun: whether an earlier run of ours at least began to make it.

        Returns:
            Its id, and outputs besides the inputs.
        """
        raise NotImplementedError

    def delete(self, record: Record) -> None:
        """Unmake it; neither it nor what it is part of need be there."""
        raise NotImplementedError


class Named(Maker):
    """What has an id, a name and labels of its own.

    Attributes:
        plural: the client's attribute for this kind.
        defaults: what an input that is not given stands for.
    """

    plural: ClassVar[str]
    defaults: ClassVar[dict[str, Any]] = {"labels": {}}
    finds: ClassVar[tuple[str, ...]] = ("name", "labels")

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.all: Any = getattr(self.client, self.plural)

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`."""
        wanted = {**self.defaults, **{k: v for k, v in record.inputs.items() if v is not None}}
        found = self.find(record, begun=begun)
        if found is None and record.id and not begun:
            raise NothingMade(f"import: Hetzner Cloud has no {record.type} with id {record.id}")
        if found is not None and self.outdated(found, _heeded(record, wanted, found)):
            if record.protected:
                raise EngineError(f"{record.name} is protected, but would have to be replaced")
            self.remove(found)
            found = None
        if found is None:
            found = self.all.get_by_id(self._created(wanted))
        self.update(found, _heeded(record, wanted, found))
        live = self.all.get_by_id(found.id)
        return str(live.id), {
            "name": live.name,
            "labels": live.labels or {},
            **self.outputs(live),
        }

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        found = self.find(record, begun=True)
        if found is not None:
            self.remove(found)

    def find(self, record: Record, *, begun: bool) -> Any:
        """The live thing by its id, else, if it was begun, by its name; None if there is none.

        A stranger of the same name has not all labels that ours has.
        """
        by_id = absent(lambda: self.all.get_by_id(int(record.id))) if record.id else None
        if by_id is not None or not begun:
            return by_id
        named = self.all.get_by_name(record.inputs["name"])
        labels = record.inputs.get("labels") or {}
        return named if named is not None and set(labels) <= set(named.labels or {}) else None

    def _created(self, wanted: Mapping[str, Any]) -> int:
        try:
            answer = self.create(wanted)
        except hcloud.APIException as error:
            if not refused(error):
                raise
            raise NothingMade(describe(error)) from None
        self.api.settle(answer)
        return int(self.made(answer).id)

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """Ask the API for a new one; gives the client's answer."""
        raise NotImplementedError

    def made(self, answer: Any) -> Any:
        """The thing in the answer to :meth:`create`."""
        return getattr(answer, self.plural.removesuffix("s"))

    def outdated(self, found: Any, wanted: Mapping[str, Any]) -> bool:
        """Whether it has to be replaced, as it can't be brought to what is wanted in place."""
        return any(
            wanted.get(key) is not None and wanted[key] not in fitting
            for key, fitting in self.fixed(found).items()
        )

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """By input that can't change in place: the values that the live thing fits."""
        return {}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Bring a live thing to what is wanted; an input that is not there is left as it is."""
        self.rename(found, wanted)
        protection = wanted.get("deleteProtection")
        if protection is not None and bool(protection) != found.protection["delete"]:
            self.api.patiently(lambda: found.change_protection(delete=bool(protection)))

    def rename(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Set name and labels."""
        self.put(found, {key: wanted[key] for key in ("name", "labels") if key in wanted})

    def put(self, found: Any, values: Mapping[str, Any]) -> None:
        """Set fields of the thing itself, if one of them differs."""
        if any((getattr(found, key) or None) != (value or None) for key, value in values.items()):
            self.api.patiently(lambda: self.all.update(found, **values))

    def remove(self, found: Any) -> None:
        """Delete a live thing, once nothing uses it any more."""
        absent(lambda: self.api.patiently(lambda: self.all.delete(found), "resource_in_use"))

    def outputs(self, live: Any) -> dict[str, Any]:
        """Its outputs besides name and labels."""
        return {}


_LABEL_PATH = re.compile(r'labels(?:\["(.+)"\]|\.(.+))')


def _heeded(record: Record, wanted: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """What is wanted, without the inputs whose changes are ignored; an ignored label stays as it is."""
    heeded = {key: value for key, value in wanted.items() if key not in record.ignored}
    paths = [match for path in record.ignored if (match := _LABEL_PATH.fullmatch(path))]
    if paths and "labels" in heeded:
        ignored = {match[1] or match[2] for match in paths}
        ours = {key: value for key, value in heeded["labels"].items() if key not in ignored}
        kept = {key: value for key, value in (found.labels or {}).items() if key in ignored}
        heeded["labels"] = ours | kept
    return heeded
