"""kubeadm nodes: hosts prepared side by side, a control plane initialised, workers joined.

Preparation and joining are separate commands so that workers prepare while the control plane initialises.
What reads the control plane's secrets (``access``) is a command of its own whose inputs never change: an
edit to the control plane leaves kubeconfig and join key known in a preview.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from cluster.machines import Machine
from cluster.nodes.files import envelope, host_files
from cluster.remote import Host
from cluster.settings import Role, Settings
from cluster.versions import CONTAINERD


class Nodes(pulumi.ComponentResource):
    """All nodes of the cluster.

    Args:
        name: prefix of nothing but this component; children carry their nodes' names.
        settings: the stack's settings.
        machines: the machines, by node name.
        root: the project's folder, where paths in settings start.

    Attributes:
        control_plane: the command that carries the control plane; what lives in the cluster is
            deleted with it.
        control_host: the host to run cluster-side phases on.
        access: kubeconfig and join key, as a secret JSON object.
        joined: the workers' join commands, by node name.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        machines: Mapping[str, Machine],
        root: Path,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:Nodes", name, None, opts)
        self._settings = settings
        control_planes = {n: m for n, m in machines.items() if m.role == "control-plane"}
        hosts = {n: self._host(m) for n, m in machines.items()}
        files = {n: host_files(settings, n, root) for n in machines}
        prepared = {n: self._prepare(hosts[n], files[n]) for n in machines}

        first = next(iter(control_planes))
        self.control_host = hosts[first]
        self.control_plane = self._initialise(hosts[first], files[first], prepared[first])
        self.access = pulumi.Output.json_loads(
            hosts[first].run("access", secret=True, after=[self.control_plane]).stdout
        )
        self.joined = {
            n: self._join(hosts[n], files[n], prepared[n])
            for n, machine in machines.items()
            if machine.role == "worker"
        }
        self.register_outputs({})

    def _host(self, machine: Machine) -> Host:
        return Host(
            machine.name,
            machine,
            self._settings.ssh_timeout_seconds,
            pulumi.ResourceOptions(parent=self),
        )

    def _prepare(self, host: Host, files: Mapping[str, str]) -> remote.Command:
        remove = str(self._settings.remove_packages).lower()
        return host.run(
            "prepare",
            prepare_values(self._settings, host.machine.role),
            stdin=envelope(files),
            undo=_undo(host, "restore", f"REMOVE_PACKAGES={remove}"),
        )

    def _initialise(
        self, host: Host, files: Mapping[str, str], prepared: pulumi.Resource
    ) -> remote.Command:
        schedulable = str(self._settings.schedule_on_control_planes).lower()
        return host.run(
            "init",
            {**self._node_values(host, files, "init.yaml"), "SCHEDULABLE": schedulable},
            undo=_undo(host, "leave"),
            after=[prepared],
        )

    def _join(
        self, host: Host, files: Mapping[str, str], prepared: pulumi.Resource
    ) -> remote.Command:
        return host.run(
            "join",
            self._node_values(host, files, "join.yaml"),
            # What it takes to ask a control plane for a token: its host key, then the key to log in.
            stdin=pulumi.Output.format(
                "{}\n{}", known_host(self.control_host), decoded(self.access, "joinKey")
            ),
            undo=_undo(host, "leave"),
            after=[prepared, self.control_plane],
        )

    def _node_values(
        self, host: Host, files: Mapping[str, str], config: str
    ) -> dict[str, pulumi.Input[str]]:
        """Data of init and join; the digest makes a changed kubeadm configuration run them again."""
        text = next(text for path, text in files.items() if path.endswith(f"/{config}"))
        provider_id = host.machine.provider_id
        return {
            "KUBERNETES_VERSION": self._settings.kubernetes_version,
            "CLUSTER": self._settings.cluster_name,
            "NODE": host.machine.name,
            "CONFIG_DIGEST": hashlib.sha256(text.encode()).hexdigest()[:12],
            **({"PROVIDER_ID": provider_id} if provider_id else {}),
        }


def _undo(host: Host, *words: str) -> Sequence[str]:
    """On a host that stays. A server takes everything along, and must not be dialled when it is gone.

    The engine would: what waits for a replacement that failed is deleted once more in the next run,
    ``deleted_with`` or not (seen with Pulumi 3.260).
    """
    return words if host.machine.carrier is None else ()


def known_host(host: Host) -> pulumi.Output[str]:
    """A line of known_hosts; a port other than 22 goes with the address (sshd(8))."""
    address, port = host.machine.internal_address, host.machine.port
    place = address if port == 22 else f"[{address}]:{port}"
    return pulumi.Output.format("{} {}", place, host.host_key)


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
