"""``python -m sandbox up|down|status``: a stack on local machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from cluster.status import show
from sandbox import dev, machines, mirror, site


def main() -> int:
    """Run one command; errors are told in one line, without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--stack",
        choices=dev.STACKS,
        default=dev.STACK,
        help="for up; the others take what is there",
    )
    parser.add_argument("--all", action="store_true", help="for down: another checkout's, too")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the sandbox makes machines and networks: run it as root", file=sys.stderr)
        return 1
    try:
        outcome = COMMANDS[arguments.command](arguments)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return outcome if isinstance(outcome, int) else 0


def status() -> int:
    """What runs now, and how the cluster is, if one was made; returns the exit code."""
    print(f"machines: {', '.join(machines.running()) or 'none'}")
    print(f"mirror:   {mirror.status()}")
    if not site.KUBECONFIG.exists():
        return 0
    print()
    return show(site.KUBECONFIG.read_text())


COMMANDS: dict[str, Callable[[argparse.Namespace], object]] = {
    "up": lambda given: dev.up(stack=given.stack),
    "down": lambda given: dev.down(anyones=given.all),
    "status": lambda _: status(),
}

if __name__ == "__main__":
    sys.exit(main())
