"""The targets of load balancers."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, derive, fields, labels
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, over_limit
from sandbox.hetzner.store import Record

_KINDS: Final = ("server", "label_selector", "ip")


def add(cloud: Cloud, balancer: Record, body: Record) -> None:
    """Add a target.

    Raises:
        ApiError: It is there, cannot be reached, or there are too many.
    """
    target = {**_named(body), "use_private_ip": fields.flag(body, "use_private_ip", False)}
    if any(_same(target, other) for other in balancer["targets"]):
        raise ApiError("target_already_defined", "the target is already defined")
    _check_way(balancer, target)
    if target["type"] == "server":
        _check_server(cloud, balancer, target)
    most = catalog.balancer_type(balancer["type"]).targets
    if len(balancer["targets"]) >= most:
        raise over_limit("target_limit", f"a {balancer['type']} has {most} targets at most")
    balancer["targets"].append(target)


def remove(balancer: Record, body: Record) -> None:
    """Remove a target.

    Raises:
        ApiError: There is no such target.
    """
    unwanted = _named(body)
    kept = [target for target in balancer["targets"] if not _same(unwanted, target)]
    if len(kept) == len(balancer["targets"]):
        raise ApiError(
            "load_balancer_target_not_found", "load balancer target not found", status=404
        )
    balancer["targets"] = kept


def _named(body: Record) -> Record:
    kind = fields.choice(body, "type", _KINDS)
    part = fields.part(body, kind)
    if kind == "server":
        return {"type": kind, kind: {"id": fields.number(part, "id")}}
    if kind == "ip":
        return {"type": kind, kind: {"ip": str(fields.address(part, "ip"))}}
    selector = fields.text(part, "selector")
    labels.selector(selector, "selector")
    return {"type": kind, kind: {"selector": selector}}


def _same(one: Record, other: Record) -> bool:
    kind = one["type"]
    return bool(kind == other["type"] and one[kind] == other[kind])


def _check_way(balancer: Record, target: Record) -> None:
    if target["use_private_ip"] and not balancer["private_net"]:
        raise ApiError(
            "load_balancer_not_attached_to_network",
            "the load balancer is not attached to a network",
        )
    if not target["use_private_ip"] and not balancer["public"]:
        raise ApiError(
            "load_balancer_public_interface_disabled", "the public network interface is disabled"
        )


def _check_server(cloud: Cloud, balancer: Record, target: Record) -> None:
    server = cloud.store.find("server", target["server"]["id"])
    if server is None:
        raise invalid("server", f"server {target['server']['id']} not found")
    if not target["use_private_ip"]:
        if derive.public_address(cloud.store, server) is None:
            raise ApiError("missing_ipv4", "the server has no public IPv4 address")
    elif not derive.private_address(server, balancer["private_net"][0]["network"]):
        raise ApiError(
            "server_not_attached_to_network", "server and load balancer share no network"
        )
