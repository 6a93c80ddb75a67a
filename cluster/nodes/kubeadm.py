"""kubeadm's configuration files, rendered from settings: pure functions, v1beta4, YAML by a serializer.

Source of the fields: kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from cluster.nodes import hardening, provider_ids
from cluster.settings import API_PORT, NodeSettings, Role, Settings

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
KUBEADM = "kubeadm.k8s.io/v1beta4"
DISCOVERY_FILE = "/run/own-kubernetes/discovery.yaml"
VERSION_PLACEHOLDER = "v0.0.0"
"""control-plane.sh puts in what is installed: an upgrade changes nothing in this file."""


def init_config(settings: Settings, name: str) -> str:
    """``kubeadm init --config``: the first control plane and what holds for the whole cluster."""
    node = settings.nodes[name]
    init: dict[str, Any] = {
        "apiVersion": KUBEADM,
        "kind": "InitConfiguration",
        "localAPIEndpoint": _local_endpoint(node),
        "nodeRegistration": _registration(settings, name),
        # kubeadm would make a token for a day; control-plane.sh deletes this one, each join mints its own.
        "bootstrapTokens": [{"ttl": "15m0s", "description": "own-kubernetes: init"}],
    }
    cluster = {
        "apiVersion": KUBEADM,
        "kind": "ClusterConfiguration",
        "clusterName": settings.cluster_name,
        "kubernetesVersion": VERSION_PLACEHOLDER,
        "controlPlaneEndpoint": settings.endpoint,
        "networking": {
            "podSubnet": str(settings.pod_cidr),
            "serviceSubnet": str(settings.service_cidr),
        },
        # Each control plane's own address comes on top, by kubeadm, as it joins.
        **merged(
            {"apiServer": {"certSANs": [settings.endpoint.rpartition(":")[0]]}},
            hardening.control_plane(settings),
        ),
    }
    return _documents(init, cluster, _kubelet(settings), _kube_proxy(settings))


def join_config(settings: Settings, name: str) -> str:
    """``kubeadm join --config``; ``peers.sh`` puts the token in.

    A control plane has the cluster's keys already when it joins, so no ``certificateKey`` is given
    (kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability, manual distribution).
    """
    node = settings.nodes[name]
    join: dict[str, Any] = {
        "apiVersion": KUBEADM,
        "kind": "JoinConfiguration",
        "discovery": {
            "file": {"kubeConfigPath": DISCOVERY_FILE},
            "tlsBootstrapToken": "@TOKEN@",
        },
        "nodeRegistration": _registration(settings, name),
    }
    if node.role == "control-plane":
        join["controlPlane"] = {"localAPIEndpoint": _local_endpoint(node)}
    return _documents(join)


def upgrade_config(settings: Settings) -> str:
    """``kubeadm upgrade --config``; upgrade.sh puts the version in."""

    def ignored() -> dict[str, Any]:  # a list of its own for each: YAML would refer to a shared one
        return {"ignorePreflightErrors": list(settings.ignore_preflight_errors)}

    pulls = {"imagePullPolicy": "IfNotPresent", "imagePullSerial": False}
    config = {
        "apiVersion": KUBEADM,
        "kind": "UpgradeConfiguration",
        "plan": ignored(),
        "apply": {"kubernetesVersion": "@VERSION@", **ignored(), **pulls},
        "node": {**ignored(), **pulls},
    }
    return _documents(config)


def discovery_config(settings: Settings) -> str:
    """The kubeconfig by which a joining host knows its cluster; peers.sh puts server, CA and token in."""
    name = settings.cluster_name
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": "@SERVER@", "certificate-authority-data": "@CA@"}}
        ],
        # It asks for what anonymous users may read elsewhere, and goes on when that is forbidden.
        "users": [{"name": "joining", "user": {"token": "@TOKEN@"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "joining"}}],
        "current-context": name,
    }
    return _documents(kubeconfig)


def _local_endpoint(node: NodeSettings) -> dict[str, Any]:
    return {"advertiseAddress": str(node.internal_address), "bindPort": API_PORT}


def _registration(settings: Settings, name: str) -> dict[str, Any]:
    node = settings.nodes[name]
    registration: dict[str, Any] = {
        "name": name,
        "criSocket": CRI_SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": False,
        "kubeletExtraArgs": _kubelet_arguments(settings, name),
    }
    if settings.ignore_preflight_errors:
        registration["ignorePreflightErrors"] = settings.ignore_preflight_errors
    taints = [_taint(text) for text in node.taints]
    if node.role == "worker" or settings.schedule_on_control_planes:
        registration["taints"] = taints  # an empty list: kubeadm's own taint stays away
    elif taints:
        own = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
        registration["taints"] = [own, *taints]
    return registration


def _kubelet_arguments(settings: Settings, name: str) -> list[dict[str, str]]:
    """Hetzner's controllers know a node by its provider ID, which the server has once it is made.

    With ``cloud-provider=external`` the cloud controller manager fills in the node's addresses and region,
    and nothing else is scheduled there until it has. Beside servers, an existing host has a provider ID
    too, one of no server: the cloud controller manager deletes nodes that it does not find.
    """
    node = settings.nodes[name]
    arguments = {"node-ip": str(node.internal_address)}
    if node.machine == "hetzner":
        arguments["provider-id"] = "@PROVIDER_ID@"
        provided_by = f"{provider_ids.PROVIDED_BY}={provider_ids.PROVIDED_BY_HETZNER_CLOUD}"
        arguments["node-labels"] = provided_by
        if settings.hetzner.cloud_controller_manager:
            arguments["cloud-provider"] = "external"
    elif settings.hetzner_nodes:
        arguments["provider-id"] = provider_ids.of_host(settings.cluster_name, name)
    return [{"name": name, "value": value} for name, value in arguments.items()]


def _taint(text: str) -> dict[str, str]:
    key, _, effect = text.rpartition(":")
    key, has_value, value = key.partition("=")
    return {"key": key, **({"value": value} if has_value else {}), "effect": effect}


def _kubelet(settings: Settings) -> dict[str, Any]:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "serializeImagePulls": False,
        "maxParallelImagePulls": 4,
        **hardening.KUBELET,
    }
    return merged(config, settings.kubelet)


def settings_digest(settings: Settings, role: Role) -> str:
    """Of what holds for all nodes of a role: another one reaches the live nodes, one by one."""
    own = [hardening.control_plane(settings)] if role == "control-plane" else []
    text = _documents(_kubelet(settings), _kube_proxy(settings), *own)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _kube_proxy(settings: Settings) -> dict[str, Any]:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        # MetalLB's layer 2 wants it, whichever mode is chosen (metallb.io/installation).
        "ipvs": {"strictARP": True},
    }
    return merged(config, settings.kube_proxy)


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """``extra`` over ``base``, table by table."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old or {}, value) if both else value
    return result


def _documents(*documents: Mapping[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)
