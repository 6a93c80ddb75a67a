"""What can be ordered: locations, server types, images, load balancer types.

Names, sizes and where what is offered are as at Hetzner in autumn 2026, in excerpts. The prices are
not: a month costs as many euros as a server type has cores, so that nobody takes them for real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sandbox.hetzner.errors import invalid
from sandbox.hetzner.store import Record

_VAT: Final = Decimal("0.19")
_HOURS: Final = 625
"""Hours after which a month's price is reached."""
_TERABYTE: Final = 1 << 40


@dataclass(frozen=True)
class ServerType:
    """A kind of server.

    Args:
        id: Its id.
        name: Its name.
        cores: Processors.
        memory: Main memory in GB.
        disk: Disk in GB.
        locations: Names of the locations that have it.
        arm: Its architecture is arm, not x86.
        dedicated: Its processors are not shared.
        gone: It cannot be ordered any more since this time.
    """

    id: int
    name: str
    cores: int
    memory: int
    disk: int
    locations: tuple[str, ...]
    arm: bool = False
    dedicated: bool = False
    gone: str | None = None

    @property
    def architecture(self) -> str:
        """``arm`` or ``x86``."""
        return "arm" if self.arm else "x86"


@dataclass(frozen=True)
class BalancerType:
    """A size of load balancer.

    Args:
        id: Its id.
        name: Its name.
        connections: Most connections at once.
        services: Most services.
        targets: Most targets.
        certificates: Most certificates.
        price: Euros a month.
    """

    id: int
    name: str
    connections: int
    services: int
    targets: int
    certificates: int
    price: int


def _location(
    number: int, name: str, city: str, country: str, where: tuple[float, float], zone: str
) -> Record:
    return {
        "id": number,
        "name": name,
        "description": f"{city} DC Park 1",
        "country": country,
        "city": city,
        "latitude": where[0],
        "longitude": where[1],
        "network_zone": zone,
    }


LOCATIONS: Final[tuple[Record, ...]] = (
    _location(1, "fsn1", "Falkenstein", "DE", (50.47612, 12.370071), "eu-central"),
    _location(2, "nbg1", "Nuremberg", "DE", (49.452102, 11.076665), "eu-central"),
    _location(3, "hel1", "Helsinki", "FI", (60.169855, 24.938379), "eu-central"),
    _location(4, "ash", "Ashburn, VA", "US", (39.045821, -77.487073), "us-east"),
    _location(5, "hil", "Hillsboro, OR", "US", (45.54222, -122.951924), "us-west"),
    _location(6, "sin", "Singapore", "SG", (1.283333, 103.833333), "ap-southeast"),
)
ZONES: Final = frozenset(str(location["network_zone"]) for location in LOCATIONS)
_ALL: Final = tuple(str(location["name"]) for location in LOCATIONS)
_EUROPE: Final = _ALL[:3]

SERVER_TYPES: Final = (
    ServerType(45, "cax11", 2, 4, 40, _EUROPE, arm=True),
    ServerType(93, "cax21", 4, 8, 80, _EUROPE, arm=True),
    ServerType(94, "cax31", 8, 16, 160, _EUROPE, arm=True),
    ServerType(96, "ccx13", 2, 8, 80, _ALL, dedicated=True),
    ServerType(97, "ccx23", 4, 16, 160, _ALL, dedicated=True),
    ServerType(104, "cx22", 2, 4, 40, _EUROPE, gone="2026-01-01T00:00:00Z"),
    ServerType(108, "cpx11", 2, 2, 40, _ALL[3:]),
    ServerType(109, "cpx22", 2, 4, 80, _EUROPE + _ALL[5:]),
    ServerType(110, "cpx32", 4, 8, 160, _EUROPE + _ALL[5:]),
    ServerType(114, "cx23", 2, 4, 40, _EUROPE),
    ServerType(115, "cx33", 4, 8, 80, _EUROPE),
    ServerType(116, "cx43", 8, 16, 160, _EUROPE),
)

BALANCER_TYPES: Final = (
    BalancerType(1, "lb11", 10_000, 5, 25, 10, 5),
    BalancerType(2, "lb21", 20_000, 15, 75, 25, 10),
    BalancerType(3, "lb31", 40_000, 30, 150, 50, 20),
)


def _image(number: int, flavor: str, version: str, arm: bool) -> Record:
    return {
        "id": number,
        "type": "system",
        "status": "available",
        "name": f"{flavor}-{version}",
        "description": f"{flavor.capitalize()} {version}",
        "image_size": None,
        "disk_size": 5,
        "created": "2025-09-01T00:00:00Z",
        "created_from": None,
        "bound_to": None,
        "os_flavor": flavor,
        "os_version": version,
        "architecture": "arm" if arm else "x86",
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deleted": None,
        "labels": {},
        "deprecated": None,
        "deprecation": None,
    }


IMAGES: Final = (
    _image(114690387, "debian", "12", arm=False),
    _image(114690389, "debian", "12", arm=True),
    _image(161547269, "ubuntu", "24.04", arm=False),
    _image(161547270, "ubuntu", "24.04", arm=True),
    _image(310557660, "debian", "13", arm=False),
    _image(310557661, "debian", "13", arm=True),
)

ISOS: Final[tuple[Record, ...]] = (
    {
        "id": 8637,
        "name": "debian-13.1.0-amd64-netinst.iso",
        "description": "Debian 13.1 (amd64/netinstall)",
        "type": "public",
        "architecture": "x86",
        "deprecation": None,
    },
)


def location(wanted: Any, field: str = "location") -> Record:
    """A location by name or id.

    Raises:
        ApiError: There is none; names the request's ``field``.
    """
    for found in LOCATIONS:
        if wanted in (found["name"], found["id"]) or wanted == str(found["id"]):
            return found
    raise invalid(field, f"unknown location '{wanted}'")


def server_type(wanted: Any) -> ServerType:
    """A server type by name or id.

    Raises:
        ApiError: There is none.
    """
    for found in SERVER_TYPES:
        if wanted in (found.name, found.id) or wanted == str(found.id):
            return found
    raise invalid("server_type", f"unknown server type '{wanted}'")


def balancer_type(wanted: Any) -> BalancerType:
    """A load balancer type by name or id.

    Raises:
        ApiError: There is none.
    """
    for found in BALANCER_TYPES:
        if wanted in (found.name, found.id) or wanted == str(found.id):
            return found
    raise invalid("load_balancer_type", f"unknown load balancer type '{wanted}'")


def image(wanted: Any, architecture: str) -> Record:
    """An image by name, of an architecture, or by id.

    Raises:
        ApiError: There is none, or the id's is for another architecture.
    """
    known = [found for found in IMAGES if wanted in (found["name"], found["id"], str(found["id"]))]
    if not known:
        raise invalid("image", f"unknown image '{wanted}'")
    for found in known:
        if found["architecture"] == architecture:
            return found
    raise invalid("image", f"image '{wanted}' is not for the server type's {architecture}")


def image_by_id(number: int) -> Record:
    """The image that a server was made from."""
    return next(found for found in IMAGES if found["id"] == number)


def server_type_body(kind: ServerType, unavailable: Sequence[Sequence[str]]) -> Record:
    """A server type as the API shows it.

    Args:
        kind: The type.
        unavailable: Pairs of type and location that cannot be had now.
    """
    deprecation = _deprecation(kind.gone)
    return {
        "id": kind.id,
        "name": kind.name,
        "description": kind.name.upper(),
        "category": "General Purpose" if kind.dedicated else "Cost-Optimized",
        "cores": kind.cores,
        "memory": float(kind.memory),
        "disk": kind.disk,
        "storage_type": "local",
        "cpu_type": "dedicated" if kind.dedicated else "shared",
        "architecture": kind.architecture,
        "included_traffic": 0,
        "prices": _prices(Decimal(kind.cores), kind.locations),
        "deprecated": kind.gone is not None,
        "deprecation": deprecation,
        "locations": [
            {
                "id": location(name)["id"],
                "name": name,
                "recommended": kind.gone is None,
                "available": kind.gone is None and [kind.name, name] not in unavailable,
                "deprecation": deprecation,
            }
            for name in kind.locations
        ],
    }


def balancer_type_body(kind: BalancerType) -> Record:
    """A load balancer type as the API shows it."""
    return {
        "id": kind.id,
        "name": kind.name,
        "description": kind.name.upper(),
        "max_connections": kind.connections,
        "max_services": kind.services,
        "max_targets": kind.targets,
        "max_assigned_certificates": kind.certificates,
        "prices": _prices(Decimal(kind.price), _ALL),
        "deprecated": None,
        "deprecation": None,
    }


def pricing() -> Record:
    """All prices, as ``GET /pricing`` has them."""
    types: Mapping[str, Decimal] = {"ipv4": Decimal("0.5"), "ipv6": Decimal(0)}
    floating = {"ipv4": Decimal(3), "ipv6": Decimal(1)}
    return {
        "currency": "EUR",
        "vat_rate": f"{_VAT * 100:.2f}",
        "image": {"price_per_gb_month": _price(Decimal("0.01"))},
        "floating_ip": {"price_monthly": _price(floating["ipv4"])},
        "floating_ips": [
            {
                "type": kind,
                "prices": [{"location": name, "price_monthly": _price(net)} for name in _ALL],
            }
            for kind, net in floating.items()
        ],
        "primary_ips": [
            {"type": kind, "prices": [_at(name, net) for name in _ALL]}
            for kind, net in types.items()
        ],
        "traffic": {"price_per_tb": _price(Decimal(1))},
        "server_backup": {"percentage": "20.00"},
        "server_types": [
            {"id": t.id, "name": t.name, "prices": _prices(Decimal(t.cores), t.locations)}
            for t in SERVER_TYPES
        ],
        "load_balancer_types": [
            {"id": t.id, "name": t.name, "prices": _prices(Decimal(t.price), _ALL)}
            for t in BALANCER_TYPES
        ],
        "volume": {"price_per_gb_month": _price(Decimal("0.05"))},
    }


def _prices(net: Decimal, locations: Sequence[str]) -> list[Record]:
    traffic = {"included_traffic": 20 * _TERABYTE, "price_per_tb_traffic": _price(Decimal(1))}
    return [{**_at(name, net), **traffic} for name in locations]


def _at(name: str, net: Decimal) -> Record:
    return {"location": name, "price_hourly": _price(net / _HOURS), "price_monthly": _price(net)}


def _price(net: Decimal) -> dict[str, str]:
    """Net and gross, with as many digits as the API writes.

    >>> _price(Decimal(2))
    {'net': '2.0000000000', 'gross': '2.3800000000000000'}
    """
    return {"net": f"{net:.10f}", "gross": f"{net * (1 + _VAT):.16f}"}


def _deprecation(gone: str | None) -> dict[str, str] | None:
    return (
        None if gone is None else {"announced": "2025-10-16T00:00:00Z", "unavailable_after": gone}
    )
