"""Three control planes and two workers behind one address, on every engine; see tests/long for more."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from sandbox import ha, machines
from tests.live.cluster import ENGINES, on, port_open
from tests.live.ha_site import Site, ha_site, is_up, lose_founder, members

VIRTUAL = ha.VIRTUAL_ADDRESS


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param) as site:
        yield site


def test_three_control_planes_and_two_workers_are_ready_behind_one_address(stack: Site) -> None:
    is_up(stack)


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
    lose_founder(stack)


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
