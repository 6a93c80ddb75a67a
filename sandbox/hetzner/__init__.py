"""A stand-in for Hetzner Cloud: its API, and servers that are machines of this sandbox.

The API (:mod:`.api`) keeps its books in ``.sandbox/hetzner/`` and makes what they say real through a
:class:`~.reality.World`; its process may end at any time and be started again. This module starts and
stops it; :mod:`.control` tells how tests look into it and order faults.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox import site
from sandbox.machines import detached, network

if TYPE_CHECKING:
    import hcloud

STATE: Final = site.STATE / "hetzner"
BOOKS: Final = STATE / "books.json"
LOG: Final = STATE / "api.log"
_NAME: Final = "hetzner.api"  # with a dot, as no machine's name has
_CONTROL: Final = f"{site.HETZNER_API.rpartition('/')[0]}/control"
_PATIENCE: Final = 20.0
"""Seconds until it must answer."""

Log = Callable[[str], None]


def start(log: Log = print) -> None:
    """Start the stand-in unless it runs, and wait until it answers.

    Raises:
        RuntimeError: It did not come up; names its log.
    """
    network.up()
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    if not running():
        detached.start(_NAME, [__name__, "serve"], LOG)
    _await()
    log(f"hetzner: the stand-in answers at {site.HETZNER_API}")


def stop() -> None:
    """End the stand-in's process, if it runs; servers and the rest go on, and so do the books."""
    detached.stop(_NAME)


def running() -> bool:
    """Whether its process is there."""
    return detached.running(_NAME)


def remove() -> None:
    """End the stand-in and forget what it knew; the servers must be gone."""
    stop()
    shutil.rmtree(STATE, ignore_errors=True)


def client() -> hcloud.Client:
    """The official client, for the stand-in."""
    import hcloud  # not above: load balancers' processes import this package too

    return hcloud.Client(site.HETZNER_TOKEN, api_endpoint=site.HETZNER_API, poll_interval=0.5)


def leftovers() -> list[str]:
    """What still exists at the stand-in, each as kind and name; it must run."""
    with urllib.request.urlopen(f"{_CONTROL}/store", timeout=_PATIENCE) as answer:
        kinds: dict[str, list[dict[str, Any]]] = json.load(answer)
    del kinds["action"]
    return [
        f"{kind.replace('_', ' ')} {record['name']}"
        for kind, records in kinds.items()
        for record in records
    ]


def _await() -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and running():
        try:
            with urllib.request.urlopen(f"{_CONTROL}/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"the stand-in does not answer at {site.HETZNER_API}: see {LOG}")
