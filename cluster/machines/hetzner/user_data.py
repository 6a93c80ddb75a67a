"""What a new server is given for its first boot: cloud-init's user-data.

The host key in it is for the first dial only: whoever can read the user-data (root on the server, pods on
the host's network) knows it, so ``trust.sh`` has the host make another. The scripts and files are those of
existing hosts, so that most of the preparation is done by the time SSH is answered; both come in the clear
and hold no secret.

Facts (docs.cloud-init.io/en/latest/reference/modules.html, docs.hetzner.cloud/reference/cloud#servers):
cloud-init writes files and host keys before sshd starts and runs commands after; a server takes 32 KiB.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Mapping

import yaml

from cluster.errors import Problem, SettingsError
from cluster.remote import INSTALLED, SCRIPTS

FILES = "/etc/own-kubernetes/boot-files"
LIMIT_BYTES = 32 * 1024
BOOT_SCRIPTS = (
    "lib.sh",
    "packages.sh",
    "cluster.sh",
    "firewall.sh",
    "run.sh",
    "prepare.sh",
    "trust.sh",
    "own-kubernetes-firewall.service",
)
"""What runs before the first dial, and the first phase; all others come over SSH."""


def user_data(files: str, phase: Mapping[str, str], host_key: str, host_key_public: str) -> str:
    """The cloud-config of one server.

    Args:
        files: the host's files, as ``prepare.sh`` takes them.
        phase: values of the ``prepare`` phase.
        host_key: the first boot's host key, ECDSA, OpenSSH's format.
        host_key_public: its public half.

    Raises:
        SettingsError: the server would not take so much.
    """
    prepare = shlex.join(["bash", f"{INSTALLED}/run.sh", "prepare", *_words(phase)])
    config = {
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ecdsa_private": host_key, "ecdsa_public": host_key_public.strip()},
        "write_files": [
            *(
                _file(f"{INSTALLED}/{name}", (SCRIPTS / name).read_text(), "0755")
                for name in BOOT_SCRIPTS
            ),
            _file(FILES, files, "0644"),
        ],
        "runcmd": [f"{prepare} <{FILES}"],
    }
    text = "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=10**6)
    if len(text.encode()) > LIMIT_BYTES:
        raise SettingsError([_too_long(len(text.encode()))])
    return text


def _words(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _file(path: str, text: str, mode: str) -> dict[str, str]:
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)  # the same text, the same bytes
    return {
        "path": path,
        "permissions": mode,
        "encoding": "gz+b64",
        "content": base64.b64encode(packed).decode(),
    }


def _too_long(size: int) -> Problem:
    return Problem(
        "user-data",
        f"{size} bytes",
        f"at most {LIMIT_BYTES} bytes for a server's first boot",
        "shorten kubelet, kubeProxy, containerd or mirror in the stack file",
    )
