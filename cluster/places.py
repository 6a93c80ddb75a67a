"""Where the paths of a stack file lead."""

from __future__ import annotations

from pathlib import Path


def placed(root: Path, path: str | Path) -> Path:
    """A path from the project's folder (``root``), an absolute one, or one with ``~``."""
    return root / Path(path).expanduser()
