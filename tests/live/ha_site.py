"""The ``ha`` stack for tests: changed as a user would, by its file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster import versions
from sandbox import dev, ha, machines
from sandbox.engine import Engine, EngineError
from sandbox.engine.real import RealEngine
from tests.live.cluster import (
    etcdctl,
    eventually,
    keep_kubeconfig,
    kubectl,
    on,
    ready,
    sandbox,
)


@dataclass
class Site:
    """The stack, and what its last ``up`` said and gave."""

    engine: Engine
    outputs: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def real(self) -> bool:
        return isinstance(self.engine, RealEngine)

    def edit(self, changes: Mapping[str, Any] | None = None) -> None:
        """Edit the stack file: its first text, with changes put in."""
        ha.stack_file(changes)
        self.told.clear()

    def up(self, changes: Mapping[str, Any] | None = None) -> None:
        """Bring the stack to its file."""
        self.edit(changes)
        self.outputs = self.engine.up(self.told.append)
        keep_kubeconfig(self.outputs["kubeconfig"])

    def preview(self, changes: Mapping[str, Any] | None = None) -> dict[str, int]:
        """What an ``up`` would do; nothing that is the same."""
        self.edit(changes)
        found = self.engine.preview(self.told.append)
        return {operation: count for operation, count in found.items() if operation != "same"}

    def refused(self, changes: Mapping[str, Any]) -> str:
        """The error of an ``up`` (or preview, where there is one)."""
        self.edit(changes)
        with pytest.raises(EngineError) as error:
            (self.engine.preview if self.real else self.engine.up)(self.told.append)
        return str(error.value)


@contextmanager
def ha_site(
    engine: str,
    changes: Mapping[str, Any] | None = None,
    kubernetes: Sequence[str] = (versions.KUBERNETES,),
) -> Iterator[Site]:
    """The stack, up on machines of its own, which are gone at the end.

    Args:
        engine: one of ``ENGINES``.
        changes: to the stack file.
        kubernetes: the versions that the mirror has.
    """
    with sandbox(engine) as kind:
        ha.start_site(kubernetes=kubernetes)
        stack = Site(kind(stack=ha.STACK, stack_file=ha.stack_file()))
        stack.up(changes)
        yield stack


def nodes() -> dict[str, Any]:
    return {node["metadata"]["name"]: node for node in kubectl("get", "nodes")["items"]}


def members() -> set[str]:
    """Names of etcd's members, as one that is well has them."""
    pod = next(
        pod
        for pod in kubectl("--namespace=kube-system", "get", "pods", "--selector=component=etcd")[
            "items"
        ]
        # Of a machine that is gone a pod may look well for a while yet.
        if ready(pod) and pod["spec"]["nodeName"] in machines.running()
    )
    listed = etcdctl(pod["spec"]["nodeName"], "member list | cut -d, -f3")
    return set(listed.split())


def serves(control_plane: str) -> bool:
    """Whether its own API server is well; that a Node is Ready may be old news."""
    place = f"https://{ha.NODES[control_plane]['address']}:6443"
    ask = f"kubectl --kubeconfig=/etc/kubernetes/admin.conf --server={place} get --raw=/readyz"
    return on(control_plane, ask, check=False) == "ok"


def is_up(stack: Site) -> None:
    """All nodes are there, behind one address, and the page answers."""
    assert sorted(nodes()) == sorted(ha.NODES)
    assert eventually(lambda: all(map(ready, nodes().values())))
    assert members() == {"cp1", "cp2", "cp3"}
    assert f"server: https://{ha.VIRTUAL_ADDRESS}:6443" in stack.outputs["kubeconfig"]
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com")


def lose_founder(stack: Site) -> None:
    """The one that made the cluster loses its power: the API answers again, and the page all the time."""
    holder = next(
        n for n in ("cp1", "cp2", "cp3") if ha.VIRTUAL_ADDRESS in on(n, "ip -brief -4 address")
    )
    began = time.monotonic()
    machines.power_off("cp1")
    assert eventually(lambda: bool(kubectl("--request-timeout=2s", "get", "nodes")), 60)
    print(
        f"API answered {time.monotonic() - began:.1f} s after the power cut of cp1 ({holder} held the address)"
    )
    assert dev.get(stack.outputs["ingressAddress"], "hello.example.com")[0] == 200
