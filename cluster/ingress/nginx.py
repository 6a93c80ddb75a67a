"""F5's nginx-ingress controller, by its Helm chart.

Not the community's ingress-nginx, which gets no fixes any more (since March 2026).

**On a layer-2 network** two controllers run on different nodes, or one where there is no second node to go
to. Any node hands what it gets to any controller (``externalTrafficPolicy: Cluster``), so the Service's
address stays where it is announced while controllers move. With ``Local``, the chart's own, MetalLB announces
only from nodes that have a controller (metallb.io/usage, "Traffic policies"): a drain would move the
address, and break what is open. The price: pages and logs see the address of the node that handed a
request on, not its visitor's. A node is drained without losing a request, as the disruption budget keeps a
controller from being evicted before the other one is ready.

**On Hetzner** one controller runs on each node that takes workloads, and a node hands what it gets to its
own controller only: pages see their visitors' addresses, and a node without a controller that is ready
fails the health checks of whatever sends it traffic. Drains pass over a daemonset's pods.

Everywhere a controller that is told to end serves on until nobody sends it anything.

The values are keys of the chart from 1.3.2 to 2.6, as a chart passes over unknown ones in silence.
``affinity`` spreads, as 1.3.2's schema takes ``topologySpreadConstraints``, which is a list, for an object.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.mending import mended
from cluster.nodes.hardening import namespace_labels
from cluster.settings import Settings

NAMESPACE = "nginx-ingress"
RELEASE = "nginx-ingress"
SERVICE = f"{RELEASE}-controller"
"""The chart's own name for it."""
CLASS = "nginx"

HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443
"""Where a load balancer of Hetzner's reaches the controller on every node."""

WITHDRAWAL_SECONDS = 15
"""How long a controller serves on after it was told to end.

By then every kube-proxy has to have left it out: nginx begins its end by closing its ports. That takes a
second or two, more on a busy machine. A floating IP is assigned anew after three looks in 6 s.
"""

GRACE_SECONDS = WITHDRAWAL_SECONDS + 30
"""Until the kubelet kills a controller: after that time requests get the usual 30 s to finish."""

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
            f"{name}-namespace",
            # It adds a capability, to take ports below 1024: no more than this level allows.
            metadata={"name": NAMESPACE, "labels": namespace_labels("baseline")},
            opts=access.options(self),
        )
        self.release = k8s.helm.v3.Release(
            f"{name}-release",
            name=RELEASE,
            namespace=NAMESPACE,
            values={
                "controller": {
                    "ingressClass": {"name": CLASS, "create": True},
                    "reportIngressStatus": {"enable": True},
                    # The chart reports to its vendor unless told not to.
                    "telemetryReporting": {"enable": False},
                    "config": {"entries": _entries(settings, address)},
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    # The kubelet's own sleep: on by default since Kubernetes 1.30 (KEP-3960).
                    "lifecycle": {"preStop": {"sleep": {"seconds": WITHDRAWAL_SECONDS}}},
                    **_entry(settings, address),
                }
            },
            timeout=300,
            **chart_source(
                settings,
                "nginx-ingress",
                settings.ingress_version,
                chart=settings.ingress_chart,
                after=access.workers,
            ),
            # Waits for its Service's address by itself, and starts while load balancing does.
            opts=access.options(
                self,
                [namespace, *access.workers],
                mended(f"{name}-release", access, NAMESPACE, RELEASE),
            ),
        )
        self.register_outputs({})


def _entries(
    settings: Settings, address: pulumi.Output[str] | None
) -> dict[str, pulumi.Input[str]]:
    """The entries of the controller's ConfigMap."""
    entries: dict[str, pulumi.Input[str]] = {"proxy-connect-timeout": PROXY_CONNECT_TIMEOUT}
    if settings.entry == "load-balancer" and address is not None:
        # Else the Ingress never gets an address, and waits for one.
        entries["external-status-address"] = address
    return entries


def _entry(settings: Settings, address: pulumi.Output[str] | None) -> dict[str, Any]:
    """Where controllers run, and the Service before them."""
    if settings.entry == "layer2":
        return {"service": {"externalTrafficPolicy": "Cluster"}, **_replicas(settings)}
    assert address is not None, "on Hetzner the address is made before the cluster"
    service: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    if settings.entry == "floating-ips":
        service["annotations"] = {"metallb.io/loadBalancerIPs": address}
    else:
        service["type"] = "NodePort"
        service["httpPort"] = {"nodePort": HTTP_NODE_PORT}
        service["httpsPort"] = {"nodePort": HTTPS_NODE_PORT}
    return {"kind": "daemonset", "service": service}


def _replicas(settings: Settings) -> dict[str, Any]:
    """Two controllers, apart and never both away; one where a budget would only make drains hang."""
    if not settings.has_spare_node:
        return {"replicaCount": 1}
    return {
        "replicaCount": 2,
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "affinity": {"podAntiAffinity": {_SOFTLY: [_NOT_WITH_THE_OTHER]}},
    }


_SOFTLY = "preferredDuringSchedulingIgnoredDuringExecution"
"""While one of two nodes is drained, both controllers have to fit on the other."""

_NOT_WITH_THE_OTHER: dict[str, Any] = {
    "weight": 100,
    "podAffinityTerm": {
        "topologyKey": "kubernetes.io/hostname",
        # Of the chart's labels the one that is made of the release's name, which is given here.
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": RELEASE}},
    },
}
