"""Helm charts, packed as a chart repository serves them."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from sandbox.mirror import archive, host
from sandbox.mirror.archive import File

DIRECTORY: Final = host.HOME / "www" / "charts"
_OUTSIDE: Final = re.compile(rb'"\$ref"\s*:\s*"https?://')


class Chart(NamedTuple):
    """A chart's directory, and the version that it is served as."""

    source: Path
    name: str
    version: str


def named(source: Path) -> Chart:
    """A chart by the name and version that it says itself."""
    about = yaml.safe_load((source / "Chart.yaml").read_text())
    return Chart(source, about["name"], str(about["version"]))


def publish(chart: Chart) -> None:
    """Pack a chart's directory, with the subcharts that lie in it."""
    files = archive.folder(chart.source, chart.name)
    if named(chart.source).version != chart.version:  # upstream's release tool writes it in
        own = f"{chart.name}/Chart.yaml"
        about = yaml.safe_load((chart.source / "Chart.yaml").read_text())
        about |= {"version": chart.version, "appVersion": chart.version}
        stamped = File(own, yaml.safe_dump(about).encode(), 0o644)
        files = [stamped if file.path == own else file for file in files]
    packed = archive.compress(archive.pack(files))
    host.write(DIRECTORY / f"{chart.name}-{chart.version}.tgz", packed)


def copy(packed: Path) -> None:
    """Take a finished chart, without a schema of values that refers to the internet.

    Helm fetches such references before it installs anything, and has no switch for it that
    every client offers.
    """
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.read_bytes()))) as old,
        tarfile.open(fileobj=plain, mode="w") as new,
    ):
        for info in old:
            data = (old.extractfile(info) or io.BytesIO()).read() if info.isreg() else b""
            if not (info.name.endswith("/values.schema.json") and _OUTSIDE.search(data)):
                new.addfile(info, io.BytesIO(data))
    host.write(DIRECTORY / packed.name, archive.compress(plain.getvalue()))
