"""Commands built from Go modules, or from Go sources beside this file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.mirror import host

_LOCAL: Final = re.compile(r"^(?:replace )?\s*(?P<module>\S+)(?: \S+)? => \.\.?/\S+$")


@dataclass(frozen=True, kw_only=True)
class Build:
    """One ``go build``: some commands of one module, compiled together because they share most.

    Args:
        name: What it is called in logs and in the cache.
        version: The module's version (``v1.2.3``), or anything that names the local sources' state.
        packages: Packages of the commands, relative to the module's root.
        module: Module path; empty for local sources.
        source: Directory of local sources; default is the module's own, from the module proxy.
        stamps: Variables to set, as in ``-ldflags -X``.
        tags: Build tags.
        cgo: Link C code, statically.
        drop: Modules to strike from go.mod; what imports them must be in `empty`.
        empty: Packages (directories of the module) to build as if they held nothing; only for
            those that are imported for their registration alone.
        replace: Modules taken from a directory.
        staging: Version to give to modules that go.mod finds in the module's own tree; default
            is to leave these to the version that is required.
        test: Its one package is tests: compiled to a command called ``NAME.test``.
        own_go: Build with the Go release that the module's ``.go-version`` names: what is years
            old may behave otherwise when built with a Go that nobody tried then.
    """

    name: str
    version: str
    packages: tuple[str, ...]
    module: str = ""
    source: Path | None = field(default=None, repr=False)
    stamps: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cgo: bool = False
    drop: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    replace: Mapping[str, Path] = field(default_factory=dict, repr=False)
    staging: str = ""
    # Not in what names a result's folder: all that was built before there were tests keeps its own.
    test: bool = field(default=False, repr=False)
    own_go: bool = False

    @property
    def output(self) -> Path:
        """Directory of the finished commands; its name tells everything that went into them."""
        folders = (*self.replace.values(), *filter(None, [self.source]))
        inputs = [repr(self), *map(tree_digest, folders)]
        return host.HOME / "bin" / f"{self.name}-{self.version}-{digest(repr(inputs).encode())}"

    def command(self, name: str) -> Path:
        """Path of one finished command."""
        return self.output / name


def digest(data: bytes) -> str:
    """Short digest for the name of a directory in the cache."""
    return hashlib.sha256(data).hexdigest()[:10]


def tree_digest(folder: Path) -> str:
    """Digest of a directory's files: names and contents."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if "__pycache__" not in file.parts:
            whole.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return whole.hexdigest()


def edit_mod(text: str, build: Build) -> str:
    """Make a published module's go.mod fit to build the module alone.

    Such a file points at siblings in its repository, which a module's archive does not hold: they
    are to come from the module proxy instead, all of the same release.
    """
    lines: list[str] = []
    for line in text.splitlines():
        local = _LOCAL.match(line)
        if local and build.staging:
            lines.append(line.replace(line.split("=> ")[1], f"{local['module']} {build.staging}"))
        elif not local and not any(f"{module} v" in line for module in build.drop):
            lines.append(line)
    lines += [f"replace {module} => {folder}" for module, folder in build.replace.items()]
    return "\n".join(lines) + "\n"


def download(module: str, version: str) -> Path:
    """Fetch a module and return its directory (read-only, in Go's own cache)."""
    args: list[str | Path] = [host.go(), "mod", "download", "-json", f"{module}@{version}"]
    return Path(json.loads(host.run(args, env=_ENV))["Dir"])


_ENV: Final = {
    # Whatever Go runs this is new enough: no silent download of yet another one.
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "",
    "GOWORK": "off",
    "GOCACHE": str(host.WORK / "go-build"),
}


def build(recipe: Build) -> None:
    """Compile the commands into ``recipe.output``; does nothing when they are there."""
    if recipe.output.exists():
        return
    work = host.WORK / recipe.name
    work.mkdir(parents=True, exist_ok=True)
    source = recipe.source or download(recipe.module, recipe.version)
    go = host.go()
    if recipe.own_go:
        go = host.go_release((source / ".go-version").read_text().strip())
    if recipe.empty:
        source = _emptied(recipe, source, work / "source")
    options = ["-buildvcs=false", "-trimpath", "-ldflags", _ldflags(recipe)]
    if recipe.tags:
        options += ["-tags", ",".join(recipe.tags)]
    if recipe.module:
        options += _own_mod(recipe, source, work)
    with host.fresh(recipe.output) as output:
        args: list[str | Path] = [
            go,
            # Else all that the tests use would be vetted too, which takes as long as to compile it.
            *(("test", "-c", "-vet=off") if recipe.test else ("build",)),
            *options,
            "-o",
            f"{output}/",
            *recipe.packages,
        ]
        host.run(args, cwd=source, env={**_ENV, "CGO_ENABLED": str(int(recipe.cgo))})


def _own_mod(recipe: Build, source: Path, work: Path) -> list[str]:
    """Options that build a module where it lies, with our edited go.mod in place of its own."""
    mod = work / "go.mod"
    mod.write_text(edit_mod((source / "go.mod").read_text(), recipe))
    (work / "go.sum").write_bytes((source / "go.sum").read_bytes())
    return ["-mod=mod", f"-modfile={mod}"]


def _emptied(recipe: Build, source: Path, copy: Path) -> Path:
    """Copy a module (Go lets nobody change or overlay its cache) and empty the unwanted packages."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    host.run(["chmod", "--recursive", "u+w", copy])
    for package in recipe.empty:
        folder = copy / package
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "empty.go").write_text("package empty\n")
    return copy


def _ldflags(recipe: Build) -> str:
    stamps = "".join(f" -X {name}={value}" for name, value in recipe.stamps.items())
    return f"-s -w{stamps}" + (' -extldflags "-static"' if recipe.cgo else "")
