"""What a stack costs a month, by Hetzner's own price list (``GET /pricing``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cluster.settings import NodeSettings, Settings


@dataclass(frozen=True)
class Money:
    """A monthly price, without and with VAT."""

    net: Decimal
    gross: Decimal

    def __mul__(self, count: int) -> Money:
        return Money(self.net * count, self.gross * count)

    def __add__(self, other: Money) -> Money:
        return Money(self.net + other.net, self.gross + other.gross)


NOTHING = Money(Decimal(0), Decimal(0))


@dataclass(frozen=True)
class Line:
    """A line of the price list: so many of something, and what one of it costs."""

    what: str
    count: int
    each: Money


@dataclass(frozen=True)
class Price:
    """What a stack costs, without volumes and traffic beyond what is included.

    Attributes:
        vat_rate: in percent.
        unlisted: what the API has no price for; not in the totals.
    """

    lines: tuple[Line, ...]
    currency: str
    vat_rate: Decimal
    unlisted: tuple[str, ...] = ()

    @property
    def total(self) -> Money:
        """The sum of all lines, exactly."""
        return sum((line.each * line.count for line in self.lines), NOTHING)

    def table(self) -> str:
        """A table of fixed width; each amount is rounded by itself."""
        title = f"Hetzner Cloud, {self.currency} a month"
        width = max(len(title), *(len(line.what) for line in self.lines), 0)
        rows = [
            _row(width, title, "", f"{'each':>20}", f"{'all':>20}"),
            _row(width, "", "count", *[f"{'net':>9}  {'gross':>9}"] * 2),
            *(
                _row(width, ln.what, str(ln.count), _amounts(ln.each), _amounts(ln.each * ln.count))
                for ln in self.lines
            ),
            _row(width, "total", "", " " * 20, _amounts(self.total)),
        ]
        rule = "-" * len(rows[-1])
        return "\n".join([*rows[:2], rule, *rows[2:-1], rule, rows[-1], *self._notes()])

    def _notes(self) -> Iterator[str]:
        yield f"Gross is with {self.vat_rate.normalize():f} % VAT."
        yield "Volumes, and traffic beyond what is included, come on top."
        if self.unlisted:
            yield f"Not counted, as Hetzner lists no price for it: {', '.join(self.unlisted)}."


def _row(width: int, what: str, count: str, each: str, every: str) -> str:
    return f"{what:{width}}  {count:>5}  {each}  {every}"


def _amounts(money: Money) -> str:
    return f"{cents(money.net):>9}  {cents(money.gross):>9}"


def cents(amount: Decimal) -> Decimal:
    """Rounded as on a bill."""
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


@dataclass(frozen=True)
class Tariff:
    """Monthly prices by name (server and load balancer types) and location.

    Attributes:
        vat_rate: in percent.
    """

    currency: str
    vat_rate: Decimal
    server_types: Mapping[tuple[str, str], Money]
    load_balancer_types: Mapping[tuple[str, str], Money]
    primary_ips: Mapping[str, Money]
    floating_ips: Mapping[str, Money]

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Tariff:
        """The API's ``pricing``; of addresses only IPv4 ones, as IPv6 costs nothing and is not used."""
        return cls(
            currency=answer["currency"],
            vat_rate=Decimal(answer["vat_rate"]),
            server_types=_by_name_and_place(answer["server_types"]),
            load_balancer_types=_by_name_and_place(answer["load_balancer_types"]),
            primary_ips=_of_ipv4(answer["primary_ips"]),
            floating_ips=_of_ipv4(answer["floating_ips"]),
        )

    def price(self, settings: Settings) -> Price:
        """What a stack costs a month when it is as its settings say."""
        wanted = [*self._servers(settings), *self._entries(settings)]
        return Price(
            tuple(Line(what, count, each) for what, count, each in wanted if each is not None),
            self.currency,
            self.vat_rate,
            tuple(what for what, _, each in wanted if each is None),
        )

    def _servers(self, settings: Settings) -> Iterator[tuple[str, int, Money | None]]:
        kinds = [type_and_place(node) for node in settings.hetzner_nodes.values()]
        for (kind, place), count in Counter(kinds).items():
            yield f"server {kind} at {place}", count, self.server_types.get((kind, place))
        for place, count in Counter(place for _, place in kinds).items():
            yield f"IPv4 address at {place}", count, self.primary_ips.get(place)

    def _entries(self, settings: Settings) -> Iterator[tuple[str, int, Money | None]]:
        shared = settings.hetzner
        place, kind = shared.location, shared.load_balancer_type
        balancer = self.load_balancer_types.get((kind, place))
        if settings.entry == "load-balancer":
            yield f"load balancer {kind} at {place}, for HTTP", 1, balancer
        if settings.entry == "floating-ips":
            floating = self.floating_ips.get(place)
            yield f"floating IPv4 address at {place}", shared.floating_ips, floating
        if settings.api_balancer_address:
            yield f"load balancer {kind} at {place}, for the API", 1, balancer


def type_and_place(node: NodeSettings) -> tuple[str, str]:
    """What a server's price hangs on: its type and location."""
    assert node.server_type, "settings fill it in for servers"
    assert node.location, "settings fill it in for servers"
    return node.server_type, node.location


def _by_name_and_place(kinds: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Money]:
    return {
        (kind["name"], price["location"]): _money(price)
        for kind in kinds
        for price in kind["prices"]
    }


def _of_ipv4(kinds: Iterable[Mapping[str, Any]]) -> dict[str, Money]:
    prices = (price for kind in kinds if kind["type"] == "ipv4" for price in kind["prices"])
    return {price["location"]: _money(price) for price in prices}


def _money(price: Mapping[str, Any]) -> Money:
    monthly = price["price_monthly"]
    return Money(Decimal(monthly["net"]), Decimal(monthly["gross"]))
