"""Commands and copies over OpenSSH, with the meaning that pulumi-command gives them.

One call is one dial. A dial that fails is tried again, ``dialErrorLimit`` times, with the same pauses as
pulumi-command's; once the login is through nothing is repeated. Secrets are in files of a private directory or
on stdin, never on an argument list.
"""

from __future__ import annotations

import io
import itertools
import shlex
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

Lines = Callable[[str], None]

FIRST_PAUSE_SECONDS = 0.1
PAUSE_GROWTH = 1.5
LONGEST_PAUSE_SECONDS = 5.0

# Go's TCP keep-alive, which pulumi-command has, gives a silent peer up after 9 probes 15 s apart.
_PROBES = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=9")


class SshError(RuntimeError):
    """A dial or a command failed; the text is worded as pulumi-command words it."""


@dataclass(frozen=True)
class Finished:
    """What a command left: its streams without their last newline."""

    stdout: str
    stderr: str


@dataclass(frozen=True)
class Connection:
    """pulumi-command's ``connection``, as far as the stand-in has it."""

    host: str
    private_key: str
    host_key: str
    user: str = "root"
    port: int = 22
    dial_error_limit: int = 10
    per_dial_timeout: int = 15
    proxy: Connection | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Connection:
        """From a resource's inputs.

        Raises:
            SshError: neither a key nor a host key, or a way to log in that is not here.
        """
        for needed in ("privateKey", "hostKey"):
            if not given.get(needed):
                raise SshError(f"connection to {given.get('host')}: the stand-in needs {needed}")
        known = {
            "host",
            "privateKey",
            "hostKey",
            "user",
            "port",
            "dialErrorLimit",
            "perDialTimeout",
            "proxy",
        }
        if unknown := sorted(key for key in set(given) - known if given[key]):
            raise SshError(
                f"connection to {given['host']}: not in the stand-in: {', '.join(unknown)}"
            )
        return cls(
            host=given["host"],
            private_key=given["privateKey"],
            host_key=given["hostKey"],
            user=given.get("user") or "root",
            port=int(given.get("port") or 22),
            dial_error_limit=int(given.get("dialErrorLimit", 10)),
            per_dial_timeout=int(given.get("perDialTimeout", 15)),
            proxy=cls.parse(given["proxy"]) if given.get("proxy") else None,
        )


def arguments(connection: Connection, folder: Path) -> list[str]:
    """The ssh command line for a connection whose files lie in ``folder`` (see :func:`write_files`)."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f"{folder}/known_hosts",
        "GlobalKnownHostsFile": "none",
        "HostKeyAlgorithms": _algorithms(connection.host_key),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "LogLevel": "ERROR",
        # Tells a failed dial from a failed command, which may end with 255 too.
        "PermitLocalCommand": "yes",
        "LocalCommand": f"touch {shlex.quote(f'{folder}/dialled')}",
    }
    if connection.per_dial_timeout:
        options["ConnectTimeout"] = str(connection.per_dial_timeout)
    if connection.proxy:
        inner = arguments(connection.proxy, folder / "proxy")
        options["ProxyCommand"] = shlex.join([*inner[:-2], "-W", "%h:%p", *inner[-2:]])
    flat = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    login = [f"-i{folder}/identity", f"-p{connection.port}"]
    return [
        "ssh",
        "-F",
        "none",
        "-T",
        *_PROBES,
        *flat,
        *login,
        "--",
        f"{connection.user}@{connection.host}",
    ]


def _algorithms(host_key: str) -> str:
    kind = host_key.split()[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


def write_files(connection: Connection, folder: Path) -> None:
    """Put key and host key where :func:`arguments` expects them, for nobody else to read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    kind, key = connection.host_key.split()[:2]
    _private(folder / "identity", connection.private_key.rstrip("\n") + "\n")
    name = connection.host if connection.port == 22 else f"[{connection.host}]:{connection.port}"
    _private(folder / "known_hosts", f"{name} {kind} {key}\n")
    if connection.proxy:
        write_files(connection.proxy, folder / "proxy")


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def run(
    connection: Connection,
    command: str,
    *,
    scratch: Path,
    stdin: bytes | None = None,
    on_stdout: Lines | None = None,
    on_stderr: Lines | None = None,
    on_dial: Lines | None = None,
    timeout: float | None = None,
) -> Finished:
    """Dial, run one command in the login shell, and wait for it.

    Args:
        connection: where to.
        command: a line for the user's shell.
        scratch: a directory that only this user can read.
        stdin: what the command reads; nothing without it.
        on_stdout: gets each line of stdout while the command runs.
        on_stderr: gets each line of stderr while the command runs.
        on_dial: gets a line for each failed dial.
        timeout: bound on dials and command together, in seconds.

    Raises:
        SshError: no login within the bounds, or the command did not end with 0.
    """
    end = None if timeout is None else time.monotonic() + timeout
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        write_files(connection, folder)
        words = [*arguments(connection, folder), command]
        # Before the login, stderr is ssh's own talk: what it comes to is told once per dial.
        remote_stderr = _once((folder / "dialled").exists, on_stderr) if on_stderr else None
        for attempt in itertools.count(1):
            left = None if end is None else end - time.monotonic()
            code, streams = _call(words, stdin, (on_stdout, remote_stderr), left)
            if (folder / "dialled").exists():
                return _finished(command, code, streams)
            last = _reason(connection, folder, streams.text("stderr"))
            if on_dial:
                on_dial(f"dial {attempt} failed: {last}")
            _pause_or_give_up(connection, attempt, last, end)
    raise AssertionError("unreachable")


_OTHER_KEY = ("Host key verification failed", "no matching host key type found")


def _reason(connection: Connection, folder: Path, said: str) -> str:
    """Why a dial failed: the last that ssh said, or of a host key the plugin's own words.

    The plugin has them for the first hop only: of the next it tells but that the handshake failed.
    """
    at_proxy = connection.proxy is not None and not (folder / "proxy" / "dialled").exists()
    first_hop = at_proxy or connection.proxy is None
    last = (said.strip() or "the connection ended").splitlines()[-1]
    if first_hop and any(sign in said for sign in _OTHER_KEY):
        last = "ssh: handshake failed: ssh: host key mismatch"
    return f"proxy: {last}" if at_proxy else last


def _once(holds: Callable[[], bool], sink: Lines) -> Lines:
    def line(text: str) -> None:
        if holds():
            sink(text)

    return line


def _pause_or_give_up(connection: Connection, attempt: int, last: str, end: float | None) -> None:
    where = f"{connection.user}@{connection.host} port {connection.port}"
    if -1 < connection.dial_error_limit < attempt:
        raise SshError(f"after {attempt - 1} failed attempts: dial {where}: {last}")
    pause = min(FIRST_PAUSE_SECONDS * PAUSE_GROWTH ** min(attempt - 1, 20), LONGEST_PAUSE_SECONDS)
    if end is not None and time.monotonic() + pause > end:
        raise SshError(f"timed out after {attempt} failed attempts: dial {where}: {last}")
    time.sleep(pause)


class _Streams:
    """Both streams of a process: apart, and together as they came."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def read(self, name: str, pipe: IO[bytes], each: Lines | None) -> None:
        for raw in pipe:
            line = raw.decode(errors="replace")
            with self._lock:
                self._lines.append((name, line))
            if each:
                each(line)

    def text(self, name: str | None = None) -> str:
        return "".join(line for stream, line in self._lines if name in (None, stream))


def _call(
    words: list[str],
    stdin: bytes | None,
    sinks: tuple[Lines | None, Lines | None],
    timeout: float | None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, _Streams]:
    streams = _Streams()
    with subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        threads = _pump(process, streams, stdin, sinks)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            text = f"context deadline exceeded: no end within its timeout; so far it said:\n{streams.text()}"
            raise SshError(text) from None
        finally:
            for thread in threads:
                thread.join()
    return code, streams


def _pump(
    process: subprocess.Popen[bytes],
    streams: _Streams,
    stdin: bytes | None,
    sinks: tuple[Lines | None, Lines | None],
) -> list[threading.Thread]:
    """One thread for each stream: a process that waits for one of them must not wait for ever."""
    assert process.stdout is not None
    assert process.stderr is not None
    threads = [
        threading.Thread(target=streams.read, args=args, daemon=True)
        for args in (("stdout", process.stdout, sinks[0]), ("stderr", process.stderr, sinks[1]))
    ]
    if stdin is not None:
        threads.append(threading.Thread(target=_feed, args=(process, stdin), daemon=True))
    for thread in threads:
        thread.start()
    return threads


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # a command need not read it all


def _finished(command: str, code: int, streams: _Streams) -> Finished:
    if code:
        raise SshError(f'Process exited with status {code}: running "{command}":\n{streams.text()}')
    return Finished(
        streams.text("stdout").removesuffix("\n"), streams.text("stderr").removesuffix("\n")
    )


def run_local(
    words: list[str],
    *,
    shown: str,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    on_stdout: Lines | None = None,
    on_stderr: Lines | None = None,
    timeout: float | None = None,
) -> Finished:
    """The same for a command of this host; ``shown`` stands for it in an error."""
    ended = _call(words, stdin, (on_stdout, on_stderr), timeout, environment)
    return _finished(shown, *ended)


def copy(connection: Connection, source: str, remote_path: str, **how: Any) -> None:
    """Copy a file or a directory as ``CopyToRemote`` does.

    ``dir/`` puts its entries into ``remote_path``, ``dir`` puts itself there; a file goes to the path, or
    into it where that is a directory. Parents are made, links followed, modes not kept (0644), nothing is
    removed.

    Args:
        connection: where to.
        source: the local path; a last slash counts.
        remote_path: from the login user's home, or absolute.
        how: ``scratch``, ``on_dial`` and ``timeout`` of :func:`run`.

    Raises:
        SshError: as :func:`run`, also where a directory shall go to the place of a file.
    """
    local = Path(source)
    if not local.is_dir():
        _copy_file(connection, local, remote_path, how)
        return
    target = remote_path if source.endswith("/") else f"{remote_path.rstrip('/')}/{local.name}"
    path = shlex.quote(target)
    unpack = f"tar -x --no-same-owner --no-same-permissions -C {path} -f -"
    run(connection, f"mkdir -p {path} && {unpack}", stdin=_pack(local), **how)


def _copy_file(connection: Connection, local: Path, remote_path: str, how: dict[str, Any]) -> None:
    path = shlex.quote(remote_path)
    command = (
        f"if [ -d {path} ]; then cd {path} && cat >{shlex.quote(local.name)}; "
        f"else {_write_to(path)}; fi"
    )
    run(connection, command, stdin=local.read_bytes(), **how)


def copy_text(connection: Connection, text: str, remote_path: str, **how: Any) -> None:
    """Copy a text to a path; see :func:`copy`."""
    run(connection, _write_to(shlex.quote(remote_path)), stdin=text.encode(), **how)


def _write_to(path: str) -> str:
    return f'mkdir -p "$(dirname {path})" && cat >{path}'


def _pack(folder: Path) -> bytes:
    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mode = 0o755 if info.isdir() else 0o644
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        tar.add(folder, ".", filter=plain)
    return buffer.getvalue()
