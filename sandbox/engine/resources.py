"""How the stand-in makes and unmakes each kind of resource."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi

from sandbox.engine import keys, kube, ssh
from sandbox.engine.hetzner import MAKERS, PROVIDER, Api, Named, hash_of_user_data
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError, NothingMade, Progress, hide, texts_in

REMOTE_COMMAND = "command:remote:Command"
LOCAL_COMMAND = "command:local:Command"
COPY = "command:remote:CopyToRemote"
RELEASE = "kubernetes:helm.sh/v3:Release"
_PROVIDER = "pulumi:providers:"
_TOLD = ("environment", "create", "delete")
"""What a command, or the text of its failure, tells: to be hidden where it is a secret."""

_KUBERNETES = "kubernetes:"


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
        self._clouds: dict[str, Api] = {}
        self._lock = threading.Lock()

    def add_provider(self, record: Record) -> None:
        """Make a provider known to the resources that name it."""
        kubeconfig = record.inputs.get("kubeconfig")
        if kubeconfig:
            cluster = kube.Cluster.open(kubeconfig, self._scratch / f"cluster-{record.id}")
            with self._lock:
                self._clusters[record.id] = cluster
        if record.type == PROVIDER:
            cloud = Api.open(record.inputs)
            with self._lock:
                self._clouds[record.id] = cloud

    def kept(self, record: Record, known: Record | None) -> Record:
        """The record as it is kept, before anything is done: with a name for what has none.

        Raises:
            EngineError: there is no such resource here.
        """
        inputs = dict(record.inputs)
        if record.type.startswith(_PROVIDER):
            return replace(record, id=known.id if known else str(uuid.uuid4()))
        if record.type in MAKERS:
            return _kept_of_hetzner(record, known)
        if record.type == keys.PRIVATE_KEY:
            return replace(record, inputs={**inputs, **_same_key(inputs, known)})
        if record.type in (REMOTE_COMMAND, LOCAL_COMMAND, COPY):
            inputs |= _same_triggers(inputs, known)
            return replace(record, inputs=inputs, id=f"{record.name}{uuid.uuid4().hex[:8]}")
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

    def create(
        self, record: Record, timeout: float | None, *, begun: bool = False
    ) -> tuple[Record, dict[str, Any]]:
        """Make a resource; running it again takes over what is there.

        Args:
            record: what :meth:`kept` gave.
            timeout: the resource's custom timeout, in seconds.
            begun: whether an earlier run made it, or at least began to.

        Returns:
            The record with what is known only now, and the resource's outputs.
        """
        if record.type in MAKERS:
            return self._make_at_hetzner(record, begun)
        if record.type == keys.PRIVATE_KEY:
            made = record.inputs.get("made") or keys.make(record.inputs, self._scratch)
            kept = replace(record, id=made["id"], inputs={**record.inputs, "made": made})
            return kept, {k: v for k, v in {**kept.inputs, **made}.items() if k not in _NO_OUTPUT}
        if record.type in (REMOTE_COMMAND, LOCAL_COMMAND) and record.inputs.get("triggers"):
            made = record.inputs.get("made") or self._command(record, "create", timeout)
            inputs = {key: value for key, value in record.inputs.items() if key != "made"}
            return replace(record, inputs={**inputs, "made": made}), {**inputs, **made}
        return record, self._made(record, timeout)

    def _make_at_hetzner(self, record: Record, begun: bool) -> tuple[Record, dict[str, Any]]:
        cloud = self._cloud(record)
        with cloud.told():
            identity, outputs = MAKERS[record.type](cloud).make(record, begun=begun)
        given = dict(record.inputs)
        if given.get("userData"):
            given["userData"] = hash_of_user_data(given["userData"])
        return replace(record, id=identity), {**given, **outputs}

    def _made(self, record: Record, timeout: float | None) -> dict[str, Any]:
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
        if record.retained:
            return
        if record.type in MAKERS:
            cloud = self._cloud(record)
            with cloud.told():
                MAKERS[record.type](cloud).delete(record)
        elif record.type in (REMOTE_COMMAND, LOCAL_COMMAND):
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

    def _cloud(self, record: Record) -> Api:
        with self._lock:
            cloud = self._clouds.get(record.provider)
        if cloud is None:
            raise NothingMade(f"{record.name} names no provider of Hetzner Cloud")
        return cloud

    def _command(self, record: Record, phase: str, timeout: float | None) -> dict[str, str]:
        inputs = record.inputs
        if not inputs.get(phase):
            return {"stdout": "", "stderr": ""}
        run = self._remote if record.type == REMOTE_COMMAND else _local
        secrets = texts_in([inputs.get(name) for name in _TOLD if name in record.secret])
        stdout, stderr = self._sinks(record.name, inputs.get("logging"), secrets)
        try:
            ended = run(
                record,
                inputs[phase],
                stdin=inputs["stdin"].encode() if inputs.get("stdin") else None,
                on_stdout=stdout,
                on_stderr=stderr,
                timeout=timeout,
            )
        except ssh.SshError as error:
            raise ssh.SshError(hide(str(error), secrets)) from None
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

    def _sinks(
        self, name: str, logging: str | None, secrets: list[str]
    ) -> tuple[ssh.Lines | None, ssh.Lines | None]:
        def line(text: str) -> None:
            self._progress.line(name, hide(text, secrets))

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


def _same_triggers(inputs: Mapping[str, Any], known: Record | None) -> dict[str, Any]:
    """What a command with triggers gave the last time, if they are the same: it is not run again.

    All other commands run at each ``up``, as there is no diff here.
    """
    same = known and inputs.get("triggers") and known.inputs.get("triggers") == inputs["triggers"]
    return {"made": known.inputs["made"]} if known and same and "made" in known.inputs else {}


def to_delete(record: Record) -> Record:
    """The record with no more inputs than deleting it takes; that is what is written down."""
    inputs: dict[str, Any] = {}
    if record.type.startswith(_KUBERNETES) and record.type != RELEASE:
        inputs = kube.identity(record.inputs)
    else:
        inputs = {k: record.inputs[k] for k in _to_delete_by(record.type) if k in record.inputs}
    secret = tuple(name for name in record.secret if name in inputs)
    return replace(record, inputs=inputs, secret=secret, ignored=())


def _to_delete_by(kind: str) -> tuple[str, ...]:
    if kind in MAKERS:
        return MAKERS[kind].finds
    if kind in (REMOTE_COMMAND, LOCAL_COMMAND):
        # The last three for the next run: see _same_triggers, and what the program asks of its own state.
        return ("connection", "delete", "stdin", "logging", "interpreter", "dir", "environment",
                "triggers", "made", "create")  # fmt: skip
    if kind == RELEASE:
        return ("name", "namespace")
    if kind == keys.PRIVATE_KEY:
        return (*_OF_A_KEY, "made")  # deleting takes nothing, but the next run wants the same key
    if kind.startswith(_PROVIDER):
        return ("kubeconfig", "token", "endpoint", "pollInterval")
    return ()


def leaves_ruins(record: Record) -> bool:
    """Whether a failed creation leaves something that is to be deleted; a failed command leaves no state."""
    return record.type.startswith(_KUBERNETES) or record.type in MAKERS


_OF_A_KEY = ("algorithm", "ecdsaCurve", "rsaBits")
_NO_OUTPUT = ("made", "id")


def _same_key(inputs: dict[str, Any], known: Record | None) -> dict[str, Any]:
    """The key pair that an earlier run made, if the same kind is wanted."""
    before = known.inputs if known else {}
    same = all(inputs.get(name) == before.get(name) for name in _OF_A_KEY)
    return {"made": before["made"]} if same and before.get("made") else {}


def _kept_of_hetzner(record: Record, known: Record | None) -> Record:
    MAKERS[record.type].check(record)
    inputs = {key: value for key, value in record.inputs.items() if value is not None}
    if issubclass(MAKERS[record.type], Named):
        before = known.inputs.get("name") if known else None
        made_up = before or f"{record.name}-{uuid.uuid4().hex[:7]}"
        inputs["name"] = inputs.get("name") or made_up
    return replace(record, inputs=inputs, id=known.id if known else record.id)


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
