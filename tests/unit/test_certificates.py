"""Certificates of the control planes: when they expire, who is warned, and how they are renewed."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from cluster.certificates import client_expiry
from tests.unit.graph import LOG, Graph, run_program
from tests.unit.sites import HA
from tests.unit.stacks import ROOT


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def written(moment: datetime) -> str:
    """As kubeadm prints it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


NOW = datetime.now(UTC).replace(microsecond=0)
FAR = written(NOW + timedelta(days=365))


def kubeconfig(expiry: str) -> str:
    """An administrator's, whose certificate expires then."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes-admin")])
    until = datetime.fromisoformat(expiry)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(until - timedelta(days=366))
        .not_valid_after(until)
        .sign(key, None)
    )
    data = base64.b64encode(certificate.public_bytes(Encoding.PEM)).decode()
    user = {"name": "admin", "user": {"client-certificate-data": data}}
    server = {"name": "blue", "cluster": {"server": "https://10.0.0.11:6443"}}
    return yaml.safe_dump({"clusters": [server], "users": [user]})


def after_an_up(
    expiries: Mapping[str, str], of_kubeconfig: str = FAR, *, preview: bool = False, **changes: Any
) -> Graph:
    """The program, where control planes have said when their first certificates expire."""
    access = {"kubeconfig": base64.b64encode(kubeconfig(of_kubeconfig).encode()).decode()}
    outputs: dict[str, dict[str, Any]] = {
        "cluster-access": {"stdout": json.dumps(access)},
        **{f"{name}-upgrade": {"stdout": f"{text}\n"} for name, text in expiries.items()},
    }
    return run_program({**HA, **changes}, outputs=outputs, preview=preview)


CONTROL_PLANES = ("cp1", "cp2", "cp3")


def test_the_stack_tells_when_certificates_expire_and_it_is_no_secret() -> None:
    expiries = {
        name: written(NOW + timedelta(days=100 + number))
        for number, name in enumerate(CONTROL_PLANES)
    }
    graph = after_an_up(expiries, FAR)
    assert graph.outputs["certificatesExpire"] == {**expiries, "kubeconfig": FAR}


def test_a_kubeconfig_without_a_certificate_has_no_expiry() -> None:
    assert client_expiry("users: [{name: a, user: {token: t}}]") == ""
    assert client_expiry("clusters: []") == ""


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize(("days", "warned"), [(31, False), (29, True), (1, True), (-5, True)])
def test_the_last_month_is_warned_of(
    caplog: pytest.LogCaptureFixture, days: int, warned: bool, preview: bool
) -> None:
    soon = written(NOW + timedelta(days=days, hours=1))
    with caplog.at_level(logging.WARNING, LOG.name):
        after_an_up({"cp1": FAR, "cp2": soon, "cp3": FAR}, preview=preview)
    assert (f"certificates of cp2 expire on {soon} ({days} days from now)" in caplog.text) == warned
    assert ("set certificateRenewal to today's date" in caplog.text) == warned
    assert "cp1" not in caplog.text


def test_a_kubeconfig_that_expires_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    soon = written(NOW + timedelta(days=3, hours=1))
    with caplog.at_level(logging.WARNING, LOG.name):
        after_an_up(dict.fromkeys(CONTROL_PLANES, FAR), soon)
    assert f"certificates of kubeconfig expire on {soon} (3 days from now)" in caplog.text


def test_nobody_is_warned_before_there_is_a_cluster(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOG.name):
        run_program(HA, preview=True)
    assert caplog.text == ""


def test_renewal_runs_on_control_planes_one_by_one() -> None:
    graph = after_an_up({}, certificateRenewal="2026-01-31")
    for name in CONTROL_PLANES:
        assert graph.inputs(f"{name}-upgrade")["create"].endswith(" RENEWAL=2026-01-31")
    assert "cp1-upgrade" in graph.dependencies("cp2-upgrade")
    assert " RENEWAL=" not in after_an_up({}).inputs("cp1-upgrade")["create"]


def test_the_kubeconfig_is_read_anew_once_its_certificate_was_renewed() -> None:
    renewed = after_an_up({}, certificateRenewal="2026-01-31")
    assert renewed.inputs("cluster-access")["create"].endswith(" access RENEWAL=2026-01-31")
    assert "cp1-upgrade" in renewed.dependencies("cluster-access")
    before = after_an_up({})
    assert before.inputs("cluster-access")["create"].endswith(" access")
    assert "cp1-upgrade" not in before.all_dependencies("cluster-access")
