"""Placement groups."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request

_MOST_SERVERS: Final = 10


def members(cloud: Cloud, group: int) -> list[int]:
    """The servers in a group."""
    return [s["id"] for s in cloud.store.all("server") if s["placement_group"] == group]


def view(cloud: Cloud, group: Record) -> Record:
    """A group as the API shows it."""
    return {**group, "servers": members(cloud, group["id"])}


KIND: Final = Kind("placement_group", "placement_groups", view, ("type",))


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /placement_groups``."""
    kind = fields.choice(request.body, "type", ("spread",))
    group = {**fields.common(cloud.store, "placement_group", request.body), "type": kind}
    return KIND.answer(cloud, cloud.store.add("placement_group", group), 201, action=None)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /placement_groups/{id}``: none of a group with servers."""
    KIND.removable(cloud, request)
    if members(cloud, request.id):
        raise ApiError("resource_in_use", f"placement group {request.id} still has servers")
    cloud.store.remove("placement_group", request.id)
    return EMPTY


def room(cloud: Cloud, group: int) -> int:
    """The id of a group that can take one more server.

    Raises:
        ApiError: There is no such group, or it is full.
    """
    if cloud.store.find("placement_group", group) is None:
        raise invalid("placement_group", f"placement group '{group}' not found")
    if len(members(cloud, group)) >= _MOST_SERVERS:
        raise ApiError(
            "placement_error", f"placement group {group} has {_MOST_SERVERS} servers: it is full"
        )
    return group
