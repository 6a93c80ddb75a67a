"""The mirror's build: part by part, each skipped where the cache has it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cluster import versions
from sandbox.mirror import builds, charts, debian, golang, host, oci, packages, parts
from sandbox.mirror.parts import Part

EXTRA: Final = host.HOME / "extra"
"""Real charts (``*.tgz``) and images (``*.tar`` from ``docker save``) put beside the mirror.

They take the place of what the mirror would otherwise serve under the same name.
"""
TOOLS: Final = host.HOME / "tools"


def build(kubernetes: str = versions.KUBERNETES, log: host.Log = print) -> None:
    """Build everything that a cluster of this Kubernetes version downloads.

    What other versions need stays served beside it. A second run finds all in the cache and does
    nothing; a run that was interrupted goes on with the part where it was.

    Args:
        kubernetes: Version without a leading ``v``.
        log: Called with one line as each part starts and finishes.

    Raises:
        MirrorError: A part could not be built; the message has the end of the tool's own words.
    """
    builds.parse(kubernetes)
    done = host.HOME / "done" / f"{kubernetes}-{_inputs()}"
    if done.exists():
        return
    with host.locked("build"):
        with _step("host packages", log):
            host.ensure_packages()
        _build_parts(kubernetes, log)
        _link_tools(kubernetes)
        with _step("Debian packages", log):
            packages.add(debian.fetch(parts.HOST_PREPARATION))
        with _step("package lists", log):
            packages.index()
        with _step("charts and extras", log):
            _charts()
            _extras()
        host.trim_go_cache()
        host.write(done, b"")


def build_optional(name: str, kubernetes: str = versions.KUBERNETES, log: host.Log = print) -> None:
    """Build a part that no cluster asks for unless its stack file does; see :func:`build` for the rest.

    Args:
        name: one of ``parts.optional_parts``.
        kubernetes: as for :func:`build`.
        log: as for :func:`build`.

    Raises:
        MirrorError: it could not be built.
    """
    (part,) = (part for part in parts.optional_parts(kubernetes) if part.name == name)
    with host.locked("build"):
        _build(part, log)


def _build_parts(kubernetes: str, log: host.Log) -> None:
    first, *rest = parts.all_parts(kubernetes)
    _build(first, log)
    for part in (*parts.cluster_parts(kubernetes), *rest):
        _build(part, log)


def _build(part: Part, log: host.Log) -> None:
    with _step(part.name, log):
        for recipe in part.builds:
            golang.build(recipe)
        for package in part.packages():
            packages.publish(package)
        for image in part.images():
            oci.publish(image)
        for chart in part.charts():
            charts.publish(chart)


@contextmanager
def _step(name: str, log: host.Log) -> Iterator[None]:
    log(f"mirror: {name} ...")
    start = time.monotonic()
    yield
    log(f"mirror: {name} done in {time.monotonic() - start:.1f} s")


def _charts() -> None:
    metallb = golang.download(builds.METALLB.module, builds.METALLB.version) / "charts" / "metallb"
    for source in (metallb, builds.HERE / "ingress" / "chart"):
        charts.publish(charts.named(source))


def _extras() -> None:
    for chart in sorted(EXTRA.glob("*.tgz")):
        charts.copy(chart)
    for saved in sorted(EXTRA.glob("*.tar")):
        oci.load(saved)


def _link_tools(kubernetes: str) -> None:
    """Point the host's tools at this build, but let another version's leave the default's alone."""
    TOOLS.mkdir(exist_ok=True)
    for name, command in parts.tools(kubernetes).items():
        if kubernetes != versions.KUBERNETES and (TOOLS / name).exists():
            continue
        part = TOOLS / f".{name}.part"
        part.unlink(missing_ok=True)
        part.symlink_to(command)
        part.replace(TOOLS / name)


def _inputs() -> str:
    """Digest of all that a build's outcome depends on, besides the Kubernetes version."""
    extras = [(path.name, path.stat().st_mtime_ns) for path in sorted(EXTRA.glob("*"))]
    pins: Sequence[object] = (
        golang.tree_digest(builds.HERE),
        Path(versions.__file__).read_text(),
        extras,
        os.uname().machine,
    )
    return golang.digest(repr(pins).encode())
