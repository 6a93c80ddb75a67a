"""How HTTP gets in on Hetzner: what is put on the cluster with each way in, and what is not."""

from __future__ import annotations

import base64
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from cluster import settings
from cluster.access import ApiAccess
from cluster.ingress.nginx import NginxIngress
from cluster.machines import Machine
from cluster.network.floating import FloatingIp, floating_mover
from cluster.network.metallb import load_balancing
from cluster.nodes import Nodes
from cluster.workload import HelloWorld
from tests.unit.graph import SECRET, Graph, run_program
from tests.unit.ingress_chart import unknown_keys
from tests.unit.stacks import NAMESPACE, ROOT, host_key

TOKEN = "secret" * 10 + "word"
SITE = {
    "machines": "hetzner",
    "adminCidrs": ["203.0.113.7/32"],
    "nodeCidr": "10.0.0.0/24",
    "nodes": {
        "cp1": {"role": "control-plane", "privateAddress": "10.0.0.11"},
        "w1": {"role": "worker", "privateAddress": "10.0.0.21"},
        "w2": {"role": "worker", "privateAddress": "10.0.0.22"},
    },
}
FLOATING_IPS = {"7": "203.0.113.70", "8": "203.0.113.80"}
SERVERS = {"cp1": "100", "w1": "101", "w2": "102"}
KUBECONFIG = "apiVersion: v1\nclusters: [{name: c, cluster: {server: 'https://10.0.0.11:6443'}}]\n"
ACCESS = {"kubeconfig": base64.b64encode(KUBECONFIG.encode()).decode()}
OUTPUTS: dict[str, dict[str, Any]] = {
    "cluster-access": {"stdout": json.dumps(ACCESS), "stderr": ""},
    "hello-ingress": {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.70"}]}}},
}


def part_of_the_program() -> None:
    """What ``__main__.py`` does after the servers are there."""
    stack = settings.load(pulumi.Config(NAMESPACE), ROOT)
    machines = {
        name: Machine(
            name=name,
            role=node.role,
            address=f"192.0.2.{number}",
            internal_address=str(node.internal_address),
            user="root",
            port=22,
            host_key=host_key(name),
            private_key=pulumi.Output.secret("key"),
        )
        for number, (name, node) in enumerate(stack.settings.nodes.items())
    }
    nodes = Nodes("nodes", stack.settings, machines, ROOT)
    access = ApiAccess("access", stack.settings, nodes)
    floating = stack.settings.entry == "floating-ips"
    ips = [
        FloatingIp(id=pulumi.Output.from_input(number), address=pulumi.Output.from_input(address))
        for number, address in FLOATING_IPS.items()
        if floating
    ]
    way_in = ips[0].address if floating else pulumi.Output.from_input("203.0.113.99")
    load_balancing("metallb", stack.settings, access, nodes, [ip.address for ip in ips])
    ingress = NginxIngress("nginx", stack.settings, access, way_in)
    floating_mover("floating", stack, nodes, ips, SERVERS, [ingress.release])
    hello = HelloWorld("hello", stack.settings, access, ingress)
    pulumi.export("ingressAddress", hello.ingress_address)
    pulumi.export("serviceAddress", hello.service_address)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Graph]:
    """Runs that part on a stack file, with a way in."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)

    def instead(_path: str | Path) -> dict[str, Any]:
        part_of_the_program()
        return {}

    monkeypatch.setattr(runpy, "run_path", instead)

    def with_entry(entry: str, **changes: Any) -> Graph:
        site = {**SITE, "hetzner": {"ingress": entry, "floatingIps": 2}}
        return run_program(changes, base=site, outputs=OUTPUTS)

    return with_entry


def controller(graph: Graph) -> dict[str, Any]:
    values: dict[str, Any] = graph.inputs("nginx-release")["values"]["controller"]
    return values


def test_behind_a_load_balancer_every_node_answers_on_the_ports_it_asks(
    run: Callable[..., Graph],
) -> None:
    values = controller(run("load-balancer"))
    assert values["kind"] == "daemonset"
    assert values["service"] == {
        "type": "NodePort",
        "externalTrafficPolicy": "Local",
        "httpPort": {"nodePort": 30080},
        "httpsPort": {"nodePort": 30443},
    }
    assert values["config"]["entries"]["external-status-address"] == "203.0.113.99"
    assert values["telemetryReporting"] == {"enable": False}, "the rest stays"


def test_with_floating_ips_the_controllers_service_gets_one(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips")
    values = controller(graph)
    assert values["kind"] == "daemonset"
    assert values["service"] == {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "annotations": {"metallb.io/loadBalancerIPs": "203.0.113.70"},
    }
    assert "external-status-address" not in values["config"]["entries"]
    pool = graph.inputs("metallb-pool")["spec"]
    assert pool == {"addresses": ["203.0.113.70/32", "203.0.113.80/32"]}


def test_nothing_is_announced_with_floating_ips(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips")
    kinds = [graph.inputs(name)["kind"] for name in graph.of_type("kubernetes:metallb.io")]
    assert kinds == ["IPAddressPool"]


def test_there_is_no_metallb_behind_a_load_balancer(run: Callable[..., Graph]) -> None:
    names = run("load-balancer").requests
    assert not [name for name in names if name.startswith("metallb") or "webhook" in name]
    assert "cp1-floating" not in names


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_a_pod_on_a_dead_node_is_given_up_soon(run: Callable[..., Graph], entry: str) -> None:
    assert controller(run(entry))["config"]["entries"]["proxy-connect-timeout"] == "3s"


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_a_controller_that_is_told_to_end_serves_on_for_a_while(
    run: Callable[..., Graph], entry: str
) -> None:
    values = controller(run(entry))
    seconds = values["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert values["terminationGracePeriodSeconds"] == seconds + 30
    # Until a floating IP is elsewhere: three looks, and Hetzner's time for an assignment.
    assert seconds > 3 * 2


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_drains_pass_over_the_controller_of_a_node(run: Callable[..., Graph], entry: str) -> None:
    values = controller(run(entry))
    assert values["kind"] == "daemonset"
    assert not {"replicaCount", "podDisruptionBudget", "affinity"} & values.keys()


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_the_stand_ins_chart_has_a_key_for_every_value(
    run: Callable[..., Graph], entry: str
) -> None:
    assert unknown_keys({"controller": controller(run(entry))}) == []


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_hello_world_costs_no_address_of_its_own(run: Callable[..., Graph], entry: str) -> None:
    graph = run(entry)
    assert graph.inputs("hello-service")["spec"]["type"] == "ClusterIP"
    address = {"load-balancer": "203.0.113.99", "floating-ips": "203.0.113.70"}[entry]
    assert graph.outputs["ingressAddress"] == address
    assert graph.outputs.get("serviceAddress") is None


def test_the_mover_knows_what_it_needs(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips")
    command = graph.inputs("cp1-floating")
    line, _, digest = command["create"].partition(" SCRIPT=")
    assert len(digest) == 12
    assert line == (
        "bash .own-kubernetes/scripts/run.sh floating ENDPOINT=https://api.hetzner.cloud/v1 "
        "FLOATING_IPS=7=203.0.113.70,8=203.0.113.80 NODES=w1=101=10.0.0.21,w2=102=10.0.0.22"
    )
    assert "run.sh floating REMOVE=true" in command["delete"]
    assert command["stdin"] == TOKEN
    assert graph.plain_inputs("cp1-floating")["stdin"] == SECRET


def test_the_first_assignment_waits_for_controllers_on_all_nodes(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips")
    after = graph.all_dependencies("cp1-floating")
    assert {"cp1-join", "w1-join", "w2-join", "nginx-release"} <= after
    assert "cp1-floating" not in graph.all_dependencies("hello-ingress"), "they need not wait"


def test_a_control_plane_with_workloads_may_carry_too(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips", scheduleOnControlPlanes=True)
    create = graph.inputs("cp1-floating")["create"]
    assert "NODES=cp1=100=10.0.0.11,w1=101=10.0.0.21," in create


def test_the_mover_runs_on_every_control_plane_and_knows_the_same_on_each(
    run: Callable[..., Graph],
) -> None:
    control_planes = {
        f"nodes.cp{n}": {"role": "control-plane", "privateAddress": f"10.0.0.1{n}"} for n in (2, 3)
    }
    graph = run("floating-ips", **{"apiEndpoint": "api.example.com", **control_planes})
    commands = [graph.inputs(f"cp{n}-floating") for n in (1, 2, 3)]
    for key in ("create", "stdin", "delete"):
        assert len({command[key] for command in commands}) == 1
    hosts = [command["connection"]["host"] for command in commands]
    assert len(set(hosts)) == 3
    for n in (1, 2, 3):
        assert f"cp{n}-join" in graph.all_dependencies(f"cp{n}-floating")
    assert "cp2-floating" not in graph.all_dependencies("cp1-floating"), "side by side"


def test_the_token_is_in_no_plain_input(run: Callable[..., Graph]) -> None:
    graph = run("floating-ips")
    for name in graph.requests:
        assert TOKEN not in json.dumps(graph.plain_inputs(name)), name
