"""Servers: how they are made, shown and deleted; :mod:`.server_actions` has the rest."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Final

from sandbox.hetzner import catalog, derive, fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, locked, protected
from sandbox.hetzner.resources import (
    firewalls,
    networks,
    placement_groups,
    primary_ips,
    ssh_keys,
    volumes,
)
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import Answer, Kind, Request, acted, action_view

_MOST_USER_DATA: Final = 32 << 10
_HIDDEN: Final = ("busy", "made", "user_data", "keys", "type", "ipv4", "ipv6")
"""What only the books have of a server."""


def view(cloud: Cloud, server: Record) -> Record:
    """A server as the API shows it."""
    kind = catalog.server_type(server["type"])
    group = cloud.store.find("placement_group", server["placement_group"])
    shown = {key: value for key, value in server.items() if key not in _HIDDEN}
    return {
        **shown,
        "locked": server["busy"] is not None,
        "location": catalog.location(server["location"]),
        "server_type": catalog.server_type_body(kind, cloud.store.unavailable),
        "image": catalog.image_by_id(server["image"]),
        "placement_group": placement_groups.view(cloud, group) if group else None,
        "public_net": _public_net(cloud, server),
        "private_net": [_private_net(net) for net in server["private_net"]],
        "volumes": volumes.of(cloud, server["id"]),
        "load_balancers": _balancers(cloud, server["id"]),
        "iso": None,
        "rescue_enabled": False,
        "included_traffic": 20 << 40,
        "outgoing_traffic": 0,
        "ingoing_traffic": 0,
    }


KIND: Final = Kind("server", "servers", view, ("status",))


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /servers``."""
    body = request.body
    record = _ordered(cloud, body)
    server = cloud.store.add("server", record)
    if body.get("placement_group"):
        group = fields.number(body, "placement_group")
        server["placement_group"] = placement_groups.room(cloud, group)
    _connect(cloud, server, body)
    start = fields.flag(body, "start_after_create", True)
    _check_interfaces(server, start)
    actions = _begin(cloud, server, start)
    password = None if server["keys"] else "stand-in-no-password-works"
    return KIND.answer(
        cloud,
        server,
        201,
        action=action_view(actions[0]),
        next_actions=[action_view(action) for action in actions[1:]],
        root_password=password,
    )


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /servers/{id}``; frees what is attached."""
    server = cloud.store.get("server", request.id)
    if server["protection"]["delete"]:
        raise protected("server", request.id)
    if server["status"] == "deleting" or server["busy"] is not None:
        raise locked("server", request.id)
    server["status"] = "deleting"
    action = cloud.begin("delete_server", ("server", request.id), job="delete_server")
    return acted(action, 200)


def orderable(cloud: Cloud, wanted: object, location: str) -> catalog.ServerType:
    """A server type that a location has.

    Raises:
        ApiError: There is no such type, or it cannot be had there, for good or now.
    """
    kind = catalog.server_type(wanted)
    if kind.gone is not None:
        raise invalid("server_type", f"server type {kind.name} is deprecated")
    if location not in kind.locations:
        problem = f"unsupported location for server type: {kind.name} is not offered at {location}"
        raise invalid("server_type", problem)
    if [kind.name, location] in cloud.store.unavailable:
        problem = f"server type {kind.name} is currently not available at {location}"
        raise ApiError("resource_unavailable", problem)
    return kind


def _ordered(cloud: Cloud, body: Record) -> Record:
    if body.get("datacenter"):
        raise invalid("datacenter", "was removed from the API: use location")
    # Without a location the real API chooses one; the stand-in always chooses the first.
    location = catalog.location(body.get("location") or catalog.LOCATIONS[0]["name"])["name"]
    if not body.get("server_type"):
        raise invalid("server_type", "is required")
    common = fields.common(cloud.store, "server", body)
    kind = orderable(cloud, body["server_type"], location)
    user_data = body.get("user_data") or ""
    if len(user_data.encode()) > _MOST_USER_DATA:
        raise invalid("user_data", f"must not be longer than {_MOST_USER_DATA} bytes")
    return {
        **common,
        "status": "initializing",
        "type": kind.name,
        "primary_disk_size": kind.disk,
        "location": location,
        "image": catalog.image(body.get("image"), kind.architecture)["id"],
        "keys": [ssh_keys.find(cloud, k)["public_key"] for k in fields.items(body, "ssh_keys")],
        "user_data": user_data,
        "placement_group": None,
        "ipv4": None,
        "ipv6": None,
        "private_net": [],
        "protection": {"delete": False, "rebuild": False},
        "backup_window": None,
        "made": False,
        "busy": None,
    }


def _connect(cloud: Cloud, server: Record, body: Record) -> None:
    """Addresses, networks, firewalls and volumes of a new server."""
    for kind in ("ipv4", "ipv6"):
        primary_ips.choose(cloud, server, kind, fields.part(body, "public_net"))
    for network in fields.items(body, "networks"):
        join(cloud, server, {"network": network})
    for item in fields.items(body, "firewalls"):
        firewalls.apply_to_new(cloud, fields.number(item, "firewall"), server)
    for number in fields.items(body, "volumes"):
        volumes.join(cloud, cloud.store.get("volume", number), server["id"])


def join(cloud: Cloud, server: Record, body: Record) -> Record:
    """Give a server an address in a network; returns the network.

    Raises:
        ApiError: It is in it already, or there is no room.
    """
    number = fields.number(body, "network")
    if any(net["network"] == number for net in server["private_net"]):
        raise ApiError("server_already_attached", "the server is already attached to the network")
    wanted = IPv4Network(cloud.store.get("network", number)["ip_range"])
    for net in server["private_net"]:
        if wanted.overlaps(IPv4Network(cloud.store.get("network", net["network"])["ip_range"])):
            raise ApiError("networks_overlap", "the network overlaps with one of the server's")
    network = networks.attach(cloud, "server", server, body)
    server["private_net"][-1] |= {"alias_ips": [], "mac_address": ""}
    address = server["private_net"][-1]["ip"]
    server["private_net"][-1]["mac_address"] = networks.mac(number, address)
    return network


def _check_interfaces(server: Record, start: bool) -> None:
    if start and not (server["ipv4"] or server["ipv6"] or server["private_net"]):
        raise invalid("public_net", "a server that is started needs a public or private network")


def _begin(cloud: Cloud, server: Record, start: bool) -> list[Record]:
    me = ("server", server["id"])
    job = "create_server" if start else "create_stopped"
    actions = [cloud.begin("create_server", me, job=job)]
    if start:
        actions.append(cloud.begin("start_server", me, job="started", after=actions[0]))
    for net in server["private_net"]:
        about = (me, ("network", net["network"]))
        actions.append(cloud.begin("attach_to_network", *about, after=actions[0]))
    for firewall in derive.applied_firewalls(cloud.store, server):
        about = (me, ("firewall", firewall["id"]))
        actions.append(cloud.begin("apply_firewall", *about, after=actions[0]))
    for volume in volumes.of(cloud, server["id"]):
        about = (me, ("volume", volume))
        actions.append(cloud.begin("attach_volume", *about, after=actions[0]))
    return actions


def _public_net(cloud: Cloud, server: Record) -> Record:
    firewalled = derive.applied_firewalls(cloud.store, server)
    return {
        "ipv4": _public(cloud, server["ipv4"], "ipv4"),
        "ipv6": _public(cloud, server["ipv6"], "ipv6"),
        "floating_ips": [
            f["id"] for f in cloud.store.all("floating_ip") if f["server"] == server["id"]
        ],
        "firewalls": [{"id": f["id"], "status": _told(cloud, server)} for f in firewalled],
    }


def _public(cloud: Cloud, number: int | None, kind: str) -> Record | None:
    address = cloud.store.find("primary_ip", number)
    if address is None:
        return None
    pointers = address["dns_ptr"]
    shown = {"id": address["id"], "ip": address["ip"], "blocked": False}
    if kind == "ipv6":
        return {**shown, "dns_ptr": pointers}
    default = f"static.{'.'.join(reversed(address['ip'].split('.')))}.clients.example.com"
    return {**shown, "dns_ptr": next((p["dns_ptr"] for p in pointers), default)}


def _told(cloud: Cloud, server: Record) -> str:
    return "applied" if f"firewall/{server['id']}" in cloud.store.applied else "pending"


def _private_net(net: Record) -> Record:
    return {key: net[key] for key in ("network", "ip", "alias_ips", "mac_address")}


def _balancers(cloud: Cloud, server: int) -> list[int]:
    return [
        balancer["id"]
        for balancer in cloud.store.all("load_balancer")
        for target in balancer["targets"]
        if target["type"] == "server" and target["server"]["id"] == server
    ]
