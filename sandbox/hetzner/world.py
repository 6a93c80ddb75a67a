"""The world behind the API stand-in: sandbox machines, routed networks, and a process per balancer.

Nothing is remembered here: everything lies in the machines' directories, in network namespaces and
in control groups, so that it outlives the API's process and :func:`sandbox.machines.down` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from sandbox import machines
from sandbox.hetzner import balancer as balancers
from sandbox.hetzner.reality import Balancer, Boot, Rule
from sandbox.machines import disks, filters, fleet, metadata, routed
from sandbox.machines.filters import Opening


class SandboxWorld:
    """Servers, networks, firewalls, balancers and floating addresses on this host; needs root."""

    def add_network(self, network: int, ip_range: IPv4Network) -> None:
        """Make a private network; it may exist.

        Raises:
            ValueError: it exists with another range.
        """
        with fleet.alone():
            routed.up()
            routed.add_network(network, ip_range)

    def remove_network(self, network: int) -> None:
        """Remove a private network and every interface in it; it may be gone."""
        with fleet.alone():
            for name in _servers():
                routed.keep(name, routed.wiring(name).detached(network))
            routed.remove_network(network)

    def create(self, boot: Boot) -> None:
        """Make a server's disk and switch it on; returns before it has booted.

        Raises:
            ValueError: it has no public address, which the sandbox cannot do, or the address is
                taken.
        """
        if boot.address is None:
            raise ValueError(
                f"server {boot.id}: the sandbox has no server without a public address"
            )
        spec = machines.MachineSpec(machine(boot.id), boot.address, boot.memory_mib, boot.cpus)
        machines.create(spec, machines.Seed(boot.id, boot.name, boot.user_data, boot.ssh_keys))
        self.power_on(boot.id)

    def delete(self, server: int) -> None:
        """Remove a server, its disk and its firewall; it need not exist."""
        machines.remove(machine(server))

    def power_on(self, server: int) -> None:
        """Switch a server on, unless it is.

        Raises:
            LookupError: no such server.
        """
        name = _existing(server)
        with fleet.alone():
            routed.up()
            metadata.start()
        machines.power_on(name)

    def power_off(self, server: int) -> None:
        """Switch a server off at once, as if its plug were pulled; it stays off."""
        machines.power_off(machine(server))

    def reboot(self, server: int) -> None:
        """Have a server reboot itself; one that is off or not yet up is switched off and on."""
        try:
            fleet.request_reboot(machine(server))
        except RuntimeError:
            self.power_off(server)
            self.power_on(server)

    def running(self, server: int) -> bool:
        """Whether a server is switched on."""
        return fleet.is_on(machine(server))

    def attach(self, server: int, network: int, address: IPv4Address) -> None:
        """Plug a server's interface into a network, at once if it is on, and at each boot.

        Raises:
            LookupError: no such server or network.
        """
        name = _existing(server)
        with fleet.alone():
            wires = routed.wiring(name)
            if network in wires.networks and wires.networks[network].address == address:
                return
            if network not in routed.networks():
                raise LookupError(f"no private network {network}")
            wires = wires.detached(network).attached(network, address)
            routed.keep(name, wires)
            if routed.is_plugged(name):
                interface = wires.networks[network]
                routed.plug_private(name, network, address, interface.name)

    def detach(self, server: int, network: int) -> None:
        """Unplug what :meth:`attach` plugged in; the server may be gone."""
        name = machine(server)
        with fleet.alone():
            if routed.is_routed(name):
                routed.keep(name, routed.wiring(name).detached(network))
                routed.unplug_private(name, network)

    def firewall(self, server: int, rules: Sequence[Rule] | None) -> None:
        """Filter what comes in at a server's public port; None lets everything in.

        It lies at the edge under the machine's name, so it stays while the server is off.
        """
        name = _existing(server)
        openings = None if rules is None else [_opening(rule) for rule in rules]
        with fleet.alone():
            filters.apply(name, openings)

    def balance(self, balancer: Balancer) -> None:
        """Start a load balancer, or change it; a changed address or network ends its connections."""
        with fleet.alone():
            routed.up()
            balancers.run(balancer)

    def unbalance(self, balancer: int) -> None:
        """Remove a load balancer; it may be gone."""
        with fleet.alone():
            balancers.remove(balancer)

    def healthy(self, balancer: int) -> Mapping[IPv4Address, bool]:
        """Whether each target answers at the destination ports of all services, as far as known."""
        return balancers.healthy(balancer)

    def carry(self, floating: IPv4Address, server: int | None) -> None:
        """Route a floating IP to a server, or nowhere; the edge answers ARP for it meanwhile.

        Raises:
            LookupError: no such server.
        """
        carrier = None if server is None else _existing(server)
        with fleet.alone():
            for name in _servers():
                wires = routed.wiring(name)
                rest = tuple(address for address in wires.floating if address != floating)
                changed = replace(wires, floating=(*rest, floating) if name == carrier else rest)
                if changed != wires:
                    routed.keep(name, changed)
            routed.lose(floating)
            if carrier:
                routed.lead(carrier, disks.load(carrier).address, routed.wiring(carrier))


def machine(server: int) -> str:
    """Name of a server's machine."""
    return f"hc-{server}"


def _existing(server: int) -> str:
    name = machine(server)
    disks.load(name)
    return name


def _servers() -> list[str]:
    return [name for name in disks.names() if routed.is_routed(name)]


def _opening(rule: Rule) -> Opening:
    """The rule as the filter takes it; IPv6 sources cannot occur in the sandbox."""
    sources = (IPv4Network(source, strict=False) for source in rule.sources if ":" not in source)
    ports = None if rule.port in (None, "any") else rule.port
    return Opening(rule.protocol, ports, tuple(sources))
