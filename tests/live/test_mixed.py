"""One cluster of a host that was there, its control plane, and a server at the stand-in for Hetzner Cloud.

The host has a leg in the servers' private network, as a vSwitch gives it one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from sandbox import cloud, dev, hetzner, machines
from sandbox.machines import routed
from tests.live.cluster import (
    ENGINES,
    HCLOUD,
    eventually,
    keep_kubeconfig,
    kubectl,
    on,
    ready,
    sandbox,
)

HOST = "own1"
ADDRESS, PRIVATE = IPv4Address("10.77.0.31"), IPv4Address("10.78.0.200")
CHANGES = {
    "nodes": {
        HOST: {
            "role": "control-plane",
            "machine": "existing",
            "address": str(ADDRESS),
            "privateAddress": str(PRIVATE),
        },
    },
    "nodePools.worker.count": 1,
    "scheduleOnControlPlanes": True,
    "hetzner.subnetCidr": "10.78.0.0/25",
    "sshPrivateKeyFile": ".sandbox/ssh/id_ed25519",
    "sshKnownHostsFile": ".sandbox/ssh/known_hosts",
}


def plug_host_in(ended: threading.Event) -> None:
    """Give the host its private leg as soon as the network is there."""
    while not ended.wait(0.2):
        if found := list(routed.networks()):
            routed.plug_private(HOST, found[0], PRIVATE, "enp7s0")
            return


@pytest.fixture(scope="module", params=ENGINES)
def outputs(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    ended = threading.Event()

    def end() -> None:
        ended.set()
        cloud.stop_site()

    with sandbox(request.param, end, HCLOUD) as kind:
        cloud.start_site()
        machines.up([machines.MachineSpec(HOST, ADDRESS, 4096)])
        file = cloud.stack_file(CHANGES)
        engine = kind(stack=cloud.STACK, stack_file=file)
        threading.Thread(target=plug_host_in, args=[ended], daemon=True).start()
        found = engine.up()
        keep_kubeconfig(found["kubeconfig"])
        yield found
        engine.down()
        assert hetzner.leftovers() == []
        assert on(HOST, "ls /etc/kubernetes", check=False) == ""


def test_the_page_answers_through_the_load_balancer(outputs: dict[str, Any]) -> None:
    page = dev.fetch_page(outputs["ingressAddress"], "hello.example.com")
    assert page.startswith("Hello, world!")


def test_both_nodes_are_ready_and_neither_is_taken_for_the_other_kind(
    outputs: dict[str, Any],
) -> None:
    def nodes() -> dict[str, Any]:
        return {node["metadata"]["name"]: node for node in kubectl("get", "nodes")["items"]}

    assert eventually(lambda: all(map(ready, nodes().values())))
    (server,) = hetzner.client().servers.get_all()
    ids = {name: node["spec"]["providerID"] for name, node in nodes().items()}
    assert ids == {HOST: f"existing://cloud/{HOST}", "worker-1": f"hcloud://{server.id}"}


def test_each_machine_reaches_the_others_pods(outputs: dict[str, Any]) -> None:
    machine = {HOST: HOST, "worker-1": f"hc-{hetzner.client().servers.get_all()[0].id}"}
    pages = kubectl("--namespace=hello-world", "get", "pods")["items"]
    names = kubectl("--namespace=kube-system", "get", "pods", "--selector=k8s-app=kube-dns")[
        "items"
    ]
    for pod in [*pages, *names]:
        (other,) = (name for name in machine if name != pod["spec"]["nodeName"])
        url = f"http://{pod['status']['podIP']}:8080/health"
        assert on(machine[other], f"curl -fsS --max-time 5 {url}"), pod["metadata"]["name"]
