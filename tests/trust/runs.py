"""One run of an engine in a process of its own, which can be killed at any moment.

``python -m tests.trust.runs VERB ENGINE STACK FILE PIPE`` is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox import site
from sandbox.engine import Engine, EngineError
from sandbox.engine.real import RealEngine
from sandbox.engine.standin import StandinEngine

ENGINES: dict[str, Any] = {"stand-in": StandinEngine, "real": RealEngine}
LONGEST_SECONDS = 420.0
"""Bound on one run."""


def best() -> str:
    """The real engine where it is there."""
    return "real" if shutil.which("pulumi") else "stand-in"


class RunFailedError(RuntimeError):
    """The run ended otherwise than it should have; the text has its last lines."""


class PointMissedError(RunFailedError):
    """The run ended before the point that was waited for."""


class Run:
    """A run that is under way, or has ended.

    Args:
        verb: ``up``, ``preview`` or ``down``.
        engine: a key of ``ENGINES``.
        stack: the stack's name.
        file: its file.

    Attributes:
        lines: what it has said so far.
    """

    def __init__(self, verb: str, engine: str, stack: str, file: Path) -> None:
        self.lines: list[str] = []
        reader, writer = os.pipe()
        words = ["-u", "-m", "tests.trust.runs", verb, engine, stack, str(file), str(writer)]
        self._process = subprocess.Popen(
            [sys.executable, *words],
            cwd=site.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            start_new_session=True,
            text=True,
        )
        os.close(writer)
        self._answer = ""
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_answer, args=(reader,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as said:
            for line in said:
                self.lines.append(line.rstrip("\n"))

    def _read_answer(self, reader: int) -> None:
        with os.fdopen(reader) as pipe:
            self._answer = pipe.read()

    def begun(self, resource: str) -> bool:
        """Whether the engine has begun with a resource."""
        sign = re.compile(rf"\] {re.escape(resource)} .*\.\.\.$")
        return any(sign.search(line) for line in list(self.lines))

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """``kill -9`` of the engine and all that it started, in one instant."""
        doomed = [self._process.pid]
        for stop in (signal.SIGSTOP, signal.SIGKILL):  # stopped ones start nothing new
            doomed = [self._process.pid, *_below(self._process.pid)]
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, stop)
        self._process.wait()

    def answer(self, seconds: float = LONGEST_SECONDS) -> Any:
        """Wait for its end; returns what it gave.

        Raises:
            RunFailedError: it failed, was killed, or did not end in time.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RunFailedError(f"no end within {seconds:.0f} s:\n{self.tail()}") from None
        for thread in self._threads:
            thread.join(10)
        answer = json.loads(self._answer) if self._answer else {"error": f"killed\n{self.tail()}"}
        if "error" in answer:
            raise RunFailedError(answer["error"])
        return answer["value"]

    def tail(self) -> str:
        """The last it said."""
        return "\n".join(self.lines[-15:])

    @property
    def said(self) -> str:
        """All that it said, and its error if it ended in one."""
        return "\n".join([*self.lines, self._answer.replace("\\n", "\n")])


def _below(pid: int) -> Iterator[int]:
    """A process's children, and theirs."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def main(words: list[str]) -> int:
    """Do one verb, and answer through the pipe."""
    verb, kind, stack, file, pipe = words
    engine: Engine = ENGINES[kind](stack=stack, stack_file=Path(file))
    try:
        answer = {"value": getattr(engine, verb)()}
    except (EngineError, RuntimeError) as error:
        answer = {"error": str(error)}
    with os.fdopen(int(pipe), "w") as writer:
        json.dump(answer, writer)
    return 1 if "error" in answer else 0


def eventually(what: str, check: Any, seconds: float = 120.0) -> None:
    """Wait until it comes true.

    Raises:
        RunFailedError: it did not in time.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise RunFailedError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
