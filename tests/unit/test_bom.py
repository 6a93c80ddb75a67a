"""The bill of materials: complete, of the form that CycloneDX asks for, and the same for the same files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster import bom, versions
from cluster.manifests import Manifest
from cluster.remote import SCRIPTS
from cluster.settings import of_form
from tests.unit.graph import run_program
from tests.unit.stacks import CLOUD, ROOT, SITE, changed, declarations

REQUIREMENTS = (ROOT / "requirements.txt").read_text()
KINDS = {"application", "container", "library"}
PURL = re.compile(
    r"pkg:(deb|helm|oci|pypi)/[a-z0-9.+_/-]+(@[A-Za-z0-9.%_+-]+)?(\?[a-z_]+=[^&]+(&[a-z_]+=[^&]+)*)?"
)
DIGEST = f"sha256:{'a1' * 32}"


def made(
    changes: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] = SITE,
    live: bom.Images | None = None,
    own: Sequence[Manifest] = (),
) -> dict[str, Any]:
    defaults = {key: entry.get("default") for key, entry in declarations().items()}
    values = {k: v for k, v in changed(base, changes or {}).items() if ":" not in k}
    return bom.bill(of_form({**defaults, **values}), REQUIREMENTS, live, own)


def part(bill: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [c for c in bill["components"] if c["name"] == name and c["type"] != "application"]
    component: dict[str, Any] = found
    return component


@pytest.mark.parametrize("base", [SITE, CLOUD], ids=["hosts", "servers"])
def test_it_has_what_cyclonedx_asks_for(base: Mapping[str, Any]) -> None:
    """Required fields and forms of the 1.6 schema, as far as we use them."""
    bill = made(base=base)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["type"] == "platform"
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(references) == len(set(references))
    for component in bill["components"]:
        assert component["type"] in KINDS
        assert component["name"]
        assert "" not in component.values()
        assert "purl" not in component or PURL.fullmatch(component["purl"]), component
        assert {p["name"] for p in component["properties"]} >= {"own-kubernetes:where"}


def test_the_same_files_give_the_same_bill_and_others_another() -> None:
    assert made() == made()
    assert made()["serialNumber"] != made({"helloReplicas": 3, "helloImage": "x:2"})["serialNumber"]


def test_every_image_that_is_fetched_ahead_is_in_it() -> None:
    bill = made()
    named = {f"{c['name']}:{c['version']}" for c in bill["components"] if c["type"] == "container"}
    assert {*versions.images(versions.HELLO_IMAGE), versions.KURED_IMAGE} <= named
    assert f"registry.k8s.io/kube-apiserver:v{versions.KUBERNETES}" in named
    etcd = part(bill, "registry.k8s.io/etcd")
    assert etcd["purl"] == "pkg:oci/etcd?repository_url=registry.k8s.io/etcd&tag=3.6.8-0"


def test_every_image_that_the_program_declares_is_in_it() -> None:
    changes = {"networkPolicies": True}
    graph = run_program(changes, preview=True)
    text = json.dumps([graph.inputs(name) for name in graph.custom()])
    declared = set(re.findall(r'"image": "([^"]+)"', text))
    assert {versions.KURED_IMAGE, versions.KUBE_ROUTER_IMAGE} <= declared
    parts = made(changes)["components"]
    assert declared <= {f"{c['name']}:{c['version']}" for c in parts if c["type"] == "container"}


def test_every_python_package_is_in_it() -> None:
    names = {c["name"] for c in made()["components"] if c["type"] == "library"}
    assert len(names) == len(re.findall(r"^\S+==", REQUIREMENTS, re.MULTILINE))
    assert {"pulumi", "asyncssh", "pydantic-core"} <= names


def test_every_package_that_a_host_gets_is_in_it() -> None:
    script = (SCRIPTS / "prepare.sh").read_text().replace("\\\n", "")
    body = script.split("wanted_packages() {")[1].split("\n}")[0]
    words = " ".join(re.findall(r"printf '%s\\n' (.*)", body)).replace('"', " ").split()
    wanted = {word.partition("=")[0] for word in words if word[0].isalpha()}
    shared = {"apiVirtualAddress": "10.0.0.5"}
    names = {c["name"] for c in made(shared)["components"] if c["type"] == "application"}
    assert {"containerd.io", "conntrack", "openssh-client", "keepalived"} <= wanted <= names
    assert "unattended-upgrades" in names
    assert {"kubeadm", "kubelet", "kubectl"} <= names


def test_what_servers_get_besides() -> None:
    names = {component["name"] for component in made(base=CLOUD)["components"]}
    assert {"hcloud-csi", "docker.io/hetznercloud/hcloud-csi-driver"} <= names
    assert "registry.k8s.io/sig-storage/csi-attacher" in names
    assert "metallb" not in names, "behind a load balancer there is none"


def test_what_others_name_the_version_of_has_none() -> None:
    bill = made({"kubernetesVersion": "1.37.0", "ingressVersion": "1.3.2"})
    for name in ("registry.k8s.io/etcd", "docker.io/nginx/nginx-ingress"):
        assert "version" not in part(bill, name)
    assert part(bill, "registry.k8s.io/kube-proxy")["version"] == "v1.37.0"


def test_a_cluster_that_lives_tells_digests_and_the_versions_that_others_named() -> None:
    live = {
        "registry.k8s.io/etcd": {"3.7.0-0": [DIGEST]},
        "ghcr.io/flannel-io/flannel": {versions.FLANNEL: [DIGEST], "v0.1.0": ["sha256:old"]},
    }
    bill = made({"kubernetesVersion": "1.37.0"}, live=live)
    etcd = part(bill, "registry.k8s.io/etcd")
    assert etcd["version"] == "3.7.0-0"
    assert etcd["hashes"] == [{"alg": "SHA-256", "content": "a1" * 32}]
    assert f"@sha256%3A{'a1' * 32}?" in etcd["purl"]
    assert part(bill, "ghcr.io/flannel-io/flannel")["hashes"] == etcd["hashes"]
    assert "hashes" not in part(bill, "quay.io/metallb/speaker")


def test_an_image_by_digest_keeps_it() -> None:
    hello = part(
        made({"helloImage": f"r.example.com:5000/hello@{DIGEST}"}), "r.example.com:5000/hello"
    )
    assert hello["hashes"] == [{"alg": "SHA-256", "content": "a1" * 32}]
    assert "version" not in hello


def test_images_are_read_off_nodes() -> None:
    class Asked:
        def get(self, path: str) -> Any:
            assert path == "/api/v1/nodes"
            names = [f"registry.k8s.io/pause@{DIGEST}", "registry.k8s.io/pause:3.10.2"]
            return {"items": [{"status": {"images": [{"names": names}]}}, {"status": {}}]}

    asked: Any = Asked()
    assert bom.on_nodes(asked) == {"registry.k8s.io/pause": {"3.10.2": [DIGEST]}}


def test_the_command_writes_the_dev_stacks_bill_without_its_site(tmp_path: Path) -> None:
    """Neither keys nor hosts need be there."""
    output = tmp_path / "bom.json"
    words = ["--stack-file", str(ROOT / "Pulumi.dev.yaml"), "--output", str(output)]
    assert bom.main(words) == 0
    bill = json.loads(output.read_text())
    assert bill["metadata"]["component"]["name"] == "dev"
    sources = {s["url"] for c in bill["components"] for s in c.get("externalReferences", [])}
    assert "http://10.77.0.1:8080/apt" in sources, "what the site takes it from"


@pytest.mark.parametrize(
    ("text", "told"),
    [("config: {own-kubernetes:podCidr: x}", "podCidr = 'x'"), (None, "No such file")],
)
def test_a_stack_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, told: str
) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    if text is not None:
        file.write_text(text)
    assert bom.main(["--stack-file", str(file)]) == 1
    assert told in capsys.readouterr().err
