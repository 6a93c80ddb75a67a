"""The stand-in for Hetzner's API: what it refuses, its limits, and the faults that tests order."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hcloud import APIException, Client
from hcloud.actions import ActionFailedException
from hcloud.networks import Network
from hcloud.placement_groups import PlacementGroup
from hcloud.servers import ServerCreatePublicNetwork

from sandbox.hetzner.resources import networks
from tests.unit.hetzner_standin import KEY, NO_ADDRESS, TOKEN, Standin, standin

SERVER = {"name": "one", "server_type": "cx23", "image": "debian-12", "location": "fsn1"}
INVALID = (422, "invalid_input")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Standin]:
    with standin(tmp_path) as running:
        yield running


def raw(cloud: Standin, method: str, path: str, body: str = "", token: str = TOKEN) -> Any:
    """A request of whatever form: its answer's status, headers and body."""
    host, port = cloud.server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=5)
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    read = (answer.status, dict(answer.getheaders()), answer.read().decode())
    connection.close()
    return read


# --- any request -----------------------------------------------------------------------------------------


def test_only_one_token_is_good(cloud: Standin) -> None:
    stranger = Client("x" * 64, api_endpoint=cloud.server.endpoint)
    with pytest.raises(APIException) as caught:
        stranger.servers.get_all()
    assert caught.value.code == "unauthorized"
    stranger._client._session.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", "", 404, "not_found"),
        ("GET", "/v2/servers", "", 404, "not_found"),
        ("GET", "/v1/servers/7", "", 404, "not_found"),
        ("PUT", "/v1/servers", "", 405, "method_not_allowed"),
        ("POST", "/v1/servers", "{", 400, "json_error"),
        ("POST", "/v1/servers", "[]", 400, "json_error"),
        ("GET", "/v1/servers?page=0", "", 422, "invalid_input"),
        ("GET", "/v1/servers?label_selector=a%3D%3D%3D", "", 422, "invalid_input"),
        ("GET", "/control/nothing", "", 404, "not_found"),
    ],
)
def test_badly_formed_requests(
    cloud: Standin, method: str, path: str, body: str, status: int, code: str
) -> None:
    found, _, text = raw(cloud, method, path, body)
    assert (found, json.loads(text)["error"]["code"]) == (status, code)


def test_all_answers_tell_the_rate_limit(cloud: Standin) -> None:
    for path, token in (("/v1/servers", TOKEN), ("/v1/servers", "bad"), ("/v1/nothing", TOKEN)):
        _, headers, _ = raw(cloud, "GET", path, token=token)
        assert headers["RateLimit-Limit"] == "3600"
        assert 3500 < int(headers["RateLimit-Remaining"]) < 3600
        assert time.time() - 2 < int(headers["RateLimit-Reset"]) < time.time() + 3600


# --- names and labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a_b", "-a", "a.", "a" * 64, "a b", None])
def test_a_server_has_a_host_name(cloud: Standin, name: str | None) -> None:
    assert cloud.refusal("POST", "/servers", **{**SERVER, "name": name}) == INVALID
    assert cloud.error.details["fields"][0]["name"] == "name"


@pytest.mark.parametrize(
    "labels",
    [
        {"a b": ""},
        {"-a": ""},
        {"a": "-"},
        {"a": "b" * 64},
        {"hetzner.cloud/a": ""},
        {"a": 1},
        ["a"],
    ],
)
def test_labels_are_well_formed(cloud: Standin, labels: Any) -> None:
    group = {"name": "g", "type": "spread", "labels": labels}
    assert cloud.refusal("POST", "/placement_groups", **group) == INVALID
    assert cloud.control("GET", "store")["placement_group"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ssh_keys", {"name": "x", "public_key": KEY}),
        ("/networks", {"name": "x", "ip_range": "10.78.0.0/24"}),
        ("/firewalls", {"name": "x"}),
        ("/placement_groups", {"name": "x", "type": "spread"}),
        ("/primary_ips", {"name": "x", "type": "ipv4", "location": "fsn1"}),
        ("/load_balancers", {"name": "x", "load_balancer_type": "lb11", "location": "fsn1"}),
        ("/floating_ips", {"name": "x", "type": "ipv4", "home_location": "fsn1"}),
        ("/volumes", {"name": "x", "size": 10, "location": "fsn1"}),
        ("/servers", {**SERVER, "name": "x"}),
    ],
)
def test_names_are_unique(cloud: Standin, path: str, body: dict[str, Any]) -> None:
    made = cloud.done("POST", path, **body)
    kind = next(key for key in made if isinstance(made[key], dict) and made[key].get("name") == "x")
    assert cloud.refusal("POST", path, **body) == (409, "uniqueness_error")
    other = cloud.done(
        "POST", path, **{**body, "name": "y", "public_key": KEY.replace("b25l", "dHdv")}
    )
    assert cloud.refusal("PUT", f"{path}/{other[kind]['id']}", name="x") == (
        409,
        "uniqueness_error",
    )
    cloud.done("PUT", f"{path}/{made[kind]['id']}", name="x", labels={"a": "b"})
    found = cloud.ask("GET", f"{path}/{made[kind]['id']}")[kind]
    assert (found["name"], found["labels"]) == ("x", {"a": "b"})


def test_an_ssh_key_is_unique_too(cloud: Standin) -> None:
    cloud.done("POST", "/ssh_keys", name="x", public_key=KEY)
    key = {"name": "y", "public_key": f"{KEY} other comment"}
    assert cloud.refusal("POST", "/ssh_keys", **key) == (409, "uniqueness_error")
    assert cloud.refusal("POST", "/ssh_keys", name="z", public_key="ssh-rsa no") == INVALID


# --- servers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("server_type", {"server_type": "cx99"}),
        ("server_type", {"server_type": None}),
        ("server_type", {"server_type": "cx22"}),  # deprecated
        ("server_type", {"server_type": "cx23", "location": "ash"}),
        ("image", {"image": "debian-99"}),
        ("image", {"image": 114690387, "server_type": "cax11"}),  # by id: the one for x86
        ("location", {"location": "moon1"}),
        ("datacenter", {"datacenter": "fsn1-dc14"}),
        ("user_data", {"user_data": "x" * (32 * 1024 + 1)}),
        ("ssh_keys", {"ssh_keys": ["nobody"]}),
        ("placement_group", {"placement_group": 7}),
        ("firewalls", {"firewalls": [{"firewall": 7}]}),
        ("public_net", {"public_net": {"enable_ipv4": False, "enable_ipv6": False}}),
    ],
)
def test_servers_that_cannot_be_made(cloud: Standin, field: str, change: dict[str, Any]) -> None:
    assert cloud.refusal("POST", "/servers", **{**SERVER, **change}) == INVALID
    assert cloud.error.details["fields"][0]["name"] == field
    store = cloud.control("GET", "store")
    assert (store["server"], store["primary_ip"], store["action"]) == ([], [], [])


def test_user_data_may_have_32_kib(cloud: Standin) -> None:
    cloud.add_server(user_data="x" * 32 * 1024)


def test_arm_images_go_to_arm_servers(cloud: Standin) -> None:
    order = {**SERVER, "server_type": "cax11"}
    assert cloud.done("POST", "/servers", **order)["server"]["image"]["architecture"] == "arm"


def test_primary_ips_that_do_not_fit(cloud: Standin) -> None:
    address = {"name": "x", "type": "ipv4", "location": "hel1"}
    far = cloud.ask("POST", "/primary_ips", **address)["primary_ip"]["id"]
    six = cloud.ask("POST", "/primary_ips", **{**address, "name": "y", "type": "ipv6"})[
        "primary_ip"
    ]
    taken = cloud.add_server("taken").public_net.primary_ipv4
    for number, expected in (
        (far, (422, "primary_ip_datacenter_mismatch")),
        (six["id"], (412, "primary_ip_version_mismatch")),
        (taken.id, (422, "primary_ip_assigned")),
        (7, (404, "not_found")),
    ):
        order = {**SERVER, "public_net": {"ipv4": number}}
        assert cloud.refusal("POST", "/servers", **order) == expected
    stopped = cloud.add_server("stopped", start_after_create=False, public_net=NO_ADDRESS)
    path = f"/primary_ips/{taken.id}/actions/assign"
    assert cloud.refusal("POST", path, assignee_id=stopped.id) == (
        422,
        "primary_ip_already_assigned",
    )
    both = {**address, "name": "z", "assignee_id": stopped.id}
    assert cloud.refusal("POST", "/primary_ips", **both) == INVALID
    path = f"/primary_ips/{far}/actions/assign"
    assert (
        cloud.refusal("POST", path, assignee_id=stopped.id)[1] == "primary_ip_datacenter_mismatch"
    )


def test_addresses_run_out(cloud: Standin) -> None:
    for number in range(50):
        name = f"ip{number}"
        made = cloud.ask("POST", "/primary_ips", name=name, type="ipv4", location="fsn1")
        assert made["primary_ip"]["ip"] == f"10.77.0.{100 + number}"
    more = {"name": "more", "type": "ipv4", "location": "fsn1"}
    assert cloud.refusal("POST", "/primary_ips", **more) == (403, "resource_limit_exceeded")


def test_a_spread_group_has_ten_servers(cloud: Standin) -> None:
    group = cloud.client.placement_groups.create(name="g", type="spread").placement_group
    only_six = ServerCreatePublicNetwork(enable_ipv4=False)
    for number in range(10):
        cloud.add_server(
            f"s{number}", placement_group=PlacementGroup(group.id), public_net=only_six
        )
    order = {**SERVER, "placement_group": group.id}
    assert cloud.refusal("POST", "/servers", **order) == (422, "placement_error")
    path = f"/placement_groups/{group.id}"
    assert cloud.refusal("DELETE", path) == (422, "resource_in_use")


# --- networks --------------------------------------------------------------------------------------------


def test_a_network_has_so_many_servers(cloud: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert networks.MOST_SERVERS == 100
    monkeypatch.setattr(networks, "MOST_SERVERS", 2)
    network = cloud.add_network()
    for name in ("one", "two"):
        cloud.add_server(name, networks=[Network(id=network)])
    order = {**SERVER, "name": "three", "networks": [network]}
    assert cloud.refusal("POST", "/servers", **order) == (403, "resource_limit_exceeded")
    assert len(cloud.control("GET", "store")["primary_ip"]) == 4


def test_networks_of_a_server_do_not_overlap(cloud: Standin) -> None:
    near, same = cloud.add_network(), cloud.add_network("10.78.0.0/16")
    order = {**SERVER, "networks": [near, same]}
    assert cloud.refusal("POST", "/servers", **order) == (422, "networks_overlap")


def test_a_full_subnet_has_no_room(cloud: Standin) -> None:
    made = cloud.ask("POST", "/networks", name="net", ip_range="10.80.0.0/24")["network"]["id"]
    subnet = {"type": "cloud", "network_zone": "eu-central", "ip_range": "10.80.0.0/30"}
    cloud.act("networks", made, "add_subnet", **subnet)
    cloud.add_server("one", networks=[Network(id=made)])
    order = {**SERVER, "name": "two", "networks": [made]}
    assert cloud.refusal("POST", "/servers", **order) == (422, "no_subnet_available")


@pytest.mark.parametrize("ip_range", ["10.78.0.0/25", "8.8.0.0/16", "10.78.0.1/24", "x", None])
def test_bad_networks(cloud: Standin, ip_range: str | None) -> None:
    assert cloud.refusal("POST", "/networks", name="net", ip_range=ip_range) == INVALID


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("add_subnet", {"ip_range": "10.78.0.0/25"}),  # overlaps with the one that is there
        ("add_subnet", {"ip_range": "10.79.0.0/24"}),
        ("add_subnet", {"ip_range": "10.78.1.0/24", "network_zone": "moon"}),
        ("add_subnet", {"ip_range": "10.78.1.0/24", "type": "ring"}),
        ("change_ip_range", {"ip_range": "10.78.0.0/25"}),
        ("change_ip_range", {"ip_range": "10.0.0.0/8"}),
        ("add_route", {"destination": "10.78.0.0/25", "gateway": "10.78.0.9"}),
        ("add_route", {"destination": "10.90.0.0/24", "gateway": "10.99.0.9"}),
        ("add_route", {"destination": "10.90.0.0/24", "gateway": "10.78.0.1"}),
        ("add_route", {"destination": "172.31.0.0/16", "gateway": "10.78.0.9"}),
    ],
)
def test_bad_changes_of_a_network(cloud: Standin, action: str, body: dict[str, Any]) -> None:
    network = cloud.add_network()
    given = {"type": "cloud", "network_zone": "eu-central", **body}
    assert cloud.refusal("POST", f"/networks/{network}/actions/{action}", **given) == INVALID


def test_a_protected_network_stays(cloud: Standin) -> None:
    network = cloud.add_network()
    cloud.act("networks", network, "change_protection", delete=True)
    assert cloud.refusal("DELETE", f"/networks/{network}") == (423, "protected")


# --- firewalls -------------------------------------------------------------------------------------------

RULE = {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0"]}


@pytest.mark.parametrize(
    "change",
    [
        {"port": None},
        {"port": "0"},
        {"port": "90-80"},
        {"port": "65536"},
        {"port": "ssh"},
        {"protocol": "icmp"},
        {"protocol": "ipx"},
        {"direction": "up"},
        {"source_ips": []},
        {"source_ips": ["10.0.0.1"]},
        {"source_ips": ["10.0.0.1/24"]},
        {"source_ips": ["10.0.0.0/8"] * 101},
        {"destination_ips": ["10.0.0.0/8"]},
    ],
)
def test_bad_rules(cloud: Standin, change: dict[str, Any]) -> None:
    assert cloud.refusal("POST", "/firewalls", name="wall", rules=[{**RULE, **change}]) == INVALID


def test_a_firewall_has_fifty_rules(cloud: Standin) -> None:
    wall = cloud.done("POST", "/firewalls", name="wall", rules=[RULE] * 50)["firewall"]["id"]
    path = f"/firewalls/{wall}/actions/set_rules"
    assert cloud.refusal("POST", path, rules=[RULE] * 51) == INVALID
    assert cloud.refusal("POST", path) == INVALID


def test_a_firewall_in_use_stays(cloud: Standin) -> None:
    server = cloud.add_server(labels={"a": "b"})
    here = {"type": "server", "server": {"id": server.id}}
    wall = cloud.done("POST", "/firewalls", name="wall", apply_to=[here])["firewall"]["id"]
    path = f"/firewalls/{wall}"
    assert cloud.refusal("DELETE", path) == (422, "resource_in_use")
    apply, remove = f"{path}/actions/apply_to_resources", f"{path}/actions/remove_from_resources"
    assert cloud.refusal("POST", apply, apply_to=[here]) == (422, "firewall_already_applied")
    gone = {"type": "server", "server": {"id": 7}}
    assert cloud.refusal("POST", apply, apply_to=[gone]) == (404, "firewall_resource_not_found")
    cloud.done("POST", remove, remove_from=[here])
    labelled = {"type": "label_selector", "label_selector": {"selector": "a=b"}}
    cloud.done("POST", apply, apply_to=[labelled])
    assert cloud.refusal("POST", remove, remove_from=[here]) == (
        422,
        "firewall_managed_by_label_selector",
    )


def test_a_server_has_five_firewalls(cloud: Standin) -> None:
    server = cloud.add_server()
    here = {"type": "server", "server": {"id": server.id}}
    for number in range(5):
        cloud.done("POST", "/firewalls", name=f"wall{number}", apply_to=[here])
    more = {"name": "more", "apply_to": [here]}
    assert cloud.refusal("POST", "/firewalls", **more) == (403, "resource_limit_exceeded")


def test_no_firewall_without_a_public_interface(cloud: Standin) -> None:
    server = cloud.add_server(start_after_create=False, public_net=NO_ADDRESS)
    here = {"type": "server", "server": {"id": server.id}}
    wall = {"name": "wall", "apply_to": [here]}
    assert cloud.refusal("POST", "/firewalls", **wall) == (422, "private_net_only_server")


# --- load balancers --------------------------------------------------------------------------------------


def test_what_a_load_balancer_refuses(cloud: Standin) -> None:
    network, server = cloud.add_network(), cloud.add_server()
    balancer = cloud.add_balancer()
    path = f"/load_balancers/{balancer}/actions"
    here = {"type": "server", "server": {"id": server.id}}
    for action, body, expected in (
        ("add_target", {**here, "use_private_ip": True}, "load_balancer_not_attached_to_network"),
        ("disable_public_interface", {}, "load_balancer_not_attached_to_network"),
        ("detach_from_network", {"network": network}, "invalid_input"),
        ("add_service", {"protocol": "tcp", "listen_port": 80}, "invalid_input"),
        ("change_algorithm", {"type": "random"}, "invalid_input"),
        ("change_type", {"load_balancer_type": "lb99"}, "invalid_input"),
    ):
        assert cloud.refusal("POST", f"{path}/{action}", **body) == (422, expected)
    assert cloud.refusal("POST", f"{path}/remove_target", **here)[0] == 404
    cloud.act("load_balancers", balancer, "attach_to_network", network=network)
    assert cloud.refusal("POST", f"{path}/attach_to_network", network=network) == (
        422,
        "load_balancer_already_attached",
    )
    assert cloud.refusal("POST", f"{path}/add_target", **here, use_private_ip=True) == (
        422,
        "server_not_attached_to_network",
    )
    cloud.act("load_balancers", balancer, "add_target", **here)
    assert cloud.refusal("POST", f"{path}/add_target", **here) == (422, "target_already_defined")
    assert cloud.refusal("POST", f"{path}/disable_public_interface") == (
        422,
        "targets_without_use_private_ip",
    )


def test_a_listen_port_is_taken_once(cloud: Standin) -> None:
    balancer = cloud.add_balancer()
    service = {"protocol": "tcp", "listen_port": 80, "destination_port": 80}
    for port in range(80, 85):
        cloud.act("load_balancers", balancer, "add_service", **{**service, "listen_port": port})
    path = f"/load_balancers/{balancer}/actions/add_service"
    assert cloud.refusal("POST", path, **service) == (412, "source_port_already_used")
    assert cloud.refusal("POST", path, **{**service, "listen_port": 85}) == (
        403,
        "resource_limit_exceeded",
    )


# --- faults ----------------------------------------------------------------------------------------------


def test_the_rate_limit_can_be_reached(cloud: Standin) -> None:
    cloud.control("POST", "faults", kind="rate_limit", times=2)
    status, headers, text = raw(cloud, "GET", "/v1/servers")
    assert (status, headers["RateLimit-Remaining"]) == (429, "0")
    assert json.loads(text)["error"]["code"] == "rate_limit_exceeded"
    assert raw(cloud, "GET", "/v1/servers")[0] == 429
    assert raw(cloud, "GET", "/v1/servers")[0] == 200
    cloud.control("POST", "faults", kind="rate_limit", seconds=60)
    assert cloud.refusal("GET", "/servers") == (429, "rate_limit_exceeded")
    cloud.control("DELETE", "faults")
    cloud.ask("GET", "/servers")


def test_requests_can_fail(cloud: Standin) -> None:
    fault = {"kind": "fail", "method": "POST", "path": "/servers", "code": "placement_error"}
    cloud.control("POST", "faults", **fault, times=2)
    cloud.ask("GET", "/servers")
    for _ in range(2):
        assert cloud.refusal("POST", "/servers", **SERVER) == (422, "placement_error")
    assert cloud.control("GET", "faults")["faults"] == []
    cloud.control("POST", "faults", kind="fail", path="/servers/.*", status=502, code="bad_gateway")
    assert cloud.refusal("GET", "/servers/7") == (502, "bad_gateway")
    assert raw(cloud, "POST", "/control/faults", '{"kind": "nonsense"}')[0] == 422


def test_an_answer_can_be_lost(cloud: Standin) -> None:
    cloud.control("POST", "faults", kind="cut", method="POST", path="/networks")
    network = {"name": "net", "ip_range": "10.78.0.0/24"}
    with pytest.raises(requests.ConnectionError):
        cloud.ask("POST", "/networks", **network)
    assert cloud.client.networks.get_by_name("net") is not None
    assert cloud.refusal("POST", "/networks", **network) == (409, "uniqueness_error")


def test_the_api_can_be_down(cloud: Standin) -> None:
    cloud.control("POST", "faults", kind="refuse", seconds=0.2)
    assert cloud.refusal("GET", "/servers") == (503, "unavailable")
    time.sleep(0.21)
    cloud.ask("GET", "/servers")


def test_an_answer_can_be_late(cloud: Standin) -> None:
    cloud.control("POST", "faults", kind="slow", seconds=0.1)
    began = time.monotonic()
    cloud.ask("GET", "/servers")
    assert time.monotonic() - began >= 0.1


def test_an_action_can_fail(cloud: Standin) -> None:
    fault = {"kind": "fail_action", "command": "create_server", "message": "no luck"}
    cloud.control("POST", "faults", **fault)
    with pytest.raises(ActionFailedException, match="no luck"):
        cloud.add_server()
    left = cloud.client.servers.get_by_name("one")
    assert (left.status, left.locked, cloud.world.boots) == ("off", False, {})
    left.delete().wait_until_finished()
    assert cloud.client.primary_ips.get_all() == []


def test_the_log_has_all_requests(cloud: Standin) -> None:
    cloud.ask("GET", "/servers?name=x")
    cloud.refusal("GET", "/servers/7")
    assert cloud.control("GET", "log")["log"] == [
        {"method": "GET", "path": "/servers", "status": 200},
        {"method": "GET", "path": "/servers/7", "status": 404},
    ]
    cloud.control("DELETE", "log")
    assert cloud.control("GET", "log")["log"] == []


def test_only_this_host_controls(cloud: Standin) -> None:
    host, port = cloud.server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, source_address=("127.0.0.2", 0))
    connection.request("GET", "/control/store")
    assert connection.getresponse().status == 404
    connection.close()
    assert raw(cloud, "GET", "/control/ready")[0] == 200


def test_many_at_once(cloud: Standin) -> None:
    """Every one of many clients gets an address and an id of its own."""

    def order(number: int) -> None:
        body = json.dumps({"name": f"ip{number}", "type": "ipv4", "location": "fsn1"})
        assert raw(cloud, "POST", "/v1/primary_ips", body)[0] == 201

    threads = [threading.Thread(target=order, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    addresses = cloud.client.primary_ips.get_all()
    assert len({address.ip for address in addresses}) == 20
    assert len({address.id for address in addresses}) == 20
