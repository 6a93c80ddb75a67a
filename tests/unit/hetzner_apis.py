"""Two APIs to ask: the sandbox's stand-in for Hetzner's, and one that gives prepared answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.hetzner.api import Api, Server
from sandbox.hetzner.fake import FakeWorld

TOKEN = "t0ken" * 12 + "hcld"


@contextmanager
def standin(folder: Path) -> Iterator[Server]:
    """The stand-in, without machines, while the block runs."""
    server = Server(("127.0.0.1", 0), Api(folder / "books.json", FakeWorld(), TOKEN))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


class Answer(NamedTuple):
    """What is said to a request; a status of 0 hangs up without a word."""

    status: int
    body: object
    headers: Mapping[str, str] = {}


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal in the form that Hetzner's API has."""
    return Answer(status, {"error": {"code": code, "message": message}}, headers or {})


class CannedApi(ThreadingHTTPServer):
    """Gives prepared answers and remembers what it was asked.

    Attributes:
        answers: to all requests one by one, the last one for ever.
        routes: the same by ``GET /path``, which go first.
        asked: the requests.
        tokens: the values of their header Authorization.
        before: is called in the request's thread before it is answered.
    """

    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.routes: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.before: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, request: str) -> Answer:
        path = request.partition("?")[0].replace("/v1", "", 1)
        answers = self.routes.get(path, self.answers)
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    server: CannedApi

    def do_GET(self) -> None:
        request = f"{self.command} {self.path}"
        self.server.asked.append(request)
        self.server.tokens.add(self.headers["Authorization"])
        self.server.before()
        answer = self.server.answer(request)
        if answer.status == 0:
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        with suppress(ConnectionError):  # nobody waits for it any more
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if answer.status == 204 else text.encode())

    do_POST = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        """Not to the terminal."""


@contextmanager
def canned_api() -> Iterator[CannedApi]:
    """Prepared answers, while the block runs."""
    with CannedApi() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
