"""What is not well in a cluster, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from cluster.certificates import WARN_DAYS
from cluster.status.look import ApiServer, Status

WIDTH = 100
"""Columns of the terminal that tables fit in."""

Row = tuple[str, ...]


# What is not well


def problems(status: Status) -> list[str]:
    """One line for each thing."""
    return [_printable(problem) for rule in RULES for problem in rule(status)]


def _nodes(status: Status) -> Iterator[str]:
    for node in status.nodes:
        if not node.ready:
            yield f"{node.name} is not Ready: {node.reason}"
        if not node.schedulable:
            yield f"{node.name} is cordoned: no new pods until `kubectl uncordon {node.name}`"


def _api_servers(status: Status) -> Iterator[str]:
    for server in status.api_servers:
        if server.trouble:
            yield f"{server.node}'s API server at {server.address} {server.trouble}"


def _etcd(status: Status) -> Iterator[str]:
    for member in status.etcd_members:
        if member.ready is None:
            yield f"{member.node} has no member of etcd"
        elif not member.ready:
            yield f"{member.node}'s member of etcd is not Ready"
    ready, members = _count(status)
    if ready < status.etcd_quorum:
        yield f"etcd has {ready} of {members} members Ready, and needs {status.etcd_quorum}"


def _certificates(status: Status) -> Iterator[str]:
    ends = {f"{s.node}'s API server": s.certificate_until for s in status.api_servers}
    for whose, until in {**ends, "the kubeconfig": status.kubeconfig_until}.items():
        if until and (days := _days(status, until)) < WARN_DAYS:
            yield f"the certificate of {whose} ends on {until:%Y-%m-%d}, days left: {days}"


def _ways_in(status: Status) -> Iterator[str]:
    """An Ingress without address may still be served: not every controller tells where."""
    for way in status.ways_in:
        if way.kind == "Service" and not way.addresses:
            yield f"Service {way.name} waits for an address"


def _upgrades(status: Status) -> Iterator[str]:
    for upgrade in status.upgrades:
        yield f"{upgrade.node} has Kubernetes {upgrade.version}, not {upgrade.target}"


RULES: Sequence[Callable[[Status], Iterator[str]]] = (
    _nodes,
    _api_servers,
    _etcd,
    _certificates,
    _ways_in,
    _upgrades,
)


# What is shown


def lines(status: Status, found: Sequence[str]) -> list[str]:
    """Everything, for people.

    Args:
        status: the cluster.
        found: its problems, told at the end.
    """
    ready, members = _count(status)
    pending = ", ".join(f"{u.node} {u.version} -> {u.target}" for u in status.upgrades)
    return [
        _printable(f"cluster {status.cluster} at {status.endpoint}"),
        "",
        *table([NODES, *_node_rows(status)]),
        "",
        *table([API_SERVERS, *_api_server_rows(status)]),
        "",
        *table([WAYS_IN, *_way_rows(status)]),
        "",
        f"etcd        {ready} of {members} members Ready, quorum {status.etcd_quorum}",
        f"kubeconfig  certificate until {_until(status, status.kubeconfig_until)}",
        _printable(f"upgrades    {pending or 'none pending'}"),
        "",
        *([f"not well: {problem}" for problem in found] or ["all is well"]),
    ]


NODES: Row = ("NODE", "ROLE", "STATUS", "VERSION", "ADDRESS", "OS", "AGE")
API_SERVERS: Row = (
    "API SERVER",
    "ADDRESS",
    "READYZ",
    "READYZ/ETCD",
    "ETCD MEMBER",
    "CERTIFICATE UNTIL",
)
WAYS_IN: Row = ("WAY IN", "NAME", "ADDRESS", "HOSTS")


def _node_rows(status: Status) -> Iterator[Row]:
    for node in status.nodes:
        state = _said(node.ready, "Ready", "NotReady")
        cordoned = "" if node.schedulable else ", cordoned"
        address = next(iter(node.addresses), "-")
        age = _age(status.time - node.since)
        row = (node.name, node.role, state + cordoned, node.version, address, node.os_image, age)
        yield row


def _api_server_rows(status: Status) -> Iterator[Row]:
    for server, member in zip(status.api_servers, status.etcd_members, strict=True):
        yield (
            server.node,
            server.address,
            server.readyz,
            _said(server.etcd, "ok", "failing"),
            _said(member.ready, "Ready", "NotReady"),
            _certificate(status, server),
        )


def _way_rows(status: Status) -> Iterator[Row]:
    yield ("endpoint", status.cluster, status.endpoint.removeprefix("https://"), "")
    for way in status.ways_in:
        yield (way.kind, way.name, ", ".join(way.addresses) or "-", ", ".join(way.hosts))


def _said(answer: bool | None, yes: str, no: str) -> str:
    return "-" if answer is None else yes if answer else no


def _certificate(status: Status, server: ApiServer) -> str:
    if server.certificate_until:
        return _until(status, server.certificate_until)
    return "-" if server.readyz == "no answer" else "not seen from here"


def _until(status: Status, until: datetime) -> str:
    return f"{until:%Y-%m-%d} ({_days(status, until)} days)"


def _days(status: Status, until: datetime) -> int:
    """Whole days left."""
    return (until - status.time).days


def _count(status: Status) -> tuple[int, int]:
    """etcd's members that are Ready, and all of them."""
    answers = [m.ready for m in status.etcd_members if m.ready is not None]
    return sum(answers), len(answers)


def _age(time: timedelta) -> str:
    """The largest unit.

    >>> _age(timedelta(days=3, hours=4)), _age(timedelta(hours=4)), _age(timedelta(seconds=90))
    ('3d', '4h', '1m')
    """
    minutes = int(time.total_seconds()) // 60
    if minutes >= 24 * 60:
        return f"{minutes // (24 * 60)}d"
    return f"{minutes // 60}h" if minutes >= 60 else f"{minutes}m"


def table(rows: Sequence[Row]) -> list[str]:
    """Rows below each other; the widest columns are cut until they fit ``WIDTH``."""
    cells = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    return [_GAP.join(map(_fitted, row, widths)).rstrip() for row in cells]


_GAP = "  "


def _fitted(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def _printable(text: str) -> str:
    """Without what a terminal would obey: nodes and users choose many of these texts."""
    return "".join(c if c.isprintable() else "?" for c in text)
