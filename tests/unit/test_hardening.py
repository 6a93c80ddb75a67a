"""What a cluster is closed with: what the rendered files mean, and who gets a serving certificate."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.nodes import hardening
from tests.unit.hosts import Host
from tests.unit.stacks import load, problem

# --- rendered ----------------------------------------------------------------------------------


def arguments(changes: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The API server's own ones."""
    parts = hardening.control_plane(load(changes).settings)
    return {a["name"]: a["value"] for a in parts["apiServer"]["extraArgs"]}


def document(name: str, changes: Mapping[str, Any] | None = None) -> Any:
    files = hardening.files(load(changes).settings)
    return yaml.safe_load(files[f"/etc/own-kubernetes/apiserver/{name}.yaml"])


def audited(verb: str, group: str, resource: str, user: str = "jane") -> str:
    """How much of a request the policy keeps: the first rule that matches tells."""
    for rule in hardening.audit_policy()["rules"]:
        resources = rule.get("resources")
        matches = (
            "nonResourceURLs" not in rule
            and (resources is None or any(_holds(r, group, resource) for r in resources))
            and verb in rule.get("verbs", [verb])
            and user in rule.get("users", [user])
            and "userGroups" not in rule
        )
        if matches:
            return str(rule["level"])
    raise AssertionError("no rule matches")


def _holds(named: Mapping[str, Any], group: str, resource: str) -> bool:
    return named["group"] == group and resource in named.get("resources", [resource])


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
def test_the_audit_log_tells_of_secrets_but_not_what_they_are(verb: str) -> None:
    for resource in ("secrets", "configmaps", "serviceaccounts/token", "pods/exec"):
        assert audited(verb, "", resource) == "Metadata"
    assert audited(verb, "authentication.k8s.io", "tokenreviews") == "Metadata"


def test_the_audit_log_keeps_who_got_which_rights_and_leaves_noise_out() -> None:
    assert audited("create", "rbac.authorization.k8s.io", "rolebindings") == "Request"
    assert audited("update", "coordination.k8s.io", "leases") == "None"
    assert audited("watch", "discovery.k8s.io", "endpointslices", "system:kube-proxy") == "None"
    assert audited("list", "", "secrets", "system:kube-controller-manager") == "Metadata"
    assert audited("list", "", "secrets", "system:apiserver") == "None", "its own cache"
    assert audited("update", "", "secrets", "system:apiserver") == "Metadata"


def test_the_audit_log_has_its_bounds_and_can_be_turned_off() -> None:
    bounds = {"maxAgeDays": 60, "maxFiles": 20, "maxSizeMib": 10}
    found = arguments({"auditLog": bounds})
    names = ("maxage", "maxbackup", "maxsize")
    assert [found[f"audit-log-{name}"] for name in names] == ["60", "20", "10"]
    off = {"auditLog": {"enabled": False}}
    assert not [name for name in arguments(off) if name.startswith("audit")]
    parts = hardening.control_plane(load(off).settings)
    assert [v["name"] for v in parts["apiServer"]["extraVolumes"]] == ["own-kubernetes"]


def test_anonymous_requests_are_limited_where_the_version_can() -> None:
    """Kubernetes 1.31 knows no other than all or none, and its own probes are anonymous."""
    assert "authentication-config" not in arguments({"kubernetesVersion": "1.31.0"})
    assert "authentication-config" in arguments({"kubernetesVersion": "1.32.0"})
    anonymous = document("authentication")["anonymous"]
    assert {c["path"] for c in anonymous["conditions"]} == {"/livez", "/readyz", "/healthz"}


@pytest.mark.parametrize("level", ["privileged", "baseline", "restricted"])
def test_pods_are_held_to_the_level_of_the_settings(level: str) -> None:
    (plugin,) = document("admission", {"podSecurity": level})["plugins"]
    assert plugin["configuration"]["defaults"]["enforce"] == level
    assert plugin["configuration"]["exemptions"] == {"namespaces": ["kube-system"]}


def test_every_other_file_makes_other_manifests() -> None:
    """Static pods start anew by it: the API server reads its files as it starts."""
    digests = set()
    for changes in ({}, {"podSecurity": "restricted"}, {"auditLog": {"maxFiles": 3}}):
        parts = hardening.control_plane(load(changes).settings)
        envs = [part["extraEnvs"][0]["value"] for part in parts.values()]
        assert len(set(envs)) == 1
        digests.add(envs[0])
    assert len(digests) == 3


def test_wrong_settings_are_told_by_their_keys() -> None:
    assert problem({"podSecurity": "strict"}, "podSecurity").value == "strict"
    assert problem({"auditLog": {"maxFiles": 0}}, "auditLog.maxFiles").value == 0
    assert problem({"encryptionRotation": "a b"}, "encryptionRotation").value == "a b"


# --- serving.sh --------------------------------------------------------------------------------

STATE = "/var/lib/own-kubernetes"
KUBECTL = """\
case $* in
  *' get certificatesigningrequests '*) cat /etc/requests ;;
  *' get nodes '*) cat /etc/nodes ;;
esac"""
NODES = """\
cp1 10.0.0.11
cp1 cp1
w1 10.0.0.21
w1 203.0.113.21
w1 w1
w2 10.0.0.22
"""


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _names(words: Sequence[str]) -> x509.SubjectAlternativeName:
    kinds = {"dns": x509.DNSName, "uri": x509.UniformResourceIdentifier}
    found: list[x509.GeneralName] = []
    for word in words:
        kind, _, value = word.partition(":")
        found.append(x509.IPAddress(IPv4Address(value)) if kind == "ip" else kinds[kind](value))
    return x509.SubjectAlternativeName(found)


def _subject(common: str, organisation: str) -> x509.Name:
    """In the order in which Go encodes it: the organisation first."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def request(*names: str, common: str = "system:node:w1", organisation: str = "system:nodes") -> str:
    """What a kubelet asks for, as the API has it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(common, organisation))
    if names:
        builder = builder.add_extension(_names(names), critical=False)
    made = builder.sign(_key(), hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def _api_certificate() -> str:
    """kubeadm's, with the API's own addresses and this control plane's."""
    key, now = _key(), datetime.now(UTC)
    name = _subject("kube-apiserver", "x")
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            _names(["dns:kubernetes", "ip:10.96.0.1", "ip:10.0.0.5", "ip:10.0.0.11"]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def approver(tmp_path: Path) -> Host:
    """A control plane of a cluster with three nodes."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: nothing looked at a request")
    host = Host(tmp_path)
    host.write(f"{STATE}/stage", "member\n")
    host.write(f"{STATE}/cluster", "blue\n")
    host.write("/etc/kubernetes/pki/apiserver.crt", _api_certificate())
    host.write("/etc/nodes", NODES)
    host.on_network("10.0.0.11")
    host.command("kubectl", KUBECTL)
    return host


def approved(host: Host, asked: str, user: str = "system:node:w1", member: str = "yes") -> bool:
    """Whether a look at the requests approves this one."""
    host.forget_calls()
    host.write("/etc/requests", f"csr-1 {member} {asked} {user}\n")
    done = host.run("serving.sh")
    assert done.returncode == 0, done.stderr
    calls = [call for call in host.called("kubectl") if " certificate " in call]
    assert all(call.endswith(" certificate approve csr-1") for call in calls)
    assert bool(calls) != ("csr-1 of" in done.stderr), "what is not approved is told"
    return bool(calls)


def test_a_kubelet_gets_what_it_serves_with(approver: Host) -> None:
    assert approved(approver, request("dns:w1", "ip:10.0.0.21"))
    assert approved(approver, request("dns:blue-w1", "ip:10.0.0.21", "ip:203.0.113.21"))
    own = request("dns:cp1", "ip:10.0.0.11", common="system:node:cp1")
    assert approved(approver, own, "system:node:cp1"), "this control plane's own"


@pytest.mark.parametrize(
    "names",
    [
        ["dns:w2"],
        ["dns:kubernetes"],
        ["dns:kubernetes.default.svc", "ip:10.0.0.21"],
        ["ip:10.0.0.22"],
        ["ip:10.0.0.11"],
        ["ip:198.51.100.1"],
        ["dns:w1", "uri:spiffe://w1"],
        [],
    ],
)
def test_no_node_gets_a_certificate_for_anything_else(approver: Host, names: list[str]) -> None:
    assert not approved(approver, request(*names))


@pytest.mark.parametrize("address", ["10.0.0.22", "10.0.0.5", "10.96.0.1", "127.0.0.1"])
def test_a_node_that_claims_others_addresses_gets_none_for_them(
    approver: Host, address: str
) -> None:
    """A kubelet writes its Node's addresses itself."""
    approver.write("/etc/nodes", f"{NODES}w1 {address}\n")
    assert not approved(approver, request("dns:w1", f"ip:{address}"))


def test_a_request_has_to_be_the_nodes_own(approver: Host) -> None:
    good = request("dns:w1", "ip:10.0.0.21")
    assert not approved(approver, good, "system:node:w2")
    assert not approved(approver, good, "jane")
    assert not approved(approver, good, "system:node:w1", member="no")
    assert not approved(approver, request("dns:w1", common="system:node:w2"))
    assert not approved(approver, request("dns:w1", organisation="system:masters"))
    assert not approved(approver, base64.b64encode(b"nonsense").decode())


def test_without_an_answer_or_a_request_nothing_is_done(approver: Host) -> None:
    approver.write("/etc/requests", "")
    assert approver.run("serving.sh").returncode == 0
    approver.command("kubectl", "exit 1")
    assert approver.run("serving.sh").returncode == 0
    approver.write(f"{STATE}/stage", "")
    approver.forget_calls()
    assert approver.run("serving.sh").returncode == 0
    assert approver.called("kubectl") == []
