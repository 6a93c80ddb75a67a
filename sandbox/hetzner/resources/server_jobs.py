"""What the actions of servers do to the world."""

from __future__ import annotations

from ipaddress import IPv4Address

from sandbox.hetzner import catalog, derive
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.reality import Boot
from sandbox.hetzner.resources import firewalls, floating_ips, load_balancers, primary_ips, volumes
from sandbox.hetzner.store import Record


def settle(cloud: Cloud, action: Record) -> None:
    """The job of an action that has changed the books: tell the world."""
    cloud.sync.run(*((r["type"], r["id"]) for r in action["resources"]))


def create(cloud: Cloud, action: Record) -> None:
    """Make a server and switch it on."""
    _make(cloud, _server(action))
    _status(cloud, action, "starting")


def create_stopped(cloud: Cloud, action: Record) -> None:
    """Note a server; the world gets to know it when it is switched on first."""
    _status(cloud, action, "off")


def started(cloud: Cloud, action: Record) -> None:
    """A server that was made runs."""
    settle(cloud, action)
    _status(cloud, action, "running")


def power_on(cloud: Cloud, action: Record) -> None:
    """Switch a server on, or make it if it never was on."""
    number = _server(action)
    with cloud.store.lock:
        made = cloud.store.get("server", number)["made"]
    if made:
        cloud.world.power_on(number)
    else:
        _make(cloud, number)
    started(cloud, action)


def power_off(cloud: Cloud, action: Record) -> None:
    """Switch a server off; shutting it down is the same to the world."""
    if _made(cloud, action):
        cloud.world.power_off(_server(action))
    _status(cloud, action, "off")


def reboot(cloud: Cloud, action: Record) -> None:
    """Start a server anew."""
    if not _made(cloud, action):
        raise RuntimeError("the server is off")
    cloud.world.reboot(_server(action))
    _status(cloud, action, "running")


def rebuild(cloud: Cloud, action: Record) -> None:
    """A new machine in place of the old one."""
    number = _server(action)
    cloud.world.delete(number)
    with cloud.store.change():
        cloud.store.get("server", number)["made"] = False
        cloud.sync.forget(number)
    _make(cloud, number)
    started(cloud, action)


def delete(cloud: Cloud, action: Record) -> None:
    """Remove a server, and let go of what it had."""
    number = _server(action)
    with cloud.store.change():
        floating_ips.release(cloud, number)
        load_balancers.forget(cloud, number)
    settle(cloud, action)
    cloud.world.delete(number)
    with cloud.store.change():
        server = cloud.store.find("server", number)
        if server is None:
            return
        primary_ips.release(cloud, server)
        volumes.release(cloud, number)
        firewalls.forget(cloud, number)
        cloud.sync.forget(number)
        cloud.store.remove("server", number)


def _make(cloud: Cloud, number: int) -> None:
    with cloud.store.lock:
        server = cloud.store.get("server", number)
        boot = _boot(cloud, server)
        made = server["made"]
    if not made:
        cloud.world.create(boot)
        with cloud.store.change():
            cloud.store.get("server", number)["made"] = True
    settle(cloud, {"resources": [{"type": "server", "id": number}]})


def _boot(cloud: Cloud, server: Record) -> Boot:
    kind = catalog.server_type(server["type"])
    address = derive.public_address(cloud.store, server)
    return Boot(
        id=server["id"],
        name=server["name"],
        address=IPv4Address(address) if address else None,
        user_data=server["user_data"],
        ssh_keys=tuple(server["keys"]),
        memory_mib=kind.memory * 1024,
        cpus=float(kind.cores),
    )


def _server(action: Record) -> int:
    return next(int(r["id"]) for r in action["resources"] if r["type"] == "server")


def _made(cloud: Cloud, action: Record) -> bool:
    with cloud.store.lock:
        return bool(cloud.store.get("server", _server(action))["made"])


def _status(cloud: Cloud, action: Record, status: str) -> None:
    with cloud.store.change():
        cloud.store.get("server", _server(action))["status"] = status
