"""Real SSH servers on loopback, for what dials hosts."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

LOGIN = asyncssh.generate_private_key("ssh-ed25519")
LOGIN_TEXT = LOGIN.export_private_key().decode()
SECRET = LOGIN_TEXT.splitlines()[1]


class _Server(asyncssh.SSHServer):
    """Passes connections on, and notes where to."""

    def __init__(self, passed_on: list[int]) -> None:
        self._passed_on = passed_on

    def connection_requested(self, host: str, port: int, *_origin: Any) -> bool:
        self._passed_on.append(port)
        return True


class SshHost:
    """A host that lets the login key in as root and runs lines in a folder of its own.

    Attributes:
        lines: what it was asked to run.
        passed_on: ports that it was asked to connect to.
        while_running: is called before each line ends.
    """

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.lines: list[str] = []
        self.passed_on: list[int] = []
        self.while_running: Callable[[asyncssh.SSHServerProcess[str]], None] = lambda _: None
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self._folder = folder
        self._loop = loop

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._acceptor.get_port()

    @property
    def host_key(self) -> str:
        """The public half of its key."""
        return self.key.export_public_key().decode().strip()

    async def listen(self) -> asyncssh.SSHAcceptor:
        """Start; on a free port."""
        clients = asyncssh.import_authorized_keys(LOGIN.export_public_key().decode())
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Server(self.passed_on),
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
            "port": self.port,
            "user": "root",
            "host_key": self.host_key,
            "private_key": LOGIN_TEXT,
            "line": line,
            **other,
        }

    def as_proxy(self, **other: Any) -> dict[str, Any]:
        """As the program tells of a bastion."""
        way = self.way_in("", **other)
        return {key: way[key] for key in ("address", "port", "user", "host_key", "private_key")}


@contextmanager
def serving(folder: Path) -> Iterator[Callable[[], SshHost]]:
    """Makes hosts that run lines in a folder, and are there until the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    acceptors: list[asyncssh.SSHAcceptor] = []

    def make() -> SshHost:
        host = SshHost(folder, loop)
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
