"""The door to the hosts: how long it knocks, what it says through it, what it tells when nobody answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.exits import NO_CLUSTER
from cluster.remote import dial_retries
from tests.unit.graph import LOG, Graph, run_program
from tests.unit.stacks import ROOT, host_key


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# --- how long a host is tried ------------------------------------------------------------------


def pauses(count: int) -> float:
    """What pulumi-command waits between that many retries, in all: 0.1 s, half as long again, at most 5 s."""
    pause = itertools.accumulate(range(count), lambda p, _: min(p * 1.5, 5.0), initial=0.1)
    return sum(itertools.islice(pause, count))


@given(st.integers(5, 3600))
def test_a_host_that_refuses_at_once_is_tried_for_the_bound_and_no_longer(seconds: int) -> None:
    retries = dial_retries(seconds)
    assert retries >= 1
    assert pauses(retries) <= seconds
    assert pauses(retries + 1) > seconds, "one more would have fitted"


@given(st.integers(5, 3599))
def test_a_longer_bound_is_never_fewer_tries(seconds: int) -> None:
    assert dial_retries(seconds) <= dial_retries(seconds + 1)


# --- command lines -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The small site; w1 is logged in to by another user than root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return run_program({"nodes.w1.user": "debian"}, preview=True)


@pytest.fixture(scope="module")
def lines(graph: Graph) -> dict[str, str]:
    """``create`` of every command on a host."""
    return {n: graph.inputs(n)["create"] for n in graph.of_type("command:remote:Command")}


@pytest.fixture(scope="module")
def endings(graph: Graph) -> dict[str, list[str]]:
    """The lines that are run on hosts at the end, by the command of this machine that does it."""
    stdin = {n: graph.inputs(n)["stdin"] for n in graph.of_type("command:local:Command")}
    return {name: [host["line"] for host in json.loads(text)] for name, text in stdin.items()}


def test_lines_are_one_short_line_of_words(
    lines: dict[str, str], endings: dict[str, list[str]]
) -> None:
    removals = [line for n, found in endings.items() if n.endswith("-membership") for line in found]
    there = f"test -e .own-kubernetes/scripts/run.sh || exit {NO_CLUSTER}; "
    assert all(line.startswith(there) for line in removals)
    for line in (*lines.values(), *(line.removeprefix(there) for line in removals)):
        assert "\n" not in line
        assert len(line) < 300
        *_, script, phase = itertools.takewhile(lambda word: "=" not in word, shlex.split(line))
        assert script == ".own-kubernetes/scripts/run.sh"
        assert (ROOT / "cluster/nodes/scripts" / f"{phase}.sh").exists()


def test_a_user_other_than_root_gets_sudo_without_a_question(lines: dict[str, str]) -> None:
    for name, line in lines.items():
        prefix = ["sudo", "-n", "bash"] if name.startswith("w1-") else ["bash"]
        assert shlex.split(line)[: len(prefix)] == prefix


def home(tmp_path: Path, *, prepared: bool, failing: str = "") -> Path:
    """A login user's home on a host; run.sh there notes its words, and one phase may fail."""
    scripts = tmp_path / ".own-kubernetes" / "scripts"
    if prepared:
        scripts.mkdir(parents=True)
        (scripts / "run.sh").write_text(
            f'printf "%s\\n" "$@" >>{tmp_path}/words; cat >>{tmp_path}/stdin\n'
            f"[[ $1 != '{failing}' ]]\n"
        )
    return tmp_path


def shell(line: str, folder: Path, stdin: str = "") -> int:
    """Run a line as sshd does, in the login user's home."""
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, input=stdin, text=True, check=False, timeout=10
    ).returncode


def test_words_arrive_at_the_host_as_they_are(lines: dict[str, str], tmp_path: Path) -> None:
    folder = home(tmp_path, prepared=True)
    assert shell(lines["w2-join"], folder, "the key") == 0
    words = (folder / "words").read_text().splitlines()
    assert words[:3] == ["join", "CLUSTER=own-kubernetes", "NODE=w2"]
    assert (folder / "stdin").read_text() == "the key"


ENDS = ("cp1-end", "w2-end")


@pytest.mark.parametrize("name", ENDS)
def test_giving_back_a_host_that_was_wiped_succeeds(
    endings: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    (line,) = endings[name]
    assert shell(line, home(tmp_path, prepared=False)) == 0


@pytest.mark.parametrize("name", ENDS)
def test_a_host_leaves_is_restored_and_loses_the_scripts_in_this_order(
    endings: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    folder = home(tmp_path, prepared=True)
    (line,) = endings[name]
    assert shell(line, folder, "not for it") == 0
    words = (folder / "words").read_text().split()
    assert words == ["leave", "restore", "REMOVE_PACKAGES=true"]
    assert (folder / "stdin").read_text() == ""
    assert not (folder / ".own-kubernetes").exists()


@pytest.mark.parametrize(
    ("phase", "words"), [("leave", "leave"), ("restore", "leave restore REMOVE_PACKAGES=true")]
)
def test_an_end_that_failed_fails_and_may_be_done_again(
    endings: dict[str, list[str]], tmp_path: Path, phase: str, words: str
) -> None:
    folder = home(tmp_path, prepared=True, failing=phase)
    (line,) = endings["w2-end"]
    assert shell(line, folder) != 0
    assert (folder / "words").read_text().split() == words.split()
    assert (folder / ".own-kubernetes" / "scripts" / "run.sh").exists()


# --- nobody answers ----------------------------------------------------------------------------


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The error hooks that the program registers, by name."""
    found: dict[str, Any] = {}

    class Noted(pulumi.ErrorHook):
        def __init__(self, name: str, func: Any) -> None:
            found[name] = func
            super().__init__(name, func)

    monkeypatch.setattr(pulumi, "ErrorHook", Noted)
    return found


def told(
    hooks: dict[str, Any], error: str, caplog: pytest.LogCaptureFixture, **changes: Any
) -> str:
    """What the user is told when a resource of w1 ends in an error."""
    program = pulumi.export  # the program's last act; the hook is called while the engine is there
    explained: list[asyncio.Task[bool]] = []

    def export_and_fail(name: str, value: Any) -> None:
        program(name, value)
        if name == "url":
            explanation = hooks["w1-unreachable"](
                pulumi.ErrorHookArgs(
                    "urn", "id", "w1-scripts", "command:remote:CopyToRemote", errors=[error]
                )
            )
            explained.append(asyncio.get_running_loop().create_task(explanation))

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR, LOG.name):
        patch.setattr(pulumi, "export", export_and_fail)
        run_program(
            {
                "nodes.w1.user": "debian",
                "nodes.w1.port": 2222,
                "sshTimeoutSeconds": 90,
                **changes,
            },
            preview=True,
        )
    assert [task.result() for task in explained] == [False], "the engine tries again by itself"
    return "\n".join(record.message for record in caplog.records)


@pytest.mark.parametrize(
    "error",
    [
        "after 20 failed attempts: dial tcp 10.0.0.21:2222: connect: no route to host",
        "after 20 failed attempts: ssh: handshake failed: ssh: unable to authenticate",
        "context deadline exceeded",
    ],
)
def test_an_unreachable_host_is_named_with_port_user_and_bound(
    hooks: dict[str, Any], caplog: pytest.LogCaptureFixture, error: str
) -> None:
    text = told(hooks, error, caplog)
    assert text.startswith("w1: no SSH login as debian at 10.0.0.21 port 2222")
    assert "tried for up to 90 s (sshTimeoutSeconds)" in text
    assert re.search(r"Expected: .*host key.* Remedy: .*`ssh -p 2222 debian@10.0.0.21`", text)


PROXY = {"address": "198.51.100.9", "port": 2022, "user": "jump", "hostKey": host_key("bastion")}
MISMATCH = "after 20 failed attempts: ssh: handshake failed: ssh: host key mismatch"


@pytest.mark.parametrize(
    ("error", "changes", "place", "key"),
    [
        (MISMATCH, {}, "10.0.0.21 port 2222", "nodes.w1.hostKey"),
        (f"proxy: {MISMATCH}", {"proxy": PROXY}, "198.51.100.9 port 2022", "proxy.hostKey"),
    ],
    ids=["host", "bastion"],
)
def test_another_machine_in_a_hosts_place_is_named_with_the_way_out(
    hooks: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    error: str,
    changes: dict[str, Any],
    place: str,
    key: str,
) -> None:
    text = told(hooks, error, caplog, **changes)
    assert text.startswith(f"w1: another machine answers at {place}: its SSH host key is not the")
    assert f"Expected: the key in {key} or sshKnownHostsFile" in text
    assert re.search(rf"Remedy: .* if it was rebuilt, its new key belongs in {key}", text)


def test_a_host_behind_a_bastion_is_named_with_the_way_there(
    hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    error = "proxy: after 20 failed attempts: ssh: handshake failed: EOF"
    text = told(hooks, error, caplog, proxy=PROXY)
    assert "at 10.0.0.21 port 2222 by the bastion 198.51.100.9 port 2022, tried" in text
    assert "`ssh -J jump@198.51.100.9:2022 -p 2222 debian@10.0.0.21`" in text


def test_other_errors_are_not_explained_as_unreachable(
    hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert told(hooks, "Process exited with status 1: running ...", caplog) == ""
