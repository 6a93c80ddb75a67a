"""Checks of what a request's body holds: types, names, addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, Final

from sandbox.hetzner import labels
from sandbox.hetzner.errors import invalid, taken
from sandbox.hetzner.store import Record, Store

_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]"
    r"([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)
_VOLUME: Final = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?")
_PRIVATE: Final = tuple(
    IPv4Network(private) for private in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_NAME_LIMITS: Final = {"server": 63, "volume": 64, "network": 128, "firewall": 128}
_NAME_LIMIT: Final = 128


def name(store: Store, kind: str, body: Record, own: int | None = None) -> str:
    """A resource's name: well-formed and not taken.

    Args:
        store: The books.
        kind: What the resource is.
        body: The request's body.
        own: The id of the resource if it has one; it may keep its name.

    Raises:
        ApiError: It is missing, badly formed or taken.
    """
    wanted = text(body, "name")
    limit = _NAME_LIMITS.get(kind, _NAME_LIMIT)
    if len(wanted) > limit:
        raise invalid("name", f"must not be longer than {limit} characters")
    if wanted != wanted.strip():
        raise invalid("name", "must not start or end with white space")
    if kind == "server" and not _HOST.fullmatch(wanted):
        raise invalid("name", "must be a valid hostname")
    if kind == "volume" and not _VOLUME.fullmatch(wanted):
        raise invalid("name", "must hold letters, digits, dashes, underscores and dots only")
    if any(other["name"] == wanted and other["id"] != own for other in store.all(kind)):
        raise taken("name", f"{kind.replace('_', ' ')} with the name '{wanted}' already exists")
    return wanted


def text(body: Record, key: str) -> str:
    """A string that must be there and not empty."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise invalid(key, "is required")
    return value


def choice(body: Record, key: str, choices: Sequence[str], default: str | None = None) -> str:
    """One of several strings."""
    value = body.get(key, default)
    if value not in choices:
        raise invalid(key, f"must be one of {', '.join(choices)}")
    return str(value)


def number(body: Record, key: str, least: int = 1, most: int = 1 << 53) -> int:
    """A whole number that must be there."""
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(key, "must be a number")
    if not least <= value <= most:
        raise invalid(key, f"must be between {least} and {most}")
    return value


def flag(body: Record, key: str, default: bool) -> bool:
    """A boolean; null is the default."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise invalid(key, "must be a boolean")
    return value


def items(body: Record, key: str) -> list[Any]:
    """A list; missing and null are the empty one."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(key, "must be an array")
    return value


def part(body: Record, key: str) -> Record:
    """An object; missing and null are the empty one."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(key, "must be an object")
    return value


def address(body: Record, key: str) -> IPv4Address:
    """An IPv4 address that must be there."""
    try:
        return IPv4Address(body.get(key, ""))
    except ValueError:
        raise invalid(key, "must be an IPv4 address") from None


def ip_range(body: Record, key: str, longest: int) -> IPv4Network:
    """A private IPv4 network in CIDR notation.

    Args:
        body: The request's body.
        key: The field.
        longest: Greatest length of the prefix.
    """
    try:
        network = IPv4Network(body.get(key, ""))
    except ValueError:
        raise invalid(key, "must be an IPv4 network in CIDR notation") from None
    if not any(network.subnet_of(private) for private in _PRIVATE):
        raise invalid(key, "must be in a private network of RFC 1918")
    if network.prefixlen > longest:
        raise invalid(key, f"must not be smaller than /{longest}")
    return network


def cidrs(body: Record, key: str) -> list[str]:
    """Up to 100 networks, IPv4 or IPv6, whose host bits are zero."""
    values = items(body, key)
    if len(values) > 100:
        raise invalid(key, "must not hold more than 100 networks")
    for value in values:
        try:
            ip_network(value if "/" in value else "")
        except (TypeError, ValueError):
            raise invalid(key, f"'{value}' is not a network in CIDR notation") from None
    return [str(value) for value in values]


def common(store: Store, kind: str, body: Record) -> Record:
    """The fields that every new resource has: name and labels."""
    return {"name": name(store, kind, body), "labels": labels.check(body.get("labels"))}


def rename(store: Store, kind: str, record: Record, body: Record) -> None:
    """Update what every resource can update: name and labels."""
    if body.get("name"):
        record["name"] = name(store, kind, body, record["id"])
    if "labels" in body:
        record["labels"] = labels.check(body["labels"])
