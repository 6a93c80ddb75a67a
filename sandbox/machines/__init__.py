"""Local machines that look like fresh Debian 12 cloud servers: systemd, sshd, an address.

They are systemd-nspawn containers with the powers that a Kubernetes node needs, on a private bridge
with no way out. Everything here needs root. They share this host's kernel and clock, and are no
prison.
"""

from sandbox.machines.disks import MachineSpec, host_key
from sandbox.machines.fleet import (
    check_own,
    console,
    create,
    down,
    leftovers,
    link_down,
    link_up,
    power_cut,
    power_off,
    power_on,
    reboot,
    remove,
    running,
    up,
)
from sandbox.machines.image import HOST_PACKAGES, base_image, base_packages, ensure_host_packages
from sandbox.machines.login import ssh
from sandbox.machines.network import outsider
from sandbox.machines.seed import Seed

__all__ = [
    "HOST_PACKAGES",
    "MachineSpec",
    "Seed",
    "base_image",
    "base_packages",
    "check_own",
    "console",
    "create",
    "down",
    "ensure_host_packages",
    "host_key",
    "leftovers",
    "link_down",
    "link_up",
    "outsider",
    "power_cut",
    "power_off",
    "power_on",
    "reboot",
    "remove",
    "running",
    "ssh",
    "up",
]
