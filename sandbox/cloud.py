"""The ``cloud`` stack: the same program on servers of a stand-in for Hetzner Cloud, on this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox import hetzner, machines, mirror, site, stacks

Log = Callable[[str], None]

STACK = "cloud"
PRIVATE = "10.78.0.0/24"

_OWN: Mapping[str, Any] = {
    "clusterName": STACK,
    "machines": "hetzner",
    "nodes": {"cp1": {"role": "control-plane"}},
    "nodePools": {"worker": {"role": "worker", "count": 2}},
    "nodeCidr": PRIVATE,
    "hetzner": {
        "location": "fsn1",
        "serverType": "cx23",
        # Their images are in no package registry.
        "cloudControllerManager": False,
        "csiDriver": False,
    },
}


def stack_file(changes: Mapping[str, Any] | None = None) -> Path:
    """Write the stack's file, and tell where; see ``stacks.write``."""
    api = {"hcloud:token": site.HETZNER_TOKEN, "hcloud:endpoint": site.HETZNER_API}
    return stacks.write(STACK, {**stacks.of_site(), **_OWN}, changes, api)


def start_site(log: Log = print) -> None:
    """Mirror, network and API: what there is before the first ``up``."""
    mirror.build(log=log)
    machines.up([], log=log)
    mirror.serve(log=log)
    hetzner.start(log)


def stop_site(log: Log = print) -> None:
    """Take everything away, servers that are left too."""
    hetzner.stop()
    mirror.stop()
    machines.down(log)
