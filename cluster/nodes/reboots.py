"""kured: reboots nodes whose updates ask for it, one at a time, each drained before.

kured (kubereboot/kured, a sandbox project of the CNCF) is the component that kubeadm clusters have for this.
Written as typed resources after its own manifest of the pinned version (kured-ds.yaml, kured-rbac.yaml): its
chart would be one more thing to mirror, for seven small objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.nodes.hardening import namespace_labels
from cluster.remote import INSTALLED
from cluster.settings import Settings

NAME = NAMESPACE = "kured"
LABELS = {"app.kubernetes.io/name": NAME}
CREDENTIALS = "/credentials"
"""Where kured's container has the pod's token for ``reboot-due.sh``: no path of it is a link."""


class Reboots(pulumi.ComponentResource):
    """kured's namespace, rights and DaemonSet.

    Args:
        name: prefix of the resources' names.
        settings: when nodes may be rebooted, and the bound on a drain.
        access: the cluster's API.
        after: what puts its scripts on the hosts.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:Reboots", name, None, opts)
        self._name = name
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": namespace_labels("privileged")},
            opts=access.options(self),
        )
        in_namespace = access.options(self, [namespace])
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": NAME, "namespace": NAMESPACE},
            opts=in_namespace,
        )
        rights = [*self._rights(access.options(self)), *self._right_to_lock(in_namespace)]
        k8s.apps.v1.DaemonSet(
            f"{name}-daemonset",
            metadata={"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
            spec={
                "selector": {"match_labels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": _pod(settings)},
            },
            opts=access.options(self, [account, *rights, *after]),
        )
        self.register_outputs({})

    def _rights(self, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        role = k8s.rbac.v1.ClusterRole(
            f"{self._name}-clusterrole",
            metadata={"name": NAME},
            rules=[
                # To cordon and uncordon; the list is for reboot-due.sh.
                {"api_groups": [""], "resources": ["nodes"], "verbs": ["get", "list", "patch"]},
                # To drain: what runs on a node, and whose it is. Pods go by eviction only, as budgets allow.
                {"api_groups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
                {"api_groups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
                {"api_groups": ["apps"], "resources": ["daemonsets"], "verbs": ["get"]},
            ],
            opts=opts,
        )
        binding = k8s.rbac.v1.ClusterRoleBinding(
            f"{self._name}-clusterrolebinding",
            metadata={"name": NAME},
            role_ref=_role_of("ClusterRole"),
            subjects=SUBJECTS,
            opts=opts,
        )
        return [role, binding]

    def _right_to_lock(self, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        """The lock is an annotation of kured's own DaemonSet."""
        lock: Any = {
            "api_groups": ["apps"],
            "resources": ["daemonsets"],
            "resource_names": [NAME],
            "verbs": ["update"],
        }
        role = k8s.rbac.v1.Role(
            f"{self._name}-role",
            metadata={"name": NAME, "namespace": NAMESPACE},
            rules=[lock],
            opts=opts,
        )
        binding = k8s.rbac.v1.RoleBinding(
            f"{self._name}-rolebinding",
            metadata={"name": NAME, "namespace": NAMESPACE},
            role_ref=_role_of("Role"),
            subjects=SUBJECTS,
            opts=opts,
        )
        return [role, binding]


SUBJECTS: Any = [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


def _role_of(kind: str) -> Any:
    return {"api_group": "rbac.authorization.k8s.io", "kind": kind, "name": NAME}


def _arguments(settings: Settings) -> list[str]:
    reboots = settings.os_updates.reboots
    return [
        f"--ds-namespace={NAMESPACE}",
        f"--ds-name={NAME}",
        f"--reboot-sentinel-command={INSTALLED}/reboot-due.sh",
        f"--period={reboots.check_seconds}s",
        f"--reboot-days={','.join(reboots.days)}",
        f"--start-time={reboots.start}",
        f"--end-time={reboots.end}",
        f"--time-zone={reboots.time_zone}",
        # A node that is not drained by then is uncordoned, and tried again later.
        f"--drain-timeout={settings.drain_timeout_seconds}s",
        # The lock never runs out (--lock-ttl): a node that does not come back keeps it, and so all others where
        # they are. It goes with the Node (cluster.sh).
        "--concurrency=1",
    ]


def _pod(settings: Settings) -> Any:
    token = {"service_account_token": {"path": "token"}}
    return {
        "service_account_name": NAME,
        "priority_class_name": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "node_selector": {"kubernetes.io/os": "linux"},
        # It runs the host's own commands, among the host's files: those of process 1.
        "host_pid": True,
        "containers": [
            {
                "name": NAME,
                "image": versions.KURED_IMAGE,
                "command": ["/usr/bin/kured"],
                "args": _arguments(settings),
                "env": [
                    {
                        "name": "KURED_NODE_ID",
                        "value_from": {"field_ref": {"field_path": "spec.nodeName"}},
                    }
                ],
                # Nothing less may enter another mount namespace.
                "security_context": {"privileged": True, "read_only_root_filesystem": True},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "volume_mounts": [
                    {"name": "credentials", "mount_path": CREDENTIALS, "read_only": True}
                ],
            }
        ],
        "volumes": [{"name": "credentials", "projected": {"sources": [token]}}],
    }
