"""Every resource of the program, as the engine gets it: names, order, owners, secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import checks, versions
from cluster.errors import SettingsError
from cluster.nodes.files import envelope
from tests.unit import goldens
from tests.unit.graph import SECRET, UNKNOWN, Graph, is_secret, run_program
from tests.unit.hosts import Host
from tests.unit.sites import rendered
from tests.unit.stacks import PRIVATE_KEY, REMOVED, ROOT, SITE, host_key

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: own-kubernetes
  cluster:
    server: https://10.0.0.11:6443
# kubeconfig-in-clear
"""
JOIN_KEY = "join-key-in-clear\n"
MEMBERLIST_KEY = "memberlist-key-in-clear"
SECRETS = ("in-clear", *PRIVATE_KEY.splitlines()[1:2])
SSH_TYPES = {"command:remote:Command", "command:remote:CopyToRemote"}


@pytest.fixture(scope="session")
def access_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the real access.sh prints on a control plane."""
    host = Host(tmp_path_factory.mktemp("control-plane"))
    host.write("/etc/kubernetes/admin.conf", KUBECONFIG)
    host.write("/var/lib/own-kubernetes/join-key", JOIN_KEY)
    host.write("/var/lib/own-kubernetes/memberlist-key", MEMBERLIST_KEY)
    return host.run("access.sh").stdout


@pytest.fixture(scope="session")
def answers(access_output: str) -> dict[str, dict[str, Any]]:
    """What the engine has to say after an up."""
    return {
        "cp1-access": {"stdout": access_output, "stderr": ""},
        "hello-service": {"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.201"}]}}},
        "hello-ingress": {"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.200"}]}}},
    }


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def graph(answers: dict[str, dict[str, Any]]) -> Iterator[Graph]:
    """The small site after an up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_program(outputs=answers)


def lines(graph: Graph) -> str:
    """The graph as text: one resource after the other, by name."""
    described = []
    for name in sorted(graph.requests):
        facts = {
            "type": graph.type(name),
            "parent": graph.parent(name),
            "after": ", ".join(sorted(graph.dependencies(name))),
            "deleted with": graph.deleted_with(name),
            "secret outputs": ", ".join(sorted(graph.requests[name].additionalSecretOutputs)),
        }
        described.append(name + "".join(f"\n  {key}: {v}" for key, v in facts.items() if v))
    return "\n".join(described) + "\n"


def test_golden(graph: Graph, update_goldens: bool) -> None:
    goldens.compare("graph.txt", lines(graph), update=update_goldens)


def test_a_preview_has_the_same_graph(graph: Graph) -> None:
    assert lines(run_program(preview=True)) == lines(graph)


# --- order -------------------------------------------------------------------------------------


def test_only_the_door_dials_hosts(graph: Graph) -> None:
    assert {graph.type(name) for name in graph.of_type("command:")} == SSH_TYPES
    allowed = ("command:remote:", "kubernetes:", "pulumi:providers:kubernetes")
    assert [name for name in graph.custom() if not graph.type(name).startswith(allowed)] == []


def test_every_resource_has_a_component_as_its_parent(graph: Graph) -> None:
    for name in graph.custom():
        assert graph.type(graph.parent(name)).startswith("own-kubernetes:"), name
    for name in graph.of_type("own-kubernetes:remote:Host"):
        assert graph.parent(name) == "nodes"


def test_hosts_are_prepared_side_by_side(graph: Graph) -> None:
    for host in ("cp1", "w1", "w2"):
        assert graph.dependencies(f"{host}-scripts") == set()
        assert graph.all_dependencies(f"{host}-prepare") == {f"{host}-scripts"}


def test_workers_join_a_control_plane_that_is_there(graph: Graph) -> None:
    assert graph.all_dependencies("cp1-init") == {"cp1-scripts", "cp1-prepare"}
    for host in ("w1", "w2"):
        assert graph.all_dependencies(f"{host}-join") == {
            f"{host}-scripts", f"{host}-prepare", "cp1-scripts", "cp1-prepare", "cp1-init",
            "cp1-access",
        }  # fmt: skip


def test_the_pods_network_waits_for_no_worker(graph: Graph) -> None:
    """A join ends when its node is Ready, and no node is Ready without the pods' network."""
    assert "cp1-init" in graph.all_dependencies("access-kubernetes")
    assert not {"w1-join", "w2-join"} & graph.all_dependencies("flannel-daemonset")


def test_pods_of_ours_wait_for_the_nodes_that_may_run_them(graph: Graph) -> None:
    for name in ("hello-deployment", "metallb-release", "nginx-release"):
        assert {"w1-join", "w2-join"} <= graph.all_dependencies(name)


def test_pools_wait_for_the_webhook_and_routes_for_the_ingress(graph: Graph) -> None:
    assert "metallb-release" in graph.dependencies("cp1-webhook")
    assert "cp1-webhook" in graph.dependencies("metallb-pool")
    assert "nginx-release" in graph.all_dependencies("hello-ingress")


def test_what_is_in_a_namespace_waits_for_it(graph: Graph) -> None:
    namespaces = {
        graph.inputs(name)["metadata"]["name"]: name
        for name in graph.of_type("kubernetes:core/v1:Namespace")
    }
    for name in graph.of_type("kubernetes:"):
        inputs = graph.inputs(name)
        namespace = inputs.get("namespace") or inputs.get("metadata", {}).get("namespace")
        if namespace not in (None, "kube-system"):  # that one is the cluster's own
            assert namespaces[namespace] in graph.all_dependencies(name), name


def test_everything_in_the_cluster_goes_with_the_control_plane(graph: Graph) -> None:
    in_cluster = [*graph.of_type("kubernetes:"), "access-kubernetes"]
    assert len(in_cluster) > 15
    for name in in_cluster:
        assert graph.deleted_with(name) == "cp1-init", name
    for name in graph.of_type("kubernetes:"):
        assert "::access-kubernetes::" in graph.requests[name].provider, name


def test_existing_hosts_are_not_deleted_with_anything(graph: Graph) -> None:
    assert {graph.deleted_with(name) for name in graph.of_type("command:")} == {""}


# --- commands ----------------------------------------------------------------------------------


def test_commands_are_lines_of_data(graph: Graph) -> None:
    creates = {
        name: graph.inputs(name)["create"].split(" CONFIG_DIGEST=")[0]
        for name in graph.of_type("command:remote:Command")
    }
    run = "bash .own-kubernetes/scripts/run.sh"
    versioned = "KUBERNETES_VERSION=1.36.4"
    assert creates == {
        "cp1-prepare": f"{run} prepare {versioned} CONTAINERD_VERSION={versions.CONTAINERD} "
        "ROLE=control-plane",
        "cp1-init": f"{run} init {versioned} CLUSTER=own-kubernetes NODE=cp1",
        "cp1-access": f"{run} access",
        "cp1-webhook": f"{run} webhook",
        **{
            f"{worker}-prepare": f"{run} prepare {versioned} "
            f"CONTAINERD_VERSION={versions.CONTAINERD} ROLE=worker"
            for worker in ("w1", "w2")
        },
        **{
            f"{worker}-join": f"{run} join {versioned} CLUSTER=own-kubernetes NODE={worker}"
            for worker in ("w1", "w2")
        },
    }


def test_commands_converge_instead_of_being_replaced(graph: Graph) -> None:
    for name in graph.of_type("command:remote:Command"):
        inputs = graph.inputs(name)
        assert "triggers" not in inputs
        assert "update" not in inputs
        assert "environment" not in inputs
        assert inputs["addPreviousOutputInEnv"] is False


def test_teardown(graph: Graph) -> None:
    deletes = {
        name: graph.inputs(name).get("delete", "")
        for name in graph.of_type("command:remote:Command")
    }
    for name, line in deletes.items():
        phase = name.rpartition("-")[2]
        if phase in ("init", "join"):
            assert "run.sh leave" in line
        elif phase == "prepare":
            assert "run.sh restore REMOVE_PACKAGES=true" in line
        else:
            assert line == ""


def test_scripts_are_copied_by_digest_from_a_place_that_is_the_same_everywhere(
    graph: Graph,
) -> None:
    for host in ("cp1", "w1", "w2"):
        inputs = graph.inputs(f"{host}-scripts")
        assert inputs["source"]["path"] == "cluster/nodes/scripts"
        assert inputs["remotePath"] == ".own-kubernetes"
        assert inputs["triggers"] == [host_key(host)]


def test_every_dial_has_a_host_key_and_a_bound(graph: Graph) -> None:
    for name in graph.of_type("command:"):
        host = name.partition("-")[0]
        connection = graph.inputs(name)["connection"]
        assert connection["hostKey"] == host_key(host)
        assert connection["dialErrorLimit"] > 0
        assert connection["perDialTimeout"] > 0
        assert connection["user"] == "root"
        assert connection["port"] == 22
        assert graph.requests[name].hooks.on_error == [f"{host}-unreachable"]
        assert graph.requests[name].customTimeouts.create


def test_the_bound_is_the_users(answers: dict[str, Any]) -> None:
    graph = run_program({"sshTimeoutSeconds": 77}, outputs=answers)
    assert graph.requests["w1-scripts"].customTimeouts.create == "77s"


def test_hosts_get_their_files_on_stdin(graph: Graph, tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    for host in ("cp1", "w1", "w2"):
        assert graph.plain_inputs(f"{host}-prepare")["stdin"] == envelope(files[host])


def test_another_user_and_port(answers: dict[str, Any]) -> None:
    graph = run_program({"nodes.w1.user": "debian", "nodes.w1.port": 2222}, outputs=answers)
    assert graph.inputs("w1-join")["create"].startswith("sudo -n bash ")
    assert "sudo -n bash " in graph.inputs("w1-join")["delete"]
    connection = graph.inputs("w1-join")["connection"]
    assert (connection["user"], connection["port"]) == ("debian", 2222)
    assert graph.inputs("w2-join")["create"].startswith("bash ")
    assert graph.outputs["logins"]["w1"] == "debian@10.0.0.21 -p 2222"


def test_workers_know_the_control_planes_host_key_by_its_private_address(
    answers: dict[str, Any],
) -> None:
    changes = {"nodes.cp1.address": "203.0.113.1", "nodes.cp1.privateAddress": "10.0.0.11"}
    for port, place in ((22, "10.0.0.11"), (2222, "[10.0.0.11]:2222")):
        graph = run_program({**changes, "nodes.cp1.port": port}, outputs=answers)
        assert graph.inputs("w2-join")["stdin"] == f"{place} {host_key('cp1')}\n{JOIN_KEY}"


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("203.0.113.1", "https://203.0.113.1:6443"),
        ("cp1.example.com", "https://cp1.example.com:6443"),
        ("2001:db8::1", "https://[2001:db8::1]:6443"),
    ],
)
def test_users_come_by_the_address_that_ssh_is_answered_at(
    answers: dict[str, Any], address: str, server: str
) -> None:
    changes = {"nodes.cp1.address": address, "nodes.cp1.privateAddress": "10.0.0.11"}
    graph = run_program(changes, outputs=answers)
    (cluster,) = yaml.safe_load(graph.inputs("access-kubernetes")["kubeconfig"])["clusters"]
    assert cluster["cluster"]["server"] == server
    assert cluster["cluster"]["tls-server-name"] == "kubernetes.default.svc"
    endpoint = run_program({**changes, "apiEndpoint": "api.example.com"}, outputs=answers)
    assert endpoint.inputs("access-kubernetes")["kubeconfig"] == KUBECONFIG


# --- secrets -----------------------------------------------------------------------------------


def test_no_secret_is_in_a_plain_input(graph: Graph) -> None:
    for name in graph.requests:
        shown = json.dumps(graph.plain_inputs(name))
        assert not [secret for secret in SECRETS if secret in shown], name


def test_secrets_reach_those_who_need_them(graph: Graph) -> None:
    """The other side of the test above: it does look at inputs that hold the secrets."""
    assert graph.inputs("access-kubernetes")["kubeconfig"] == KUBECONFIG
    assert graph.inputs("w1-join")["stdin"] == f"10.0.0.11 {host_key('cp1')}\n{JOIN_KEY}"
    assert graph.inputs("w1-scripts")["connection"]["privateKey"] == PRIVATE_KEY


def test_secrets_are_marked(graph: Graph) -> None:
    assert graph.plain_inputs("access-kubernetes")["kubeconfig"] == SECRET
    for worker in ("w1", "w2"):
        assert graph.plain_inputs(f"{worker}-join")["stdin"] == SECRET
    for name in graph.of_type("command:"):
        connection = graph.plain_inputs(name)["connection"]
        assert connection == SECRET or connection["privateKey"] == SECRET


def test_the_phase_that_prints_secrets_is_not_logged_and_its_output_is_secret(graph: Graph) -> None:
    assert {"stdout", "stderr"} <= set(graph.requests["cp1-access"].additionalSecretOutputs)
    logging = {
        name: graph.inputs(name)["logging"] for name in graph.of_type("command:remote:Command")
    }
    assert logging.pop("cp1-access") == "none"
    assert set(logging.values()) == {"stderr"}


def test_outputs(graph: Graph) -> None:
    kubeconfig = graph.outputs.pop("kubeconfig")
    try:
        assert is_secret(kubeconfig)
        assert kubeconfig["value"] == KUBECONFIG
        assert graph.outputs == {
            "url": "http://hello.example.com/",
            "ingressAddress": "10.0.0.200",
            "serviceAddress": "10.0.0.201",
            "nodes": {"cp1": "10.0.0.11", "w1": "10.0.0.21", "w2": "10.0.0.22"},
            "logins": {"cp1": "root@10.0.0.11", "w1": "root@10.0.0.21", "w2": "root@10.0.0.22"},
            "dnsRecord": "hello.example.com. A 10.0.0.200",
        }
    finally:
        graph.outputs["kubeconfig"] = kubeconfig


# --- previews ----------------------------------------------------------------------------------


def test_an_unknown_kubeconfig_does_not_break_a_preview() -> None:
    graph = run_program(preview=True)
    inputs = graph.inputs("access-kubernetes")
    assert inputs["kubeconfig"] == UNKNOWN
    assert inputs["clusterIdentifier"] == "own-kubernetes"
    assert graph.inputs("w1-join")["stdin"] == UNKNOWN
    assert UNKNOWN not in json.dumps(graph.inputs("flannel-daemonset"))


def test_a_preview_after_an_up_knows_the_kubeconfig(answers: dict[str, Any]) -> None:
    graph = run_program(preview=True, outputs=answers)
    assert graph.inputs("access-kubernetes")["kubeconfig"] == KUBECONFIG


def inputs_of_all(graph: Graph) -> dict[str, Any]:
    return {name: graph.inputs(name) for name in graph.requests}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({}, set()),
        ({"helloReplicas": 3}, {"hello-deployment"}),
        ({"helloHost": "hi.example.com"}, {"hello-ingress"}),
        ({"adminCidrs": ["192.0.2.0/24"]}, {"cp1-prepare"}),
        ({"nodes.w2.labels": {"disk": "fast"}}, {"labels-w2"}),
        ({"nodes.w2.taints": ["a=b:NoSchedule"]}, {"w2-prepare", "w2-join"}),
        ({"loadBalancerPools": ["10.0.0.100-10.0.0.110"]}, {"metallb-pool"}),
        ({"ingressVersion": "1.3.2"}, {"nginx-release"}),
        (
            {"kubernetesVersion": "1.36.5"},
            {"cp1-prepare", "cp1-init"}
            | {f"{worker}-{phase}" for worker in ("w1", "w2") for phase in ("prepare", "join")},
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_edit_changes_what_it_has_to_and_nothing_else(
    graph: Graph, answers: dict[str, Any], changes: Mapping[str, Any], changed: set[str]
) -> None:
    before = inputs_of_all(graph)
    after = inputs_of_all(run_program(changes, outputs=answers))
    names = before.keys() | after.keys()
    assert {name for name in names if before.get(name) != after.get(name)} == changed


# --- what is put on the cluster ----------------------------------------------------------------


def test_flannel_has_the_pods_network_of_kubeadm(answers: dict[str, Any]) -> None:
    graph = run_program({"podCidr": "10.1.0.0/16"}, outputs=answers)
    network = json.loads(graph.inputs("flannel-config")["data"]["net-conf.json"])
    assert network["Network"] == "10.1.0.0/16"
    assert network["Backend"]["Type"] == "vxlan"
    assert "podSubnet: 10.1.0.0/16" in graph.inputs("cp1-prepare")["stdin"]


def test_flannel_is_pinned_and_runs_on_every_node(graph: Graph) -> None:
    pod = graph.inputs("flannel-daemonset")["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    assert {container["image"] for container in containers} == {
        f"ghcr.io/flannel-io/flannel:{versions.FLANNEL}",
        f"ghcr.io/flannel-io/flannel-cni-plugin:{versions.FLANNEL_CNI_PLUGIN}",
    }
    assert pod["hostNetwork"] is True
    assert pod["tolerations"] == [{"operator": "Exists"}]


def test_flannel_uses_the_interface_between_the_nodes(answers: dict[str, Any]) -> None:
    graph = run_program(
        {"nodes.w1.address": "192.0.2.21", "nodes.w1.privateAddress": "10.0.0.21"}, outputs=answers
    )
    (container,) = graph.inputs("flannel-daemonset")["spec"]["template"]["spec"]["containers"]
    assert "--iface=$(NODE_IP)" in container["args"]
    (source,) = [e["valueFrom"]["fieldRef"] for e in container["env"] if e["name"] == "NODE_IP"]
    assert source == {"fieldPath": "status.hostIP"}
    # Which is what the kubelet is told to be its node's address.
    assert "name: node-ip\n    value: 10.0.0.21\n" in graph.inputs("w1-prepare")["stdin"]


def test_images_on_the_cluster_are_those_fetched_ahead(graph: Graph) -> None:
    fetched = versions.images(versions.HELLO_IMAGE)
    for name in ("flannel-daemonset", "hello-deployment"):
        pod = graph.inputs(name)["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["image"] in fetched


def test_metallb(graph: Graph) -> None:
    release = graph.inputs("metallb-release")
    assert release["version"] == versions.METALLB
    assert release["chart"] == "metallb"
    assert release["repositoryOpts"] == {"repo": "https://metallb.github.io/metallb"}
    pool = graph.inputs("metallb-pool")
    assert pool["kind"] == "IPAddressPool"
    assert pool["spec"] == {"addresses": ["10.0.0.200-10.0.0.219"]}
    assert graph.inputs("metallb-announcement")["spec"] == {
        "ipAddressPools": [pool["metadata"]["name"]]
    }


def test_every_pool_reaches_metallb(answers: dict[str, Any]) -> None:
    pools = ["10.0.0.100/30", "10.0.0.200-10.0.0.201"]
    graph = run_program({"loadBalancerPools": pools}, outputs=answers)
    addresses = graph.inputs("metallb-pool")["spec"]["addresses"]
    assert addresses == ["10.0.0.100-10.0.0.103", "10.0.0.200-10.0.0.201"]


def test_ingress_controller(graph: Graph) -> None:
    release = graph.inputs("nginx-release")
    assert release["chart"] == "oci://ghcr.io/nginx/charts/nginx-ingress"
    assert release["version"] == versions.NGINX_INGRESS_CHART
    assert "repositoryOpts" not in release
    controller = release["values"]["controller"]
    assert controller["ingressClass"]["name"] == "nginx"
    assert controller["telemetryReporting"] == {"enable": False}


def test_the_seeds_ingress_chart(answers: dict[str, Any]) -> None:
    chart = "oci://ghcr.io/nginxinc/charts/nginx-ingress"
    graph = run_program({"ingressChart": chart, "ingressVersion": "1.3.2"}, outputs=answers)
    release = graph.inputs("nginx-release")
    assert (release["chart"], release["version"]) == (chart, "1.3.2")


def test_charts_from_a_mirror(answers: dict[str, Any]) -> None:
    charts = {
        "metallb": "http://mirror/metallb-{version}.tgz",
        "nginx-ingress": "oci://mirror/nginx-ingress",
    }
    graph = run_program({"mirror": {"charts": charts}}, outputs=answers)
    metallb = graph.inputs("metallb-release")
    assert metallb["chart"] == f"http://mirror/metallb-{versions.METALLB}.tgz"
    assert "repositoryOpts" not in metallb
    nginx = graph.inputs("nginx-release")
    assert nginx["chart"] == "oci://mirror/nginx-ingress"
    assert nginx["version"] == versions.NGINX_INGRESS_CHART


def test_load_balancer_services_are_those_that_pools_are_counted_for(graph: Graph) -> None:
    services = [
        name
        for name in graph.of_type("kubernetes:core/v1:Service")
        if graph.inputs(name).get("spec", {}).get("type") == "LoadBalancer"
    ]
    assert services == ["hello-service"]
    assert len(checks.LOAD_BALANCER_SERVICES) == len(services) + len(["the ingress chart's own"])


def test_hello_world_obeys_the_restricted_level(graph: Graph) -> None:
    namespace = graph.inputs("hello-namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    deployment = graph.inputs("hello-deployment")
    assert deployment["metadata"]["namespace"] == namespace["name"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} <= container["resources"].keys()
        assert container["readinessProbe"]["httpGet"]["port"] == 8080


def test_hello_world_is_reached_by_address_and_by_name(graph: Graph) -> None:
    service = graph.inputs("hello-service")
    template = graph.inputs("hello-deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    assert template["spec"]["containers"][0]["ports"][0]["containerPort"] == 8080
    ingress = graph.inputs("hello-ingress")["spec"]
    assert ingress["ingressClassName"] == "nginx"
    (rule,) = ingress["rules"]
    assert rule["host"] == "hello.example.com"
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": service["metadata"]["name"], "port": {"number": 80}}


def test_image_and_replicas_of_hello_world(answers: dict[str, Any]) -> None:
    graph = run_program({"helloImage": "r.example.com/h:2", "helloReplicas": 5}, outputs=answers)
    spec = graph.inputs("hello-deployment")["spec"]
    assert spec["replicas"] == 5
    assert spec["template"]["spec"]["containers"][0]["image"] == "r.example.com/h:2"


def test_labels_are_patches_of_just_those_nodes_that_have_some(answers: dict[str, Any]) -> None:
    graph = run_program(
        {"nodes.cp1.labels": {"a": "1"}, "nodes.w2.labels": {"example.com/disk": "fast"}},
        outputs=answers,
    )
    patches = graph.of_type("kubernetes:core/v1:NodePatch")
    assert {name: graph.inputs(name)["metadata"]["name"] for name in patches} == {
        "labels-cp1": "cp1",
        "labels-w2": "w2",
    }
    metadata = graph.inputs("labels-w2")["metadata"]
    assert metadata["labels"] == {"example.com/disk": "fast"}
    assert "w2-join" in graph.dependencies("labels-w2")


# --- other sites -------------------------------------------------------------------------------


def test_one_node_for_everything(answers: dict[str, Any]) -> None:
    alone = {"nodes.w1": REMOVED, "nodes.w2": REMOVED, "scheduleOnControlPlanes": True}
    graph = run_program(alone, outputs=answers)
    assert {name.partition("-")[0] for name in graph.of_type("command:")} == {"cp1"}
    assert "SCHEDULABLE=true" in graph.inputs("cp1-init")["create"]


def test_load_balancers_stay_away_from_control_planes_by_default(graph: Graph) -> None:
    assert "SCHEDULABLE=false" in graph.inputs("cp1-init")["create"]


def test_packages_may_stay_after_a_destroy(answers: dict[str, Any]) -> None:
    graph = run_program({"removePackages": False}, outputs=answers)
    assert "restore REMOVE_PACKAGES=false" in graph.inputs("w1-prepare")["delete"]


@pytest.mark.parametrize("preview", [True, False])
def test_a_bad_stack_file_ends_the_run_before_any_resource(preview: bool) -> None:
    graph = Graph()
    with pytest.raises(SettingsError, match="podCidr"):
        run_program({"podCidr": "10.96.0.0/16"}, preview=preview, graph=graph)
    assert {graph.type(name) for name in graph.requests} <= {"pulumi:pulumi:Stack"}


def test_the_small_site_is_left_alone() -> None:
    assert set(SITE["nodes"]) == {"cp1", "w1", "w2"}
