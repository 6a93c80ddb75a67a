"""kubeadm's configuration: what the documents of each site mean (their text: test_files.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.nodes.kubeadm import settings_digest
from tests.unit.sites import HA, SITES, rendered
from tests.unit.stacks import dev_stack, load

CONTROL_PLANE_TAINT = {
    "key": "node-role.kubernetes.io/control-plane",
    "effect": "NoSchedule",
}


def documents(files: Mapping[str, str], name: str) -> dict[str, Any]:
    """By kind."""
    text = files[f"/etc/own-kubernetes/{name}.yaml"]
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def init(root: Path, changes: Mapping[str, Any] | None = None, **base: Any) -> dict[str, Any]:
    return documents(rendered(root, changes, **base)[1]["cp1"], "init")


def join(root: Path, changes: Mapping[str, Any] | None = None, node: str = "w1") -> dict[str, Any]:
    documents_of_node = documents(rendered(root, changes)[1][node], "join")
    assert list(documents_of_node) == ["JoinConfiguration"]
    configuration: dict[str, Any] = documents_of_node["JoinConfiguration"]
    return configuration


@pytest.mark.parametrize("site", SITES)
def test_api_versions(site: str, tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES[site].changes, SITES[site].base)
    init = documents(files["cp1"], "init")
    assert {kind: document["apiVersion"] for kind, document in init.items()} == {
        "InitConfiguration": "kubeadm.k8s.io/v1beta4",
        "ClusterConfiguration": "kubeadm.k8s.io/v1beta4",
        "KubeletConfiguration": "kubelet.config.k8s.io/v1beta1",
        "KubeProxyConfiguration": "kubeproxy.config.k8s.io/v1alpha1",
    }
    for name, node in files.items():
        assert (
            documents(node, "join")["JoinConfiguration"]["apiVersion"] == "kubeadm.k8s.io/v1beta4"
        )
        assert documents(node, "upgrade")["UpgradeConfiguration"]["apiVersion"] == (
            "kubeadm.k8s.io/v1beta4"
        ), name


def test_cluster_networks_and_name(tmp_path: Path) -> None:
    changes = {"podCidr": "10.1.0.0/16", "serviceCidr": "10.2.0.0/16", "clusterName": "blue"}
    cluster = init(tmp_path, changes)["ClusterConfiguration"]
    assert cluster["networking"] == {"podSubnet": "10.1.0.0/16", "serviceSubnet": "10.2.0.0/16"}
    assert cluster["clusterName"] == "blue"


def test_the_version_is_left_to_the_host_so_that_an_upgrade_is_one_short_line(
    tmp_path: Path,
) -> None:
    for number, version in enumerate(("1.31.0", "1.36.4")):
        root = tmp_path / str(number)
        root.mkdir()
        files = rendered(root, {"kubernetesVersion": version})[1]["cp1"]
        texts = [files[f"/etc/own-kubernetes/{name}.yaml"] for name in ("init", "join", "upgrade")]
        assert not [text for text in texts if version in text]
        lines = [line for line in texts[0].splitlines() if line.startswith("kubernetesVersion:")]
        assert lines == ["kubernetesVersion: v0.0.0"]


def test_endpoint_and_certificate_names_by_default(tmp_path: Path) -> None:
    config = init(tmp_path)
    cluster = config["ClusterConfiguration"]
    assert cluster["controlPlaneEndpoint"] == "10.0.0.11:6443"
    assert cluster["apiServer"]["certSANs"] == ["10.0.0.11"]
    assert config["InitConfiguration"]["localAPIEndpoint"] == {
        "advertiseAddress": "10.0.0.11",
        "bindPort": 6443,
    }


def test_certificates_name_the_shared_endpoint_and_kubeadm_adds_each_ones_own_address(
    tmp_path: Path,
) -> None:
    config = init(tmp_path, SITES["endpoint"].changes)
    cluster = config["ClusterConfiguration"]
    assert cluster["controlPlaneEndpoint"] == "api.example.com:443"
    assert cluster["apiServer"]["certSANs"] == ["api.example.com"]
    endpoint = config["InitConfiguration"]["localAPIEndpoint"]
    assert endpoint == {"advertiseAddress": "10.0.0.11", "bindPort": 6443}


def test_what_is_said_of_the_cluster_is_the_same_on_every_control_plane(tmp_path: Path) -> None:
    """Whichever makes it."""
    _, files = rendered(tmp_path, HA)
    found = [documents(files[f"cp{number}"], "init") for number in (1, 2, 3)]
    for kind in ("ClusterConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"):
        assert found[0][kind] == found[1][kind] == found[2][kind]
    assert found[0]["ClusterConfiguration"]["controlPlaneEndpoint"] == "10.0.0.5:6443"
    assert found[0]["ClusterConfiguration"]["apiServer"]["certSANs"] == ["10.0.0.5"]
    for number, own in enumerate(found, 1):
        endpoint = {"advertiseAddress": f"10.0.0.1{number}", "bindPort": 6443}
        assert own["InitConfiguration"]["localAPIEndpoint"] == endpoint


def test_a_control_plane_joins_as_one(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, HA)
    cp2 = documents(files["cp2"], "join")["JoinConfiguration"]
    endpoint = {"advertiseAddress": "10.0.0.12", "bindPort": 6443}
    # It has the cluster's keys before: kubeadm is to fetch none.
    assert cp2["controlPlane"] == {"localAPIEndpoint": endpoint}
    assert (
        cp2["nodeRegistration"]
        == (documents(files["cp2"], "init")["InitConfiguration"]["nodeRegistration"])
    )
    assert "controlPlane" not in documents(files["w1"], "join")["JoinConfiguration"]


def test_an_upgrade_has_a_place_for_the_version_and_no_value(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    for node in files.values():
        config = documents(node, "upgrade")["UpgradeConfiguration"]
        assert config["apply"]["kubernetesVersion"] == "@VERSION@"
        for section in ("apply", "node"):
            assert config[section]["imagePullPolicy"] == "IfNotPresent"


def test_no_init_token_outlives_a_join(tmp_path: Path) -> None:
    (token,) = init(tmp_path)["InitConfiguration"]["bootstrapTokens"]
    assert token["ttl"] == "15m0s"
    assert "token" not in token


def test_a_join_has_places_for_what_is_minted_and_no_value(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, {"clusterName": "blue"})
    configuration = documents(files["w1"], "join")["JoinConfiguration"]
    assert configuration["discovery"] == {
        "file": {"kubeConfigPath": "/run/own-kubernetes/discovery.yaml"},
        "tlsBootstrapToken": "@TOKEN@",
    }
    discovery = documents(files["w1"], "discovery")["Config"]
    assert discovery["apiVersion"] == "v1"
    (cluster,) = discovery["clusters"]
    assert cluster["cluster"] == {"server": "@SERVER@", "certificate-authority-data": "@CA@"}
    assert discovery["users"] == [{"name": "joining", "user": {"token": "@TOKEN@"}}]
    (context,) = discovery["contexts"]
    assert discovery["current-context"] == context["name"]
    assert context["context"]["cluster"] == cluster["name"] == "blue"


def test_nodes_register_with_their_names_and_inner_addresses(tmp_path: Path) -> None:
    changes = {"nodes.w1.address": "203.0.113.21", "nodes.w1.privateAddress": "10.0.0.21"}
    registration = join(tmp_path, changes)["nodeRegistration"]
    assert registration["name"] == "w1"
    assert registration["criSocket"] == "unix:///run/containerd/containerd.sock"
    assert registration["kubeletExtraArgs"] == [{"name": "node-ip", "value": "10.0.0.21"}]
    assert registration["imagePullSerial"] is False
    assert "ignorePreflightErrors" not in registration


def test_ignored_preflight_checks_of_a_site(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, base=dev_stack())
    for node, name, kind in (
        ("cp1", "init", "InitConfiguration"),
        ("w2", "join", "JoinConfiguration"),
    ):
        registration = documents(files[node], name)[kind]["nodeRegistration"]
        assert registration["ignorePreflightErrors"] == ["SystemVerification"]
        upgrade = documents(files[node], "upgrade")["UpgradeConfiguration"]
        for section in ("plan", "apply", "node"):
            assert upgrade[section]["ignorePreflightErrors"] == ["SystemVerification"]


# --- taints ------------------------------------------------------------------------------------


def test_a_control_plane_keeps_kubeadms_own_taint(tmp_path: Path) -> None:
    assert "taints" not in init(tmp_path)["InitConfiguration"]["nodeRegistration"]


def test_a_control_plane_for_workloads_has_no_taint(tmp_path: Path) -> None:
    config = init(tmp_path, {"scheduleOnControlPlanes": True})
    assert config["InitConfiguration"]["nodeRegistration"]["taints"] == []


def test_a_control_planes_taints_come_beside_kubeadms(tmp_path: Path) -> None:
    config = init(tmp_path, SITES["taints"].changes)
    assert config["InitConfiguration"]["nodeRegistration"]["taints"] == [
        CONTROL_PLANE_TAINT,
        {"key": "example.com/quiet", "effect": "PreferNoSchedule"},
    ]


def test_a_control_plane_for_workloads_has_just_its_own_taints(tmp_path: Path) -> None:
    changes = {**SITES["taints"].changes, "scheduleOnControlPlanes": True}
    config = init(tmp_path, changes)
    assert config["InitConfiguration"]["nodeRegistration"]["taints"] == [
        {"key": "example.com/quiet", "effect": "PreferNoSchedule"}
    ]


def test_a_workers_taints(tmp_path: Path) -> None:
    registration = join(tmp_path, SITES["taints"].changes)["nodeRegistration"]
    assert registration["taints"] == [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
        {"key": "gpu", "value": "", "effect": "NoExecute"},
    ]


def test_a_worker_without_taints_has_none(tmp_path: Path) -> None:
    assert join(tmp_path, node="w2")["nodeRegistration"]["taints"] == []


# --- kubelet and kube-proxy --------------------------------------------------------------------


def test_kubelet_and_kube_proxy(tmp_path: Path) -> None:
    config = init(tmp_path)
    kubelet = config["KubeletConfiguration"]
    assert kubelet["cgroupDriver"] == "systemd"
    assert kubelet["serializeImagePulls"] is False
    assert config["KubeProxyConfiguration"]["ipvs"]["strictARP"] is True


def test_a_sites_own_kubelet_and_kube_proxy_fields(tmp_path: Path) -> None:
    config = init(tmp_path, base=dev_stack())
    kubelet = config["KubeletConfiguration"]
    assert kubelet["failCgroupV1"] is False
    assert kubelet["evictionHard"]["imagefs.available"] == "1%"
    assert kubelet["cgroupDriver"] == "systemd"
    assert config["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0, "min": 0}
    assert config["KubeProxyConfiguration"]["ipvs"]["strictARP"] is True


def test_a_sites_ipvs_fields_leave_strict_arp_on(tmp_path: Path) -> None:
    config = init(tmp_path, {"kubeProxy": {"mode": "ipvs", "ipvs": {"scheduler": "lc"}}})
    proxy = config["KubeProxyConfiguration"]
    assert proxy["mode"] == "ipvs"
    assert proxy["ipvs"] == {"strictARP": True, "scheduler": "lc"}


def test_settings_of_all_nodes_have_a_digest() -> None:
    """By which upgrade.sh knows that others are wanted; workers have none of the control planes' own."""
    same: list[Mapping[str, Any]] = [
        {}, {"kubernetesVersion": "1.36.5"}, {"nodes.w1.taints": ["a:NoSchedule"]}, HA,
    ]  # fmt: skip
    other: list[Mapping[str, Any]] = [
        {"kubelet": {"maxPods": 50}}, {"kubelet": {"maxPods": 51}}, {"kubeProxy": {"mode": "ipvs"}},
    ]  # fmt: skip
    control_planes: list[Mapping[str, Any]] = [
        {"podSecurity": "restricted"}, {"auditLog": {"maxFiles": 20}}, {"auditLog": {"enabled": False}},
    ]  # fmt: skip
    all_of_them = [load(changes).settings for changes in (*same, *control_planes, *other)]
    workers = [settings_digest(settings, "worker") for settings in all_of_them]
    assert len(set(workers[: len(same) + len(control_planes)])) == 1
    assert len(set(workers)) == 1 + len(other)
    digests = [settings_digest(settings, "control-plane") for settings in all_of_them]
    assert len(set(digests[: len(same)])) == 1
    assert len(set(digests)) == 1 + len(control_planes) + len(other)
