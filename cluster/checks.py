"""How settings must go together: each rule yields the problems it finds, none raises.

The rules and their numbers are those a cluster can't be made without: kubeadm, Flannel and MetalLB
would refuse or, worse, accept and not work. They run in a preview, before any resource exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from cluster import versions
from cluster.errors import Problem

if TYPE_CHECKING:
    from cluster.settings import Settings

NODE_SUBNET_PREFIX = 24
"""kube-controller-manager gives every node a /24 of the pod CIDR (``--node-cidr-mask-size``)."""

LOAD_BALANCER_SERVICES = ("ingress", "hello-world")
"""The Services of type LoadBalancer that this program makes; each takes one address of the pools."""

SERVICE_CIDR_LARGEST_PREFIX = 12
"""kube-apiserver takes no service range of more than 20 host bits."""


def problems(settings: Settings) -> list[Problem]:
    """Every problem of the settings, in the order of the rules."""
    return [problem for rule in RULES for problem in rule(settings)]


def overlapping_networks(settings: Settings) -> Iterator[Problem]:
    """Pod, service and node networks are three different ones."""
    networks = {
        "podCidr": settings.pod_cidr,
        "serviceCidr": settings.service_cidr,
        "nodeCidr": settings.node_cidr,
    }
    for (key, one), (other_key, other) in itertools.combinations(networks.items(), 2):
        if one.overlaps(other):
            yield Problem(
                key,
                str(one),
                f"a network apart from {other_key} ({other})",
                f"choose another network for {key} or {other_key}",
            )


def small_pod_network(settings: Settings) -> Iterator[Problem]:
    """Each node takes a /24 of the pod network."""
    room = 2 ** max(0, NODE_SUBNET_PREFIX - settings.pod_cidr.prefixlen)
    if settings.pod_cidr.prefixlen > NODE_SUBNET_PREFIX:
        room = 0
    if room < len(settings.nodes):
        yield Problem(
            "podCidr",
            str(settings.pod_cidr),
            f"room for a /{NODE_SUBNET_PREFIX} for each of {len(settings.nodes)} nodes "
            f"(it has {room})",
            "choose a larger network, like 10.244.0.0/16",
        )


def service_network_size(settings: Settings) -> Iterator[Problem]:
    """kube-apiserver bounds the service network's size; CoreDNS takes its tenth address."""
    if not SERVICE_CIDR_LARGEST_PREFIX <= settings.service_cidr.prefixlen <= 28:
        yield Problem(
            "serviceCidr",
            str(settings.service_cidr),
            f"a prefix length from {SERVICE_CIDR_LARGEST_PREFIX} to 28",
            "choose a network like 10.96.0.0/12",
        )


def pool_addresses(settings: Settings) -> Iterator[Problem]:
    """Pools lie in the nodes' network, apart from each other and from the nodes."""
    network = settings.node_cidr
    reserved = {
        network.network_address: "the network's address",
        network.broadcast_address: "the broadcast address",
    }
    for number, pool in enumerate(settings.load_balancer_pools):
        key = f"loadBalancerPools.{number}"
        if pool.first not in network or pool.last not in network:
            yield Problem(
                key,
                str(pool),
                f"addresses in the nodes' network, nodeCidr ({network}): "
                "layer-2 announcements reach no further",
                "choose free addresses of that network",
            )
        taken = {
            **reserved,
            **{a: f"node {name}" for name, node in settings.nodes.items() for a in node.addresses},
        }
        for address, owner in taken.items():
            if address in pool:
                yield Problem(
                    key, str(pool), f"a pool without {address} ({owner})", "leave that address out"
                )
    pairs = itertools.combinations(enumerate(settings.load_balancer_pools), 2)
    for (one, first), (two, second) in pairs:
        if first.first <= second.last and second.first <= first.last:
            yield Problem(
                f"loadBalancerPools.{two}",
                str(second),
                f"a pool apart from loadBalancerPools.{one} ({first})",
                "let no two pools share an address",
            )


def pool_size(settings: Settings) -> Iterator[Problem]:
    """A Service of type LoadBalancer without an address waits for ever."""
    size = sum(map(len, settings.load_balancer_pools))
    if size < len(LOAD_BALANCER_SERVICES):
        yield Problem(
            "loadBalancerPools",
            [str(pool) for pool in settings.load_balancer_pools],
            f"at least {len(LOAD_BALANCER_SERVICES)} addresses, one for each LoadBalancer Service "
            f"({', '.join(LOAD_BALANCER_SERVICES)}); there are {size}",
            "add addresses of the nodes' network that nothing else uses",
        )


def node_addresses(settings: Settings) -> Iterator[Problem]:
    """Every node has an address of its own, and the nodes' network holds it."""
    seen: dict[tuple[str, int], str] = {}
    inner: dict[IPv4Address, str] = {}
    for name, node in settings.nodes.items():
        key = f"nodes.{name}.address"
        place = (node.address, node.port or settings.ssh_port)
        same_place = place in seen
        if same_place:
            yield _twice(key, node.address, seen[place])
        seen[place] = name
        if not node.addresses:
            yield Problem(
                f"nodes.{name}.privateAddress",
                "",
                f"the node's IPv4 address, as its SSH address {node.address} is a name or IPv6",
                f"set nodes.{name}.privateAddress",
            )
            continue
        address = node.internal_address
        inner_key = f"nodes.{name}.{'privateAddress' if node.private_address else 'address'}"
        if address in inner and not same_place:
            yield _twice(inner_key, str(address), inner[address])
        inner[address] = name
        if address not in settings.node_cidr:
            yield Problem(
                inner_key,
                str(address),
                f"an address in the nodes' network, nodeCidr ({settings.node_cidr})",
                "correct the address or nodeCidr, or set privateAddress",
            )


def node_count(settings: Settings) -> Iterator[Problem]:
    """An even number of etcd members tolerates no more failures than one less."""
    count = len(settings.control_planes)
    if count == 0:
        yield Problem("nodes", sorted(settings.nodes), "one node of role control-plane", "add one")
    elif count > 1:
        odd = "an odd number of control planes: an even number has no better quorum than one less"
        expected = odd if count % 2 == 0 else "one control plane: several are not supported yet"
        yield Problem(
            "nodes",
            list(settings.control_planes),
            f"{expected} (there are {count})",
            "make one of them a worker" if count == 2 else "make the others workers",
        )
    if count and not settings.workers and not settings.schedule_on_control_planes:
        yield Problem(
            "scheduleOnControlPlanes",
            False,
            "true, or at least one worker: there is no node for workloads",
            "add a worker or set scheduleOnControlPlanes to true",
        )


def host_keys(settings: Settings) -> Iterator[Problem]:
    """No host is dialled whose key is not known."""
    for name, node in settings.nodes.items():
        if node.host_key is None:
            yield Problem(
                f"nodes.{name}.hostKey",
                "",
                "the host's SSH public key, here or in sshKnownHostsFile "
                f"({settings.ssh_known_hosts_file or 'not set'})",
                "copy /etc/ssh/ssh_host_ed25519_key.pub from a console of the host that you trust",
            )


def kubernetes_version(settings: Settings) -> Iterator[Problem]:
    """Only versions that this program was written for."""
    minors = versions.KUBERNETES_MINORS
    if not settings.kubernetes_version.startswith("1.") or settings.minor not in minors:
        yield Problem(
            "kubernetesVersion",
            settings.kubernetes_version,
            f"a version from 1.{minors.start} to 1.{minors.stop - 1}",
            f"choose a supported version, like {versions.KUBERNETES}",
        )


def open_networks(settings: Settings) -> Iterator[Problem]:
    """The API is closed to the world unless the world was let in on purpose."""
    if not settings.admin_cidrs:
        yield Problem(
            "adminCidrs",
            [],
            "the networks from which you and Pulumi reach the API server",
            "add your own address as a /32",
        )
    if _holds_world(settings.admin_cidrs) and not settings.open_to_world:
        yield Problem(
            "adminCidrs",
            [str(network) for network in settings.admin_cidrs],
            "networks that do not make up the whole internet",
            "name your own networks, or opt in with openToWorld: true",
        )


def _holds_world(networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Also when it was cut into pieces."""
    v4 = [network for network in networks if isinstance(network, IPv4Network)]
    v6 = [network for network in networks if isinstance(network, IPv6Network)]
    return any(
        network.prefixlen == 0
        for family in (collapse_addresses(v4), collapse_addresses(v6))
        for network in family
    )


def labels(settings: Settings) -> Iterator[Problem]:
    """kubeadm and the kubelet own some labels; a second owner would fight with them."""
    for name, node in settings.nodes.items():
        for label in node.labels:
            if label in OWNED_LABELS:
                yield Problem(
                    f"nodes.{name}.labels.{label}",
                    node.labels[label],
                    "a label that Kubernetes does not set itself",
                    "remove it",
                )


def charts(settings: Settings) -> Iterator[Problem]:
    """A mirrored chart that this program does not use is a slip of the pen."""
    for name in settings.mirror.charts:
        if name not in CHARTS:
            yield Problem(
                f"mirror.charts.{name}",
                settings.mirror.charts[name],
                f"one of {', '.join(CHARTS)}",
                "correct the name or remove it",
            )


CHARTS = ("metallb", "nginx-ingress")

OWNED_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "node-role.kubernetes.io/control-plane",
        "node.kubernetes.io/exclude-from-external-load-balancers",
    }
)


def _twice(key: str, address: str, other: str) -> Problem:
    return Problem(
        key, address, f"an address of its own (node {other} has this one)", "correct one of the two"
    )


RULES: tuple[Callable[[Settings], Iterator[Problem]], ...] = (
    overlapping_networks,
    small_pod_network,
    service_network_size,
    pool_addresses,
    pool_size,
    node_addresses,
    node_count,
    host_keys,
    kubernetes_version,
    open_networks,
    labels,
    charts,
)
