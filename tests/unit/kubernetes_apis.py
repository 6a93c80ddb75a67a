"""A cluster's API servers, as far as a look from outside goes: real TLS on loopback addresses."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
JOINED = timedelta(days=3, hours=5)
"""How long ago."""


class Authority:
    """A cluster's CA.

    Attributes:
        pem: its certificate.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("kubernetes")
        certificate = (
            _builder(self._name, self._name, self._key, datetime.now(UTC) + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def pair(self, until: datetime, address: str = "127.0.0.1") -> tuple[str, str]:
        """A certificate that ends then, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName("kubernetes.default.svc"),
            x509.IPAddress(IPv4Address(address)),
        ]
        certificate = (
            _builder(_name("somebody"), self._name, key, until)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        """Go puts it in too; every kubeadm CA has the same name."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 3650 * DAY)
        .not_valid_after(until)
    )


@dataclass
class Cluster:
    """What its API servers answer; a test changes what it wants to see told.

    Attributes:
        until: when certificates end: those of API servers by node, and ``client``.
        lists: entries by the lists' paths.
        failing: the checks that fail, by node.
        through: the nodes that the endpoint's API server reaches.
        silent: nodes that take a connection and say nothing.
        status: what requests for lists are answered with.
        asked: requests for lists and health, with the address that got them.
    """

    folder: Path
    authority: Authority = field(default_factory=Authority)
    until: dict[str, datetime] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    failing: dict[str, list[str]] = field(default_factory=dict)
    through: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    port: int = 0
    end: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        in_a_year = datetime.now(UTC).replace(microsecond=0) + 364 * DAY + timedelta(hours=12)
        self.until = dict.fromkeys(("client", "cp1", "cp2", "cp3"), in_a_year)
        nodes = [_node(f"cp{n}", f"127.0.0.{n}", control=True) for n in (1, 2, 3)]
        nodes += [_node(f"w{n}", f"127.0.0.2{n}", control=False) for n in (1, 2)]
        self.lists = {
            "/api/v1/nodes": nodes,
            "/api/v1/namespaces/kube-system/pods": [_etcd(f"cp{n}") for n in (1, 2, 3)],
            "/api/v1/services": [
                _way("kubernetes", {"type": "ClusterIP"}, namespace="default"),
                _way("hello-world", {"type": "LoadBalancer"}, "192.0.2.201"),
            ],
            "/apis/networking.k8s.io/v1/ingresses": [
                _way("hello-world", {"rules": [{"host": "hello.example.com"}]}, "192.0.2.200")
            ],
        }

    def node(self, name: str) -> Any:
        """A Node, to change."""
        return next(n for n in self.lists["/api/v1/nodes"] if n["metadata"]["name"] == name)

    def etcd(self, name: str) -> Any:
        """A node's etcd, to change."""
        pods = self.lists["/api/v1/namespaces/kube-system/pods"]
        return next(pod for pod in pods if pod["metadata"]["name"] == f"etcd-{name}")

    def kubeconfig(self, **changes: str) -> str:
        """The administrator's, with changes to its cluster."""
        certificate, key = self.authority.pair(self.until["client"])
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority-data": encoded(self.authority.pem),
            **changes,
        }
        user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
        return yaml.safe_dump(
            {
                "current-context": "admin@ha",
                "contexts": [
                    {"name": "other", "context": {"cluster": "none", "user": "none"}},
                    {"name": "admin@ha", "context": {"cluster": "ha", "user": "admin"}},
                ],
                "clusters": [{"name": "ha", "cluster": cluster}],
                "users": [{"name": "admin", "user": user}],
            }
        )

    def healthy(self, node: str, path: str) -> tuple[int, str]:
        """An answer to /readyz or one of its checks."""
        failing = self.failing.get(node, [])
        if path != "/readyz":
            return (500, "no") if path.removeprefix("/readyz/") in failing else (200, "ok")
        if not failing:
            return 200, "ok"
        checks = "".join(f"[-]{check} failed: reason withheld\n" for check in failing)
        return 500, f"[+]ping ok\n{checks}readyz check failed"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def set_ready(entry: Any, status: str, message: str = "") -> None:
    """Change the condition Ready of a Node or Pod."""
    entry["status"]["conditions"][-1].update(status=status, message=message)


def _conditions() -> list[dict[str, str]]:
    return [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]


def _node(name: str, address: str, *, control: bool) -> dict[str, Any]:
    labels = {"node-role.kubernetes.io/control-plane": ""} if control else {"zone": "a"}
    joined = (datetime.now(UTC) - JOINED).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": joined},
        "spec": {},
        "status": {
            "conditions": _conditions(),
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": address},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.36.4",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
            },
        },
    }


def _etcd(node: str) -> dict[str, Any]:
    return {"metadata": {"name": f"etcd-{node}"}, "status": {"conditions": _conditions()}}


def _way(
    name: str, spec: dict[str, Any], address: str = "", namespace: str = "hello-world"
) -> dict[str, Any]:
    status = {"ingress": [{"ip": address}]} if address else {}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        "status": {"loadBalancer": status},
    }


class ApiServer(ThreadingHTTPServer):
    """One control plane's."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self, cluster: Cluster, node: str) -> None:
        self.cluster, self.node = cluster, node
        address = f"127.0.0.{node[-1]}"
        super().__init__((address, cluster.port), _Handler)
        self.socket = self._tls(address).wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def _tls(self, address: str) -> ssl.SSLContext:
        cluster = self.cluster
        file = cluster.folder / f"{self.node}.pem"
        file.write_text("".join(cluster.authority.pair(cluster.until[self.node], address)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=cluster.authority.pem)
        return context

    def handle_error(self, *_: Any) -> None:
        """Clients that trust nobody hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer
    connection: ssl.SSLSocket
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        if self.server.node in self.server.cluster.silent:
            self.server.cluster.end.wait(10)
        self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        cluster, path = self.server.cluster, self.path.partition("?")[0]
        cluster.asked.append(f"{self.server.node} {self.path}")
        status, text = self._answer(path)
        body = text.encode()
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_DELETE(self) -> None:
        self.server.cluster.asked.append(f"DELETE {self.server.node} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, path: str) -> tuple[int, str]:
        cluster = self.server.cluster
        if path.startswith("/readyz"):
            return cluster.healthy(self.server.node, path)
        if not self.connection.getpeercert():
            return 401, "Unauthorized"
        if path.endswith("/proxy/readyz"):
            node = path.rpartition("/pods/https:kube-apiserver-")[2].partition(":")[0]
            if node in cluster.through:
                return cluster.healthy(node, "/readyz")
            return 503, json.dumps({"message": "error trying to reach service"})
        return cluster.status, json.dumps({"items": cluster.lists[path]})

    def log_message(self, *_: Any) -> None:
        """Not to the terminal."""


@contextmanager
def serving(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """The API servers of some control planes, while the block runs; the first is the endpoint's."""
    with ExitStack() as stack:
        for node in nodes:
            server = stack.enter_context(ApiServer(cluster, node))
            cluster.port = server.server_port
            thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        stack.callback(cluster.end.set)
        yield
