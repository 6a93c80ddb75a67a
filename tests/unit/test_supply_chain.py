"""Nothing is downloaded that is not pinned: by version, checksum, digest, or signing key's fingerprint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster import versions
from sandbox.mirror import builds
from sandbox.mirror.golang import Build
from tests.unit.graph import run_program
from tests.unit.stacks import ROOT

PLACES = (
    *("cluster", "sandbox", "policy", "benchmarks", "Makefile", "Pulumi.yaml", ".ci", ".github"),
    *("requirements.in", "requirements-dev.in"),
)
"""The product and its CI, as far as they are there."""

EXACT = re.compile(r"v?\d+\.\d+(\.\d+)?([-.][a-z0-9.-]+)?")
IMAGE = re.compile(r"[a-z0-9.:-]+(/[a-z0-9._-]+)*(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})")
FILE = r"(--output|--remote-name|-[a-zA-Z]*[oO])\b(?!\s*=?\s*/dev/null)|\|\s*(sudo\s+)?(ba)?sh\b|\|\s*tar\b"
CHECKED = re.compile(r"sha256sum|fingerprint")

UNPINNED: Mapping[str, re.Pattern[str]] = {
    "a version called latest": re.compile(r"(?:[:@=]|version:\s*)[\"']?latest\b"),
    "an action without its commit": re.compile(r"\buses:\s*[^\s@]+@(?![0-9a-f]{40}\b)"),
    # Of our own lists all have hashes (below), and pip wants them for all as soon as one has.
    "a Python package without hash": re.compile(
        r"\b(?:pip3?|pipx|uv(?: tool| pip)?) install\b"
        r"(?!.*(?:--require-hashes|(?:-r|--requirement)[ =](?:\S*/)?requirements[\w-]*\.txt\b))|\buvx\b"
    ),
    "a Go command without version": re.compile(r"\bgo (?:install|run) \S+@(?!v\d+\.\d+\.\d+)"),
    "a package of npm": re.compile(r"\bnpx\b|\bnpm (?:install|i)\b"),
    "a repository without commit": re.compile(r"\bgit clone\b"),
    "a base image without version": re.compile(r"^FROM\s+[^\s:@]+\s*$", re.MULTILINE),
    "a requirement without version": re.compile(
        r"^[A-Za-z][\w.-]+\s*(?:[<>~!]=?.*)?$", re.MULTILINE
    ),
}
"""What is wrong by itself; a requirement in requirements.in only."""

DOWNLOAD = re.compile(rf"\b(?:curl|wget)\b(?=.*(?:{FILE}))")
"""Is wrong where no checksum or fingerprint is looked at soon after."""


def unpinned(text: str, name: str = "") -> Iterator[str]:
    """What a file downloads without knowing what it will get."""
    for what, pattern in UNPINNED.items():
        if what != "a requirement without version" or name.startswith("requirements"):
            yield from (f"{what}: {match[0]}" for match in pattern.finditer(text))
    lines = text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines):
        soon_after = "\n".join(lines[number : number + 12])
        if DOWNLOAD.search(line) and not CHECKED.search(soon_after):
            yield f"a file without checksum: {line.strip()}"


def files() -> Iterator[Path]:
    for place in map(ROOT.joinpath, PLACES):
        below = place.rglob("*") if place.is_dir() else [place]
        for path in below:
            if path.is_file() and not {"__pycache__", ".venv"} & {*path.parts}:
                yield path


def test_nothing_unpinned_is_in_the_product_or_its_ci() -> None:
    seen = {path: path.read_text(errors="replace") for path in files()}
    assert len(seen) > 100
    assert ROOT / "cluster/nodes/scripts/prepare.sh" in seen
    found = [
        f"{path.relative_to(ROOT)}: {f}"
        for path, text in seen.items()
        for f in unpinned(text, path.name)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "image: ghcr.io/x/y:latest", 'version: "latest"', "  uses: actions/checkout@v4",
        "pip install ruff", "uv pip install ruff==1.0", "go install example.com/x@latest",
        "go run example.com/x@main", "npx prettier", "git clone https://example.com/x",
        "FROM debian", "curl -fsSL https://example.com/install | sh", "wget -O x https://example.com/x",
        "curl --location \\\n  --output kubectl https://dl.example.com/kubectl",
        "curl -L https://example.com/x.tgz | tar xz",
    ],
)  # fmt: skip
def test_it_would_be_found(line: str) -> None:
    assert len(list(unpinned(f"before\n{line}\nafter\n"))) >= 1


@pytest.mark.parametrize("line", ["requests", "requests>=2", "requests ~= 2.0"])
def test_a_loose_requirement_would_be_found(line: str) -> None:
    assert list(unpinned(f"{line}\nrequests==2.1 # why\n", "requirements.in")) != []


@pytest.mark.parametrize(
    "line",
    [
        "image: ghcr.io/x/y:v1.2.3", f"  uses: actions/checkout@{'a' * 40} # v4", "go install x.org/y@v1.2.3",
        "pip install --require-hashes --requirement x.txt", "pip install -r policy/requirements.txt",
        "FROM debian:12",
        "curl --silent --output /dev/null https://10.0.0.1:6443/readyz", "curl -fsS http://127.0.0.1/",
        "curl -o x https://example.com/x\nsha256sum --check <<<'abc  x'",
    ],
)  # fmt: skip
def test_what_is_pinned_is_left_alone(line: str) -> None:
    assert list(unpinned(line)) == []


def locked(path: Path) -> dict[str, tuple[str, int]]:
    """A list's packages: version and number of hashes of each."""
    text = path.read_text().replace("\\\n", " ")
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$", text, re.MULTILINE)
    lines = [x for x in text.splitlines() if x and not x.startswith((" ", "#", "--only-binary"))]
    assert len(entries) == len(lines), f"{path}: something else than NAME==VERSION: run `make lock`"
    hashes = r"--hash=sha256:[0-9a-f]{64}"
    return {name: (version, len(re.findall(hashes, more))) for name, version, more in entries}


LISTS = sorted(
    path for path in (*ROOT.glob("requirements*.txt"), *ROOT.glob("policy/requirements*.txt"))
)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_package_has_its_version_and_hashes(path: Path) -> None:
    packages = locked(path)
    assert packages
    assert [name for name, (_, hashes) in packages.items() if hashes < 1] == []
    wanted = re.findall(r"^([\w.-]+)==([\w.]+)", path.with_suffix(".in").read_text(), re.MULTILINE)
    assert wanted
    for name, version in wanted:
        assert packages[re.sub(r"[-_.]+", "-", name).lower()][0] == version, "run `make lock`"


def test_checks_run_with_the_programs_own_packages() -> None:
    run, check = (locked(ROOT / f"requirements{kind}.txt") for kind in ("", "-dev"))
    assert run.items() <= check.items(), "run `make lock`"


def test_package_repositories_have_their_signing_keys_fingerprint() -> None:
    for repository in versions.APT_REPOSITORIES:
        assert re.fullmatch(r"[0-9A-F]{40}", repository.fingerprint)
        assert repository.key_url.startswith("https://")


def test_versions_are_exact() -> None:
    constants = {name: value for name, value in vars(versions).items() if name.isupper()}
    texts = {name: value for name, value in constants.items() if isinstance(value, str)}
    for name, value in texts.items():
        pattern = IMAGE if name.endswith("IMAGE") else EXACT
        assert name.endswith("REPOSITORY") or pattern.fullmatch(value), name
    assert all(EXACT.fullmatch(tag) for tag in versions.KUBEADM_IMAGES.values())


def test_all_images_and_charts_that_the_program_declares_are_pinned() -> None:
    graph = run_program(preview=True)
    images = list(_values([graph.inputs(name) for name in graph.custom()], "image"))
    assert len(images) >= 3
    assert [image for image in images if not IMAGE.fullmatch(image)] == []
    releases = [graph.inputs(name) for name in graph.of_type("kubernetes:helm.sh/v3:Release")]
    assert {EXACT.fullmatch(release["version"]) is not None for release in releases} == {True}


def _values(tree: Any, key: str) -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for item in tree:
            yield from _values(item, key)


def test_what_the_mirror_builds_is_of_an_exact_release() -> None:
    recipes = [value for value in vars(builds).values() if isinstance(value, Build)]
    recipes += [
        builds.kubernetes(versions.KUBERNETES),
        builds.etcd("3.6.8"),
        builds.coredns("1.14.2"),
    ]
    assert len(recipes) >= 10
    assert [
        r.name for r in recipes if r.module and not re.fullmatch(r"v\d+\.\d+\.\d+", r.version)
    ] == []
