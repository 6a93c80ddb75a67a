"""The stand-in for Hetzner's API in this process, before a world that only remembers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hcloud
import pytest
from hcloud import APIException, Client
from hcloud.firewalls import FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork

from sandbox.hetzner.api import Api, Server
from sandbox.hetzner.fake import FakeWorld

TOKEN = "standin" * 9 + "s"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdvZXMgbm93aGVyZSBidXQgaXQgaXMgb25lICEh"
FSN1 = Location(name="fsn1")
CX23 = ServerType(name="cx23")
DEBIAN = Image(name="debian-12")
NO_ADDRESS = ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=False)


class Standin:
    """The stand-in, and a client that never tries anything again.

    Attributes:
        world: What it made.
        books: Its file.
        client: The official client.
    """

    def __init__(self, folder: Path) -> None:
        self.world = FakeWorld()
        self.books = folder / "books.json"
        self.start()

    def start(self) -> None:
        """Start it, anew if it was ended."""
        self.server = Server(("127.0.0.1", 0), Api(self.books, self.world, TOKEN, age=0.0))
        self._thread = threading.Thread(target=partial(self.server.serve_forever, 0.005))
        self._thread.start()
        # Of any type: the client's own are optional throughout, even where they always are there.
        self.client: Any = hcloud.Client(TOKEN, self.server.endpoint, poll_interval=0.002)
        self.client._client._retry_max_retries = 0

    def end(self) -> None:
        """End it, whatever runs."""
        self.server.end()
        self._thread.join()
        self.client._client._session.close()

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """A request that the client has no method for, or would not send."""
        answer: dict[str, Any] = self.client.request(method, path, json=body)
        return answer

    def done(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """A request; waits for the actions that it begins."""
        answer = self.ask(method, path, **body)
        actions = [
            answer.get("action"),
            *answer.get("actions", ()),
            *answer.get("next_actions", ()),
        ]
        for action in filter(None, actions):
            self.client.actions.get_by_id(action["id"]).wait_until_finished()
        return answer

    def refusal(self, method: str, path: str, **body: Any) -> tuple[int, str]:
        """Status and code of a request that is refused."""
        with pytest.raises(APIException) as caught:
            self.ask(method, path, **body)
        self.error = caught.value
        code = str(caught.value.code)
        statuses = [one["status"] for one in self.control("GET", "log")["log"]]
        return statuses[-1], code

    def control(self, method: str, what: str, /, **body: Any) -> dict[str, Any]:
        """A request to the stand-in's own endpoints."""
        return self.server.api.control.answer(method, f"/control/{what}", body).body or {}

    def add_server(self, name: str = "one", **more: Any) -> Any:
        """A server that runs."""
        given = {"server_type": CX23, "image": DEBIAN, "location": FSN1, **more}
        made = self.client.servers.create(name=name, **given)
        wait(made.action, *made.next_actions)
        return self.client.servers.get_by_id(made.server.id)

    def add_network(self, ip_range: str = "10.78.0.0/24") -> int:
        """A network with one subnet; gives its id."""
        made = self.ask("POST", "/networks", name=f"net {ip_range}", ip_range=ip_range)
        number = int(made["network"]["id"])
        subnet = {"type": "cloud", "network_zone": "eu-central", "ip_range": ip_range}
        self.done("POST", f"/networks/{number}/actions/add_subnet", **subnet)
        return number

    def add_balancer(self, **more: Any) -> int:
        """A load balancer; gives its id."""
        given = {"name": "lb", "load_balancer_type": "lb11", "location": "fsn1", **more}
        return int(self.done("POST", "/load_balancers", **given)["load_balancer"]["id"])

    def act(self, kind: str, number: int, action: str, **body: Any) -> dict[str, Any]:
        """An action on a resource, to its end."""
        return self.done("POST", f"/{kind}/{number}/actions/{action}", **body)


def wait(*actions: Any) -> None:
    """Wait for actions to succeed."""
    for action in actions:
        action.wait_until_finished()


@contextmanager
def standin(folder: Path) -> Iterator[Standin]:
    """The stand-in, while the block runs."""
    made = Standin(folder)
    try:
        yield made
    finally:
        made.end()


def eventually(check: Any) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 5
    while not check():
        assert time.monotonic() < end
        time.sleep(0.002)


def hold(monkeypatch: pytest.MonkeyPatch, cloud: Standin, method: str) -> threading.Event:
    """Make the world wait in a method until the event is set."""
    held, real = threading.Event(), getattr(cloud.world, method)

    def waiting(*args: object) -> object:
        assert held.wait(5)
        return real(*args)

    monkeypatch.setattr(cloud.world, method, waiting)
    return held


@contextmanager
def another_client(cloud: Standin) -> Iterator[Client]:
    """A client of one thread's own."""
    client = Client(TOKEN, cloud.server.endpoint)
    client._client._retry_max_retries = 0
    yield client
    client._client._session.close()


def rule(port: str | None = "22", protocol: str = "tcp") -> FirewallRule:
    """A rule that lets all the world in."""
    return FirewallRule("in", protocol, ["0.0.0.0/0", "::/0"], port)
