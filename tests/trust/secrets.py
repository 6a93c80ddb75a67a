"""A cluster is brought up and taken down, and its secrets are searched for wherever others could look.

    python -m tests.trust.secrets      # writes docs/secrets-searched.md

The dev stack on machines of its own, with backups that are uploaded; by the Pulumi CLI where it is on the PATH.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sandbox import dev, machines, mirror, site, stacks
from sandbox.engine import Engine
from sandbox.engine.real import RealEngine
from sandbox.engine.standin import StandinEngine
from sandbox.machines import login
from tests.live.cluster import keep_kubeconfig, kubectl, on
from tests.s3 import S3
from tests.trust.needles import Needles, modes, secrets_in
from tests.trust.watch import File, Watch, files_below

PAGE = site.ROOT / "docs" / "secrets-searched.md"
KEPT = ("etc/kubernetes", "etc/own-kubernetes", "etc/ssh", "var/lib/kubelet/pki")
"""Where a node's own secrets lie."""

LOOKED_AT = {
    "logs": ("var/log",),
    "temporary files": ("tmp", "var/tmp", "run/own-kubernetes"),
    "homes": ("root", "home"),
    "the program's own files": ("usr/local/lib/own-kubernetes", "var/lib/own-kubernetes"),
    "units": ("etc/systemd/system", "run/systemd/transient", "run/systemd/system"),
}
"""Where none may be, after a run."""

TEMPORARY = site.STATE / "tmp"
"""Where the engine, and what it runs here, puts temporary files."""


class Place(NamedTuple):
    """What was searched, how much of it, and the names of the secrets that were there."""

    what: str
    amount: str
    hits: Sequence[str]


@dataclass
class Sight:
    """All that was to be seen of a run.

    Attributes:
        watch: processes and files in flight.
        told: what the engine said, and what its previews showed.
    """

    watch: Watch
    told: list[str] = field(default_factory=list)

    def log(self, line: str) -> None:
        """Print a line of the engine's, and keep it."""
        print(line)
        self.told.append(line)


@contextmanager
def watched(nodes: Sequence[str]) -> Iterator[Sight]:
    """Look at the machines, and at temporary files here, while something runs."""
    TEMPORARY.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(TEMPORARY)
    try:
        with Watch(nodes, [TEMPORARY]) as watch:
            yield Sight(watch)
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def all_secrets(nodes: Sequence[str], sight: Sight) -> dict[str, list[str]]:
    """Every secret of a stack that is up, by what it is called."""
    found = {f"{node}:/{path}": texts for node in nodes for path, texts in _kept(node)}
    found |= {f"in flight: {f.place}": secrets_in(_text(f)) for f in sight.watch.files}
    found |= dict(_of_the_cluster())
    found["login key"] = secrets_in(site.SSH_KEY.read_text())
    found["kubeconfig"] = secrets_in(site.KUBECONFIG.read_text())
    passphrase = site.STATE / "engine" / "passphrase"
    if passphrase.exists():
        found["passphrase of the state"] = [passphrase.read_text()]
    return {name: texts for name, texts in found.items() if texts}


def _root(node: str) -> Path:
    return Path("/proc", str(login.leader(node)), "root")


def _kept(node: str) -> Iterator[tuple[str, list[str]]]:
    root = _root(node)
    for folder in KEPT:
        for path in files_below(root / folder):
            yield str(path.relative_to(root)), secrets_in(path.read_text(errors="replace"))


def _text(file: File) -> str:
    return file.data.decode(errors="replace")


def _of_the_cluster() -> Iterator[tuple[str, list[str]]]:
    """What the API's Secrets hold, but for certificates and releases of Helm."""
    for secret in kubectl("get", "secrets", "--all-namespaces")["items"]:
        if secret["type"] == "helm.sh/release.v1":
            continue
        for key, encoded in (secret.get("data") or {}).items():
            text = base64.b64decode(encoded).decode(errors="replace")
            about = secret["metadata"]
            name = f"Secret {about['namespace']}/{about['name']}: {key}"
            if "PRIVATE KEY" in text:
                yield name, secrets_in(text)
            elif "BEGIN CERTIFICATE" not in text and len(text) >= 16:
                yield name, [text[:60]]


def searched(nodes: Sequence[str], needles: Needles, sight: Sight) -> list[Place]:
    """Search everything that others could see, while the cluster is up."""
    watch = sight.watch
    return [
        _seen("command lines, of hosts and here", watch.command_lines, needles),
        _seen("environments of the hosts' processes", watch.environments, needles),
        _in_flight(watch.files, needles),
        _seen("what the engine said and its previews showed", map(str.encode, sight.told), needles),
        *_state(needles),
        _on_disk("temporary files here", [TEMPORARY], needles),
        *(
            _on_disk(f"hosts: {what}", [_root(n) / p for n in nodes for p in paths], needles)
            for what, paths in LOOKED_AT.items()
        ),
        _seen("hosts: journals", (_journal(node) for node in nodes), needles),
        _open_to_others(nodes, needles),
    ]


def _seen(what: str, texts: Iterable[bytes], needles: Needles) -> Place:
    kept = list(texts)
    size = sum(map(len, kept)) // 1024
    return Place(what, f"{len(kept)}, {size} KiB", sorted(needles.within(b"\n".join(kept))))


def _in_flight(files: Sequence[File], needles: Needles) -> Place:
    """Secrets in flight are in files that nobody but root can read."""
    secret = [file for file in files if needles.within(file.data)]
    hits = [f"{file.place} ({file.mode:o})" for file in secret if file.mode & 0o077]
    amount = f"{len(files)} seen, {len(secret)} of them with a secret"
    return Place("files in flight that others than root may read", amount, hits)


def _on_disk(what: str, places: Sequence[Path], needles: Needles) -> Place:
    count = sum(1 for place in places for _ in files_below(place))
    found = needles.within_files(*places)
    hits = [f"{path}: {', '.join(sorted(names))}" for path, names in found.items()]
    return Place(what, f"{count} files", hits)


def _state(needles: Needles) -> list[Place]:
    """The stand-in has no state; what it keeps instead is in clear, and is for nobody else to read."""
    folder = site.STATE / "engine" / "state"
    return (
        [_on_disk("state, its history and backups", [folder], needles)] if folder.exists() else []
    )


def _journal(node: str) -> bytes:
    return on(
        node, "journalctl --no-pager --quiet --all --output=export --output-fields=MESSAGE,_CMDLINE"
    ).encode()


def _open_to_others(nodes: Sequence[str], needles: Needles) -> Place:
    places = [_root(node) / folder for node in nodes for folder in KEPT]
    secret = needles.within_files(*places)
    hits = [f"{path} ({mode:o})" for path, mode in modes(secret)]
    return Place("hosts: files with a secret that others may read", f"{len(secret)} files", hits)


# The run of its own


def stack_file(storage: S3) -> Path:
    """The dev stack with backups, whose credentials are one more secret on a control plane."""
    made = subprocess.run(["age-keygen"], check=True, capture_output=True, text=True).stdout
    backup = {
        "publicKey": made.split("public key: ")[1].split()[0],
        "s3": {"endpoint": storage.url, "region": storage.region, "bucket": storage.bucket},
    }
    config = yaml.safe_load((site.ROOT / f"Pulumi.{dev.STACK}.yaml").read_text())["config"]
    values = {key.removeprefix(stacks.PREFIX): value for key, value in config.items()}
    return stacks.write(
        dev.STACK, values, {"backup": backup, "backupS3Credentials": storage.credentials}
    )


def report(
    engine: str, places: Sequence[Place], secrets: Mapping[str, Sequence[str]], looks: int
) -> str:
    """The page."""
    kinds = Counter[str]()
    for name, texts in secrets.items():
        kinds[_kind(name)] += len(texts)
    lines = [
        "# Where secrets were searched for",
        "",
        f"Made by `python -m tests.trust.secrets` (engine: {engine}).",
        "The dev stack with uploaded backups was brought up, brought up again, and taken down. Each secret was",
        "searched for in clear and in anybody's base64. Processes and files in flight were looked at",
        f"{looks} times, about four times a second: what lived for less than that may have been missed.",
        "",
        "| place | looked at | hits |",
        "|---|---|---|",
        *(f"| {p.what} | {p.amount} | {'<br>'.join(p.hits) or 'none'} |" for p in places),
        "",
        f"The secrets ({sum(kinds.values())}):",
        "",
        *(f"- {kind}: {count}" for kind, count in sorted(kinds.items())),
    ]
    return "\n".join(lines) + "\n"


def _kind(name: str) -> str:
    """What secrets of a sort are called together."""
    if name.startswith("in flight"):
        return "in files in flight"
    if name.startswith("Secret"):
        return f"in Secrets of {name.split()[1].split('/')[0]}"
    node, path, _ = name.partition(":/")
    return f"in files of {node}" if path else name


def run(engine: Engine, storage: S3) -> tuple[list[Place], dict[str, list[str]], int]:
    """Up, up again, and down, on machines that are there."""
    nodes = list(dev.stack_nodes())
    with watched(nodes) as sight:
        if isinstance(engine, RealEngine):
            engine.preview(sight.log)
        outputs = engine.up(sight.log)
        keep_kubeconfig(outputs["kubeconfig"])
        found = all_secrets(nodes, sight)
        found["storage's credentials"] = [storage.credentials.partition(":")[2]]
        engine.up(sight.log)
        found |= all_secrets(nodes, sight)
        needles = Needles(found)
        places = searched(nodes, needles, sight)
        engine.down(sight.log)
        places.append(_seen("command lines during destroy", sight.watch.command_lines, needles))
        gone = [f.place for f in sight.watch.files if needles.within(f.data) and _is_there(f.place)]
    places.append(Place("files in flight that are still there", "after destroy", gone))
    return places, found, sight.watch.looks


def _is_there(place: str) -> bool:
    node, _, path = place.rpartition(":/")
    return (_root(node) / path if node else Path(place)).exists()


def main() -> int:
    """Bring the site up, search, write the page; returns 1 where anything was found."""
    if left := machines.leftovers():
        raise SystemExit(f"a sandbox is there already, take it down first (make down): {left}")
    try:
        dev.start_site()
        storage = S3(str(site.HOST), secret_key=secrets.token_urlsafe(30))
        kind: Any = RealEngine if shutil.which("pulumi") else StandinEngine
        engine: Engine = kind(stack=dev.STACK, stack_file=stack_file(storage))
        places, found, looks = run(engine, storage)
        storage.close()
    finally:
        mirror.stop()
        machines.down()
        shutil.rmtree(site.STATE, ignore_errors=True)
    PAGE.write_text(report(engine.name, places, found, looks))
    print(PAGE.read_text())
    return 1 if any(place.hits for place in places) else 0


if __name__ == "__main__":
    sys.exit(main())
