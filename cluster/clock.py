"""Clocks: each host's is compared with this machine's right before it is prepared, and before it joins.

The time can't be a value of a phase, as a preview would show it changed at every run. So it is asked over SSH
by a hook, which the engine calls only where it is about to do something; ``clock.sh`` is the other side.
"""

from __future__ import annotations

import time
from typing import Any

import pulumi

from cluster.errors import ClusterError

PATIENCE_SECONDS = 120.0
"""Bound on all of it: a time service has a minute to set a clock that is off."""


class ClockError(ClusterError):
    """A host's clock is off; the text is the host's own, and names it."""


def compared(name: str, way_in: pulumi.Output[dict[str, Any]], line: str) -> pulumi.ResourceHook:
    """The hook.

    Args:
        name: the host's.
        way_in: what ``cluster.parting`` needs to reach it.
        line: what runs ``clock.sh`` there; the time is put behind it.

    Returns:
        To be run before a phase: it raises ``ClockError`` where the clock is off and can't be set.
    """

    async def compare(_: pulumi.ResourceHookArgs) -> None:
        from cluster import parting  # brings asyncssh, which previews need not wait for

        way = await way_in.future()
        assert way is not None, "no hook runs in a preview"
        try:
            status, said = await parting.ask(way, f"{line} {time.time():.0f}", PATIENCE_SECONDS)
        except parting.NotReachedError:
            return  # the phase itself tries for longer, and says what is wrong
        if status:
            raise ClockError(said)

    return pulumi.ResourceHook(f"{name}-clock", compare)
