"""The stand-in engine: runs the program on this host's own tools, without the Pulumi CLI.

The program runs in a process of its own (``python -m sandbox.engine.standin up|down``), because Pulumi's
runtime is global to a process and runs once. Results come back through a pipe: outputs are secret.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import config as pulumi_config
from pulumi.runtime import mocks, settings
from pulumi.runtime.stack import run_in_stack

from sandbox import site
from sandbox.engine import stackfile
from sandbox.engine.journal import Journal, Record, delete_all
from sandbox.engine.monitor import Monitor
from sandbox.engine.progress import EngineError, Log, Progress
from sandbox.engine.resources import Workshop

HOME = stackfile.home(stackfile.DEV)
THREADS = 64
"""Resources that are made at once; each waits for something, few compute."""

NOTE = (
    "stand-in engine: acts for real, but has no diff and no state; every `up` runs everything again"
)


class StandinEngine:
    """See :class:`sandbox.engine.Engine`.

    Args:
        root: the project's folder.
        home: what the engine keeps; private; by default each stack has its own.
        stack: the stack's name.
        stack_file: its file, where that is not ``Pulumi.<stack>.yaml`` in the project's folder.
    """

    name = "stand-in (no `pulumi` on the PATH)"

    def __init__(
        self,
        root: Path = site.ROOT,
        home: Path | None = None,
        *,
        stack: str = stackfile.DEV,
        stack_file: Path | None = None,
    ) -> None:
        self._root = root
        self._home = home or stackfile.home(stack)
        self._stack = stack
        self._stack_file = stack_file

    def up(self, log: Log = print) -> dict[str, Any]:
        """Run the program; creates, or runs again, all of it."""
        log(NOTE)
        outputs: dict[str, Any] = self._call("up", log)
        return outputs

    def preview(self, log: Log = print) -> dict[str, int]:
        """Refused: there is nothing to compare with."""
        raise EngineError("the stand-in engine has no preview: put the Pulumi CLI on the PATH")

    def down(self, log: Log = print) -> None:
        """Delete in the reverse order of creation."""
        self._call("down", log)

    def _call(self, verb: str, log: Log) -> Any:
        reader, writer = os.pipe()
        module = [sys.executable, "-u", "-m", "sandbox.engine.standin"]
        places = [str(self._root), str(self._home), self._stack]
        elsewhere = "" if self._stack_file is None else str(self._stack_file.resolve())
        child = subprocess.Popen(
            [*module, verb, *places, elsewhere, str(writer), str(os.getpid())],
            cwd=self._root,
            env={**os.environ, "PYTHONPATH": str(site.ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            process_group=0,
            text=True,
        )
        os.close(writer)
        with child, ThreadPoolExecutor(1) as pool:
            result = pool.submit(_drain, reader)
            try:
                for line in child.stdout or ():
                    log(line.rstrip("\n"))
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
            text = result.result()
        answer = json.loads(text) if text else {"error": f"the engine ended with {child.wait()}"}
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["outputs"]


def _drain(descriptor: int) -> str:
    with os.fdopen(descriptor) as pipe:
        return pipe.read()


# The child


def main(arguments: list[str]) -> int:
    """Do one verb and answer through the given descriptor."""
    verb, root, home, stack, elsewhere, descriptor, parent = arguments
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    answer: dict[str, Any]
    try:
        with _private_home(Path(home)) as scratch:
            progress = Progress(print)
            if verb == "up":
                config = stackfile.read(Path(root), stack, Path(elsewhere) if elsewhere else None)
                outputs = up(Path(root), stack, config, Path(home), scratch, progress)
            else:
                outputs = down(Path(home), scratch, progress)
            answer = {"outputs": outputs}
    except (EngineError, pulumi.RunError) as error:
        answer = {"error": str(error)}
    except Exception as error:
        answer = {"error": f"{''.join(traceback.format_exception(error))}".rstrip()}
    with os.fdopen(int(descriptor), "w") as pipe:
        json.dump(answer, pipe)
    return 1 if "error" in answer else 0


def _end_with(parent: int) -> None:
    """An engine whose caller was killed must not go on beside the next one, nor its connections."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.killpg(0, signal.SIGKILL)


@contextmanager
def _private_home(home: Path) -> Iterator[Path]:
    """One run at a time; gives a fresh private directory, which an earlier run may have left."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError("another run of the stand-in engine is under way") from None
        scratch = home / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def up(
    root: Path,
    stack: str,
    config: stackfile.StackConfig,
    home: Path,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Run the program of ``root``; returns the stack's outputs.

    Raises:
        EngineError: resources failed.
    """
    journal = Journal(home / "created.json")
    workshop = Workshop(scratch, progress)
    monitor = Monitor(workshop, journal, progress)
    _configure(stack, config, monitor, progress)
    _run_program(root / "__main__.py")
    if monitor.failures:
        raise EngineError(_told("failed", monitor.failures))
    stale = [record for record in journal.records() if record.urn not in monitor.seen]
    _delete(stale, journal, workshop, progress)
    progress.line("", f"{len(journal.records())} resources are up")
    return monitor.outputs


def down(home: Path, scratch: Path, progress: Progress) -> dict[str, Any]:
    """Delete what the journal knows.

    Raises:
        EngineError: a resource could not be deleted; it and what it depends on stay known.
    """
    journal = Journal(home / "created.json")
    records = journal.records()
    _delete(records, journal, Workshop(scratch, progress), progress)
    progress.line("", f"{len(records)} resources are gone")
    return {}


def _delete(
    records: list[Record], journal: Journal, workshop: Workshop, progress: Progress
) -> None:
    if protected := [record.name for record in records if record.protected]:
        raise EngineError(
            f"protected, so nothing is deleted: {', '.join(protected)}; take `protect` away and run `up`"
        )
    # Without anything to delete no provider is needed, such as one whose token is gone.
    for record in journal.records() if records else ():
        workshop.add_provider(record)

    def delete(record: Record) -> None:
        with progress.step(record.name, "delete"):
            workshop.delete(record)

    failures = delete_all(records, delete, journal)
    if failures:
        raise EngineError(_told("could not be deleted", {k: str(e) for k, e in failures.items()}))


def _told(verb: str, failures: dict[str, str]) -> str:
    return "\n".join(f"{name} {verb}: {text}" for name, text in failures.items())


def _configure(
    stack: str, config: stackfile.StackConfig, monitor: Monitor, progress: Progress
) -> None:
    pulumi_config.set_all_config(dict(config.values), list(config.secrets))
    untyped: Any = mocks
    features = untyped.MockMonitor.GetDeploymentInfo(monitor, None).supportedFeatures
    settings.configure(
        untyped.MockSettings(
            monitor=monitor,
            monitor_features=set(features),
            engine=mocks.MockEngine(_logger(progress)),
            project=config.project,
            stack=stack,
            dry_run=False,
            organization="organization",
            callbacks=None,
        )
    )


def _logger(progress: Progress) -> logging.Logger:
    """What the program says through ``pulumi.log``."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress.line(record.levelname.lower(), record.getMessage())

    logger = logging.getLogger("own-kubernetes.program")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [Handler()]
    return logger


def _run_program(program: Path) -> None:
    sys.path.insert(0, str(program.parent))

    def body() -> None:
        runpy.run_path(str(program), run_name="__main__")

    asyncio.run(_in_stack(body))


async def _in_stack(body: Callable[[], None]) -> None:
    # asyncio's own pool has a handful of threads, and each resource keeps one while it is made.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    await run_in_stack(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
