"""A cluster with HTTPS by a CA of the user's own, an object and a chart of theirs; then without the page."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import dev, machines, mirror, site, stacks
from sandbox.engine import Engine
from sandbox.engine.standin import StandinEngine
from sandbox.machines import MachineSpec
from tests.authority import Authority, authority
from tests.live.cluster import ENGINES, eventually, keep_kubeconfig, kubectl, sandbox

STACK = "choices"
NODES = {"cp1": "10.77.0.11", "w1": "10.77.0.21"}
HOST = "hello.example.com"
MANIFESTS = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {since: 2026-01-02}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: till, namespace: shop}
spec:
  secretName: till-tls
  dnsNames: [till.example.com]
  issuerRef: {kind: ClusterIssuer, name: default}
"""
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: of-the-chart}
data: {size: "{{ .Values.size }}"}
"""


@dataclass
class Site:
    """The stack, and what its last ``up`` gave."""

    engine: Engine
    ca: Authority
    values: dict[str, Any]
    outputs: dict[str, Any]

    def edit(self, changes: Mapping[str, Any]) -> Path:
        """Edit the stack file: its first text, with changes put in."""
        return stacks.write(STACK, self.values, changes)

    def up(self, changes: Mapping[str, Any]) -> None:
        self.edit(changes)
        self.outputs = self.engine.up()

    def certified(self) -> str:
        """The head of the page's answer over HTTPS, whose certificate is checked by the CA."""
        context = ssl.create_default_context(cafile=str(self.ca.file))
        with (
            socket.create_connection((self.outputs["ingressAddress"], 443), 5) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as secured,
        ):
            secured.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            return secured.recv(1000).decode()


@pytest.fixture(scope="module", params=ENGINES)
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("own")
    ca = authority(folder)
    values = stacks.of_site(hosts=True) | ca.settings(**own_things(folder))
    values["mirror"]["charts"]["cert-manager"] = f"{site.FILES}/charts/cert-manager-{{version}}.tgz"
    with sandbox(request.param) as kind:
        mirror.build()
        mirror.build_optional("cert-manager")
        machines.up([MachineSpec(name, IPv4Address(at), 4096) for name, at in NODES.items()])
        mirror.serve()
        engine = kind(stack=STACK, stack_file=stacks.write(STACK, values))
        began = time.monotonic()
        found = Site(engine, ca, values, engine.up())
        print(f"up in {time.monotonic() - began:.0f} s")
        keep_kubeconfig(found.outputs["kubeconfig"])
        yield found
        engine.down()


def own_things(folder: Path) -> dict[str, Any]:
    """An object and a chart of the user's own, in files, on a cluster of two nodes."""
    (folder / "shop.yaml").write_text(MANIFESTS)
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    about = {"apiVersion": "v2", "name": "own", "version": "0.1.0"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    (chart / "templates" / "own.yaml").write_text(TEMPLATE)
    release = {"chart": str(chart), "version": "0.1.0", "namespace": "own"}
    roles = zip(NODES.items(), ("control-plane", "worker"), strict=True)
    return {
        "nodes": {name: {"role": role, "address": address} for (name, address), role in roles},
        "helloReplicas": 1,
        "osUpdates": {"reboots": {"enabled": False}},
        "extraManifests": [str(folder / "shop.yaml")],
        "helmReleases": {"own": {**release, "values": {"size": "large"}}},
    }


def test_the_page_has_a_certificate_of_the_users_ca(stack: Site) -> None:
    assert stack.outputs["url"] == f"https://{HOST}/"
    assert eventually(lambda: stack.certified().startswith("HTTP/1.1 200"))
    assert dev.get(stack.outputs["ingressAddress"], HOST)[0] == 301, "from HTTP to HTTPS"


def test_own_objects_and_charts_are_there(stack: Site) -> None:
    settings = kubectl("--namespace=shop", "get", "configmap", "settings")
    assert settings["data"] == {"since": "2026-01-02"}
    chart = kubectl("--namespace=own", "get", "configmap", "of-the-chart")
    assert chart["data"] == {"size": "large"}
    assert eventually(lambda: bool(kubectl("--namespace=shop", "get", "secret", "till-tls")))


def test_another_run_would_change_nothing(stack: Site) -> None:
    if isinstance(stack.engine, StandinEngine):
        pytest.skip("the stand-in has no previews")
    found = stack.engine.preview()
    assert set(found) == {"same"}


def test_an_edit_reaches_the_cluster_and_what_is_taken_out_goes(stack: Site) -> None:
    address = stack.outputs["ingressAddress"]
    stack.up({"helloWorld": False, "helmReleases.own.values.size": "small"})
    names = {space["metadata"]["name"] for space in kubectl("get", "namespaces")["items"]}
    assert "hello-world" not in names
    assert {"shop", "own", "cert-manager"} <= names
    assert stack.outputs["ingressAddress"] == address, "as the controller's own Service has it"
    assert dev.get(address, HOST)[0] == 404
    chart = kubectl("--namespace=own", "get", "configmap", "of-the-chart")
    assert chart["data"] == {"size": "small"}
