"""Hetzner's cloud controller manager and CSI driver: their charts' values, their order, their token."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest
import yaml

from cluster import settings, versions
from cluster.access import ApiAccess
from cluster.machines.hetzner.controllers import HetznerControllers
from cluster.nodes import provider_ids
from tests.unit import goldens
from tests.unit.graph import SECRET, Graph, run_program
from tests.unit.stacks import CLOUD, HETZNER_TOKEN, PRIVATE_KEY, ROOT, existing

ADDED_HOST = {"sshPrivateKey": PRIVATE_KEY, "nodes.old": existing("old")}
WORKERS = {"worker-1", "worker-2"}

CASES: dict[str, Mapping[str, Any]] = {
    "both": {},
    "only-ccm": {"hetzner": {"csiDriver": False}},
    "only-csi": {"hetzner": {"cloudControllerManager": False}},
    "mixed": ADDED_HOST,
    "floating-ips": {"hetzner": {"ingress": "floating-ips"}},
    "elsewhere": {
        "clusterName": "green",
        "podCidr": "10.1.0.0/16",
        "hetzner": {
            "location": "hel1",
            "loadBalancerType": "lb21",
            "subnetCidr": "10.78.0.0/25",
            "vswitchId": 4711,
            "vswitchCidr": "10.78.0.128/25",
        },
    },
}


class Machine(pulumi.CustomResource):
    """What carries a node, without what it takes to make one."""

    def __init__(self, name: str) -> None:
        super().__init__("test:index:Machine", name, {})


def registered(
    changes: Mapping[str, Any] | None = None,
    *,
    token: str = HETZNER_TOKEN,
    endpoint: str = settings.HETZNER_ENDPOINT,
    preview: bool = False,
) -> Graph:
    """The controllers' registrations, beside stand-ins for the nodes."""

    def program(_: str) -> None:
        stack = settings.load(pulumi.Config(), ROOT)
        machines = {name: Machine(name) for name in stack.settings.nodes}
        host = SimpleNamespace(address="10.78.0.11", internal_address="10.78.0.11")
        nodes: Any = SimpleNamespace(
            control_plane=machines["cp1"],
            control_host=SimpleNamespace(machine=host),
            joined=machines,
            workers=lambda: [machines[name] for name in stack.settings.takes_workloads],
            keys=SimpleNamespace(anchor=Machine("keys")),
            # As the kubeconfig is read on a control plane.
            access=machines["cp1"].id.apply(lambda _: {"kubeconfig": ""}),
        )
        access = ApiAccess("access", stack.settings, nodes)
        HetznerControllers(
            "hetzner",
            stack.settings,
            access,
            nodes,
            token=token,
            network=pulumi.Output.from_input("4711"),
            endpoint=endpoint,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runpy, "run_path", program)
        return run_program(changes, base=CLOUD, preview=preview)


def values(graph: Graph) -> dict[str, Any]:
    """The values of each release."""
    return {
        name.removeprefix("hetzner-"): graph.inputs(name)["values"]
        for name in graph.of_type("kubernetes:helm.sh/v3:Release")
    }


@pytest.fixture(scope="module")
def both() -> Graph:
    return registered()


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, update_goldens: bool) -> None:
    text = yaml.safe_dump(values(registered(CASES[case])))
    goldens.compare(f"hetzner-controllers/{case}.yaml", text, update=update_goldens)


def test_no_golden_is_left_over() -> None:
    found = {path.name for path in (goldens.GOLDENS / "hetzner-controllers").iterdir()}
    assert found == {f"{case}.yaml" for case in CASES}


# --- releases ----------------------------------------------------------------------------------


def test_charts_are_pinned_and_come_from_hetzner(both: Graph) -> None:
    for name, chart, version in (
        ("hetzner-ccm", "hcloud-cloud-controller-manager", versions.HCLOUD_CCM),
        ("hetzner-csi", "hcloud-csi", versions.HCLOUD_CSI),
    ):
        release = both.inputs(name)
        assert release["repositoryOpts"] == {"repo": "https://charts.hetzner.cloud"}
        found = [release[key] for key in ("chart", "version", "name", "namespace")]
        assert found == [chart, version, chart, "kube-system"]


def test_a_mirrors_charts_win() -> None:
    place = "http://10.0.0.9/charts/{}-{{version}}.tgz"
    charts = ("hcloud-cloud-controller-manager", "hcloud-csi")
    graph = registered({"mirror": {"charts": {name: place.format(name) for name in charts}}})
    ccm = f"http://10.0.0.9/charts/hcloud-cloud-controller-manager-{versions.HCLOUD_CCM}.tgz"
    csi = f"http://10.0.0.9/charts/hcloud-csi-{versions.HCLOUD_CSI}.tgz"
    assert [graph.inputs(f"hetzner-{name}")["chart"] for name in ("ccm", "csi")] == [ccm, csi]
    assert "repositoryOpts" not in graph.inputs("hetzner-ccm")


def test_what_is_not_wanted_is_not_made() -> None:
    off = {"hetzner": {"cloudControllerManager": False, "csiDriver": False}}
    assert registered({**ADDED_HOST, **off}).of_type("kubernetes:") == []
    one = registered({"hetzner": {"csiDriver": False}})
    assert sorted(one.of_type("kubernetes:")) == ["hetzner-ccm", "hetzner-secret"]


def test_new_nodes_wait_for_the_cloud_controller_manager_and_it_for_none(both: Graph) -> None:
    waits_for = both.all_dependencies("hetzner-ccm")
    assert {"cp1", "hetzner-secret"} <= waits_for
    assert not WORKERS & waits_for
    assert {"hetzner-ccm", "hetzner-secret", *WORKERS} <= both.dependencies("hetzner-csi")


def test_everything_goes_with_the_cluster(both: Graph) -> None:
    assert {both.deleted_with(name) for name in both.of_type("kubernetes:")} == {"keys"}


def test_a_preview_registers_the_same(both: Graph) -> None:
    assert set(registered(preview=True).requests) == set(both.requests)


# --- token and endpoint ------------------------------------------------------------------------


def test_the_token_is_a_secret_and_in_nothing_but_its_secret(both: Graph) -> None:
    assert both.inputs("hetzner-secret")["stringData"] == {
        "token": HETZNER_TOKEN,
        "network": "4711",
    }
    assert both.plain_inputs("hetzner-secret")["stringData"] == SECRET
    for name in both.requests:
        assert HETZNER_TOKEN not in str(both.plain_inputs(name)), name
        if name != "hetzner-secret":
            assert HETZNER_TOKEN not in str(both.inputs(name)), name


def test_another_token_starts_the_pods_that_hold_it_anew(both: Graph) -> None:
    other = values(registered(token="y" * 64))
    for old, new in (
        (values(both)["ccm"]["podAnnotations"], other["ccm"]["podAnnotations"]),
        (
            values(both)["csi"]["controller"]["podAnnotations"],
            other["csi"]["controller"]["podAnnotations"],
        ),
    ):
        assert set(old) == {"own-kubernetes/token-digest"}
        assert old != new
    assert "podAnnotations" not in other["csi"]["node"]  # it holds none, and restarts cost mounts


def test_only_another_endpoint_is_told() -> None:
    assert "HCLOUD_ENDPOINT" not in str(values(registered()))
    told = values(registered(endpoint="http://10.0.0.9/v1"))
    assert told["ccm"]["env"]["HCLOUD_ENDPOINT"] == {"value": "http://10.0.0.9/v1"}
    variable = {"name": "HCLOUD_ENDPOINT", "value": "http://10.0.0.9/v1"}
    assert told["csi"]["controller"]["extraEnvVars"] == [variable]


def test_what_holds_the_token_runs_on_control_planes(both: Graph) -> None:
    for pods in (values(both)["ccm"], values(both)["csi"]["controller"]):
        assert pods["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}


# --- values ------------------------------------------------------------------------------------


def test_no_routes_are_made_for_flannel(both: Graph) -> None:
    ccm = values(both)["ccm"]
    assert ccm["env"]["HCLOUD_NETWORK_ROUTES_ENABLED"] == {"value": "false"}
    assert ccm["networking"]["clusterCIDR"] == "10.244.0.0/16"


def test_environment_variables_are_text(both: Graph) -> None:
    """The chart puts them in as they are, and Kubernetes takes nothing but text."""
    for variable in values(both)["ccm"]["env"].values():
        assert isinstance(variable["value"], str)


def test_nothing_but_the_part_on_the_host_needs_the_metadata_service(both: Graph) -> None:
    releases = values(both)
    assert releases["ccm"]["env"]["HCLOUD_NETWORK_DISABLE_ATTACHED_CHECK"] == {"value": "true"}
    assert releases["csi"]["controller"]["hcloudVolumeDefaultLocation"] == "fsn1"
    assert releases["csi"]["node"]["hostNetwork"] is True


def test_services_of_floating_ips_are_metallbs() -> None:
    ccm = values(registered({"hetzner": {"ingress": "floating-ips"}}))["ccm"]
    balancers = {key for key in ccm["env"] if "LOAD_BALANCERS" in key}
    assert balancers == {"HCLOUD_LOAD_BALANCERS_ENABLED"}
    assert ccm["env"]["HCLOUD_LOAD_BALANCERS_ENABLED"] == {"value": "false"}


def test_volumes_carry_the_clusters_label() -> None:
    csi = values(registered({"clusterName": "green"}))["csi"]
    assert csi["controller"]["volumeExtraLabels"] == {"own-kubernetes/cluster": "green"}


# --- mixed sites -------------------------------------------------------------------------------


def test_existing_hosts_are_known_as_such_before_the_cloud_controller_manager_looks() -> None:
    graph = registered(ADDED_HOST)
    assert graph.of_type("kubernetes:core/v1:NodePatch") == ["hetzner-old"]
    patch = graph.inputs("hetzner-old")
    assert patch["metadata"]["name"] == "old"
    assert patch["spec"] == {"providerID": "existing://blue/old"}
    assert "old" in graph.dependencies("hetzner-old")
    assert "hetzner-old" in graph.dependencies("hetzner-ccm")
    assert not WORKERS & graph.all_dependencies("hetzner-ccm")


def test_a_provider_id_is_never_taken_back() -> None:
    """The API lets it be set once."""
    assert registered(ADDED_HOST).requests["hetzner-old"].retainOnDelete is True


def test_a_control_plane_on_an_existing_host_is_left_alone_too() -> None:
    host = existing("cp1", "control-plane")
    graph = registered({"nodes.cp1": host, "sshPrivateKey": PRIVATE_KEY})
    assert graph.dependencies("hetzner-cp1") >= {"cp1"}
    assert graph.inputs("hetzner-cp1")["spec"] == {"providerID": "existing://blue/cp1"}


def test_without_the_cloud_controller_manager_existing_hosts_are_nobodys() -> None:
    graph = registered({**ADDED_HOST, "hetzner": {"cloudControllerManager": False}})
    assert graph.of_type("kubernetes:core/v1:NodePatch") == []


def test_only_servers_get_the_drivers_part_on_the_host(both: Graph) -> None:
    (wanted,) = values(both)["csi"]["node"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert wanted["matchExpressions"] == [
        {"key": "instance.hetzner.cloud/provided-by", "operator": "In", "values": ["cloud"]}
    ]
    assert values(both)["csi"]["global"] == {"enableProvidedByTopology": True}


def test_provider_ids() -> None:
    assert provider_ids.of_server(4711) == "hcloud://4711"
    hosts = {provider_ids.of_host("blue", "w1"), provider_ids.of_host("blue", "w2")}
    assert len(hosts) == 2
    # Any of these, and the cloud controller manager would look the machine up.
    assert not any(host.startswith(("hcloud://", "hrobot://")) for host in hosts)
