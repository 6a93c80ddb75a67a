"""Copies of the kubeconfig, with its key, that the Kubernetes provider leaves in the temporary folder.

pulumi-kubernetes writes its kubeconfig to ``kubeconfigNUMBER`` whenever it is configured, for charts of
``helm.v4`` only, and never removes it (``writeKubeconfigToFile``, 4.34.2). Nothing of ours reads that file, and
charts of another program's are made before that program ends. So each run takes them away as it ends, and first
those of a run that was killed or had no program (``pulumi refresh``).

A copy is known by three things: it is this user's, it holds this cluster's key, and the mark that only the
provider's kubeconfig carries. A kubeconfig that a user saved has no mark.
"""

from __future__ import annotations

import atexit
import os
import re
import stat
import tempfile
from pathlib import Path

MARK = "own-kubernetes.for-the-provider"


def for_provider(kubeconfig: str) -> str:
    """The kubeconfig for the provider, marked; copies of it are taken away, now and as this process ends."""
    if key := re.search(r"client-key-data: *(\S+)", kubeconfig):
        take_away(key[1])
        atexit.register(take_away, key[1])
    # An extension outlives the provider's reading and writing; a comment would not.
    return f"{kubeconfig.rstrip()}\nextensions: [{{name: {MARK}, extension: {{}}}}]\n"


def take_away(key: str) -> None:
    """Remove the provider's copies of a kubeconfig.

    Args:
        key: its client key, as it stands there.
    """
    for path in Path(tempfile.gettempdir()).glob("kubeconfig[0-9]*"):
        try:
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
                text = path.read_text(errors="replace")
                if MARK in text and key in text:
                    path.unlink()
        except OSError:
            continue  # another run was quicker
