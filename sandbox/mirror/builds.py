"""What is compiled, and from what: one recipe for each Go module of the mirror."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from cluster import versions
from sandbox.mirror.errors import MirrorError
from sandbox.mirror.golang import Build, tree_digest

HERE: Final = Path(__file__).parent
CNI_PLUGINS: Final = "v1.9.1"
CRI_TOOLS: Final = "v1.36.0"
"""One for every Kubernetes here: crictl speaks CRI v1, as all of their runtimes do.

Of its recent releases the module proxy has this one only.
"""

OWN_GO_BELOW: Final = 36
"""Kubernetes minors below this one were made with an older Go than ours, and need it: built with Go
1.26, kubeadm 1.31.0 fails its own preflight check of proxies, as URLs are parsed more strictly."""

_KUBERNETES: Final = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)


def parse(version: str) -> tuple[int, int, int]:
    """Split ``1.36.4`` into numbers.

    Raises:
        MirrorError: It is not three numbers, or not a Kubernetes 1.
    """
    match = re.fullmatch(r"1\.(\d+)\.(\d+)", version)
    if not match:
        raise MirrorError(
            f"Kubernetes version {version!r}: expected 1.MINOR.PATCH, such as {versions.KUBERNETES}"
        )
    return 1, int(match[1]), int(match[2])


def kubernetes(version: str) -> Build:
    """The seven commands of Kubernetes, stamped like a release."""
    return _of_kubernetes("kubernetes", version, *(f"./cmd/{command}" for command in _KUBERNETES))


def e2e(version: str) -> Build:
    """Kubernetes' end-to-end tests, of which the conformance tests are some: ``e2e.test``."""
    return replace(_of_kubernetes("e2e", version, "./test/e2e"), test=True)


def e2e_tools(version: str) -> Build:
    """What runs these tests side by side (``ginkgo``), and what their images hold."""
    images = (f"./test/images/{name}" for name in ("agnhost", "nonewprivs"))
    return _of_kubernetes("e2e-tools", version, "github.com/onsi/ginkgo/v2/ginkgo", *images)


def _of_kubernetes(name: str, version: str, *packages: str) -> Build:
    major, minor, patch = parse(version)
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return Build(
        name=name,
        version=f"v{version}",
        module="k8s.io/kubernetes",
        packages=packages,
        stamps={
            f"{package}.{key}": str(value)
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
            for key, value in {**values, "gitTreeState": "archive"}.items()
        },
        tags=("selinux", "notest", "grpcnotrace"),
        staging=f"v0.{minor}.{patch}",
        own_go=minor < OWN_GO_BELOW,
    )


def etcd(version: str) -> Build:
    """The etcd server; its command is called ``server``."""
    return Build(
        name="etcd", version=f"v{version}", module="go.etcd.io/etcd/server/v3", packages=(".",)
    )


def etcdctl(version: str) -> Build:
    """Etcd's client, which the image of etcd holds too."""
    return Build(
        name="etcdctl", version=f"v{version}", module="go.etcd.io/etcd/etcdctl/v3", packages=(".",)
    )


def etcdutl(version: str) -> Build:
    """Etcd's tool for its own files, which restores snapshots; upstream's image holds it from 3.6 on."""
    return Build(
        name="etcdutl", version=f"v{version}", module="go.etcd.io/etcd/etcdutl/v3", packages=(".",)
    )


def coredns(version: str) -> Build:
    """The cluster's DNS server."""
    return Build(
        name="coredns",
        version=f"v{version}",
        module="github.com/coredns/coredns",
        packages=(".",),
        tags=("grpcnotrace",),
        # Clients of three clouds and of tracing services: more than half of the time to compile it.
        empty=("plugin/azure", "plugin/clouddns", "plugin/route53", "plugin/trace"),
    )


CONTAINERD: Final = Build(
    name="containerd",
    version=f"v{versions.CONTAINERD}",
    module="github.com/containerd/containerd/v2",
    packages=("./cmd/containerd", "./cmd/containerd-shim-runc-v2", "./cmd/ctr"),
    stamps={"github.com/containerd/containerd/v2/version.Version": f"v{versions.CONTAINERD}"},
    tags=("no_btrfs",),
)
CRICTL: Final = Build(
    name="cri-tools",
    version=CRI_TOOLS,
    module="sigs.k8s.io/cri-tools",
    packages=("./cmd/crictl",),
    stamps={"sigs.k8s.io/cri-tools/pkg/version.Version": CRI_TOOLS},
)
CNI: Final = Build(
    name="cni-plugins",
    version=CNI_PLUGINS,
    module="github.com/containernetworking/plugins",
    packages=("./plugins/main/...", "./plugins/meta/...", "./plugins/ipam/..."),
    stamps={
        "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": CNI_PLUGINS
    },
)
FLANNEL: Final = Build(
    name="flannel",
    version=versions.FLANNEL,
    module="github.com/flannel-io/flannel",
    packages=(".", "./cmd/install_conf"),
    stamps={"github.com/flannel-io/flannel/pkg/version.Version": versions.FLANNEL},
    cgo=True,  # its UDP backend is C
    # A backend for one cloud, whose module is not to be had.
    drop=(
        "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common",
        "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/vpc",
    ),
    empty=("pkg/backend/tencentvpc",),
)
FLANNEL_CNI: Final = Build(
    name="flannel-cni-plugin",
    # The last release of the plugins that had flannel's; later ones keep it in a repository of its
    # own, which is not a module of the proxy. It speaks CNI up to 0.4.0.
    version="v0.9.1",
    module="github.com/containernetworking/plugins",
    packages=("./plugins/meta/flannel",),
)
KUBE_ROUTER: Final = Build(
    name="kube-router",
    # Its only release that is a module of the proxy.
    version="v2.1.0",
    module="github.com/cloudnativelabs/kube-router/v2",
    packages=("./cmd/kube-router",),
)
METALLB: Final = Build(
    name="metallb",
    version=f"v{versions.METALLB}",
    module="go.universe.tf/metallb",
    packages=("./controller", "./speaker"),
    # Types of its BGP mode; the module is not to be had, and our clusters announce by ARP only.
    replace={"github.com/metallb/frr-k8s": HERE / "frr-k8s"},
)
HELM: Final = Build(
    name="helm",
    version="v3.22.0",
    module="helm.sh/helm/v3",
    packages=("./cmd/helm",),
    stamps={
        "helm.sh/helm/v3/internal/version.version": "v3.22.0",
        # What charts are told of the cluster where there is none to ask (`helm template`).
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": str(parse(versions.KUBERNETES)[1]),
    },
    tags=("grpcnotrace",),
)
REGISTRY: Final = Build(
    name="registry",
    version="v3.1.2",
    module="github.com/distribution/distribution/v3",
    packages=("./cmd/registry",),
    # Storage in clouds: most of the time to compile it.
    empty=tuple(
        f"registry/storage/driver/{name}"
        for name in ("azure", "gcs", "s3-aws", "middleware/cloudfront")
    ),
)


def local(folder: Path) -> Build:
    """Commands of our own, beside this file."""
    return Build(name=folder.name, version=tree_digest(folder)[:10], source=folder, packages=(".",))
