"""Flannel, the pod network: VXLAN between the nodes, its network taken from the settings.

Written as typed resources after Flannel's own manifest of the pinned version
(flannel-io/flannel Documentation/kube-flannel.yml), whose network is fixed.
"""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.network.agents import agent_namespace, agent_rights
from cluster.settings import Settings

NAMESPACE = "kube-flannel"
LABELS = {"app": "flannel", "tier": "node", "k8s-app": "flannel"}
RULES = [
    {"api_groups": [""], "resources": ["pods"], "verbs": ["get"]},
    {"api_groups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {"api_groups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
]
CNI_CONFIG = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


INSTALL_CNI_CONFIG = (
    "until [ -s /run/flannel/subnet.env ]; do sleep 0.1; done; exec /opt/bin/install-conf "
    "/etc/kube-flannel/cni-conf.json /etc/cni/net.d/10-flannel.conflist"
)


class Flannel(pulumi.ComponentResource):
    """Flannel's namespace, rights, configuration and DaemonSet.

    Args:
        name: prefix of the resources' names.
        settings: the pods' network, the one that kubeadm was given, and the API's endpoint.
        access: the cluster's API.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:network:Flannel", name, None, opts)
        options = access.options(self)
        namespace = agent_namespace(name, NAMESPACE, options)
        in_namespace = access.options(self, [namespace])
        rights = agent_rights(
            name, "flannel", NAMESPACE, RULES, opts=options, in_namespace=in_namespace
        )
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata={"name": "kube-flannel-cfg", "namespace": NAMESPACE, "labels": LABELS},
            data={
                "cni-conf.json": json.dumps(CNI_CONFIG, indent=2),
                "net-conf.json": json.dumps(
                    {
                        "Network": str(settings.pod_cidr),
                        "EnableNFTables": False,
                        "Backend": {"Type": "vxlan"},
                    },
                    indent=2,
                ),
            },
            opts=in_namespace,
        )
        self.daemon_set = k8s.apps.v1.DaemonSet(
            f"{name}-daemonset",
            metadata={"name": "kube-flannel-ds", "namespace": NAMESPACE, "labels": LABELS},
            spec={
                "selector": {"match_labels": {"app": "flannel"}},
                "template": {"metadata": {"labels": LABELS}, "spec": _pod(settings.endpoint)},
            },
            opts=access.options(self, [*rights, config]),
        )
        self.register_outputs({})


def _pod(endpoint: str) -> Any:
    image = f"ghcr.io/flannel-io/flannel:{versions.FLANNEL}"
    plugin = f"ghcr.io/flannel-io/flannel-cni-plugin:{versions.FLANNEL_CNI_PLUGIN}"
    return {
        "host_network": True,
        "priority_class_name": "system-node-critical",
        "service_account_name": "flannel",
        "tolerations": [{"operator": "Exists"}],
        "node_selector": {"kubernetes.io/os": "linux"},
        "init_containers": [
            {
                "name": "install-cni-plugin",
                "image": plugin,
                "command": ["cp"],
                "args": ["-f", "/flannel", "/opt/cni/bin/flannel"],
                "volume_mounts": [{"name": "cni-plugin", "mount_path": "/opt/cni/bin"}],
            },
        ],
        "containers": [_container(image, endpoint)],
        "volumes": [
            {"name": "run", "host_path": {"path": "/run/flannel"}},
            {"name": "cni-plugin", "host_path": {"path": "/opt/cni/bin"}},
            {"name": "cni", "host_path": {"path": "/etc/cni/net.d"}},
            {"name": "config", "config_map": {"name": "kube-flannel-cfg"}},
            {
                "name": "xtables-lock",
                "host_path": {"path": "/run/xtables.lock", "type": "FileOrCreate"},
            },
        ],
    }


def _container(image: str, endpoint: str) -> Any:
    host, _, port = endpoint.rpartition(":")
    return {
        "name": "kube-flannel",
        "image": image,
        "command": ["/opt/bin/flanneld"],
        # On the interface whose address the other nodes use, which need not be that of the default
        # route; pods get its MTU, less 50 for VXLAN. Only the address counts, not its network (a /32 will do).
        "args": ["--ip-masq", "--kube-subnet-mgr", "--iface=$(NODE_IP)"],
        # Upstream installs the CNI configuration before flanneld starts: the node counts as Ready
        # before it can connect pods, and the first ones fail and wait 10 s for their next try.
        "lifecycle": {"post_start": {"exec_": {"command": ["sh", "-c", INSTALL_CNI_CONFIG]}}},
        "resources": {"requests": {"cpu": "100m", "memory": "50Mi"}},
        "security_context": {
            "privileged": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]},
        },
        "env": [
            _field("POD_NAME", "metadata.name"),
            _field("POD_NAMESPACE", "metadata.namespace"),
            _field("NODE_IP", "status.hostIP"),
            # Not through the Service's address: kube-proxy may not serve that yet, and a connection
            # begun before it does hangs for 30 s.
            {"name": "KUBERNETES_SERVICE_HOST", "value": host},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port},
            {"name": "EVENT_QUEUE_DEPTH", "value": "5000"},
            {"name": "CONT_WHEN_CACHE_NOT_READY", "value": "false"},
        ],
        "volume_mounts": [
            {"name": "run", "mount_path": "/run/flannel"},
            {"name": "cni", "mount_path": "/etc/cni/net.d"},
            {"name": "config", "mount_path": "/etc/kube-flannel/"},
            {"name": "xtables-lock", "mount_path": "/run/xtables.lock"},
        ],
    }


def _field(name: str, path: str) -> Any:
    return {"name": name, "value_from": {"field_ref": {"field_path": path}}}
