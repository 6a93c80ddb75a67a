"""The policy pack's rules, on stacks that keep to them and on stacks that do not."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import rules
import state
from pulumi.runtime import rpc
from rules import UNKNOWN, Resource

from tests.unit.graph import Graph, run_program
from tests.unit.sites import HA
from tests.unit.stacks import CLOUD, ROOT
from tests.unit.test_hetzner_graph import run as run_in_cloud

BALANCER = "urn:pulumi:test::own::hcloud:index/loadBalancer:LoadBalancer::api"
SSH = {"direction": "in", "protocol": "tcp", "port": "22", "sourceIps": ["203.0.113.7/32"]}
CONTROL_PLANE = {"own-kubernetes/role": "control-plane"}
CONNECTION = {"host": "10.0.0.11", "hostKey": "ssh-ed25519 AAAA"}
SECRET = {state.SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:..."}


def made(kind: str, deleted_with: str = "urn:machine", **props: Any) -> Resource:
    refers = {"loadBalancerId": [BALANCER]}
    return Resource(kind, f"urn:pulumi:test::own::{kind}::it", props, refers, deleted_with)


def broken(*stack: Resource) -> set[str]:
    """The names of the rules that a stack breaks."""
    return {line.partition(":")[0] for line in state.problems(list(stack))}


# --- this program's own stacks -----------------------------------------------------------------


def as_seen(graph: Graph) -> list[Resource]:
    """A run's resources as the engine shows them."""
    return [
        Resource(
            type=request.type,
            urn=f"urn:pulumi:test::own::{request.type}::{name}",
            props=known(graph.inputs(name)),
            refers={key: list(of.urns) for key, of in request.propertyDependencies.items()},
            deleted_with=request.deletedWith,
        )
        for name, request in graph.requests.items()
    ]


def known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [known(item) for item in value]
    return UNKNOWN if value == rpc.UNKNOWN else value


def test_own_hosts_keep_to_every_rule_in_a_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stack = as_seen(run_program(HA, preview=True))
    assert list(state.problems(stack)) == []
    assert len([one for one in stack if one.type in rules.DIALS]) > 20


@pytest.mark.parametrize("entry", ["load-balancer", "floating-ips"])
def test_servers_keep_to_every_rule_in_a_preview(entry: str) -> None:
    changes = {
        "hetzner": {"ingress": entry, "apiLoadBalancer": True},
        "nodePools.control.role": "control-plane",
        "nodePools.control.count": 2,
    }
    stack = as_seen(run_in_cloud({}, changes, base=CLOUD, preview=True))
    assert list(state.problems(stack)) == []
    protected = [one.urn for one in stack if one.props.get("deleteProtection")]
    assert [urn.rpartition("::")[2] for urn in protected] == [
        "control-1-server", "control-2-server", "cp1-server",
    ]  # fmt: skip


# --- stacks that do not ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"sourceIps": ["203.0.113.7/32", "0.0.0.0/0"]},
        {"sourceIps": ["::/0"]},
        {"sourceIps": ["128.0.0.0/1"]},
        {"sourceIps": ["0.0.0.0/0"], "port": "6443"},
        {"sourceIps": ["0.0.0.0/0"], "port": "1-1024"},
        {"sourceIps": ["0.0.0.0/0"], "port": "any"},
    ],
)
def test_ssh_and_the_api_may_not_be_open_to_the_world(change: Mapping[str, Any]) -> None:
    page = {**SSH, "port": "80", "sourceIps": ["0.0.0.0/0", "::/0"]}
    assert broken(made(rules.FIREWALL, rules=[SSH, page])) == set()
    assert broken(made(rules.FIREWALL, rules=[SSH, {**SSH, **change}])) == {"closed-to-the-world"}


def test_a_server_has_to_be_behind_a_firewall() -> None:
    assert broken(made(rules.SERVER, firewallIds=[UNKNOWN])) == set()
    assert broken(made(rules.SERVER)) == {"behind-a-firewall"}


def test_a_control_plane_has_to_be_protected_at_the_api() -> None:
    server: dict[str, Any] = {"firewallIds": [1], "labels": CONTROL_PLANE}
    both: dict[str, Any] = {"deleteProtection": True, "rebuildProtection": True}
    assert broken(made(rules.SERVER, **server, **both)) == set()
    for key in both:
        half = made(rules.SERVER, **server, **{**both, key: False})
        assert broken(half) == {"control-plane-protected"}


@pytest.mark.parametrize("kind", rules.DIALS)
def test_every_connection_and_its_proxy_need_a_host_key(kind: str) -> None:
    later = {**CONNECTION, "hostKey": UNKNOWN}
    for good in (CONNECTION, later, {**CONNECTION, "proxy": CONNECTION}, UNKNOWN):
        assert broken(made(kind, connection=good)) == set()
    for bad in ({"host": "10.0.0.11"}, {**CONNECTION, "proxy": {"host": "198.51.100.1"}}):
        assert broken(made(kind, connection=bad)) == {"host-key-checked"}


@pytest.mark.parametrize("image", ["nginx", "nginx:latest", "registry:5000/nginx"])
def test_images_have_to_be_pinned(image: str) -> None:
    def deployment(image: str) -> Resource:
        spec = {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
        return made("kubernetes:apps/v1:Deployment", spec=spec)

    digest = f"{image.partition(':5')[0]}@sha256:{'0' * 64}"
    assert broken(deployment(f"{image.removesuffix(':latest')}:1.27"), deployment(digest)) == set()
    assert broken(deployment(image)) == {"images-pinned"}


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "^2.6.0"},
        {"values": {"controller": {"image": {"repository": "nginx", "tag": "latest"}}}},
    ],
)
def test_charts_have_to_be_pinned(change: Mapping[str, Any]) -> None:
    chart: dict[str, Any] = {
        "version": "2.6.4",
        "values": {"controller": {"image": {"tag": "5.1.0"}}},
    }
    assert broken(made(rules.RELEASE, **chart)) == set()
    assert broken(made(rules.RELEASE, **{**chart, **change})) == {"images-pinned"}


def test_no_public_load_balancer_may_lead_to_the_api() -> None:
    api, page = (made(rules.BALANCER_SERVICE, listenPort=port) for port in (6443.0, 443.0))
    private, public = (
        made(rules.BALANCER_NETWORK, enablePublicInterface=open_) for open_ in (False, True)
    )
    assert broken(api, page, private) == set()
    assert broken(page, public) == set()
    for stack in ([api], [api, public]):
        assert broken(*stack) == {"api-balancer-private"}


def test_what_was_done_on_a_machine_has_to_end_with_it() -> None:
    command = made("command:remote:Command", deleted_with="", connection=CONNECTION)
    assert broken(command) == {"goes-with-its-machine"}


# --- a state -----------------------------------------------------------------------------------


def test_an_exported_state_is_looked_through(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(**changes: Any) -> tuple[int, str]:
        kind = "command:remote:Command"
        connection = {**CONNECTION, "privateKey": SECRET}
        entry = {
            "type": kind, "urn": f"urn:pulumi:test::own::{kind}::w1-join", "deletedWith": "urn:w1",
            "inputs": {"connection": connection, "stdin": SECRET}, **changes,
        }  # fmt: skip
        export = json.dumps({"version": 3, "deployment": {"resources": [entry]}})
        monkeypatch.setattr(sys, "stdin", io.StringIO(export))
        return state.main(), capsys.readouterr().out

    assert look() == (0, "1 resources keep to every rule\n")
    code, said = look(deletedWith="", inputs={"connection": {"host": "10.0.0.21"}})
    assert (code, len(said.splitlines())) == (1, 2)
    assert "host-key-checked: w1-join: connection.hostKey is missing" in said
