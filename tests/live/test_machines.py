"""Two machines of the sandbox: they boot, fail and go away as real ones would."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sandbox import machines, site
from sandbox.machines import MachineSpec
from tests.live.cluster import sandbox

ONE = MachineSpec("m1", IPv4Address("10.77.0.31"), 1024, 1)
TWO = MachineSpec("m2", IPv4Address("10.77.0.32"), 512, 0.5)


@pytest.fixture(scope="module", autouse=True)
def two_machines() -> Iterator[None]:
    """Both machines; they come and go with these tests, on a host that has no other machine."""
    with sandbox():
        before = _host()
        machines.up([ONE, TWO])
        yield
        machines.down()  # once more at the end: nothing there is no error
    assert _host() == before


def _host() -> dict[str, str]:
    """All on this host that machines could have changed."""
    shown = {
        command: subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
        for command in (
            "ip route",
            "ip -brief link",
            "ip netns",
            "sysctl -a --pattern panic|swap|inotify",
        )
    }
    groups = sorted(path for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir())
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return {**shown, "groups": str(groups), "mounts": str(mounts), "forward": forward}


def test_both_look_like_fresh_servers() -> None:
    for machine in (ONE, TWO):
        wanted = {
            "hostname": machine.name,
            "cat /proc/1/comm": "systemd",
            "systemctl is-system-running --wait": "running",
            "systemctl --failed --quiet": "",
            "awk '/MemTotal/ {print $2}' /proc/meminfo": str(machine.memory_mib * 1024),
            "tail -n +2 /proc/swaps": "",
            "grep -c swap /etc/fstab": "1",
            "modprobe -a overlay br_netfilter && echo loaded": "loaded",
            "sysctl --system >/dev/null && echo applied": "applied",
            "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true": "",
            "ip -brief -4 address show eth0 | awk '{print $3}'": f"{machine.address}/24",
            "sudo -u debian sudo -n id -un": "root",
        }
        for command, answer in wanted.items():
            assert machines.ssh(machine.name, command).stdout.strip() == answer, command


def test_both_differ() -> None:
    for file in (
        "/etc/machine-id",
        "/sys/class/net/eth0/address",
        "/proc/sys/kernel/random/boot_id",
    ):
        one, two = (machines.ssh(m.name, f"cat {file}").stdout for m in (ONE, TWO))
        assert one != two, file
    assert machines.host_key(ONE.name) != machines.host_key(TWO.name)


def test_nothing_that_a_cluster_needs_is_installed() -> None:
    installed = {line.split()[0] for line in machines.base_packages().read_text().splitlines()}
    assert {"systemd", "openssh-server", "sudo"} <= installed
    assert installed.isdisjoint({"containerd", "nftables", "iptables", "kubelet", "conntrack"})


def test_ssh_passes_input_and_tells_failures() -> None:
    assert machines.ssh(str(TWO.address), "cat", input="handed over").stdout == "handed over"
    assert machines.ssh("m1", "exit 3", check=False).returncode == 3
    with pytest.raises(RuntimeError, match="'echo reason; exit 3' ended with 3: reason"):
        machines.ssh("m1", "echo reason; exit 3")
    with pytest.raises(subprocess.TimeoutExpired):
        machines.ssh("m1", "sleep 5", timeout=1)


def test_a_swapped_host_key_is_refused() -> None:
    right = site.KNOWN_HOSTS.read_text()
    site.KNOWN_HOSTS.write_text(right.replace(machines.host_key("m1"), machines.host_key("m2")))
    try:
        assert machines.ssh("m1", "true", check=False).returncode == 255
    finally:
        site.KNOWN_HOSTS.write_text(right)


def test_machines_reach_each_other_both_ways() -> None:
    for here, there in ((ONE, TWO), (TWO, ONE)):
        reach = f"exec 3<>/dev/tcp/{there.address}/22; head -c 4 <&3"
        assert machines.ssh(here.name, f"timeout 5 bash -c '{reach}'").stdout == "SSH-"


def test_a_machine_has_no_way_out() -> None:
    # 192.0.2.1 is a documentation address; the packet must not get past the host's leg.
    assert machines.ssh("m1", "ping -c 1 -W 1 192.0.2.1", check=False).returncode == 1
    assert Path("/proc/sys/net/ipv4/conf/sandbox0/forwarding").read_text().strip() == "0"


def test_the_host_keeps_its_clock_and_knobs() -> None:
    panic = Path("/proc/sys/kernel/panic").read_text()
    assert machines.ssh("m1", "date -s 2020-01-01", check=False).returncode == 1
    machines.ssh("m1", "sysctl -w kernel.panic=77")
    assert machines.ssh("m1", "cat /proc/sys/kernel/panic").stdout == "77\n"
    assert Path("/proc/sys/kernel/panic").read_text() == panic


def test_memory_is_bounded() -> None:
    hog = "python3 -c 'bytearray(900 << 20)'"
    assert machines.ssh("m1", hog, check=False).returncode == 0
    assert machines.ssh("m2", hog, check=False).returncode != 0


def test_transient_units_run_on_when_the_connection_ends() -> None:
    machines.ssh("m1", "systemd-run --unit=late sh -c 'sleep 1; touch /run/late'")
    assert _within(5, lambda: not machines.ssh("m1", "test -e /run/late", check=False).returncode)
    assert "Time zone: Etc/UTC" in machines.ssh("m1", "timedatectl").stdout


@pytest.mark.parametrize("failure", [machines.reboot, machines.power_cut])
def test_disk_and_host_key_outlive_a_reboot_and_a_power_cut(failure: object) -> None:
    assert callable(failure)
    machines.ssh("m2", "date +%N | tee /root/kept /var/lib/kept; touch /run/lost; sync")
    boot = machines.ssh("m2", "cat /proc/sys/kernel/random/boot_id /root/kept /var/lib/kept").stdout
    failure("m2")
    again = machines.ssh(
        "m2", "cat /proc/sys/kernel/random/boot_id /root/kept /var/lib/kept"
    ).stdout
    assert again.split()[1:] == boot.split()[1:]
    assert again.split()[0] != boot.split()[0]
    assert machines.ssh("m2", "test -e /run/lost", check=False).returncode == 1
    assert machines.running() == ["m1", "m2"]


def test_a_link_goes_down_and_up_and_stays_so_over_a_boot() -> None:
    machines.link_down("m2")
    assert not _open(TWO)
    machines.power_cut("m2", wait=False)
    assert _within(10, lambda: machines.console("m2").read_text().rstrip().endswith("UTMP."))
    assert not _open(TWO)
    machines.link_up("m2")
    assert _within(10, lambda: _open(TWO))
    machines.ssh("m2", "true")


def test_a_machine_that_switches_itself_off_stays_off_until_up() -> None:
    machines.ssh("m2", "touch /root/still-here")
    machines.ssh("m2", "poweroff", check=False)
    assert _within(20, lambda: machines.running() == ["m1"])
    machines.up([ONE, TWO])
    machines.ssh("m2", "test -e /root/still-here")


def test_a_machine_whose_plug_is_pulled_stays_off_until_it_is_switched_on() -> None:
    machines.ssh("m2", "touch /root/plugged; sync")
    machines.power_off("m2")
    machines.power_off("m2")
    assert machines.running() == ["m1"]
    assert not _open(TWO)
    machines.power_on("m2")
    machines.power_on("m2")
    assert _within(
        20, lambda: not machines.ssh("m2", "test -e /root/plugged", check=False).returncode
    )
    assert machines.running() == ["m1", "m2"]


def test_cloud_init_is_there_and_keeps_out_of_the_way() -> None:
    assert machines.ssh("m1", "cloud-init status").stdout.strip() == "status: disabled"
    assert machines.ssh(
        "m1", "ls -A /var/lib/cloud /run/cloud-init/instance-data.json", check=False
    ).returncode


def test_a_removed_machine_comes_back_as_another() -> None:
    old = machines.host_key("m2")
    machines.ssh("m2", "touch /root/mine")
    machines.remove("m2")
    assert machines.running() == ["m1"]
    assert str(TWO.address) not in site.KNOWN_HOSTS.read_text()
    machines.up([TWO])
    assert machines.host_key("m2") != old
    assert machines.ssh("m2", "test -e /root/mine", check=False).returncode == 1


def test_an_outsider_reaches_the_machines_from_an_address_of_its_own() -> None:
    with machines.outsider(IPv4Address("10.77.0.250")) as run:
        seen = run(["ssh-keyscan", "-t", "ed25519", str(ONE.address)])
        assert machines.host_key("m1") in seen.stdout
        assert "10.77.0.250/24" in run(["ip", "-brief", "address"]).stdout
        assert run(["false"]).returncode == 1
    assert not any("10.77.0.250" in left for left in machines.leftovers())


def test_leftovers_are_named() -> None:
    left = "\n".join(machines.leftovers())
    for what in ("namespace sandbox-m1", "link sandbox0", "blackhole 10.77.0.0/24", "cgroup"):
        assert what in left


def test_a_machine_that_cannot_boot_says_so_with_its_console(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines.ssh("m2", "poweroff", check=False)
    assert _within(20, lambda: machines.running() == ["m1"])
    init = site.STATE / "machines/m2/upper/usr/local/sbin/sandbox-init"
    good = init.read_text()
    init.write_text("#!/bin/sh\necho no kernel found; exit 1\n")
    with pytest.raises(RuntimeError, match=r"(?s)m2 .* does not come up:.*no kernel found"):
        machines.up([TWO])
    init.write_text(good)
    machines.up([TWO])


def _open(machine: MachineSpec) -> bool:
    try:
        with socket.create_connection((str(machine.address), 22), timeout=1):
            return True
    except OSError:
        return False


def _within(seconds: float, condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False
