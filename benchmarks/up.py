"""A fresh ``up`` of one control plane and two workers, against the best script one would write by hand.

Both start from machines that have just booted, with the mirror running, and end when the page answers 200 by
its host name at the ingress address. They take turns, so that a slower hour of this computer slows both.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks import handwritten
from sandbox import dev, engine, machines
from sandbox.engine import Log, standin
from sandbox.engine.real import RealEngine

GOAL = 1.10
PREVIEW_GOAL = 1.5
LEAST_ROUNDS = 3
PREVIEWS = 5
"""How often each preview is run; the median counts."""

Lines = list[str]
"""What a run said."""


class Round(NamedTuple):
    """One turn of both: seconds, and what was said on the way."""

    program: float
    script: float
    program_lines: Lines
    script_lines: Lines


class Phase(NamedTuple):
    """One line of the timeline; seconds since the start of the run."""

    start: float
    seconds: float
    host: str
    what: str


def main() -> int:
    """Measure, print the table, take everything down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.up", description=__doc__)
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="3 or more")
    rounds = parser.parse_args().rounds
    if rounds < LEAST_ROUNDS:
        parser.error(f"fewer than {LEAST_ROUNDS} rounds say little")
    if os.geteuid() != 0:
        print("error: the sandbox makes machines and networks: run it as root", file=sys.stderr)
        return 1
    if machines.running():
        print(
            "error: machines are running: `make down` first, this needs fresh ones", file=sys.stderr
        )
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _bench(rounds)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        _remove_machines()
        dev.down()
    return 0


def _bench(rounds: int) -> None:
    took: list[Round] = []
    previews: list[str] = []
    for number in range(1, rounds + 1):
        program = _turn(f"round {number}, the program", _program)
        if number == rounds:
            previews = _previews()
        script = _turn(f"round {number}, the script", _script)
        took.append(Round(program[0], script[0], program[1], script[1]))
    end = took[-1]
    report = [*table(took), "", *timeline(end.program_lines), "", "one run of the script:"]
    print("\n".join(["", *report, *end.script_lines, "", *previews]))


def _turn(title: str, ready: Callable[[Path], Callable[[Log], None]]) -> tuple[float, Lines]:
    """Fresh machines, then one run: its seconds, and what it said.

    Args:
        title: what to call it.
        ready: gets a folder to use; makes all that is not to be counted, returns what is.
    """
    _remove_machines()
    dev.start_site(_quiet)
    print(f"--- {title}", flush=True)
    lines: Lines = []

    def log(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    with _scratch() as folder:
        run = ready(folder)
        began = time.monotonic()
        run(log)
        seconds = time.monotonic() - began
    print(f"--- {title}: {seconds:.1f} s", flush=True)
    return seconds, lines


def _program(_folder: Path) -> Callable[[Log], None]:
    def run(log: Log) -> None:
        outputs = engine.choose(log).up(log)
        dev.fetch_page(outputs["ingressAddress"], dev.host_of(outputs))

    return run


def _script(folder: Path) -> Callable[[Log], None]:
    return partial(handwritten.run, handwritten.render(folder / "inputs"))


def _remove_machines() -> None:
    """Machines and all that engines know of them go; the mirror stays as it is."""
    for name in dev.stack_nodes():
        machines.remove(name)
    shutil.rmtree(standin.HOME, ignore_errors=True)


def _quiet(_line: str) -> None:
    pass


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="own-kubernetes-bench-") as folder:
        yield Path(folder)


# Previews


def _previews() -> list[str]:
    """The no-op preview of the running stack, against that of a program which declares nothing."""
    ours = engine.choose(_quiet)
    if not isinstance(ours, RealEngine):
        return ["previews: not measured, the stand-in engine has none"]
    with _scratch() as folder:
        empty = _empty_project(folder)
        empty.up(_quiet)
        before = _logins()
        seconds = [(_timed(ours), _timed(empty)) for _ in range(PREVIEWS)]
        logins = sum(_logins().values()) - sum(before.values()) - len(before)
    mine, nothing = (statistics.median(column) for column in zip(*seconds, strict=True))
    return [
        f"no-op preview       {mine:.2f} s; of an empty program {nothing:.2f} s; "
        f"ratio {mine / nothing:.2f} (median of {PREVIEWS}, goal {PREVIEW_GOAL})",
        f"SSH logins it made  {logins} in {PREVIEWS} previews (goal 0)",
    ]


def _timed(one: RealEngine) -> float:
    began = time.monotonic()
    changes = one.preview(_quiet)
    if set(changes) - {"same"}:
        raise RuntimeError(f"the preview was to change nothing, but says {changes}")
    return time.monotonic() - began


def _empty_project(folder: Path) -> RealEngine:
    root = folder / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "empty", "runtime": "python"}))
    (root / "Pulumi.dev.yaml").write_text("config: {}\n")
    (root / "__main__.py").write_text('"""Declares nothing."""\n\nimport pulumi  # noqa: F401\n')
    return RealEngine(root, folder / "engine")


def _logins() -> dict[str, int]:
    """Logins so far by machine, from its SSH server's journal; looking is one more."""
    count = "journalctl --sync; journalctl --quiet --output=cat _COMM=sshd | grep -c ^Accepted"
    return {name: int(machines.ssh(name, count).stdout) for name in dev.stack_nodes()}


# Reports


def table(took: Sequence[Round]) -> list[str]:
    """Times of both, and the ratio pair by pair."""
    rows = {
        "program (s)": [one.program for one in took],
        "script (s)": [one.script for one in took],
        "ratio": [one.program / one.script for one in took],
    }
    lines = [f"{'':<12}{'median':>8}{'min':>8}{'max':>8}   rounds"]
    for name, values in rows.items():
        digits = 2 if name == "ratio" else 1
        three = (statistics.median(values), min(values), max(values))
        cells = "".join(f"{value:>8.{digits}f}" for value in three)
        lines.append(f"{name:<12}{cells}   {' '.join(f'{v:.{digits}f}' for v in values)}")
    return [*lines, f"goal: a ratio of {GOAL:.2f}"]


_LINE = re.compile(r"\[ *(?P<at>[\d.]+) s\] (?P<name>\S+) +(?P<text>.*)")
_STEP = re.compile(r"(?P<what>.+): (?P<seconds>[\d.]+) s")
_DONE = re.compile(r"\w+ done in (?P<seconds>[\d.]+) s")


def phases(lines: Lines) -> list[Phase]:
    """What the engine's progress lines say was done, where, when and how long, by host and start."""
    found = []
    for line in lines:
        if (match := _LINE.fullmatch(line)) is None:
            continue
        step = _STEP.fullmatch(match["text"]) or _DONE.fullmatch(match["text"])
        if step is not None:
            host, _, resource = match["name"].partition("-")
            inner = step.groupdict().get("what")
            seconds = float(step["seconds"])
            known = host in dev.stack_nodes()
            what = resource if known else match["name"]
            found.append(
                Phase(
                    max(0.0, float(match["at"]) - seconds),
                    seconds,
                    host if known else "cluster",
                    f"  {inner}" if inner else what,
                )
            )
    return sorted(found, key=lambda phase: (phase.host, phase.start, -phase.seconds))


def timeline(lines: Lines) -> list[str]:
    """The phases of one run, host by host."""
    told = ["one run of the program:", f"{'':<10}{'start':>7}{'took':>7}"]
    return [
        *told,
        *(f"{p.host:<10}{p.start:>7.1f}{p.seconds:>7.1f}  {p.what}" for p in phases(lines)),
    ]


if __name__ == "__main__":
    sys.exit(main())
