"""Floating IPs: the host's service against a small server that speaks Hetzner's API and nodes' health ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.hosts import ENVIRONMENT, SCRIPTS, Host

TOKEN = "secret" * 10 + "word"
NODES = {"w1": (101, "127.0.0.11"), "w2": (102, "127.0.0.12"), "w3": (103, "127.0.0.13")}
SERVERS = {name: server for name, (server, _) in NODES.items()}
FIRST, SECOND = (7, "203.0.113.7"), (8, "203.0.113.8")


class Server:
    """HTTP on one address and port, in threads, until it is closed."""

    def __init__(self, address: str, port: int, answer: Callable[[Any], tuple[int, str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answer(self)
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(text.encode())

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Cloud:
    """Hetzner's API, as far as floating IPs need it.

    Attributes:
        carriers: server by floating IP.
        assigned: every assignment that was made, in order.
        errors: statuses (or texts that are no JSON) that the next requests get.
        failing_actions: how many of the next actions end in an error.
    """

    def __init__(self, *addresses: int) -> None:
        self.carriers: dict[int, int | None] = dict.fromkeys(addresses)
        self.assigned: list[tuple[int, int]] = []
        self.errors: list[int | str] = []
        self.failing_actions = 0
        self.requests: list[tuple[str, str, str]] = []
        self._actions: dict[int, str] = {}
        self._lock = threading.Lock()
        self.server = Server("127.0.0.1", 0, self._answer)
        self.endpoint = f"http://127.0.0.1:{self.server.port}/v1"

    def _answer(self, request: Any) -> tuple[int, str]:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        with self._lock:
            now = f"{time.monotonic():.2f}"
            self.requests.append((request.command, request.path, now))
            if request.headers["Authorization"] != f"Bearer {TOKEN}":
                return self._error(401, "unauthorized")
            if self.errors:
                error = self.errors.pop(0)
                return (200, error) if isinstance(error, str) else self._error(error, "sorry")
            return self._content(request.command, request.path, body)

    @staticmethod
    def _error(status: int, code: str) -> tuple[int, str]:
        return status, json.dumps({"error": {"code": code, "message": "no"}})

    def _content(self, method: str, path: str, body: Any) -> tuple[int, str]:
        if match := re.fullmatch(r"/v1/actions/(\d+)", path):
            number = int(match[1])
            action = {"id": number, "status": self._actions[number]}
            return 200, json.dumps({"action": action})
        match = re.fullmatch(r"/v1/floating_ips/(\d+)(/actions/assign)?", path)
        if not match or int(match[1]) not in self.carriers:
            return self._error(404, "not_found")
        address = int(match[1])
        if not match[2]:
            found = {"id": address, "server": self.carriers[address]}
            return 200, json.dumps({"floating_ip": found})
        assert method == "POST"
        if self.carriers[address] == body["server"]:
            return self._error(422, "floating_ip_assigned")
        number = len(self._actions) + 1
        self._actions[number] = "success"
        if self.failing_actions:
            self.failing_actions -= 1
            self._actions[number] = "error"
        else:
            self.carriers[address] = body["server"]
            self.assigned.append((address, body["server"]))
        return 201, json.dumps({"action": {"id": number, "status": "running"}})


class Nodes:
    """The nodes' health ports: kube-proxy's, and one of a Service.

    Attributes:
        unfit: pairs of node name and port that answer 503; the port may be None for both.
        asked: how often each node's port was asked.
    """

    def __init__(self) -> None:
        self.unfit: set[tuple[str, int]] = set()
        self.bad_answers: dict[str, int] = {}
        self.asked: dict[tuple[str, int], int] = {}
        self._servers: dict[tuple[str, int], Server] = {}
        self._silent: list[socket.socket] = []
        self.kube_proxy, self.service = free_port(), free_port()
        for name, (_, address) in NODES.items():
            for port in (self.kube_proxy, self.service):
                self._servers[name, port] = Server(address, port, self._health(name, port))

    def _health(self, name: str, port: int) -> Callable[[Any], tuple[int, str]]:
        def answer(request: Any) -> tuple[int, str]:
            self.asked[name, port] = self.asked.get((name, port), 0) + 1
            assert request.path == "/healthz"
            if self.bad_answers.get(name):
                self.bad_answers[name] -= 1
                return 503, "{}"
            return (503 if (name, port) in self.unfit else 200), "{}"

        return answer

    def kill(self, name: str, *, silent: bool = False) -> None:
        """Nothing answers on the node any more; silently: like one that is cut off."""
        for (node, port), server in list(self._servers.items()):
            if node == name:
                server.close()
                del self._servers[node, port]
                if silent:
                    self._silent.append(socket.create_server((NODES[name][1], port)))

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        for silent in self._silent:
            silent.close()


def free_port() -> int:
    """A port that is free on all addresses of the nodes."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.close()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud(FIRST[0], SECOND[0])
    yield cloud
    cloud.server.close()


@pytest.fixture
def host(tmp_path: Path, nodes: Nodes) -> Host:
    """A control-plane host with the real curl, on which time passes faster."""
    host = Host(tmp_path)
    host.command("curl", 'exec /usr/bin/curl "$@"')
    host.command("sleep", "exec /usr/bin/sleep 0.03")
    host.command("install", '[[ $1 == -d ]] || /usr/bin/install "$@"')
    host.command("kubectl", "cat /var/services.json")
    host.write("/var/services.json", '{"items": []}')
    host.path("/etc/systemd/system").mkdir(parents=True)
    script = host.scripts / "floating-mover.sh"
    text = script.read_text()
    for constant, value in (
        ("ROUND", 1), ("READ_SERVICES", 1), ("READ_CARRIERS", 1), ("KUBE_PROXY", nodes.kube_proxy),
        ("LONGEST_PAUSE", 1),
    ):  # fmt: skip
        text, count = re.subn(rf"^{constant}=\d+", f"{constant}={value}", text, flags=re.MULTILINE)
        assert count == 1, constant
    script.write_text(text)
    return host


def values(cloud: Cloud, *addresses: tuple[int, str]) -> dict[str, str]:
    """What the program hands over, besides the token."""
    nodes = (f"{name}={server}={address}" for name, (server, address) in NODES.items())
    return {
        "ENDPOINT": cloud.endpoint,
        "FLOATING_IPS": ",".join(f"{number}={address}" for number, address in addresses),
        "NODES": ",".join(nodes),
    }


def configure(host: Host, cloud: Cloud, *addresses: tuple[int, str]) -> None:
    """Write the service's files."""
    done = host.source(
        "floating-mover.sh",
        f"{function('write_files')}\nwrite_files",
        stdin=TOKEN,
        env=values(cloud, *(addresses or [FIRST])),
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def mover(host: Host) -> Iterator[subprocess.Popen[str]]:
    """The service, as systemd starts it."""
    path = f"{host.root / 'commands'}:{os.environ['PATH']}"
    with (host.root / "journal").open("a") as journal:
        process = subprocess.Popen(
            ["bash", str(host.scripts / "floating-mover.sh")],
            stdin=subprocess.DEVNULL, stdout=journal, stderr=journal, text=True,
            env={**ENVIRONMENT, "PATH": path, "HOME": str(host.root)}, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
            assert process.poll() is None, f"the service ended: {host.read('/journal')}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def eventually(what: str, holds: Callable[[], bool], host: Host | None = None) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end, f"never: {what}\n{host.read('/journal') if host else ''}"
        time.sleep(0.02)


def after_some_looks(nodes: Nodes, looks: int = 6, port: int | None = None) -> None:
    """Let the service look a few times more."""
    place = ("w3", port or nodes.kube_proxy)
    goal = nodes.asked.get(place, 0) + looks
    eventually(f"{looks} looks", lambda: nodes.asked.get(place, 0) >= goal)


def moves(host: Host) -> str:
    """What the service said about its assignments."""
    lines = host.read("/journal").splitlines()
    return "\n".join(line for line in lines if line.startswith("floating IP "))


def services(host: Host, address: str, port: int) -> None:
    """The cluster has a Service with this address and health port, and one without either."""
    plain = {"spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {}}}
    balanced = {
        "spec": {"healthCheckNodePort": port},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }
    host.write("/var/services.json", json.dumps({"items": [plain, balanced]}))


# --- the choice --------------------------------------------------------------------------------


def test_an_address_that_nobody_carries_is_assigned_at_once(host: Host, cloud: Cloud) -> None:
    configure(host, cloud)
    with mover(host):
        eventually("said so", lambda: "floating IP" in moves(host), host)
    assert cloud.assigned == [(7, SERVERS["w1"])]
    assert moves(host) == "floating IP 203.0.113.7: from no node to w1"


def test_several_addresses_are_spread(host: Host, cloud: Cloud) -> None:
    configure(host, cloud, FIRST, SECOND)
    with mover(host):
        eventually("both assigned", lambda: len(cloud.assigned) == 2, host)
    assert cloud.carriers == {7: SERVERS["w1"], 8: SERVERS["w2"]}


def test_the_first_choice_is_a_node_that_is_fit(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    nodes.kill("w1")
    configure(host, cloud)
    with mover(host):
        eventually("assigned", lambda: bool(cloud.assigned), host)
    assert cloud.carriers[7] == SERVERS["w2"]


@pytest.mark.parametrize("death", ["refuses", "unwell", "silent"])
def test_an_address_leaves_a_node_that_is_unfit(
    host: Host, cloud: Cloud, nodes: Nodes, death: str
) -> None:
    cloud.carriers = {7: SERVERS["w1"], 8: SERVERS["w2"]}
    configure(host, cloud, FIRST, SECOND)
    with mover(host):
        after_some_looks(nodes)
        assert cloud.assigned == []
        if death == "unwell":
            nodes.unfit.add(("w1", nodes.kube_proxy))
        else:
            nodes.kill("w1", silent=death == "silent")
        eventually("moved", lambda: bool(cloud.assigned), host)
        after_some_looks(nodes, 2)
    assert cloud.assigned == [(7, SERVERS["w3"])], "to the node that carries none"
    assert moves(host) == "floating IP 203.0.113.7: from w1 to w3"


def test_two_bad_answers_are_no_reason_to_move(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    configure(host, cloud)
    with mover(host):
        for _ in range(3):
            nodes.bad_answers["w1"] = 2
            after_some_looks(nodes, 4)
    assert cloud.assigned == []


def test_three_bad_answers_are(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    configure(host, cloud)
    with mover(host):
        after_some_looks(nodes)
        nodes.bad_answers["w1"] = 3
        eventually("moved", lambda: bool(cloud.assigned), host)


def test_an_address_stays_where_it_is_fit(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    cloud.carriers = {7: SERVERS["w3"], 8: SERVERS["w3"]}
    configure(host, cloud, FIRST, SECOND)
    for _ in range(2):  # nor does a restart move anything
        with mover(host):
            after_some_looks(nodes)
    assert cloud.assigned == []


def test_a_server_that_is_no_node_of_ours_carries_nothing(host: Host, cloud: Cloud) -> None:
    cloud.carriers[7] = 999
    configure(host, cloud)
    with mover(host):
        eventually("assigned", lambda: cloud.carriers[7] == SERVERS["w1"], host)


def test_without_any_fit_node_nothing_is_moved(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    nodes.unfit |= {(name, nodes.kube_proxy) for name in NODES}
    configure(host, cloud)
    with mover(host):
        after_some_looks(nodes, 8)
        assert cloud.assigned == []
        nodes.unfit.discard(("w2", nodes.kube_proxy))
        eventually("moved", lambda: cloud.carriers[7] == SERVERS["w2"], host)


def test_a_service_says_itself_where_it_is_ready(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    """A node without a ready pod of the Service drops its traffic (externalTrafficPolicy: Local)."""
    services(host, FIRST[1], nodes.service)
    nodes.unfit |= {("w1", nodes.service), ("w2", nodes.service)}
    configure(host, cloud, FIRST, SECOND)
    with mover(host):
        eventually("both assigned", lambda: len(cloud.assigned) == 2, host)
    assert cloud.carriers == {7: SERVERS["w3"], 8: SERVERS["w2"]}


def test_what_is_known_of_services_stays_when_the_api_server_is_down(
    host: Host, cloud: Cloud, nodes: Nodes
) -> None:
    cloud.carriers[7] = SERVERS["w3"]
    services(host, FIRST[1], nodes.service)
    nodes.unfit |= {(name, nodes.kube_proxy) for name in NODES}
    configure(host, cloud)
    with mover(host):
        after_some_looks(nodes, port=nodes.service)
        host.command("kubectl", "exit 1")
        time.sleep(1.2)  # it is asked again
        after_some_looks(nodes, port=nodes.service)
    assert cloud.assigned == []


# --- the API -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [429, 503, "<html>gateway</html>", ""])
def test_errors_of_the_api_do_not_end_the_service(
    host: Host, cloud: Cloud, error: int | str
) -> None:
    cloud.errors = [error]
    configure(host, cloud)
    with mover(host):
        eventually("assigned", lambda: bool(cloud.assigned), host)
    assert "Hetzner's API: GET /floating_ips/7: " in host.read("/journal")


def test_an_api_that_is_not_there_is_asked_again(host: Host, cloud: Cloud) -> None:
    configure(host, cloud)
    cloud.server.close()
    with mover(host):
        eventually("said so", lambda: "000 " in host.read("/journal"), host)
        cloud.server = Server("127.0.0.1", cloud.server.port, cloud._answer)
        eventually("assigned", lambda: bool(cloud.assigned), host)


def test_an_action_that_fails_is_tried_again(host: Host, cloud: Cloud) -> None:
    cloud.failing_actions = 1
    configure(host, cloud)
    with mover(host):
        eventually("assigned", lambda: cloud.assigned == [(7, SERVERS["w1"])], host)
    assert '"status":"error"' in host.read("/journal")


def test_requests_pause_longer_after_each_error(host: Host) -> None:
    done = host.source(
        "floating-mover.sh",
        "LONGEST_PAUSE=10 ROUND=2\nfor _ in 1 2 3 4; do give_it_a_rest; echo $api_pause; done",
    )
    assert done.stdout.split() == ["2", "4", "8", "10"]


def test_a_quiet_service_asks_the_api_rarely(host: Host) -> None:
    """3600 requests an hour are for the whole project; three control planes with three addresses."""
    text = (SCRIPTS / "floating-mover.sh").read_text()
    every = int(re.findall(r"^READ_CARRIERS=(\d+)", text, flags=re.MULTILINE)[0])
    assert 3 * 3 * 3600 / every < 3600 / 5


def test_two_control_planes_come_to_the_same_result(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    configure(host, cloud, FIRST, SECOND)
    with mover(host), mover(host):
        eventually("both assigned", lambda: None not in cloud.carriers.values(), host)
        after_some_looks(nodes)
        assert cloud.carriers == {7: SERVERS["w1"], 8: SERVERS["w2"]}
        nodes.kill("w1")
        eventually("moved", lambda: cloud.carriers[7] != SERVERS["w1"], host)
        after_some_looks(nodes, 12)
    assert cloud.carriers == {7: SERVERS["w3"], 8: SERVERS["w2"]}
    assert len(cloud.assigned) == 3, "each change was made once"


def test_a_person_may_move_an_address(host: Host, cloud: Cloud, nodes: Nodes) -> None:
    configure(host, cloud)
    with mover(host):
        eventually("assigned", lambda: bool(cloud.assigned), host)
        cloud.carriers[7] = SERVERS["w2"]
        after_some_looks(nodes)
        time.sleep(1.2)  # the assignment is read again
        after_some_looks(nodes)
    assert cloud.carriers[7] == SERVERS["w2"]


# --- floating.sh -------------------------------------------------------------------------------


def install(
    host: Host, cloud: Cloud, token: str = TOKEN, address: tuple[int, str] = FIRST
) -> subprocess.CompletedProcess[str]:
    return host.run("floating.sh", stdin=token, env=values(cloud, address))


def test_the_phase_installs_the_service_and_waits_for_the_assignment(
    host: Host, cloud: Cloud
) -> None:
    # Assigned a little later, as by the service.
    late = threading.Timer(0.5, cloud.carriers.update, [{7: SERVERS["w2"]}])
    late.start()
    for _ in range(2):
        done = install(host, cloud)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert cloud.carriers[7] == SERVERS["w2"]
    late.join()
    unit = host.read("/etc/systemd/system/own-kubernetes-floating.service")
    assert f"ExecStart={host.scripts}/floating-mover.sh\n" in unit
    assert host.calls.count("systemctl enable --quiet own-kubernetes-floating.service") == 2
    assert host.calls.count("systemctl restart own-kubernetes-floating.service") == 2
    assert "floating IPs assigned: " in done.stderr
    assert host.read("/etc/own-kubernetes/floating.conf").splitlines() == [
        f"endpoint {cloud.endpoint}",
        "floating-ip 7 203.0.113.7",
        *(f"node {name} {server} {address}" for name, (server, address) in NODES.items()),
    ]


def test_the_token_is_in_one_file_of_roots_and_nowhere_else(host: Host, cloud: Cloud) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    done = install(host, cloud)
    with mover(host):
        count = len(cloud.requests)
        eventually("the service uses it", lambda: len(cloud.requests) > count, host)
    held = [
        path
        for path in host.root.rglob("*")
        if path.is_file() and TOKEN in path.read_text(errors="ignore")
    ]
    assert held == [host.path("/etc/own-kubernetes/floating.curlrc")]
    assert held[0].stat().st_mode & 0o777 == 0o600
    assert TOKEN not in done.stdout + done.stderr
    assert [call for call in host.calls if call.startswith("curl ") and "floating_ips" in call]
    assert not [call for call in host.calls if TOKEN in call]


def test_a_refused_token_is_said_at_once(host: Host, cloud: Cloud) -> None:
    done = install(host, cloud, token="wrong")
    assert done.returncode == 1
    assert "Hetzner's API refuses the token: unauthorized: no" in done.stderr
    assert "expected: a token that may read and write" in done.stderr


def test_a_token_with_odd_characters_never_reaches_curls_configuration(
    host: Host, cloud: Cloud
) -> None:
    done = install(host, cloud, token='x"\nurl = "http://elsewhere')
    assert done.returncode == 1
    assert "is not made of letters and digits" in done.stderr
    assert cloud.requests == []


def test_a_floating_ip_that_is_gone_is_said_at_once(host: Host, cloud: Cloud) -> None:
    done = install(host, cloud, address=(9, "203.0.113.9"))
    assert done.returncode == 1
    assert "there is no floating IP 9" in done.stderr
    assert "expected: floating IP 203.0.113.9" in done.stderr


def test_an_address_that_is_never_assigned_is_an_error(host: Host, cloud: Cloud) -> None:
    script = host.scripts / "floating.sh"
    script.write_text(script.read_text().replace("wait_for 180", "wait_for 1"))
    host.command("journalctl", "echo said by the service")
    done = install(host, cloud)
    assert done.returncode == 1
    assert "not every floating IP is assigned to a node" in done.stderr
    assert "journalctl -u own-kubernetes-floating.service" in done.stderr


def test_curl_and_jq_are_installed_where_they_are_missing(host: Host, cloud: Cloud) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    install(host, cloud)
    assert not [call for call in host.calls if call.startswith("apt-get")]
    done = host.source(
        "floating-mover.sh",
        f"""
        source "$LIBRARY/packages.sh"
        {function("install_tools")}
        command() {{ [[ $2 != jq ]]; }}
        install_tools""",
    )
    assert done.returncode == 0, done.stderr
    installed = [call for call in host.calls if call.startswith("apt-get") and " install " in call]
    assert [call.split()[-1] for call in installed] == ["jq"]


def function(name: str) -> str:
    """A function of floating.sh, which can't be read in without being run."""
    match = re.search(
        rf"^{name}\(\) \{{.*?^\}}$", (SCRIPTS / "floating.sh").read_text(), re.MULTILINE | re.DOTALL
    )
    assert match
    return match[0]


def test_removal_leaves_nothing_and_may_run_again(host: Host, cloud: Cloud) -> None:
    cloud.carriers[7] = SERVERS["w1"]
    install(host, cloud)
    for _ in range(2):
        done = host.run("floating.sh", env={"REMOVE": "true"})
        assert done.returncode == 0, done.stderr
    assert "systemctl disable --now --quiet own-kubernetes-floating.service" in host.calls
    left = [path.name for path in host.root.rglob("*") if "floating" in path.name]
    scripts = ["floating-mover.sh", "floating.sh", "own-kubernetes-floating.service"]
    assert sorted(left) == scripts, "the scripts themselves"
