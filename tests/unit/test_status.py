"""A look at a live cluster: what it shows, what it holds to be not well, and that it ends."""

from __future__ import annotations

import io
import json
import os
import ssl
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.status import NOT_REACHED, NOT_WELL, WELL, api, look, view
from cluster.status.__main__ import main
from sandbox import __main__ as sandbox_command
from sandbox import machines, mirror, site
from tests.unit.kubernetes_apis import DAY, Authority, Cluster, encoded, serving, set_ready

CONTROL_PLANES = ("cp1", "cp2", "cp3")


class Seen(NamedTuple):
    """What the command printed, and its exit code."""

    code: int
    text: str
    error: str

    @property
    def not_well(self) -> list[str]:
        """The last lines."""
        lines = self.text.splitlines()
        return [line.removeprefix("not well: ") for line in lines if line.startswith("not well: ")]

    def row(self, name: str, table: str) -> str:
        """A table's row by its first words."""
        lines = self.text.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith(table))
        return next(line for line in lines[at:] if line.startswith(name))


class Looker:
    """Runs the command on a cluster."""

    def __init__(
        self, cluster: Cluster, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.cluster, self._patch, self._capture = cluster, patch, capture

    def __call__(self, *words: str, up: tuple[str, ...] = CONTROL_PLANES) -> Seen:
        with serving(self.cluster, *up):
            self._patch.setattr(look, "API_PORT", self.cluster.port)
            return self.at(self.cluster.kubeconfig(), *words)

    def at(self, kubeconfig: str, *words: str) -> Seen:
        """With a kubeconfig from stdin."""
        self._patch.setattr("sys.stdin", io.StringIO(kubeconfig))
        code = main(words)
        return Seen(code, *self._capture.readouterr())


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def see(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Looker:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return Looker(cluster, monkeypatch, capsys)


def explained(happened: str, expected: str, remedy: str) -> str:
    """An error in the project's form."""
    return f"error: {happened}\n      expected: {expected}\n      remedy:   {remedy}\n"


# --- what is shown -------------------------------------------------------------------------------

ALL_WELL = """\
cluster ha at https://127.0.0.1:{port}

NODE  ROLE           STATUS  VERSION  ADDRESS     OS                              AGE
cp1   control-plane  Ready   1.36.4   127.0.0.1   Debian GNU/Linux 12 (bookworm)  3d
cp2   control-plane  Ready   1.36.4   127.0.0.2   Debian GNU/Linux 12 (bookworm)  3d
cp3   control-plane  Ready   1.36.4   127.0.0.3   Debian GNU/Linux 12 (bookworm)  3d
w1    worker         Ready   1.36.4   127.0.0.21  Debian GNU/Linux 12 (bookworm)  3d
w2    worker         Ready   1.36.4   127.0.0.22  Debian GNU/Linux 12 (bookworm)  3d

API SERVER  ADDRESS          READYZ  READYZ/ETCD  ETCD MEMBER  CERTIFICATE UNTIL
cp1         127.0.0.1:{port}  ok      ok           Ready        {until} (364 days)
cp2         127.0.0.2:{port}  ok      ok           Ready        {until} (364 days)
cp3         127.0.0.3:{port}  ok      ok           Ready        {until} (364 days)

WAY IN    NAME                     ADDRESS          HOSTS
endpoint  ha                       127.0.0.1:{port}
Service   hello-world/hello-world  192.0.2.201
Ingress   hello-world/hello-world  192.0.2.200      hello.example.com

etcd        3 of 3 members Ready, quorum 2
kubeconfig  certificate until {until} (364 days)
upgrades    none pending

all is well
"""


def test_all_is_well(see: Looker, cluster: Cluster) -> None:
    seen = see()
    until = f"{cluster.until['cp1']:%Y-%m-%d}"
    assert f"{cluster.port}".isdecimal()
    assert seen.text == ALL_WELL.format(port=cluster.port, until=until)
    assert (seen.code, seen.error) == (WELL, "")


def test_every_api_server_is_asked_at_its_own_address(see: Looker, cluster: Cluster) -> None:
    see()
    for node in CONTROL_PLANES:
        assert {f"{node} /readyz", f"{node} /readyz/etcd"} <= set(cluster.asked)


def test_json(see: Looker, cluster: Cluster) -> None:
    set_ready(cluster.node("w2"), "False", "container runtime is down")
    cluster.node("w1")["status"]["nodeInfo"]["kubeletVersion"] = "v1.36.3"
    seen = see("--json")
    status = json.loads(seen.text)
    assert (seen.code, status["well"]) == (NOT_WELL, False)
    assert status["problems"] == [
        "w2 is not Ready: container runtime is down",
        "w1 has Kubernetes 1.36.3, not 1.36.4",
    ]
    assert status["nodes"][0] | {"since": ""} == {
        "name": "cp1",
        "role": "control-plane",
        "ready": True,
        "reason": "",
        "schedulable": True,
        "version": "1.36.4",
        "addresses": ["127.0.0.1"],
        "osImage": "Debian GNU/Linux 12 (bookworm)",
        "since": "",
    }
    until = f"{cluster.until['cp2']:%Y-%m-%dT%H:%M:%SZ}"
    assert status["apiServers"][1] == {
        "node": "cp2",
        "address": f"127.0.0.2:{cluster.port}",
        "readyz": "ok",
        "etcd": True,
        "trouble": "",
        "certificateUntil": until,
    }
    assert status["etcdMembers"] == [{"node": name, "ready": True} for name in CONTROL_PLANES]
    assert (status["etcdQuorum"], status["kubeconfigUntil"]) == (2, until)
    assert status["waysIn"][1] == {
        "kind": "Ingress",
        "name": "hello-world/hello-world",
        "addresses": ["192.0.2.200"],
        "hosts": ["hello.example.com"],
    }
    assert status["upgrades"] == [{"node": "w1", "version": "1.36.3", "target": "1.36.4"}]


def test_json_of_a_cluster_that_is_well(see: Looker) -> None:
    seen = see("--json")
    status = json.loads(seen.text)
    assert (seen.code, status["well"], status["problems"]) == (WELL, True, [])


def test_it_fits_a_terminal(see: Looker, cluster: Cluster) -> None:
    long = "n" * 63
    cluster.node("w1")["metadata"]["name"] = long
    cluster.node("w2")["spec"]["unschedulable"] = True
    cluster.lists["/apis/networking.k8s.io/v1/ingresses"][0]["spec"]["rules"] *= 9
    cluster.lists["/apis/networking.k8s.io/v1/ingresses"][0]["spec"]["rules"].extend(
        {"host": f"{n}.example.com"} for n in range(20)
    )
    lines = see().text.split("\nnot well")[0].splitlines()
    assert max(map(len, lines)) == view.WIDTH
    assert "nnn…" in "\n".join(lines)


def test_a_terminal_obeys_no_node(see: Looker, cluster: Cluster) -> None:
    cluster.node("w1")["status"]["nodeInfo"]["osImage"] = "Debian \x1b[2J\n12"
    set_ready(cluster.node("w1"), "False", "bell \a")
    seen = see()
    assert "Debian ?[2J?12" in seen.text
    assert seen.not_well == ["w1 is not Ready: bell ?"]


# --- nodes ---------------------------------------------------------------------------------------


def test_a_node_that_is_not_ready(see: Looker, cluster: Cluster) -> None:
    set_ready(cluster.node("w1"), "Unknown", "Kubelet stopped posting node status.")
    seen = see()
    assert seen.code == NOT_WELL
    assert seen.not_well == ["w1 is not Ready: Kubelet stopped posting node status."]
    assert "NotReady" in seen.row("w1", "NODE")


def test_a_node_that_has_just_joined(see: Looker, cluster: Cluster) -> None:
    node = cluster.node("w1")
    now = datetime.now(UTC) - timedelta(seconds=90)
    node["metadata"]["creationTimestamp"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for key in ("conditions", "addresses"):
        del node["status"][key]
    seen = see()
    assert seen.not_well == ["w1 is not Ready: it has not told yet"]
    assert seen.row("w1", "NODE").split()[3:5] == ["1.36.4", "-"]
    assert seen.row("w1", "NODE").endswith("  1m")


def test_a_cordoned_node(see: Looker, cluster: Cluster) -> None:
    cluster.node("w2")["spec"]["unschedulable"] = True
    seen = see()
    assert seen.code == NOT_WELL
    assert seen.not_well == ["w2 is cordoned: no new pods until `kubectl uncordon w2`"]
    assert "Ready, cordoned" in seen.row("w2", "NODE")


# --- upgrades ------------------------------------------------------------------------------------


def test_nodes_that_are_behind_the_newest(see: Looker, cluster: Cluster) -> None:
    for name in ("cp1", "cp2"):
        cluster.node(name)["status"]["nodeInfo"]["kubeletVersion"] = "v1.36.10"
    seen = see()
    assert seen.code == NOT_WELL
    assert "upgrades    cp3 1.36.4 -> 1.36.10, w1 1.36.4 -> 1.36.10, w2 1.36.4 -> 1.36.10" in (
        seen.text
    )
    assert seen.not_well[0] == "cp3 has Kubernetes 1.36.4, not 1.36.10"


@pytest.mark.parametrize("wanted", ["1.37.2", "v1.37.2"])
def test_nodes_that_are_behind_what_is_wanted(see: Looker, cluster: Cluster, wanted: str) -> None:
    for name in (*CONTROL_PLANES, "w2"):
        cluster.node(name)["status"]["nodeInfo"]["kubeletVersion"] = "v1.37.2"
    seen = see("--want", wanted)
    assert "upgrades    w1 1.36.4 -> 1.37.2\n" in seen.text
    assert (seen.code, len(seen.not_well)) == (NOT_WELL, 1)


def test_what_is_wanted_is_there(see: Looker) -> None:
    assert see("--want", "1.36.4").code == WELL


def test_a_version_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--want", "1.37"])
    assert "'1.37' is not a full version, like 1.37.2" in capsys.readouterr().err


# --- API servers and etcd ------------------------------------------------------------------------


def test_a_dead_control_plane(see: Looker, cluster: Cluster) -> None:
    set_ready(cluster.node("cp3"), "Unknown", "Kubelet stopped posting node status.")
    set_ready(cluster.etcd("cp3"), "False")
    seen = see(up=("cp1", "cp2"))
    assert seen.code == NOT_WELL
    assert seen.not_well == [
        "cp3 is not Ready: Kubelet stopped posting node status.",
        f"cp3's API server at 127.0.0.3:{cluster.port} gives no answer: Connection refused",
        "cp3's member of etcd is not Ready",
    ]
    assert seen.row("cp3", "API SERVER").split()[2:] == ["no", "answer", "-", "NotReady", "-"]
    assert "etcd        2 of 3 members Ready, quorum 2" in seen.text


def test_a_control_plane_that_hangs_costs_its_bound_only(
    see: Looker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.4)
    cluster.silent = {"cp2", "cp3"}
    began = time.monotonic()
    seen = see()
    assert time.monotonic() - began < 3
    assert seen.not_well == [
        f"cp{n}'s API server at 127.0.0.{n}:{cluster.port} gives no answer: timed out"
        for n in (2, 3)
    ]


def test_the_look_ends_whatever_a_thread_hangs_in(
    see: Looker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "LOOK_SECONDS", 0.5)
    cluster.silent = {"cp3"}
    seen = see()
    assert [problem.partition(" gives ")[2] for problem in seen.not_well] == [
        "no answer: timed out"
    ]


def test_the_two_looks_and_a_start_fit_into_ten_seconds() -> None:
    assert api.CONNECT_SECONDS < look.LOOK_SECONDS
    assert api.ANSWER_SECONDS < look.LOOK_SECONDS
    assert 2 * look.LOOK_SECONDS < 10


def test_a_control_plane_that_only_nodes_reach(see: Looker, cluster: Cluster) -> None:
    cluster.through = {"cp3"}
    seen = see(up=("cp1", "cp2"))
    assert seen.code == WELL
    words = seen.row("cp3", "API SERVER").split()
    assert words[2:] == ["ok", "-", "Ready", "not", "seen", "from", "here"]


def test_a_control_plane_that_is_reached_by_its_public_address(
    see: Looker, cluster: Cluster
) -> None:
    addresses = cluster.node("cp2")["status"]["addresses"]
    addresses[:0] = [{"type": "ExternalIP", "address": "127.0.0.2"}]
    addresses[-1]["address"] = "127.0.0.99"
    seen = see()
    assert seen.code == WELL
    assert seen.row("cp2", "NODE").split()[4] == "127.0.0.99", "the internal one is shown"
    assert seen.row("cp2", "API SERVER").split()[1] == f"127.0.0.2:{cluster.port}"


def test_the_only_control_plane_is_where_the_endpoint_leads(see: Looker, cluster: Cluster) -> None:
    nodes = cluster.lists["/api/v1/nodes"]
    nodes[:] = [cluster.node("cp1"), cluster.node("w1")]
    cluster.node("cp1")["status"]["addresses"] = [{"type": "InternalIP", "address": "127.0.0.99"}]
    cluster.lists["/api/v1/namespaces/kube-system/pods"][1:] = []
    seen = see(up=("cp1",))
    assert (seen.code, seen.not_well) == (WELL, [])
    assert seen.row("cp1", "API SERVER").split()[1] == f"127.0.0.1:{cluster.port}"
    assert "etcd        1 of 1 members Ready, quorum 1" in seen.text


def test_the_same_address_is_asked_once(see: Looker, cluster: Cluster) -> None:
    nodes = cluster.lists["/api/v1/nodes"]
    nodes[:] = [cluster.node("cp1"), cluster.node("w1")]
    see(up=("cp1",))
    assert cluster.asked.count("cp1 /readyz") == 1


def test_an_api_server_that_fails_checks(see: Looker, cluster: Cluster) -> None:
    cluster.failing = {"cp2": ["etcd", "informer-sync"]}
    seen = see()
    assert seen.not_well == [
        f"cp2's API server at 127.0.0.2:{cluster.port} fails /readyz (etcd, informer-sync)"
    ]
    assert seen.row("cp2", "API SERVER").split()[2:4] == ["failing", "failing"]


def test_an_api_server_of_another_cluster(see: Looker, cluster: Cluster) -> None:
    other = Cluster(cluster.folder)
    with serving(other, "cp3"):
        cluster.port = other.port
        seen = see(up=("cp1", "cp2"))
    assert seen.not_well == [
        f"cp3's API server at 127.0.0.3:{cluster.port} gives no answer: "
        "self-signed certificate in certificate chain"
    ]
    assert other.asked == [], "it got nothing from us"


def test_etcd_without_quorum(see: Looker, cluster: Cluster) -> None:
    for name in ("cp2", "cp3"):
        set_ready(cluster.etcd(name), "False")
    assert see().not_well == [
        "cp2's member of etcd is not Ready",
        "cp3's member of etcd is not Ready",
        "etcd has 1 of 3 members Ready, and needs 2",
    ]


def test_a_control_plane_without_etcd(see: Looker, cluster: Cluster) -> None:
    cluster.lists["/api/v1/namespaces/kube-system/pods"].pop()
    seen = see()
    assert seen.not_well == ["cp3 has no member of etcd"]
    assert "etcd        2 of 2 members Ready, quorum 2" in seen.text


# --- certificates --------------------------------------------------------------------------------


def test_certificates_that_end_within_30_days(see: Looker, cluster: Cluster) -> None:
    now = datetime.now(UTC)
    cluster.until["cp2"] = now + 29.9 * DAY
    cluster.until["cp3"] = now + 30.1 * DAY
    cluster.until["client"] = now + 2.5 * DAY
    seen = see()
    assert seen.code == NOT_WELL
    assert seen.not_well == [
        f"the certificate of cp2's API server ends on {cluster.until['cp2']:%Y-%m-%d}, days left: 29",
        f"the certificate of the kubeconfig ends on {cluster.until['client']:%Y-%m-%d}, days left: 2",
    ]
    assert seen.row("cp2", "API SERVER").endswith("(29 days)")


def test_a_certificate_that_is_over(see: Looker, cluster: Cluster) -> None:
    cluster.until["cp2"] = datetime.now(UTC) - 1.5 * DAY
    seen = see()
    assert seen.not_well == [
        f"cp2's API server at 127.0.0.2:{cluster.port} has a certificate that is over",
        f"the certificate of cp2's API server ends on {cluster.until['cp2']:%Y-%m-%d}, days left: -2",
    ]
    assert "cp2 /readyz" not in cluster.asked


def test_a_client_certificate_that_is_over(see: Looker, cluster: Cluster) -> None:
    cluster.until["client"] = datetime.now(UTC) - DAY
    seen = see()
    assert (seen.code, seen.text) == (NOT_REACHED, "")
    assert seen.error == explained(
        f"the kubeconfig's client certificate ended on {cluster.until['client']:%Y-%m-%d}",
        "one that the API servers still accept",
        "run `kubeadm certs renew all` on each control plane, restart its static pods (or its host), "
        "and take /etc/kubernetes/admin.conf from there",
    )


# --- addresses -----------------------------------------------------------------------------------


def test_a_service_that_waits_for_an_address(see: Looker, cluster: Cluster) -> None:
    cluster.lists["/api/v1/services"][1]["status"]["loadBalancer"] = {}
    seen = see()
    assert seen.not_well == ["Service hello-world/hello-world waits for an address"]
    assert seen.row("Service", "WAY IN").split() == ["Service", "hello-world/hello-world", "-"]


def test_an_ingress_for_all_hosts_and_without_address(see: Looker, cluster: Cluster) -> None:
    ingress = cluster.lists["/apis/networking.k8s.io/v1/ingresses"][0]
    ingress.update(spec={"rules": [{}, {"host": "a.example.com"}]}, status={})
    seen = see()
    assert seen.code == WELL
    assert seen.row("Ingress", "WAY IN").endswith("-                *, a.example.com")


def test_nothing_leads_in(see: Looker, cluster: Cluster) -> None:
    cluster.lists["/api/v1/services"] = []
    cluster.lists["/apis/networking.k8s.io/v1/ingresses"] = []
    assert see().code == WELL


# --- the API can't be asked ----------------------------------------------------------------------

WITHIN = "an answer within 4 s, from this machine's address among adminCidrs"
WAY_THERE = (
    "look at the way there (VPN, adminCidrs), and at the control planes by SSH: kubelet, containerd, "
    "and what `crictl ps` shows of kube-apiserver and etcd"
)


def not_reached(cluster: Cluster, why: str) -> str:
    return explained(
        f"the API at https://127.0.0.1:{cluster.port} can't be reached: {why}", WITHIN, WAY_THERE
    )


def test_nobody_listens(see: Looker, cluster: Cluster) -> None:
    cluster.port = 9
    seen = see.at(cluster.kubeconfig())
    assert (seen.code, seen.text) == (NOT_REACHED, "")
    assert seen.error == not_reached(cluster, "Connection refused")


def test_the_endpoint_hangs(see: Looker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "LOOK_SECONDS", 0.3)
    cluster.silent = {"cp1"}
    seen = see()
    assert (seen.code, seen.error) == (NOT_REACHED, not_reached(cluster, "timed out"))


def test_the_endpoint_is_of_another_cluster(see: Looker, cluster: Cluster) -> None:
    with serving(cluster, "cp1"):
        kubeconfig = cluster.kubeconfig(**{"certificate-authority-data": encoded(Authority().pem)})
        seen = see.at(kubeconfig)
    assert seen.code == NOT_REACHED
    assert seen.error == not_reached(cluster, "self-signed certificate in certificate chain")
    assert cluster.asked == []


def test_the_certificate_is_checked_for_the_kubeconfigs_name(
    see: Looker, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(cluster, *CONTROL_PLANES):
        monkeypatch.setattr(look, "API_PORT", cluster.port)
        right = see.at(cluster.kubeconfig(**{"tls-server-name": "kubernetes.default.svc"}))
        wrong = see.at(cluster.kubeconfig(**{"tls-server-name": "api.example.com"}))
    assert (right.code, wrong.code) == (WELL, NOT_REACHED)
    assert "not valid for 'api.example.com'" in wrong.error


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal(see: Looker, cluster: Cluster, status: int) -> None:
    cluster.status = status
    seen = see()
    assert (seen.code, seen.text) == (NOT_REACHED, "")
    assert seen.error == explained(
        f"the API at https://127.0.0.1:{cluster.port} answers, but with status {status}",
        "the lists that an administrator's kubeconfig may read",
        "take the stack's output kubeconfig; if it is that one, look at kube-apiserver's log",
    )


# --- the kubeconfig ------------------------------------------------------------------------------


@pytest.fixture
def kubeconfig(cluster: Cluster) -> Iterator[str]:
    """One that leads to a cluster."""
    with serving(cluster, *CONTROL_PLANES), pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "API_PORT", cluster.port)
        yield cluster.kubeconfig()


def test_a_file(see: Looker, kubeconfig: str, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig)
    assert see.at("", "--kubeconfig", str(file)).code == WELL


def test_the_environments_file(
    see: Looker, kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").write_text(kubeconfig)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    assert see.at("").code == WELL


def test_stdin_goes_before_the_environment_when_asked_for(
    see: Looker, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert see.at(kubeconfig, "--kubeconfig", "-").code == WELL


def test_a_file_that_is_not_there(see: Looker) -> None:
    seen = see.at("", "--kubeconfig", "/nowhere/kubeconfig")
    assert seen.code == NOT_REACHED
    assert seen.error == explained(
        "no kubeconfig from /nowhere/kubeconfig: No such file or directory",
        "the file that the stack's output kubeconfig holds",
        "pulumi stack output kubeconfig --show-secrets | python -m cluster.status --kubeconfig -",
    )


def test_a_person_is_not_waited_for(see: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(io, "StringIO", Terminal)
    seen = see.at("")
    assert seen.code == NOT_REACHED
    assert seen.error.startswith(
        "error: no kubeconfig from stdin: nothing is piped in, and KUBECONFIG is not set\n"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("current-context", "context"),
        ("admin@ha\nusers", "users"),
        ("https://", "http://"),
        ("client-key-data: ", "client-key: "),
        ("client-certificate-data: ", "client-certificate-data: AAAA"),
        ("certificate-authority-data: ", "certificate-authority-data: ''\n    other: "),
        ("client-key-data: ", "client-key-data: AAAA"),
        ("apiVersion", "apiVersion"),
    ],
)
def test_what_is_no_kubeconfig(see: Looker, cluster: Cluster, old: str, new: str) -> None:
    cluster.port = 9
    text = cluster.kubeconfig()
    seen = see.at(text.replace(old, new) if old in text else "- [")
    assert seen.code == NOT_REACHED
    assert seen.error == explained(
        "what is given as kubeconfig can't be used",
        "the stack's output kubeconfig: a current context, its https server, and certificates in the "
        "file itself",
        "take it by `pulumi stack output kubeconfig --show-secrets`; of another one make a single file "
        "by `kubectl config view --raw --minify --flatten`",
    )


def test_the_key_is_in_a_file_of_ours_for_a_moment_only(
    see: Looker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def record(context: Any, file: str, **options: Any) -> None:
        assert Path(file).parent == folder
        assert "PRIVATE KEY" in Path(file).read_text()
        modes.append(stat.S_IMODE(Path(file).stat().st_mode))
        load(context, file, **options)

    def looked() -> Seen:
        cluster = see.cluster
        with serving(cluster, *CONTROL_PLANES):
            monkeypatch.setattr(look, "API_PORT", cluster.port)
            with monkeypatch.context() as patch:
                patch.setattr(ssl.SSLContext, "load_cert_chain", record)
                return see.at(cluster.kubeconfig())

    assert looked().code == WELL
    assert modes == [0o600]
    assert list(folder.iterdir()) == []


# --- the sandbox ---------------------------------------------------------------------------------


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Machines run; where the sandbox keeps its kubeconfig."""
    file = tmp_path / "kubeconfig"
    monkeypatch.setattr(site, "KUBECONFIG", file)
    monkeypatch.setattr(machines, "running", lambda: ["cp1", "w1"])
    monkeypatch.setattr(mirror, "status", lambda: {"apt": "serves"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("sys.argv", ["sandbox", "status", "--stack", "ha"])
    return file


def test_the_sandbox_before_there_is_a_cluster(
    sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not sandbox.exists()
    assert sandbox_command.main() == 0
    assert capsys.readouterr().out == "machines: cp1, w1\nmirror:   {'apt': 'serves'}\n"


def test_the_sandboxes_cluster(
    sandbox: Path, kubeconfig: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.write_text(kubeconfig)
    assert sandbox_command.main() == WELL
    cluster.node("w1")["spec"]["unschedulable"] = True
    assert sandbox_command.main() == NOT_WELL
    out = capsys.readouterr().out
    assert "mirror:   {'apt': 'serves'}\n\ncluster ha at https://" in out
    assert out.endswith("\nnot well: w1 is cordoned: no new pods until `kubectl uncordon w1`\n")
