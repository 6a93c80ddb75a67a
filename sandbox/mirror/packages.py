"""The apt repository: our own packages of what upstream packages, and Debian's, under one key."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.mirror import archive, host
from sandbox.mirror.archive import File

REPOSITORY: Final = host.HOME / "www" / "apt"
KEY: Final = host.HOME / "key.asc"
"""Public key of the repository, ASCII armoured."""
_KEYRING: Final = host.HOME / "key"
_OWNER: Final = "own-kubernetes sandbox mirror"
_FILES: Final = Path(__file__).parent / "files"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One .deb.

    Args:
        name: Package name.
        version: Debian version.
        summary: One line.
        files: What it installs.
        fields: Further control fields (``Depends`` and the like).
        conffiles: Absolute paths of `files` that belong to the operator once installed.
        unit: systemd unit to enable and start; default is none.
    """

    name: str
    version: str
    summary: str
    files: tuple[File, ...]
    fields: tuple[tuple[str, str], ...] = ()
    conffiles: tuple[str, ...] = ()
    unit: str = ""

    @property
    def filename(self) -> str:
        """File name in the repository."""
        return f"{self.name}_{self.version}_amd64.deb"

    @property
    def key(self) -> str:
        """Digest of what goes in; built files lie in directories named after their own content."""
        return archive.key(self)


def stanza(fields: Mapping[str, str]) -> str:
    """Render one paragraph of Debian's control format."""
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def data_file(name: str) -> bytes:
    """Content of a file that we ship beside this module."""
    return (_FILES / name).read_bytes()


def render(package: Package) -> bytes:
    """Make the .deb: an ``ar`` archive of a format version, control data and files."""
    control = stanza(
        {
            "Package": package.name,
            "Version": package.version,
            "Architecture": "amd64",
            "Maintainer": f"{_OWNER} <root@localhost>",
            **dict(package.fields),
            "Description": package.summary,
        }
    )
    about = [File("control", control.encode(), 0o644)]
    if package.conffiles:
        about.append(
            File("conffiles", "".join(f"{c}\n" for c in package.conffiles).encode(), 0o644)
        )
    if package.unit:
        about += [
            File(script, data_file(f"{script}.sh").replace(b"@UNIT@", package.unit.encode()))
            for script in ("postinst", "prerm", "postrm")
        ]
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": archive.compress(archive.pack(about, prefix="./")),
        "data.tar.gz": archive.compress(archive.pack(package.files, prefix="./")),
    }
    return b"!<arch>\n" + b"".join(_member(name, data) for name, data in members.items())


def _member(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
    return head.encode() + data + b"\n" * (len(data) % 2)


def publish(package: Package) -> bool:
    """Put a package into the repository; False when it is there already. `index` comes after."""
    stamp = host.HOME / "packages" / package.filename
    target = REPOSITORY / package.filename
    if target.exists() and stamp.exists() and stamp.read_text() == package.key:
        return False
    host.write(target, render(package))
    host.write(stamp, package.key.encode())
    return True


def add(debs: Sequence[Path]) -> bool:
    """Put finished packages into the repository; False when all are there already."""
    REPOSITORY.mkdir(parents=True, exist_ok=True)
    missing = [deb for deb in debs if not (REPOSITORY / deb.name).exists()]
    for deb in missing:
        shutil.copyfile(deb, REPOSITORY / deb.name)
    return bool(missing)


def index() -> None:
    """Write and sign the repository's lists."""
    paragraphs = [_entry(deb) for deb in sorted(REPOSITORY.glob("*.deb"))]
    listing = "\n".join(paragraphs).encode()
    lists = {"Packages": listing, "Packages.gz": gzip.compress(listing, mtime=0)}
    for name, data in lists.items():
        host.write(REPOSITORY / name, data)
    text = release(lists, time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime()))
    host.write(REPOSITORY / "Release", text.encode())
    host.write(REPOSITORY / "InRelease", _signed(text).encode())


def release(lists: Mapping[str, bytes], date: str) -> str:
    """Render the Release file that vouches for the lists."""
    sums = [
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}" for name, data in lists.items()
    ]
    fields = {"Origin": _OWNER, "Label": _OWNER, "Architectures": "amd64", "Date": date}
    return stanza({**fields, "SHA256": "\n" + "\n".join(sums)})


def entry(control: str, name: str, data: bytes) -> str:
    """Render a package's paragraph of the Packages list."""
    place = {"Filename": f"./{name}", "Size": str(len(data))}
    return control.rstrip() + "\n" + stanza({**place, "SHA256": hashlib.sha256(data).hexdigest()})


def _entry(deb: Path) -> str:
    return entry(host.run(["dpkg-deb", "--field", deb]), deb.name, deb.read_bytes())


def _signed(text: str) -> str:
    """Sign with the mirror's own key, which is made on first use and never leaves the cache."""
    gpg: list[str | Path] = ["gpg", "--batch", "--quiet", "--homedir", _KEYRING]
    new = not KEY.exists()
    _KEYRING.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if new:
            make = ["--passphrase", "", "--quick-generate-key", _OWNER, "ed25519", "sign", "never"]
            host.run([*gpg, *make])
            host.write(KEY, host.run([*gpg, "--armor", "--export"]).encode())
        return host.run([*gpg, "--clearsign"], stdin=text)
    finally:
        host.run(["gpgconf", "--homedir", _KEYRING, "--kill", "gpg-agent"])
