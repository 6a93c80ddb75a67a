"""What the stack's last run left, and which edits of the stack file can't follow it.

A cluster that lives does not take every edit: Kubernetes can't be downgraded, etcd loses its quorum when too
many control planes go at once, and some things are settled when it is made. The engine knows what is there
before the program runs, so that all of this is told in a preview, before anything is touched.

The state is asked for by a function of the engine itself (``pulumi:pulumi:readStackResourceOutputs``, which
stack references are made of): unlike the stack's outputs it is true after a run that failed half-way, too.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import yaml

from cluster.errors import Problem, SettingsError
from cluster.nodes.files import CONFIG, unpacked
from cluster.nodes.kubeadm import join_config
from cluster.settings import Role, Settings

READ_STATE = "pulumi:pulumi:readStackResourceOutputs"
READ_TRIES = 10
READ_PAUSE_SECONDS = 0.3
COMMAND = "command:remote:Command"
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane"
"""Comes and goes with scheduleOnControlPlanes, on live nodes too."""


@dataclass(frozen=True)
class Registered:
    """What a node is registered with as it joins, and keeps.

    Attributes:
        host_key: the SSH host key of its machine; another one is another machine.
        address: the address between the nodes.
        taints: its own ones, in kubeadm's form.
    """

    host_key: str
    address: str
    taints: Sequence[Mapping[str, str]]

    @classmethod
    def read(cls, host_key: str, join: str) -> Registered:
        """Of a kubeadm ``JoinConfiguration``."""
        registration = yaml.safe_load(join)["nodeRegistration"]
        arguments = {a["name"]: a["value"] for a in registration["kubeletExtraArgs"]}
        taints = [t for t in registration.get("taints", []) if t["key"] != CONTROL_PLANE_TAINT]
        return cls(host_key, arguments["node-ip"], taints)


@dataclass(frozen=True)
class Before:
    """The cluster as the last run left it; empty where there is none.

    Attributes:
        roles: the nodes that have joined, by name.
        versions: the Kubernetes versions that nodes were brought to, by node name.
        settled: what can't be changed any more, by the setting's key.
        registered: what existing hosts were registered with as nodes, by node name.
    """

    roles: Mapping[str, Role] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    registered: Mapping[str, Registered] = field(default_factory=dict)

    @property
    def control_planes(self) -> list[str]:
        """Names of the nodes that joined as control planes."""
        return [name for name, role in self.roles.items() if role == "control-plane"]


def before(prefix: str = "") -> Before:
    """Ask the engine what is there; ``prefix`` is that of the resources' names."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    return read(_state(name).get("outputs") or {}, prefix)


def _state(stack: str, tries: int = READ_TRIES) -> Mapping[str, Any]:
    """A backend of files may be writing it at that very moment: then it reads as empty ("EOF")."""
    while True:
        try:
            return pulumi.runtime.invoke(READ_STATE, {"stackName": stack}).value or {}
        except Exception:  # the SDK has no narrower one
            tries -= 1
            if not tries:
                raise
            time.sleep(READ_PAUSE_SECONDS)


def read(state: Mapping[str, Any], prefix: str = "") -> Before:
    """The cluster in a stack's state: by URN, each resource's ``type`` and ``outputs``."""
    commands = {
        name.removeprefix(prefix): resource["outputs"]
        for urn, resource in state.items()
        if (name := urn.rpartition("::")[2]).startswith(prefix) and resource.get("type") == COMMAND
    }
    lines = {name: _Line.parse(str(c.get("create", ""))) for name, c in commands.items()}
    roles: dict[str, Role] = {}
    versions: dict[str, str] = {}
    for name, line in lines.items():
        node = line.values.get("NODE", "")
        if name == f"{node}-join":
            roles[node] = "control-plane" if line.phase == "control-plane" else "worker"
        elif name == f"{node}-upgrade":
            versions[node] = line.values["KUBERNETES_VERSION"]
    # The last one to be brought up to date tells what a node that joined is brought to.
    first = next((n for n, role in roles.items() if role == "control-plane"), None)
    prepared = commands.get(f"{first}-prepare", {})
    settled = _settled(str(prepared.get("stdin", ""))) if first else {}
    registered = {n: known for n in roles if (known := _registered(commands, n))}
    return Before(roles, versions, settled, registered)


def _registered(commands: Mapping[str, Any], node: str) -> Registered | None:
    """What a node was registered with, where the state tells."""
    connection = commands[f"{node}-join"].get("connection") or {}
    prepared = unpacked(str(commands.get(f"{node}-prepare", {}).get("stdin", "")))
    join = prepared.get(f"{CONFIG}/join.yaml")
    return (
        Registered.read(connection["hostKey"], join) if join and "hostKey" in connection else None
    )


@dataclass(frozen=True)
class _Line:
    """A phase's line: ``... run.sh PHASE KEY=VALUE ...``."""

    phase: str
    values: Mapping[str, str]

    @classmethod
    def parse(cls, line: str) -> _Line:
        words = shlex.split(line)
        at = next((n for n, word in enumerate(words) if word.endswith("run.sh")), len(words))
        phase = words[at + 1] if at + 1 < len(words) else ""
        return cls(phase, dict(w.split("=", 1) for w in words[at + 2 :] if "=" in w))


def _settled(envelope: str) -> dict[str, str]:
    """What ``kubeadm init`` was told for the whole cluster, by the settings' keys."""
    text = unpacked(envelope).get(f"{CONFIG}/init.yaml", "")
    documents = [d for d in yaml.safe_load_all(text) if d]
    cluster = next((d for d in documents if d.get("kind") == "ClusterConfiguration"), None)
    if cluster is None:
        return {}
    return {
        "clusterName": cluster["clusterName"],
        "podCidr": cluster["networking"]["podSubnet"],
        "serviceCidr": cluster["networking"]["serviceSubnet"],
        "apiEndpoint": cluster["controlPlaneEndpoint"],
    }


def check(settings: Settings, was: Before) -> None:
    """Refuse what a live cluster can't follow, and tell what an upgrade will do.

    Args:
        settings: what is wanted.
        was: what is there.

    Raises:
        SettingsError: with every problem found.
    """
    if problems := [problem for rule in RULES for problem in rule(settings, was)]:
        raise SettingsError(problems)
    for line in upgrade_plan(settings, was):
        pulumi.log.info(line)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def versions_forward(settings: Settings, was: Before) -> Iterator[Problem]:
    """Never back, and one minor at a time (kubernetes.io/releases/version-skew-policy)."""
    if not was.versions:
        return
    wanted = settings.kubernetes_version
    newest = max(was.versions.values(), key=_numbers)
    oldest = min(was.versions.values(), key=_numbers)
    if _numbers(wanted) < _numbers(newest):
        yield Problem(
            "kubernetesVersion",
            wanted,
            f"{newest} or newer: nodes have that version, and Kubernetes can't be downgraded",
            f"set kubernetesVersion to {newest}",
        )
    elif _numbers(wanted)[1] > _numbers(oldest)[1] + 1:
        yield Problem(
            "kubernetesVersion",
            wanted,
            f"at most the minor after {oldest}, which nodes have: kubeadm takes one minor at a time",
            f"upgrade to a 1.{_numbers(oldest)[1] + 1} first, then go on from there",
        )


def quorum(settings: Settings, was: Before) -> Iterator[Problem]:
    """Of etcd's members a majority stays; it is they who agree to those that come and go."""
    there = was.control_planes
    leaving = [name for name in there if name not in settings.control_planes]
    if not there or len(there) - len(leaving) > len(there) // 2:
        return
    most = (len(there) - 1) // 2
    yield Problem(
        "nodes",
        sorted(settings.control_planes),
        f"most of the control planes that are there ({', '.join(there)}) to stay: without "
        f"{', '.join(leaving)} etcd would lose its quorum",
        f"take out (or replace) at most {most} of {len(there)} in one edit, run `pulumi up`, and go on with "
        "the next; evenControlPlanes allows an even number on the way"
        if most
        else "make three of it first, run `pulumi up`, and take the old one out then; a cluster of one "
        "control plane that is gone is restored from a backup",
    )


def roles_stay(settings: Settings, was: Before) -> Iterator[Problem]:
    """An existing host has to leave as one kind of node before it joins as the other."""
    for name, node in settings.nodes.items():
        role = was.roles.get(name)
        if role and role != node.role and node.machine == "existing":
            yield Problem(
                f"nodes.{name}.role",
                node.role,
                f"{role}, which the node is: a role is not changed in place",
                f"take {name} out of nodes, run `pulumi up`, then add it with its new role",
            )


def settled_stays(settings: Settings, was: Before) -> Iterator[Problem]:
    """What every node and certificate of a live cluster was made with."""
    now = {
        "clusterName": settings.cluster_name,
        "podCidr": str(settings.pod_cidr),
        "serviceCidr": str(settings.service_cidr),
        "apiEndpoint": settings.endpoint,
    }
    for key, value in now.items():
        settled = was.settled.get(key, value)
        if settled == value:
            continue
        hint = (
            " (it comes of apiEndpoint, apiVirtualAddress, hetzner.apiLoadBalancer or, without these, of the "
            "first control plane's address)"
            if key == "apiEndpoint"
            else ""
        )
        yield Problem(
            key,
            value,
            f"{settled}, which the cluster was made with{hint}: it can't be changed while the cluster lives",
            f"set it back; for another {key} make a new cluster",
        )


def registration_stays(settings: Settings, was: Before) -> Iterator[Problem]:
    """kubeadm gives a node its address and taints as it joins; nothing here changes them afterwards."""
    for name, node in settings.nodes.items():
        before = was.registered.get(name)
        if before is None or node.machine != "existing" or node.host_key != before.host_key:
            continue  # new, or another machine, which joins anew
        now = Registered.read(str(node.host_key), join_config(settings, name))
        if now.taints != before.taints:
            yield Problem(
                f"nodes.{name}.taints",
                node.taints,
                f"{[_taint_text(t) for t in before.taints]}, with which the node joined: they are not changed "
                "on a live node",
                f"set them back and use `kubectl taint`, or take {name} out of nodes, run `pulumi up`, and "
                "add it again",
            )
        if now.address != before.address:
            yield Problem(
                f"nodes.{name}.{'privateAddress' if node.private_address else 'address'}",
                now.address,
                f"{before.address}, with which the node joined: its certificates and its place in etcd have it",
                f"take {name} out of nodes, run `pulumi up`, and add it again with its new address",
            )


def _taint_text(taint: Mapping[str, str]) -> str:
    value = f"={taint['value']}" if "value" in taint else ""
    return f"{taint['key']}{value}:{taint['effect']}"


RULES = (versions_forward, quorum, roles_stay, settled_stays, registration_stays)


def upgrade_plan(settings: Settings, was: Before) -> Sequence[str]:
    """Which nodes go from what to what, in the order in which they do."""
    wanted = settings.kubernetes_version
    from_to = {
        name: f"{name} from {was.versions[name]} to {wanted}"
        for name in (*settings.control_planes, *settings.workers)
        if was.versions.get(name, wanted) != wanted
    }
    if not from_to:
        return []
    batch = settings.worker_batch
    return [
        "upgrade of Kubernetes, each node drained, upgraded, healthy and uncordoned before the next: "
        + ", ".join(from_to.values())
        + f" (control planes one by one, then {batch} worker{'s' if batch > 1 else ''} at a time)"
    ]
