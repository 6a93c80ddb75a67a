"""``python -m sandbox up|down|status``: the dev stack on local machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from sandbox import dev, machines, mirror


def main() -> int:
    """Run one command; errors are told in one line, without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    if os.geteuid() != 0:
        print("error: the sandbox makes machines and networks: run it as root", file=sys.stderr)
        return 1
    try:
        COMMANDS[command]()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def status() -> None:
    """What runs now."""
    print(f"machines: {', '.join(machines.running()) or 'none'}")
    print(f"mirror:   {mirror.status()}")


COMMANDS: dict[str, Callable[[], object]] = {"up": dev.up, "down": dev.down, "status": status}

if __name__ == "__main__":
    sys.exit(main())
