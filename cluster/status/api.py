"""The door to a cluster's API for a look from outside: bounded, and with nothing left on disk.

By the standard library, as ``requests`` neither checks a certificate for another name than the URL's nor gives
it away, both of which are asked here.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import yaml
from cryptography import x509

from cluster.access import CERTIFIED_NAME
from cluster.certificates import expiry
from cluster.errors import AnswerError

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 4.0
"""Bounds on a connection, and on a server's silence; etcd has 2 s for an API server's own check of it."""

Answer = TypeVar("Answer")


class StatusError(AnswerError):
    """The cluster can't be asked."""


@dataclass(frozen=True)
class Kubeconfig:
    """A cluster, and who asks it.

    Attributes:
        cluster: the cluster's name.
        server: the endpoint's URL.
        place: its host and port.
        server_name: what its certificate is checked for.
        authority: the cluster's CA, as PEM.
        certificate: the client's, as PEM.
        key: its private key, as PEM.
        until: when the client's certificate ends.
    """

    cluster: str
    server: str
    place: tuple[str, int]
    server_name: str
    authority: str
    certificate: str
    key: str = field(repr=False)
    until: datetime


def read(text: str) -> Kubeconfig:
    """Take a kubeconfig's current context apart.

    Raises:
        StatusError: it is none of the kind that the program gives; none of its text is in the message.
    """
    try:
        config = yaml.safe_load(text)
        context = _entry(config, "context", config["current-context"])
        cluster = _entry(config, "cluster", context["cluster"])
        user = _entry(config, "user", context["user"])
        url = urlsplit(cluster["server"])
        host = url.hostname
        if url.scheme != "https" or not host:
            raise ValueError("the server is not given by https")
        authority = _decoded(cluster, "certificate-authority-data")
        x509.load_pem_x509_certificate(authority.encode())  # nothing would mean the system's CAs
        certificate = _decoded(user, "client-certificate-data")
        return Kubeconfig(
            cluster=str(context["cluster"]),
            server=str(cluster["server"]),
            place=(host, url.port or 443),
            server_name=str(cluster.get("tls-server-name") or host),
            authority=authority,
            certificate=certificate,
            key=_decoded(user, "client-key-data"),
            until=expiry(certificate),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise _NOT_A_KUBECONFIG from None


_NOT_A_KUBECONFIG = StatusError(
    "what is given as kubeconfig can't be used",
    "the stack's output kubeconfig: a current context, its https server, and certificates in the file itself",
    "take it by `pulumi stack output kubeconfig --show-secrets`; of another one make a single file by "
    "`kubectl config view --raw --minify --flatten`",
)


def _entry(config: Any, kind: str, name: str) -> Any:
    """What stands in one of the file's lists under a name."""
    return {entry["name"]: entry[kind] for entry in config[f"{kind}s"]}[name]


def _decoded(entry: Mapping[str, str], key: str) -> str:
    return base64.b64decode(entry[key], validate=True).decode()


class Word(NamedTuple):
    """What an API server says of itself.

    Attributes:
        ready: whether ``/readyz`` says ok.
        etcd: whether ``/readyz/etcd`` does; None where it was not asked.
        trouble: what it does that it should not; nothing where all is well.
        until: when its certificate ends; None where that was not seen.
    """

    ready: bool
    etcd: bool | None
    trouble: str
    until: datetime | None


class Api:
    """A cluster's API: by its endpoint, and by single API servers.

    Args:
        kubeconfig: the cluster, and who asks.

    Raises:
        StatusError: its certificates can't be used, or the client's has ended.
    """

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self.kubeconfig = kubeconfig
        if kubeconfig.until < datetime.now(UTC):
            raise StatusError(
                f"the kubeconfig's client certificate ended on {kubeconfig.until:%Y-%m-%d}",
                "one that the API servers still accept",
                "run `kubeadm certs renew all` on each control plane, restart its static pods (or its host), "
                "and take /etc/kubernetes/admin.conf from there",
            )
        try:
            self._tls = _tls(kubeconfig)
        except ssl.SSLError:
            raise _NOT_A_KUBECONFIG from None

    def get(self, path: str) -> Any:
        """An object, by the endpoint.

        Raises:
            StatusError: there is no answer, or a refusal.
        """
        try:
            status, body = self.ask(path)
            if status == 200:
                return json.loads(body)
        except (OSError, http.client.HTTPException) as error:
            raise self.not_reached(why_not(error)) from None
        except ValueError:
            raise self._refused("something else than JSON") from None
        raise self._refused(f"status {status}")

    def delete(self, path: str) -> None:
        """Delete an object by the endpoint; it need not be there.

        Raises:
            StatusError: there is no answer, or a refusal.
        """
        try:
            status, _ = self.ask(path, "DELETE")
        except (OSError, http.client.HTTPException) as error:
            raise self.not_reached(why_not(error)) from None
        if status not in (200, 202, 404):
            raise self._refused(f"status {status}")

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body, by the endpoint.

        Raises:
            OSError: no answer.
            http.client.HTTPException: none that is HTTP.
        """
        config = self.kubeconfig
        with closing(_Connection(config.place, config.server_name, self._tls)) as connection:
            return connection.ask(method, path)

    def word(self, place: tuple[str, int]) -> Word:
        """What the API server at an address says of itself.

        Its certificate need not name the address, which may be a public one; that it is of this cluster is
        checked.

        Raises:
            OSError: no answer, or not from this cluster.
            http.client.HTTPException: none that is HTTP.
        """
        with closing(_Connection(place, CERTIFIED_NAME, self._tls)) as connection:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                if error.verify_code != _EXPIRED:
                    raise
                until = expiry(ssl.get_server_certificate(place, timeout=CONNECT_SECONDS))
                return Word(False, None, "has a certificate that is over", until)
            until = connection.until()
            etcd = connection.ask("GET", "/readyz/etcd")[0] == 200
            said = word(*connection.ask("GET", "/readyz"))
        trouble = said.trouble or ("" if etcd else "fails /readyz/etcd")
        return Word(said.ready, etcd, trouble, until)

    def not_reached(self, why: str) -> StatusError:
        """The error for an endpoint that does not answer."""
        return StatusError(
            f"the API at {self.kubeconfig.server} can't be reached: {why}",
            f"an answer within {ANSWER_SECONDS:.0f} s, from this machine's address among adminCidrs",
            "look at the way there (VPN, adminCidrs), and at the control planes by SSH: kubelet, containerd, "
            "and what `crictl ps` shows of kube-apiserver and etcd",
        )

    def _refused(self, what: str) -> StatusError:
        return StatusError(
            f"the API at {self.kubeconfig.server} answers, but with {what}",
            "the lists that an administrator's kubeconfig may read",
            "take the stack's output kubeconfig; if it is that one, look at kube-apiserver's log",
        )


_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED (x509_vfy.h); looked at once the chain is known to lead to our CA."""


def word(status: int, body: str) -> Word:
    """Read an answer to ``/readyz``, which lists its checks when one failed (apiserver, healthz.go)."""
    if status == 200:
        return Word(True, None, "", None)
    failed = ", ".join(re.findall(r"^\[-\](\S+) failed", body, re.MULTILINE))
    return Word(False, None, f"fails /readyz ({failed or f'status {status}'})", None)


def _tls(kubeconfig: Kubeconfig) -> ssl.SSLContext:
    """A context that trusts this cluster only.

    OpenSSL takes a client's key from a file alone: it is there for this call, and readable by us alone
    (mode 0600, docs.python.org/3/library/tempfile).
    """
    context = ssl.create_default_context(cadata=kubeconfig.authority)
    # On by default since Python 3.13; Kubernetes' own clients don't ask that much of a certificate.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{kubeconfig.certificate}\n{kubeconfig.key}\n")
        file.flush()
        context.load_cert_chain(file.name, password="")  # a key with one is refused, not asked for
    return context


class _Connection(http.client.HTTPSConnection):
    """To an address, whose certificate is checked for a name that need not be it."""

    def __init__(self, place: tuple[str, int], name: str, tls: ssl.SSLContext) -> None:
        super().__init__(*place, context=tls)
        self._place, self._name, self._tls = place, name, tls

    def connect(self) -> None:
        plain = socket.create_connection(self._place, CONNECT_SECONDS)
        plain.settimeout(ANSWER_SECONDS)
        self.sock: ssl.SSLSocket = self._tls.wrap_socket(plain, server_hostname=self._name)

    def until(self) -> datetime:
        """When the server's certificate ends."""
        certificate = self.sock.getpeercert(binary_form=True)
        assert certificate is not None, "it has been verified"
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """Status and body."""
        self.request(method, path, headers={"Accept": "application/json, */*"})
        answer = self.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def why_not(error: BaseException | None) -> str:
    """Why there is no answer, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or type(error).__name__


def start(question: Callable[[], Answer]) -> Future[Answer]:
    """Ask in a thread that nobody waits for at the end, whatever it hangs in (a name service, say)."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(question())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
