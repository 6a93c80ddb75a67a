"""What a server with user-data finds on its disk at first boot, instead of an identity made by us.

Debian's own cloud-init runs in the machine and makes host keys, logins, host name and hosts file.
Its source is NoCloud's seed directory, where a provider's server asks a metadata service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sandbox.machines.routed import Wiring

SEED: Final = "var-lib/cloud/seed/nocloud"
"""The seed's directory below a machine's own."""

_CONFIG: Final = "upper/etc/cloud/cloud.cfg.d/90-sandbox.cfg"

# As on a provider's image: root logs in, and /etc/hosts follows the host name. Modules left out are
# those for hardware (disks, consoles), time, locales and other programs' agents.
_SETTINGS: Final[Mapping[str, Any]] = {
    "datasource_list": ["NoCloud"],
    "network": {"config": "disabled"},
    "users": [],
    "disable_root": False,
    "manage_etc_hosts": True,
    "cloud_init_modules": [
        *("seed_random", "bootcmd", "write-files", "set_hostname", "update_hostname"),
        *("update_etc_hosts", "ca-certs", "users-groups", "ssh"),
    ],
    "cloud_config_modules": ["set-passwords", "apt-configure", "timezone", "runcmd"],
    "cloud_final_modules": [
        *("package-update-upgrade-install", "write-files-deferred", "scripts-vendor"),
        *("scripts-per-once", "scripts-per-boot", "scripts-per-instance", "scripts-user"),
        *("ssh-authkey-fingerprints", "final-message", "power-state-change"),
    ],
}


@dataclass(frozen=True)
class Seed:
    """What a provider's metadata service tells a server about itself."""

    instance: int
    hostname: str
    user_data: str
    ssh_keys: tuple[str, ...]

    def files(self) -> dict[str, str]:
        """What makes a machine a server with routed ports: texts by path below its directory."""
        metadata = {
            "instance-id": str(self.instance),
            "local-hostname": self.hostname,
            "public-keys": list(self.ssh_keys),
        }
        return {
            f"{SEED}/meta-data": json.dumps(metadata, indent=2) + "\n",  # YAML, as all of JSON is
            f"{SEED}/user-data": self.user_data or "#cloud-config\n{}\n",
            f"{SEED}/network-config": "config: disabled\n",
            _CONFIG: "".join(f"{key}: {json.dumps(value)}\n" for key, value in _SETTINGS.items()),
            "wiring.json": Wiring().to_json(),
        }
