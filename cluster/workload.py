"""Hello world: a Deployment under the ``restricted`` pod security level, a Service, an Ingress.

No request is lost while its pods are drained or replaced: a new pod is ready before an old one is told to
end, and that one serves on until the ingress and every kube-proxy know.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.ingress.nginx import CLASS, NginxIngress
from cluster.ingress.tls import IngressTls
from cluster.nodes.hardening import namespace_labels
from cluster.settings import Settings

NAMESPACE = "hello-world"
LABELS = {"app.kubernetes.io/name": "hello-world"}
CONTAINER_PORT = 8080
"""Where the image listens; the Service's port 80 leads there."""

WITHDRAWAL_SECONDS = 10
"""How long a pod serves on after it was told to end.

By then the ingress has to have another configuration and every kube-proxy other rules: an image may end
at once when it is told to, with what is open. That takes a second or two, more on a busy machine.
"""

GRACE_SECONDS = WITHDRAWAL_SECONDS + 30
"""Until the kubelet kills a pod: after that time requests get the usual 30 s to finish."""


def hello_world(
    name: str,
    settings: Settings,
    access: ApiAccess,
    ingress: NginxIngress,
    tls: IngressTls | None,
    opts: pulumi.ResourceOptions | None = None,
) -> HelloWorld | None:
    """The page, where it is wanted."""
    if not settings.hello_world:
        return None
    return HelloWorld(name, settings, access, ingress, tls, opts)


class HelloWorld(pulumi.ComponentResource):
    """The workload and both ways to it.

    Args:
        name: prefix of the resources' names.
        settings: host name, image and replicas.
        access: the cluster's API.
        ingress: the ingress controller.
        tls: what gives the page a certificate, or None: it answers over HTTP.

    Attributes:
        url: the page.
        service_address: the Service's own address from the pool; None where it has none: on Hetzner it
            would cost a second load balancer or floating IP.
        ingress_address: the ingress controller's address, where the host name has to lead.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        ingress: NginxIngress,
        tls: IngressTls | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:workload:HelloWorld", name, None, opts)
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": namespace_labels("restricted")},
            opts=access.options(self),
        )
        metadata: Any = {"name": "hello-world", "namespace": NAMESPACE, "labels": LABELS}
        deployment = k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec={
                "replicas": settings.hello_replicas,
                "selector": {"match_labels": LABELS},
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0}},
                "template": {"metadata": {"labels": LABELS}, "spec": _pod(settings.hello_image)},
            },
            opts=access.options(self, [namespace, *access.workers]),
        )
        if settings.hello_replicas > 1 and settings.has_spare_node:
            # Only then: a drain would wait for a pod that has nowhere to go.
            k8s.policy.v1.PodDisruptionBudget(
                f"{name}-budget",
                metadata=metadata,
                spec=BUDGET,
                opts=access.options(self, [namespace]),
            )
        service = k8s.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec={
                "type": "LoadBalancer" if settings.entry == "layer2" else "ClusterIP",
                "selector": LABELS,
                "ports": [{"name": "http", "port": 80, "target_port": CONTAINER_PORT}],
            },
            # Waits for its address by itself; the provider lets it settle for 10 s in any case, which
            # pass while load balancing and pods come up.
            opts=access.options(self, [namespace, *access.workers]),
        )
        route = k8s.networking.v1.Ingress(
            f"{name}-ingress",
            metadata=metadata | ({"annotations": tls.annotations} if tls else {}),
            spec={
                "ingress_class_name": CLASS,
                "rules": [_rule(settings.hello_host)],
                **({"tls": [_certified(settings.hello_host)]} if tls else {}),
            },
            opts=access.options(
                self, [deployment, service, ingress.release, *([tls.issuer] if tls else [])]
            ),
        )
        self.url = f"{'https' if tls else 'http'}://{settings.hello_host}/"
        self.service_address = (
            service.status.apply(_first_address) if settings.entry == "layer2" else None
        )
        # The object's own one is of the day it was made: another way in changes nothing in it.
        self.ingress_address: pulumi.Output[str | None] | pulumi.Output[str] = (
            ingress.address or route.status.apply(_first_address)
        )
        self.register_outputs({})


BUDGET: Any = {
    "max_unavailable": 1,
    "selector": {"match_labels": LABELS},
    # Else a pod that never gets ready would keep its node from being drained.
    "unhealthy_pod_eviction_policy": "AlwaysAllow",
}


def _first_address(status: Any) -> str | None:
    """The address that a Service or Ingress was given, once it has one."""
    balancer = status.load_balancer if status else None
    return balancer.ingress[0].ip if balancer and balancer.ingress else None


def _rule(host: str) -> Any:
    backend = {"service": {"name": "hello-world", "port": {"number": 80}}}
    return {
        "host": host,
        "http": {"paths": [{"path": "/", "path_type": "Prefix", "backend": backend}]},
    }


def _certified(host: str) -> Any:
    """cert-manager puts the certificate there."""
    return {"hosts": [host], "secret_name": "hello-world-tls"}


def _pod(image: str) -> Any:
    return {
        "automount_service_account_token": False,
        "termination_grace_period_seconds": GRACE_SECONDS,
        "topology_spread_constraints": [
            {
                "max_skew": 1,
                "topology_key": "kubernetes.io/hostname",
                "when_unsatisfiable": "ScheduleAnyway",
                "label_selector": {"match_labels": LABELS},
            }
        ],
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": 65532,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "hello-world",
                "image": image,
                "ports": [{"name": "http", "container_port": CONTAINER_PORT}],
                "env": [{"name": "PORT", "value": str(CONTAINER_PORT)}],
                "readiness_probe": {
                    "http_get": {"path": "/", "port": CONTAINER_PORT},
                    "period_seconds": 2,
                },
                # The kubelet's own sleep: on by default since Kubernetes 1.30 (KEP-3960).
                "lifecycle": {"pre_stop": {"sleep": {"seconds": WITHDRAWAL_SECONDS}}},
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"memory": "64Mi"},
                },
                "security_context": {
                    "allow_privilege_escalation": False,
                    "read_only_root_filesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
