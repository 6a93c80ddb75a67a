"""docs/costs.md: what Hetzner bills for some stacks, by the program that tells the price in a preview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.unit.pages.text import table
from tests.unit.stacks import CLOUD, REMOVED, load
from tests.unit.test_hetzner_graph import catalog

THREE = {f"nodes.cp{n}": {"role": "control-plane"} for n in (2, 3)}
STACKS: Mapping[str, Mapping[str, Any]] = {
    "one control plane, two workers": {},
    "one server for everything": {"nodePools": REMOVED, "scheduleOnControlPlanes": True},
    "the same by a floating IP": {
        "nodePools": REMOVED, "scheduleOnControlPlanes": True, "hetzner.ingress": "floating-ips",
    },
    "three control planes, three workers": {
        **THREE, "nodePools.worker.count": 3, "hetzner.apiLoadBalancer": True,
    },
}  # fmt: skip


def bills() -> str:
    """What is on the bill of each stack."""
    prices = {
        name: catalog().price(load(changes, CLOUD).settings) for name, changes in STACKS.items()
    }
    rows = (
        [name, "\n".join(f"{line.count} of {line.what}" for line in price.lines)]
        for name, price in prices.items()
    )
    return table(["stack", "on the bill, each month"], rows)
