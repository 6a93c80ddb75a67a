"""The machines' arithmetic and bookkeeping; that they boot is shown in tests/live."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import machines, site
from sandbox.machines import __main__ as command_line
from sandbox.machines import cgroups, disks, fleet, login, network
from sandbox.machines.disks import MachineSpec

ADDRESSES = st.sampled_from([a for a in site.NETWORK.hosts() if a not in (site.HOST, network.EDGE)])


@given(
    name=st.from_regex(r"[a-z]([a-z0-9-]{0,13}[a-z0-9])?", fullmatch=True),
    address=ADDRESSES,
    memory=st.integers(128, 1 << 20),
    cpus=st.integers(1, 64),
)
def test_a_spec_reads_what_it_says(name: str, address: IPv4Address, memory: int, cpus: int) -> None:
    if name in network.RESERVED:
        return
    read = MachineSpec.parse(f"{name}={address}:{memory}:{cpus}")
    assert read == MachineSpec(name, address, memory, cpus)


def test_a_spec_has_defaults() -> None:
    assert MachineSpec.parse("w1=10.77.0.21") == MachineSpec(
        "w1", IPv4Address("10.77.0.21"), 3072, 2
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("w1", "not NAME=ADDRESS"),
        ("w1=10.77.0", "10.77.0"),
        ("w1=10.77.0.21:big", "big"),
        ("w1=10.77.0.21:1024:1:1", "too many"),
        ("w1=10.77.0.21:64", "128 MiB"),
        ("w1=10.77.0.21:1024:0", "0.1 cpus"),
        ("w1=10.77.0.21:1024:nan", "0.1 cpus"),
        ("w1=10.77.0.1", "10.77.0.0/24"),
        ("w1=10.77.0.254", "10.77.0.0/24"),
        ("w1=10.77.0.0", "10.77.0.0/24"),
        ("w1=10.77.0.255", "10.77.0.0/24"),
        ("w1=192.0.2.1", "10.77.0.0/24"),
        ("W1=10.77.0.21", "letters"),
        ("1w=10.77.0.21", "letters"),
        ("w/../1=10.77.0.21", "letters"),
        ("=10.77.0.21", "letters"),
        ("wörker=10.77.0.21", "letters"),
        ("w-=10.77.0.21", "'-'"),
        ("a-name-of-16-let=10.77.0.21", "15 characters"),
        ("br0=10.77.0.21", "taken"),
        ("host=10.77.0.21", "taken"),
    ],
)
def test_a_bad_spec_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MachineSpec.parse(text)


def test_a_mac_is_fixed_and_locally_administered() -> None:
    assert network.mac(IPv4Address("10.77.0.11")) == "02:4b:0a:4d:00:0b"


def test_no_two_addresses_share_a_mac() -> None:
    hosts = list(site.NETWORK.hosts())
    assert len({network.mac(address) for address in hosts}) == len(hosts)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with two machines that were never booted."""
    monkeypatch.setattr(disks, "DIRECTORY", tmp_path / "machines")
    monkeypatch.setattr(site, "KNOWN_HOSTS", tmp_path / "ssh" / "known_hosts")
    for name, address in (("cp1", "10.77.0.11"), ("w1", "10.77.0.21")):
        keys = tmp_path / "machines" / name / "upper/etc/ssh"
        keys.mkdir(parents=True)
        (keys / "ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 AAAA{name} root@{name}\n")
        spec = f'{{"name": "{name}", "address": "{address}", "memory_mib": 512, "cpus": 1}}'
        (tmp_path / "machines" / name / "spec.json").write_text(spec)
    return tmp_path


def test_known_hosts_holds_every_machine_and_nothing_else(state: Path) -> None:
    login.write_known_hosts()
    text = (state / "ssh" / "known_hosts").read_text()
    assert text == "10.77.0.11 ssh-ed25519 AAAAcp1\n10.77.0.21 ssh-ed25519 AAAAw1\n"
    assert [file.name for file in (state / "ssh").iterdir()] == ["known_hosts"]


@pytest.mark.usefixtures("state")
def test_ssh_checks_host_keys_and_never_asks() -> None:
    line = login.command_line("w1")
    assert line[-1] == "root@10.77.0.21"
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes"} <= set(line)
    assert login.command_line("10.77.0.21") == line


@pytest.mark.usefixtures("state")
def test_a_machine_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(LookupError, match=r"no machine 'w9'; there are: cp1, w1"):
        machines.ssh("w9", "true")


def test_a_disk_that_was_being_made_is_no_machine(state: Path) -> None:
    (state / "machines" / "w1").rename(state / "machines" / "w1.draft")
    assert disks.names() == ["cp1"]


def test_boots_are_counted(state: Path) -> None:
    assert disks.boots("w1") == 0
    disks.count_boot("w1")
    disks.count_boot("w1")
    assert disks.boots("w1") == 2
    assert not list((state / "machines" / "w1").glob("*.draft"))


@pytest.mark.usefixtures("state")
def test_a_machine_keeps_the_spec_it_was_made_with(tmp_path: Path) -> None:
    disks.create(MachineSpec("w1", IPv4Address("10.77.0.21"), 512, 1), tmp_path, "key")
    with pytest.raises(ValueError, match="remove it first"):
        disks.create(MachineSpec("w1", IPv4Address("10.77.0.21"), 1024, 1), tmp_path, "key")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("specs", "why"),
    [
        (["w2=10.77.0.21"], "w2: 10.77.0.21 belongs to another"),
        (["w2=10.77.0.22", "w3=10.77.0.22"], "w3: 10.77.0.22 belongs to another"),
        (["w2=10.77.0.22", "w2=10.77.0.23"], "one name"),
    ],
)
def test_two_machines_never_share_a_name_or_an_address(specs: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        machines.up([MachineSpec.parse(text) for text in specs])


def test_leftover_mounts_are_those_below_the_state_directory() -> None:
    mountinfo = [
        "21 1 254:0 / / rw - ext4 /dev/vda rw",
        "30 21 0:30 / /x/.sandbox/machines/w1/root rw - overlay sandbox rw",
        "31 21 0:31 / /x/.sandbox-other rw - tmpfs tmpfs rw",
    ]
    found = fleet._mounts_below(Path("/x/.sandbox"), mountinfo)
    assert found == ["mount /x/.sandbox/machines/w1/root"]


def test_cgroup_v1_has_a_hierarchy_per_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    for name in ("cpu,cpuacct", "memory", "systemd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    files = cgroups.enter_files("w1", 512, 1)
    groups = {"cpu,cpuacct", "memory", "systemd"}
    assert set(files) == {tmp_path / name / "sandbox/w1/cgroup.procs" for name in groups}
    assert cgroups.supervisor_file("w1") == tmp_path / "systemd/sandbox/w1.supervisor/cgroup.procs"
    assert cgroups.names() == {"w1", "w1.supervisor"}
    for name in cgroups.names():
        cgroups.remove(name)
    assert len(cgroups.leftovers()) == 3
    cgroups.remove_parent()
    assert cgroups.leftovers() == []


def test_cgroup_v2_delegates_a_subtree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    group = tmp_path / "sandbox" / "w1"
    group.mkdir(parents=True)
    for level in (tmp_path, group.parent):
        (level / "cgroup.controllers").write_text("cpu memory pids rdma")
    for file in ("memory.max", "cpu.max"):
        (group / file).touch()
    assert cgroups.enter_files("w1", 512, 1.5) == [group / "cgroup.procs"]
    assert (group / "memory.max").read_text() == "536870912"
    assert (group / "cpu.max").read_text() == "150000 100000"
    enabled = (tmp_path / "cgroup.subtree_control").read_text().split()
    assert sorted(enabled) == ["+cpu", "+memory", "+pids"]


def test_processes_are_found_in_all_groups_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    pods = tmp_path / "systemd/sandbox/w1/kubepods"
    pods.mkdir(parents=True)
    (pods / "cgroup.procs").write_text("41\n42\n")
    (pods.parent / "cgroup.procs").write_text("40\n")
    assert sorted(cgroups.processes("w1")) == [40, 41, 42]
    assert cgroups.processes("w2") == []


def test_a_group_that_goes_away_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    for name in ("kept.slice", "gone.mount"):
        (tmp_path / "systemd/sandbox/w1" / name).mkdir(parents=True)
    (tmp_path / "systemd/sandbox/w1/kept.slice/cgroup.procs").write_text("41\n")
    scandir = os.scandir

    def racing(place: Any) -> Any:
        if Path(place).name == "gone.mount":
            raise FileNotFoundError(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", racing)
    assert cgroups.processes("w1") == [41]


def test_machines_of_another_checkout_are_told_from_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    group = tmp_path / "systemd/sandbox/w1.supervisor"
    group.mkdir(parents=True)
    (tmp_path / "systemd/cgroup.procs").touch()
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    monkeypatch.chdir(site.ROOT)
    fleet.check_own()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"w1 runs for another checkout \(/.*\): .* with --all"):
        fleet.check_own()
    (group / "cgroup.procs").write_text("")
    fleet.check_own()


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["machines", "list"])
    with pytest.raises(SystemExit, match="only root"):
        command_line.main()


@pytest.mark.usefixtures("state")
def test_the_command_line_takes_any_number_of_machines() -> None:
    specs = [f"w{n}=10.77.0.{n}" for n in range(21, 41)]
    read = command_line.parser().parse_args(["up", *specs]).specs
    assert [spec.name for spec in read] == [f"w{n}" for n in range(21, 41)]
    assert command_line.parser().parse_args(["power-cut", "w1"]).name == "w1"


def test_a_bad_spec_on_the_command_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parser().parse_args(["up", "w1=10.0.0.1"])
    assert "no free host of 10.77.0.0/24" in capsys.readouterr().err
