"""Snapshots of the cluster, which every control plane takes by itself, encrypted for a key that is not here.

A timer and a script on the host (``cluster/nodes/scripts/snapshot.sh``), and no CronJob: it needs neither an
image of its own, nor the cluster's keys in a pod, and goes on while nothing can be scheduled. Every control
plane takes whole snapshots, as each has all of etcd: what is lost with one is at the others.
"""

from __future__ import annotations

import pulumi

from cluster.nodes import Nodes
from cluster.remote import scripts_digest
from cluster.settings import Stack

INSTALLED = ("own-kubernetes-backup.service", "own-kubernetes-backup.timer", "snapshot.sh")
"""What the phase installs: a new version of it runs the phase again."""


def etcd_backup(
    name: str, stack: Stack, nodes: Nodes, opts: pulumi.ResourceOptions | None = None
) -> EtcdBackup | None:
    """The backups, where they are wanted."""
    return EtcdBackup(name, stack, nodes, opts) if stack.settings.backup else None


class EtcdBackup(pulumi.ComponentResource):
    """A timer on each control plane; it is there when a first snapshot was taken.

    Args:
        name: the component's name.
        stack: the settings, and the credentials of the storage.
        nodes: where snapshots are taken.

    Attributes:
        commands: the phases that install the timers, one on each control plane.
    """

    def __init__(
        self,
        name: str,
        stack: Stack,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:backup:EtcdBackup", name, None, opts)
        backup = stack.settings.backup
        assert backup is not None
        values = {
            "CLUSTER": stack.settings.cluster_name,
            "SCHEDULE": backup.schedule,
            "DIRECTORY": backup.directory,
            "KEEP": str(backup.keep),
            "RECIPIENT": backup.public_key,
            "SCRIPTS": scripts_digest(*INSTALLED),
            **nodes.recovery,
        }
        if backup.s3:
            values |= {"S3_URL": backup.s3.url, "S3_REGION": backup.s3.region}
        members = [nodes.joined[host.machine.name] for host in nodes.control_hosts]
        self.commands = [
            host.run(
                "backup",
                {**values, "NODE": host.machine.name},
                stdin=stack.backup_credentials if backup.s3 else None,
                undo=["backup", "REMOVE=true"],
                after=members,
            )
            for host in nodes.control_hosts
        ]
        self.register_outputs({})
