"""Ports as a cloud provider makes them: routed, not switched; no machine shares a wire with another.

The bridge's namespace is the provider's edge. A server's public ``eth0`` is one end of a wire whose
other end is a port there, with the gateway's address; the edge answers ARP on the bridge for the
addresses behind its ports. Each private network is a namespace with a port per server and nothing
else, so that private networks may overlap and none of their traffic can leave. What a server is
plugged into lies in ``wiring.json`` beside its disk and is made anew at each boot.

Source addresses that do not belong to a port are dropped there (reverse path filter). The edge has
no route but to the servers and the bridge: what is for elsewhere is answered with "unreachable".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from sandbox import site
from sandbox.machines import disks, network
from sandbox.machines.network import BRIDGE, EDGE, NAMESPACE, ip, links, namespaces, set_knobs

GATEWAY: Final = IPv4Address("172.31.1.1")
"""Every server's public gateway, as on Hetzner."""

METADATA: Final = IPv4Address("169.254.169.254")
"""The metadata service's address at the edge; servers reach it through their gateway."""

MTU: Final = 1450
"""Bytes that fit into a packet on a private network, as on Hetzner."""

STATE: Final = site.STATE / "networks"
"""Directory of a file per private network, with its range."""

_EDGE_MAC: Final = "02:4b:00:00:00:01"  # fixed, as the host remembers it for the servers' addresses
_ROUTER: Final = {
    "ipv4/ip_forward": 1,
    "ipv4/conf/all/rp_filter": 1,
    "ipv4/conf/default/rp_filter": 1,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
}


@dataclass(frozen=True)
class Interface:
    """A server's interface in a private network; ``slot`` numbers a server's private interfaces."""

    address: IPv4Address
    slot: int

    @property
    def name(self) -> str:
        """Its name in the server: ``enp7s0`` for the first, as on Hetzner."""
        return f"enp{7 + self.slot}s0"


@dataclass(frozen=True)
class Wiring:
    """What a server is plugged into: private networks by number, and floating addresses."""

    networks: Mapping[int, Interface] = field(default_factory=dict)
    floating: tuple[IPv4Address, ...] = ()

    def attached(self, number: int, address: IPv4Address) -> Wiring:
        """With an interface in this network too, in the first free slot."""
        taken = {interface.slot for interface in self.networks.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        return replace(self, networks={**self.networks, number: Interface(address, slot)})

    def detached(self, number: int) -> Wiring:
        """Without the interface in this network."""
        rest = {key: value for key, value in self.networks.items() if key != number}
        return replace(self, networks=rest)

    def to_json(self) -> str:
        """For the file beside the disk."""
        networks = {
            str(number): {"address": str(interface.address), "slot": interface.slot}
            for number, interface in self.networks.items()
        }
        return json.dumps({"networks": networks, "floating": [str(a) for a in self.floating]})

    @classmethod
    def from_json(cls, text: str) -> Wiring:
        """What :meth:`to_json` wrote."""
        read = json.loads(text)
        return cls(
            {
                int(number): Interface(IPv4Address(one["address"]), one["slot"])
                for number, one in read["networks"].items()
            },
            tuple(map(IPv4Address, read["floating"])),
        )


def is_routed(name: str) -> bool:
    """Whether this machine is a server with routed ports."""
    return _file(name).exists()


def wiring(name: str) -> Wiring:
    """What the server is plugged into."""
    return Wiring.from_json(_file(name).read_text())


def keep(name: str, wires: Wiring) -> None:
    """Write down what the server is plugged into."""
    _write(_file(name), wires.to_json())


def up() -> None:
    """Make the bridge's namespace the provider's edge, unless it is."""
    network.up()
    ip("-n", NAMESPACE, "link", "set", BRIDGE, "address", _EDGE_MAC)
    ip("-n", NAMESPACE, "address", "replace", f"{EDGE}/{site.NETWORK.prefixlen}", "dev", BRIDGE)
    ip("-n", NAMESPACE, "address", "replace", f"{METADATA}/32", "dev", "lo")
    knobs = {
        **_ROUTER,
        f"ipv4/conf/{BRIDGE}/rp_filter": 1,
        f"ipv4/conf/{BRIDGE}/send_redirects": 0,
        f"ipv4/conf/{BRIDGE}/proxy_arp": 1,
        f"ipv4/neigh/{BRIDGE}/proxy_delay": 0,
        "bridge/bridge-nf-call-iptables": 0,  # what is switched is no business of the firewalls
    }
    set_knobs(NAMESPACE, knobs)


def plug(name: str, address: IPv4Address, wires: Wiring, *, connected: bool = True) -> None:
    """Make a fresh namespace with the server's interfaces, as :func:`network.plug` does."""
    unplug(name)
    inside = network.make_namespace(name)
    _wire(NAMESPACE, name, inside, "eth0", network.mac(address))
    ip("-n", NAMESPACE, "address", "add", f"{GATEWAY}/32", "dev", name)
    if connected:
        network.connect(name, True)
        lead(name, address, wires)
    _join(inside, "eth0", address, GATEWAY, "default")
    for number, interface in wires.networks.items():
        plug_private(name, number, interface.address, interface.name)


def is_plugged(name: str) -> bool:
    """Whether the server's namespace is there, as while it is on."""
    return network.namespace(name) in namespaces()


def unplug(name: str) -> None:
    """Remove a server's namespace and all its ports, if they exist."""
    for number in networks():
        unplug_private(name, number)
    network.unplug(name)


def lead(name: str, address: IPv4Address, wires: Wiring) -> None:
    """Make the edge's routes to a server's addresses, if its public port is switched on."""
    if not _is_up(name):
        return
    ip("-n", NAMESPACE, "route", "replace", f"{address}/32", "dev", name)
    for floating in wires.floating:
        ip("-n", NAMESPACE, "route", "replace", f"{floating}/32",
           "via", str(address), "dev", name, "onlink")  # fmt: skip


def lose(floating: IPv4Address) -> None:
    """Route a floating address nowhere."""
    if NAMESPACE in namespaces() and _routed(floating):
        ip("-n", NAMESPACE, "route", "delete", f"{floating}/32")


def networks() -> dict[int, IPv4Network]:
    """Ranges of all private networks, by number."""
    files = STATE.glob("[0-9]*") if STATE.exists() else ()
    return {int(file.name): IPv4Network(file.read_text()) for file in files if file.name.isdigit()}


def add_network(number: int, reach: IPv4Network) -> None:
    """Make a private network, unless it exists.

    Raises:
        ValueError: it exists with another range.
    """
    if networks().get(number, reach) != reach:
        raise ValueError(f"network {number} is {networks()[number]}, not {reach}")
    STATE.mkdir(parents=True, exist_ok=True)
    _write(STATE / str(number), str(reach))
    if _router(number) not in namespaces():
        set_knobs(network.make_namespace(_network(number)), _ROUTER)
    network.swallow(reach)


def remove_network(number: int) -> None:
    """Remove a private network, if it exists; what was plugged in has one interface less."""
    reach = networks().get(number)
    if _router(number) in namespaces():
        for port in links(_router(number)) - {"lo"}:
            unplug_private(port, number)
        ip("netns", "delete", _router(number))
    (STATE / str(number)).unlink(missing_ok=True)
    if reach and reach not in networks().values():
        network.let_go(reach)


def plug_private(name: str, number: int, address: IPv4Address, interface: str) -> None:
    """Plug a namespace that exists into a private network; ``name`` is also the port there.

    Raises:
        LookupError: there is no such network.
    """
    if (reach := networks().get(number)) is None:
        raise LookupError(f"no private network {number}")
    gateway, router, inside = reach[1], _router(number), network.namespace(name)
    unplug_private(name, number)
    _wire(router, name, inside, interface, network.mac(address), MTU)
    ip("-n", router, "address", "add", f"{gateway}/32", "dev", name)
    ip("-n", router, "link", "set", name, "up")
    ip("-n", router, "route", "add", f"{address}/32", "dev", name)
    _join(inside, interface, address, gateway, str(reach))


def unplug_private(name: str, number: int) -> None:
    """Take a server or balancer out of a private network, if it is in it."""
    if _router(number) in namespaces() and name in links(_router(number)):
        ip("-n", _router(number), "link", "delete", name)


def _wire(outside: str, port: str, inside: str, interface: str, mac: str, mtu: int = 1500) -> None:
    ip("-n", outside, "link", "add", port, "mtu", str(mtu), "type", "veth", "peer",
       "name", interface, "address", mac, "mtu", str(mtu), "netns", inside)  # fmt: skip


def _join(
    inside: str, interface: str, address: IPv4Address, gateway: IPv4Address, reach: str
) -> None:
    ip("-n", inside, "address", "add", f"{address}/32", "dev", interface)
    ip("-n", inside, "link", "set", interface, "up")
    ip("-n", inside, "route", "add", f"{gateway}/32", "dev", interface, "scope", "link")
    ip("-n", inside, "route", "add", reach, "via", str(gateway), "dev", interface)


def _is_up(port: str) -> bool:
    if NAMESPACE not in namespaces() or port not in links(NAMESPACE):
        return False
    return "UP" in json.loads(ip("-n", NAMESPACE, "-json", "link", "show", port))[0]["flags"]


def _routed(address: IPv4Address) -> bool:
    return bool(ip("-n", NAMESPACE, "route", "show", "exact", f"{address}/32").strip())


def _router(number: int) -> str:
    return network.namespace(_network(number))


def _network(number: int) -> str:
    return f"net.{number}"  # with a dot, as no machine's name has


def _file(name: str) -> Path:
    return disks.home(name) / "wiring.json"


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(text)
    draft.rename(file)
