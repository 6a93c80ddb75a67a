"""The mirror's pure parts: what is written, without network, compiler or server."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from cluster import versions
from sandbox.mirror import archive, builds, charts, host, oci, packages, parts, servers
from sandbox.mirror.archive import File
from sandbox.mirror.errors import MirrorError
from sandbox.mirror.golang import Build, edit_mod, tree_digest
from sandbox.mirror.oci import Image
from sandbox.mirror.packages import Package


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host, "HOME", tmp_path)
    monkeypatch.setattr(oci, "_ROOT", tmp_path / "registry")
    monkeypatch.setattr(packages, "REPOSITORY", tmp_path / "apt")
    monkeypatch.setattr(charts, "DIRECTORY", tmp_path / "charts")
    return tmp_path


def tar_bytes(files: dict[str, bytes]) -> bytes:
    return archive.pack([File(name, data, 0o644) for name, data in files.items()])


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar}


def ar_members(data: bytes) -> dict[str, bytes]:
    """Read an ``ar`` archive by the format's own description."""
    assert data.startswith(b"!<arch>\n")
    found, at = {}, 8
    while at < len(data):
        head = data[at : at + 60]
        assert head[58:] == b"`\n"
        size = int(head[48:58])
        found[head[:16].decode().strip()] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


# versions


@pytest.mark.parametrize(("text", "numbers"), [("1.36.4", (1, 36, 4)), ("1.31.0", (1, 31, 0))])
def test_a_version_is_three_numbers(text: str, numbers: tuple[int, int, int]) -> None:
    assert builds.parse(text) == numbers


@pytest.mark.parametrize("text", ["v1.36.4", "1.36", "2.0.0", "1.36.4-rc.1", "", "1.36.4\n"])
def test_another_form_of_version_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(MirrorError, match=r"expected 1\.MINOR\.PATCH"):
        builds.parse(text)


def test_kubernetes_is_stamped_like_a_release() -> None:
    build = builds.kubernetes("1.37.2")
    assert build.staging == "v0.37.2"
    assert build.stamps["k8s.io/component-base/version.gitVersion"] == "v1.37.2"
    assert build.stamps["k8s.io/client-go/pkg/version.gitMinor"] == "37"
    assert "./cmd/kube-proxy" in build.packages


# go.mod

KUBERNETES_MOD = """\
module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	github.com/spf13/cobra v1.10.2
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/code-generator => ./staging/src/k8s.io/code-generator
)
"""


def test_staging_modules_come_from_the_proxy_in_the_same_release() -> None:
    edited = edit_mod(KUBERNETES_MOD, builds.kubernetes("1.36.4")).splitlines()
    assert "\tk8s.io/api => k8s.io/api v0.36.4" in edited
    assert "\tk8s.io/code-generator => k8s.io/code-generator v0.36.4" in edited
    assert edited[:9] == KUBERNETES_MOD.splitlines()[:9]


def test_siblings_without_a_common_release_are_left_to_their_requirement() -> None:
    mod = (
        "require go.etcd.io/etcd/api/v3 v3.6.8\n"
        "replace (\n\tgo.etcd.io/etcd/api/v3 => ../api\n)\n"
        "replace go.etcd.io/etcd => ./FORBIDDEN_DEPENDENCY\n"
        "replace example.org/a => example.org/b v1.0.0\n"
    )
    assert edit_mod(mod, builds.etcd("3.6.8")) == (
        "require go.etcd.io/etcd/api/v3 v3.6.8\n"
        "replace (\n)\n"
        "replace example.org/a => example.org/b v1.0.0\n"
    )


def test_a_module_that_is_not_to_be_had_is_dropped_or_replaced(tmp_path: Path) -> None:
    build = Build(
        name="x", version="v1", packages=(), drop=("a.org/sdk",), replace={"b.org/types": tmp_path}
    )
    mod = "require (\n\ta.org/sdk v1.3.0\n\ta.org/sdk/other v1.0.0\n\tb.org/types v0.1.0\n)\n"
    assert edit_mod(mod, build) == (
        "require (\n\ta.org/sdk/other v1.0.0\n\tb.org/types v0.1.0\n)\n"
        f"replace b.org/types => {tmp_path}\n"
    )


def test_what_only_some_clusters_ask_for_is_not_built_by_default() -> None:
    default = {part.name for part in parts.all_parts("1.36.4")}
    optional = {part.name for part in parts.optional_parts("1.36.4")}
    assert optional == {"kube-router", "conformance", "cert-manager"}
    assert not optional & default
    libraries = (builds.HERE / "cert-manager" / "go.mod").read_text()
    assert f"cert-manager {versions.CERT_MANAGER}\n" in libraries, (
        "of the release whose chart it is"
    )


def test_a_build_is_named_after_all_that_goes_in(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main\n")
    before = builds.local(tmp_path).output
    assert builds.local(tmp_path).output == before
    (tmp_path / "main.go").write_text("package main // changed\n")
    assert builds.local(tmp_path).output != before
    assert builds.etcd("3.6.8").output != builds.etcd("3.6.9").output


def test_a_digest_sees_names_as_well_as_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = tree_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert tree_digest(tmp_path) != before


# archives


def test_an_archive_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    first = archive.compress(archive.pack([File("usr/bin/x", source)]))
    source.touch()
    assert archive.compress(archive.pack([File("usr/bin/x", source)])) == first


def test_an_archive_has_parents_links_modes_and_owners() -> None:
    found = members(
        archive.pack(
            [File("usr/bin/x", b"x"), File("usr/bin/y", "x"), File("var/z", None, 0o700, 9)]
        )
    )
    assert list(found) == ["usr", "usr/bin", "usr/bin/x", "usr/bin/y", "var", "var/z"]
    assert found["usr/bin"].isdir()
    assert found["usr/bin/y"].linkname == "x"
    assert (found["var/z"].mode, found["var/z"].uid) == (0o700, 9)
    assert {info.mtime for info in found.values()} == {0}


def test_debian_files_come_first_and_without_documentation(tmp_path: Path) -> None:
    files = (File("usr/share/doc/a", b"long"), File("usr/sbin/a", b"a"), File("etc/a", b"1"))
    deb = tmp_path / "a.deb"
    deb.write_bytes(packages.render(Package(name="a", version="1", summary="a", files=files)))
    found = members(archive.pack([File("usr/sbin/b", "a")], [deb]))
    assert [name for name, info in found.items() if not info.isdir()] == [
        "usr/sbin/a",
        "etc/a",
        "usr/sbin/b",
    ]
    assert archive.member(deb, "usr/sbin/a") == b"a"


# images


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("registry.k8s.io/kube-apiserver:v1.36.4", "kube-apiserver:v1.36.4"),
        ("docker.io/nginx/nginx-ingress:5.5.4", "nginx/nginx-ingress:5.5.4"),
        ("localhost:5000/a/b:c", "a/b:c"),
        ("nginx/nginx-ingress:5.5.4", "nginx/nginx-ingress:5.5.4"),
        ("pause:3.10", "pause:3.10"),
    ],
)
def test_images_are_served_without_their_registry(reference: str, name: str) -> None:
    assert oci.strip_host(reference) == name


def test_a_manifest_vouches_for_its_parts() -> None:
    config = oci.config([b"plain"], ["/x"], "5:5", ["y"])
    manifest = json.loads(oci.manifest(config, [b"packed"]))
    assert json.loads(config)["rootfs"]["diff_ids"] == [oci.sha256(b"plain")]
    told = json.loads(config)["config"]
    assert (told["Entrypoint"], told["Cmd"], told["User"]) == (["/x"], ["y"], "5:5")
    assert manifest["config"]["digest"] == oci.sha256(config)
    assert manifest["layers"][0]["digest"] == oci.sha256(b"packed")
    assert manifest["layers"][0]["size"] == len(b"packed")


def test_an_image_is_written_as_the_registry_reads_it(cache: Path) -> None:
    image = Image(name="a/b:v1", files=(File("x", b"x"),), base=(File("etc/y", b"y"),))
    assert oci.publish(image)
    assert not oci.publish(image)
    assert oci.served() == ["a/b:v1"]
    tag = cache / "registry/repositories/a/b/_manifests/tags/v1/current/link"
    manifest = json.loads(blob(cache, tag.read_text()))
    layers = [gzip.decompress(blob(cache, layer["digest"])) for layer in manifest["layers"]]
    assert [list(members(layer)) for layer in layers] == [["etc", "etc/y"], ["x"]]
    for part in (manifest["config"], *manifest["layers"]):
        link = (
            cache / "registry/repositories/a/b/_layers" / part["digest"].replace(":", "/") / "link"
        )
        assert link.read_text() == part["digest"]


def blob(cache: Path, digest: str) -> bytes:
    value = digest.removeprefix("sha256:")
    return (cache / "registry/blobs/sha256" / value[:2] / value / "data").read_bytes()


def test_a_saved_image_takes_the_place_of_ours_until_it_is_gone(cache: Path) -> None:
    ours = Image(name="a/b:v1", files=(File("x", b"x"),))
    oci.publish(ours)
    layer = tar_bytes({"real": b"real"})
    entry = [{"Config": "c.json", "RepoTags": ["docker.io/a/b:v1"], "Layers": ["l/layer.tar"]}]
    saved = cache / "real.tar"
    files = {"c.json": oci.config([layer], [], ""), "l/layer.tar": layer}
    saved.write_bytes(tar_bytes({**files, "manifest.json": json.dumps(entry).encode()}))
    assert oci.load(saved) == ["a/b:v1"]
    tag = cache / "registry/repositories/a/b/_manifests/tags/v1/current/link"
    real = tag.read_text()
    assert oci.publish(ours)
    assert tag.read_text() != real


# packages


def test_a_package_holds_its_control_files_and_unit() -> None:
    package = Package(
        name="kubelet",
        version="1.36.4-1.1",
        summary="Node agent",
        fields=(("Depends", "mount"),),
        files=(File("usr/bin/kubelet", b"\x7fELF"), File("etc/default/kubelet", b"", 0o644)),
        conffiles=("/etc/default/kubelet",),
        unit="kubelet.service",
    )
    parted = ar_members(packages.render(package))
    assert list(parted) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    with tarfile.open(fileobj=io.BytesIO(parted["control.tar.gz"])) as tar:
        control = tar.extractfile("./control")
        script = tar.extractfile("./postinst")
        assert control is not None
        assert script is not None
        assert control.read().decode().splitlines()[:3] == [
            "Package: kubelet",
            "Version: 1.36.4-1.1",
            "Architecture: amd64",
        ]
        text = script.read().decode()
        assert '"kubelet.service"' in text
        assert "@UNIT@" not in text
    assert "./usr/bin/kubelet" in members(gzip.decompress(parted["data.tar.gz"]))


def test_a_package_is_listed_with_its_place_and_sum() -> None:
    assert packages.entry("Package: a\nVersion: 1\n\n", "a_1_amd64.deb", b"abc") == (
        "Package: a\n"
        "Version: 1\n"
        "Filename: ./a_1_amd64.deb\n"
        "Size: 3\n"
        "SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
    )


def test_the_release_file_sums_the_lists() -> None:
    lines = packages.release({"Packages": b"abc"}, "Sun, 22 Nov 2026 00:00:00 UTC").splitlines()
    assert "Date: Sun, 22 Nov 2026 00:00:00 UTC" in lines
    assert lines[-2].startswith("SHA256:")
    assert lines[-1].split()[1:] == ["3", "Packages"]


@pytest.mark.parametrize(("version", "needs_crictl"), [("1.31.0", True), ("1.36.4", False)])
def test_kubeadm_depends_as_upstream_of_that_minor_does(version: str, needs_crictl: bool) -> None:
    (part, *_) = parts.all_parts(version)
    kubelet, kubeadm, _ = part.packages()
    assert ("Depends" in dict(kubeadm.fields)) is needs_crictl
    assert kubeadm.version == f"{version}-1.1"
    assert "kubernetes-cni" in dict(kubelet.fields)["Depends"]


# charts


@pytest.mark.parametrize(
    ("schema", "kept"),
    [(b'{"$ref": "https://example.org/s.json"}', False), (b'{"$ref": "#/definitions/a"}', True)],
)
def test_a_chart_from_outside_keeps_only_a_schema_that_needs_no_internet(
    cache: Path, schema: bytes, kept: bool
) -> None:
    packed = cache / "real-1.0.0.tgz"
    files = {"real/Chart.yaml": b"name: real\n", "real/values.schema.json": schema}
    packed.write_bytes(archive.compress(tar_bytes(files)))
    charts.copy(packed)
    names = members(gzip.decompress((cache / "charts/real-1.0.0.tgz").read_bytes()))
    assert "real/Chart.yaml" in names
    assert ("real/values.schema.json" in names) is kept


# servers


def test_a_process_that_is_not_ours_is_never_taken_for_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_STATE", tmp_path)
    server = servers.Server("files", (), "", {})
    assert server.pid() is None
    server.pid_file.write_text("1 0")  # process 1 exists, but was not started then
    assert server.pid() is None
