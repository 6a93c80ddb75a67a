"""Processes of the sandbox that outlive the one that starts them.

Each is a Python module in a control group of its own, by which it is found and ended.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sandbox import site
from sandbox.machines import cgroups

STATE: Final = site.STATE / "detached"
"""Directory for files of processes that belong to no machine."""

_ENTER: Final = Path(__file__).parent / "enter.sh"


def start(name: str, module: Sequence[str], log: Path, namespace: str | None = None) -> None:
    """Start ``python -m MODULE...`` in the background.

    Args:
        name: what it is known by; its group is ``NAME.supervisor``.
        module: the module and its arguments.
        log: file that takes what it prints.
        namespace: network namespace it lives in; this process's own by default.
    """
    within = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    command = [*within, "setsid", "--fork", sys.executable, "-m", *module]
    with log.open("a") as output:
        subprocess.run(
            [_ENTER, cgroups.supervisor_file(name), "--", *command],
            cwd=site.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
        )


def running(name: str) -> bool:
    """Whether the process is there."""
    return bool(cgroups.processes(f"{name}.supervisor"))


def directories(name: str) -> set[Path]:
    """The process's checkout: where it was started."""
    found = set()
    for pid in cgroups.processes(f"{name}.supervisor"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.add(Path(f"/proc/{pid}/cwd").readlink())
    return found


def stop(name: str) -> None:
    """End the process, if it is there."""
    cgroups.kill(f"{name}.supervisor")
    cgroups.remove(f"{name}.supervisor")
