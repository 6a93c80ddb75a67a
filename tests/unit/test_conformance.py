"""Conformance tests: what is read of their report, and what the page says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust import conformance as c
from tests.trust.record import Record

REPORT = """\
<testsuites><testsuite>
<testcase name="[It] [sig-node] Pods a [Conformance]" status="passed" time="2.5"/>
<testcase name="[It] [sig-node] Pods b [Conformance]" status="failed" time="9">
  <failure>no pod\nmore of it</failure></testcase>
<testcase name="[It] [sig-node] Pods c [Conformance]" status="panicked" time="1"><error>oh</error></testcase>
<testcase name="[It] [sig-node] Pods late [Conformance]" status="skipped" time="0"><skipped/></testcase>
<testcase name="[It] [sig-node] Pods cut [Conformance]" status="timedout" time="7">
  <failure>A suite timeout occurred</failure></testcase>
<testcase name="[It] [sig-node] Pods other" status="passed" time="1"/>
</testsuite></testsuites>
"""
SERIAL = "[sig-apps] Daemon set [Serial] should run [Conformance]"
TESTS = [
    SERIAL,
    *(f"[sig-node] Pods {name} [Conformance]" for name in ("a", "b", "c", "cut", "late")),
]


@pytest.fixture
def found(tmp_path: Path) -> dict[str, c.Result]:
    report = tmp_path / "junit_01.xml"
    report.write_text(REPORT)
    return c.results(report, TESTS)


def test_a_report_tells_of_tests_that_came_to_an_end(found: dict[str, c.Result]) -> None:
    assert found == {
        "[sig-node] Pods a [Conformance]": c.Result("passed", 2.5),
        "[sig-node] Pods b [Conformance]": c.Result("failed", 9.0, "no pod\nmore of it"),
        "[sig-node] Pods c [Conformance]": c.Result("panicked", 1.0, "oh"),
    }


def test_the_page_has_every_test_once_and_its_figures(
    found: dict[str, c.Result], tmp_path: Path
) -> None:
    record = Record(tmp_path / "record")
    c.keep(record, "[sig-node] Pods a [Conformance]", c.Result("failed", 1, "once"))
    for test, result in found.items():
        c.keep(record, test, result)
    page = c.page("1.36.4", TESTS, record.entries)
    for line in (
        "| conformance tests of 1.36.4 | 6 |",
        "| ran | 3 |",
        "| passed | 1 |",
        "| of these, not at the first try | 1 |",
        "| failed | 2 |",
        "| left out | 1 |",
        "| not run yet | 2 |",
        "- `[sig-node] Pods b`: no pod",
        "- `[sig-node] Pods a`, 2 s",
    ):
        assert line in page.splitlines()
    for test in TESTS:
        assert page.count(f"- `{test.removesuffix(' [Conformance]')}`") == 1


def test_every_test_that_is_left_out_has_one_reason() -> None:
    group = c.group_of(SERIAL)
    assert group
    assert group.name == "Serial"
    assert c.group_of("[sig-node] Pods a [Conformance]") is None
