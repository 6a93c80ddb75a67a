"""The files a host gets, rendered from settings: pure functions, path to text.

``@ID@`` and ``@CODENAME@`` stand for the host's distribution, ``@PAUSE@`` for the pause image that kubeadm
asks for: prepare.sh knows them, this program does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import tomli_w

from cluster import versions
from cluster.machines import Machine
from cluster.nodes import kubeadm
from cluster.settings import API_PORT, Settings

CONFIG = "/etc/own-kubernetes"
MODULES = ("overlay", "br_netfilter")
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
}
"""kubernetes.io/docs/setup/production-environment/container-runtimes and Flannel's requirements."""


def envelope(files: Mapping[str, str]) -> str:
    """The files as one text for prepare.sh's stdin: a ``#-- PATH`` line before each."""
    return "".join(f"#-- {path}\n{text.rstrip()}\n" for path, text in files.items())


def host_files(
    settings: Settings, machine: Machine, control_planes: Mapping[str, Machine], root: Path
) -> dict[str, str]:
    """Every file of one host.

    Args:
        settings: the stack's settings.
        machine: the host.
        control_planes: those that a joining host may ask for a token.
        root: the project's folder, where a mirror's key file path starts.
    """
    files = {
        "/etc/modules-load.d/own-kubernetes.conf": "\n".join(MODULES),
        "/etc/sysctl.d/90-own-kubernetes.conf": "\n".join(
            f"{key} = {value}" for key, value in SYSCTLS.items()
        ),
        "/etc/apt/sources.list.d/own-kubernetes.sources": apt_sources(settings, root),
        f"{CONFIG}/apt-keys": apt_keys(settings),
        f"{CONFIG}/containerd.toml": containerd_config(settings),
        f"{CONFIG}/login-user": machine.user,
        **registry_hosts(settings),
    }
    if settings.pre_pull_images:
        files[f"{CONFIG}/images"] = "\n".join(versions.images(settings.hello_image))
    if machine.role == "control-plane":
        files[f"{CONFIG}/firewall.nft"] = firewall(settings)
        files[f"{CONFIG}/init.yaml"] = kubeadm.init_config(settings, machine.name)
    else:
        files[f"{CONFIG}/join.yaml"] = kubeadm.join_config(settings, machine.name)
        files[f"{CONFIG}/discovery.yaml"] = kubeadm.discovery_config(settings)
        files[f"{CONFIG}/control-plane"] = _destination(next(iter(control_planes.values())))
        files[f"{CONFIG}/control-planes.known_hosts"] = "\n".join(
            map(_known_host, control_planes.values())
        )
    return files


def _destination(machine: Machine) -> str:
    return f"ssh://{machine.user}@{machine.internal_address}:{machine.port}"


def _known_host(machine: Machine) -> str:
    """As ssh looks it up: a port other than 22 goes with the address (sshd(8))."""
    address = str(machine.internal_address)
    place = address if machine.port == 22 else f"[{address}]:{machine.port}"
    return f"{place} {machine.host_key}"


def apt_sources(settings: Settings, root: Path) -> str:
    """One deb822 stanza per repository (sources.list(5)); the mirror's one carries its key."""
    mirror = settings.mirror.apt
    if mirror is not None:
        key = (root / mirror.key_file.expanduser()).read_text()
        stanza = {
            "Types": "deb",
            "URIs": mirror.uri,
            "Suites": mirror.suite,
            "Components": " ".join(mirror.components),
            "Signed-By": "".join(f"\n {line or '.'}" for line in key.splitlines()),
        }
        return _deb822(stanza)
    stanzas = [
        {
            "Types": "deb",
            "URIs": repository.uri.format(minor=settings.minor),
            "Suites": repository.suite,
            "Components": repository.components,
            "Signed-By": repository.keyring,
        }
        for repository in versions.APT_REPOSITORIES
    ]
    return "\n".join(map(_deb822, stanzas))


def _deb822(stanza: Mapping[str, str]) -> str:
    lines = (
        f"{key}:{value}" if value.startswith("\n") else f"{key}: {value}"
        for key, value in stanza.items()
        if value
    )
    return "".join(f"{line}\n" for line in lines)


def apt_keys(settings: Settings) -> str:
    """Lines ``PATH URL FINGERPRINT``: signing keys to fetch, accepted by fingerprint only."""
    if settings.mirror.apt is not None:
        return ""
    return "\n".join(
        f"{repository.keyring} {repository.key_url.format(minor=settings.minor)} "
        f"{repository.fingerprint}"
        for repository in versions.APT_REPOSITORIES
    )


def containerd_config(settings: Settings) -> str:
    """containerd 2's configuration: CRI on, systemd cgroups, the site's own settings on top."""
    config: dict[str, Any] = {
        "version": 3,
        "plugins": {
            "io.containerd.cri.v1.images": {
                "pinned_images": {"sandbox": "@PAUSE@"},
                "registry": {"config_path": "/etc/containerd/certs.d"},
                "max_concurrent_downloads": 6,
            },
            "io.containerd.cri.v1.runtime": {
                "containerd": {
                    "default_runtime_name": "runc",
                    "runtimes": {
                        "runc": {
                            "runtime_type": "io.containerd.runc.v2",
                            "options": {"SystemdCgroup": True},
                        }
                    },
                },
                "cni": {"bin_dirs": ["/opt/cni/bin"], "conf_dir": "/etc/cni/net.d"},
            },
        },
    }
    return tomli_w.dumps(kubeadm.merged(config, settings.containerd))


def registry_hosts(settings: Settings) -> dict[str, str]:
    """containerd's hosts.toml of each mirrored registry; without any, no file."""
    return {
        f"/etc/containerd/certs.d/{registry}/hosts.toml": tomli_w.dumps(
            {"host": {url: {"capabilities": ["pull", "resolve"]} for url in urls}}
        )
        for registry, urls in settings.mirror.registries.items()
    }


def firewall(settings: Settings) -> str:
    """The API server's port, open to administrators, nodes, pods and the host itself, else closed.

    A table of our own: it drops what nobody here asked for and accepts nothing on behalf of others'
    rules, which all stay as they are. Loading it again replaces the whole table at once (nft(8)).
    """
    sources: list[IPv4Network | IPv6Network] = [
        *settings.admin_cidrs,
        settings.pod_cidr,
        *(IPv4Network(a) for node in settings.nodes.values() for a in node.addresses),
    ]
    return "\n".join(
        [
            "table inet own_kubernetes",
            "delete table inet own_kubernetes",
            "table inet own_kubernetes {",
            *_set("api4", "ipv4_addr", [s for s in sources if isinstance(s, IPv4Network)]),
            *_set("api6", "ipv6_addr", [s for s in sources if isinstance(s, IPv6Network)]),
            "  chain api {",
            "    type filter hook input priority filter; policy accept;",
            '    iif "lo" accept',
            f"    tcp dport {API_PORT} ip saddr @api4 accept",
            f"    tcp dport {API_PORT} ip6 saddr @api6 accept",
            f"    tcp dport {API_PORT} counter drop",
            "  }",
            "}",
        ]
    )


def _set(name: str, kind: str, networks: list[Any]) -> list[str]:
    elements = ", ".join(map(str, dict.fromkeys(networks)))
    return [
        f"  set {name} {{",
        f"    type {kind}; flags interval; auto-merge",
        *([f"    elements = {{ {elements} }}"] if elements else []),
        "  }",
    ]
