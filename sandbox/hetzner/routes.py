"""Which request goes where: the stand-in's table of contents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from sandbox.hetzner.errors import ApiError
from sandbox.hetzner.resources import (
    balancer_actions,
    firewalls,
    floating_ips,
    load_balancers,
    networks,
    orderable,
    placement_groups,
    primary_ips,
    server_actions,
    server_jobs,
    servers,
    ssh_keys,
    volumes,
)
from sandbox.hetzner.web import Handler, Kind, action, actions, actions_of

JOBS: Final = {
    "settle": server_jobs.settle,
    "create_server": server_jobs.create,
    "create_stopped": server_jobs.create_stopped,
    "started": server_jobs.started,
    "power_on": server_jobs.power_on,
    "power_off": server_jobs.power_off,
    "reboot": server_jobs.reboot,
    "rebuild": server_jobs.rebuild,
    "delete_server": server_jobs.delete,
    "make_volume": volumes.make,
}
"""What actions do, by the name that the books have for it."""

_RESOURCES: Final = (
    (ssh_keys.KIND, ssh_keys.create, ssh_keys.KIND.update, ssh_keys.delete),
    (networks.KIND, networks.create, networks.update, networks.delete),
    (firewalls.KIND, firewalls.create, firewalls.KIND.update, firewalls.delete),
    (
        placement_groups.KIND,
        placement_groups.create,
        placement_groups.KIND.update,
        placement_groups.delete,
    ),
    (primary_ips.KIND, primary_ips.create, primary_ips.update, primary_ips.delete),
    (servers.KIND, servers.create, servers.KIND.update, servers.delete),
    (
        load_balancers.KIND,
        load_balancers.create,
        load_balancers.KIND.update,
        load_balancers.delete,
    ),
    (floating_ips.KIND, floating_ips.create, floating_ips.update, floating_ips.delete),
    (volumes.KIND, volumes.create, volumes.KIND.update, volumes.delete),
)

_ACTIONS: Final[dict[Kind, dict[str, Handler]]] = {
    networks.KIND: {
        "add_subnet": networks.add_subnet,
        "delete_subnet": networks.delete_subnet,
        "add_route": networks.add_route,
        "delete_route": networks.delete_route,
        "change_ip_range": networks.change_ip_range,
        "change_protection": networks.KIND.change_protection,
    },
    firewalls.KIND: {
        "set_rules": firewalls.set_rules,
        "apply_to_resources": firewalls.apply_to_resources,
        "remove_from_resources": firewalls.remove_from_resources,
    },
    primary_ips.KIND: {
        "assign": primary_ips.assign,
        "unassign": primary_ips.unassign,
        "change_protection": primary_ips.KIND.change_protection,
        "change_dns_ptr": primary_ips.KIND.change_dns_ptr,
    },
    servers.KIND: {
        "poweron": server_actions.switch("start_server", "power_on"),
        "poweroff": server_actions.switch("stop_server", "power_off"),
        "shutdown": server_actions.switch("shutdown_server", "power_off"),
        "reboot": server_actions.switch("reboot_server", "reboot"),
        "reset": server_actions.switch("reset_server", "reboot"),
        "attach_to_network": server_actions.attach_to_network,
        "detach_from_network": server_actions.detach_from_network,
        "change_alias_ips": server_actions.change_alias_ips,
        "change_type": server_actions.change_type,
        "rebuild": server_actions.rebuild,
        "add_to_placement_group": server_actions.add_to_placement_group,
        "remove_from_placement_group": server_actions.remove_from_placement_group,
        "enable_backup": server_actions.enable_backup,
        "disable_backup": server_actions.disable_backup,
        "change_protection": servers.KIND.change_protection,
        "change_dns_ptr": server_actions.change_dns_ptr,
    },
    load_balancers.KIND: {
        "add_service": balancer_actions.add_service,
        "update_service": balancer_actions.update_service,
        "delete_service": balancer_actions.delete_service,
        "add_target": balancer_actions.add_target,
        "remove_target": balancer_actions.remove_target,
        "attach_to_network": balancer_actions.attach_to_network,
        "detach_from_network": balancer_actions.detach_from_network,
        "change_algorithm": balancer_actions.change_algorithm,
        "change_type": balancer_actions.change_type,
        "enable_public_interface": balancer_actions.enable_public_interface,
        "disable_public_interface": balancer_actions.disable_public_interface,
        "change_protection": load_balancers.KIND.change_protection,
        "change_dns_ptr": load_balancers.KIND.change_dns_ptr,
    },
    floating_ips.KIND: {
        "assign": floating_ips.assign,
        "unassign": floating_ips.unassign,
        "change_protection": floating_ips.KIND.change_protection,
        "change_dns_ptr": floating_ips.KIND.change_dns_ptr,
    },
    volumes.KIND: {
        "attach": volumes.attach,
        "detach": volumes.detach,
        "resize": volumes.resize,
        "change_protection": volumes.KIND.change_protection,
    },
}

_ORDERABLE: Final = (
    ("location", "locations", orderable.locations, ()),
    ("server_type", "server_types", orderable.server_types, ()),
    ("load_balancer_type", "load_balancer_types", orderable.balancer_types, ()),
    ("image", "images", orderable.images, ("type", "status", "architecture")),
    ("iso", "isos", orderable.isos, ("architecture",)),
)

Route = tuple[str, str, Handler]
"""Method, path with ``#`` for each number, and who answers."""


def _routes() -> Iterator[Route]:
    for kind, create, update, delete in _RESOURCES:
        path = f"/{kind.plural}"
        yield "GET", path, kind.index
        yield "POST", path, create
        yield "GET", f"{path}/#", kind.read
        yield "PUT", f"{path}/#", update
        yield "DELETE", f"{path}/#", delete
        yield "GET", f"{path}/actions", partial(actions, kind=kind.name)
        yield "GET", f"{path}/actions/#", action
        yield "GET", f"{path}/#/actions", actions_of(kind.name)
        yield "GET", f"{path}/#/actions/#", action
        for name, handler in _ACTIONS.get(kind, {}).items():
            yield "POST", f"{path}/#/actions/{name}", handler
    for name, plural, items, filters in _ORDERABLE:
        yield "GET", f"/{plural}", orderable.index(plural, items, filters)
        yield "GET", f"/{plural}/#", orderable.read(name, items)
    yield "GET", "/networks/#/members", networks.members_of
    yield "GET", "/actions", orderable.actions
    yield "GET", "/actions/#", action
    yield "GET", "/pricing", orderable.pricing
    yield "GET", "/certificates", orderable.nothing("certificates")
    yield "GET", "/datacenters", orderable.datacenters
    yield "GET", "/datacenters/#", orderable.datacenters


_TABLE: Final[dict[str, dict[str, Handler]]] = {}
for _method, _path, _handler in _routes():
    _TABLE.setdefault(_path, {})[_method] = _handler

_NUMBER: Final = re.compile(r"(?<=/)\d+(?=/|$)")


def find(method: str, path: str) -> tuple[Handler, tuple[int, ...]]:
    """Who answers a request, and the numbers in its path.

    Raises:
        ApiError: There is nothing at this path, or not for this method.
    """
    handlers = _TABLE.get(_NUMBER.sub("#", path))
    if handlers is None:
        raise ApiError("not_found", f"there is nothing at {path}")
    if method not in handlers:
        raise ApiError("method_not_allowed", f"{path} does not know {method}")
    return handlers[method], tuple(map(int, _NUMBER.findall(path)))
