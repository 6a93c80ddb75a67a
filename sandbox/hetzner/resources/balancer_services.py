"""The services of load balancers: ports, protocols and health checks."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, fields
from sandbox.hetzner.errors import ApiError, over_limit
from sandbox.hetzner.store import Record

_PROTOCOLS: Final = ("tcp", "http", "https")
_PORTS: Final = {"http": (80, 80), "https": (443, 80)}
"""Listen and destination port where a request names none."""


def add(balancer: Record, body: Record) -> None:
    """Add a service; ``http`` and ``https`` are balanced like ``tcp`` in the sandbox.

    Raises:
        ApiError: The port is taken, there are too many, or something is not as it must be.
    """
    protocol = fields.choice(body, "protocol", _PROTOCOLS)
    listen, destination = _PORTS.get(protocol, (None, None))
    ports = {"listen_port": listen, "destination_port": destination, **_given(body)}
    service: Record = {
        "protocol": protocol,
        "listen_port": fields.number(ports, "listen_port", 1, 65535),
        "destination_port": fields.number(ports, "destination_port", 1, 65535),
        "proxyprotocol": fields.flag(body, "proxyprotocol", False),
        "http": _http(fields.part(body, "http")) if protocol != "tcp" else None,
    }
    check = fields.part(body, "health_check")
    service["health_check"] = _check(check, protocol, service["destination_port"])
    if any(other["listen_port"] == service["listen_port"] for other in balancer["services"]):
        raise ApiError("source_port_already_used", "the listen port is already in use")
    most = catalog.balancer_type(balancer["type"]).services
    if len(balancer["services"]) >= most:
        raise over_limit("service_limit", f"a {balancer['type']} has {most} services at most")
    balancer["services"].append(service)


def find(balancer: Record, body: Record) -> Record:
    """The service that listens where a request says.

    Raises:
        ApiError: There is none.
    """
    port = fields.number(body, "listen_port", 1, 65535)
    for service in balancer["services"]:
        if service["listen_port"] == port:
            found: Record = service
            return found
    raise ApiError("not_found", f"load balancer {balancer['id']} has no service at port {port}")


def update(balancer: Record, body: Record) -> None:
    """Change what a request names of a service."""
    service = find(balancer, body)
    service["protocol"] = fields.choice(body, "protocol", _PROTOCOLS, service["protocol"])
    merged = {**service, **_given(body)}
    service["destination_port"] = fields.number(merged, "destination_port", 1, 65535)
    service["proxyprotocol"] = fields.flag(body, "proxyprotocol", service["proxyprotocol"])
    if service["protocol"] != "tcp":
        service["http"] = _http({**(service["http"] or {}), **_given(fields.part(body, "http"))})
    check = {**service["health_check"], **_given(fields.part(body, "health_check"))}
    service["health_check"] = _check(check, service["protocol"], service["destination_port"])


def _given(body: Record) -> Record:
    return {key: value for key, value in body.items() if value is not None}


def _http(body: Record) -> Record:
    defaults = {
        "cookie_name": "HCLBSTICKY",
        "cookie_lifetime": 300,
        "certificates": [],
        "redirect_http": False,
        "sticky_sessions": False,
        "timeout_idle": 50,
    }
    return {**defaults, **_given(body)}


def _check(body: Record, service: str, port: int) -> Record:
    given = {"port": port, "interval": 15, "timeout": 10, "retries": 3, **_given(body)}
    protocol = fields.choice(
        given, "protocol", ("tcp", "http"), "tcp" if service == "tcp" else "http"
    )
    http = {"domain": "", "path": "/", "response": "", "status_codes": ["2??", "3??"], "tls": False}
    return {
        "protocol": protocol,
        "port": fields.number(given, "port", 1, 65535),
        "interval": fields.number(given, "interval", 3, 60),
        "timeout": fields.number(given, "timeout", 1, 60),
        "retries": fields.number(given, "retries", 1, 5),
        "http": {**http, **_given(fields.part(given, "http"))} if protocol == "http" else None,
    }
