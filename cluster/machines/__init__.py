"""Where machines come from: every source yields the same ``Machine``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pulumi

from cluster.settings import Role


@dataclass(frozen=True)
class Machine:
    """A host that can be reached over SSH and become a node.

    Attributes:
        name: the node's name.
        role: what the node will be.
        address: where SSH is answered.
        internal_address: IPv4 address that the other nodes use.
        user: login user; root, or one with password-less sudo.
        port: SSH port.
        host_key: the host's SSH public key; no host is dialled without.
        private_key: the login key, a secret.
        carrier: the resource whose deletion takes the machine with it (a cloud server), or None
            for a host that stays.
    """

    name: str
    role: Role
    address: pulumi.Input[str]
    internal_address: pulumi.Input[str]
    user: str
    port: int
    host_key: pulumi.Input[str]
    private_key: pulumi.Output[str]
    carrier: pulumi.Resource | None = None


class MachineSource(Protocol):
    """Yields machines by node name, in the stack file's order."""

    machines: Mapping[str, Machine]
