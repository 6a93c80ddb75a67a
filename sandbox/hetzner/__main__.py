"""``python -m sandbox.hetzner serve|start|stop|status``: the stand-in for Hetzner Cloud.

``serve`` stays in the foreground; with ``--fake`` no machine is made, and it may listen elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import hetzner, site
from sandbox.hetzner.api import Api, Server
from sandbox.hetzner.fake import FakeWorld
from sandbox.hetzner.reality import World

_PACE = 0.1
"""Seconds that each action takes at least: nobody may rely on one that has ended at once."""


def main() -> int:
    """Run one command; errors are told in one line, without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.hetzner", description=__doc__)
    parser.add_argument("command", choices=("serve", "start", "stop", "status"))
    parser.add_argument("--fake", action="store_true", help="make nothing real")
    parser.add_argument("--host", default=str(site.HOST))
    parser.add_argument("--port", type=int, default=urlsplit(site.HETZNER_API).port)
    parser.add_argument("--books", type=Path, default=hetzner.BOOKS, help="file of what exists")
    options = parser.parse_args()
    try:
        _run(options)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    match options.command:
        case "serve":
            _serve(options)
        case "start":
            hetzner.start()
        case "stop":
            hetzner.stop()
        case _:
            print("running" if hetzner.running() else "not running")


def _serve(options: argparse.Namespace) -> None:
    options.books.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    api = Api(options.books, _world(options.fake), site.HETZNER_TOKEN, _PACE)
    server = Server((options.host, options.port), api)
    print(f"hetzner: {server.endpoint}", flush=True)
    server.serve_forever()


def _world(fake: bool) -> World:
    if fake:
        return FakeWorld()
    from sandbox.hetzner.world import SandboxWorld  # it needs root and this host's tools

    return SandboxWorld()


if __name__ == "__main__":
    sys.exit(main())
