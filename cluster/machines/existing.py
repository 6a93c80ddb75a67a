"""Hosts that are there already: the program logs in and never makes or deletes them."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.machines import Machine, bastion_of
from cluster.settings import NodeSettings, Stack


class ExistingHosts:
    """The stack file's existing hosts as machines."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.machines: Mapping[str, Machine] = {
            name: self._machine(name, node)
            for name, node in stack.settings.nodes.items()
            if node.machine == "existing"
        }

    def _machine(self, name: str, node: NodeSettings) -> Machine:
        settings = self._stack.settings
        key, later = self._stack.private_key, self._stack.later.get(name, {})
        assert key is not None, "settings refuse existing hosts without one"
        return Machine(
            name=name,
            role=node.role,
            address=later.get("address", str(node.address)),
            internal_address=str(node.internal_address),
            user=node.user or settings.ssh_user,
            port=node.port or settings.ssh_port,
            host_key=later.get("hostKey", str(node.host_key)),
            private_key=key,
            bastion=bastion_of(self._stack),
        )
