"""Files of the user's own that go to the cluster: manifests, and values and folders of Helm charts.

They are read in every run, before any resource exists, so that what is wrong in them is told in a preview.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cluster import checks
from cluster.errors import Problem
from cluster.places import placed

if TYPE_CHECKING:
    from cluster.settings import HelmReleaseSettings, Settings

SUFFIXES = (".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """As Kubernetes reads YAML: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    head: [(tag, form) for tag, form in found if not tag.endswith(":timestamp")]
    for head, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Manifest:
    """One object.

    Attributes:
        body: all of it.
        place: the file that it is of, and its number there.
    """

    body: Mapping[str, Any]
    place: str

    @property
    def kind(self) -> str:
        """Such as Deployment."""
        return str(self.body["kind"])

    @property
    def group(self) -> str:
        """The API that it is of; nothing for the oldest one."""
        return str(self.body["apiVersion"]).rpartition("/")[0]

    @property
    def name(self) -> str:
        """``namespace/name``, or the name alone where no namespace is given."""
        metadata = self.body["metadata"]
        return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))

    @property
    def balanced(self) -> bool:
        """Whether it takes an address of the pools."""
        spec = self.body.get("spec") or {}
        return self.kind == "Service" and not self.group and spec.get("type") == "LoadBalancer"


def read(paths: Sequence[str], root: Path) -> tuple[list[Manifest], list[Problem]]:
    """The objects of files and of folders' files, in their order, and what is wrong with others.

    Args:
        paths: ``extraManifests``.
        root: where relative paths start.
    """
    found: list[Manifest] = []
    wrong: list[Problem] = []
    for number, path in enumerate(paths):
        key = f"extraManifests.{number}"
        files = _files(placed(root, path))
        if not files:
            expected = f"a file that can be read, or a folder with some ({', '.join(SUFFIXES)})"
            wrong.append(Problem(key, path, expected, "correct the path"))
        for file in files:
            place = path if len(files) == 1 else f"{path}: {file.name}"
            try:
                found += _objects(file, place)
            except _BadFileError as error:
                wrong.append(Problem(key, error.place, error.expected, "correct the file"))
    return found, wrong


def values(path: str, root: Path) -> dict[str, Any]:
    """What stands in a values file; nothing without one.

    Raises:
        ValueError: it is no YAML map.
    """
    if not path:
        return {}
    loaded = json.loads(json.dumps(_parsed(placed(root, path).read_text())[0]))
    if not isinstance(loaded, dict):
        raise ValueError(f"it is a {type(loaded).__name__}")
    return loaded


def problems(settings: Settings, root: Path) -> Iterator[Problem]:
    """Everything wrong with the files that ``extraManifests`` and ``helmReleases`` name."""
    found, wrong = read(settings.extra_manifests, root)
    yield from wrong
    yield from _twice(found)
    yield from _too_many_services(settings, found)
    for name, release in settings.helm_releases.items():
        yield from _values_problems(f"helmReleases.{name}.valuesFile", release.values_file, root)
        yield from _chart_problems(f"helmReleases.{name}", release, root)


class _BadFileError(Exception):
    def __init__(self, place: str, expected: str) -> None:
        self.place, self.expected = place, expected


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    return [path] if path.is_file() else []


def _parsed(text: str) -> list[Any]:
    """The documents of a text.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return list(yaml.load_all(text, _Loader)) or [{}]
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _objects(file: Path, place: str) -> Iterator[Manifest]:
    try:
        documents = _parsed(file.read_text())
    except ValueError as error:
        raise _BadFileError(place, f"YAML that can be read ({error})") from None
    for number, document in enumerate(documents, 1):
        if document:  # comments alone are none
            where = place if len(documents) == 1 else f"{place}: document {number}"
            yield from _of_document(document, where)


def _of_document(document: Any, place: str) -> Iterator[Manifest]:
    if isinstance(document, dict) and document.get("kind") == "List":
        for number, item in enumerate(document.get("items") or [], 1):
            yield from _of_document(item, f"{place}: item {number}")
        return
    try:
        body = json.loads(json.dumps(document))  # as it will travel: keys are texts
    except (TypeError, ValueError):
        raise _BadFileError(place, "nothing but what JSON has too") from None
    if not isinstance(body, dict):
        raise _BadFileError(place, f"a Kubernetes object, a map; it is a {type(body).__name__}")
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    given = {
        "apiVersion": body.get("apiVersion"),
        "kind": body.get("kind"),
        "metadata.name": name,
    }
    missing = [field for field, value in given.items() if not value or not isinstance(value, str)]
    if missing:
        raise _BadFileError(place, f"a Kubernetes object with {', '.join(missing)}")
    manifest = Manifest(body, place)
    if manifest.kind == "Namespace" and manifest.name in (
        *checks.KUBERNETES_NAMESPACES,
        *checks.NAMESPACES,
    ):
        raise _BadFileError(place, f"no namespace that is there already ({manifest.name})")
    yield manifest


def _twice(found: Sequence[Manifest]) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], str] = {}
    for manifest in found:
        identity = (manifest.group, manifest.kind, manifest.name)
        if identity in seen:
            yield Problem(
                "extraManifests",
                manifest.place,
                f"each object once ({manifest.kind} {manifest.name} is in {seen[identity]} too)",
                "remove one of the two",
            )
        seen[identity] = manifest.place


def _too_many_services(settings: Settings, found: Sequence[Manifest]) -> Iterator[Problem]:
    """A Service of type LoadBalancer without an address waits for ever."""
    own = [manifest.name for manifest in found if manifest.balanced]
    services = [*checks.load_balancer_services(settings), *own]
    size = sum(map(len, settings.load_balancer_pools))
    if settings.entry == "layer2" and own and size < len(services):
        yield Problem(
            "loadBalancerPools",
            [str(pool) for pool in settings.load_balancer_pools],
            f"an address for each LoadBalancer Service, also those of extraManifests "
            f"({', '.join(services)}); there are {size}",
            "add addresses of the nodes' network that nothing else uses",
        )


def _values_problems(key: str, path: str, root: Path) -> Iterator[Problem]:
    if not placed(root, path).is_file():
        return  # told already, or none
    try:
        values(path, root)
    except (TypeError, ValueError) as error:
        yield Problem(key, path, f"a YAML map of values ({error})", "correct the file")


def _chart_problems(key: str, release: HelmReleaseSettings, root: Path) -> Iterator[Problem]:
    """A chart that is a folder here has the version that is asked for: Helm would take any."""
    if release.repo or "://" in release.chart:
        return
    about = root / Path(release.chart) / "Chart.yaml"
    if not about.is_file():
        yield Problem(
            f"{key}.chart",
            release.chart,
            "a chart's name with repo, an oci:// reference, the URL of a .tgz, or a chart's folder",
            f"add {key}.repo, or correct the path",
        )
        return
    try:
        version = str(values(str(about), root).get("version"))
    except (TypeError, ValueError) as error:
        version = f"unreadable: {error}"
    if version != release.version:
        yield Problem(
            f"{key}.version",
            release.version,
            f"the version that {release.chart}/Chart.yaml has ({version})",
            "correct one of the two",
        )
