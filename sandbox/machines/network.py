"""The machines' network: a bridge in a network namespace of its own, and one leg to this host.

Each machine has a namespace too, whose ``eth0`` is plugged into the bridge. The host routes nothing
for the machines: their default route ends at its leg.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from sandbox import site

NAMESPACE = "sandbox"
BRIDGE = "br0"
LEG = "sandbox0"
FAR_END = "host"
RESERVED = frozenset({BRIDGE, FAR_END, "lo"})
"""Interfaces in the bridge's namespace, where each machine has a port under its own name."""

EDGE = site.NETWORK.broadcast_address - 1
"""The bridge's own address, which it has when servers with routed ports are behind it."""

_NAMED = Path("/run/netns")
_LAST = "9999"  # a metric


def namespace(name: str) -> str:
    """Name of a machine's network namespace."""
    return f"{NAMESPACE}-{name}"


def mac(address: IPv4Address) -> str:
    """The fixed MAC of an address (locally administered): neighbours' tables outlive a reboot.

    >>> mac(IPv4Address("10.77.0.11"))
    '02:4b:0a:4d:00:0b'
    """
    return ":".join(f"{byte:02x}" for byte in b"\x02\x4b" + address.packed)


def up() -> None:
    """Make the bridge and the host's leg, or whatever of them is missing."""
    if NAMESPACE not in namespaces():
        ip("netns", "add", NAMESPACE)
    bridge("link", "set", "lo", "up")
    if BRIDGE not in links(NAMESPACE):
        bridge("link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    bridge("link", "set", BRIDGE, "up")
    if LEG not in links():
        ip("link", "add", LEG, "type", "veth", "peer", "name", FAR_END, "netns", NAMESPACE)
        ip("link", "set", LEG, "addrgenmode", "none")
    # Whatever this host forwards for others, it forwards nothing that comes from a machine.
    Path(f"/proc/sys/net/ipv4/conf/{LEG}/forwarding").write_text("0")
    bridge("link", "set", FAR_END, "master", BRIDGE, "up")
    ip("address", "replace", f"{site.HOST}/{site.NETWORK.prefixlen}", "dev", LEG)
    ip("link", "set", LEG, "up")
    # When the leg is gone nothing for the machines may leave by the host's default route.
    swallow(site.NETWORK)


def down() -> None:
    """Remove all namespaces, links and routes of the sandbox; nothing of them need exist."""
    if LEG in links():
        ip("link", "delete", LEG)
    for name in namespaces():
        if name == NAMESPACE or name.startswith(f"{NAMESPACE}-"):
            ip("netns", "delete", name)
    for network in swallowed():
        let_go(network)
    if _NAMED.is_dir() and not namespaces():  # what the first "ip netns add" left mounted
        subprocess.run(["umount", _NAMED], capture_output=True, check=False)
        _NAMED.rmdir()


def plug(name: str, address: IPv4Address, *, connected: bool = True) -> None:
    """Make a fresh namespace with ``eth0`` at this address; ``name`` is also the bridge's port.

    A namespace of its own for each boot: rules, routes and sysctls of the last one are gone.
    """
    unplug(name)
    inside = make_namespace(name)
    bridge("link", "add", name, "type", "veth", "peer", "name", "eth0",
            "address", mac(address), "netns", inside)  # fmt: skip
    bridge("link", "set", name, "master", BRIDGE, "up" if connected else "down")
    ip("-n", inside, "address", "add", f"{address}/{site.NETWORK.prefixlen}", "dev", "eth0")
    ip("-n", inside, "link", "set", "eth0", "up")
    ip("-n", inside, "route", "add", "default", "via", str(site.HOST))


def make_namespace(name: str) -> str:
    """Make a namespace with nothing but its loopback; returns what it is called."""
    inside = namespace(name)
    ip("netns", "add", inside)
    ip("-n", inside, "link", "set", "lo", "up")
    return inside


def unplug(name: str) -> None:
    """Remove a machine's namespace and its port, if they exist."""
    if NAMESPACE in namespaces() and name in links(NAMESPACE):
        bridge("link", "delete", name)
    if namespace(name) in namespaces():
        ip("netns", "delete", namespace(name))


def connect(name: str, connected: bool) -> None:
    """Pull a machine's network cable, or put it back, if the machine is on."""
    if name in links(NAMESPACE):
        bridge("link", "set", name, "up" if connected else "down")


@contextmanager
def outsider(
    address: IPv4Address,
) -> Iterator[Callable[[list[str]], subprocess.CompletedProcess[str]]]:
    """Run commands of this host from another address on the bridge, as neither host nor machine.

    Yields a function from a command to its completed process (output captured, status not checked).
    """
    name = str(address)
    plug(name, address)
    try:
        yield lambda command: subprocess.run(
            ["ip", "netns", "exec", namespace(name), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        unplug(name)


def leftovers() -> list[str]:
    """Namespaces, links and routes of the sandbox that exist."""
    ours = (n for n in namespaces() if n == NAMESPACE or n.startswith(f"{NAMESPACE}-"))
    return [
        *(f"network namespace {name}" for name in ours),
        *(f"link {name}" for name in links() if name == LEG),
        *(f"route blackhole {network}" for network in swallowed()),
    ]


def swallow(network: IPv4Network) -> None:
    """Let nothing for these addresses leave this host, unless a better route is there."""
    ip("route", "replace", "blackhole", str(network), "metric", _LAST)


def let_go(network: IPv4Network) -> None:
    """Undo :func:`swallow`, if it was done."""
    if network in swallowed():
        ip("route", "delete", "blackhole", str(network), "metric", _LAST)


def swallowed() -> list[IPv4Network]:
    """The networks of :func:`swallow`; known by their metric, which nobody else would choose."""
    routes = json.loads(ip("-json", "route", "show", "type", "blackhole") or "[]")
    return [IPv4Network(route["dst"]) for route in routes if route.get("metric") == int(_LAST)]


def ip(*arguments: str) -> str:
    """What the ``ip`` command prints.

    Raises:
        RuntimeError: it failed; the message is its own.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def bridge(*arguments: str) -> None:
    """The ``ip`` command in the bridge's namespace."""
    ip("-n", NAMESPACE, *arguments)


def namespaces() -> list[str]:
    """Names of this host's network namespaces."""
    return sorted(path.name for path in _NAMED.glob("*"))


def links(inside: str | None = None) -> set[str]:
    """Names of the interfaces in a namespace, or of this host's."""
    within: Sequence[str] = ("-n", inside) if inside else ()
    return {link["ifname"] for link in json.loads(ip(*within, "-json", "link", "show"))}


def set_knobs(inside: str, knobs: Mapping[str, int]) -> None:
    """Set sysctls below ``net/`` in a namespace, by their paths; one that is missing stays so."""
    script = (
        "for pair; do file=/proc/sys/net/${pair%=*}; [ ! -e $file ] || echo ${pair#*=} >$file; done"
    )
    pairs = [f"{path}={value}" for path, value in knobs.items()]
    subprocess.run(["ip", "netns", "exec", inside, "sh", "-ec", script, "sh", *pairs], check=True)
