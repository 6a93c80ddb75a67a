"""What is run on hosts when the engine deletes: against real SSH servers, here on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cluster import parting
from tests.unit.ssh_hosts import LOGIN_TEXT, SECRET, SshHost, serving
from tests.unit.stacks import ROOT


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[[], SshHost]]:
    """Makes hosts that are there until the test ends."""
    with serving(tmp_path) as make:
        yield make


@pytest.fixture
def host(hosts: Callable[[], SshHost]) -> SshHost:
    return hosts()


def words(verb: str, patience: float) -> list[str]:
    """The command, which is less patient than usual."""
    bounds = f"dict.fromkeys(parting.PATIENCE_SECONDS, {patience})"
    code = f"""\
import sys
from cluster import parting
parting.PATIENCE_SECONDS, parting.PAUSE_SECONDS, parting.DIAL_SECONDS = {bounds}, 0.1, 1
sys.exit(parting.main())"""
    return [sys.executable, "-c", code, verb]


def part(
    verb: str, *ways: Mapping[str, Any], patience: float = 0.0
) -> subprocess.CompletedProcess[str]:
    return ended(words(verb, patience), ways)


def ended(
    command: Sequence[str], ways: Sequence[Mapping[str, Any]]
) -> subprocess.CompletedProcess[str]:
    """Run to its end, with what the program gives on stdin."""
    done = subprocess.run(
        command,
        input=json.dumps(ways), capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextmanager
def nobody() -> Iterator[dict[str, Any]]:
    """A host that is dead: nothing answers at its port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        yield {
            "name": "dead", "address": "127.0.0.1", "port": taken.getsockname()[1], "user": "root",
            "host_key": key, "private_key": LOGIN_TEXT, "line": "never",
        }  # fmt: skip


# --- one host ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["end", "remove"])
@pytest.mark.parametrize("status", [0, 1, 3])
def test_the_line_is_run_and_its_status_is_ours(host: SshHost, verb: str, status: int) -> None:
    line = f"echo said; echo progress >&2; exit {status}"
    done = part(verb, host.way_in(line))
    assert done.returncode == status, done.stderr
    assert (done.stdout, done.stderr) == ("said\n", "progress\n")
    assert host.lines == [line]


def test_the_command_is_the_one_that_the_program_declares(host: SshHost) -> None:
    command = [sys.executable, "-m", "cluster.parting", "end"]
    done = ended(command, [host.way_in("echo left; { cat; echo restored; } </dev/null")])
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\nrestored\n", "")


def test_a_host_is_asked_for_its_status_and_all_that_it_says(host: SshHost) -> None:
    way = host.way_in("never")
    answer = asyncio.run(parting.ask(way, "echo said; echo progress >&2; exit 3", 60))
    assert answer == (3, "said\nprogress")
    with nobody() as dead, pytest.raises(parting.NotReachedError):
        asyncio.run(parting.ask(dead, "echo never", 60))
    with pytest.raises(parting.NotReachedError, match="TimeoutError"):
        asyncio.run(parting.ask(way, "sleep 5", 0.5))


def test_the_line_gets_nothing_on_stdin(host: SshHost) -> None:
    """What comes on ours is full of secrets."""
    done = part("end", host.way_in("cat"))
    assert (done.returncode, done.stdout) == (0, "")


def test_neither_line_nor_key_is_in_an_argument_list_or_the_environment(host: SshHost) -> None:
    shown: list[str] = []

    def look(_: asyncssh.SSHServerProcess[str]) -> None:
        for pid in (
            str(process.pid),
            *Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split(),
        ):
            shown.extend(Path(f"/proc/{pid}/{what}").read_text() for what in ("cmdline", "environ"))

    host.while_running = look
    way = host.way_in("echo the-line-in-clear")
    with subprocess.Popen(
        words("remove", 0), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        out, _ = process.communicate(json.dumps([way]), timeout=60)
    assert (process.returncode, out) == (0, "the-line-in-clear\n")
    assert shown
    for text in shown:
        assert SECRET not in text
        assert "the-line-in-clear" not in text
        assert way["host_key"] not in text


def test_a_host_with_another_key_is_not_the_one_that_was_meant(
    hosts: Callable[[], SshHost],
) -> None:
    host, other = hosts(), hosts()
    swapped = host.way_in("echo never", host_key=other.way_in("")["host_key"])
    removed, given_back = part("remove", swapped), part("end", swapped)
    assert (removed.returncode, given_back.returncode) == (1, 0)
    assert removed.stdout + given_back.stdout == ""
    for done in (removed, given_back):
        assert "host key" in done.stderr.lower()
    assert host.lines == []


def test_a_host_behind_a_bastion_is_reached_by_it_alone(hosts: Callable[[], SshHost]) -> None:
    bastion, host = hosts(), hosts()
    way = host.way_in("echo said; exit 3", proxy=bastion.as_proxy())
    done = part("end", way)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")
    assert (bastion.passed_on, bastion.lines) == ([way["port"]], [])


@pytest.mark.parametrize("swapped", ["bastion", "host"])
def test_behind_a_bastion_both_keys_are_checked(hosts: Callable[[], SshHost], swapped: str) -> None:
    bastion, host = hosts(), hosts()
    other = {"host_key": hosts().way_in("")["host_key"]}
    proxy = bastion.as_proxy(**(other if swapped == "bastion" else {}))
    way = host.way_in("echo never", proxy=proxy, **(other if swapped == "host" else {}))
    done = part("remove", way)
    assert (done.returncode, done.stdout) == (1, "")
    assert "host key" in done.stderr.lower()
    named = f"the bastion (proxy, 127.0.0.1 port {proxy['port']})" in done.stderr
    assert named == (swapped == "bastion")
    assert len(bastion.passed_on) == (0 if swapped == "bastion" else 1)
    assert host.lines == bastion.lines == []


def test_a_host_that_does_not_let_us_in_is_not_reached(host: SshHost) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    done = part("remove", host.way_in("echo never", private_key=stranger))
    assert done.returncode == 1
    assert f"cp1 (127.0.0.1 port {host.way_in('')['port']}): Permission denied" in done.stderr
    assert host.lines == []


def test_a_connection_that_is_cut_off_is_a_failure(host: SshHost) -> None:
    """The line may have done half of its work: no other host does the rest, and the next run does it again."""

    def cut(process: asyncssh.SSHServerProcess[str]) -> None:
        host._loop.call_soon_threadsafe(process.channel.get_connection().abort)

    host.while_running = cut
    for verb in ("end", "remove"):
        assert part(verb, host.way_in("echo half"), host.way_in("echo other")).returncode == 1
    assert host.lines == ["echo half"] * 2


# --- several hosts -----------------------------------------------------------------------------


def test_one_that_is_not_well_is_passed_over(hosts: Callable[[], SshHost]) -> None:
    first, second, third = hosts(), hosts(), hosts()
    done = part(
        "remove",
        first.way_in("echo first; echo not well >&2; exit 75"),
        second.way_in("echo second; echo well >&2"),
        third.way_in("echo third"),
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("first\nsecond\n", "not well\nwell\n")
    assert third.lines == []


def test_one_that_is_gone_is_passed_over(host: SshHost) -> None:
    with nobody() as dead:
        done = part("remove", dead, host.way_in("echo done"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_one_that_refuses_is_not_passed_over(hosts: Callable[[], SshHost]) -> None:
    """As a drain that budgets forbid, which another control plane would not do better."""
    first, second = hosts(), hosts()
    done = part("remove", first.way_in("echo reason >&2; exit 1"), second.way_in("echo never"))
    assert (done.returncode, done.stderr) == (1, "reason\n")
    assert second.lines == []


def test_hosts_are_tried_until_one_is_well(host: SshHost, tmp_path: Path) -> None:
    line = "echo >>looks; [ $(wc -l <looks) -gt 3 ] || exit 75"
    with nobody() as dead:
        done = part("remove", dead, host.way_in(line), patience=30)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "looks").read_text().splitlines()) == 4


def test_without_any_that_is_well_a_node_is_not_taken_out(host: SshHost) -> None:
    with nobody() as dead:
        done = part("remove", dead, host.way_in("exit 75"))
    assert done.returncode == 1
    assert (
        "error: no control plane could be asked to let the node go: dead (127.0.0.1 port"
        in done.stderr
    )
    assert "cp1: its API server is not well" in done.stderr
    assert "expected: one that answers over SSH" in done.stderr
    assert "remedy:   bring a control plane back" in done.stderr


def test_where_no_cluster_was_made_there_is_none_to_leave(hosts: Callable[[], SshHost]) -> None:
    """Each control plane says so: one that can't be asked may be all that is left of a cluster."""
    one, other = hosts(), hosts()
    ways = one.way_in("exit 76"), other.way_in("exit 76")
    assert part("remove", *ways).returncode == 0
    with nobody() as dead:
        done = part("remove", *ways, dead)
    assert done.returncode == 1
    assert "cp1: it is a member of no cluster" in done.stderr
    assert part("remove", *ways, other.way_in("exit 75")).returncode == 1


def test_a_dead_host_is_left_with_a_warning(host: SshHost) -> None:
    with nobody() as dead:
        done = part("end", dead)
    assert done.returncode == 0
    assert done.stderr.startswith(
        "warning: not reached, and so left as it is: dead (127.0.0.1 port "
    )
    assert "reinstall it before you use it for anything" in done.stderr


@pytest.mark.parametrize(("verb", "status"), [("end", 0), ("remove", 1)])
def test_a_host_that_hangs_is_dead(verb: str, status: int) -> None:
    """It takes the connection and says nothing."""
    with nobody() as dead, socket.create_server(("127.0.0.1", 0)) as silent:
        done = part(verb, {**dead, "port": silent.getsockname()[1]})
    assert done.returncode == status
    assert "not reached" in done.stderr or "no control plane could be asked" in done.stderr


def test_unknown_verbs_are_refused() -> None:
    done = ended([sys.executable, "-m", "cluster.parting", "restore"], [])
    assert done.returncode == 2
