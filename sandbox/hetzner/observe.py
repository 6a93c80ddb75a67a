"""What the API shows of the world as it is: servers that have gone off, and healthy targets."""

from __future__ import annotations

import threading
import time
import traceback

from sandbox.hetzner.cloud import Cloud


class Observer:
    """Looks at the world now and then.

    Args:
        cloud: Where to note what is seen.
        age: Seconds for which a look is good.
    """

    def __init__(self, cloud: Cloud, age: float) -> None:
        self._cloud = cloud
        self._age = age
        self._turn = threading.Lock()
        self._last = 0.0

    def look(self) -> None:
        """Look, unless somebody has just looked or is looking."""
        if time.monotonic() - self._last < self._age or not self._turn.acquire(blocking=False):
            return
        try:
            self._balancers()
            self._servers()
            self._last = time.monotonic()
        except Exception:  # the world's errors are of any type; what was seen last stays
            traceback.print_exc()
        finally:
            self._turn.release()

    def _balancers(self) -> None:
        with self._cloud.store.lock:
            applied = [key.split("/") for key in self._cloud.store.applied]
        numbers = [int(key[1]) for key in applied if key[0] == "balance"]
        self._cloud.health = {number: self._cloud.world.healthy(number) for number in numbers}

    def _servers(self) -> None:
        # A server that is being acted upon has the status that its action gives it.
        with self._cloud.store.lock:
            settled = [s["id"] for s in self._cloud.store.all("server") if _settled(s)]
        seen = {number: self._cloud.world.running(number) for number in settled}
        with self._cloud.store.change():
            for server in self._cloud.store.all("server"):
                if server["id"] in seen and _settled(server):
                    server["status"] = "running" if seen[server["id"]] else "off"


def _settled(server: dict[str, object]) -> bool:
    return bool(
        server["made"] and server["busy"] is None and server["status"] in ("running", "off")
    )
