"""The sandbox's fixed places and numbers: the only file that knows them."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

STATE = ROOT / ".sandbox"
"""Everything a running sandbox keeps; ``down`` removes it whole."""

CACHE = Path(os.environ.get("OWN_KUBERNETES_CACHE", Path.home() / ".cache" / "own-kubernetes"))
"""What is dear to make (mirror, base image, toolchain), keyed by version; ``down`` leaves it."""

NETWORK = IPv4Network("10.77.0.0/24")
HOST = IPv4Address("10.77.0.1")
"""This host's leg in the machines' network; the mirror listens here and nowhere else."""

REGISTRY = f"{HOST}:5000"
"""The mirror's image registry (plain HTTP)."""

FILES = f"http://{HOST}:8080"
"""The mirror's files: ``/apt`` and ``/charts``."""

SSH_KEY = STATE / "ssh" / "id_ed25519"
KNOWN_HOSTS = STATE / "ssh" / "known_hosts"
MIRROR_KEY = STATE / "mirror.asc"
KUBECONFIG = STATE / "kubeconfig"
BILL = STATE / "bom.json"
"""What the cluster is made of."""

HETZNER_API = f"http://{HOST}:8090/v1"
"""Where the stand-in for Hetzner Cloud's API answers, to this host and to its own servers."""

HETZNER_TOKEN = "sandbox" * 9 + "s"
"""The stand-in's only token; 64 characters, as the real ones have. No secret: it opens nothing else."""
