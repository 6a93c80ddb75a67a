"""Container images, written straight into the registry's storage."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.mirror import archive, host
from sandbox.mirror.archive import File

STORAGE: Final = host.HOME / "registry"
_ROOT: Final = STORAGE / "docker" / "registry" / "v2"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image.

    Args:
        name: Repository and tag, without a registry's host (``metallb/speaker:v0.16.2``).
        files: The upper layer.
        debs: Debian packages that make the lower layer; images with the same ones share it.
        base: Further files of the lower layer.
        entrypoint: What runs by default.
        arguments: What it is given by default; without an entrypoint, what runs.
        user: Who runs it; default is root.
    """

    name: str
    files: tuple[File, ...]
    debs: tuple[Path, ...] = ()
    base: tuple[File, ...] = ()
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    user: str = ""

    @property
    def key(self) -> str:
        """Digest of what goes in; built files lie in directories named after their own content."""
        return archive.key(self)


def strip_host(reference: str) -> str:
    """Take the registry's host off: ``registry.k8s.io/pause:3.10`` is served as ``pause:3.10``."""
    head, _, rest = reference.partition("/")
    return rest if rest and ("." in head or ":" in head or head == "localhost") else reference


def sha256(data: bytes) -> str:
    """A digest as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(
    layers: Sequence[bytes],
    entrypoint: Sequence[str],
    user: str,
    arguments: Sequence[str] = (),
) -> bytes:
    """Image configuration for uncompressed layers."""
    run: dict[str, Any] = {"Env": [_PATH], "WorkingDir": "/"}
    if entrypoint:
        run["Entrypoint"] = list(entrypoint)
    if arguments:
        run["Cmd"] = list(arguments)
    if user:
        run["User"] = user
    return _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        }
    )


def manifest(config: bytes, layers: Sequence[bytes]) -> bytes:
    """Image manifest for a configuration and compressed layers."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer) for layer in layers],
        }
    )


def publish(image: Image) -> bool:
    """Build an image into the registry; False when it is there already."""
    stamp = _stamp(image.name)
    if stamp.exists() and stamp.read_text() == image.key:
        return False
    lower = archive.pack(image.base, image.debs) if image.debs or image.base else b""
    layers = [layer for layer in (lower, archive.pack(image.files)) if layer]
    settings = config(layers, image.entrypoint, image.user, image.arguments)
    _store(image.name, settings, layers)
    host.write(stamp, image.key.encode())
    return True


def load(saved: Path) -> list[str]:
    """Take the images of a ``docker save`` archive into the registry; returns their names."""
    names: list[str] = []
    with tarfile.open(saved) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            return file.read() if file else b""

        for entry in json.loads(read("manifest.json")):
            layers = [_plain(read(layer)) for layer in entry["Layers"]]
            for reference in entry["RepoTags"]:
                names.append(strip_host(reference))
                _store(names[-1], read(entry["Config"]), layers)
                # When the archive is taken away again, the mirror's own image is to come back.
                _stamp(names[-1]).unlink(missing_ok=True)
    return names


def served() -> list[str]:
    """Names of all images, as ``repository:tag``."""
    root = _ROOT / "repositories"
    return sorted(
        f"{tags.parent.parent.relative_to(root)}:{tag.name}"
        for tags in root.glob("**/_manifests/tags")
        for tag in tags.iterdir()
    )


def _stamp(name: str) -> Path:
    return host.HOME / "images" / name.replace("/", "_")


def _plain(layer: bytes) -> bytes:
    return gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256(data), "size": len(data)}


def _store(name: str, config: bytes, layers: Sequence[bytes]) -> None:
    """Write an image as the registry (distribution) lays it out on disk.

    That layout is the registry's own and years old. Writing it takes no running server, and the
    same image written twice is the same files.
    """
    repository, _, tag = name.rpartition(":")
    home = _ROOT / "repositories" / repository
    packed = [archive.compress(layer) for layer in layers]
    for data in (config, *packed):
        _blob(data, home / "_layers")
    whole = manifest(config, packed)
    manifests = home / "_manifests"
    digest = _blob(whole, manifests / "revisions")
    _blob(whole, manifests / "tags" / tag / "index")
    host.write(manifests / "tags" / tag / "current" / "link", digest.encode())


def _blob(data: bytes, links: Path) -> str:
    """Store content under its digest and link to it; returns the digest."""
    digest = sha256(data)
    value = digest.removeprefix("sha256:")
    blob = _ROOT / "blobs" / "sha256" / value[:2] / value / "data"
    if not blob.exists():
        host.write(blob, data)
    host.write(links / "sha256" / value / "link", digest.encode())
    return digest
