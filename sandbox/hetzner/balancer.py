"""A load balancer: TCP connections go round robin to the targets that answer.

Each balancer is a process in a network namespace of its own, with a public leg on the bridge, like
any host in the internet, and one in a private network. ``python -m sandbox.hetzner.balancer DIRECTORY``
reads ``config.json`` there, follows its changes, and writes which targets answer to ``health.json``.
A service without any healthy target refuses connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from sandbox.hetzner.reality import Balancer
from sandbox.machines import detached, network, routed

CHECK_SECONDS: Final = 1.0
"""Between two health checks, and the time one may take."""

FAILURES: Final = 2
"""Checks in a row that make a target unhealthy; one that succeeds makes it healthy."""

_FOLLOW_SECONDS: Final = 0.1
_PRIVATE: Final = "enp7s0"
_CHUNK: Final = 1 << 16


def run(balancer: Balancer) -> None:
    """Start a balancer, or change the one that runs."""
    directory, name = _directory(balancer.id), _name(balancer.id)
    legs = _legs(balancer)
    if not detached.running(name) or _read(directory / "legs.json") != legs:
        remove(balancer.id)
        directory.mkdir(parents=True)
        _plug(name, balancer)
        _write(directory / "legs.json", legs)
    _write(
        directory / "config.json",
        {"services": balancer.services, "targets": [str(target) for target in balancer.targets]},
    )
    if not detached.running(name):
        log = directory / "log"
        detached.start(name, [__name__, str(directory)], log, network.namespace(name))


def remove(number: int) -> None:
    """End a balancer and remove all it had; it may be gone."""
    name = _name(number)
    detached.stop(name)
    routed.unplug(name)
    shutil.rmtree(_directory(number), ignore_errors=True)


def healthy(number: int) -> dict[IPv4Address, bool]:
    """Whether each target answers for all services; False while that is not known yet."""
    directory = _directory(number)
    config, health = _read(directory / "config.json"), _read(directory / "health.json")
    ports = {str(port) for _, port in config.get("services", ())}
    return {
        IPv4Address(target): bool(ports) and all(target in health.get(port, ()) for port in ports)
        for target in config.get("targets", ())
    }


def _name(number: int) -> str:
    return f"lb.{number}"  # with a dot, as no machine's name has


def _directory(number: int) -> Path:
    return detached.STATE / _name(number)


def _legs(balancer: Balancer) -> dict[str, str]:
    legs = {
        "public": balancer.address,
        "private": balancer.private_address,
        "network": balancer.network,
    }
    return {leg: str(value) for leg, value in legs.items() if value is not None}


def _plug(name: str, balancer: Balancer) -> None:
    if balancer.address:
        network.plug(name, balancer.address)
    else:
        network.make_namespace(name)
    if balancer.network is not None and balancer.private_address:
        routed.plug_private(name, balancer.network, balancer.private_address, _PRIVATE)


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(file: Path, value: Mapping[str, Any]) -> None:
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(json.dumps(value))
    draft.rename(file)


@dataclass
class Target:
    """An address and port that connections may go to, and how its checks went."""

    address: str
    port: int
    healthy: bool = False
    failures: int = 0

    def note(self, answered: bool) -> None:
        """Take one check into account."""
        self.failures = 0 if answered else self.failures + 1
        if answered:
            self.healthy = True
        elif self.failures >= FAILURES:
            self.healthy = False

    async def check(self) -> None:
        """Try to connect, once."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                _, writer = await asyncio.open_connection(self.address, self.port)
        except OSError:  # time-outs among them
            self.note(False)
        else:
            self.note(True)
            writer.close()


class Service:
    """One listen port and the targets behind it."""

    def __init__(self, listen: int, destination: int) -> None:
        self.listen, self.destination = listen, destination
        self.targets: list[Target] = []
        self._server: asyncio.Server | None = None
        self._turn = 0

    def retarget(self, addresses: list[str]) -> None:
        """Have exactly these targets; those that stay keep their health."""
        known = {target.address: target for target in self.targets}
        self.targets = [known.get(a, Target(a, self.destination)) for a in addresses]

    def up(self) -> list[str]:
        """Addresses of the healthy targets."""
        return [target.address for target in self.targets if target.healthy]

    async def check(self) -> None:
        """Check all targets at once, then listen if there is a healthy one, and only then."""
        await asyncio.gather(*(target.check() for target in self.targets))
        await self.settle()

    async def settle(self) -> None:
        """Listen while there is a healthy target."""
        if self.up() and self._server is None:
            self._server = await asyncio.start_server(self._serve, "0.0.0.0", self.listen)
        elif not self.up():
            self.close()

    def close(self) -> None:
        """Listen no longer; connections that are open stay so."""
        if self._server:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if onward := await self._connect():
            await asyncio.gather(_pump(reader, onward[1]), _pump(onward[0], writer))
            onward[1].close()
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        choice = self.up()
        self._turn += 1
        for offset in range(len(choice)):
            address = choice[(self._turn + offset) % len(choice)]
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CHECK_SECONDS):
                    return await asyncio.open_connection(address, self.destination)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end and pass that end on; a broken connection ends both."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


class Process:
    """All services of a balancer, as its directory describes them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._services: dict[tuple[int, int], Service] = {}
        self._config: dict[str, Any] = {}
        self._one = asyncio.Lock()  # two checks at once would both open a service's port

    async def follow(self) -> None:
        """Read the configuration again and again, and check at each change."""
        while True:
            config = _read(self._directory / "config.json")
            if config != self._config:
                async with self._one:
                    self._config = config
                    self._reconfigure()
                await self.check()
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def watch(self) -> None:
        """Check all targets again and again."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Check the targets of all services and write down which are healthy."""
        async with self._one:
            await asyncio.gather(*(service.check() for service in self._services.values()))
            self._tell()

    def _reconfigure(self) -> None:
        wanted = [(listen, port) for listen, port in self._config["services"]]
        for gone in set(self._services) - set(wanted):
            self._services.pop(gone).close()
        for listen, port in wanted:
            service = self._services.setdefault((listen, port), Service(listen, port))
            service.retarget(self._config["targets"])

    def _tell(self) -> None:
        health: dict[str, list[str]] = {}
        for service in self._services.values():
            health[str(service.destination)] = service.up()
        if health != _read(self._directory / "health.json"):
            _write(self._directory / "health.json", health)


async def main(directory: Path) -> None:
    """Balance until killed."""
    process = Process(directory)
    await asyncio.gather(process.follow(), process.watch())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
