"""A cluster whose hosts let SSH in from a bastion only, and whose API is reached by a tunnel through it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sandbox import dev, machines, mirror, site, stacks
from sandbox.engine import Engine
from sandbox.machines import MachineSpec, login
from tests.live.cluster import (
    ENGINES,
    eventually,
    keep_kubeconfig,
    kubectl,
    on,
    port_open,
    ready,
    sandbox,
)
from tests.live.cluster import here as locally

STACK = "bastion"
BASTION = "10.77.0.9"
NODES = {
    "cp1": {"role": "control-plane", "address": "10.77.0.11"},
    "w1": {"role": "worker", "address": "10.77.0.21"},
}
NEAR_END = "127.0.0.1:16443"
MEMBER = "test -e /var/lib/own-kubernetes/stage && echo member || true"


@dataclass
class Site:
    """The stack, as it is."""

    engine: Engine
    outputs: Mapping[str, Any]
    tunnel: subprocess.Popen[bytes]


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with sandbox(request.param) as kind:
        mirror.build()
        addresses = {"bastion": BASTION, **{name: node["address"] for name, node in NODES.items()}}
        machines.up([MachineSpec(name, IPv4Address(at), 4096) for name, at in addresses.items()])
        mirror.serve()
        close(*addresses.values())
        with tunnel() as process:
            engine = kind(stack=STACK, stack_file=stack_file())
            yield Site(engine, engine.up(), process)


def stack_file(changes: Mapping[str, Any] | None = None) -> Path:
    own = {
        "nodes": NODES,
        "scheduleOnControlPlanes": True,
        "proxy": {"address": BASTION},
        "apiTunnel": NEAR_END,
        "adminCidrs": [f"{BASTION}/32"],
    }
    return stacks.write(STACK, stacks.of_site(hosts=True) | own, changes)


def close(*addresses: str) -> None:
    """Have the nodes let nobody in but the bastion and each other."""
    users = " ".join(f"root@{address}" for address in addresses)
    for name in NODES:
        on(name, f"echo 'AllowUsers {users}' >/etc/ssh/sshd_config.d/00-bastion.conf")
        on(name, "systemctl reload ssh")


@contextmanager
def tunnel() -> Iterator[subprocess.Popen[bytes]]:
    """What docs/bastion.md has its reader open."""
    *words, target = login.command_line("bastion")
    forward = f"{NEAR_END}:{NODES['cp1']['address']}:6443"
    with subprocess.Popen([*words, "-N", "-L", forward, target]) as process:
        try:
            yield process
        finally:
            process.terminate()


def by_bastion(node: str, command: str) -> str:
    """What a command on a node printed, reached as the program reaches it."""
    key = site.SSH_KEY.read_text()
    machines.ssh("bastion", "umask 077; cat >/run/key", input=key)
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR"
    return on("bastion", f"ssh -i /run/key {options} root@{NODES[node]['address']} '{command}'")


def names() -> list[str]:
    """The cluster's nodes that are ready."""
    return sorted(n["metadata"]["name"] for n in kubectl("get", "nodes")["items"] if ready(n))


def test_the_cluster_comes_up_by_the_bastion_alone(stack: Site) -> None:
    keep_kubeconfig(stack.outputs["kubeconfig"])
    assert f"server: https://{NEAR_END}" in stack.outputs["kubeconfig"]
    assert not port_open(locally, NODES["cp1"]["address"], 6443)
    assert machines.ssh("cp1", "true", check=False).returncode == 255
    assert eventually(lambda: names() == ["cp1", "w1"])
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com")
    assert stack.outputs["logins"]["w1"] == f"root@10.77.0.21 -J root@{BASTION}:22"


def test_a_node_leaves_by_the_bastion(stack: Site) -> None:
    stack_file({"nodes": {"cp1": NODES["cp1"]}})
    stack.engine.up()
    assert eventually(lambda: names() == ["cp1"])
    assert by_bastion("w1", MEMBER) == ""


def test_a_destroy_needs_no_tunnel(stack: Site) -> None:
    assert by_bastion("cp1", MEMBER) == "member"
    stack.tunnel.terminate()
    stack.engine.down()
    assert by_bastion("cp1", MEMBER) == ""
