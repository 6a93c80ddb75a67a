"""What the sandbox's servers are made of, as far as it can be told without making one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandbox import site
from sandbox.hetzner import balancer, world
from sandbox.hetzner.reality import Boot, Rule, World
from sandbox.machines import detached, disks, filters, login, metadata, routed
from sandbox.machines.filters import Opening
from sandbox.machines.routed import Interface, Wiring
from sandbox.machines.seed import SEED, Seed

EVERYWHERE = (IPv4Network("0.0.0.0/0"),)
HELLO = Seed(7, "demo-w1", "#cloud-config\nruncmd: []\n", ("ssh-ed25519 AAAA",))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with a server and a machine of the other kind."""
    monkeypatch.setattr(disks, "DIRECTORY", tmp_path / "machines")
    monkeypatch.setattr(detached, "STATE", tmp_path / "detached")
    monkeypatch.setattr(routed, "STATE", tmp_path / "networks")
    monkeypatch.setattr(site, "KNOWN_HOSTS", tmp_path / "ssh" / "known_hosts")
    _put(tmp_path / "machines/cp1/spec.json", _spec("cp1", "10.77.0.11"))
    _put(tmp_path / "machines/cp1/upper/etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA x\n")
    _put(tmp_path / "machines/hc-7/spec.json", _spec("hc-7", "10.77.0.107"))
    for name, text in HELLO.files().items():
        _put(tmp_path / "machines/hc-7" / name, text)
    return tmp_path


def _spec(name: str, address: str) -> str:
    return json.dumps({"name": name, "address": address, "memory_mib": 512, "cpus": 1})


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_seed_is_what_cloud_init_reads() -> None:
    files = HELLO.files()
    assert yaml.safe_load(files[f"{SEED}/meta-data"]) == {
        "instance-id": "7",
        "local-hostname": "demo-w1",
        "public-keys": ["ssh-ed25519 AAAA"],
    }
    assert files[f"{SEED}/user-data"] == HELLO.user_data
    settings = files["upper/etc/cloud/cloud.cfg.d/90-sandbox.cfg"]
    assert 'datasource_list: ["NoCloud"]\n' in settings, "ds-identify reads it from one line"
    assert yaml.safe_load(settings)["network"] == {"config": "disabled"}


def test_a_server_without_user_data_has_an_empty_cloud_config() -> None:
    files = Seed(7, "demo-w1", "", ()).files()
    assert files[f"{SEED}/user-data"].startswith("#cloud-config\n")
    assert yaml.safe_load(files[f"{SEED}/user-data"]) == {}


def test_only_a_disk_with_an_identity_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "DIRECTORY", tmp_path / "machines")
    monkeypatch.setattr(
        disks, "_write_modules", lambda _: None
    )  # it takes kmod, of a host with machines
    (tmp_path / "base/var/lib").mkdir(parents=True)
    for name, key, files in (("m1", "key\n", {}), ("hc-7", None, HELLO.files())):
        spec = disks.MachineSpec.parse(f"{name}=10.77.0.107:512:1")
        disks.create(spec, tmp_path / "base", key, files)
    identity = (
        "cloud/cloud-init.disabled hostname hosts ssh/ssh_host_ed25519_key sudoers.d/90-debian"
        " ssh/sshd_config.d/10-sandbox.conf ../root/.ssh/authorized_keys"
    )
    for path in identity.split():
        assert (disks.home("m1") / "upper/etc" / path).exists(), path
        assert not (disks.home("hc-7") / "upper/etc" / path).exists(), path
    assert not routed.is_routed("m1")
    assert routed.wiring("hc-7") == Wiring()
    assert (disks.home("hc-7") / SEED / "user-data").stat().st_mode & 0o777 == 0o600
    with pytest.raises(LookupError, match="hc-7 has no ed25519 host key"):
        disks.host_key("hc-7")


@pytest.mark.usefixtures("state")
def test_known_hosts_leaves_out_servers() -> None:
    login.write_known_hosts()
    assert site.KNOWN_HOSTS.read_text() == "10.77.0.11 ssh-ed25519 AAAA\n"


@given(st.dictionaries(st.integers(1, 99), st.ip_addresses(v=4), max_size=5))
def test_wiring_outlives_its_file(networks: dict[int, IPv4Address]) -> None:
    wires = Wiring()
    for number, address in networks.items():
        wires = wires.attached(number, address)
    assert Wiring.from_json(wires.to_json()) == wires
    slots = [interface.slot for interface in wires.networks.values()]
    assert sorted(slots) == list(range(len(networks)))


def test_a_freed_slot_is_used_again() -> None:
    one, two, three = map(IPv4Address, ("10.78.0.2", "10.79.0.2", "10.80.0.2"))
    wires = Wiring().attached(1, one).attached(2, two).detached(1).attached(3, three)
    assert wires.networks == {2: Interface(two, 1), 3: Interface(three, 0)}
    assert [interface.name for interface in wires.networks.values()] == ["enp8s0", "enp7s0"]


def test_a_firewall_is_a_table_that_replaces_itself() -> None:
    openings = [
        Opening("tcp", "22", (IPv4Network("10.77.0.1/32"), IPv4Network("10.77.0.0/24"))),
        Opening("udp", "8000-8010", EVERYWHERE),
        Opening("tcp", None, EVERYWHERE),
        Opening("icmp", None, EVERYWHERE),
        Opening("tcp", "443", ()),
    ]
    assert filters.render("hc-7", openings) == (
        "table inet hc-7\n"
        "delete table inet hc-7\n"
        "table inet hc-7 {\n"
        "  chain inbound {\n"
        "    type filter hook forward priority filter; policy accept;\n"
        '    oifname != "hc-7" accept\n'
        "    ct state established,related accept\n"
        "    ip saddr { 10.77.0.0/24 } tcp dport 22 accept\n"
        "    ip saddr { 0.0.0.0/0 } udp dport 8000-8010 accept\n"
        "    ip saddr { 0.0.0.0/0 } ip protocol tcp accept\n"
        "    ip saddr { 0.0.0.0/0 } ip protocol icmp accept\n"
        "    drop\n"
        "  }\n"
        "}\n"
    )


def test_an_empty_firewall_drops_all_but_answers() -> None:
    lines = filters.render("hc-7", []).splitlines()
    assert lines[-4:] == ["    ct state established,related accept", "    drop", "  }", "}"]


@pytest.mark.parametrize(
    ("rule", "opening"),
    [
        (Rule("tcp", "80-90", ("0.0.0.0/0", "::/0")), Opening("tcp", "80-90", EVERYWHERE)),
        (Rule("udp", "any", ("0.0.0.0/0",)), Opening("udp", None, EVERYWHERE)),
        (Rule("icmp", None, ("::/0",)), Opening("icmp", None, ())),
    ],
)
def test_rules_are_read_as_the_api_writes_them(rule: Rule, opening: Opening) -> None:
    assert world._opening(rule) == opening


def test_the_world_is_one() -> None:
    real: World = world.SandboxWorld()
    with pytest.raises(ValueError, match="server 7: the sandbox has no server without a public"):
        real.create(Boot(7, "demo-w1", None, "", (), 512, 1))


@pytest.mark.usefixtures("state")
def test_metadata_is_told_to_the_server_it_is_about() -> None:
    server, about = IPv4Address("10.77.0.107"), "/hetzner/v1/metadata"
    assert metadata.answer(server, f"{about}/instance-id") == "7"
    assert metadata.answer(server, f"{about}/hostname") == "demo-w1"
    assert metadata.answer(server, f"{about}/public-ipv4") == "10.77.0.107"
    assert metadata.answer(server, "/hetzner/v1/userdata") == HELLO.user_data
    for path in (f"{about}/private-key", f"{about}/../userdata", "/", about, "/etc/passwd"):
        assert metadata.answer(server, path) is None
    for other in ("10.77.0.11", "10.77.0.250", "10.77.0.1"):
        assert metadata.answer(IPv4Address(other), "/hetzner/v1/userdata") is None


@pytest.mark.usefixtures("state")
def test_networks_are_found_by_their_files(state: Path) -> None:
    assert routed.networks() == {}
    _put(state / "networks/7", "10.78.0.0/24")
    _put(state / "networks/8.draft", "10.79.0.0/24")
    assert routed.networks() == {7: IPv4Network("10.78.0.0/24")}


def test_a_balancers_target_is_healthy_if_it_is_for_all_services(state: Path) -> None:
    one, two = IPv4Address("10.78.0.2"), IPv4Address("10.78.0.3")
    assert balancer.healthy(5) == {}
    config = {"services": [[80, 30080], [443, 30443]], "targets": [str(one), str(two)]}
    _put(state / "detached/lb.5/config.json", json.dumps(config))
    assert balancer.healthy(5) == {one: False, two: False}
    health = {"30080": [str(one), str(two)], "30443": [str(two)]}
    _put(state / "detached/lb.5/health.json", json.dumps(health))
    assert balancer.healthy(5) == {one: False, two: True}


def test_one_failed_check_is_forgiven_and_two_are_not() -> None:
    target = balancer.Target("192.0.2.1", 80)
    seen = []
    for answered in (False, True, False, True, False, False, True):
        target.note(answered)
        seen.append(target.healthy)
    assert seen == [False, True, True, True, True, False, True]


def test_a_balancer_follows_its_configuration_and_its_targets(tmp_path: Path) -> None:
    asyncio.run(_balance(tmp_path))


async def _balance(directory: Path) -> None:
    listen, port = _free_port(), _free_port()
    targets = {name: await _target(name, port) for name in ("127.0.0.11", "127.0.0.12")}
    config = {"services": [[listen, port]], "targets": list(targets)}
    _put(directory / "config.json", json.dumps(config))
    process = asyncio.create_task(balancer.main(directory))
    try:
        await _until(lambda: _answers(listen, {"127.0.0.11", "127.0.0.12"}))
        targets["127.0.0.11"].close()
        await _until(lambda: _answers(listen, {"127.0.0.12"}))
        _put(directory / "config.json", json.dumps({**config, "targets": ["127.0.0.11"]}))
        await _until(lambda: _answers(listen, {"refused"}))
        _put(directory / "config.json", json.dumps({**config, "services": []}))
        await _until(lambda: _tells(directory, {}))
    finally:
        process.cancel()
        for target in targets.values():
            target.close()
        await asyncio.gather(process, return_exceptions=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def _target(address: str, port: int) -> asyncio.Server:
    """A server that answers a whole request, read to its end, with its own address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        if request:
            writer.write(address.encode())
        writer.close()

    return await asyncio.start_server(serve, address, port)


async def _ask(port: int) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    writer.write(b"who")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def _answers(port: int, wanted: set[str]) -> bool:
    return {await _ask(port) for _ in range(4)} == wanted


async def _tells(directory: Path, wanted: dict[str, list[str]]) -> bool:
    return bool(json.loads((directory / "health.json").read_text()) == wanted)


async def _until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.05)
