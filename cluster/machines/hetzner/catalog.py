"""What Hetzner offers, at what price, and what the cluster has there: asked in every preview.

``Catalog.fetch`` asks once; all the rest looks at the answers. What can't be made is a problem, told
before any resource exists. What is made already is not refused for being out of stock or withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from cluster.errors import Problem
from cluster.machines.hetzner.api import (
    CLUSTER_LABEL,
    NODE_LABEL,
    HetznerError,
    ask,
    entries,
    explained,
)
from cluster.machines.hetzner.comparison import Comparison
from cluster.machines.hetzner.prices import Price, Tariff
from cluster.settings import Settings


@dataclass(frozen=True)
class Location:
    """A place with servers; private networks stay within one network zone."""

    name: str
    city: str
    network_zone: str


@dataclass(frozen=True)
class Place:
    """A server type at one location.

    Attributes:
        available: whether a server of the type can be made there now.
        gone_after: when no more are made there, if that was announced.
    """

    available: bool
    gone_after: datetime | None


@dataclass(frozen=True)
class ServerType:
    """A size of servers; memory and disk in GB."""

    name: str
    architecture: str
    cpu_type: str
    cores: int
    memory: Decimal
    disk: int
    places: Mapping[str, Place]

    def replaces(self, other: ServerType) -> bool:
        """Whether it is another type with at least as much, on the same kind of processor."""
        return (
            self.name != other.name
            and self.architecture == other.architecture
            and self.cores >= other.cores
            and self.memory >= other.memory
            and (self.cpu_type == "dedicated" or other.cpu_type != "dedicated")
        )


@dataclass(frozen=True)
class Image:
    """A system image, by name for each architecture, or a snapshot of the project, by id."""

    id: int
    name: str | None
    architecture: str
    gone_after: datetime | None

    def __str__(self) -> str:
        return self.name or str(self.id)

    def is_called(self, text: str) -> bool:
        """Whether a stack file's ``image`` means this one."""
        return text in (self.name, str(self.id))


@dataclass(frozen=True)
class Server:
    """A server that the cluster has; ``image`` is None when Hetzner does not know it any more."""

    name: str
    server_type: str
    architecture: str
    disk: int
    location: str
    image: Image | None


@dataclass(frozen=True)
class Catalog:
    """What Hetzner's API said.

    Attributes:
        locations: by name.
        server_types: by name.
        images: system images, also withdrawn ones, and the project's snapshots.
        load_balancer_types: names.
        servers: the cluster's, by node.
        login_keys: public keys that are registered for the cluster, without comments.
        asked: when; deprecations are compared with it.
    """

    locations: Mapping[str, Location]
    server_types: Mapping[str, ServerType]
    images: Sequence[Image]
    load_balancer_types: Sequence[str]
    tariff: Tariff
    servers: Mapping[str, Server] = field(default_factory=dict)
    login_keys: Sequence[str] = ()
    asked: datetime = field(default_factory=partial(datetime.now, UTC))

    @classmethod
    def fetch(cls, token: str, endpoint: str, cluster: str) -> Catalog:
        """Ask Hetzner, everything side by side.

        Args:
            token: the project's API token.
            endpoint: the API's address.
            cluster: the cluster's name, as in its label.

        Raises:
            HetznerError: the API can't be reached or refuses, after bounded retries.
        """
        ours = {"label_selector": f"{CLUSTER_LABEL}={cluster}"}
        offered: dict[str, str | Sequence[str]] = {
            "type": ["system", "snapshot"],
            "include_deprecated": "true",
        }
        answers = ask(
            token,
            endpoint,
            [
                lambda client: entries(client, "locations"),
                lambda client: entries(client, "server_types"),
                lambda client: entries(client, "images", **offered),
                lambda client: entries(client, "load_balancer_types"),
                lambda client: entries(client, "servers", **ours),
                lambda client: entries(client, "ssh_keys", **ours),
                lambda client: [client.request("GET", "/pricing")["pricing"]],
            ],
        )
        with explained(endpoint):
            return cls.read(*answers)

    @classmethod
    def read(
        cls,
        locations: Sequence[Mapping[str, Any]],
        server_types: Sequence[Mapping[str, Any]],
        images: Sequence[Mapping[str, Any]],
        load_balancer_types: Sequence[Mapping[str, Any]],
        servers: Sequence[Mapping[str, Any]],
        ssh_keys: Sequence[Mapping[str, Any]],
        pricing: Sequence[Mapping[str, Any]],
    ) -> Catalog:
        """The API's answers as a catalog; ``pricing`` is the one price list."""
        return cls(
            locations={
                o["name"]: Location(o["name"], o["city"], o["network_zone"]) for o in locations
            },
            server_types={o["name"]: _server_type(o) for o in server_types},
            images=[_image(o) for o in images],
            load_balancer_types=[o["name"] for o in load_balancer_types],
            servers={
                o["labels"][NODE_LABEL]: _server(o) for o in servers if NODE_LABEL in o["labels"]
            },
            login_keys=[without_comment(o["public_key"]) for o in ssh_keys],
            tariff=Tariff.read(pricing[0]),
        )

    def missing(self, node: str) -> bool:
        """Whether the cluster has no server for a node."""
        return node not in self.servers

    def network_zone(self, settings: Settings) -> str:
        """The network zone that the servers' private network is made in.

        Raises:
            HetznerError: no node is at a location that Hetzner has; ``problems`` names them.
        """
        for node in settings.hetzner_nodes.values():
            if node.location in self.locations:
                return self.locations[str(node.location)].network_zone
        raise HetznerError(
            "no server is at a location of Hetzner Cloud",
            f"locations among {', '.join(self.locations)}",
            "correct hetzner.location",
        )

    def problems(self, settings: Settings) -> list[Problem]:
        """Everything that Hetzner would refuse, each at the setting that says it."""
        return Comparison(self, settings).problems()

    def warnings(self, settings: Settings, login_key: str | None = None) -> list[str]:
        """What does not change in place, or goes away one day.

        Args:
            settings: the stack's settings.
            login_key: the public half of the key that the program logs in with, if it is known.
        """
        return Comparison(self, settings).warnings(login_key)

    def price(self, settings: Settings) -> Price:
        """What the stack costs a month when it is as the settings say."""
        return self.tariff.price(settings)


def without_comment(public_key: str) -> str:
    """Type and key of an OpenSSH public key."""
    return " ".join(public_key.split()[:2])


def _server_type(answer: Mapping[str, Any]) -> ServerType:
    return ServerType(
        name=answer["name"],
        architecture=answer["architecture"],
        cpu_type=answer["cpu_type"],
        cores=answer["cores"],
        memory=Decimal(str(answer["memory"])),
        disk=answer["disk"],
        places={
            there["name"]: Place(there.get("available") is not False, _gone_after(there))
            for there in answer["locations"]
        },
    )


def _image(answer: Mapping[str, Any]) -> Image:
    return Image(answer["id"], answer["name"], answer["architecture"], _gone_after(answer))


def _gone_after(answer: Mapping[str, Any]) -> datetime | None:
    deprecation = answer.get("deprecation")
    return datetime.fromisoformat(deprecation["unavailable_after"]) if deprecation else None


def _server(answer: Mapping[str, Any]) -> Server:
    return Server(
        name=answer["name"],
        server_type=answer["server_type"]["name"],
        architecture=answer["server_type"]["architecture"],
        disk=answer["primary_disk_size"],
        location=answer["location"]["name"],
        image=_image(answer["image"]) if answer["image"] else None,
    )
