"""The CIS Kubernetes Benchmark (1.12, for Kubernetes 1.32 to 1.34 and, until there is another, later ones).

    python -m tests.trust.cis [--all] [--write]

looks at the sandbox's cluster that is up and prints what was found, in short or (``--all``) check by check,
and puts the figures into docs/hardening.md (``--write``). The numbers, what is looked at and what counts as
passed are those of kube-bench's ``cis-1.12``; the titles are ours. A check that the benchmark leaves to
judgement ("manual") is WARN where a look does not settle it; FAIL is for all others.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sandbox import mirror, site
from tests.live.cluster import kubectl, on

Verdict = Literal["PASS", "FAIL", "WARN"]
DOCUMENT = site.ROOT / "docs" / "hardening.md"
BEGIN, END = "<!-- cis: begin -->", "<!-- cis: end -->"

ETC = "/etc/kubernetes"
API, MANAGER, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
UNIT = "/usr/lib/systemd/system/kubelet.service"
KUBELET_FILE = "/var/lib/kubelet/config.yaml"

LOOK = rf"""
for line in /proc/[0-9]*/cmdline; do
  mapfile -d '' -t words <"$line" 2>/dev/null || continue
  process=${{words[0]##*/}}
  case $process in {API} | {MANAGER} | {SCHEDULER} | etcd | kubelet)
    printf "$process %s\n" "${{words[@]:1}}" ;;
  esac
done
find {ETC} {UNIT}* {KUBELET_FILE} /var/lib/etcd /etc/cni/net.d /var/lib/cni/networks -maxdepth 3 \
  -not -path '/var/lib/etcd/*' \( -type f -o -type d \) -printf 'file %y %m %u:%g %p\n' 2>/dev/null
sed -nE 's/^  - ([a-z]+): .*/provider \1/p' {ETC}/pki/encryption.yaml 2>/dev/null
sed 's/^/kubelet-config /' {KUBELET_FILE}
"""
"""Prints what is looked at on a host, and no secret."""


@dataclass(frozen=True)
class Host:
    """What a look at a host showed.

    Attributes:
        arguments: of each process, flag to value.
        files: path to mode and owner, folders with a slash at the end.
        providers: of the encryption at rest, in order.
        kubelet: the kubelet's configuration.
    """

    arguments: Mapping[str, Mapping[str, str]]
    files: Mapping[str, tuple[int, str]]
    providers: Sequence[str]
    kubelet: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> Host:
        """Of what ``LOOK`` prints."""
        lines = [line.partition(" ")[::2] for line in text.splitlines()]
        arguments: dict[str, dict[str, str]] = {}
        for word, rest in lines:
            if word in (API, MANAGER, SCHEDULER, "etcd", "kubelet"):
                flag, _, value = rest.removeprefix("--").partition("=")
                arguments.setdefault(word, {})[flag] = value
        stats = [rest.split(" ", 3) for word, rest in lines if word == "file"]
        return cls(
            arguments,
            {
                path + ("/" if kind == "d" else ""): (int(mode, 8), owner)
                for kind, mode, owner, path in stats
            },
            [rest for word, rest in lines if word == "provider"],
            yaml.safe_load("\n".join(rest for word, rest in lines if word == "kubelet-config")),
        )

    def under(self, start: str, end: str = "") -> list[str]:
        """A file itself, or those in a folder; the folder where none of them was looked at."""
        found = [path for path in self.files if path.startswith(start) and path.endswith(end)]
        return [path for path in found if path[-1] != "/"] or found


Test = Callable[[Host], bool]


@dataclass(frozen=True)
class Check:
    """One check of the benchmark.

    Attributes:
        id: its number.
        title: what should be, in our words.
        test: whether a host passes; None where only people can tell.
        scored: whether the benchmark counts it as failed when it does not pass.
    """

    id: str
    title: str
    test: Test | None
    scored: bool = True

    def verdict(self, hosts: Sequence[Host]) -> Verdict:
        """Over all hosts that it is about."""
        if self.test is not None and hosts and all(map(self.test, hosts)):
            return "PASS"
        return "FAIL" if self.scored else "WARN"


def closed(*places: str, mode: int = 0o600, end: str = "") -> Test:
    """Files that nobody may do more with than ``mode`` says."""

    def test(host: Host) -> bool:
        found = [path for place in places for path in host.under(place, end)]
        return bool(found) and all(host.files[path][0] & ~mode == 0 for path in found)

    return test


def owned(*places: str, by: str = "root:root") -> Test:
    """Files of an owner."""

    def test(host: Host) -> bool:
        found = [path for path in host.files if path.startswith(places)]
        return bool(found) and all(host.files[path][1] == by for path in found)

    return test


def flag(
    process: str, name: str, right: Callable[[str], bool] = bool, absent: bool = False
) -> Test:
    """A process' argument; ``absent`` says whether it may be left out."""

    def test(host: Host) -> bool:
        found = host.arguments[process]
        return right(found[name]) if name in found else absent

    return test


def kubelet(path: str, right: Callable[[Any], bool], absent: bool = False) -> Test:
    """A field of the kubelet's configuration; likewise."""

    def test(host: Host) -> bool:
        value: Any = host.kubelet
        for key in path.split("."):
            if key not in value:
                return absent
            value = value[key]
        return right(value)

    return test


def both(*tests: Test) -> Test:
    """All of them."""
    return lambda host: all(test(host) for test in tests)


def equals(value: Any) -> Callable[[Any], bool]:
    """Is it, however it is written."""
    return lambda found: str(found).lower() == str(value).lower()


def has(word: str) -> Callable[[str], bool]:
    """Is in the list."""
    return lambda found: word in found.split(",")


def lacks(word: str) -> Callable[[str], bool]:
    """Is not in the list."""
    return lambda found: word not in found.split(",")


def at_least(least: int) -> Callable[[str], bool]:
    """A number."""
    return lambda found: int(found) >= least


STRONG = {
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305")
}


def strong(found: str | Sequence[str]) -> bool:
    """Nothing but suites that the benchmark names."""
    words = found.split(",") if isinstance(found, str) else found
    return set(words) <= STRONG


def _manifests() -> Iterator[Check]:
    parts = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
    for number, part in enumerate(parts):
        path = f"{ETC}/manifests/{part}.yaml"
        yield Check(f"1.1.{2 * number + 1}", f"{part}'s manifest is for root alone", closed(path))
        yield Check(f"1.1.{2 * number + 2}", f"{part}'s manifest is root's", owned(path))


def _credentials() -> Iterator[Check]:
    for number, name in ((13, "admin"), (15, "scheduler"), (17, "controller-manager")):
        path = f"{ETC}/{name}.conf"
        yield Check(f"1.1.{number}", f"{name}.conf is for root alone", closed(path))
        yield Check(f"1.1.{number + 1}", f"{name}.conf is root's", owned(path))


CNI = ("/etc/cni/net.d/", "/var/lib/cni/networks/")
CONTROL_PLANE = (
    *_manifests(),
    Check("1.1.9", "CNI's files are for root alone", closed(*CNI), scored=False),
    Check("1.1.10", "CNI's files are root's", owned(*CNI), scored=False),
    Check("1.1.11", "etcd's data is for its owner alone", closed("/var/lib/etcd/", mode=0o700)),
    Check("1.1.12", "etcd's data is a user's of its own", owned("/var/lib/etcd/", by="etcd:etcd")),
    *_credentials(),
    Check("1.1.19", "keys and certificates are root's", owned(f"{ETC}/pki/")),
    Check("1.1.20", "certificates can't be changed by others",
          closed(f"{ETC}/pki/", mode=0o644, end=".crt"), scored=False),
    Check("1.1.21", "keys are for root alone", closed(f"{ETC}/pki/", end=".key"), scored=False),
    Check("1.2.1", "no anonymous requests", flag(API, "anonymous-auth", equals("false")), scored=False),
    Check("1.2.2", "no static tokens", flag(API, "token-auth-file", lambda _: False, absent=True)),
    Check("1.2.3", "no external addresses of Services",
          flag(API, "enable-admission-plugins", has("DenyServiceExternalIPs")), scored=False),
    Check("1.2.4", "a client certificate for kubelets",
          both(flag(API, "kubelet-client-certificate"), flag(API, "kubelet-client-key"))),
    Check("1.2.5", "kubelets' certificates are checked", flag(API, "kubelet-certificate-authority")),
    Check("1.2.6", "not everything is allowed",
          flag(API, "authorization-mode", lacks("AlwaysAllow"))),
    Check("1.2.7", "nodes have rights of their own", flag(API, "authorization-mode", has("Node"))),
    Check("1.2.8", "rights by roles", flag(API, "authorization-mode", has("RBAC"))),
    Check("1.2.9", "a limit for events",
          flag(API, "enable-admission-plugins", has("EventRateLimit")), scored=False),
    Check("1.2.10", "not everything is admitted",
          flag(API, "enable-admission-plugins", lacks("AlwaysAdmit"), absent=True)),
    Check("1.2.11", "images are always pulled",
          flag(API, "enable-admission-plugins", has("AlwaysPullImages")), scored=False),
    Check("1.2.12", "service accounts are looked after",
          flag(API, "disable-admission-plugins", lacks("ServiceAccount"), absent=True)),
    Check("1.2.13", "nothing is made in a namespace that is not there",
          flag(API, "disable-admission-plugins", lacks("NamespaceLifecycle"), absent=True)),
    Check("1.2.14", "a kubelet changes its own Node only",
          flag(API, "enable-admission-plugins", has("NodeRestriction"))),
    Check("1.2.15", "API server: no profiling", flag(API, "profiling", equals("false"))),
    Check("1.2.16", "an audit log", flag(API, "audit-log-path")),
    Check("1.2.17", "kept for 30 days", flag(API, "audit-log-maxage", at_least(30))),
    Check("1.2.18", "10 files of it", flag(API, "audit-log-maxbackup", at_least(10))),
    Check("1.2.19", "of 100 MiB", flag(API, "audit-log-maxsize", at_least(100))),
    Check("1.2.20", "a fitting bound on requests", None, scored=False),
    Check("1.2.21", "tokens of deleted accounts are void",
          flag(API, "service-account-lookup", equals("true"), absent=True)),
    Check("1.2.22", "a key pair of its own for tokens", flag(API, "service-account-key-file")),
    Check("1.2.23", "a client certificate for etcd",
          both(flag(API, "etcd-certfile"), flag(API, "etcd-keyfile"))),
    Check("1.2.24", "TLS", both(flag(API, "tls-cert-file"), flag(API, "tls-private-key-file"))),
    Check("1.2.25", "client certificates", flag(API, "client-ca-file")),
    Check("1.2.26", "etcd's certificate is checked", flag(API, "etcd-cafile")),
    Check("1.2.27", "encryption at rest", flag(API, "encryption-provider-config"), scored=False),
    Check("1.2.28", "by a cipher that is one",
          lambda host: host.providers[:1] == ["secretbox"], scored=False),
    Check("1.2.29", "API server: strong ciphers", flag(API, "tls-cipher-suites", strong), scored=False),
    Check("1.2.30", "pods' tokens are not extended",
          flag(API, "service-account-extend-token-expiration", equals("false"))),
    Check("1.3.1", "a bound on pods that have ended",
          flag(MANAGER, "terminated-pod-gc-threshold"), scored=False),
    Check("1.3.2", "controller manager: no profiling", flag(MANAGER, "profiling", equals("false"))),
    Check("1.3.3", "controllers have accounts of their own",
          flag(MANAGER, "use-service-account-credentials", equals("true"))),
    Check("1.3.4", "the key for tokens", flag(MANAGER, "service-account-private-key-file")),
    Check("1.3.5", "pods get the cluster's CA", flag(MANAGER, "root-ca-file")),
    Check("1.3.6", "kubelets' serving certificates rotate",
          flag(MANAGER, "feature-gates", lacks("RotateKubeletServerCertificate=false"), absent=True)),
    Check("1.3.7", "controller manager: local only",
          flag(MANAGER, "bind-address", equals("127.0.0.1"), absent=True)),
    Check("1.4.1", "scheduler: no profiling", flag(SCHEDULER, "profiling", equals("false"))),
    Check("1.4.2", "scheduler: local only",
          flag(SCHEDULER, "bind-address", equals("127.0.0.1"), absent=True)),
    Check("2.1", "etcd: TLS", both(flag("etcd", "cert-file"), flag("etcd", "key-file"))),
    Check("2.2", "etcd: client certificates", flag("etcd", "client-cert-auth", equals("true"))),
    Check("2.3", "etcd: none made by itself", flag("etcd", "auto-tls", equals("false"), absent=True)),
    Check("2.4", "etcd: TLS between members",
          both(flag("etcd", "peer-cert-file"), flag("etcd", "peer-key-file"))),
    Check("2.5", "etcd: members show certificates",
          flag("etcd", "peer-client-cert-auth", equals("true"))),
    Check("2.6", "etcd: none made by itself between members",
          flag("etcd", "peer-auto-tls", equals("false"), absent=True)),
    Check("2.7", "etcd: a CA of its own",
          flag("etcd", "trusted-ca-file", lambda path: path != f"{ETC}/pki/ca.crt"), scored=False),
    Check("3.2.1", "an audit policy", flag(API, "audit-policy-file"), scored=False),
)  # fmt: skip
NODE = (
    Check("4.1.1", "the kubelet's unit is for root alone", closed(UNIT)),
    Check("4.1.2", "the kubelet's unit is root's", owned(UNIT)),
    Check("4.1.3", "kube-proxy's kubeconfig is for root alone", None, scored=False),
    Check("4.1.4", "kube-proxy's kubeconfig is root's", None, scored=False),
    Check("4.1.5", "the kubelet's kubeconfig is for root alone", closed(f"{ETC}/kubelet.conf")),
    Check("4.1.6", "the kubelet's kubeconfig is root's", owned(f"{ETC}/kubelet.conf")),
    Check("4.1.7", "the CA can't be changed by others",
          closed(f"{ETC}/pki/ca.crt", mode=0o644), scored=False),
    Check("4.1.8", "the CA is root's", owned(f"{ETC}/pki/ca.crt"), scored=False),
    Check("4.1.9", "the kubelet's configuration is for root alone", closed(KUBELET_FILE)),
    Check("4.1.10", "the kubelet's configuration is root's", owned(KUBELET_FILE)),
    Check("4.2.1", "kubelet: no anonymous requests",
          kubelet("authentication.anonymous.enabled", equals("false"))),
    Check("4.2.2", "kubelet: not everything is allowed",
          kubelet("authorization.mode", lambda found: found != "AlwaysAllow")),
    Check("4.2.3", "kubelet: client certificates", kubelet("authentication.x509.clientCAFile", bool)),
    Check("4.2.4", "kubelet: no open port", kubelet("readOnlyPort", equals(0), absent=True), scored=False),
    Check("4.2.5", "kubelet: idle streams end",
          kubelet("streamingConnectionIdleTimeout", lambda found: found != "0", absent=True), scored=False),
    Check("4.2.6", "kubelet: its own rules", kubelet("makeIPTablesUtilChains", bool, absent=True)),
    Check("4.2.7", "kubelet: the host's own name",
          flag("kubelet", "hostname-override", lambda _: False, absent=True), scored=False),
    Check("4.2.8", "kubelet: events are told", kubelet("eventRecordQPS", bool, absent=True), scored=False),
    Check("4.2.9", "kubelet: a certificate in files",
          both(kubelet("tlsCertFile", bool), kubelet("tlsPrivateKeyFile", bool)), scored=False),
    Check("4.2.10", "kubelet: its client certificate rotates",
          kubelet("rotateCertificates", bool, absent=True)),
    Check("4.2.11", "kubelet: its serving certificate rotates",
          kubelet("serverTLSBootstrap", bool), scored=False),
    Check("4.2.12", "kubelet: strong ciphers", kubelet("tlsCipherSuites", strong), scored=False),
    Check("4.2.13", "kubelet: a bound on a pod's processes",
          kubelet("podPidsLimit", lambda found: found > 0), scored=False),
    Check("4.2.14", "kubelet: seccomp by default", kubelet("seccompDefault", bool), scored=False),
)  # fmt: skip

# --- the cluster: rights and policies --------------------------------------------------------------

REFUSED: Mapping[str, Mapping[str, Any]] = {
    "5.2.2": {"containers": [{"securityContext": {"privileged": True}}]},
    "5.2.3": {"hostPID": True},
    "5.2.4": {"hostIPC": True},
    "5.2.5": {"hostNetwork": True},
    "5.2.6": {"containers": [{"securityContext": {"allowPrivilegeEscalation": True}}]},
    "5.2.7": {"containers": [{"securityContext": {"runAsUser": 0}}]},
    "5.2.8": {"containers": [{"securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]},
    "5.2.9": {"containers": [{"securityContext": {"capabilities": {"add": ["CHOWN"]}}}]},
    "5.2.10": {"securityContext": {"windowsOptions": {"hostProcess": True}}, "hostNetwork": True},
    "5.2.11": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    "5.2.12": {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]},
}
"""Pods that a namespace which says nothing of its own should not admit, by the check's number."""

TITLES = {
    "4.3.1": "kube-proxy: figures for the node itself only",
    "5.1.1": "nobody but administrators is cluster-admin",
    "5.1.3": "no roles for everything",
    "5.1.5": "pods have accounts of their own, or no token",
    "5.2.1": "pods are held to a policy",
    "5.2.2": "no privileged containers",
    "5.2.3": "not the host's processes",
    "5.2.4": "not the host's IPC",
    "5.2.5": "not the host's network",
    "5.2.6": "no more rights than the parent's",
    "5.2.7": "no containers of root's",
    "5.2.8": "no NET_RAW",
    "5.2.9": "no added capabilities",
    "5.2.10": "not the host's processes on Windows",
    "5.2.11": "none of the host's folders",
    "5.2.12": "no ports of the host",
}
ADMINISTRATORS = {"system:masters", "kubeadm:cluster-admins"}


def pod(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pod of that name; its container gets what the spec says of one."""
    more = dict(spec)
    (extra,) = more.pop("containers", [{}])
    container = {"name": "one", "image": "example.com/none", **extra}
    metadata = {"name": f"cis-{name}", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**more, "containers": [container]},
    }


def refused() -> set[str]:
    """Which of ``REFUSED`` are; nothing is made."""
    pods = [pod(name, spec) for name, spec in REFUSED.items()]
    line = [str(mirror.tool("kubectl")), f"--kubeconfig={site.KUBECONFIG}", "create", "--dry-run=server",
            "--filename=-", "--output=name"]  # fmt: skip
    done = subprocess.run(
        line, input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    admitted = {line.removeprefix("pod/cis-") for line in done.stdout.split()}
    told = {name for name in REFUSED if f'"cis-{name}" is forbidden' in done.stderr}
    return told - admitted


def cluster_admins() -> set[str]:
    """Who is."""
    bindings = kubectl("get", "clusterrolebindings")["items"]
    return {
        subject["name"]
        for binding in bindings
        if binding["roleRef"]["name"] == "cluster-admin"
        for subject in binding.get("subjects", [])
    }


def roles_for_everything() -> set[str]:
    """Of those that do not come with Kubernetes."""
    roles = kubectl("get", "clusterroles,roles", "--all-namespaces")["items"]
    return {
        role["metadata"]["name"]
        for role in roles
        if "kubernetes.io/bootstrapping" not in role["metadata"].get("labels", {})
        for rule in role.get("rules") or []
        if "*" in [*rule.get("resources", []), *rule.get("verbs", [])]
    }


def pods_of_default_accounts() -> set[str]:
    """Those that are given a token of it, too."""
    pods = kubectl("get", "pods", "--all-namespaces")["items"]
    return {
        pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("serviceAccountName") == "default"
        and pod["spec"].get("automountServiceAccountToken") is not False
    }


def metrics_are_local() -> bool:
    """Of kube-proxy, by the configuration that all have; the node's own address is its default."""
    data = kubectl("--namespace=kube-system", "get", "configmap", "kube-proxy")["data"]
    address = yaml.safe_load(data["config.conf"]).get("metricsBindAddress") or "127.0.0.1"
    return str(address).startswith("127.0.0.1")


def of_the_cluster() -> dict[str, Verdict]:
    """Of the checks in ``TITLES``: but for the first, all of them are for people to judge."""
    done = refused()
    good = {
        "5.1.1": cluster_admins() <= ADMINISTRATORS,
        "5.1.3": not roles_for_everything(),
        "5.1.5": not pods_of_default_accounts(),
        "5.2.1": bool(done),
        **{name: name in done for name in REFUSED},
    }
    found: dict[str, Verdict] = {
        name: "PASS" if passed else "WARN" for name, passed in good.items()
    }
    return {"4.3.1": "PASS" if metrics_are_local() else "FAIL", **found}


BY_HAND = (
    *(f"3.1.{n}" for n in (1, 2, 3)), "3.2.2",
    *(f"5.1.{n}" for n in (2, 4, *range(6, 14))),
    "5.3.1", "5.3.2", "5.4.1", "5.4.2", "5.5.1", *(f"5.6.{n}" for n in (1, 2, 3, 4)),
)  # fmt: skip
"""What no look at the cluster settles."""

REASONS = {
    "1.1.9": "CNI's plugins write which pod has which address, for all to read",
    "1.1.12": "kubeadm runs etcd as root: a user who owned the folder would keep nobody out of it",
    "1.2.1": "anonymous requests get answers at /livez, /readyz and /healthz alone, where kubelets, keepalived "
    "and load balancers probe (from Kubernetes 1.32 on; set in a file, not by this argument)",
    "1.2.9": "the API server's priority and fairness bounds what one client can do to the others",
    "1.2.11": "images are fetched ahead, and may be on no registry when a node starts anew",
    "1.2.20": "60 s, the default",
    "4.1.3": "kube-proxy has a service account and no such file",
    "4.1.4": "kube-proxy has a service account and no such file",
    "4.2.9": "the cluster signs it, and the kubelet renews it (serverTLSBootstrap)",
    "5.1.3": "those of a chart",
    "5.2.6": "refused at the level restricted",
    "5.2.7": "refused at the level restricted",
    "5.2.9": "refused at the level restricted",
    "5.3.1": "Flannel enforces none, unless `networkPolicies` is set",
}
"""Why a check that does not pass is left so."""
REASONED_FAILURES = {"1.1.12"}


@dataclass(frozen=True)
class Finding:
    """What became of a check."""

    id: str
    title: str
    verdict: Verdict


def look(control_planes: Sequence[str], nodes: Sequence[str]) -> list[Finding]:
    """The whole benchmark, on the sandbox's machines.

    Args:
        control_planes: the machines' names.
        nodes: of all machines, control planes among them.
    """
    hosts = {name: Host.read(on(name, f"bash -c {shlex.quote(LOOK)}")) for name in nodes}
    found = of_the_cluster()
    return sorted(
        [
            *(
                Finding(c.id, c.title, c.verdict([hosts[n] for n in control_planes]))
                for c in CONTROL_PLANE
            ),
            *(Finding(c.id, c.title, c.verdict(list(hosts.values()))) for c in NODE),
            *(Finding(name, TITLES[name], verdict) for name, verdict in found.items()),
            *(Finding(name, "for people to judge", "WARN") for name in BY_HAND),
        ],
        key=lambda finding: [int(part) for part in finding.id.split(".")],
    )


SECTIONS = {
    "1": "control plane",
    "2": "etcd",
    "3": "control plane's configuration",
    "4": "nodes",
    "5": "policies",
}


def figures(found: Sequence[Finding]) -> list[str]:
    """A Markdown table: sections, and why what does not pass is left so."""
    counts = Counter((finding.id[0], finding.verdict) for finding in found)
    verdicts: tuple[Verdict, ...] = ("PASS", "FAIL", "WARN")
    rows = [
        [f"{number} {name}", *(counts[number, verdict] for verdict in verdicts)]
        for number, name in SECTIONS.items()
    ]
    totals = Counter(finding.verdict for finding in found)
    rows.append(["all", *(totals[verdict] for verdict in verdicts)])
    return [
        "| section | PASS | FAIL | WARN |",
        "|---|---|---|---|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
        "| not passed | what | why |",
        "|---|---|---|",
        *(
            f"| {finding.id} {finding.verdict} | {finding.title} | {REASONS[finding.id]} |"
            for finding in found
            if finding.verdict != "PASS" and finding.id in REASONS
        ),
    ]


def write(lines: Sequence[str]) -> None:
    """Put the figures where the document has a place for them."""
    text = DOCUMENT.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))


def main() -> int:
    """The command; fails if a check does that has no reason to."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.cis")
    parser.add_argument("--all", action="store_true", help="check by check")
    parser.add_argument("--write", action="store_true", help="into docs/hardening.md")
    arguments = parser.parse_args()
    nodes = kubectl("get", "nodes")["items"]
    names = [node["metadata"]["name"] for node in nodes]
    label = "node-role.kubernetes.io/control-plane"
    leading = [n["metadata"]["name"] for n in nodes if label in n["metadata"]["labels"]]
    found = look(leading, names)
    if arguments.all:
        for finding in found:
            print(f"{finding.verdict}  {finding.id:7} {finding.title}")
    lines = figures(found)
    print("\n".join(lines))
    if arguments.write:
        write(lines)
    failed = {finding.id for finding in found if finding.verdict == "FAIL"}
    return 1 if failed - REASONED_FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
