"""Requests and answers as the resources see them: no HTTP in here, but what all resources share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.hetzner import fields, labels
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import invalid, protected
from sandbox.hetzner.store import Record

_PER_PAGE: Final = 25
_MOST_PER_PAGE: Final = 50
_HIDDEN: Final = ("job", "chain", "undo", "created")
"""What only the books have of an action."""


@dataclass(frozen=True)
class Request:
    """A request to a known path.

    Args:
        ids: The numbers in the path.
        query: The query's values by name.
        body: The JSON body; empty if there is none.
    """

    ids: tuple[int, ...] = ()
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: Record = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The first number in the path."""
        return self.ids[0]


@dataclass(frozen=True)
class Answer:
    """What goes back.

    Args:
        status: HTTP status.
        body: To be written as JSON; None for an empty answer.
    """

    status: int
    body: Record | None


Handler = Callable[[Cloud, Request], Answer]
View = Callable[[Cloud, Record], Record]
"""A record as the API shows it."""

EMPTY: Final = Answer(204, None)


@dataclass(frozen=True)
class Kind:
    """How a kind of resource is listed, read and renamed.

    Args:
        name: In the singular.
        plural: In paths and lists.
        view: How the API shows one.
        filters: Fields of a view that a query may ask for, besides name and labels.
    """

    name: str
    plural: str
    view: View
    filters: tuple[str, ...] = ()

    def index(self, cloud: Cloud, request: Request) -> Answer:
        """``GET /plural``: those that the query asks for, a page of them."""
        match = _labelled(request)
        found = [record for record in cloud.store.all(self.name) if match(record)]
        return listing(self.plural, [self.view(cloud, r) for r in found], request, self.filters)

    def read(self, cloud: Cloud, request: Request) -> Answer:
        """``GET /plural/{id}``."""
        return self.answer(cloud, cloud.store.get(self.name, request.id))

    def update(self, cloud: Cloud, request: Request) -> Answer:
        """``PUT /plural/{id}``: name and labels."""
        record = cloud.store.get(self.name, request.id)
        fields.rename(cloud.store, self.name, record, request.body)
        cloud.refresh_after()  # labels choose firewalls and targets
        return self.answer(cloud, record)

    def answer(self, cloud: Cloud, record: Record, status: int = 200, **more: Any) -> Answer:
        """An answer that shows one resource, and perhaps more."""
        return Answer(status, {self.name: self.view(cloud, record), **more})

    def change_protection(self, cloud: Cloud, request: Request) -> Answer:
        """``POST /plural/{id}/actions/change_protection``: whatever of it the body names."""
        record = cloud.store.get(self.name, request.id)
        for key, now in record["protection"].items():
            record["protection"][key] = fields.flag(request.body, key, now)
        return acted(cloud.done("change_protection", (self.name, request.id)))

    def change_dns_ptr(self, cloud: Cloud, request: Request) -> Answer:
        """``POST /plural/{id}/actions/change_dns_ptr``: null removes the name of an address."""
        record = cloud.store.get(self.name, request.id)
        pointer = {"ip": fields.text(request.body, "ip"), "dns_ptr": request.body.get("dns_ptr")}
        others = [old for old in record["dns_ptr"] if old["ip"] != pointer["ip"]]
        record["dns_ptr"] = [*others, pointer] if pointer["dns_ptr"] else others
        return acted(cloud.done("change_dns_ptr", (self.name, request.id)))

    def removable(self, cloud: Cloud, request: Request) -> Record:
        """A record that may be deleted.

        Raises:
            ApiError: It is protected, or an action runs on it.
        """
        record = cloud.free(self.name, request.id)
        if record.get("protection", {}).get("delete"):
            raise protected(self.name, request.id)
        return record


def listing(
    plural: str, items: list[Record], request: Request, filters: Sequence[str] = ()
) -> Answer:
    """A page of a list, filtered and sorted as the query asks for.

    Args:
        plural: The list's name in the answer.
        items: All items as the API shows them.
        request: For its query.
        filters: Fields that the query may ask for, besides the name.
    """
    for key in ("name", *filters):
        if wanted := request.query.get(key):
            items = [item for item in items if str(item[key]) in wanted]
    for order in reversed(request.query.get("sort", ())):
        key, _, direction = order.partition(":")
        if direction not in ("", "asc", "desc") or (items and key not in items[0]):
            raise invalid("sort", f"cannot sort by '{order}'")
        items = sorted(items, key=lambda item: item[key], reverse=direction == "desc")
    page, per_page = _positive(request, "page", 1), _positive(request, "per_page", _PER_PAGE)
    per_page = min(per_page, _MOST_PER_PAGE)
    shown = items[(page - 1) * per_page : page * per_page]
    pagination = _pagination(page, per_page, len(items))
    return Answer(200, {plural: shown, "meta": {"pagination": pagination}})


def acted(action: Record, status: int = 201, **more: Any) -> Answer:
    """An answer that shows one action, and perhaps more."""
    return Answer(status, {"action": action_view(action), **more})


def action_view(action: Record) -> Record:
    """An action as the API shows it."""
    return {key: value for key, value in action.items() if key not in _HIDDEN}


def actions(cloud: Cloud, request: Request, kind: str | None = None) -> Answer:
    """``GET /actions`` and ``GET /plural/actions``: those that the query names."""
    ids = _numbers(request, "id")
    found = [a for a in cloud.store.all("action") if not ids or a["id"] in ids]
    if kind:
        found = [a for a in found if any(r["type"] == kind for r in a["resources"])]
    return listing("actions", [action_view(a) for a in found], request, ("status",))


def actions_of(kind: str) -> Handler:
    """The handler of ``GET /plural/{id}/actions``."""

    def handler(cloud: Cloud, request: Request) -> Answer:
        about = {"id": cloud.store.get(kind, request.id)["id"], "type": kind}
        found = [a for a in cloud.store.all("action") if about in a["resources"]]
        return listing("actions", [action_view(a) for a in found], request, ("status",))

    return handler


def action(cloud: Cloud, request: Request) -> Answer:
    """``GET .../actions/{id}``."""
    return acted(cloud.store.get("action", request.ids[-1]), 200)


def _labelled(request: Request) -> Callable[[Record], bool]:
    wanted = ",".join(request.query.get("label_selector", ()))
    if not wanted:
        return lambda _record: True
    match = labels.selector(wanted)
    return lambda record: match(record["labels"])


def _numbers(request: Request, key: str) -> set[int]:
    try:
        return {int(value) for value in request.query.get(key, ())}
    except ValueError:
        raise invalid(key, "must be a number") from None


def _positive(request: Request, key: str, default: int) -> int:
    value = next(iter(_numbers(request, key)), default)
    if value < 1:
        raise invalid(key, "must be at least 1")
    return value


def _pagination(page: int, per_page: int, total: int) -> Record:
    last = max(1, -(-total // per_page))
    return {
        "page": page,
        "per_page": per_page,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if page < last else None,
        "last_page": last,
        "total_entries": total,
    }
