"""The table of faults: each at three points of a run, then ``up`` again, nothing edited by hand.

``python -m tests.trust.faults --engine real --only F1,F3:late --minutes 9`` tries what its record has not as
done yet, and writes docs/faults.md. As root, on machines of its own; the record outlives them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox import machines, site
from tests.trust import cells as c
from tests.trust.cells import Cell
from tests.trust.place import THREE, Place, place
from tests.trust.record import Record, write_table
from tests.trust.runs import ENGINES, PointMissedError, RunFailedError, best

PAGE = site.ROOT / "docs" / "faults.md"
RECORD = site.CACHE / "trust" / "faults.jsonl"

EARLY, MIDDLE, LATE = "early", "middle", "late"
JOINING = "control-plane"
"""The phase of a control plane."""


def cells() -> Iterator[Cell]:
    """All of the table."""
    yield from ssh_drops()
    yield from reboots()
    yield from killed_programs()
    yield from halves()
    yield from tokens()
    yield from control_planes_at_once()
    yield from locks()
    yield from clocks()
    yield from host_keys()
    yield from lost_machines()
    yield from unreachable_on_destroy()
    yield from releases()
    yield from webhooks()
    yield from outages()


def ssh_drops() -> Iterator[Cell]:
    """F1: the work goes on detached on the host; the rerun attaches to it."""
    cut = c.no_sessions("w2")
    running = c.until(c.phase("w2", "prepare"))
    yield Cell("F1", EARLY, "SSH sessions killed while a worker prepares",
               c.new_worker, [c.up, running, cut])  # fmt: skip
    steps = [c.up, c.until(c.phase("cp1", JOINING)), c.link("cp1", up=False), c.pause(20)]
    yield Cell("F1", MIDDLE, "link down for 20 s during kubeadm init",
               c.bare, [*steps, c.link("cp1", up=True)])  # fmt: skip
    yield Cell("F1", LATE, "SSH sessions killed during a worker's join",
               c.new_worker, [c.up, c.until(c.phase("w2", "join")), cut])  # fmt: skip


def reboots() -> Iterator[Cell]:
    """F2: the rerun resumes, or resets only what our own marker shows as unfinished."""
    for point, start, machine, phase in (
        (EARLY, c.new_worker, "w2", "prepare"),
        (MIDDLE, c.bare, "cp1", JOINING),
        (LATE, c.new_worker, "w2", "join"),
    ):
        running = c.until(c.phase(machine, phase))
        yield Cell("F2", point, f"power cut of {machine} during {phase}",
                   start, [c.up, running, c.pause(2), c.power_cut(machine), c.ended])  # fmt: skip


def killed_programs() -> Iterator[Cell]:
    """F3: the rerun ends in the same cluster."""
    for point, start, resource in (
        (EARLY, c.bare, "cp1-prepare"),
        (MIDDLE, c.bare, "w1-join"),
        (LATE, c.bare, "metallb-webhook"),
    ):
        yield Cell("F3", point, f"`kill -9` of the program and its engine at {resource}",
                   start, [c.up, c.until(c.begun(resource)), c.killed])  # fmt: skip


def halves() -> Iterator[Cell]:
    """F4: healthy is adopted; ours and unfinished is done again; somebody else's is refused, untouched."""
    for point, path in (
        (EARLY, "/etc/kubernetes/pki/ca.crt"),
        (MIDDLE, "/var/lib/etcd/member"),
    ):
        steps = [c.up, c.until(c.there("cp1", path)), c.phase_killed("cp1", JOINING), c.ended]
        yield Cell("F4", point, f"kubeadm init killed once {path} is there", c.bare, steps)
    yield Cell("F4", LATE, "the engine's state lost: the healthy cluster is adopted",
               c.living, [c.without_state, c.up])  # fmt: skip
    theirs = "/etc/kubernetes/kubelet.conf"
    steps = [c.shell("w2", f"mkdir -p /etc/kubernetes; echo theirs >{theirs}"), c.up, c.ended]
    kept = c.shell("w2", f"grep -qx theirs {theirs} && rm {theirs}")
    yield Cell("F4", "foreign", "a host of somebody else's cluster: refused, untouched",
               c.new_worker, [*steps, kept],
               says="a Kubernetes node that this program did not make")  # fmt: skip


def tokens() -> Iterator[Cell]:
    """F5: minted at join, never used again."""
    joining = [c.up, c.until(c.phase("w2", "join"))]
    spent = c.shell("cp1", c.TOKENS.format(deed=c.DELETED))
    yield Cell("F5", EARLY, "every token deleted as soon as it is minted",
               c.new_worker, [*joining, spent])  # fmt: skip
    expired = c.shell("cp1", c.TOKENS.format(deed=c.EXPIRED))
    yield Cell("F5", MIDDLE, "every token expired as soon as it is minted",
               c.new_worker, [*joining, expired])  # fmt: skip
    used = c.until(c.there("w2", "/var/lib/kubelet/config.yaml"))
    yield Cell("F5", LATE, "join killed when its token was used: another one is minted",
               c.new_worker, [*joining, used, c.phase_killed("w2", "join"), c.ended])  # fmt: skip


def control_planes_at_once() -> Iterator[Cell]:
    """F6: they go one by one."""
    yield Cell("F6", EARLY, "three control planes made at once",
               c.three, [c.up], finish=c.one_by_one)  # fmt: skip

    def one(place: Place) -> None:
        c.three(place)
        place.nodes = {"cp1": THREE["cp1"]}
        place.up()
        place.nodes = dict(THREE)

    yield Cell("F6", MIDDLE, "two control planes added in one edit",
               one, [c.up], finish=c.one_by_one)  # fmt: skip
    steps = [c.up, c.until(c.phase("cp2", JOINING)), c.killed]
    yield Cell("F6", LATE, "`kill -9` while the second joins, and `up` at once",
               c.three, steps, finish=c.one_by_one)  # fmt: skip


def locks() -> Iterator[Cell]:
    """F7: waits with a bound."""
    yield Cell("F7", EARLY, "lock of the package lists held for 30 s as cp1 prepares",
               c.bare, [c.locked("cp1", c.LISTS, 30), c.up, c.pause(30)])  # fmt: skip
    steps = [c.locked("w2", c.DPKG, 40), c.up, c.until(c.phase("w2", "prepare")), c.pause(30)]
    yield Cell("F7", MIDDLE, "dpkg's lock held for 30 s as a worker prepares", c.new_worker, steps)

    def out(place: Place) -> None:
        del place.nodes["w2"]

    yield Cell("F7", LATE, "dpkg's lock held for 30 s as a worker is given back",
               c.with_worker, [out, c.locked("w2", c.DPKG, 30), c.up, c.pause(30)])  # fmt: skip


def clocks() -> Iterator[Cell]:
    """F8: found before init or join, and corrected or refused by host name."""
    says = "the clock is off by 3600 s"
    off = c.shell("cp1", c.FALSE_DATE)
    steps = [off, c.up, c.ended, c.nothing_prepared("cp1"), c.shell("cp1", c.RIGHT_DATE)]
    yield Cell("F8", EARLY, "clock of cp1 an hour ahead: refused", c.bare, steps, says=says)
    off, right = c.shell("w2", c.FALSE_DATE), c.shell("w2", c.RIGHT_DATE)
    steps = [c.up, c.until(c.phase("w2", "prepare")), off, c.ended, right]
    yield Cell("F8", MIDDLE, "clock of a worker moved between prepare and join: refused",
               c.new_worker, steps, says=says)  # fmt: skip
    yield Cell("F8", LATE, "the same with a time service on the host: corrected",
               c.new_worker, [off, c.shell("w2", c.TIME_SERVICE), c.up])  # fmt: skip


def host_keys() -> Iterator[Cell]:
    """F9: refused before any command runs; a rebuilt machine has an explicit way to rotate."""
    says = "another machine answers at 10.77.0."
    steps = [c.other_key("cp1"), c.up, c.ended, c.nothing_done("cp1"), c.own_key("cp1")]
    yield Cell("F9", EARLY, "another host key answers for cp1: refused", c.bare, steps, says=says)
    steps = [c.up, c.until(c.phase("w2", "prepare")), c.other_key("w2"), c.ended, c.own_key("w2")]
    yield Cell("F9", MIDDLE, "another host key answers between prepare and join: refused",
               c.new_worker, steps, says=says)  # fmt: skip
    rebuilt = c.remade("w1", 21)
    yield Cell("F9", LATE, "w1 rebuilt, its new key in the stack file: rotated",
               c.living, [rebuilt, c.up])  # fmt: skip


def lost_machines() -> Iterator[Cell]:
    """F10: the next up makes it a node again; the dead Node and etcd member are gone."""
    again = c.remade("w2", 22)
    yield Cell("F10", EARLY, "a worker deleted and made anew while it prepares",
               c.new_worker, [c.up, c.until(c.phase("w2", "prepare")), again])  # fmt: skip
    yield Cell("F10", MIDDLE, "a worker deleted and made anew behind our back",
               c.with_worker, [again, c.up])  # fmt: skip
    yield Cell("F10", LATE, "a control plane of three deleted and made anew",
               c.three_up, [c.remade("cp3", 13, "control-plane"), c.up],
               finish=c.three_members)  # fmt: skip


def unreachable_on_destroy() -> Iterator[Cell]:
    """F11: destroy ends in 60 s, exit 0, nothing leaked."""

    def off(place: Place) -> None:
        machines.power_off("cp1")

    for point, resource in ((EARLY, "cp1-prepare"), (MIDDLE, "w1-join")):
        yield Cell("F11", point, f"`kill -9` at {resource}, the control plane off, destroy",
                   c.bare, [c.up, c.until(c.begun(resource)), c.killed, off],
                   finish=c.destroyed)  # fmt: skip
    yield Cell("F11", LATE, "a whole cluster, its control plane off, destroy",
               c.living, [off], finish=c.destroyed)  # fmt: skip


def releases() -> Iterator[Cell]:
    """F12: the rerun recovers."""
    for point, namespace in ((EARLY, "metallb-system"), (MIDDLE, "nginx-ingress")):
        working = c.until(c.pending(namespace, "pending-install"))
        yield Cell("F12", point, f"`kill -9` during the installation in {namespace}",
                   c.bare, [c.up, working, c.killed])  # fmt: skip

    def edit(place: Place) -> None:
        place.changes["scheduleOnControlPlanes"] = not place.changes.get("scheduleOnControlPlanes")

    working = c.until(c.pending("nginx-ingress", "pending-upgrade"))
    yield Cell("F12", LATE, "`kill -9` during an upgrade of the ingress",
               c.living, [edit, c.up, working, c.killed])  # fmt: skip


def webhooks() -> Iterator[Cell]:
    """F13: the pool waits, never fails."""
    steps = [c.up, c.until(c.controller_runs), c.frozen(20)]
    yield Cell("F13", EARLY, "MetalLB's controller frozen for 20 s as it starts", c.bare, steps)
    waiting = c.until(c.begun("metallb-webhook"))
    yield Cell("F13", MIDDLE, "frozen for 20 s as the pool is changed",
               c.living, [c.pool(218), c.frozen(20, c.up, c.pause(20))])  # fmt: skip
    yield Cell("F13", LATE, "frozen as the pool is changed, and `kill -9` as it waits",
               c.living, [c.pool(217), c.frozen(1, c.up, waiting, c.pause(5), c.killed)])  # fmt: skip


def outages() -> Iterator[Cell]:
    """F14: retried with a bound."""
    away = [c.pause(c.OUTAGE_SECONDS), c.server_back]
    yield Cell("F14", EARLY, f"packages away for {c.OUTAGE_SECONDS} s as a worker prepares",
               c.new_worker, [c.server_away("files"), c.up, *away])  # fmt: skip
    yield Cell("F14", MIDDLE, f"the registry away for {c.OUTAGE_SECONDS} s from before kubeadm init",
               c.bare, [c.server_away("registry"), c.up, *away])  # fmt: skip
    reading = c.until(c.begun("w1-join"))
    yield Cell("F14", LATE, f"charts and images away for {c.OUTAGE_SECONDS} s after the join",
               c.bare, [c.up, reading, c.server_away("files"), c.server_away("registry"), *away])  # fmt: skip


# Many in one life: the recovery from one is where the next begins

LIVES = {
    "cluster": (
        "F9:early F8:early F7:early F3:early F4:early F4:middle F2:middle F1:middle F3:middle F12:early "
        "F12:middle F3:late F13:early"
    ),
    "worker": "F7:middle F1:early F2:early F8:middle F5:late F1:late F2:late",
}


def lived(name: str, where: Place, record: Record) -> bool:
    """Try the cells of a life one into the other; what they come to counts for all of them."""
    known = {cell.key: cell for cell in cells()}
    keys = LIVES[name].split()
    met: list[str] = []
    try:
        known[keys[0]].start(where)
        for key in keys:
            try:
                known[key].met(where)
            except PointMissedError:
                meet_again(known[key], where)
            met.append(key)
            print(f"{key:<12} met", flush=True)
        began = time.monotonic()
        took = c.whole(where)
        entry = {"well": True, "seconds": round(time.monotonic() - began)}
    except Exception as error:  # whatever it is: the next life begins anew
        where.forget()
        entry, took = {"well": False, "seconds": 0}, f"{type(error).__name__}: {error}"
        print(took, flush=True)
    for key in keys if entry["well"] else keys[len(met) : len(met) + 1]:
        note = f"{took}, in one life with {len(keys) - 1} others" if entry["well"] else took
        record.add(f"{where.engine} {key}", **entry, took=note)
    return bool(entry["well"])


def meet_again(cell: Cell, where: Place) -> None:
    """Do a cell whose point was missed, as the run of the one before ended first."""
    try:
        where.take()
    except RunFailedError:
        pass  # that fault ended it only now: what it left is where this one happens
    else:
        cell.start(where)
    cell.met(where)


# The command


def wanted(only: Sequence[str], record: Record, engine: str) -> list[Cell]:
    """The cells that were asked for by fault or key, in this order, or those that are not done yet.

    Of these, those that go on from a cluster come first: each leaves one for the next.
    """
    if only:
        return [cell for word in only for cell in cells() if word in (cell.fault, cell.key)]
    found = [cell for cell in cells() if not record.done(f"{engine} {cell.key}")]
    starts = (c.new_worker, c.with_worker, c.living, c.bare)
    return sorted(found, key=lambda cell: starts.index(cell.start) if cell.start in starts else 9)


def run(
    lives: Sequence[str], doomed: Sequence[Cell], engine: str, record: Record, minutes: float
) -> bool:
    """Try cells until the time is over, and lives; tells whether all that were tried ended well."""
    end = time.monotonic() + minutes * 60
    well = True
    with place(engine) as where:
        for cell in doomed:
            if time.monotonic() > end:
                break
            well &= tried(cell, where, record)
        for name in lives:
            well &= lived(name, where, record)
    return well


def tried(cell: Cell, where: Place, record: Record) -> bool:
    """Try one cell and keep how it ended."""
    began = time.monotonic()
    try:
        seconds, took = cell.tried(where)
        entry = {"well": True, "seconds": round(seconds), "took": took}
    except Exception as error:  # whatever it is: the next cell begins anew
        where.forget()
        entry = {"well": False, "seconds": 0, "took": f"{type(error).__name__}: {error}"}
    record.add(f"{where.engine} {cell.key}", **entry)
    spent = time.monotonic() - began
    print(
        f"{cell.key:<12} {entry['seconds']:>4} s  {entry['took']}  ({spent:.0f} s in all)",
        flush=True,
    )
    return bool(entry["well"])


def write_page(record: Record) -> None:
    """Write the table of what was tried on each engine."""
    rows = []
    for cell in cells():
        for engine in ENGINES:
            entry = record.entries.get(f"{engine} {cell.key}")
            if entry:
                result = entry["took"] if entry["well"] else f"FAILED: {entry['took'][:120]}"
                seconds = entry["seconds"] if entry["well"] else ""
                rows.append([cell.fault, cell.point, cell.what, engine, seconds, result])
    write_table(PAGE, ["#", "point", "fault", "engine", "seconds to recover", "by"], rows)


def main() -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.faults")
    parser.add_argument("--engine", choices=sorted(ENGINES), default=best())
    parser.add_argument("--only", default="", help="faults or FAULT:POINT, with commas between")
    parser.add_argument("--lives", default="", help=f"of {', '.join(LIVES)}: many faults in one")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after these")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--write", action="store_true", help="only write the page")
    told = parser.parse_args()
    record = Record(told.record)
    only, lives = ([word for word in text.split(",") if word] for text in (told.only, told.lives))
    doomed = [] if told.write or (lives and not only) else wanted(only, record, told.engine)
    well = not (lives or doomed) or run(lives, doomed, told.engine, record, told.minutes)
    write_page(record)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
