"""How the stand-in makes and unmakes each kind of resource."""

from __future__ import annotations

import os
import re
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi

from sandbox.engine import kube, ssh
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError, Progress

REMOTE_COMMAND = "command:remote:Command"
LOCAL_COMMAND = "command:local:Command"
COPY = "command:remote:CopyToRemote"
RELEASE = "kubernetes:helm.sh/v3:Release"
_PROVIDER = "pulumi:providers:"
_KUBERNETES = "kubernetes:"

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str) -> float | None:
    """Go's way to write a duration (``1h30m``) in seconds; nothing for nothing.

    Raises:
        EngineError: it is none.
    """
    if not duration:
        return None
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise EngineError(f"custom timeout {duration!r}: want a duration such as 30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class Workshop:
    """Makes and unmakes resources.

    Args:
        scratch: a directory that only this user can read, for keys and kubeconfigs.
        progress: where commands' own lines go.
    """

    def __init__(self, scratch: Path, progress: Progress) -> None:
        self._scratch = scratch
        self._progress = progress
        self._clusters: dict[str, kube.Cluster] = {}
        self._lock = threading.Lock()

    def add_provider(self, record: Record) -> None:
        """Make a provider known to the resources that name it."""
        kubeconfig = record.inputs.get("kubeconfig")
        if kubeconfig:
            cluster = kube.Cluster.open(kubeconfig, self._scratch / f"cluster-{record.id}")
            with self._lock:
                self._clusters[record.id] = cluster

    def kept(self, record: Record, known: Record | None) -> Record:
        """The record as it is kept, before anything is done: with a name for what has none.

        Raises:
            EngineError: there is no such resource here.
        """
        inputs = dict(record.inputs)
        if record.type.startswith(_PROVIDER):
            return replace(record, id=known.id if known else str(uuid.uuid4()))
        if record.type in (REMOTE_COMMAND, LOCAL_COMMAND, COPY):
            return replace(record, id=f"{record.name}{uuid.uuid4().hex[:8]}")
        if record.type == RELEASE:
            made_up = known.inputs["name"] if known else f"{record.name}-{uuid.uuid4().hex[:8]}"
            inputs["name"] = inputs.get("name") or made_up
            return replace(record, inputs=inputs, id=f"{inputs.get('namespace')}/{inputs['name']}")
        if record.type.startswith(_KUBERNETES) and "kind" in inputs:
            before = known.inputs["metadata"]["name"] if known else None
            manifest = kube.manifest_of(inputs, record.name, before)
            return replace(record, inputs=manifest, id=manifest["metadata"]["name"])
        raise EngineError(
            f"the stand-in engine has no resource of type {record.type}; put the Pulumi CLI on the PATH"
        )

    def create(self, record: Record, timeout: float | None) -> dict[str, Any]:
        """Make a resource and return its outputs; running it again takes over what is there.

        Args:
            record: what :meth:`kept` gave.
            timeout: the resource's custom timeout, in seconds.
        """
        inputs = record.inputs
        if record.type.startswith(_PROVIDER):
            self.add_provider(record)
            return dict(inputs)
        if record.type in (REMOTE_COMMAND, LOCAL_COMMAND):
            return {**inputs, **self._command(record, "create", timeout)}
        if record.type == COPY:
            self._copy(record, timeout)
            return dict(inputs)
        cluster = self._cluster(record)
        if record.type == RELEASE:
            return {**inputs, "status": cluster.release(inputs)}
        return cluster.apply(inputs, patch=_is_patch(record), timeout=timeout)

    def delete(self, record: Record) -> None:
        """Unmake a resource; it need not be there any more."""
        if record.type in (REMOTE_COMMAND, LOCAL_COMMAND):
            self._command(record, "delete", None)
        elif record.type == RELEASE:
            name, namespace = record.inputs["name"], record.inputs.get("namespace") or "default"
            self._cluster(record).uninstall(name, namespace)
        elif record.type.startswith(_KUBERNETES) and not _is_patch(record):
            self._cluster(record).delete(record.inputs)

    def _cluster(self, record: Record) -> kube.Cluster:
        with self._lock:
            cluster = self._clusters.get(record.provider)
        if cluster is None:
            raise EngineError(f"{record.name} names no provider with a kubeconfig")
        return cluster

    def _command(self, record: Record, phase: str, timeout: float | None) -> dict[str, str]:
        inputs = record.inputs
        if not inputs.get(phase):
            return {"stdout": "", "stderr": ""}
        run = self._remote if record.type == REMOTE_COMMAND else _local
        stdout, stderr = self._sinks(record.name, inputs.get("logging"))
        ended = run(
            record,
            inputs[phase],
            stdin=inputs["stdin"].encode() if inputs.get("stdin") else None,
            on_stdout=stdout,
            on_stderr=stderr,
            timeout=timeout,
        )
        return {"stdout": ended.stdout, "stderr": ended.stderr}

    def _remote(self, record: Record, line: str, **how: Any) -> ssh.Finished:
        if record.inputs.get("environment"):
            raise EngineError(
                "`environment` needs AcceptEnv on every host: put VAR=value in the command"
            )
        connection = ssh.Connection.parse(record.inputs["connection"])
        return ssh.run(connection, line, **self._bounds(record), **how)

    def _bounds(self, record: Record) -> dict[str, Any]:
        """What every call over ssh takes."""
        return {
            "scratch": self._scratch,
            "on_dial": lambda text: self._progress.line(record.name, text),
        }

    def _sinks(self, name: str, logging: str | None) -> tuple[ssh.Lines | None, ssh.Lines | None]:
        def line(text: str) -> None:
            self._progress.line(name, text)

        wanted = logging or "stdoutAndStderr"
        return (
            line if wanted in ("stdout", "stdoutAndStderr") else None,
            line if wanted in ("stderr", "stdoutAndStderr") else None,
        )

    def _copy(self, record: Record, timeout: float | None) -> None:
        inputs = record.inputs
        connection = ssh.Connection.parse(inputs["connection"])
        source, path = inputs["source"], inputs["remotePath"]
        how = {**self._bounds(record), "timeout": timeout}
        if isinstance(source, pulumi.FileArchive | pulumi.FileAsset):
            ssh.copy(connection, str(source.path), path, **how)
        elif isinstance(source, pulumi.StringAsset):
            ssh.copy_text(connection, source.text, path, **how)
        else:
            raise EngineError(f"CopyToRemote takes no {type(source).__name__}")


def to_delete(record: Record) -> Record:
    """The record with no more inputs than deleting it takes; that is what is written down."""
    inputs = record.inputs
    if record.type in (REMOTE_COMMAND, LOCAL_COMMAND):
        keys = ("connection", "delete", "stdin", "logging", "interpreter", "dir", "environment")
        return replace(record, inputs={k: inputs[k] for k in keys if k in inputs})
    if record.type == RELEASE:
        return replace(record, inputs={k: inputs.get(k) for k in ("name", "namespace")})
    if record.type.startswith(_PROVIDER):
        return replace(record, inputs={"kubeconfig": inputs.get("kubeconfig")})
    if record.type.startswith(_KUBERNETES):
        return replace(record, inputs=kube.identity(inputs))
    return replace(record, inputs={})


def leaves_ruins(record: Record) -> bool:
    """Whether a failed creation leaves something that is to be deleted; a failed command leaves no state."""
    return record.type.startswith(_KUBERNETES)


def _local(record: Record, line: str, **how: Any) -> ssh.Finished:
    inputs = record.inputs
    words = [*(inputs.get("interpreter") or ["/bin/sh", "-c"]), line]
    if inputs.get("dir"):
        words = ["env", "-C", inputs["dir"], *words]
    environment = {**os.environ, **(inputs.get("environment") or {})}
    return ssh.run_local(words, shown=line, environment=environment, **how)


def _is_patch(record: Record) -> bool:
    return record.type.endswith("Patch")


def what(record: Record) -> str:
    """What making this resource is called in progress lines."""
    kind = record.type.rsplit(":", 1)[-1]
    return {REMOTE_COMMAND: "command", LOCAL_COMMAND: "command", COPY: "copy"}.get(
        record.type, kind
    )
