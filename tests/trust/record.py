"""What was tried and how it ended: kept in a file, so that a later run goes on, and shown in a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table -->", "<!-- /table -->"


class Record:
    """Entries by their key, in a file of JSON lines; the last one of a key counts.

    Args:
        file: need not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.entries: dict[str, dict[str, Any]] = {}
        for entry in map(json.loads, lines):
            self.entries[entry["key"]] = entry

    def add(self, key: str, **values: Any) -> None:
        """Keep an entry."""
        self.entries[key] = {"key": key, **values}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(json.dumps(self.entries[key]) + "\n")

    def done(self, key: str) -> bool:
        """Whether it was tried, and ended well."""
        return bool(self.entries.get(key, {}).get("well"))


def write_table(page: Path, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Put a table between a page's markers."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [_row(heads), _row(["---"] * len(heads)), *map(_row, rows)]
    page.write_text("\n".join([f"{before}{BEGIN}\n", *lines, f"\n{END}{after}"]))


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
