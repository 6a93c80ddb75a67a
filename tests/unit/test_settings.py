"""Stack files in, settings or a list of problems out."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import checks, versions
from cluster.errors import Problem, SettingsError
from cluster.settings import SECRETS, AddressRange, Settings, Stack, validate
from tests.unit.sites import dev_files
from tests.unit.stacks import (
    PRIVATE_KEY,
    PUBLIC_KEY,
    REMOVED,
    ROOT,
    SITE,
    changed,
    declarations,
    dev_stack,
    host_key,
    load,
    problem,
    refused,
)

HOST_KEY = host_key("spare")


def node(address: str, role: str = "worker", **more: Any) -> dict[str, Any]:
    return {"role": role, "address": address, "hostKey": HOST_KEY, **more}


# --- refused -----------------------------------------------------------------------------------


class Bad(NamedTuple):
    """A stack file that must be refused: what is changed in the small site, and the problem."""

    case: str
    changes: Mapping[str, Any]
    key: str
    value: object
    expected: str
    remedy: str


POOLS = "loadBalancerPools"
VIRTUAL = "apiVirtualAddress"
CONTROL_PLANES = {f"nodes.cp{n}": node(f"10.0.0.1{n}", "control-plane") for n in (2, 3)}
"""Two more of them."""

BASTION = {"proxy.address": "203.0.113.5", "proxy.hostKey": HOST_KEY}

BAD = [
    # 1: networks overlap, in both directions
    Bad("1-pod-in-service", {"podCidr": "10.100.0.0/16"}, "podCidr", "10.100.0.0/16",
        "apart from serviceCidr (10.96.0.0/12)", "choose another network"),
    Bad("1-service-in-pod", {"podCidr": "10.96.0.0/11", "nodeCidr": "192.0.2.0/24"}, "podCidr",
        "10.96.0.0/11", "apart from serviceCidr (10.96.0.0/12)", "choose another network"),
    Bad("1-node-in-pod", {"podCidr": "10.0.0.0/16"}, "podCidr", "10.0.0.0/16",
        "apart from nodeCidr (10.0.0.0/24)", "choose another network"),
    Bad("1-pod-in-node", {"nodeCidr": "10.0.0.0/8", "serviceCidr": "172.16.0.0/16"}, "podCidr",
        "10.244.0.0/16", "apart from nodeCidr (10.0.0.0/8)", "choose another network"),
    Bad("1-node-in-service", {"serviceCidr": "10.0.0.0/16"}, "serviceCidr", "10.0.0.0/16",
        "apart from nodeCidr (10.0.0.0/24)", "choose another network"),
    Bad("1-service-in-node", {"nodeCidr": "10.0.0.0/9"}, "serviceCidr", "10.96.0.0/12",
        "apart from nodeCidr (10.0.0.0/9)", "choose another network"),
    Bad("1-equal", {"podCidr": "10.96.0.0/12"}, "podCidr", "10.96.0.0/12",
        "apart from serviceCidr", "choose another network"),
    Bad("1-pool-in-pods", {POOLS: ["10.244.9.0/24"]}, f"{POOLS}.0", "10.244.9.0-10.244.9.255",
        "nodeCidr (10.0.0.0/24)", "choose free addresses"),
    Bad("1-pool-in-services", {POOLS: ["10.96.9.0/24"]}, f"{POOLS}.0", "10.96.9.0-10.96.9.255",
        "nodeCidr (10.0.0.0/24)", "choose free addresses"),
    Bad("1-nodes-public-address-in-pods", {"nodes.w1": node("10.244.9.9", privateAddress="10.0.0.9")},
        "nodes.w1.address", "10.244.9.9", "apart from podCidr (10.244.0.0/16)",
        "choose another network for podCidr"),
    Bad("1-nodes-public-address-in-services",
        {"nodes.w1": node("10.96.9.9", privateAddress="10.0.0.9")}, "nodes.w1.address", "10.96.9.9",
        "apart from serviceCidr (10.96.0.0/12)", "or correct the address"),
    Bad("1-pools", {POOLS: ["10.0.0.200-10.0.0.210", "10.0.0.205/32"]}, f"{POOLS}.1",
        "10.0.0.205-10.0.0.205", "apart from loadBalancerPools.0", "share an address"),
    Bad("1-pools-other-way", {POOLS: ["10.0.0.205/32", "10.0.0.200-10.0.0.210"]}, f"{POOLS}.1",
        "10.0.0.200-10.0.0.210", "apart from loadBalancerPools.0", "share an address"),
    # 2: pod network too small for the nodes
    Bad("2-two-subnets", {"podCidr": "10.244.0.0/23"}, "podCidr", "10.244.0.0/23",
        "a /24 for each of 3 nodes (it has 2)", "choose a larger network"),
    Bad("2-no-subnet", {"podCidr": "10.244.0.0/25"}, "podCidr", "10.244.0.0/25",
        "a /24 for each of 3 nodes (it has 0)", "choose a larger network"),
    Bad("2-service-small", {"serviceCidr": "10.96.0.0/29"}, "serviceCidr", "10.96.0.0/29",
        "prefix length from 12 to 28", "10.96.0.0/12"),
    Bad("2-service-large", {"serviceCidr": "172.0.0.0/11"}, "serviceCidr", "172.0.0.0/11",
        "prefix length from 12 to 28", "10.96.0.0/12"),
    # 3: pools
    Bad("3-outside", {POOLS: ["10.0.1.10-10.0.1.20"]}, f"{POOLS}.0", "10.0.1.10-10.0.1.20",
        "nodeCidr (10.0.0.0/24)", "choose free addresses"),
    Bad("3-straddles", {POOLS: ["10.0.0.250-10.0.1.5"]}, f"{POOLS}.0", "10.0.0.250-10.0.1.5",
        "nodeCidr (10.0.0.0/24)", "choose free addresses"),
    Bad("3-node", {POOLS: ["10.0.0.20-10.0.0.21"]}, f"{POOLS}.0", "10.0.0.20-10.0.0.21",
        "without 10.0.0.21 (node w1)", "leave that address out"),
    Bad("3-private-address", {"nodes.w1": node("203.0.113.9", privateAddress="10.0.0.205")},
        f"{POOLS}.0", "10.0.0.200-10.0.0.219", "without 10.0.0.205 (node w1)",
        "leave that address out"),
    Bad("3-network-address", {POOLS: ["10.0.0.0-10.0.0.3"]}, f"{POOLS}.0", "10.0.0.0-10.0.0.3",
        "without 10.0.0.0 (the network's address)", "leave that address out"),
    Bad("3-broadcast", {POOLS: ["10.0.0.254-10.0.0.255"]}, f"{POOLS}.0", "10.0.0.254-10.0.0.255",
        "without 10.0.0.255 (the broadcast address)", "leave that address out"),
    Bad("3-one-address", {POOLS: ["10.0.0.200"]}, POOLS, ["10.0.0.200-10.0.0.200"],
        "at least 2 addresses, one for each LoadBalancer Service (ingress, hello-world); there are 1",
        "add addresses"),
    Bad("3-none", {POOLS: []}, POOLS, [], "there are 0", "add addresses"),
    Bad("3-reversed", {POOLS: ["10.0.0.210-10.0.0.200"]}, f"{POOLS}.0", "10.0.0.210-10.0.0.200",
        "first address is not above its last", "swap"),
    Bad("3-ipv6", {POOLS: ["fd00::/120"]}, f"{POOLS}.0", "fd00::/120", "an IPv4 network", "IPv4"),
    Bad("3-word", {POOLS: ["many"]}, f"{POOLS}.0", "many", "an IPv4 address", "dotted form"),
    # 4: names
    *(
        Bad(f"4-{case}", {f"nodes.{name}": node("10.0.0.23")}, f"nodes.{name}", name,
            "a DNS label: up to 63", "choose a shorter name")
        for case, name in {
            "underscore": "web_1", "upper": "W3", "long": "w" * 64, "dash-first": "-w3",
            "dash-last": "w3-", "space": "w 3", "newline": "w3\n", "unicode": "wörker",
        }.items()
    ),
    Bad("4-cluster", {"clusterName": "My_Cluster"}, "clusterName", "My_Cluster", "a DNS label",
        "choose a shorter name"),
    Bad("4-cluster-long", {"clusterName": "c" * 64}, "clusterName", "c" * 64, "a DNS label",
        "choose a shorter name"),
    Bad("4-cluster-empty", {"clusterName": ""}, "clusterName", "", "a DNS label", "choose"),
    Bad("4-hello", {"helloHost": "hello_world.example.com"}, "helloHost",
        "hello_world.example.com", "a DNS name in lower case", "RFC 1123"),
    Bad("4-hello-long", {"helloHost": "a." * 127 + "com"}, "helloHost", "a." * 127 + "com",
        "a DNS name", "RFC 1123"),
    # 5: one address, two nodes
    Bad("5-address", {"nodes.w2.address": "10.0.0.21"}, "nodes.w2.address", "10.0.0.21",
        "an address of its own (node w1 has this one)", "correct one of the two"),
    Bad("5-other-port", {"nodes.w2": node("10.0.0.21", port=2222)}, "nodes.w2.address",
        "10.0.0.21", "an address of its own (node w1 has this one)", "correct one of the two"),
    Bad("5-private", {"nodes.w1": node("203.0.113.1", privateAddress="10.0.0.9"),
                      "nodes.w2": node("203.0.113.2", privateAddress="10.0.0.9")},
        "nodes.w2.privateAddress", "10.0.0.9", "an address of its own (node w1",
        "correct one of the two"),
    Bad("5-private-is-others-address", {"nodes.w2": node("203.0.113.2", privateAddress="10.0.0.21")},
        "nodes.w2.privateAddress", "10.0.0.21", "an address of its own (node w1",
        "correct one of the two"),
    Bad("5-address-is-others-private", {"nodes.w1": node("203.0.113.2", privateAddress="10.0.0.22")},
        "nodes.w2.address", "10.0.0.22", "an address of its own (node w1",
        "correct one of the two"),
    Bad("5-outside", {"nodes.w2.address": "10.0.1.22"}, "nodes.w2.address", "10.0.1.22",
        "nodeCidr (10.0.0.0/24)", "privateAddress"),
    Bad("5-private-outside", {"nodes.w2.privateAddress": "10.0.1.22"}, "nodes.w2.privateAddress",
        "10.0.1.22", "nodeCidr (10.0.0.0/24)", "correct the address"),
    Bad("5-name-alone", {"nodes.w2.address": "w2.example.com"}, "nodes.w2.privateAddress", "",
        "SSH address w2.example.com is a name or IPv6", "set nodes.w2.privateAddress"),
    Bad("5-not-an-address", {"nodes.w2.address": "10.0.0.300"}, "nodes.w2.address", "10.0.0.300",
        "", ""),
    Bad("5-number", {"nodes.w2.address": 5}, "nodes.w2.address", 5, "", ""),
    # 6: number of control planes
    Bad("6-two", {"nodes.cp2": node("10.0.0.12", "control-plane")}, "nodes", ["cp1", "cp2"],
        "an odd number of control planes", "make one of them a worker"),
    Bad("6-four", {**CONTROL_PLANES, "nodes.cp4": node("10.0.0.14", "control-plane")},
        "nodes", ["cp1", "cp2", "cp3", "cp4"],
        "an even number has no better quorum than one less (there are 4)",
        "set evenControlPlanes to true"),
    Bad("6-nine", {f"nodes.cp{n}": node(f"10.0.0.1{n}", "control-plane") for n in range(2, 10)},
        "nodes", [f"cp{n}" for n in range(1, 10)], "at most 7 control planes (there are 9)",
        "make the others workers"),
    Bad("6-none", {"nodes.cp1.role": "worker"}, "nodes", ["cp1", "w1", "w2"],
        "one node of role control-plane", "add one"),
    Bad("6-no-place-for-workloads", {"nodes.w1": REMOVED, "nodes.w2": REMOVED},
        "scheduleOnControlPlanes", False, "true, or at least one worker", "add a worker"),
    Bad("6-role", {"nodes.w1.role": "master"}, "nodes.w1.role", "master",
        "'control-plane' or 'worker'", "Pulumi.yaml"),
    # 7: several control planes, and the address that they share
    Bad("7-no-address", {"nodes.cp2": node("10.0.0.12", "control-plane"), "evenControlPlanes": True},
        VIRTUAL, "", "outlives each of the 2 control planes",
        "set apiVirtualAddress to a free address of nodeCidr, or apiEndpoint"),
    Bad("7-outside", {VIRTUAL: "10.0.1.5"}, VIRTUAL, "10.0.1.5",
        "a free address of nodeCidr (10.0.0.0/24)", "choose one that no node and no pool"),
    Bad("7-network", {VIRTUAL: "10.0.0.0"}, VIRTUAL, "10.0.0.0", "a free address of nodeCidr",
        "choose one"),
    Bad("7-broadcast", {VIRTUAL: "10.0.0.255"}, VIRTUAL, "10.0.0.255",
        "a free address of nodeCidr", "choose one"),
    Bad("7-control-planes-own", {VIRTUAL: "10.0.0.11"}, VIRTUAL, "10.0.0.11",
        "(it is of node cp1)", "choose one"),
    Bad("7-workers-private", {VIRTUAL: "10.0.0.9",
                              "nodes.w1": node("203.0.113.9", privateAddress="10.0.0.9")},
        VIRTUAL, "10.0.0.9", "(it is of node w1)", "choose one"),
    Bad("7-in-pool", {VIRTUAL: "10.0.0.207"}, VIRTUAL, "10.0.0.207",
        "(it is of pool 10.0.0.200-10.0.0.219)", "choose one"),
    Bad("7-beside-endpoint", {VIRTUAL: "10.0.0.5", "apiEndpoint": "api.example.com"}, VIRTUAL,
        "10.0.0.5", "no apiEndpoint beside it", "remove one of the two"),
    Bad("7-word", {VIRTUAL: "api.example.com"}, VIRTUAL, "api.example.com", "an IPv4 address",
        "dotted form"),
    Bad("7-network-form", {VIRTUAL: "10.0.0.5/32"}, VIRTUAL, "10.0.0.5/32", "an IPv4 address",
        "dotted form"),
    Bad("7-ipv6", {VIRTUAL: "fd00::5"}, VIRTUAL, "fd00::5", "an IPv4 address", "dotted form"),
    Bad("7-even-word", {"evenControlPlanes": "for now"}, "evenControlPlanes", "for now", "boolean",
        "Pulumi.yaml"),
    Bad("7-drain-short", {"drainTimeoutSeconds": 9}, "drainTimeoutSeconds", 9, "10", "Pulumi.yaml"),
    Bad("7-drain-long", {"drainTimeoutSeconds": 3601}, "drainTimeoutSeconds", 3601, "3600",
        "Pulumi.yaml"),
    Bad("7-at-once", {"workersAtOnce": -1}, "workersAtOnce", -1, "0", "Pulumi.yaml"),
    Bad("7-at-once-many", {"workersAtOnce": 101}, "workersAtOnce", 101, "100", "Pulumi.yaml"),
    # 8: Kubernetes version
    *(
        Bad(f"8-{version}", {"kubernetesVersion": version}, "kubernetesVersion", version,
            "a version from 1.31 to 1.37", f"like {versions.KUBERNETES}")
        for version in ("1.30.14", "1.38.0", "2.36.4", "0.36.4", "1.5.0", "1.36.21")
    ),
    *(
        Bad(f"8-form-{version}", {"kubernetesVersion": version}, "kubernetesVersion", version,
            "a full version, like 1.36.4", "major.minor.patch")
        for version in ("1.36", "latest", "1.36.4-rc.1", "", "1.36.٤", "1.36.04")
    ),
    # 10: host bits
    *(
        Bad(f"10-{key}", {key: text}, key, text, f"without host bits, like {meant}",
            f"write {meant}")
        for key, text, meant in (
            ("podCidr", "10.244.0.1/16", "10.244.0.0/16"),
            ("serviceCidr", "10.97.0.0/12", "10.96.0.0/12"),
            ("nodeCidr", "10.0.0.9/24", "10.0.0.0/24"),
        )
    ),
    Bad("10-admin", {"adminCidrs": ["192.0.2.0/24", "203.0.113.7/24"]}, "adminCidrs.1",
        "203.0.113.7/24", "without host bits, like 203.0.113.0/24", "write 203.0.113.0/24"),
    Bad("10-pool", {POOLS: ["10.0.0.200/28"]}, f"{POOLS}.0", "10.0.0.200/28",
        "without host bits, like 10.0.0.192/28", "write 10.0.0.192/28"),
    Bad("10-no-network", {"podCidr": "10.244.0.0-16"}, "podCidr", "10.244.0.0-16",
        "a network in CIDR form", "address/prefix-length"),
    Bad("10-ipv6", {"podCidr": "fd00::/48"}, "podCidr", "fd00::/48", "an IPv4 network", "IPv4"),
    Bad("10-number", {"adminCidrs": [5]}, "adminCidrs.0", 5, "a network in CIDR form", ""),
    Bad("10-boolean", {"adminCidrs": [True]}, "adminCidrs.0", True, "a network in CIDR form", ""),
    # 11: keys
    Bad("11-host-key", {"nodes.w1.hostKey": REMOVED}, "nodes.w1.hostKey", "",
        "the host's SSH public key, here or in sshKnownHostsFile (not set)",
        "/etc/ssh/ssh_host_ed25519_key.pub from a console of the host that you trust"),
    Bad("11-host-key-word", {"nodes.w1.hostKey": "yes"}, "nodes.w1.hostKey", "yes",
        "an SSH public host key", "/etc/ssh/ssh_host_ed25519_key.pub"),
    Bad("11-host-key-not-base64", {"nodes.w1.hostKey": "ssh-ed25519 A*A="}, "nodes.w1.hostKey",
        "ssh-ed25519 A*A=", "then base64", "/etc/ssh/ssh_host_ed25519_key.pub"),
    Bad("11-host-key-cut-off", {"nodes.w1.hostKey": "ssh-ed25519 AAAA"}, "nodes.w1.hostKey",
        "ssh-ed25519 AAAA", "then base64", "/etc/ssh/ssh_host_ed25519_key.pub"),
    Bad("11-host-key-of-another-type",
        {"nodes.w1.hostKey": f"ecdsa-sha2-nistp256 {HOST_KEY.split()[1]}"}, "nodes.w1.hostKey",
        f"ecdsa-sha2-nistp256 {HOST_KEY.split()[1]}", "then base64", "from a console you trust"),
    # The SSH client would ask for SHA-1 signatures, which no supported system makes any more.
    Bad("11-host-key-rsa", {"nodes.w1.hostKey": "ssh-rsa AAAA"}, "nodes.w1.hostKey",
        "ssh-rsa AAAA", "an SSH public host key", "/etc/ssh/ssh_host_ed25519_key.pub"),
    Bad("11-key", {"sshPrivateKey": REMOVED}, "sshPrivateKey", "",
        "the private key that the nodes let in", "pulumi config set --secret sshPrivateKey"),
    Bad("11-key-empty", {"sshPrivateKey": ""}, "sshPrivateKey", "",
        "the private key that the nodes let in", "sshPrivateKeyFile"),
    Bad("11-key-public-half", {"sshPrivateKey": PUBLIC_KEY}, "sshPrivateKey", "",
        "a private key (-----BEGIN OPENSSH PRIVATE KEY-----)", "where key is not the .pub file"),
    Bad("11-key-with-passphrase",
        {"sshPrivateKey": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"},
        "sshPrivateKey", "", "a private key without passphrase", "ssh-keygen -t ed25519 -N ''"),
    Bad("11-key-file", {"sshPrivateKeyFile": "no/such/key"}, "sshPrivateKeyFile", "no/such/key",
        "a file that can be read", "path of an existing file"),
    Bad("11-mirror-key", {"mirror": {"apt": {"uri": "http://m/apt", "keyFile": "no/such.asc"}}},
        "mirror.apt.keyFile", "no/such.asc", "a file that can be read",
        "path of an existing file"),
    Bad("11-bastion", {"proxy": {"address": "203.0.113.5"}}, "proxy.hostKey", "",
        "the bastion's SSH public key, here or in sshKnownHostsFile (not set)", "copy /etc/ssh"),
    Bad("11-bastion-form", {**BASTION, "proxy.hostKey": "AAAA"}, "proxy.hostKey", "AAAA",
        "ssh-ed25519, ", "from a console you trust"),
    Bad("11-bastion-address", {**BASTION, "proxy.address": "203.0.113.500"}, "proxy.address",
        "203.0.113.500", "an IP address or a DNS name", "correct the address"),
    Bad("11-bastion-port", {**BASTION, "proxy.port": 0}, "proxy.port", 0, "1", "Pulumi.yaml"),
    Bad("11-bastion-host", {"proxy": {"host": "203.0.113.5"}}, "proxy.host", "",
        "a setting that Pulumi.yaml describes", "correct its spelling"),
    Bad("11-bastion-key-alone", {"proxyPrivateKey": "SECRET"}, "proxyPrivateKey", "",
        "no bastion (proxy)", "set proxy, or run"),
    # 12: open to the world
    *(
        Bad(f"12-{case}", {"adminCidrs": cidrs}, "adminCidrs", cidrs,
            "do not make up the whole internet", "openToWorld: true")
        for case, cidrs in {
            "ipv4": ["192.0.2.0/24", "0.0.0.0/0"],
            "ipv6": ["::/0"],
            "in-halves": ["0.0.0.0/1", "128.0.0.0/1"],
            "with-a-hole": ["0.0.0.0/2", "64.0.0.0/3", "128.0.0.0/2"],
            "half": ["128.0.0.0/1"],
            "ipv6-global": ["2000::/3"],
            "ipv6-around-global": ["::/2"],
        }.items()
    ),
    Bad("12-nobody", {"adminCidrs": []}, "adminCidrs", [], "reach the API server", "as a /32"),
    # The rest of what a stack file can get wrong.
    Bad("endpoint-scheme", {"apiEndpoint": "https://api.example.com"}, "apiEndpoint",
        "https://api.example.com", "host or host:port", "api.example.com:6443"),
    Bad("endpoint-no-host", {"apiEndpoint": ":6443"}, "apiEndpoint", ":6443", "name", "name"),
    Bad("endpoint-no-port", {"apiEndpoint": "api.example.com:"}, "apiEndpoint",
        "api.example.com:", "host or host:port", "api.example.com:6443"),
    Bad("endpoint-host", {"apiEndpoint": "no host:6443"}, "apiEndpoint", "no host:6443",
        "name", "name"),
    Bad("endpoint-port", {"apiEndpoint": "api.example.com:65536"}, "apiEndpoint",
        "api.example.com:65536", "host or host:port", "api.example.com:6443"),
    Bad("tunnel", {"apiTunnel": "https://127.0.0.1"}, "apiTunnel", "https://127.0.0.1",
        "host or host:port", "api.example.com:6443"),
    Bad("taint-form", {"nodes.w1.taints": ["gpu"]}, "nodes.w1.taints.0", "gpu",
        "key[=value]:effect", "gpu=yes:NoSchedule"),
    Bad("taint-effect", {"nodes.w1.taints": ["gpu=yes:Never"]}, "nodes.w1.taints.0",
        "gpu=yes:Never", "NoSchedule, PreferNoSchedule, NoExecute", "gpu=yes:NoSchedule"),
    Bad("label-owned", {"nodes.w1.labels": {"kubernetes.io/hostname": "x"}},
        "nodes.w1.labels.kubernetes.io/hostname", "x", "does not set itself", "remove it"),
    Bad("chart-unknown", {"mirror.charts": {"nginx": "http://m/x.tgz"}}, "mirror.charts.nginx",
        "http://m/x.tgz", "one of metallb, nginx-ingress", "correct the name"),
    *(
        Bad(f"image-{image}", {"helloImage": image}, "helloImage", image, "an image with its version",
            "add the tag or, better, the digest")
        for image in ("nginx", "nginx:latest", "r.example.com:5000/nginx", "nginx@sha256:1234", "")
    ),
    Bad("label-boolean", {"nodes.w1.labels": {"fast": True}}, "nodes.w1.labels.fast", True,
        "string", "Pulumi.yaml"),
    Bad("port", {"nodes.w1.port": 65536}, "nodes.w1.port", 65536, "65535", "Pulumi.yaml"),
    Bad("port-word", {"sshPort": "ssh"}, "sshPort", "ssh", "integer", "Pulumi.yaml"),
    Bad("timeout", {"sshTimeoutSeconds": 4}, "sshTimeoutSeconds", 4, "5", "Pulumi.yaml"),
    Bad("replicas", {"helloReplicas": 0}, "helloReplicas", 0, "1", "Pulumi.yaml"),
    Bad("boolean", {"openToWorld": "sometimes"}, "openToWorld", "sometimes", "boolean",
        "Pulumi.yaml"),
    Bad("object", {"kubelet": "none"}, "kubelet", "none", "dictionary", "Pulumi.yaml"),
    Bad("list", {"adminCidrs": "192.0.2.0/24"}, "adminCidrs", "192.0.2.0/24", "list",
        "Pulumi.yaml"),
    *(
        Bad(f"required-{key}", {key: REMOVED}, key, "", "", "")
        for key in ("nodeCidr", "adminCidrs")
    ),
    Bad("no-nodes", {"nodes": REMOVED}, "nodes", [], "one node of role control-plane", "add one"),
    Bad("no-pools", {POOLS: REMOVED}, POOLS, [], "at least 2 addresses", "add addresses"),
    Bad("required-role", {"nodes.w1.role": REMOVED}, "nodes.w1.role", "", "a value",
        "add nodes.w1.role"),
    Bad("node-null", {"nodes.w1": None}, "nodes.w1", "", "", "Pulumi.yaml"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.case)
def test_refused_with_key_value_expectation_and_remedy(bad: Bad) -> None:
    error = refused(bad.changes)
    assert any(
        (problem.key, problem.value) == (bad.key, bad.value)
        and problem.expected
        and problem.remedy
        and bad.expected in problem.expected
        and bad.remedy in problem.remedy
        for problem in error.problems
    ), str(error)
    secret = PRIVATE_KEY.splitlines()[1]
    assert secret not in repr(error.problems), "the private key is in an error"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"podCIDR": "10.244.0.0/16"}, "podCIDR"),
        ({"sshPrivateKeyfile": "~/.ssh/id"}, "sshPrivateKeyfile"),
        ({"nodes.w1.hostkey": "x"}, "nodes.w1.hostkey"),
        ({"mirror": {"images": {}}}, "mirror.images"),
        ({"mirror": {"apt": {"uri": "u", "keyFile": "README.md", "key": "k"}}}, "mirror.apt.key"),
    ],
)
def test_unknown_keys_are_refused_and_their_values_not_shown(
    changes: Mapping[str, Any], key: str
) -> None:
    found = problem(changes, key)
    assert found.value == "", "an unknown key may hold a secret"
    assert f"remove {key}" in found.remedy


def test_all_problems_of_form_come_at_once() -> None:
    error = refused({"podCidr": "10.244.0.1/16", "nodes.w1.role": "boss", "sshPort": "x"})
    assert [p.key for p in error.problems] == ["nodes.w1.role", "sshPort", "podCidr"]
    assert str(error).startswith("3 settings of this stack can't be used:\n")


def test_all_problems_of_sense_come_at_once() -> None:
    error = refused(
        {
            "podCidr": "10.96.0.0/16",
            "adminCidrs": ["0.0.0.0/0"],
            "nodes.w1.hostKey": REMOVED,
            "kubernetesVersion": "1.20.0",
            "sshPrivateKey": "",
        }
    )
    assert {p.key for p in error.problems} == {
        "podCidr",
        "adminCidrs",
        "nodes.w1.hostKey",
        "kubernetesVersion",
        "sshPrivateKey",
    }


def test_message_names_key_value_expectation_and_remedy_on_lines_of_their_own() -> None:
    assert str(refused({"clusterName": "A"})) == (
        "1 setting of this stack can't be used:\n"
        "  - clusterName = 'A'\n"
        "      expected: a DNS label: up to 63 of a-z, 0-9 and '-', starting and ending with a letter or "
        "digit\n"
        "      remedy:   choose a shorter name of those characters"
    )


def test_long_values_are_cut_in_the_message() -> None:
    text = str(SettingsError([Problem("key", "v" * 10_000, "short", "cut it")]))
    assert len(text) < 400
    assert "…" in text


def test_errors_are_printed_by_pulumi_without_a_traceback() -> None:
    assert isinstance(refused({"clusterName": "A"}), pulumi.RunError)


# --- taken -------------------------------------------------------------------------------------

UNUSUAL: dict[str, dict[str, Any]] = {
    "a bastion that is a node": {
        "proxy": {"address": "10.0.0.11", "hostKey": HOST_KEY, "port": 2222}
    },
    "one node for everything": {
        "nodes.w1": REMOVED,
        "nodes.w2": REMOVED,
        "scheduleOnControlPlanes": True,
    },
    "smallest networks": {
        "nodeCidr": "10.0.0.8/29",
        "podCidr": "10.1.0.0/22",
        "serviceCidr": "10.2.0.0/28",
        "nodes.cp1.address": "10.0.0.9",
        "nodes.w1.address": "10.0.0.10",
        "nodes.w2.address": "10.0.0.11",
        "loadBalancerPools": ["10.0.0.12-10.0.0.13"],
    },
    "neighbouring networks": {
        "podCidr": "10.0.4.0/22",
        "serviceCidr": "10.0.1.0/24",
    },
    "public addresses, private ones between the nodes": {
        "nodes.cp1.address": "203.0.113.1",
        "nodes.cp1.privateAddress": "10.0.0.11",
        "nodes.w1.address": "w1.example.com",
        "nodes.w1.privateAddress": "10.0.0.21",
        "nodes.w2.address": "2001:db8::22",
        "nodes.w2.privateAddress": "10.0.0.22",
    },
    "one public address, a port for each node": {
        f"nodes.{name}": node(
            "203.0.113.1",
            "control-plane" if name == "cp1" else "worker",
            privateAddress=f"10.0.0.{number}",
            port=2200 + number,
        )
        for number, name in enumerate(("cp1", "w1", "w2"), 1)
    },
    "names of 1 and of 63 letters, digits first": {
        "nodes.0": node("10.0.0.30"),
        f"nodes.{'n' * 63}": node("10.0.0.31"),
        "clusterName": "7",
    },
    "world let in on purpose": {"adminCidrs": ["0.0.0.0/0", "::/0"], "openToWorld": True},
    "IPv6 administrators, one without prefix": {"adminCidrs": ["2001:db8::/32", "203.0.113.7"]},
    "pools of every form": {
        "loadBalancerPools": [
            "10.0.0.200",
            "10.0.0.201/32",
            "10.0.0.204/30",
            "10.0.0.240-10.0.0.254",
        ]
    },
    "version with a v": {"kubernetesVersion": "v1.31.0"},
    "newest minor": {"kubernetesVersion": "1.37.2"},
    "endpoint by name with another port": {"apiEndpoint": "api.example.com:443"},
    "three control planes behind a shared address": {**CONTROL_PLANES, VIRTUAL: "10.0.0.5"},
    "three control planes behind a name": {**CONTROL_PLANES, "apiEndpoint": "api.example.com"},
    "five control planes and no worker": {
        **{f"nodes.cp{n}": node(f"10.0.0.1{n}", "control-plane") for n in (2, 3, 4, 5)},
        "nodes.w1": REMOVED,
        "nodes.w2": REMOVED,
        "scheduleOnControlPlanes": True,
        VIRTUAL: "10.0.0.254",
    },
    "seven control planes": {
        **{f"nodes.cp{n}": node(f"10.0.0.1{n}", "control-plane") for n in range(2, 8)},
        VIRTUAL: "10.0.0.1",
    },
    "two control planes, on the way to three": {
        "nodes.cp2": node("10.0.0.12", "control-plane"),
        "evenControlPlanes": True,
        VIRTUAL: "10.0.0.5",
    },
    "four control planes, on the way to five": {
        **CONTROL_PLANES,
        "nodes.cp4": node("10.0.0.14", "control-plane"),
        "evenControlPlanes": True,
        VIRTUAL: "10.0.0.5",
    },
    "a shared address before there is a second control plane": {VIRTUAL: "10.0.0.5"},
    "bounds of an upgrade": {"drainTimeoutSeconds": 10, "workersAtOnce": 100},
    "own user and port for a node": {"nodes.w1.user": "debian", "nodes.w1.port": 2222},
    "taints of every form": {
        "nodes.w1.taints": [
            "gpu:NoSchedule",
            "gpu=:NoExecute",
            "example.com/gpu=a:PreferNoSchedule",
        ]
    },
    "host key with a comment": {"nodes.w1.hostKey": f"{HOST_KEY} root@w1"},
    "host key of a NIST curve": {
        "nodes.w1.hostKey": "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY="
    },
    "an image by digest, in a registry with a port": {
        "helloImage": f"r.example.com:5000/hello@sha256:{'a' * 64}"
    },
    "an image by tag and digest": {"helloImage": f"hello:latest@sha256:{'a' * 64}"},
    "half the internet less one network": {"adminCidrs": ["0.0.0.0/2", "64.0.0.0/3"]},
    "the seed's chart": {
        "ingressChart": "oci://ghcr.io/nginxinc/charts/nginx-ingress",
        "ingressVersion": "1.3.2",
    },
}


@pytest.mark.parametrize("changes", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_settings_pass(changes: Mapping[str, Any]) -> None:
    assert load(changes).settings.nodes


def test_dev_stack_passes(tmp_path: Path) -> None:
    dev_files(tmp_path)
    settings = load(base=dev_stack(), root=tmp_path).settings
    assert settings.cluster_name == "dev"
    assert list(settings.control_planes) == ["cp1"]
    assert list(settings.workers) == ["w1", "w2"]


def test_versions_lose_their_v() -> None:
    settings = load({"kubernetesVersion": "v1.31.0"}).settings
    assert settings.kubernetes_version == "1.31.0"
    assert settings.minor == 31


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [
        ({}, "10.0.0.11:6443"),
        ({"nodes.cp1": node("203.0.113.1", "control-plane", privateAddress="10.0.0.9")},
         "10.0.0.9:6443"),
        ({"apiEndpoint": "api.example.com"}, "api.example.com:6443"),
        ({"apiEndpoint": "api.example.com:443"}, "api.example.com:443"),
        ({VIRTUAL: "10.0.0.5"}, "10.0.0.5:6443"),
        ({VIRTUAL: "10.0.0.5", **CONTROL_PLANES}, "10.0.0.5:6443"),
    ],
)  # fmt: skip
def test_endpoint(changes: Mapping[str, Any], endpoint: str) -> None:
    assert load(changes).settings.endpoint == endpoint


@pytest.mark.parametrize(
    ("workers", "at_once", "batch"),
    [(0, 0, 1), (1, 0, 1), (10, 0, 1), (11, 0, 2), (40, 0, 4), (2, 3, 3), (40, 1, 1)],
)
def test_an_upgrade_takes_out_a_tenth_of_the_workers_unless_told_otherwise(
    workers: int, at_once: int, batch: int
) -> None:
    nodes = {"cp1": SITE["nodes"]["cp1"]}
    nodes |= {f"w{n}": node(f"10.0.0.{100 + n}") for n in range(workers)}
    changes = {"nodes": nodes, "workersAtOnce": at_once, "scheduleOnControlPlanes": True}
    assert load(changes).settings.worker_batch == batch


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("count", range(1, 10))
def test_numbers_of_control_planes(count: int, allowed: bool) -> None:
    nodes = {f"cp{n}": node(f"10.0.0.{n}", "control-plane") for n in range(1, count + 1)}
    changes = {VIRTUAL: "10.0.0.100", "evenControlPlanes": allowed, "scheduleOnControlPlanes": True}
    if count <= 7 and (allowed or count % 2 == 1):
        assert len(load({**changes, "nodes": nodes}).settings.control_planes) == count
    else:
        keys = {problem.key for problem in refused({**changes, "nodes": nodes}).problems}
        assert keys == {"nodes"}


# --- networks, by property ---------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn, shortest: int = 8, longest: int = 30) -> IPv4Network:
    prefix = draw(st.integers(shortest, longest))
    address = draw(st.integers(0, 2**32 - 1))
    return ip_network((address, prefix), strict=False)  # type: ignore[return-value]


addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
ranges = st.tuples(addresses, addresses).map(lambda pair: AddressRange(min(pair), max(pair)))


def problems_of(**changes: Any) -> list[Problem]:
    """Problems of the small site, validated without the engine's texts (for many examples)."""
    defaults = {key: entry.get("default") for key, entry in declarations().items()}
    values = {**defaults, **SITE, **changes}
    values.pop("sshPrivateKey")
    try:
        validate(values, ROOT)
    except SettingsError as error:
        return list(error.problems)
    return []


def at(problems: list[Problem], key: str) -> list[str]:
    return [problem.expected for problem in problems if problem.key == key]


@given(networks(), networks())
def test_overlap_is_found_in_both_directions(one: IPv4Network, other: IPv4Network) -> None:
    overlap = any(a.supernet_of(b) for a, b in ((one, other), (other, one)))
    for pod, service in ((one, other), (other, one)):
        found = at(problems_of(podCidr=str(pod), serviceCidr=str(service)), "podCidr")
        assert any("apart from serviceCidr" in text for text in found) == overlap


@given(networks(), st.data())
def test_a_part_always_overlaps_with_its_whole(whole: IPv4Network, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(whole.prefixlen, 32))
    address = data.draw(st.integers(int(whole[0]), int(whole[-1])))
    part = ip_network((address, prefix), strict=False)
    for pod, service in ((whole, part), (part, whole)):
        found = at(problems_of(podCidr=str(pod), serviceCidr=str(service)), "podCidr")
        assert any("apart from serviceCidr" in text for text in found)


@given(addresses, st.integers(1, 31), st.sampled_from(["podCidr", "serviceCidr", "nodeCidr"]))
def test_host_bits_are_refused_with_the_network_that_was_meant(
    address: IPv4Address, prefix: int, key: str
) -> None:
    text = f"{address}/{prefix}"
    meant = ip_network(text, strict=False)
    found = [p.remedy for p in problems_of(**{key: text}) if "host bits" in p.expected]
    assert found == ([] if meant.network_address == address else [f"write {meant}"])


@given(networks(8, 29), st.integers(1, 30))
def test_pod_network_has_a_subnet_for_each_node_or_is_refused(
    pods: IPv4Network, count: int
) -> None:
    nodes = {"cp1": node("10.0.0.1", "control-plane")}
    nodes |= {f"w{n}": node(f"10.0.0.{n + 1}") for n in range(1, count)}
    found = at(problems_of(podCidr=str(pods), nodes=nodes), "podCidr")
    room = pods.num_addresses // 256
    assert any("for each of" in text for text in found) == (room < count)


@given(networks(16, 29), st.data())
def test_a_pool_inside_the_nodes_network_is_fine(network: IPv4Network, data: st.DataObject) -> None:
    # The first three addresses are the nodes'; the network's own and the broadcast one are nobody's.
    first = data.draw(st.integers(int(network[4]), int(network[-3])))
    last = data.draw(st.integers(first + 1, int(network[-2])))
    pool = AddressRange(IPv4Address(first), IPv4Address(last))
    found = problems_of(**site_in(network), loadBalancerPools=[str(pool)])
    assert not [problem for problem in found if problem.key.startswith(POOLS)]


@given(networks(16, 29), ranges)
def test_a_pool_that_leaves_the_nodes_network_is_refused(
    network: IPv4Network, pool: AddressRange
) -> None:
    found = at(problems_of(**site_in(network), loadBalancerPools=[str(pool)]), f"{POOLS}.0")
    inside = pool.first in network and pool.last in network
    assert any("nodeCidr" in text for text in found) == (not inside)


@given(networks(16, 29), st.data())
def test_a_shared_address_is_one_that_nobody_has(network: IPv4Network, data: st.DataObject) -> None:
    around = st.integers(max(0, int(network[0]) - 1), min(2**32 - 1, int(network[-1]) + 1))
    address = IPv4Address(data.draw(around))
    pool = AddressRange(network[4], network[5])
    found = problems_of(
        **site_in(network), apiVirtualAddress=str(address), loadBalancerPools=[str(pool)]
    )
    free = address in network and address not in (*map(network.__getitem__, range(6)), network[-1])
    assert bool(at(found, VIRTUAL)) == (not free)


def site_in(network: IPv4Network) -> dict[str, Any]:
    return {
        "nodeCidr": str(network),
        "nodes": {
            "cp1": node(str(network[1]), "control-plane"),
            "w1": node(str(network[2])),
            "w2": node(str(network[3])),
        },
    }


@given(st.lists(st.integers(1, 3), max_size=4))
def test_pools_are_counted_together(sizes: list[int]) -> None:
    pools = [f"10.0.0.{100 + 10 * n}-10.0.0.{99 + 10 * n + size}" for n, size in enumerate(sizes)]
    found = at(problems_of(loadBalancerPools=pools), POOLS)
    assert bool(found) == (sum(sizes) < len(checks.LOAD_BALANCER_SERVICES))


@given(ranges)
def test_a_range_as_networks_has_the_same_addresses(pool: AddressRange) -> None:
    parts = pool.networks()
    assert parts[0][0] == pool.first
    assert parts[-1][-1] == pool.last
    assert sum(part.num_addresses for part in parts) == len(pool)
    assert all(one[-1] + 1 == other[0] for one, other in itertools.pairwise(parts))
    assert len(parts) <= 2 * math.ceil(math.log2(len(pool) + 1))


@given(networks(1, 32))
def test_a_network_as_a_range_has_the_same_addresses(network: IPv4Network) -> None:
    pool = pool_of(str(network))
    assert pool.networks() == [network]
    assert len(pool) == network.num_addresses
    assert pool.first in pool
    assert pool.last in pool


@given(ranges)
def test_a_range_reads_as_it_is_written(pool: AddressRange) -> None:
    assert pool_of(str(pool)) == pool
    assert pool_of(f" {pool.first} - {pool.last} ") == pool


def pool_of(text: str) -> AddressRange:
    """A pool as the settings read it, whatever the site makes of it."""
    values = {key: entry.get("default") for key, entry in declarations().items()}
    values |= {**SITE, "loadBalancerPools": [text]}
    plain = {key: value for key, value in values.items() if key not in SECRETS}
    return Settings.model_validate(plain).load_balancer_pools[0]


# --- keys --------------------------------------------------------------------------------------


def test_known_hosts_fill_in_missing_host_keys(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        f"""\
# a comment

10.0.0.11,cp1.example.com {host_key("cp1")} root@cp1
[10.0.0.21]:2222 {host_key("w1")}
10.0.0.21 {host_key("wrong")}
|1|aGFzaGVk|aGFzaGVk {host_key("hashed")}
@revoked 10.0.0.22 {host_key("revoked")}
10.0.0.22 no-such-type AAAA
10.0.0.22
10.0.0.22 {host_key("w2")}
"""
    )
    settings = load(
        {
            "sshKnownHostsFile": "hosts",
            "nodes.cp1.hostKey": REMOVED,
            "nodes.w1.hostKey": REMOVED,
            "nodes.w1.port": 2222,
            "nodes.w2.hostKey": REMOVED,
        },
        root=tmp_path,
    ).settings
    keys = {name: node.host_key for name, node in settings.nodes.items()}
    assert keys == {name: host_key(name) for name in ("cp1", "w1", "w2")}


def test_a_bastion_is_known_like_a_node(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"[bastion.example.com]:2222 {host_key('bastion')}\n")
    proxy = {"address": "bastion.example.com", "port": 2222}
    changes = {"sshKnownHostsFile": "hosts", "sshUser": "debian", "proxy": proxy}
    found = load(changes, root=tmp_path).settings.proxy
    assert found is not None
    assert (found.host_key, found.user) == (host_key("bastion"), "debian")


def test_a_bastion_takes_the_nodes_key_unless_it_has_its_own() -> None:
    own = {"proxyPrivateKey": "ANOTHER", **BASTION}
    assert value_and_secrecy(load(BASTION).proxy_key) == (PRIVATE_KEY, True)
    assert value_and_secrecy(load(own).proxy_key) == ("ANOTHER", True)
    assert load().proxy_key is None


def test_known_hosts_take_the_port_of_all_nodes(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"[10.0.0.21]:2022 {host_key('w1')}\n")
    changes = {"sshKnownHostsFile": "hosts", "sshPort": 2022, "nodes.w1.hostKey": REMOVED}
    assert load(changes, root=tmp_path).settings.nodes["w1"].host_key == host_key("w1")


def test_a_nodes_own_host_key_wins(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(f"10.0.0.21 {host_key('other')}\n")
    settings = load({"sshKnownHostsFile": "hosts"}, root=tmp_path).settings
    assert settings.nodes["w1"].host_key == host_key("w1")


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_keys_of_a_host_the_ed25519_one_is_taken(tmp_path: Path, order: int) -> None:
    lines = [
        f"10.0.0.21 {key}" for key in (host_key("w1"), "ssh-rsa AAAA", "ecdsa-sha2-nistp256 AAAA")
    ]
    (tmp_path / "hosts").write_text("\n".join(lines[::order]))
    changes = {"sshKnownHostsFile": "hosts", "nodes.w1.hostKey": REMOVED}
    assert load(changes, root=tmp_path).settings.nodes["w1"].host_key == host_key("w1")


@pytest.mark.parametrize(
    "content", [None, "", f"10.0.0.99 {HOST_KEY}\n", f"[10.0.0.21]:23 {HOST_KEY}"]
)
def test_a_host_that_is_not_in_known_hosts_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "hosts").write_text(content)
    changes = {"sshKnownHostsFile": "hosts", "nodes.w1.hostKey": REMOVED}
    found = problem(changes, "nodes.w1.hostKey", root=tmp_path)
    assert "sshKnownHostsFile (hosts)" in found.expected


def test_private_key_from_the_configuration_is_a_secret() -> None:
    assert value_and_secrecy(load().private_key) == (PRIVATE_KEY, True)


def test_private_key_from_a_file_is_a_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PRIVATE_KEY)
    changes = {"sshPrivateKey": REMOVED, "sshPrivateKeyFile": "key"}
    assert value_and_secrecy(load(changes, root=tmp_path).private_key) == (PRIVATE_KEY, True)


def test_private_key_file_may_be_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(PRIVATE_KEY)
    stack = load({"sshPrivateKey": REMOVED, "sshPrivateKeyFile": "~/key"})
    assert value_and_secrecy(stack.private_key) == (PRIVATE_KEY, True)


def value_and_secrecy(output: pulumi.Output[str] | None) -> tuple[str | None, bool]:
    assert output is not None

    async def read() -> tuple[str | None, bool]:
        return await output.future(), await output.is_secret()

    loop = asyncio.get_event_loop()
    return loop.run_until_complete(read())


def test_settings_do_not_hold_the_private_key() -> None:
    stack: Stack = load()
    assert "PRIVATE KEY" not in repr(stack.settings)
    assert "PRIVATE KEY" not in repr(stack)


# --- Pulumi.yaml -------------------------------------------------------------------------------

ALIASES = {field.alias or name: field for name, field in Settings.model_fields.items()}


def test_pulumi_yaml_declares_every_setting_and_nothing_else() -> None:
    assert set(declarations()) == {*ALIASES, *SECRETS}


@pytest.mark.parametrize("key", sorted(ALIASES))
def test_declaration_has_description_and_the_settings_own_type(key: str) -> None:
    declaration = declarations()[key]
    assert len(declaration["description"]) > 20
    schema = Settings.model_json_schema(mode="validation")["properties"][key]
    schema = schema.get("anyOf", [schema])[0]  # of a value that need not be there
    expected = schema.get("type", "object")  # a reference to another section
    assert declaration["type"] == expected
    if expected == "array":
        assert declaration["items"] == {"type": "string"}


def test_the_secret_has_no_type() -> None:
    # The engine puts a default in as plain text, and refuses a plain value for a typed secret.
    declaration = declarations()["sshPrivateKey"]
    assert declaration["secret"] is True
    assert "type" not in declaration
    assert declaration["default"] == ""
    assert len(declaration["description"]) > 20


def test_only_what_nobody_can_guess_has_no_default() -> None:
    required = {key for key, entry in declarations().items() if "default" not in entry}
    assert required == {"nodeCidr", "adminCidrs"}


def test_defaults_are_the_versions_of_the_one_place() -> None:
    declared = declarations()
    assert declared["kubernetesVersion"]["default"] == versions.KUBERNETES
    assert declared["ingressVersion"]["default"] == versions.NGINX_INGRESS_CHART
    assert declared["helloImage"]["default"] == versions.HELLO_IMAGE
    assert declared["networkPolicyImage"]["default"] == versions.KUBE_ROUTER_IMAGE
    first, last = versions.KUBERNETES_MINORS.start, versions.KUBERNETES_MINORS.stop - 1
    assert f"1.{first}.0 to 1.{last}" in declared["kubernetesVersion"]["description"]


def test_defaults_pass_their_own_checks() -> None:
    settings = load().settings
    assert settings.ssh_user == "root"
    assert settings.ssh_port == 22
    assert not settings.open_to_world
    assert not settings.schedule_on_control_planes
    assert not settings.even_control_planes
    assert settings.api_virtual_address is None
    assert settings.drain_timeout_seconds == 300


def test_changes_of_a_stack_file_leave_the_template_alone() -> None:
    assert changed(SITE, {"nodes.w1.role": "x"})["nodes"]["w1"]["role"] == "x"
    assert SITE["nodes"]["w1"]["role"] == "worker"
