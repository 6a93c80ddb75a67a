"""NetworkPolicies enforced beside Flannel, which knows none: kube-router's firewall, and nothing else of it.

Written as typed resources after kube-router's own manifests (cloudnativelabs/kube-router daemonset/), with no
more rights than its firewall takes. On each node it turns policies into iptables rules and ipsets for the pods
there. The rules stay when it is away.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster.access import ApiAccess
from cluster.network.agents import agent_namespace, agent_rights
from cluster.settings import Settings

NAME = "kube-router"
LABELS = {"k8s-app": NAME}
HEALTH_PORT = 20244
"""On each node, without secrets; kube-router's own default."""

READ = ["get", "list", "watch"]
RULES = [
    {
        "api_groups": [""],
        "resources": ["endpoints", "namespaces", "nodes", "pods", "services"],
        "verbs": READ,
    },
    {"api_groups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": READ},
    {"api_groups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
]


def network_policies(
    name: str, settings: Settings, access: ApiAccess, opts: pulumi.ResourceOptions | None = None
) -> NetworkPolicies | None:
    """The enforcement of NetworkPolicies, where it is wanted."""
    return NetworkPolicies(name, settings, access, opts) if settings.network_policies else None


class NetworkPolicies(pulumi.ComponentResource):
    """kube-router's namespace, rights and DaemonSet.

    Args:
        name: prefix of the resources' names.
        settings: the image, the Services' network and the API's endpoint.
        access: the cluster's API.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:network:NetworkPolicies", name, None, opts)
        options = access.options(self)
        namespace = agent_namespace(name, NAME, options)
        in_namespace = access.options(self, [namespace])
        rights = agent_rights(name, NAME, NAME, RULES, opts=options, in_namespace=in_namespace)
        k8s.apps.v1.DaemonSet(
            f"{name}-daemonset",
            metadata={"name": NAME, "namespace": NAME, "labels": LABELS},
            spec={
                "selector": {"match_labels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": _pod(settings)},
            },
            opts=access.options(self, rights),
        )
        self.register_outputs({})


def _pod(settings: Settings) -> Any:
    return {
        "host_network": True,
        "priority_class_name": "system-node-critical",
        "service_account_name": NAME,
        "tolerations": [{"operator": "Exists"}],
        "node_selector": {"kubernetes.io/os": "linux"},
        "containers": [_container(settings)],
        "volumes": [
            {
                "name": "xtables-lock",
                "host_path": {"path": "/run/xtables.lock", "type": "FileOrCreate"},
            },
        ],
    }


def _container(settings: Settings) -> Any:
    host, _, port = settings.endpoint.rpartition(":")
    health = {"http_get": {"path": "/healthz", "port": HEALTH_PORT}}
    return {
        "name": NAME,
        "image": settings.network_policy_image,
        "args": [
            "--run-firewall=true",
            "--run-router=false",
            "--run-service-proxy=false",
            "--enable-cni=false",
            f"--service-cluster-ip-range={settings.service_cidr}",
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "100Mi"}},
        "security_context": {
            "privileged": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]},
        },
        "liveness_probe": {**health, "initial_delay_seconds": 10, "period_seconds": 10},
        "readiness_probe": {**health, "period_seconds": 2},
        "env": [
            {"name": "NODE_NAME", "value_from": {"field_ref": {"field_path": "spec.nodeName"}}},
            # As for Flannel: not through the Service's address, which kube-proxy may not serve yet.
            {"name": "KUBERNETES_SERVICE_HOST", "value": host},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port},
        ],
        "volume_mounts": [{"name": "xtables-lock", "mount_path": "/run/xtables.lock"}],
    }
