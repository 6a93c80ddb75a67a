"""Bad settings, each refused in a preview before any resource, and unusual ones that pass: tried and noted.

    python -m tests.trust.settings      # writes docs/settings-checked.md

Previews are the Pulumi CLI's where it is on the PATH, else of the whole program under Pulumi's mocks.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import yaml
from pulumi import automation

from cluster.changes import COMMAND
from cluster.errors import SettingsError
from sandbox.engine import EngineError
from sandbox.engine.real import RealEngine
from tests.unit.graph import Graph, run_program, state
from tests.unit.stacks import (
    CLOUD,
    NAMESPACE,
    PUBLIC_KEY,
    REMOVED,
    ROOT,
    SITE,
    changed,
    host_key,
)

Changes = Mapping[str, Any]
PAGE = ROOT / "docs" / "settings-checked.md"
MOCKS = "Pulumi's mocks"
POOLS = "loadBalancerPools"


class Refused(NamedTuple):
    """A stack file that must be refused.

    Attributes:
        rule: its number in ``RULES``.
        what: what is wrong.
        changes: what makes it so, in a small site that is well.
        key: where the problem is named.
        base: that site.
        live: the changes to it that a cluster which lives was made with, if there is one.
    """

    rule: int
    what: str
    changes: Changes
    key: str
    base: Changes = SITE
    live: Changes | None = None


class Seen(NamedTuple):
    """What a preview showed: the error's text or nothing, how long it took, and whose preview it was."""

    text: str
    seconds: float
    engine: str


def host(number: int, role: str = "worker", **more: Any) -> dict[str, Any]:
    """A node of the small site, with a host key of its own."""
    address = f"10.0.0.{number}"
    return {"role": role, "address": address, "hostKey": host_key(f"h{number}"), **more}


RULES = (
    "networks overlap",
    "pod network too small for the nodes",
    "pool of addresses",
    "name bad or too long",
    "two nodes with one name or one address",
    "even number of control planes",
    "version skew or downgrade",
    "unknown Kubernetes version",
    "too many servers for a Hetzner network",
    "network with host bits",
    "no login key or host key",
    "open to the world without an opt-in",
)

SERVERS = {f"nodePools.{pool}": {"role": "worker", "count": 50} for pool in ("a", "b")}

REFUSED = (
    Refused(1, "pods within Services", {"podCidr": "10.100.0.0/16"}, "podCidr"),
    Refused(1, "Services within pods", {"podCidr": "10.96.0.0/12", "serviceCidr": "10.97.0.0/16"},
            "podCidr"),
    Refused(1, "nodes within pods", {"podCidr": "10.0.0.0/16"}, "podCidr"),
    Refused(1, "Services within nodes", {"nodeCidr": "10.0.0.0/9"}, "serviceCidr"),
    Refused(1, "a node's public address within pods",
            {"nodes.w1": host(21) | {"address": "10.244.9.9", "privateAddress": "10.0.0.21"}},
            "nodes.w1.address"),
    Refused(1, "vSwitch within servers",
            {"hetzner": {"vswitchId": 7, "vswitchCidr": "10.78.0.128/25"}}, "hetzner.vswitchCidr", CLOUD),
    Refused(1, "a pool within another", {POOLS: ["10.0.0.200-10.0.0.219", "10.0.0.210/32"]},
            f"{POOLS}.1"),
    Refused(2, "two /24 for three nodes", {"podCidr": "10.244.0.0/23"}, "podCidr"),
    Refused(3, "outside the nodes' network", {POOLS: ["10.0.1.10-10.0.1.20"]}, f"{POOLS}.0"),
    Refused(3, "with a node's address", {POOLS: ["10.0.0.20-10.0.0.21"]}, f"{POOLS}.0"),
    Refused(3, "one address for two Services", {POOLS: ["10.0.0.200"]}, POOLS),
    Refused(4, "a node's, with a character that names don't have", {"nodes.web_1": host(23)},
            "nodes.web_1"),
    Refused(4, "the cluster's, of 64 characters", {"clusterName": "c" * 64}, "clusterName"),
    Refused(4, "a server's, too long together with the cluster's",
            {"clusterName": "c" * 40, "nodes.worker-of-the-second-row": {"role": "worker"}},
            "nodes.worker-of-the-second-row", CLOUD),
    Refused(5, "name, by a pool", {"nodes.worker-1": {"role": "worker"}}, "nodePools.worker", CLOUD),
    Refused(5, "address", {"nodes.w2.address": "10.0.0.21"}, "nodes.w2.address"),
    Refused(5, "private address", {"nodes.w2.privateAddress": "10.0.0.21"}, "nodes.w2.privateAddress"),
    Refused(6, "two", {"nodes.cp2": host(12, "control-plane"), "apiVirtualAddress": "10.0.0.5"}, "nodes"),
    Refused(7, "a downgrade", {"kubernetesVersion": "1.35.4"}, "kubernetesVersion", live={}),
    Refused(7, "two minors at once", {"kubernetesVersion": "1.36.4"}, "kubernetesVersion",
            live={"kubernetesVersion": "1.34.4"}),
    Refused(8, "a minor that is not known", {"kubernetesVersion": "1.99.0"}, "kubernetesVersion"),
    Refused(8, "a patch that there can't be", {"kubernetesVersion": "1.36.44"}, "kubernetesVersion"),
    Refused(8, "no version", {"kubernetesVersion": "latest"}, "kubernetesVersion"),
    Refused(9, "101 of them", SERVERS, "nodes", {**CLOUD, "nodePools": {}}),
    Refused(10, "pods", {"podCidr": "10.244.0.1/16"}, "podCidr"),
    Refused(10, "an administrator's", {"adminCidrs": ["203.0.113.7/24"]}, "adminCidrs.0"),
    Refused(11, "no login key", {"sshPrivateKey": REMOVED}, "sshPrivateKey"),
    Refused(11, "its public half", {"sshPrivateKey": PUBLIC_KEY}, "sshPrivateKey"),
    Refused(11, "no host key", {"nodes.w1.hostKey": REMOVED}, "nodes.w1.hostKey"),
    Refused(11, "half a host key", {"nodes.w1.hostKey": "ssh-ed25519 AAAA"}, "nodes.w1.hostKey"),
    Refused(12, "the API server", {"adminCidrs": ["0.0.0.0/0"]}, "adminCidrs"),
    Refused(12, "SSH and the API server of servers", {"adminCidrs": ["::/0"]}, "adminCidrs", CLOUD),
    Refused(12, "in two halves", {"adminCidrs": ["0.0.0.0/1", "128.0.0.0/1"]}, "adminCidrs"),
)  # fmt: skip

UNUSUAL: Mapping[str, Changes] = {
    "one node for everything": {
        "nodes.w1": REMOVED, "nodes.w2": REMOVED, "scheduleOnControlPlanes": True,
    },
    "the smallest networks that hold three nodes": {
        "nodeCidr": "10.0.0.8/29", "podCidr": "10.1.0.0/22", "serviceCidr": "10.2.0.0/28",
        "nodes.cp1.address": "10.0.0.9", "nodes.w1.address": "10.0.0.10",
        "nodes.w2.address": "10.0.0.11", POOLS: ["10.0.0.12-10.0.0.13"],
    },
    "networks side by side": {"podCidr": "10.0.4.0/22", "serviceCidr": "10.0.1.0/24"},
    "hosts by name, public IPv4 and IPv6, private addresses between them": {
        "nodes.cp1": host(11, "control-plane", privateAddress="10.0.0.11") | {"address": "198.51.100.1"},
        "nodes.w1": host(21, privateAddress="10.0.0.21") | {"address": "w1.example.com"},
        "nodes.w2": host(22, privateAddress="10.0.0.22") | {"address": "2001:db8::22"},
    },
    "one public address, a port for each node": {
        f"nodes.{name}": host(number, role, privateAddress=f"10.0.0.{number}", port=2200 + number)
        | {"address": "198.51.100.1"}
        for number, (name, role) in enumerate(
            (("cp1", "control-plane"), ("w1", "worker"), ("w2", "worker")), 1
        )
    },
    "names of 1 and of 63 characters, of digits alone": {
        "clusterName": "7", "nodes.0": host(30), f"nodes.{'n' * 63}": host(31),
    },
    "five control planes that carry the workload, behind a shared address": {
        "nodes.w1": REMOVED, "nodes.w2": REMOVED, "scheduleOnControlPlanes": True,
        "apiVirtualAddress": "10.0.0.254",
        **{f"nodes.cp{n}": host(10 + n, "control-plane") for n in (2, 3, 4, 5)},
    },
    "an endpoint by name at another port, the oldest minor": {
        "apiEndpoint": "api.example.com:443", "kubernetesVersion": "v1.31.0",
    },
    "pools of every form": {
        POOLS: ["10.0.0.200", "10.0.0.201/32", "10.0.0.204/30", "10.0.0.240-10.0.0.254"],
    },
    "the world let in on purpose": {"adminCidrs": ["0.0.0.0/0", "::/0"], "openToWorld": True},
}  # fmt: skip


def by_mocks(changes: Changes, base: Changes = SITE, live: Changes | None = None) -> Seen:
    """A preview of the whole program, without an engine."""
    was = None if live is None else lived(base, live)
    graph, text, began = Graph(), "", time.monotonic()
    try:
        run_program(changes, base=base, state=was, preview=True, graph=graph)
    except SettingsError as error:
        text = str(error)
        assert set(graph.custom()) == set(), "refused, but resources were declared before"
    return Seen(text, time.monotonic() - began, MOCKS)


class Cli:
    """Previews by the Pulumi CLI, on a stack of their own.

    Args:
        folder: where the stack is kept.
        was: the state of a cluster that lives, which the stack starts with.
    """

    def __init__(self, folder: Path, was: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self._file = folder / "Pulumi.trust.yaml"
        self._file.touch()
        self._engine = RealEngine(home=folder / "engine", stack="trust", stack_file=self._file)
        if was is not None:
            deployment = automation.Deployment(version=3, deployment=_deployment(was))
            cast("Any", self._engine)._run(lambda stack: stack.import_stack(deployment), None)

    def preview(self, changes: Changes, base: Changes = SITE) -> Seen:
        """One preview."""
        values = changed(base, changes)
        full = {key if ":" in key else f"{NAMESPACE}:{key}": v for key, v in values.items()}
        self._file.write_text(yaml.safe_dump({"config": full}))
        text, began = "", time.monotonic()
        try:
            self._engine.preview(lambda line: None)
        except EngineError as error:
            text = str(error)
        return Seen(text, time.monotonic() - began, self._engine.name)


def _deployment(was: Mapping[str, Any]) -> dict[str, Any]:
    """What the program reads of a state, its commands, as the CLI takes it in."""
    prefix = f"urn:pulumi:trust::{NAMESPACE}::"
    stack = f"{prefix}pulumi:pulumi:Stack::{NAMESPACE}-trust"
    provider = f"{prefix}pulumi:providers:command::default"
    resources: list[dict[str, Any]] = [
        {"urn": stack, "custom": False, "type": "pulumi:pulumi:Stack"},
        {"urn": provider, "custom": True, "id": "1", "type": "pulumi:providers:command"},
    ]
    for urn, resource in was.items():
        if resource["type"] == COMMAND:
            name = urn.rpartition("::")[2]
            kept = {"custom": True, "id": name, "parent": stack, "provider": f"{provider}::1"}
            resources.append({**resource, **kept, "urn": f"{prefix}{COMMAND}::{name}"})
    return {"manifest": {"time": "2026-01-01T00:00:00Z"}, "resources": resources}


def lived(base: Changes, live: Changes) -> dict[str, Any]:
    """The state that a run of the program left."""
    return state(run_program(live, base=base, preview=True))


def complaint(case: Refused, seen: Seen) -> str:
    """What is wrong with how a bad case was met, or nothing."""
    said = [line.strip() for line in seen.text.splitlines()]
    wanted = (f"- {case.key} = ", "expected: ", "remedy: ")
    missing = [part for part in wanted if not any(line.startswith(part) for line in said)]
    return f"{case.what}: not said: {', '.join(missing)}: {seen.text!r}" if missing else ""


def report(refused: Sequence[tuple[Refused, Seen]], taken: Mapping[str, Seen]) -> str:
    """The page."""
    refusal, passing = (
        max(some, key=lambda seen: seen.seconds)
        for some in ([seen for _, seen in refused], taken.values())
    )
    lines = [
        "# Settings that were tried",
        "",
        "Made by `python -m tests.trust.settings`. Each stack file below was previewed. The bad ones were",
        "refused before any resource was declared, with these words; the unusual ones passed. The slowest",
        f"refusal took {refusal.seconds:.1f} s, the slowest preview that passed {passing.seconds:.1f} s.",
        "",
        "| | refused | at | s | by |",
        "|---|---|---|---|---|",
        *(
            f"| {case.rule} | {RULES[case.rule - 1]}: {case.what} | `{case.key}` | {seen.seconds:.1f} | "
            f"{seen.engine} |"
            for case, seen in refused
        ),
        "",
        "| passed | s | by |",
        "|---|---|---|",
        *(f"| {what} | {seen.seconds:.1f} | {seen.engine} |" for what, seen in taken.items()),
        "",
        "## What the user sees",
        "",
    ]
    for case, seen in refused:
        lines += [f"{case.rule}, {case.what}:", "", "```", seen.text.strip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Try all of them; returns 1 where one was met in another way than it should be."""
    os.chdir(ROOT)
    with TemporaryDirectory() as folder:
        cli = Cli(Path(folder)) if shutil.which("pulumi") else None
        taken = {what: (cli.preview if cli else by_mocks)(c) for what, c in UNUSUAL.items()}
        refused = []
        for number, case in enumerate(REFUSED):
            if cli and case.live is not None:
                of_its_own = Cli(Path(folder, str(number)), lived(case.base, case.live))
                seen = of_its_own.preview(case.changes, case.base)
            elif cli:
                seen = cli.preview(case.changes, case.base)
            else:
                seen = by_mocks(case.changes, case.base, case.live)
            refused.append((case, seen))
    wrong = [text for case, seen in refused if (text := complaint(case, seen))]
    wrong += [f"{what}: refused: {seen.text}" for what, seen in taken.items() if seen.text]
    PAGE.write_text(report(refused, taken))
    print("\n".join([*wrong, f"{len(refused)} refused, {len(taken)} taken: {PAGE.name}"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
