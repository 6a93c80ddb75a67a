"""What runs the program: the Pulumi CLI where it is on the PATH, else a stand-in that acts for real."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

from sandbox.engine.progress import EngineError, Log
from sandbox.engine.stackfile import DEV

__all__ = ["Engine", "EngineError", "Log", "choose"]


class Engine(Protocol):
    """Runs this project's program on one stack; safe to call again after any failure."""

    name: str

    def up(self, log: Log = print) -> dict[str, Any]:
        """Bring the stack up.

        Returns:
            The stack's outputs, secrets in clear.

        Raises:
            EngineError: names the resources that failed and what their hosts said.
        """

    def preview(self, log: Log = print) -> dict[str, int]:
        """What ``up`` would change: number of resources by operation (``same``, ``create``, ...).

        Raises:
            EngineError: the preview failed, or this engine has none.
        """

    def down(self, log: Log = print) -> None:
        """Delete everything that ``up`` made; nothing need be there.

        Raises:
            EngineError: what could not be deleted; it stays known, for the next ``down``.
        """


def choose(log: Log = print, *, stack: str = DEV, stack_file: Path | None = None) -> Engine:
    """The real engine where ``pulumi`` is on the PATH, else the stand-in; says which, in one line.

    Args:
        log: gets that line.
        stack: the stack's name.
        stack_file: its file, where that is not ``Pulumi.<stack>.yaml`` in the project's folder.
    """
    if shutil.which("pulumi"):
        from sandbox.engine.real import RealEngine

        engine: Engine = RealEngine(stack=stack, stack_file=stack_file)
    else:
        from sandbox.engine.standin import StandinEngine

        engine = StandinEngine(stack=stack, stack_file=stack_file)
    log(f"engine: {engine.name}")
    return engine
