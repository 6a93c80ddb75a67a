"""Security updates of the nodes' own systems, and the reboots that some of them need.

The hosts update themselves, by the package that Debian and Ubuntu have for it (unattended-upgrades): each gets
what its distribution calls a security update, at night, also while this program is not run. What asks for a
reboot is left to ``reboots``, which looks at the cluster first.
"""

from __future__ import annotations

import pulumi

from cluster.access import ApiAccess
from cluster.nodes import Nodes
from cluster.nodes.reboots import Reboots
from cluster.remote import scripts_digest
from cluster.settings import Settings

INSTALLED = ("reboot-due.sh", "updates.sh")
"""What a new version of runs the phase again."""


class OsUpdates(pulumi.ComponentResource):
    """Updates on every host, and kured where nodes may be rebooted.

    The phase is there on all nodes in any case, and turns updates on or off: as an undo it would have to be
    run on a host that may be gone (``Host.carrier``).

    Args:
        name: the component's name; phases are called after their nodes.
        settings: the stack's settings.
        nodes: the hosts.
        access: the cluster's API.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        nodes: Nodes,
        access: ApiAccess,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:OsUpdates", name, None, opts)
        wanted = str(settings.os_updates.enabled).lower()
        values = {"AUTOMATIC": wanted, "SCRIPTS": scripts_digest(*INSTALLED)}
        phases = [
            # Not before the join and the look at the kubeconfig, for which others wait: a host runs one phase
            # at a time.
            host.run("updates", values, after=[nodes.joined[node], access.provider])
            for node, host in nodes.hosts.items()
        ]
        if settings.os_updates.reboot:
            Reboots(
                f"{nodes.prefix}kured",
                settings,
                access,
                phases,
                pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
