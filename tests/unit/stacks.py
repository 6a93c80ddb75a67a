"""Stack files for tests, handed to the program as the engine hands them over.

The engine fills in the defaults of ``Pulumi.yaml`` key by key (no merging inside a key) and passes every
value as text: scalars as they are, objects and arrays as JSON.
"""

from __future__ import annotations

import base64
import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import yaml

from cluster import settings
from cluster.errors import Problem, SettingsError

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "own-kubernetes"
REMOVED = object()
"""As a value in ``changes``: the key is not in the stack file."""

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAI"
PUBLIC_KEY = f"ssh-ed25519 {ED25519}{'LOGIN':A<43}"


def _private_key(public_key: str) -> str:
    """An OpenSSH private key in form: the public half in clear, and no secret where that would be."""
    parts = [b"none", b"none", b""]
    keys = [base64.b64decode(public_key.split()[1]), b"Classified"]
    framed = [len(part).to_bytes(4) + part for part in (*parts, *keys)]
    blob = b"".join([b"openssh-key-v1\0", *framed[:3], (1).to_bytes(4), *framed[3:]])
    text = base64.b64encode(blob).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n"


PRIVATE_KEY = _private_key(PUBLIC_KEY)


def host_key(name: str) -> str:
    """A host key in form, another one for each name."""
    return f"ssh-ed25519 {ED25519}{name.upper():A<43.43}"


SITE: Mapping[str, Any] = {
    "sshPrivateKey": PRIVATE_KEY,
    "nodeCidr": "10.0.0.0/24",
    "adminCidrs": ["203.0.113.7/32"],
    "loadBalancerPools": ["10.0.0.200-10.0.0.219"],
    "nodes": {
        "cp1": {"role": "control-plane", "address": "10.0.0.11", "hostKey": host_key("cp1")},
        "w1": {"role": "worker", "address": "10.0.0.21", "hostKey": host_key("w1")},
        "w2": {"role": "worker", "address": "10.0.0.22", "hostKey": host_key("w2")},
    },
}
"""A small site with internet: nothing but what every stack file has to say."""


HETZNER_TOKEN = "api-token-in-clear".ljust(64, "x").replace("-", "0")
CLOUD: Mapping[str, Any] = {
    "hcloud:token": HETZNER_TOKEN,
    "clusterName": "blue",
    "machines": "hetzner",
    "nodeCidr": "10.78.0.0/24",
    "adminCidrs": ["203.0.113.7/32"],
    "nodes": {"cp1": {"role": "control-plane"}},
    "nodePools": {"worker": {"role": "worker", "count": 2}},
}
"""A small site at Hetzner Cloud: nothing but what every stack file for it has to say."""


def existing(name: str, role: str = "worker", **more: Any) -> dict[str, Any]:
    """An existing host, for stack files with servers; 10.78.0.5 unless another address is given."""
    own = {"role": role, "machine": "existing", "address": "10.78.0.5", "hostKey": host_key(name)}
    return {**own, **more}


@functools.cache
def declarations() -> dict[str, dict[str, Any]]:
    """``config`` of Pulumi.yaml."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())[
        "config"
    ]
    return declared


@functools.cache
def dev_stack() -> dict[str, Any]:
    """The values of ``Pulumi.dev.yaml``."""
    values = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    return {key.removeprefix(f"{NAMESPACE}:"): value for key, value in values.items()}


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with values put in at paths (``nodes.w1.address``) or taken out (``REMOVED``)."""
    values: dict[str, Any] = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
    return values


def configure(values: Mapping[str, Any]) -> None:
    """Give the program a stack file's values, as the engine does."""
    declared = declarations()
    defaults = {key: entry["default"] for key, entry in declared.items() if "default" in entry}
    pulumi.runtime.set_all_config(
        {_full(key): _text(value) for key, value in {**defaults, **values}.items()},
        ["hcloud:token"]
        + [f"{NAMESPACE}:{key}" for key, entry in declared.items() if entry.get("secret")],
    )


def _full(key: str) -> str:
    """A key with its namespace; another one than this project's stands in the key (``hcloud:token``)."""
    return key if ":" in key else f"{NAMESPACE}:{key}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def load(
    changes: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] = SITE,
    root: Path = ROOT,
) -> settings.Stack:
    """The stack that a stack file makes."""
    configure(changed(base, changes or {}))
    return settings.load(pulumi.Config(NAMESPACE), root)


def refused(
    changes: Mapping[str, Any], base: Mapping[str, Any] = SITE, root: Path = ROOT
) -> SettingsError:
    """The error that a stack file makes; an assertion error where it makes none."""
    try:
        load(changes, base, root)
    except SettingsError as error:
        return error
    raise AssertionError(f"a stack file with {dict(changes)} was not refused")


def problem(
    changes: Mapping[str, Any], key: str, base: Mapping[str, Any] = SITE, root: Path = ROOT
) -> Problem:
    """The only problem at a key."""
    error = refused(changes, base, root)
    found = [problem for problem in error.problems if problem.key == key]
    assert len(found) == 1, f"not one problem at {key}: {error}"
    return found[0]
