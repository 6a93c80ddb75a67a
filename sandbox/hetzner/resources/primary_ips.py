"""Primary IPs: public addresses of servers that may outlive them."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, fields, pools
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, not_found
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request, acted, action_view


def view(_cloud: Cloud, address: Record) -> Record:
    """A primary IP as the API shows it; ``assignee_type`` as since August 2026."""
    assigned = address["assignee_id"] is not None
    return {
        **address,
        "assignee_type": "server" if assigned else "unassigned",
        "location": catalog.location(address["location"]),
    }


KIND: Final = Kind("primary_ip", "primary_ips", view, ("ip", "type"))


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /primary_ips``: at a location, or for a server that is switched off."""
    body = request.body
    kind = fields.choice(body, "type", ("ipv4", "ipv6"))
    common = fields.common(cloud.store, "primary_ip", body)
    keep = not fields.flag(body, "auto_delete", False)
    server = _assignee(cloud, body) if body.get("assignee_id") is not None else None
    if (server is None) == (body.get("location") is None):
        raise invalid("location", "give either a location or an assignee")
    where = server["location"] if server else catalog.location(body["location"])["name"]
    address = add(cloud, kind, where, auto_delete=not keep, **common)
    action = action_view(_assign(cloud, address, server)) if server else None
    return KIND.answer(cloud, address, 201, action=action)


def add(cloud: Cloud, kind: str, location: str, **more: object) -> Record:
    """A new primary IP, not assigned.

    Args:
        cloud: For the books.
        kind: ``ipv4`` or ``ipv6``.
        location: Name of its location.
        more: ``name``, ``labels``, ``auto_delete``.
    """
    record = {
        "ip": pools.public(cloud.store, "primary_ip") if kind == "ipv4" else None,
        "type": kind,
        "assignee_id": None,
        "location": location,
        "dns_ptr": [],
        "protection": {"delete": False},
        "blocked": False,
        **more,
    }
    address = cloud.store.add("primary_ip", record)
    if kind == "ipv6":
        address["ip"] = pools.ipv6(address["id"])
    return address


def update(cloud: Cloud, request: Request) -> Answer:
    """``PUT /primary_ips/{id}``."""
    address = cloud.store.get("primary_ip", request.id)
    address["auto_delete"] = fields.flag(request.body, "auto_delete", address["auto_delete"])
    return KIND.update(cloud, request)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /primary_ips/{id}``: none that is assigned (since May 2026)."""
    if KIND.removable(cloud, request)["assignee_id"] is not None:
        raise ApiError(
            "must_be_unassigned", f"primary IP {request.id} is assigned: unassign it first"
        )
    cloud.store.remove("primary_ip", request.id)
    return EMPTY


def assign(cloud: Cloud, request: Request) -> Answer:
    """``POST /primary_ips/{id}/actions/assign``."""
    address = cloud.free("primary_ip", request.id)
    return acted(_assign(cloud, address, _assignee(cloud, request.body)))


def unassign(cloud: Cloud, request: Request) -> Answer:
    """``POST /primary_ips/{id}/actions/unassign``."""
    address = cloud.free("primary_ip", request.id)
    if address["assignee_id"] is None:
        raise ApiError("primary_ip_not_assigned", f"primary IP {request.id} is not assigned")
    server = cloud.free("server", address["assignee_id"])
    _check_stopped(server)
    action = cloud.begin("unassign_primary_ip", *_both(address, server))
    server[address["type"]] = None
    address["assignee_id"] = None
    return acted(action)


def choose(cloud: Cloud, server: Record, kind: str, public_net: Record) -> None:
    """Give a server that is being made its address: the named one, or a new one that goes with it.

    Args:
        cloud: For the books.
        server: The server; changed.
        kind: ``ipv4`` or ``ipv6``.
        public_net: The request's choice: ``enable_ipv4``, ``ipv4`` and the like.

    Raises:
        ApiError: The named one does not fit, or no address is left.
    """
    if not fields.flag(public_net, f"enable_{kind}", True):
        return
    if public_net.get(kind):
        address = _named(cloud, fields.number(public_net, kind), kind, server["location"])
    else:
        name = f"primary_ip-{server['id']}-{kind}"
        address = add(cloud, kind, server["location"], name=name, labels={}, auto_delete=True)
    _join(address, server)


def release(cloud: Cloud, server: Record) -> None:
    """What happens to the addresses of a server that is gone."""
    for address in cloud.store.all("primary_ip"):
        if address["assignee_id"] != server["id"]:
            continue
        if address["auto_delete"]:
            cloud.store.remove("primary_ip", address["id"])
        else:
            address["assignee_id"] = None


def _named(cloud: Cloud, number: int, kind: str, location: str) -> Record:
    address = cloud.store.find("primary_ip", number)
    if address is None:
        raise not_found("primary_ip", number)
    if address["type"] != kind:
        raise ApiError("primary_ip_version_mismatch", f"primary IP {number} is no {kind} address")
    if address["assignee_id"] is not None:
        raise ApiError("primary_ip_assigned", f"primary IP {number} is assigned to another server")
    if address["location"] != location:
        raise ApiError(
            "primary_ip_datacenter_mismatch", f"primary IP {number} is in {address['location']}"
        )
    return address


def _assignee(cloud: Cloud, body: Record) -> Record:
    fields.choice(body, "assignee_type", ("server",), "server")
    server = cloud.free("server", fields.number(body, "assignee_id"))
    _check_stopped(server)
    return server


def _check_stopped(server: Record) -> None:
    if server["status"] != "off":
        raise ApiError("server_not_stopped", f"server {server['id']} must be powered off first")


def _assign(cloud: Cloud, address: Record, server: Record) -> Record:
    if address["assignee_id"] not in (None, server["id"]):
        raise ApiError("primary_ip_already_assigned", "it is assigned to a different server")
    if server[address["type"]] is not None:
        problem = f"server {server['id']} has an {address['type']} address"
        raise ApiError(f"server_has_{address['type']}", problem)
    if address["location"] != server["location"]:
        raise ApiError("primary_ip_datacenter_mismatch", f"it is in {address['location']}")
    _join(address, server)
    return cloud.begin("assign_primary_ip", *_both(address, server))


def _join(address: Record, server: Record) -> None:
    address["assignee_id"] = server["id"]
    server[address["type"]] = address["id"]


def _both(address: Record, server: Record) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("primary_ip", address["id"]), ("server", server["id"])
