"""F5's nginx-ingress controller, by its Helm chart.

Not the community's ingress-nginx, which gets no fixes any more (since March 2026).

On Hetzner one controller runs on each node that takes workloads, and a node hands what it gets to its own
controller only: pages see their visitors' addresses, and a node without a controller that is ready fails
the health checks of whatever sends it traffic.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.settings import Settings

NAMESPACE = "nginx-ingress"
CLASS = "nginx"

HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443
"""Where a load balancer of Hetzner's reaches the controller on every node."""

PROXY_CONNECT_TIMEOUT = "3s"
"""When the next pod is tried; nginx' own bound is 60 s.

A pod on a node that died counts as ready until the node counts as lost (40 to 50 s): until then every
request that is sent there would take the whole time before another pod is asked.
"""


class NginxIngress(pulumi.ComponentResource):
    """The controller's release; ingresses of class ``nginx`` are its.

    Args:
        name: prefix of the resources' names.
        settings: chart, version and chart location.
        access: the cluster's API.
        address: the IPv4 address by which HTTP comes in, where that is known beforehand: the load
            balancer's or a floating IP.

    Attributes:
        release: the Helm release.
        address: the same.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        address: pulumi.Output[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:ingress:NginxIngress", name, None, opts)
        self.address = address
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace", metadata={"name": NAMESPACE}, opts=access.options(self)
        )
        self.release = k8s.helm.v3.Release(
            f"{name}-release",
            name="nginx-ingress",
            namespace=NAMESPACE,
            values={
                "controller": {
                    "ingressClass": {"name": CLASS, "create": True},
                    "reportIngressStatus": {"enable": True},
                    # The chart reports to its vendor unless told not to.
                    "telemetryReporting": {"enable": False},
                    **_entry(settings, address),
                }
            },
            timeout=300,
            **chart_source(
                settings,
                "nginx-ingress",
                settings.ingress_version,
                chart=settings.ingress_chart,
            ),
            # Waits for its Service's address by itself, and starts while load balancing does.
            opts=access.options(self, [namespace, *access.workers]),
        )
        self.register_outputs({})


def _entry(settings: Settings, address: pulumi.Output[str] | None) -> dict[str, Any]:
    """The controller's values for the way in; in a layer-2 network the chart's own are right."""
    if settings.entry == "layer2":
        return {}
    assert address is not None, "on Hetzner the address is made before the cluster"
    entries: dict[str, Any] = {"proxy-connect-timeout": PROXY_CONNECT_TIMEOUT}
    service: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    if settings.entry == "floating-ips":
        service["annotations"] = {"metallb.io/loadBalancerIPs": address}
    else:
        # Else the Ingress never gets an address, and waits for one.
        entries["external-status-address"] = address
        service["type"] = "NodePort"
        service["httpPort"] = {"nodePort": HTTP_NODE_PORT}
        service["httpsPort"] = {"nodePort": HTTPS_NODE_PORT}
    return {"kind": "daemonset", "service": service, "config": {"entries": entries}}
