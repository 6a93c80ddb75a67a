"""What others on the machines could see while something runs: processes' words, and files in flight."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox.machines import cgroups, login
from tests.live.background import Background

IN_FLIGHT = ("run/own-kubernetes", "tmp", "var/tmp")
"""Where on a machine the program, and what it runs, puts files for a while."""

_LARGEST = 1 << 20


class File(NamedTuple):
    """A file as it once was: where, its mode, and its contents."""

    place: str
    mode: int
    data: bytes


class Watch(Background):
    """Looks again and again, until its block ends.

    What lives for less than the interval may be missed.

    Args:
        machines: names of the machines; of all others on this host only the command lines are looked at.
        here: folders of this host whose files are looked at, too.
        interval: seconds between two looks.

    Attributes:
        command_lines: of every process that was seen.
        environments: of those on the machines.
        files: every file that was seen, once for each state of it.
        looks: how often it looked.
    """

    def __init__(
        self, machines: Sequence[str], here: Sequence[Path] = (), interval: float = 0.25
    ) -> None:
        super().__init__(interval)
        self._machines, self._here = machines, here
        self._known: set[tuple[str, int, int, int]] = set()
        self.command_lines: set[bytes] = set()
        self.environments: set[bytes] = set()
        self.files: list[File] = []
        self.looks = 0

    def once(self) -> None:
        """One look."""
        self.looks += 1
        for process in Path("/proc").glob("[0-9]*"):
            self.command_lines.add(_read(process / "cmdline"))
        for name in self._machines:
            for pid in cgroups.processes(name):
                self.environments.add(_read(Path("/proc", str(pid), "environ")))
            self._look_at_files(name)
        for folder in self._here:
            self._note(folder, str(folder))

    def _look_at_files(self, machine: str) -> None:
        try:
            root = Path("/proc", str(login.leader(machine)), "root")
        except RuntimeError:
            return  # it is off, or just between two boots
        for folder in IN_FLIGHT:
            self._note(root / folder, f"{machine}:/{folder}")

    def _note(self, folder: Path, shown: str) -> None:
        for path in files_below(folder):
            try:
                about = path.lstat()
            except OSError:
                continue  # it went meanwhile
            state = (
                f"{shown}/{path.relative_to(folder)}",
                about.st_mode,
                about.st_mtime_ns,
                about.st_size,
            )
            if state not in self._known and about.st_size <= _LARGEST:
                self._known.add(state)
                self.files.append(File(state[0], about.st_mode & 0o777, _read(path)))


def files_below(folder: Path) -> Iterator[Path]:
    """Files, and no links, while others make and remove some: ``rglob`` raises where a folder goes away."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended, or went, meanwhile
