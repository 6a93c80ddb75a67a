"""The machines' control groups: bounds, and the one sure list of the processes of a machine.

Groups lie in ``sandbox/`` at the top of each hierarchy. A host with cgroup v1 (or hybrid) has a
hierarchy per controller; one with v2 has a single one, where the machine gets its subtree delegated
and systemd-nspawn divides it further. The v2 branches are written from the kernel's documentation:
no v2 host was at hand, so they were never run.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PARENT = "sandbox"

_NEEDED = {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}
"""What a kubelet wants to find enabled on cgroup v2."""


def unified() -> bool:
    """Whether this host has cgroup v2 only."""
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    if unified():
        return [ROOT]
    found = (path for path in ROOT.iterdir() if not path.is_symlink())
    return sorted(path for path in found if (path / "cgroup.procs").exists())


def _tracking() -> Path:
    """The hierarchy by which processes are found; systemd cannot run without it."""
    return ROOT if unified() else ROOT / "systemd"


def enter_files(name: str, memory_mib: int, cpus: float) -> list[Path]:
    """Make the machine's groups; whoever writes its process id to these files is bound by them."""
    groups = [hierarchy / PARENT / name for hierarchy in _hierarchies()]
    for group in groups:
        _make(group)
    limits = {
        "memory.limit_in_bytes": str(memory_mib << 20),
        "cpu.cfs_quota_us": str(int(cpus * 100_000)),
        "memory.max": str(memory_mib << 20),
        "memory.swap.max": "0",
        "cpu.max": f"{int(cpus * 100_000)} 100000",
    }
    for group in groups:
        for file, value in limits.items():
            if (group / file).exists():
                (group / file).write_text(value)
    return [group / "cgroup.procs" for group in groups]


def supervisor_file(name: str) -> Path:
    """Make the group of a machine's supervisor, which bounds nothing and only makes it findable."""
    group = _tracking() / PARENT / f"{name}.supervisor"
    _make(group)
    return group / "cgroup.procs"


def _make(group: Path) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for level in (group.parent, group):
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1: empty at first, and then useless
            if not unified() and (level / file).exists():
                (level / file).write_text((level.parent / file).read_text())
    if unified():
        for level in (ROOT, group.parent):
            wanted = _NEEDED.intersection((level / "cgroup.controllers").read_text().split())
            (level / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))


def names() -> set[str]:
    """Names of the groups that exist, supervisors' among them."""
    return {
        group.name
        for hierarchy in _hierarchies()
        for group in (hierarchy / PARENT).glob("*")
        if group.is_dir()
    }


def processes(name: str) -> list[int]:
    """Process ids in the group and all below it.

    A machine makes and removes groups while this looks: ``os.walk`` passes over one that went away, where
    ``Path.rglob`` raises.
    """
    found: list[int] = []
    for group, _, _ in os.walk(_tracking() / PARENT / name):
        try:
            found += map(int, (Path(group) / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found


def kill(name: str, timeout: float = 20) -> None:
    """Kill all processes of the group at once; return when none is left.

    Raises:
        TimeoutError: a process outlived it for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while pids := processes(name):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name}: processes {pids} do not die")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def remove(name: str) -> None:
    """Remove the group, which must be empty of processes, from all hierarchies."""
    for hierarchy in _hierarchies():
        group = hierarchy / PARENT / name
        for path in sorted(group.rglob("*/"), reverse=True):
            path.rmdir()
        if group.exists():
            group.rmdir()


def remove_parent() -> None:
    """Remove ``sandbox/`` itself once no group is left in it."""
    for hierarchy in _hierarchies():
        if (hierarchy / PARENT).exists():
            (hierarchy / PARENT).rmdir()


def leftovers() -> list[str]:
    """Groups of the sandbox that exist."""
    return [
        f"cgroup {hierarchy / PARENT}"
        for hierarchy in _hierarchies()
        if (hierarchy / PARENT).exists()
    ]
