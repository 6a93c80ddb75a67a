"""One minor to the next, on a cluster whose page is asked for all the time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sandbox import dev
from tests.live.cluster import ENGINES, eventually, kubectl, ready
from tests.live.ha_site import Site, ha_site, members, nodes
from tests.live.load import Load

FROM, TO = "1.36.4", "1.37.2"


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param, {"kubernetesVersion": FROM}, (FROM, TO)) as site:
        yield site


def versions_of_nodes() -> set[str]:
    return {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes().values()}


def test_a_preview_shows_which_nodes_go_from_what_to_what(stack: Site) -> None:
    if not stack.real:
        pytest.skip("the stand-in engine has no previews")
    changes = stack.preview({"kubernetesVersion": TO})
    assert set(changes) == {"update"}
    told = "\n".join(stack.told)
    for node in nodes():
        assert f"{node} from {FROM} to {TO}" in told


def test_no_request_is_lost_while_every_node_is_upgraded(stack: Site) -> None:
    assert versions_of_nodes() == {f"v{FROM}"}
    address = stack.outputs["ingressAddress"]
    dev.fetch_page(address, "hello.example.com")
    began = time.monotonic()
    with Load(address, "hello.example.com") as load:
        stack.up({"kubernetesVersion": TO})
    print(
        f"upgrade in {time.monotonic() - began:.0f} s: {load.sent} requests, {load.lost.total()} lost"
    )
    assert versions_of_nodes() == {f"v{TO}"}
    assert eventually(lambda: all(map(ready, nodes().values())))
    assert not [node for node in nodes().values() if node["spec"].get("unschedulable")]
    assert members() == {"cp1", "cp2", "cp3"}
    images = {
        container["image"].rpartition(":")[2]
        for pod in kubectl(
            "--namespace=kube-system", "get", "pods", "--selector=tier=control-plane"
        )["items"]
        for container in pod["spec"]["containers"]
        if "kube-" in container["image"]
    }
    assert images == {f"v{TO}"}
    assert not load.lost, load.lost


def test_a_second_run_changes_nothing(stack: Site) -> None:
    if not stack.real:
        pytest.skip("the stand-in engine has no previews")
    assert stack.preview({"kubernetesVersion": TO}) == {}


def test_there_is_no_way_back(stack: Site) -> None:
    assert "can't be downgraded" in stack.refused({"kubernetesVersion": FROM})
