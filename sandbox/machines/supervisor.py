"""The supervisor of one machine: boots it, and boots it again after a reboot or a power cut.

It ends when the machine is switched off. It runs detached, as ``python -m
sandbox.machines.supervisor NAME``, and is ended by killing its control group.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from sandbox.machines import cgroups, disks, fleet, network, routed

REBOOT: Final = 133
"""systemd-nspawn's status when the machine asks for a reboot."""

_HERE: Final = Path(__file__).parent


def supervise(name: str, base: Path) -> None:
    """Keep the machine running until it switches itself off."""
    while True:
        status = _boot(disks.load(name), base)
        print(f"[{time.strftime('%FT%T')}] {name}: ended with status {status}", flush=True)
        if status not in (REBOOT, -signal.SIGKILL):
            return


def _boot(spec: disks.MachineSpec, base: Path) -> int:
    name, home = spec.name, disks.home(spec.name)
    # Processes of a machine whose power was cut outlive systemd-nspawn.
    cgroups.kill(name)
    cgroups.remove(name)
    _plug(spec, connected=not (home / "unplugged").exists())
    disks.count_boot(name)
    enter = cgroups.enter_files(name, spec.memory_mib, spec.cpus)
    try:
        command = [
            *map(str, (_HERE / "enter.sh", *enter, "--")),
            *("nsenter", f"--net=/run/netns/{network.namespace(name)}"),
            *("unshare", "--mount", "--propagation=private"),
            *map(str, (_HERE / "boot.sh", name, home, base, spec.memory_mib)),
        ]
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    finally:
        cgroups.kill(name)
        cgroups.remove(name)
        _unplug(name)


def _plug(spec: disks.MachineSpec, connected: bool) -> None:
    if not routed.is_routed(spec.name):
        network.plug(spec.name, spec.address, connected=connected)
        return
    with fleet.alone():  # nobody changes what it is plugged into meanwhile
        wires = routed.wiring(spec.name)
        routed.plug(spec.name, spec.address, wires, connected=connected)


def _unplug(name: str) -> None:
    if not routed.is_routed(name):
        network.unplug(name)
        return
    with fleet.alone():
        routed.unplug(name)


if __name__ == "__main__":
    supervise(sys.argv[1], Path(sys.argv[2]))
