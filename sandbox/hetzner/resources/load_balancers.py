"""Load balancers: how they are made, shown and deleted; :mod:`.balancer_actions` has the rest."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from sandbox.hetzner import catalog, derive, fields, pools
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid
from sandbox.hetzner.resources import balancer_services, balancer_targets, networks
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import Answer, Kind, Request, acted, action_view

_ALGORITHMS: Final = ("round_robin", "least_connections")
_HIDDEN: Final = ("type", "public", "ip", "dns_ptr")
"""What only the books have of a load balancer."""


def view(cloud: Cloud, balancer: Record) -> Record:
    """A load balancer as the API shows it."""
    shown = {key: value for key, value in balancer.items() if key not in _HIDDEN}
    return {
        **shown,
        "location": catalog.location(balancer["location"]),
        "load_balancer_type": catalog.balancer_type_body(catalog.balancer_type(balancer["type"])),
        "public_net": _public_net(balancer),
        "private_net": list(balancer["private_net"]),
        "targets": [_target(cloud, balancer, target) for target in balancer["targets"]],
        "included_traffic": 20 << 40,
        "outgoing_traffic": 0,
        "ingoing_traffic": 0,
    }


KIND: Final = Kind("load_balancer", "load_balancers", view)


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /load_balancers``, with network, services and targets if the body has some."""
    body = request.body
    balancer = cloud.store.add("load_balancer", _ordered(cloud, body))
    if body.get("network"):
        networks.attach(cloud, "load_balancer", balancer, {"network": body["network"]})
    for service in fields.items(body, "services"):
        balancer_services.add(balancer, service)
    for target in fields.items(body, "targets"):
        balancer_targets.add(cloud, balancer, target)
    action = cloud.begin("create_load_balancer", ("load_balancer", balancer["id"]))
    return KIND.answer(cloud, balancer, 201, action=action_view(action))


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /load_balancers/{id}``: answers with an action (since October 2026)."""
    KIND.removable(cloud, request)
    action = cloud.begin("delete_load_balancer", ("load_balancer", request.id))
    cloud.store.remove("load_balancer", request.id)
    return acted(action)


def algorithm(body: Record) -> Record:
    """The algorithm that a body names."""
    return {"type": fields.choice(body, "type", _ALGORITHMS, _ALGORITHMS[0])}


def forget(cloud: Cloud, server: int) -> None:
    """Take a server that goes out of all targets."""
    for balancer in cloud.store.all("load_balancer"):
        balancer["targets"] = [
            target
            for target in balancer["targets"]
            if target["type"] != "server" or target["server"]["id"] != server
        ]


def _ordered(cloud: Cloud, body: Record) -> Record:
    where, zone = body.get("location"), body.get("network_zone")
    if (where is None) == (zone is None):
        raise invalid("location", "give either a location or a network_zone")
    if zone is not None:
        fields.choice(body, "network_zone", sorted(catalog.ZONES))
        where = next(loc["name"] for loc in catalog.LOCATIONS if loc["network_zone"] == zone)
    if body.get("public_net"):
        raise ApiError("unsupported_error", "the stand-in gives load balancers no primary IPs")
    return {
        **fields.common(cloud.store, "load_balancer", body),
        "type": catalog.balancer_type(body.get("load_balancer_type")).name,
        "location": catalog.location(where)["name"],
        "ip": pools.public(cloud.store, "load_balancer"),
        "public": fields.flag(body, "public_interface", True),
        "private_net": [],
        "services": [],
        "targets": [],
        "algorithm": algorithm(fields.part(body, "algorithm")),
        "dns_ptr": [],
        "protection": {"delete": False},
    }


def _public_net(balancer: Record) -> Record:
    network = pools.ipv6(balancer["id"])
    six = network.replace("::/64", "::1")
    names = {pointer["ip"]: pointer["dns_ptr"] for pointer in balancer["dns_ptr"]}
    return {
        "enabled": balancer["public"],
        "ipv4": {"ip": balancer["ip"], "blocked": False, "dns_ptr": names.get(balancer["ip"])},
        "ipv6": {"ip": six, "blocked": False, "dns_ptr": names.get(six)},
    }


def _target(cloud: Cloud, balancer: Record, target: Record) -> Record:
    if target["type"] == "ip":
        return {**target, "health_status": _health(cloud, balancer, target["ip"]["ip"])}
    servers = derive.targets(cloud.store, balancer, target)
    if target["type"] == "server":
        address = next((address for _, address in servers), None)
        return {**target, "health_status": _health(cloud, balancer, address)}
    return {**target, "targets": [_chosen(cloud, balancer, target, *s) for s in servers]}


def _chosen(cloud: Cloud, balancer: Record, target: Record, server: int, address: str) -> Record:
    return {
        "type": "server",
        "server": {"id": server},
        "health_status": _health(cloud, balancer, address),
        "use_private_ip": target["use_private_ip"],
    }


def _health(cloud: Cloud, balancer: Record, address: str | None) -> list[Record]:
    seen = cloud.health.get(balancer["id"], {})
    known = {True: "healthy", False: "unhealthy", None: "unknown"}
    status = known[seen.get(IPv4Address(address)) if address else None]
    return [
        {
            "listen_port": s["listen_port"],
            "status": status,
            "detail": None,
            "http_status_code": None,
        }
        for s in balancer["services"]
    ]
