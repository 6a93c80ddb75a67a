"""docs/architecture.md: pictures of the real resource graph, as Mermaid draws them.

They are made from what the program registers in a preview: a box for each component, or for each resource of
a node, and an arrow for what waits for what. Arrows that others imply are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from unittest import mock

from cluster.machines.hetzner.catalog import Catalog
from tests.unit.graph import Graph, run_program
from tests.unit.stacks import CLOUD
from tests.unit.test_hetzner_graph import catalog

Edges = Mapping[str, set[str]]
"""By what waits: what it waits for."""

KINDS = {
    "command:local:": "commands here",
    "command:remote:": "commands on hosts",
    "hcloud:": "Hetzner resources",
    "kubernetes:helm": "releases",
    "kubernetes:": "objects",
    "pulumi:providers:": "providers",
    "tls:": "key pairs",
    "": "others",
}
"""What a resource is to a reader, by the start of its type; the first that fits."""


@cache
def _own_hosts() -> Graph:
    return run_program(preview=True)


@cache
def _hetzner() -> Graph:
    with mock.patch.object(Catalog, "fetch", return_value=catalog()):
        return run_program(base=CLOUD, preview=True)


def components() -> str:
    """The components of a stack with existing hosts."""
    return _components(_own_hosts())


def components_at_hetzner() -> str:
    """Those of a stack at Hetzner Cloud."""
    return _components(_hetzner())


def nodes() -> str:
    """What is done on a control plane and on two workers."""
    graph = _own_hosts()
    owners = {
        name: host
        for host in graph.of_type("own-kubernetes:remote:Host")
        for name in graph.custom()
        if name.startswith(f"{host}-")
    }
    edges = _waits(graph, {name: name for name in owners})
    hosts = sorted(set(owners.values()))
    boxes = [line for host in hosts for line in _box_of_host(host, owners, edges)]
    return _mermaid("LR", boxes, edges)


def _box_of_host(host: str, owners: Mapping[str, str], edges: Edges) -> list[str]:
    names = _in_order([name for name, owner in owners.items() if owner == host], edges)
    return [f"subgraph {host}", *(f"  {name}" for name in names), "end"]


def _components(graph: Graph) -> str:
    stack = graph.of_type("pulumi:pulumi:Stack")
    tops = [name for name in graph.requests if graph.parent(name) in stack]
    owners = {name: _owner(graph, name, tops) for name in graph.custom()}
    edges = _waits(graph, owners)
    boxes = []
    for owner in _in_order(set(owners.values()), edges):
        kinds = Counter(_kind(graph.type(name)) for name, its in owners.items() if its == owner)
        lines = [
            f"<b>{owner}</b>",
            *(f"{kind}: {kinds[kind]}" for kind in KINDS.values() if kinds[kind]),
        ]
        boxes.append(f'{owner}["{"<br>".join(lines)}"]')
    return _mermaid("TB", boxes, edges)


def _in_order(names: Iterable[str], edges: Edges) -> list[str]:
    """What waits for little first; the order of registrations is another one in each run."""
    return sorted(names, key=lambda name: (len(_behind(edges, [name])), name))


def _owner(graph: Graph, name: str, tops: Iterable[str]) -> str:
    """The component that a resource is named after, or the one above it."""
    if named := [top for top in tops if name.startswith(f"{top}-")]:
        return max(named, key=len)
    while name not in tops:
        name = graph.parent(name)
    return name


def _kind(resource_type: str) -> str:
    return next(kind for start, kind in KINDS.items() if resource_type.startswith(start))


def _waits(graph: Graph, owners: Mapping[str, str]) -> Edges:
    """Who waits for whom among the owners of resources, without what follows from the rest."""
    edges: dict[str, set[str]] = defaultdict(set)
    for name, owner in owners.items():
        for other in (*graph.dependencies(name), graph.provider(name)):
            if other in owners and owners[other] != owner:
                edges[owner].add(owners[other])
    return {owner: others - _behind(edges, others) for owner, others in edges.items()}


def _behind(edges: Edges, some: Iterable[str]) -> set[str]:
    """What others wait for, and so on."""
    found: set[str] = set()
    todo = set(chain.from_iterable(edges.get(one, ()) for one in some))
    while todo - found:
        found |= todo
        todo = set(chain.from_iterable(edges.get(one, ()) for one in todo))
    return found


def _mermaid(direction: str, boxes: Iterable[str], edges: Edges) -> str:
    arrows = [f"{first} --> {then}" for then, firsts in edges.items() for first in firsts]
    lines = "".join(f"  {line}\n" for line in (*boxes, *sorted(arrows)))
    return f"```mermaid\nflowchart {direction}\n{lines}```\n"
