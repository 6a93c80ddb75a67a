"""Updates that ask for a reboot, on a cluster whose page is asked for all the time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from sandbox import dev, ha, machines
from tests.live.cluster import ENGINES, eventually, kubectl, on, ready
from tests.live.ha_site import Site, ha_site, members, nodes
from tests.live.load import Load

ALWAYS = {"osUpdates": {"reboots": {"start": "00:00", "end": "23:59", "checkSeconds": 10}}}
ALL_REBOOTED_SECONDS = 1500
NOTICED_SECONDS = 300


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param, ALWAYS) as site:
        yield site


def boot(node: str) -> str:
    """Another word after each boot; nothing while it is down."""
    return on(node, "cat /proc/sys/kernel/random/boot_id", check=False)


def ask_for_reboot(node: str) -> None:
    """As the package of a new kernel does."""
    on(node, "touch /run/reboot-required")


def out() -> set[str]:
    """The nodes that are drained, or down, or not yet back."""
    return {name for name, node in nodes().items() if node["spec"].get("unschedulable")}


def kured_says(node: str) -> str:
    return on(node, "crictl logs $(crictl ps --quiet --name='^kured$') 2>&1", check=False)


def test_every_host_takes_security_updates_but_no_kubernetes(stack: Site) -> None:
    for name in ha.NODES:
        wanted = "apt-config dump --no-empty APT::Periodic::Unattended-Upgrade"
        assert on(name, wanted) == 'APT::Periodic::Unattended-Upgrade "1";'
        assert on(name, "unattended-upgrade --dry-run && echo fine").endswith("fine")
        held = on(name, "apt-mark showhold").split()
        assert held == ["containerd.io", "kubeadm", "kubectl", "kubelet"]


def test_nodes_reboot_one_at_a_time_and_no_request_is_lost(stack: Site) -> None:
    address = stack.outputs["ingressAddress"]
    dev.fetch_page(address, "hello.example.com")
    before = {name: boot(name) for name in ha.NODES}
    began, order = time.monotonic(), []
    with Load(address, "hello.example.com") as load:
        for name in ha.NODES:
            ask_for_reboot(name)
        while time.monotonic() - began < ALL_REBOOTED_SECONDS:
            try:
                now = out()
            except subprocess.SubprocessError:
                continue  # the control plane that was asked is the one that reboots
            assert len(now) <= 1, f"{now} are out at the same time"
            order += [name for name in now if name not in order]
            if not now and len(order) == len(before):
                break
            time.sleep(0.5)
    print(
        f"{', '.join(order)} rebooted in {time.monotonic() - began:.0f} s: {load.sent} requests, "
        f"{load.lost.total()} lost {dict(load.lost)}"
    )
    assert all(boot(name) not in ("", before[name]) for name in before)
    assert eventually(lambda: all(map(ready, nodes().values())))
    assert members() == {"cp1", "cp2", "cp3"}
    assert not load.lost, load.lost


def test_none_reboots_while_another_node_is_down(stack: Site) -> None:
    before = boot("w1")
    machines.power_off("w2")
    assert eventually(lambda: not ready(nodes()["w2"]), NOTICED_SECONDS)
    ask_for_reboot("w1")
    assert eventually(lambda: "not Ready are: w2" in kured_says("w1"), NOTICED_SECONDS)
    assert boot("w1") == before
    assert out() == set()
    machines.power_on("w2")
    assert eventually(lambda: boot("w1") not in ("", before), NOTICED_SECONDS)
    assert eventually(lambda: not out() and all(map(ready, nodes().values())), NOTICED_SECONDS)


def test_turned_off_nothing_is_left_of_it(stack: Site) -> None:
    stack.up({"osUpdates": {"enabled": False}})
    for name in ha.NODES:
        assert on(name, "apt-config dump --no-empty APT::Periodic::Unattended-Upgrade") == ""
        assert on(name, "command -v unattended-upgrade || echo gone") == "gone"
    assert "kured" not in {n["metadata"]["name"] for n in kubectl("get", "namespaces")["items"]}
