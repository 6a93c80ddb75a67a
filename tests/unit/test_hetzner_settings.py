"""Stack files with servers at Hetzner Cloud: pools, what is filled in, what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import HETZNER_ENDPOINT, Settings, made_address, public_key, validate
from tests.unit.stacks import (
    CLOUD,
    HETZNER_TOKEN,
    PRIVATE_KEY,
    PUBLIC_KEY,
    REMOVED,
    ROOT,
    SITE,
    changed,
    declarations,
    existing,
    host_key,
    load,
    problem,
    refused,
)

Changes = Mapping[str, Any]


def loaded(changes: Changes | None = None) -> Settings:
    """The settings of the small site at Hetzner, changed."""
    return load(changes, CLOUD).settings


def validated(changes: Changes) -> Settings:
    """The same without the engine's texts and without keys to look at (for many examples)."""
    defaults = {key: entry.get("default") for key, entry in declarations().items()}
    values = {**defaults, **changed(CLOUD, changes)}
    del values["hcloud:token"]
    return validate(values, ROOT)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Login keys of each kind, private and public, as ssh-keygen makes them."""
    folder = tmp_path_factory.mktemp("keys")
    made = {
        "ed25519": ["-t", "ed25519", "-N", ""],
        "ecdsa": ["-t", "ecdsa", "-N", ""],
        "rsa": ["-t", "rsa", "-b", "2048", "-N", ""],
        "passphrase": ["-t", "ed25519", "-N", "a passphrase"],
        "pem": ["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""],
        "pem-passphrase": ["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "a passphrase"],
    }
    for name, words in made.items():
        subprocess.run(["ssh-keygen", "-q", "-f", folder / name, *words], check=True)
    return {
        name: ((folder / name).read_text(), (folder / f"{name}.pub").read_text()) for name in made
    }


# --- nodes -------------------------------------------------------------------------------------


def test_pools_become_nodes() -> None:
    pools = {
        "nodePools": {
            "worker": {"role": "worker", "count": 2, "labels": {"disk": "fast"}},
            "gpu": {
                "role": "worker",
                "count": 1,
                "serverType": "cax11",
                "taints": ["gpu:NoExecute"],
            },
            "later": {"role": "worker", "count": 0},
        }
    }
    nodes = loaded(pools).nodes
    assert set(nodes) == {"cp1", "worker-1", "worker-2", "gpu-1"}
    assert nodes["worker-1"].labels == nodes["worker-2"].labels == {"disk": "fast"}
    assert (nodes["gpu-1"].server_type, nodes["gpu-1"].taints) == ("cax11", ["gpu:NoExecute"])
    assert [nodes[name].role for name in nodes].count("control-plane") == 1


def test_a_pools_private_addresses_count_up_where_that_is_asked_for() -> None:
    settings = loaded({"nodePools.worker.firstPrivateAddress": "10.78.0.20"})
    found = {name: str(node.private_address) for name, node in settings.workers.items()}
    assert found == {"worker-1": "10.78.0.20", "worker-2": "10.78.0.21"}


def test_a_pool_of_control_planes() -> None:
    pools = {"control": {"role": "control-plane", "count": 1}, "w": {"role": "worker", "count": 1}}
    assert list(loaded({"nodes": {}, "nodePools": pools}).control_planes) == ["control-1"]


def test_what_holds_for_all_servers_is_filled_in() -> None:
    for node in loaded().hetzner_nodes.values():
        assert (node.machine, node.user, node.port) == ("hetzner", "root", 22)
        assert (node.server_type, node.location, node.image) == ("cx23", "fsn1", "debian-12")
        assert node.address is None
        assert node.host_key is None
        assert node.private_address in IPv4Network("10.78.0.0/24")


def test_a_nodes_own_values_win() -> None:
    shared = {"hetzner": {"location": "nbg1", "serverType": "cpx22", "image": "ubuntu-24.04"}}
    own = {"serverType": "cax11", "location": "hel1", "image": "debian-13", "placementGroup": "x"}
    settings = loaded({**shared, "nodes.w9": {"role": "worker", **own}})
    node, other = settings.nodes["w9"], settings.nodes["worker-1"]
    assert (node.server_type, node.location, node.image) == ("cax11", "hel1", "debian-13")
    assert node.placement_group == "x"
    assert (other.server_type, other.location, other.image) == ("cpx22", "nbg1", "ubuntu-24.04")


TWENTY_ONE = {"count": 21, "firstPrivateAddress": "10.78.0.20"}


def test_servers_are_spread_by_role_and_those_of_a_pool_ten_by_ten() -> None:
    settings = loaded({"nodePools.worker": {**TWENTY_ONE, "role": "worker"}})
    groups = {name: node.placement_group for name, node in settings.nodes.items()}
    assert groups["cp1"] == "control-plane"
    assert [groups[f"worker-{n}"] for n in (1, 10, 11, 20, 21)] == [
        "worker-1", "worker-1", "worker-2", "worker-2", "worker-3",
    ]  # fmt: skip


def test_a_pool_that_grows_changes_none_of_its_servers() -> None:
    large = {"nodeCidr": "10.0.0.0/11"}
    few, many = loaded(large).nodes, loaded({**large, "nodePools.worker.count": 40}).nodes
    assert {name: many[name] for name in few} == few


def test_servers_are_logged_in_to_as_their_image_has_it() -> None:
    node = loaded({"sshUser": "debian", "sshPort": 2222}).nodes["cp1"]
    assert (node.user, node.port) == ("root", 22)


def test_known_hosts_give_a_server_no_key(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"10.78.0.5,None {host_key('wrong')}\n")
    stack = load({"sshKnownHostsFile": "hosts"}, CLOUD, tmp_path)
    assert {node.host_key for node in stack.settings.nodes.values()} == {None}


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
subnets = st.builds(
    lambda number, prefix: IPv4Network((0x0A000000 + (number << 8), prefix), strict=False),
    st.integers(0, 0xFFFF),
    st.integers(8, 28),
)


@given(names, subnets)
def test_a_made_address_is_one_that_a_server_can_have(name: str, network: IPv4Network) -> None:
    address = made_address(name, network)
    assert address in network
    reserved = {network[0], network[1], *(network[-n] for n in (1, 2, 3, 4))}
    assert address not in reserved
    assert made_address(name, network) == address


def test_made_addresses_stay_as_they_are() -> None:
    """Another rule for them would move every server of a live cluster to another address."""
    network = IPv4Network("10.78.0.0/24")
    found = {name: str(made_address(name, network)) for name in ("cp1", "worker-1", "worker-2")}
    assert found == {"cp1": "10.78.0.131", "worker-1": "10.78.0.54", "worker-2": "10.78.0.55"}


def test_a_made_address_lies_in_the_servers_part_of_the_network() -> None:
    part = {"nodeCidr": "10.78.0.0/16", "hetzner": {"subnetCidr": "10.78.128.0/20"}}
    settings = loaded(part)
    assert all(
        node.internal_address in IPv4Network("10.78.128.0/20") for node in settings.nodes.values()
    )


# --- what holds for the whole cluster ----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({}, "load-balancer"),
        ({"hetzner": {"ingress": "floating-ips"}}, "floating-ips"),
    ],
)
def test_the_way_in(changes: Changes, entry: str) -> None:
    assert loaded(changes).entry == entry


def test_the_way_in_without_servers_is_the_nodes_network() -> None:
    assert load({"hetzner": {"ingress": "floating-ips"}}).settings.entry == "layer2"


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [
        ({"nodes.cp1.privateAddress": "10.78.0.9"}, "10.78.0.9:6443"),
        ({"hetzner": {"apiLoadBalancer": True}}, "10.78.0.254:6443"),
        ({"hetzner": {"apiLoadBalancer": True, "subnetCidr": "10.78.0.0/25"}}, "10.78.0.126:6443"),
        ({"apiEndpoint": "api.example.com:443"}, "api.example.com:443"),
    ],
)
def test_endpoint(changes: Changes, endpoint: str) -> None:
    assert loaded(changes).endpoint == endpoint


def test_a_load_balancer_before_the_api_is_for_servers_only() -> None:
    assert load({"scheduleOnControlPlanes": True}).settings.api_balancer_address is None


def test_a_small_site_needs_no_more_than_this() -> None:
    assert len(CLOUD) == 7
    stack = load({}, CLOUD)
    assert stack.private_key is None, "one is made"
    assert stack.public_key == ""
    assert stack.hetzner_endpoint == HETZNER_ENDPOINT


# --- token and login key -----------------------------------------------------------------------


def test_the_token_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", "e" * 64)
    assert load({}, CLOUD).hetzner_token == HETZNER_TOKEN, "the stack file wins"
    assert load({"hcloud:token": REMOVED}, CLOUD).hetzner_token == "e" * 64


def test_no_token_is_an_error() -> None:
    found = problem({"hcloud:token": REMOVED}, "hcloud:token", CLOUD)
    assert "with the right to read and write" in found.expected
    assert "pulumi config set --secret hcloud:token" in found.remedy


def test_a_site_without_servers_needs_no_token() -> None:
    assert load().hetzner_token == ""


def test_the_token_is_in_no_settings_and_no_representation() -> None:
    stack = load({}, CLOUD)
    assert HETZNER_TOKEN not in repr(stack)
    assert HETZNER_TOKEN not in repr(stack.settings)


def test_another_endpoint() -> None:
    endpoint = "http://10.77.0.1:8090/v1"
    assert load({"hcloud:endpoint": endpoint}, CLOUD).hetzner_endpoint == endpoint


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_public_half_of_a_login_key(kind: str, keys: dict[str, tuple[str, str]]) -> None:
    private, public = keys[kind]
    assert public_key(private) == " ".join(public.split()[:2])
    assert load({"sshPrivateKey": private}, CLOUD).public_key == " ".join(public.split()[:2])


def test_a_login_key_from_a_file(tmp_path: Path, keys: dict[str, tuple[str, str]]) -> None:
    private, public = keys["ed25519"]
    (tmp_path / "key").write_text(private)
    assert str(load({"sshPrivateKeyFile": "key"}, CLOUD, tmp_path).public_key) in public


@pytest.mark.parametrize(
    ("kind", "expected", "remedy"),
    [
        ("passphrase", "a private key without passphrase", "ssh-keygen -t ed25519 -N ''"),
        ("pem", "OpenSSH's own format", "ssh-keygen -p -f key"),
        ("pem-passphrase", "a private key without passphrase", "ssh-keygen -t ed25519 -N ''"),
    ],
)
def test_a_login_key_that_cant_be_used_is_refused_and_not_shown(
    kind: str, expected: str, remedy: str, keys: dict[str, tuple[str, str]]
) -> None:
    private, _ = keys[kind]
    error = refused({"sshPrivateKey": private}, CLOUD)
    (found,) = error.problems
    assert found.key == "sshPrivateKey"
    assert expected in found.expected
    assert remedy in found.remedy
    assert not [line for line in private.splitlines()[1:-1] if line and line in str(error)]


@pytest.mark.parametrize(
    "text",
    ["no key", "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
     PRIVATE_KEY.replace("b3BlbnNza", "b4BlbnNza"),
     "-----BEGIN OPENSSH PRIVATE KEY-----\nÄ\n-----END OPENSSH PRIVATE KEY-----\n"],
)  # fmt: skip
def test_what_is_no_key_at_all_is_refused(text: str) -> None:
    found = problem({"sshPrivateKey": text}, "sshPrivateKey", CLOUD)
    assert "(-----BEGIN OPENSSH PRIVATE KEY-----)" in found.expected


def test_the_public_half_is_looked_for_only_where_a_server_is_made() -> None:
    pem = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"
    assert load({"sshPrivateKey": pem}).public_key == ""
    assert load({"sshPrivateKey": PRIVATE_KEY}, CLOUD).public_key == PUBLIC_KEY


# --- refused -----------------------------------------------------------------------------------


class Bad(NamedTuple):
    """A stack file that must be refused: what is changed in the small site, and the problem."""

    case: str
    changes: Changes
    key: str
    value: object
    expected: str
    remedy: str


def workers(count: int, **more: Any) -> dict[str, Any]:
    """So many workers, each by itself."""
    return {f"nodes.w{n}": {"role": "worker", **more} for n in range(1, count + 1)}


HOST_KEYS = {"sshPrivateKey": PRIVATE_KEY}
LARGE = {"nodeCidr": "10.78.0.0/16"}

TWO_MORE = {f"nodes.cp{number}": {"role": "control-plane"} for number in (2, 3)}
"""Control planes."""

BAD = [
    # pools
    Bad("pool-like-a-node", {"nodes.worker-2": {"role": "worker"}}, "nodePools.worker", 2,
        "whose node worker-2 is not in nodes.worker-2 too", "rename one"),
    Bad("pool-name-long", {f"nodePools.{'p' * 60}": {"role": "worker", "count": 1}},
        f"nodePools.{'p' * 60}", "p" * 60, "at most 59 characters", "shorter"),
    Bad("pool-name", {"nodePools.My_Pool": {"role": "worker", "count": 1}}, "nodePools.My_Pool",
        "My_Pool", "a DNS label", "choose a shorter name"),
    Bad("pool-count", {"nodePools.worker.count": 101}, "nodePools.worker.count", 101, "100",
        "Pulumi.yaml"),
    Bad("pool-no-count", {"nodePools.worker.count": REMOVED}, "nodePools.worker.count", "",
        "a value", "add nodePools.worker.count"),
    Bad("pool-address", {"nodePools.worker.address": "203.0.113.9"}, "nodePools.worker.address", "",
        "a setting that Pulumi.yaml describes", "remove"),
    Bad("pool-of-hosts", {"nodePools.worker.machine": "existing", **HOST_KEYS},
        "nodes.worker-1.address", "", "where SSH is answered", "for a new server"),
    Bad("pool-leaves-the-network", {"nodePools.worker.firstPrivateAddress": "10.78.0.255"},
        "nodes.worker-2.privateAddress", "10.78.1.0", "nodeCidr (10.78.0.0/24)", "privateAddress"),
    # keys of the other kind of machine
    *(
        Bad(f"server-{key}", {f"nodes.cp1.{key}": value}, f"nodes.cp1.{key}", value,
            "nothing, as the server is new and gets one", "nodes.cp1.machine")
        for key, value in {
            "address": "203.0.113.9", "hostKey": host_key("cp1"), "user": "debian", "port": 2222,
        }.items()
    ),
    *(
        Bad(f"host-{key}", {"nodes.old": existing("old", **{key: value}), **HOST_KEYS},
            f"nodes.old.{key}", value, "nothing, as the node is an existing host",
            "nodes.old.machine")
        for key, value in {
            "serverType": "cx23", "location": "fsn1", "image": "debian-12", "placementGroup": "x",
        }.items()
    ),
    Bad("host-no-address", {"nodes.old": {"role": "worker", "machine": "existing"}, **HOST_KEYS},
        "nodes.old.address", "", "where SSH is answered on this host", "set nodes.old.address"),
    Bad("machine", {"nodes.cp1.machine": "aws"}, "nodes.cp1.machine", "aws",
        "'existing' or 'hetzner'", "Pulumi.yaml"),
    Bad("machines", {"machines": "aws"}, "machines", "aws", "'existing' or 'hetzner'",
        "Pulumi.yaml"),
    Bad("no-bastion-key", {"proxy": {"address": "203.0.113.5", "hostKey": host_key("bastion")}},
        "proxyPrivateKey", "", "as there is no sshPrivateKey to try", "--secret proxyPrivateKey"),
    Bad("no-login-key", {"nodes.old": existing("old")}, "sshPrivateKey", "",
        "the private key that the nodes let in", "sshPrivateKeyFile"),
    # addresses
    Bad("pools-of-addresses", {"loadBalancerPools": ["10.78.0.200-10.78.0.210"]},
        "loadBalancerPools", ["10.78.0.200-10.78.0.210"],
        "none: Hetzner routes no address that a server announces by itself", "hetzner.ingress"),
    *(
        Bad(f"network-{case}", {"nodeCidr": network}, "nodeCidr", network,
            "a private network (RFC 1918) of /24 or larger", "10.0.0.0/16")
        for case, network in {
            "public": "203.0.113.0/24", "shared": "100.64.0.0/16", "documentation": "192.0.2.0/24",
            "small": "10.78.0.0/25", "link-local": "169.254.0.0/16", "all": "10.0.0.0/7",
        }.items()
        if case != "all"
    ),
    *(
        Bad(f"address-{case}", {"nodes.cp1.privateAddress": address}, "nodes.cp1.privateAddress",
            address, "an address in 10.78.0.0/24 that is none of the network's own, its gateway's",
            "choose another")
        for case, address in {
            "network": "10.78.0.0", "gateway": "10.78.0.1", "ingress-balancer": "10.78.0.253",
            "api-balancer": "10.78.0.254", "broadcast": "10.78.0.255", "outside": "10.79.0.4",
        }.items()
    ),
    Bad("address-way-out", {"nodeCidr": "172.31.0.0/16", "nodes.cp1.privateAddress": "172.31.1.1"},
        "nodes.cp1.privateAddress", "172.31.1.1", "none of the network's own", "choose another"),
    *(
        Bad(f"address-subnet-{case}",
            {**LARGE, "hetzner": {"subnetCidr": "10.78.2.0/24"}, "nodes.cp1.privateAddress": address},
            "nodes.cp1.privateAddress", address, "an address in 10.78.2.0/24 that", "choose another")
        for case, address in {
            "own": "10.78.2.0", "gateway": "10.78.2.1", "balancer": "10.78.2.253",
            "other": "10.78.3.9",
        }.items()
    ),
    Bad("address-twice", {"nodes.cp1.privateAddress": "10.78.0.54"}, "nodes.cp1.privateAddress",
        "10.78.0.54", "an address of its own (node worker-1 has this one)",
        "set privateAddress of one of the two, or firstPrivateAddress of its pool"),
    # parts of the network
    *(
        Bad(f"subnet-{case}", {"hetzner": {"subnetCidr": cidr}}, "hetzner.subnetCidr", cidr,
            "a part of nodeCidr (10.78.0.0/24), of /28 or larger", "correct one")
        for case, cidr in {
            "other": "10.79.0.0/24", "wider": "10.78.0.0/23", "tiny": "10.78.0.0/29",
            "one": "10.78.0.9/32",
        }.items()
    ),
    Bad("vswitch-alone", {"hetzner": {"vswitchId": 4711}}, "hetzner.vswitchId", 4711,
        "vswitchId and vswitchCidr together", "set both"),
    Bad("vswitch-cidr-alone",
        {"hetzner": {"subnetCidr": "10.78.0.0/25", "vswitchCidr": "10.78.0.128/25"}},
        "hetzner.vswitchId", "", "vswitchId and vswitchCidr together", "set both"),
    Bad("vswitch-over-servers", {"hetzner": {"vswitchId": 1, "vswitchCidr": "10.78.0.128/25"}},
        "hetzner.vswitchCidr", "10.78.0.128/25", "apart from the servers' one (10.78.0.0/24)",
        "two halves"),
    Bad("vswitch-elsewhere",
        {"hetzner": {"subnetCidr": "10.78.0.0/25", "vswitchId": 1, "vswitchCidr": "10.79.0.0/25"}},
        "hetzner.vswitchCidr", "10.79.0.0/25", "a part of nodeCidr (10.78.0.0/24)", "two halves"),
    # Hetzner's bounds
    Bad("servers", {**LARGE, "nodePools.worker.count": 100}, "nodes", 101,
        "at most 100 servers", "two clusters"),
    Bad("admins", {"adminCidrs": [f"192.0.2.{n}" for n in range(51)]}, "adminCidrs", "51 networks",
        "at most 50", "put neighbouring networks together"),
    Bad("group", {**LARGE, **workers(11)}, "placement group worker", 11,
        "at most 10 servers, which is what a placement group takes", "nodePools"),
    Bad("name", {f"nodes.{'n' * 59}": {"role": "worker"}}, f"nodes.{'n' * 59}", f"blue-{'n' * 59}",
        "clusterName-" + "n" * 59 + ", of at most 63 characters", "shorten"),
    Bad("floating-ips", {"hetzner": {"floatingIps": 0}}, "hetzner.floatingIps", 0, "1",
        "Pulumi.yaml"),
    Bad("ingress", {"hetzner": {"ingress": "metallb"}}, "hetzner.ingress", "metallb",
        "'load-balancer' or 'floating-ips'", "Pulumi.yaml"),
    Bad("unknown", {"hetzner": {"datacenter": "fsn1-dc14"}}, "hetzner.datacenter", "",
        "a setting that Pulumi.yaml describes", "remove hetzner.datacenter"),
    # a load balancer before the API
    Bad("api-balancer-hosts",
        {"hetzner": {"apiLoadBalancer": True}, "nodes.cp1": existing("cp1", "control-plane"),
         **HOST_KEYS},
        "hetzner.apiLoadBalancer", True, "control planes on existing hosts (cp1)", "apiEndpoint"),
    Bad("api-balancer-endpoint",
        {"hetzner": {"apiLoadBalancer": True}, "apiEndpoint": "api.example.com"},
        "hetzner.apiLoadBalancer", True, "no apiEndpoint (api.example.com)", "remove one"),
    # several control planes
    Bad("several-behind-nothing", TWO_MORE, "hetzner.apiLoadBalancer", False,
        "outlives each of the 3 control planes", "set hetzner.apiLoadBalancer to true"),
    Bad("virtual-address", {"apiVirtualAddress": "10.78.0.9"}, "apiVirtualAddress", "10.78.0.9",
        "Hetzner's servers (cp1) share no segment", "set hetzner.apiLoadBalancer to true instead"),
    Bad("virtual-address-and-balancer",
        {**TWO_MORE, "hetzner": {"apiLoadBalancer": True}, "apiVirtualAddress": "10.78.0.9"},
        "apiVirtualAddress", "10.78.0.9", "no hetzner.apiLoadBalancer beside it", "remove one"),
    # nobody to answer HTTP
    Bad("no-way-in", {"nodePools": {}, "nodes.old": existing("old"), **HOST_KEYS}, "nodes", ["old"],
        "a Hetzner server among the nodes that take workloads", "make one of these nodes a server"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.case)
def test_refused_with_key_value_expectation_and_remedy(bad: Bad) -> None:
    error = refused(bad.changes, CLOUD)
    assert any(
        (problem.key, problem.value) == (bad.key, bad.value)
        and bad.expected in problem.expected
        and bad.remedy in problem.remedy
        for problem in error.problems
    ), str(error)
    assert HETZNER_TOKEN not in str(error)


def test_control_planes_of_both_kinds_are_told_what_can_help() -> None:
    """Neither a load balancer of Hetzner's nor an address that moves leads to both."""
    mixed = {**TWO_MORE, **HOST_KEYS, "nodes.cp3": existing("cp3", "control-plane")}
    (found,) = refused(mixed, CLOUD).problems
    assert "outlives each of the 3 control planes" in found.expected
    assert "apiEndpoint" in found.remedy
    assert "apiVirtualAddress" not in found.remedy


def test_pools_that_make_the_same_node_are_refused() -> None:
    pools = {"a": {"role": "worker", "count": 1}, "a-1": {"role": "worker", "count": 1}}
    assert {"a-1", "a-1-1"} <= loaded({"nodePools": pools}).nodes.keys()
    error = refused({"nodePools": pools, "nodes.a-1": {"role": "worker"}}, CLOUD)
    assert [found.key for found in error.problems] == ["nodePools.a"]


def test_keys_of_servers_are_refused_in_a_site_without_any() -> None:
    found = problem({"nodes.w1.serverType": "cx23"}, "nodes.w1.serverType", SITE)
    assert found.value == "cx23"
    assert "nodes.w1.machine" in found.remedy


def test_a_bound_is_not_passed_by_reaching_it() -> None:
    reached = {
        **LARGE,
        **{f"nodes.w{n}": {"role": "worker", "privateAddress": f"10.78.8.{n}"} for n in range(10)},
        "nodes.cp1.privateAddress": "10.78.9.8",
        "nodePools.worker.count": 89,
        "nodePools.worker.firstPrivateAddress": "10.78.10.1",
        "adminCidrs": [f"192.0.2.{n}" for n in range(50)],
    }
    assert len(loaded(reached).nodes) == 100
    longest = "n" * (63 - len("blue-"))
    assert longest in loaded({f"nodes.{longest}": {"role": "worker"}}).nodes


# --- taken -------------------------------------------------------------------------------------

MIXED = {
    "nodeCidr": "10.78.0.0/16",
    "hetzner": {
        "subnetCidr": "10.78.0.0/24", "vswitchId": 4711, "vswitchCidr": "10.78.1.0/24",
    },
}  # fmt: skip

UNUSUAL: dict[str, Changes] = {
    "one server for everything": {"nodePools": {}, "scheduleOnControlPlanes": True},
    "processors of both kinds": {
        "nodePools.arm": {"role": "worker", "count": 1, "serverType": "cax11", "image": "debian-13"},
    },
    "locations of one zone": {
        "nodePools.far": {"role": "worker", "count": 1, "location": "hel1"},
        "hetzner": {"location": "nbg1"},
    },
    "a snapshot as image": {"hetzner": {"image": "114690387"}},
    "addresses that go with their servers": {"hetzner": {"keepAddresses": False}},
    "the largest network": {"nodeCidr": "10.0.0.0/8", "podCidr": "172.16.0.0/16",
                            "serviceCidr": "172.20.0.0/16"},
    "the smallest network, and a part of it": {"hetzner": {"subnetCidr": "10.78.0.16/28"}},
    "twenty floating IPs": {"hetzner": {"ingress": "floating-ips", "floatingIps": 20}},
    "a load balancer before the API": {"hetzner": {"apiLoadBalancer": True, "loadBalancerType": "lb21"}},
    "three control planes behind a load balancer": {**TWO_MORE, "hetzner": {"apiLoadBalancer": True}},
    "a pool of control planes behind a name": {
        "nodes": {},
        "nodePools.control": {"role": "control-plane", "count": 3},
        "apiEndpoint": "api.example.com",
    },
    "control planes of both kinds behind a name": {
        **HOST_KEYS, "apiEndpoint": "api.example.com", "nodes.cp2": {"role": "control-plane"},
        "nodes.cp3": existing("cp3", "control-plane"),
    },
    "control planes at home behind a shared address": {
        **MIXED, **HOST_KEYS, "apiVirtualAddress": "10.78.1.5",
        **{
            f"nodes.cp{number}": existing(f"cp{number}", "control-plane", address=f"10.78.1.1{number}")
            for number in (1, 2, 3)
        },
    },
    "none of Hetzner's controllers": {
        "hetzner": {"cloudControllerManager": False, "csiDriver": False, "deleteVolumes": False}
    },
    "control plane and worker at home": {
        **MIXED, **HOST_KEYS,
        "nodes.cp1": existing("cp1", "control-plane", address="10.78.1.11"),
        "nodes.old": existing("old", address="10.78.1.21", user="debian", port=2222),
    },
    "an existing worker beside servers": {
        **MIXED, **HOST_KEYS,
        "nodes.old": existing("old", address="old.example.com", privateAddress="10.78.1.21"),
    },
    "servers beside existing hosts": {
        **HOST_KEYS,
        "machines": "existing",
        "nodes.cp1": existing("cp1", "control-plane"),
        "nodePools.worker.machine": "hetzner",
    },
    "an empty pool": {"nodePools.later": {"role": "worker", "count": 0}},
    "names with the numbers of a pool": {
        "nodePools.worker.count": 1, "nodes.worker-2": {"role": "worker"},
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_settings_pass(changes: Changes) -> None:
    settings = loaded(changes)
    assert settings.hetzner_nodes
    assert settings.endpoint


@pytest.mark.parametrize(
    "case", ["control plane and worker at home", "servers beside existing hosts"]
)
def test_mixed_sites_have_nodes_of_both_kinds(case: str) -> None:
    settings = loaded(UNUSUAL[case])
    assert settings.nodes["cp1"].machine == "existing"
    assert set(settings.hetzner_nodes) == {"worker-1", "worker-2"}
    assert settings.entry == "load-balancer"
    assert settings.nodes["cp1"].host_key == host_key("cp1")


def test_existing_hosts_keep_their_own_login() -> None:
    case = UNUSUAL["control plane and worker at home"]
    nodes = loaded({**case, "sshUser": "admin", "sshPort": 2022}).nodes
    assert (nodes["cp1"].user, nodes["cp1"].port) == ("admin", 2022)
    assert (nodes["old"].user, nodes["old"].port) == ("debian", 2222)
    assert (nodes["worker-1"].user, nodes["worker-1"].port) == ("root", 22)


@given(st.integers(1, 12), st.integers(0, 12))
def test_pools_make_as_many_nodes_as_they_say(one: int, two: int) -> None:
    pools = {
        "control": {"role": "control-plane", "count": 1, "firstPrivateAddress": "10.78.0.2"},
        "one": {"role": "worker", "count": one, "firstPrivateAddress": "10.78.0.10"},
        "two": {"role": "worker", "count": two, "firstPrivateAddress": "10.78.0.100"},
    }
    settings = validated({"nodes": {}, "nodePools": pools})
    assert len(settings.workers) == one + two
    assert settings.nodes["control-1"].private_address == IPv4Address("10.78.0.2")
