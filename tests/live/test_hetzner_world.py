"""Servers as the API stand-in makes them: cloud-init, networks, firewalls, balancers, for real."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sandbox import machines
from sandbox.hetzner.reality import Balancer, Boot, Rule
from sandbox.hetzner.world import SandboxWorld
from sandbox.machines import disks
from tests.live.cluster import sandbox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make machines")

RANGE = IPv4Network("10.78.0.0/24")
ONE, TWO = IPv4Address("10.77.0.101"), IPv4Address("10.77.0.102")
ONE_PRIVATE, TWO_PRIVATE = RANGE[2], RANGE[3]
BALANCER, BALANCER_PRIVATE = IPv4Address("10.77.0.150"), RANGE[9]
FLOATING = IPv4Address("10.77.0.170")
OUTSIDER = IPv4Address("10.77.0.250")
WORLD = SandboxWorld()

Reach = Callable[[IPv4Address, int], bool]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a login key and the host key for the first boot."""
    machines.ensure_host_packages()
    directory = tmp_path_factory.mktemp("keys")
    for name, kind in (("login", "ed25519"), ("boot", "ecdsa")):
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f"]
        subprocess.run([*command, directory / name], check=True)
    return directory


@pytest.fixture(scope="module", autouse=True)
def two_servers(keys: Path) -> Iterator[None]:
    """Servers 1 and 2 in private network 7; they come and go with these tests."""
    with sandbox():
        before = _host()
        WORLD.add_network(7, RANGE)
        login = (keys / "login.pub").read_text().strip()
        for number, address, private in ((1, ONE, ONE_PRIVATE), (2, TWO, TWO_PRIVATE)):
            boot = Boot(number, f"demo-w{number}", address, _user_data(keys), (login,), 512, 2)
            WORLD.create(boot)
            WORLD.attach(number, 7, private)
        for number in (1, 2):
            _wait_for_cloud_init(number)
        yield
        for number in (1, 2, 3):
            WORLD.delete(number)
        WORLD.unbalance(5)
        WORLD.remove_network(7)
    assert _host() == before


def _user_data(keys: Path) -> str:
    private = "".join(f"    {line}\n" for line in (keys / "boot").read_text().splitlines())
    return (
        "#cloud-config\nssh_keys:\n"
        f"  ecdsa_private: |\n{private}"
        f"  ecdsa_public: {(keys / 'boot.pub').read_text()}"
        "write_files:\n"
        "  - {path: /srv/page/index.html, content: written}\n"
        "runcmd:\n"
        "  - [sh, -c, 'hostname >/srv/page/index.html; echo ran >>/root/runs']\n"
    )


def _host() -> dict[str, str]:
    """All on this host that servers could have changed."""
    commands = ("ip route", "ip rule", "ip -brief link", "ip netns", "nft list ruleset")
    groups = sorted(path for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir())
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    shown = {command: _run(command.split()).stdout for command in commands}
    return {**shown, "groups": str(groups), "mounts": str(mounts), "forward": forward}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def _on(server: int, command: str) -> str:
    return machines.ssh(f"hc-{server}", command).stdout.strip()


def _fails(server: int, command: str) -> bool:
    return machines.ssh(f"hc-{server}", command, check=False).returncode != 0


def _wait_for_cloud_init(server: int) -> None:
    # "cloud-init status --wait" asks so often that it slows down what it waits for.
    finished = disks.home(f"hc-{server}") / f"var-lib/cloud/instances/{server}/boot-finished"
    assert _within(40, finished.exists), machines.console(f"hc-{server}").read_text()[-3000:]
    assert _on(server, "cloud-init status") == "status: done"


def _within(seconds: float, condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def _opens(address: IPv4Address, port: int) -> list[str]:
    return ["timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]


def _reaches(address: IPv4Address, port: int) -> bool:
    """Whether this host can connect; no answer within a second means no."""
    try:
        with socket.create_connection((str(address), port), timeout=1):
            return True
    except OSError:
        return False


@pytest.fixture
def outsider() -> Iterator[Reach]:
    """Whether somebody in the internet can connect to an address and port."""
    with machines.outsider(OUTSIDER) as run:
        yield lambda address, port: run(_opens(address, port)).returncode == 0


def _page(address: IPv4Address, port: int = 80) -> str:
    """What a page says to this host; empty if there is none within a second."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=1) as answer:
            return str(answer.read().decode().strip())
    except OSError:
        return ""


def _serve(server: int) -> None:
    start = "python3 -m http.server --directory /srv/page 8000"
    if _fails(server, "systemctl is-active web"):
        _on(server, f"systemd-run --collect --unit=web {start}")
    assert _within(5, lambda: not _fails(server, "curl -s http://127.0.0.1:8000/"))


def test_cloud_init_makes_the_server_what_its_user_data_says(keys: Path) -> None:
    wanted = {
        "hostname": "demo-w1",
        "getent hosts demo-w1 | awk '{print $1}'": "127.0.1.1",
        "cat /srv/page/index.html": "demo-w1",
        "cat /root/runs": "ran",
        "ls /etc/ssh/ssh_host_*_key": "/etc/ssh/ssh_host_ecdsa_key",
        "cat /etc/ssh/ssh_host_ecdsa_key.pub": (keys / "boot.pub").read_text().strip(),
        "cat /root/.ssh/authorized_keys": (keys / "login.pub").read_text().strip(),
        "ls -A /home/debian | grep ssh || true": "",
        "cat /etc/apt/sources.list": "",
        "systemctl is-system-running": "running",
        "cloud-init query instance-id": "1",
    }
    for command, answer in wanted.items():
        assert _on(1, command) == answer, command


def test_the_given_key_logs_in_and_the_given_host_key_is_shown(keys: Path, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{ONE} {(keys / 'boot.pub').read_text()}")
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", f"-oUserKnownHostsFile={known}"]
    command = ["ssh", "-F", "none", "-i", str(keys / "login"), *options, f"root@{ONE}", "id -un"]
    assert _run(command).stdout == "root\n"


def test_addresses_and_routes_are_as_on_hetzner() -> None:
    wanted = {
        "ip -brief -4 address show eth0 | awk '{print $3}'": f"{ONE}/32",
        "ip -brief -4 address show enp7s0 | awk '{print $3}'": f"{ONE_PRIVATE}/32",
        "cat /sys/class/net/enp7s0/mtu": "1450",
        "ip route show default | xargs": "default via 172.31.1.1 dev eth0",
        f"ip route get {TWO_PRIVATE} | grep -o 'via.*enp7s0'": f"via {RANGE[1]} dev enp7s0",
    }
    for command, answer in wanted.items():
        assert _on(1, command) == answer, command


def test_private_traffic_is_routed_and_never_switched() -> None:
    assert not _fails(1, f"ping -c 1 -W 1 {TWO_PRIVATE}")
    assert not _fails(1, f"ping -c 1 -W 1 {RANGE[1]}")
    for server in (1, 2):
        neighbours = _on(server, "ip -4 neigh show dev enp7s0 | awk '{print $1}'")
        assert neighbours == str(RANGE[1])
    # An address that a server takes for itself is nobody's, however it is announced.
    _on(2, f"ip address add {RANGE[20]}/32 dev enp7s0; ip address add 10.77.0.180/32 dev eth0")
    assert _fails(1, f"ping -c 1 -W 1 {RANGE[20]}")
    _on(1, f"ip route add {RANGE[20]} dev enp7s0; ip route add 10.77.0.180 dev eth0")
    assert _fails(1, f"ping -c 1 -W 1 {RANGE[20]}")
    assert _fails(1, "ping -c 1 -W 1 10.77.0.180")
    assert not _reaches(IPv4Address("10.77.0.180"), 22)
    _on(1, f"ip route del {RANGE[20]}; ip route del 10.77.0.180")
    _on(2, f"ip address del {RANGE[20]}/32 dev enp7s0; ip address del 10.77.0.180/32 dev eth0")


def test_vxlan_works_through_the_gateway() -> None:
    for server, here, there in ((1, ONE_PRIVATE, TWO_PRIVATE), (2, TWO_PRIVATE, ONE_PRIVATE)):
        _on(
            server,
            f"ip link add vx type vxlan id 1 dstport 8472 local {here} remote {there} dev enp7s0"
            f" && ip address add 10.244.0.{server}/24 dev vx && ip link set vx up",
        )
    assert _on(1, "cat /sys/class/net/vx/mtu") == "1400"
    assert _within(3, lambda: not _fails(1, "ping -c 1 -W 1 -M do -s 1372 10.244.0.2"))
    for server in (1, 2):
        _on(server, "ip link delete vx")


def test_private_addresses_stay_within(outsider: Reach) -> None:
    assert not _reaches(ONE_PRIVATE, 22)
    assert not outsider(ONE_PRIVATE, 22)
    assert _fails(1, f"ping -c 1 -W 1 -I {ONE_PRIVATE} 10.77.0.1")
    assert _fails(1, "ping -c 1 -W 1 192.0.2.1")
    assert f"blackhole {RANGE}" in _run(["ip", "route"]).stdout


def test_networks_of_one_range_do_not_meet() -> None:
    WORLD.add_network(8, RANGE)
    with pytest.raises(ValueError, match=r"network 8 is 10\.78\.0\.0/24"):
        WORLD.add_network(8, IPv4Network("10.79.0.0/24"))
    WORLD.detach(2, 7)
    WORLD.attach(2, 8, TWO_PRIVATE)
    assert _fails(1, f"ping -c 1 -W 1 {TWO_PRIVATE}")
    WORLD.remove_network(8)
    assert _on(2, "ip -brief link | grep -c enp || true") == "0"
    WORLD.attach(2, 7, TWO_PRIVATE)
    assert not _fails(1, f"ping -c 1 -W 1 {TWO_PRIVATE}")


def test_a_firewall_lets_in_only_what_its_rules_say(outsider: Reach) -> None:
    _serve(1)
    assert outsider(ONE, 22)
    assert outsider(ONE, 8000)
    WORLD.firewall(1, [Rule("tcp", "22", ("10.77.0.1/32", "::/0"))])
    assert not outsider(ONE, 22)
    assert not outsider(ONE, 8000)
    assert _reaches(ONE, 22)
    assert not _reaches(ONE, 8000)
    assert _fails(2, f"ping -c 1 -W 1 {ONE}")
    WORLD.firewall(
        1, [Rule("tcp", "7000-8000", ("0.0.0.0/0", "::/0")), Rule("icmp", None, ("0.0.0.0/0",))]
    )
    assert outsider(ONE, 8000)
    assert not outsider(ONE, 22)
    assert not _reaches(ONE, 22)
    assert not _fails(2, f"ping -c 1 -W 1 {ONE}")
    assert outsider(TWO, 22), "the other server has no firewall"
    WORLD.firewall(1, None)
    assert outsider(ONE, 22)


def test_a_firewall_filters_neither_answers_nor_private_traffic() -> None:
    WORLD.firewall(1, [])
    assert not _reaches(ONE, 22)
    assert not _fails(1, f"timeout 2 bash -c 'exec 3<>/dev/tcp/{TWO}/22'")
    assert not _fails(2, f"timeout 2 bash -c 'exec 3<>/dev/tcp/{ONE_PRIVATE}/22'")
    inside = ["ip", "netns", "exec", "sandbox-hc-1", "nft", "list", "ruleset"]
    assert _run(inside).stdout == "", "the server itself sees none of it"
    WORLD.firewall(1, None)


def test_a_server_alone_is_told_its_metadata(outsider: Reach) -> None:
    ask = "curl -sf http://169.254.169.254/hetzner/v1"
    wanted = {
        "metadata/instance-id": "2",
        "metadata/hostname": "demo-w2",
        "metadata/public-ipv4": str(TWO),
        "metadata/region": "eu-central",
        "userdata | head -1": "#cloud-config",
    }
    for path, answer in wanted.items():
        assert _on(2, f"{ask}/{path}") == answer
    assert _fails(2, f"{ask}/metadata/anything-else")
    assert not outsider(IPv4Address("169.254.169.254"), 80)


def test_a_balancer_forwards_to_the_targets_that_answer() -> None:
    for server in (1, 2):
        _serve(server)
    targets = (ONE_PRIVATE, TWO_PRIVATE)
    WORLD.balance(Balancer(5, BALANCER, BALANCER_PRIVATE, 7, ((80, 8000),), targets))
    assert _within(5, lambda: WORLD.healthy(5) == dict.fromkeys(targets, True))
    assert {_page(BALANCER) for _ in range(4)} == {"demo-w1", "demo-w2"}
    seen = "journalctl -u web -o cat | awk '/GET/ {print $1}' | sort -u | grep -v 127.0.0.1"
    assert _on(1, seen) == str(BALANCER_PRIVATE)
    assert not _fails(1, f"timeout 2 bash -c 'exec 3<>/dev/tcp/{BALANCER_PRIVATE}/80'")

    _on(1, "systemctl stop web")
    assert _within(5, lambda: WORLD.healthy(5) == {ONE_PRIVATE: False, TWO_PRIVATE: True})
    assert {_page(BALANCER) for _ in range(4)} == {"demo-w2"}

    WORLD.balance(Balancer(5, BALANCER, BALANCER_PRIVATE, 7, ((80, 8000),), targets[:1]))
    assert _within(5, lambda: not _reaches(BALANCER, 80))
    assert WORLD.healthy(5) == {ONE_PRIVATE: False}
    _serve(1)
    assert _within(5, lambda: _page(BALANCER) == "demo-w1")

    WORLD.balance(Balancer(5, None, BALANCER_PRIVATE, 7, ((80, 8000),), targets))
    assert _within(5, lambda: not _reaches(BALANCER, 80))
    through = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{BALANCER_PRIVATE}/80'"
    assert _within(5, lambda: not _fails(1, through))
    WORLD.unbalance(5)
    WORLD.unbalance(5)
    assert _fails(1, through)
    assert WORLD.healthy(5) == {}


def test_a_floating_address_goes_where_it_is_routed(outsider: Reach) -> None:
    for server in (1, 2):
        _serve(server)
        # In a cluster kube-proxy takes the address; here the server does.
        _on(server, f"ip address add {FLOATING}/32 dev lo")
    assert _page(FLOATING, 8000) == ""
    for server in (1, 2):
        WORLD.carry(FLOATING, server)
        # This host asks for the address once a second, as nobody had it before.
        assert _within(5, lambda: _page(FLOATING, 8000))
        assert _page(FLOATING, 8000) == f"demo-w{server}"
        assert outsider(FLOATING, 8000)
    machines.power_cut("hc-2")
    _serve(2)
    _on(2, f"ip address add {FLOATING}/32 dev lo")
    assert _page(FLOATING, 8000) == "demo-w2"
    machines.link_down("hc-2")
    assert not _reaches(FLOATING, 8000)
    machines.link_up("hc-2")
    assert _within(3, lambda: _reaches(FLOATING, 8000))
    WORLD.carry(FLOATING, None)
    assert _page(FLOATING, 8000) == ""
    _on(1, f"ip address delete {FLOATING}/32 dev lo")


def test_a_server_stays_off_until_it_is_switched_on_and_keeps_all() -> None:
    WORLD.firewall(2, [Rule("tcp", "22", ("10.77.0.1/32",))])
    _on(2, "echo mine >/root/mine; sync")
    WORLD.power_off(2)
    assert not WORLD.running(2)
    assert machines.ssh("hc-2", "true", check=False).returncode == 255
    assert not _reaches(TWO, 22)
    time.sleep(1)
    assert not WORLD.running(2)
    WORLD.power_on(2)
    assert WORLD.running(2)
    _check_all_is_kept()
    boot = _on(2, "cat /proc/sys/kernel/random/boot_id")
    WORLD.reboot(2)
    assert _within(20, lambda: _booted(2) not in ("", boot))
    _check_all_is_kept()
    WORLD.firewall(2, None)


def _booted(server: int) -> str:
    shown = machines.ssh(f"hc-{server}", "cat /proc/sys/kernel/random/boot_id", check=False)
    return shown.stdout.strip()


def _check_all_is_kept() -> None:
    assert _within(20, lambda: _reaches(TWO, 22))
    assert _on(2, "cat /root/mine") == "mine"
    assert _on(2, "cat /root/runs") == "ran", "cloud-init does first things once"
    assert not _fails(1, f"ping -c 1 -W 1 {TWO_PRIVATE}")
    assert _fails(1, f"ping -c 1 -W 1 {TWO}"), "the firewall is still there"


def test_a_deleted_server_leaves_nothing() -> None:
    address = IPv4Address("10.77.0.103")
    WORLD.create(Boot(3, "demo-w3", address, "", (), 512, 1))
    WORLD.attach(3, 7, RANGE[4])
    WORLD.firewall(3, [])
    WORLD.carry(FLOATING, 3)
    WORLD.delete(3)
    WORLD.delete(3)
    assert not WORLD.running(3)
    left = [*machines.leftovers(), *_run(["ip", "-n", "sandbox", "route"]).stdout.splitlines()]
    tables = _run(["ip", "netns", "exec", "sandbox", "nft", "list", "tables"]).stdout
    assert not [line for line in (*left, *tables.splitlines()) if "hc-3" in line]
    for action in (WORLD.power_on, lambda server: WORLD.attach(server, 7, RANGE[4])):
        with pytest.raises(LookupError, match="no machine 'hc-3'"):
            action(3)
