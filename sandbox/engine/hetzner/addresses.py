"""Public addresses that are there without a server: primary and floating IPs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hcloud.locations import Location
from hcloud.servers import Server

from sandbox.engine.hetzner.api import absent
from sandbox.engine.hetzner.maker import Named


class PrimaryIps(Named):
    """``hcloud:index/primaryIp:PrimaryIp``."""

    plural = "primary_ips"
    takes = frozenset(
        [
            "name",
            "labels",
            "type",
            "location",
            "assigneeId",
            "assigneeType",
            "autoDelete",
            "deleteProtection",
        ]
    )
    defaults: ClassVar[dict[str, Any]] = {
        "labels": {},
        "autoDelete": False,
        "deleteProtection": False,
    }

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`; a location wins over an assignee."""
        place: dict[str, Any] = {}
        if wanted.get("location"):
            place = {"location": Location(name=wanted["location"])}
        elif wanted.get("assigneeId"):
            place = {"assignee_id": int(wanted["assigneeId"]), "assignee_type": "server"}
        return self.all.create(
            wanted["type"],
            wanted["name"],
            auto_delete=wanted["autoDelete"],
            labels=wanted["labels"],
            **place,
        )

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        return {"type": (found.type,), "location": (found.location.name,)}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """See :meth:`Named.update`; without an assignee it stays with the one it has."""
        super().update(found, wanted)
        if "autoDelete" in wanted:
            self.put(found, {"auto_delete": wanted["autoDelete"]})
        if wanted.get("assigneeId") and int(wanted["assigneeId"]) != found.assignee_id:
            if found.assignee_id:
                self.api.patiently(found.unassign)
            target = int(wanted["assigneeId"])
            self.api.patiently(lambda: found.assign(target, "server"))

    def remove(self, found: Any) -> None:
        """Take it from a server that still has it, which has to be off for that."""
        if found.assignee_id:
            server = absent(lambda: self.client.servers.get_by_id(found.assignee_id))
            if server is not None:
                self.api.patiently(server.power_off)
                absent(lambda: self.api.patiently(found.unassign))
                self.api.patiently(server.power_on)
        super().remove(found)

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        six = live.type == "ipv6"
        return {
            "ipAddress": live.ip.partition("/")[0],
            "ipNetwork": live.ip if six else None,
            "location": live.location.name,
            "assigneeId": live.assignee_id or 0,
            "assigneeType": live.assignee_type,
            "autoDelete": live.auto_delete,
            "deleteProtection": live.protection["delete"],
        }


class FloatingIps(Named):
    """``hcloud:index/floatingIp:FloatingIp``."""

    plural = "floating_ips"
    takes = frozenset(
        ["name", "labels", "type", "homeLocation", "serverId", "description", "deleteProtection"]
    )
    defaults: ClassVar[dict[str, Any]] = {"labels": {}, "deleteProtection": False}

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        home, server = wanted.get("homeLocation"), wanted.get("serverId")
        return self.all.create(
            wanted["type"],
            wanted.get("description"),
            wanted["labels"],
            Location(name=home) if home else None,
            Server(int(server)) if server else None,
            wanted["name"],
        )

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        return {"type": (found.type,), "homeLocation": (found.home_location.name,)}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """See :meth:`Named.update`; without a server in the program it stays where it is."""
        super().update(found, wanted)
        if "description" in wanted:
            self.put(found, {"description": wanted["description"]})
        server = wanted.get("serverId")
        if server and (found.server is None or found.server.id != int(server)):
            self.api.patiently(lambda: found.assign(Server(int(server))))

    def remove(self, found: Any) -> None:
        """Take it from its server, and delete it."""
        if found.server is not None:
            absent(lambda: self.api.patiently(found.unassign))
        super().remove(found)

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        return {
            "ipAddress": live.ip.partition("/")[0],
            "ipNetwork": live.ip if live.type == "ipv6" else None,
            "homeLocation": live.home_location.name,
            "serverId": live.server.id if live.server else None,
            "description": live.description,
            "deleteProtection": live.protection["delete"],
        }
