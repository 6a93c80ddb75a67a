"""Volumes: kept in the books only; no machine of the sandbox gets a disk of one."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request, acted, action_view

_LEAST: Final = 10
_MOST: Final = 10240
_MOST_PER_SERVER: Final = 16


def view(_cloud: Cloud, volume: Record) -> Record:
    """A volume as the API shows it."""
    return {
        **volume,
        "location": catalog.location(volume["location"]),
        "linux_device": f"/dev/disk/by-id/scsi-0HC_Volume_{volume['id']}",
    }


KIND: Final = Kind("volume", "volumes", view, ("status",))


def of(cloud: Cloud, server: int) -> list[int]:
    """The volumes that are attached to a server."""
    return [v["id"] for v in cloud.store.all("volume") if v["server"] == server]


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /volumes``: at a location, or for a server."""
    body = request.body
    size = fields.number(body, "size", _LEAST, _MOST)
    server = cloud.store.get("server", body["server"]) if body.get("server") else None
    if (server is None) == (body.get("location") is None):
        raise invalid("location", "give either a location or a server")
    if body.get("format") not in (None, "ext4", "xfs"):
        raise invalid("format", "must be ext4 or xfs")
    record = {
        **fields.common(cloud.store, "volume", body),
        "size": size,
        "server": None,
        "status": "creating",
        "location": server["location"] if server else catalog.location(body["location"])["name"],
        "format": body.get("format"),
        "protection": {"delete": False},
    }
    volume = cloud.store.add("volume", record)
    action = cloud.begin("create_volume", ("volume", volume["id"]), job="make_volume")
    following = [_attach(cloud, volume, server["id"], action)] if server else []
    shown = [action_view(each) for each in following]
    return KIND.answer(cloud, volume, 201, action=action_view(action), next_actions=shown)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /volumes/{id}``: none that is attached."""
    if KIND.removable(cloud, request)["server"] is not None:
        raise ApiError("service_error", f"volume {request.id} is still attached to a server")
    cloud.store.remove("volume", request.id)
    return EMPTY


def attach(cloud: Cloud, request: Request) -> Answer:
    """``POST /volumes/{id}/actions/attach``: to a server in its location."""
    volume = cloud.free("volume", request.id)
    return acted(_attach(cloud, volume, fields.number(request.body, "server")))


def detach(cloud: Cloud, request: Request) -> Answer:
    """``POST /volumes/{id}/actions/detach``."""
    volume = cloud.free("volume", request.id)
    if volume["server"] is None:
        raise ApiError("service_error", f"volume {request.id} is not attached")
    server = cloud.free("server", volume["server"])
    volume["server"] = None
    resources = (("volume", request.id), ("server", server["id"]))
    return acted(cloud.begin("detach_volume", *resources))


def resize(cloud: Cloud, request: Request) -> Answer:
    """``POST /volumes/{id}/actions/resize``: it can only grow."""
    volume = cloud.free("volume", request.id)
    volume["size"] = fields.number(request.body, "size", volume["size"] + 1, _MOST)
    return acted(cloud.begin("resize_volume", ("volume", request.id)))


def release(cloud: Cloud, server: int) -> None:
    """A server is gone: its volumes stay."""
    for volume in cloud.store.all("volume"):
        if volume["server"] == server:
            volume["server"] = None


def make(cloud: Cloud, action: Record) -> None:
    """The job of a new volume."""
    number = action["resources"][0]["id"]
    with cloud.store.change():
        cloud.store.get("volume", number)["status"] = "available"


def join(cloud: Cloud, volume: Record, server: int) -> None:
    """Attach a volume to a server, in the books.

    Raises:
        ApiError: It is attached already or elsewhere, or the server has enough.
    """
    if volume["server"] is not None:
        raise ApiError("volume_already_attached", f"volume {volume['id']} is already attached")
    if volume["location"] != cloud.store.get("server", server)["location"]:
        raise invalid("server", "volume and server must be in the same location")
    if len(of(cloud, server)) >= _MOST_PER_SERVER:
        raise ApiError("limit_exceeded_error", f"a server has {_MOST_PER_SERVER} volumes at most")
    volume["server"] = server


def _attach(cloud: Cloud, volume: Record, server: int, after: Record | None = None) -> Record:
    cloud.free("server", server)
    join(cloud, volume, server)
    resources = (("volume", volume["id"]), ("server", server))
    return cloud.begin("attach_volume", *resources, after=after)
