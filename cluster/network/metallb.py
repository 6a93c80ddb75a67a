"""MetalLB: addresses for Services of type LoadBalancer.

They are announced on the nodes' own network (layer 2), but for floating IPs: Hetzner routes one to the
server that it is assigned to, and kube-proxy there answers for it without the address being on any
interface. Nothing is to be announced, and nobody would hear it: servers share no layer 2.
``cluster/network/floating.py`` sees to the assignment.

MetalLB's admission webhook answers some seconds after its pod is ready, and the API server refuses address
pools until then: a command on the control plane waits for it with a server-side dry run. The webhook is
never taken away.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.mending import mended
from cluster.nodes import Nodes
from cluster.nodes.hardening import namespace_labels
from cluster.settings import Settings

NAMESPACE = "metallb-system"


PROBE = {"initialDelaySeconds": 1, "periodSeconds": 2}
"""The chart's own looks first after 10 s, and then every 10."""

VALUES = {
    # Layer 2 only: no BGP daemon beside the speaker.
    "frrk8s": {"enabled": False},
    "speaker": {"frr": {"enabled": False}, "readinessProbe": PROBE},
    "controller": {"readinessProbe": PROBE},
}


def load_balancing(
    name: str,
    settings: Settings,
    access: ApiAccess,
    nodes: Nodes,
    floating_ips: Sequence[pulumi.Input[str]] = (),
    opts: pulumi.ResourceOptions | None = None,
) -> MetalLB | None:
    """MetalLB where Services of type LoadBalancer get their addresses from it.

    Behind a load balancer of Hetzner's the ingress has no such Service, and others would get addresses
    from Hetzner's cloud controller manager, if from anybody.
    """
    if settings.entry == "load-balancer":
        return None
    return MetalLB(name, settings, access, nodes, floating_ips, opts)


class MetalLB(pulumi.ComponentResource):
    """MetalLB's release, one address pool, and its announcement.

    Args:
        name: prefix of the resources' names.
        settings: pools and chart location.
        access: the cluster's API.
        nodes: where to wait for the webhook.
        floating_ips: the pool's addresses; without any, those of the settings, announced by ARP.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        nodes: Nodes,
        floating_ips: Sequence[pulumi.Input[str]] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:network:MetalLB", name, None, opts)
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": NAMESPACE,
                # The speaker answers ARP on the host's network.
                "labels": namespace_labels("privileged"),
            },
            opts=access.options(self),
        )
        # MetalLB's controller would make this Secret itself, but only once it runs: until then no
        # speaker starts, and each try to mount it doubles the wait.
        memberlist = k8s.core.v1.Secret(
            f"{name}-memberlist",
            metadata={"name": "metallb-memberlist", "namespace": NAMESPACE},
            string_data={"secretkey": nodes.keys.derived("metallb memberlist")},
            opts=access.options(self, [namespace]),
        )
        release = k8s.helm.v3.Release(
            f"{name}-release",
            name="metallb",
            namespace=NAMESPACE,
            values=VALUES,
            timeout=300,
            **chart_source(
                settings,
                "metallb",
                versions.METALLB,
                chart="metallb",
                repository=versions.METALLB_REPOSITORY,
                after=access.workers,
            ),
            opts=access.options(
                self,
                [memberlist, *access.workers],
                mended(f"{name}-release", access, NAMESPACE, "metallb"),
            ),
        )
        addresses = _addresses(settings, floating_ips)
        webhook = nodes.control_host.run(
            "webhook",
            # It is asked again before a pool is changed.
            {"POOL": pulumi.Output.all(*addresses).apply(",".join)},
            name=f"{name}-webhook",
            after=[release],
        )
        self.pool = k8s.apiextensions.CustomResource(
            f"{name}-pool",
            api_version="metallb.io/v1beta1",
            kind="IPAddressPool",
            metadata={"name": "default", "namespace": NAMESPACE},
            spec={"addresses": addresses},
            opts=access.options(self, [webhook]),
        )
        if not floating_ips:
            k8s.apiextensions.CustomResource(
                f"{name}-announcement",
                api_version="metallb.io/v1beta1",
                kind="L2Advertisement",
                metadata={"name": "default", "namespace": NAMESPACE},
                spec={"ipAddressPools": ["default"]},
                opts=access.options(self, [self.pool]),
            )
        self.register_outputs({})


def _addresses(
    settings: Settings, floating_ips: Sequence[pulumi.Input[str]]
) -> list[pulumi.Input[str]]:
    if floating_ips:
        return [pulumi.Output.format("{}/32", address) for address in floating_ips]
    return [str(pool) for pool in settings.load_balancer_pools]
