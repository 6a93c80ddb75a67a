"""A cluster made and destroyed again and again on the same machines, every other time with an interruption.

``python -m tests.trust.loop --engine real --times 20 --minutes 9`` goes on from its record and writes
docs/loop.md. Nothing may be left, neither on the hosts nor here, and no round may take longer for those before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import site
from tests.live.cluster import FOUND, on
from tests.trust import cells as c
from tests.trust.place import Place, place
from tests.trust.record import Record, write_table
from tests.trust.runs import ENGINES, RunFailedError, best

PAGE = site.ROOT / "docs" / "loop.md"
RECORD = site.CACHE / "trust" / "loop.jsonl"

HERE = """
ip -brief link | awk '{print $1}' | sed 's/@.*//'
ip netns list | awk '{print $1}'
ip route
nft list tables 2>/dev/null
awk '{print $5}' /proc/self/mountinfo
ls -A /tmp | grep -E '^(pulumi|own-kubernetes)' || true
pgrep --full --list-name 'pulumi|sandbox.engine' | grep -v pgrep | awk '{print $2}'
"""
"""Prints all of this host that a run could leave something in."""


@dataclass(frozen=True)
class Interruption:
    """What goes wrong in a round.

    Attributes:
        name: for the table.
        steps: what is done until an ``up`` is to be tried again.
    """

    name: str
    steps: Sequence[c.Step] = ()


INTERRUPTIONS = (
    Interruption("none"),
    Interruption("`kill -9` as w1 prepares", [c.up, c.until(c.phase("w1", "prepare")), c.killed]),
    Interruption("none"),
    Interruption(
        "power cut of cp1 during init",
        [c.up, c.until(c.phase("cp1", "control-plane")), c.pause(2), c.power_cut("cp1"), c.killed],
    ),
    Interruption("none"),
    Interruption("`kill -9` in the cluster", [c.up, c.until(c.begun("metallb-webhook")), c.killed]),
    Interruption("none"),
    Interruption(
        "SSH sessions killed during the join",
        [c.up, c.until(c.phase("w1", "join")), c.no_sessions("w1"), c.ended],
    ),
)


def looks(where: Place) -> dict[str, list[str]]:
    """This host and the machines, as they are now."""
    here = subprocess.run(["bash", "-c", HERE], capture_output=True, text=True, check=False).stdout
    found = {"here": sorted(here.splitlines())}
    for name in where.nodes:
        found[name] = on(name, FOUND).splitlines()
    return found


def leaks(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What differs."""
    return [
        f"{place}: {line}"
        for place, lines in before.items()
        for line in sorted(set(lines) ^ set(after[place]))
    ]


def one(where: Place, interruption: Interruption) -> tuple[float, float]:
    """One round; returns the seconds of the ``up`` that ended well, and of ``down``.

    Raises:
        RunFailedError: it did not end well.
    """
    for step in interruption.steps:
        step(where)
    began = time.monotonic()
    where.up()
    up = time.monotonic() - began
    where.check()
    began = time.monotonic()
    where.begin("down").answer()
    return up, time.monotonic() - began


def run(engine: str, record: Record, times: int, minutes: float) -> bool:
    """Rounds until there are enough or the time is over; tells whether nothing leaked."""
    end = time.monotonic() + minutes * 60
    with place(engine) as where:
        where.bare()
        before = looks(where)
        for number in range(len(rounds(record, engine)), times):
            if time.monotonic() > end:
                break
            interruption = INTERRUPTIONS[number % len(INTERRUPTIONS)]
            up, down = one(where, interruption)
            left = leaks(before, looks(where))
            entry = {"up": round(up), "down": round(down), "left": left}
            record.add(f"{engine} {number + 1}", interruption=interruption.name, **entry)
            print(
                f"{number + 1:>3}  up {up:.0f} s  down {down:.0f} s  {interruption.name}  {left}",
                flush=True,
            )
            if left:
                return False
    return True


def rounds(record: Record, engine: str) -> list[dict[str, object]]:
    """What the record has of an engine."""
    return [entry for key, entry in record.entries.items() if key.startswith(f"{engine} ")]


def growth(seconds: Sequence[float]) -> str:
    """The first half's median against the second's."""
    half = len(seconds) // 2
    if not half:
        return ""
    first, second = statistics.median(seconds[:half]), statistics.median(seconds[half:])
    return f"median of the first half {first:.0f} s, of the second {second:.0f} s"


def write_page(record: Record) -> None:
    """Write the table of all rounds."""
    rows: list[list[object]] = []
    for engine in ENGINES:
        found = rounds(record, engine)
        for number, entry in enumerate(found, 1):
            left = "; ".join(map(str, entry["left"])) or "nothing"  # type: ignore[call-overload]
            rows.append([engine, number, entry["interruption"], entry["up"], entry["down"], left])
        if found:
            plain = [float(str(e["up"])) for e in found if e["interruption"] == "none"]
            rows.append([engine, "", "without interruption", growth(plain), "", ""])
    write_table(PAGE, ["engine", "round", "interruption", "up, s", "down, s", "left"], rows)


def main() -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.loop")
    parser.add_argument("--engine", choices=sorted(ENGINES), default=best())
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no round after these")
    parser.add_argument("--record", type=Path, default=RECORD)
    told = parser.parse_args()
    record = Record(told.record)
    try:
        well = run(told.engine, record, told.times, told.minutes)
    except RunFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        well = False
    write_page(record)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
