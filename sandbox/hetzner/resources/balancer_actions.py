"""What load balancers can be asked to do."""

from __future__ import annotations

from sandbox.hetzner import catalog, fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError
from sandbox.hetzner.resources import (
    balancer_services,
    balancer_targets,
    load_balancers,
    networks,
)
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import Answer, Request, acted


def add_service(cloud: Cloud, request: Request) -> Answer:
    """``add_service``."""
    balancer_services.add(_free(cloud, request), request.body)
    return _begun(cloud, request, "add_service")


def update_service(cloud: Cloud, request: Request) -> Answer:
    """``update_service``: found by its listen port."""
    balancer_services.update(_free(cloud, request), request.body)
    return _begun(cloud, request, "update_service")


def delete_service(cloud: Cloud, request: Request) -> Answer:
    """``delete_service``."""
    balancer = _free(cloud, request)
    balancer["services"].remove(balancer_services.find(balancer, request.body))
    return _begun(cloud, request, "delete_service")


def add_target(cloud: Cloud, request: Request) -> Answer:
    """``add_target``."""
    balancer_targets.add(cloud, _free(cloud, request), request.body)
    return _begun(cloud, request, "add_target")


def remove_target(cloud: Cloud, request: Request) -> Answer:
    """``remove_target``."""
    balancer_targets.remove(_free(cloud, request), request.body)
    return _begun(cloud, request, "remove_target")


def attach_to_network(cloud: Cloud, request: Request) -> Answer:
    """``attach_to_network``: one at most."""
    balancer = _free(cloud, request)
    if balancer["private_net"]:
        raise ApiError("load_balancer_already_attached", "it is already attached to a network")
    networks.attach(cloud, "load_balancer", balancer, request.body)
    return _begun(cloud, request, "attach_to_network")


def detach_from_network(cloud: Cloud, request: Request) -> Answer:
    """``detach_from_network``; targets that are reached through it go too."""
    balancer = _free(cloud, request)
    number = fields.number(request.body, "network")
    balancer["private_net"].remove(networks.attached(balancer, number))
    balancer["targets"] = [t for t in balancer["targets"] if not t["use_private_ip"]]
    return _begun(cloud, request, "detach_from_network")


def change_algorithm(cloud: Cloud, request: Request) -> Answer:
    """``change_algorithm``; kept in the books only."""
    _free(cloud, request)["algorithm"] = load_balancers.algorithm(request.body)
    return _begun(cloud, request, "change_algorithm")


def change_type(cloud: Cloud, request: Request) -> Answer:
    """``change_type``: to one that has room for its services and targets."""
    balancer = _free(cloud, request)
    new = catalog.balancer_type(request.body.get("load_balancer_type"))
    if len(balancer["services"]) > new.services or len(balancer["targets"]) > new.targets:
        raise ApiError("invalid_load_balancer_type", f"{new.name} is too small")
    balancer["type"] = new.name
    return _begun(cloud, request, "change_load_balancer_type")


def enable_public_interface(cloud: Cloud, request: Request) -> Answer:
    """``enable_public_interface``."""
    _free(cloud, request)["public"] = True
    return _begun(cloud, request, "enable_public_interface")


def disable_public_interface(cloud: Cloud, request: Request) -> Answer:
    """``disable_public_interface``: only in a network, and with private targets only."""
    balancer = _free(cloud, request)
    if not balancer["private_net"]:
        raise ApiError("load_balancer_not_attached_to_network", "it is not attached to a network")
    if any(not target["use_private_ip"] for target in balancer["targets"]):
        raise ApiError("targets_without_use_private_ip", "it has targets that use the public IP")
    balancer["public"] = False
    return _begun(cloud, request, "disable_public_interface")


def _free(cloud: Cloud, request: Request) -> Record:
    return cloud.free("load_balancer", request.id)


def _begun(cloud: Cloud, request: Request, command: str) -> Answer:
    return acted(cloud.begin(command, ("load_balancer", request.id)))
