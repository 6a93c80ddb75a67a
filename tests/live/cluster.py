"""What live tests run on, and how they look at a cluster that is up."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox import machines, mirror, site
from sandbox.engine import Engine
from sandbox.engine.real import RealEngine
from sandbox.engine.standin import StandinEngine

ENGINES: dict[str, Callable[..., Engine]] = {"stand-in": StandinEngine, "real engine": RealEngine}
UNTESTED = "previews, diffs and deletes were"
"""What needs the real engine."""
HCLOUD = "the real pulumi-hcloud was"

Run = Callable[[list[str]], subprocess.CompletedProcess[str]]

FOUND = r"""
dpkg-query --show --showformat '${Package} ${Version}\n'
find /etc /usr/local /opt /root /home /srv /var/lib -xdev \( -type f -o -type l \) \
  -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/systemd/*' \
  -not -path '/var/lib/ucf/*' -not -path '/var/lib/sudo/*' -not -path '/var/lib/private/*' \
  -not -name ld.so.cache -not -path /etc/mtab -not -name '*.pyc' | sort | xargs -d '\n' sha256sum 2>/dev/null
find /etc/kubernetes /etc/cni /opt /var/lib/kubelet /var/lib/etcd /var/lib/containerd /run/own-kubernetes \
  /usr/local/lib/own-kubernetes /var/log/own-kubernetes -maxdepth 1 2>/dev/null
sysctl -n net.ipv4.ip_forward
ip -brief link | awk '{print $1}' | sed 's/@.*//'
cat /etc/fstab
systemctl list-units --failed --plain --no-legend
iptables-save 2>/dev/null | grep -c . || true
"""
"""Prints all of a host that the program could have changed."""


def engine_kind(name: str, untested: str = UNTESTED) -> Callable[..., Engine]:
    """An engine's class, by a key of ``ENGINES``; skips the test where that engine is not there."""
    if name == "real engine" and not shutil.which("pulumi"):
        pytest.skip(f"no `pulumi` on the PATH: {untested} not tested")
    return ENGINES[name]


def all_gone() -> None:
    """The end of mirror and machines."""
    mirror.stop()
    machines.down()


@contextmanager
def sandbox(
    engine: str = "stand-in",
    end: Callable[[], object] = all_gone,
    untested: str = UNTESTED,
) -> Iterator[Callable[..., Engine]]:
    """A host without machines, where a test may make some; nothing is left at the end.

    Args:
        engine: a key of ``ENGINES``.
        end: takes away what the test made, whatever state it is in.
        untested: what is told where the engine is not there.

    Yields:
        The engine's class.
    """
    if os.geteuid():
        pytest.skip("only root can make machines")
    kind = engine_kind(engine, untested)
    if left := machines.leftovers():
        pytest.fail(f"a sandbox is there already, take it down first (make down): {left}")
    try:
        yield kind
    finally:
        end()
        shutil.rmtree(site.STATE, ignore_errors=True)
    assert machines.leftovers() == []


def on(machine: str, command: str, *, check: bool = True) -> str:
    """What a command on a machine printed."""
    return machines.ssh(machine, command, check=check, timeout=120).stdout.strip()


def keep_kubeconfig(text: str) -> None:
    """Put the kubeconfig where ``kubectl`` here finds it."""
    site.KUBECONFIG.touch(mode=0o600)
    site.KUBECONFIG.write_text(text)


def kubectl(*words: str) -> Any:
    """kubectl's answer, from this host."""
    command = [
        str(mirror.tool("kubectl")),
        f"--kubeconfig={site.KUBECONFIG}",
        *words,
        "--output=json",
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def eventually(check: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether it comes true in time; what fails on the way counts as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if check():
                return True
        except (OSError, subprocess.SubprocessError):
            pass
        time.sleep(0.5)
    return False


def ready(node: Any) -> bool:
    """Whether a Node is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


def pods_by_node(namespace: str) -> dict[str, Any]:
    """One pod of a namespace for each node that has any."""
    items = kubectl(f"--namespace={namespace}", "get", "pods")["items"]
    return {pod["spec"]["nodeName"]: pod for pod in items}


def in_pod(pod: Any, machine: str, command: str, *, check: bool = True) -> str:
    """Run a command of the pod's machine in the pod's network."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    pid = f"$(crictl inspect --output go-template --template '{{{{.info.pid}}}}' {container})"
    return on(machine, f"nsenter --target {pid} --net {command}", check=check)


def etcdctl(machine: str, words: str) -> str:
    """What etcdctl says in a control plane's etcd."""
    pki = "/etc/kubernetes/pki/etcd"
    certificates = f"--cacert={pki}/ca.crt --cert={pki}/server.crt --key={pki}/server.key"
    container = "$(crictl ps --name='^etcd$' --state=Running --quiet | head -n 1)"
    return on(machine, f"crictl exec {container} etcdctl {certificates} {words}")


def heads_of_secrets(machine: str) -> set[str]:
    """How the Secrets begin that lie in etcd: cipher and key, or what stands there in clear."""
    answer = json.loads(etcdctl(machine, "get --prefix /registry/secrets/ --write-out=json"))
    values = [base64.b64decode(item["value"]) for item in answer["kvs"]]
    return {b":".join(value.split(b":", 5)[:5]).decode(errors="replace") for value in values}


def shows_logs(node: str) -> bool:
    """Whether the API server gets a pod's logs from a node's kubelet, whose certificate it checks."""
    pods = pods_by_node("kube-flannel")
    words = ["--namespace=kube-flannel", "logs", pods[node]["metadata"]["name"], "--tail=1"]
    return (
        here([str(mirror.tool("kubectl")), f"--kubeconfig={site.KUBECONFIG}", *words]).returncode
        == 0
    )


def port_open(run: Run, address: str, port: int) -> bool:
    """Whether a connection is taken within 2 s."""
    return run(["timeout", "2", "bash", "-c", f"</dev/tcp/{address}/{port}"]).returncode == 0


def here(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command on this host."""
    return subprocess.run(words, capture_output=True, text=True, check=False)
