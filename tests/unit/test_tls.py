"""HTTPS: who signs, in which order it comes about, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster import versions
from cluster.settings import LETS_ENCRYPT
from tests.authority import authority
from tests.unit.graph import SECRET, Graph, run_program
from tests.unit.hosts import Host
from tests.unit.sites import rendered
from tests.unit.stacks import ROOT, problem, refused
from tests.unit.test_bom import made

ISSUER = {"cert-manager.io/cluster-issuer": "default"}


def program(changes: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.chdir(ROOT)
    return run_program(changes, preview=True)


def test_a_page_with_a_certificate_of_the_users_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority(tmp_path)
    graph = program(own.settings(), monkeypatch)

    release = graph.inputs("tls-release")
    assert (release["chart"], release["version"]) == (
        f"{versions.CERT_MANAGER_REPOSITORY}/cert-manager",
        versions.CERT_MANAGER,
    )
    assert "OF=cert-manager" in graph.inputs("tls-webhook")["create"]
    assert "tls-release" in graph.dependencies("tls-webhook"), "it brings webhook and definitions"
    assert {"tls-webhook", "tls-ca"} <= graph.dependencies("tls-issuer")
    assert graph.inputs("tls-issuer")["spec"] == {"ca": {"secretName": "ingress-ca"}}
    secret = graph.inputs("tls-ca")
    assert secret["metadata"] == {"name": "ingress-ca", "namespace": "cert-manager"}
    assert secret["stringData"] == {"tls.crt": own.file.read_text(), "tls.key": own.key}
    assert graph.plain_inputs("tls-ca")["stringData"] == SECRET

    page = graph.inputs("hello-ingress")
    assert page["metadata"]["annotations"] == ISSUER
    certified = {"hosts": ["hello.example.com"], "secretName": "hello-world-tls"}
    assert page["spec"]["tls"] == [certified]
    assert "tls-issuer" in graph.dependencies("hello-ingress")
    assert graph.outputs["url"] == "https://hello.example.com/"


def test_a_ca_that_is_made_in_the_cluster_and_one_of_the_internet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = program({"ingressTls": {"issuer": "self-signed"}}, monkeypatch)
    ca = graph.inputs("tls-ca")
    assert (ca["kind"], ca["spec"]["isCA"]) == ("Certificate", True)
    assert ca["spec"]["secretName"] == graph.inputs("tls-issuer")["spec"]["ca"]["secretName"]
    assert "tls-ca-issuer" in graph.dependencies("tls-ca")

    acme = {"issuer": "acme", "email": "me@mine.org"}
    graph = program({"ingressTls": acme, "helloHost": "hello.mine.org"}, monkeypatch)
    spec = graph.inputs("tls-issuer")["spec"]["acme"]
    assert (spec["email"], spec["server"]) == ("me@mine.org", LETS_ENCRYPT)
    in_place = {"acme.cert-manager.io/http01-edit-in-place": "true"}
    assert graph.inputs("hello-ingress")["metadata"]["annotations"] == {**ISSUER, **in_place}


def test_its_images_are_fetched_ahead_and_in_the_bill(tmp_path: Path) -> None:
    tls = {"ingressTls": {"issuer": "self-signed"}}
    image = f"quay.io/jetstack/cert-manager-webhook:{versions.CERT_MANAGER}"
    _, files = rendered(tmp_path, tls)
    assert image in files["w1"]["/etc/own-kubernetes/images"].splitlines()
    components = made(tls)["components"]
    assert image in {f"{part['name']}:{part.get('version')}" for part in components}
    (chart,) = [part for part in components if part["name"] == "cert-manager"]
    assert chart["version"] == versions.CERT_MANAGER


def test_whose_webhook_is_waited_for(tmp_path: Path) -> None:
    for whose, kind in (("metallb", "IPAddressPool"), ("cert-manager", "ClusterIssuer")):
        host = Host(tmp_path / whose)
        host.command("kubectl", f"cat >{host.path('/asked')}")
        assert host.run("webhook.sh", env={"OF": whose}).returncode == 0
        assert f'"kind": "{kind}"' in host.read("/asked")
        assert "--dry-run=server" in host.called("kubectl")[0]


BAD: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "who signs": ({"issuer": "letsencrypt"}, "ingressTls.issuer", "'acme', 'ca' or 'self-signed'"),
    "no email": ({"issuer": "acme"}, "ingressTls.email", "your email address"),
    "no such address": ({"issuer": "acme", "email": "me"}, "ingressTls.email", "an email address"),
    "nobody's name": ({"issuer": "acme", "email": "me@mine.org"}, "helloHost", "of your own"),
    "no key": ({"issuer": "ca", "caCertificateFile": "LICENSE"}, "ingressCaKey", "private key"),
    "no certificate": ({"issuer": "ca"}, "ingressTls.caCertificateFile", "the path of the CA's"),
    "one too many": (
        {"issuer": "self-signed", "caCertificateFile": "LICENSE"},
        "ingressTls.caCertificateFile",
        "nothing, as",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case: str) -> None:
    tls, key, expected = BAD[case]
    assert expected in problem({"ingressTls": tls}, key).expected


def test_a_ca_that_can_not_sign_is_refused(tmp_path: Path) -> None:
    key = "ingressTls.caCertificateFile"
    good, no_ca = authority(tmp_path), authority(tmp_path, ca=False)
    old = authority(tmp_path, days=-1)
    assert "no certificate of a CA" in problem(no_ca.settings(), key).expected
    assert "valid until" in problem(old.settings(), key).expected
    assert "of another one" in problem(good.settings(ingressCaKey=old.key), key).expected
    assert "in PEM without" in problem(good.settings(ingressCaKey="words"), key).expected
    told = str(refused(good.settings(ingressCaKey=old.key)))
    assert old.key.splitlines()[1] not in told
    problem({"ingressCaKey": good.key}, "ingressCaKey")
