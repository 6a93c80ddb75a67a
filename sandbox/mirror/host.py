"""What the mirror needs of this host: commands, Debian packages, a Go toolchain, cached places."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox import site
from sandbox.mirror.errors import MirrorError

HOME: Final = site.CACHE / "mirror"
"""Everything the mirror keeps."""
WORK: Final = HOME / "work"
"""Scratch of a build under way, and its logs."""
PACKAGES: Final = ("ca-certificates", "gcc", "gnupg", "libc6-dev")
"""Debian packages the build needs on this host, besides Python and dpkg."""
GO_MINOR: Final = 26
"""Least minor of Go 1 that can build all parts."""
GO_VERSION: Final = "1.26.8"
"""The Go that is fetched where the host has none, or an older one."""
GO_CACHE_LIMIT: Final = 8 << 30
"""Bytes of compiled packages that may stay behind after a build."""

Log = Callable[[str], None]


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end and return what it printed on stdout.

    Args:
        args: The command; nothing secret goes here.
        cwd: Where it runs; default is where we are.
        env: Added to our own environment.
        stdin: Its whole input; default is none.

    Raises:
        MirrorError: It failed; carries the last lines that it printed.
    """
    done = subprocess.run(
        [str(arg) for arg in args],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        what = " ".join(map(str, (Path(args[0]).name, *args[1:2])))
        raise MirrorError(f"{what} ended with {done.returncode}:\n{tail}")
    return done.stdout


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the mirror's lock of that name: two runs at once would build everything twice."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh(target: Path) -> Iterator[Path]:
    """Give an empty directory that becomes `target` at the end, so that a target is always whole."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def write(target: Path, data: bytes) -> None:
    """Write a file at one stroke: readers see the old content or the new."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(data)
    part.replace(target)


def ensure_packages(names: Sequence[str] = PACKAGES) -> None:
    """Install those of the Debian packages that this host lacks."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    missing = [name for name in names if f"{name} installed" not in shown.splitlines()]
    if not missing:
        return
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    wait = "-oDPkg::Lock::Timeout=300"
    run(["apt-get", "update", "-qq", wait], env=env)
    run(["apt-get", "install", "-qq", "--no-install-recommends", wait, *missing], env=env)


def go() -> Path:
    """Give a Go command that is new enough, fetching a toolchain where the host has none."""
    found = shutil.which("go")
    if found and _go_minor(found) >= GO_MINOR:
        return Path(found)
    return go_release(GO_VERSION)


def go_release(version: str) -> Path:
    """Give the Go command of one release, fetching it unless the cache has it."""
    command = HOME / "go" / version / "bin" / "go"
    if not command.exists():
        _fetch_go(version, command.parent.parent)
    return command


def _go_minor(command: str) -> int:
    match = re.search(r"go1\.(\d+)", run([command, "version"], env={"GOTOOLCHAIN": "local"}))
    return int(match[1]) if match else 0


def _fetch_go(version: str, target: Path) -> None:
    """Any Go, however old, can fetch the wanted one: toolchains are modules too."""
    if shutil.which("go") is None:
        ensure_packages(("golang-go",))
    module = f"golang.org/toolchain@v0.0.1-go{version}.linux-amd64"
    got = json.loads(run(["go", "mod", "download", "-json", module]))
    with fresh(target) as tree:
        shutil.copytree(got["Dir"], tree, dirs_exist_ok=True)
        run(["chmod", "--recursive", "u+w", tree])
        # A module's archive keeps no modes and no nested go.mod, so both are put back here.
        for file in tree.rglob("_go.mod"):
            file.rename(file.with_name("go.mod"))
        for folder in (tree / "bin", tree / "pkg" / "tool"):
            run(["chmod", "--recursive", "u=rwX,go=rX,a+x", folder])


def trim_go_cache() -> None:
    """Throw the compiled packages away when they have grown beyond their bound."""
    cache = WORK / "go-build"
    if cache.exists() and int(run(["du", "-sb", cache]).split()[0]) > GO_CACHE_LIMIT:
        shutil.rmtree(cache)
