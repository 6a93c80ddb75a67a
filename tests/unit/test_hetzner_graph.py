"""Every resource of a stack with servers at Hetzner Cloud: what is made, in which order, what is secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from cluster.copies import for_provider
from cluster.errors import SettingsError
from cluster.machines.hetzner.catalog import Catalog, Image, Location, Place, Server, ServerType
from cluster.machines.hetzner.prices import Money, Tariff
from cluster.nodes.files import envelope, host_files
from tests.unit import goldens
from tests.unit.graph import LOG, SECRET, Graph, is_secret, run_program
from tests.unit.hosts import Host
from tests.unit.stacks import (
    CLOUD,
    HETZNER_TOKEN,
    PRIVATE_KEY,
    PUBLIC_KEY,
    ROOT,
    SITE,
    existing,
    host_key,
    load,
)
from tests.unit.test_graph import KUBECONFIG, inputs_of_all, lines, parting

Changes = Mapping[str, Any]

NODES = ("cp1", "worker-1", "worker-2")
MADE = "own-kubernetes/made"
BOOT_KEY = "boot-key-in-clear"
LOGIN_KEY = "login-key-in-clear"
ADDRESSES = {"cp1": "203.0.113.11", "worker-1": "203.0.113.21", "worker-2": "203.0.113.22"}
BALANCER = "203.0.113.200"
SECRETS = ("in-clear", HETZNER_TOKEN, PRIVATE_KEY.splitlines()[1])
ENTRY = "hetzner.ingress"


# --- a run without any API ---------------------------------------------------------------------


def catalog(*present: str) -> Catalog:
    """What Hetzner offers, in small; ``present`` are the nodes that have a server."""
    image = Image(1, "debian-12", "x86", None)
    here, price = Place(available=True, gone_after=None), Money(Decimal(3), Decimal("3.57"))
    return Catalog(
        locations={"fsn1": Location("fsn1", "Falkenstein", "eu-central")},
        server_types={
            "cx23": ServerType("cx23", "x86", "shared", 2, Decimal(4), 40, {"fsn1": here})
        },
        images=[image],
        load_balancer_types=["lb11"],
        tariff=Tariff(
            "EUR", Decimal(19), {("cx23", "fsn1"): price}, {("lb11", "fsn1"): price},
            {"fsn1": price}, {"fsn1": price},
        ),
        servers={
            name: Server(f"blue-{name}", "cx23", "x86", 40, "fsn1", image) for name in present
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the engine has to say after an up."""
    host = Host(tmp_path_factory.mktemp("control-plane"))
    host.write("/etc/kubernetes/admin.conf", KUBECONFIG)
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}}
    named: dict[str, dict[str, Any]] = {
        "cluster-access": {"stdout": host.run("access.sh").stdout, "stderr": ""},
        "hello-ingress": ingress,
        "hetzner-login-key": {
            "privateKeyOpenssh": LOGIN_KEY, "publicKeyOpenssh": f"{PUBLIC_KEY}\n",
        },
        "hetzner-ingress-balancer": {"ipv4": BALANCER},
    }  # fmt: skip
    for number in (1, 2):
        named[f"hetzner-floating-{number}"] = {"ipAddress": f"198.51.100.{number}"}
    for name, address in ADDRESSES.items():
        named |= {
            f"{name}-boot-key": {
                "privateKeyOpenssh": BOOT_KEY, "publicKeyOpenssh": f"{boot_key(name)}\n",
            },
            f"{name}-trust": {"stdout": host_key(name), "stderr": ""},
            f"{name}-address": {"ipAddress": address},
            f"{name}-server": {"ipv4Address": "198.51.100.99"},
        }  # fmt: skip
    return named


def boot_key(name: str) -> str:
    """The public half of the key that a server shows at first."""
    return f"ecdsa-sha2-nistp256 AAAAE2VjZHNh{name.encode().hex()}"


Answers = dict[str, dict[str, Any]]


def run(
    answers: Answers,
    changes: Changes | None = None,
    *,
    present: tuple[str, ...] = (),
    base: Changes = CLOUD,
    preview: bool = False,
    graph: Graph | None = None,
) -> Graph:
    """Run the program; the API is asked for nothing but the catalog."""
    asked: list[tuple[str, str, str]] = []

    def fetch(token: str, endpoint: str, cluster: str) -> Catalog:
        asked.append((token, endpoint, cluster))
        return catalog(*present)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(Catalog, "fetch", fetch)
        ran = run_program(changes, base=base, outputs=answers, preview=preview, graph=graph)
    assert len(asked) == (1 if ran.of_type("hcloud:") else 0)
    assert all(token == HETZNER_TOKEN for token, _, _ in asked)
    return ran


@pytest.fixture(scope="module")
def graph(answers: Answers) -> Graph:
    """The small site after an up that made everything."""
    return run(answers)


@pytest.fixture(scope="module")
def again(answers: Answers) -> Graph:
    """The small site when all of its servers are there."""
    return run(answers, present=NODES)


@pytest.fixture(scope="module")
def floating(answers: Answers) -> Graph:
    """The small site with two floating IPs instead of a load balancer."""
    return run(answers, {ENTRY: "floating-ips", "hetzner.floatingIps": 2})


def types(graph: Graph) -> dict[str, int]:
    """How many of each type at Hetzner, of keys, and of commands on this machine."""
    kinds = ("hcloud:", "tls:", "pulumi:providers:hcloud", "command:local:")
    return Counter(
        graph.type(name).rpartition(":")[2] for kind in kinds for name in graph.of_type(kind)
    )


def servers(graph: Graph) -> list[str]:
    return graph.of_type("hcloud:index/server:Server")


# --- what is made ------------------------------------------------------------------------------


def test_golden(graph: Graph, update_goldens: bool) -> None:
    goldens.compare("hetzner-graph.txt", lines(graph), update=update_goldens)


def test_a_preview_has_the_same_graph(answers: Answers, graph: Graph) -> None:
    assert lines(run(answers, preview=True)) == lines(graph)
    assert lines(run({}, preview=True)) == lines(graph), "nothing is known at first"


AROUND = {
    "hcloud": 1,  # the provider
    "SshKey": 1,
    "Network": 1,
    "NetworkSubnet": 1,
    "Firewall": 1,
    "PlacementGroup": 2,
    "Server": 3,
    "ServerNetwork": 3,
    "PrimaryIp": 3,
    "PrivateKey": 6,  # of the login, of each first boot, and the cluster's two
    "Command": 7,  # leaks, sweep, the end of each server, and the membership of each worker
}
BALANCED = {
    "LoadBalancer": 1, "LoadBalancerNetwork": 1, "LoadBalancerService": 2, "LoadBalancerTarget": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, AROUND | BALANCED),
        ({ENTRY: "floating-ips", "hetzner.floatingIps": 2}, {**AROUND, "FloatingIp": 2}),
        ({"hetzner.keepAddresses": False}, {**AROUND, **BALANCED, "PrimaryIp": 0}),
        ({"sshPrivateKey": PRIVATE_KEY}, {**AROUND, **BALANCED, "PrivateKey": 5}),
        (
            {"hetzner.apiLoadBalancer": True},
            {
                **AROUND,
                "LoadBalancer": 2,
                "LoadBalancerNetwork": 2,
                "LoadBalancerService": 3,
                "LoadBalancerTarget": 2,
            },
        ),
        (
            {"nodeCidr": "10.78.0.0/16", "hetzner.subnetCidr": "10.78.0.0/24",
             "hetzner.vswitchId": 4711, "hetzner.vswitchCidr": "10.78.1.0/24"},
            {**AROUND, **BALANCED, "NetworkSubnet": 2},
        ),
    ],
    ids=["small", "floating-ips", "addresses-not-kept", "own-login-key", "api-balancer", "vswitch"],
)  # fmt: skip
def test_types_and_counts(answers: Answers, changes: Changes, made: dict[str, int]) -> None:
    assert types(run(answers, changes)) == Counter({k: count for k, count in made.items() if count})


def test_existing_hosts_alone_ask_hetzner_for_nothing(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", HETZNER_TOKEN)
    graph = run(answers, base=SITE)
    # Two keys of the cluster, the end of each host, the membership of each worker.
    assert types(graph) == {"PrivateKey": 2, "Command": 5}


def test_every_resource_at_hetzner_has_our_provider_and_component(graph: Graph) -> None:
    made = graph.of_type("hcloud:")
    assert len(made) > 15
    for name in made:
        assert "::hetzner-provider::" in graph.requests[name].provider, name
        assert graph.parent(name) == "hetzner"


def test_everything_that_takes_labels_carries_the_clusters(answers: Answers) -> None:
    changes = {ENTRY: "floating-ips", "hetzner.apiLoadBalancer": True}
    graph = run(answers, changes)
    bare = ("NetworkSubnet", "ServerNetwork", "Service", "Target", "LoadBalancerNetwork")
    for name in graph.of_type("hcloud:"):
        if not graph.type(name).endswith(bare):
            assert graph.inputs(name)["labels"]["own-kubernetes/cluster"] == "blue", name
    for node in NODES:
        for name in (f"{node}-server", f"{node}-address"):
            assert graph.inputs(name)["labels"]["own-kubernetes/node"] == node


def test_names_are_the_clusters_own(graph: Graph) -> None:
    named = [graph.inputs(name).get("name") for name in graph.of_type("hcloud:")]
    assert all(name == "blue" or name.startswith("blue-") for name in named if name)
    assert [graph.inputs(f"{node}-server")["name"] for node in NODES] == [
        "blue-cp1", "blue-worker-1", "blue-worker-2",
    ]  # fmt: skip


def test_the_provider_has_token_and_endpoint(answers: Answers) -> None:
    graph = run(answers, {"hcloud:endpoint": "http://10.77.0.1:8090/v1"})
    provider = graph.inputs("hetzner-provider")
    assert (provider["token"], provider["endpoint"]) == (HETZNER_TOKEN, "http://10.77.0.1:8090/v1")


# --- servers -----------------------------------------------------------------------------------


def test_servers_are_as_the_stack_file_says(graph: Graph) -> None:
    for name in NODES:
        server = graph.inputs(f"{name}-server")
        assert (server["serverType"], server["image"], server["location"]) == (
            "cx23", "debian-12", "fsn1",
        )  # fmt: skip
        assert "datacenter" not in server
        assert "networks" not in server
        assert server["sshKeys"] == [graph.ids["hetzner-ssh-key"]]
        assert server["firewallIds"] == [int(graph.ids["hetzner-firewall"])]
        assert server["publicNets"] == [
            {"ipv4Enabled": True, "ipv6Enabled": False, "ipv4": int(graph.ids[f"{name}-address"])}
        ]
        assert server["keepDisk"] is True


def test_servers_have_the_labels_that_load_balancers_look_for(graph: Graph) -> None:
    labels = {name: graph.inputs(f"{name}-server")["labels"] for name in NODES}
    assert {name: own["own-kubernetes/role"] for name, own in labels.items()} == {
        "cp1": "control-plane", "worker-1": "worker", "worker-2": "worker",
    }  # fmt: skip
    assert [name for name, own in labels.items() if own.get("own-kubernetes/ingress") == "true"] == [
        "worker-1", "worker-2",
    ]  # fmt: skip


def test_a_control_plane_for_workloads_takes_http_too(answers: Answers) -> None:
    graph = run(answers, {"scheduleOnControlPlanes": True})
    assert graph.inputs("cp1-server")["labels"]["own-kubernetes/ingress"] == "true"


def test_servers_of_a_group_are_spread(answers: Answers, graph: Graph) -> None:
    groups = graph.of_type("hcloud:index/placementGroup:")
    assert groups == ["hetzner-group-control-plane", "hetzner-group-worker-1"]
    assert {graph.inputs(name)["type"] for name in groups} == {"spread"}
    wanted = {name: graph.inputs(f"{name}-server")["placementGroupId"] for name in NODES}
    assert wanted["cp1"] == int(graph.ids["hetzner-group-control-plane"])
    assert wanted["worker-1"] == wanted["worker-2"] == int(graph.ids["hetzner-group-worker-1"])


def test_what_a_server_was_made_from_replaces_none(again: Graph) -> None:
    for name in servers(again):
        assert {"image", "userData", "sshKeys"} <= set(again.requests[name].ignoreChanges)


def test_a_server_that_is_made_anew_is_made_as_the_stack_file_says_now(graph: Graph) -> None:
    """Ignored inputs would come from the state of the server that is gone, its login key among them."""
    for name in servers(graph):
        assert list(graph.requests[name].ignoreChanges) == []


def test_no_second_server_of_the_same_name_is_made_beside_the_first(
    graph: Graph, again: Graph
) -> None:
    assert all(graph.requests[name].deleteBeforeReplace for name in servers(graph))
    assert all(again.requests[name].deleteBeforeReplace for name in servers(again))


def test_a_server_that_is_missing_is_made_by_a_label_that_is_new_in_each_run(graph: Graph) -> None:
    for name in servers(graph):
        request = graph.requests[name]
        assert graph.inputs(name)["labels"][MADE]
        assert f'labels["{MADE}"]' in request.replaceOnChanges


def test_a_server_that_is_there_stays(again: Graph) -> None:
    for name in servers(again):
        request = again.requests[name]
        assert MADE not in again.inputs(name)["labels"]
        assert list(request.replaceOnChanges) == ['labels["own-kubernetes/role"]']
        assert f'labels["{MADE}"]' in request.ignoreChanges


def test_of_several_servers_just_the_missing_one_is_made(answers: Answers) -> None:
    graph = run(answers, present=("cp1", "worker-2"))
    assert [n for n in NODES if MADE in graph.inputs(f"{n}-server")["labels"]] == ["worker-1"]


def test_the_label_of_a_missing_server_is_one_that_hetzner_takes(graph: Graph) -> None:
    """Values: letters, digits, ``-``, ``_`` and ``.``, 63 at most (docs.hetzner.cloud, labels)."""
    for name in servers(graph):
        for value in graph.inputs(name)["labels"].values():
            assert len(value) <= 63
            assert value.replace("-", "").replace(".", "").isalnum()


def test_the_first_boot_gets_the_hosts_own_files(graph: Graph, tmp_path: Path) -> None:
    settings = load(base=CLOUD).settings
    for name in NODES:
        text = envelope(host_files(settings, name, tmp_path))
        assert graph.inputs(f"{name}-prepare")["stdin"] == text
        data = yaml.safe_load(graph.inputs(f"{name}-server")["userData"])
        assert data["ssh_keys"]["ecdsa_private"] == BOOT_KEY
        assert data["ssh_keys"]["ecdsa_public"] == boot_key(name)


def test_servers_are_plugged_into_the_network_at_their_own_addresses(graph: Graph) -> None:
    settings = load(base=CLOUD).settings
    for name in NODES:
        plug = graph.inputs(f"{name}-network")
        assert plug["ip"] == str(settings.nodes[name].internal_address)
        assert plug["serverId"] == int(graph.ids[f"{name}-server"])
        assert plug["subnetId"] == graph.ids["hetzner-subnet"]
        assert graph.deleted_with(f"{name}-network") == f"{name}-server"


def test_kept_addresses_outlive_their_servers(graph: Graph, answers: Answers) -> None:
    for name in NODES:
        address = graph.inputs(f"{name}-address")
        assert address["type"] == "ipv4"
        assert address["autoDelete"] is False
        assert address["location"] == "fsn1"
        assert graph.deleted_with(f"{name}-address") == ""
        assert graph.inputs(f"{name}-scripts")["connection"]["host"] == ADDRESSES[name]
    unkept = run(answers, {"hetzner.keepAddresses": False})
    assert unkept.inputs("cp1-scripts")["connection"]["host"] == "198.51.100.99"
    assert "ipv4" not in unkept.inputs("cp1-server")["publicNets"][0]


# --- network and firewall ----------------------------------------------------------------------


def test_the_network_and_its_parts(answers: Answers, graph: Graph) -> None:
    assert graph.inputs("hetzner-network")["ipRange"] == "10.78.0.0/24"
    subnet = graph.inputs("hetzner-subnet")
    assert (subnet["ipRange"], subnet["type"]) == ("10.78.0.0/24", "cloud")
    assert subnet["networkZone"] == "eu-central"
    assert subnet["networkId"] == int(graph.ids["hetzner-network"])
    parted = run(
        answers,
        {"nodeCidr": "10.78.0.0/16", "hetzner.subnetCidr": "10.78.0.0/24",
         "hetzner.vswitchId": 4711, "hetzner.vswitchCidr": "10.78.1.0/24"},
    )  # fmt: skip
    assert parted.inputs("hetzner-subnet")["ipRange"] == "10.78.0.0/24"
    vswitch = parted.inputs("hetzner-vswitch")
    found = [vswitch[key] for key in ("ipRange", "type", "vswitchId")]
    assert found == ["10.78.1.0/24", "vswitch", 4711]
    assert parted.inputs("hetzner-ingress-balancer-network")["ip"] == "10.78.0.253"


def rule(description: str, port: int, sources: list[str]) -> dict[str, Any]:
    return {
        "description": description,
        "direction": "in",
        "protocol": "tcp",
        "port": str(port),
        "sourceIps": sources,
    }


def test_administrators_reach_ssh_and_the_api_and_nobody_anything_else(answers: Answers) -> None:
    admins = ["203.0.113.7/32", "2001:db8::/32"]
    graph = run(answers, {"adminCidrs": admins})
    assert graph.inputs("hetzner-firewall")["rules"] == [
        rule("ssh", 22, admins),
        rule("kubernetes api", 6443, admins),
    ]


def test_with_floating_ips_the_world_reaches_http_at_the_servers(floating: Graph) -> None:
    admins, world = ["203.0.113.7/32"], ["0.0.0.0/0", "::/0"]
    assert floating.inputs("hetzner-firewall")["rules"] == [
        rule("ssh", 22, admins),
        rule("kubernetes api", 6443, admins),
        rule("http", 80, world),
        rule("https", 443, world),
    ]


# --- ways in -----------------------------------------------------------------------------------


def test_a_load_balancer_leads_to_the_ingress_by_private_addresses(graph: Graph) -> None:
    balancer = graph.inputs("hetzner-ingress-balancer")
    assert (balancer["loadBalancerType"], balancer["location"]) == ("lb11", "fsn1")
    plug = graph.inputs("hetzner-ingress-balancer-network")
    assert (plug["ip"], plug["enablePublicInterface"]) == ("10.78.0.253", True)
    ports = {
        (service["listenPort"], service["destinationPort"], service["protocol"])
        for name in graph.of_type("hcloud:index/loadBalancerService:")
        for service in [graph.inputs(name)]
    }
    assert ports == {(80, 30080, "tcp"), (443, 30443, "tcp")}
    target = graph.inputs("hetzner-ingress-targets")
    assert target["type"] == "label_selector"
    assert target["labelSelector"] == "own-kubernetes/cluster=blue,own-kubernetes/ingress=true"
    assert target["usePrivateIp"] is True
    assert "hetzner-ingress-balancer-network" in graph.dependencies("hetzner-ingress-targets")
    for name in graph.of_type("hcloud:index/loadBalancer"):
        if name != "hetzner-ingress-balancer":
            assert graph.deleted_with(name) == "hetzner-ingress-balancer"


def test_health_checks_look_at_the_port_that_traffic_goes_to(graph: Graph) -> None:
    for name in graph.of_type("hcloud:index/loadBalancerService:"):
        service = graph.inputs(name)
        check = service["healthCheck"]
        assert (check["protocol"], check["port"]) == ("tcp", service["destinationPort"])
        assert check["timeout"] < check["interval"]


def test_pages_are_found_at_the_load_balancer(graph: Graph) -> None:
    values = graph.inputs("nginx-release")["values"]["controller"]
    assert values["config"]["entries"]["external-status-address"] == BALANCER
    assert graph.outputs["ingressAddress"] == BALANCER
    assert graph.outputs["dnsRecord"] == f"hello.example.com. A {BALANCER}"
    assert not graph.of_type("own-kubernetes:network:MetalLB")


def test_floating_ips_are_metallbs_and_the_movers(floating: Graph) -> None:
    for number in (1, 2):
        address = floating.inputs(f"hetzner-floating-{number}")
        assert (address["type"], address["homeLocation"]) == ("ipv4", "fsn1")
        assert "serverId" not in address
        assert "serverId" in floating.requests[f"hetzner-floating-{number}"].ignoreChanges
    pool = floating.inputs("metallb-pool")["spec"]
    assert pool["addresses"] == ["198.51.100.1/32", "198.51.100.2/32"]
    line = floating.inputs("cp1-floating")["create"]
    for number in (1, 2):
        assert f"{floating.ids[f'hetzner-floating-{number}']}=198.51.100.{number}" in line
    assert f"worker-1={floating.ids['worker-1-server']}=" in line
    assert "cp1=" not in line, "it takes no workloads"
    assert not floating.of_type("hcloud:index/loadBalancer")


def test_a_load_balancer_before_the_api_is_private(answers: Answers) -> None:
    graph = run(answers, {"hetzner.apiLoadBalancer": True})
    plug = graph.inputs("hetzner-api-balancer-network")
    assert (plug["ip"], plug["enablePublicInterface"]) == ("10.78.0.254", False)
    port = graph.inputs("hetzner-api-port")
    assert (port["listenPort"], port["destinationPort"]) == (6443, 6443)
    target = graph.inputs("hetzner-api-targets")
    assert (
        target["labelSelector"] == "own-kubernetes/cluster=blue,own-kubernetes/role=control-plane"
    )
    assert target["usePrivateIp"] is True
    assert {"hetzner-api-port", "hetzner-api-targets"} <= graph.all_dependencies("cp1-join")
    assert "controlPlaneEndpoint: 10.78.0.254:6443" in graph.inputs("cp1-prepare")["stdin"]
    assert "10.78.0.254/32" in graph.inputs("cp1-prepare")["stdin"], "its own packet filter"


# --- first contact -----------------------------------------------------------------------------


def test_the_first_dial_checks_the_first_key_and_all_others_the_one_made_there(
    graph: Graph,
) -> None:
    seen = Counter[str]()
    for name in graph.of_type("command:remote:"):
        node, _, phase = name.rpartition("-")
        node = "cp1" if node == "cluster" else node
        key = graph.inputs(name)["connection"]["hostKey"]
        assert key == (boot_key(node) if phase == "trust" else host_key(node)), name
        seen[phase] += 1
    assert seen["trust"] == seen["scripts"] == 3


def test_the_first_contact_is_short_and_happens_once(graph: Graph) -> None:
    for name in NODES:
        inputs, request = graph.inputs(f"{name}-trust"), graph.requests[f"{name}-trust"]
        assert inputs["create"] == "bash /usr/local/lib/own-kubernetes/trust.sh"
        assert "delete" not in inputs
        assert "update" not in inputs
        assert inputs["triggers"] == [f"hcloud://{graph.ids[f'{name}-server']}"]
        assert request.deleteBeforeReplace
        assert request.hooks.on_error == [f"{name}-unreachable"]
        assert not request.ignoreChanges, "of a new server nothing of an old one's state counts"


def test_a_host_key_that_the_host_has_given_up_is_not_used_again(
    answers: Answers, graph: Graph
) -> None:
    """What may be edited without a new server must not run the first contact again."""
    edits = {
        "sshPrivateKey": PRIVATE_KEY,
        "sshTimeoutSeconds": 77,
        "kubernetesVersion": "1.36.5",
        "proxy": {"address": "198.51.100.9", "hostKey": host_key("bastion")},
    }
    after = run(answers, edits, present=NODES)
    ignored = {"privateKey", "dialErrorLimit", "perDialTimeout", "proxy"}
    for name in NODES:
        proxy = after.inputs(f"{name}-trust")["connection"]["proxy"]
        assert proxy["hostKey"] == host_key("bastion"), "the first contact goes by it as well"
        before, now = (dict(g.inputs(f"{name}-trust")) for g in (graph, after))
        for inputs in (before, now):
            connection = inputs["connection"]
            inputs["connection"] = {k: v for k, v in connection.items() if k not in ignored}
        assert before == now
        listed = after.requests[f"{name}-trust"].ignoreChanges
        assert {f"connection.{key}" for key in ignored} == set(listed)


def test_servers_are_dialled_when_they_are_in_the_network(graph: Graph) -> None:
    for name in NODES:
        assert {f"{name}-network", f"{name}-server"} <= graph.all_dependencies(f"{name}-trust")
        assert f"{name}-trust" in graph.all_dependencies(f"{name}-scripts")


def test_no_server_waits_for_another(graph: Graph) -> None:
    for name in NODES:
        others = {f"{other}-server" for other in NODES if other != name}
        assert not others & graph.all_dependencies(f"{name}-prepare")


def test_commands_go_with_their_server(graph: Graph) -> None:
    for name in graph.of_type("command:remote:"):
        node = name.rpartition("-")[0]
        node = "cp1" if node == "cluster" else node
        assert graph.deleted_with(name) == f"{node}-server", name


def test_a_server_is_deleted_after_its_node_was_drained(graph: Graph) -> None:
    """Deletes run against the order of dependencies."""
    for name in ("worker-1", "worker-2"):
        after = graph.all_dependencies(f"{name}-membership")
        assert {f"{name}-server", f"{name}-end", f"{name}-network"} <= after
        (way,) = parting(graph, f"{name}-membership")
        line = way.pop("line")
        assert line.endswith(f"run.sh remove NODE={name} DRAIN_SECONDS=300")
        assert way == {
            "name": "cp1", "address": ADDRESSES["cp1"], "port": 22, "user": "root",
            "host_key": host_key("cp1"), "private_key": LOGIN_KEY,
        }  # fmt: skip


def test_a_worker_comes_and_goes_without_a_change_anywhere_else(
    answers: Answers, graph: Graph
) -> None:
    new = "worker-3"
    known = {
        f"{new}-trust": {"stdout": host_key(new)},
        f"{new}-address": {"ipAddress": "203.0.113.23"},
    }
    more = inputs_of_all(run({**answers, **known}, {"nodePools.worker.count": 3}, present=NODES))
    less = inputs_of_all(run(answers, present=NODES))
    added = more.keys() - less.keys()
    assert all(name == new or name.startswith(f"{new}-") for name in added)
    assert {name: more[name] for name in less} == less


def test_nodes_know_themselves_as_hetzner_does(graph: Graph) -> None:
    for name in NODES:
        line = graph.inputs(f"{name}-join")["create"]
        assert f" PROVIDER_ID=hcloud://{graph.ids[f'{name}-server']}" in line
        config = graph.inputs(f"{name}-prepare")["stdin"]
        assert "value: '@PROVIDER_ID@'" in config
        assert "value: external" in config


def test_existing_hosts_alone_have_no_provider_id(answers: Answers) -> None:
    graph = run(answers, base=SITE)
    for name in graph.of_type("command:remote:Command"):
        assert "PROVIDER_ID" not in json.dumps(graph.inputs(name))


def test_hosts_ask_the_control_plane_in_the_private_network(graph: Graph) -> None:
    address = load(base=CLOUD).settings.nodes["cp1"].internal_address
    for name in NODES:
        first, *_ = graph.inputs(f"{name}-join")["stdin"].splitlines()
        assert first == f"host cp1 root {address} 22 {host_key('cp1')}"


def test_pods_are_kept_from_a_servers_own_data(graph: Graph) -> None:
    for name in NODES:
        stdin = graph.inputs(f"{name}-prepare")["stdin"]
        assert "ip daddr 169.254.169.254 counter reject" in stdin
        assert ("tcp dport 6443" in stdin) == (name == "cp1")


def test_users_come_by_the_public_address(answers: Answers, graph: Graph) -> None:
    (cluster,) = yaml.safe_load(graph.inputs("access-kubernetes")["kubeconfig"])["clusters"]
    assert cluster["cluster"]["server"] == "https://203.0.113.11:6443"
    assert cluster["cluster"]["tls-server-name"] == "kubernetes.default.svc"
    kubeconfig = graph.outputs["kubeconfig"]
    assert is_secret(kubeconfig)
    assert yaml.safe_load(kubeconfig["value"])["clusters"] == [cluster]
    own = run(answers, {"apiEndpoint": "api.example.com"})
    assert own.inputs("access-kubernetes")["kubeconfig"] == for_provider(KUBECONFIG)


def test_outputs(graph: Graph) -> None:
    assert graph.outputs["logins"] == {n: f"root@{address}" for n, address in ADDRESSES.items()}
    nodes = load(base=CLOUD).settings.nodes
    assert graph.outputs["nodes"] == {n: str(v.internal_address) for n, v in nodes.items()}


# --- the end -----------------------------------------------------------------------------------


def test_everything_at_hetzner_is_gone_before_leaks_are_looked_for(
    answers: Answers, graph: Graph, floating: Graph
) -> None:
    for some in (graph, floating, run(answers, {"hetzner.apiLoadBalancer": True})):
        for name in some.of_type("hcloud:"):
            assert "hetzner-leaks" in some.all_dependencies(name), name
        assert some.all_dependencies("hetzner-leaks") <= {"hetzner-provider"}


def test_what_the_controllers_made_goes_after_the_servers_and_before_the_network(
    graph: Graph, floating: Graph
) -> None:
    assert "hetzner-subnet" in graph.dependencies("hetzner-sweep")
    for some, names in (
        (graph, [*servers(graph), "hetzner-ingress-balancer"]),
        (floating, [*servers(floating), "hetzner-floating-1", "hetzner-floating-2"]),
    ):
        for name in names:
            assert "hetzner-sweep" in some.dependencies(name)


SWEEP = ".venv/bin/python -m cluster.machines.hetzner.sweep"


@pytest.mark.parametrize(("delete", "suffix"), [(True, ""), (False, " --keep-volumes")])
def test_lines_of_the_end(answers: Answers, delete: bool, suffix: str) -> None:
    graph = run(answers, {"hetzner.deleteVolumes": delete})
    network = graph.ids["hetzner-network"]
    sweep, leaks = graph.inputs("hetzner-sweep"), graph.inputs("hetzner-leaks")
    assert sweep["delete"] == f"{SWEEP} made blue --network {network}{suffix}"
    assert leaks["delete"] == f"{SWEEP} leaks blue{suffix}"
    for inputs in (sweep, leaks):
        assert inputs["create"] == "true"
        assert inputs["environment"] == {
            "HCLOUD_TOKEN": HETZNER_TOKEN,
            "HCLOUD_ENDPOINT": "https://api.hetzner.cloud/v1",
        }
        assert inputs["addPreviousOutputInEnv"] is False


# --- secrets -----------------------------------------------------------------------------------


def test_no_secret_is_in_a_plain_input(answers: Answers, graph: Graph, floating: Graph) -> None:
    own = run(answers, {"sshPrivateKey": PRIVATE_KEY})
    for some in (graph, floating, own):
        for name in some.requests:
            shown = json.dumps(some.plain_inputs(name))
            assert not [secret for secret in SECRETS if secret in shown], name
    shown = json.dumps({k: v for k, v in graph.outputs.items() if not is_secret(v)})
    assert not [secret for secret in SECRETS if secret in shown]


def test_secrets_are_marked_and_reach_those_who_need_them(graph: Graph) -> None:
    assert graph.plain_inputs("hetzner-provider")["token"] == SECRET
    assert graph.inputs("hetzner-provider")["token"] == HETZNER_TOKEN
    for name in NODES:
        assert graph.plain_inputs(f"{name}-server")["userData"] == SECRET
        assert BOOT_KEY in graph.inputs(f"{name}-server")["userData"]
        assert graph.inputs(f"{name}-join")["connection"]["privateKey"] == LOGIN_KEY


def test_the_login_key_is_the_users_own_or_one_that_is_made(answers: Answers, graph: Graph) -> None:
    made = graph.inputs("hetzner-login-key")
    assert made["algorithm"] == "ED25519"
    assert graph.inputs("hetzner-ssh-key")["publicKey"] == PUBLIC_KEY
    own = run(answers, {"sshPrivateKey": PRIVATE_KEY})
    assert "hetzner-login-key" not in own.requests
    assert own.inputs("hetzner-ssh-key")["publicKey"] == PUBLIC_KEY
    assert own.inputs("cp1-scripts")["connection"]["privateKey"] == PRIVATE_KEY


# --- before anything is made -------------------------------------------------------------------


def test_the_price_is_told(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOG.name):
        run(answers, preview=True)
    assert "Hetzner Cloud, EUR a month" in caplog.text
    assert "server cx23 at fsn1" in caplog.text


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"hetzner.serverType": "cx99"}, "hetzner.serverType"),
        ({"hetzner.location": "moon1"}, "hetzner.location"),
        ({"hetzner.image": "dos-6"}, "hetzner.image"),
        ({"nodeCidr": "203.0.113.0/24"}, "nodeCidr"),
        ({"containerd": {"noise": "".join(chr(33 + n * n % 89) + str(n * n) for n in range(9000))}},
         "user-data"),
    ],
    ids=["type", "location", "image", "network", "user-data"],
)  # fmt: skip
def test_a_bad_stack_file_ends_the_run_before_anything_is_made(
    answers: Answers, changes: Changes, complaint: str, preview: bool
) -> None:
    graph = Graph()
    with pytest.raises(SettingsError, match=complaint):
        run(answers, changes, preview=preview, graph=graph)
    assert not graph.of_type("hcloud:index/server:Server")


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The error hooks that the program registers, by name."""
    found: dict[str, Any] = {}

    class Noted(pulumi.ErrorHook):
        def __init__(self, name: str, func: Any) -> None:
            found[name] = func
            super().__init__(name, func)

    monkeypatch.setattr(pulumi, "ErrorHook", Noted)
    return found


def told(
    answers: Answers,
    hooks: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    hook: str,
    args: pulumi.ErrorHookArgs,
) -> str:
    """What the user is told when a resource ends in an error."""
    export = pulumi.export  # the program's last act; the hook is called while the engine is there
    explained: list[Any] = []

    def export_and_fail(name: str, value: Any) -> None:
        export(name, value)
        if name == "url":
            again = hooks[hook](args)
            task = asyncio.iscoroutine(again) and asyncio.get_running_loop().create_task(again)
            explained.append(task or again)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR, LOG.name):
        patch.setattr(pulumi, "export", export_and_fail)
        run(answers)
    (again,) = explained
    assert (again.result() if isinstance(again, asyncio.Task) else again) is False
    return "\n".join(record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            "error during placement (resource_unavailable, 0123)",
            "choose another serverType or location",
        ),
        ("error during placement (placement_error, 0123)", "another placementGroup"),
        ("server limit reached (resource_limit_exceeded, 0123)", "ask Hetzner for a higher limit"),
        ("limit of 3600 requests per hour reached (rate_limit_exceeded)", "wait some minutes"),
    ],
)
def test_a_server_that_hetzner_cant_make_is_explained(
    answers: Answers,
    hooks: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    error: str,
    remedy: str,
) -> None:
    kind = "hcloud:index/server:Server"
    args = pulumi.ErrorHookArgs("urn", "", "worker-1-server", kind, errors=[error])
    text = told(answers, hooks, caplog, "worker-1-server-refused", args)
    assert text.startswith("worker-1: Hetzner can't make a cx23 at fsn1 now")
    assert "Expected: " in text
    assert remedy in text.partition("Remedy: ")[2]


def test_other_errors_of_a_server_speak_for_themselves(
    answers: Answers, hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    kind = "hcloud:index/server:Server"
    args = pulumi.ErrorHookArgs("urn", "", "cp1-server", kind, errors=["invalid input"])
    assert told(answers, hooks, caplog, "cp1-server-refused", args) == ""


def test_a_server_that_is_not_reached_is_named_by_its_public_address(
    answers: Answers, hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    error = "after 20 failed attempts: ssh: handshake failed"
    kind = "command:remote:Command"
    args = pulumi.ErrorHookArgs("urn", "", "worker-1-trust", kind, errors=[error])
    text = told(answers, hooks, caplog, "worker-1-unreachable", args)
    assert text.startswith("worker-1: no SSH login as root at 203.0.113.21 port 22")


# --- mixed sites -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(answers: Answers) -> Graph:
    """An existing worker beside the servers."""
    return run(answers, {"sshPrivateKey": PRIVATE_KEY, "nodes.old": existing("old")})


def test_an_existing_host_beside_servers_stays_what_it_is(mixed: Graph) -> None:
    assert types(mixed)["Server"] == 3
    assert "old-trust" not in mixed.requests
    own = [name for name in mixed.of_type("command:remote:") if name.startswith("old-")]
    assert own[:3] == ["old-scripts", "old-prepare", "old-join"]
    assert set(own[3:]) == {"old-upgrade", "old-updates"}
    for name in own:
        connection = mixed.inputs(name)["connection"]
        assert (connection["host"], connection["hostKey"]) == ("10.78.0.5", host_key("old"))
        assert mixed.deleted_with(name) == "old-end"
    (way,) = parting(mixed, "old-end")
    assert "run.sh restore" in way["line"]
    assert "PROVIDER_ID=" not in mixed.inputs("old-join")["create"]
    assert "existing://blue/old" in mixed.inputs("old-prepare")["stdin"]
    assert "169.254.169.254" not in mixed.inputs("old-prepare")["stdin"]


def test_an_existing_host_joins_a_control_plane_on_a_server(mixed: Graph) -> None:
    assert {"cp1-server", "cp1-join"} <= mixed.all_dependencies("old-join")
    assert mixed.inputs("old-join")["stdin"] == mixed.inputs("worker-1-join")["stdin"]


def test_servers_join_a_control_plane_on_an_existing_host(answers: Answers) -> None:
    control_plane = existing("cp1", "control-plane", user="debian")
    graph = run(answers, {"sshPrivateKey": PRIVATE_KEY, "nodes.cp1": control_plane})
    assert types(graph)["Server"] == 2
    assert graph.deleted_with("cp1-join") == "cp1-end"
    first, *_ = graph.inputs("worker-1-join")["stdin"].splitlines()
    assert first == f"host cp1 debian 10.78.0.5 22 {host_key('cp1')}"
    assert graph.inputs("access-kubernetes")["kubeconfig"] == for_provider(KUBECONFIG)
    for name in ("worker-1", "worker-2"):
        assert graph.deleted_with(f"{name}-join") == f"{name}-server"


# --- several control planes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def ha(answers: Answers) -> Graph:
    """Three control planes behind a load balancer; the second and third are known by their names only."""
    changes: dict[str, Any] = {"hetzner.apiLoadBalancer": True}
    known: Answers = {}
    for number in (2, 3):
        changes[f"nodes.cp{number}"] = {"role": "control-plane"}
        known[f"cp{number}-trust"] = {"stdout": host_key(f"cp{number}")}
        known[f"cp{number}-address"] = {"ipAddress": f"203.0.113.1{number}"}
    return run({**answers, **known}, changes)


def test_control_planes_join_behind_the_load_balancer_one_by_one(ha: Graph) -> None:
    for before, name in (("cp1", "cp2"), ("cp2", "cp3")):
        assert f"{before}-join" in ha.dependencies(f"{name}-join")
        assert f"{before}-upgrade" in ha.dependencies(f"{name}-upgrade")
        assert f"{before}-membership" in ha.all_dependencies(f"{name}-membership")
    for name in ("cp1", "cp2", "cp3"):
        assert "hetzner-api-targets" in ha.all_dependencies(f"{name}-join")
        assert "controlPlaneEndpoint: 10.78.0.254:6443" in ha.inputs(f"{name}-prepare")["stdin"]
        assert "keepalived" not in ha.inputs(f"{name}-prepare")["stdin"]
        assert len(parting(ha, f"{name}-membership")) == 2


def test_control_planes_run_on_different_hardware(ha: Graph) -> None:
    groups = {ha.inputs(f"cp{number}-server")["placementGroupId"] for number in (1, 2, 3)}
    assert groups == {int(ha.ids["hetzner-group-control-plane"])}


# --- the end of a server, and what a lost answer left -------------------------------------------


def test_servers_are_deleted_by_a_command_that_bears_their_absence(graph: Graph) -> None:
    for name in NODES:
        assert graph.requests[f"{name}-server"].retainOnDelete
        end = f"{name}-end"
        assert graph.inputs(end)["delete"].endswith(
            f"sweep server blue --id {graph.ids[f'{name}-server']}"
        )
        assert f"{name}-server" in graph.dependencies(end)
        assert graph.requests[end].deleteBeforeReplace
        assert graph.inputs(end)["triggers"] == [graph.ids[f"{name}-server"]]
