"""The sandbox's SSH: one login key, the machines' host keys, and commands as root.

Servers with routed ports have logins and host keys that are none of the sandbox's business; there a
command enters through the namespaces instead, as through a provider's console.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from sandbox import site
from sandbox.machines import cgroups, disks, routed

ROUNDS: Final = 0.05
"""Seconds between two looks at a machine that boots."""


NO_CONNECTION: Final = 255
"""The status by which ssh says that the command was not even begun."""


def login_key() -> str:
    """The public login key, made at first use."""
    if not site.SSH_KEY.exists():
        site.SSH_KEY.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        disks.make_key(site.SSH_KEY, "sandbox")
    return site.SSH_KEY.with_suffix(".pub").read_text()


def write_known_hosts() -> None:
    """Write the host keys that the sandbox made, from the machines' disks, in one step."""
    site.KNOWN_HOSTS.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = [name for name in disks.names() if not routed.is_routed(name)]
    lines = [f"{disks.load(name).address} {disks.host_key(name)}\n" for name in known]
    draft = site.KNOWN_HOSTS.with_suffix(".draft")
    draft.write_text("".join(lines))
    draft.rename(site.KNOWN_HOSTS)


def command_line(name_or_address: str) -> list[str]:
    """The ``ssh`` command to a machine, without the remote command; what enters it, for a server.

    Raises:
        LookupError: no machine of this name.
        RuntimeError: the server is off.
    """
    if routed.is_routed(name_or_address):
        return _console(name_or_address)
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

    On a server with routed ports, which has to be named, the command does not come over SSH.

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
    try:
        line = command_line(name_or_address)
    except RuntimeError as error:
        if check:
            raise
        return subprocess.CompletedProcess(["ssh"], NO_CONNECTION, "", str(error))
    done = subprocess.run(
        [*line, command],
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


def leader(name: str) -> int:
    """This host's process id of the machine's first process.

    Raises:
        RuntimeError: the machine is off, or just between two boots.
    """
    for pid in cgroups.processes(name):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it ended meanwhile
            continue
        numbers = next(line.split()[1:] for line in status.splitlines() if line[:6] == "NSpid:")
        if len(numbers) == 2 and numbers[1] == "1":  # 3 and more: containers in the machine
            return pid
    raise RuntimeError(f"{name} is off")


def _console(name: str) -> list[str]:
    environment = ["HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
    enter = ["nsenter", f"--target={leader(name)}", *spaces]
    return [*enter, "env", "-i", *environment, path, "bash", "-c"]


def answers(spec: disks.MachineSpec) -> bool:
    """Whether a login works right now; cheap while nobody listens."""
    if routed.is_routed(spec.name):  # its firewall may keep this host out
        active = ssh(spec.name, "systemctl is-active --quiet ssh", check=False, timeout=15)
        return active.returncode == 0
    try:
        with socket.create_connection((str(spec.address), 22), timeout=1) as connection:
            if not connection.recv(4).startswith(b"SSH"):
                return False
    except OSError:
        return False
    return ssh(spec.name, "true", check=False, timeout=15).returncode == 0


def wait(spec: disks.MachineSpec, seconds: float, hopeless: Callable[[], bool]) -> bool:
    """Wait until a login works; whether it did in time and before it became hopeless."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not hopeless():
        if answers(spec):
            return True
        time.sleep(ROUNDS)
    return False
