"""Servers, and the keys and placement groups for them."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from hcloud.firewalls import Firewall, FirewallResource
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.placement_groups import PlacementGroup
from hcloud.primary_ips import PrimaryIP
from hcloud.server_types import ServerType
from hcloud.servers import Server, ServerCreatePublicNetwork
from hcloud.ssh_keys import SSHKey

from sandbox.engine.hetzner.api import absent
from sandbox.engine.hetzner.maker import Named
from sandbox.engine.journal import Record
from sandbox.engine.progress import EngineError

SHUTDOWN_SECONDS = 30.0
"""How long a server may take to shut down before it is deleted."""


class SshKeys(Named):
    """``hcloud:index/sshKey:SshKey``."""

    plural = "ssh_keys"
    takes = frozenset({"name", "labels", "publicKey"})

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        return self.all.create(wanted["name"], wanted["publicKey"], wanted["labels"])

    def made(self, answer: Any) -> Any:
        """The answer is the key."""
        return answer

    def outdated(self, found: Any, wanted: Mapping[str, Any]) -> bool:
        """Another key; a comment makes no other one."""
        given = wanted.get("publicKey")
        return given is not None and given.split()[:2] != found.public_key.split()[:2]

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Name and labels."""
        self.rename(found, wanted)

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        return {"fingerprint": live.fingerprint}


class PlacementGroups(Named):
    """``hcloud:index/placementGroup:PlacementGroup``."""

    plural = "placement_groups"
    takes = frozenset({"name", "labels", "type"})

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        return self.all.create(wanted["name"], wanted["type"], wanted["labels"])

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        return {"type": (found.type,)}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Name and labels."""
        self.rename(found, wanted)

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        return {"servers": list(live.servers or [])}


class Servers(Named):
    """``hcloud:index/server:Server``.

    What is in its user data and which keys were given at its creation can't be seen later: a change of
    those two is not noticed.
    """

    plural = "servers"
    takes = frozenset(
        {
            "name",
            "labels",
            "serverType",
            "image",
            "location",
            "userData",
            "sshKeys",
            "firewallIds",
            "placementGroupId",
            "publicNets",
            "keepDisk",
            "allowDeprecatedImages",
            "ignoreRemoteFirewallIds",
            "shutdownBeforeDeletion",
            "deleteProtection",
            "rebuildProtection",
        }
    )
    finds = ("name", "labels", "shutdownBeforeDeletion")

    def create(self, wanted: Mapping[str, Any]) -> Any:
        """See :meth:`Named.create`."""
        group, place = wanted.get("placementGroupId"), wanted.get("location")
        return self.all.create(
            wanted["name"],
            ServerType(name=wanted["serverType"]),
            _by_id_or_name(Image, wanted["image"]),
            ssh_keys=[_by_id_or_name(SSHKey, key) for key in wanted.get("sshKeys") or []],
            firewalls=[Firewall(id=int(one)) for one in wanted.get("firewallIds") or []],
            user_data=wanted.get("userData"),
            labels=wanted["labels"],
            location=Location(name=place) if place else None,
            placement_group=PlacementGroup(id=int(group)) if group else None,
            public_net=_public_net(wanted),
        )

    def fixed(self, found: Any) -> dict[str, tuple[Any, ...]]:
        """See :meth:`Named.fixed`."""
        image = found.image
        fitting = {} if image is None else {"image": (image.name, str(image.id))}
        return {"location": (found.location.name,), **fitting}

    def update(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Everything that can change, off where that is needed; in the end it runs."""
        self.rename(found, wanted)
        self._regroup(found, wanted)
        self._retype(found, wanted)
        self._readdress(found, wanted)
        self._refirewall(found, wanted)
        self._protect(found, wanted)
        found.reload()
        if found.status == "off":
            self.api.patiently(found.power_on)

    def _off(self, found: Any) -> None:
        found.reload()
        if found.status != "off":
            self.api.patiently(found.power_off)

    def _retype(self, found: Any, wanted: Mapping[str, Any]) -> None:
        name = wanted.get("serverType")
        if name is not None and name != found.server_type.name:
            self._off(found)
            grow = not wanted.get("keepDisk")
            kind = ServerType(name=name)
            self.api.patiently(lambda: found.change_type(kind, upgrade_disk=grow))

    def _regroup(self, found: Any, wanted: Mapping[str, Any]) -> None:
        group = wanted.get("placementGroupId")
        now = found.placement_group.id if found.placement_group else None
        if group is None or int(group) == now:
            return
        if found.status != "off":  # the real provider does not switch it off for this either
            raise EngineError(
                f"server {found.name} changes its placement group only when it is off: power it off, "
                "then run `up` again"
            )
        if now is not None:
            self.api.patiently(found.remove_from_placement_group)
        target = PlacementGroup(id=int(group))
        self.api.patiently(lambda: found.add_to_placement_group(target))

    def _readdress(self, found: Any, wanted: Mapping[str, Any]) -> None:
        nets = wanted.get("publicNets")
        if not nets:
            return
        public = found.public_net
        for family, now in (("ipv4", public.primary_ipv4), ("ipv6", public.primary_ipv6)):
            enabled = nets[0].get(f"{family}Enabled", True)
            given = int(nets[0].get(family) or 0)
            fits = (now is not None and now.id == given) if given else self._own(now, enabled)
            if not fits:
                self._off(found)
                self._swap_address(found, now.id if now else 0, given)
                if enabled and not given:
                    self._new_address(found, family)

    def _own(self, now: Any, enabled: bool) -> bool:
        """Whether a server that names no primary IP is as it should be: with one of its own, or none."""
        if now is None or not enabled:
            return (now is None) == (not enabled)
        return bool(self.client.primary_ips.get_by_id(now.id).auto_delete)

    def _swap_address(self, found: Any, old: int, new: int) -> None:
        ips = self.client.primary_ips
        if old:
            address = ips.get_by_id(old)
            self.api.patiently(address.unassign)
            if address.auto_delete:  # the server's creation made it, and nobody else knows of it
                self.api.patiently(address.delete, "resource_in_use")
        if new:
            self.api.patiently(lambda: ips.assign(PrimaryIP(id=new), found.id, "server"))

    def _new_address(self, found: Any, family: str) -> None:
        name = f"primary_ip-{family}-{found.id}"
        self.api.patiently(
            lambda: self.client.primary_ips.create(
                family, name, assignee_type="server", assignee_id=found.id, auto_delete=True
            )
        )

    def _refirewall(self, found: Any, wanted: Mapping[str, Any]) -> None:
        if "firewallIds" not in wanted:
            return
        now = {entry.firewall.id for entry in found.public_net.firewalls or []}
        then = {int(one) for one in wanted["firewallIds"]}
        for one in sorted(then - now):
            self._firewall(one, found.id, "apply_to_resources")
        for one in [] if wanted.get("ignoreRemoteFirewallIds") else sorted(now - then):
            self._firewall(one, found.id, "remove_from_resources")

    def _firewall(self, wall: int, server: int, verb: str) -> None:
        call = getattr(self.client.firewalls, verb)
        target = FirewallResource(FirewallResource.TYPE_SERVER, server=Server(server))
        self.api.patiently(lambda: call(Firewall(id=wall), [target]))

    def _protect(self, found: Any, wanted: Mapping[str, Any]) -> None:
        given = {key: wanted.get(f"{key}Protection") for key in ("delete", "rebuild")}
        now = {key: bool(found.protection[key]) for key in given}
        then = {key: now[key] if value is None else bool(value) for key, value in given.items()}
        if then != now:
            self.api.patiently(lambda: found.change_protection(**then))

    def delete(self, record: Record) -> None:
        """See :meth:`Maker.delete`; shut down first if that is wanted."""
        found = self.find(record, begun=True)
        if found is None:
            return
        if record.inputs.get("shutdownBeforeDeletion") and found.status == "running":
            absent(lambda: self._shut_down(found))
        self.remove(found)

    def _shut_down(self, found: Any) -> None:
        self.api.patiently(found.shutdown)
        end = time.monotonic() + SHUTDOWN_SECONDS
        while found.status != "off" and time.monotonic() < end:
            time.sleep(1)
            found.reload()

    def outputs(self, live: Any) -> dict[str, Any]:
        """See :meth:`Named.outputs`."""
        public = live.public_net
        six = public.ipv6.ip.partition("/")[0] if public.ipv6 else None
        return {
            "location": live.location.name,
            "status": live.status,
            "serverType": live.server_type.name,
            "ipv4Address": public.ipv4.ip if public.ipv4 else None,
            "ipv6Address": f"{six}1" if six else None,
            "ipv6Network": public.ipv6.ip if public.ipv6 else None,
            "backups": bool(live.backup_window),
            "backupWindow": live.backup_window,
            "deleteProtection": live.protection["delete"],
            "rebuildProtection": live.protection["rebuild"],
            "firewallIds": [entry.firewall.id for entry in public.firewalls or []],
            "primaryDiskSize": live.primary_disk_size,
            "placementGroupId": live.placement_group.id if live.placement_group else None,
        }


def _by_id_or_name(kind: Any, given: Any) -> Any:
    return kind(id=int(given)) if str(given).isdecimal() else kind(name=given)


def _public_net(wanted: Mapping[str, Any]) -> ServerCreatePublicNetwork | None:
    nets = wanted.get("publicNets")
    if not nets:
        return None
    given = nets[0]
    return ServerCreatePublicNetwork(
        ipv4=PrimaryIP(id=int(given["ipv4"])) if given.get("ipv4") else None,
        ipv6=PrimaryIP(id=int(given["ipv6"])) if given.get("ipv6") else None,
        enable_ipv4=given.get("ipv4Enabled", True),
        enable_ipv6=given.get("ipv6Enabled", True),
    )


def hash_of_user_data(text: str) -> str:
    """What the real provider keeps of user data."""
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()
