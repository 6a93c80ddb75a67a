"""The cluster in other programs: imported, and as a package for any language."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, is_typeddict

import pulumi
import pytest
import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from cluster import changes, remote, settings
from cluster.args import ClusterArgs
from cluster.errors import SettingsError
from cluster.machines.hetzner.catalog import Catalog
from cluster.settings import Settings
from tests.unit.graph import REMOTE_COMMAND, SECRET, Graph, is_secret, run_program
from tests.unit.stacks import CLOUD, PRIVATE_KEY, ROOT, SITE, declarations
from tests.unit.test_entry import OUTPUTS
from tests.unit.test_graph import lines
from tests.unit.test_hetzner_graph import catalog

EXAMPLES = ROOT / "examples"
KEYS = {**SITE, "clusterName": "blue"}


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# --- imported ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop() -> Iterator[Graph]:
    """What the example in Python declares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_program(program=EXAMPLES / "python" / "__main__.py", preview=True)


def test_a_program_that_imports_the_cluster_gets_what_a_stack_file_gets(shop: Graph) -> None:
    """But for the names, and for what it all belongs to."""
    ours, theirs = run_program(preview=True), Graph()
    theirs.requests = {n: r for n, r in shop.requests.items() if n not in ("blue", "shop")}
    text = lines(theirs).replace("blue-", "").replace("parent: blue\n", f"parent: {STACK}\n")
    assert blocks(text) == blocks(lines(ours))


STACK = "own-kubernetes-test"


def blocks(text: str) -> set[str]:
    return set(re.split(r"\n(?! )", text))


def test_what_runs_in_it_is_deleted_with_it(shop: Graph) -> None:
    assert shop.deleted_with("shop") == "blue-cluster-worker-key"
    assert shop.requests["shop"].provider.split("::")[-2] == "blue-access-kubernetes"


def test_secrets_stay_secret(shop: Graph) -> None:
    assert shop.plain_inputs("blue-w1-join")["connection"] == SECRET
    assert shop.inputs("blue-w1-join")["connection"]["privateKey"] == PRIVATE_KEY


def program(folder: Path, text: str) -> Path:
    """A program that imports the cluster."""
    file = folder / "__main__.py"
    head = "import pulumi\nfrom cluster import Cluster\nconfig = pulumi.Config()\n"
    common = f"common = { ({k: v for k, v in SITE.items() if k != 'nodes'})!r}\n"
    file.write_text(f"{head}{common}{text}\n")
    return file


TWO = """
nodes = config.require_object("nodes")
for number, name in enumerate(("blue", "green")):
    Cluster(name, {**common, "nodes": {
        node: {**values, "address": f"10.0.0.{100 * number + int(values['address'][-2:])}"}
        for node, values in nodes.items()
    }})
"""


def test_a_program_may_have_several(tmp_path: Path) -> None:
    graph = run_program(program=program(tmp_path, TWO), preview=True)
    for name in ("blue", "green"):
        assert f"{name}-w1-join" in graph.requests
        line = graph.inputs(f"{name}-cp1-join")["create"]
        assert f"CLUSTER={name} NODE=cp1" in line


CLOUDS = """
for name in ("blue", "green"):
    Cluster(name, {**cloud, "hetzner": {"ingress": "floating-ips", "api_load_balancer": True}})
"""


def test_each_may_have_servers_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalog, "fetch", lambda *_: catalog())
    keys = {k: v for k, v in CLOUD.items() if k not in ("hcloud:token", "clusterName")}
    file = program(tmp_path, f"cloud = {keys!r}\n{CLOUDS}")
    graph = run_program(base=CLOUD, program=file, preview=True)
    for name in ("blue", "green"):
        assert graph.inputs(f"{name}-cp1-server")["name"] == f"{name}-cp1"


LATER = """
made = pulumi.Output.from_input("198.51.100.11")
key = pulumi.Output.from_input("ssh-ed25519 AAAB")
nodes = config.require_object("nodes")
nodes["cp1"] |= {"private_address": "10.0.0.11", "address": made, "hostKey": key}
Cluster("blue", {**common, "nodes": nodes})
"""


def test_hosts_may_be_made_in_the_same_program(tmp_path: Path) -> None:
    graph = run_program(program=program(tmp_path, LATER), preview=True)
    connection = graph.inputs("blue-cp1-join")["connection"]
    assert (connection["host"], connection["hostKey"]) == ("198.51.100.11", "ssh-ed25519 AAAB")
    assert "value: 10.0.0.11\n" in graph.inputs("blue-cp1-prepare")["stdin"], "between the nodes"


def test_such_hosts_need_an_address_that_is_known() -> None:
    nodes = {**SITE["nodes"], "cp1": {**SITE["nodes"]["cp1"], "address": pulumi.Output.secret("")}}
    with pytest.raises(SettingsError) as refused:
        settings.of({**SITE, "nodes": nodes, "clusterName": "blue"}, ROOT)
    assert [problem.key for problem in refused.value.problems] == ["nodes.cp1.privateAddress"]


def test_what_can_not_be_used_is_refused_as_in_a_stack_file() -> None:
    wrong: dict[str, Any] = {"pod_cidr": "10.96.0.0/16", "hello_replicas": 0, "no_such_key": 1}
    with pytest.raises(SettingsError) as refused:
        settings.of({**KEYS, **wrong}, ROOT)
    assert {problem.key for problem in refused.value.problems} == {"helloReplicas", "noSuchKey"}
    nodes = {"cp1": {**SITE["nodes"]["cp1"], "host_key": "none"}}
    with pytest.raises(SettingsError, match=r"nodes\.cp1\.hostKey = 'none'"):
        settings.of({**KEYS, "nodes": nodes}, ROOT)
    with pytest.raises(SettingsError, match="podCidr"):
        settings.of({**KEYS, "pod_cidr": "10.96.0.0/16"}, ROOT)
    with pytest.raises(SettingsError, match="sshPrivateKey"):
        settings.of({key: value for key, value in KEYS.items() if key != "sshPrivateKey"}, ROOT)


def test_each_cluster_is_compared_with_its_own_state() -> None:
    state = {
        f"urn:pulumi:test::own::{REMOTE_COMMAND}::{name}-cp1-{phase}": {
            "type": REMOTE_COMMAND,
            "outputs": {"create": f"bash run.sh {line} NODE=cp1 KUBERNETES_VERSION={version}"},
        }
        for name, version in (("blue", "1.36.4"), ("green", "1.37.2"))
        for phase, line in (("join", "control-plane"), ("upgrade", "upgrade"))
    }
    for name, version in (("blue", "1.36.4"), ("green", "1.37.2")):
        assert changes.read(state, f"{name}-").versions == {"cp1": version}


# --- types -------------------------------------------------------------------------------------


def test_every_setting_is_an_argument_and_every_argument_is_a_setting() -> None:
    expected = {**fields(Settings), **dict.fromkeys(settings.SECRETS)}
    assert arguments(ClusterArgs) == expected
    assert expected.keys() == declarations().keys()


def fields(model: type[BaseModel]) -> dict[str, Any]:
    """The settings' keys, each with those below it."""
    return {
        str(field.alias): below(field.annotation, BaseModel, fields)
        for field in model.model_fields.values()
    }


def arguments(kind: Any) -> dict[str, Any]:
    """The arguments' keys, each with those below it."""
    hints = inspect.get_annotations(kind)
    return {to_camel(key): below(hint, None, arguments) for key, hint in hints.items()}


def below(annotation: Any, base: type | None, function: Any) -> Any:
    """The keys of the model or typed dict that an annotation is made of, if it is."""
    if base is None and is_typeddict(annotation):
        return function(annotation)
    if base and isinstance(annotation, type) and issubclass(annotation, base):
        return function(annotation)
    found = [below(part, base, function) for part in get_args(annotation)]
    return next((keys for keys in found if keys), None)


# --- in other languages ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    host = runpy.run_path(str(ROOT / "component" / "__main__.py"))
    return json.loads(host["provider"]().schema)


def test_the_package_has_a_schema_that_says_what_pulumi_yaml_says(schema: Any) -> None:
    cluster = schema["resources"]["own-kubernetes:index:Cluster"]
    described = {key: entry["description"] for key, entry in cluster["inputProperties"].items()}
    assert described == {key: entry["description"] for key, entry in declarations().items()}
    assert cluster["requiredInputs"] == ["adminCidrs", "nodeCidr"]
    assert "plain" not in cluster["inputProperties"]["sshPrivateKey"], "it may be an output"
    nodes = cluster["inputProperties"]["nodes"]["additionalProperties"]["$ref"]
    assert "hostKey" in schema["types"][nodes.removeprefix("#/types/")]["properties"]


def test_the_schema_has_all_that_the_cluster_gives(schema: Any, shop: Graph) -> None:
    given = yaml.safe_load((EXAMPLES / "yaml" / "Pulumi.yaml").read_text())
    cluster = schema["resources"]["own-kubernetes:index:Cluster"]
    assert cluster["properties"].keys() >= {"kubeconfig", "url", "nodes", "logins", "dnsRecord"}
    resource = given["resources"]["green"]
    assert resource["type"] == "own-kubernetes:Cluster"
    assert cluster["inputProperties"].keys() >= resource["properties"].keys()


CONSTRUCT = """
import runpy
host = runpy.run_path("component/__main__.py")
inputs = {**common, "nodes": config.require_object("nodes"), "helloReplicas": 3.0, "kubelet": {"maxPods": 50.0}}
inputs["sshPrivateKey"] = pulumi.Output.secret(inputs["sshPrivateKey"])
made = host["provider"]().construct("green", "own-kubernetes:index:Cluster", inputs)
pulumi.export("state", made.state)
"""


def test_a_program_in_another_language_gets_a_cluster(tmp_path: Path) -> None:
    """Whose numbers all come as floats."""
    outputs = {"green-cluster-access": OUTPUTS["cluster-access"]}
    graph = run_program(program=program(tmp_path, CONSTRUCT), outputs=outputs)
    assert graph.inputs("green-hello-deployment")["spec"]["replicas"] == 3
    assert "maxPods: 50\n" in graph.inputs("green-cp1-prepare")["stdin"]
    state = graph.outputs["state"]
    assert state["url"] == "http://hello.example.com/"
    assert is_secret(state["kubeconfig"])
    assert state["nodes"] == {"cp1": "10.0.0.11", "w1": "10.0.0.21", "w2": "10.0.0.22"}


# --- what the engine runs for it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("project", ".venv/bin/python"),
        ("elsewhere", "~/project/.venv/bin/python"),
    ],
)
def test_state_does_not_depend_on_where_a_home_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, word: str
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "project" / ".venv"))
    assert remote.python() == word


def test_settings_are_declared_once(tmp_path: Path) -> None:
    declared = (ROOT / "Pulumi.yaml").read_text()
    assert settings.DECLARATIONS.read_text() == declared


def test_the_package_needs_what_the_program_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.in").read_text().splitlines()
    listed = [
        line.partition(" #")[0] for line in lines if "==" in line and not line.startswith("pytest")
    ]
    assert project["dependencies"] == listed
