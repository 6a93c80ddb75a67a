"""A small cluster on local machines, for what is tried on it: two nodes, and more where that is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from sandbox import dev, machines, mirror, site, stacks
from sandbox.engine import stackfile
from sandbox.ha import node
from tests.live.cluster import eventually, keep_kubeconfig, kubectl, on, ready
from tests.trust.runs import Run, RunFailedError

STACK = "trust"
SMALL: Mapping[str, Mapping[str, str]] = {
    "cp1": node("control-plane", 11),
    "w1": node("worker", 21),
}
THREE: Mapping[str, Mapping[str, str]] = {
    f"cp{n}": node("control-plane", 10 + n) for n in (1, 2, 3)
}
SHARED_ADDRESS = "10.77.0.10"
MEMORY_MIB = {"control-plane": 3072, "worker": 2048}

LEFT_BEHIND = """
systemctl list-units --plain --no-legend --all 'own-kubernetes-run-*' | awk '{print $1}'
find /run/own-kubernetes -name '*.in' -o -name '*.out' -o -name 'join*' -o -name '*key' -o -name discovery.yaml
flock --nonblock /run/own-kubernetes/lock true || echo lock
cat /var/lib/own-kubernetes/stage
"""
"""Prints what a phase that was cut off could leave, and the stage last."""


@dataclass
class Place:
    """The cluster, and how it is changed.

    Attributes:
        engine: what runs the program, a key of ``runs.ENGINES``.
        nodes: the stack file's nodes.
        changes: other settings of the stack file.
        outputs: the last ``up``'s; empty where none has ended well.
        runs: those that were begun.
    """

    engine: str
    nodes: dict[str, Mapping[str, Any]] = field(default_factory=lambda: dict(SMALL))
    changes: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    # Machines

    def start_machines(self, *names: str) -> None:
        """Start those of the stack file's nodes that do not run."""
        specs = [
            machines.MachineSpec(n, IPv4Address(v["address"]), MEMORY_MIB[v["role"]])
            for n, v in self.nodes.items()
            if not names or n in names
        ]
        machines.up(specs, log=_quiet)

    def bare(self, nodes: Mapping[str, Mapping[str, Any]] = SMALL, **changes: Any) -> None:
        """Begin anew: fresh machines, and no state."""
        for name in _machines():
            machines.remove(name)
        shutil.rmtree(stackfile.home(STACK), ignore_errors=True)
        self.nodes, self.changes, self.outputs = dict(nodes), changes, {}
        self.start_machines()
        mirror.serve(log=_quiet)

    def rebuilt(self, name: str, last: int = 22, role: str = "worker") -> None:
        """A fresh machine for a node, which the stack file has from now on."""
        machines.remove(name)
        self.nodes[name] = node(role, last)
        self.start_machines(name)

    # Engine

    def file(self) -> Path:
        """Write the stack's file."""
        own = {"clusterName": STACK, "nodes": self.nodes, "sshTimeoutSeconds": 30}
        return stacks.write(STACK, stacks.of_site(hosts=True) | own | self.changes)

    def begin(self, verb: str = "up") -> Run:
        """Begin a run."""
        self.runs.append(Run(verb, self.engine, STACK, self.file()))
        return self.run

    @property
    def run(self) -> Run:
        """The last run that was begun."""
        return self.runs[-1]

    def take(self) -> None:
        """Let an ``up`` end."""
        self.outputs = {}
        self.outputs = self.run.answer()
        keep_kubeconfig(self.outputs["kubeconfig"])

    def forget(self) -> None:
        """After a failure: end what runs; the next one that wants a cluster gets a new one."""
        self.outputs = {}
        for run in self.runs:
            run.kill()

    def up(self) -> None:
        """Bring the stack to its file."""
        self.begin()
        self.take()

    # Looks

    def running(self, machine: str, phase: str) -> bool:
        """Whether a phase runs on a machine now."""
        try:
            word = on(machine, f"systemctl is-active own-kubernetes-run-{phase}", check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        return word in ("active", "activating")

    def check(self) -> None:
        """The cluster is the one of the stack file, and nothing is left of what broke off.

        Raises:
            RunFailedError: names what is not as it should be.
        """
        problems = [*self._cluster(), *self._left_behind()]
        if not problems and self.engine == "real":
            found = self.begin("preview").answer()
            problems = [f"preview: {found}"] if set(found) != {"same"} else []
        if problems:
            raise RunFailedError("; ".join(problems))

    def _cluster(self) -> Iterator[str]:
        address, host = self.outputs["ingressAddress"], dev.host_of(self.outputs)
        if not dev.fetch_page(address, host).startswith("Hello, world!"):
            yield "another page"
        names = dict.fromkeys(self.nodes, "")

        def all_ready() -> bool:
            found = kubectl("get", "nodes")["items"]
            names.clear()
            names.update({n["metadata"]["name"]: "" if ready(n) else "not Ready" for n in found})
            return set(names) == set(self.nodes) and not any(names.values())

        if not eventually(all_ready):
            yield f"nodes {names}, not {sorted(self.nodes)}"
        secrets = kubectl("get", "secrets", "--all-namespaces")["items"]
        for secret in secrets:
            status = (secret["metadata"].get("labels") or {}).get("status", "")
            if status.startswith("pending") or secret["type"] == "bootstrap.kubernetes.io/token":
                yield f"Secret {secret['metadata']['name']} {status}"

    def _left_behind(self) -> Iterator[str]:
        for name in self.nodes:
            if (left := on(name, LEFT_BEHIND, check=False).split()) != ["member"]:
                yield f"{name}: {' '.join(left)}"


@contextmanager
def place(engine: str) -> Iterator[Place]:
    """A place with nothing on it yet; all is gone at the end.

    Raises:
        RuntimeError: not as root, or a sandbox is there already.
    """
    if os.geteuid():
        raise RuntimeError("only root can make machines")
    if left := machines.leftovers():
        raise RuntimeError(f"a sandbox is there already, take it down first (make down): {left}")
    mirror.build(log=_quiet)
    # Else whoever ends this in good order would leave it all behind.
    kept = signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    found = Place(engine)
    try:
        yield found
    finally:
        signal.signal(signal.SIGTERM, kept)
        found.forget()  # a run is in a session of its own, which goes on without this one
        mirror.stop()
        machines.down(log=_quiet)
        shutil.rmtree(site.STATE, ignore_errors=True)
    if left := machines.leftovers():
        raise RuntimeError(f"left behind: {left}")


def _machines() -> list[str]:
    folder = site.STATE / "machines"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def _quiet(_: str) -> None:
    """Machines and mirror have nothing to say here."""
