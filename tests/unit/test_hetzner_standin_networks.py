"""The stand-in for Hetzner's API, asked by the official client: networks and what hangs on them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hcloud.firewalls import (
    Firewall,
    FirewallResource,
    FirewallResourceLabelSelector,
)
from hcloud.networks import Network, NetworkRoute, NetworkSubnet
from hcloud.servers import Server

from tests.unit.hetzner_standin import FSN1, Standin, eventually, rule, standin, wait

LABELS = {"own-kubernetes/cluster": "test", "plain": ""}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Standin]:
    with standin(tmp_path) as running:
        yield running


# --- networks --------------------------------------------------------------------------------------------


def test_the_life_of_a_network(cloud: Standin) -> None:
    network = cloud.client.networks.create(name="net", ip_range="10.78.0.0/24", labels=LABELS)
    subnet = NetworkSubnet("10.78.0.0/25", "cloud", "eu-central")
    network.add_subnet(subnet).wait_until_finished()
    route = NetworkRoute("10.244.1.0/24", "10.78.0.9")
    network.add_route(route).wait_until_finished()
    found = cloud.client.networks.get_by_id(network.id)
    assert (found.subnets[0].ip_range, found.subnets[0].gateway) == ("10.78.0.0/25", "10.78.0.1")
    assert found.routes[0].destination == "10.244.1.0/24"
    assert cloud.world.networks == {network.id: IPv4Network("10.78.0.0/24")}
    network.delete_route(route).wait_until_finished()
    network.delete_subnet(subnet).wait_until_finished()
    network.change_ip_range("10.78.0.0/16").wait_until_finished()
    assert cloud.world.networks == {network.id: IPv4Network("10.78.0.0/16")}
    network.update(name="other")
    cloud.client.networks.get_by_name("other").delete()
    eventually(lambda: cloud.world.networks == {})


def test_attaching_servers(cloud: Standin) -> None:
    network = cloud.add_network()
    server, other = cloud.add_server(), cloud.add_server("two")
    server.attach_to_network(Network(id=network), ip="10.78.0.11").wait_until_finished()
    path = f"/servers/{server.id}/actions/attach_to_network"
    assert cloud.refusal("POST", path, network=network) == (422, "server_already_attached")
    path = f"/servers/{other.id}/actions/attach_to_network"
    assert cloud.refusal("POST", path, network=network, ip="10.78.0.11") == (
        422,
        "ip_not_available",
    )
    assert cloud.refusal("POST", path, network=network, ip="10.79.0.1") == (422, "ip_not_available")
    assert cloud.refusal("POST", path, network=network, ip="10.78.0.1") == (422, "ip_not_available")
    cloud.act("servers", server.id, "change_alias_ips", network=network, alias_ips=["10.78.0.12"])
    members = cloud.ask("GET", f"/networks/{network}/members")["members"]
    assert members == [
        {
            "type": "server",
            "id": server.id,
            "ip": "10.78.0.11",
            "status": "attached",
            "alias_ips": ["10.78.0.12"],
            "subnet": "10.78.0.0/24",
        }
    ]
    assert cloud.refusal("POST", path, network=network, ip="10.78.0.12") == (
        422,
        "ip_not_available",
    )
    server.detach_from_network(Network(id=network)).wait_until_finished()
    assert cloud.world.attached == {}


def test_a_subnet_of_another_zone_is_none_for_a_server(cloud: Standin) -> None:
    made = cloud.ask("POST", "/networks", name="net", ip_range="10.80.0.0/16")["network"]
    subnet = {"type": "cloud", "network_zone": "us-east", "ip_range": "10.80.1.0/24"}
    cloud.act("networks", made["id"], "add_subnet", **subnet)
    server = cloud.add_server()
    path = f"/servers/{server.id}/actions/attach_to_network"
    assert cloud.refusal("POST", path, network=made["id"]) == (422, "no_subnet_available")


def test_a_subnet_in_use_stays(cloud: Standin) -> None:
    network = cloud.add_network()
    cloud.add_server(networks=[Network(id=network)])
    path = f"/networks/{network}/actions/delete_subnet"
    assert cloud.refusal("POST", path, ip_range="10.78.0.0/24") == (422, "service_error")
    assert "servers are attached" in str(cloud.error)
    cloud.done("DELETE", f"/networks/{network}")
    eventually(lambda: (cloud.world.attached, cloud.world.networks) == ({}, {}))


# --- firewalls -------------------------------------------------------------------------------------------


def test_firewalls_add_up(cloud: Standin) -> None:
    server, other = cloud.add_server(), cloud.add_server("two", labels={"role": "worker"})
    direct = cloud.client.firewalls.create(name="direct", rules=[rule("22")])
    wait(*direct.actions)
    here = FirewallResource("server", server=Server(id=server.id))
    wait(*direct.firewall.apply_to_resources([here]))
    workers = FirewallResource(
        "label_selector", label_selector=FirewallResourceLabelSelector("role=worker")
    )
    labelled = cloud.client.firewalls.create(
        name="labelled", rules=[rule("80-90"), rule(None, "icmp")], resources=[workers]
    )
    wait(*labelled.actions)
    assert _rules(cloud, server.id) == ["22"]
    assert _rules(cloud, other.id) == ["80-90", None]
    server.update(labels={"role": "worker"})
    eventually(lambda: _rules(cloud, server.id) == ["22", "80-90", None])
    calls = len(cloud.world.calls)
    server.update(labels={"role": "worker", "more": ""})
    server.reboot().wait_until_finished()
    assert cloud.world.calls[calls:] == [("reboot", server.id)]
    wait(*direct.firewall.set_rules([rule("any", "udp")]))
    assert _rules(cloud, server.id) == ["any", "80-90", None]
    shown = cloud.client.firewalls.get_by_id(labelled.firewall.id).applied_to[0]
    assert {each.server.id for each in shown.applied_to_resources} == {server.id, other.id}
    wait(*labelled.firewall.remove_from_resources([workers]))
    wait(*direct.firewall.remove_from_resources([here]))
    assert cloud.world.firewalls == {}
    direct.firewall.delete()
    labelled.firewall.delete()


def _rules(cloud: Standin, server: int) -> list[str | None]:
    return [each.port for each in cloud.world.firewalls.get(server, ())]


def test_an_empty_firewall_lets_nothing_in(cloud: Standin) -> None:
    wall = cloud.client.firewalls.create(name="wall").firewall
    server = cloud.add_server(firewalls=[Firewall(id=wall.id)])
    assert cloud.world.firewalls == {server.id: []}


# --- load balancers --------------------------------------------------------------------------------------


def test_the_life_of_a_load_balancer(cloud: Standin) -> None:
    network = cloud.add_network()
    servers = [
        cloud.add_server(name, networks=[Network(id=network)], labels={"ingress": "true"})
        for name in ("one", "two")
    ]
    balancer = cloud.add_balancer()
    cloud.act("load_balancers", balancer, "attach_to_network", network=network, ip="10.78.0.5")
    service = {"protocol": "tcp", "listen_port": 80, "destination_port": 30080}
    cloud.act("load_balancers", balancer, "add_service", **service)
    target = {"type": "label_selector", "label_selector": {"selector": "ingress=true"}}
    cloud.act("load_balancers", balancer, "add_target", **target, use_private_ip=True)
    real = cloud.world.balancers[balancer]
    assert (str(real.address), str(real.private_address)) == ("10.77.0.150", "10.78.0.5")
    assert (real.network, real.services) == (network, ((80, 30080),))
    assert [str(address) for address in real.targets] == ["10.78.0.2", "10.78.0.3"]
    cloud.world.sick.add(IPv4Address("10.78.0.3"))
    shown = cloud.client.load_balancers.get_by_id(balancer).targets[0].targets
    assert [(t.server.id, t.health_status[0].status) for t in shown] == [
        (servers[0].id, "healthy"),
        (servers[1].id, "unhealthy"),
    ]
    servers[0].update(labels={})
    eventually(lambda: len(cloud.world.balancers[balancer].targets) == 1)
    cloud.act("load_balancers", balancer, "update_service", listen_port=80, destination_port=30081)
    assert cloud.world.balancers[balancer].services == ((80, 30081),)
    cloud.act("load_balancers", balancer, "disable_public_interface")
    assert cloud.world.balancers[balancer].address is None
    cloud.act("load_balancers", balancer, "enable_public_interface")
    cloud.act("load_balancers", balancer, "change_algorithm", type="least_connections")
    cloud.act("load_balancers", balancer, "change_type", load_balancer_type="lb21")
    cloud.act("load_balancers", balancer, "remove_target", **target)
    cloud.act("load_balancers", balancer, "delete_service", listen_port=80)
    cloud.act("load_balancers", balancer, "detach_from_network", network=network)
    found = cloud.client.load_balancers.get_by_id(balancer)
    assert (found.services, found.targets, found.private_net) == ([], [], [])
    assert (found.algorithm.type, found.load_balancer_type.name) == ("least_connections", "lb21")
    found.change_dns_ptr("10.77.0.150", "lb.example.com")
    found.change_protection(delete=True)
    assert cloud.refusal("DELETE", f"/load_balancers/{balancer}") == (423, "protected")
    found.change_protection(delete=False)
    found.delete().action.wait_until_finished()
    eventually(lambda: cloud.world.balancers == {})


def test_public_targets(cloud: Standin) -> None:
    server = cloud.add_server()
    balancer = cloud.add_balancer(
        services=[{"protocol": "http"}], targets=[{"type": "server", "server": {"id": server.id}}]
    )
    real = cloud.world.balancers[balancer]
    assert (real.services, real.targets) == (((80, 80),), (IPv4Address("10.77.0.100"),))
    shown = cloud.client.load_balancers.get_by_id(balancer)
    assert shown.targets[0].health_status[0].status == "healthy"
    assert shown.services[0].health_check.protocol == "http"
    assert cloud.ask("GET", f"/servers/{server.id}")["server"]["load_balancers"] == [balancer]


# --- floating IPs and volumes ----------------------------------------------------------------------------


def test_a_floating_ip_moves(cloud: Standin) -> None:
    one, two = cloud.add_server(), cloud.add_server("two")
    floating = cloud.client.floating_ips.create("ipv4", home_location=FSN1, name="fip").floating_ip
    address = IPv4Address(floating.ip)
    for server in (one, two):
        floating.assign(server).wait_until_finished()
        assert cloud.world.carried == {address: server.id}
    path = f"/floating_ips/{floating.id}/actions/assign"
    assert cloud.refusal("POST", path, server=two.id) == (422, "floating_ip_assigned")
    assert cloud.refusal("DELETE", f"/floating_ips/{floating.id}") == (422, "must_be_unassigned")
    floating.unassign().wait_until_finished()
    assert cloud.world.carried == {}
    floating.change_dns_ptr(floating.ip, "fip.example.com")
    floating.delete()


def test_the_life_of_a_volume(cloud: Standin) -> None:
    server = cloud.add_server()
    made = cloud.client.volumes.create(10, "disk", server=server, format="ext4")
    wait(made.action, *made.next_actions)
    volume = cloud.client.volumes.get_by_id(made.volume.id)
    assert volume.linux_device == f"/dev/disk/by-id/scsi-0HC_Volume_{volume.id}"
    assert (volume.server.id, volume.status, volume.format) == (server.id, "available", "ext4")
    path = f"/volumes/{volume.id}"
    assert cloud.refusal("DELETE", path) == (422, "service_error")
    attach = f"{path}/actions/attach"
    assert cloud.refusal("POST", attach, server=server.id) == (422, "volume_already_attached")
    volume.detach().wait_until_finished()
    volume.resize(20).wait_until_finished()
    assert cloud.refusal("POST", f"{path}/actions/resize", size=20) == (422, "invalid_input")
    volume.attach(server).wait_until_finished()
    volume.detach().wait_until_finished()
    volume.delete()
