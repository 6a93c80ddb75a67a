"""Three control planes and two workers behind one address, on every engine; see tests/long for more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from sandbox import dev, ha, machines
from tests.live.cluster import eventually, kubectl, on, port_open, ready
from tests.live.ha_site import ENGINES, Site, ha_site, members, nodes

VIRTUAL = ha.VIRTUAL_ADDRESS


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param) as site:
        yield site


def test_three_control_planes_and_two_workers_are_ready_behind_one_address(stack: Site) -> None:
    assert sorted(nodes()) == sorted(ha.NODES)
    assert eventually(lambda: all(map(ready, nodes().values())))
    assert members() == {"cp1", "cp2", "cp3"}
    assert f"server: https://{VIRTUAL}:6443" in stack.outputs["kubeconfig"]
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com")


def test_a_second_run_changes_nothing(stack: Site) -> None:
    if not stack.real:
        pytest.skip("the stand-in engine has no previews")
    assert stack.preview() == {}


def test_the_api_is_open_to_nodes_and_administrators_only(stack: Site) -> None:
    for name in ha.NODES:
        assert on(name, f"timeout 2 bash -c '</dev/tcp/{VIRTUAL}/6443' && echo open") == "open"
    with machines.outsider(IPv4Address("10.77.0.250")) as outside:
        for address in (VIRTUAL, "10.77.0.11", "10.77.0.12", "10.77.0.13"):
            assert not port_open(outside, address, 6443)


def test_the_api_answers_again_when_the_control_plane_that_made_it_loses_power(stack: Site) -> None:
    holder = next(n for n in ("cp1", "cp2", "cp3") if VIRTUAL in on(n, "ip -brief -4 address"))
    began = time.monotonic()
    machines.power_off("cp1")
    assert eventually(lambda: bool(kubectl("--request-timeout=2s", "get", "nodes")), 60)
    print(
        f"API answered {time.monotonic() - began:.1f} s after the power cut of cp1 ({holder} held the address)"
    )
    assert dev.get(stack.outputs["ingressAddress"], "hello.example.com")[0] == 200


def test_what_would_lose_the_quorum_is_refused(stack: Site) -> None:
    text = stack.refused({"nodes.cp2": None, "nodes.cp3": None})
    assert "etcd would lose its quorum" in text
    assert "at most 1 of 3" in text
    text = stack.refused({"nodes.cp3": None})
    assert "an odd number of control planes" in text
    assert "kubernetesVersion" in stack.refused({"kubernetesVersion": "1.35.0"})
    assert "can't be changed while the cluster lives" in stack.refused({"podCidr": "10.200.0.0/16"})
    if stack.real:  # the stand-in keeps no host keys, by which a machine is known to be the same
        tainted = {"nodes.w1.taints": ["gpu:NoSchedule"]}
        assert "not changed on a live node" in stack.refused(tainted)
    assert len(members()) == 3
