"""How a cluster is that lives: asked of its API from outside, of nothing else, and within seconds.

The program's outputs can't tell: they are of the last ``pulumi up``. ``api`` is the door, ``look`` collects,
``view`` judges and shows; ``python -m cluster.status`` is the command.
"""

from __future__ import annotations

import json
import sys

from cluster.status import look, view
from cluster.status.api import Api, StatusError, read

WELL, NOT_WELL, NOT_REACHED = 0, 1, 2
"""Exit codes."""


def show(kubeconfig: str, want: str = "", *, as_json: bool = False) -> int:
    """Print how the cluster is.

    Args:
        kubeconfig: its text.
        want: the Kubernetes version that all nodes should have; the newest of any node when not given.
        as_json: one JSON object instead of tables.

    Returns:
        ``WELL``, ``NOT_WELL`` or ``NOT_REACHED``; in the last case an error is told instead.
    """
    try:
        status = look.take(Api(read(kubeconfig)), want)
    except StatusError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_REACHED
    problems = view.problems(status)
    if as_json:
        facts = status.model_dump(mode="json", by_alias=True)
        print(json.dumps({"well": not problems, "problems": problems, **facts}, indent=2))
    else:
        print("\n".join(view.lines(status, problems)))
    return NOT_WELL if problems else WELL
