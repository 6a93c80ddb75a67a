"""What ``handwritten.sh`` is given: the dev stack's own settings, rendered as somebody would have typed them.

kubeadm's, containerd's and apt's files come from the program's renderers, so that both sides ask the hosts
for the same; Flannel, the pool and hello world are plain manifests of their own (``manifests/``). Left out,
to the script's advantage: the firewall of the API's port, node labels, checks, and all that makes a second
run harmless.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import config as pulumi_config

from cluster import settings as cluster_settings
from cluster import versions
from cluster.machines import Machine
from cluster.nodes import kubeadm
from cluster.nodes.files import host_files
from cluster.settings import Settings
from sandbox import dev, mirror, site
from sandbox.engine import stackfile
from sandbox.engine.progress import Log

HERE = Path(__file__).parent
LIMIT_SECONDS = 600
"""The script's own bound; it is killed a minute later."""

_PAUSE = "registry.k8s.io/pause:3.10.2"
"""kubeadm's own for the default version; somebody who types a configuration knows it."""

# The program's files on a host: where a person would have put them.
_PLACES = {
    "/etc/modules-load.d/own-kubernetes.conf": "etc/modules-load.d/kubernetes.conf",
    "/etc/sysctl.d/90-own-kubernetes.conf": "etc/sysctl.d/90-kubernetes.conf",
    "/etc/apt/sources.list.d/own-kubernetes.sources": "etc/apt/sources.list.d/kubernetes.sources",
    "/etc/own-kubernetes/containerd.toml": "etc/containerd/config.toml",
    "/etc/own-kubernetes/images": "root/images",
}


def run(inputs: Path, log: Log) -> None:
    """Run the script to its end; its lines go to ``log``.

    Args:
        inputs: the folder that :func:`render` made.
        log: takes each line.

    Raises:
        RuntimeError: it failed or took too long; its last lines are in ``log``.
    """
    tools = {str(mirror.tool(name).parent) for name in ("kubectl", "helm")}
    process = subprocess.Popen(
        ["bash", str(HERE / "handwritten.sh"), str(inputs)],
        env={**os.environ, "PATH": ":".join([*tools, os.environ["PATH"]]), **_tool_homes(inputs)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    killer = threading.Timer(LIMIT_SECONDS + 60, _kill, [process])
    killer.start()
    try:
        for line in process.stdout or ():
            log(line.rstrip())
        if process.wait():
            raise RuntimeError(f"handwritten.sh ended with {process.returncode}")
    finally:
        killer.cancel()
        if process.poll() is None:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _tool_homes(inputs: Path) -> dict[str, str]:
    """Nothing that the tools learnt in another round, and nothing left in the user's home."""
    homes = {f"HELM_{kind}_HOME": f"{inputs}/helm/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}
    return {**homes, "KUBECACHEDIR": f"{inputs}/cache"}


def render(folder: Path) -> Path:
    """Write all inputs to ``folder``, afresh; the machines have to be there (for their host keys)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    settings = _settings()
    machines = {name: _machine(settings, name) for name in settings.nodes}
    for name, machine in machines.items():
        files = host_files(settings, name, site.ROOT)
        _write_host(folder / "hosts" / name, files)
        _write(folder / "kubeadm" / f"{name}.yaml", _kubeadm_config(settings, machine))
    values = _values(settings)
    for manifest in (HERE / "manifests").glob("*.yaml"):
        text = manifest.read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        _write(folder / "manifests" / manifest.name, text)
    _write(folder / "settings", "".join(f"{k}='{v}'\n" for k, v in values.items()))
    _write(folder / "ssh.config", _ssh_config(settings, folder))
    return folder


def _settings() -> Settings:
    config = stackfile.read(site.ROOT, dev.STACK)
    pulumi_config.set_all_config(dict(config.values), list(config.secrets))
    return cluster_settings.load(pulumi.Config(config.project), site.ROOT).settings


def _machine(settings: Settings, name: str) -> Machine:
    node = settings.nodes[name]
    return Machine(
        name=name,
        role=node.role,
        address=str(node.address),
        internal_address=str(node.internal_address),
        user="root",
        port=22,
        host_key=str(node.host_key),
        private_key=pulumi.Output.from_input(""),
    )


def _values(settings: Settings) -> dict[str, str]:
    charts = settings.mirror.charts
    return {
        "KUBERNETES": settings.kubernetes_version,
        "CONTAINERD": versions.CONTAINERD,
        "FLANNEL_CNI_PLUGIN": versions.FLANNEL_CNI_PLUGIN,
        "FLANNEL": versions.FLANNEL,
        "CONTROL_PLANE": next(iter(settings.control_planes)),
        "WORKERS": " ".join(settings.workers),
        "METALLB_CHART": charts["metallb"].replace("{version}", versions.METALLB),
        "NGINX_CHART": charts["nginx-ingress"].replace("{version}", settings.ingress_version),
        "POOL": str(settings.load_balancer_pools[0]),
        "HELLO_HOST": settings.hello_host,
        "HELLO_IMAGE": settings.hello_image,
        "HELLO_REPLICAS": str(settings.hello_replicas),
        "LIMIT": str(LIMIT_SECONDS),
    }


def _write_host(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        if path in _PLACES or path.startswith("/etc/containerd/"):
            place = _PLACES.get(path, path.lstrip("/"))
            _write(root / place, text.replace("@PAUSE@", _PAUSE))
    _write(root / "etc/crictl.yaml", "runtime-endpoint: unix:///run/containerd/containerd.sock")
    # The folder above is private, what lies in /etc is not: tar takes the modes along.
    for made in [root, *root.rglob("*")]:
        made.chmod(0o755 if made.is_dir() else 0o644)


def _kubeadm_config(settings: Settings, machine: Machine) -> str:
    """The program's, but for the token, which the script makes ahead, and where files lie."""
    if machine.role == "control-plane":
        init, cluster, *rest = yaml.safe_load_all(kubeadm.init_config(settings, machine.name))
        init["bootstrapTokens"] = [{"token": "@TOKEN@", "ttl": "15m0s"}]
        cluster["kubernetesVersion"] = f"v{settings.kubernetes_version}"
        return yaml.safe_dump_all([init, cluster, *rest], sort_keys=False)
    join: dict[str, Any] = yaml.safe_load(kubeadm.join_config(settings, machine.name))
    join["discovery"]["file"]["kubeConfigPath"] = "/root/discovery.yaml"
    return yaml.safe_dump(join, sort_keys=False)


def _ssh_config(settings: Settings, folder: Path) -> str:
    hosts = "".join(f"Host {n}\n  HostName {node.address}\n" for n, node in settings.nodes.items())
    common = {
        "User": "root",
        "IdentityFile": site.SSH_KEY,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": site.KNOWN_HOSTS,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ControlMaster": "auto",
        "ControlPath": folder / "%C",
        "ControlPersist": "60",
    }
    return hosts + "Host *\n" + "".join(f"  {key} {value}\n" for key, value in common.items())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n")
