"""What there is to know of a live cluster: one look at its lists, then one at each API server.

Everything is asked side by side, and each of the two looks has a bound, so that dead hosts cost seconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, as_completed, wait
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from cluster.settings import API_PORT, Role
from cluster.status.api import Api, Word, start, why_not, word

LOOK_SECONDS = 4.5
"""Bound on each of the two looks."""

LISTS: Mapping[str, str] = {
    "nodes": "/api/v1/nodes",
    "etcd": "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Detcd",
    "services": "/api/v1/services",
    "ingresses": "/apis/networking.k8s.io/v1/ingresses",
}
"""etcd's members are kubeadm's static pods: ``etcd-NODE``, with that label (kubeadm, ``phases/etcd``)."""

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"


class _Fact(BaseModel):
    """camelCase in JSON, snake_case here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Node(_Fact):
    """A node, as its kubelet and the API describe it.

    ``reason`` is why it is not Ready; ``since`` is when it joined; ``addresses`` has the internal one first.
    """

    name: str
    role: Role
    ready: bool
    reason: str
    schedulable: bool
    version: str
    addresses: list[str]
    os_image: str
    since: datetime


class ApiServer(_Fact):
    """One control plane's API server, by its own address.

    ``etcd`` is None where that could not be asked, ``certificate_until`` where no certificate was seen.
    """

    node: str
    address: str
    readyz: Literal["ok", "failing", "no answer"]
    etcd: bool | None
    trouble: str
    certificate_until: datetime | None


class Member(_Fact):
    """etcd on a control plane; ``ready`` is None where it has none."""

    node: str
    ready: bool | None


class WayIn(_Fact):
    """A Service of type LoadBalancer or an Ingress, its addresses, and the hosts that it serves."""

    kind: Literal["Service", "Ingress"]
    name: str
    addresses: list[str]
    hosts: list[str]


class Upgrade(_Fact):
    """A node that has another version than it should."""

    node: str
    version: str
    target: str


class Status(_Fact):
    """A cluster at a moment."""

    cluster: str
    endpoint: str
    time: datetime
    kubeconfig_until: datetime
    nodes: list[Node]
    api_servers: list[ApiServer]
    etcd_members: list[Member]
    etcd_quorum: int
    ways_in: list[WayIn]
    upgrades: list[Upgrade]


def take(api: Api, want: str = "") -> Status:
    """Look at a cluster.

    Args:
        api: the cluster's API.
        want: the version that all nodes should have; the newest of any node when not given.

    Raises:
        StatusError: the API can't be asked.
    """
    lists = _lists(api)
    nodes = sorted(map(_node, lists["nodes"]), key=lambda node: (node.role, node.name))
    control_planes = [node for node in nodes if node.role == "control-plane"]
    members = _members(control_planes, lists["etcd"])
    return Status(
        cluster=api.kubeconfig.cluster,
        endpoint=api.kubeconfig.server,
        time=datetime.now(UTC).replace(microsecond=0),
        kubeconfig_until=api.kubeconfig.until,
        nodes=nodes,
        api_servers=_api_servers(api, control_planes),
        etcd_members=members,
        etcd_quorum=sum(member.ready is not None for member in members) // 2 + 1,
        ways_in=[
            *(_service(s) for s in lists["services"] if s["spec"].get("type") == "LoadBalancer"),
            *map(_ingress, lists["ingresses"]),
        ],
        upgrades=_upgrades(nodes, want),
    )


def _lists(api: Api) -> dict[str, list[Any]]:
    """Every list, or the first one's error."""
    asked = {name: start(partial(api.get, path)) for name, path in LISTS.items()}
    _, open_ones = wait(asked.values(), LOOK_SECONDS)
    if open_ones:
        raise api.not_reached("timed out")
    return {name: future.result().get("items") or [] for name, future in asked.items()}


# Nodes


def _node(entry: Mapping[str, Any]) -> Node:
    metadata, status = entry["metadata"], entry["status"]
    condition = _condition(status, "Ready")
    ready = condition.get("status") == "True"
    reason = condition.get("message") or condition.get("reason") or "it has not told yet"
    addresses = sorted(
        (a for a in status.get("addresses") or [] if a["type"] in _ADDRESS_TYPES),
        key=lambda a: _ADDRESS_TYPES.index(a["type"]),
    )
    return Node(
        name=metadata["name"],
        role="control-plane" if CONTROL_PLANE_LABEL in metadata.get("labels", {}) else "worker",
        ready=ready,
        reason="" if ready else reason,
        schedulable=not entry["spec"].get("unschedulable", False),
        version=status["nodeInfo"]["kubeletVersion"].removeprefix("v"),
        addresses=[address["address"] for address in addresses],
        os_image=status["nodeInfo"]["osImage"],
        since=datetime.fromisoformat(metadata["creationTimestamp"]),
    )


_ADDRESS_TYPES = ("InternalIP", "ExternalIP")


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or [] if c["type"] == kind), {})


def _upgrades(nodes: Sequence[Node], want: str) -> list[Upgrade]:
    target = want or max((node.version for node in nodes), key=_numbers, default="")
    return [
        Upgrade(node=node.name, version=node.version, target=target)
        for node in nodes
        if node.version != target
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


# etcd


def _members(control_planes: Sequence[Node], pods: Sequence[Any]) -> list[Member]:
    """A member that is down still is one: its pod stays."""
    by_name = {pod["metadata"]["name"]: pod["status"] for pod in pods}
    found = {node.name: by_name.get(f"etcd-{node.name}") for node in control_planes}
    return [
        Member(node=name, ready=status and _condition(status, "Ready").get("status") == "True")
        for name, status in found.items()
    ]


# API servers

Place = tuple[str, int]


def _api_servers(api: Api, control_planes: Sequence[Node]) -> list[ApiServer]:
    """Each by its own addresses, and beside that through the endpoint: some are reached by nodes only."""
    until = time.monotonic() + LOOK_SECONDS
    ways = {
        node.name: [(address, API_PORT) for address in node.addresses] for node in control_planes
    }
    if len(ways) == 1:  # the endpoint leads to this one
        ways[control_planes[0].name].append(api.kubeconfig.place)
    asked = {
        name: (
            {start(partial(api.word, place)): place for place in dict.fromkeys(places)},
            start(partial(_through_the_endpoint, api, name)),
        )
        for name, places in ways.items()
    }
    return [_api_server(name, *futures, until) for name, futures in asked.items()]


def _api_server(
    name: str, direct: Mapping[Future[Word], Place], through: Future[Word], until: float
) -> ApiServer:
    """The first word from one of its addresses, else what came through the endpoint."""
    address = _joined(*next(iter(direct.values()), ("-", API_PORT)))
    with suppress(TimeoutError):
        for future in as_completed(direct, _left(until)):
            if not future.exception():
                return _heard(name, _joined(*direct[future]), future.result())
    wait([through], _left(until))
    if through.done() and not through.exception():
        return _heard(name, address, through.result())
    first = next(iter(direct), through)
    why = why_not(first.exception() if first.done() else TimeoutError())
    return ApiServer(
        node=name,
        address=address,
        readyz="no answer",
        etcd=None,
        trouble=f"gives no answer: {why}",
        certificate_until=None,
    )


def _heard(name: str, address: str, said: Word) -> ApiServer:
    return ApiServer(
        node=name,
        address=address,
        readyz="ok" if said.ready else "failing",
        etcd=said.etcd,
        trouble=said.trouble,
        certificate_until=said.until,
    )


def _through_the_endpoint(api: Api, node: str) -> Word:
    """Asked by another API server, without a name: ``/readyz`` is open to all, its certificate not seen.

    Raises:
        ConnectionError: it is not reached so either.
    """
    pod = f"https:kube-apiserver-{node}:{API_PORT}"
    status, body = api.ask(f"/api/v1/namespaces/kube-system/pods/{pod}/proxy/readyz")
    if status != 200 and "[-]" not in body:
        raise ConnectionError
    return word(status, body)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Addresses


def _service(entry: Mapping[str, Any]) -> WayIn:
    return _way_in("Service", entry, [])


def _ingress(entry: Mapping[str, Any]) -> WayIn:
    hosts = [rule.get("host") or "*" for rule in entry["spec"].get("rules") or []]
    return _way_in("Ingress", entry, list(dict.fromkeys(hosts)))


def _way_in(
    kind: Literal["Service", "Ingress"], entry: Mapping[str, Any], hosts: list[str]
) -> WayIn:
    metadata = entry["metadata"]
    points = entry.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    return WayIn(
        kind=kind,
        name=f"{metadata['namespace']}/{metadata['name']}",
        addresses=[point.get("ip") or point.get("hostname", "") for point in points],
        hosts=hosts,
    )
