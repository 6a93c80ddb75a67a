"""The two servers of the mirror: an image registry and plain files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from sandbox import site
from sandbox.machines import network
from sandbox.mirror import host, oci, packages
from sandbox.mirror.errors import MirrorError

_STATE: Final = site.STATE / "mirror"
_PATIENCE: Final = 20.0
"""Seconds until a server must answer, and until it must be gone."""


@dataclass(frozen=True)
class Server:
    """One server process.

    Args:
        name: For files and messages.
        command: What runs.
        probe: URL that it answers when it is ready.
        environment: Added to ours.
    """

    name: str
    command: tuple[str, ...]
    probe: str
    environment: Mapping[str, str]

    @property
    def pid_file(self) -> Path:
        """Holds the process id and the start time, which together are never used twice."""
        return _STATE / f"{self.name}.pid"

    def pid(self) -> int | None:
        """Process id of the running server."""
        if not self.pid_file.exists():
            return None
        pid, started = self.pid_file.read_text().split()
        return int(pid) if _started(int(pid)) == started else None


def all_servers() -> list[Server]:
    """The registry and the file server."""
    files = ("-m", "http.server", "--bind", str(site.HOST), "--directory", str(_WWW), "8080")
    return [
        Server(
            "registry",
            (str(host.HOME / "tools" / "registry"), "serve", str(_STATE / "registry.yaml")),
            f"http://{site.REGISTRY}/v2/",
            {"OTEL_TRACES_EXPORTER": "none"},
        ),
        Server("files", (sys.executable, *files), f"{site.FILES}/apt/Release", {}),
    ]


_WWW: Final = packages.REPOSITORY.parent


def serve(log: host.Log = print) -> None:
    """Start what does not run yet, wait until it answers, and hand out the repository's key.

    Raises:
        MirrorError: The mirror is not built, or a server did not come up; names its log.
    """
    if not (packages.REPOSITORY / "InRelease").exists():
        raise MirrorError("the mirror is not built: run `python -m sandbox.mirror build` first")
    network.up()
    host.write(site.MIRROR_KEY, packages.KEY.read_bytes())
    host.write(_STATE / "registry.yaml", yaml.safe_dump(_registry_settings()).encode())
    for server in all_servers():
        if server.pid() is None:
            _start(server)
    for server in all_servers():
        _await(server)
        log(f"mirror: {server.name} answers at {server.probe}")


def stop() -> None:
    """End both servers; those that do not run are no error."""
    for server in all_servers():
        pid = server.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            _await_end(server, pid)
        server.pid_file.unlink(missing_ok=True)
    for process in _STARTED:
        process.poll()  # tells Python that they have ended


def status() -> dict[str, str]:
    """What runs, by server."""
    pids = {server.name: server.pid() for server in all_servers()}
    return {name: f"running, pid {pid}" if pid else "not running" for name, pid in pids.items()}


def _registry_settings() -> dict[str, object]:
    # Read-only: the build writes the storage itself, and nothing else may.
    storage = {
        "filesystem": {"rootdirectory": str(oci.STORAGE)},
        "maintenance": {"readonly": {"enabled": True}},
    }
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": {"addr": site.REGISTRY},
    }


_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept, as Python warns of a process that is forgotten while it runs; these outlive this one."""


def _start(server: Server) -> None:
    _STATE.mkdir(parents=True, exist_ok=True)
    with (_STATE / f"{server.name}.log").open("ab") as log:
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **server.environment},
            start_new_session=True,
        )
    _STARTED.append(process)
    server.pid_file.write_text(f"{process.pid} {_started(process.pid)}")


def _await(server: Server) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and server.pid() is not None:
        try:
            with urllib.request.urlopen(server.probe, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise MirrorError(
        f"{server.name} does not answer at {server.probe}: see {_STATE}/{server.name}.log"
    )


def _await_end(server: Server, pid: int) -> None:
    end = time.monotonic() + _PATIENCE
    while server.pid() == pid:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
