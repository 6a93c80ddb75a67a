"""Three control planes and two workers: what every day of a cluster's life may ask, on every engine there is.

The tests change the stack as a user would, by its file, and each goes on from what the last one left.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import ha, machines
from tests.live.cluster import ENGINES, eventually, heads_of_secrets, kubectl, on, ready
from tests.live.ha_site import Site, ha_site, is_up, lose_founder, members, nodes, serves

VIRTUAL = ha.VIRTUAL_ADDRESS
ROTATED = {"encryptionRotation": "2026"}


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param) as site:
        yield site


def test_three_control_planes_and_two_workers_are_ready_behind_one_address(stack: Site) -> None:
    is_up(stack)


def test_secrets_are_encrypted_with_another_key_on_every_control_plane(stack: Site) -> None:
    kubectl("create", "secret", "generic", "kept", "--from-literal=word=rewritten")
    assert heads_of_secrets("cp1") == {"k8s:enc:secretbox:v1:key"}
    if stack.real:
        assert stack.preview(ROTATED) == {"update": 1}
    stack.up(ROTATED)
    assert heads_of_secrets("cp1") == {"k8s:enc:secretbox:v1:key-2026"}
    files = {on(name, "cat /etc/kubernetes/pki/encryption.yaml") for name in ("cp1", "cp2", "cp3")}
    assert len(files) == 1
    assert files.pop().count("name: ") == 1, "the old one is forgotten"
    for name in ("cp1", "cp2", "cp3"):
        server = f"https://{ha.NODES[name]['address']}:6443"
        admin = f"kubectl --kubeconfig=/etc/kubernetes/admin.conf --server={server}"
        word = on(name, f"{admin} get secret kept --output=jsonpath='{{.data.word}}'")
        assert word == "cmV3cml0dGVu"
    stack.up()
    assert heads_of_secrets("cp1") == {"k8s:enc:secretbox:v1:key-2026"}, "it stays without the word"


def test_the_api_answers_again_when_the_control_plane_that_made_it_loses_power(stack: Site) -> None:
    lose_founder(stack)


def test_a_worker_comes_while_that_control_plane_is_off(stack: Site) -> None:
    more = {"nodes.w3": ha.node("worker", 23)}
    ha.start_machines({"w3": ha.node("worker", 23)})
    if stack.real:
        found = stack.preview(more)
        assert set(found) == {"create"}, "only that node is touched"
        stack.up(more)
        assert "w3" in nodes()
        assert ready(nodes()["w3"])
    machines.power_on("cp1")
    assert eventually(lambda: serves("cp1") and ready(nodes()["cp1"]), 300)
    stack.up(more)
    assert ready(nodes()["w3"])
    assert stack.preview(more) == {} if stack.real else True


def test_a_worker_leaves_drained_and_its_host_is_given_back(stack: Site) -> None:
    if stack.real:
        assert set(stack.preview()) == {"delete"}
    stack.up()
    assert "w3" not in nodes()
    assert on("w3", "ls /etc/kubernetes /var/lib/own-kubernetes", check=False) == ""
    knock = f"timeout 2 bash -c '</dev/tcp/{VIRTUAL}/6443' 2>/dev/null && echo open || true"
    assert eventually(lambda: on("w3", knock) == "", 60), "it is no node any more"
    machines.remove("w3")


def test_a_rebuilt_control_plane_joins_again_by_its_new_host_key(stack: Site) -> None:
    """The known_hosts file that the stack file names has the new key."""
    machines.remove("cp3")
    ha.start_machines({"cp3": ha.NODES["cp3"]})
    stack.up()
    assert members() == {"cp1", "cp2", "cp3"}
    assert eventually(lambda: all(map(ready, nodes().values())))
    assert on("cp3", "ls /etc/kubernetes/manifests | wc -l") == "4"


def test_a_dead_control_plane_is_replaced_by_an_edit(stack: Site) -> None:
    """The one that made the cluster is gone for good; another takes its place."""
    machines.remove("cp1")
    new = {"nodes.cp1": None, "nodes.cp4": ha.node("control-plane", 14)}
    ha.start_machines({"cp4": ha.node("control-plane", 14)})
    if stack.real:
        found = stack.preview(new)
        assert found["create"] > 0
        assert found["delete"] > 0
    stack.up(new)
    assert members() == {"cp2", "cp3", "cp4"}
    assert sorted(nodes()) == ["cp2", "cp3", "cp4", "w1", "w2"]
    assert eventually(lambda: all(map(ready, nodes().values())))
    if stack.real:
        assert stack.preview(new) == {}


def test_down_leaves_nothing(stack: Site) -> None:
    stack.engine.down(stack.told.append)
    for name in ("cp2", "cp3", "cp4", "w1", "w2"):
        left = on(
            name,
            "ls -d /etc/kubernetes /var/lib/own-kubernetes /etc/keepalived 2>/dev/null || true",
        )
        assert left == "", name
