"""What a live cluster can't follow is refused before anything is touched; what it can is told."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import changes as last_run
from cluster.changes import Before, check, read
from cluster.errors import SettingsError
from cluster.settings import Settings
from tests.unit.graph import LOG, Graph, run_program, state
from tests.unit.sites import HA
from tests.unit.stacks import CLOUD, PRIVATE_KEY, REMOVED, ROOT, SITE, existing, host_key, load

Changes = Mapping[str, Any]


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def left_by(changes: Changes) -> dict[str, Any]:
    """The state that a run of the small site with changes leaves; changes that are alike run once."""
    return _left_by(json.dumps(changes))


@cache
def _left_by(changes: str) -> dict[str, Any]:
    loop = asyncio.get_event_loop()
    try:
        return state(run_program(json.loads(changes), preview=True))
    finally:
        asyncio.set_event_loop(loop)  # the test's own


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """The state of the small site."""
    return state(run_program(preview=True))


@pytest.fixture(scope="module")
def ha() -> dict[str, Any]:
    """The state of the one with three control planes."""
    return state(run_program(HA, preview=True))


def problems(was: Mapping[str, Any], changes: Changes, base: Changes = SITE) -> list[Any]:
    """What is said of an edit."""
    settings: Settings = load(changes, base).settings
    try:
        check(settings, read(was))
    except SettingsError as error:
        return list(error.problems)
    return []


def at(found: list[Any], key: str) -> Any:
    """The only problem, which is at a key."""
    assert [problem.key for problem in found] == [key]
    return found[0]


# --- what is there -----------------------------------------------------------------------------


def test_the_cluster_is_read_from_the_state(ha: dict[str, Any]) -> None:
    was = read(ha)
    assert was.control_planes == ["cp1", "cp2", "cp3"]
    assert {name for name, role in was.roles.items() if role == "worker"} == {"w1", "w2"}
    assert was.versions == dict.fromkeys(was.roles, "1.36.4")
    assert was.settled == {
        "clusterName": "own-kubernetes", "podCidr": "10.244.0.0/16",
        "serviceCidr": "10.96.0.0/12", "apiEndpoint": "10.0.0.5:6443",
    }  # fmt: skip


@pytest.mark.parametrize("was", [{}, {"urn:x::y": {"type": "pulumi:pulumi:Stack", "outputs": {}}}])
def test_where_there_is_nothing_everything_can_be(was: dict[str, Any]) -> None:
    assert read(was) == Before()
    for changes in ({}, HA, {"kubernetesVersion": "1.31.0"}, {"clusterName": "new"}):
        assert problems(was, changes) == []


def test_a_host_that_has_not_joined_is_nobody_yet(small: dict[str, Any]) -> None:
    """A first run that broke off settles nothing."""
    prepared = {
        urn: r for urn, r in small.items() if urn.endswith(("-prepare", "-scripts", "-end"))
    }
    assert read(prepared) == Before()


def test_the_program_asks_for_its_own_state(small: dict[str, Any]) -> None:
    graph = Graph()
    with pytest.raises(SettingsError, match="podCidr"):
        run_program({"podCidr": "10.1.0.0/16"}, state=small, preview=True, graph=graph)
    assert {graph.type(name) for name in graph.requests} <= {"pulumi:pulumi:Stack"}


def test_a_state_that_is_written_just_now_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | dict[str, Any]] = [Exception("failed to load checkpoint: EOF"), {}]

    def invoke(*_: object) -> SimpleNamespace:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(value=answer)

    monkeypatch.setattr("pulumi.runtime.invoke", invoke)
    monkeypatch.setattr(last_run, "READ_PAUSE_SECONDS", 0)
    assert last_run.before() == Before()
    answers = [Exception("no such stack")] * last_run.READ_TRIES
    with pytest.raises(Exception, match="no such stack"):
        last_run.before()
    assert not answers


def test_an_unchanged_stack_file_is_no_change(
    small: dict[str, Any], ha: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, LOG.name):
        run_program(state=small, preview=True)
        run_program(HA, state=ha, preview=True)
    assert caplog.text == ""


# --- versions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.36.5", "1.36.10", "1.37.0"])
def test_the_next_minor_at_most_is_an_upgrade(small: dict[str, Any], version: str) -> None:
    assert problems(small, {"kubernetesVersion": version}) == []


@pytest.mark.parametrize("version", ["1.36.3", "1.35.9", "1.31.0"])
def test_there_is_no_way_back(small: dict[str, Any], version: str) -> None:
    found = at(problems(small, {"kubernetesVersion": version}), "kubernetesVersion")
    assert found.value == version
    assert found.expected.startswith("1.36.4 or newer")
    assert found.remedy == "set kubernetesVersion to 1.36.4"


def test_minors_are_taken_one_by_one() -> None:
    old = left_by({"kubernetesVersion": "1.34.2"})
    assert problems(old, {"kubernetesVersion": "1.35.9"}) == []
    found = at(problems(old, {"kubernetesVersion": "1.36.4"}), "kubernetesVersion")
    assert "at most the minor after 1.34.2" in found.expected
    assert "upgrade to a 1.35 first" in found.remedy


def test_an_upgrade_that_broke_off_counts_its_oldest_and_its_newest_node() -> None:
    old = left_by({"kubernetesVersion": "1.35.2"})
    new = left_by({"kubernetesVersion": "1.36.1"})
    mixed = {urn: (new if urn.endswith("::cp1-upgrade") else old)[urn] for urn in old}
    assert problems(mixed, {"kubernetesVersion": "1.36.1"}) == []
    for version in ("1.35.2", "1.37.0"):
        at(problems(mixed, {"kubernetesVersion": version}), "kubernetesVersion")


def test_a_node_that_joined_and_was_never_upgraded_has_no_version_yet(
    small: dict[str, Any],
) -> None:
    """It stays with what it was installed with, which its phase of upgrade sees to."""
    joined = {urn: r for urn, r in small.items() if not urn.endswith("-upgrade")}
    assert read(joined).versions == {}
    assert problems(joined, {"kubernetesVersion": "1.36.5"}) == []


def test_an_upgrade_is_told_with_its_order(
    ha: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, LOG.name):
        run_program({**HA, "kubernetesVersion": "1.37.0"}, state=ha, preview=True)
    order = [f"{name} from 1.36.4 to 1.37.0" for name in ("cp1", "cp2", "cp3", "w1", "w2")]
    assert ", ".join(order) in caplog.text
    assert "(control planes one by one, then 1 worker at a time)" in caplog.text


def test_only_nodes_that_are_upgraded_are_told(
    ha: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    new = left_by({**HA, "kubernetesVersion": "1.37.0"})
    mixed = {urn: (new if "::cp" in urn else ha)[urn] for urn in ha}
    with caplog.at_level(logging.INFO, LOG.name):
        run_program(
            {**HA, "kubernetesVersion": "1.37.0", "workersAtOnce": 2, "nodes.w9": W9},
            state=mixed,
            preview=True,
        )
    assert ": w1 from 1.36.4 to 1.37.0, w2 from 1.36.4 to 1.37.0 (" in caplog.text
    assert "then 2 workers at a time" in caplog.text


W9 = {"role": "worker", "address": "10.0.0.29", "hostKey": host_key("w9")}


# --- control planes ----------------------------------------------------------------------------


def control_planes(*numbers: int) -> dict[str, Any]:
    """The small site's changes that leave these control planes, behind a shared address."""
    changes: dict[str, Any] = {
        "apiVirtualAddress": "10.0.0.5", "evenControlPlanes": True, "scheduleOnControlPlanes": True,
    }  # fmt: skip
    if 1 not in numbers:
        changes["nodes.cp1"] = REMOVED
    for number in set(numbers) - {1}:
        changes[f"nodes.cp{number}"] = {
            "role": "control-plane",
            "address": f"10.0.0.1{number}",
            "hostKey": host_key(f"cp{number}"),
        }
    return changes


@pytest.mark.parametrize(
    ("there", "wanted", "possible"),
    [
        ((1,), (1, 2, 3), True),
        ((1,), (2,), False),
        ((1,), (2, 3, 4), False),
        ((1, 2), (1,), False),
        ((1, 2, 3), (1, 2), True),
        ((1, 2, 3), (2, 3), True),
        ((1, 2, 3), (2, 3, 4), True),
        ((1, 2, 3), (1,), False),
        ((1, 2, 3), (1, 4, 5), False),
        ((1, 2, 3, 4), (1, 2, 3), True),
        ((1, 2, 3, 4), (1, 2), False),
        ((1, 2, 3, 4, 5), (3, 4, 5), True),
        ((1, 2, 3, 4, 5), (4, 5), False),
    ],
)
def test_a_majority_of_the_control_planes_that_are_there_stays(
    there: tuple[int, ...], wanted: tuple[int, ...], possible: bool
) -> None:
    was = left_by(control_planes(*there))
    found = problems(was, control_planes(*wanted))
    if possible:
        assert found == []
        return
    problem = at(found, "nodes")
    leaving = [f"cp{number}" for number in there if number not in wanted]
    assert f"without {', '.join(leaving)} etcd would lose its quorum" in problem.expected
    most = (len(there) - 1) // 2
    if most:
        assert f"take out (or replace) at most {most} of {len(there)} in one edit" in problem.remedy
    else:
        assert "make three of it first" in problem.remedy


def test_workers_come_and_go_as_they_like(ha: dict[str, Any]) -> None:
    assert problems(ha, {**HA, "nodes.w1": REMOVED, "nodes.w2": REMOVED, "nodes.w9": W9}) == []


def test_an_existing_host_keeps_its_role(ha: dict[str, Any]) -> None:
    found = at(problems(ha, {**HA, "nodes.w1.role": "control-plane", "evenControlPlanes": True}),
               "nodes.w1.role")  # fmt: skip
    assert found.value == "control-plane"
    assert found.expected.startswith("worker, which the node is")
    assert "take w1 out of nodes, run `pulumi up`, then add it" in found.remedy


def test_a_server_may_change_its_role() -> None:
    """It is replaced by another one."""
    was = {
        "urn::w1-join": {
            "type": "command:remote:Command",
            "outputs": {"create": "bash .own-kubernetes/scripts/run.sh join CLUSTER=blue NODE=w1"},
        }
    }
    assert read(was).roles == {"w1": "worker"}
    wanted = {
        "apiEndpoint": "api.example.com", "evenControlPlanes": True,
        "nodes.w1": {"role": "control-plane"},
    }  # fmt: skip
    assert problems(was, wanted, CLOUD) == []
    host = {**wanted, "nodes.w1": existing("w1", "control-plane"), "sshPrivateKey": PRIVATE_KEY}
    at(problems(was, host, CLOUD), "nodes.w1.role")


# --- what is settled ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key", "was"),
    [
        ({"clusterName": "new"}, "clusterName", "own-kubernetes"),
        ({"podCidr": "10.1.0.0/16"}, "podCidr", "10.244.0.0/16"),
        ({"serviceCidr": "10.112.0.0/12"}, "serviceCidr", "10.96.0.0/12"),
        ({"apiEndpoint": "api.example.com"}, "apiEndpoint", "10.0.0.11:6443"),
        ({"apiVirtualAddress": "10.0.0.5"}, "apiEndpoint", "10.0.0.11:6443"),
        (
            {"nodes.cp1.privateAddress": "10.0.0.99", "nodes.cp1.hostKey": host_key("another")},
            "apiEndpoint",
            "10.0.0.11:6443",
        ),
    ],
)
def test_what_every_node_was_made_with_stays(
    small: dict[str, Any], changes: Changes, key: str, was: str
) -> None:
    found = at(problems(small, changes), key)
    assert found.expected.startswith(f"{was}, which the cluster was made with")
    assert "can't be changed while the cluster lives" in found.expected
    assert "set it back" in found.remedy
    assert ("it comes of apiEndpoint, apiVirtualAddress" in found.expected) == (
        key == "apiEndpoint"
    )


def test_the_order_of_control_planes_means_nothing(ha: dict[str, Any]) -> None:
    """But for the endpoint of a cluster that has no shared one."""
    nodes = {**SITE["nodes"], **{n: HA[f"nodes.{n}"] for n in ("cp2", "cp3")}}
    backwards = dict(reversed(nodes.items()))
    assert problems(ha, {"apiVirtualAddress": "10.0.0.5", "nodes": backwards}) == []


def test_all_of_it_is_told_at_once(small: dict[str, Any]) -> None:
    changes = {"kubernetesVersion": "1.35.0", "clusterName": "new", "nodes.w1.role": "control-plane",
               "apiVirtualAddress": "10.0.0.5", "evenControlPlanes": True}  # fmt: skip
    assert [problem.key for problem in problems(small, changes)] == [
        "kubernetesVersion", "nodes.w1.role", "clusterName", "apiEndpoint",
    ]  # fmt: skip


# --- what a node was registered with -------------------------------------------------------------

NEW_MACHINE = {"nodes.w1.hostKey": host_key("another")}


@pytest.mark.parametrize(
    ("before", "edit", "had"),
    [
        ({}, {"nodes.w1.taints": ["gpu=yes:NoSchedule"]}, "[]"),
        ({"nodes.w1.taints": ["gpu=yes:NoSchedule"]}, {}, "['gpu=yes:NoSchedule']"),
        (
            {"nodes.w1.taints": ["gpu:NoSchedule"]},
            {"nodes.w1.taints": ["gpu:NoExecute"]},
            "['gpu:NoSchedule']",
        ),
    ],
)
def test_other_taints_of_a_live_node_are_refused(before: Changes, edit: Changes, had: str) -> None:
    was = left_by(before)
    problem = at(problems(was, edit), "nodes.w1.taints")
    assert had in problem.expected
    assert "kubectl taint" in problem.remedy
    assert problems(was, before) == []
    assert problems(was, {**edit, **NEW_MACHINE}) == [], "another machine joins anew"


@pytest.mark.parametrize("taints", [[], ["example.com/quiet:PreferNoSchedule"]])
def test_control_planes_are_opened_for_workloads_as_they_live(taints: list[str]) -> None:
    own: Changes = {"nodes.cp1.taints": taints}
    was = left_by(own)
    assert problems(was, {**own, "scheduleOnControlPlanes": True}) == []


def test_another_address_of_a_live_node_is_refused(small: dict[str, Any]) -> None:
    problem = at(problems(small, {"nodes.w1.address": "10.0.0.29"}), "nodes.w1.address")
    assert "10.0.0.21" in problem.expected
    assert problems(small, {"nodes.w1.address": "10.0.0.29", **NEW_MACHINE}) == []


def test_another_way_in_to_a_live_node_is_fine(small: dict[str, Any]) -> None:
    way = {"nodes.w1.address": "198.51.100.9", "nodes.w1.privateAddress": "10.0.0.21"}
    assert problems(small, {**way, "nodes.w1.port": 2222}) == []


def test_where_the_state_shows_no_host_key_nothing_is_refused(small: dict[str, Any]) -> None:
    shown = {
        urn: {**r, "outputs": {k: v for k, v in r["outputs"].items() if k != "connection"}}
        for urn, r in small.items()
    }
    assert problems(shown, {"nodes.w1.taints": ["gpu:NoSchedule"]}) == []
