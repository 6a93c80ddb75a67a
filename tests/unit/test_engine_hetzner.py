"""The stand-in engine's Hetzner Cloud resources, against the stand-in for Hetzner's API."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hcloud
import pytest

from sandbox.engine import EngineError
from sandbox.engine.hetzner import MAKERS, PROVIDER, Api
from sandbox.engine.hetzner import api as engine_api
from sandbox.engine.journal import Record
from sandbox.engine.progress import NothingMade, Progress
from sandbox.engine.resources import Workshop, to_delete
from sandbox.engine.standin import StandinEngine
from sandbox.hetzner.api import Api as HetznerApi
from sandbox.hetzner.api import Server
from sandbox.hetzner.fake import FakeWorld

TOKEN = "t0ken" * 12 + "test"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdvZXMgbm93aGVyZSBidXQgaXQgaXMgb25lICEh"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdvZXMgbm93aGVyZSBidXQgaXQgaXMgdHdvICEh"
LABELS = {"own-kubernetes/cluster": "test"}
RULE = {"direction": "in", "protocol": "tcp", "port": "22", "sourceIps": ["192.0.2.0/24"]}


class Shop:
    """A workshop with one provider, and what it has made so far, as a journal would know it."""

    def __init__(self, endpoint: str, token: str, scratch: Path) -> None:
        self.lines: list[str] = []
        self.workshop = Workshop(scratch, Progress(self.lines.append))
        given = {"token": token, "endpoint": endpoint, "pollInterval": "5ms"}
        self.workshop.add_provider(Record("p", PROVIDER, "p", id="p", inputs=given))
        self.known: dict[str, Record] = {}

    def make(
        self, kind: str, label: str = "it", /, *, ignored: tuple[str, ...] = (), **inputs: Any
    ) -> dict[str, Any]:
        """Make, or make again; gives the outputs and the id."""
        known = self.known.get(label)
        asked = Record(label, _token(kind), label, inputs=inputs, provider="p", ignored=ignored)
        record = self.workshop.kept(asked, known)
        made, outputs = self.workshop.create(record, None, begun=known is not None)
        self.known[label] = to_delete(made)
        return {**outputs, "id": made.id}

    def delete(self, name: str = "it") -> None:
        """Delete what was made under a name; the name stays known."""
        self.workshop.delete(self.known[name])


def _token(kind: str) -> str:
    return next(token for token in MAKERS if token.rpartition(":")[2] == kind)


class Cloud:
    """The stand-in for Hetzner's API, in this process, before a world that only remembers."""

    def __init__(self, books: Path) -> None:
        self.world = FakeWorld()
        self.server = Server(("127.0.0.1", 0), HetznerApi(books, self.world, TOKEN, age=0.0))
        self.endpoint = self.server.endpoint
        self.client = hcloud.Client(TOKEN, self.endpoint, poll_interval=0.005)

    def order(self, **fault: Any) -> None:
        """Have a fault; see :mod:`sandbox.hetzner.faults`."""
        self._control("POST", "faults", fault)

    def unavailable(self, server_type: str, location: str) -> None:
        """Sell out of a server type."""
        self._control("POST", "unavailable", {"server_type": server_type, "location": location})

    def store(self) -> dict[str, list[dict[str, Any]]]:
        """What exists, without actions, which stay."""
        body = self._control("GET", "store", {})
        return {kind: found for kind, found in body.items() if found and kind != "action"}

    def asked(self) -> list[tuple[str, str]]:
        """The requests that changed something: method and path."""
        log = self._control("GET", "log", {})["log"]
        return [(one["method"], one["path"]) for one in log if one["method"] != "GET"]

    def _control(self, method: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.server.api.control.answer(method, f"/control/{what}", body).body
        return answer or {}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path / "books.json")
    thread = threading.Thread(target=partial(made.server.serve_forever, poll_interval=0.01))
    thread.start()
    yield made
    made.server.end()
    thread.join()


@pytest.fixture
def shop(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    at_once = "hcloud._client.exponential_backoff_function"
    monkeypatch.setattr(at_once, lambda **_: lambda retries: 0.0)
    return Shop(cloud.endpoint, TOKEN, tmp_path)


@pytest.fixture
def client(cloud: Cloud) -> hcloud.Client:
    return cloud.client


# What has a name

NAMED: list[tuple[str, str, dict[str, Any]]] = [
    ("SshKey", "ssh_keys", {"publicKey": KEY}),
    ("Network", "networks", {"ipRange": "10.78.0.0/16"}),
    ("Firewall", "firewalls", {"rules": [RULE]}),
    ("PlacementGroup", "placement_groups", {"type": "spread"}),
    ("PrimaryIp", "primary_ips", {"type": "ipv4", "location": "fsn1", "assigneeType": "server"}),
    ("Server", "servers", {"serverType": "cx23", "image": "debian-12", "location": "fsn1"}),
    ("FloatingIp", "floating_ips", {"type": "ipv4", "homeLocation": "fsn1"}),
    ("LoadBalancer", "load_balancers", {"loadBalancerType": "lb11", "location": "fsn1"}),
]


@pytest.mark.parametrize(("kind", "plural", "inputs"), NAMED)
def test_made_once_changed_deleted_and_made_again(
    shop: Shop, client: hcloud.Client, kind: str, plural: str, inputs: dict[str, Any]
) -> None:
    def live() -> list[Any]:
        found: list[Any] = getattr(client, plural).get_all()
        return found

    made = shop.make(kind, **inputs, labels=LABELS)
    assert made["name"].startswith("it-")
    assert made["labels"] == LABELS
    assert shop.make(kind, **inputs, labels=LABELS) == made
    assert [(str(one.id), one.name) for one in live()] == [(made["id"], made["name"])]
    assert shop.make(kind, **inputs, labels={"a": "b"})["id"] == made["id"]
    assert live()[0].labels == {"a": "b"}
    left_alone = shop.make(kind, ignored=("labels",), **inputs, labels=LABELS)
    assert left_alone["labels"] == {"a": "b"}
    shop.delete()
    assert live() == []
    shop.delete()
    again = shop.make(kind, **inputs, labels=LABELS)
    assert again["name"] == made["name"]
    assert [str(one.id) for one in live()] == [again["id"]]


@pytest.mark.parametrize(
    ("kind", "inputs", "changed"),
    [
        ("SshKey", {"publicKey": KEY}, {"publicKey": OTHER_KEY}),
        ("Network", {"ipRange": "10.78.0.0/16"}, {"ipRange": "10.79.0.0/16"}),
        (
            "Server",
            {"serverType": "cx23", "image": "debian-12", "location": "fsn1"},
            {"location": "nbg1"},
        ),
    ],
)
def test_what_cannot_change_in_place_is_replaced_unless_that_is_ignored(
    shop: Shop, kind: str, inputs: dict[str, Any], changed: dict[str, Any]
) -> None:
    first = shop.make(kind, name="it", **inputs)
    kept = shop.make(kind, name="it", ignored=tuple(changed), **{**inputs, **changed})
    assert kept["id"] == first["id"]
    assert shop.make(kind, name="it", **{**inputs, **changed})["id"] != first["id"]


def test_a_comment_makes_no_other_key(shop: Shop) -> None:
    first = shop.make("SshKey", publicKey=f"{KEY} me@here\n")
    assert shop.make("SshKey", publicKey=KEY)["id"] == first["id"]
    assert first["fingerprint"]


def test_what_a_run_began_that_broke_off_is_taken_over(shop: Shop, client: hcloud.Client) -> None:
    client.ssh_keys.create("mine", KEY, LABELS)
    begun = Record("it", _token("SshKey"), "it", inputs={"name": "mine", "labels": LABELS})
    shop.known["it"] = begun
    made = shop.make("SshKey", name="mine", publicKey=KEY, labels=LABELS)
    assert [str(one.id) for one in client.ssh_keys.get_all()] == [made["id"]]


def test_a_stranger_of_the_same_name_is_refused_and_left(shop: Shop, client: hcloud.Client) -> None:
    client.placement_groups.create("theirs", "spread")
    inputs = {"name": "theirs", "type": "spread", "labels": LABELS}
    record = Record("it", _token("PlacementGroup"), "it", inputs=inputs, provider="p")
    with pytest.raises(NothingMade, match=r"\(uniqueness_error\).*no run of this stack"):
        shop.workshop.create(shop.workshop.kept(record, None), None)
    shop.workshop.delete(record)  # as if the first try had been cut off
    assert [group.name for group in client.placement_groups.get_all()] == ["theirs"]


def test_an_import_takes_over_by_id(shop: Shop, client: hcloud.Client) -> None:
    theirs = client.ssh_keys.create("theirs", KEY)
    asked = Record(
        "u", _token("SshKey"), "it", id=str(theirs.id), inputs={"publicKey": KEY}, provider="p"
    )
    made, outputs = shop.workshop.create(shop.workshop.kept(asked, None), None)
    assert made.id == str(theirs.id)
    assert outputs["name"].startswith("it-")
    theirs.delete()
    with pytest.raises(NothingMade, match="import: Hetzner Cloud has no"):
        shop.workshop.create(shop.workshop.kept(asked, None), None)


# One by one


def network(shop: Shop) -> dict[str, Any]:
    made = shop.make("Network", "net", ipRange="10.78.0.0/16")
    shop.make(
        "NetworkSubnet",
        "subnet",
        networkId=float(made["id"]),
        type="cloud",
        ipRange="10.78.0.0/24",
        networkZone="eu-central",
    )
    return made


def server(shop: Shop, **inputs: Any) -> dict[str, Any]:
    given = {"serverType": "cx23", "image": "debian-12", "location": "fsn1", "labels": LABELS}
    return shop.make("Server", "server", **{**given, **inputs})


def test_subnets(shop: Shop, client: hcloud.Client) -> None:
    made = network(shop)
    again = shop.make(
        "NetworkSubnet",
        "subnet",
        networkId=made["id"],
        type="cloud",
        ipRange="10.78.0.0/24",
        networkZone="eu-central",
    )
    assert again["id"] == f"{made['id']}-10.78.0.0/24"
    assert again["gateway"] == "10.78.0.1"
    live = client.networks.get_by_id(int(made["id"]))
    assert [subnet.ip_range for subnet in live.subnets or []] == ["10.78.0.0/24"]
    shop.delete("subnet")
    shop.delete("subnet")
    assert not client.networks.get_by_id(int(made["id"])).subnets
    shop.delete("net")
    shop.delete("subnet")


def test_a_firewall_gets_its_rules(shop: Shop, client: hcloud.Client) -> None:
    made = shop.make("Firewall", rules=[RULE])
    rules = [RULE, {**RULE, "port": "80-90", "sourceIps": ["0.0.0.0/0", "::/0"]}]
    assert shop.make("Firewall", rules=rules)["id"] == made["id"]
    live = client.firewalls.get_by_id(int(made["id"]))
    assert [(rule.port, rule.source_ips) for rule in live.rules or []] == [
        ("22", ["192.0.2.0/24"]),
        ("80-90", ["0.0.0.0/0", "::/0"]),
    ]


def test_a_firewall_in_use_is_taken_off_before_it_is_deleted(
    shop: Shop, client: hcloud.Client
) -> None:
    wall = shop.make("Firewall", "wall", rules=[RULE])
    server(shop, firewallIds=[float(wall["id"])])
    shop.delete("wall")
    assert client.firewalls.get_all() == []


def test_a_server_with_everything(shop: Shop, client: hcloud.Client) -> None:
    key = shop.make("SshKey", "key", publicKey=KEY)
    group = shop.make("PlacementGroup", "group", type="spread")
    wall = shop.make("Firewall", "wall", rules=[RULE])
    address = shop.make(
        "PrimaryIp", "ip", type="ipv4", location="fsn1", autoDelete=False, assigneeType="server"
    )
    inputs: dict[str, Any] = {
        "name": "test-cp1",
        "userData": "#cloud-config\n",
        "sshKeys": [key["id"]],
        "firewallIds": [int(wall["id"])],
        "placementGroupId": int(group["id"]),
        "publicNets": [{"ipv4Enabled": True, "ipv4": int(address["id"]), "ipv6Enabled": False}],
    }
    made = server(shop, **inputs)
    assert made["status"] == "running"
    assert made["ipv4Address"] == address["ipAddress"]
    assert made["ipv6Address"] is None
    assert made["location"] == "fsn1"
    assert made["firewallIds"] == [int(wall["id"])]
    assert made["placementGroupId"] == int(group["id"])
    assert "cloud-config" not in json.dumps(made)
    assert "userData" not in shop.known["server"].inputs
    assert server(shop, **inputs) == made
    shop.delete("server")
    assert server(shop, **inputs)["ipv4Address"] == address["ipAddress"]
    shop.delete("server")
    shop.delete("ip")
    assert client.primary_ips.get_all() == []


def test_a_server_is_brought_to_what_is_wanted(shop: Shop, client: hcloud.Client) -> None:
    first = shop.make("Firewall", "first", rules=[RULE])
    second = shop.make("Firewall", "second", rules=[RULE])
    group = shop.make("PlacementGroup", "group", type="spread")
    made = server(shop, firewallIds=[int(first["id"])])
    live = client.servers.get_by_id(int(made["id"]))
    live.power_off().wait_until_finished()
    changed = server(
        shop,
        serverType="cx33",
        keepDisk=True,
        firewallIds=[int(second["id"])],
        placementGroupId=int(group["id"]),
        deleteProtection=True,
        rebuildProtection=True,
    )
    assert changed["id"] == made["id"]
    assert changed["status"] == "running"
    assert changed["serverType"] == "cx33"
    assert changed["firewallIds"] == [int(second["id"])]
    assert changed["placementGroupId"] == int(group["id"])
    with pytest.raises(EngineError, match="changes its placement group only when it is off"):
        server(shop, placementGroupId=int(shop.make("PlacementGroup", "g2", type="spread")["id"]))
    with pytest.raises(EngineError, match=r"\(protected\)"):
        shop.delete("server")
    server(shop, serverType="cx33", keepDisk=True, deleteProtection=False, rebuildProtection=False)
    shop.delete("server")


def test_a_server_takes_another_primary_ip(shop: Shop, client: hcloud.Client) -> None:
    made = server(shop, publicNets=[{"ipv4Enabled": True, "ipv6Enabled": False}])
    kept = shop.make("PrimaryIp", "ip", type="ipv4", location="fsn1", assigneeType="server")
    nets = [{"ipv4Enabled": True, "ipv4": int(kept["id"]), "ipv6Enabled": False}]
    changed = server(shop, publicNets=nets)
    assert changed["id"] == made["id"]
    assert changed["ipv4Address"] == kept["ipAddress"] != made["ipv4Address"]
    assert [str(one.id) for one in client.primary_ips.get_all()] == [kept["id"]]
    own = server(shop, publicNets=[{"ipv4Enabled": True, "ipv6Enabled": False}])
    assert own["ipv4Address"] not in (None, kept["ipAddress"])
    assert own["status"] == "running"
    assert server(shop, publicNets=[{"ipv4Enabled": True, "ipv6Enabled": False}]) == own
    shop.delete("ip")
    assert [one.ip for one in client.primary_ips.get_all()] == [own["ipv4Address"]]


def test_a_primary_ip_leaves_its_server_before_it_is_deleted(
    shop: Shop, client: hcloud.Client
) -> None:
    kept = shop.make("PrimaryIp", "ip", type="ipv4", location="fsn1", assigneeType="server")
    server(shop, publicNets=[{"ipv4": int(kept["id"])}])
    shop.delete("ip")
    assert kept["ipAddress"] not in [one.ip for one in client.primary_ips.get_all()]


def test_attachments_of_servers(shop: Shop, client: hcloud.Client) -> None:
    net, made = network(shop), server(shop)

    def attached(address: str) -> dict[str, Any]:
        return shop.make(
            "ServerNetwork",
            "attached",
            serverId=float(made["id"]),
            networkId=float(net["id"]),
            ip=address,
        )

    first = attached("10.78.0.5")
    assert first["id"] == f"{made['id']}-{net['id']}"
    assert first["ip"] == "10.78.0.5"
    assert first["macAddress"]
    assert attached("10.78.0.5") == first
    assert attached("10.78.0.6")["ip"] == "10.78.0.6"
    shop.delete("attached")
    assert not client.servers.get_by_id(int(made["id"])).private_net
    shop.delete("server")
    shop.delete("attached")


def test_an_attachment_may_name_the_subnet(shop: Shop) -> None:
    net, made = network(shop), server(shop)
    subnet = f"{net['id']}-10.78.0.0/24"
    told = shop.make("ServerNetwork", "at", serverId=made["id"], subnetId=subnet)
    assert told["id"] == f"{made['id']}-{net['id']}"
    assert told["ip"].startswith("10.78.0.")


def test_a_floating_ip_stays_where_somebody_moved_it(shop: Shop, client: hcloud.Client) -> None:
    made = server(shop)
    inputs: dict[str, Any] = {"type": "ipv4", "homeLocation": "fsn1", "description": "d"}
    floating = shop.make("FloatingIp", **inputs)
    assert floating["serverId"] is None
    assert floating["ipAddress"]
    live = client.floating_ips.get_by_id(int(floating["id"]))
    live.assign(client.servers.get_by_id(int(made["id"]))).wait_until_finished()
    assert shop.make("FloatingIp", **{**inputs, "description": "e"})["serverId"] == int(made["id"])
    shop.delete()
    assert client.floating_ips.get_all() == []


# Load balancers


def balancer(shop: Shop) -> dict[str, Any]:
    return shop.make("LoadBalancer", "lb", loadBalancerType="lb11", location="fsn1")


def test_a_load_balancer_tells_its_addresses(shop: Shop) -> None:
    net, made = network(shop), balancer(shop)
    assert made["ipv4"]
    assert made["networkZone"] == "eu-central"
    where: dict[str, Any] = {"loadBalancerId": float(made["id"]), "networkId": float(net["id"])}
    at = shop.make("LoadBalancerNetwork", "at", **where, ip="10.78.0.9")
    assert at["id"] == f"{made['id']}-{net['id']}"
    assert at["ip"] == "10.78.0.9"
    assert shop.make("LoadBalancerNetwork", "at", **where, ip="10.78.0.9") == at
    told = balancer(shop)
    assert (told["networkId"], told["networkIp"]) == (int(net["id"]), "10.78.0.9")
    shop.make("LoadBalancerNetwork", "at", **where, ip="10.78.0.9", enablePublicInterface=False)
    shop.delete("at")
    shop.delete("at")
    assert balancer(shop)["networkId"] is None


def test_a_load_balancer_changes_in_place(shop: Shop) -> None:
    made = balancer(shop)
    changed = shop.make(
        "LoadBalancer",
        "lb",
        loadBalancerType="lb21",
        location="fsn1",
        algorithm={"type": "least_connections"},
    )
    assert changed["id"] == made["id"]
    assert changed["loadBalancerType"] == "lb21"
    assert changed["algorithm"] == {"type": "least_connections"}


def test_services_of_load_balancers(shop: Shop, client: hcloud.Client) -> None:
    made = balancer(shop)

    def service(**inputs: Any) -> dict[str, Any]:
        given = {"loadBalancerId": made["id"], "protocol": "tcp", "listenPort": 80.0}
        return shop.make("LoadBalancerService", "http", **given, **inputs)

    first = service(destinationPort=30080.0)
    assert first["id"] == f"{made['id']}__80"
    assert service(destinationPort=30080.0) == first
    check = {"protocol": "tcp", "port": 30081, "interval": 3, "timeout": 2, "retries": 2}
    changed = service(destinationPort=30081.0, proxyprotocol=True, healthCheck=check)
    assert changed["healthCheck"]["interval"] == 3
    services = client.load_balancers.get_by_id(int(made["id"])).services
    assert [(one.destination_port, one.proxyprotocol) for one in services or []] == [(30081, True)]
    shop.delete("http")
    shop.delete("http")
    assert not client.load_balancers.get_by_id(int(made["id"])).services
    shop.delete("lb")
    shop.delete("http")


def test_targets_of_load_balancers(shop: Shop, client: hcloud.Client) -> None:
    net, made, host = network(shop), balancer(shop), server(shop)
    lb = int(made["id"])
    shop.make("ServerNetwork", "s-at", serverId=host["id"], networkId=net["id"])
    shop.make("LoadBalancerNetwork", "lb-at", loadBalancerId=lb, networkId=net["id"])

    def target(private: bool) -> dict[str, Any]:
        return shop.make(
            "LoadBalancerTarget",
            "target",
            loadBalancerId=lb,
            type="label_selector",
            labelSelector="own-kubernetes/cluster=test",
            usePrivateIp=private,
        )

    first = target(private=False)
    assert first["id"].startswith("lb-label-selector-tgt-")
    assert target(private=False) == first
    assert target(private=True) == {**first, "usePrivateIp": True}
    live = client.load_balancers.get_by_id(lb)
    assert [one.use_private_ip for one in live.targets or []] == [True]
    direct = shop.make(
        "LoadBalancerTarget", "direct", loadBalancerId=lb, type="server", serverId=host["id"]
    )
    assert direct["id"] == f"lb-srv-tgt-{host['id']}-{lb}"
    shop.delete("target")
    shop.delete("target")
    shop.delete("direct")
    assert not client.load_balancers.get_by_id(lb).targets


# Errors


class Canned(BaseHTTPRequestHandler):
    """An API that has one answer to everything."""

    answer: tuple[int, dict[str, Any]] = (200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Not to the terminal."""


@pytest.fixture
def canned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    at_once = "hcloud._client.exponential_backoff_function"
    monkeypatch.setattr(at_once, lambda **_: lambda retries: 0.0)
    monkeypatch.setattr(engine_api, "BUSY_SECONDS", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()

        def answering(status: int, code: str, message: str, **more: Any) -> Shop:
            error = {"code": code, "message": message, "details": more}
            monkeypatch.setattr(Canned, "answer", (status, {"error": error}))
            return Shop(f"http://127.0.0.1:{server.server_port}/v1", "hidden-token", tmp_path)

        yield answering
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "unauthorized", "hcloud:token"),
        (429, "rate_limit_exceeded", "wait a minute"),
        (412, "resource_unavailable", "choose another type or location"),
        (423, "locked", "what it says"),
    ],
)
def test_an_error_of_the_api_is_told_with_its_code(
    canned: Callable[..., Shop], status: int, code: str, words: str
) -> None:
    shop = canned(status, code, "what it says")
    with pytest.raises(NothingMade, match=rf"Hetzner Cloud: what it says \({code}\)") as caught:
        server(shop)
    assert words in str(caught.value)
    assert "hidden-token" not in str(caught.value)


def test_fields_of_bad_input_are_named(canned: Callable[..., Shop]) -> None:
    fields = [{"name": "location", "messages": ["is unknown"]}, {"name": "other"}]
    shop = canned(422, "invalid_input", "invalid input", fields=fields)
    with pytest.raises(EngineError, match=r"\(invalid_input\); location: is unknown$"):
        server(shop)


def test_after_an_unsure_error_the_thing_may_be_there(canned: Callable[..., Shop]) -> None:
    shop = canned(500, "server_error", "oh")
    with pytest.raises(EngineError, match=r"oh \(server_error\)") as caught:
        server(shop)
    assert not isinstance(caught.value, NothingMade)


def test_an_api_that_is_not_there(tmp_path: Path) -> None:
    shop = Shop("http://127.0.0.1:1/v1", "t", tmp_path)
    with pytest.raises(EngineError, match=r"http://127.0.0.1:1/v1 gives no answer \(Connection"):
        server(shop)


@pytest.mark.parametrize("token", ["", "with space", "line\n", "\u00e4"])
def test_a_token_that_is_none_is_refused_and_not_told(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HCLOUD_TOKEN", raising=False)
    with pytest.raises(EngineError, match="the provider's token") as caught:
        Api.open({"token": token})
    assert not token or token not in str(caught.value)


def test_the_environment_may_have_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", "x")
    assert Api.open({}).endpoint == "https://api.hetzner.cloud/v1"


def test_a_sold_out_server_type(shop: Shop, cloud: Cloud) -> None:
    cloud.unavailable("cx23", "fsn1")
    with pytest.raises(NothingMade, match=r"\(resource_unavailable\).*another type or location"):
        server(shop)


def test_a_rate_limit_that_passes_is_waited_for(shop: Shop, cloud: Cloud) -> None:
    cloud.order(kind="rate_limit", times=3)
    assert server(shop)["status"] == "running"


def test_an_answer_that_is_lost_leaves_no_second_thing(shop: Shop, cloud: Cloud) -> None:
    cloud.order(kind="cut", method="POST", path="/servers")
    with pytest.raises(EngineError, match="gives no answer"):
        server(shop, name="it")
    begun = {"name": "it", "labels": LABELS}
    shop.known["server"] = Record("u", _token("Server"), "server", inputs=begun, provider="p")
    made = server(shop, name="it")
    assert [str(one.id) for one in cloud.client.servers.get_all()] == [made["id"]]


def test_an_action_that_fails_is_told_and_done_again(shop: Shop, cloud: Cloud) -> None:
    made = server(shop)
    cloud.client.servers.get_by_id(int(made["id"])).power_off().wait_until_finished()
    cloud.order(kind="fail_action", command="start_server", message="no power")
    with pytest.raises(EngineError, match=r"Hetzner Cloud: .*no power \(action_failed"):
        server(shop)
    assert server(shop)["status"] == "running"


def test_what_is_busy_is_waited_for(shop: Shop, cloud: Cloud) -> None:
    made = server(shop)
    cloud.order(kind="fail", method="DELETE", code="locked", times=3)
    shop.delete("server")
    assert cloud.asked()[-4:] == [("DELETE", f"/servers/{made['id']}")] * 4


def test_what_is_not_known_here_is_refused(shop: Shop) -> None:
    with pytest.raises(EngineError, match="Server: not in the stand-in: iso, networks"):
        server(shop, iso="x", networks=[{"networkId": 1}])


def test_a_provider_is_needed(shop: Shop) -> None:
    record = Record("u", _token("SshKey"), "k", inputs={"name": "k", "publicKey": KEY})
    with pytest.raises(NothingMade, match="k names no provider of Hetzner Cloud"):
        shop.workshop.create(record, None)
    shop.workshop.delete(replace(record, retained=True))


# Whole programs

PROGRAM = """
import os
import pulumi
import pulumi_hcloud as hcloud
import pulumi_tls as tls
from pulumi_command import local

config = pulumi.Config("hcloud")
trace = pulumi.Config("p").require("trace")
api = hcloud.Provider(
    "hetzner", token=config.require("token"), endpoint=config.require("endpoint"),
    poll_interval="10ms",
)
labels = {"own-kubernetes/cluster": "test"}


def on(*more, **kw):
    return pulumi.ResourceOptions(provider=api, depends_on=list(more), **kw)


login = tls.PrivateKey("login", algorithm="ED25519")
key = hcloud.SshKey("key", public_key=login.public_key_openssh, labels=labels, opts=on())
network = hcloud.Network("net", ip_range="10.78.0.0/16", labels=labels, opts=on())
subnet = hcloud.NetworkSubnet(
    "subnet",
    network_id=network.id.apply(int),
    type="cloud",
    ip_range="10.78.0.0/24",
    network_zone="eu-central",
    opts=on(),
)
wall = hcloud.Firewall(
    "wall",
    rules=[
        hcloud.FirewallRuleArgs(
            direction="in", protocol="tcp", port="22", source_ips=["192.0.2.0/24"]
        )
    ],
    labels=labels,
    opts=on(),
)
image = os.environ.get("IMAGE", "debian-12")
for number, node in enumerate(os.environ["NODES"].split()):
    address = hcloud.PrimaryIp(
        f"{node}-ip", type="ipv4", location="fsn1", assignee_type="server", auto_delete=False,
        labels=labels, opts=on(),
    )
    server = hcloud.Server(
        node,
        name=f"test-{node}",
        server_type="cx23",
        image=image,
        location="fsn1",
        user_data=login.private_key_openssh,
        ssh_keys=[key.id],
        firewall_ids=[wall.id.apply(int)],
        public_nets=[
            hcloud.ServerPublicNetArgs(ipv4=address.id.apply(int), ipv6_enabled=False)
        ],
        labels={**labels, "own-kubernetes/made": image},
        opts=on(
            subnet,
            delete_before_replace=True,
            ignore_changes=[
                "image", "user_data", "sshKeys", 'labels["own-kubernetes/made"]'
            ],
        ),
    )
    attached = hcloud.ServerNetwork(
        f"{node}-net",
        server_id=server.id.apply(int),
        network_id=network.id.apply(int),
        ip=f"10.78.0.{10 + number}",
        opts=on(subnet),
    )
    local.Command(
        f"{node}-command",
        create="true",
        delete=f"echo {node} >>{trace}",
        triggers=[server.id],
        opts=pulumi.ResourceOptions(depends_on=[attached], deleted_with=server),
    )
    pulumi.export(f"{node}-id", server.id)
    pulumi.export(f"{node}-address", server.ipv4_address)
    pulumi.export(f"{node}-private", attached.ip)
"""


@pytest.fixture
def project(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandinEngine:
    root = tmp_path / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text("name: p\nruntime: python\n")
    config = {"p:trace": f"{tmp_path}/trace", "hcloud:token": TOKEN}
    text = json.dumps({"config": {**config, "hcloud:endpoint": cloud.endpoint}})
    (root / "Pulumi.x.yaml").write_text(text)
    (root / "__main__.py").write_text(PROGRAM)
    monkeypatch.setenv("NODES", "cp1 w1")
    return StandinEngine(root, tmp_path / "home", stack="x")


def test_a_program_up_changed_and_down(
    project: StandinEngine, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    outputs = project.up(lines.append)
    assert outputs["w1-private"] == "10.78.0.11"
    assert outputs["w1-address"] != outputs["cp1-address"]
    monkeypatch.setenv("IMAGE", "debian-13")
    before = cloud.asked()
    assert project.up(lines.append) == outputs
    assert cloud.asked() == before

    cloud.client.servers.get_by_id(int(outputs["w1-id"])).delete().wait_until_finished()
    again = project.up(lines.append)
    assert again["w1-id"] != outputs["w1-id"]
    assert again["w1-address"] == outputs["w1-address"]
    assert again["cp1-id"] == outputs["cp1-id"]

    monkeypatch.setenv("NODES", "cp1")
    before = cloud.asked()
    project.up(lines.append)
    detach, delete, forget = cloud.asked()[len(before) :]
    assert detach == ("POST", f"/servers/{again['w1-id']}/actions/detach_from_network")
    assert delete == ("DELETE", f"/servers/{again['w1-id']}")
    assert forget[1].startswith("/primary_ips/")
    assert [server["name"] for server in cloud.store()["server"]] == ["test-cp1"]
    assert len(cloud.store()["primary_ip"]) == 1
    assert not (tmp_path / "trace").exists()  # its commands went with the server

    project.down(lines.append)
    assert cloud.store() == {}
    assert not (tmp_path / "trace").exists()
    told = "\n".join(lines)
    assert TOKEN not in told
    assert "PRIVATE KEY" not in told


def test_the_journal_holds_the_token_for_nobody_else_and_no_user_data(
    project: StandinEngine, tmp_path: Path
) -> None:
    project.up(lambda _: None)
    journal = tmp_path / "home/created.json"
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    kept = {record["name"]: record["inputs"] for record in json.loads(journal.read_text())}
    assert kept["hetzner"]["token"] == TOKEN
    assert set(kept["cp1"]) == {"name", "labels"}


def test_an_api_that_fails_midway_is_survived(project: StandinEngine, cloud: Cloud) -> None:
    cloud.order(kind="cut", method="POST", path="/servers")
    with pytest.raises(EngineError, match=r"(cp1|w1) \(hcloud:index/server:Server\).*no answer"):
        project.up(lambda _: None)
    project.up(lambda _: None)
    assert sorted(one["name"] for one in cloud.store()["server"]) == ["test-cp1", "test-w1"]
    cloud.order(kind="fail", method="DELETE", path="/servers/.*", code="unavailable", status=503)
    with pytest.raises(EngineError, match=r"could not be deleted: .*\(unavailable\)"):
        project.down(lambda _: None)
    project.down(lambda _: None)
    assert cloud.store() == {}


def test_down_right_after_a_broken_up_leaves_nothing(project: StandinEngine, cloud: Cloud) -> None:
    cloud.order(kind="cut", method="POST", path="/servers")
    with pytest.raises(EngineError, match="gives no answer"):
        project.up(lambda _: None)
    project.down(lambda _: None)
    assert cloud.store() == {}


def test_a_wrong_token_is_one_clear_line(project: StandinEngine, tmp_path: Path) -> None:
    stack = tmp_path / "project/Pulumi.x.yaml"
    stack.write_text(stack.read_text().replace(TOKEN, "wrong" * 12))
    with pytest.raises(EngineError, match=r"\(unauthorized\); set hcloud:token") as caught:
        project.up(lambda _: None)
    assert "wrong" * 12 not in str(caught.value)
    project.down(lambda _: None)
