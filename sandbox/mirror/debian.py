"""Debian's own packages, fetched with all they depend on, beside this host's apt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from sandbox.mirror import archive, host

RELEASE: Final = "bookworm"
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCES: Final = (
    ("http://deb.debian.org/debian", RELEASE),
    ("http://deb.debian.org/debian", f"{RELEASE}-updates"),
    ("http://deb.debian.org/debian-security", f"{RELEASE}-security"),
)


def fetch(packages: Sequence[str]) -> list[Path]:
    """Fetch packages and their dependencies, for a system that has nothing yet.

    The host's apt state stays as it is: lists, status and archives are private, and only the
    host's apt settings (proxies) apply.
    """
    digest = hashlib.sha256(repr((RELEASE, sorted(packages))).encode()).hexdigest()[:10]
    target = host.HOME / "debian" / digest
    if not target.exists():
        _update()
        with host.fresh(target) as folder:
            (folder / "partial").mkdir()
            _apt("install", "--download-only", "--yes", *packages, archives=folder)
            (folder / "partial").rmdir()
            (folder / "lock").unlink(missing_ok=True)
    return sorted(target.glob("*.deb"))


def command(package: str, path: str) -> Path:
    """Fetch one file of a package; its directory is named after the package's version."""
    (deb,) = (found for found in fetch([package]) if found.name.startswith(f"{package}_"))
    target = host.HOME / "bin" / deb.stem / Path(path).name
    if not target.exists():
        host.write(target, archive.member(deb, path))
    target.chmod(0o755)
    return target


@cache
def _update() -> None:
    """Read Debian's package lists into the private state, once in a run."""
    root = host.WORK / "apt"
    for part in ("lists/partial", "parts"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "status").write_text("")
    lines = (f"deb [signed-by={_KEYS}] {url} {suite} main\n" for url, suite in _SOURCES)
    (root / "sources.list").write_text("".join(lines))
    _apt("update", archives=root)


def _apt(command: str, *args: str, archives: Path) -> None:
    root = host.WORK / "apt"
    settings = {
        "Dir::State": root,
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Cache::archives": archives,
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": root / "parts",
        "Dir::Etc::preferencesparts": root / "parts",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "3",
    }
    options = [f"-o{key}={value}" for key, value in settings.items()]
    host.run(["apt-get", command, "-qq", *options, *args])
