"""Pulumi's mock monitor with a ``RegisterResource`` that acts for real.

The SDK calls it from many threads, each resource after what it depends on. After the first failure nothing
new is begun: what is under way is awaited, the rest is told to have failed, and the program comes to its end.
The SDK's own code here is untyped; it is met through ``Any``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pulumi.runtime import mocks, rpc, sync_await
from pulumi.runtime._callbacks import _CallbackServicer
from pulumi.runtime.proto import resource_pb2

from sandbox.engine.journal import Journal, Record
from sandbox.engine.progress import EngineError, NothingMade, Progress, seconds
from sandbox.engine.resources import Workshop, leaves_ruins, to_delete, what

_sync: Any = sync_await

STACK = "pulumi:pulumi:Stack"
HOOK_SECONDS = 150


READ_STATE = "pulumi:pulumi:readStackResourceOutputs"


class OwnState(mocks.Mocks):
    """The part of the mock monitor that asks: of all functions, only the one that reads this stack's state.

    Args:
        journal: what is known of it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def call(self, args: mocks.MockCallArgs) -> Any:
        """Answer as the engine does, or refuse."""
        if args.token != READ_STATE:
            raise EngineError(f"the stand-in engine has no function {args.token}")
        state = {r.urn: {"type": r.type, "outputs": _plain(r)} for r in self._journal.records()}
        return {"name": args.args["stackName"], "outputs": state}

    def new_resource(self, args: mocks.MockResourceArgs) -> Any:
        """Refuse a read."""
        raise EngineError(f"the stand-in engine cannot read {args.typ} {args.name}")


def _plain(record: Record) -> dict[str, Any]:
    """The record's inputs but for its secrets."""
    return {key: value for key, value in record.inputs.items() if key not in record.secret}


class Monitor(mocks.MockMonitor):
    """Registers components and providers, makes everything else.

    Args:
        workshop: makes resources.
        journal: gets what was made.
        progress: tells about it.

    Attributes:
        failures: what went wrong, by resource.
        seen: URNs that the program declared.
        outputs: the stack's outputs, secrets in clear.
    """

    def __init__(self, workshop: Workshop, journal: Journal, progress: Progress) -> None:
        super().__init__(OwnState(journal))
        self.failures: dict[str, str] = {}
        self.seen: set[str] = set()
        self.outputs: dict[str, Any] = {}
        self._base: Any = super()
        self._workshop = workshop
        self._journal = journal
        self._progress = progress
        self._hooks: dict[str, str] = {}
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:
        """Make a resource, or tell that it failed."""
        if request.type == STACK:
            return self._base.RegisterResource(request)
        _sync._ensure_event_loop()
        urn = self.make_urn(request.parent, request.type, request.name)
        with self._lock:
            self.seen.add(urn)
            stopped = bool(self.failures)
        if not request.custom and not request.remote:
            return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)
        if stopped:
            return _failed(urn)
        try:
            return self._make(request, urn)
        except Exception as error:
            self._fail(request, urn, error)
            return _failed(urn)

    def _make(self, request: Any, urn: str) -> Any:
        known = self._take_over(request, urn)
        record = self._workshop.kept(_asked(request, urn), known)
        if leaves_ruins(record):
            self._journal.put(to_delete(record))
        try:
            self._call_before_hooks(request, urn, known)
            with self._progress.step(record.name, what(record)):
                record, state = self._workshop.create(
                    record, seconds(request.customTimeouts.create), begun=known is not None
                )
        except NothingMade:
            if known is None:
                self._journal.drop(urn)
            raise
        self._journal.put(to_delete(record))
        outputs = seal(state, {*record.secret, *request.additionalSecretOutputs})
        sent = _sync._sync_await(rpc.serialize_properties(outputs, {}))
        return resource_pb2.RegisterResourceResponse(urn=urn, id=record.id, object=sent)

    def _take_over(self, request: Any, urn: str) -> Record | None:
        """What an earlier run made under this name or, if there is none, under an alias of it."""
        known = self._journal.get(urn)
        for alias in [] if known else request.aliases:
            if before := self._journal.get(self._alias_urn(alias, request)):
                known = replace(before, urn=urn)
                self._journal.put(known)
                self._journal.drop(before.urn)
                break
        return known

    def _alias_urn(self, alias: Any, request: Any) -> str:
        if alias.urn:
            return str(alias.urn)
        spec = alias.spec
        # A URN has no more of its parent than its type: that is all there has to be of a stack's.
        parent = f"::::{STACK}::" if spec.noParent else spec.parentUrn or request.parent
        urn: str = self.make_urn(parent, spec.type or request.type, spec.name or request.name)
        return urn

    def _fail(self, request: Any, urn: str, error: Exception) -> None:
        text = str(error) or repr(error)
        with self._lock:
            self.failures[f"{request.name} ({request.type})"] = text
        self._progress.line(request.name, text)
        told = _told(resource_pb2.ErrorHookRequest, request, urn)
        told.failed_operation = "create"
        told.errors.append(text)
        for name in request.hooks.on_error:
            self._call_hook(name, told)  # it is never asked to retry

    def RegisterErrorHook(self, request: Any) -> Any:
        """Keep a hook for failures."""
        self._hooks[request.name] = request.callback.token
        return self._base.RegisterErrorHook(request)

    def RegisterResourceHook(self, request: Any) -> Any:
        """Keep a hook for what is about to be made or, in a later run, made again."""
        self._hooks[request.name] = request.callback.token
        return self._base.RegisterResourceHook(request)

    def _call_before_hooks(self, request: Any, urn: str, known: Record | None) -> None:
        hooks = request.hooks
        for name in hooks.before_update if known else hooks.before_create:
            answer = self._call_hook(name, _told(resource_pb2.ResourceHookRequest, request, urn))
            if answer is not None and answer.error:
                raise NothingMade(answer.error)

    def _call_hook(self, name: str, told: Any) -> Any:
        """Run one of the program's hooks on the program's own event loop."""
        token = self._hooks.get(name, "")
        for servicer in _CallbackServicer._servicers:
            if callback := servicer._callbacks.get(token):
                call: Any = callback(told.SerializeToString())
                return asyncio.run_coroutine_threadsafe(call, servicer._loop).result(HOOK_SECONDS)
        return None

    def RegisterResourceOutputs(self, request: Any) -> Any:
        """Take the stack's outputs."""
        if f"::{STACK}::" in request.urn:
            _sync._ensure_event_loop()
            self.outputs = plain(rpc.deserialize_properties(request.outputs, keep_unknowns=True))
        return self._base.RegisterResourceOutputs(request)


def _told(kind: Any, request: Any, urn: str) -> Any:
    """What every hook is told."""
    return kind(urn=urn, name=request.name, type=request.type, new_inputs=request.object)


def _asked(request: Any, urn: str) -> Record:
    given = rpc.deserialize_properties(request.object)
    return Record(
        urn=urn,
        type=request.type,
        name=request.name,
        id=request.importId,
        inputs=plain(given),
        provider=request.provider.rpartition("::")[2],
        after=_earlier(request),
        deleted_with=request.deletedWith,
        secret=tuple(sorted(key for key, value in given.items() if rpc.is_rpc_secret(value))),
        ignored=tuple(request.ignoreChanges),
        protected=bool(request.protect),
        retained=bool(request.retainOnDelete),
    )


def _earlier(request: Any) -> tuple[str, ...]:
    """URNs of all that a resource was created after."""
    urns = set(request.dependencies)
    for dependencies in request.propertyDependencies.values():
        urns.update(dependencies.urns)
    if request.provider:
        urns.add(request.provider.rpartition("::")[0])
    if request.deletedWith:
        urns.add(request.deletedWith)
    return tuple(sorted(urns))


def _failed(urn: str) -> Any:
    return resource_pb2.RegisterResourceResponse(urn=urn, result=resource_pb2.Result.FAIL)


def plain(value: Any) -> Any:
    """A deserialized value without the wrapping of secrets."""
    return _map(rpc.unwrap_rpc_secret(value) if rpc.is_rpc_secret(value) else value, plain)


def seal(state: Mapping[str, Any], secret: set[str]) -> dict[str, Any]:
    """State with some of its properties marked as secrets."""
    return {k: rpc.wrap_rpc_secret(v) if k in secret else v for k, v in state.items()}


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, list):
        return [change(item) for item in value]
    return value
