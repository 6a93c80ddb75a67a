"""The ``cloud`` stack: the same program on servers of a stand-in for Hetzner Cloud, on this host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox import hetzner, machines, mirror, site

Log = Callable[[str], None]

STACK = "cloud"
PRIVATE = "10.78.0.0/24"
FILE = site.STATE / f"Pulumi.{STACK}.yaml"
_PREFIX = "own-kubernetes:"

_SITE_KEYS = (
    "adminCidrs",
    "containerd",
    "helloHost",
    "ignorePreflightErrors",
    "kubeProxy",
    "kubelet",
    "mirror",
    "sshTimeoutSeconds",
)
"""What the sandbox asks of every stack, taken from the dev stack's file."""

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
    """Write the stack's file, and tell where.

    Args:
        changes: values put in by their path (``hetzner.ingress``); None takes a key out.
    """
    shared = yaml.safe_load((site.ROOT / "Pulumi.dev.yaml").read_text())["config"]
    values = {key: shared[f"{_PREFIX}{key}"] for key in _SITE_KEYS} | copy.deepcopy(dict(_OWN))
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    config = {f"{_PREFIX}{key}": value for key, value in values.items()}
    config |= {"hcloud:token": site.HETZNER_TOKEN, "hcloud:endpoint": site.HETZNER_API}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(yaml.safe_dump({"config": config}))
    return FILE


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
