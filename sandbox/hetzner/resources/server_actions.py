"""What servers can be asked to do."""

from __future__ import annotations

from typing import Final

from sandbox.hetzner import catalog, fields, pools
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, invalid, protected
from sandbox.hetzner.resources import networks, placement_groups, servers
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import Answer, Handler, Request, acted

_BACKUP_WINDOW: Final = "22-02"


def switch(command: str, job: str) -> Handler:
    """The handler of an action that switches a server.

    Args:
        command: As the action is called.
        job: What it does, see :mod:`.server_jobs`.
    """

    def handler(cloud: Cloud, request: Request) -> Answer:
        server = cloud.free("server", request.id)
        if job == "power_on" and not _connected(server):
            problem = "a server needs a public or private network to be powered on"
            raise ApiError("server_has_no_network", problem)
        return acted(cloud.begin(command, ("server", request.id), job=job))

    return handler


def attach_to_network(cloud: Cloud, request: Request) -> Answer:
    """``attach_to_network``."""
    server = cloud.free("server", request.id)
    network = servers.join(cloud, server, request.body)
    net = server["private_net"][-1]
    net["alias_ips"] = _aliases(cloud, network, request.body)
    return acted(cloud.begin("attach_to_network", *_with(request.id, "network", network["id"])))


def detach_from_network(cloud: Cloud, request: Request) -> Answer:
    """``detach_from_network``."""
    server = cloud.free("server", request.id)
    number = fields.number(request.body, "network")
    server["private_net"].remove(networks.attached(server, number))
    return acted(cloud.begin("detach_from_network", *_with(request.id, "network", number)))


def change_alias_ips(cloud: Cloud, request: Request) -> Answer:
    """``change_alias_ips``: instead of all that it has; kept in the books only."""
    server = cloud.free("server", request.id)
    network = cloud.store.get("network", fields.number(request.body, "network"))
    net = networks.attached(server, network["id"])
    net["alias_ips"] = []
    net["alias_ips"] = _aliases(cloud, network, request.body)
    return acted(cloud.begin("change_alias_ips", *_with(request.id, "network", network["id"])))


def change_type(cloud: Cloud, request: Request) -> Answer:
    """``change_type``; in the books only, as the world cannot resize a machine."""
    server = _stopped(cloud, request)
    old = catalog.server_type(server["type"])
    new = servers.orderable(cloud, request.body.get("server_type"), server["location"])
    if new.architecture != old.architecture or new.disk < server["primary_disk_size"]:
        raise ApiError(
            "invalid_server_type", f"{new.name} does not fit a server of type {old.name}"
        )
    server["type"] = new.name
    if fields.flag(request.body, "upgrade_disk", False):
        server["primary_disk_size"] = new.disk
    return acted(cloud.begin("change_server_type", ("server", request.id)))


def rebuild(cloud: Cloud, request: Request) -> Answer:
    """``rebuild``: a new disk, from an image; new user data if the body has some."""
    server = cloud.free("server", request.id)
    if server["protection"]["rebuild"]:
        raise protected("server", request.id)
    architecture = catalog.server_type(server["type"]).architecture
    server["image"] = catalog.image(request.body.get("image"), architecture)["id"]
    server["user_data"] = request.body.get("user_data") or server["user_data"]
    server["status"] = "rebuilding"
    action = cloud.begin("rebuild_server", ("server", request.id), job="rebuild")
    return acted(action, root_password=None)


def add_to_placement_group(cloud: Cloud, request: Request) -> Answer:
    """``add_to_placement_group``."""
    server = _stopped(cloud, request)
    if server["placement_group"] is not None:
        raise ApiError("already_in_placement_group", f"server {request.id} is in a placement group")
    group = placement_groups.room(cloud, fields.number(request.body, "placement_group"))
    server["placement_group"] = group
    about = _with(request.id, "placement_group", group)
    return acted(cloud.begin("add_to_placement_group", *about))


def remove_from_placement_group(cloud: Cloud, request: Request) -> Answer:
    """``remove_from_placement_group``."""
    server = cloud.free("server", request.id)
    group = server["placement_group"]
    if group is None:
        raise ApiError("not_in_placement_group", f"server {request.id} is in no placement group")
    server["placement_group"] = None
    about = _with(request.id, "placement_group", group)
    return acted(cloud.begin("remove_from_placement_group", *about))


def enable_backup(cloud: Cloud, request: Request) -> Answer:
    """``enable_backup``; none is made."""
    cloud.free("server", request.id)["backup_window"] = _BACKUP_WINDOW
    return acted(cloud.done("enable_backup", ("server", request.id)))


def disable_backup(cloud: Cloud, request: Request) -> Answer:
    """``disable_backup``."""
    cloud.free("server", request.id)["backup_window"] = None
    return acted(cloud.done("disable_backup", ("server", request.id)))


def change_dns_ptr(cloud: Cloud, request: Request) -> Answer:
    """``change_dns_ptr``: of one of its primary IPs."""
    server = cloud.store.get("server", request.id)
    wanted = fields.text(request.body, "ip")
    for kind in ("ipv4", "ipv6"):
        address = cloud.store.find("primary_ip", server[kind])
        if address and _belongs(wanted, address["ip"]):
            others = [p for p in address["dns_ptr"] if p["ip"] != wanted]
            name = request.body.get("dns_ptr")
            address["dns_ptr"] = [*others, {"ip": wanted, "dns_ptr": name}] if name else others
            return acted(cloud.done("change_dns_ptr", ("server", request.id)))
    raise invalid("ip", f"{wanted} is no address of server {request.id}")


def _with(server: int, kind: str, number: int) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("server", server), (kind, number)


def _stopped(cloud: Cloud, request: Request) -> Record:
    server = cloud.free("server", request.id)
    if server["status"] != "off":
        raise ApiError("server_not_stopped", f"server {request.id} must be powered off first")
    return server


def _connected(server: Record) -> bool:
    return bool(server["ipv4"] or server["ipv6"] or server["private_net"])


def _aliases(cloud: Cloud, network: Record, body: Record) -> list[str]:
    used = set(pools.in_network(cloud.store, network["id"]))
    addresses = []
    for item in fields.items(body, "alias_ips"):
        address = fields.address({"alias_ips": item}, "alias_ips")
        if address in used:
            raise ApiError("ip_not_available", f"IP {address} is not available")
        used.add(address)
        addresses.append(str(address))
    return addresses


def _belongs(wanted: str, address: str) -> bool:
    return wanted == address or (":" in wanted and wanted.startswith(address.split("::")[0]))
