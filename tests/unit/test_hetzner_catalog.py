"""What Hetzner's API said, held against stack files: refusals, warnings and the price list."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from urllib3 import Retry

from cluster.errors import Problem
from cluster.machines.hetzner.api import HetznerError, connect
from cluster.machines.hetzner.catalog import Catalog
from cluster.settings import Settings
from tests.unit.hetzner_apis import TOKEN, Answer, canned_api, standin
from tests.unit.stacks import load

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PAST, SOON = "2026-01-01T00:00:00Z", "2027-02-28T00:00:00+00:00"
EUROPE = ("fsn1", "nbg1", "hel1")

SITE: Mapping[str, Any] = {
    "clusterName": "own",
    "machines": "hetzner",
    "nodeCidr": "10.78.0.0/24",
    "adminCidrs": ["203.0.113.7/32"],
    "nodes": {"cp1": {"role": "control-plane"}},
    "nodePools": {"worker": {"role": "worker", "count": 2}},
}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)


def settings(changes: Mapping[str, Any] | None = None) -> Settings:
    return load(changes, SITE).settings


# --- the API's answers, by hand ----------------------------------------------------------------------


def deprecation(after: str | None) -> dict[str, str] | None:
    return {"announced": "2025-10-16T00:00:00Z", "unavailable_after": after} if after else None


def money(net: str) -> dict[str, str]:
    gross = Decimal(net) * Decimal("1.19")
    return {"net": f"{Decimal(net):.10f}", "gross": f"{gross:.16f}"}


def prices(net: str, places: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"location": p, "price_hourly": money("0.01"), "price_monthly": money(net)} for p in places
    ]


@dataclass(frozen=True)
class Kind:
    """A server type as the tests name it."""

    name: str
    cores: int
    memory: float
    net: str
    places: Sequence[str] = EUROPE
    disk: int = 40
    arm: bool = False
    dedicated: bool = False
    short: Sequence[str] = ()
    """Where it is out of stock."""
    gone: Mapping[str, str] = field(default_factory=dict)
    """Until when it is sold, by location."""

    def answer(self) -> dict[str, Any]:
        return {
            "id": 1,
            "name": self.name,
            "cores": self.cores,
            "memory": self.memory,
            "disk": self.disk,
            "cpu_type": "dedicated" if self.dedicated else "shared",
            "architecture": "arm" if self.arm else "x86",
            "locations": [
                {
                    "id": 1,
                    "name": place,
                    "available": place not in self.short,
                    "deprecation": deprecation(self.gone.get(place)),
                }
                for place in self.places
            ],
        }


KINDS = (
    Kind("cx22", 2, 4.0, "3.29", gone=dict.fromkeys(EUROPE, PAST)),
    Kind("cx23", 2, 4.0, "2.99", short=("hel1",), gone={"nbg1": SOON}),
    Kind("cx33", 4, 8.0, "4.99", disk=80),
    Kind("cx43", 8, 16.0, "8.99", disk=160, short=EUROPE),
    Kind("cpx22", 2, 4.0, "5.99", (*EUROPE, "sin"), disk=80),
    Kind("cpx32", 4, 8.0, "10.49", (*EUROPE, "sin"), disk=160),
    Kind("ccx13", 2, 8.0, "12.49", (*EUROPE, "ash", "sin"), disk=80, dedicated=True),
    Kind("cax11", 2, 4.0, "3.79", arm=True),
    Kind("cax21", 4, 8.0, "6.49", disk=80, arm=True, short=("fsn1", "nbg1", "hel1")),
)


def image(
    name: str | None, arm: bool = False, gone: str | None = None, id_: int = 7
) -> dict[str, Any]:
    return {
        "id": id_,
        "name": name,
        "architecture": "arm" if arm else "x86",
        "deprecation": deprecation(gone),
    }


IMAGES = (
    image("debian-12"),
    image("debian-12", arm=True),
    image("debian-13", gone=SOON),
    image("ubuntu-24.04"),
    image("ubuntu-24.04", arm=True),
    image("centos-7", gone=PAST),
    image(None, id_=4711),
)

LOCATIONS = (
    {"name": "fsn1", "city": "Falkenstein", "network_zone": "eu-central"},
    {"name": "nbg1", "city": "Nuremberg", "network_zone": "eu-central"},
    {"name": "hel1", "city": "Helsinki", "network_zone": "eu-central"},
    {"name": "ash", "city": "Ashburn, VA", "network_zone": "us-east"},
    {"name": "sin", "city": "Singapore", "network_zone": "ap-southeast"},
)
PLACES = tuple(place["name"] for place in LOCATIONS)

PRICING: Mapping[str, Any] = {
    "currency": "EUR",
    "vat_rate": "19.00",
    "primary_ips": [
        {"type": "ipv6", "prices": prices("0", PLACES)},
        {"type": "ipv4", "prices": prices("0.5", PLACES)},
    ],
    "floating_ips": [{"type": "ipv4", "prices": prices("3", PLACES)}],
    "server_types": [
        # As if the withdrawn one had left the list.
        {"name": kind.name, "prices": prices(kind.net, kind.places)}
        for kind in KINDS
        if kind.name != "cx22"
    ],
    "load_balancer_types": [
        {"name": "lb11", "prices": prices("5.39", PLACES)},
        {"name": "lb21", "prices": prices("16.4", PLACES)},
    ],
}


def server(node: str, kind: str = "cx23", place: str = "fsn1", **more: Any) -> dict[str, Any]:
    size = next(o for o in KINDS if o.name == kind)
    return {
        "name": f"own-{node}",
        "labels": {"own-kubernetes/cluster": "own", "own-kubernetes/node": node},
        "server_type": size.answer(),
        "primary_disk_size": size.disk,
        "location": {"name": place},
        "image": image("debian-12"),
        **more,
    }


def answers(servers: Sequence[Any] = (), keys: Sequence[str] = ()) -> dict[str, list[Any]]:
    return {
        "locations": list(LOCATIONS),
        "server_types": [kind.answer() for kind in KINDS],
        "images": list(IMAGES),
        "load_balancer_types": [{"name": "lb11"}, {"name": "lb21"}],
        "servers": list(servers),
        "ssh_keys": [{"public_key": key} for key in keys],
        "pricing": [PRICING],
    }


def catalog(*servers: Any, keys: Sequence[str] = ()) -> Catalog:
    read = Catalog.read(**answers(servers, keys))
    return Catalog(**{**vars(read), "asked": NOW})


# --- asking ---------------------------------------------------------------------------------------------


def test_everything_is_asked_once_and_side_by_side() -> None:
    with canned_api() as hetzner:
        for kind, entries in answers([server("cp1")], ["ssh-ed25519 AAAAold own"]).items():
            body = {kind: entries[0] if kind == "pricing" else entries}
            hetzner.routes[f"GET /{kind}"] = [Answer(200, body)]
        hetzner.before = threading.Barrier(7, timeout=10).wait
        fetched = Catalog.fetch(TOKEN, hetzner.url, "own")
    assert Catalog(**{**vars(fetched), "asked": NOW}) == catalog(
        server("cp1"), keys=["ssh-ed25519 AAAAold own"]
    )
    ours = "label_selector=own-kubernetes%2Fcluster%3Down&page=1&per_page=50"
    assert sorted(hetzner.asked) == [
        "GET /v1/images?type=system&type=snapshot&include_deprecated=true&page=1&per_page=50",
        "GET /v1/load_balancer_types?page=1&per_page=50",
        "GET /v1/locations?page=1&per_page=50",
        "GET /v1/pricing",
        "GET /v1/server_types?page=1&per_page=50",
        f"GET /v1/servers?{ours}",
        f"GET /v1/ssh_keys?{ours}",
    ]


def test_the_stand_in_is_understood(tmp_path: Path) -> None:
    with standin(tmp_path) as hetzner:
        client = connect(TOKEN, hetzner.endpoint)
        client.servers.create(
            "own-cp1",
            ServerType(name="cx23"),
            Image(name="debian-13"),
            location=Location(name="nbg1"),
            labels={"own-kubernetes/cluster": "own", "own-kubernetes/node": "cp1"},
        )
        hetzner.api.control.answer("POST", "/control/unavailable", SHORT)
        fetched = Catalog.fetch(TOKEN, hetzner.endpoint, "own")
        others = Catalog.fetch(TOKEN, hetzner.endpoint, "other")
    at_nbg1 = settings({"hetzner": {"location": "nbg1"}})
    assert not fetched.missing("cp1")
    assert [text.split(":")[0] for text in fetched.warnings(at_nbg1)] == [
        "hetzner.image = 'debian-12'"
    ]
    assert [problem.expected for problem in fetched.problems(at_nbg1)] == [
        "a server type that is available at nbg1 now, for worker-1 and worker-2"
    ]
    assert others.missing("cp1")
    assert others.problems(settings()) == []
    assert str(others.price(settings()).total.net) == "12.5000000000"


SHORT = {"server_type": "cx23", "location": "nbg1"}


def test_a_stand_in_out_of_requests_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retry, "get_backoff_time", lambda _: 0.01)
    with standin(tmp_path) as hetzner:
        hetzner.api.control.answer("POST", "/control/faults", {"kind": "rate_limit", "times": 5})
        assert Catalog.fetch(TOKEN, hetzner.endpoint, "own").missing("cp1")
        hetzner.api.control.answer("POST", "/control/faults", {"kind": "rate_limit", "times": 99})
        with pytest.raises(
            HetznerError, match=r"too many requests \(429\)\n.* 3600 requests an hour"
        ):
            Catalog.fetch(TOKEN, hetzner.endpoint, "own")


def test_servers_without_a_node_are_not_ours() -> None:
    other = server("cp1", labels={"own-kubernetes/cluster": "own"})
    assert catalog(other).missing("cp1")


# --- what is refused -----------------------------------------------------------------------------------


class Bad(NamedTuple):
    """A stack file that Hetzner would refuse, and what the program says instead."""

    case: str
    changes: Mapping[str, Any]
    problems: Sequence[str]


BAD = [
    Bad(
        "unknown location",
        {"hetzner.location": "fsn2"},
        [
            "hetzner.location = 'fsn2'\n"
            "      expected: a location of Hetzner Cloud: fsn1 (Falkenstein), nbg1 (Nuremberg), "
            "hel1 (Helsinki), ash (Ashburn, VA), sin (Singapore)\n"
            "      remedy:   did you mean fsn1?",
        ],
    ),
    Bad(
        "unknown type, named once for all of a pool",
        {"nodePools.worker.serverType": "cx333"},
        [
            "nodePools.worker.serverType = 'cx333'\n"
            "      expected: a server type of Hetzner Cloud that is sold at fsn1, like cx33, cx43 or cx23\n"
            "      remedy:   did you mean cx33?",
        ],
    ),
    Bad(
        "unknown type that is like none",
        {"nodes.cp1.serverType": "m5.large"},
        [
            "nodes.cp1.serverType = 'm5.large'\n"
            "      expected: a server type of Hetzner Cloud that is sold at fsn1, "
            "like cx23, cax11 or cx33\n"
            "      remedy:   choose one of those",
        ],
    ),
    Bad(
        "type not sold at the location",
        {"hetzner": {"location": "sin"}},
        [
            "hetzner.serverType = 'cx23'\n"
            "      expected: a server type that is sold at sin; cx23 is not sold there at all\n"
            "      remedy:   choose cpx22 (2 cores, 4 GB, 5.99 EUR net a month), "
            "cpx32 (4 cores, 8 GB, 10.49 EUR net a month) or "
            "ccx13 (2 cores, 8 GB, 12.49 EUR net a month)",
        ],
    ),
    Bad(
        "type withdrawn",
        {"hetzner.serverType": "cx22"},
        [
            "hetzner.serverType = 'cx22'\n"
            "      expected: a server type that is sold at fsn1; cx22 is not sold any more\n"
            "      remedy:   choose cx23 (2 cores, 4 GB, 2.99 EUR net a month), "
            "cx33 (4 cores, 8 GB, 4.99 EUR net a month) or "
            "cpx22 (2 cores, 4 GB, 5.99 EUR net a month)",
        ],
    ),
    Bad(
        "type out of stock at one location",
        {"nodePools.worker.location": "hel1"},
        [
            "hetzner.serverType = 'cx23'\n"
            "      expected: a server type that is available at hel1 now, for worker-1 and worker-2\n"
            "      remedy:   choose cx33 (4 cores, 8 GB, 4.99 EUR net a month), "
            "cpx22 (2 cores, 4 GB, 5.99 EUR net a month) or "
            "cpx32 (4 cores, 8 GB, 10.49 EUR net a month); or go to fsn1 or nbg1 with cx23",
        ],
    ),
    Bad(
        "type out of stock in the whole zone, and nothing like it",
        {"nodes.cp1.serverType": "cax21"},
        [
            "nodes.cp1.serverType = 'cax21'\n"
            "      expected: a server type that is available at fsn1 now, for cp1\n"
            "      remedy:   wait, or choose another location outside of eu-central",
        ],
    ),
    Bad(
        "several network zones: that of the location for all counts",
        {"nodePools.worker.location": "ash", "nodePools.worker.serverType": "ccx13"},
        [
            "nodePools.worker.location = 'ash'\n"
            "      expected: a location in eu-central, the network zone of the cluster (ash is in "
            "us-east): a private network lies in one zone\n"
            "      remedy:   choose fsn1, nbg1 or hel1, or make a cluster for each zone",
        ],
    ),
    Bad(
        "a location of its own in another zone",
        {"nodes.w9": {"role": "worker", "location": "ash", "serverType": "ccx13"}},
        [
            "nodes.w9.location = 'ash'\n"
            "      expected: a location in eu-central, the network zone of the cluster (ash is in "
            "us-east): a private network lies in one zone\n"
            "      remedy:   choose fsn1, nbg1 or hel1, or make a cluster for each zone",
        ],
    ),
    Bad(
        "load balancers elsewhere than all servers",
        {
            "hetzner": {"location": "ash"},
            "nodes.cp1.location": "nbg1",
            "nodePools.worker.location": "nbg1",
        },
        [
            "hetzner.location = 'ash'\n"
            "      expected: a location in eu-central, the network zone of the cluster (ash is in "
            "us-east): a private network lies in one zone\n"
            "      remedy:   choose fsn1, nbg1 or hel1, or make a cluster for each zone",
        ],
    ),
    Bad(
        "unknown image",
        {"hetzner.image": "debian-21"},
        [
            "hetzner.image = 'debian-21'\n"
            "      expected: an image of Hetzner Cloud, like debian-13 or debian-12, or a snapshot's id\n"
            "      remedy:   did you mean debian-13?",
        ],
    ),
    Bad(
        "image of the other architecture",
        {"nodePools.worker.serverType": "cax11", "hetzner.image": "debian-13"},
        [
            "hetzner.image = 'debian-13'\n"
            "      expected: an image for arm processors (debian-13 is not), like debian-12\n"
            "      remedy:   did you mean debian-12?",
        ],
    ),
    Bad(
        "image withdrawn",
        {"nodes.cp1.image": "centos-7"},
        [
            "nodes.cp1.image = 'centos-7'\n"
            "      expected: an image that Hetzner still offers, like debian-12, debian-13 or ubuntu-24.04\n"
            "      remedy:   choose one of those",
        ],
    ),
    Bad(
        "unknown load balancer type",
        {"hetzner.loadBalancerType": "lb12"},
        [
            "hetzner.loadBalancerType = 'lb12'\n"
            "      expected: a load balancer type of Hetzner Cloud: lb11 or lb21\n"
            "      remedy:   did you mean lb21?",
        ],
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.case)
def test_what_hetzner_would_refuse_is_refused_first(bad: Bad) -> None:
    assert [str(problem) for problem in catalog().problems(settings(bad.changes))] == bad.problems


GOOD = {
    "as it stands": {},
    "ARM and x86 side by side": {"nodePools.worker.serverType": "cax11"},
    "locations of one zone": {"nodePools.worker.location": "nbg1"},
    "a snapshot by its id": {"nodes.cp1.image": "4711"},
    "another zone for everything": {"hetzner": {"location": "sin", "serverType": "cpx22"}},
    "no load balancer, so no type of one": {
        "hetzner": {"ingress": "floating-ips", "loadBalancerType": "none"}
    },
}


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD)
def test_what_hetzner_sells_passes(changes: Mapping[str, Any]) -> None:
    assert catalog().problems(settings(changes)) == []


def test_a_site_without_servers_is_not_looked_at() -> None:
    hosts = load().settings.model_copy(update={"machines": "existing"})
    assert catalog().problems(hosts) == []


ALL = ("cp1", "worker-1", "worker-2")


def test_servers_that_run_may_be_of_types_and_images_that_are_gone() -> None:
    there = catalog(*(server(name, "cx22", image=image("centos-7", gone=PAST)) for name in ALL))
    gone = settings({"hetzner": {"serverType": "cx22", "image": "centos-7"}})
    assert there.problems(gone) == []
    assert not any(there.missing(name) for name in ALL)


def test_out_of_stock_concerns_the_missing_server_only() -> None:
    at_hel1 = settings({"hetzner.location": "hel1"})
    there = [server(name, place="hel1") for name in ALL]
    assert catalog(*there).problems(at_hel1) == []
    short = catalog(*there[:2])
    assert short.missing("worker-2")
    assert [p.expected for p in short.problems(at_hel1)] == [
        "a server type that is available at hel1 now, for worker-2"
    ]


class Resize(NamedTuple):
    """A server that runs, and the type that it should have."""

    had: str
    wanted: str
    expected: str


@pytest.mark.parametrize(
    "resize",
    [
        Resize("cx23", "cax11", "a server type with x86 processors, as cp1 has one"),
        Resize(
            "cx33",
            "cx23",
            "a server type with a disk of 80 GB or more, as that of cp1 can't shrink (cx23 has 40 GB)",
        ),
        Resize("cx23", "cx22", "a server type that is sold at fsn1; cx22 is not sold any more"),
        Resize("cx23", "cx33", ""),
    ],
    ids=lambda resize: f"{resize.had} to {resize.wanted}",
)
def test_resizing_keeps_processor_and_disk(resize: Resize) -> None:
    there = catalog(server("cp1", resize.had))
    wanted = settings({"nodes.cp1.serverType": resize.wanted})
    found = [p for p in there.problems(wanted) if p.expected.startswith("a server type")]
    assert [p.expected for p in found] == ([resize.expected] if resize.expected else [])


def test_a_resize_that_can_not_be_says_how_to_replace_the_server() -> None:
    wanted = settings({"nodes.cp1.serverType": "cax11"})
    assert catalog(server("cp1")).problems(wanted) == [
        Problem(
            "nodes.cp1.serverType",
            "cax11",
            "a server type with x86 processors, as cp1 has one",
            "go back to cx23, or have the server made anew: delete own-cp1 in Hetzner's console, then "
            "run `pulumi up`",
        )
    ]


def test_the_network_zone_is_that_of_the_servers() -> None:
    assert catalog().network_zone(settings()) == "eu-central"
    assert catalog().network_zone(settings({"hetzner": {"location": "sin"}})) == "ap-southeast"
    with pytest.raises(HetznerError, match="no server is at a location of Hetzner Cloud"):
        catalog().network_zone(settings({"hetzner": {"location": "moon"}}))


# --- what is warned of -----------------------------------------------------------------------------------


def test_no_warning_where_all_is_as_it_should_be() -> None:
    assert catalog().warnings(settings()) == []
    assert catalog(*map(server, ALL)).warnings(settings()) == []


def test_changes_that_a_server_does_not_take_in_place() -> None:
    there = catalog(
        server("cp1", image=image("ubuntu-24.04")),
        server("worker-1", "cx22"),
        server("worker-2", place="hel1"),
    )
    assert sorted(there.warnings(settings())) == [
        "hetzner.image = 'debian-12': server own-cp1 keeps the image that it was made from, "
        "ubuntu-24.04. To rebuild it, losing all that is on it: delete own-cp1 in Hetzner's console, "
        "then run `pulumi up`.",
        "hetzner.location = 'fsn1': server own-worker-2 is at hel1. It will be replaced by a new one: "
        "all that is on it is lost, its address changes.",
        "hetzner.serverType = 'cx23': server own-worker-1 is a cx22. It will be resized, and is "
        "switched off for that, for some minutes.",
    ]


def test_an_image_that_hetzner_has_forgotten_is_no_change() -> None:
    assert catalog(server("cp1", image=None)).warnings(settings()) == []


def test_types_and_images_about_to_go() -> None:
    going = settings({"hetzner": {"location": "nbg1", "image": "debian-13"}})
    assert catalog().warnings(going) == [
        "hetzner.serverType = 'cx23': at nbg1, servers of this type can be made until 2027-02-28 only. "
        "Those that are there stay.",
        "hetzner.image = 'debian-13': servers can be made from this image until 2027-02-28 only. "
        "Those that are there stay.",
    ]


def test_another_login_key_than_the_registered_one() -> None:
    there = catalog(server("cp1"), server("worker-1"), keys=["ssh-ed25519 AAAAold own"])
    assert there.warnings(settings(), "ssh-ed25519 AAAAold somebody@home") == []
    assert there.warnings(settings(), "ssh-ed25519 AAAAnew somebody@home") == [
        "sshPrivateKey is not the key that is registered for this cluster: the servers that there are "
        "(own-cp1 and own-worker-1) let in the old one only. Add the new public key to "
        "/root/.ssh/authorized_keys on each of them first."
    ]


# --- the price list --------------------------------------------------------------------------------------


def test_the_price_of_a_small_site() -> None:
    assert catalog().price(settings({"nodePools.worker.serverType": "cax11"})).table() == (
        "Hetzner Cloud, EUR a month                                   each                   all\n"
        "                                      count        net      gross        net      gross\n"
        "---------------------------------------------------------------------------------------\n"
        "server cax11 at fsn1                      2       3.79       4.51       7.58       9.02\n"
        "server cx23 at fsn1                       1       2.99       3.56       2.99       3.56\n"
        "IPv4 address at fsn1                      3       0.50       0.60       1.50       1.79\n"
        "load balancer lb11 at fsn1, for HTTP      1       5.39       6.41       5.39       6.41\n"
        "---------------------------------------------------------------------------------------\n"
        "total                                                                  17.46      20.78\n"
        "Gross is with 19 % VAT.\n"
        "Volumes, and traffic beyond what is included, come on top."
    )


def test_the_price_with_floating_ips_and_a_load_balancer_for_the_api() -> None:
    shared = {"ingress": "floating-ips", "floatingIps": 2, "apiLoadBalancer": True}
    assert catalog().price(settings({"hetzner": shared})).table() == (
        "Hetzner Cloud, EUR a month                                      each                   all\n"
        "                                         count        net      gross        net      gross\n"
        "------------------------------------------------------------------------------------------\n"
        "server cx23 at fsn1                          3       2.99       3.56       8.97      10.67\n"
        "IPv4 address at fsn1                         3       0.50       0.60       1.50       1.79\n"
        "floating IPv4 address at fsn1                2       3.00       3.57       6.00       7.14\n"
        "load balancer lb11 at fsn1, for the API      1       5.39       6.41       5.39       6.41\n"
        "------------------------------------------------------------------------------------------\n"
        "total                                                                     21.86      26.01\n"
        "Gross is with 19 % VAT.\n"
        "Volumes, and traffic beyond what is included, come on top."
    )


def test_what_has_no_price_is_named() -> None:
    price = catalog().price(settings({"nodes.cp1.serverType": "cx22"}))
    assert price.unlisted == ("server cx22 at fsn1",)
    assert price.table().splitlines()[-1] == (
        "Not counted, as Hetzner lists no price for it: server cx22 at fsn1."
    )


def test_sums_are_of_exact_prices_not_of_rounded_ones() -> None:
    price = catalog().price(settings({"nodePools.worker.count": 9}))
    assert price.total.net == 10 * Decimal("2.99") + 10 * Decimal("0.5") + Decimal("5.39")
    assert price.total.gross == price.total.net * Decimal("1.19")


def test_a_site_without_servers_costs_nothing() -> None:
    assert catalog().price(load().settings).lines == ()
