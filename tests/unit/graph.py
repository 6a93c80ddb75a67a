"""The whole program under Pulumi's mocks: every registration as the engine would get it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import runpy
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.runtime import mocks, rpc
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import Stack, run_pulumi_func

from tests.unit.stacks import ROOT, SITE, changed, configure

with warnings.catch_warnings():
    # The package's own, at its first use, for a resource that is not used here.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pulumi_command import remote

    remote.Command  # noqa: B018 # the module is loaded at its first use

LOG = logging.getLogger("pulumi-engine")
SECRET = "[secret]"
UNKNOWN = rpc.UNKNOWN
REMOTE_COMMAND = "command:remote:Command"
TLS_KEY = "tls:index/privateKey:PrivateKey"
READ_STATE = "pulumi:pulumi:readStackResourceOutputs"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"


class Graph:
    """What a run of the program registered, by resource name.

    Attributes:
        requests: the registrations as the engine gets them.
        outputs: of the stack.
        ids: what the resources are known by.
    """

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.ids: dict[str, str] = {}

    def inputs(self, name: str) -> Any:
        """A resource's inputs, secrets among them in clear."""
        return _unwrapped(self._raw(name))

    def plain_inputs(self, name: str) -> Any:
        """A resource's inputs as state and preview show them: secrets hidden."""
        return _hidden(self._raw(name))

    def type(self, name: str) -> str:
        """A resource's type."""
        return str(self.requests[name].type)

    def parent(self, name: str) -> str:
        """The name of a resource's parent."""
        return _name(self.requests[name].parent)

    def dependencies(self, name: str) -> set[str]:
        """The names of what a resource waits for."""
        return set(map(_name, self.requests[name].dependencies))

    def all_dependencies(self, name: str) -> set[str]:
        """Those, and what they wait for, and so on."""
        found: set[str] = set()
        todo = self.dependencies(name)
        while todo - found:
            found |= todo
            todo = set().union(*map(self.dependencies, todo))
        return found

    def deleted_with(self, name: str) -> str:
        """The name of the resource whose deletion takes this one with it, or nothing."""
        return _name(self.requests[name].deletedWith)

    def provider(self, name: str) -> str:
        """The name of the provider that a resource is made by, or nothing."""
        return _name(self.requests[name].provider.rpartition("::")[0])

    def of_type(self, prefix: str) -> list[str]:
        """The names of all resources whose type starts so."""
        return [name for name in self.requests if self.type(name).startswith(prefix)]

    def custom(self) -> Iterator[str]:
        """The names of all resources but components and the stack."""
        return (name for name, request in self.requests.items() if request.custom)

    def _raw(self, name: str) -> Any:
        return json_format.MessageToDict(self.requests[name].object)


def _id(args: mocks.MockResourceArgs) -> str:
    """At Hetzner ids are numbers; another one for each name."""
    number = zlib.crc32(args.name.encode())
    return str(number) if args.typ.startswith("hcloud:") else f"{args.name}-id"


def private_key(name: str) -> str:
    """What a key's resource has as its private half, in form; tests for secrets find it by "in-clear"."""
    return (
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{name}-in-clear\n-----END OPENSSH PRIVATE KEY-----\n"
    )


def public_key(name: str) -> str:
    """And as its public half."""
    return f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{name.encode().hex()}\n"


class _Engine(mocks.Mocks):
    """Gives resources back as they were asked for, with some outputs put on top."""

    def __init__(
        self,
        outputs: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
        *,
        preview: bool,
    ) -> None:
        self._outputs = outputs
        self._state = state
        self._preview = preview

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        own = {} if self._preview else _outputs(args)
        return _id(args), {**args.inputs, **own, **self._outputs.get(args.name, {})}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        assert args.token == READ_STATE, f"the program asks for nothing else: {args.token}"
        assert args.args == {"stackName": "ours/own-kubernetes/test"}
        return {"outputs": dict(self._state)}, []


def _outputs(args: mocks.MockResourceArgs) -> dict[str, str]:
    """What every resource of a type has once it is made."""
    if args.typ == TLS_KEY:
        return {
            "privateKeyOpenssh": private_key(args.name),
            "publicKeyOpenssh": public_key(args.name),
        }
    return {"stdout": "", "stderr": ""} if args.typ == REMOTE_COMMAND else {}


class _Monitor(mocks.MockMonitor):
    """Keeps each registration with its options, which mocks are not shown."""

    def __init__(self, engine: mocks.Mocks, graph: Graph) -> None:
        super().__init__(engine)  # type: ignore[no-untyped-call, unused-ignore]
        self._graph = graph

    def RegisterResource(self, request: Any) -> Any:
        assert request.name not in self._graph.requests, f"two resources named {request.name}"
        self._graph.requests[request.name] = request
        try:
            answer = super().RegisterResource(request)  # type: ignore[no-untyped-call, unused-ignore]
            self._graph.ids[request.name] = answer.id
            plain = json_format.MessageToDict(answer.object)
            for key in {*request.additionalSecretOutputs} & {*plain}:  # as the engine does
                answer.object[key] = {_SIGNATURE: _SECRET_SIGNATURE, "value": plain[key]}
            return answer
        finally:
            _close_loop()

    def Invoke(self, request: Any) -> Any:
        try:
            return super().Invoke(request)  # type: ignore[no-untyped-call, unused-ignore]
        finally:
            _close_loop()

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if "pulumi:pulumi:Stack::" in request.urn:
            self._graph.outputs = json_format.MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call, unused-ignore]


def _close_loop() -> None:
    """The mocks make an event loop for each thread that they are called in, and leave it open."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)


def run_program(
    changes: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] = SITE,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    state: Mapping[str, Any] | None = None,
    preview: bool = False,
    graph: Graph | None = None,
    program: Path = ROOT / "__main__.py",
) -> Graph:
    """Run a program, this project's own unless it is told otherwise, on a stack file.

    Args:
        changes: changes to the stack file.
        base: the stack file.
        outputs: outputs that resources have, by name; without any, they are unknown in a preview. A key
            that is made, and a command that was run, have some of their own but in a preview.
        state: what the stack's last run left, by URN.
        preview: whether the run is a preview.
        graph: where registrations are kept, for runs that end in an error.
        program: its file.
    """
    graph = graph or Graph()
    configure(changed(base, changes or {}))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    monitor = _Monitor(_Engine(outputs or {}, state or {}, preview=preview), graph)
    # Else the mocks would make a stack of their own, and close it before the program has outputs.
    set_root_resource(object())  # type: ignore[arg-type]
    mocks.set_mocks(
        monitor.mocks, "own-kubernetes", "test", preview=preview, logger=LOG, monitor=monitor,
        organization="ours",
    )  # fmt: skip
    set_root_resource(None)  # type: ignore[arg-type]
    SETTINGS.outputs.clear()  # those of other tests: the run would wait for them

    async def body() -> None:
        stack = Stack()
        try:
            runpy.run_path(str(program))
        finally:
            stack._finish()

    try:
        with patch("cluster.charts.knock"):
            loop.run_until_complete(run_pulumi_func(body))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        asyncio.set_event_loop(None)
        set_root_resource(None)  # type: ignore[arg-type]
    return graph


def state(graph: Graph, *without: str) -> dict[str, Any]:
    """What the engine says of a stack after a run: each resource but some, by URN."""
    return {
        f"urn:pulumi:test::own-kubernetes::{graph.type(name)}::{name}": {
            "type": graph.type(name),
            "outputs": graph.inputs(name),
        }
        for name in graph.requests
        if name not in without
    }


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def is_secret(value: Any) -> bool:
    """Whether a raw value is marked as a secret."""
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET_SIGNATURE


def _hidden(value: Any) -> Any:
    if is_secret(value):
        return SECRET
    return _mapped(value, _hidden)


def _unwrapped(value: Any) -> Any:
    if is_secret(value):
        value = value["value"]
    return _mapped(value, _unwrapped)


def _mapped(value: Any, function: Any) -> Any:
    if isinstance(value, dict):
        return {key: function(item) for key, item in value.items()}
    return [function(item) for item in value] if isinstance(value, list) else value
