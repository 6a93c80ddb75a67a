"""The real engine, through Pulumi's Automation API, with state in the sandbox's own folder.

The project is copied (its two YAML files, not the program) to a work folder, so that what the engine writes
into a stack file never lands in the tracked one; the copy's ``main`` points back at the checkout.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation
from pulumi.automation.events import EngineEvent

from sandbox import site
from sandbox.engine import stackfile
from sandbox.engine.progress import QUICK_SECONDS, EngineError, Log, Progress

PARALLEL = 64


class RealEngine:
    """See :class:`sandbox.engine.Engine`.

    Args:
        root: the project's folder.
        home: state, passphrase and work folder; private; by default each stack has its own.
        stack: the stack's name.
        stack_file: its file, where that is not ``Pulumi.<stack>.yaml`` in the project's folder.
    """

    name = "the Pulumi CLI"

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
        """``pulumi up``."""
        events = _Events(log)
        result = self._run(
            lambda stack: stack.up(
                parallel=PARALLEL, on_event=events, suppress_progress=True, suppress_outputs=True
            ),
            events,
        )
        log(_summary("up", result.summary.resource_changes, events.seconds))
        return {name: output.value for name, output in result.outputs.items()}

    def preview(self, log: Log = print) -> dict[str, int]:
        """``pulumi preview``."""
        events = _Events(log)
        result = self._run(lambda stack: stack.preview(parallel=PARALLEL, on_event=events), events)
        changes = _plain(result.change_summary)
        log(_summary("preview", changes, events.seconds))
        return changes

    def down(self, log: Log = print) -> None:
        """``pulumi destroy``."""
        events = _Events(log)
        result = self._run(lambda stack: stack.destroy(parallel=PARALLEL, on_event=events), events)
        log(_summary("destroy", result.summary.resource_changes, events.seconds))

    def _run(self, verb: Any, events: _Events) -> Any:
        stack = automation.create_or_select_stack(
            self._stack,
            work_dir=str(self._work_folder()),
            opts=automation.LocalWorkspaceOptions(env_vars=self._environment()),
        )
        self._forget_dead_run(stack)
        try:
            return verb(stack)
        except automation.CommandError as error:
            raise EngineError("\n".join(events.errors) or str(error)) from None

    def _forget_dead_run(self, stack: automation.Stack) -> None:
        """Take away the lock that a killed run left behind, as ``pulumi cancel`` does."""
        locks = (self._home / "state" / ".pulumi" / "locks").rglob("*.json")
        owners = [json.loads(lock.read_text())["pid"] for lock in locks]
        if any(Path(f"/proc/{pid}").exists() for pid in owners):
            raise EngineError("another run of the sandbox's stack is under way: wait for its end")
        if owners:
            stack.cancel()

    def _environment(self) -> dict[str, str]:
        state = self._home / "state"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        passphrase = self._home / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_urlsafe(32))
        return {
            "PULUMI_BACKEND_URL": f"file://{state}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def _work_folder(self) -> Path:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._home / "project"
        folder.mkdir(exist_ok=True)
        project = yaml.safe_load((self._root / "Pulumi.yaml").read_text())
        project["main"] = str(self._root)
        # The interpreter that runs this has what the program needs.
        project["runtime"] = {"name": "python", "options": {"virtualenv": sys.prefix}}
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
        self._copy_stack_file(folder / f"Pulumi.{self._stack}.yaml")
        return folder

    def _copy_stack_file(self, target: Path) -> None:
        """Take the tracked file, and from the last copy the salt that the engine put there."""
        text = stackfile.path_of(self._root, self._stack, self._stack_file).read_text()
        if target.exists():
            salt = (yaml.safe_load(target.read_text()) or {}).get("encryptionsalt")
            if salt and "encryptionsalt" not in (yaml.safe_load(text) or {}):
                text += f"encryptionsalt: {salt}\n"
        target.write_text(text)


class _Events:
    """Turns the engine's events into progress lines, and keeps what went wrong."""

    def __init__(self, log: Log) -> None:
        self._progress = Progress(log)
        self._began: dict[str, float] = {}
        self.errors: list[str] = []

    @property
    def seconds(self) -> float:
        return self._progress.seconds

    def __call__(self, event: EngineEvent) -> None:
        if event.resource_pre_event:
            self._begin(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            self._end(event.res_outputs_event.metadata, "done")
        elif event.res_op_failed_event:
            self._end(event.res_op_failed_event.metadata, "FAILED")
        elif event.diagnostic_event:
            self._say(event.diagnostic_event)

    def _begin(self, step: Any) -> None:
        self._began[step.urn] = time.monotonic()
        if _operation(step) != "same" and step.type.startswith("command:"):
            self._progress.line(_name(step.urn), f"{_operation(step)} ...")

    def _end(self, step: Any, outcome: str) -> None:
        took = time.monotonic() - self._began.get(step.urn, time.monotonic())
        quiet = _operation(step) == "same" or took <= QUICK_SECONDS
        if not quiet or outcome != "done":
            self._progress.line(_name(step.urn), f"{_operation(step)} {outcome} in {took:.1f} s")

    def _say(self, diagnostic: Any) -> None:
        text = diagnostic.message.strip()
        if diagnostic.severity == "debug" or not text:
            return
        name = _name(diagnostic.urn or "")
        self._progress.line(name, text)
        if diagnostic.severity == "error":
            self.errors.append(f"{name}: {text}" if name else text)


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _operation(step: Any) -> str:
    return str(getattr(step.op, "value", step.op))


def _plain(changes: Any) -> dict[str, int]:
    return {str(getattr(op, "value", op)): count for op, count in (changes or {}).items()}


def _summary(verb: str, changes: Any, seconds: float) -> str:
    told = ", ".join(f"{count} {op}" for op, count in _plain(changes).items()) or "nothing"
    return f"pulumi {verb}: {told}, in {seconds:.1f} s"
