"""Load balancers and their parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from hcloud.certificates import Certificate
from hcloud.load_balancer_types import LoadBalancerType
from hcloud.load_balancers import (
    LoadBalancerAlgorithm,
    LoadBalancerHealthCheck,
    LoadBalancerHealthCheckHttp,
    LoadBalancerService,
    LoadBalancerServiceHttp,
    LoadBalancerTarget,
    LoadBalancerTargetIP,
    LoadBalancerTargetLabelSelector,
)
from hcloud.locations import Location
from hcloud.servers import Server

from sandbox.engine.hetzner.api import absent
from sandbox.engine.hetzner.maker import Maker, Named
from sandbox.engine.hetzner.networks import attach, network_of
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError

HTTP_PORTS = {"http": 80, "https": 443}


class LoadBalancers(Named):
    """``hcloud:index/loadBalancer:LoadBalancer``."""

    plural = "load_balancers"
    takes = frozenset(
        [
            "name",
            "labels",
            "loadBalancerType",
            "location",
            "networkZone",
            "algorithm",
            "deleteProtection",
        ]
    )
    defaults: ClassVar[dict[str, Any]] = {"labels": {}, "deleteProtection": False}

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        place = wanted.get("location")
        return self.all.create(
            wanted["name"],
            LoadBalancerType(name=wanted["loadBalancerType"]),
            algorithm=_algorithm(wanted),
            labels=wanted["labels"],
            location=Location(name=place) if place else None,
            network_zone=None if place else wanted.get("networkZone"),
        )

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        place = found.location
        return {"location": (place.name,), "networkZone": (place.network_zone,)}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """See :meth:`Named.update`."""
        super().update(found, wanted)
        algorithm = _algorithm(wanted)
        if algorithm is not None and algorithm.type != found.algorithm.type:
            self.api.patiently(lambda: found.change_algorithm(algorithm))
        kind = wanted.get("loadBalancerType")
        if kind is not None and kind != found.load_balancer_type.name:
            self.api.patiently(lambda: found.change_type(LoadBalancerType(name=kind)))

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        private = (live.private_net or [None])[0]
        return {
            "ipv4": live.public_net.ipv4.ip,
            "ipv6": live.public_net.ipv6.ip,
            "location": live.location.name,
            "networkZone": live.location.network_zone,
            "algorithm": {"type": live.algorithm.type},
            "loadBalancerType": live.load_balancer_type.name,
            "networkId": private.network.id if private else None,
            "networkIp": private.ip if private else None,
            "deleteProtection": live.protection["delete"],
        }


def _algorithm(wanted: Mapping[str, Any]) -> LoadBalancerAlgorithm | None:
    kind = (wanted.get("algorithm") or {}).get("type")
    return LoadBalancerAlgorithm(kind) if kind else None


class Part(Maker):
    """What belongs to a load balancer."""

    def balancer(self, record: Record) -> Any:
        """The load balancer it belongs to.

        Raises:
            hcloud.APIException: there is none.
        """
        return self.client.load_balancers.get_by_id(int(record.inputs["loadBalancerId"]))


class BalancerNetworks(Part):
    """``hcloud:index/loadBalancerNetwork:LoadBalancerNetwork``."""

    takes = frozenset({"loadBalancerId", "networkId", "subnetId", "ip", "enablePublicInterface"})
    finds = ("loadBalancerId", "networkId", "subnetId")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`."""
        given, balancer = record.inputs, self.balancer(record)
        network, ip_range = network_of(given)
        found = balancer.private_net_for(network)
        if found is not None and given.get("ip") and found.ip != given["ip"]:
            self.api.patiently(lambda: balancer.detach_from_network(network))
            found = None
        if found is None:
            attach(self.api, lambda: balancer.attach_to_network(network, given.get("ip"), ip_range))
        public = given.get("enablePublicInterface")
        self._show(balancer, public is not False)
        balancer.reload()
        live = balancer.private_net_for(network)
        if live is None:
            raise EngineError(f"load balancer {balancer.name} lost its network just after")
        shown = {"ip": live.ip, "networkId": network.id, "loadBalancerId": balancer.id}
        return f"{balancer.id}-{network.id}", {
            **shown,
            "enablePublicInterface": public is not False,
        }

    def _show(self, balancer: Any, public: bool) -> None:
        if public and not balancer.public_net.enabled:
            self.api.patiently(balancer.enable_public_interface)
        elif not public and balancer.public_net.enabled:
            self.api.patiently(balancer.disable_public_interface)

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        balancer = absent(lambda: self.balancer(record))
        network, _ = network_of(record.inputs)
        if balancer is not None and balancer.private_net_for(network) is not None:
            absent(lambda: self.api.patiently(lambda: balancer.detach_from_network(network)))


class Services(Part):
    """``hcloud:index/loadBalancerService:LoadBalancerService``."""

    takes = frozenset(
        [
            "loadBalancerId",
            "protocol",
            "listenPort",
            "destinationPort",
            "proxyprotocol",
            "http",
            "healthCheck",
        ]
    )
    finds = ("loadBalancerId", "listenPort", "protocol")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`."""
        balancer, wanted = self.balancer(record), _service(record.inputs)
        found = _listening(balancer, wanted.listen_port)
        if found is None:
            self.api.patiently(lambda: balancer.add_service(wanted))
        elif not _within(wanted.to_payload(), found.to_payload()):
            self.api.patiently(lambda: balancer.update_service(wanted))
        balancer.reload()
        live = _listening(balancer, wanted.listen_port)
        if live is None:
            raise EngineError(f"load balancer {balancer.name} lost port {wanted.listen_port}")
        return f"{balancer.id}__{live.listen_port}", _told(live)

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        balancer = absent(lambda: self.balancer(record))
        if balancer is not None:
            found = _listening(balancer, _listen_port(record.inputs))
            if found is not None:
                absent(lambda: self.api.patiently(lambda: balancer.delete_service(found)))


def _listen_port(given: Mapping[str, Any]) -> int:
    port = given.get("listenPort") or HTTP_PORTS.get(given["protocol"])
    if port is None:
        raise EngineError("listenPort is needed where protocol is tcp")
    return int(port)


def _listening(balancer: Any, port: int | None) -> LoadBalancerService | None:
    found: list[LoadBalancerService] = [
        service for service in balancer.services or [] if service.listen_port == port
    ]
    return found[0] if found else None


def _service(given: Mapping[str, Any]) -> LoadBalancerService:
    port = given.get("destinationPort") or (80 if given["protocol"] in HTTP_PORTS else None)
    return LoadBalancerService(
        protocol=given["protocol"],
        listen_port=_listen_port(given),
        destination_port=int(port) if port is not None else None,
        proxyprotocol=bool(given.get("proxyprotocol")),
        health_check=_check(given["healthCheck"]) if given.get("healthCheck") else None,
        http=_http(given["http"]) if given.get("http") else None,
    )


def _check(given: Mapping[str, Any]) -> LoadBalancerHealthCheck:
    numbers = {key: int(given[key]) for key in ("port", "interval", "timeout", "retries")}
    http = given.get("http")
    return LoadBalancerHealthCheck(
        protocol=given["protocol"],
        http=LoadBalancerHealthCheckHttp(
            domain=http.get("domain"),
            path=http.get("path"),
            response=http.get("response"),
            status_codes=http.get("statusCodes"),
            tls=http.get("tls"),
        )
        if http
        else None,
        **numbers,
    )


def _http(given: Mapping[str, Any]) -> LoadBalancerServiceHttp:
    # The client's type says text; the API wants a number.
    lifetime: Any = int(given["cookieLifetime"]) if given.get("cookieLifetime") else None
    certificates: Any = [Certificate(id=int(one)) for one in given.get("certificates") or []]
    idle = given.get("timeoutIdle")
    return LoadBalancerServiceHttp(
        cookie_name=given.get("cookieName"),
        cookie_lifetime=lifetime,
        certificates=certificates,
        redirect_http=given.get("redirectHttp"),
        sticky_sessions=given.get("stickySessions"),
        timeout_idle=int(idle) if idle else None,
    )


def _within(wanted: Any, live: Any) -> bool:
    """Whether everything wanted is there; the API fills in what is left open."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_within(value, live.get(key)) for key, value in wanted.items())
    return bool(wanted == live)


def _told(live: LoadBalancerService) -> dict[str, Any]:
    check = live.health_check
    told: dict[str, Any] = {
        "listenPort": live.listen_port,
        "destinationPort": live.destination_port,
        "proxyprotocol": bool(live.proxyprotocol),
    }
    if check is not None:
        names = ("protocol", "port", "interval", "timeout", "retries")
        told["healthCheck"] = {name: getattr(check, name) for name in names}
        if check.http is not None:
            http = check.http
            told["healthCheck"]["http"] = {
                "domain": http.domain,
                "path": http.path,
                "response": http.response,
                "statusCodes": http.status_codes,
                "tls": http.tls,
            }
    return told


class Targets(Part):
    """``hcloud:index/loadBalancerTarget:LoadBalancerTarget``."""

    takes = frozenset({"loadBalancerId", "type", "serverId", "labelSelector", "ip", "usePrivateIp"})
    finds = ("loadBalancerId", "type", "serverId", "labelSelector", "ip")

    def make(self, record: Record, *, begun: bool) -> tuple[str, dict[str, Any]]:
        """See :meth:`Maker.make`; one that goes another way to its servers is made anew."""
        balancer, wanted = self.balancer(record), _target(record.inputs)
        found = _aimed(balancer, wanted)
        if found is not None and bool(found.use_private_ip) != bool(wanted.use_private_ip):
            self._remove(balancer, wanted)
            found = None
        if found is None:
            # The balancer's own attachment to the network may be a moment late.
            self.api.patiently(lambda: balancer.add_target(wanted), "service_error")
        return _target_id(wanted, balancer.id), {"loadBalancerId": balancer.id}

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`."""
        balancer = absent(lambda: self.balancer(record))
        if balancer is not None and _aimed(balancer, target := _target(record.inputs)) is not None:
            absent(lambda: self._remove(balancer, target))

    def _remove(self, balancer: Any, target: LoadBalancerTarget) -> None:
        # Which way it goes is no part of what it is known by.
        bare = LoadBalancerTarget(
            target.type, target.server, target.label_selector, target.ip, use_private_ip=None
        )
        self.api.patiently(lambda: balancer.remove_target(bare))


def _target(given: Mapping[str, Any]) -> LoadBalancerTarget:
    target = LoadBalancerTarget(type=given["type"])
    if target.type == "ip":
        target.ip = LoadBalancerTargetIP(given["ip"])
        return target
    target.use_private_ip = bool(given.get("usePrivateIp"))
    if target.type == "label_selector":
        target.label_selector = LoadBalancerTargetLabelSelector(given["labelSelector"])
    else:
        server: Any = Server(int(given["serverId"]))
        target.server = server
    return target


def _aim(target: LoadBalancerTarget) -> tuple[str | None, Any]:
    """What a target is known by."""
    if target.ip is not None:
        return target.type, target.ip.ip
    if target.label_selector is not None:
        return target.type, target.label_selector.selector
    return target.type, target.server.id if target.server is not None else None


def _aimed(balancer: Any, wanted: LoadBalancerTarget) -> LoadBalancerTarget | None:
    found: list[LoadBalancerTarget] = [
        target for target in balancer.targets or [] if _aim(target) == _aim(wanted)
    ]
    return found[0] if found else None


def _target_id(target: LoadBalancerTarget, balancer: int) -> str:
    kind, aim = _aim(target)
    if kind == "server":
        return f"lb-srv-tgt-{aim}-{balancer}"
    word = {"label_selector": "lb-label-selector-tgt", "ip": "lb-ip-tgt"}[str(kind)]
    return f"{word}-{hashlib.sha256(str(aim).encode()).hexdigest()}-{balancer}"
