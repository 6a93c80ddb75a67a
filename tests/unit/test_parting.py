"""What is run on hosts when the engine deletes: against real SSH servers, here on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cluster import parting
from tests.unit.stacks import ROOT

LOGIN = asyncssh.generate_private_key("ssh-ed25519")
LOGIN_TEXT = LOGIN.export_private_key().decode()
SECRET = LOGIN_TEXT.splitlines()[1]


class SshHost:
    """A host that lets the login key in as root and runs lines in a folder of its own.

    Attributes:
        lines: what it was asked to run.
        while_running: is called before each line ends.
    """

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.lines: list[str] = []
        self.while_running: Callable[[asyncssh.SSHServerProcess[str]], None] = lambda _: None
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self._folder = folder
        self._loop = loop

    async def listen(self) -> asyncssh.SSHAcceptor:
        """Start; on a free port."""
        clients = asyncssh.import_authorized_keys(LOGIN.export_public_key().decode())
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.key],
            authorized_client_keys=clients,
            process_factory=self._run,
        )
        return self._acceptor

    async def _run(self, process: asyncssh.SSHServerProcess[str]) -> None:
        self.lines.append(process.command or "")
        child = await asyncio.create_subprocess_exec(
            *("sh", "-c", process.command or "exit 99"),
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await child.communicate((await process.stdin.read()).encode())
        await self._loop.run_in_executor(None, self.while_running, process)
        process.stdout.write(out.decode())
        process.stderr.write(err.decode())
        process.exit(child.returncode or 0)

    def way_in(self, line: str, **other: Any) -> dict[str, Any]:
        """As the program tells it, with the line to be run."""
        return {
            "name": "cp1",
            "address": "127.0.0.1",
            "port": self._acceptor.get_port(),
            "user": "root",
            "host_key": self.key.export_public_key().decode().strip(),
            "private_key": LOGIN_TEXT,
            "line": line,
            **other,
        }


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[[], SshHost]]:
    """Makes hosts that are there until the test ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    acceptors: list[asyncssh.SSHAcceptor] = []

    def make() -> SshHost:
        host = SshHost(tmp_path, loop)
        acceptors.append(asyncio.run_coroutine_threadsafe(host.listen(), loop).result(10))
        return host

    async def end() -> None:
        for acceptor in acceptors:
            acceptor.close()
            await acceptor.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 10)
        await loop.shutdown_default_executor()

    try:
        yield make
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


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
