"""The files that hosts get: as a whole against goldens, and what they mean."""

from __future__ import annotations

import re
import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import versions
from cluster.nodes.files import envelope, router_id, unpacked
from tests.unit import goldens
from tests.unit.sites import HA, SITES, rendered
from tests.unit.stacks import dev_stack

ROLES = {"control-plane": "cp1", "worker": "w1"}
ETC = "/etc/own-kubernetes"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("site", SITES)
def test_golden(site: str, role: str, tmp_path: Path, update_goldens: bool) -> None:
    _, files = rendered(tmp_path, SITES[site].changes, SITES[site].base)
    goldens.compare(f"{site}.{role}.txt", envelope(files[ROLES[role]]), update=update_goldens)


def test_no_golden_is_left_over() -> None:
    names = {path.name for path in goldens.GOLDENS.iterdir() if path.is_file()}
    rendered_files = {f"{site}.{role}.txt" for site in SITES for role in ROLES}
    assert names == {"graph.txt", "ha-graph.txt", "hetzner-graph.txt"} | rendered_files


@pytest.mark.parametrize("site", SITES)
def test_every_file_is_below_etc_and_holds_no_private_key(site: str, tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES[site].changes, SITES[site].base)
    for node in files.values():
        assert all(path.startswith("/etc/") and ".." not in path for path in node)
        assert not any("PRIVATE KEY" in text for text in node.values())


def test_roles_get_what_they_need_and_no_more(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    common = {
        "/etc/modules-load.d/own-kubernetes.conf",
        "/etc/sysctl.d/90-own-kubernetes.conf",
        "/etc/apt/sources.list.d/own-kubernetes.sources",
        f"{ETC}/apt-keys",
        f"{ETC}/containerd.toml",
        f"{ETC}/login-user",
        f"{ETC}/internal-address",
        f"{ETC}/images",
        f"{ETC}/join.yaml",
        f"{ETC}/discovery.yaml",
        f"{ETC}/upgrade.yaml",
    }
    read = {f"{ETC}/apiserver/{name}.yaml" for name in ("admission", "audit", "authentication")}
    own = {f"{ETC}/firewall.nft", f"{ETC}/init.yaml", f"{ETC}/settings", *read}
    assert set(files["cp1"]) == common | own
    assert set(files["w1"]) == common
    assert set(files["w2"]) == set(files["w1"])


def test_every_control_plane_could_make_the_cluster_and_could_join_it(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, HA)
    shared = {f"{ETC}/virtual-address", f"{ETC}/keepalived.conf"}
    for name in ("cp1", "cp2", "cp3"):
        assert {f"{ETC}/init.yaml", f"{ETC}/join.yaml", *shared} <= set(files[name])
    for name in ("w1", "w2"):
        assert not {f"{ETC}/init.yaml", *shared} & set(files[name])


# --- kernel ------------------------------------------------------------------------------------


def test_sysctls_and_modules(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    lines = files["w1"]["/etc/sysctl.d/90-own-kubernetes.conf"].splitlines()
    assert {key.strip(): value.strip() for key, value in (line.split("=") for line in lines)} == {
        "net.ipv4.ip_forward": "1",
        "net.bridge.bridge-nf-call-iptables": "1",
        "net.bridge.bridge-nf-call-ip6tables": "1",
        "vm.overcommit_memory": "1",
        "vm.panic_on_oom": "0",
        "kernel.panic": "10",
        "kernel.panic_on_oops": "1",
        "kernel.keys.root_maxkeys": "1000000",
        "kernel.keys.root_maxbytes": "25000000",
    }
    modules = files["w1"]["/etc/modules-load.d/own-kubernetes.conf"].split()
    assert modules == ["overlay", "br_netfilter"]


# --- packages ----------------------------------------------------------------------------------


def stanzas(text: str) -> list[dict[str, str]]:
    """deb822, as apt reads it: a line that starts with a space belongs to the one before."""
    result = []
    for block in text.strip().split("\n\n"):
        stanza: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line.startswith(" "):
                stanza[last] += f"\n{line}"
            else:
                last, _, value = line.partition(":")
                stanza[last] = value.strip()
        result.append(stanza)
    return result


@pytest.mark.parametrize(("version", "minor"), [("1.36.4", 36), ("1.31.0", 31)])
def test_public_packages_come_from_the_minors_repository_and_dockers(
    version: str, minor: int, tmp_path: Path
) -> None:
    _, files = rendered(tmp_path, {"kubernetesVersion": version})
    kubernetes, docker = stanzas(files["w1"]["/etc/apt/sources.list.d/own-kubernetes.sources"])
    assert kubernetes == {
        "Types": "deb",
        "URIs": f"https://pkgs.k8s.io/core:/stable:/v1.{minor}/deb/",
        "Suites": "/",
        "Signed-By": "/etc/apt/keyrings/own-kubernetes-kubernetes.asc",
    }
    assert docker == {
        "Types": "deb",
        "URIs": "https://download.docker.com/linux/@ID@",
        "Suites": "@CODENAME@",
        "Components": "stable",
        "Signed-By": "/etc/apt/keyrings/own-kubernetes-docker.asc",
    }


def test_every_public_repository_has_its_key_pinned_by_fingerprint(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    keys = [line.split() for line in files["w1"][f"{ETC}/apt-keys"].splitlines()]
    sources = stanzas(files["w1"]["/etc/apt/sources.list.d/own-kubernetes.sources"])
    assert [path for path, _, _ in keys] == [stanza["Signed-By"] for stanza in sources]
    for _, url, fingerprint in keys:
        assert url.startswith("https://")
        assert len(bytes.fromhex(fingerprint)) == 20
    assert keys[0][1] == "https://pkgs.k8s.io/core:/stable:/v1.36/deb/Release.key"


def test_a_mirror_is_the_only_source_and_carries_its_key(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, base=dev_stack())
    (source,) = stanzas(files["w1"]["/etc/apt/sources.list.d/own-kubernetes.sources"])
    assert source == {
        "Types": "deb",
        "URIs": "http://10.77.0.1:8080/apt",
        "Suites": "./",
        "Signed-By": (
            "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n AAAA\n -----END PGP PUBLIC KEY BLOCK-----"
        ),
    }
    assert files["w1"][f"{ETC}/apt-keys"].strip() == ""


def test_a_mirror_with_suite_and_components(tmp_path: Path) -> None:
    apt = {
        "uri": "http://mirror.example.com/k8s",
        "suite": "stable",
        "components": ["main", "extra"],
        "keyFile": ".sandbox/mirror.asc",
    }
    _, files = rendered(tmp_path, {"mirror": {"apt": apt}})
    (source,) = stanzas(files["cp1"]["/etc/apt/sources.list.d/own-kubernetes.sources"])
    assert source["Suites"] == "stable"
    assert source["Components"] == "main extra"


# --- containerd --------------------------------------------------------------------------------


def containerd(files: dict[str, str]) -> dict[str, Any]:
    return tomllib.loads(files[f"{ETC}/containerd.toml"])


@pytest.mark.parametrize("site", SITES)
def test_containerd_has_cri_systemd_cgroups_and_the_pause_image(site: str, tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES[site].changes, SITES[site].base)
    for node in files.values():
        config = containerd(node)
        assert config["version"] == 3
        assert "disabled_plugins" not in config
        images = config["plugins"]["io.containerd.cri.v1.images"]
        assert images["pinned_images"] == {"sandbox": "@PAUSE@"}
        assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}
        runc = config["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]
        assert runc["options"] == {"SystemdCgroup": True}


def test_a_sites_containerd_settings_go_on_top_table_by_table(tmp_path: Path) -> None:
    runtime = "io.containerd.cri.v1.runtime"
    extra = {"oom_score": -999, "plugins": {runtime: {"cni": {"conf_dir": "/etc/own"}, "x": 1}}}
    _, files = rendered(tmp_path, {"containerd": extra})
    config = containerd(files["w1"])
    assert config["oom_score"] == -999
    assert config["plugins"][runtime]["x"] == 1
    assert config["plugins"][runtime]["cni"] == {
        "conf_dir": "/etc/own",
        "bin_dirs": ["/opt/cni/bin"],
    }
    assert config["plugins"][runtime]["containerd"]["default_runtime_name"] == "runc"


def test_registries_without_mirrors_have_no_file(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    assert not [path for path in files["w1"] if path.startswith("/etc/containerd")]


def test_registry_mirrors_keep_their_order(tmp_path: Path) -> None:
    registries = {
        "docker.io": ["http://two:5000", "http://one:5000"],
        "_default": ["http://m:5000"],
    }
    _, files = rendered(tmp_path, {"mirror": {"registries": registries}})
    for registry, urls in registries.items():
        hosts = tomllib.loads(files["w1"][f"/etc/containerd/certs.d/{registry}/hosts.toml"])["host"]
        assert list(hosts) == urls
        assert all(host["capabilities"] == ["pull", "resolve"] for host in hosts.values())


def test_images_to_fetch_ahead_are_pinned(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, {"helloImage": "registry.example.com/hello:2"})
    images = files["w1"][f"{ETC}/images"].splitlines()
    assert images == versions.images("registry.example.com/hello:2")
    assert all(image.rpartition(":")[2] not in ("", "latest") for image in images)


def test_images_are_not_fetched_ahead_where_that_is_off(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, {"prePullImages": False})
    assert f"{ETC}/images" not in files["w1"]


# --- firewall ----------------------------------------------------------------------------------


def elements(text: str, name: str) -> list[str]:
    """The elements of a set of an nft file."""
    block = text.split(f"set {name} {{")[1].split("chain")[0].split("  }")[0]
    line = next((line for line in block.splitlines() if "elements" in line), "{}")
    return [word for word in line.partition("{")[2].rstrip("} ").strip().split(", ") if word]


def test_the_api_is_open_to_admins_control_planes_and_pods(tmp_path: Path) -> None:
    settings, files = rendered(tmp_path, SITES["endpoint"].changes)
    text = files["cp1"][f"{ETC}/firewall.nft"]
    assert elements(text, "api4") == [
        "192.0.2.0/24", "10.244.0.0/16", "10.0.0.11/32", "203.0.113.1/32",
    ]  # fmt: skip
    assert elements(text, "api6") == ["2001:db8::/32"]
    assert not any(settings.service_cidr.overlaps(IPv4Network(e)) for e in elements(text, "api4"))


def test_control_planes_reach_each_others_api(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, HA)
    for name in ("cp1", "cp2", "cp3"):
        found = elements(files[name][f"{ETC}/firewall.nft"], "api4")
        assert {f"10.0.0.1{number}/32" for number in (1, 2, 3)} <= set(found)


def test_workers_are_let_in_while_they_are_nodes_and_stand_in_no_file(tmp_path: Path) -> None:
    """firewall.sh puts them in: a worker that comes or goes changes no file of a control plane."""
    _, files = rendered(tmp_path)
    text = files["cp1"][f"{ETC}/firewall.nft"]
    assert not [address for address in ("10.0.0.21", "10.0.0.22") if address in text]
    assert "set nodes4 { type ipv4_addr; }\n" in text
    assert "set joining4 { type ipv4_addr; flags timeout; }\n" in text


def test_a_set_without_elements_has_no_elements_line(tmp_path: Path) -> None:
    _, files = rendered(tmp_path)
    assert "elements" not in files["cp1"][f"{ETC}/firewall.nft"].split("set api6")[1]


def test_the_firewall_closes_the_api_port_only_and_touches_its_own_table_only(
    tmp_path: Path,
) -> None:
    _, files = rendered(tmp_path)
    text = files["cp1"][f"{ETC}/firewall.nft"]
    assert {line for line in text.splitlines() if "table" in line} == {
        "table inet own_kubernetes",
        "delete table inet own_kubernetes",
        "table inet own_kubernetes {",
    }
    assert "flush" not in text
    assert "policy accept" in text
    rules = [
        line.strip() for line in text.split("policy accept;")[1].splitlines() if line.strip(" }")
    ]
    assert rules == [
        'iif "lo" accept',
        "tcp dport 6443 ip saddr @api4 accept",
        "tcp dport 6443 ip saddr @nodes4 accept",
        "tcp dport 6443 ip saddr @joining4 accept",
        "tcp dport 6443 ip6 saddr @api6 accept",
        "tcp dport 6443 counter drop",
    ]
    assert text.count("{") == text.count("}")


# --- the address that control planes share ------------------------------------------------------


def keepalived(files: dict[str, str]) -> str:
    return files[f"{ETC}/keepalived.conf"]


def test_control_planes_share_an_address_as_equals(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, HA)
    addresses = {f"cp{number}": f"10.0.0.1{number}" for number in (1, 2, 3)}
    for name, own in addresses.items():
        text = keepalived(files[name])
        peers = text.partition("unicast_peer {")[2].partition("}")[0].split()
        assert peers == [address for address in addresses.values() if address != own]
        assert f"unicast_src_ip {own}\n" in text
        assert f"https://{own}:6443/readyz" in text, "its own API server"
        assert "virtual_ipaddress {\n    10.0.0.5/32\n" in text
        assert files[name][f"{ETC}/virtual-address"] == "10.0.0.5"
        assert {"state BACKUP", "nopreempt", "priority 100"} <= set(
            map(str.strip, text.splitlines())
        )
        assert text.count("{") == text.count("}")
    same = {
        keepalived(files[name]).replace(own, "OWN").replace(name, "NAME")
        for name, own in addresses.items()
    }
    assert len({re.sub(r"unicast_peer \{.*?\}", "", text, flags=re.DOTALL) for text in same}) == 1


def test_the_first_of_several_control_planes_has_no_peers_yet(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, {"apiVirtualAddress": "10.0.0.5"})
    assert "unicast_peer" not in keepalived(files["cp1"])


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_clusters_have_router_ids_that_keepalived_takes(cluster: str) -> None:
    assert 1 <= router_id(cluster) <= 255


def test_two_clusters_on_one_segment_have_different_router_ids() -> None:
    assert len({router_id(cluster) for cluster in ("blue", "green", "own-kubernetes")}) == 3


# --- what a host knows of itself ----------------------------------------------------------------


def test_a_host_knows_its_login_user(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES["endpoint"].changes)
    assert files["cp1"][f"{ETC}/login-user"] == "debian"
    assert files["w1"][f"{ETC}/login-user"] == "root"


def test_a_host_knows_the_address_that_the_other_nodes_use(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES["endpoint"].changes)
    found = {name: node[f"{ETC}/internal-address"] for name, node in files.items()}
    assert found == {"cp1": "10.0.0.11", "w1": "10.0.0.21", "w2": "10.0.0.22"}


@pytest.mark.parametrize("site", SITES)
def test_an_envelope_is_unpacked_as_it_was_packed(site: str, tmp_path: Path) -> None:
    _, files = rendered(tmp_path, SITES[site].changes, SITES[site].base)
    for node in files.values():
        texts = {path: f"{text.rstrip()}\n" for path, text in node.items()}
        assert unpacked(envelope(node)) == texts
    assert unpacked("") == {}


def test_envelope_marks_each_file_and_ends_each_with_one_newline() -> None:
    text = envelope({"/etc/a": "one\ntwo\n\n", "/etc/b": "", "/etc/c": "three"})
    assert text.split("#-- ")[1:] == ["/etc/a\none\ntwo\n", "/etc/b\n\n", "/etc/c\nthree\n"]
