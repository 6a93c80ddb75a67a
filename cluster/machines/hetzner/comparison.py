"""Settings held against what Hetzner offers and against what the cluster has there.

Nodes that have a value from the same place of the stack file are looked at together: one edit mends all
of them, so one problem names it.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from cluster.errors import Problem
from cluster.machines.hetzner.prices import cents, type_and_place
from cluster.settings import Settings

if TYPE_CHECKING:
    from cluster.machines.hetzner.catalog import Catalog, Image

ALTERNATIVES = 3
"""How many other names a refusal gives."""

Key = Literal["serverType", "location", "image"]
_ATTRIBUTES: Mapping[Key, str] = {
    "serverType": "server_type",
    "location": "location",
    "image": "image",
}


@dataclass(frozen=True)
class Setting:
    """A value of the stack file: its path there, and what stands there."""

    path: str
    value: str


@dataclass(frozen=True)
class Comparison:
    """The one held against the other; see ``Catalog.problems`` and ``Catalog.warnings``."""

    catalog: Catalog
    settings: Settings

    def problems(self) -> list[Problem]:
        """Everything that Hetzner would refuse."""
        if not self.settings.hetzner_nodes:
            return []
        return [
            *self._unknown_locations(),
            *self._zones(),
            *self._types_of_new_servers(),
            *self._types_of_resized_servers(),
            *self._images(),
            *self._load_balancer_type(),
        ]

    def warnings(self, login_key: str | None) -> list[str]:
        """What does not change in place, or goes away one day."""
        return [
            *(text for name in self.settings.hetzner_nodes for text in self._changes(name)),
            *self._going_types(),
            *self._going_images(),
            *self._login_key(login_key),
        ]

    # What there is to look at

    @cached_property
    def _new(self) -> list[str]:
        """Nodes that get a new server: they have none, or one elsewhere."""
        nodes, servers = self.settings.hetzner_nodes, self.catalog.servers
        return [n for n in nodes if n not in servers or servers[n].location != nodes[n].location]

    @cached_property
    def _resized(self) -> list[str]:
        nodes, servers = self.settings.hetzner_nodes, self.catalog.servers
        kept = [name for name in nodes if name not in self._new]
        return [name for name in kept if servers[name].server_type != nodes[name].server_type]

    def _set_by(self, key: Key, nodes: Iterable[str]) -> dict[Setting, list[str]]:
        """Nodes by the setting that they have a value from."""
        groups: dict[Setting, list[str]] = defaultdict(list)
        for name in nodes:
            groups[self._setting(name, key)].append(name)
        return groups

    def _setting(self, name: str, key: Key) -> Setting:
        """Where a node's value is from: itself, its pool, or what holds for all."""
        settings, attribute = self.settings, _ATTRIBUTES[key]
        value, pool = getattr(settings.nodes[name], attribute), self._pools.get(name)
        if pool:
            own = getattr(settings.node_pools[pool], attribute) is not None
        else:
            own = value != getattr(settings.hetzner, attribute)
        place = f"nodePools.{pool}" if pool else f"nodes.{name}"
        return Setting(f"{place if own else 'hetzner'}.{key}", value)

    @cached_property
    def _pools(self) -> dict[str, str]:
        """The pool of each node that is of one."""
        pools = self.settings.node_pools
        return {name: pool for pool, values in pools.items() for name in values.nodes(pool)}

    def _by_place(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Nodes by location, without unknown ones, which have a problem of their own."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            place = type_and_place(self.settings.hetzner_nodes[name])[1]
            if place in self.catalog.locations:
                groups[place].append(name)
        return groups

    # Locations

    @cached_property
    def _locations(self) -> dict[Setting, list[str]]:
        """The settings that name a location, and the nodes there."""
        return {self._shared: [], **self._set_by("location", self.settings.hetzner_nodes)}

    @property
    def _shared(self) -> Setting:
        return Setting("hetzner.location", self.settings.hetzner.location)

    def _unknown_locations(self) -> Iterator[Problem]:
        known = self.catalog.locations
        listed = ", ".join(f"{place.name} ({place.city})" for place in known.values())
        for setting in self._locations:
            if setting.value not in known:
                yield Problem(
                    setting.path,
                    setting.value,
                    f"a location of Hetzner Cloud: {listed}",
                    _choose(setting.value, known),
                )

    def _zones(self) -> Iterator[Problem]:
        """A private network lies in one network zone, and so does what is in it."""
        known = self.catalog.locations
        zones = Counter[str]()
        for setting, nodes in self._locations.items():
            if setting.value in known:
                zones[known[setting.value].network_zone] += len(nodes)
        if len(zones) < 2:
            return
        zone = self._home() or zones.most_common(1)[0][0]
        inside = [place.name for place in known.values() if place.network_zone == zone]
        for setting in self._locations:
            other = known[setting.value].network_zone if setting.value in known else zone
            if other != zone:
                yield Problem(
                    setting.path,
                    setting.value,
                    f"a location in {zone}, the network zone of the cluster ({setting.value} is in "
                    f"{other}): a private network lies in one zone",
                    f"choose {_or(inside)}, or make a cluster for each zone",
                )

    def _home(self) -> str | None:
        """The zone of the location that holds for all, if it is known and a server is there."""
        known = self.catalog.locations.get(self._shared.value)
        return known.network_zone if known and self._locations[self._shared] else None

    # Server types

    def _types_of_new_servers(self) -> Iterator[Problem]:
        for setting, names in self._set_by("serverType", self._new).items():
            for place, nodes in self._by_place(names).items():
                unsold = self._unsold(setting, place)
                if unsold:
                    yield unsold
                elif not self._available(setting.value, place):
                    yield Problem(
                        setting.path,
                        setting.value,
                        f"a server type that is available at {place} now, for {_and(nodes)}",
                        self._instead(setting.value, place),
                    )

    def _types_of_resized_servers(self) -> Iterator[Problem]:
        for setting, names in self._set_by("serverType", self._resized).items():
            for place, nodes in self._by_place(names).items():
                unsold = self._unsold(setting, place)
                if unsold:
                    yield unsold
                else:
                    yield from (p for name in nodes for p in self._misfit(setting, name))

    def _unsold(self, setting: Setting, place: str) -> Problem | None:
        """The problem with a type that is not sold at a location, if it is not."""
        kind, types = setting.value, self.catalog.server_types
        if kind not in types:
            names = [name for name in types if self._sold(name, place)]
            near = _near(kind, names) or self._cheapest(names, place)
            expected = f"a server type of Hetzner Cloud that is sold at {place}, like {_or(near)}"
            return Problem(setting.path, kind, expected, _choose(kind, names))
        if not self._sold(kind, place):
            how = "any more" if place in types[kind].places else "there at all"
            expected = f"a server type that is sold at {place}; {kind} is not sold {how}"
            return Problem(setting.path, kind, expected, self._instead(kind, place))
        return None

    def _misfit(self, setting: Setting, name: str) -> Iterator[Problem]:
        """What a server can't be resized to: its processor stays, its disk does not shrink."""
        new, server = self.catalog.server_types[setting.value], self.catalog.servers[name]
        expected = ""
        if new.architecture != server.architecture:
            expected = f"a server type with {server.architecture} processors, as {name} has one"
        elif new.disk < server.disk:
            expected = (
                f"a server type with a disk of {server.disk} GB or more, as that of {name} can't "
                f"shrink ({new.name} has {new.disk} GB)"
            )
        if expected:
            remedy = f"go back to {server.server_type}, or have the server made anew: "
            remedy += _how_to_replace(server.name)
            yield Problem(setting.path, setting.value, expected, remedy)

    def _sold(self, kind: str, place: str) -> bool:
        there = self.catalog.server_types[kind].places.get(place)
        return there is not None and not self._is_past(there.gone_after)

    def _available(self, kind: str, place: str) -> bool:
        return self._sold(kind, place) and self.catalog.server_types[kind].places[place].available

    def _instead(self, kind: str, place: str) -> str:
        """Other types at the location, and other locations that have the type."""
        types, locations = self.catalog.server_types, self.catalog.locations
        like = [o.name for o in types.values() if o.replaces(types[kind])]
        here = self._cheapest([name for name in like if self._available(name, place)], place)
        zone = locations[place].network_zone
        near = [o.name for o in locations.values() if o.network_zone == zone]
        there = [name for name in near if self._available(kind, name)]
        ways = [
            *([f"choose {_or(self._described(name, place) for name in here)}"] if here else []),
            *([f"go to {_or(there)} with {kind}"] if there else []),
        ]
        return "; or ".join(ways) or f"wait, or choose another location outside of {zone}"

    def _cheapest(self, names: Iterable[str], place: str) -> list[str]:
        prices = self.catalog.tariff.server_types
        priced = [name for name in names if (name, place) in prices]
        return sorted(priced, key=lambda name: (prices[name, place].net, name))[:ALTERNATIVES]

    def _described(self, kind: str, place: str) -> str:
        found, tariff = self.catalog.server_types[kind], self.catalog.tariff
        cost = f"{cents(tariff.server_types[kind, place].net)} {tariff.currency} net a month"
        return f"{kind} ({found.cores} cores, {found.memory.normalize():f} GB, {cost})"

    # Images and load balancers

    def _images(self) -> Iterator[Problem]:
        for setting, names in self._set_by("image", self._new).items():
            types = self.catalog.server_types
            kinds = {type_and_place(self.settings.hetzner_nodes[name])[0] for name in names}
            for architecture in sorted({types[k].architecture for k in kinds if k in types}):
                problem = self._no_image(setting, architecture)
                if problem:
                    yield problem

    def _no_image(self, setting: Setting, architecture: str) -> Problem | None:
        """The problem with an image that is not there for an architecture, if it is not."""
        called = [o for o in self.catalog.images if o.is_called(setting.value)]
        fitting = [image for image in called if image.architecture == architecture]
        if any(not self._is_past(image.gone_after) for image in fitting):
            return None
        offered = sorted({str(o) for o in self.catalog.images if self._is_offered(o, architecture)})
        like = f"like {_or(_near(setting.value, offered) or offered[:ALTERNATIVES])}"
        if fitting:
            expected = f"an image that Hetzner still offers, {like}"
        elif called:
            expected = f"an image for {architecture} processors ({setting.value} is not), {like}"
        else:
            expected = f"an image of Hetzner Cloud, {like}, or a snapshot's id"
        return Problem(setting.path, setting.value, expected, _choose(setting.value, offered))

    def _is_offered(self, image: Image, architecture: str) -> bool:
        named = image.name is not None and image.architecture == architecture
        return named and not self._is_past(image.gone_after)

    def _load_balancer_type(self) -> Iterator[Problem]:
        settings, names = self.settings, self.catalog.load_balancer_types
        kind = settings.hetzner.load_balancer_type
        wanted = settings.entry == "load-balancer" or settings.hetzner.api_load_balancer
        if wanted and kind not in names:
            yield Problem(
                "hetzner.loadBalancerType",
                kind,
                f"a load balancer type of Hetzner Cloud: {_or(names)}",
                _choose(kind, names),
            )

    # Warnings

    def _changes(self, name: str) -> Iterator[str]:
        """What becomes of a server that is not as the settings say."""
        server, node = self.catalog.servers.get(name), self.settings.hetzner_nodes[name]
        if server is None:
            return
        if server.location != node.location:
            yield (
                f"{self._said(name, 'location')}: server {server.name} is at {server.location}. It "
                "will be replaced by a new one: all that is on it is lost, its address changes."
            )
            return
        if server.server_type != node.server_type:
            yield (
                f"{self._said(name, 'serverType')}: server {server.name} is a {server.server_type}. "
                "It will be resized, and is switched off for that, for some minutes."
            )
        if server.image and node.image and not server.image.is_called(node.image):
            yield (
                f"{self._said(name, 'image')}: server {server.name} keeps the image that it was made "
                f"from, {server.image}. To rebuild it, losing all that is on it: "
                f"{_how_to_replace(server.name)}."
            )

    def _said(self, name: str, key: Key) -> str:
        setting = self._setting(name, key)
        return f"{setting.path} = {setting.value!r}"

    def _going_types(self) -> Iterator[str]:
        nodes, types = self.settings.hetzner_nodes, self.catalog.server_types
        for setting, names in self._set_by("serverType", nodes).items():
            for place in self._by_place(names) if setting.value in types else ():
                there = types[setting.value].places.get(place)
                if there and there.gone_after and not self._is_past(there.gone_after):
                    yield (
                        f"{setting.path} = {setting.value!r}: at {place}, servers of this type can be "
                        f"made until {there.gone_after:%Y-%m-%d} only. Those that are there stay."
                    )

    def _going_images(self) -> Iterator[str]:
        for setting in self._set_by("image", self.settings.hetzner_nodes):
            called = [o for o in self.catalog.images if o.is_called(setting.value)]
            days = [
                o.gone_after for o in called if o.gone_after and not self._is_past(o.gone_after)
            ]
            if days:
                yield (
                    f"{setting.path} = {setting.value!r}: servers can be made from this image until "
                    f"{min(days):%Y-%m-%d} only. Those that are there stay."
                )

    def _login_key(self, login_key: str | None) -> Iterator[str]:
        registered, servers = self.catalog.login_keys, self.catalog.servers.values()
        if not login_key or not registered or not servers:
            return
        if " ".join(login_key.split()[:2]) not in registered:
            yield (
                "sshPrivateKey is not the key that is registered for this cluster: the servers that "
                f"there are ({_and(server.name for server in servers)}) let in the old one only. Add "
                "the new public key to /root/.ssh/authorized_keys on each of them first."
            )

    def _is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.catalog.asked


def _near(text: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(text, list(names), ALTERNATIVES, 0.5)


def _choose(text: str, names: Iterable[str]) -> str:
    near = _near(text, names)
    return f"did you mean {near[0]}?" if near else "choose one of those"


def _how_to_replace(server: str) -> str:
    return f"delete {server} in Hetzner's console, then run `pulumi up`"


def _and(names: Iterable[str]) -> str:
    return _listed(names, "and")


def _or(names: Iterable[str]) -> str:
    return _listed(names, "or")


def _listed(names: Iterable[str], word: str) -> str:
    *first, last = [*names] or ["none"]
    return f"{', '.join(first)} {word} {last}" if first else last
