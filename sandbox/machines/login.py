"""The sandbox's SSH: one login key, the machines' host keys, and commands as root."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from sandbox import site
from sandbox.machines import disks

ROUNDS: Final = 0.05
"""Seconds between two looks at a machine that boots."""


def login_key() -> str:
    """The public login key, made at first use."""
    if not site.SSH_KEY.exists():
        site.SSH_KEY.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        disks.make_key(site.SSH_KEY, "sandbox")
    return site.SSH_KEY.with_suffix(".pub").read_text()


def write_known_hosts() -> None:
    """Write the host keys of all machines, from their disks, in one step."""
    site.KNOWN_HOSTS.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [f"{disks.load(name).address} {disks.host_key(name)}\n" for name in disks.names()]
    draft = site.KNOWN_HOSTS.with_suffix(".draft")
    draft.write_text("".join(lines))
    draft.rename(site.KNOWN_HOSTS)


def command_line(name_or_address: str) -> list[str]:
    """The ``ssh`` command to a machine, without the remote command."""
    try:
        address = IPv4Address(name_or_address)
    except ValueError:
        address = disks.load(name_or_address).address
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": site.KNOWN_HOSTS,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "LogLevel": "ERROR",
    }
    flags = [f"-o{option}={value}" for option, value in options.items()]
    return ["ssh", "-F", "none", "-i", str(site.SSH_KEY), *flags, f"root@{address}"]


def ssh(
    name_or_address: str,
    command: str,
    *,
    input: str | None = None,
    check: bool = True,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command as root on a machine; output is captured.

    Args:
        name_or_address: a machine's name or its address.
        command: one line for the remote shell.
        input: text for its standard input; none by default.
        check: raise on a status other than 0. Status 255 is ssh's own: no connection.
        timeout: seconds for all of it.

    Raises:
        RuntimeError: it failed and ``check`` is set; holds the end of what it printed.
        subprocess.TimeoutExpired: it took longer than ``timeout``.
        LookupError: no machine of this name.
    """
    done = subprocess.run(
        [*command_line(name_or_address), command],
        input=input or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-2000:].strip()
        raise RuntimeError(f"{name_or_address}: {command!r} ended with {done.returncode}: {said}")
    return done


def answers(address: IPv4Address) -> bool:
    """Whether a login works right now; cheap while nobody listens."""
    try:
        with socket.create_connection((str(address), 22), timeout=1) as connection:
            if not connection.recv(4).startswith(b"SSH"):
                return False
    except OSError:
        return False
    return ssh(str(address), "true", check=False, timeout=15).returncode == 0


def wait(address: IPv4Address, seconds: float, hopeless: Callable[[], bool]) -> bool:
    """Wait until a login works; whether it did in time and before it became hopeless."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not hopeless():
        if answers(address):
            return True
        time.sleep(ROUNDS)
    return False
