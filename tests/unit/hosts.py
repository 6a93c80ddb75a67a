"""A pretended host for the real host scripts: same text, run by bash, in a tree of its own.

The scripts name absolute places (``/etc``, ``/var``, ``/opt``, ...); in the copy that is run here all of
them lie below a temporary folder. Commands that would change the machine (apt-get, systemctl,
kubeadm, ...) are small scripts of the test, found first on the PATH; each call of one is noted.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.unit.stacks import ROOT

SCRIPTS = ROOT / "cluster" / "nodes" / "scripts"
_PLACE = re.compile(
    r"(?<![\w.}/\\-])/(?=(?:boot|etc|media|mnt|opt|proc|run|srv|sys|usr/local|usr/lib/systemd|var)\b)"
)
"""The start of an absolute path that a script may name, but for commands and /dev/null."""
_FOREIGN = re.compile(
    r"(?<![\w.}/\\-])/(?:home|lib|root|tmp|dev(?!/null|/tcp/|/urandom)|usr(?!/s?bin/|/local/|/lib/systemd/))/"
)
"""Of one that no script should name: it would be this machine's."""

OS_RELEASES = {
    "debian-12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
    "VERSION_CODENAME=bookworm\n",
    "debian-13": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
    "VERSION_CODENAME=trixie\n",
    "ubuntu-22.04": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n'
    "VERSION_CODENAME=jammy\n",
    "ubuntu-24.04": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\nVERSION_ID="24.04"\n'
    "VERSION_CODENAME=noble\n",
    "debian-11": 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n'
    "VERSION_CODENAME=bullseye\n",
    "debian-sid": 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nID=debian\n',
    "ubuntu-20.04": 'PRETTY_NAME="Ubuntu 20.04.6 LTS"\nID=ubuntu\nVERSION_ID="20.04"\n'
    "VERSION_CODENAME=focal\n",
    "fedora-42": 'PRETTY_NAME="Fedora Linux 42 (Cloud Edition)"\nID=fedora\nVERSION_ID=42\n',
    "alpine": 'PRETTY_NAME="Alpine Linux v3.22"\nID=alpine\nVERSION_ID=3.22.1\n',
}

ENVIRONMENT = {
    "KUBERNETES_VERSION": "1.36.4",
    "CONTAINERD_VERSION": "2.2.1",
    "ROLE": "worker",
    "CLUSTER": "blue",
    "NODE": "w1",
    "SCHEDULABLE": "false",
    "REMOVE_PACKAGES": "true",
    "DRAIN_SECONDS": "300",
}

HARMLESS = (
    *("apt-get", "apt-mark", "dpkg-query", "curl", "gpg"),
    *("systemctl", "systemd-run", "sysctl", "modprobe", "swapoff", "swapon"),
    *("kubeadm", "kubectl", "crictl", "ssh", "ip", "nft", "chown"),
    *("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"),
)
"""Commands that do nothing, and do it well, unless a test says otherwise."""

INSTALL = """\
[[ $1 == -d ]] || exec /usr/bin/install "$@"
mkdir -p "${@: -1}"
"""
"""Folders belong to whoever runs the test."""

FAST = "sleep() { SECONDS=$((SECONDS + ${1%.*})); [[ $1 != 0.* ]] || SECONDS=$((SECONDS + 1)); }\n"
"""Time passes without being waited for: bash's own clock is put forward."""

TOKEN = "abcdef.0123456789abcdef"
CONTROL_PLANES = {"cp1": "10.0.0.11", "cp2": "10.0.0.12", "cp3": "10.0.0.13"}
PEERS = "".join(
    f"host {name} root {address} 22 ssh-ed25519 AAAA{name}\n"
    for name, address in CONTROL_PLANES.items()
)
ADMITTED = "admit worker ssh-ed25519 AAAAworkers\nadmit control-plane ssh-ed25519 AAAAcontrols\n"
DOOR_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nPRIVATE\n-----END OPENSSH PRIVATE KEY-----\n"
SECRET_FILES = ("peers", "known-hosts", "door-key", "admitted", "join.yaml", "discovery.yaml")
"""In /run/own-kubernetes, while a phase runs."""


SPACE = "\\ "
"""In a pattern of bash."""


@cache
def _scripts() -> dict[str, list[str]]:
    """The scripts' texts by name, cut where a place of the host begins."""
    texts = {script.name: script.read_text() for script in SCRIPTS.iterdir()}
    for name, text in texts.items():
        assert not _FOREIGN.search(text), f"{name} leaves its tree"
    return {name: _PLACE.split(text) for name, text in texts.items()}


class Host:
    """One pretended host.

    Args:
        root: an empty folder.
        system: a key of ``OS_RELEASES``.
    """

    def __init__(self, root: Path, system: str = "debian-12") -> None:
        self.root = root
        self.scripts = root / "usr/local/lib/own-kubernetes"
        self._commands = root / "commands"
        self._calls = root / "calls"
        for folder in (self.scripts, self._commands):
            folder.mkdir(parents=True)
        for name, parts in _scripts().items():
            copy = self.scripts / name
            copy.write_text(f"{root}/".join(parts))
            copy.chmod(0o755)
        self.write("/etc/os-release", OS_RELEASES[system])
        self.write("/etc/fstab", "/dev/vda1 / ext4 defaults 0 1\n")
        self.write("/proc/meminfo", "MemTotal:        4028440 kB\nMemFree: 1 kB\n")
        self.write("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.command("nproc", "echo 2")
        self.command("dpkg", "echo amd64")
        self.command("hostname", "echo pretended")
        self.command("getent", f"echo root:x:0:0::{root}/home:/bin/bash")
        self.command("install", INSTALL)
        self.command("harmless", "", shell="/bin/sh")  # which starts sooner than bash
        for harmless in HARMLESS:
            (self._commands / harmless).symlink_to("harmless")

    def path(self, path: str) -> Path:
        """Where a place of the host lies here."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> Path:
        """Put a file onto the host."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        """The text of one of the host's files."""
        return self.path(path).read_text()

    def command(self, name: str, body: str, shell: str = "/bin/bash") -> None:
        """What a command does here; its calls are noted as well."""
        file = self._commands / name
        file.unlink(missing_ok=True)
        file.write_text(
            f'#!{shell}\nprintf "%s\\n" "${{0##*/}} $*" >>"{self._calls}"\n'
            f"{_PLACE.sub(f'{self.root}/', body)}\n"
        )
        file.chmod(0o755)

    def peers(self, answers: Mapping[str, str]) -> None:
        """What other hosts answer over SSH.

        Args:
            answers: what is run by "ADDRESS REQUEST", which may be a pattern; all others can't be reached.
        """
        cases = "".join(
            f"{pattern.replace(' ', SPACE)}) {body} ;;\n" for pattern, body in answers.items()
        )
        unreached = 'echo "ssh: connect to host: No route to host" >&2; exit 255'
        to = 'to=${@: -2:1}\ncase "${to#*@} ${@: -1}" in'
        self.command("ssh", f"{to}\n{cases}*) {unreached} ;;\nesac")

    @property
    def asked(self) -> list[str]:
        """What other hosts were asked over SSH: "USER@ADDRESS REQUEST"."""
        calls = [call.partition("LogLevel=ERROR ")[2] for call in self.calls]
        return [call for call in calls if call]

    def called(self, command: str) -> list[str]:
        """The calls of a command, without its name."""
        calls = [call.partition(" ") for call in self.calls]
        return [words for name, _, words in calls if name == command]

    def secrets(self) -> list[str]:
        """The files with secrets that are there."""
        return [name for name in SECRET_FILES if self.path(f"/run/own-kubernetes/{name}").exists()]

    def on_network(self, address: str) -> None:
        """The host has the address that its files name."""
        self.write("/etc/own-kubernetes/internal-address", f"{address}\n")
        self.command("ip", f"echo '2: ens10    inet {address}/32 brd {address} scope global ens10'")

    def sooner(self, script: str, bound: str, instead: str) -> None:
        """Let a script give up sooner than it would on a real host."""
        self.command("sleep", ":")
        copy = self.scripts / script
        assert bound in copy.read_text(), f"{script} has no {bound}"
        copy.write_text(copy.read_text().replace(bound, instead))

    @property
    def calls(self) -> list[str]:
        """Every call of a pretended command so far, with its arguments."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def forget_calls(self) -> None:
        """Start noting calls anew."""
        self._calls.unlink(missing_ok=True)

    def run(
        self, script: str, *words: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts as a whole."""
        return self._bash([str(self.scripts / script), *words], stdin, env)

    def source(
        self, script: str, body: str, *, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run shell lines after a script's functions were read in."""
        # A name of its own as $0: the script sees that it is sourced, and its folder.
        lines = f'set -euo pipefail\nsource "{self.scripts / script}"\n{body}\n'
        return self._bash(["-c", lines, str(self.scripts / "test")], stdin, env)

    def _bash(
        self, arguments: list[str], stdin: str, env: Mapping[str, str] | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=self.root,
            env={
                **ENVIRONMENT,
                "PATH": f"{self._commands}:{os.environ['PATH']}",
                "HOME": str(self.root),
                **(env or {}),
            },
        )
