"""Stack configuration in, validated and typed settings out: the only reader of ``pulumi.Config``.

Keys, their types and defaults are declared in ``Pulumi.yaml``; the engine fills the defaults in, so
none is written here again. ``load`` checks each value's form, then ``checks`` looks at how the values
go together. Everything wrong is reported at once, before any resource exists.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env
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

from cluster import checks
from cluster.errors import Problem, SettingsError

CONFIG_FILE_REMEDY = "correct it in Pulumi.<stack>.yaml; Pulumi.yaml describes every key"
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_NAME_LIMIT = 253
HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
"""Best first. No RSA: pulumi-command would offer it with SHA-1 only, which sshd refuses by now."""


def _wrong(expected: str, remedy: str) -> NoReturn:
    raise PydanticCustomError("setting", "{expected}", {"expected": expected, "remedy": remedy})


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
    match = re.fullmatch(r"v?([0-9]+\.[0-9]+\.[0-9]+)", str(value))
    if match is None:
        _wrong("a full version, like 1.36.4", "write major.minor.patch")
    return match.group(1)


def _host_key(value: Any) -> str:
    """The ``type base64`` form of known_hosts and ``ssh-keyscan``; a comment is dropped."""
    words = str(value).split()
    try:
        if len(words) >= 2 and words[0] in HOST_KEY_TYPES:
            base64.b64decode(words[1], validate=True)
            return " ".join(words[:2])
    except binascii.Error:
        pass
    _wrong(
        f"an SSH public host key: one of {', '.join(HOST_KEY_TYPES)}, then base64",
        "copy the host's /etc/ssh/ssh_host_ed25519_key.pub from a console you trust",
    )


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


Network = Annotated[IPv4Network, BeforeValidator(_ipv4_network)]
AnyNetwork = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_ipv4_address)]
Name = Annotated[str, BeforeValidator(_name)]
Host = Annotated[str, BeforeValidator(_host)]
Endpoint = Annotated[str, BeforeValidator(_endpoint)]
DnsName = Annotated[str, BeforeValidator(_dns_name)]
Version = Annotated[str, BeforeValidator(_version)]
HostKey = Annotated[str, BeforeValidator(_host_key)]
Taint = Annotated[str, BeforeValidator(_taint)]
Pool = Annotated[AddressRange, BeforeValidator(_range)]
Port = Annotated[int, Field(ge=1, le=65535)]
Role = Literal["control-plane", "worker"]


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
    address: Host
    """Where SSH is answered."""
    private_address: Address | None = None
    """The address between the nodes; ``address`` when not given."""
    user: str | None = None
    """Login user, root or one with password-less sudo; ``sshUser`` when not given."""
    port: Port | None = None
    """SSH port; ``sshPort`` when not given."""
    host_key: HostKey | None = None
    """The host's SSH public key; looked up in ``sshKnownHostsFile`` when not given."""
    labels: dict[str, str] = {}
    taints: list[Taint] = []

    @property
    def internal_address(self) -> IPv4Address:
        """The address that the other nodes use."""
        return self.private_address or IPv4Address(self.address)

    @property
    def addresses(self) -> list[IPv4Address]:
        """Every IPv4 address that the node is known to have, the other nodes' one first."""
        known = [self.private_address] if self.private_address else []
        return [*known, IPv4Address(self.address)] if is_ipv4(self.address) else known


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


class Settings(_Section):
    """All settings of a stack; the keys are described in ``Pulumi.yaml``."""

    cluster_name: Name
    kubernetes_version: Version
    nodes: dict[Name, NodeSettings]
    ssh_user: str
    ssh_port: Port
    ssh_private_key_file: str
    ssh_known_hosts_file: str
    ssh_timeout_seconds: Annotated[int, Field(ge=5, le=3600)]
    pod_cidr: Network
    service_cidr: Network
    node_cidr: Network
    api_endpoint: Endpoint
    admin_cidrs: list[AnyNetwork]
    open_to_world: bool
    load_balancer_pools: list[Pool]
    ingress_chart: str
    ingress_version: Version
    hello_host: DnsName
    hello_image: str
    hello_replicas: Annotated[int, Field(ge=1, le=100)]
    schedule_on_control_planes: bool
    pre_pull_images: bool
    remove_packages: bool
    kubelet: dict[str, Any]
    kube_proxy: dict[str, Any]
    containerd: dict[str, Any]
    ignore_preflight_errors: list[str]
    mirror: MirrorSettings

    @property
    def control_planes(self) -> dict[str, NodeSettings]:
        """The control-plane nodes, by name, in the stack file's order."""
        return {name: node for name, node in self.nodes.items() if node.role == "control-plane"}

    @property
    def workers(self) -> dict[str, NodeSettings]:
        """The worker nodes, by name, in the stack file's order."""
        return {name: node for name, node in self.nodes.items() if node.role == "worker"}

    @property
    def minor(self) -> int:
        """The minor of the Kubernetes version: 36 of 1.36.4."""
        return int(self.kubernetes_version.split(".")[1])

    @property
    def endpoint(self) -> str:
        """``host:port`` of the API server as the nodes know it."""
        first = next(iter(self.control_planes.values()))
        host, _, port = (self.api_endpoint or str(first.internal_address)).partition(":")
        return f"{host}:{port or API_PORT}"


API_PORT = 6443


@dataclass(frozen=True)
class Stack:
    """What the program runs on: the settings, and the login key apart from them, as a secret."""

    settings: Settings
    private_key: pulumi.Output[str]


def load(config: pulumi.Config, root: Path) -> Stack:
    """Read, validate and check the stack's settings.

    Args:
        config: the project's configuration.
        root: the project's folder; relative paths in settings start there.

    Raises:
        SettingsError: with every problem found.
    """
    values = {key: _read(config, key, annotation) for key, annotation in _keys().items()}
    unknown = dict.fromkeys(_configured(config) - {*values, SECRET_KEY})
    settings = validate({**values, **unknown, SECRET_KEY: config.get(SECRET_KEY)}, root)
    return Stack(settings, _private_key(config, settings, root))


SECRET_KEY = "sshPrivateKey"
"""Kept out of ``Settings``: it stays a Pulumi secret."""


def _keys() -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in Settings.model_fields.items()}


def _configured(config: pulumi.Config) -> set[str]:
    """Every key of this project's namespace that the stack has; the engine refuses no unknown one."""
    prefix = f"{config.name}:"
    everything = {*CONFIG.get(), *get_config_env()}
    return {key.removeprefix(prefix) for key in everything if key.startswith(prefix)}


def validate(values: Mapping[str, Any], root: Path) -> Settings:
    """Turn plain values, defaults filled in, into settings.

    ``sshPrivateKey`` among them is only looked at, for whether it is there.

    Raises:
        SettingsError: with every problem found.
    """
    plain = {key: value for key, value in values.items() if key != SECRET_KEY}
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        raise SettingsError([_problem(detail) for detail in error.errors()]) from None
    settings = _with_host_keys(settings, root)
    problems = [*checks.problems(settings), *_missing_files(settings, root)]
    if not settings.ssh_private_key_file and not values.get(SECRET_KEY):
        problems.append(NO_LOGIN_KEY)
    if problems:
        raise SettingsError(problems)
    return settings


def _read(config: pulumi.Config, key: str, annotation: Any) -> Any:
    text = config.get(key)
    if (
        text is None
        or TypeAdapter(annotation).json_schema(mode="validation").get("type") == "string"
    ):
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
        value="" if missing else detail["input"],
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
    """Fill in host keys from the known_hosts file; the nodes' own setting wins."""
    known = _known_hosts(root, settings.ssh_known_hosts_file)
    nodes = {
        name: node.model_copy(
            update={"host_key": node.host_key or known.get(_known_as(node, settings))}
        )
        for name, node in settings.nodes.items()
    }
    return settings.model_copy(update={"nodes": nodes})


def _known_as(node: NodeSettings, settings: Settings) -> str:
    port = node.port or settings.ssh_port
    return node.address if port == 22 else f"[{node.address}]:{port}"


def _known_hosts(root: Path, file: str) -> dict[str, str]:
    """Host to key of a known_hosts file (sshd(8)); hashed and marked lines are passed over."""
    path = root / Path(file).expanduser()
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
    }
    return [
        Problem(key, str(file), "a file that can be read", "give the path of an existing file")
        for key, file in files.items()
        if str(file) and not (root / Path(file).expanduser()).is_file()
    ]


def _private_key(config: pulumi.Config, settings: Settings, root: Path) -> pulumi.Output[str]:
    if settings.ssh_private_key_file:
        path = root / Path(settings.ssh_private_key_file).expanduser()
        return pulumi.Output.secret(path.read_text())
    return config.require_secret(SECRET_KEY)


NO_LOGIN_KEY = Problem(
    SECRET_KEY,
    "",
    "the private key that the nodes let in",
    "run `pulumi config set --secret sshPrivateKey < key`, or set sshPrivateKeyFile to its path",
)
