"""Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may have several lines."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    parts = text.strip().replace("|", "\\|").split("`")  # every other one is code
    plain = [part.translate(_PLAIN) for part in parts[::2]]
    return "`".join(
        word for pair in zip_longest(plain, parts[1::2]) for word in pair if word is not None
    )


_PLAIN = str.maketrans({"<": "&lt;", "*": "\\*", "\n": "<br>"})
