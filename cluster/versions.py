"""The one place for versions: what is installed by default, and what goes with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KUBERNETES: Final = "1.36.4"
"""Default Kubernetes version; a supported minor."""

KUBEADM_IMAGES: Final = {"etcd": "3.6.8-0", "coredns/coredns": "v1.14.2", "pause": "3.10.2"}
"""What kubeadm of the default version takes besides Kubernetes' own (``kubeadm config images list``)."""

KUBERNETES_MINORS: Final = range(31, 38)
"""Minors of Kubernetes 1 that this program is written for (1.31 to 1.37)."""

KUBERNETES_MOST_PATCHES: Final = 20
"""A minor gets a patch a month for 14 months; 1.18 had the most, 20. More is a slip of the pen."""

CONTAINERD: Final = "2.2.1"
"""containerd for every Kubernetes version here, from Docker's package ``containerd.io``.

The kubelet of 1.37 refuses containerd 1.x (it needs CRI's ``RuntimeConfig``), and distributions'
own packages differ per release; one 2.x for all keeps hosts alike.
"""

FLANNEL: Final = "v0.28.10"
FLANNEL_CNI_PLUGIN: Final = "v1.9.1-flannel3"
KUBE_ROUTER_IMAGE: Final = "docker.io/cloudnativelabs/kube-router:v2.11.1"
METALLB: Final = "0.16.2"
METALLB_REPOSITORY: Final = "https://metallb.github.io/metallb"
NGINX_INGRESS_CHART: Final = "2.6.4"
CERT_MANAGER: Final = "v1.21.2"
"""Chart and images."""
CERT_MANAGER_REPOSITORY: Final = "oci://quay.io/jetstack/charts"
HELLO_IMAGE: Final = "us-docker.pkg.dev/google-samples/containers/gke/hello-app:1.0"

NGINX_INGRESS_IMAGE: Final = "docker.io/nginx/nginx-ingress:5.5.4"
"""What the default chart runs; fetched ahead, so a start is not held up by the pull."""

KURED_IMAGE: Final = "ghcr.io/kubereboot/kured:1.23.0"
"""Reboots nodes; speaks to every Kubernetes here by APIs that have been stable since 1.22."""

HCLOUD_CCM: Final = "1.35.0"
HCLOUD_CSI: Final = "2.22.1"
"""Charts of Hetzner's cloud controller manager and CSI driver; their images carry the same versions."""
HCLOUD_REPOSITORY: Final = "https://charts.hetzner.cloud"
CSI_SIDECARS: Final = (
    "csi-attacher",
    "csi-provisioner",
    "csi-resizer",
    "livenessprobe",
    "csi-node-driver-registrar",
)
"""Images of Kubernetes' own that the driver's chart names the versions of."""


def images(hello: str, *, metallb: bool = True, policies: str = "", tls: bool = False) -> list[str]:
    """Images of what this program puts on the cluster, to fetch ahead.

    Args:
        hello: the page's, or nothing without one.
        metallb: whether there is MetalLB.
        policies: that which enforces NetworkPolicies, or nothing.
        tls: whether there is cert-manager.
    """
    announcing = [f"quay.io/metallb/{part}:v{METALLB}" for part in ("speaker", "controller")]
    signing = [
        f"quay.io/jetstack/cert-manager-{part}:{CERT_MANAGER}"
        for part in ("controller", "webhook", "cainjector")
    ]
    return [
        f"ghcr.io/flannel-io/flannel:{FLANNEL}",
        f"ghcr.io/flannel-io/flannel-cni-plugin:{FLANNEL_CNI_PLUGIN}",
        *([policies] if policies else []),
        *(announcing if metallb else []),
        NGINX_INGRESS_IMAGE,
        *(signing if tls else []),
        *([hello] if hello else []),
    ]


@dataclass(frozen=True)
class AptRepository:
    """A public package repository, its signing key pinned by fingerprint.

    ``{minor}`` stands for the Kubernetes minor, ``@ID@`` and ``@CODENAME@`` for the host's system.
    """

    uri: str
    suite: str
    components: str
    keyring: str
    key_url: str
    fingerprint: str


APT_REPOSITORIES: Final = (
    # kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm
    AptRepository(
        uri="https://pkgs.k8s.io/core:/stable:/v1.{minor}/deb/",
        suite="/",
        components="",
        keyring="/etc/apt/keyrings/own-kubernetes-kubernetes.asc",
        key_url="https://pkgs.k8s.io/core:/stable:/v1.{minor}/deb/Release.key",
        fingerprint="DE15B14486CD377B9E876E1A234654DA9A296436",
    ),
    # docs.docker.com/engine/install/debian
    AptRepository(
        uri="https://download.docker.com/linux/@ID@",
        suite="@CODENAME@",
        components="stable",
        keyring="/etc/apt/keyrings/own-kubernetes-docker.asc",
        key_url="https://download.docker.com/linux/debian/gpg",
        fingerprint="9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
    ),
)
