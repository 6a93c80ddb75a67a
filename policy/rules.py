"""What a stack has to keep to: pure functions of resources, which know nothing of who asks.

``__main__.py`` asks them for the engine, in a preview and before anything is made; ``state.py`` for the state
that a stack left, which shows more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

UNKNOWN = object()
"""In place of a value that is known only once something is made; rules ask again then."""

DIALS = ("command:remote:Command", "command:remote:CopyToRemote", "command:remote:CopyFile")
FIREWALL = "hcloud:index/firewall:Firewall"
SERVER = "hcloud:index/server:Server"
BALANCER_NETWORK = "hcloud:index/loadBalancerNetwork:LoadBalancerNetwork"
BALANCER_SERVICE = "hcloud:index/loadBalancerService:LoadBalancerService"
RELEASE = "kubernetes:helm.sh/v3:Release"
ROLE_LABEL = "own-kubernetes/role"

GUARDED = {22: "SSH", 6443: "the Kubernetes API"}
"""Ports that are for administrators and the cluster's own nodes."""

WIDEST = {4: 8, 6: 16}
"""Shortest prefix by IP version that still is somebody's network; a shorter one is a good part of the world."""


@dataclass(frozen=True)
class Resource:
    """A resource as rules see it.

    Attributes:
        type: its type.
        urn: its URN.
        props: its properties, in clear, by the names that providers know.
        refers: by property, the URNs of the resources that it is made of.
        deleted_with: the URN of what takes it along when deleted, "" for nothing; None where that is not told.
    """

    type: str
    urn: str
    props: Mapping[str, Any]
    refers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deleted_with: str | None = None


@dataclass(frozen=True)
class Rule:
    """A rule about one resource: ``check`` yields what is wrong with it."""

    name: str
    description: str
    check: Callable[[Resource], Iterable[str]]


@dataclass(frozen=True)
class StackRule:
    """A rule about how resources go together: ``check`` yields what is wrong, each with its resource."""

    name: str
    description: str
    check: Callable[[Sequence[Resource]], Iterable[tuple[Resource, str]]]


def closed_to_the_world(resource: Resource) -> Iterator[str]:
    """A Hetzner firewall's rules."""
    if resource.type != FIREWALL:
        return
    for rule in _entries(resource.props.get("rules")):
        if rule.get("direction") == "in" and rule.get("protocol") == "tcp":
            wide = [source for source in _entries(rule.get("sourceIps")) if _is_world(source)]
            for port, what in GUARDED.items():
                if wide and _covers(rule.get("port"), port):
                    yield (
                        f"port {port} ({what}) is open to {', '.join(wide)}. Expected: administrators' "
                        "networks only. Remedy: name them in adminCidrs."
                    )


def behind_a_firewall(resource: Resource) -> Iterator[str]:
    """A Hetzner server without a firewall has every port open to the world."""
    if resource.type == SERVER and not resource.props.get("firewallIds"):
        yield "the server has no firewall. Expected: one. Remedy: give it firewallIds."


def control_plane_protected(resource: Resource) -> Iterator[str]:
    """At the API, as a resource that is protected in Pulumi could neither be replaced nor destroyed."""
    if resource.type != SERVER or _role(resource) != "control-plane":
        return
    for key in ("deleteProtection", "rebuildProtection"):
        if resource.props.get(key) not in (True, UNKNOWN):
            yield (
                f"{key} is off: a slip in Hetzner's console would cost etcd a member. Expected: true. "
                "Remedy: set it."
            )


def host_key_checked(resource: Resource) -> Iterator[str]:
    """Without a host key pulumi-command takes whoever answers for the host."""
    if resource.type not in DIALS:
        return
    connection = resource.props.get("connection")
    for name, dialled in (("connection", connection), ("connection.proxy", _proxy(connection))):
        if isinstance(dialled, Mapping) and not dialled.get("hostKey"):
            yield f"{name}.hostKey is missing. Expected: the host's SSH public key. Remedy: set it."


def images_pinned(resource: Resource) -> Iterator[str]:
    """What runs in the cluster is what was reviewed: containers, and charts that bring containers."""
    if not resource.type.startswith("kubernetes:"):
        return
    for image in _images(resource.props):
        if not is_pinned(image):
            yield (
                f"image {image} may be another one tomorrow. Expected: a tag other than latest, or a digest. "
                "Remedy: write name:tag or name@sha256:..."
            )
    version = resource.props.get("version")
    if resource.type == RELEASE and version is not UNKNOWN and not _is_exact(version):
        yield f"chart version {version!r}. Expected: an exact one, like 1.2.3. Remedy: set it."


def api_balancer_private(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """A load balancer hides where a client comes from: past it, no firewall knows administrators."""
    private = {
        urn
        for resource in resources
        if resource.type == BALANCER_NETWORK
        and resource.props.get("enablePublicInterface") in (False, UNKNOWN)
        for urn in resource.refers.get("loadBalancerId", ())
    }
    for resource in resources:
        port = resource.props.get("listenPort")
        if resource.type != BALANCER_SERVICE or not isinstance(port, int | float):
            continue
        if int(port) in GUARDED and not private.intersection(
            resource.refers.get("loadBalancerId", ())
        ):
            yield (
                resource,
                f"port {int(port)} ({GUARDED[int(port)]}) of a public load balancer. Expected: in the private "
                "network only. Remedy: set enablePublicInterface of its network to false.",
            )


def goes_with_its_machine(resource: Resource) -> Iterator[str]:
    """Else one host that is gone is in the way of every destroy, as its commands can't be undone."""
    if resource.type in DIALS and resource.deleted_with == "":
        yield "no deleted_with. Expected: the machine that it runs on, or what gives that back."


RULES = (
    Rule(
        "closed-to-the-world",
        "SSH and the Kubernetes API are for administrators only.",
        closed_to_the_world,
    ),
    Rule("behind-a-firewall", "Every server is behind a firewall.", behind_a_firewall),
    Rule(
        "control-plane-protected",
        "Control planes can't be deleted by a slip.",
        control_plane_protected,
    ),
    Rule("host-key-checked", "Every SSH connection checks the host's key.", host_key_checked),
    Rule("images-pinned", "Images and charts are of a fixed version.", images_pinned),
)

STACK_RULES = (
    StackRule(
        "api-balancer-private", "No public load balancer leads to the API.", api_balancer_private
    ),
)

STATE_RULES = (
    Rule(
        "goes-with-its-machine", "What was done on a machine ends with it.", goes_with_its_machine
    ),
)
"""About what the engine does not tell policies, but keeps in the state."""


def _entries(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _role(resource: Resource) -> Any:
    labels = resource.props.get("labels")
    return labels.get(ROLE_LABEL) if isinstance(labels, Mapping) else None


def _proxy(connection: Any) -> Any:
    return connection.get("proxy") if isinstance(connection, Mapping) else None


def _is_world(source: Any) -> bool:
    if not isinstance(source, str):
        return False
    network = ip_network(source, strict=False)
    return network.prefixlen < WIDEST[network.version]


def _covers(ports: Any, port: int) -> bool:
    """Whether a port is in ``22``, ``20-30`` or ``any``."""
    if not isinstance(ports, str):
        return False
    first, _, last = ports.partition("-")
    return ports == "any" or int(first) <= port <= int(last or first)


def _images(value: Any) -> Iterator[str]:
    """Of containers, and of a chart's values, where an image may be a map with a tag of its own."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "image" and isinstance(item, str):
                yield item
            elif key == "image" and isinstance(item, Mapping) and isinstance(item.get("tag"), str):
                yield f"{item.get('repository', 'image')}:{item['tag']}"
            else:
                yield from _images(item)
    for item in _entries(value):
        yield from _images(item)


def is_pinned(image: str) -> bool:
    """Whether an image's reference always means the same one: a port is no tag.

    >>> is_pinned("registry:5000/app"), is_pinned("registry:5000/app:1.0")
    (False, True)
    """
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return digest.startswith("sha256:") or tag not in ("", "latest")


def _is_exact(version: Any) -> bool:
    return isinstance(version, str) and bool(re.fullmatch(r"v?\d+\.\d+\.\d+([-+].*)?", version))
