"""Texts that are kept beside the tests: a changed rendering shows as a diff of a file in review."""

from __future__ import annotations

from pathlib import Path

GOLDENS = Path(__file__).parent / "goldens"


def compare(name: str, text: str, *, update: bool) -> None:
    """The text is the golden's, or becomes it with ``--update-goldens``."""
    golden = GOLDENS / name
    if update:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.exists(), (
        f"no golden {golden.name}: run pytest with --update-goldens and look at it"
    )
    assert text == golden.read_text(), (
        f"{golden.name} would change: look at the difference, then run pytest with --update-goldens"
    )
