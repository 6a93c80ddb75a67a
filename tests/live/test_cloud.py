"""The whole program on servers at the stand-in for Hetzner Cloud, on every engine there is.

The tests change the stack as a user would, by its file, and each goes on from what the last one left.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import pytest

from sandbox import cloud, dev, hetzner, machines, site
from sandbox.engine import Engine, EngineError
from sandbox.engine.real import RealEngine
from tests.live.cluster import (
    ENGINES,
    HCLOUD,
    eventually,
    here,
    in_pod,
    keep_kubeconfig,
    kubectl,
    on,
    pods_by_node,
    port_open,
    ready,
    sandbox,
)

ATTACKER = IPv4Address("10.77.0.250")
NODES = ("cp1", "worker-1", "worker-2")
METADATA = "http://169.254.169.254/hetzner/v1/metadata/instance-id"


@dataclass
class Site:
    """A stack of servers, and what its last ``up`` said and gave."""

    engine: Engine
    outputs: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def up(self, changes: Mapping[str, Any] | None = None) -> None:
        """Bring the stack to its file, the changes put in."""
        cloud.stack_file(changes)
        self.told.clear()
        self.outputs = self.engine.up(self.told.append)
        keep_kubeconfig(self.outputs["kubeconfig"])

    @property
    def text(self) -> str:
        return "\n".join(self.told)

    def page(self, host: str = "hello.example.com") -> tuple[int, str]:
        """Status and first line of the page."""
        status, body = dev.get(self.outputs["ingressAddress"], host)
        return status, body.partition("\n")[0]


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with sandbox(request.param, cloud.stop_site, HCLOUD) as kind:
        file = cloud.stack_file()
        cloud.start_site()
        site_ = Site(kind(stack=cloud.STACK, stack_file=file))
        site_.up()
        yield site_


def order(**fault: Any) -> None:
    """Have the API fail, see ``sandbox.hetzner.faults``."""
    place = f"{site.HETZNER_API.removesuffix('/v1')}/control/faults"
    body = json.dumps(fault).encode()
    urllib.request.urlopen(urllib.request.Request(place, body, method="POST"), timeout=10).close()


def servers() -> dict[str, Any]:
    """The API's servers by node name."""
    found = hetzner.client().servers.get_all()
    return {(server.labels or {})["own-kubernetes/node"]: server for server in found}


def machine(node: str) -> str:
    """The sandbox's name of a node's server."""
    return f"hc-{servers()[node].id}"


def public(node: str) -> str:
    return str(servers()[node].public_net.ipv4.ip)


def nodes() -> dict[str, Any]:
    return {node["metadata"]["name"]: node for node in kubectl("get", "nodes")["items"]}


def test_the_page_answers_through_the_load_balancer(stack: Site) -> None:
    (balancer,) = hetzner.client().load_balancers.get_all()
    assert balancer.public_net is not None
    assert stack.outputs["ingressAddress"] == balancer.public_net.ipv4.ip
    # A load balancer looks at its targets every few seconds, and sends nothing to one not seen well yet.
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com", 15)
    assert stack.page() == (200, "Hello, world!")
    assert stack.page("other.example.com")[0] == 404


def test_the_price_is_told(stack: Site) -> None:
    assert "3 servers cx23 at fsn1" in stack.text or "cx23" in stack.text
    assert "net" in stack.text
    assert "gross" in stack.text


def test_nodes_are_ready_at_their_private_addresses_and_known_by_their_servers(stack: Site) -> None:
    found = nodes()
    assert sorted(found) == sorted(NODES)
    for name, node in found.items():
        assert ready(node)
        assert node["spec"]["providerID"] == f"hcloud://{servers()[name].id}"
        (address,) = (
            a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"
        )
        assert address == stack.outputs["nodes"][name]
        assert address.startswith("10.78.0.")


def test_an_attacker_reaches_neither_ssh_nor_the_api_nor_the_nodes_ports(stack: Site) -> None:
    address = public("cp1")
    assert port_open(here, address, 22)
    assert port_open(here, address, 6443)
    with machines.outsider(ATTACKER) as attacker:
        for node in NODES:
            for port in (22, 6443, 10250, 10256, 30080, 30443, 2379):
                assert not port_open(attacker, public(node), port), f"{node} {port}"
        assert port_open(attacker, stack.outputs["ingressAddress"], 80)


def test_the_first_boots_host_key_is_gone(stack: Site) -> None:
    for node in NODES:
        keys = here(["ssh-keyscan", "-T", "3", public(node)]).stdout
        assert "ssh-ed25519" in keys
        assert "ecdsa" not in keys
        assert on(machine(node), "cloud-init status") == "status: done"


def test_pods_are_kept_from_the_servers_metadata(stack: Site) -> None:
    for node, pod in pods_by_node("hello-world").items():
        name = machine(node)
        assert on(name, f"curl -sS --max-time 3 {METADATA}") == name.removeprefix("hc-")
        assert in_pod(pod, name, f"curl -sS --max-time 3 {METADATA}", check=False) == ""


def test_a_second_run_changes_nothing(stack: Site) -> None:
    before = {name: on(machine(name), "crictl ps -q | sort") for name in NODES}
    if isinstance(stack.engine, RealEngine):
        assert set(stack.engine.preview(print)) == {"same"}
    stack.up()
    assert {name: on(machine(name), "crictl ps -q | sort") for name in NODES} == before
    assert stack.page() == (200, "Hello, world!")


def test_what_cannot_be_had_is_refused_by_name_before_anything_is_made(stack: Site) -> None:
    before = len(hetzner.client().servers.get_all())
    changes = {"nodes.w9": {"role": "worker", "serverType": "cx99"}}
    with pytest.raises(EngineError) as caught:
        stack.up(changes)
    text = f"{stack.text}\n{caught.value}"
    assert "nodes.w9.serverType = 'cx99'" in text
    assert "like cx" in text
    assert len(hetzner.client().servers.get_all()) == before


def test_a_server_deleted_behind_our_back_is_made_anew_while_the_api_fails(stack: Site) -> None:
    old = servers()["worker-2"]
    hetzner.client().servers.delete(old).wait_until_finished()
    order(kind="fail", method="POST", path="^/servers$", code="resource_unavailable", status=412)
    with pytest.raises(EngineError) as caught:
        stack.up()
    text = f"{stack.text}\n{caught.value}"
    assert "worker-2: Hetzner can't make a cx23 at fsn1 now (resource_unavailable)" in text
    order(kind="cut", method="POST", path="^/servers$")  # made, and nobody hears of it
    with contextlib.suppress(EngineError):
        stack.up()
    order(kind="rate_limit", times=2)
    stack.up()
    new = servers()["worker-2"]
    assert new.id != old.id
    assert new.public_net.ipv4.ip == old.public_net.ipv4.ip
    assert eventually(lambda: ready(nodes()["worker-2"]))
    assert nodes()["worker-2"]["spec"]["providerID"] == f"hcloud://{new.id}"
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com", 15)


FLOATING = {"hetzner.ingress": "floating-ips"}


def test_floating_ips_instead_are_an_edit_to_the_stack_file(stack: Site) -> None:
    stack.up(FLOATING)
    (floating,) = hetzner.client().floating_ips.get_all()
    assert stack.outputs["ingressAddress"] == floating.ip
    assert dev.fetch_page(str(floating.ip), "hello.example.com")
    assert hetzner.client().load_balancers.get_all() == []


def test_a_floating_ip_moves_when_its_node_loses_power(stack: Site) -> None:
    (floating,) = hetzner.client().floating_ips.get_all()
    before = floating.server
    assert before is not None
    before.power_off().wait_until_finished()
    began = time.monotonic()
    assert dev.fetch_page(str(floating.ip), "hello.example.com", 60)
    print(f"HTTP answers again after {time.monotonic() - began:.1f} s")
    (moved,) = hetzner.client().floating_ips.get_all()
    assert moved.server is not None
    assert moved.server.id != before.id
    before.power_on().wait_until_finished()
    assert eventually(lambda: all(map(ready, nodes().values())), 120)


def test_down_leaves_nothing_at_hetzner(stack: Site) -> None:
    told: list[str] = []
    stack.engine.down(told.append)
    assert hetzner.leftovers() == []
    assert "nothing of cluster cloud is left at Hetzner Cloud" in "\n".join(told)
