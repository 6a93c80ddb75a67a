"""A stand-in for Hetzner Cloud's API v1, over HTTP.

It answers the documented subset that the Pulumi provider, the official Python client, the cloud
controller manager and the CSI driver use: see :mod:`sandbox.hetzner.routes`. What it does not have:
certificates, DNS zones, storage boxes, snapshots, rescue systems, consoles, metrics, vSwitches, IPv6 in
reality, and primary IPs of load balancers. The error codes and their statuses, formats and limits are
those of the API's documentation of August 2026, with the changes announced until October 2026.
"""

from __future__ import annotations

import json
import socket
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sandbox.hetzner import routes
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.control import PREFIX, Control
from sandbox.hetzner.errors import ApiError
from sandbox.hetzner.faults import Faults
from sandbox.hetzner.observe import Observer
from sandbox.hetzner.reality import World
from sandbox.hetzner.store import Record, Store
from sandbox.hetzner.web import Answer, Handler, Request

VERSION: Final = "/v1"
_SEEN: Final = ("/servers", "/load_balancers")
"""Paths of what is shown as it is in the world."""


class Api:
    """The stand-in without HTTP.

    Args:
        path: File of the books.
        world: What they describe.
        token: The only one that is good.
        pace: Seconds that each action takes at least.
        age: Seconds for which what was seen of the world is shown.
    """

    def __init__(
        self, path: Path, world: World, token: str, pace: float = 0.0, age: float = 1.0
    ) -> None:
        self._faults = Faults()
        self._cloud = Cloud(Store(path), world, routes.JOBS, pace)
        self._cloud.fail_action = self._faults.of_action
        self._observer = Observer(self._cloud, age)
        self._token = token
        self.control = Control(self._cloud, self._faults)
        self._cloud.resume()

    def close(self) -> None:
        """Change nothing any more; what runs goes on with the next process."""
        self._cloud.store.close()

    def headers(self) -> dict[str, str]:
        """What every answer has besides its body."""
        return self._faults.headers()

    def cut(self, method: str, path: str) -> bool:
        """Whether an ordered fault swallows the answer."""
        return self._faults.cut(method, path)

    def answer(self, method: str, path: str, query: str, token: str, body: bytes) -> Answer:
        """Answer a request; never raises.

        Args:
            method: HTTP method.
            path: What follows the version.
            query: What follows the question mark.
            token: What the Authorization header has.
            body: JSON, or nothing.
        """
        try:
            self._faults.before(method, path)
            if token != f"Bearer {self._token}":
                raise ApiError("unauthorized", "unable to authenticate")
            handler, ids = routes.find(method, path)
            request = Request(ids, parse_qs(query), parse(body))
            if method == "GET":
                return self._read(handler, path, request)
            return self._write(handler, request)
        except ApiError as error:
            return Answer(error.status, error.body())
        except Exception as error:  # a mistake of ours is answered like one of theirs
            traceback.print_exc()
            return Answer(500, ApiError("server_error", repr(error)).body())

    def _read(self, handler: Handler, path: str, request: Request) -> Answer:
        if path.startswith(_SEEN):
            self._observer.look()
        with self._cloud.store.lock:
            return _frozen(handler(self._cloud, request))

    def _write(self, handler: Handler, request: Request) -> Answer:
        with self._cloud.change():
            return _frozen(handler(self._cloud, request))


def parse(body: bytes) -> Record:
    """The object in a request's body.

    Raises:
        ApiError: It is not JSON, or no object.
    """
    try:
        value = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise ApiError("json_error", f"invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError("json_error", "the body must be an object")
    return value


def _frozen(answer: Answer) -> Answer:
    """An answer of its own: what it shows may change as soon as the lock is free."""
    return Answer(answer.status, json.loads(json.dumps(answer.body)))


class Server(ThreadingHTTPServer):
    """Serves an :class:`Api`.

    Args:
        address: Where to listen; port 0 takes any.
        api: Who answers.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: Api) -> None:
        super().__init__(address, _Handler)
        self.api = api
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The API's URL, with its version."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}{VERSION}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep track of a connection: clients keep theirs open."""
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended."""
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop serving, at once and without a word to those who are connected."""
        self.api.close()
        self.shutdown()
        with self._guard:
            for connection in self._open:
                _cut(connection)
        self.server_close()


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.startswith(PREFIX) and self._is_local():
            self._send(self._control(url.path, body), {})
        elif url.path.startswith(f"{VERSION}/"):
            self._api(url.path.removeprefix(VERSION), url.query, body)
        else:
            self._send(Answer(404, ApiError("not_found", "not found").body()), {})

    def _is_local(self) -> bool:
        """Whether this host asks: what it sends to its own address comes from there too."""
        own: str = self.connection.getsockname()[0]
        return self.client_address[0] == own

    def _control(self, path: str, body: bytes) -> Answer:
        try:
            return self.server.api.control.answer(self.command, path, parse(body))
        except ApiError as error:
            return Answer(error.status, error.body())

    def _api(self, path: str, query: str, body: bytes) -> None:
        api = self.server.api
        token = self.headers.get("Authorization", "")
        answer = api.answer(self.command, path, query, token, body)
        api.control.note(self.command, path, answer.status)
        if api.cut(self.command, path):
            self.close_connection = True
            _cut(self.connection)
            return
        self._send(answer, api.headers())

    def _send(self, answer: Answer, headers: dict[str, str]) -> None:
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.body is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the log is at /control/log, and stderr is for errors."""
