"""Addresses that are handed out: public ones from the sandbox's network, private ones from subnets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sandbox import site
from sandbox.hetzner.errors import ApiError, over_limit
from sandbox.hetzner.store import Record, Store


def _pool(first: int, last: int) -> tuple[IPv4Address, ...]:
    return tuple(site.NETWORK[number] for number in range(first, last + 1))


_PUBLIC: Final = {
    "primary_ip": _pool(100, 149),
    "load_balancer": _pool(150, 169),
    "floating_ip": _pool(170, 189),
}
_IPV6: Final = "2001:db8:77:{:x}::"
"""For documentation only, as is what we do with it: no machine has one."""


def public(store: Store, kind: str) -> str:
    """A free public IPv4 address for a kind of resource.

    Raises:
        ApiError: All are taken.
    """
    used = {record["ip"] for record in store.all(kind)}
    for address in _PUBLIC[kind]:
        if str(address) not in used:
            return str(address)
    raise over_limit(f"{kind}_limit", f"no {kind.replace('_', ' ')} address is left")


def ipv6(number: int) -> str:
    """The IPv6 network that belongs to a resource, by its id.

    >>> ipv6(255)
    '2001:db8:77:ff::/64'
    """
    return f"{_IPV6.format(number & 0xFFFF)}/64"


def in_network(store: Store, network: int) -> Iterator[IPv4Address]:
    """The addresses in a network that servers and load balancers have, aliases too."""
    for kind in ("server", "load_balancer"):
        for record in store.all(kind):
            for net in record["private_net"]:
                if net["network"] == network:
                    yield from map(IPv4Address, (net["ip"], *net.get("alias_ips", ())))


def reserved(network: Record, subnet: IPv4Network) -> set[IPv4Address]:
    """What nobody may have in a subnet: the network's gateway, and the subnet's two ends."""
    gateway = IPv4Network(network["ip_range"])[1]
    return {gateway, subnet.network_address, subnet.broadcast_address}


def private(
    store: Store, network: Record, subnets: Iterable[IPv4Network], wanted: IPv4Address | None
) -> str:
    """A free address in one of a network's subnets, or the wanted one.

    Raises:
        ApiError: The wanted one is taken or in no subnet, or none is free.
    """
    subnets = list(subnets)
    used = set(in_network(store, network["id"]))
    for subnet in subnets:
        barred = used | reserved(network, subnet)
        if wanted is None:
            free = next((host for host in subnet.hosts() if host not in barred), None)
            if free is not None:
                return str(free)
        elif wanted in subnet:
            if wanted in barred:
                raise ApiError("ip_not_available", f"IP {wanted} is not available")
            return str(wanted)
    if wanted is None or not subnets:
        raise ApiError("no_subnet_available", "no subnet or IP is available in the network")
    raise ApiError("ip_not_available", f"IP {wanted} is in no subnet of the network")
