"""The metadata service at 169.254.169.254: tells a server about itself, and nobody else anything.

Runs at the edge of the servers' network, as ``python -m sandbox.machines.metadata``. It knows a
server by its source address, which the edge lets no other server use. Paths are Hetzner's.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from typing import Final

from sandbox.machines import detached, disks, network, routed
from sandbox.machines.seed import SEED

NAME: Final = "metadata.service"  # with a dot, as no machine's name has

REGION: Final = "eu-central"


def start() -> None:
    """Start the service, unless it runs; the edge must be there."""
    if not detached.running(NAME):
        detached.STATE.mkdir(parents=True, exist_ok=True)
        log = detached.STATE / "metadata.log"
        detached.start(NAME, [__name__], log, network.NAMESPACE)


def answer(source: IPv4Address, path: str) -> str | None:
    """The text at a path for the server with this address; None if there is no such thing."""
    owners = (name for name in disks.names() if routed.is_routed(name))
    name = next((name for name in owners if disks.load(name).address == source), None)
    if name is None:
        return None
    seed = disks.home(name) / SEED
    if path == "/hetzner/v1/userdata":
        return (seed / "user-data").read_text()
    about = json.loads((seed / "meta-data").read_text())
    texts = {
        "instance-id": about["instance-id"],
        "hostname": about["local-hostname"],
        "public-ipv4": str(source),
        "region": REGION,
    }
    return texts.get(path.removeprefix("/hetzner/v1/metadata/"))


class Handler(BaseHTTPRequestHandler):
    """Answers GET in plain text."""

    def do_GET(self) -> None:
        """Status 200 and the text, or 404."""
        text = answer(IPv4Address(self.client_address[0]), self.path)
        body = (text or "not found\n").encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer((str(routed.METADATA), 80), Handler).serve_forever()
