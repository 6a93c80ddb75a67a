"""MetalLB: addresses for Services of type LoadBalancer, announced on the nodes' own network (layer 2).

MetalLB's admission webhook answers some seconds after its pod is ready, and the API server refuses address
pools until then: a command on the control plane waits for it with a server-side dry run. The webhook is
never taken away.
"""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.nodes import Nodes, decoded
from cluster.settings import Settings

NAMESPACE = "metallb-system"
REPOSITORY = "https://metallb.github.io/metallb"


PROBE = {"initialDelaySeconds": 1, "periodSeconds": 2}
"""The chart's own looks first after 10 s, and then every 10."""

VALUES = {
    # Layer 2 only: no BGP daemon beside the speaker.
    "frrk8s": {"enabled": False},
    "speaker": {"frr": {"enabled": False}, "readinessProbe": PROBE},
    "controller": {"readinessProbe": PROBE},
}


class MetalLB(pulumi.ComponentResource):
    """MetalLB's release, one address pool from the settings, and its announcement.

    Args:
        name: prefix of the resources' names.
        settings: pools and chart location.
        access: the cluster's API.
        nodes: where to wait for the webhook.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:network:MetalLB", name, None, opts)
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": NAMESPACE,
                # The speaker answers ARP on the host's network.
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            },
            opts=access.options(self),
        )
        # MetalLB's controller would make this Secret itself, but only once it runs: until then no
        # speaker starts, and each try to mount it doubles the wait.
        memberlist = k8s.core.v1.Secret(
            f"{name}-memberlist",
            metadata={"name": "metallb-memberlist", "namespace": NAMESPACE},
            string_data={"secretkey": decoded(nodes.access, "memberlistKey")},
            opts=access.options(self, [namespace]),
        )
        release = k8s.helm.v3.Release(
            f"{name}-release",
            name="metallb",
            namespace=NAMESPACE,
            values=VALUES,
            timeout=300,
            **chart_source(
                settings, "metallb", versions.METALLB, chart="metallb", repository=REPOSITORY
            ),
            opts=access.options(self, [memberlist, *access.workers]),
        )
        webhook = nodes.control_host.run("webhook", after=[release])
        self.pool = k8s.apiextensions.CustomResource(
            f"{name}-pool",
            api_version="metallb.io/v1beta1",
            kind="IPAddressPool",
            metadata={"name": "default", "namespace": NAMESPACE},
            spec={"addresses": [str(pool) for pool in settings.load_balancer_pools]},
            opts=access.options(self, [webhook]),
        )
        self.announcement = k8s.apiextensions.CustomResource(
            f"{name}-announcement",
            api_version="metallb.io/v1beta1",
            kind="L2Advertisement",
            metadata={"name": "default", "namespace": NAMESPACE},
            spec={"ipAddressPools": ["default"]},
            opts=access.options(self, [self.pool]),
        )
        self.register_outputs({})
