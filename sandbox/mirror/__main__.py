"""``python -m sandbox.mirror build [--kubernetes VERSION] [--with PART] | serve | stop | status``."""

from __future__ import annotations

import argparse
import sys

from cluster import versions
from sandbox import mirror
from sandbox.mirror import parts


def main() -> int:
    """Run one command; 1 and a message on stderr when it fails."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.mirror", description=mirror.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="fill the cache")
    build.add_argument("--kubernetes", default=versions.KUBERNETES, metavar="VERSION")
    names = [part.name for part in parts.optional_parts(versions.KUBERNETES)]
    build.add_argument("--with", dest="optional", choices=names, help="as well")
    for name in ("serve", "stop", "status"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except mirror.MirrorError as error:
        print(f"mirror: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "build":
        mirror.build(arguments.kubernetes, log=_say)
        if arguments.optional:
            mirror.build_optional(arguments.optional, arguments.kubernetes, log=_say)
    elif arguments.command == "serve":
        mirror.serve()
    elif arguments.command == "stop":
        mirror.stop()
    else:
        for name, state in mirror.status().items():
            print(f"{name}: {state}")
        print("\n".join(mirror.images()))


if __name__ == "__main__":
    sys.exit(main())
