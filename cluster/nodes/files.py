"""The files a host gets, rendered from settings: pure functions, path to text.

``@ID@`` and ``@CODENAME@`` stand for the host's distribution, ``@PAUSE@`` for the pause image that kubeadm
asks for, ``@DEVICE@`` for an interface: prepare.sh knows them, this program does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import tomli_w

from cluster import versions
from cluster.nodes import hardening, kubeadm
from cluster.places import placed
from cluster.settings import API_PORT, Settings

CONFIG = "/etc/own-kubernetes"
MODULES = ("overlay", "br_netfilter")
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    # What a kubelet with protectKernelDefaults wants to find (pkg/kubelet/cm, setupKernelTunables).
    "vm.overcommit_memory": 1,
    "vm.panic_on_oom": 0,
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "kernel.keys.root_maxkeys": 1000000,
    "kernel.keys.root_maxbytes": 25000000,
}
"""kubernetes.io/docs/setup/production-environment/container-runtimes and Flannel's requirements."""


def envelope(files: Mapping[str, str]) -> str:
    """The files as one text for prepare.sh's stdin: a ``#-- PATH`` line before each."""
    return "".join(f"#-- {path}\n{text.rstrip()}\n" for path, text in files.items())


def unpacked(text: str) -> dict[str, str]:
    """The files of an envelope, by path.

    >>> unpacked(envelope({"/a": "1", "/b": "2"}))
    {'/a': '1\\n', '/b': '2\\n'}
    """
    _, *parts = f"\n{text}".split("\n#-- ")
    return {path: f"{body}\n" for path, _, body in (p.rstrip("\n").partition("\n") for p in parts)}


def host_files(settings: Settings, name: str, root: Path) -> dict[str, str]:
    """Every file of one host.

    Args:
        settings: the stack's settings.
        name: the node's name.
        root: the project's folder, where a mirror's key file path starts.
    """
    node = settings.nodes[name]
    files = {
        "/etc/modules-load.d/own-kubernetes.conf": "\n".join(MODULES),
        "/etc/sysctl.d/90-own-kubernetes.conf": "\n".join(
            f"{key} = {value}" for key, value in SYSCTLS.items()
        ),
        "/etc/apt/sources.list.d/own-kubernetes.sources": apt_sources(settings, root),
        f"{CONFIG}/apt-keys": apt_keys(settings),
        f"{CONFIG}/containerd.toml": containerd_config(settings),
        f"{CONFIG}/login-user": str(node.user),
        f"{CONFIG}/internal-address": str(node.internal_address),
        **registry_hosts(settings),
    }
    if settings.pre_pull_images:
        images = versions.images(
            settings.hello_image if settings.hello_world else "",
            metallb=settings.entry != "load-balancer",
            policies=settings.network_policy_image if settings.network_policies else "",
            tls=settings.ingress_tls is not None,
        )
        files[f"{CONFIG}/images"] = "\n".join(images)
    if rules := firewall(settings, name):
        files[f"{CONFIG}/firewall.nft"] = rules
    files[f"{CONFIG}/join.yaml"] = kubeadm.join_config(settings, name)
    files[f"{CONFIG}/discovery.yaml"] = kubeadm.discovery_config(settings)
    files[f"{CONFIG}/upgrade.yaml"] = kubeadm.upgrade_config(settings)
    if node.role == "control-plane":
        files |= hardening.files(settings)
        files[f"{CONFIG}/init.yaml"] = kubeadm.init_config(settings, name)
        files[f"{CONFIG}/settings"] = kubeadm.settings_digest(settings, node.role)
        if settings.api_virtual_address:
            files[f"{CONFIG}/virtual-address"] = str(settings.api_virtual_address)
            files[f"{CONFIG}/keepalived.conf"] = keepalived_config(settings, name)
    return files


def apt_sources(settings: Settings, root: Path) -> str:
    """One deb822 stanza per repository (sources.list(5)); the mirror's one carries its key."""
    mirror = settings.mirror.apt
    if mirror is not None:
        key = placed(root, mirror.key_file).read_text()
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


def keepalived_config(settings: Settings, name: str) -> str:
    """keepalived.conf(5) of one control plane: the virtual address goes to one whose API server is well.

    keepalived, and not kube-vip: a package of every distribution here, which needs neither the API that it
    makes available nor an image, and goes on when containerd does not. All are equal and none takes the
    address back (``nopreempt``): each move costs open connections. Unicast, as not every network carries
    multicast. What is not well releases the address: three looks in vain, a second apart.
    """
    node = settings.nodes[name]
    others = [n.internal_address for o, n in settings.control_planes.items() if o != name]
    peers = "".join(f"    {address}\n" for address in others)
    return _KEEPALIVED.format(
        name=name,
        port=API_PORT,
        router=router_id(settings.cluster_name),
        own=node.internal_address,
        peers=f"  unicast_peer {{\n{peers}  }}\n" if others else "",
        address=settings.api_virtual_address,
    )


def router_id(cluster: str) -> int:
    """1 to 255, made of the cluster's name: two clusters on one segment need different ones."""
    return hashlib.sha256(cluster.encode()).digest()[0] % 255 + 1


_KEEPALIVED = """\
global_defs {{
  router_id {name}
  vrrp_version 3
  enable_script_security
  script_user root
}}
vrrp_script api {{
  script "/usr/bin/curl --silent --fail --insecure --max-time 2 --output /dev/null https://{own}:{port}/readyz"
  interval 1
  timeout 3
  fall 3
  rise 1
}}
vrrp_instance api {{
  state BACKUP
  nopreempt
  interface @DEVICE@
  virtual_router_id {router}
  priority 100
  advert_int 0.5
  unicast_src_ip {own}
{peers}  virtual_ipaddress {{
    {address}/32
  }}
  track_script {{
    api
  }}
}}
"""


METADATA = IPv4Address("169.254.169.254")
"""Where a cloud server asks for its own data, user-data among it (docs.hetzner.cloud)."""


def firewall(settings: Settings, name: str) -> str:
    """The node's own packet filter, or nothing where there is nothing to filter.

    A table of our own: it drops what nobody here asked for and accepts nothing on behalf of others'
    rules, which all stay as they are. Loading it again replaces the whole table at once (nft(8)).
    """
    node = settings.nodes[name]
    chains = [
        *(_api_chain(settings) if node.role == "control-plane" else []),
        *(_METADATA_CHAIN if node.machine == "hetzner" else []),
    ]
    table = "table inet own_kubernetes"
    return "\n".join([table, f"delete {table}", f"{table} {{", *chains, "}"]) if chains else ""


def _api_chain(settings: Settings) -> list[str]:
    """The API server's port, open to administrators, nodes, pods and the host itself, else closed.

    Of the nodes only the control planes stand here. The others are put into ``nodes4`` and ``joining4`` by
    firewall.sh, as they come and go: a new worker changes no file of a control plane.
    """
    balancer = settings.api_balancer_address
    control_planes = settings.control_planes.values()
    sources: list[IPv4Network | IPv6Network] = [
        *settings.admin_cidrs,
        settings.pod_cidr,
        *(IPv4Network(address) for node in control_planes for address in node.addresses),
        *([IPv4Network(balancer)] if balancer else []),
    ]
    return [
        *_set("api4", "ipv4_addr", [s for s in sources if isinstance(s, IPv4Network)]),
        *_set("api6", "ipv6_addr", [s for s in sources if isinstance(s, IPv6Network)]),
        "  set nodes4 { type ipv4_addr; }",
        "  set joining4 { type ipv4_addr; flags timeout; }",
        "  chain api {",
        "    type filter hook input priority filter; policy accept;",
        '    iif "lo" accept',
        *(
            f"    tcp dport {API_PORT} {family} saddr @{name} accept"
            for family, name in (
                ("ip", "api4"),
                ("ip", "nodes4"),
                ("ip", "joining4"),
                ("ip6", "api6"),
            )
        ),
        f"    tcp dport {API_PORT} counter drop",
        "  }",
    ]


_METADATA_CHAIN = [
    "  chain metadata {",
    "    type filter hook forward priority filter; policy accept;",
    f"    ip daddr {METADATA} counter reject",
    "  }",
]
"""Pods have no business with the server's user-data and credentials; the host itself may ask."""


def _set(name: str, kind: str, networks: list[Any]) -> list[str]:
    elements = ", ".join(map(str, dict.fromkeys(networks)))
    return [
        f"  set {name} {{",
        f"    type {kind}; flags interval; auto-merge",
        *([f"    elements = {{ {elements} }}"] if elements else []),
        "  }",
    ]
