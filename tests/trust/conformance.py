"""Kubernetes' own conformance tests, those that two cores can run, on a cluster of three local machines.

``python -m tests.trust.conformance --minutes 15`` goes on from its record and writes docs/conformance.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from cluster import versions
from sandbox import mirror, site
from sandbox.ha import node
from sandbox.mirror import builds, golang
from tests.trust.place import SMALL, place
from tests.trust.record import Record
from tests.trust.runs import ENGINES, RunFailedError, best

PAGE = site.ROOT / "docs" / "conformance.md"
FOLDER = site.CACHE / "trust" / "conformance"
"""Keeps the record, and the report and the log of the last run."""

NODES = {**SMALL, "w2": node("worker", 22)}
SIDE_BY_SIDE = 6
"""Tests at once. Most of a test's time is waiting, for pods and for clean-up."""


CUT_OFF = "suite timeout occurred"
"""Ginkgo's words on a test that ran when the time for all of them was over."""


@dataclass(frozen=True)
class Group:
    """Tests that are left out.

    Attributes:
        name: what they are.
        pattern: found in their names.
        why: the reason.
    """

    name: str
    pattern: str
    why: str


LEFT_OUT = (
    Group(
        "Disruptive",
        r"\[Disruptive\]",
        "They evict whatever runs on a node, and want the cluster for themselves.",
    ),
    Group(
        "Serial",
        r"\[Serial\]",
        "No other test may run beside them, so that each costs its whole length of time.",
    ),
    Group(
        "Slow",
        r"\[Slow\]",
        "Each takes more than two minutes, by upstream's own mark.",
    ),
    Group(
        "Upstream's own images",
        r"Sample API Server|ImageVolume",
        "They want an image that our mirror does not have: an API server of an older release, or a file that "
        "says Alpine Linux. The image volume itself was mounted and read.",
    ),
    Group(
        "Names of variables",
        r"consumable (as environment variable names|via the environment)",
        "They print variables such as `data-1` by busybox's shell, and Debian's build of it drops those whose "
        "names a script could not use.",
    ),
)


@dataclass(frozen=True)
class Result:
    """How a test ended.

    Attributes:
        state: ``passed``, or another of Ginkgo's words.
        seconds: how long it took.
        said: why it did not pass.
    """

    state: str
    seconds: float
    said: str = ""


def all_tests(kubernetes: str) -> list[str]:
    """The names of a release's conformance tests, by its own list."""
    source = golang.download("k8s.io/kubernetes", f"v{kubernetes}")
    listed = source / "test" / "conformance" / "testdata" / "conformance.yaml"
    return sorted(entry["codename"] for entry in yaml.safe_load(listed.read_text()))


def group_of(test: str) -> Group | None:
    """Why a test is left out; None where it is not."""
    return next((group for group in LEFT_OUT if re.search(group.pattern, test)), None)


def results(report: Path, wanted: Iterable[str]) -> dict[str, Result]:
    """How those of the wanted tests ended that a JUnit report has as run to their end.

    What nobody asked for is there as skipped, and so is what the time did not suffice for.
    """
    names = set(wanted)
    found: dict[str, Result] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name, state = case.attrib["name"].removeprefix("[It] "), case.attrib["status"]
        said = (case.findtext("failure") or case.findtext("error") or "").strip()
        ended = state not in ("skipped", "pending", "interrupted") and CUT_OFF not in said
        if name in names and ended:
            found[name] = Result(state, float(case.attrib["time"]), said)
    return found


def run(tests: Sequence[str], minutes: float, side_by_side: int) -> dict[str, Result]:
    """Run tests on the cluster that is up; those that the time did not suffice for are not told.

    Raises:
        RunFailedError: there is no report at the end.
    """
    report = FOLDER / "junit_01.xml"
    report.unlink(missing_ok=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    tools = builds.e2e_tools(versions.KUBERNETES)
    words: list[str | Path] = [
        tools.command("ginkgo"),
        f"--procs={side_by_side}",
        f"--timeout={minutes * 60:.0f}s",
        f"--focus= ({'|'.join(map(re.escape, tests))})$",  # after the suite's name
        "--no-color",
        "--silence-skips",
        builds.e2e(versions.KUBERNETES).command("e2e.test"),
        "--",
        f"--kubeconfig={site.KUBECONFIG}",
        f"--kubectl-path={mirror.tool('kubectl')}",
        f"--report-dir={FOLDER}",
        "--provider=skeleton",
        "--disable-log-dump",
    ]
    with (FOLDER / "log").open("w") as log:
        subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        raise RunFailedError(f"no report; the end of {log.name}:\n{_tail(Path(log.name))}")
    return results(report, tests)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def page(kubernetes: str, tests: Sequence[str], entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, from the names of all tests and what the record has of them."""
    due = [test for test in tests if not group_of(test)]
    ran = {test: entries[test] for test in due if test in entries}
    passed = {test: entry for test, entry in ran.items() if entry["well"]}
    failed = {test: entry for test, entry in ran.items() if not entry["well"]}
    again = sum(entry["tries"] > 1 for entry in passed.values())
    out = {group: [t for t in tests if group_of(t) == group] for group in LEFT_OUT}
    rest = [test for test in due if test not in ran]
    figures = {
        f"conformance tests of {kubernetes}": len(tests),
        "ran": len(ran),
        "passed": len(passed),
        "of these, not at the first try": again,
        "failed": len(failed),
        "left out": sum(map(len, out.values())),
        "not run yet": len(rest),
    }
    return "\n".join(
        [
            INTRODUCTION,
            "| tests | |",
            "| --- | --- |",
            *(f"| {name} | {number} |" for name, number in figures.items()),
            "",
            *_section("Failed", (f"{_code(t)}: {_first(e['said'])}" for t, e in failed.items())),
            "## Left out",
            "",
            *(
                line
                for group, names in out.items()
                for line in (f"### {group.name}", "", group.why, "", *map(_item, names), "")
            ),
            *_section("Not run yet", map(_code, rest)),
            *_section("Passed", (f"{_code(t)}, {e['seconds']:.0f} s" for t, e in passed.items())),
        ]
    )


INTRODUCTION = """\
# Conformance

Kubernetes' own conformance tests on a cluster of this program with default settings: a control plane and two
workers, all of them local machines that share one host's two cores. `python -m tests.trust.conformance` runs
what its record does not have as passed yet, and writes this page.

The tests, what runs them and most of the images they use are built from the Go module `k8s.io/kubernetes`.
Where upstream's images hold a distribution, ours hold Debian 12's packages: agnhost's shell and tools,
busybox 1.35, nginx 1.22. The older agnhost, which some tests update from, is the current one by another name.
"""


def _section(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"- {item}" for item in items]
    return [f"## {title}", "", *lines, ""] if lines else []


def _item(test: str) -> str:
    return f"- {_code(test)}"


def _code(test: str) -> str:
    return f"`{test.removesuffix(' [Conformance]').replace('`', '')}`"


def _first(said: str) -> str:
    return next(iter(said.splitlines()), "")


def main() -> int:
    """The command; see the module's text. Returns 1 unless all tests have passed by now."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.conformance")
    parser.add_argument("--engine", choices=sorted(ENGINES), default=best())
    parser.add_argument("--minutes", type=float, default=15, help="bound on the tests themselves")
    parser.add_argument("--procs", type=int, default=SIDE_BY_SIDE, help="tests at once")
    parser.add_argument("--only", default="", metavar="PATTERN", help="found in the names")
    told = parser.parse_args()
    record = Record(FOLDER / f"{versions.KUBERNETES}.jsonl")
    tests = all_tests(versions.KUBERNETES)
    chosen = [t for t in tests if not group_of(t) and re.search(told.only, t)]
    due = [test for test in chosen if not record.done(test)]
    if due:
        try:
            try_them(due, told, record)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    PAGE.write_text(page(versions.KUBERNETES, tests, record.entries))
    missing = [test for test in chosen if not record.done(test)]
    print("\n".join([*missing, f"{len(chosen) - len(missing)} of {len(chosen)} passed"]))
    return 1 if missing else 0


def try_them(due: Sequence[str], told: argparse.Namespace, record: Record) -> None:
    """Make a cluster, run tests on it, and keep how they ended.

    Raises:
        RuntimeError: there is no cluster, or no report.
    """
    with place(told.engine) as where:
        mirror.build_optional("conformance")
        where.bare(NODES)
        where.up()
        for test, result in run(due, told.minutes, told.procs).items():
            keep(record, test, result)


def keep(record: Record, test: str, result: Result) -> None:
    """Add a result to those of former runs."""
    tries = record.entries.get(test, {}).get("tries", 0) + 1
    record.add(
        test,
        well=result.state == "passed",
        seconds=result.seconds,
        said=result.said,
        tries=tries,
    )


if __name__ == "__main__":
    sys.exit(main())
