"""Networks, their subnets, what servers have in them, and firewalls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from hcloud.firewalls import (
    FirewallResource,
    FirewallResourceLabelSelector,
    FirewallRule,
)
from hcloud.networks import Network, NetworkSubnet
from hcloud.servers import Server

from sandbox.engine.hetzner.api import Api, absent
from sandbox.engine.hetzner.maker import Maker, Named
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError


class Networks(Named):
    """``hcloud:index/network:Network``."""

    plural = "networks"
    takes = frozenset({"name", "labels", "ipRange", "exposeRoutesToVswitch", "deleteProtection"})
    defaults: ClassVar[dict[str, Any]] = {
        "labels": {},
        "deleteProtection": False,
        "exposeRoutesToVswitch": False,
    }

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        return self.all.create(
            wanted["name"],
            wanted["ipRange"],
            expose_routes_to_vswitch=wanted["exposeRoutesToVswitch"],
            labels=wanted["labels"],
        )

    def made(self, answer: Any) -> Any:
        """The answer is the network."""
        return answer

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        return {"ipRange": (found.ip_range,)}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """See :meth:`Named.update`."""
        super().update(found, wanted)
        if (expose := wanted.get("exposeRoutesToVswitch")) is not None:
            self.put(found, {"expose_routes_to_vswitch": bool(expose)})

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        return {
            "ipRange": live.ip_range,
            "exposeRoutesToVswitch": bool(live.expose_routes_to_vswitch),
            "deleteProtection": live.protection["delete"],
        }


class Subnets(Maker):
    """``hcloud:index/networkSubnet:NetworkSubnet``."""

    takes = frozenset({"networkId", "type", "ipRange", "networkZone", "vswitchId"})
    finds = ("networkId", "ipRange")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`."""
        given = record.inputs
        network = self.client.networks.get_by_id(int(given["networkId"]))
        found = _subnet(network, given["ipRange"])
        if found is not None and begun and _differs(found, given):
            self.delete(record)
            found = None
        if found is None:
            vswitch = int(given["vswitchId"]) if given.get("vswitchId") else None
            subnet = NetworkSubnet(
                ip_range=given["ipRange"],
                type=given["type"],
                network_zone=given["networkZone"],
                vswitch_id=vswitch,
            )
            self.api.patiently(lambda: network.add_subnet(subnet))
            network.reload()
            found = _subnet(network, given["ipRange"])
        return f"{network.id}-{given['ipRange']}", {"gateway": getattr(found, "gateway", None)}

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        given = record.inputs
        network = absent(lambda: self.client.networks.get_by_id(int(given["networkId"])))
        found = None if network is None else _subnet(network, given["ipRange"])
        if network is not None and found is not None:
            # What was attached a moment ago can hold it for a while.
            absent(
                lambda: self.api.patiently(
                    lambda: network.delete_subnet(found), "service_error", "resource_in_use"
                )
            )


def _subnet(network: Any, ip_range: str) -> NetworkSubnet | None:
    found: list[NetworkSubnet] = [s for s in network.subnets or [] if s.ip_range == ip_range]
    return found[0] if found else None


def _differs(subnet: NetworkSubnet, given: Mapping[str, Any]) -> bool:
    return (subnet.type, subnet.network_zone) != (given["type"], given["networkZone"])


class ServerNetworks(Maker):
    """``hcloud:index/serverNetwork:ServerNetwork``."""

    takes = frozenset({"serverId", "networkId", "subnetId", "ip", "aliasIps"})
    finds = ("serverId", "networkId", "subnetId")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`; an attachment with another address is made anew."""
        given = record.inputs
        server: Any = self.client.servers.get_by_id(int(given["serverId"]))
        network, ip_range = network_of(given)
        found = server.private_net_for(network)
        wanted = None if "ip" in record.ignored else given.get("ip")
        if found is not None and wanted and found.ip != wanted:
            self.api.patiently(lambda: server.detach_from_network(network))
            found = None
        if found is None:
            aliases = list(given.get("aliasIps") or [])
            attach(
                self.api,
                lambda: server.attach_to_network(network, given.get("ip"), aliases, ip_range),
            )
        elif sorted(given.get("aliasIps") or []) != sorted(found.alias_ips or []):
            aliases = list(given.get("aliasIps") or [])
            self.api.patiently(lambda: server.change_alias_ips(network, aliases))
        return f"{server.id}-{network.id}", self._outputs(server, network)

    def _outputs(self, server: Any, network: Network) -> dict[str, Any]:
        server.reload()
        live = server.private_net_for(network)
        if live is None:
            raise EngineError(f"server {server.name} lost its network just after it was attached")
        return {
            "serverId": server.id,
            "networkId": network.id,
            "ip": live.ip,
            "macAddress": live.mac_address,
            "aliasIps": list(live.alias_ips or []),
        }

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        server: Any = absent(lambda: self.client.servers.get_by_id(int(record.inputs["serverId"])))
        network, _ = network_of(record.inputs)
        if server is not None and server.private_net_for(network) is not None:
            absent(lambda: self.api.patiently(lambda: server.detach_from_network(network)))


def network_of(given: Mapping[str, Any]) -> tuple[Network, str | None]:
    """The network of an attachment, and the subnet's range if a subnet is given instead."""
    if given.get("subnetId"):
        network, _, ip_range = str(given["subnetId"]).partition("-")
        return Network(id=int(network)), ip_range
    return Network(id=int(given["networkId"])), None


def attach(api: Api, call: Callable[[], Any]) -> None:
    """Attach to a network, whose subnet may be a moment late."""
    api.patiently(call, "no_subnet_available", "service_error")


class Firewalls(Named):
    """``hcloud:index/firewall:Firewall``."""

    plural = "firewalls"
    takes = frozenset({"name", "labels", "rules", "applyTos"})
    defaults: ClassVar[dict[str, Any]] = {"labels": {}, "rules": []}

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        return self.all.create(
            wanted["name"],
            [_rule(given) for given in wanted["rules"]],
            wanted["labels"],
            [_target(given) for given in wanted.get("applyTos") or []],
        )

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Name, labels, rules, and what it applies to if that is given at all."""
        self.rename(found, wanted)
        if "rules" in wanted:
            rules = [_rule(given) for given in wanted["rules"]]
            if _words(rules) != _words(found.rules or []):
                self.api.patiently(lambda: found.set_rules(rules))
        if "applyTos" in wanted:
            self._apply(found, [_target(given) for given in wanted["applyTos"]])

    def _apply(self, found: Any, targets: Sequence[FirewallResource]) -> None:
        now = {repr(t.to_payload()): t for t in found.applied_to or []}
        then = {repr(t.to_payload()): t for t in targets}
        if add := [target for key, target in then.items() if key not in now]:
            self.api.patiently(lambda: found.apply_to_resources(add))
        if drop := [target for key, target in now.items() if key not in then]:
            self.api.patiently(lambda: found.remove_from_resources(drop))

    def remove(self, found: Any) -> None:
        """Take it off everything, and delete it."""
        absent(lambda: self._apply(found, []))
        super().remove(found)


def _rule(given: Mapping[str, Any]) -> FirewallRule:
    return FirewallRule(
        direction=given["direction"],
        protocol=given["protocol"],
        port=given.get("port"),
        source_ips=list(given.get("sourceIps") or []),
        destination_ips=list(given.get("destinationIps") or []),
        description=given.get("description"),
    )


def _words(rules: Sequence[FirewallRule]) -> list[str]:
    """The rules in an order of their own: the API knows none."""
    return sorted(
        f"{r.direction} {r.protocol} {r.port} {sorted(r.source_ips)} {sorted(r.destination_ips)} "
        f"{r.description or ''}"
        for r in rules
    )


def _target(given: Mapping[str, Any]) -> FirewallResource:
    if given.get("labelSelector"):
        selector = FirewallResourceLabelSelector(given["labelSelector"])
        return FirewallResource(FirewallResource.TYPE_LABEL_SELECTOR, label_selector=selector)
    return FirewallResource(FirewallResource.TYPE_SERVER, server=Server(int(given["server"])))
