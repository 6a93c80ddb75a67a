"""The tables of tests/trust: complete, and written from what their records hold."""

from __future__ import annotations

from pathlib import Path

from tests.trust import faults
from tests.trust.record import BEGIN, END, Record, write_table


def test_every_fault_is_tried_at_three_points() -> None:
    found = {(cell.fault, cell.point) for cell in faults.cells()}
    points = ("early", "middle", "late")
    assert found >= {(f"F{number}", point) for number in range(1, 15) for point in points}


def test_a_record_is_kept_and_shown(tmp_path: Path) -> None:
    record = Record(tmp_path / "there" / "record")
    record.add("a", well=False)
    record.add("a", well=True, seconds=3)
    again = Record(tmp_path / "there" / "record")
    assert again.entries == {"a": {"key": "a", "well": True, "seconds": 3}}
    assert (again.done("a"), again.done("b")) == (True, False)
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write_table(page, ["x"], [["1|2"]])
        assert page.read_text() == (
            f"before\n\n{BEGIN}\n\n| x |\n| --- |\n| 1/2 |\n\n{END}\nafter\n"
        )
