"""A man in the middle: a second machine takes over an address, lets everybody in, and gets nothing."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import parting, recovery
from sandbox import machines, mirror, site, stacks
from sandbox.engine import Engine, EngineError
from sandbox.machines import MachineSpec
from sandbox.machines.network import LEG
from tests.live.cluster import ENGINES, engine_kind, on, sandbox
from tests.unit.kubernetes_apis import DAY, Authority

NODE = MachineSpec("node", IPv4Address("10.77.0.31"), 512, 1)
BASTION = MachineSpec("bastion", IPv4Address("10.77.0.32"), 512, 1)
INTRUDER = MachineSpec("intruder", IPv4Address("10.77.0.33"), 512, 1)
STACK = "ssh"

API = """\
import http.server, ssl
server = http.server.HTTPServer(("", 6443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def three_machines() -> Iterator[None]:
    with sandbox():
        mirror.build()
        machines.up([NODE, BASTION, INTRUDER])
        mirror.serve()  # charts' hosts are waited for, also by a run that dials in vain
        yield


@contextmanager
def taken_over(victim: MachineSpec) -> Iterator[None]:
    """The intruder answers at the address of a machine, which is off the network."""
    machines.link_down(victim.name)
    on(INTRUDER.name, f"ip address add {victim.address}/24 dev eth0")
    forget(victim)
    try:
        yield
    finally:
        on(INTRUDER.name, f"ip address delete {victim.address}/24 dev eth0")
        machines.link_up(victim.name)
        forget(victim)


def forget(machine: MachineSpec) -> None:
    """Ask anew, on this host and on the bastion, who has an address."""
    subprocess.run(["ip", "neighbour", "flush", "dev", LEG], check=True)
    if machine is not BASTION:
        on(BASTION.name, "ip neighbour flush dev eth0")


def way_in(machine: MachineSpec, proxy: MachineSpec | None = None, **other: Any) -> dict[str, Any]:
    """As the program tells it to its own dials."""
    return {
        "name": machine.name,
        "address": str(machine.address),
        "port": 22,
        "user": "root",
        "host_key": machines.host_key(machine.name),
        "private_key": site.SSH_KEY.read_text(),
        "proxy": way_in(proxy) if proxy else None,
        "line": "touch /root/was-run",
        **other,
    }


def login(way: dict[str, Any]) -> None:
    """What every dial of the program's own begins with."""

    async def dial() -> None:
        async with await parting.connect(way):
            pass

    asyncio.run(dial())


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Callable[[MachineSpec | None], Engine]:
    """An engine, by the bastion that the stack has, if any."""
    kind = engine_kind(request.param, "pulumi-command's dials were")

    def of(bastion: MachineSpec | None) -> Engine:
        nodes = {NODE.name: {"role": "control-plane", "address": str(NODE.address)}}
        own = {"nodes": nodes, "scheduleOnControlPlanes": True, "sshTimeoutSeconds": 5}
        if bastion:
            own["proxy"] = {"address": str(bastion.address)}
        file = stacks.write(STACK, stacks.of_site(hosts=True) | own)
        return kind(stack=STACK, stack_file=file)

    return of


def refused(engine: Engine) -> str:
    """What is said of a run that dials."""
    told: list[str] = []
    with pytest.raises(EngineError) as caught:
        engine.up(told.append)
    return "\n".join([*told, str(caught.value)])


def test_whoever_takes_over_a_nodes_address_is_refused(
    engine: Callable[[MachineSpec | None], Engine], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = on(INTRUDER.name, "ls -A /root")
    (tmp_path / "snapshot").write_bytes(b"encrypted")
    monkeypatch.setattr(recovery, "PATIENCE_SECONDS", 0)
    with taken_over(NODE):
        login(way_in(NODE, host_key=machines.host_key(INTRUDER.name)))  # who asks for no key is had
        text = refused(engine(None))
        for dial in (parting.run, lambda way: recovery.send(way, tmp_path / "snapshot")):
            with pytest.raises(parting.NotReachedError, match=r"[Hh]ost key"):
                asyncio.run(dial(way_in(NODE)))
    assert f"node: another machine answers at {NODE.address} port 22" in text
    assert "if it was rebuilt, its new key belongs in nodes.node.hostKey" in text
    assert on(INTRUDER.name, "ls -A /root") == before


def test_behind_a_bastion_as_well_and_the_bastion_too(
    engine: Callable[[MachineSpec | None], Engine],
) -> None:
    before = on(INTRUDER.name, "ls -A /root")
    login(way_in(NODE, proxy=BASTION))
    with taken_over(NODE):
        text = refused(engine(BASTION))
        with pytest.raises(parting.NotReachedError, match=r"[Hh]ost key"):
            login(way_in(NODE, proxy=BASTION))
    assert f"node: no SSH login as root at {NODE.address} port 22 by the bastion" in text
    assert f"`ssh -J root@{BASTION.address}:22 -p 22 root@{NODE.address}`" in text
    with taken_over(BASTION):
        text = refused(engine(BASTION))
        with pytest.raises(parting.NotReachedError, match=r"the bastion \(proxy, .*[Hh]ost key"):
            login(way_in(NODE, proxy=BASTION))
    assert f"node: another machine answers at {BASTION.address} port 22" in text
    assert "its new key belongs in proxy.hostKey" in text
    assert on(INTRUDER.name, "ls -A /root") == before


def kubectl(authority: Authority, folder: Path) -> subprocess.CompletedProcess[str]:
    """Asks the API at the node's address, with a cluster's CA as in its kubeconfig."""
    (folder / "ca.pem").write_text(authority.pem)
    cluster = {
        "server": f"https://{NODE.address}:6443",
        "certificate-authority": str(folder / "ca.pem"),
    }
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "never-sent"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    words = [str(mirror.tool("kubectl")), f"--kubeconfig={folder}/kubeconfig", "get", "--raw=/"]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_an_api_server_with_another_ca_at_that_address_is_refused(tmp_path: Path) -> None:
    ours, other = Authority(), Authority()
    with taken_over(NODE):
        pair = "".join(other.pair(datetime.now(UTC) + DAY, str(NODE.address)))
        machines.ssh(INTRUDER.name, "umask 077; cat >/run/api.pem", input=pair)
        machines.ssh(INTRUDER.name, "cat >/run/api.py", input=API)
        on(INTRUDER.name, "systemd-run --unit=api --working-directory=/srv python3 /run/api.py")
        on(INTRUDER.name, "until ss -ltn | grep -q :6443; do sleep 0.1; done")
        assert kubectl(other, tmp_path).returncode == 0, "it answers those who trust its CA"
        done = kubectl(ours, tmp_path)
    assert done.returncode != 0
    assert "certificate signed by unknown authority" in done.stderr
