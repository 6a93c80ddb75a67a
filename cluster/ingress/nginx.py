"""F5's nginx-ingress controller, by its Helm chart.

Not the community's ingress-nginx, which gets no fixes any more (since March 2026).
"""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.settings import Settings

NAMESPACE = "nginx-ingress"
CLASS = "nginx"


class NginxIngress(pulumi.ComponentResource):
    """The controller's release; ingresses of class ``nginx`` are its.

    Args:
        name: prefix of the resources' names.
        settings: chart, version and chart location.
        access: the cluster's API.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:ingress:NginxIngress", name, None, opts)
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
