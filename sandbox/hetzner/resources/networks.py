"""Private networks, their subnets and routes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sandbox.hetzner import catalog, fields, pools
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, over_limit
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request, acted, listing

MOST_SERVERS: Final = 100
_MOST_SUBNETS: Final = 50
_MOST_ROUTES: Final = 100
_SMALLEST: Final = 24
_SMALLEST_SUBNET: Final = 30
_TAKEN: Final = IPv4Network("172.31.1.1/32")
"""The gateway of every server's public interface."""


def members(cloud: Cloud, kind: str, network: int) -> list[Record]:
    """Servers or load balancers in a network."""
    return [
        record
        for record in cloud.store.all(kind)
        if any(net["network"] == network for net in record["private_net"])
    ]


def view(cloud: Cloud, network: Record) -> Record:
    """A network as the API shows it."""
    return {
        **network,
        "servers": [s["id"] for s in members(cloud, "server", network["id"])],
        "load_balancers": [b["id"] for b in members(cloud, "load_balancer", network["id"])],
    }


KIND: Final = Kind("network", "networks", view)


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks``, with subnets and routes if the body has some."""
    body = request.body
    ip_range = fields.ip_range(body, "ip_range", _SMALLEST)
    record = {
        **fields.common(cloud.store, "network", body),
        "ip_range": str(ip_range),
        "subnets": [],
        "routes": [],
        "protection": {"delete": False},
        "expose_routes_to_vswitch": fields.flag(body, "expose_routes_to_vswitch", False),
    }
    network = cloud.store.add("network", record)
    for subnet in fields.items(body, "subnets"):
        _add_subnet(network, subnet)
    for route in fields.items(body, "routes"):
        _add_route(network, route)
    cloud.refresh_after()
    return KIND.answer(cloud, network, 201)


def members_of(cloud: Cloud, request: Request) -> Answer:
    """``GET /networks/{id}/members``: who has which address in it."""
    network = cloud.store.get("network", request.id)
    found = []
    for kind in ("server", "load_balancer"):
        for record in members(cloud, kind, request.id):
            net = attached(record, request.id)
            mine = {"type": kind, "id": record["id"], "ip": net["ip"], "status": "attached"}
            subnet = _subnet(network, net["ip"])
            found.append({**mine, "alias_ips": net.get("alias_ips", []), "subnet": subnet})
    return listing("members", found, request, ("type", "status"))


def update(cloud: Cloud, request: Request) -> Answer:
    """``PUT /networks/{id}``."""
    network = cloud.store.get("network", request.id)
    exposed = network["expose_routes_to_vswitch"]
    network["expose_routes_to_vswitch"] = fields.flag(
        request.body, "expose_routes_to_vswitch", exposed
    )
    return KIND.update(cloud, request)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /networks/{id}``: detaches what is in it."""
    KIND.removable(cloud, request)
    for kind in ("server", "load_balancer"):
        for record in members(cloud, kind, request.id):
            cloud.free(kind, record["id"])
            record["private_net"] = [
                net for net in record["private_net"] if net["network"] != request.id
            ]
    cloud.store.remove("network", request.id)
    cloud.refresh_after()
    return EMPTY


def add_subnet(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks/{id}/actions/add_subnet``."""
    _add_subnet(cloud.free("network", request.id), request.body)
    return acted(cloud.begin("add_subnet", ("network", request.id)))


def delete_subnet(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks/{id}/actions/delete_subnet``: none that somebody has an address in."""
    network = cloud.free("network", request.id)
    wanted = request.body.get("ip_range")
    kept = [subnet for subnet in network["subnets"] if subnet["ip_range"] != wanted]
    if len(kept) == len(network["subnets"]):
        raise ApiError("not_found", f"network {request.id} has no subnet {wanted}")
    if any(used in IPv4Network(wanted) for used in pools.in_network(cloud.store, request.id)):
        raise ApiError("service_error", "cannot remove subnet because servers are attached to it")
    network["subnets"] = kept
    return acted(cloud.begin("delete_subnet", ("network", request.id)))


def add_route(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks/{id}/actions/add_route``."""
    _add_route(cloud.free("network", request.id), request.body)
    return acted(cloud.begin("add_route", ("network", request.id)))


def delete_route(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks/{id}/actions/delete_route``."""
    network = cloud.free("network", request.id)
    route = {key: request.body.get(key) for key in ("destination", "gateway")}
    if route not in network["routes"]:
        raise ApiError("not_found", f"network {request.id} has no such route")
    network["routes"].remove(route)
    return acted(cloud.begin("delete_route", ("network", request.id)))


def change_ip_range(cloud: Cloud, request: Request) -> Answer:
    """``POST /networks/{id}/actions/change_ip_range``: it can only grow, at its end."""
    network = cloud.free("network", request.id)
    new = fields.ip_range(request.body, "ip_range", _SMALLEST)
    old = IPv4Network(network["ip_range"])
    if new.network_address != old.network_address or not old.subnet_of(new):
        raise invalid("ip_range", f"must start where {old} does, and must not be smaller")
    network["ip_range"] = str(new)
    return acted(cloud.begin("change_ip_range", ("network", request.id)))


def attach(cloud: Cloud, kind: str, record: Record, body: Record) -> Record:
    """Give a server or load balancer an address in a network.

    Args:
        cloud: For the books.
        kind: What it is.
        record: The server or load balancer; it is changed.
        body: ``network`` and perhaps ``ip`` or ``ip_range`` (of the subnet).

    Returns:
        The network.

    Raises:
        ApiError: The network has no room, or not there.
    """
    network = cloud.store.get("network", fields.number(body, "network"))
    if kind == "server" and len(members(cloud, "server", network["id"])) >= MOST_SERVERS:
        raise over_limit("network_server_limit", f"a network has {MOST_SERVERS} servers at most")
    zone = catalog.location(record["location"])["network_zone"]
    wanted = fields.address(body, "ip") if body.get("ip") else None
    subnets = [
        IPv4Network(subnet["ip_range"])
        for subnet in network["subnets"]
        if subnet["network_zone"] == zone
        and body.get("ip_range") in (None, subnet["ip_range"])
        and subnet["type"] != "vswitch"
    ]
    address = pools.private(cloud.store, network, subnets, wanted)
    record["private_net"].append({"network": network["id"], "ip": address})
    return network


def attached(record: Record, network: int) -> Record:
    """The attachment of a server or load balancer to a network.

    Raises:
        ApiError: It is not in the network.
    """
    for net in record["private_net"]:
        if net["network"] == network:
            found: Record = net
            return found
    raise invalid("network", f"{record['name']} is not attached to network {network}")


def _add_subnet(network: Record, body: Record) -> None:
    kind = fields.choice(body, "type", ("cloud", "server", "vswitch"))
    zone = fields.choice(body, "network_zone", sorted(catalog.ZONES))
    whole = IPv4Network(network["ip_range"])
    if kind == "vswitch":
        raise ApiError("unsupported_error", "the sandbox has no vSwitches")
    if body.get("ip_range") is None:
        subnet = _free_range(network)
    else:
        subnet = fields.ip_range(body, "ip_range", _SMALLEST_SUBNET)
    if not subnet.subnet_of(whole):
        raise invalid("ip_range", f"must be in the network's {whole}")
    if any(subnet.overlaps(other) for other in _ranges(network)):
        raise invalid("ip_range", "overlaps with another subnet or route")
    if len(network["subnets"]) >= _MOST_SUBNETS:
        raise over_limit("subnet_limit", f"a network has {_MOST_SUBNETS} subnets at most")
    network["subnets"].append(
        {
            "type": kind,
            "ip_range": str(subnet),
            "network_zone": zone,
            "gateway": str(whole[1]),
            "vswitch_id": None,
        }
    )


def _subnet(network: Record, address: str) -> str | None:
    ranges = (str(subnet["ip_range"]) for subnet in network["subnets"])
    return next((each for each in ranges if IPv4Address(address) in IPv4Network(each)), None)


def _free_range(network: Record) -> IPv4Network:
    used = _ranges(network)
    for subnet in IPv4Network(network["ip_range"]).subnets(new_prefix=_SMALLEST):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise invalid("ip_range", "no /24 is free in the network")


def _ranges(network: Record) -> list[IPv4Network]:
    subnets = [IPv4Network(subnet["ip_range"]) for subnet in network["subnets"]]
    routes = [IPv4Network(route["destination"]) for route in network["routes"]]
    return [*subnets, *(route for route in routes if route.prefixlen)]


def _add_route(network: Record, body: Record) -> None:
    everywhere = body.get("destination") == "0.0.0.0/0"
    default = IPv4Network("0.0.0.0/0")
    destination = default if everywhere else fields.ip_range(body, "destination", 32)
    gateway = fields.address(body, "gateway")
    whole = IPv4Network(network["ip_range"])
    if gateway not in whole or gateway in (whole[1], _TAKEN[0]):
        raise invalid("gateway", f"must be in {whole} and not its first address")
    if str(destination) in [route["destination"] for route in network["routes"]]:
        raise invalid("destination", "overlaps with another route")
    if not everywhere and any(destination.overlaps(used) for used in [*_ranges(network), _TAKEN]):
        raise invalid("destination", "overlaps with a subnet or another route")
    if len(network["routes"]) >= _MOST_ROUTES:
        raise over_limit("route_limit", f"a network has {_MOST_ROUTES} routes at most")
    network["routes"].append({"destination": str(destination), "gateway": str(gateway)})


def mac(network: int, address: str) -> str:
    """The MAC address of a private interface."""
    last = ":".join(f"{byte:02x}" for byte in IPv4Address(address).packed)
    return f"86:{network & 0xFF:02x}:{last}"
