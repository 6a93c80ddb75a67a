"""The bill of materials of a cluster: what it is made of, as CycloneDX 1.6 (cyclonedx.org/docs/1.6/json).

    python -m cluster.bom --stack-file Pulumi.mine.yaml --output bom.json

It is made of the stack file and of this program's versions alone, so that the same files give the same bill.
A part whose version others name (the distribution, kubeadm, a chart) stands without one. With ``--kubeconfig``
a cluster that lives is asked: images then have the versions and digests that its nodes have.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from cluster import manifests, versions
from cluster.checks import CHARTS
from cluster.errors import ClusterError
from cluster.manifests import Manifest
from cluster.settings import Settings, of_form
from cluster.status import api

METALLB, NGINX, CCM, CSI, CERT_MANAGER = CHARTS
ROOT = Path(__file__).parent.parent
Images = Mapping[str, Mapping[str, Sequence[str]]]
"""Images that nodes have: by name, then by tag, their digests (``sha256:...``)."""


@dataclass(frozen=True)
class Part:
    """One thing that a cluster is made of.

    Attributes:
        kind: CycloneDX's word for it.
        where: on whose machine it runs: node, cluster (in pods) or operator (who runs this program).
        name: its name; an image's with its registry.
        version: its version or tag, or nothing where others name it.
        purl: package URL without version and digest (github.com/package-url/purl-spec), or nothing.
        qualifiers: of the package URL.
        source: where it is taken from, or nothing.
        note: what else is known of it, or nothing.
        digests: of an image, as nodes have it.
    """

    kind: str
    where: str
    name: str
    version: str = ""
    purl: str = ""
    qualifiers: Mapping[str, str] | None = None
    source: str = ""
    note: str = ""
    digests: Sequence[str] = ()

    def component(self) -> dict[str, Any]:
        """As a component of the bill."""
        noted = {"own-kubernetes:where": self.where, "own-kubernetes:note": self.note}
        values: dict[str, Any] = {
            "type": self.kind,
            "bom-ref": f"{self.where}/{self.name}@{self.version}",
            "name": self.name,
            "version": self.version,
            "purl": self._purl(),
            "hashes": [
                {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}
                for digest in self.digests
            ],
            "externalReferences": [{"type": "distribution", "url": self.source}]
            if self.source
            else [],
            "properties": [
                {"name": name, "value": value} for name, value in noted.items() if value
            ],
        }
        return {key: value for key, value in values.items() if value}

    def _purl(self) -> str:
        if not self.purl:
            return ""
        version = self.digests[0] if len(self.digests) == 1 else self.version
        if self.kind == "container" and not self.digests:
            version = ""  # of an image that is its digest
        pairs = "&".join(
            f"{k}={quote(v, safe='/:')}" for k, v in (self.qualifiers or {}).items() if v
        )
        return f"{self.purl}{version and '@' + quote(version, safe='')}{pairs and '?' + pairs}"


def bill(
    settings: Settings,
    requirements: str,
    live: Images | None = None,
    own: Sequence[Manifest] = (),
) -> dict[str, Any]:
    """The bill of materials.

    Args:
        settings: the stack's settings.
        requirements: text of requirements.txt.
        live: the images that nodes have, where a cluster was asked.
        own: the objects of ``extraManifests``.
    """
    images = {(part.name, part.version): part for part in (*_own_images(own), *_images(settings))}
    parts = [
        *_packages(settings),
        *(found for image in images.values() for found in _as_on_nodes(image, live or {})),
        *_charts(settings),
        *_python(requirements),
    ]
    components = [part.component() for part in parts]
    about = {
        "type": "platform",
        "name": settings.cluster_name,
        "version": settings.kubernetes_version,
    }
    content = json.dumps([about, components], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {**about, "bom-ref": "cluster"}},
        "components": components,
    }


FROM_DISTRIBUTION = ("conntrack", "ethtool", "iptables", "nftables", "openssh-client", "socat")
"""What every node gets of its distribution (``scripts/prepare.sh``); the newest there, signed by it."""


def _packages(settings: Settings) -> Iterator[Part]:
    """Of the nodes. Versions are exact up to the package's own revision (``=1.36.4-*``)."""
    wanted = {
        "kubernetes": {
            **dict.fromkeys(("kubeadm", "kubelet", "kubectl"), settings.kubernetes_version),
            **dict.fromkeys(("cri-tools", "kubernetes-cni"), ""),
        },
        "docker": {"containerd.io": versions.CONTAINERD},
    }
    mirror = settings.mirror.apt
    for (vendor, packages), repository in zip(
        wanted.items(), versions.APT_REPOSITORIES, strict=True
    ):
        source = mirror.uri if mirror else repository.uri.format(minor=settings.minor)
        key = "of the mirror" if mirror else repository.fingerprint
        for name, version in packages.items():
            yield Part(
                *("application", "node", name, version, f"pkg:deb/{vendor}/{name}"),
                source=source,
                note=f"signing key {key}",
            )
    extra = ["keepalived", "curl"] if settings.api_virtual_address else []
    extra += ["age", "curl"] if settings.backup else []
    extra += ["curl", "jq"] if settings.entry == "floating-ips" else []
    extra += ["unattended-upgrades"] if settings.os_updates.enabled else []
    for name in sorted({*FROM_DISTRIBUTION, "openssl", *extra}):
        yield Part("application", "node", name, note="the distribution's version")


def _images(settings: Settings) -> Iterator[Part]:
    kubernetes = f"v{settings.kubernetes_version}"
    default = settings.kubernetes_version == versions.KUBERNETES
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        yield _image(f"registry.k8s.io/{name}:{kubernetes}")
    for name, tag in versions.KUBEADM_IMAGES.items():
        yield _image(
            f"registry.k8s.io/{name}:{tag if default else ''}", "kubeadm names the version"
        )
    own = settings.ingress_version == versions.NGINX_INGRESS_CHART
    hello = settings.hello_image if settings.hello_world else ""
    metallb, tls = settings.entry != "load-balancer", settings.ingress_tls is not None
    for image in versions.images(hello, metallb=metallb, tls=tls):
        if image == versions.NGINX_INGRESS_IMAGE:
            image = image if own else image.rpartition(":")[0] + ":"
            yield _image(image, "the chart names the version")
        else:
            yield _image(image)
    if settings.network_policies:
        yield _image(settings.network_policy_image)
    if settings.os_updates.reboot:
        yield _image(versions.KURED_IMAGE)
    if not settings.hetzner_nodes:
        return
    if settings.hetzner.cloud_controller_manager:
        yield _image(f"docker.io/hetznercloud/{CCM}:v{versions.HCLOUD_CCM}")
    if settings.hetzner.csi_driver:
        yield _image(f"docker.io/hetznercloud/hcloud-csi-driver:v{versions.HCLOUD_CSI}")
        for name in versions.CSI_SIDECARS:
            yield _image(f"registry.k8s.io/sig-storage/{name}:", "the chart names the version")


def _own_images(own: Sequence[Manifest]) -> Iterator[Part]:
    """Of the user's own pods; those of charts stand in no file here."""
    for manifest in own:
        for container in _containers(manifest.body):
            yield _image(container["image"], f"of {manifest.place}")


def _containers(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _containers(item)
    elif isinstance(value, Mapping):
        if isinstance(value.get("image"), str) and isinstance(value.get("name"), str):
            yield value
        for item in value.values():
            yield from _containers(item)


def _image(reference: str, note: str = "") -> Part:
    """An image by tag, or by digest, or without either (a last colon)."""
    named, _, digest = reference.partition("@")
    name, colon, tag = named.rpartition(":")
    if not colon or "/" in tag:
        name, tag = named, ""
    return Part(
        *("container", "cluster", name, tag, f"pkg:oci/{name.rpartition('/')[2]}"),
        qualifiers={"repository_url": name, "tag": tag},
        note=note,
        digests=[digest] if digest else [],
    )


def _as_on_nodes(image: Part, live: Images) -> Iterator[Part]:
    """With the digests that nodes have; once for each tag where none was named."""
    there = live.get(image.name, {})
    for tag in [image.version] if image.version or not there or image.digests else sorted(there):
        found = image.digests or sorted(there.get(tag, ()))
        qualifiers = {"repository_url": image.name, "tag": tag}
        yield replace(image, version=tag, digests=found, qualifiers=qualifiers)


def _charts(settings: Settings) -> Iterator[Part]:
    place, _, ingress = settings.ingress_chart.rpartition("/")
    charts = {(NGINX, ingress): (settings.ingress_version, place)}
    if settings.entry != "load-balancer":
        charts[METALLB, METALLB] = (versions.METALLB, versions.METALLB_REPOSITORY)
    if settings.ingress_tls:
        charts[CERT_MANAGER, CERT_MANAGER] = (
            versions.CERT_MANAGER,
            versions.CERT_MANAGER_REPOSITORY,
        )
    if settings.hetzner_nodes and settings.hetzner.cloud_controller_manager:
        charts[CCM, CCM] = (versions.HCLOUD_CCM, versions.HCLOUD_REPOSITORY)
    if settings.hetzner_nodes and settings.hetzner.csi_driver:
        charts[CSI, CSI] = (versions.HCLOUD_CSI, versions.HCLOUD_REPOSITORY)
    for (key, name), (version, repository) in charts.items():
        mirrored = settings.mirror.charts.get(key, "").replace("{version}", version)
        yield _chart(name, version, repository, mirrored)
    for key, release in settings.helm_releases.items():
        place, _, name = release.chart.removesuffix(".tgz").rpartition("/")
        mirrored = settings.mirror.charts.get(key, "").replace("{version}", release.version)
        yield _chart(name, release.version, release.repo or place, mirrored)


def _chart(name: str, version: str, repository: str, mirrored: str) -> Part:
    return Part(
        *("application", "cluster", name, version, f"pkg:helm/{name}"),
        qualifiers={"repository_url": repository},
        source=mirrored or repository,
    )


def _python(requirements: str) -> Iterator[Part]:
    """Their files' hashes stand in requirements.txt."""
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", requirements, re.MULTILINE):
        yield Part("library", "operator", name, version, f"pkg:pypi/{name.lower()}")


def on_nodes(asked: api.Api) -> Images:
    """The images that a cluster's nodes have (of 50 and more, the largest)."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for node in asked.get("/api/v1/nodes")["items"]:
        for image in node["status"].get("images", []):
            digests = {name.partition("@")[2] for name in image["names"] if "@" in name}
            for name, _, tag in (n.rpartition(":") for n in image["names"] if "@" not in n):
                found[name][tag] |= digests
    return {name: {tag: sorted(d) for tag, d in tags.items()} for name, tags in found.items()}


def stack_settings(stack_file: Path, root: Path = ROOT) -> Settings:
    """A stack file's settings, looked at for their form only; secrets are not read.

    Raises:
        SettingsError: something in it is not of the right form.
    """
    project = yaml.safe_load((root / "Pulumi.yaml").read_text())
    given = (yaml.safe_load(stack_file.read_text()) or {}).get("config") or {}
    prefix = f"{project['name']}:"
    defaults = {
        key: entry["default"] for key, entry in project["config"].items() if "default" in entry
    }
    own = {key.removeprefix(prefix): v for key, v in given.items() if key.startswith(prefix)}
    return of_form({**defaults, **own})


def text(stack_file: Path, kubeconfig: str = "") -> str:
    """The bill of a stack file's cluster, as a file holds it.

    Args:
        stack_file: the stack's file.
        kubeconfig: of the cluster that lives, to ask it; its text, or nothing.

    Raises:
        SettingsError: something in the stack file is not of the right form.
        StatusError: the cluster can't be asked.
    """
    live = on_nodes(api.Api(api.read(kubeconfig))) if kubeconfig else None
    requirements = (ROOT / "requirements.txt").read_text()
    settings = stack_settings(stack_file)
    own, _ = manifests.read(settings.extra_manifests, ROOT)
    return json.dumps(bill(settings, requirements, live, own), indent=2) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cluster.bom", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--stack-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="ask this cluster for digests"
    )
    arguments = parser.parse_args(words)
    try:
        kubeconfig = arguments.kubeconfig.read_text() if arguments.kubeconfig else ""
        made = text(arguments.stack_file, kubeconfig)
        if arguments.output:
            arguments.output.write_text(made)
        else:
            print(made, end="")
    except (ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
