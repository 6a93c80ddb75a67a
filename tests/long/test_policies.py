"""NetworkPolicies on a cluster of two nodes: enforced beside Flannel, on the same node and between nodes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from sandbox import dev, machines, mirror, site, stacks
from sandbox.machines import MachineSpec
from sandbox.mirror import builds
from tests.live.cluster import (
    ENGINES,
    eventually,
    in_pod,
    keep_kubeconfig,
    kubectl,
    on,
    sandbox,
)

STACK = "policies"
NODES = {"cp1": "10.77.0.11", "w1": "10.77.0.21"}
IMAGE = f"docker.io/cloudnativelabs/kube-router:{builds.KUBE_ROUTER.version}"
RULES = "iptables-save | grep -c KUBE-ROUTER || true"
PAGE = "hello-world"


@pytest.fixture(scope="module", params=ENGINES)
def outputs(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The outputs of a stack with two nodes for workloads, where policies are enforced."""
    with sandbox(request.param) as kind:
        mirror.build()
        mirror.build_optional("kube-router")
        machines.up([MachineSpec(name, IPv4Address(at), 4096) for name, at in NODES.items()])
        mirror.serve()
        engine = kind(stack=STACK, stack_file=stack_file())
        found = engine.up()
        keep_kubeconfig(found["kubeconfig"])
        yield found
        engine.down()
        for name in NODES:
            assert on(name, RULES) == "0", "a host that is given back has none of its rules"


def stack_file() -> Any:
    roles = zip(NODES.items(), ("control-plane", "worker"), strict=True)
    own = {
        "nodes": {name: {"role": role, "address": address} for (name, address), role in roles},
        "scheduleOnControlPlanes": True,
        "helloReplicas": 4,
        "networkPolicies": True,
        "networkPolicyImage": IMAGE,
    }
    return stacks.write(STACK, stacks.of_site(hosts=True) | own)


def apply(name: str, spec: dict[str, Any]) -> None:
    """A NetworkPolicy for the page's namespace."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": PAGE},
        "spec": spec,
    }
    words = [str(mirror.tool("kubectl")), f"--kubeconfig={site.KUBECONFIG}", "apply", "-f", "-"]
    subprocess.run(words, input=json.dumps(policy), text=True, check=True, capture_output=True)


def remove(*names: str) -> None:
    kubectl_delete = ["--namespace", PAGE, "delete", "networkpolicy", *names]
    words = [str(mirror.tool("kubectl")), f"--kubeconfig={site.KUBECONFIG}", *kubectl_delete]
    subprocess.run(words, check=True, capture_output=True)


def pods() -> dict[str, list[Any]]:
    """The page's pods by node."""
    found: dict[str, list[Any]] = {name: [] for name in NODES}
    for pod in kubectl(f"--namespace={PAGE}", "get", "pods")["items"]:
        found[pod["spec"]["nodeName"]].append(pod)
    return found


def reaches(one: Any, other: Any) -> bool:
    """Whether a pod gets the page from another one."""
    node = one["spec"]["nodeName"]
    url = f"http://{other['status']['podIP']}:8080/"
    return "Hello" in in_pod(one, node, f"curl -sS --max-time 2 {url}", check=False)


def page(outputs: dict[str, Any]) -> bool:
    return dev.get(outputs["ingressAddress"], "hello.example.com")[0] == 200


def pairs() -> list[tuple[Any, Any]]:
    """A pod and another of the same node, and one of the other node; from both sides."""
    here, there = pods().values()
    assert min(len(here), len(there)) >= 2, "the page's pods are spread over the nodes"
    return [(here[0], here[1]), (here[0], there[0]), (there[0], here[0]), (there[0], there[1])]


def all_reach() -> bool:
    return all(reaches(*pair) for pair in pairs())


def none_reach() -> bool:
    return not any(reaches(*pair) for pair in pairs())


def test_without_policies_everybody_is_reached(outputs: dict[str, Any]) -> None:
    assert page(outputs)
    assert all_reach()
    daemon = kubectl("--namespace=kube-router", "get", "daemonset", "kube-router")["status"]
    assert daemon["numberReady"] == len(NODES)


def test_what_is_denied_is_refused_on_the_same_node_and_between_nodes(
    outputs: dict[str, Any],
) -> None:
    apply("deny", {"podSelector": {}, "policyTypes": ["Ingress"]})
    try:
        assert eventually(none_reach, 30)
        assert eventually(lambda: not page(outputs), 30)
        statuses = [pod["status"] for of_node in pods().values() for pod in of_node]
        assert all(s["containerStatuses"][0]["ready"] for s in statuses), "kubelets still probe"
    finally:
        remove("deny")
    assert eventually(all_reach, 30)


def test_what_is_allowed_is_let_through_and_nothing_else(outputs: dict[str, Any]) -> None:
    ingress = {"matchLabels": {"kubernetes.io/metadata.name": "nginx-ingress"}}
    rule = {"from": [{"namespaceSelector": ingress}], "ports": [{"port": 8080}]}
    apply("ingress", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]})
    try:
        assert eventually(none_reach, 30)
        assert eventually(lambda: page(outputs), 30)
    finally:
        remove("ingress")
    assert eventually(all_reach, 30)


def test_egress_is_refused_and_rules_outlive_who_made_them(outputs: dict[str, Any]) -> None:
    apply("egress", {"podSelector": {}, "policyTypes": ["Egress"]})
    try:
        assert eventually(none_reach, 30)
        assert page(outputs), "what comes in is answered"
        for name in NODES:
            on(name, "systemctl stop kubelet; crictl stop $(crictl ps -q --name kube-router)")
        assert none_reach()
    finally:
        for name in NODES:
            on(name, "systemctl start kubelet")
        remove("egress")
    assert eventually(all_reach, 90)
