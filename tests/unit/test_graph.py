"""Every resource of the program, as the engine gets it: names, order, owners, secrets."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import checks, versions
from cluster.copies import for_provider
from cluster.errors import SettingsError
from cluster.nodes.files import envelope
from tests.unit import goldens
from tests.unit.graph import SECRET, UNKNOWN, Graph, is_secret, private_key, public_key, run_program
from tests.unit.hosts import Host
from tests.unit.ingress_chart import rendered as rendered_chart
from tests.unit.ingress_chart import unknown_keys
from tests.unit.sites import HA, rendered
from tests.unit.stacks import PRIVATE_KEY, PUBLIC_KEY, REMOVED, ROOT, SITE, host_key

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: own-kubernetes
  cluster:
    server: https://10.0.0.11:6443
# kubeconfig-in-clear
"""
SECRETS = ("in-clear", *PRIVATE_KEY.splitlines()[1:2])
SSH_TYPES = {"command:remote:Command", "command:remote:CopyToRemote"}
RUN = "bash .own-kubernetes/scripts/run.sh"
PARTING = ".venv/bin/python -m cluster.parting"
ANCHOR = "cluster-worker-key"
EXPIRY = "2999-12-31T12:00:00Z"
CONTROL_PLANES = ("cp1", "cp2", "cp3")
WORKERS = ("w1", "w2")


@pytest.fixture(scope="session")
def access_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the real access.sh prints on a control plane."""
    host = Host(tmp_path_factory.mktemp("control-plane"))
    host.write("/etc/kubernetes/admin.conf", KUBECONFIG)
    return host.run("access.sh").stdout


@pytest.fixture(scope="session")
def answers(access_output: str) -> dict[str, dict[str, Any]]:
    """What the engine has to say after an up."""
    return {
        "cluster-access": {"stdout": access_output, "stderr": ""},
        **{f"{name}-upgrade": {"stdout": f"{EXPIRY}\n", "stderr": ""} for name in CONTROL_PLANES},
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


@pytest.fixture(scope="module")
def ha(answers: dict[str, dict[str, Any]]) -> Iterator[Graph]:
    """The small site with three control planes after an up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_program(HA, outputs=answers)


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


def test_golden_of_several_control_planes(ha: Graph, update_goldens: bool) -> None:
    goldens.compare("ha-graph.txt", lines(ha), update=update_goldens)


def test_a_preview_has_the_same_graph(graph: Graph, ha: Graph) -> None:
    assert lines(run_program(preview=True)) == lines(graph)
    assert lines(run_program(HA, preview=True)) == lines(ha)


# --- order -------------------------------------------------------------------------------------


def test_only_the_door_dials_hosts(graph: Graph) -> None:
    assert {graph.type(name) for name in graph.of_type("command:remote:")} == SSH_TYPES
    allowed = ("command:", "kubernetes:", "pulumi:providers:kubernetes", "tls:index/privateKey:")
    assert [name for name in graph.custom() if not graph.type(name).startswith(allowed)] == []


def test_every_resource_has_a_component_as_its_parent(graph: Graph) -> None:
    for name in graph.custom():
        assert graph.type(graph.parent(name)).startswith("own-kubernetes:"), name
    for name in graph.of_type("own-kubernetes:remote:Host"):
        assert graph.parent(name) == "nodes"


def test_hosts_are_prepared_side_by_side(ha: Graph) -> None:
    for host in (*CONTROL_PLANES, *WORKERS):
        assert ha.dependencies(f"{host}-end") == set()
        assert ha.dependencies(f"{host}-scripts") == {f"{host}-end"}
        assert ha.all_dependencies(f"{host}-prepare") == {f"{host}-scripts", f"{host}-end"}


def of_host(*names: str) -> set[str]:
    """What makes hosts ready to join."""
    return {f"{name}-{what}" for name in names for what in ("end", "scripts", "prepare")}


def test_workers_join_a_control_plane_that_is_there(graph: Graph, ha: Graph) -> None:
    keys = {"cluster-worker-key", "cluster-control-plane-key"}
    for some, leaving in ((graph, set[str]()), (ha, {"cp1-membership"})):
        assert some.all_dependencies("cp1-join") == of_host("cp1") | keys | leaving
        for host in WORKERS:
            after = some.all_dependencies(f"{host}-join") - leaving
            assert after == of_host(host, "cp1") | keys | {"cp1-join", f"{host}-membership"}


def test_control_planes_join_one_by_one(ha: Graph) -> None:
    """etcd takes one new member at a time."""
    for before, host in itertools.pairwise(CONTROL_PLANES):
        assert f"{before}-join" in ha.dependencies(f"{host}-join")
    assert "w1-join" not in ha.all_dependencies("cp3-join")


def upgrades_before(graph: Graph, node: str) -> set[str]:
    """The nodes that are upgraded before a node is."""
    after = graph.all_dependencies(f"{node}-upgrade")
    return {name.removesuffix("-upgrade") for name in after if name.endswith("-upgrade")}


def test_control_planes_are_upgraded_one_by_one_and_workers_after_them(ha: Graph) -> None:
    assert [upgrades_before(ha, node) for node in (*CONTROL_PLANES, *WORKERS)] == [
        set(), {"cp1"}, {"cp1", "cp2"}, {"cp1", "cp2", "cp3"}, {"cp1", "cp2", "cp3", "w1"},
    ]  # fmt: skip


def more_workers(count: int) -> dict[str, Any]:
    """Workers w3, w4, ..."""
    return {
        f"nodes.w{n}": {
            "role": "worker",
            "address": f"10.0.0.{20 + n}",
            "hostKey": host_key(f"w{n}"),
        }
        for n in range(3, 3 + count)
    }


@pytest.mark.parametrize(
    ("workers", "at_once", "batch"), [(5, 2, 2), (5, 0, 1), (11, 0, 2), (3, 100, 3)]
)
def test_no_more_workers_than_wanted_are_upgraded_at_the_same_time(
    answers: dict[str, Any], workers: int, at_once: int, batch: int
) -> None:
    changes = {"workersAtOnce": at_once, **more_workers(workers - 2)}
    graph = run_program(changes, outputs=answers)
    names = {f"w{n}" for n in range(1, workers + 1)}
    before = {name: upgrades_before(graph, name) for name in names}
    assert all("cp1" in others for others in before.values())
    for some in itertools.combinations(names, batch + 1):
        assert any(one in before[other] for one, other in itertools.permutations(some, 2))
    side_by_side = [name for name in names if before[name] == {"cp1"}]
    assert len(side_by_side) == batch


def test_nothing_waits_for_an_upgrade(ha: Graph) -> None:
    """A node that can't be upgraded now keeps nobody from using the cluster."""
    for name in ha.requests:
        waiting = {n for n in ha.dependencies(name) if n.endswith("-upgrade")}
        assert not waiting or name.endswith("-upgrade") or name == "cluster-encryption", name


def test_keys_for_secrets_change_once_all_control_planes_are_up_to_date(ha: Graph) -> None:
    """None may write with a key that another can't have yet."""
    after = ha.dependencies("cluster-encryption")
    assert {name for name in after if name.endswith("-upgrade")} == {
        f"{name}-upgrade" for name in CONTROL_PLANES
    }


def test_the_pods_network_waits_for_the_first_node_only(graph: Graph, ha: Graph) -> None:
    """A worker's join ends when its node is Ready, and no node is Ready without the pods' network."""
    for some in (graph, ha):
        after = some.all_dependencies("access-kubernetes") | some.all_dependencies(
            "flannel-daemonset"
        )
        assert {name for name in after if name.endswith("-join")} == {"cp1-join"}


def test_pods_of_ours_wait_for_the_nodes_that_may_run_them(graph: Graph) -> None:
    for name in ("hello-deployment", "metallb-release", "nginx-release"):
        assert {"w1-join", "w2-join"} <= graph.all_dependencies(name)


def test_pools_wait_for_the_webhook_and_routes_for_the_ingress(graph: Graph) -> None:
    assert "metallb-release" in graph.dependencies("metallb-webhook")
    assert "metallb-webhook" in graph.dependencies("metallb-pool")
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


def test_everything_in_the_cluster_goes_with_the_cluster(graph: Graph) -> None:
    """And not with one of its nodes, each of which it may outlive."""
    in_cluster = [*graph.of_type("kubernetes:"), "access-kubernetes"]
    assert len(in_cluster) > 15
    for name in in_cluster:
        assert graph.deleted_with(name) == ANCHOR, name
    for name in graph.of_type("kubernetes:"):
        assert "::access-kubernetes::" in graph.requests[name].provider, name


def test_what_was_done_on_a_host_goes_with_its_end(ha: Graph) -> None:
    for name in ha.of_type("command:remote:"):
        host = name.partition("-")[0]
        host = {"cluster": "cp1", "metallb": "cp1"}.get(host, host)
        assert ha.deleted_with(name) == f"{host}-end", name
        assert f"{host}-end" in ha.all_dependencies(name), name
    for host in (*CONTROL_PLANES, *WORKERS):
        assert ha.deleted_with(f"{host}-end") == ""


# --- commands ----------------------------------------------------------------------------------


def creates(graph: Graph) -> dict[str, str]:
    return {
        name: re.sub(
            r" (CONFIG_DIGEST|SCRIPTS|SETTINGS)=[0-9a-f]{12}", "", graph.inputs(name)["create"]
        )
        for name in graph.of_type("command:remote:Command")
    }


def test_commands_are_lines_of_data(ha: Graph) -> None:
    prepare = f"{RUN} prepare KUBERNETES_VERSION=1.36.4 CONTAINERD_VERSION={versions.CONTAINERD}"
    upgrade = f"{RUN} upgrade KUBERNETES_VERSION=1.36.4 CLUSTER=own-kubernetes"
    wanted = {
        "cluster-access": f"{RUN} access",
        "cluster-encryption": f"{RUN} encryption NODE=cp1",
        "metallb-webhook": f"{RUN} webhook POOL=10.0.0.200-10.0.0.219",
    }
    for role, names in (("control-plane", CONTROL_PLANES), ("worker", WORKERS)):
        for name in names:
            join = (
                f"{RUN} {'join' if role == 'worker' else role} CLUSTER=own-kubernetes NODE={name}"
            )
            wanted |= {
                f"{name}-prepare": f"{prepare} ROLE={role}",
                f"{name}-join": join if role == "worker" else f"{join} SCHEDULABLE=false",
                f"{name}-upgrade": f"{upgrade} NODE={name} ROLE={role} DRAIN_SECONDS=300",
                f"{name}-updates": f"{RUN} updates AUTOMATIC=true",
            }
    assert creates(ha) == wanted


def test_commands_converge_instead_of_being_replaced(graph: Graph) -> None:
    for name in graph.of_type("command:remote:Command"):
        inputs = graph.inputs(name)
        assert "triggers" not in inputs
        assert "update" not in inputs
        assert "environment" not in inputs
        assert inputs["addPreviousOutputInEnv"] is False


def test_commands_of_the_end_do_nothing_before(ha: Graph) -> None:
    local = ha.of_type("command:local:")
    assert len(local) == 2 * len((*CONTROL_PLANES, *WORKERS))
    for name in local:
        inputs = ha.inputs(name)
        assert inputs["create"] == "true"
        assert {"update", "triggers", "environment"}.isdisjoint(inputs)
        verb = {"end": "end", "membership": "remove"}[name.partition("-")[2]]
        assert inputs["delete"] == f"{PARTING} {verb}"
        assert inputs["addPreviousOutputInEnv"] is False
        assert inputs["logging"] == "stderr"


def test_no_phase_is_undone_by_a_host_that_may_be_dead(ha: Graph) -> None:
    assert not [n for n in ha.of_type("command:remote:") if "delete" in ha.inputs(n)]


def parting(graph: Graph, name: str) -> list[dict[str, Any]]:
    """The hosts that are asked at the end."""
    assert graph.plain_inputs(name)["stdin"] == SECRET
    hosts: list[dict[str, Any]] = json.loads(graph.inputs(name)["stdin"])
    return hosts


def test_a_host_is_given_back_by_itself(ha: Graph) -> None:
    (way,) = parting(ha, "w1-end")
    line = way.pop("line")
    assert f"{{ {RUN} leave && {RUN} restore REMOVE_PACKAGES=true && rm -rf " in line
    assert way == {
        "name": "w1", "address": "10.0.0.21", "port": 22, "user": "root",
        "host_key": host_key("w1"), "private_key": PRIVATE_KEY,
    }  # fmt: skip


def test_a_node_is_taken_out_by_any_control_plane_that_stays(ha: Graph, graph: Graph) -> None:
    for name, asked in {"w2": CONTROL_PLANES, "cp1": ("cp2", "cp3"), "cp2": ("cp1", "cp3")}.items():
        ways = parting(ha, f"{name}-membership")
        assert [(way["name"], way["host_key"]) for way in ways] == [(n, host_key(n)) for n in asked]
        line = f"{RUN} remove NODE={name} DRAIN_SECONDS=300"
        assert {way["line"].partition("; ")[2] for way in ways} == {line}
    assert [way["name"] for way in parting(graph, "w1-membership")] == ["cp1"]


def test_a_sole_control_plane_is_taken_out_of_nothing(graph: Graph) -> None:
    assert "cp1-membership" not in graph.requests


def test_a_node_leaves_the_cluster_before_its_host_is_given_back(ha: Graph) -> None:
    for name in (*CONTROL_PLANES, *WORKERS):
        assert f"{name}-end" in ha.all_dependencies(f"{name}-membership")
        # A drain may take its time.
        assert ha.requests[f"{name}-membership"].customTimeouts.delete == "90m"


def test_nodes_of_a_cluster_that_goes_as_a_whole_are_not_taken_out_of_it(ha: Graph) -> None:
    for name in (*CONTROL_PLANES, *WORKERS):
        assert ha.deleted_with(f"{name}-membership") == ANCHOR


def test_a_join_that_broke_off_can_be_taken_back(ha: Graph) -> None:
    """Its Node may be there already: what takes it out of the cluster is there before the join."""
    for name in (*CONTROL_PLANES, *WORKERS):
        assert f"{name}-membership" in ha.dependencies(f"{name}-join")
        # And no earlier than it has to be: until then there is nothing to leave.
        assert f"{name}-prepare" in ha.dependencies(f"{name}-membership")
        assert name == "cp1" or "cp1-join" in ha.all_dependencies(f"{name}-membership")


def test_control_planes_leave_one_after_the_other(ha: Graph) -> None:
    """Deletes run against the order of dependencies."""
    for before, name in itertools.pairwise(CONTROL_PLANES):
        assert f"{before}-membership" in ha.all_dependencies(f"{name}-membership")
    assert "w1-membership" not in ha.all_dependencies("w2-membership")


def test_scripts_are_copied_by_digest_from_a_place_that_is_the_same_everywhere(
    graph: Graph,
) -> None:
    for host in ("cp1", "w1", "w2"):
        inputs = graph.inputs(f"{host}-scripts")
        assert inputs["source"]["path"] == "cluster/nodes/scripts"
        assert inputs["remotePath"] == ".own-kubernetes"
        assert inputs["triggers"] == [host_key(host)]


def test_every_dial_has_a_host_key_and_a_bound(graph: Graph) -> None:
    for name in graph.of_type("command:remote:"):
        host = name.partition("-")[0]
        host = {"cluster": "cp1", "metallb": "cp1"}.get(host, host)
        connection = graph.inputs(name)["connection"]
        assert connection["hostKey"] == host_key(host)
        assert connection["dialErrorLimit"] > 0
        assert connection["perDialTimeout"] > 0
        assert connection["user"] == "root"
        assert connection["port"] == 22
        assert graph.requests[name].hooks.on_error == [f"{host}-unreachable"]
        assert graph.requests[name].customTimeouts.create


PROXY = {
    "proxy": {
        "address": "198.51.100.9",
        "port": 2022,
        "user": "jump",
        "hostKey": host_key("bastion"),
    },
    "proxyPrivateKey": "bastion-key-in-clear",
}


def test_every_dial_goes_by_the_bastion_whose_key_is_checked_too(answers: dict[str, Any]) -> None:
    graph = run_program({**HA, **PROXY}, outputs=answers)
    dials = graph.of_type("command:remote:")
    for name in dials:
        connection = graph.inputs(name)["connection"]
        bounds = {key: connection[key] for key in ("dialErrorLimit", "perDialTimeout")}
        assert connection["hostKey"] != host_key("bastion")
        assert connection["proxy"] == {
            "host": "198.51.100.9",
            "port": 2022,
            "user": "jump",
            "privateKey": "bastion-key-in-clear",
            "hostKey": host_key("bastion"),
            **bounds,
        }
    partings = [n for n in graph.of_type("command:local:") if graph.inputs(n).get("stdin")]
    assert len(partings) >= 2 * len(CONTROL_PLANES + WORKERS)
    for name in partings:
        for way in parting(graph, name):
            assert way["proxy"] == {
                "address": "198.51.100.9",
                "port": 2022,
                "user": "jump",
                "private_key": "bastion-key-in-clear",
                "host_key": host_key("bastion"),
            }
    for name in graph.requests:
        assert "bastion-key" not in json.dumps(graph.plain_inputs(name)), name
    assert graph.outputs["logins"]["w1"] == "root@10.0.0.21 -J jump@198.51.100.9:2022"


def test_the_bound_is_the_users(answers: dict[str, Any]) -> None:
    graph = run_program({"sshTimeoutSeconds": 77}, outputs=answers)
    assert graph.requests["w1-scripts"].customTimeouts.create == "94s"


def test_hosts_get_their_files_on_stdin(graph: Graph, tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    for host in ("cp1", "w1", "w2"):
        assert graph.plain_inputs(f"{host}-prepare")["stdin"] == envelope(files[host])


def test_another_user_and_port(answers: dict[str, Any]) -> None:
    graph = run_program({"nodes.w1.user": "debian", "nodes.w1.port": 2222}, outputs=answers)
    assert graph.inputs("w1-join")["create"].startswith("sudo -n bash ")
    (way,) = parting(graph, "w1-end")
    assert (way["user"], way["port"]) == ("debian", 2222)
    assert way["line"].count("sudo -n bash ") == 2
    connection = graph.inputs("w1-join")["connection"]
    assert (connection["user"], connection["port"]) == ("debian", 2222)
    assert graph.inputs("w2-join")["create"].startswith("bash ")
    assert graph.outputs["logins"]["w1"] == "debian@10.0.0.21 -p 2222"


def test_hosts_know_the_control_planes_by_their_private_addresses(answers: dict[str, Any]) -> None:
    changes = {
        **HA, "nodes.cp1.address": "203.0.113.1", "nodes.cp1.privateAddress": "10.0.0.11",
        "nodes.cp1.port": 2222, "nodes.cp1.user": "debian",
    }  # fmt: skip
    graph = run_program(changes, outputs=answers)
    hosts = (
        f"host cp1 debian 10.0.0.11 2222 {host_key('cp1')}\n"
        f"host cp2 root 10.0.0.12 22 {host_key('cp2')}\n"
        f"host cp3 root 10.0.0.13 22 {host_key('cp3')}\n"
    )
    admitted = "".join(
        f"admit {role} {public_key(f'cluster-{role}-key')}" for role in ("worker", "control-plane")
    )
    for phase in ("join", "upgrade"):
        for name in WORKERS:
            wanted = hosts + private_key("cluster-worker-key")
            assert graph.inputs(f"{name}-{phase}")["stdin"] == wanted
        for name in CONTROL_PLANES:
            wanted = hosts + admitted + private_key("cluster-control-plane-key")
            assert graph.inputs(f"{name}-{phase}")["stdin"] == wanted


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
    for shared in ({"apiEndpoint": "api.example.com"}, {"apiVirtualAddress": "10.0.0.5"}):
        own = run_program({**changes, **shared}, outputs=answers)
        assert own.inputs("access-kubernetes")["kubeconfig"] == for_provider(KUBECONFIG)


def test_users_come_by_their_tunnel_if_they_have_one(answers: dict[str, Any]) -> None:
    changes = {"apiTunnel": "127.0.0.1:16443", "apiEndpoint": "api.example.com"}
    graph = run_program(changes, outputs=answers)
    (cluster,) = yaml.safe_load(graph.inputs("access-kubernetes")["kubeconfig"])["clusters"]
    assert cluster["cluster"] == {
        "server": "https://127.0.0.1:16443",
        "tls-server-name": "kubernetes.default.svc",
    }


# --- secrets -----------------------------------------------------------------------------------


def test_no_secret_is_in_a_plain_input(ha: Graph) -> None:
    for name in ha.requests:
        shown = json.dumps(ha.plain_inputs(name))
        assert not [secret for secret in SECRETS if secret in shown], name


def test_secrets_reach_those_who_need_them(graph: Graph) -> None:
    """The other side of the test above: it does look at inputs that hold the secrets."""
    assert graph.inputs("access-kubernetes")["kubeconfig"] == for_provider(KUBECONFIG)
    assert graph.inputs("w1-join")["stdin"].endswith(private_key("cluster-worker-key"))
    assert graph.inputs("w1-scripts")["connection"]["privateKey"] == PRIVATE_KEY


def test_secrets_are_marked(graph: Graph) -> None:
    assert graph.plain_inputs("access-kubernetes")["kubeconfig"] == SECRET
    for name in ("cp1", *WORKERS):
        assert graph.plain_inputs(f"{name}-join")["stdin"] == SECRET
        assert graph.plain_inputs(f"{name}-upgrade")["stdin"] == SECRET
    for name in graph.of_type("command:remote:"):
        connection = graph.plain_inputs(name)["connection"]
        assert connection == SECRET or connection["privateKey"] == SECRET


def test_metallbs_speakers_share_a_secret_that_stays(graph: Graph, answers: dict[str, Any]) -> None:
    assert graph.plain_inputs("metallb-memberlist")["stringData"] == SECRET
    key = graph.inputs("metallb-memberlist")["stringData"]["secretkey"]
    assert len(bytes.fromhex(key)) == 32
    again = run_program({"nodes.w1": REMOVED, "helloReplicas": 3}, outputs=answers)
    assert again.inputs("metallb-memberlist")["stringData"]["secretkey"] == key
    half = {"privateKeyOpenssh": "another-in-clear", "publicKeyOpenssh": PUBLIC_KEY}
    other = run_program(outputs={**answers, "cluster-control-plane-key": half})
    assert other.inputs("metallb-memberlist")["stringData"]["secretkey"] != key


def test_the_phase_that_prints_secrets_is_not_logged_and_its_output_is_secret(graph: Graph) -> None:
    assert {"stdout", "stderr"} <= set(graph.requests["cluster-access"].additionalSecretOutputs)
    logging = {
        name: graph.inputs(name)["logging"] for name in graph.of_type("command:remote:Command")
    }
    assert logging.pop("cluster-access") == "none"
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
            "certificatesExpire": {"cp1": EXPIRY, "kubeconfig": ""},
        }
    finally:
        graph.outputs["kubeconfig"] = kubeconfig


# --- previews ----------------------------------------------------------------------------------


def test_an_unknown_kubeconfig_does_not_break_a_preview() -> None:
    graph = run_program(preview=True)
    inputs = graph.inputs("access-kubernetes")
    assert inputs["kubeconfig"] == UNKNOWN
    assert inputs["clusterIdentifier"] == "own-kubernetes"
    for name in ("w1-join", "w1-upgrade", "cp1-join"):
        assert graph.inputs(name)["stdin"] == UNKNOWN
    assert UNKNOWN not in json.dumps(graph.inputs("flannel-daemonset"))


def test_a_preview_after_an_up_knows_the_kubeconfig(answers: dict[str, Any]) -> None:
    graph = run_program(preview=True, outputs=answers)
    assert graph.inputs("access-kubernetes")["kubeconfig"] == for_provider(KUBECONFIG)


def inputs_of_all(graph: Graph) -> dict[str, Any]:
    return {name: graph.inputs(name) for name in graph.requests}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({}, set()),
        ({"helloReplicas": 3}, {"hello-deployment"}),
        ({"helloReplicas": 1}, {"hello-deployment", "hello-budget"}),
        ({"helloHost": "hi.example.com"}, {"hello-ingress"}),
        ({"adminCidrs": ["192.0.2.0/24"]}, {"cp1-prepare"}),
        ({"nodes.w2.labels": {"disk": "fast"}}, {"labels-w2"}),
        ({"nodes.w2.taints": ["a=b:PreferNoSchedule"]}, {"w2-prepare", "w2-join"}),
        ({"nodes.cp1.taints": ["a=b:NoSchedule"]}, {"cp1-prepare", "cp1-join"}),
        ({"workersAtOnce": 2}, set()),
        # Settings of all kubelets reach live nodes one by one.
        (
            {"kubelet": {"maxPods": 50}},
            {"cp1-prepare", "cp1-join"} | {f"{name}-upgrade" for name in ("cp1", "w1", "w2")},
        ),
        (
            {"certificateRenewal": "2026-01-31"},
            {"cp1-upgrade", "w1-upgrade", "w2-upgrade", "cluster-access"},
        ),
        ({"podSecurity": "restricted"}, {"cp1-prepare", "cp1-join", "cp1-upgrade"}),
        ({"encryptionRotation": "2026-01-31"}, {"cluster-encryption"}),
        ({"removePackages": False}, {f"{name}-end" for name in ("cp1", "w1", "w2")}),
        (
            {"drainTimeoutSeconds": 60},
            {f"{name}-upgrade" for name in ("cp1", "w1", "w2")}
            | {"w1-membership", "w2-membership", "kured-daemonset"},
        ),
        (
            {"loadBalancerPools": ["10.0.0.100-10.0.0.110"]},
            {"metallb-pool", "metallb-webhook"},
        ),
        ({"ingressVersion": "1.3.2"}, {"nginx-release"}),
        (
            {"kubernetesVersion": "1.36.5"},
            {f"{name}-{phase}" for name in ("cp1", "w1", "w2") for phase in ("prepare", "upgrade")},
        ),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_an_edit_changes_what_it_has_to_and_nothing_else(
    graph: Graph, answers: dict[str, Any], changes: Mapping[str, Any], changed: set[str]
) -> None:
    before = inputs_of_all(graph)
    after = inputs_of_all(run_program(changes, outputs=answers))
    names = before.keys() | after.keys()
    assert {name for name in names if before.get(name) != after.get(name)} == changed


@pytest.mark.parametrize("site", [{}, HA], ids=["one", "ha"])
def test_a_worker_comes_and_goes_without_a_change_anywhere_else(
    answers: dict[str, Any], site: Mapping[str, Any]
) -> None:
    """Not to a file, not to a line, not to what goes to stdin, on no other node and not in the cluster."""
    three = {**site, **more_workers(1)}
    less = inputs_of_all(run_program(three, outputs=answers))
    more = inputs_of_all(run_program({**three, **more_workers(2)}, outputs=answers))
    phases = ("end", "scripts", "prepare", "join", "upgrade", "membership", "updates")
    assert more.keys() - less.keys() == {"w4", *(f"w4-{phase}" for phase in phases)}
    assert {name: more[name] for name in less} == less
    fewer = inputs_of_all(run_program({**three, "nodes.w1": REMOVED}, outputs=answers))
    assert {name: less[name] for name in fewer} == fewer


def test_what_further_control_planes_change(answers: dict[str, Any], ha: Graph) -> None:
    """Who is asked, and who reaches the API server; no file of a worker."""
    before = inputs_of_all(run_program({"apiVirtualAddress": "10.0.0.5"}, outputs=answers))
    after = inputs_of_all(ha)
    asking = {f"{name}-{phase}" for name in ("cp1", *WORKERS) for phase in ("join", "upgrade")}
    members = {f"{name}-membership" for name in WORKERS}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == asking | members | {"cp1-prepare", "cluster-encryption"}
    same_lines = {n for n in asking if before[n]["create"] == after[n]["create"]}
    assert same_lines == asking


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


@pytest.fixture(scope="module")
def enforced(answers: dict[str, dict[str, Any]]) -> Iterator[Graph]:
    """The small site with NetworkPolicies enforced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_program({"networkPolicies": True}, outputs=answers)


def test_network_policies_are_enforced_where_that_is_wanted(
    graph: Graph, enforced: Graph, update_goldens: bool
) -> None:
    added = sorted(set(enforced.requests) - set(graph.requests))
    (component, *objects) = added
    assert enforced.type(component) == "own-kubernetes:network:NetworkPolicies"
    text = yaml.safe_dump_all([enforced.inputs(name) for name in objects])
    goldens.compare("network-policies/objects.yaml", text, update=update_goldens)
    for name in objects:
        assert (enforced.parent(name), enforced.deleted_with(name)) == (component, ANCHOR)
    assert {n: graph.inputs(n) for n in graph.requests if not n.endswith("-prepare")} == {
        n: enforced.inputs(n) for n in graph.requests if not n.endswith("-prepare")
    }


def test_the_enforcement_knows_the_services_network_and_is_fetched_ahead(
    answers: dict[str, Any], enforced: Graph
) -> None:
    assert versions.KUBE_ROUTER_IMAGE in enforced.inputs("w1-prepare")["stdin"]
    image = "registry.example.com/kube-router:v2"
    changes = {"serviceCidr": "10.1.0.0/16", "networkPolicyImage": image, "networkPolicies": True}
    graph = run_program(changes, outputs=answers)
    pod = graph.inputs("network-policies-daemonset")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == image
    assert "--service-cluster-ip-range=10.1.0.0/16" in container["args"]
    assert image in graph.inputs("w1-prepare")["stdin"]


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
    assert controller["config"]["entries"] == {"proxy-connect-timeout": "3s"}


# --- a node that is drained --------------------------------------------------------------------


def test_two_ingress_controllers_are_never_both_away(graph: Graph) -> None:
    controller = graph.inputs("nginx-release")["values"]["controller"]
    assert controller["replicaCount"] == 2
    assert controller["podDisruptionBudget"] == {"enabled": True, "maxUnavailable": 1}
    assert "kind" not in controller, "the chart's own: a Deployment, which moves"


def test_ingress_controllers_would_rather_not_share_a_node(graph: Graph) -> None:
    release = graph.inputs("nginx-release")
    (rule,) = release["values"]["controller"]["affinity"]["podAntiAffinity"].items()
    kind, (term,) = rule
    assert kind.startswith("preferred"), "one node has to take both while the other is drained"
    assert term["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        # A label that the chart makes of the release's name.
        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": release["name"]}},
    }


def test_the_announced_address_stays_while_ingress_controllers_move(graph: Graph) -> None:
    service = graph.inputs("nginx-release")["values"]["controller"]["service"]
    assert service == {"externalTrafficPolicy": "Cluster"}


def test_who_is_told_to_end_serves_on_for_a_while_and_finishes_then(graph: Graph) -> None:
    controller = graph.inputs("nginx-release")["values"]["controller"]
    page = graph.inputs("hello-deployment")["spec"]["template"]["spec"]
    (container,) = page["containers"]
    for lifecycle, grace in (
        (controller["lifecycle"], controller["terminationGracePeriodSeconds"]),
        (container["lifecycle"], page["terminationGracePeriodSeconds"]),
    ):
        # Not a command: images need not have a `sleep`.
        (seconds,) = lifecycle["preStop"]["sleep"].values()
        assert 5 <= seconds <= 20
        assert grace == seconds + 30


def test_a_page_that_is_replaced_has_as_many_pods_as_before(graph: Graph) -> None:
    deployment = graph.inputs("hello-deployment")["spec"]
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0},
    }
    budget = graph.inputs("hello-budget")
    assert graph.type("hello-budget") == "kubernetes:policy/v1:PodDisruptionBudget"
    assert budget["metadata"]["namespace"] == "hello-world"
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "selector": deployment["selector"],
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


@pytest.mark.parametrize(
    ("changes", "pods_have_another"),
    [
        ({}, True),
        ({"nodes.w2": REMOVED}, False),
        ({"nodes.w2": REMOVED, "scheduleOnControlPlanes": True}, True),
        ({"nodes.w2.taints": ["a:NoExecute"]}, False),
        ({"nodes.w2.taints": ["a:PreferNoSchedule"]}, True),
    ],
)
def test_no_drain_hangs_where_pods_have_no_other_node(
    answers: dict[str, Any], changes: Mapping[str, Any], pods_have_another: bool
) -> None:
    graph = run_program(changes, outputs=answers)
    controller = graph.inputs("nginx-release")["values"]["controller"]
    assert controller["replicaCount"] == (2 if pods_have_another else 1)
    assert ("podDisruptionBudget" in controller) is pods_have_another
    assert ("hello-budget" in graph.requests) is pods_have_another


def test_the_stand_ins_chart_has_a_key_for_every_value(graph: Graph) -> None:
    assert unknown_keys(graph.inputs("nginx-release")["values"]) == []


def test_the_stand_ins_chart_makes_of_the_values_what_they_say(
    graph: Graph, tmp_path: Path
) -> None:
    values = graph.inputs("nginx-release")["values"]
    objects = rendered_chart(values, tmp_path)
    controller, deployment = values["controller"], objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["replicas"] == 2
    assert pod["affinity"] == controller["affinity"]
    assert pod["terminationGracePeriodSeconds"] == controller["terminationGracePeriodSeconds"]
    assert pod["containers"][0]["lifecycle"] == controller["lifecycle"]
    assert objects["PodDisruptionBudget"]["spec"] == {
        "selector": deployment["selector"],
        "maxUnavailable": 1,
    }
    assert objects["Service"]["spec"]["externalTrafficPolicy"] == "Cluster"


# --- where charts come from --------------------------------------------------------------------


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


# --- the page ----------------------------------------------------------------------------------


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
    commands = {name.partition("-")[0] for name in graph.of_type("command:")}
    assert commands == {"cp1", "cluster", "metallb"}
    assert "SCHEDULABLE=true" in graph.inputs("cp1-join")["create"]


def test_load_balancers_stay_away_from_control_planes_by_default(graph: Graph) -> None:
    assert "SCHEDULABLE=false" in graph.inputs("cp1-join")["create"]


def test_packages_may_stay_after_a_destroy(answers: dict[str, Any]) -> None:
    graph = run_program({"removePackages": False}, outputs=answers)
    (way,) = parting(graph, "w1-end")
    assert "restore REMOVE_PACKAGES=false" in way["line"]


@pytest.mark.parametrize("preview", [True, False])
def test_a_bad_stack_file_ends_the_run_before_any_resource(preview: bool) -> None:
    graph = Graph()
    with pytest.raises(SettingsError, match="podCidr"):
        run_program({"podCidr": "10.96.0.0/16"}, preview=preview, graph=graph)
    assert {graph.type(name) for name in graph.requests} <= {"pulumi:pulumi:Stack"}


def test_the_small_site_is_left_alone() -> None:
    assert set(SITE["nodes"]) == {"cp1", "w1", "w2"}
