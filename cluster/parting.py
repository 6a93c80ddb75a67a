"""What is run on hosts when the engine deletes: over SSH, from this process, not by pulumi-command.

A ``remote.Command`` fails to be deleted while its host does not answer, and no later ``up`` or ``destroy`` gets
past it: one dead host would be in the way for good. These are deletes of local commands instead
(``cluster.remote.at_the_end``), which know what to do then:

    python -m cluster.parting end      one host is given back; one that is gone is left, with a warning
    python -m cluster.parting remove   the first control plane that is well takes a node out of the cluster

Hosts, each with its line, come on stdin, as JSON with secrets: nothing of it is in an argument list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncssh

from cluster.exits import NO_CLUSTER, NOT_WELL

DIAL_SECONDS = 10
"""Bound on one login."""

PATIENCE_SECONDS = {"end": 20.0, "remove": 120.0}
"""How long hosts are tried. One that is to be given back and does not answer holds no destroy up."""

PAUSE_SECONDS = 2.0

Host = Mapping[str, Any]


class NotReachedError(Exception):
    """No login: nothing was run."""


async def connect(host: Host) -> asyncssh.SSHClientConnection:
    """Log in at a host whose key is the given one, by way of its bastion, if it has one (``proxy``).

    Raises:
        NotReachedError: no login within the bound, or another host answers.
    """
    proxy = host.get("proxy")
    if not proxy:
        return await _dial(host)
    try:
        bastion = await _dial(proxy)
    except NotReachedError as error:
        place = f"{proxy['address']} port {proxy['port']}"
        raise NotReachedError(f"the bastion (proxy, {place}): {error}") from None
    try:
        connection = await _dial(host, bastion)
    except NotReachedError:
        bastion.abort()
        raise
    connection.set_tunnel(bastion)  # it ends with the connection
    return connection


async def _dial(
    host: Host, bastion: asyncssh.SSHClientConnection | None = None
) -> asyncssh.SSHClientConnection:
    try:
        return await asyncssh.connect(
            host["address"],
            host["port"],
            username=host["user"],
            client_keys=[asyncssh.import_private_key(host["private_key"])],
            known_hosts=([asyncssh.import_public_key(host["host_key"])], [], []),
            tunnel=bastion or (),
            config=None,
            agent_path=None,
            connect_timeout=DIAL_SECONDS,
            login_timeout=DIAL_SECONDS,
            keepalive_interval=15,
        )
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise NotReachedError(str(error) or type(error).__name__) from None


async def run(host: Host) -> int:
    """Run its line on a host; what it says goes to our own streams.

    Returns:
        The line's exit status.

    Raises:
        NotReachedError: see ``connect``.
    """
    async with await connect(host) as connection:
        # asyncssh closes what it writes to, and there may be another host after this one.
        done = await connection.run(
            host["line"],
            stdin=asyncssh.DEVNULL,
            stdout=os.fdopen(os.dup(1), "w"),
            stderr=os.fdopen(os.dup(2), "w"),
        )
    return 1 if done.returncode is None else done.returncode


async def ask(host: Host, line: str, seconds: float) -> tuple[int, str]:
    """Run another line on a host.

    Returns:
        Its exit status, and all that it said.

    Raises:
        NotReachedError: no login, or no answer within ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds), await connect(host) as connection:
            done = await connection.run(line, stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT)
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise NotReachedError(str(error) or type(error).__name__) from None
    return 1 if done.returncode is None else done.returncode, str(done.stdout).strip()


PASSED_OVER = {NOT_WELL: "its API server is not well", NO_CLUSTER: "it is a member of no cluster"}


async def first_that_is_well(hosts: Sequence[Host], patience: float) -> int:
    """Run the hosts' lines in turn, until one was reached and is well.

    Returns:
        The line's exit status; 0 where every host says that it is in no cluster, as there is none.

    Raises:
        NotReachedError: none within ``patience`` seconds; says what each answered last.
    """
    end = time.monotonic() + patience
    while True:
        said, statuses = [], []
        for host in hosts:
            try:
                status = await run(host)
            except NotReachedError as error:
                said.append(f"{host['name']} ({host['address']} port {host['port']}): {error}")
                continue
            if status not in PASSED_OVER:
                return status
            statuses.append(status)
            said.append(f"{host['name']}: {PASSED_OVER[status]}")
        if statuses == [NO_CLUSTER] * len(hosts):
            return 0
        if time.monotonic() + PAUSE_SECONDS > end:
            raise NotReachedError("; ".join(said))
        await asyncio.sleep(PAUSE_SECONDS)


async def part(verb: str, hosts: Sequence[Host]) -> int:
    """Do one of the verbs; returns the exit code."""
    try:
        return await first_that_is_well(hosts, PATIENCE_SECONDS[verb])
    except NotReachedError as error:
        if verb == "end":
            print(
                f"warning: not reached, and so left as it is: {error}. If the host comes back it is no member "
                "of any cluster that this program knows; reinstall it before you use it for anything.",
                file=sys.stderr,
            )
            return 0
        print(
            f"error: no control plane could be asked to let the node go: {error}\n"
            "  expected: one that answers over SSH and whose API server is well\n"
            "  remedy:   bring a control plane back, then run the same command again",
            file=sys.stderr,
        )
        return 1


def main() -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m cluster.parting")
    parser.add_argument("verb", choices=sorted(PATIENCE_SECONDS))
    verb = parser.parse_args().verb
    return asyncio.run(part(verb, json.load(sys.stdin)))


if __name__ == "__main__":
    sys.exit(main())
