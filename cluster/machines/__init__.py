"""Where machines come from: every source yields the same ``Machine``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pulumi

from cluster.settings import Role, Settings, Stack


@dataclass(frozen=True)
class Bastion:
    """The host by which SSH gets to machines; from there on connections are TCP only.

    Attributes:
        address: where its SSH is answered.
        port: SSH port.
        user: login user.
        host_key: its SSH public key, checked before the machine's.
        private_key: the login key, a secret.
    """

    address: str
    port: int
    user: str
    host_key: str
    private_key: pulumi.Output[str]


def bastion_of(stack: Stack) -> Bastion | None:
    """The stack's bastion, if there is one."""
    proxy, key = stack.settings.proxy, stack.proxy_key
    if proxy is None:
        return None
    assert key is not None, "settings refuse a bastion without one"
    return Bastion(proxy.address, proxy.port, str(proxy.user), str(proxy.host_key), key)


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
        bastion: the host by which all dials go, if any.
        first_contact: the host key is that of the machine's first boot, known to whoever reads its
            user-data: the first phase has the host make one of its own.
        new: it is made in this run, in place of one that is gone: no contact of an earlier run was with it.
        carrier: the resource whose deletion takes the machine with it (a cloud server), or None
            for a host that stays.
        provider_id: what the cloud knows the machine by (``hcloud://42``), for the kubelet.
        after: what has to be there before the machine is dialled (its private network), and stays until all
            that was done on it has ended.
    """

    name: str
    role: Role
    address: pulumi.Input[str]
    internal_address: str
    user: str
    port: int
    host_key: pulumi.Input[str]
    private_key: pulumi.Output[str]
    bastion: Bastion | None = None
    first_contact: bool = False
    new: bool = False
    carrier: pulumi.Resource | None = None
    provider_id: pulumi.Input[str] | None = None
    after: tuple[pulumi.Resource, ...] = ()

    @property
    def login(self) -> pulumi.Output[str]:
        """``user@address`` for those who have the key; the port, where it is another, stands apart."""
        port = "" if self.port == 22 else f" -p {self.port}"
        jump = f" {self.jump}" if self.jump else ""
        return pulumi.Output.format("{}@{}{}{}", self.user, self.address, port, jump)

    @property
    def jump(self) -> str:
        """ssh's option for the bastion, or nothing."""
        way = self.bastion
        return f"-J {way.user}@{way.address}:{way.port}" if way else ""


class MachineSource(Protocol):
    """Yields machines by node name, in the stack file's order."""

    machines: Mapping[str, Machine]


def machines_of(settings: Settings, *sources: MachineSource) -> dict[str, Machine]:
    """All sources' machines, in the order of the stack's nodes."""
    found = {name: machine for source in sources for name, machine in source.machines.items()}
    return {name: found[name] for name in settings.nodes}
