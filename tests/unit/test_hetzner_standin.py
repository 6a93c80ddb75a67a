"""The stand-in for Hetzner's API, asked by the official client: what exists, and how it lives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hcloud import APIException
from hcloud.actions import ActionFailedException
from hcloud.firewalls import (
    Firewall,
)
from hcloud.networks import Network
from hcloud.placement_groups import PlacementGroup
from hcloud.primary_ips import PrimaryIP
from hcloud.servers import ServerCreatePublicNetwork
from hcloud.ssh_keys import SSHKey

from sandbox.hetzner.reality import Boot, Rule
from tests.unit.hetzner_standin import (
    CX23,
    DEBIAN,
    FSN1,
    KEY,
    NO_ADDRESS,
    Standin,
    another_client,
    eventually,
    hold,
    rule,
    standin,
    wait,
)

LABELS = {"own-kubernetes/cluster": "test", "plain": ""}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Standin]:
    with standin(tmp_path) as running:
        yield running


# --- what can be ordered ---------------------------------------------------------------------------------


def test_locations_have_zones(cloud: Standin) -> None:
    zones = {location.name: location.network_zone for location in cloud.client.locations.get_all()}
    assert zones["fsn1"] == zones["hel1"] == "eu-central"
    assert zones["ash"] == "us-east"


def test_server_types_tell_where_they_are(cloud: Standin) -> None:
    kind = cloud.client.server_types.get_by_name("cx33")
    assert kind is not None
    assert (kind.cores, kind.memory, kind.disk, kind.architecture) == (4, 8.0, 80, "x86")
    assert [(place.location.name, place.available) for place in kind.locations or ()] == [
        ("fsn1", True),
        ("nbg1", True),
        ("hel1", True),
    ]
    price = (kind.prices or [])[0]
    assert price["price_monthly"] == {"net": "4.0000000000", "gross": "4.7600000000000000"}


def test_a_server_type_can_be_sold_out(cloud: Standin) -> None:
    cloud.control("POST", "unavailable", server_type="cx33", location="hel1")
    places = cloud.ask("GET", "/server_types?name=cx33")["server_types"][0]["locations"]
    assert [place["available"] for place in places] == [True, True, False]
    order = {"name": "x", "server_type": "cx33", "image": "debian-12", "location": "hel1"}
    assert cloud.refusal("POST", "/servers", **order) == (412, "resource_unavailable")
    cloud.control("POST", "unavailable", server_type="cx33", location="hel1", available=True)
    cloud.done("POST", "/servers", **order)


def test_images_exist_for_both_architectures(cloud: Standin) -> None:
    found = cloud.client.images.get_by_name_and_architecture("debian-13", "arm")
    assert found is not None
    assert found.architecture == "arm"
    assert len(cloud.client.images.get_all(name="debian-12")) == 2


def test_the_rest_of_the_catalog(cloud: Standin) -> None:
    assert cloud.client.load_balancer_types.get_by_name("lb11").max_services == 5
    assert cloud.client.isos.get_all()
    prices = cloud.ask("GET", "/pricing")["pricing"]
    assert prices["currency"] == "EUR"
    assert {price["type"] for price in prices["primary_ips"]} == {"ipv4", "ipv6"}
    assert cloud.ask("GET", "/locations/1")["location"]["name"] == "fsn1"
    assert cloud.refusal("GET", "/locations/99") == (404, "not_found")


# --- servers ---------------------------------------------------------------------------------------------


def test_a_server_is_made_with_all_it_needs(cloud: Standin) -> None:
    api = cloud.client
    key = api.ssh_keys.create(name="me", public_key=KEY, labels=LABELS)
    group = api.placement_groups.create(name="apart", type="spread").placement_group
    address = api.primary_ips.create(type="ipv4", name="kept", location=FSN1).primary_ip
    assert (address.assignee_type, address.ip) == ("unassigned", "10.77.0.100")
    firewall = api.firewalls.create(name="wall", rules=[rule()]).firewall
    network = cloud.add_network()
    made = api.servers.create(
        name="one",
        server_type=CX23,
        image=DEBIAN,
        location=FSN1,
        ssh_keys=[SSHKey(name="me")],
        user_data="#cloud-config\n",
        labels=LABELS,
        placement_group=PlacementGroup(id=group.id),
        firewalls=[Firewall(id=firewall.id)],
        networks=[Network(id=network)],
        public_net=ServerCreatePublicNetwork(ipv4=PrimaryIP(id=address.id), enable_ipv6=False),
    )
    assert (made.server.status, made.server.locked, made.action.status) == (
        "initializing",
        True,
        "running",
    )
    assert [action.command for action in made.next_actions] == [
        "start_server",
        "attach_to_network",
        "apply_firewall",
    ]
    wait(made.action, *made.next_actions)
    server = api.servers.get_by_id(made.server.id)
    assert (server.status, server.locked, server.labels) == ("running", False, LABELS)
    assert server.location.name == "fsn1"
    assert server.public_net.ipv4.ip == "10.77.0.100"
    assert server.public_net.ipv6 is None
    assert [each.status for each in server.public_net.firewalls] == ["applied"]
    assert server.private_net[0].ip == "10.78.0.2"
    assert server.placement_group.id == group.id
    assert key.fingerprint.count(":") == 15
    boot = Boot(server.id, "one", IPv4Address("10.77.0.100"), "#cloud-config\n", (KEY,), 4096, 2.0)
    assert cloud.world.boots == {server.id: boot}
    assert cloud.world.attached == {(server.id, network): IPv4Address("10.78.0.2")}
    assert cloud.world.firewalls[server.id] == [Rule("tcp", "22", ("0.0.0.0/0", "::/0"))]
    taken = api.primary_ips.get_by_id(address.id)
    assert (taken.assignee_type, taken.assignee_id) == ("server", server.id)


def test_without_a_primary_ip_a_server_gets_its_own(cloud: Standin) -> None:
    server = cloud.add_server()
    four, six = server.public_net.ipv4, server.public_net.ipv6
    assert four.ip == "10.77.0.100"
    assert six.ip.endswith("::/64")
    assert all(address.auto_delete for address in cloud.client.primary_ips.get_all())
    server.delete().wait_until_finished()
    assert cloud.client.primary_ips.get_all() == []
    assert cloud.add_server("two").public_net.ipv4.ip == "10.77.0.100"


def test_a_kept_address_outlives_its_server(cloud: Standin) -> None:
    address = cloud.client.primary_ips.create(type="ipv4", name="kept", location=FSN1).primary_ip
    public = ServerCreatePublicNetwork(ipv4=PrimaryIP(id=address.id), enable_ipv6=False)
    for name in ("one", "two"):
        server = cloud.add_server(name, public_net=public)
        assert server.public_net.ipv4.ip == address.ip
        server.delete().wait_until_finished()
        kept = cloud.client.primary_ips.get_by_id(address.id)
        assert (kept.assignee_id, kept.assignee_type) == (None, "unassigned")
    kept.delete()
    assert cloud.client.primary_ips.get_all() == []


def test_a_server_that_is_not_started_is_made_when_it_is(cloud: Standin) -> None:
    network = cloud.add_network()
    server = cloud.add_server(start_after_create=False, public_net=NO_ADDRESS)
    assert (server.status, cloud.world.boots) == ("off", {})
    server.attach_to_network(Network(id=network), ip="10.78.0.9").wait_until_finished()
    server.power_on().wait_until_finished()
    assert cloud.world.boots[server.id].address is None
    assert cloud.world.attached == {(server.id, network): IPv4Address("10.78.0.9")}


def test_switching(cloud: Standin) -> None:
    server = cloud.add_server()
    for action, status, call in (
        (server.reboot, "running", "reboot"),
        (server.reset, "running", "reboot"),
        (server.shutdown, "off", "power_off"),
        (server.power_on, "running", "power_on"),
        (server.power_off, "off", "power_off"),
    ):
        action().wait_until_finished()
        assert cloud.client.servers.get_by_id(server.id).status == status
        assert cloud.world.calls[-1] == (call, server.id)


def test_a_server_that_went_off_by_itself_is_shown_off(cloud: Standin) -> None:
    server = cloud.add_server()
    cloud.world.on.clear()
    assert cloud.client.servers.get_by_id(server.id).status == "off"


def test_actions_on_a_stopped_server(cloud: Standin) -> None:
    server = cloud.add_server()
    group = cloud.client.placement_groups.create(name="apart", type="spread").placement_group
    wanted = {"server_type": "cx33", "upgrade_disk": False}
    path = f"/servers/{server.id}/actions"
    assert cloud.refusal("POST", f"{path}/change_type", **wanted) == (422, "server_not_stopped")
    server.power_off().wait_until_finished()
    cloud.act("servers", server.id, "change_type", **wanted)
    cloud.act("servers", server.id, "add_to_placement_group", placement_group=group.id)
    assert cloud.client.placement_groups.get_by_id(group.id).servers == [server.id]
    cloud.act("servers", server.id, "remove_from_placement_group")
    found = cloud.client.servers.get_by_id(server.id)
    assert (found.server_type.name, found.primary_disk_size) == ("cx33", 40)
    assert cloud.refusal("POST", f"{path}/change_type", server_type="cax21") == (
        422,
        "invalid_server_type",
    )


def test_rebuilding_makes_a_new_machine(cloud: Standin) -> None:
    server = cloud.add_server(user_data="old")
    cloud.act("servers", server.id, "rebuild", image="debian-13", user_data="new")
    assert cloud.world.boots[server.id].user_data == "new"
    assert [call for call, _ in cloud.world.calls][-2:] == ["delete", "create"]
    found = cloud.client.servers.get_by_id(server.id)
    assert (found.image.name, found.status) == ("debian-13", "running")


def test_small_changes_of_a_server(cloud: Standin) -> None:
    server = cloud.add_server()
    server.update(name="two", labels={"a": "b"})
    server.enable_backup()
    server.change_dns_ptr("10.77.0.100", "two.example.com")
    found = cloud.client.servers.get_by_name("two")
    assert found is not None
    assert (found.labels, found.backup_window) == ({"a": "b"}, "22-02")
    assert found.public_net.ipv4.dns_ptr == "two.example.com"
    server.change_protection(delete=True, rebuild=True)
    assert cloud.refusal("DELETE", f"/servers/{server.id}") == (423, "protected")
    assert cloud.refusal("POST", f"/servers/{server.id}/actions/rebuild", image="debian-12") == (
        423,
        "protected",
    )


def test_deleting_a_server_lets_go_of_the_rest(cloud: Standin) -> None:
    network = cloud.add_network()
    server = cloud.add_server(networks=[Network(id=network)])
    applied = {"type": "server", "server": {"id": server.id}}
    wall = cloud.done("POST", "/firewalls", name="wall", rules=[], apply_to=[applied])["firewall"]
    balancer = cloud.add_balancer(targets=[applied])
    volume = cloud.done("POST", "/volumes", name="disk", size=10, server=server.id)["volume"]["id"]
    floating = cloud.done("POST", "/floating_ips", type="ipv4", server=server.id)["floating_ip"]
    assert cloud.world.carried == {IPv4Address("10.77.0.170"): server.id}
    server.delete().wait_until_finished()
    assert cloud.refusal("GET", f"/servers/{server.id}") == (404, "not_found")
    assert cloud.ask("GET", f"/firewalls/{wall['id']}")["firewall"]["applied_to"] == []
    assert cloud.client.load_balancers.get_by_id(balancer).targets == []
    assert cloud.client.volumes.get_by_id(volume).server is None
    assert cloud.client.floating_ips.get_by_id(floating["id"]).server is None
    assert cloud.client.networks.get_by_id(network).servers == []
    assert (cloud.world.boots, cloud.world.carried) == ({}, {})


# --- primary IPs -----------------------------------------------------------------------------------------


def test_moving_a_primary_ip_needs_stopped_servers(cloud: Standin) -> None:
    server = cloud.add_server(public_net=ServerCreatePublicNetwork(enable_ipv6=False))
    address = cloud.client.primary_ips.get_all()[0]
    path = f"/primary_ips/{address.id}/actions"
    assert cloud.refusal("POST", f"{path}/unassign") == (422, "server_not_stopped")
    assert cloud.refusal("DELETE", f"/primary_ips/{address.id}") == (422, "must_be_unassigned")
    server.power_off().wait_until_finished()
    address.unassign().wait_until_finished()
    assert cloud.client.servers.get_by_id(server.id).public_net.ipv4 is None
    assert cloud.refusal("POST", f"/servers/{server.id}/actions/poweron")[0] == 422
    address.assign(server.id, "server").wait_until_finished()
    server.power_on().wait_until_finished()
    address.update(name="kept", auto_delete=False)
    server.delete().wait_until_finished()
    assert cloud.client.primary_ips.get_by_name("kept") is not None


# --- actions ---------------------------------------------------------------------------------------------


def test_actions_are_found_everywhere(cloud: Standin) -> None:
    server = cloud.add_server()
    actions = cloud.client.servers.get_actions(server)
    assert [action.command for action in actions] == ["create_server", "start_server"]
    ids = [action.id for action in actions]
    assert [a.id for a in cloud.client.servers.actions.get_all()] == ids
    query = "&".join(f"id={number}" for number in ids)
    found = cloud.ask("GET", f"/actions?{query}&sort=status&sort=id")["actions"]
    assert [each["id"] for each in found] == ids
    for path in ("/actions", "/servers/actions", f"/servers/{server.id}/actions"):
        one = cloud.ask("GET", f"{path}/{ids[0]}")["action"]
        assert one["resources"] == [{"id": server.id, "type": "server"}]
        assert set(one) == {
            *("id", "status", "command", "progress", "started", "finished", "error", "resources")
        }
    assert cloud.refusal("GET", "/actions") == (410, "deprecated_api_endpoint")
    assert cloud.refusal("GET", "/datacenters") == (410, "deprecated_api_endpoint")


def test_a_running_action_locks_its_server(cloud: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    server = cloud.add_server()
    held = hold(monkeypatch, cloud, "reboot")
    action = server.reboot()
    for name in ("poweroff", "reboot"):
        assert cloud.refusal("POST", f"/servers/{server.id}/actions/{name}") == (423, "locked")
    assert cloud.refusal("DELETE", f"/servers/{server.id}") == (423, "locked")
    assert cloud.client.servers.get_by_id(server.id).locked
    assert cloud.client.actions.get_by_id(action.id).status == "running"
    held.set()
    action.wait_until_finished()
    server.power_off().wait_until_finished()


def test_a_running_action_bars_changes(cloud: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    balancer = cloud.add_balancer()
    held = hold(monkeypatch, cloud, "balance")
    service = {"protocol": "tcp", "listen_port": 80, "destination_port": 80}
    path = f"/load_balancers/{balancer}/actions/add_service"
    cloud.ask("POST", path, **service)
    assert cloud.refusal("POST", path, **{**service, "listen_port": 81}) == (409, "conflict")
    held.set()


def test_what_a_failed_action_changed_is_undone(
    cloud: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, server = cloud.add_network(), cloud.add_server()

    def fail(*_: object) -> None:
        raise OSError("no cable")

    with monkeypatch.context() as patch:
        patch.setattr(cloud.world, "attach", fail)
        action = server.attach_to_network(Network(id=network))
        with pytest.raises(ActionFailedException, match="no cable"):
            action.wait_until_finished()
    found = cloud.client.servers.get_by_id(server.id)
    assert (found.private_net, found.locked, found.status) == ([], False, "running")
    server.attach_to_network(Network(id=network)).wait_until_finished()
    assert (server.id, network) in cloud.world.attached


def test_no_action_is_lost_among_requests_that_fail(cloud: Standin) -> None:
    """A request that fails drops what it began, and nothing of what others begin meanwhile."""
    balancer, over = cloud.add_balancer(), threading.Event()
    path = f"/load_balancers/{balancer}/actions"

    def fail() -> None:
        with another_client(cloud) as client:
            while not over.is_set():
                with pytest.raises(APIException):
                    client.request("POST", f"{path}/attach_to_network", json={"network": 7})

    threads = [threading.Thread(target=fail) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            service = {"protocol": "tcp", "listen_port": 80, "destination_port": 80}
            cloud.act("load_balancers", balancer, "add_service", **service)
            cloud.act("load_balancers", balancer, "delete_service", listen_port=80)
    finally:
        over.set()
        for thread in threads:
            thread.join()


# --- lists -----------------------------------------------------------------------------------------------


def test_pages(cloud: Standin) -> None:
    for number in range(7):
        cloud.client.placement_groups.create(
            name=f"g{number}", type="spread", labels={"n": str(number)}
        )
    page = cloud.client.placement_groups.get_list(page=2, per_page=3)
    assert [group.name for group in page.placement_groups] == ["g3", "g4", "g5"]
    pages = page.meta.pagination
    assert pages is not None
    assert (pages.previous_page, pages.next_page, pages.last_page, pages.total_entries) == (
        1,
        3,
        3,
        7,
    )
    last = cloud.client.placement_groups.get_list(page=3, per_page=3)
    assert last.meta.pagination is not None
    assert last.meta.pagination.next_page is None
    assert len(cloud.client.placement_groups.get_all()) == 7
    newest = cloud.client.placement_groups.get_list(sort=["name:desc"]).placement_groups[0]
    assert newest.name == "g6"


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("env=prod", ["a"]),
        ("env==prod", ["a"]),
        ("env!=prod", ["b", "c"]),
        ("env", ["a", "b"]),
        ("!env", ["c"]),
        ("env in (prod, test)", ["a", "b"]),
        ("env notin (prod)", ["b", "c"]),
        ("env,tier=1", ["b"]),
    ],
)
def test_label_selectors(cloud: Standin, selector: str, names: list[str]) -> None:
    for name, labels in (("a", {"env": "prod"}), ("b", {"env": "test", "tier": "1"}), ("c", {})):
        cloud.client.placement_groups.create(name=name, type="spread", labels=labels)
    found = cloud.client.placement_groups.get_all(label_selector=selector)
    assert [group.name for group in found] == names


# --- restarts --------------------------------------------------------------------------------------------


def test_everything_is_there_after_a_restart(cloud: Standin) -> None:
    network = cloud.add_network()
    server = cloud.add_server(networks=[Network(id=network)])
    cloud.add_balancer()
    before, calls = cloud.control("GET", "store"), list(cloud.world.calls)
    cloud.end()
    cloud.start()
    assert cloud.control("GET", "store") == before
    cloud.client.servers.get_by_id(server.id).reboot().wait_until_finished()
    assert cloud.world.calls == [*calls, ("reboot", server.id)]


def test_an_action_goes_on_after_a_restart(cloud: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold(monkeypatch, cloud, "create")
    made = cloud.client.servers.create(name="one", server_type=CX23, image=DEBIAN, location=FSN1)
    cloud.end()
    monkeypatch.undo()
    cloud.start()
    for action in (made.action, *made.next_actions):
        cloud.client.actions.get_by_id(action.id).wait_until_finished()
    assert cloud.client.servers.get_by_id(made.server.id).status == "running"
    held.set()  # the first process's thread: it has nothing to say any more
    assert cloud.world.boots.keys() == {made.server.id}


def test_what_the_world_missed_is_told_after_a_restart(cloud: Standin) -> None:
    wall = cloud.client.firewalls.create(name="wall").firewall
    server = cloud.add_server(firewalls=[Firewall(id=wall.id)])
    cloud.end()
    text = cloud.books.read_text()
    cloud.books.write_text(
        text.replace(f'"firewall/{server.id}": []', f'"attach/{server.id}/7": "10.0.0.2"')
    )
    cloud.world.firewalls.clear()
    cloud.start()
    eventually(lambda: cloud.world.firewalls == {server.id: []})
    assert ("detach", server.id) in cloud.world.calls
