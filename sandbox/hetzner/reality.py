"""What the API stand-in asks of the world: machines, networks, firewalls and balancers.

The API (:mod:`sandbox.hetzner.api`) keeps the books; everything that must really happen goes
through a :class:`World`. Tests of the API use one that only remembers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol


@dataclass(frozen=True)
class Boot:
    """What a new server is.

    Args:
        id: The server's id in the API; the world names its machine after it.
        name: Host name.
        address: Public address; None for a server without one.
        user_data: Handed to cloud-init as it is; empty for none.
        ssh_keys: Public keys that may log in as root, in OpenSSH's format.
        memory_mib: Main memory.
        cpus: Processors.
    """

    id: int
    name: str
    address: IPv4Address | None
    user_data: str
    ssh_keys: tuple[str, ...]
    memory_mib: int
    cpus: float


@dataclass(frozen=True)
class Rule:
    """One inbound rule of a firewall.

    Args:
        protocol: ``tcp``, ``udp``, ``icmp``, ``esp`` or ``gre``.
        port: As the API writes it: ``22``, ``80-90``, ``any``; None where a protocol has none.
        sources: Networks that may connect, IPv4 and IPv6, in CIDR notation.
    """

    protocol: str
    port: str | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Balancer:
    """A load balancer; which targets are healthy the world finds out itself.

    Args:
        id: The load balancer's id in the API.
        address: Public address; None when its public interface is off.
        private_address: Its address in ``network``; None when it is in none.
        network: The network's id in the API.
        services: Pairs of listen port and destination port, all TCP.
        targets: Private or public addresses, resolved from servers and labels.
    """

    id: int
    address: IPv4Address | None
    private_address: IPv4Address | None
    network: int | None
    services: tuple[tuple[int, int], ...]
    targets: tuple[IPv4Address, ...]


class World(Protocol):
    """Makes real what the API's books say; every method may be repeated without harm."""

    def add_network(self, network: int, ip_range: IPv4Network) -> None:
        """Make a private network; it may exist."""

    def remove_network(self, network: int) -> None:
        """Remove a private network; it may be gone."""

    def create(self, boot: Boot) -> None:
        """Make a server's disk and switch it on; returns before it has booted."""

    def delete(self, server: int) -> None:
        """Remove a server and its disk; it need not exist."""

    def power_on(self, server: int) -> None:
        """Switch a server on."""

    def power_off(self, server: int) -> None:
        """Switch a server off at once, as if its plug were pulled; it stays off."""

    def reboot(self, server: int) -> None:
        """Start a server anew."""

    def running(self, server: int) -> bool:
        """Whether a server is switched on."""

    def attach(self, server: int, network: int, address: IPv4Address) -> None:
        """Plug a server's interface into a network; survives reboots."""

    def detach(self, server: int, network: int) -> None:
        """Unplug what :meth:`attach` plugged in."""

    def firewall(self, server: int, rules: Sequence[Rule] | None) -> None:
        """Filter what comes in at a server's public interface, statefully; survives reboots.

        Args:
            server: The server's id.
            rules: What may come in; None for no firewall, an empty one lets nothing in.
        """

    def balance(self, balancer: Balancer) -> None:
        """Start a load balancer, or change it."""

    def unbalance(self, balancer: int) -> None:
        """Remove a load balancer; it may be gone."""

    def healthy(self, balancer: int) -> Mapping[IPv4Address, bool]:
        """Whether each target of a load balancer answers its health checks."""

    def carry(self, floating: IPv4Address, server: int | None) -> None:
        """Route a floating IP to a server, or nowhere."""
