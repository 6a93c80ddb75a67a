"""The ``ha`` stack: three control planes behind a virtual address, two workers, all machines of this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cluster import versions
from sandbox import machines, mirror, stacks

Log = Callable[[str], None]

STACK = "ha"
VIRTUAL_ADDRESS = "10.77.0.10"
MEMORY_MIB = {"control-plane": 3072, "worker": 2048}


def node(role: str, last: int) -> dict[str, str]:
    """A node's settings; ``last`` is the last part of its address."""
    return {"role": role, "address": f"10.77.0.{last}"}


NODES: Mapping[str, Mapping[str, str]] = {
    **{f"cp{n}": node("control-plane", 10 + n) for n in (1, 2, 3)},
    **{f"w{n}": node("worker", 20 + n) for n in (1, 2)},
}


def stack_file(changes: Mapping[str, Any] | None = None) -> Path:
    """Write the stack's file, and tell where; see ``stacks.write``."""
    own = {"clusterName": STACK, "nodes": NODES, "apiVirtualAddress": VIRTUAL_ADDRESS}
    return stacks.write(STACK, stacks.of_site(hosts=True) | own, changes)


def start_site(log: Log = print, kubernetes: Sequence[str] = (versions.KUBERNETES,)) -> None:
    """Mirror and machines: what a user's site has before the first ``up``.

    Args:
        log: gets progress.
        kubernetes: the versions that the mirror has.
    """
    for version in kubernetes:
        mirror.build(version, log=log)
    start_machines(NODES, log)
    mirror.serve(log=log)


def start_machines(nodes: Mapping[str, Mapping[str, str]], log: Log = print) -> None:
    """Start machines for nodes, by their names and addresses."""
    specs = [
        machines.MachineSpec(name, IPv4Address(values["address"]), MEMORY_MIB[values["role"]])
        for name, values in nodes.items()
    ]
    machines.up(specs, log=log)
