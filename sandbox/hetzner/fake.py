"""A world that only remembers: for tests of the API and of its clients, without any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from sandbox.hetzner.reality import Balancer, Boot, Rule


@dataclass
class FakeWorld:
    """A :class:`~sandbox.hetzner.reality.World` in memory.

    Attributes:
        calls: Everything it was asked to do, in order: the method's name and what it is about.
        networks: Private networks by id.
        boots: Servers by id, as they were made.
        on: Servers that are switched on.
        attached: Addresses by server and network.
        firewalls: Rules by server.
        balancers: Load balancers by id.
        carried: Servers by floating IP.
        sick: Targets that are not healthy.
    """

    calls: list[tuple[str, object]] = field(default_factory=list)
    networks: dict[int, IPv4Network] = field(default_factory=dict)
    boots: dict[int, Boot] = field(default_factory=dict)
    on: set[int] = field(default_factory=set)
    attached: dict[tuple[int, int], IPv4Address] = field(default_factory=dict)
    firewalls: dict[int, Sequence[Rule]] = field(default_factory=dict)
    balancers: dict[int, Balancer] = field(default_factory=dict)
    carried: dict[IPv4Address, int] = field(default_factory=dict)
    sick: set[IPv4Address] = field(default_factory=set)

    def add_network(self, network: int, ip_range: IPv4Network) -> None:
        """Remember a network."""
        self.calls.append(("add_network", network))
        self.networks[network] = ip_range

    def remove_network(self, network: int) -> None:
        """Forget a network."""
        self.calls.append(("remove_network", network))
        self.networks.pop(network, None)

    def create(self, boot: Boot) -> None:
        """Remember a server, switched on."""
        self.calls.append(("create", boot.id))
        self.boots[boot.id] = boot
        self.on.add(boot.id)

    def delete(self, server: int) -> None:
        """Forget a server and what it had."""
        self.calls.append(("delete", server))
        self.boots.pop(server, None)
        self.on.discard(server)
        self.firewalls.pop(server, None)
        self.attached = {key: value for key, value in self.attached.items() if key[0] != server}

    def power_on(self, server: int) -> None:
        """Switch on."""
        self.calls.append(("power_on", server))
        self.on.add(server)

    def power_off(self, server: int) -> None:
        """Switch off."""
        self.calls.append(("power_off", server))
        self.on.discard(server)

    def reboot(self, server: int) -> None:
        """Off and on."""
        self.calls.append(("reboot", server))
        self.on.add(server)

    def running(self, server: int) -> bool:
        """Whether it is on."""
        return server in self.on

    def attach(self, server: int, network: int, address: IPv4Address) -> None:
        """Remember an address."""
        self.calls.append(("attach", server))
        self.attached[server, network] = address

    def detach(self, server: int, network: int) -> None:
        """Forget an address."""
        self.calls.append(("detach", server))
        self.attached.pop((server, network), None)

    def firewall(self, server: int, rules: Sequence[Rule] | None) -> None:
        """Remember rules."""
        self.calls.append(("firewall", server))
        if rules is None:
            self.firewalls.pop(server, None)
        else:
            self.firewalls[server] = list(rules)

    def balance(self, balancer: Balancer) -> None:
        """Remember a load balancer."""
        self.calls.append(("balance", balancer.id))
        self.balancers[balancer.id] = balancer

    def unbalance(self, balancer: int) -> None:
        """Forget a load balancer."""
        self.calls.append(("unbalance", balancer))
        self.balancers.pop(balancer, None)

    def healthy(self, balancer: int) -> Mapping[IPv4Address, bool]:
        """All targets are, but for the sick."""
        known = self.balancers.get(balancer)
        return {target: target not in self.sick for target in known.targets} if known else {}

    def carry(self, floating: IPv4Address, server: int | None) -> None:
        """Remember where a floating IP is."""
        self.calls.append(("carry", server))
        if server is None:
            self.carried.pop(floating, None)
        else:
            self.carried[floating] = server
