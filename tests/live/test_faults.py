"""Two faults of the table in docs/faults.md in one life of a cluster, on the best engine there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.cluster import sandbox
from tests.trust import cells
from tests.trust.place import Place, place
from tests.trust.runs import RunFailedError, best


@pytest.fixture
def bare() -> Iterator[Place]:
    with sandbox(), place(best()) as found:
        found.bare()
        yield found
        found.forget()


def test_a_cluster_comes_of_a_run_whose_link_was_down_and_that_was_killed(bare: Place) -> None:
    """The link goes while kubeadm init runs, and the program as the worker begins to join."""
    for step in (
        cells.up,
        cells.until(cells.phase("cp1", "control-plane")),
        cells.link("cp1", up=False),
        cells.pause(3),
        cells.link("cp1", up=True),
    ):
        step(bare)
    try:
        cells.until(cells.begun("w1-join"))(bare)
        cells.killed(bare)
    except RunFailedError:
        assert bare.run.ended, "the link's loss ended it"
    bare.up()
    bare.check()
