"""Tar archives that are the same bytes for the same content: layers, packages, charts."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

COMPRESSION: Final = 1
"""Machines are a memory copy away: time to pack and unpack counts, size does not."""

_UNWANTED: Final = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/")


@dataclass(frozen=True)
class File:
    """One file, directory or symbolic link of an archive.

    Args:
        path: Where it goes, without a leading slash.
        content: Bytes, or the file on this host that holds them; a `str` makes a link to that
            path; None makes a directory.
        mode: Permissions; default is those of a command, and of a directory.
        owner: User and group id; default is root.
    """

    path: str
    content: bytes | Path | str | None
    mode: int = 0o755
    owner: int = 0

    def member(self) -> tuple[tarfile.TarInfo, IO[bytes] | None]:
        """Header and content for tarfile."""
        info = tarfile.TarInfo(self.path)
        info.mode, info.uid, info.gid = self.mode, self.owner, self.owner
        if self.content is None:
            info.type = tarfile.DIRTYPE
            return info, None
        if isinstance(self.content, str):
            info.type, info.linkname = tarfile.SYMTYPE, self.content
            return info, None
        data = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        info.size = len(data)
        return info, io.BytesIO(data)


def key(content: object) -> str:
    """Digest of what an archive is made of, and of how: a change here makes all of them again."""
    return hashlib.sha256(repr(content).encode() + Path(__file__).read_bytes()).hexdigest()


def pack(files: Iterable[File], debs: Sequence[Path] = (), prefix: str = "") -> bytes:
    """Make a tar archive.

    Args:
        files: What goes in, in this order; missing parent directories are added.
        debs: Debian packages whose files go in first, without their documentation.
        prefix: Set before every name (``./`` in a Debian package).
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        seen: set[str] = set()
        for deb in debs:
            for info, data in _unpacked(deb, seen):
                tar.addfile(info, data)
        for file in files:
            for info, data in (*_parents(file.path, seen), file.member()):
                seen.add(info.name)
                info.name = prefix + info.name
                tar.addfile(info, data)
    return buffer.getvalue()


def compress(data: bytes) -> bytes:
    """Gzip, quickly and without a time stamp."""
    return gzip.compress(data, COMPRESSION, mtime=0)


def folder(root: Path, prefix: str) -> list[File]:
    """All files below a directory, as plain data, named below `prefix`."""
    return [
        File(f"{prefix}/{path.relative_to(root)}", path, 0o644)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]


def _parents(path: str, seen: set[str]) -> Iterator[tuple[tarfile.TarInfo, None]]:
    for parent in reversed(PurePosixPath(path).parents):
        if str(parent) not in {".", *seen}:
            info, _ = File(str(parent), None).member()
            yield info, None


def _unpacked(deb: Path, seen: set[str]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The files that a package would install."""
    with _opened(deb) as tar:
        for info in tar:
            info.name = info.name.removeprefix("./")
            if info.name in {"", ".", *seen} or f"{info.name}/".startswith(_UNWANTED):
                continue
            seen.add(info.name)
            info.mtime, info.uname, info.gname = 0, "", ""
            if info.islnk():
                info.linkname = info.linkname.removeprefix("./")
            yield info, tar.extractfile(info) if info.isreg() else None


def member(deb: Path, path: str) -> bytes:
    """One file out of a Debian package."""
    with _opened(deb) as tar:
        file = tar.extractfile(f"./{path}")
        return file.read() if file else b""


def _opened(deb: Path) -> tarfile.TarFile:
    unpack = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    data = subprocess.run(unpack, capture_output=True, check=True).stdout
    return tarfile.open(fileobj=io.BytesIO(data))
