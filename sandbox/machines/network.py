"""The machines' network: a bridge in a network namespace of its own, and one leg to this host.

Each machine has a namespace too, whose ``eth0`` is plugged into the bridge. The host routes nothing
for the machines: their default route ends at its leg.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from sandbox import site

NAMESPACE = "sandbox"
BRIDGE = "br0"
LEG = "sandbox0"
FAR_END = "host"
RESERVED = frozenset({BRIDGE, FAR_END, "lo"})
"""Interfaces in the bridge's namespace, where each machine has a port under its own name."""

_NAMED = Path("/run/netns")


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
    if NAMESPACE not in _namespaces():
        _ip("netns", "add", NAMESPACE)
    _bridge("link", "set", "lo", "up")
    if BRIDGE not in _links(NAMESPACE):
        _bridge("link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    _bridge("link", "set", BRIDGE, "up")
    if LEG not in _links():
        _ip("link", "add", LEG, "type", "veth", "peer", "name", FAR_END, "netns", NAMESPACE)
        _ip("link", "set", LEG, "addrgenmode", "none")
    # Whatever this host forwards for others, it forwards nothing that comes from a machine.
    Path(f"/proc/sys/net/ipv4/conf/{LEG}/forwarding").write_text("0")
    _bridge("link", "set", FAR_END, "master", BRIDGE, "up")
    _ip("address", "replace", f"{site.HOST}/{site.NETWORK.prefixlen}", "dev", LEG)
    _ip("link", "set", LEG, "up")
    # When the leg is gone nothing for the machines may leave by the host's default route.
    _ip("route", "replace", "blackhole", str(site.NETWORK), "metric", "9999")


def down() -> None:
    """Remove all namespaces, links and routes of the sandbox; nothing of them need exist."""
    if LEG in _links():
        _ip("link", "delete", LEG)
    for name in _namespaces():
        if name == NAMESPACE or name.startswith(f"{NAMESPACE}-"):
            _ip("netns", "delete", name)
    if _blackholes():
        _ip("route", "delete", "blackhole", str(site.NETWORK), "metric", "9999")
    if _NAMED.is_dir() and not _namespaces():  # what the first "ip netns add" left mounted
        subprocess.run(["umount", _NAMED], capture_output=True, check=False)
        _NAMED.rmdir()


def plug(name: str, address: IPv4Address, *, connected: bool = True) -> None:
    """Make a fresh namespace with ``eth0`` at this address; ``name`` is also the bridge's port.

    A namespace of its own for each boot: rules, routes and sysctls of the last one are gone.
    """
    unplug(name)
    inside = namespace(name)
    _ip("netns", "add", inside)
    _ip("-n", inside, "link", "set", "lo", "up")
    _bridge("link", "add", name, "type", "veth", "peer", "name", "eth0",
            "address", mac(address), "netns", inside)  # fmt: skip
    _bridge("link", "set", name, "master", BRIDGE, "up" if connected else "down")
    _ip("-n", inside, "address", "add", f"{address}/{site.NETWORK.prefixlen}", "dev", "eth0")
    _ip("-n", inside, "link", "set", "eth0", "up")
    _ip("-n", inside, "route", "add", "default", "via", str(site.HOST))


def unplug(name: str) -> None:
    """Remove a machine's namespace and its port, if they exist."""
    if NAMESPACE in _namespaces() and name in _links(NAMESPACE):
        _bridge("link", "delete", name)
    if namespace(name) in _namespaces():
        _ip("netns", "delete", namespace(name))


def connect(name: str, connected: bool) -> None:
    """Pull a machine's network cable, or put it back, if the machine is on."""
    if name in _links(NAMESPACE):
        _bridge("link", "set", name, "up" if connected else "down")


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
    ours = (n for n in _namespaces() if n == NAMESPACE or n.startswith(f"{NAMESPACE}-"))
    return [
        *(f"network namespace {name}" for name in ours),
        *(f"link {name}" for name in _links() if name == LEG),
        *(f"route {route}" for route in _blackholes()),
    ]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _bridge(*arguments: str) -> None:
    _ip("-n", NAMESPACE, *arguments)


def _namespaces() -> list[str]:
    return sorted(path.name for path in _NAMED.glob("*"))


def _links(inside: str | None = None) -> set[str]:
    within: Sequence[str] = ("-n", inside) if inside else ()
    return {link["ifname"] for link in json.loads(_ip(*within, "-json", "link", "show"))}


def _blackholes() -> list[str]:
    shown = _ip("route", "show", "type", "blackhole", "exact", str(site.NETWORK))
    return [line.strip() for line in shown.splitlines()]
