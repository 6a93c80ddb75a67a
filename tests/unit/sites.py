"""The sites whose rendered files are kept as goldens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cluster.nodes.files import host_files
from cluster.settings import Settings
from tests.unit.stacks import CLOUD, PRIVATE_KEY, SITE, dev_stack, existing, host_key, load


class Site(NamedTuple):
    base: Mapping[str, Any]
    changes: Mapping[str, Any]


HA = {
    "apiVirtualAddress": "10.0.0.5",
    **{
        f"nodes.cp{n}": {
            "role": "control-plane", "address": f"10.0.0.1{n}", "hostKey": host_key(f"cp{n}"),
        }
        for n in (2, 3)
    },
}  # fmt: skip
"""The small site with two more control planes, which share an address."""

SITES: dict[str, Site] = {
    "public-1.36.4": Site(SITE, {"kubernetesVersion": "1.36.4"}),
    "public-1.31.0": Site(SITE, {"kubernetesVersion": "1.31.0"}),
    "dev": Site(dev_stack(), {}),
    "schedulable": Site(SITE, {"scheduleOnControlPlanes": True, "prePullImages": False}),
    "taints": Site(
        SITE,
        {
            "nodes.cp1.taints": ["example.com/quiet:PreferNoSchedule"],
            "nodes.w1.taints": ["gpu=yes:NoSchedule", "gpu=:NoExecute"],
        },
    ),
    "endpoint": Site(
        SITE,
        {
            "apiEndpoint": "api.example.com:443",
            "sshPort": 2222,
            "nodes.cp1.address": "203.0.113.1",
            "nodes.cp1.privateAddress": "10.0.0.11",
            "nodes.cp1.user": "debian",
            "adminCidrs": ["192.0.2.0/24", "2001:db8::/32"],
        },
    ),
    "ha": Site(SITE, HA),
    "hetzner": Site(CLOUD, {"nodePools": {}, "nodes.w1": {"role": "worker"}}),
    "mixed": Site(
        CLOUD,
        {
            "sshPrivateKey": PRIVATE_KEY,
            "nodePools.worker.count": 1,
            "nodes.w1": existing("w1"),
            "hetzner": {"ingress": "floating-ips", "cloudControllerManager": False},
        },
    ),
}


def dev_files(root: Path) -> None:
    """The files that the dev stack's settings point to."""
    ssh = root / ".sandbox" / "ssh"
    ssh.mkdir(parents=True)
    (ssh / "id_ed25519").write_text(PRIVATE_KEY)
    nodes = dev_stack()["nodes"]
    (ssh / "known_hosts").write_text(
        "".join(f"{values['address']} {host_key(name)}\n" for name, values in nodes.items())
    )
    (root / ".sandbox" / "mirror.asc").write_text(
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )


def rendered(
    root: Path, changes: Mapping[str, Any] | None = None, base: Mapping[str, Any] = SITE
) -> tuple[Settings, dict[str, dict[str, str]]]:
    """The settings of a stack file, and every node's files by its name.

    Args:
        root: an empty folder, for the files that the dev stack asks for.
        changes: changes to the stack file.
        base: the stack file.
    """
    dev_files(root)
    stack = load(changes, base, root)
    nodes = stack.settings.nodes
    return stack.settings, {name: host_files(stack.settings, name, root) for name in nodes}
