"""What the books mean for the world, and telling it only what has changed.

:func:`desired` is all that must be true of networks, firewalls, load balancers and floating IPs,
as values by key; :class:`Sync` compares it with what the world was told last and calls it for the
differences. Making, switching and removing servers is not in here: actions do that.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from sandbox.hetzner import labels
from sandbox.hetzner.reality import Balancer, Rule, World
from sandbox.hetzner.store import Record, Store

_OF_SERVER: Final = ("attach", "firewall")
"""Keys that a server takes with it when it goes."""


def desired(store: Store) -> dict[str, Any]:
    """What must be true, by key: ``network/ID``, ``attach/SERVER/NETWORK``, ``firewall/SERVER``,
    ``carry/ID/ADDRESS`` and ``balance/ID``; the values fit into JSON.
    """
    wanted: dict[str, Any] = {f"network/{n['id']}": n["ip_range"] for n in store.all("network")}
    for server in store.all("server"):
        wanted |= _of_server(store, server)
    for floating in store.all("floating_ip"):
        if floating["type"] == "ipv4" and _real(store, floating["server"]):
            wanted[f"carry/{floating['id']}/{floating['ip']}"] = floating["server"]
    for balancer in store.all("load_balancer"):
        wanted[f"balance/{balancer['id']}"] = _balancer(store, balancer)
    return wanted


def applied_firewalls(store: Store, server: Record) -> list[Record]:
    """The firewalls of a server: applied to it, or to labels that it has."""
    return [f for f in store.all("firewall") if server["id"] in firewalled(store, f)]


def firewalled(store: Store, firewall: Record) -> set[int]:
    """The servers that a firewall is applied to, in either way."""
    servers: set[int] = set()
    for resource in firewall["applied_to"]:
        if resource["type"] == "server":
            servers.add(resource["server"]["id"])
        else:
            servers |= {s["id"] for s in selected(store, resource["label_selector"]["selector"])}
    return servers


def selected(store: Store, selector: str) -> list[Record]:
    """The servers whose labels match."""
    match = labels.selector(selector)
    return [server for server in store.all("server") if match(server["labels"])]


def targets(store: Store, balancer: Record, target: Record) -> list[tuple[int, str]]:
    """The servers behind a target, and at which address each is reached.

    A server that is not in the load balancer's network, or has no public address, is left out.
    """
    if target["type"] == "server":
        found = store.find("server", target["server"]["id"])
        servers = [found] if found else []
    elif target["type"] == "label_selector":
        servers = selected(store, target["label_selector"]["selector"])
    else:
        return []
    reached = [(s["id"], _reached(store, balancer, s, target["use_private_ip"])) for s in servers]
    return [(server, address) for server, address in reached if address]


def public_address(store: Store, server: Record, kind: str = "ipv4") -> str | None:
    """A server's public address, or None."""
    found = store.find("primary_ip", server[kind])
    return str(found["ip"]) if found else None


def private_address(resource: Record, network: int) -> str | None:
    """The address of a server or load balancer in a network, or None."""
    found = (net for net in resource["private_net"] if net["network"] == network)
    return next((str(net["ip"]) for net in found), None)


class Sync:
    """Tells the world what has changed.

    Args:
        store: The books; what the world was told last is kept there too.
        world: Who is told.
    """

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self._turn = threading.Lock()

    def run(self, *concerning: tuple[str, int]) -> None:
        """Make the world as the books are.

        Args:
            concerning: The resources for which a failure is the caller's; others' are only printed,
                and tried again the next time.

        Raises:
            RuntimeError: The world did not do it for one of ``concerning``.
        """
        with self._turn:
            problems = dict(self._steps())
        mine = [problem for key, problem in problems.items() if _about(key) & set(concerning)]
        if mine:
            raise RuntimeError("; ".join(mine))

    def forget(self, server: int) -> None:
        """Forget what was told of a server that is gone; inside a change."""
        for kind in _OF_SERVER:
            for key in [
                k for k in self._store.applied if (k + "/").startswith(f"{kind}/{server}/")
            ]:
                del self._store.applied[key]

    def _steps(self) -> Iterator[tuple[str, str]]:
        with self._store.lock:
            wanted, told = desired(self._store), dict(self._store.applied)
            frozen = {s["id"] for s in self._store.all("server") if s["status"] == "deleting"}
        gone = [k for k in told if k not in wanted and _server(k) not in frozen]
        new = [k for k in wanted if k not in told or told[k] != wanted[k]]
        for key in sorted(gone, key=_going):
            yield from self._step(key, None, told[key])
        for key in sorted(new, key=_coming):
            yield from self._step(key, wanted[key], told.get(key))

    def _step(self, key: str, value: Any, before: Any) -> Iterator[tuple[str, str]]:
        try:
            self._tell(key, value, before)
        except Exception as error:  # the world's errors are of any type
            traceback.print_exc()
            yield key, f"{key}: {error}"
            return
        with self._store.change():
            if value is None:
                self._store.applied.pop(key, None)
            else:
                self._store.applied[key] = value

    def _tell(self, key: str, value: Any, before: Any) -> None:
        kind, *rest = key.split("/")
        match kind:
            case "network" if value is None:
                self._world.remove_network(int(rest[0]))
            case "network":
                self._world.add_network(int(rest[0]), IPv4Network(value))
            case "attach":
                self._attach(int(rest[0]), int(rest[1]), value, before)
            case "firewall":
                self._world.firewall(int(rest[0]), None if value is None else _rules(value))
            case "carry":
                self._world.carry(IPv4Address(rest[1]), value)
            case "balance" if value is None:
                self._world.unbalance(int(rest[0]))
            case _:
                self._world.balance(_to_balancer(int(rest[0]), value))

    def _attach(self, server: int, network: int, value: str | None, before: str | None) -> None:
        if before is not None:
            self._world.detach(server, network)
        if value is not None:
            self._world.attach(server, network, IPv4Address(value))


def _of_server(store: Store, server: Record) -> dict[str, Any]:
    if not server["made"] or server["status"] == "deleting":
        return {}
    number = server["id"]
    wanted: dict[str, Any] = {
        f"attach/{number}/{net['network']}": net["ip"] for net in server["private_net"]
    }
    firewalls = applied_firewalls(store, server)
    if firewalls:
        rules = [rule for firewall in firewalls for rule in firewall["rules"]]
        wanted[f"firewall/{number}"] = [_inbound(r) for r in rules if r["direction"] == "in"]
    return wanted


def _inbound(rule: Record) -> list[Any]:
    return [rule["protocol"], rule["port"], rule["source_ips"]]


def _balancer(store: Store, balancer: Record) -> Record:
    private = next(iter(balancer["private_net"]), None)
    reached = [address for t in balancer["targets"] for _, address in targets(store, balancer, t)]
    direct = [target["ip"]["ip"] for target in balancer["targets"] if target["type"] == "ip"]
    return {
        "address": balancer["ip"] if balancer["public"] else None,
        "private_address": private["ip"] if private else None,
        "network": private["network"] if private else None,
        "services": [[s["listen_port"], s["destination_port"]] for s in balancer["services"]],
        "targets": sorted({*reached, *direct}, key=IPv4Address),
    }


def _reached(store: Store, balancer: Record, server: Record, privately: bool) -> str | None:
    if not _real(store, server["id"]):
        return None
    if not privately:
        return public_address(store, server)
    networks = [net["network"] for net in balancer["private_net"]]
    return private_address(server, networks[0]) if networks else None


def _real(store: Store, server: int | None) -> bool:
    found = store.find("server", server)
    return found is not None and found["made"] and found["status"] != "deleting"


def _rules(value: Sequence[Sequence[Any]]) -> list[Rule]:
    return [Rule(protocol, port, tuple(sources)) for protocol, port, sources in value]


def _to_balancer(number: int, value: Mapping[str, Any]) -> Balancer:
    return Balancer(
        id=number,
        address=_maybe(value["address"]),
        private_address=_maybe(value["private_address"]),
        network=value["network"],
        services=tuple((listen, destination) for listen, destination in value["services"]),
        targets=tuple(IPv4Address(target) for target in value["targets"]),
    )


def _maybe(address: str | None) -> IPv4Address | None:
    return None if address is None else IPv4Address(address)


_ORDER: Final = ("network", "attach", "firewall", "carry", "balance")


def _coming(key: str) -> int:
    return _ORDER.index(key.split("/")[0])


def _going(key: str) -> int:
    return -_coming(key)


def _server(key: str) -> int | None:
    kind, *rest = key.split("/")
    return int(rest[0]) if kind in _OF_SERVER else None


def _about(key: str) -> set[tuple[str, int]]:
    """The resources that a key is about."""
    kind, *rest = key.split("/")
    match kind:
        case "network":
            return {("network", int(rest[0]))}
        case "attach":
            return {("server", int(rest[0])), ("network", int(rest[1]))}
        case "firewall":
            return {("server", int(rest[0]))}
        case "balance":
            return {("load_balancer", int(rest[0]))}
        case _:
            return {("floating_ip", int(rest[0]))}
