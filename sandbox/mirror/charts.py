"""Helm charts, packed as a chart repository serves them."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from pathlib import Path
from typing import Final

from sandbox.mirror import archive, host

DIRECTORY: Final = host.HOME / "www" / "charts"
_OUTSIDE: Final = re.compile(rb'"\$ref"\s*:\s*"https?://')


def publish(source: Path, name: str, version: str) -> None:
    """Pack a chart's directory, with the subcharts that lie in it."""
    packed = archive.compress(archive.pack(archive.folder(source, name)))
    host.write(DIRECTORY / f"{name}-{version}.tgz", packed)


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
