"""docs/no-internet.md: what a site's own mirror has to carry, besides kubeadm's images."""

from __future__ import annotations

from cluster import checks, versions
from tests.unit.pages.text import table

VERSIONS = {
    "metallb": versions.METALLB,
    "nginx-ingress": versions.NGINX_INGRESS_CHART,
    "hcloud-cloud-controller-manager": versions.HCLOUD_CCM,
    "hcloud-csi": versions.HCLOUD_CSI,
    "cert-manager": versions.CERT_MANAGER,
}


def contents() -> str:
    """The images, charts and containerd of this version of the program."""
    images = "".join(f"- `{image}`\n" for image in versions.images(versions.HELLO_IMAGE))
    charts = table(["chart", "version"], ([f"`{name}`", VERSIONS[name]] for name in checks.CHARTS))
    return f"{images}\ncontainerd: {versions.CONTAINERD}. **Charts**:\n\n{charts}"
