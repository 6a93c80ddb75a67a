"""kubeadm nodes: hosts prepared side by side, control planes one by one, workers joined in parallel.

Preparation and joining are separate commands so that all hosts prepare while the first control plane is made.
No control plane is special: which one makes the cluster is settled on the hosts (``control-plane.sh``), and
whoever joins, is upgraded or leaves asks any that is well. Upgrades are commands of their own, so that they can
be ordered, one control plane after the other and then workers in batches, while joins are not.

Where the order comes from: KubeOne upgrades the leader first and then the others one by one; k0sctl drains a
tenth of the workers at a time.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import local, remote

from cluster.certificates import client_expiry, warned_of
from cluster.machines import Machine
from cluster.nodes.files import envelope, host_files
from cluster.nodes.keys import ClusterKeys
from cluster.nodes.kubeadm import settings_digest
from cluster.places import placed
from cluster.remote import INSTALLED, Host, at_the_end, parting_words, python, scripts_digest
from cluster.settings import Role, Settings
from cluster.versions import CONTAINERD


class Nodes(pulumi.ComponentResource):
    """All nodes of the cluster.

    Args:
        name: of nothing but this component; children carry their nodes' names.
        settings: the stack's settings.
        machines: the machines, by node name.
        root: the project's folder, where paths in settings start.
        recovery_key: the age key that opens the snapshot which the cluster is to be made from, if it is lost.
        prefix: of the children's names, where a program has several clusters.

    Attributes:
        prefix: the same.
        keys: secrets of the cluster, and its anchor: what lives in the cluster is deleted with it.
        joined: what made each node a member, by its name, control planes among them.
        control_plane: the first of these that is a control plane: from then on the API answers.
        hosts: all hosts, by their nodes' names.
        control_hosts: the control planes' hosts, in the stack file's order.
        access: the kubeconfig, as a secret JSON object.
        recovery: where the cluster is to be made from a snapshot, a word for phases that have to run again
            then, also on machines that are the same.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        machines: Mapping[str, Machine],
        root: Path,
        recovery_key: pulumi.Output[str] | None = None,
        prefix: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:Nodes", name, None, opts)
        self.prefix = prefix
        self._settings = settings
        self._recovery_key = recovery_key
        self._snapshot = snapshot_digest(settings, root)
        self.recovery = {"RECOVERY": self._snapshot[:12]} if self._snapshot else {}
        self.keys = ClusterKeys(f"{prefix}cluster", pulumi.ResourceOptions(parent=self))
        self.hosts = {n: self._host(m) for n, m in machines.items()}
        self._files = {n: host_files(settings, n, root) for n in machines}
        self._prepared = {n: self._prepare(n) for n in machines}
        self.control_hosts = [self.hosts[n] for n in settings.control_planes]
        self.joined: dict[str, remote.Command] = {}
        self._upgraded: dict[str, remote.Command] = {}
        self._join_all()
        self._upgrade_all()
        self.access = self._read_access()
        self.register_outputs({})

    @property
    def control_plane(self) -> remote.Command:
        """What the API is there after."""
        return self.joined[self.control_hosts[0].machine.name]

    @property
    def control_host(self) -> Host:
        """A host to run phases on that any control plane could run."""
        return self.control_hosts[0]

    @property
    def upgraded_control_planes(self) -> list[pulumi.Resource]:
        """What brings each control plane to its version and settings."""
        return [self._upgraded[name] for name in self._settings.control_planes]

    def workers(self) -> list[pulumi.Resource]:
        """What made nodes that pods run on."""
        return [self.joined[name] for name in self._settings.takes_workloads]

    def _host(self, machine: Machine) -> Host:
        return Host(
            f"{self.prefix}{machine.name}",
            machine,
            self._settings.ssh_timeout_seconds,
            remove_packages=self._settings.remove_packages,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _prepare(self, name: str) -> remote.Command:
        host = self.hosts[name]
        return host.run(
            "prepare",
            prepare_values(self._settings, host.machine.role),
            stdin=envelope(self._files[name]),
            timed=True,
        )

    # In

    def _join_all(self) -> None:
        """etcd takes one new member at a time; workers need one control plane that is there."""
        before: list[pulumi.Resource] = []
        if self._snapshot:
            before = [self._send_snapshot(self.control_hosts[0])]
        for name in self._settings.control_planes:
            self.joined[name] = self._join(name, "control-plane", before)
            before = [self.joined[name]]
        for name in self._settings.workers:
            self.joined[name] = self._join(name, "join", [self.control_plane])

    def _join(self, name: str, phase: str, after: Sequence[pulumi.Resource]) -> remote.Command:
        host, files = self.hosts[name], self._files[name]
        provider_id = host.machine.provider_id
        values: dict[str, pulumi.Input[str]] = {
            "CLUSTER": self._settings.cluster_name,
            "NODE": name,
            # A changed kubeadm configuration runs the phase again.
            "CONFIG_DIGEST": _digest(files),
            **self.recovery,
        }
        if provider_id:
            values["PROVIDER_ID"] = provider_id
        if phase == "control-plane":
            values["SCHEDULABLE"] = str(self._settings.schedule_on_control_planes).lower()
            # Other hosts ask for what the installed scripts do.
            values["SCRIPTS"] = scripts_digest()
        stdin = self.peers(host.machine.role)
        if self._snapshot and host is self.control_hosts[0]:
            stdin = pulumi.Output.concat("open ", self._recovery_key or "", "\n", stdin)
        ready = [self._prepared[name], *after]
        leaving = self._membership(name, ready)
        return host.run(
            phase,
            values,
            name=f"{self.prefix}{name}-join",
            stdin=stdin,
            timed=True,
            after=[*ready, *leaving],
        )

    def _membership(self, name: str, after: Sequence[pulumi.Resource]) -> list[local.Command]:
        """Deleted, it takes the node out of the cluster, which its host outlives by a moment.

        It is there before the join: one that broke off may have made a Node. Control planes leave one after
        the other, as they came, for etcd has to agree to each; on destroy nothing is taken out of a cluster
        that goes as a whole, nor is the only control plane.
        """
        others = [host for host in self.control_hosts if host.machine.name != name]
        if not others:
            return []
        words = [f"NODE={name}", f"DRAIN_SECONDS={self._settings.drain_timeout_seconds}"]
        left = at_the_end(
            f"{self.prefix}{name}-membership",
            "cluster.parting remove",
            stdin=parting_words({host: host.removal_line(words) for host in others}),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(after),
                deleted_with=self.keys.anchor,
                custom_timeouts=pulumi.CustomTimeouts(delete="90m"),
            ),
        )
        return [left]

    def _send_snapshot(self, host: Host) -> local.Command:
        """Brings the snapshot to where the cluster is made, if it is to be made from one.

        From here and by a command of ours: as an asset or on stdin, all of it would be in the state.
        """
        path = self._settings.recovery_snapshot
        line = host.as_root(["bash", f"{INSTALLED}/receive.sh", self._snapshot])
        name = host.machine.name
        return local.Command(
            f"{self.prefix}{name}-recovery",
            create=f"{python()} -m cluster.recovery {shlex.join([path, self._snapshot])}",
            stdin=parting_words({host: line}),
            logging=local.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[self._prepared[name]],
                deleted_with=host.carrier,
                custom_timeouts=pulumi.CustomTimeouts(create="60m", update="60m"),
            ),
        )

    def peers(self, role: Role) -> pulumi.Output[str]:
        """stdin of phases that ask control planes: who they are, and the key for it (``peers.sh``)."""
        admitted: pulumi.Input[str] = self.keys.admitted if role == "control-plane" else ""
        hosts = [_peer(host) for host in self.control_hosts]
        return pulumi.Output.concat(*hosts, admitted, self.keys.private(role))

    # Up

    def _upgrade_all(self) -> None:
        """A chain of control planes, then chains of workers, as many as may be out at the same time.

        On a new cluster each finds nothing to do.
        """
        settings = self._settings
        after: list[pulumi.Resource] = []
        for name in settings.control_planes:
            after = [self._upgrade(name, after)]
        chains: list[list[pulumi.Resource]] = [after] * settings.worker_batch
        for number, name in enumerate(settings.workers):
            place = number % settings.worker_batch
            chains[place] = [self._upgrade(name, chains[place])]

    def _upgrade(self, name: str, after: Sequence[pulumi.Resource]) -> remote.Command:
        host, settings = self.hosts[name], self._settings
        self._upgraded[name] = host.run(
            "upgrade",
            {
                "KUBERNETES_VERSION": settings.kubernetes_version,
                "CLUSTER": settings.cluster_name,
                "NODE": name,
                "ROLE": host.machine.role,
                "DRAIN_SECONDS": str(settings.drain_timeout_seconds),
                "SETTINGS": settings_digest(settings, host.machine.role),
                **self._renewal(),
            },
            stdin=self.peers(host.machine.role),
            after=[self.joined[name], *after],
        )
        return self._upgraded[name]

    def _renewal(self) -> dict[str, str]:
        word = self._settings.certificate_renewal
        return {"RENEWAL": word} if word else {}

    def _read_access(self) -> pulumi.Output[Any]:
        """The kubeconfig, read anew only where certificates were renewed: else it is known in a preview."""
        first = self.control_hosts[0]
        renewed = [self._upgraded[first.machine.name]] if self._renewal() else []
        after, name = [self.control_plane, *renewed], f"{self.prefix}cluster-access"
        read = first.run("access", self._renewal(), name=name, secret=True, after=after)
        return pulumi.Output.json_loads(read.stdout)

    @property
    def certificates_expire(self) -> pulumi.Output[dict[str, str]]:
        """When the first certificate of each control plane expires, and that of the kubeconfig (RFC 3339)."""
        known: dict[str, pulumi.Input[str]] = {
            name: self._upgraded[name].stdout.apply(str.strip)
            for name in self._settings.control_planes
        }
        known["kubeconfig"] = pulumi.Output.unsecret(
            decoded(self.access, "kubeconfig").apply(client_expiry)
        )
        return pulumi.Output.all(**known).apply(warned_of)


def snapshot_digest(settings: Settings, root: Path) -> str:
    """SHA-256 of the snapshot that the cluster is to be made from; nothing without one."""
    if not settings.recovery_snapshot:
        return ""
    with placed(root, settings.recovery_snapshot).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(files: Mapping[str, str]) -> str:
    """Of kubeadm's configuration."""
    texts = [
        text for path, text in sorted(files.items()) if path.endswith(("/init.yaml", "/join.yaml"))
    ]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


def _peer(host: Host) -> pulumi.Output[str]:
    machine = host.machine
    words = (machine.name, machine.user, machine.internal_address, machine.port, host.host_key)
    return pulumi.Output.format("host {} {} {} {} {}\n", *words)


def prepare_values(settings: Settings, role: Role) -> dict[str, str]:
    """The values of the ``prepare`` phase, over SSH or at a server's first boot."""
    return {
        "KUBERNETES_VERSION": settings.kubernetes_version,
        "CONTAINERD_VERSION": CONTAINERD,
        "ROLE": role,
    }


def decoded(access: pulumi.Output[Any], key: str) -> pulumi.Output[str]:
    """One of the secrets that access.sh prints, in clear; stays a secret to Pulumi."""
    return access.apply(lambda values: base64.b64decode(values[key]).decode())
