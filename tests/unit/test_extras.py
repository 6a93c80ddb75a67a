"""What users put on the cluster by the stack file: their manifests and charts, and whether there is a page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.config import CONFIG

from cluster import manifests, settings, versions
from tests.unit.graph import SECRET, run_program
from tests.unit.hosts import Host
from tests.unit.stacks import NAMESPACE, ROOT, SITE, configure, load, problem, refused
from tests.unit.test_bom import made

MANIFESTS = """\
# A comment alone is no object.
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: settings, namespace: shop}
  data: {since: 2026-01-02, 7: seven}
- apiVersion: v1
  kind: Secret
  metadata: {name: login, namespace: shop}
  stringData: {password: in-clear}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: till, namespace: shop}
spec:
  template:
    spec:
      containers: [{name: till, image: "registry.example.com/till:4"}]
"""
DEFINED = """\
apiVersion: example.com/v1
kind: Widget
metadata: {name: one}
"""
CHARTS: Mapping[str, Mapping[str, Any]] = {
    "cache": {
        "chart": "cache",
        "repo": "https://charts.example.com",
        "version": "v1.2.3-rc.1",
        "namespace": "shop",
        "values": {"replicas": 2},
    },
    "widgets": {
        "chart": "oci://registry.example.com/charts/widgets",
        "version": "4.5.6",
        "namespace": "widgets",
    },
}


@pytest.fixture
def changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stack with objects and charts of its own, and no page."""
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "shop.yaml").write_text(MANIFESTS)
    (folder / "widget.yml").write_text(DEFINED)
    (folder / "notes.txt").write_text("no manifest")
    values = tmp_path / "values.yaml"
    values.write_text("size: large\n")
    return {
        "extraManifests": [str(folder)],
        "helmReleases": {**CHARTS, "widgets": {**CHARTS["widgets"], "valuesFile": str(values)}},
        "helloWorld": False,
    }


def test_own_objects_and_charts_are_resources_and_there_need_be_no_page(
    changes: dict[str, Any],
) -> None:
    answer = {"stdout": "10.0.0.200\n", "stderr": ""}
    graph = run_program(changes, outputs={"nginx-address": answer}, preview=True)

    names = {
        "extras-Namespace-shop": "kubernetes:core/v1:Namespace",
        "extras-ConfigMap-shop/settings": "kubernetes:core/v1:ConfigMap",
        "extras-Secret-shop/login": "kubernetes:core/v1:Secret",
        "extras-Deployment-shop/till": "kubernetes:apps/v1:Deployment",
        "extras-Widget-one": "kubernetes:example.com/v1:Widget",
        "extras-Namespace-widgets": "kubernetes:core/v1:Namespace",
        "extras-release-cache": "kubernetes:helm.sh/v3:Release",
        "extras-release-widgets": "kubernetes:helm.sh/v3:Release",
    }
    assert {n: graph.type(n) for n in graph.requests if n.startswith("extras-")} == names
    assert {graph.parent(name) for name in names} == {"extras"}
    assert {graph.deleted_with(name) for name in names} == {"cluster-worker-key"}
    config = graph.inputs("extras-ConfigMap-shop/settings")
    assert config["data"] == {"since": "2026-01-02", "7": "seven"}, "as Kubernetes reads it"

    ours = {"nginx-release", "metallb-pool", "w1-join"}
    spaces = {"extras-Namespace-shop", "extras-Namespace-widgets"}
    releases = {"extras-release-cache", "extras-release-widgets"}
    assert ours <= graph.dependencies("extras-Namespace-shop")
    assert ours | spaces <= graph.dependencies("extras-Deployment-shop/till")
    assert not releases & graph.dependencies("extras-Secret-shop/login"), "charts may wait for it"
    assert ours | spaces <= graph.dependencies("extras-release-cache")
    assert releases <= graph.dependencies("extras-Widget-one"), "a chart may bring its kind"

    cache, widgets = (graph.inputs(name) for name in sorted(releases))
    assert (cache["chart"], cache["version"]) == ("cache", "v1.2.3-rc.1")
    assert cache["repositoryOpts"] == {"repo": "https://charts.example.com"}
    assert (cache["name"], cache["namespace"]) == ("cache", "shop")
    assert (cache["values"], widgets["values"]) == ({"replicas": 2}, {"size": "large"})
    hooks = graph.requests["extras-release-cache"].hooks
    assert len(hooks.before_create) == len(hooks.before_update) == 1, "as for any release of ours"
    assert graph.plain_inputs("extras-Secret-shop/login")["stringData"] == SECRET

    assert not [name for name in graph.requests if name.startswith("hello")]
    assert graph.outputs["ingressAddress"] == "10.0.0.200"
    assert not {"url", "serviceAddress", "dnsRecord"} & graph.outputs.keys()
    last = graph.all_dependencies("cluster-encryption")
    assert names.keys() <= last, "keys for Secrets change when nothing asks the API any more"


def test_without_a_page_one_address_is_enough_and_its_image_is_not_fetched() -> None:
    one = {"loadBalancerPools": ["10.0.0.200/32"]}
    refused(one)
    assert not load({**one, "helloWorld": False}).settings.hello_world
    names = {component["name"] for component in made({"helloWorld": False})["components"]}
    assert versions.HELLO_IMAGE.rpartition(":")[0] not in names


def test_the_ingress_tells_its_address_where_no_page_does(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.command("kubectl", "printf 10.0.0.200")
    told = host.run("ingress-address.sh", env={"NAMESPACE": "a", "SERVICE": "b"})
    assert (told.returncode, told.stdout) == (0, "10.0.0.200\n")
    host.command("kubectl", ":")
    host.sooner("ingress-address.sh", "wait_for 180", "wait_for 0")
    told = host.run("ingress-address.sh", env={"NAMESPACE": "a", "SERVICE": "b"})
    assert told.returncode != 0
    assert "the Service b has no address" in told.stderr


def test_values_are_a_secret_where_the_stack_file_has_one(changes: dict[str, Any]) -> None:
    assert load(changes).helm_values["cache"] == {"replicas": 2}
    configure({**SITE, **changes})
    keys = (f"{NAMESPACE}:sshPrivateKey", f"{NAMESPACE}:helmReleases")
    pulumi.runtime.set_all_config(dict(CONFIG.get()), list(keys))

    async def secret() -> bool:
        values = settings.load(pulumi.Config(NAMESPACE), ROOT).helm_values["cache"]
        return isinstance(values, pulumi.Output) and await values.is_secret()

    assert asyncio.run(secret())


def test_the_bill_has_own_images_and_charts(changes: dict[str, Any]) -> None:
    own, _ = manifests.read(changes["extraManifests"], ROOT)
    bill = made(changes, own=own)
    versions_of = {component["name"]: component.get("version") for component in bill["components"]}
    assert versions_of["registry.example.com/till"] == "4"
    assert (versions_of["cache"], versions_of["widgets"]) == ("v1.2.3-rc.1", "4.5.6")


OBJECT = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
BAD_FILES: Mapping[str, tuple[str, str]] = {
    "no YAML": ("a: [", "YAML that can be read"),
    "a list": ("[1]", "it is a list"),
    "a text": ("words", "it is a str"),
    "no kind": ("{apiVersion: v1, metadata: {name: a}}", "a Kubernetes object with kind"),
    "no name": ("{apiVersion: v1, kind: Pod, metadata: {}}", "metadata.name"),
    "no metadata": ("{apiVersion: v1, kind: Pod}", "metadata.name"),
    "bytes": ("{apiVersion: v1, kind: Pod, x: !!binary aGk=}", "JSON"),
    "one of ours": (
        "{apiVersion: v1, kind: Namespace, metadata: {name: metallb-system}}",
        "there already (metallb-system)",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_manifest_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    text, expected = BAD_FILES[case]
    file = tmp_path / "own.yaml"
    file.write_text(f"{OBJECT}\n---\n{text}\n")
    found = problem({"extraManifests": [str(file)]}, "extraManifests.0")
    assert expected in found.expected
    assert str(found.value).startswith(str(file))
    if case != "no YAML":
        assert "document 2" in str(found.value)


def test_manifests_that_are_not_there_twice_or_take_too_many_addresses(tmp_path: Path) -> None:
    problem({"extraManifests": ["nowhere.yaml"]}, "extraManifests.0")
    problem({"extraManifests": [str(tmp_path)]}, "extraManifests.0")
    (tmp_path / "a.yaml").write_text(OBJECT)
    (tmp_path / "b.yaml").write_text(OBJECT)
    twice = problem({"extraManifests": [str(tmp_path)]}, "extraManifests")
    assert "ConfigMap a is in" in twice.expected
    service = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer}}"
    (tmp_path / "b.yaml").write_text(service)
    both = {"extraManifests": [str(tmp_path)], "loadBalancerPools": ["10.0.0.200-10.0.0.201"]}
    assert "(ingress, hello-world, a); there are 2" in problem(both, "loadBalancerPools").expected


BAD_CHARTS: Mapping[str, tuple[Mapping[str, Any], str, str]] = {
    "no version": ({"version": None}, ".version", "text"),
    "a range": ({"version": "^1.2.0"}, ".version", "exact version"),
    "latest": ({"version": "latest"}, ".version", "exact version"),
    "two places": ({"chart": "oci://r.example.com/cache"}, ".chart", "a chart's name in"),
    "no place": ({"repo": None}, ".chart", "a chart's name with repo"),
    "our namespace": ({"namespace": "metallb-system"}, ".namespace", "does not use itself"),
    "values twice": ({"valuesFile": "Pulumi.yaml"}, ".valuesFile", "nothing, as there is"),
    "no values file": ({"values": {}, "valuesFile": "nowhere.yaml"}, ".valuesFile", "can be read"),
    "no values": ({"values": {}, "valuesFile": "LICENSE"}, ".valuesFile", "a YAML map of values"),
}


@pytest.mark.parametrize("case", BAD_CHARTS)
def test_a_bad_chart_is_refused(case: str) -> None:
    change, key, expected = BAD_CHARTS[case]
    release = {k: v for k, v in {**CHARTS["cache"], **change}.items() if v is not None}
    found = problem({"helmReleases": {"cache": release}}, f"helmReleases.cache{key}")
    assert expected in found.expected or found.expected == "a value"


def test_a_release_has_a_name_of_its_own_and_may_come_from_a_mirror() -> None:
    problem({"helmReleases": {"metallb": CHARTS["cache"]}}, "helmReleases.metallb")
    mirrored = {"mirror.charts.cache": "http://mirror/cache-{version}.tgz"}
    problem(mirrored, "mirror.charts.cache")
    load({**mirrored, "helmReleases": {"cache": CHARTS["cache"]}})


def test_a_charts_folder_has_the_version_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: own, version: 0.1.0}")
    release = {"chart": str(tmp_path), "version": "0.1.0", "namespace": "own"}
    load({"helmReleases": {"own": release}})
    other = {"helmReleases": {"own": {**release, "version": "0.2.0"}}}
    assert "(0.1.0)" in problem(other, "helmReleases.own.version").expected
