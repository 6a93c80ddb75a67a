"""Updates of the hosts' systems: settings, what the engine gets, and the scripts on the hosts."""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster import versions
from tests.unit.graph import Graph, run_program
from tests.unit.hosts import Host
from tests.unit.sites import HA
from tests.unit.stacks import ROOT, load, problem

STATE = "/var/lib/own-kubernetes"
UPDATES = "/etc/apt/apt.conf.d/90own-kubernetes"


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# --- settings ----------------------------------------------------------------------------------


def test_on_by_default_with_reboots_at_night() -> None:
    updates = load().settings.os_updates
    assert updates.enabled
    assert updates.reboot
    assert (updates.reboots.start, updates.reboots.end) == ("02:00", "05:00")
    assert updates.reboots.time_zone == "UTC"
    assert len(updates.reboots.days) == 7


def test_without_updates_nothing_is_rebooted() -> None:
    assert not load({"osUpdates": {"enabled": False}}).settings.os_updates.reboot
    assert not load({"osUpdates": {"reboots": {"enabled": False}}}).settings.os_updates.reboot


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("start", "2:00", "a time of day from 00:00 to 23:59"),
        ("end", "24:00", "a time of day from 00:00 to 23:59"),
        ("start", 120, "a time of day from 00:00 to 23:59"),  # YAML's reading of 02:00, unquoted
        ("timeZone", "Europe/Berlin; reboot", "a time zone of the IANA database"),
        ("days", [], "at least 1"),
        ("checkSeconds", 5, "10"),
        ("window", "night", "a setting that Pulumi.yaml describes"),
    ],
)
def test_what_is_refused(key: str, value: Any, expected: str) -> None:
    found = problem({"osUpdates": {"reboots": {key: value}}}, f"osUpdates.reboots.{key}")
    assert expected in found.expected
    assert found.remedy


def test_a_day_is_one_of_seven() -> None:
    found = problem(
        {"osUpdates": {"reboots": {"days": ["mon", "Monday"]}}}, "osUpdates.reboots.days.1"
    )
    assert "'mon', 'tue'" in found.expected


def test_a_time_zone_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine knows any; one that knows none leaves it to kured."""
    wrong = {"osUpdates": {"reboots": {"timeZone": "Europe/Bern"}}}
    monkeypatch.setattr(zoneinfo, "available_timezones", lambda: {"Europe/Zurich"})
    problem(wrong, "osUpdates.reboots.timeZone")
    monkeypatch.setattr(zoneinfo, "available_timezones", set[str])
    assert load(wrong).settings.os_updates.reboots.time_zone == "Europe/Bern"


# --- what the engine gets ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> Graph:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        window = {"days": ["sat", "sun"], "start": "22:30", "end": "04:00", "timeZone": "UTC"}
        changes = {**HA, "osUpdates": {"reboots": window}, "drainTimeoutSeconds": 120}
        return run_program(changes, preview=True)


def test_every_host_updates_itself_once_it_is_a_node(graph: Graph) -> None:
    for name in ("cp1", "cp2", "cp3", "w1", "w2"):
        assert " updates AUTOMATIC=true SCRIPTS=" in graph.inputs(f"{name}-updates")["create"]
        assert f"{name}-join" in graph.dependencies(f"{name}-updates")
        assert "delete" not in graph.inputs(f"{name}-updates")


def kured(graph: Graph) -> Any:
    return graph.inputs("kured-daemonset")["spec"]["template"]["spec"]


def test_kured_reboots_in_the_window_one_node_at_a_time(graph: Graph) -> None:
    (container,) = kured(graph)["containers"]
    assert container["image"] == versions.KURED_IMAGE
    wanted = {
        "--ds-namespace=kured", "--ds-name=kured", "--concurrency=1", "--period=300s",
        "--reboot-days=sat,sun", "--start-time=22:30", "--end-time=04:00", "--time-zone=UTC",
        "--drain-timeout=120s",
        "--reboot-sentinel-command=/usr/local/lib/own-kubernetes/reboot-due.sh",
    }  # fmt: skip
    assert {*container["args"]} == wanted, "no --lock-ttl: who does not come back keeps the lock"
    assert (ROOT / "cluster/nodes/scripts/reboot-due.sh").exists()


def test_kured_runs_on_every_node_and_may_enter_the_host(graph: Graph) -> None:
    pod = kured(graph)
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["hostPID"] is True
    context = pod["containers"][0]["securityContext"]
    assert context == {"privileged": True, "readOnlyRootFilesystem": True}
    labels = graph.inputs("kured-namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_kured_may_do_no_more_than_it_has_to(graph: Graph) -> None:
    def rights(name: str) -> dict[str, list[str]]:
        rules = graph.inputs(name)["rules"]
        return {resource: rule["verbs"] for rule in rules for resource in rule["resources"]}

    assert rights("kured-clusterrole") == {
        "nodes": ["get", "list", "patch"],
        "pods": ["get", "list"],
        "pods/eviction": ["create"],
        "daemonsets": ["get"],
    }
    assert rights("kured-role") == {"daemonsets": ["update"]}
    assert graph.inputs("kured-role")["rules"][0]["resourceNames"] == ["kured"]
    assert graph.inputs("kured-role")["metadata"]["namespace"] == "kured"


@pytest.mark.parametrize(
    ("changes", "automatic"),
    [({"enabled": False}, "false"), ({"reboots": {"enabled": False}}, "true")],
    ids=["no updates", "no reboots"],
)
def test_what_is_not_wanted_is_not_there(changes: Mapping[str, Any], automatic: str) -> None:
    graph = run_program({"osUpdates": changes}, preview=True)
    assert f" AUTOMATIC={automatic} " in graph.inputs("w1-updates")["create"]
    assert not [name for name in graph.requests if name.startswith("kured")]


# --- updates.sh --------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that was found without unattended-upgrades; packages are files."""
    host = Host(tmp_path)
    host.write(f"{STATE}/found/packages", "apt\n")
    host.write("/etc/packages/apt", "")
    host.command(
        "dpkg-query",
        '[[ -e "/etc/packages/${@: -1}" ]] && printf "installed 1.0"',
    )
    host.command(
        "apt-get",
        'case "$*" in *" install "*) touch "/etc/packages/${@: -1}" ;; '
        '*" purge "*) rm "/etc/packages/${@: -1}" ;; esac',
    )
    return host


def updates(host: Host, automatic: str) -> str:
    done = host.run("updates.sh", env={"AUTOMATIC": automatic, "SCRIPTS": "d1g3st"})
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_host_updates_itself_and_never_reboots_by_itself(host: Host) -> None:
    for _ in range(2):
        updates(host, "true")
    text = host.read(UPDATES)
    assert 'APT::Periodic::Unattended-Upgrade "1";' in text
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in text
    assert len([call for call in host.called("apt-get") if " install " in call]) == 1


def test_turned_off_it_is_as_it_was_found(host: Host) -> None:
    updates(host, "true")
    updates(host, "false")
    assert not host.path(UPDATES).exists()
    assert not host.path("/etc/packages/unattended-upgrades").exists()
    host.forget_calls()
    updates(host, "false")
    assert host.called("apt-get") == []


def test_who_updated_before_goes_on_with_it(host: Host) -> None:
    host.write(f"{STATE}/found/packages", "apt\nunattended-upgrades\n")
    host.write("/etc/packages/unattended-upgrades", "")
    updates(host, "true")
    updates(host, "false")
    assert not host.path(UPDATES).exists()
    assert host.called("apt-get") == []


def test_timers_that_are_off_are_named(host: Host) -> None:
    host.command("systemctl", "[[ $* != *apt-daily-upgrade* ]]")
    done = host.run("updates.sh", env={"AUTOMATIC": "true"})
    assert done.returncode == 1
    assert "apt-daily-upgrade.timer is off" in done.stderr
    assert "set osUpdates.enabled to false" in done.stderr


# --- reboot-due.sh -----------------------------------------------------------------------------

SEEN = """\
case $* in
  *' nodes '*) cat /etc/nodes ;;
  *' pods '*) cat /etc/pods ;;
esac"""


@pytest.fixture
def node(tmp_path: Path) -> Host:
    """A node in a cluster that is whole, on which an update asks for a reboot."""
    node = Host(tmp_path)
    node.write("/run/reboot-required", "")
    node.write("/etc/nodes", "cp1 True\nw1 True\n")
    node.write("/etc/pods", "etcd-cp1 True\nkube-apiserver-cp1 True\n")
    node.command("kubectl", SEEN)
    return node


def due(node: Host) -> tuple[int, str]:
    env = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    done = node.run("reboot-due.sh", env=env)
    assert list(node.path("/run").glob("own-kubernetes-reboot*")) == []
    return done.returncode, done.stdout


def test_a_reboot_is_due_when_an_update_asks_for_it(node: Host) -> None:
    assert due(node) == (0, "")
    node.path("/run/reboot-required").unlink()
    node.forget_calls()
    assert due(node) == (1, "")
    assert node.called("kubectl") == [], "no question without a need"


@pytest.mark.parametrize(
    ("file", "text"), [("nodes", "cp1 Unknown\nw1 True\n"), ("pods", "etcd-cp1 False\ncp1 \n")]
)
def test_none_is_due_while_the_cluster_is_not_whole(node: Host, file: str, text: str) -> None:
    node.write(f"/etc/{file}", text)
    status, said = due(node)
    assert status == 2
    assert "not Ready are:" in said
    assert "cp1" in said


def test_none_is_due_while_the_api_does_not_answer(node: Host) -> None:
    node.command("kubectl", "exit 1")
    assert due(node)[0] == 2


# --- kured's lock, taken by what drains for the program (cluster.sh) -----------------------------

LOCKED = """\
case $* in
  *readyz*) ;;
  *' get node '*InternalIP*) printf 10.0.0.21 ;;
  *' get node '*Ready*) printf True ;;
  *' get daemonset kured '*) printf '7 '; cat /etc/lock 2>/dev/null || true ;;
  *' annotate '*) for word in "$@"; do case $word in
      weave.works/kured-node-lock=*) echo "${word#*=}" >/etc/lock ;;
      weave.works/kured-node-lock-) rm -f /etc/lock ;;
    esac; done ;;
esac"""


@pytest.fixture
def staying(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.write(f"{STATE}/stage", "member\n")
    host.on_network("10.0.0.11")
    host.command("kubectl", LOCKED)
    host.sooner("cluster.sh", "wait_for 900", "wait_for 0")
    return host


def lock_of(node: str) -> str:
    return json.dumps({"nodeID": node, "metadata": {}, "created": "x", "TTL": 0}).replace(" ", "")


def remove(host: Host, node: str = "w1") -> tuple[int, str]:
    done = host.run("remove.sh", env={"NODE": node, "DRAIN_SECONDS": "300"})
    return done.returncode, done.stderr


def test_what_drains_holds_reboots_for_a_while(staying: Host) -> None:
    """And may be done for two nodes at the same time."""
    for _ in range(2):
        assert remove(staying)[0] == 0
        held = json.loads(staying.read("/etc/lock"))
        assert held["nodeID"] == "(own-kubernetes)", "no node's name, so no kured gives it back"
        assert held["TTL"] == (300 + 1800) * 10**9
        assert held["created"].endswith("Z")
    calls = staying.called("kubectl")
    assert any("--resource-version=7" in call for call in calls), "nobody else's lock is lost"


def test_nothing_is_drained_while_another_node_reboots(staying: Host) -> None:
    staying.write("/etc/lock", lock_of("w2"))
    status, said = remove(staying)
    assert status == 1
    assert "waited 0 s in vain: the end of a reboot by kured" in said
    assert not [call for call in staying.called("kubectl") if " drain " in call]
    assert "w2" in staying.read("/etc/lock")


def test_the_lock_of_a_node_that_never_came_back_goes_with_it(staying: Host) -> None:
    staying.command("kubectl", LOCKED.replace("printf True", "printf Unknown"))
    staying.write("/etc/lock", lock_of("w1"))
    assert remove(staying)[0] == 0
    assert not staying.path("/etc/lock").exists()
