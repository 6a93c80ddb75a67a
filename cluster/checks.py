"""How settings must go together: each rule yields the problems it finds, none raises.

The rules and their numbers are those a cluster can't be made without: kubeadm, Flannel and MetalLB
would refuse or, worse, accept and not work. They run in a preview, before any resource exists.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from pydantic.alias_generators import to_camel

from cluster import versions
from cluster.errors import Problem

if TYPE_CHECKING:
    from cluster.settings import Settings

NODE_SUBNET_PREFIX = 24
"""kube-controller-manager gives every node a /24 of the pod CIDR (``--node-cidr-mask-size``)."""

LOAD_BALANCER_SERVICES = ("ingress", "hello-world")
"""The Services of type LoadBalancer that this program makes; each takes one address of the pools."""


def load_balancer_services(settings: Settings) -> tuple[str, ...]:
    """Those of a stack."""
    return LOAD_BALANCER_SERVICES if settings.hello_world else LOAD_BALANCER_SERVICES[:1]


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


def nodes_apart(settings: Settings) -> Iterator[Problem]:
    """An address of the pods' or the Services' network leads to no node."""
    networks = {"podCidr": settings.pod_cidr, "serviceCidr": settings.service_cidr}
    for name, node in settings.nodes.items():
        for (key, network), address in itertools.product(networks.items(), node.addresses):
            if address in network and address not in settings.node_cidr:
                yield Problem(
                    f"nodes.{name}.address",
                    str(address),
                    f"an address apart from {key} ({network})",
                    f"choose another network for {key}, or correct the address",
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
    if settings.entry != "layer2":
        if settings.load_balancer_pools:
            yield Problem(
                "loadBalancerPools",
                [str(pool) for pool in settings.load_balancer_pools],
                "none: Hetzner routes no address that a server announces by itself",
                "remove it; hetzner.ingress says how HTTP gets in",
            )
        return
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
    services = load_balancer_services(settings)
    if settings.entry == "layer2" and size < len(services):
        yield Problem(
            "loadBalancerPools",
            [str(pool) for pool in settings.load_balancer_pools],
            f"at least {len(services)} addresses, one for each LoadBalancer Service "
            f"({', '.join(services)}); there are {size}",
            "add addresses of the nodes' network that nothing else uses",
        )


def node_addresses(settings: Settings) -> Iterator[Problem]:
    """Every node has an address of its own, and the nodes' network holds it."""
    seen: dict[tuple[str, int], str] = {}
    inner: dict[IPv4Address, str] = {}
    for name, node in settings.nodes.items():
        key = f"nodes.{name}.address"
        place = (node.address or f"server {name}", node.port or settings.ssh_port)
        same_place = place in seen
        if same_place:
            yield _twice(key, place[0], seen[place], "correct one of the two")
        seen[place] = name
        if node.machine == "existing" and node.address is None:
            yield Problem(
                key,
                "",
                "where SSH is answered on this host",
                f"set {key}, or nodes.{name}.machine (or machines) to hetzner for a new server",
            )
            continue
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
            remedy = _NOT_ONE_PLACE if node.machine == "hetzner" else "correct one of the two"
            yield _twice(inner_key, str(address), inner[address], remedy)
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
    elif count % 2 == 0 and not settings.even_control_planes:
        yield Problem(
            "nodes",
            list(settings.control_planes),
            "an odd number of control planes: an even number has no better quorum than one less "
            f"(there are {count})",
            "make one of them a worker, or add one; on the way from one odd number to another set "
            "evenControlPlanes to true",
        )
    if count and not settings.workers and not settings.schedule_on_control_planes:
        yield Problem(
            "scheduleOnControlPlanes",
            False,
            "true, or at least one worker: there is no node for workloads",
            "add a worker or set scheduleOnControlPlanes to true",
        )


MOST_CONTROL_PLANES = 7
"""etcd's own advice: more members cost writes and tolerate little more (etcd.io/docs, FAQ)."""


def shared_endpoint(settings: Settings) -> Iterator[Problem]:
    """Several control planes are one API server only behind an address that none of them owns."""
    count = len(settings.control_planes)
    if count > MOST_CONTROL_PLANES:
        yield Problem(
            "nodes",
            list(settings.control_planes),
            f"at most {MOST_CONTROL_PLANES} control planes (there are {count})",
            "make the others workers",
        )
    if count > 1 and not settings.shared_endpoint:
        kinds = {node.machine for node in settings.control_planes.values()}
        key, value, remedy = _SHARED_BY_KIND[frozenset(kinds)]
        yield Problem(
            key,
            value,
            f"an address of the API server that outlives each of the {count} control planes",
            remedy,
        )


_SHARED_BY_KIND: Mapping[frozenset[str | None], tuple[str, object, str]] = {
    frozenset({"existing"}): (
        "apiVirtualAddress",
        "",
        "set apiVirtualAddress to a free address of nodeCidr, or apiEndpoint to a name of your own",
    ),
    frozenset({"hetzner"}): (
        "hetzner.apiLoadBalancer",
        False,
        "set hetzner.apiLoadBalancer to true, or apiEndpoint to a name of your own",
    ),
    frozenset({"existing", "hetzner"}): (
        "apiEndpoint",
        "",
        "set apiEndpoint to a name or address of your own that leads to all of them",
    ),
}


def virtual_address(settings: Settings) -> Iterator[Problem]:
    """The control planes announce it themselves: it has to be of their network, and nobody else's."""
    address, key = settings.api_virtual_address, "apiVirtualAddress"
    if address is None:
        return
    others = [k for k, v in (("apiEndpoint", settings.api_endpoint),
                             ("hetzner.apiLoadBalancer", settings.api_balancer_address)) if v]  # fmt: skip
    if others:
        yield Problem(key, str(address), f"no {others[0]} beside it", "remove one of the two")
    servers = [n for n, node in settings.control_planes.items() if node.machine == "hetzner"]
    if servers:
        yield Problem(
            key,
            str(address),
            f"control planes on existing hosts: Hetzner's servers ({', '.join(servers)}) share no segment "
            "on which an address could move",
            "set hetzner.apiLoadBalancer to true instead",
        )
    owner = next((n for n, node in settings.nodes.items() if address in node.addresses), None)
    pool = next((str(p) for p in settings.load_balancer_pools if address in p), None)
    network = settings.node_cidr
    if address not in network or address in (network[0], network[-1]) or owner or pool:
        taken = (
            f" (it is of {f'node {owner}' if owner else f'pool {pool}'})" if owner or pool else ""
        )
        yield Problem(
            key,
            str(address),
            f"a free address of nodeCidr ({network}){taken}",
            "choose one that no node and no pool of loadBalancerPools has",
        )


def host_keys(settings: Settings) -> Iterator[Problem]:
    """No host is dialled whose key is not known; to a new server the program gives one."""
    for name, node in settings.nodes.items():
        if node.machine == "existing" and node.host_key is None:
            yield Problem(
                f"nodes.{name}.hostKey",
                "",
                "the host's SSH public key, here or in sshKnownHostsFile "
                f"({settings.ssh_known_hosts_file or 'not set'})",
                COPY_HOST_KEY,
            )
    if settings.proxy and settings.proxy.host_key is None:
        yield Problem(
            "proxy.hostKey",
            "",
            "the bastion's SSH public key, here or in sshKnownHostsFile "
            f"({settings.ssh_known_hosts_file or 'not set'})",
            COPY_HOST_KEY,
        )


COPY_HOST_KEY = "copy /etc/ssh/ssh_host_ed25519_key.pub from a console of the host that you trust"


def node_pools(settings: Settings) -> Iterator[Problem]:
    """A pool's nodes have names of their own (looked at before pools become nodes)."""
    seen = {name: f"nodes.{name}" for name in settings.nodes}
    for pool, values in settings.node_pools.items():
        for name in values.nodes(pool):
            if name in seen:
                yield Problem(
                    f"nodePools.{pool}",
                    values.count,
                    f"a pool whose node {name} is not in {seen[name]} too",
                    "rename one of the two",
                )
            seen[name] = f"nodePools.{pool}"


_OF_SERVERS = ("server_type", "location", "image", "placement_group")
_OF_HOSTS = ("address", "host_key", "user", "port")


def kinds_of_machines(settings: Settings) -> Iterator[Problem]:
    """Keys of a server don't stand at an existing host, and the other way round.

    Looked at as they are written, before any is filled in.
    """
    for name, node in settings.nodes.items():
        existing = (node.machine or settings.machines) == "existing"
        for field in _OF_SERVERS if existing else _OF_HOSTS:
            value = getattr(node, field)
            if value is not None:
                yield Problem(
                    f"nodes.{name}.{to_camel(field)}",
                    value,
                    "nothing, as the node is an existing host"
                    if existing
                    else "nothing, as the server is new and gets one",
                    f"remove it, or set nodes.{name}.machine",
                )


SERVERS_PER_NETWORK = 100
ADMIN_CIDRS = 50
"""docs.hetzner.com/cloud: limits of networks and firewalls."""

RFC_1918 = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))

HETZNER_GATEWAY = IPv4Address("172.31.1.1")
"""Every server's way out by its public interface."""

RESERVED_BY_HETZNER = "the network's own, its gateway's, or kept for load balancers"


def hetzner_network(settings: Settings) -> Iterator[Problem]:
    """What a private network at Hetzner Cloud can be (docs.hetzner.com/cloud/networks/faq)."""
    if not settings.hetzner_nodes:
        return
    network, subnet = settings.node_cidr, settings.server_cidr
    if not any(network.subnet_of(private) for private in RFC_1918) or network.prefixlen > 24:
        yield Problem(
            "nodeCidr",
            str(network),
            "a private network (RFC 1918) of /24 or larger, which is what Hetzner takes",
            "choose one like 10.0.0.0/16",
        )
        return
    if not subnet.subnet_of(network) or subnet.prefixlen > 28:
        yield Problem(
            "hetzner.subnetCidr",
            str(subnet),
            f"a part of nodeCidr ({network}), of /28 or larger",
            "correct one of them",
        )
        return
    taken = {network[0], network[1], network[-1], subnet[0], subnet[1], HETZNER_GATEWAY}
    taken |= {subnet[-n] for n in (1, 2, 3)}
    for name, node in settings.hetzner_nodes.items():
        if node.private_address in taken or node.private_address not in subnet:
            yield Problem(
                f"nodes.{name}.privateAddress",
                str(node.private_address),
                f"an address in {subnet} that is none of {RESERVED_BY_HETZNER}",
                "choose another",
            )
    yield from _vswitch(settings, subnet)


def _vswitch(settings: Settings, subnet: IPv4Network) -> Iterator[Problem]:
    both = (settings.hetzner.vswitch_id, settings.hetzner.vswitch_cidr)
    if (both[0] is None) != (both[1] is None):
        yield Problem(
            "hetzner.vswitchId",
            both[0] or "",
            "vswitchId and vswitchCidr together",
            "set both, or neither",
        )
    cidr = both[1]
    if cidr and (not cidr.subnet_of(settings.node_cidr) or cidr.overlaps(subnet)):
        yield Problem(
            "hetzner.vswitchCidr",
            str(cidr),
            f"a part of nodeCidr ({settings.node_cidr}) apart from the servers' one ({subnet})",
            "set hetzner.subnetCidr and hetzner.vswitchCidr to two halves of nodeCidr",
        )


def hetzner_limits(settings: Settings) -> Iterator[Problem]:
    """Hetzner's bounds on how many there may be of something, and on names."""
    servers = settings.hetzner_nodes
    if len(servers) > SERVERS_PER_NETWORK:
        yield Problem(
            "nodes",
            len(servers),
            f"at most {SERVERS_PER_NETWORK} servers, which is what a Hetzner network takes",
            "make two clusters",
        )
    if servers and len(settings.admin_cidrs) > ADMIN_CIDRS:
        yield Problem(
            "adminCidrs",
            f"{len(settings.admin_cidrs)} networks",
            f"at most {ADMIN_CIDRS}, which is what a Hetzner firewall takes",
            "put neighbouring networks together",
        )
    groups = Counter(node.placement_group for node in servers.values())
    for group, count in groups.items():
        if count > PLACEMENT_GROUP_SIZE:
            yield Problem(
                f"placement group {group}",
                count,
                f"at most {PLACEMENT_GROUP_SIZE} servers, which is what a placement group takes",
                "make the nodes a pool (nodePools), or give some another placementGroup",
            )
    for name in servers:
        full = f"{settings.cluster_name}-{name}"
        if len(full) > LONGEST_NAME:
            yield Problem(
                f"nodes.{name}",
                full,
                f"a server name, clusterName-{name}, of at most {LONGEST_NAME} characters",
                "shorten one of the two",
            )


LONGEST_NAME = 63
"""Of a host (RFC 1123); Hetzner takes no longer one either."""

PLACEMENT_GROUP_SIZE = 10
"""Servers that a spread placement group takes (docs.hetzner.com/cloud/placement-groups/overview)."""


def ways_to_servers(settings: Settings) -> Iterator[Problem]:
    """HTTP gets in by servers: neither a load balancer nor a floating IP leads to an existing host."""
    able = settings.takes_workloads
    if settings.hetzner_nodes and able and not settings.hetzner_nodes.keys() & able.keys():
        yield Problem(
            "nodes",
            list(able),
            "a Hetzner server among the nodes that take workloads, as hetzner.ingress "
            f"({settings.hetzner.ingress}) leads to servers only",
            "make one of these nodes a server, or set scheduleOnControlPlanes to true",
        )


def api_load_balancer(settings: Settings) -> Iterator[Problem]:
    """Hetzner's load balancer reaches servers of the same project only."""
    hosts = [n for n, node in settings.control_planes.items() if node.machine == "existing"]
    if settings.hetzner.api_load_balancer and hosts:
        yield Problem(
            "hetzner.apiLoadBalancer",
            True,
            f"false, as control planes on existing hosts ({', '.join(hosts)}) can't be its targets",
            "remove it, or set apiEndpoint to an address of your own",
        )
    if settings.hetzner.api_load_balancer and settings.api_endpoint:
        yield Problem(
            "hetzner.apiLoadBalancer",
            True,
            f"false, or no apiEndpoint ({settings.api_endpoint}): there is one endpoint",
            "remove one of the two",
        )


def kubernetes_version(settings: Settings) -> Iterator[Problem]:
    """Only versions that this program was written for."""
    minors, most = versions.KUBERNETES_MINORS, versions.KUBERNETES_MOST_PATCHES
    major, minor, patch = map(int, settings.kubernetes_version.split("."))
    if major != 1 or minor not in minors or patch > most:
        yield Problem(
            "kubernetesVersion",
            settings.kubernetes_version,
            f"a version from 1.{minors.start} to 1.{minors.stop - 1}, a patch of at most {most}",
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
            "networks that do not make up the whole internet, or half of it",
            "name your own networks, or opt in with openToWorld: true",
        )


GLOBAL_V6 = IPv6Network("2000::/3")
"""All that is routed in the internet (iana.org, IPv6 address space)."""


def _holds_world(networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Also when it was cut into pieces, or some were left out."""
    v4 = [network for network in networks if isinstance(network, IPv4Network)]
    v6 = [
        GLOBAL_V6 if network.supernet_of(GLOBAL_V6) else network
        for network in networks
        if isinstance(network, IPv6Network) and network.overlaps(GLOBAL_V6)
    ]
    wide = {
        2**32: sum(network.num_addresses for network in collapse_addresses(v4)),
        GLOBAL_V6.num_addresses: sum(network.num_addresses for network in collapse_addresses(v6)),
    }
    return any(part >= whole / 2 for whole, part in wide.items())


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
    """A mirrored chart that this stack does not use is a slip of the pen."""
    for name in settings.mirror.charts:
        if name not in (*CHARTS, *settings.helm_releases):
            yield Problem(
                f"mirror.charts.{name}",
                settings.mirror.charts[name],
                f"one of {', '.join(CHARTS)}, or the name of one of helmReleases",
                "correct the name or remove it",
            )


def helm_releases(settings: Settings) -> Iterator[Problem]:
    """A release's name tells it from this program's own, and it says once where it is from."""
    for name, release in settings.helm_releases.items():
        key = f"helmReleases.{name}"
        if name in CHARTS:
            yield Problem(
                key,
                release.chart,
                f"a name that no release of this program has ({', '.join(CHARTS)})",
                "choose another name",
            )
        if release.namespace in NAMESPACES:
            yield Problem(
                f"{key}.namespace",
                release.namespace,
                "a namespace that this program does not use itself",
                "choose another one",
            )
        if release.repo and "/" in release.chart:
            yield Problem(
                f"{key}.chart",
                release.chart,
                f"a chart's name in helmReleases.{name}.repo ({release.repo})",
                "give the name alone, or remove repo",
            )
        if release.values and release.values_file:
            yield Problem(
                f"{key}.valuesFile",
                release.values_file,
                f"nothing, as there is helmReleases.{name}.values",
                "remove one of the two",
            )


def ingress_tls(settings: Settings) -> Iterator[Problem]:
    """Each issuer has what it takes, and nothing of another one."""
    tls = settings.ingress_tls
    if tls is None:
        return
    if tls.issuer == "acme" and not tls.email:
        yield Problem(
            "ingressTls.email",
            "",
            "your email address, which the ACME server asks for",
            "set ingressTls.email",
        )
    if tls.issuer == "acme" and settings.hello_world and settings.hello_host.endswith(_NOBODYS):
        yield Problem(
            "helloHost",
            settings.hello_host,
            "a name of your own that leads to the ingress: an ACME server signs no other",
            "set helloHost, or helloWorld to false",
        )
    if tls.issuer == "ca" and not tls.ca_certificate_file:
        yield Problem(
            "ingressTls.caCertificateFile",
            "",
            "the path of the CA's certificate (PEM)",
            "set it, or ingressTls.issuer to self-signed",
        )
    if tls.issuer != "ca" and tls.ca_certificate_file:
        yield Problem(
            "ingressTls.caCertificateFile",
            tls.ca_certificate_file,
            f"nothing, as ingressTls.issuer is {tls.issuer}",
            "remove it, or set ingressTls.issuer to ca",
        )


_NOBODYS = (
    ".example",
    "example.com",
    "example.net",
    "example.org",
    ".invalid",
    ".localhost",
    ".test",
)
"""Names that nobody can have (RFC 2606)."""

KUBERNETES_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
NAMESPACES = (
    *("cert-manager", "hello-world", "kube-flannel", "kube-router", "kured", "metallb-system"),
    "nginx-ingress",
)
"""Those that this program makes for itself."""

CHARTS = (
    *("metallb", "nginx-ingress"),
    *("hcloud-cloud-controller-manager", "hcloud-csi", "cert-manager"),
)

OWNED_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "node-role.kubernetes.io/control-plane",
        "node.kubernetes.io/exclude-from-external-load-balancers",
    }
)


_NOT_ONE_PLACE = (
    "set privateAddress of one of the two, or firstPrivateAddress of its pool: the addresses that are "
    "made of names can meet"
)


def _twice(key: str, address: str, other: str, remedy: str) -> Problem:
    return Problem(key, address, f"an address of its own (node {other} has this one)", remedy)


RULES: tuple[Callable[[Settings], Iterator[Problem]], ...] = (
    overlapping_networks,
    nodes_apart,
    small_pod_network,
    service_network_size,
    pool_addresses,
    pool_size,
    node_addresses,
    node_count,
    shared_endpoint,
    virtual_address,
    host_keys,
    kubernetes_version,
    open_networks,
    labels,
    charts,
    helm_releases,
    ingress_tls,
    hetzner_network,
    hetzner_limits,
    ways_to_servers,
    api_load_balancer,
)
