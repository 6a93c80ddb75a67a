"""The door to the Kubernetes API: a provider from the kubeconfig, and what its resources share."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from cluster.nodes import Nodes, decoded


class ApiAccess(pulumi.ComponentResource):
    """The cluster's API for typed resources.

    Args:
        name: prefix of the provider's name.
        cluster_name: identity of the cluster. Given to the provider so that a kubeconfig which is
            unknown in a preview does not read as another cluster, replacing every object.
        nodes: the nodes that carry the API.

    Attributes:
        kubeconfig: the administrator's kubeconfig, a secret.
        workers: what makes the nodes that pods run on; what waits for pods comes after them, so that
            a failed join ends the run at once, not when the wait does.
        provider: for every resource in the cluster.
    """

    def __init__(
        self,
        name: str,
        cluster_name: str,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:access:ApiAccess", name, None, opts)
        self._carrier = nodes.control_plane
        self.workers = list(nodes.joined.values())
        self.kubeconfig = decoded(nodes.access, "kubeconfig")
        self.provider = k8s.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            cluster_identifier=cluster_name,
            # Else changed data would replace them (pulumi-kubernetes' default).
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=self._carrier),
        )
        self.register_outputs({})

    def options(
        self, parent: pulumi.Resource, after: Sequence[pulumi.Resource] = ()
    ) -> pulumi.ResourceOptions:
        """Options of a resource in the cluster: it goes when the control plane goes.

        Destroying a stack therefore asks no API that may be dead, and takes no time for it.
        """
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            deleted_with=self._carrier,
            depends_on=list(after),
        )
