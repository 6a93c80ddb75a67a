"""The machines' image: a plain Debian 12 tree, made once and shared by all disks as lowest layer.

It holds what a cloud image holds and nothing that a cluster needs; its package sources are empty.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox import site

HOST_PACKAGES: Final = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "depmod": "kmod",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""What the machines need on this host: a command or a file, and the Debian package that has it."""

SUITE: Final = "bookworm"

PACKAGES: Final = (
    "systemd systemd-sysv libpam-systemd dbus udev openssh-server openssh-sftp-server iproute2"
    " iputils-ping kmod procps ca-certificates curl gnupg gpgv apt sudo python3-minimal netbase"
    " less jq cloud-init"
)

_BUILD: Final = [
    "mmdebstrap",
    "--mode=root",
    "--variant=minbase",
    f"--include={PACKAGES.replace(' ', ',')}",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--customize-hook=chroot $1 useradd --create-home --shell=/bin/bash debian",
    "--customize-hook=rm -f $1/etc/ssh/ssh_host_* $1/etc/hostname $1/etc/resolv.conf",
    # A machine has no way to the mirrors in the internet; who prepares it brings the source.
    "--customize-hook=rm -rf $1/etc/apt/sources.list.d/* && : >$1/etc/apt/sources.list",
    SUITE,
]


def ensure_host_packages(wanted: dict[str, str] = HOST_PACKAGES) -> None:
    """Install the host packages whose command or file is missing, quietly.

    Raises:
        RuntimeError: apt-get failed; its output is in the message.
    """
    missing = sorted({package for what, package in wanted.items() if not _present(what)})
    if not missing:
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if _quietly(install).returncode:  # as on a machine whose package lists are empty or old
        _quietly(["apt-get", "update"])
        done = _quietly(install)
        if done.returncode:
            raise RuntimeError(f"{' '.join(install)}:\n{done.stdout[-2000:]}")


def _present(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else bool(shutil.which(what))


def base_image(log: Callable[[str], None] = print) -> Path:
    """The image's tree, made now (in about a minute) if this version of it is not in the cache."""
    target = site.CACHE / _name()
    packages = _packages(target)
    if packages.exists():  # written last
        return target
    with lock(site.CACHE / "base.lock"):
        if not packages.exists():
            log(f"base image: making {target} (about a minute)")
            _build(target)
            _write_packages(target, packages)
    return target


def base_packages() -> Path:
    """The image's packages, one ``name version architecture`` per line."""
    return _packages(base_image())


def _packages(base: Path) -> Path:
    return base.with_name(f"{base.name}.packages")


def _name() -> str:
    return f"base-{hashlib.sha256(repr(_BUILD).encode()).hexdigest()[:12]}"


def _build(target: Path) -> None:
    draft = target.with_name(f"{target.name}.draft")
    for ruin in (draft, target):
        shutil.rmtree(ruin, ignore_errors=True)
    ensure_host_packages()
    done = _quietly([*_BUILD, str(draft)])
    if done.returncode:
        raise RuntimeError(f"mmdebstrap failed:\n{done.stdout[-4000:]}")
    draft.chmod(0o755)
    draft.rename(target)


def _write_packages(tree: Path, file: Path) -> None:
    query = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "--show"]
    wanted = "--showformat=${Package} ${Version} ${Architecture}\n"
    shown = subprocess.run([*query, wanted], capture_output=True, text=True, check=True).stdout
    draft = file.with_suffix(".draft")
    draft.write_text(shown)
    draft.rename(file)


def _quietly(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["env", "DEBIAN_FRONTEND=noninteractive", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this host; the file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
