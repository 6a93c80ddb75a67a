"""Firewalls: rules, and the servers and labels that they are applied to."""

from __future__ import annotations

import re
from typing import Final

from sandbox.hetzner import derive, fields, labels
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, over_limit
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request, action_view

_MOST_RULES: Final = 50
_MOST_PER_SERVER: Final = 5
_MOST_EFFECTIVE: Final = 500
_PROTOCOLS: Final = ("tcp", "udp", "icmp", "esp", "gre")
_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def view(cloud: Cloud, firewall: Record) -> Record:
    """A firewall as the API shows it."""
    return {**firewall, "applied_to": [_resource_view(cloud, r) for r in firewall["applied_to"]]}


def _resource_view(cloud: Cloud, resource: Record) -> Record:
    if resource["type"] == "server":
        return dict(resource)
    servers = derive.selected(cloud.store, resource["label_selector"]["selector"])
    found = [{"type": "server", "server": {"id": server["id"]}} for server in servers]
    return {**resource, "applied_to_resources": found}


KIND: Final = Kind("firewall", "firewalls", view)


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /firewalls``, with rules and resources if the body has some."""
    body = request.body
    common = fields.common(cloud.store, "firewall", body)
    firewall = cloud.store.add("firewall", {**common, "rules": _rules(body), "applied_to": []})
    actions = [_rules_set(cloud, firewall), *_apply(cloud, firewall, body, "apply_to")]
    return KIND.answer(cloud, firewall, 201, actions=_shown(actions))


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /firewalls/{id}``: none that is applied to something."""
    if KIND.removable(cloud, request)["applied_to"]:
        raise ApiError("resource_in_use", f"firewall {request.id} is still in use")
    cloud.store.remove("firewall", request.id)
    return EMPTY


def set_rules(cloud: Cloud, request: Request) -> Answer:
    """``POST /firewalls/{id}/actions/set_rules``: instead of all that it has."""
    firewall = cloud.free("firewall", request.id)
    if "rules" not in request.body:
        raise invalid("rules", "is required")
    firewall["rules"] = _rules(request.body)
    servers = sorted(derive.firewalled(cloud.store, firewall))
    _check_servers(cloud, servers)
    actions = [_rules_set(cloud, firewall), *(_applied(cloud, firewall, s) for s in servers)]
    return Answer(201, {"actions": _shown(actions)})


def apply_to_resources(cloud: Cloud, request: Request) -> Answer:
    """``POST /firewalls/{id}/actions/apply_to_resources``."""
    firewall = cloud.free("firewall", request.id)
    actions = _apply(cloud, firewall, request.body, "apply_to")
    return Answer(201, {"actions": _shown(actions)})


def remove_from_resources(cloud: Cloud, request: Request) -> Answer:
    """``POST /firewalls/{id}/actions/remove_from_resources``; what it is not applied to is no error."""
    firewall = cloud.free("firewall", request.id)
    before = derive.firewalled(cloud.store, firewall)
    unwanted = [_resource(cloud, item, 404) for item in fields.items(request.body, "remove_from")]
    for resource in unwanted:
        if resource in firewall["applied_to"]:
            firewall["applied_to"].remove(resource)
        elif resource["type"] == "server" and resource["server"]["id"] in before:
            raise ApiError(
                "firewall_managed_by_label_selector", "firewall is applied by a label selector"
            )
    left = before - derive.firewalled(cloud.store, firewall)
    actions = [_begun(cloud, "remove_firewall", firewall, server) for server in sorted(left)]
    return Answer(201, {"actions": _shown(actions)})


def apply_to_new(cloud: Cloud, number: int, server: Record) -> None:
    """Apply a firewall to a server that is being made.

    Raises:
        ApiError: There is no such firewall, or the server has one or more too many.
    """
    firewall = cloud.store.find("firewall", number)
    if firewall is None:
        raise invalid("firewalls", f"firewall '{number}' not found")
    if not server["ipv4"] and not server["ipv6"]:
        raise ApiError("private_net_only_server", "the server has no public interface")
    resource = {"type": "server", "server": {"id": server["id"]}}
    if resource in firewall["applied_to"]:
        raise ApiError("server_already_added", "a firewall is named more than once")
    firewall["applied_to"].append(resource)
    _check_servers(cloud, [server["id"]])


def forget(cloud: Cloud, server: int) -> None:
    """Take a server that is gone out of all firewalls."""
    resource = {"type": "server", "server": {"id": server}}
    for firewall in cloud.store.all("firewall"):
        if resource in firewall["applied_to"]:
            firewall["applied_to"].remove(resource)


def _shown(actions: list[Record]) -> list[Record]:
    return [action_view(action) for action in actions]


def _rules_set(cloud: Cloud, firewall: Record) -> Record:
    return cloud.done("set_firewall_rules", ("firewall", firewall["id"]))


def _applied(cloud: Cloud, firewall: Record, server: int) -> Record:
    return _begun(cloud, "apply_firewall", firewall, server)


def _begun(cloud: Cloud, command: str, firewall: Record, server: int) -> Record:
    # Firewalls are changed beside a server's own actions: they neither wait for its lock nor take it.
    resources = (("firewall", firewall["id"]), ("server", server))
    return cloud.begin(command, *resources, locks=False)


def _apply(cloud: Cloud, firewall: Record, body: Record, key: str) -> list[Record]:
    before = derive.firewalled(cloud.store, firewall)
    for item in fields.items(body, key):
        resource = _resource(cloud, item, 404)
        if resource in firewall["applied_to"]:
            raise ApiError(
                "firewall_already_applied", "firewall is already applied to the resource"
            )
        firewall["applied_to"].append(resource)
    new = sorted(derive.firewalled(cloud.store, firewall) - before)
    _check_servers(cloud, new)
    return [_applied(cloud, firewall, server) for server in new]


def _resource(cloud: Cloud, item: Record, status: int) -> Record:
    kind = fields.choice(item, "type", ("server", "label_selector"))
    if kind == "label_selector":
        selector = fields.text(fields.part(item, "label_selector"), "selector")
        labels.selector(selector, "selector")
        return {"type": kind, "label_selector": {"selector": selector}}
    number = fields.number(fields.part(item, "server"), "id")
    server = cloud.store.find("server", number)
    if server is None:
        problem = f"server {number} not found"
        raise ApiError("firewall_resource_not_found", problem, status=status)
    if not server["ipv4"] and not server["ipv6"]:
        raise ApiError("private_net_only_server", f"server {number} has no public interface")
    return {"type": kind, "server": {"id": number}}


def _check_servers(cloud: Cloud, servers: list[int]) -> None:
    for number in servers:
        server = cloud.store.get("server", number)
        firewalls = derive.applied_firewalls(cloud.store, server)
        if len(firewalls) > _MOST_PER_SERVER:
            raise over_limit("firewall_limit", f"a server has {_MOST_PER_SERVER} firewalls at most")
        if sum(len(firewall["rules"]) for firewall in firewalls) > _MOST_EFFECTIVE:
            raise over_limit("rule_limit", f"a server has {_MOST_EFFECTIVE} rules at most")


def _rules(body: Record) -> list[Record]:
    rules = [_rule(rule) for rule in fields.items(body, "rules")]
    if len(rules) > _MOST_RULES:
        raise invalid("rules", f"must not hold more than {_MOST_RULES} rules")
    return rules


def _rule(body: Record) -> Record:
    direction = fields.choice(body, "direction", ("in", "out"))
    protocol = fields.choice(body, "protocol", _PROTOCOLS)
    used, unused = ("source_ips", "destination_ips")[:: 1 if direction == "in" else -1]
    addresses = fields.cidrs(body, used)
    if not addresses:
        raise invalid(used, f"is required for direction '{direction}'")
    if fields.items(body, unused):
        raise invalid(unused, f"must be empty for direction '{direction}'")
    return {
        "description": body.get("description"),
        "direction": direction,
        "protocol": protocol,
        "port": _port(body, protocol),
        used: addresses,
        unused: [],
    }


def _port(body: Record, protocol: str) -> str | None:
    port = body.get("port")
    if protocol not in ("tcp", "udp"):
        if port:
            raise invalid("port", f"must not be set for protocol '{protocol}'")
        return None
    if port == "any":
        return "any"
    found = _PORTS.fullmatch(str(port or ""))
    if not found:
        raise invalid("port", "must be a port, a range of ports or 'any'")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 < first <= last <= 65535:
        raise invalid("port", "must be between 1 and 65535, the lower one first")
    return str(port)
