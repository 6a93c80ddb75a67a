"""Labels of nodes as typed resources: an edit to one is seen in a preview and reaches the live node."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.nodes import Nodes
from cluster.settings import Settings


class NodeLabels(pulumi.ComponentResource):
    """One patch for each node that has labels in the stack file.

    Server-side apply owns just these labels: those of Kubernetes itself stay as they are, and a label
    taken out of the stack file goes from the node.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:NodeLabels", name, None, opts)
        for node, values in settings.nodes.items():
            if values.labels:
                k8s.core.v1.NodePatch(
                    f"{name}-{node}",
                    metadata={
                        "name": node,
                        "labels": values.labels,
                        "annotations": {"pulumi.com/patchForce": "true"},
                    },
                    opts=access.options(self, [nodes.joined[node]]),
                )
        self.register_outputs({})
