"""The machines' disks: what a provider's cloud-init would write, laid over the shared image.

``machines/NAME/`` below the state directory holds ``upper`` and ``work`` (the overlay), ``var-lib``,
``spec.json``, ``boots`` (how often it was booted), ``unplugged`` (while its link is down),
``wiring.json`` (of a server with routed ports) and ``console.log``. A power cut takes what the machine
had in its memory, but not what lies in this host's page cache: a file that was written and not synced
survives here, where hardware may lose it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sandbox import site
from sandbox.machines.network import EDGE, RESERVED

DIRECTORY: Final = site.STATE / "machines"

_FILES: Final = Path(__file__).parent / "files"
_IDENTITY: Final = Path(__file__).parent / "identity"

# Units that mean nothing on a machine without a kernel and hardware of its own.
_MASKED: Final = (
    "console-getty.service dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer"
    " getty.target sys-kernel-debug.mount sys-kernel-tracing.mount systemd-pstore.service"
    " systemd-udev-trigger.service systemd-udevd.service systemd-udevd-control.socket"
    " systemd-udevd-kernel.socket"
)

# Kernel modules that machines may ask for. This host loads what it has; to the machines all are
# built in, so that modprobe succeeds there without a right to load anything.
_MODULES: Final = (
    "fs/overlayfs/overlay net/bridge/bridge net/bridge/br_netfilter drivers/net/vxlan/vxlan"
    " drivers/net/veth net/netfilter/nf_conntrack net/netfilter/nf_nat net/netfilter/nf_tables"
    " net/netfilter/xt_conntrack net/ipv4/netfilter/ip_tables net/ipv4/netfilter/iptable_nat"
    " net/ipv4/netfilter/iptable_filter net/netfilter/ipvs/ip_vs net/netfilter/ipvs/ip_vs_rr"
)


@dataclass(frozen=True)
class MachineSpec:
    """One machine: what it is called, where it answers, and what it may use.

    ``memory_mib`` is a hard bound, in MiB. ``cpus`` is a share of time; all processors are visible.

    Raises:
        ValueError: a name that is no host name or is taken, an address outside the site's network,
            or bounds in which nothing boots.
    """

    name: str
    address: IPv4Address
    memory_mib: int = 3072
    cpus: float = 2

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "x").isalnum() and self.name.isascii()
        if not plain or not self.name[0].isalpha() or not self.name.islower():
            raise ValueError(f"machine name {self.name!r}: letters, digits and '-', a letter first")
        if len(self.name) > 15:  # it is also the name of a network interface
            raise ValueError(f"machine name {self.name!r}: 15 characters at most")
        if self.name in RESERVED or self.name.endswith("-"):
            raise ValueError(f"machine name {self.name!r}: taken by the network, or ends in '-'")
        taken = (site.HOST, EDGE, site.NETWORK.network_address, site.NETWORK.broadcast_address)
        if self.address not in site.NETWORK or self.address in taken:
            raise ValueError(f"{self.name}: {self.address} is no free host of {site.NETWORK}")
        if self.memory_mib < 128 or not 0.1 <= self.cpus <= 1024:
            raise ValueError(f"{self.name}: at least 128 MiB and 0.1 cpus")

    @classmethod
    def parse(cls, text: str) -> MachineSpec:
        """Read ``NAME=ADDRESS[:MEMORY_MIB[:CPUS]]``.

        >>> MachineSpec.parse("w1=10.77.0.21:2048").memory_mib
        2048
        """
        name, _, rest = text.partition("=")
        address, *bounds = rest.split(":")
        try:
            if len(bounds) > 2:
                raise ValueError("too many parts")
            numbers = {"memory_mib": int(bounds[0])} if bounds else {}
            cpus = {"cpus": float(bounds[1])} if len(bounds) == 2 else {}
            return cls(name, IPv4Address(address), **numbers, **cpus)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{text!r} is not NAME=ADDRESS[:MEMORY_MIB[:CPUS]]: {error}") from None


def home(name: str) -> Path:
    """The directory of a machine."""
    return DIRECTORY / name


def load(name: str) -> MachineSpec:
    """The machine of this name.

    Raises:
        LookupError: there is none.
    """
    try:
        found = json.loads((home(name) / "spec.json").read_text())
    except FileNotFoundError:
        raise LookupError(
            f"no machine {name!r}; there are: {', '.join(names()) or 'none'}"
        ) from None
    return MachineSpec(**{**found, "address": IPv4Address(found["address"])})


def names() -> list[str]:
    """All machines that have a disk."""
    found = (path.parent.name for path in DIRECTORY.glob("*/spec.json"))
    return sorted(name for name in found if not name.endswith(".draft"))


def create(
    spec: MachineSpec,
    base: Path,
    login_key: str | None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the machine's disk, unless it has one.

    Args:
        spec: the machine.
        base: the image's tree.
        login_key: public key that may log in; with it the disk gets an identity (host key, host
            name, login). None leaves that to cloud-init, which is switched off otherwise.
        files: texts by path below the machine's directory, readable by root only.

    Raises:
        ValueError: it has one, made for another address, memory or number of processors.
    """
    directory = home(spec.name)
    if directory.exists():
        if (old := load(spec.name)) != spec:
            raise ValueError(f"{spec.name} exists as {old}; remove it first to change it")
        return
    draft = directory.with_name(f"{spec.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for part in ("upper", "work", "root"):
        (draft / part).mkdir(parents=True, mode=0o755)
    subprocess.run(["cp", "-a", base / "var/lib", draft / "var-lib"], check=True)
    _write_upper(draft / "upper")
    if login_key is not None:
        _write_identity(draft / "upper", spec, login_key)
    for name, text in files.items():
        _put(draft, name, text, 0o600)
    described = {**vars(spec), "address": str(spec.address)}
    (draft / "spec.json").write_text(json.dumps(described) + "\n")
    draft.rename(directory)


def host_key(name: str) -> str:
    """The machine's SSH host key as ``ssh-ed25519 BASE64``, from its disk.

    Raises:
        LookupError: it has none (yet), as cloud-init makes the keys of servers at boot.
    """
    try:
        text = (home(name) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text()
    except FileNotFoundError:
        raise LookupError(f"{name} has no ed25519 host key on its disk") from None
    return " ".join(text.split()[:2])


def boots(name: str) -> int:
    """How often the machine was booted so far."""
    file = home(name) / "boots"
    return int(file.read_text()) if file.exists() else 0


def count_boot(name: str) -> None:
    """Write down that the machine boots once more."""
    draft = home(name) / "boots.draft"
    draft.write_text(str(boots(name) + 1))
    draft.rename(home(name) / "boots")


def _write_upper(upper: Path) -> None:
    _copy(_FILES, upper)
    # Must exist: the kubelet hands it to pods. Nobody answers there, and nobody need.
    _put(upper, "etc/resolv.conf", f"nameserver {site.HOST}\n")
    _put(upper, "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    for unit in _MASKED.split():
        (upper / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _write_modules(upper)


def _write_identity(upper: Path, spec: MachineSpec, login_key: str) -> None:
    _copy(_IDENTITY, upper)
    _put(upper, "etc/cloud/cloud-init.disabled", "")
    _put(upper, "etc/hostname", f"{spec.name}\n")
    _put(upper, "etc/hosts", f"127.0.0.1 localhost\n{spec.address} {spec.name}\n")
    _put(upper, "root/.ssh/authorized_keys", login_key, 0o600)
    _put(upper, "home/debian/.ssh/authorized_keys", login_key, 0o600)
    for directory in ("root", "root/.ssh", "home/debian", "home/debian/.ssh"):
        (upper / directory).chmod(0o700)
    debian = upper / "home/debian"
    for path in (debian, *debian.rglob("*")):
        os.chown(path, 1000, 1000)
    key = upper / "etc/ssh/ssh_host_ed25519_key"
    make_key(key, f"root@{spec.name}")


def make_key(path: Path, comment: str) -> None:
    """Make an SSH key pair without a passphrase, readable by its owner only."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def _copy(source: Path, upper: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            mode = 0o755 if os.access(file, os.X_OK) else 0o644
            _put(upper, str(file.relative_to(source)), file.read_text(), mode)


def _put(upper: Path, name: str, text: str, mode: int = 0o644) -> None:
    file = upper / name
    for parent in reversed(file.relative_to(upper).parents):
        directory = upper / parent
        if not directory.exists():
            directory.mkdir()
            directory.chmod(0o755)  # whatever this process's umask
    file.write_text(text)
    file.chmod(mode)


def _write_modules(upper: Path) -> None:
    kernel = f"usr/lib/modules/{platform.release()}"
    _put(
        upper,
        f"{kernel}/modules.builtin",
        "".join(f"kernel/{name}.ko\n" for name in _MODULES.split()),
    )
    for empty in ("modules.order", "modules.builtin.modinfo"):
        _put(upper, f"{kernel}/{empty}", "")
    subprocess.run(["depmod", "-b", upper / "usr", platform.release()], check=True)


def load_modules() -> None:
    """Load on this host what machines may ask for, where it is neither loaded nor built in."""
    names = [Path(module).name for module in _MODULES.split()]
    if missing := [name for name in names if not Path("/sys/module", name).exists()]:
        subprocess.run(["modprobe", "-aq", *missing], capture_output=True, check=False)
