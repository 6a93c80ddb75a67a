"""Stack files for this host's machines: what every one of them says, and what a test changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox import site

PREFIX = "own-kubernetes:"

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
"""What the sandbox asks of every stack."""

_HOST_KEYS = ("loadBalancerPools", "nodeCidr", "sshKnownHostsFile", "sshPrivateKeyFile")
"""And of those on machines that are there before the first ``up``."""


def of_site(*, hosts: bool = False) -> dict[str, Any]:
    """What the dev stack's file says of this site.

    Args:
        hosts: with what it says of its hosts' network and logins.
    """
    shared = yaml.safe_load((site.ROOT / "Pulumi.dev.yaml").read_text())["config"]
    keys = (*_SITE_KEYS, *(_HOST_KEYS if hosts else ()))
    return {key: shared[f"{PREFIX}{key}"] for key in keys}


def write(
    stack: str,
    values: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
) -> Path:
    """Write a stack's file, and tell where.

    Args:
        stack: the stack's name.
        values: settings of this project.
        changes: values put in by their path (``hetzner.ingress``); None takes a key out.
        others: settings of other namespaces, by their full key.
    """
    own = copy.deepcopy(dict(values))
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = own
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    config = {f"{PREFIX}{key}": value for key, value in own.items()} | dict(others or {})
    file = site.STATE / f"Pulumi.{stack}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"config": config}))
    return file
