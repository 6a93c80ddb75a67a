"""What an agent on every node has besides its DaemonSet: a namespace, an account, and rights in the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster.nodes.hardening import namespace_labels


def agent_namespace(
    name: str, namespace: str, opts: pulumi.ResourceOptions
) -> k8s.core.v1.Namespace:
    """A namespace for pods on the host's network, with rights that only the level ``privileged`` has."""
    return k8s.core.v1.Namespace(
        f"{name}-namespace",
        metadata={"name": namespace, "labels": namespace_labels("privileged")},
        opts=opts,
    )


def agent_rights(
    name: str,
    agent: str,
    namespace: str,
    rules: Sequence[Any],
    *,
    opts: pulumi.ResourceOptions,
    in_namespace: pulumi.ResourceOptions,
) -> list[pulumi.Resource]:
    """An account, and rights in all namespaces.

    Args:
        name: prefix of the resources' names.
        agent: the name of account, role and binding.
        namespace: the account's.
        rules: of the role.
        opts: options of role and binding.
        in_namespace: options of the account.
    """
    account = k8s.core.v1.ServiceAccount(
        f"{name}-account",
        metadata={"name": agent, "namespace": namespace},
        opts=in_namespace,
    )
    role = k8s.rbac.v1.ClusterRole(
        f"{name}-role", metadata={"name": agent}, rules=list(rules), opts=opts
    )
    binding = k8s.rbac.v1.ClusterRoleBinding(
        f"{name}-binding",
        metadata={"name": agent},
        role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": agent},
        subjects=[{"kind": "ServiceAccount", "name": agent, "namespace": namespace}],
        opts=opts,
    )
    return [account, role, binding]
