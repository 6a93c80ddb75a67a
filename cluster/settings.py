"""Stack configuration in, validated and typed settings out: the only reader of ``pulumi.Config``.

Keys, their types and defaults are declared in ``Pulumi.yaml``; the engine fills the defaults in, so
none is written here again. ``load`` takes them from a stack file, ``of`` from another program. Each value's
form is checked, then ``checks`` looks at how the values go together. Everything wrong is reported at once,
before any resource exists.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from yaml import safe_load

from cluster import age_keys, authority, checks, manifests
from cluster.errors import Problem, SettingsError
from cluster.places import placed

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
CONFIG_FILE_REMEDY = "correct it in Pulumi.<stack>.yaml; Pulumi.yaml describes every key"
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_NAME_LIMIT = 253
POOL_NAME_LIMIT = 63 - len("-100")
HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
"""Best first. No RSA: pulumi-command would offer it with SHA-1 only, which sshd refuses by now."""


def _wrong(expected: str, remedy: str, *, hide: bool = False) -> NoReturn:
    context = {"expected": expected, "remedy": remedy, "hide": hide}
    raise PydanticCustomError("setting", "{expected}", context)


def _network(value: Any) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        _wrong("a network in CIDR form, like 10.0.0.0/16", "write address/prefix-length")
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        _wrong("a network in CIDR form, like 10.0.0.0/16", "write address/prefix-length")
    _wrong(f"a network without host bits, like {meant}", f"write {meant}")


def _ipv4_network(value: Any) -> IPv4Network:
    network = _network(value)
    if isinstance(network, IPv6Network):
        _wrong("an IPv4 network", "write an IPv4 CIDR; IPv6 is not supported here")
    return network


def _ipv4_address(value: Any) -> IPv4Address:
    try:
        return IPv4Address(value)
    except ValueError:
        _wrong("an IPv4 address, like 10.0.0.11", "write the address in dotted form")


def is_ipv4(text: str) -> bool:
    """Whether a host is given by its IPv4 address, not by a name."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _dns_name(value: Any) -> str:
    labels = str(value).split(".")
    if len(str(value)) > DNS_NAME_LIMIT or not all(map(_is_label, labels)):
        _wrong("a DNS name in lower case, like hello.example.com", "write a name of RFC 1123 form")
    return str(value)


def _is_label(text: str) -> bool:
    return len(text) <= 63 and DNS_LABEL.fullmatch(text) is not None


def _name(value: Any) -> str:
    """A DNS label: what kubelet, hostnames and cloud servers all take (RFC 1123)."""
    if not isinstance(value, str) or not _is_label(value):
        _wrong(
            "a DNS label: up to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
            "choose a shorter name of those characters",
        )
    return value


def _pool_name(value: Any) -> str:
    """With a number behind it, it is still a name."""
    name = _name(value)
    if len(name) > POOL_NAME_LIMIT:
        _wrong(
            f"a name of at most {POOL_NAME_LIMIT} characters, as the nodes' names add a number to it",
            "choose a shorter name",
        )
    return name


def _host(value: Any) -> str:
    try:
        return str(ip_address(str(value)))
    except ValueError:
        pass
    if str(value).rpartition(".")[2].isdecimal():  # no top-level domain is a number (RFC 3696)
        _wrong("an IP address or a DNS name", "correct the address")
    return _dns_name(value)


def _endpoint(value: Any) -> str:
    """``host`` or ``host:port``, or nothing."""
    host, colon, port = str(value).partition(":")
    if not value:
        return ""
    if colon and not (port.isdecimal() and 1 <= int(port) <= 65535):
        _wrong("host or host:port, the port from 1 to 65535", "write it like api.example.com:6443")
    return f"{_host(host)}{colon}{port}"


def _version(value: Any) -> str:
    number = "(?:0|[1-9][0-9]*)"
    match = re.fullmatch(rf"v?({number}\.{number}\.{number})", str(value))
    if match is None:
        _wrong("a full version, like 1.36.4", "write major.minor.patch")
    return match.group(1)


def _host_key(value: Any) -> str:
    """The ``type base64`` form of known_hosts and ``ssh-keyscan``; a comment is dropped."""
    words = str(value).split()
    try:
        if len(words) >= 2 and words[0] in HOST_KEY_TYPES:
            blob, kind = base64.b64decode(words[1], validate=True), words[0].encode()
            if blob.startswith(len(kind).to_bytes(4) + kind):  # RFC 4253, 6.6
                return " ".join(words[:2])
    except binascii.Error:
        pass
    _wrong(
        f"an SSH public host key: one of {', '.join(HOST_KEY_TYPES)}, then base64",
        "copy the host's /etc/ssh/ssh_host_ed25519_key.pub from a console you trust",
    )


_IMAGE = re.compile(
    r"[A-Za-z0-9.-]+(:[0-9]+(?=/))?(/[a-z0-9._-]+)*(:(?P<tag>[\w.-]{1,128}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


def _image(value: Any) -> str:
    match = _IMAGE.fullmatch(str(value))
    if match is None or not (match["digest"] or match["tag"] not in (None, "latest")):
        _wrong(
            "an image with its version: registry/name:tag or registry/name@sha256:..., and not latest",
            "add the tag or, better, the digest that was tried",
        )
    return str(value)


@dataclass(frozen=True)
class AddressRange:
    """Addresses from ``first`` to ``last``, both included."""

    first: IPv4Address
    last: IPv4Address

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def networks(self) -> list[IPv4Network]:
        """The same addresses as CIDRs."""
        return list(summarize_address_range(self.first, self.last))


def _range(value: Any) -> AddressRange:
    if "/" in str(value):
        network = _ipv4_network(value)
        return AddressRange(network[0], network[-1])
    first, _, last = str(value).partition("-")
    pair = AddressRange(_ipv4_address(first.strip()), _ipv4_address((last or first).strip()))
    if pair.last < pair.first:
        _wrong("a range whose first address is not above its last", "swap the two addresses")
    return pair


_TAINT = re.compile(r"(?P<key>[^\s=:]+)(=(?P<value>[^\s=:]*))?:(?P<effect>[A-Za-z]+)")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _taint(value: Any) -> str:
    match = _TAINT.fullmatch(str(value))
    if match is None or match["effect"] not in _EFFECTS:
        _wrong(
            f"key[=value]:effect, effect one of {', '.join(_EFFECTS)}", "write gpu=yes:NoSchedule"
        )
    return str(value)


_NUMBERS = r"(\*|\d+(\.\.\d+)?)(/\d+)?(,(\*|\d+(\.\.\d+)?)(/\d+)?)*"
_DAYS = r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*"
_CALENDAR = re.compile(
    "minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually|"
    rf"(?=\S)(?P<days>{_DAYS}((,|-|\.\.){_DAYS})*)?"
    rf"(?P<date>(^| )({_NUMBERS}-)?{_NUMBERS}[-~]{_NUMBERS})?"
    rf"(?P<time>(^| ){_NUMBERS}:{_NUMBERS}(:{_NUMBERS})?)?"
    r"(?P<zone> [a-z_+-]+(/[a-z_+-]+)*)?",
    re.IGNORECASE,
)
"""systemd.time(7), calendar events; the host's systemd has the last word (backup.sh)."""


def _schedule(value: Any) -> str:
    if not isinstance(value, str) or _CALENDAR.fullmatch(value) is None:
        _wrong(
            "a calendar event of systemd, like *-*-* 03:00:00 or Sun 04:30",
            "try it with `systemd-analyze calendar`; systemd.time(7) tells the form",
        )
    return value


def _time_of_day(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        _wrong("a time of day from 00:00 to 23:59", 'write it with quotes, like "02:00"')
    return value


_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


def _time_zone(value: Any) -> str:
    """Of the form of a name; a name that exists, where this machine knows any."""
    known = zoneinfo.available_timezones() | {"UTC"}
    if not _ZONE.fullmatch(str(value)) or (len(known) > 1 and value not in known):
        _wrong("a time zone of the IANA database, like Europe/Berlin", "correct it, or write UTC")
    return str(value)


def _recipient(value: Any) -> str:
    if not age_keys.is_public(str(value)):
        _wrong(
            "the public key of an age key pair, age1...",
            "make a pair with `age-keygen -o key.txt`, give the public key that it prints, and keep key.txt "
            "safe and elsewhere: nothing else opens a backup",
            hide=age_keys.looks_private(str(value)),
        )
    return str(value)


_NOT_FOR_BACKUPS = (
    *("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp"),
    *("/etc/kubernetes", "/etc/own-kubernetes", "/usr/local/lib/own-kubernetes"),
    *("/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet", "/var/lib/own-kubernetes"),
)
"""Lost at a reboot, or when a host leaves the cluster."""


def _backup_folder(value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", text):
        _wrong(
            "an absolute path of letters, digits and ._-",
            "write it like /var/backups/own-kubernetes",
        )
    if any(f"{text}/".startswith(f"{place}/") for place in _NOT_FOR_BACKUPS):
        _wrong(
            "a folder that outlives a reboot and the cluster",
            "write one like /var/backups/own-kubernetes",
        )
    return text


def _of_form(pattern: str, expected: str, remedy: str) -> BeforeValidator:
    def check(value: Any) -> str:
        if not re.fullmatch(pattern, str(value)):
            _wrong(expected, remedy)
        return str(value)

    return BeforeValidator(check)


TimeOfDay = Annotated[str, BeforeValidator(_time_of_day)]
TimeZone = Annotated[str, BeforeValidator(_time_zone)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Schedule = Annotated[str, BeforeValidator(_schedule)]
AgePublicKey = Annotated[str, BeforeValidator(_recipient)]
BackupFolder = Annotated[str, BeforeValidator(_backup_folder)]
StorageUrl = Annotated[
    str,
    _of_form(
        r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?",
        "the storage's address without bucket, like https://fsn1.your-objectstorage.com",
        "write https://, the host and, if need be, the port",
    ),
]
Region = Annotated[
    str, _of_form(r"[a-z0-9-]+", "the storage's region, like eu-central-1", "correct it")
]
Bucket = Annotated[
    str,
    _of_form(
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "a bucket's name: 3 to 63 of a-z, 0-9, '.' and '-'",
        "write the bucket's name alone; what comes before a snapshot's name in it is `prefix`",
    ),
]
Prefix = Annotated[
    str,
    _of_form(
        r"([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?",
        "a path in the bucket, like clusters/blue, without a slash at either end",
        "correct it, or leave it out",
    ),
]
Network = Annotated[IPv4Network, BeforeValidator(_ipv4_network)]
AnyNetwork = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_ipv4_address)]
OptionalAddress = Annotated[
    IPv4Address | None, BeforeValidator(lambda v: _ipv4_address(v) if v else None)
]
Name = Annotated[str, BeforeValidator(_name)]
PoolName = Annotated[str, BeforeValidator(_pool_name)]
Host = Annotated[str, BeforeValidator(_host)]
Endpoint = Annotated[str, BeforeValidator(_endpoint)]
DnsName = Annotated[str, BeforeValidator(_dns_name)]
Version = Annotated[str, BeforeValidator(_version)]
Image = Annotated[str, BeforeValidator(_image)]
HostKey = Annotated[str, BeforeValidator(_host_key)]
Taint = Annotated[str, BeforeValidator(_taint)]
EmailAddress = Annotated[
    str, _of_form(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an email address", "correct it")
]
HttpsUrl = Annotated[
    str,
    _of_form(
        r"https://\S+",
        "the https:// URL of an ACME server's directory",
        "correct it, or leave it out",
    ),
]
ReleaseName = Annotated[Name, Field(max_length=53)]
"""Helm's own bound."""
ChartVersion = Annotated[
    str,
    _of_form(
        r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?",
        "the exact version of a chart, like 1.2.3: no range, and not latest",
        "write the version that was tried; `helm show chart` tells it",
    ),
]
ChartRepository = Annotated[
    str,
    _of_form(
        r"https?://\S+",
        "the URL of a chart repository, like https://charts.example.com",
        "correct it; a chart in a registry has no repo, but its whole oci:// reference as chart",
    ),
]
Pool = Annotated[AddressRange, BeforeValidator(_range)]
Port = Annotated[int, Field(ge=1, le=65535)]
Role = Literal["control-plane", "worker"]
MachineKind = Literal["existing", "hetzner"]


class _Section(BaseModel):
    """camelCase in the stack file, snake_case here; unknown keys are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
    )


class NodeSettings(_Section):
    """One node of the cluster, by name in ``nodes``."""

    role: Role
    machine: MachineKind | None = None
    """Where the machine comes from; ``machines`` when not given."""
    address: Host | None = None
    """Where SSH is answered; of an existing host only, a server gets one."""
    private_address: Address | None = None
    """The address between the nodes; ``address`` when not given, for a server one made of its name."""
    user: str | None = None
    """Login user, root or one with password-less sudo; ``sshUser`` when not given."""
    port: Port | None = None
    """SSH port; ``sshPort`` when not given."""
    host_key: HostKey | None = None
    """The host's SSH public key; looked up in ``sshKnownHostsFile`` when not given."""
    labels: dict[str, str] = {}
    taints: list[Taint] = []
    server_type: str | None = None
    """Of a Hetzner server; ``hetzner.serverType`` when not given. So with the next two."""
    location: str | None = None
    image: str | None = None
    placement_group: Name | None = None
    """Servers of one group run on different hardware, 10 at most; by role when not given."""

    @property
    def internal_address(self) -> IPv4Address:
        """The address that the other nodes use."""
        return self.private_address or IPv4Address(self.address)

    @property
    def addresses(self) -> list[IPv4Address]:
        """Every IPv4 address that the node is known to have, the other nodes' one first."""
        known = [self.private_address] if self.private_address else []
        public = self.address if self.address and is_ipv4(self.address) else None
        return [*known, IPv4Address(public)] if public else known

    @property
    def keeps_pods_away(self) -> bool:
        """Whether it takes only pods that tolerate its taints; ``PreferNoSchedule`` is but a wish."""
        return any(not taint.endswith(":PreferNoSchedule") for taint in self.taints)


class PoolSettings(_Section):
    """Several like nodes: ``worker`` with a count of 2 is ``worker-1`` and ``worker-2``."""

    role: Role
    count: Annotated[int, Field(ge=0, le=100)]
    machine: MachineKind | None = None
    first_private_address: Address | None = None
    """The first node's private address, the others' follow; else made of the names."""
    labels: dict[str, str] = {}
    taints: list[Taint] = []
    server_type: str | None = None
    location: str | None = None
    image: str | None = None

    def nodes(self, pool: str) -> dict[str, NodeSettings]:
        """The pool's nodes by name."""
        shared = self.model_dump(exclude={"count", "first_private_address"})
        return {
            f"{pool}-{number}": NodeSettings(
                **shared,
                private_address=self.first_private_address
                and self.first_private_address + (number - 1),
                # Numbered, so that a pool that grows or shrinks moves no server to another group.
                placement_group=f"{pool}-{(number - 1) // checks.PLACEMENT_GROUP_SIZE + 1}",
            )
            for number in range(1, self.count + 1)
        }


class HetznerSettings(_Section):
    """What holds for all servers at Hetzner Cloud, and what is made around them."""

    location: str = "fsn1"
    server_type: str = "cx23"
    image: str = "debian-12"
    keep_addresses: bool = True
    """Each server's public IPv4 address is a resource of its own that outlives the server."""
    ingress: Literal["load-balancer", "floating-ips"] = "load-balancer"
    """How HTTP gets in: a Hetzner load balancer, or floating IPs that MetalLB hands out."""
    floating_ips: Annotated[int, Field(ge=1, le=20)] = 1
    load_balancer_type: str = "lb11"
    api_load_balancer: bool = False
    """A load balancer in the private network before the API servers; it can't be added later."""
    cloud_controller_manager: bool = True
    csi_driver: bool = True
    delete_volumes: bool = True
    """On destroy, the volumes that the CSI driver made go too, with their data."""
    subnet_cidr: Network | None = None
    """The servers' part of ``nodeCidr``; all of it when not given."""
    vswitch_id: Annotated[int, Field(ge=1)] | None = None
    """A vSwitch of Hetzner Robot that brings existing hosts into the network."""
    vswitch_cidr: Network | None = None
    """The vSwitch's part of ``nodeCidr``, apart from ``subnetCidr``."""


class ProxySettings(_Section):
    """A bastion: the host by which SSH gets to the nodes."""

    address: Host
    port: Port = 22
    user: str | None = None
    """Login user, who needs no rights there; ``sshUser`` when not given."""
    host_key: HostKey | None = None
    """The bastion's SSH public key; looked up in ``sshKnownHostsFile`` when not given."""


class AptMirror(_Section):
    """An apt repository that carries the Kubernetes and containerd packages."""

    uri: str
    suite: str = "./"
    components: list[str] = []
    key_file: Path
    """ASCII-armoured public key, a path from the project's folder; trusted as it stands."""


class MirrorSettings(_Section):
    """Where a site without internet gets things from; each part falls back to the public place."""

    apt: AptMirror | None = None
    registries: dict[str, list[str]] = {}
    """Registry host, or ``_default`` for all, to mirror URLs in order of preference."""
    charts: dict[str, str] = {}
    """Chart name to its location: URL of a .tgz, ``oci://`` reference or path."""


class S3Settings(_Section):
    """Storage that speaks S3, where snapshots are uploaded; its credentials are a secret of their own."""

    endpoint: StorageUrl
    region: Region
    bucket: Bucket
    prefix: Prefix = ""

    @property
    def url(self) -> str:
        """What stands before a snapshot's name; the bucket in the path, which every such storage takes."""
        return "/".join(filter(None, (self.endpoint, self.bucket, self.prefix)))


class BackupSettings(_Section):
    """Snapshots of the cluster, which each control plane takes by itself."""

    public_key: AgePublicKey
    """What they are encrypted for; nothing here can open them."""
    schedule: Schedule = "*-*-* 03:00:00"
    directory: BackupFolder = "/var/backups/own-kubernetes"
    keep: Annotated[int, Field(ge=1, le=1000)] = 7
    """On each control plane; what is kept in the bucket is the bucket's own rule."""
    s3: S3Settings | None = None


class RebootSettings(_Section):
    """When nodes may reboot after updates that need it, one at a time."""

    enabled: bool = True
    days: Annotated[list[Day], Field(min_length=1)] = list(get_args(Day))
    start: TimeOfDay = "02:00"
    end: TimeOfDay = "05:00"
    """No reboot begins later; before ``start`` it means the next day."""
    time_zone: TimeZone = "UTC"
    check_seconds: Annotated[int, Field(ge=10, le=3600)] = 300
    """How often a node looks whether it is to reboot, and its turn."""


class OsUpdateSettings(_Section):
    """Updates of the hosts' own systems, which bring neither Kubernetes nor containerd."""

    enabled: bool = True
    reboots: RebootSettings = RebootSettings()

    @property
    def reboot(self) -> bool:
        """Whether nodes are rebooted; without updates nothing asks for it."""
        return self.enabled and self.reboots.enabled


class AuditLogSettings(_Section):
    """Who did what, as each API server writes it to its own disk."""

    enabled: bool = True
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    max_files: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many that are full are kept beside the one that is written to."""
    max_size_mib: Annotated[int, Field(ge=1, le=10_000)] = 100
    """When a file is full."""


class IngressTlsSettings(_Section):
    """HTTPS by certificates of cert-manager."""

    issuer: Literal["acme", "ca", "self-signed"]
    """Who signs: Let's Encrypt or alike, a CA of the user's, or one that is made in the cluster."""
    email: EmailAddress | None = None
    """Whom an ACME server tells of its account."""
    server: HttpsUrl = LETS_ENCRYPT
    """The ACME server's directory."""
    ca_certificate_file: str = ""
    """The CA's certificate (PEM), a path from the project's folder."""


class HelmReleaseSettings(_Section):
    """A Helm chart of the user's own, by its release's name in ``helmReleases``."""

    chart: Annotated[str, Field(min_length=1)]
    version: ChartVersion
    namespace: Name
    repo: ChartRepository | None = None
    """Where ``chart`` is looked for by its name; without it ``chart`` says the place itself."""
    values: dict[str, Any] = {}
    values_file: str = ""
    """A YAML file instead, a path from the project's folder."""


class Settings(_Section):
    """All settings of a stack; the keys are described in ``Pulumi.yaml``."""

    cluster_name: Name
    kubernetes_version: Version
    machines: MachineKind
    nodes: dict[Name, NodeSettings]
    node_pools: dict[PoolName, PoolSettings]
    hetzner: HetznerSettings
    ssh_user: str
    ssh_port: Port
    ssh_private_key_file: str
    ssh_known_hosts_file: str
    ssh_timeout_seconds: Annotated[int, Field(ge=5, le=3600)]
    proxy: Annotated[ProxySettings | None, BeforeValidator(lambda v: v or None)]
    pod_cidr: Network
    service_cidr: Network
    node_cidr: Network
    api_endpoint: Endpoint
    api_virtual_address: OptionalAddress
    api_tunnel: Endpoint
    admin_cidrs: list[AnyNetwork]
    open_to_world: bool
    network_policies: bool
    network_policy_image: str
    load_balancer_pools: list[Pool]
    ingress_chart: str
    ingress_version: Version
    hello_world: bool
    hello_host: DnsName
    hello_image: Image
    hello_replicas: Annotated[int, Field(ge=1, le=100)]
    ingress_tls: Annotated[IngressTlsSettings | None, BeforeValidator(lambda v: v or None)]
    extra_manifests: list[str]
    helm_releases: dict[ReleaseName, HelmReleaseSettings]
    schedule_on_control_planes: bool
    even_control_planes: bool
    drain_timeout_seconds: Annotated[int, Field(ge=10, le=3600)]
    certificate_renewal: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{0,64}$")]
    pod_security: Literal["privileged", "baseline", "restricted"]
    audit_log: AuditLogSettings
    encryption_rotation: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
    workers_at_once: Annotated[int, Field(ge=0, le=100)]
    os_updates: OsUpdateSettings
    pre_pull_images: bool
    remove_packages: bool
    kubelet: dict[str, Any]
    kube_proxy: dict[str, Any]
    containerd: dict[str, Any]
    ignore_preflight_errors: list[str]
    mirror: MirrorSettings
    backup: Annotated[BackupSettings | None, BeforeValidator(lambda v: v or None)]
    recovery_snapshot: str

    @property
    def control_planes(self) -> dict[str, NodeSettings]:
        """The control-plane nodes, by name, in the stack file's order."""
        return {name: node for name, node in self.nodes.items() if node.role == "control-plane"}

    @property
    def workers(self) -> dict[str, NodeSettings]:
        """The worker nodes, by name, in the stack file's order."""
        return {name: node for name, node in self.nodes.items() if node.role == "worker"}

    @property
    def hetzner_nodes(self) -> dict[str, NodeSettings]:
        """The nodes on servers of Hetzner Cloud, by name."""
        return {name: node for name, node in self.nodes.items() if node.machine == "hetzner"}

    @property
    def entry(self) -> Literal["layer2", "load-balancer", "floating-ips"]:
        """How HTTP gets in: addresses announced on the nodes' network, or what Hetzner offers."""
        return self.hetzner.ingress if self.hetzner_nodes else "layer2"

    @property
    def takes_workloads(self) -> dict[str, NodeSettings]:
        """The nodes that workloads and load balancers may use, by name."""
        return self.nodes if self.schedule_on_control_planes else self.workers

    @property
    def has_spare_node(self) -> bool:
        """Whether pods have another node to go to while theirs is drained.

        Nodes that keep pods away with a taint are none: pods of this program tolerate none.
        """
        return sum(not node.keeps_pods_away for node in self.takes_workloads.values()) > 1

    @property
    def server_cidr(self) -> IPv4Network:
        """The servers' subnet, which is their part of the nodes' network."""
        return self.hetzner.subnet_cidr or self.node_cidr

    @property
    def api_balancer_address(self) -> IPv4Address | None:
        """The private address of the load balancer before the API servers, if there is to be one."""
        wanted = self.hetzner.api_load_balancer and self.hetzner_nodes
        return self.server_cidr[-2] if wanted else None

    @property
    def minor(self) -> int:
        """The minor of the Kubernetes version: 36 of 1.36.4."""
        return int(self.kubernetes_version.split(".")[1])

    @property
    def shared_endpoint(self) -> str:
        """``host[:port]`` that leads to whichever control plane is well; nothing if there is none such."""
        return self.api_endpoint or str(self.api_virtual_address or self.api_balancer_address or "")

    @property
    def endpoint(self) -> str:
        """``host:port`` of the API server as the nodes know it."""
        first = next(iter(self.control_planes.values())).internal_address
        host, _, port = (self.shared_endpoint or str(first)).partition(":")
        return f"{host}:{port or API_PORT}"

    @property
    def worker_batch(self) -> int:
        """How many workers an upgrade takes out at the same time; a tenth of them unless it is set."""
        return self.workers_at_once or max(1, math.ceil(len(self.workers) / 10))


API_PORT = 6443


HETZNER_ENDPOINT = "https://api.hetzner.cloud/v1"


@dataclass(frozen=True)
class Stack:
    """What the program runs on: the settings, and the secrets apart from them.

    Attributes:
        settings: the settings.
        private_key: the login key, or None: one is made (for servers only).
        public_key: its public half, where servers are to be made; else "".
        proxy_key: the login key of the bastion, or None without one.
        hetzner_token: the API token of the Hetzner Cloud project, or nothing without servers there.
        hetzner_endpoint: where Hetzner's API answers.
        backup_credentials: of the storage that snapshots are uploaded to, or None.
        recovery_key: the age key that opens ``recoverySnapshot``, or None.
        later: by node name, ``address`` and ``hostKey`` of hosts that are still to be made by somebody else.
        ingress_ca: certificate and private key of the CA that signs for the ingress, or None.
        manifests: the objects of ``extraManifests``.
        helm_values: of each of ``helmReleases``; a secret where the stack file has one in any of them.
    """

    settings: Settings
    private_key: pulumi.Output[str] | None
    public_key: pulumi.Input[str] = ""
    proxy_key: pulumi.Output[str] | None = None
    hetzner_token: str = field(default="", repr=False)
    hetzner_endpoint: str = HETZNER_ENDPOINT
    backup_credentials: pulumi.Output[str] | None = None
    recovery_key: pulumi.Output[str] | None = None
    later: Mapping[str, Mapping[str, pulumi.Output[str]]] = field(default_factory=dict)
    ingress_ca: tuple[str, pulumi.Output[str]] | None = None
    manifests: Sequence[manifests.Manifest] = ()
    helm_values: Mapping[str, pulumi.Input[Mapping[str, Any]]] = field(default_factory=dict)


def load(config: pulumi.Config, root: Path) -> Stack:
    """Read, validate and check the stack's settings.

    Args:
        config: the project's configuration.
        root: the project's folder; relative paths in settings start there.

    Raises:
        SettingsError: with every problem found.
    """
    values = {key: _read(config, key) for key in _keys()}
    secrets = {key: config.get(key) or "" for key in SECRETS}
    unknown = dict.fromkeys(_configured(config) - {*values, *secrets})
    stack = _stack({**values, **unknown, **secrets}, root)
    if is_config_secret(f"{config.name}:helmReleases"):
        secret = {name: pulumi.Output.secret(v) for name, v in stack.helm_values.items()}
        return replace(stack, helm_values=secret)
    return stack


def of(args: Mapping[str, Any], root: Path) -> Stack:
    """The same from another program's values, by their keys or these in snake_case; see ``ClusterArgs``.

    Args:
        args: the values; what is not there has the default of ``Pulumi.yaml``. Secrets may be outputs, and of
            a node with a ``private_address`` also ``address`` and ``host_key``.
        root: that project's folder; relative paths start there.

    Raises:
        SettingsError: with every problem found.
    """
    given = {to_camel(key): _plain(value) for key, value in args.items() if value is not None}
    later: dict[str, dict[str, pulumi.Output[str]]] = {}
    for name, node in given.get("nodes", {}).items():
        values = {to_camel(key): value for key, value in node.items()}
        stand_ins = {"address": f"{name}.invalid", "hostKey": NO_HOST_KEY}
        later[name] = {k: values[k] for k in stand_ins if isinstance(values.get(k), pulumi.Output)}
        given["nodes"][name] = values | {key: stand_ins[key] for key in later[name]}
    return replace(_stack({**_defaults(), **given}, root), later=later)


NO_HOST_KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}"
"""In form, for a host whose key is known only later."""


def _defaults() -> dict[str, Any]:
    declared = safe_load(DECLARATIONS.read_text())["config"]
    return {key: entry["default"] for key, entry in declared.items() if "default" in entry}


DECLARATIONS = Path(__file__).with_name("settings.yaml")
"""``Pulumi.yaml``, by a link: an installed package has no project's folder."""


def _plain(value: Any) -> Any:
    """Numbers that came as floats, as all do between programs of different languages, made whole."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stack(values: Mapping[str, Any], root: Path) -> Stack:
    """Settings and secrets, both checked; a secret that is an output is checked for being there only."""
    settings = validate(values, root)
    cloud = pulumi.Config("hcloud")
    token = cloud.get("token") or os.environ.get("HCLOUD_TOKEN") or ""
    if settings.hetzner_nodes and not token:
        raise SettingsError([NO_HETZNER_TOKEN])
    values = {**values, SECRET_KEY: _private_key(settings, values, root)}
    private = _secret(values, SECRET_KEY)
    way_in = PROXY_KEY if _text(values, PROXY_KEY) != "" else SECRET_KEY
    return Stack(
        settings,
        private,
        _public_key(values[SECRET_KEY]) if settings.hetzner_nodes and private is not None else "",
        _secret(values, way_in) if settings.proxy else None,
        token,
        cloud.get("endpoint") or HETZNER_ENDPOINT,
        _secret(values, S3_CREDENTIALS, str.strip),
        _secret(values, RECOVERY_KEY, lambda text: age_keys.private_key(text) or ""),
        ingress_ca=_ingress_ca(settings, values, root),
        manifests=manifests.read(settings.extra_manifests, root)[0],
        helm_values={
            name: release.values or manifests.values(release.values_file, root)
            for name, release in settings.helm_releases.items()
        },
    )


SECRET_KEY = "sshPrivateKey"
PROXY_KEY = "proxyPrivateKey"
S3_CREDENTIALS = "backupS3Credentials"
RECOVERY_KEY = "recoveryKey"
INGRESS_CA_KEY = "ingressCaKey"
SECRETS = (SECRET_KEY, PROXY_KEY, S3_CREDENTIALS, RECOVERY_KEY, INGRESS_CA_KEY)
"""Kept out of ``Settings``: they stay Pulumi secrets."""


def _secret(
    values: Mapping[str, Any], key: str, form: Callable[[str], str] = str
) -> pulumi.Output[str] | None:
    text = _text(values, key)
    if text is None:
        return pulumi.Output.secret(values[key]).apply(form)
    return pulumi.Output.secret(form(text)) if text else None


def _ingress_ca(
    settings: Settings, values: Mapping[str, Any], root: Path
) -> tuple[str, pulumi.Output[str]] | None:
    key = _secret(values, INGRESS_CA_KEY)
    if not settings.ingress_tls or key is None:
        return None
    return _ca_certificate(settings.ingress_tls, root), key


def _ca_certificate(tls: IngressTlsSettings, root: Path) -> str:
    return placed(root, tls.ca_certificate_file).read_text()


def _text(values: Mapping[str, Any], key: str) -> str | None:
    """A secret in clear; "" where none is given, None where it is known only later."""
    value = values.get(key)
    return None if isinstance(value, pulumi.Output) else str(value or "")


def _keys() -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in Settings.model_fields.items()}


def _configured(config: pulumi.Config) -> set[str]:
    """Every key of this project's namespace that the stack has; the engine refuses no unknown one."""
    prefix = f"{config.name}:"
    everything = {*CONFIG.get(), *get_config_env()}
    return {key.removeprefix(prefix) for key in everything if key.startswith(prefix)}


def validate(values: Mapping[str, Any], root: Path) -> Settings:
    """Turn plain values, defaults filled in, into settings.

    Secrets among them are only looked at, for whether they are there and of the right form.

    Raises:
        SettingsError: with every problem found.
    """
    settings = _modelled(values)
    problems = [*checks.node_pools(settings), *checks.kinds_of_machines(settings)]
    settings = _with_host_keys(_with_all_nodes(settings), root)
    problems += [*checks.problems(settings), *_missing_files(settings, root)]
    problems += [*_backup_problems(settings, values), *_recovery_problems(settings, values, root)]
    problems += _login_problems(settings, values, root)
    problems += _ingress_ca_problems(settings, values, root)
    problems += [*_proxy_problems(settings, values), *manifests.problems(settings, root)]
    if problems:
        raise SettingsError(problems)
    return settings


def of_form(values: Mapping[str, Any]) -> Settings:
    """Values as settings where only each one's form is looked at: for what is about versions, not hosts.

    Raises:
        SettingsError: with every problem of form.
    """
    return _with_all_nodes(_modelled(values))


def _modelled(values: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate({k: v for k, v in values.items() if k not in SECRETS})
    except ValidationError as error:
        raise SettingsError([_problem(detail) for detail in error.errors()]) from None


def _with_all_nodes(settings: Settings) -> Settings:
    """Pools as nodes, and in every node what holds for all."""
    pools = {n: v for pool, p in settings.node_pools.items() for n, v in p.nodes(pool).items()}
    nodes = {
        name: _whole(settings, name, node) for name, node in {**pools, **settings.nodes}.items()
    }
    return settings.model_copy(update={"nodes": nodes})


def _whole(settings: Settings, name: str, node: NodeSettings) -> NodeSettings:
    machine = node.machine or settings.machines
    if machine == "existing":
        login = {
            "user": node.user or settings.ssh_user,
            "port": node.port or settings.ssh_port,
        }
        return node.model_copy(update={"machine": machine, **login})
    shared = settings.hetzner
    return node.model_copy(
        update={
            "machine": machine,
            "user": "root",  # the login of Hetzner's images, with the keys that a server was made with
            "port": 22,
            "server_type": node.server_type or shared.server_type,
            "location": node.location or shared.location,
            "image": node.image or shared.image,
            "placement_group": node.placement_group or node.role,
            "private_address": node.private_address or made_address(name, settings.server_cidr),
        }
    )


def made_address(name: str, network: IPv4Network) -> IPv4Address:
    """A server's private address, made of its name: it stays when other nodes come and go.

    Names that end in a number, as a pool's do, count up from one address, so that they never meet.
    Others can; ``checks`` tells. The first two and the last four addresses of the network are left out
    (gateway, load balancers).
    """
    room = max(1, network.num_addresses - 6)
    stem, _, last = name.rpartition("-")
    stem, step = (stem, int(last)) if stem and last.isdecimal() else (name, 0)
    number = (int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) + step) % room
    return network.network_address + min(2 + number, network.num_addresses - 1)


@cache
def _texts() -> frozenset[str]:
    """The keys whose values are read as they stand; all others are JSON."""
    schemas = {key: TypeAdapter(a).json_schema(mode="validation") for key, a in _keys().items()}
    return frozenset(key for key, schema in schemas.items() if schema.get("type") == "string")


def _read(config: pulumi.Config, key: str) -> Any:
    text = config.get(key)
    if text is None or key in _texts():
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # not of the declared form: the model says what was expected


def _problem(detail: Any) -> Problem:
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    context = detail.get("ctx", {})
    # An unknown key's value is not shown: it may be a secret in the wrong place.
    missing = detail["type"] in ("missing", "extra_forbidden") or detail["input"] is None
    return Problem(
        key=key,
        value="" if missing or context.get("hide") else detail["input"],
        expected=str(context.get("expected", _EXPECTED.get(detail["type"], detail["msg"]))),
        remedy=str(context.get("remedy", _remedy(detail["type"], key))),
    )


_EXPECTED = {"missing": "a value", "extra_forbidden": "a setting that Pulumi.yaml describes"}


def _remedy(kind: str, key: str) -> str:
    if kind == "missing":
        return f"add {key} to Pulumi.<stack>.yaml; Pulumi.yaml describes every key"
    if kind == "extra_forbidden":
        return f"remove {key} or correct its spelling"
    return CONFIG_FILE_REMEDY


def _with_host_keys(settings: Settings, root: Path) -> Settings:
    """Fill in host keys from the known_hosts file; a host's own setting wins. The bastion gets its user too."""
    known = _known_hosts(root, settings.ssh_known_hosts_file)

    def found(host: NodeSettings | ProxySettings) -> str | None:
        return host.host_key or known.get(_known_as(host.address, host.port or settings.ssh_port))

    nodes = {
        name: node.model_copy(update={"host_key": found(node)})
        for name, node in settings.nodes.items()
    }
    proxy = settings.proxy
    if proxy:
        whole = {"host_key": found(proxy), "user": proxy.user or settings.ssh_user}
        proxy = proxy.model_copy(update=whole)
    return settings.model_copy(update={"nodes": nodes, "proxy": proxy})


def _known_as(address: str | None, port: int) -> str:
    return address or "" if port == 22 else f"[{address}]:{port}"


def _known_hosts(root: Path, file: str) -> dict[str, str]:
    """Host to key of a known_hosts file (sshd(8)); hashed and marked lines are passed over."""
    path = placed(root, file)
    if not file or not path.is_file():
        return {}
    lines = [line.split() for line in path.read_text().splitlines()]
    usable = [w for w in lines if len(w) >= 3 and w[0][0] not in "#@|" and w[1] in HOST_KEY_TYPES]
    known: dict[str, str] = {}
    for words in sorted(usable, key=lambda w: HOST_KEY_TYPES.index(w[1])):
        for host in words[0].split(","):
            known.setdefault(host, " ".join(words[1:3]))
    return known


def _missing_files(settings: Settings, root: Path) -> list[Problem]:
    files = {
        "sshPrivateKeyFile": settings.ssh_private_key_file,
        "mirror.apt.keyFile": settings.mirror.apt.key_file if settings.mirror.apt else "",
        "recoverySnapshot": settings.recovery_snapshot,
        "ingressTls.caCertificateFile": settings.ingress_tls.ca_certificate_file
        if settings.ingress_tls
        else "",
        **{
            f"helmReleases.{name}.valuesFile": release.values_file
            for name, release in settings.helm_releases.items()
        },
    }
    return [
        Problem(key, str(file), "a file that can be read", "give the path of an existing file")
        for key, file in files.items()
        if str(file) and not placed(root, file).is_file()
    ]


_CREDENTIALS = re.compile(r"[A-Za-z0-9._~@/+=-]+:[A-Za-z0-9._~@/+=-]+")


def _backup_problems(settings: Settings, values: Mapping[str, Any]) -> list[Problem]:
    if not settings.backup or not settings.backup.s3:
        return []
    given = _text(values, S3_CREDENTIALS)
    fits = given is None or _CREDENTIALS.fullmatch(given.strip())
    return [] if fits else [NO_S3_CREDENTIALS]


def _recovery_problems(settings: Settings, values: Mapping[str, Any], root: Path) -> list[Problem]:
    snapshot, key = settings.recovery_snapshot, _text(values, RECOVERY_KEY)
    if key != "" and not snapshot:
        return [RECOVERY_KEY_ALONE]
    if not snapshot:
        return []
    path = placed(root, snapshot)
    found = [] if key is None or age_keys.private_key(key) else [NO_RECOVERY_KEY]
    if path.is_file() and not _starts_with(path, AGE_FILE):
        found.append(
            Problem(
                "recoverySnapshot",
                snapshot,
                "a snapshot as a control plane made it, encrypted with age (....tar.age)",
                "give the file as it was in backup.directory or in the bucket, unopened",
            )
        )
    return found


AGE_FILE = b"age-encryption.org/v1\n"


def _starts_with(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _login_problems(settings: Settings, values: Mapping[str, Any], root: Path) -> list[Problem]:
    file = settings.ssh_private_key_file
    if file and not placed(root, file).is_file():
        return []  # told already
    key = _private_key(settings, values, root)
    if isinstance(key, pulumi.Output):
        return []  # known only later
    if not key:
        return [NO_LOGIN_KEY] if len(settings.hetzner_nodes) < len(settings.nodes) else []
    head = _PEM_HEAD.search(key)
    if head is None:
        return [NO_PRIVATE_KEY]
    if "ENCRYPTED" in key:
        return [HAS_PASSPHRASE]
    if head[1] == "OPENSSH ":
        try:
            public_key(key)
        except SettingsError as error:
            return list(error.problems)
    return []


def _proxy_problems(settings: Settings, values: Mapping[str, Any]) -> list[Problem]:
    own, shared = (_text(values, key) != "" for key in (PROXY_KEY, SECRET_KEY))
    if not settings.proxy:
        return [PROXY_KEY_ALONE] if own else []
    return [] if own or shared or settings.ssh_private_key_file else [NO_PROXY_KEY]


def _ingress_ca_problems(
    settings: Settings, values: Mapping[str, Any], root: Path
) -> list[Problem]:
    """The CA's two halves are there, and of one pair; a key that is known only later is the user's word."""
    tls, key = settings.ingress_tls, _text(values, INGRESS_CA_KEY)
    if not tls or tls.issuer != "ca":
        return [INGRESS_CA_KEY_ALONE] if key != "" else []
    if key == "":
        return [NO_INGRESS_CA_KEY]
    if not placed(root, tls.ca_certificate_file).is_file():
        return []  # told already
    why = authority.unfit(_ca_certificate(tls, root), key)
    if not why:
        return []
    return [
        Problem(
            "ingressTls.caCertificateFile",
            tls.ca_certificate_file,
            f"the certificate (PEM) of a CA that is valid now, and ingressCaKey its private key ({why})",
            "give the two files of one CA",
        )
    ]


_PEM_HEAD = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")


def _private_key(
    settings: Settings, values: Mapping[str, Any], root: Path
) -> str | pulumi.Output[str] | None:
    if settings.ssh_private_key_file:
        return placed(root, settings.ssh_private_key_file).read_text()
    return values.get(SECRET_KEY)


def _public_key(private: str | pulumi.Output[str]) -> pulumi.Input[str]:
    """Of a key that is known the form is checked at once."""
    if isinstance(private, pulumi.Output):
        return pulumi.Output.unsecret(private.apply(public_key))
    return public_key(private)


def public_key(private_key: str) -> str:
    """The public half of an OpenSSH private key, which stands in it in clear.

    The format is PROTOCOL.key of OpenSSH: a magic word, then cipher, key derivation and its options,
    a count, and the public key, each with its length before it.

    Raises:
        SettingsError: the key is of another format or has a passphrase.
    """
    body = "".join(line for line in private_key.splitlines() if "-----" not in line)
    try:
        blob = base64.b64decode(body, validate=True)
        fields, rest = [], blob.removeprefix(b"openssh-key-v1\0")
        if rest == blob:
            raise ValueError("another format")
        for skipped in (0, 0, 0, 4):
            size = int.from_bytes(rest[skipped : skipped + 4])
            rest = rest[skipped + 4 :]
            fields.append(rest[:size])
            rest = rest[size:]
        kind_size = int.from_bytes(fields[3][:4])
        kind = fields[3][4 : 4 + kind_size].decode("ascii")
    except (ValueError, binascii.Error):
        raise SettingsError([NOT_OPENSSH]) from None
    if fields[0] != b"none":
        raise SettingsError([HAS_PASSPHRASE])
    return f"{kind} {base64.b64encode(fields[3]).decode()}"


NOT_OPENSSH = Problem(
    SECRET_KEY,
    "",
    "a private key in OpenSSH's own format (-----BEGIN OPENSSH PRIVATE KEY-----)",
    "convert it with `ssh-keygen -p -f key`, or leave it out: one is made for new servers",
)

NO_PRIVATE_KEY = Problem(
    SECRET_KEY,
    "",
    "a private key (-----BEGIN OPENSSH PRIVATE KEY-----), whole and with its line breaks",
    "run `pulumi config set --secret sshPrivateKey < key`, where key is not the .pub file",
)

HAS_PASSPHRASE = Problem(
    SECRET_KEY,
    "",
    "a private key without passphrase, as nobody is there to type it",
    "make one of its own for this: `ssh-keygen -t ed25519 -N '' -f key`",
)

NO_HETZNER_TOKEN = Problem(
    "hcloud:token",
    "",
    "the API token of your Hetzner Cloud project, with the right to read and write",
    "make one in the project's console (Security, API tokens), then run "
    "`pulumi config set --secret hcloud:token`",
)


NO_S3_CREDENTIALS = Problem(
    S3_CREDENTIALS,
    "",
    "ACCESS-KEY:SECRET-KEY of the storage in backup.s3",
    "run `pulumi config set --secret backupS3Credentials`, or take backup.s3 out",
)

NO_RECOVERY_KEY = Problem(
    RECOVERY_KEY,
    "",
    "the age key (AGE-SECRET-KEY-1...) whose public half was backup.publicKey when the snapshot was made",
    "run `pulumi config set --secret recoveryKey < key.txt`",
)

RECOVERY_KEY_ALONE = Problem(
    RECOVERY_KEY,
    "",
    "nothing, as there is no recoverySnapshot to open: the key need not lie around",
    "run `pulumi config rm recoveryKey`",
)

NO_INGRESS_CA_KEY = Problem(
    INGRESS_CA_KEY,
    "",
    "the private key of the CA in ingressTls.caCertificateFile",
    "run `pulumi config set --secret ingressCaKey < ca.key`, or set ingressTls.issuer to self-signed",
)

INGRESS_CA_KEY_ALONE = Problem(
    INGRESS_CA_KEY,
    "",
    "nothing, as ingressTls.issuer is not ca: the key need not lie around",
    "run `pulumi config rm ingressCaKey`",
)

NO_PROXY_KEY = Problem(
    PROXY_KEY,
    "",
    "the private key that the bastion (proxy) lets in, as there is no sshPrivateKey to try",
    "run `pulumi config set --secret proxyPrivateKey < key`",
)

PROXY_KEY_ALONE = Problem(
    PROXY_KEY,
    "",
    "nothing, as there is no bastion (proxy) to log in at",
    "set proxy, or run `pulumi config rm proxyPrivateKey`",
)

NO_LOGIN_KEY = Problem(
    SECRET_KEY,
    "",
    "the private key that the nodes let in",
    "run `pulumi config set --secret sshPrivateKey < key`, or set sshPrivateKeyFile to its path",
)
