"""This host's bound on inotify instances, which all machines share as they run as its root.

A node takes about 30 to 45 of them (systemd, containerd, kubelet, the control plane's own watching of its
certificates), and the kernel's default is 128: three machines fit, five don't. The bound is raised while
there are machines, and put back as it was found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox import site

KNOB: Final = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED: Final = 1024

FOUND: Final = site.STATE / "inotify-instances"
"""Holds what was found, while it is raised."""


def raise_bound() -> None:
    """Raise it, unless it is high enough."""
    found = KNOB.read_text()
    if int(found) >= NEEDED:
        return
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    if not FOUND.exists():
        FOUND.write_text(found)
    KNOB.write_text(str(NEEDED))


def put_back() -> None:
    """Put it back as it was found."""
    if FOUND.exists():
        KNOB.write_text(FOUND.read_text())
        FOUND.unlink()


def leftovers() -> list[str]:
    """Whether it is raised."""
    return [f"raised {KNOB}"] if FOUND.exists() else []
