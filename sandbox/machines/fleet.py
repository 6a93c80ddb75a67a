"""What can be done with the machines: start, stop, fail, look at."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from sandbox import site
from sandbox.machines import (
    cgroups,
    detached,
    disks,
    filters,
    image,
    limits,
    login,
    network,
    routed,
)
from sandbox.machines.disks import MachineSpec
from sandbox.machines.seed import Seed

Log = Callable[[str], None]

_BOOT_SECONDS = 60


def up(specs: Sequence[MachineSpec], log: Log = print) -> None:
    """Start machines, all at once; return when a login works on each.

    A machine that exists keeps its disk, and one that runs is left alone.

    Raises:
        ValueError: two machines share a name or an address, or one exists with another spec.
        RuntimeError: a machine does not come up; tells its console's last lines.
    """
    started = time.monotonic()
    _check_distinct(specs)
    image.ensure_host_packages()
    base = image.base_image(log)
    disks.load_modules()
    with alone():
        limits.raise_bound()
        network.up()
        key = login.login_key()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda spec: disks.create(spec, base, key), specs))
        login.write_known_hosts()
        for spec in specs:
            _start(spec.name, base)
    with ThreadPoolExecutor(max_workers=32) as pool:
        for spec in pool.map(_wait_for_login, specs):
            seconds = time.monotonic() - started
            log(f"{spec.name}: root@{spec.address} answers after {seconds:.1f} s")


def down(log: Log = print) -> None:
    """Remove machines, disks, keys, network and cgroups, whatever state they are in.

    It takes the machines of every checkout on this host, as their names and addresses are the same: see
    :func:`check_own`.
    """
    with alone():
        groups = cgroups.names()
        for name in sorted(groups, key=lambda group: not group.endswith(".supervisor")):
            cgroups.kill(name)
        for name in groups:
            cgroups.remove(name)
        cgroups.remove_parent()
        network.down()
        limits.put_back()
        for directory in (disks.DIRECTORY, site.SSH_KEY.parent, routed.STATE, detached.STATE):
            if directory.exists():
                shutil.rmtree(directory)
        if site.STATE.exists() and not any(site.STATE.iterdir()):
            site.STATE.rmdir()
    gone = sorted(group for group in groups if not group.endswith(".supervisor"))
    log(f"machines: removed {', '.join(gone) or 'none, none was there'}")


def check_own() -> None:
    """See that nothing runs for another checkout, or for one that was deleted.

    Raises:
        RuntimeError: something does; says what, and where that checkout is.
    """
    for name in sorted({group.removesuffix(".supervisor") for group in cgroups.names()}):
        if others := _others(name):
            raise RuntimeError(
                f"{name} runs for another checkout ({others.pop()}): take that down there, or here with --all"
            )


def remove(name: str) -> None:
    """Remove one machine for good, with its disk, its host key and its firewall."""
    with alone():
        _stop(name)
        if routed.is_routed(name):
            filters.remove(name)
        shutil.rmtree(disks.home(name), ignore_errors=True)
        login.write_known_hosts()


def create(spec: MachineSpec, seed: Seed) -> None:
    """Make a server: a machine with routed ports, to which cloud-init gives its identity.

    It stays off until :func:`power_on`. One that exists keeps its disk.

    Raises:
        ValueError: its name or address is taken.
    """
    _check_distinct([spec])
    image.ensure_host_packages()
    base = image.base_image()
    disks.load_modules()
    with alone():
        limits.raise_bound()
        routed.up()
        disks.create(spec, base, None, seed.files())


def power_on(name: str) -> None:
    """Switch a machine on, unless it is; it boots for a while after this returns."""
    base = image.base_image()
    with alone():
        _start(name, base)


def power_off(name: str) -> None:
    """Pull a machine's plug; it stays off until :func:`power_on` or :func:`up`, and may be off."""
    with alone():
        _stop(name)


def request_reboot(name: str) -> None:
    """Ask a machine's first process for a reboot, as its power button would; don't wait for it.

    Raises:
        RuntimeError: it is off.
    """
    os.kill(login.leader(name), signal.SIGRTMIN + 5)


def running() -> list[str]:
    """Names of the machines that are on (or just between two boots)."""
    return [name for name in disks.names() if is_on(name)]


def is_on(name: str) -> bool:
    """Whether a machine is on (or just between two boots)."""
    return detached.running(name)


def reboot(name: str, *, wait: bool = True) -> None:
    """Have the machine reboot itself; return when a login works again, or at once without ``wait``.

    Raises:
        RuntimeError: it did not come back.
    """
    _again(name, wait, lambda: login.ssh(name, "systemctl reboot", check=False))


def power_cut(name: str, *, wait: bool = True) -> None:
    """Kill all of the machine in one instant, then let it boot; return as :func:`reboot` does."""
    _again(name, wait, lambda: cgroups.kill(name))


def link_down(name: str) -> None:
    """Pull the machine's network cable; it stays pulled over reboots."""
    (disks.home(name) / "unplugged").touch()
    network.connect(name, False)


def link_up(name: str) -> None:
    """Put the machine's network cable back."""
    (disks.home(name) / "unplugged").unlink(missing_ok=True)
    network.connect(name, True)
    if routed.is_routed(name):
        routed.lead(name, disks.load(name).address, routed.wiring(name))


def console(name: str) -> Path:
    """The file with all that the machine's console showed, over all boots."""
    return disks.home(name) / "console.log"


def leftovers() -> list[str]:
    """What of the machines still exists on this host; nothing after :func:`down`."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    state = [f"directory {disks.DIRECTORY}"] if disks.DIRECTORY.exists() else []
    knobs = limits.leftovers()
    return [
        *cgroups.leftovers(),
        *network.leftovers(),
        *knobs,
        *_mounts_below(site.STATE, mounts),
        *state,
    ]


def alone() -> AbstractContextManager[None]:
    """One process at a time makes, plugs or removes machines; two would undo each other's work."""
    return image.lock(site.CACHE / "machines.lock")


def _mounts_below(directory: Path, mountinfo: Sequence[str]) -> list[str]:
    points = [Path(line.split()[4]) for line in mountinfo]
    return [f"mount {point}" for point in points if point.is_relative_to(directory)]


def _check_distinct(specs: Sequence[MachineSpec]) -> None:
    known = {name: disks.load(name).address for name in disks.names()}
    for spec in specs:
        if spec.address in (address for name, address in known.items() if name != spec.name):
            raise ValueError(f"{spec.name}: {spec.address} belongs to another machine")
        known[spec.name] = spec.address
    if len({spec.name for spec in specs}) != len(specs):
        raise ValueError("two machines of one name")


def _stop(name: str) -> None:
    for group in (f"{name}.supervisor", name):
        cgroups.kill(group)
        cgroups.remove(group)
    if routed.is_routed(name):
        routed.unplug(name)
    else:
        network.unplug(name)


def _others(name: str) -> set[Path]:
    """Other checkouts that run a machine of this name."""
    return detached.directories(name) - {site.ROOT}


def _start(name: str, base: Path) -> None:
    if is_on(name):
        if _others(name):
            raise RuntimeError(f"{name} runs for another checkout: take that down first")
        return
    cgroups.kill(name)  # a machine whose supervisor died would answer in the new one's place
    detached.start(name, ["sandbox.machines.supervisor", name, str(base)], console(name))


def _again(name: str, wait: bool, action: Callable[[], object]) -> None:
    spec, before = disks.load(name), disks.boots(name)
    action()
    if wait:
        deadline = time.monotonic() + _BOOT_SECONDS
        while disks.boots(name) == before and time.monotonic() < deadline:
            time.sleep(login.ROUNDS)
        _wait_for_login(spec)


def _wait_for_login(spec: MachineSpec) -> MachineSpec:
    if login.wait(spec, _BOOT_SECONDS, partial(_gave_up, spec.name)):
        return spec
    shown = console(spec.name).read_text(errors="replace").splitlines()[-15:]
    raise RuntimeError("\n".join([f"{spec.name} ({spec.address}) does not come up:", *shown]))


def _gave_up(name: str) -> bool:
    return not is_on(name)
