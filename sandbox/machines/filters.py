"""Firewalls of routed servers, at the provider's edge: a server's root neither sees nor changes them.

Each filtered server has an nftables table in the edge's namespace, named after the machine, which
looks at nothing but what is routed to its public port. The bridge cannot do that: this kernel has no
connection tracking for switched frames, which is one reason why servers' ports are routed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses

from sandbox.machines.network import NAMESPACE, namespaces


@dataclass(frozen=True)
class Opening:
    """What may come in from the given networks.

    ``protocol`` is ``tcp``, ``udp``, ``icmp``, ``esp`` or ``gre``; ``ports`` is one port or a range
    such as ``80-90``, None for all of them.
    """

    protocol: str
    ports: str | None
    sources: tuple[IPv4Network, ...]


def render(name: str, openings: Sequence[Opening]) -> str:
    """The server's table for ``nft -f``, which replaces the one that is there."""
    lines = [
        "type filter hook forward priority filter; policy accept;",
        f'oifname != "{name}" accept',
        "ct state established,related accept",
        *(line for opening in openings for line in _rule(opening)),
        "drop",
    ]
    body = "".join(f"    {line}\n" for line in lines)
    # The first line makes the table where there is none: deleting it must not fail.
    return (
        f"table inet {name}\ndelete table inet {name}\n"
        f"table inet {name} {{\n  chain inbound {{\n{body}  }}\n}}\n"
    )


def apply(name: str, openings: Sequence[Opening] | None) -> None:
    """Filter what comes in at the server's public port; None lets everything in.

    Raises:
        RuntimeError: nft refused it.
    """
    table = f"table inet {name}\n"
    _nft(render(name, openings) if openings is not None else f"{table}delete {table}")


def remove(name: str) -> None:
    """Remove the server's table, if there is one."""
    if NAMESPACE in namespaces():
        apply(name, None)


def _rule(opening: Opening) -> Iterator[str]:
    sources = list(collapse_addresses(opening.sources))
    if not sources:
        return
    allowed = f"ip saddr {{ {', '.join(map(str, sources))} }}"
    if opening.ports is None:
        yield f"{allowed} ip protocol {opening.protocol} accept"
    else:
        yield f"{allowed} {opening.protocol} dport {opening.ports} accept"


def _nft(text: str) -> None:
    command = ["ip", "netns", "exec", NAMESPACE, "nft", "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nft: {done.stderr.strip()}\n{text}")
