"""Floating IPs: addresses that move between servers while these run."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, fields, pools
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request, acted, action_view


def view(_cloud: Cloud, floating: Record) -> Record:
    """A floating IP as the API shows it."""
    return {**floating, "home_location": catalog.location(floating["home_location"])}


KIND: Final = Kind("floating_ip", "floating_ips", view, ("type", "ip"))


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /floating_ips``: at a location, or for a server."""
    body = request.body
    kind = fields.choice(body, "type", ("ipv4", "ipv6"))
    server = cloud.store.get("server", body["server"]) if body.get("server") else None
    if server is None and not body.get("home_location"):
        raise invalid("home_location", "is required without a server")
    where = server["location"] if server else body["home_location"]
    record = {
        **fields.common(cloud.store, "floating_ip", {"name": _name(cloud), **body}),
        "description": body.get("description") or "",
        "ip": pools.public(cloud.store, "floating_ip") if kind == "ipv4" else None,
        "type": kind,
        "server": server["id"] if server else None,
        "dns_ptr": [],
        "home_location": catalog.location(where, "home_location")["name"],
        "blocked": False,
        "protection": {"delete": False},
    }
    floating = cloud.store.add("floating_ip", record)
    floating["ip"] = floating["ip"] or pools.ipv6(floating["id"])
    action = action_view(_begin(cloud, "assign_floating_ip", floating)) if server else None
    return KIND.answer(cloud, floating, 201, action=action)


def update(cloud: Cloud, request: Request) -> Answer:
    """``PUT /floating_ips/{id}``."""
    floating = cloud.store.get("floating_ip", request.id)
    if request.body.get("description") is not None:
        floating["description"] = str(request.body["description"])
    return KIND.update(cloud, request)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /floating_ips/{id}``: none that is assigned (since May 2026)."""
    if KIND.removable(cloud, request)["server"] is not None:
        raise ApiError(
            "must_be_unassigned", f"floating IP {request.id} is assigned: unassign it first"
        )
    cloud.store.remove("floating_ip", request.id)
    return EMPTY


def assign(cloud: Cloud, request: Request) -> Answer:
    """``POST /floating_ips/{id}/actions/assign``: takes it away from another server."""
    floating = _changeable(cloud, request)
    server = cloud.store.get("server", fields.number(request.body, "server"))
    if server["status"] == "deleting":
        raise invalid("server", f"server {server['id']} is being deleted")
    if floating["server"] == server["id"]:
        raise ApiError("floating_ip_assigned", "the floating IP is already assigned to the server")
    floating["server"] = server["id"]
    return acted(_begin(cloud, "assign_floating_ip", floating))


def unassign(cloud: Cloud, request: Request) -> Answer:
    """``POST /floating_ips/{id}/actions/unassign``."""
    floating = _changeable(cloud, request)
    floating["server"] = None
    return acted(_begin(cloud, "unassign_floating_ip", floating))


def release(cloud: Cloud, server: int) -> None:
    """A server is gone: its floating IPs stay."""
    for floating in cloud.store.all("floating_ip"):
        if floating["server"] == server:
            floating["server"] = None


def _changeable(cloud: Cloud, request: Request) -> Record:
    return cloud.free("floating_ip", request.id)


def _begin(cloud: Cloud, command: str, floating: Record) -> Record:
    # A floating IP moves whatever its servers do meanwhile.
    resources = [("floating_ip", floating["id"])]
    if floating["server"] is not None:
        resources.append(("server", floating["server"]))
    return cloud.begin(command, *resources, locks=False)


def _name(cloud: Cloud) -> str:
    taken = {floating["name"] for floating in cloud.store.all("floating_ip")}
    return next(name for n in range(1, 1000) if (name := f"floating-ip-{n}") not in taken)
