"""The door to the Kubernetes API: a provider from the kubeconfig, and what its resources share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from cluster import copies
from cluster.machines import Machine
from cluster.nodes import Nodes, decoded
from cluster.settings import API_PORT, Settings


class ApiAccess(pulumi.ComponentResource):
    """The cluster's API for typed resources.

    Args:
        name: prefix of the provider's name.
        settings: the stack's settings; the cluster's name is its identity to the provider, so that a
            kubeconfig which is unknown in a preview does not read as another cluster, replacing
            every object.
        nodes: the nodes that carry the API.

    Attributes:
        kubeconfig: the administrator's kubeconfig, a secret.
        workers: what makes nodes that pods run on: the joins, and what frees new nodes of a taint. What
            waits for pods comes after them, so that a failed join ends the run at once, not when the
            wait does.
        provider: for every resource in the cluster.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:access:ApiAccess", name, None, opts)
        self._carrier = nodes.keys.anchor
        self.workers: list[pulumi.Resource] = nodes.workers()
        self.kubeconfig = _from_outside(
            decoded(nodes.access, "kubeconfig"), settings, nodes.control_host.machine
        )
        self.provider = k8s.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig.apply(copies.for_provider),
            cluster_identifier=settings.cluster_name,
            # Else changed data would replace them (pulumi-kubernetes' default).
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            # An object that a killed run made, and the state does not know, is taken over; so are the fields
            # of it that the stack file has changed since (the dead run counts as another manager of them).
            upsert_existing_objects=True,
            enable_patch_force=True,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=self._carrier),
        )
        self.register_outputs({})

    def options(
        self,
        parent: pulumi.Resource | None = None,
        after: Sequence[pulumi.Resource] = (),
        hooks: pulumi.ResourceHookBinding | None = None,
    ) -> pulumi.ResourceOptions:
        """Options of a resource in the cluster: it goes when the cluster goes.

        Destroying a stack therefore asks no API that may be dead, and takes no time for it.
        """
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            deleted_with=self._carrier,
            depends_on=list(after),
            hooks=hooks,
        )


CERTIFIED_NAME = "kubernetes.default.svc"
"""In every API server's certificate (kubeadm's own default)."""


def _from_outside(
    kubeconfig: pulumi.Output[str], settings: Settings, machine: Machine
) -> pulumi.Output[str]:
    """The kubeconfig for users, who may not be in the nodes' private network.

    By their tunnel, if they have one; else, where no endpoint was given, to the control plane's own address.
    Its certificate need not name that address, which a server has only once it is made: another name in it
    is checked.
    """
    if not settings.api_tunnel and (
        settings.api_endpoint
        or settings.api_virtual_address
        or machine.address == machine.internal_address
    ):
        return kubeconfig
    near_end, _, port = settings.api_tunnel.partition(":")

    def pointed(values: Sequence[Any]) -> str:
        text, address = values
        host = f"[{address}]" if ":" in address else address
        config = yaml.safe_load(text)
        for entry in config["clusters"]:
            entry["cluster"]["server"] = f"https://{host}:{port or API_PORT}"
            entry["cluster"]["tls-server-name"] = CERTIFIED_NAME
        return yaml.safe_dump(config, sort_keys=False)

    return pulumi.Output.all(kubeconfig, near_end or machine.address).apply(pointed)
