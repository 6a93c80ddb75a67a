"""Brings a snapshot to the control plane that makes a lost cluster from it; ``pulumi up`` runs this.

    python -m cluster.recovery SNAPSHOT DIGEST

The way into the host comes on stdin, as for ``cluster.parting``. The snapshot stays encrypted: what opens it
goes to the host another way, and lies on no disk (``cluster.nodes``). It does not pass the engine, whose state
would keep all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import sys
import time
from pathlib import Path

import asyncssh

from cluster.parting import PAUSE_SECONDS, Host, NotReachedError, connect

PATIENCE_SECONDS = 120.0
PIECE = 1 << 18


async def send(host: Host, snapshot: Path) -> int:
    """Run the host's line with the snapshot as its stdin; tells what it says.

    Returns:
        The line's exit status.

    Raises:
        NotReachedError: no login within ``PATIENCE_SECONDS``, or it ended on the way; says what came last.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection = await connect(host)
            break
        except NotReachedError:
            if time.monotonic() + PAUSE_SECONDS > end:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
    try:
        async with connection, connection.create_process(host["line"], encoding=None) as process:
            with contextlib.suppress(OSError, asyncssh.Error):  # it ended before; it says why
                await _feed(process, snapshot)
            done = await process.wait()
    except (OSError, asyncssh.Error) as error:
        raise NotReachedError(f"the connection ended: {error}") from None
    if isinstance(done.stderr, bytes):
        print(done.stderr.decode(errors="replace"), end="", file=sys.stderr)
    return 1 if done.returncode is None else done.returncode


async def _feed(process: asyncssh.SSHClientProcess[bytes], snapshot: Path) -> None:
    try:
        with snapshot.open("rb") as file:
            while piece := file.read(PIECE):
                process.stdin.write(piece)
                await process.stdin.drain()
    finally:
        process.stdin.write_eof()


def wrong(snapshot: Path, digest: str) -> str:
    """What is wrong with the file, or nothing."""
    try:
        with snapshot.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    return "" if found == digest else "it has changed since `pulumi up` began"


def main() -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m cluster.recovery")
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("digest")
    arguments = parser.parse_args()
    snapshot = arguments.snapshot.expanduser()
    if reason := wrong(snapshot, arguments.digest):
        print(
            f"error: snapshot {snapshot}: {reason}\n"
            "  expected: the file that recoverySnapshot names\n"
            "  remedy:   run `pulumi up` again when it is there",
            file=sys.stderr,
        )
        return 1
    host: Host
    (host,) = json.load(sys.stdin)
    try:
        return asyncio.run(send(host, snapshot))
    except NotReachedError as error:
        print(
            f"error: {host['name']} ({host['address']} port {host['port']}) was not reached: {error}\n"
            "  expected: an answer over SSH, with the configured host key\n"
            "  remedy:   mend the connection, then run `pulumi up` again",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
