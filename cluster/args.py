"""What another program says about its cluster: the keys of ``Pulumi.yaml``, in snake_case.

Each is described there, with its default, and checked by ``settings``. Names and roles decide which resources
there are, so most values have to be known when the program runs; those that need not are ``Input``.
"""

# Without `from __future__ import annotations`: the provider host reads the annotations, as types.
from typing import Any, Required, TypedDict

import pulumi


class NodeArgs(TypedDict, total=False):
    """A node. Of a host that is made in the same program give ``private_address``, which is known."""

    role: Required[str]
    """control-plane or worker."""
    machine: str
    address: pulumi.Input[str]
    """Where SSH is answered."""
    private_address: str
    user: str
    port: int
    host_key: pulumi.Input[str]
    """The host's SSH public key, "ssh-ed25519 AAAA..."."""
    labels: dict[str, str]
    taints: list[str]
    server_type: str
    location: str
    image: str
    placement_group: str


class NodePoolArgs(TypedDict, total=False):
    """Several like nodes."""

    role: Required[str]
    count: Required[int]
    machine: str
    first_private_address: str
    labels: dict[str, str]
    taints: list[str]
    server_type: str
    location: str
    image: str


class HetznerArgs(TypedDict, total=False):
    """What holds for servers at Hetzner Cloud; the API token is in ``hcloud:token`` or HCLOUD_TOKEN."""

    location: str
    server_type: str
    image: str
    keep_addresses: bool
    ingress: str
    floating_ips: int
    load_balancer_type: str
    api_load_balancer: bool
    cloud_controller_manager: bool
    csi_driver: bool
    delete_volumes: bool
    subnet_cidr: str
    vswitch_id: int
    vswitch_cidr: str


class ProxyArgs(TypedDict, total=False):
    """A bastion."""

    address: Required[str]
    port: int
    user: str
    host_key: str


class AptMirrorArgs(TypedDict, total=False):
    """An apt repository that carries the Kubernetes and containerd packages."""

    uri: Required[str]
    suite: str
    components: list[str]
    key_file: Required[str]


class MirrorArgs(TypedDict, total=False):
    """Where a site without internet gets things from."""

    apt: AptMirrorArgs
    registries: dict[str, list[str]]
    charts: dict[str, str]


class S3Args(TypedDict, total=False):
    """Storage where snapshots are uploaded."""

    endpoint: Required[str]
    region: Required[str]
    bucket: Required[str]
    prefix: str


class BackupArgs(TypedDict, total=False):
    """Snapshots that each control plane takes."""

    public_key: Required[str]
    schedule: str
    directory: str
    keep: int
    s3: S3Args


class RebootArgs(TypedDict, total=False):
    """When nodes may reboot for updates."""

    enabled: bool
    days: list[str]
    start: str
    end: str
    time_zone: str
    check_seconds: int


class OsUpdateArgs(TypedDict, total=False):
    """Security updates that nodes take by themselves."""

    enabled: bool
    reboots: RebootArgs


class AuditLogArgs(TypedDict, total=False):
    """The API servers' audit log."""

    enabled: bool
    max_age_days: int
    max_files: int
    max_size_mib: int


class IngressTlsArgs(TypedDict, total=False):
    """Who signs certificates for HTTPS."""

    issuer: Required[str]
    email: str
    server: str
    ca_certificate_file: str


class HelmReleaseArgs(TypedDict, total=False):
    """A Helm chart of the program's own."""

    chart: Required[str]
    version: Required[str]
    namespace: Required[str]
    repo: str
    values: dict[str, Any]
    values_file: str


class ClusterArgs(TypedDict, total=False):
    """A cluster; every key is described in ``Pulumi.yaml``."""

    cluster_name: str
    kubernetes_version: str
    machines: str
    nodes: dict[str, NodeArgs]
    node_pools: dict[str, NodePoolArgs]
    hetzner: HetznerArgs
    ssh_user: str
    ssh_port: int
    ssh_private_key: pulumi.Input[str]
    ssh_private_key_file: str
    ssh_known_hosts_file: str
    ssh_timeout_seconds: int
    proxy: ProxyArgs
    proxy_private_key: pulumi.Input[str]
    pod_cidr: str
    service_cidr: str
    node_cidr: Required[str]
    api_endpoint: str
    api_virtual_address: str
    api_tunnel: str
    admin_cidrs: Required[list[str]]
    open_to_world: bool
    network_policies: bool
    network_policy_image: str
    load_balancer_pools: list[str]
    ingress_chart: str
    ingress_version: str
    hello_world: bool
    hello_host: str
    hello_image: str
    hello_replicas: int
    ingress_tls: IngressTlsArgs
    ingress_ca_key: pulumi.Input[str]
    extra_manifests: list[str]
    helm_releases: dict[str, HelmReleaseArgs]
    schedule_on_control_planes: bool
    even_control_planes: bool
    drain_timeout_seconds: int
    certificate_renewal: str
    pod_security: str
    audit_log: AuditLogArgs
    encryption_rotation: str
    workers_at_once: int
    os_updates: OsUpdateArgs
    pre_pull_images: bool
    remove_packages: bool
    kubelet: dict[str, Any]
    kube_proxy: dict[str, Any]
    containerd: dict[str, Any]
    ignore_preflight_errors: list[str]
    backup: BackupArgs
    backup_s3_credentials: pulumi.Input[str]
    recovery_snapshot: str
    recovery_key: pulumi.Input[str]
    mirror: MirrorArgs
