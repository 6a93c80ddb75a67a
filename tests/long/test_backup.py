"""All control planes are lost, and the cluster comes back from a snapshot: data, workers and page."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import dev, ha, machines, site
from tests.live.cluster import ENGINES, eventually, heads_of_secrets, kubectl, on, ready
from tests.live.ha_site import Site, ha_site, members, nodes
from tests.s3 import S3

CONTROL_PLANES = {name: node for name, node in ha.NODES.items() if name.startswith("cp")}
WORKERS = tuple(name for name in ha.NODES if name.startswith("w"))
FOLDER = "/var/backups/own-kubernetes"
UNIT = "own-kubernetes-backup"


@dataclass
class Vault:
    """Where snapshots go, and what opens them: what a user has elsewhere.

    Attributes:
        storage: speaks S3.
        key_file: as age-keygen wrote it.
    """

    storage: S3
    key_file: str

    @property
    def settings(self) -> dict[str, Any]:
        """Of a user who wants backups here and elsewhere."""
        s3 = {
            "endpoint": self.storage.url,
            "region": self.storage.region,
            "bucket": self.storage.bucket,
            "prefix": "clusters",
        }
        public_key = self.key_file.split("public key: ")[1].split()[0]
        return {
            "backup": {"publicKey": public_key, "keep": 2, "s3": s3},
            "backupS3Credentials": self.storage.credentials,
        }

    def fetched(self, node: str, folder: Path) -> Path:
        """The last snapshot of a control plane, as a user fetches it from the storage."""
        name = max(name for name in self.storage.objects if f"-{node}-" in name)
        file = folder / Path(name).name
        file.write_bytes(self.storage.objects[name])
        return file


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ha_site(request.param) as site_:
        yield site_


@pytest.fixture(scope="module")
def vault(stack: Site) -> Iterator[Vault]:
    """The storage, on this host's leg in the machines' network; the stack's backups go there."""
    if not shutil.which("age-keygen"):
        pytest.fail("age is not installed: run `make check`, or `apt-get install age`")
    made = subprocess.run(["age-keygen"], check=True, capture_output=True, text=True)
    storage = S3(str(site.HOST))
    try:
        vault = Vault(storage, made.stdout)
        stack.up(vault.settings)
        yield vault
    finally:
        storage.close()


def test_every_control_plane_has_taken_a_first_snapshot(stack: Site, vault: Vault) -> None:
    for node in CONTROL_PLANES:
        assert on(node, f"stat --format=%a {FOLDER}/*") == "600", "one, for root only"
        assert on(node, f"head --bytes=21 {FOLDER}/*") == "age-encryption.org/v1"
        assert on(node, f"systemctl is-active {UNIT}.timer") == "active"
        assert on(node, "ls -A /var/lib/etcd") == "member", "nothing in clear stays"
        assert any(f"clusters/ha-{node}-" in name for name in vault.storage.objects)
    secret = vault.storage.credentials.partition(":")[2]
    for place in ("/var/log/own-kubernetes", "/etc/systemd/system", "/var/lib/own-kubernetes"):
        found = on("cp1", f"grep --recursive --files-with-matches -- '{secret}' {place} || true")
        assert found == "", place


def test_the_timer_keeps_the_last_few(stack: Site, vault: Vault) -> None:
    for _ in range(3):
        on("cp2", f"sleep 1; systemctl start {UNIT}.service")
    assert on("cp2", f"ls {FOLDER} | wc -l") == "2"


def test_a_second_run_changes_nothing(stack: Site, vault: Vault) -> None:
    if not stack.real:
        pytest.skip("the stand-in engine has no previews")
    assert stack.preview(vault.settings) == {}


def test_all_control_planes_are_lost_and_the_cluster_comes_back(
    stack: Site, vault: Vault, tmp_path: Path
) -> None:
    kubectl("create", "configmap", "kept", "--from-literal=word=before-the-snapshot")
    kubectl("create", "secret", "generic", "kept", "--from-literal=word=encrypted-in-etcd")
    on("cp3", f"systemctl start {UNIT}.service")
    kubectl("create", "configmap", "lost", "--from-literal=word=after-the-snapshot")
    snapshot = vault.fetched("cp3", tmp_path)
    before = {name: node["metadata"]["uid"] for name, node in nodes().items()}
    for node in CONTROL_PLANES:
        machines.remove(node)
    ha.start_machines(CONTROL_PLANES)
    recovery = {
        **vault.settings,
        "recoverySnapshot": str(snapshot),
        "recoveryKey": vault.key_file,
    }
    if stack.real:
        found = stack.preview(recovery)
        assert found["create"] >= 1, "the snapshot's way to the first control plane"
        assert "delete" not in found
    stack.up(recovery)
    assert kubectl("get", "configmap", "kept")["data"] == {"word": "before-the-snapshot"}
    assert kubectl("get", "secret", "kept")["data"] == {"word": "ZW5jcnlwdGVkLWluLWV0Y2Q="}
    assert heads_of_secrets("cp3") == {"k8s:enc:secretbox:v1:key"}, (
        "by the key that it brought along"
    )
    names = {item["metadata"]["name"] for item in kubectl("get", "configmaps")["items"]}
    assert "lost" not in names
    after = {name: node["metadata"]["uid"] for name, node in nodes().items()}
    assert after.keys() == before.keys()
    assert {name: after[name] for name in WORKERS} == {name: before[name] for name in WORKERS}
    assert not {after[name] for name in CONTROL_PLANES} & {before[name] for name in CONTROL_PLANES}
    assert members() == set(CONTROL_PLANES)
    assert eventually(lambda: all(map(ready, nodes().values())), 180)
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com")


def test_the_cluster_goes_on_as_before(stack: Site, vault: Vault) -> None:
    """New pods are scheduled, on workers that were there all the time, and reach Services by their names."""
    admin = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace=hello-world"
    on("cp2", f"{admin} delete pods --all")

    def answered() -> bool:
        pods = kubectl("--namespace=hello-world", "get", "pods")["items"]
        return bool(pods) and all(map(ready, pods))

    assert eventually(answered, 180)
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com")


def test_nothing_of_the_recovery_stays(stack: Site, vault: Vault) -> None:
    key = vault.key_file.splitlines()[-1]
    for node in CONTROL_PLANES:
        assert on(node, "ls -d /var/lib/own-kubernetes/recovery 2>/dev/null || true") == ""
        assert on(node, "ls -A /var/lib/etcd") == "member"
        places = "/run/own-kubernetes /var/lib/own-kubernetes /etc/own-kubernetes /var/log"
        assert on(node, f"grep --recursive --files-with-matches '{key}' {places} || true") == ""
    stack.up(vault.settings)
    if stack.real:
        assert stack.preview(vault.settings) == {}
    for node in CONTROL_PLANES:
        assert on(node, f"systemctl is-active {UNIT}.timer") == "active"


def test_taking_the_setting_out_takes_it_away(stack: Site, vault: Vault) -> None:
    stack.up()
    for node in CONTROL_PLANES:
        left = on(
            node,
            f"ls /etc/systemd/system/{UNIT}.timer /etc/own-kubernetes/backup.* 2>/dev/null || true",
        )
        assert left == "", node
        assert on(node, f"ls {FOLDER}"), "snapshots are the user's"


def test_down_leaves_snapshots_only(stack: Site, vault: Vault) -> None:
    stack.up(vault.settings)
    stack.engine.down(stack.told.append)
    for node in CONTROL_PLANES:
        left = on(
            node,
            f"ls -d /etc/kubernetes /var/lib/own-kubernetes /etc/systemd/system/{UNIT}.* "
            "/usr/bin/age 2>/dev/null || true",
        )
        assert left == "", node
        assert on(node, f"ls {FOLDER}")
