"""What the mirror serves: every package and image, under the names that upstream gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cluster import versions
from sandbox.mirror import builds, debian, golang, host
from sandbox.mirror.archive import File
from sandbox.mirror.charts import Chart
from sandbox.mirror.golang import Build
from sandbox.mirror.oci import Image, strip_host
from sandbox.mirror.packages import Package, data_file

HOST_PREPARATION: Final = (
    "age",
    "apt-transport-https",
    "arptables",
    "ca-certificates",
    "conntrack",
    "curl",
    "ebtables",
    "ethtool",
    "gnupg",
    "gpg",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "jq",
    "keepalived",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "openssl",
    "procps",
    "socat",
    "systemd-timesyncd",
    "unattended-upgrades",
    "util-linux",
)
"""Debian packages that preparing a host may ask for; the repository has all they depend on."""

_TESTERS: Final = (
    "bash",
    "bind9-dnsutils",
    "coreutils",
    "curl",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "libc-bin",
    "mawk",
    "netcat-openbsd",
    "procps",
    "sed",
    "tar",
    "util-linux",
    "wget",
)
"""What the conformance tests call in pods of their own images."""

_IPTABLES: Final = ("conntrack", "iptables", "kmod", "nftables")
_NONROOT: Final = 65532
_NGINX: Final = 101
_PAUSE: Final = 65535
_UNITS: Final = "usr/lib/systemd/system"
_MINIMAL: Final = (
    File(
        "etc/passwd",
        b"root:x:0:0:root:/root:/sbin/nologin\n"
        b"www-data:x:33:33:www-data:/var/www:/sbin/nologin\n"
        b"nginx:x:101:101:nginx:/nonexistent:/sbin/nologin\n"
        b"nonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin\n"
        b"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n",
        0o644,
    ),
    File(
        "etc/group",
        b"root:x:0:\nwww-data:x:33:\nnginx:x:101:\nnonroot:x:65532:\nnobody:x:65534:\n",
        0o644,
    ),
    File("tmp", None, 0o1777),
)
_XTABLES: Final = tuple(
    # What Debian's alternatives would set up when the package is configured.
    File(f"usr/sbin/{command}", "xtables-nft-multi")
    for family in ("iptables", "ip6tables")
    for command in (family, f"{family}-save", f"{family}-restore")
)


@dataclass(frozen=True)
class Part:
    """A piece of the mirror that is built, and looked for in the cache, by itself.

    Args:
        name: For the log.
        builds: What is compiled for it.
        packages: Makes its packages, when the commands are there.
        images: Makes its images, likewise.
        charts: Its charts, of what only some clusters ask for.
    """

    name: str
    builds: tuple[Build, ...] = ()
    packages: Callable[[], list[Package]] = list
    images: Callable[[], list[Image]] = list
    charts: Callable[[], list[Chart]] = list


def all_parts(kubernetes: str) -> list[Part]:
    """Every part, in the order in which a cluster asks for them."""
    kube = builds.kubernetes(kubernetes)
    own = ("ingress/controller", "hello", "kured")
    ingress, hello, kured = (builds.local(builds.HERE / name) for name in own)
    flannel = (builds.FLANNEL, builds.FLANNEL_CNI)
    return [
        Part(
            f"Kubernetes {kubernetes}",
            (kube,),
            packages=lambda: _kubernetes_packages(kube, kubernetes),
            images=lambda: _kubernetes_images(kube, kubernetes),
        ),
        Part("containerd", (builds.CONTAINERD,), packages=lambda: [_containerd()]),
        Part("registry", (builds.REGISTRY,)),
        Part("Helm", (builds.HELM,)),
        Part("CNI plugins", (builds.CNI,), packages=lambda: [_cni_plugins()]),
        Part("Flannel", flannel, images=_flannel_images),
        Part("MetalLB", (builds.METALLB,), images=_metallb_images),
        Part("ingress", (ingress,), images=lambda: [_ingress_image(ingress)]),
        Part("hello", (hello,), images=lambda: [_hello_image(hello)]),
        Part("kured", (kured,), images=lambda: [_kured_image(kured)]),
        Part("crictl", (builds.CRICTL,), packages=lambda: [_crictl()]),
    ]


def cluster_parts(kubernetes: str) -> list[Part]:
    """The parts whose versions the built kubeadm names: pause, etcd, CoreDNS."""
    names = wanted_images(kubernetes)
    tags = {name.rpartition("/")[2].partition(":")[0]: name.rpartition(":")[2] for name in names}
    etcd = _etcd_builds(tags["etcd"].rpartition("-")[0])
    dns = builds.coredns(tags["coredns"].removeprefix("v"))
    return [
        Part("pause", images=lambda: [_pause_image(f"pause:{tags['pause']}")]),
        Part("etcd", etcd, images=lambda: [_etcd_image(tags["etcd"], *etcd)]),
        Part("CoreDNS", (dns,), images=lambda: [_coredns_image(tags["coredns"], dns)]),
    ]


def optional_parts(kubernetes: str) -> list[Part]:
    """What only some clusters ask for: built when it is wanted (``pipeline.build_optional``)."""
    e2e, tools = builds.e2e(kubernetes), builds.e2e_tools(kubernetes)
    signing = builds.local(builds.HERE / "cert-manager")
    return [
        Part("kube-router", (builds.KUBE_ROUTER,), images=lambda: [_kube_router_image()]),
        Part("conformance", (e2e, tools), images=lambda: _e2e_images(e2e, tools)),
        Part(
            "cert-manager",
            (signing,),
            images=lambda: _cert_manager_images(signing),
            charts=_cert_manager_charts,
        ),
    ]


def wanted_images(kubernetes: str) -> list[str]:
    """The images that kubeadm of this version pulls, without their registry."""
    kubeadm = builds.kubernetes(kubernetes).command("kubeadm")
    args = ["config", "images", "list", "--kubernetes-version", f"v{kubernetes}"]
    return [strip_host(line) for line in host.run([kubeadm, *args]).split()]


def tools(kubernetes: str) -> dict[str, Path]:
    """Commands that this host may use."""
    return {
        "kubectl": builds.kubernetes(kubernetes).command("kubectl"),
        "helm": builds.HELM.command("helm"),
        "registry": builds.REGISTRY.command("registry"),
    }


def _kubernetes_packages(kube: Build, kubernetes: str) -> list[Package]:
    revision = f"{kubernetes}-1.1"
    _, minor, _ = builds.parse(kubernetes)
    kubelet = Package(
        name="kubelet",
        version=revision,
        summary="Node agent for Kubernetes clusters",
        fields=(
            ("Depends", "kubernetes-cni (>= 1.2.0), mount, util-linux"),
            ("Recommends", "iptables (>= 1.8.4)"),
        ),
        files=(
            File("usr/bin/kubelet", kube.command("kubelet")),
            File(f"{_UNITS}/kubelet.service", data_file("kubelet.service"), 0o644),
            File("etc/default/kubelet", b"KUBELET_EXTRA_ARGS=\n", 0o644),
            File("etc/kubernetes/manifests", None),
            File("var/lib/kubelet", None),
        ),
        conffiles=("/etc/default/kubelet",),
        unit="kubelet.service",
    )
    kubeadm = Package(
        name="kubeadm",
        version=revision,
        summary="Command-line utility for administering a Kubernetes cluster",
        # From 1.32 on kubeadm speaks to the runtime itself.
        fields=(("Depends", "cri-tools (>= 1.30.0)"),) if minor < 32 else (),
        files=(
            File("usr/bin/kubeadm", kube.command("kubeadm")),
            File(
                f"{_UNITS}/kubelet.service.d/10-kubeadm.conf", data_file("10-kubeadm.conf"), 0o644
            ),
        ),
    )
    kubectl = Package(
        name="kubectl",
        version=revision,
        summary="Command-line utility for interacting with a Kubernetes cluster",
        files=(File("usr/bin/kubectl", kube.command("kubectl")),),
    )
    return [kubelet, kubeadm, kubectl]


def _crictl() -> Package:
    return Package(
        name="cri-tools",
        version=f"{builds.CRI_TOOLS.removeprefix('v')}-1.1",
        summary="Command-line utility for interacting with a container runtime",
        files=(File("usr/bin/crictl", builds.CRICTL.command("crictl")),),
    )


def _cni_plugins() -> Package:
    return Package(
        name="kubernetes-cni",
        version=f"{builds.CNI_PLUGINS.removeprefix('v')}-1.1",
        summary="Binaries required to provision Kubernetes container networking",
        files=tuple(
            File(f"opt/cni/bin/{path.name}", path) for path in sorted(builds.CNI.output.iterdir())
        ),
    )


def _containerd() -> Package:
    source = golang.download(builds.CONTAINERD.module, builds.CONTAINERD.version)
    unit = (source / "containerd.service").read_bytes().replace(b"/usr/local/bin", b"/usr/bin")
    own = tuple(
        File(f"usr/bin/{name}", builds.CONTAINERD.command(name))
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    )
    return Package(
        name="containerd.io",
        version=f"{versions.CONTAINERD}-1~debian.12~bookworm",
        summary="An open and reliable container runtime",
        fields=(
            ("Depends", "libc6 (>= 2.34), libseccomp2 (>= 2.5.0)"),
            ("Provides", "containerd, runc"),
            ("Conflicts", "containerd, runc"),
            ("Replaces", "containerd, runc"),
        ),
        files=(
            *own,
            File("usr/bin/runc", debian.command("runc", "usr/sbin/runc")),
            File(f"{_UNITS}/containerd.service", unit, 0o644),
            File("etc/containerd/config.toml", data_file("containerd.toml"), 0o644),
        ),
        conffiles=("/etc/containerd/config.toml",),
        unit="containerd.service",
    )


def _kubernetes_images(kube: Build, kubernetes: str) -> list[Image]:
    plain = [
        _static(f"{command}:v{kubernetes}", f"usr/local/bin/{command}", kube.command(command))
        for command in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    proxy = File("usr/local/bin/kube-proxy", kube.command("kube-proxy"))
    return [*plain, _with_iptables(f"kube-proxy:v{kubernetes}", proxy)]


def _static(name: str, path: str, command: Path, *more: File, user: int = 0) -> Image:
    """An image of a command that needs nothing around it."""
    return Image(
        name=name,
        base=_MINIMAL,
        files=(File(path, command), *more),
        entrypoint=(f"/{path}",),
        user=f"{user}:{user}" if user else "",
    )


def _with_iptables(name: str, *commands: File, more: tuple[str, ...] = ()) -> Image:
    return Image(
        name=name,
        debs=tuple(debian.fetch((*_IPTABLES, *more))),
        base=(*_MINIMAL, *_XTABLES),
        files=commands,
        entrypoint=(f"/{commands[0].path}",),
    )


def _pause_image(name: str) -> Image:
    source = builds.HERE / "files" / "pause.c"
    command = host.HOME / "bin" / f"pause-{golang.digest(source.read_bytes())}" / "pause"
    if not command.exists():
        with host.fresh(command.parent) as folder:
            host.run(["gcc", "-Os", "-Wall", "-Werror", "-static", source, "-o", folder / "pause"])
            host.run(["strip", folder / "pause"])
    return _static(name, "pause", command, user=_PAUSE)


def _etcd_builds(version: str) -> tuple[Build, ...]:
    """The server and its tools, as upstream's image has them: with etcdutl from 3.6 on."""
    older = version.startswith("3.5.")
    tools = (builds.etcdctl(version), *(() if older else (builds.etcdutl(version),)))
    return (builds.etcd(version), *tools)


def _etcd_image(tag: str, server: Build, *tools: Build) -> Image:
    beside = (File(f"usr/local/bin/{tool.name}", tool.command(tool.name)) for tool in tools)
    return _static(f"etcd:{tag}", "usr/local/bin/etcd", server.command("server"), *beside)


def _coredns_image(tag: str, build: Build) -> Image:
    return _static(f"coredns/coredns:{tag}", "coredns", build.command("coredns"), user=_NONROOT)


def _flannel_images() -> list[Image]:
    build, plugin = builds.FLANNEL, builds.FLANNEL_CNI
    busybox = debian.command("busybox-static", "bin/busybox")
    cni = f"flannel-io/flannel-cni-plugin:{versions.FLANNEL_CNI_PLUGIN}"
    return [
        _with_iptables(
            f"flannel-io/flannel:{versions.FLANNEL}",
            File("opt/bin/flanneld", build.command("flannel")),
            File("opt/bin/install-conf", build.command("install_conf")),
            File("bin/sh", busybox),  # as in Flannel's own image
            File("bin/sleep", busybox),
        ),
        # Its one use is to be copied onto the node by its own `cp`.
        _static(cni, "flannel", plugin.command("flannel"), File("bin/cp", busybox)),
    ]


def _kube_router_image() -> Image:
    build = builds.KUBE_ROUTER
    command = File("usr/local/bin/kube-router", build.command("kube-router"))
    return _with_iptables(f"cloudnativelabs/kube-router:{build.version}", command, more=("ipset",))


def _cert_manager_images(build: Build) -> list[Image]:
    """Of one command, which does what it is called."""
    return [
        _static(
            f"jetstack/cert-manager-{name}:{versions.CERT_MANAGER}",
            f"app/cmd/{name}/{name}",
            build.command("stand-in"),
            user=_NONROOT,
        )
        for name in ("controller", "webhook", "cainjector")
    ]


def _cert_manager_charts() -> list[Chart]:
    """The real one, of the release that the commands' libraries are of."""
    source = golang.download("github.com/cert-manager/cert-manager", versions.CERT_MANAGER)
    chart = source / "deploy" / "charts" / "cert-manager"
    return [Chart(chart, chart.name, versions.CERT_MANAGER)]


def _metallb_images() -> list[Image]:
    tag = builds.METALLB.version
    return [
        _static(f"metallb/{name}:{tag}", name, builds.METALLB.command(name))
        for name in ("controller", "speaker")
    ]


def _ingress_image(build: Build) -> Image:
    return Image(
        name=strip_host(versions.NGINX_INGRESS_IMAGE),
        debs=tuple(debian.fetch(["nginx"])),
        base=_MINIMAL,
        files=(
            File("nginx-ingress", build.command("ingress")),
            File("var/lib/nginx-ingress", None, 0o755, _NGINX),
        ),
        entrypoint=("/nginx-ingress",),
        user=f"{_NGINX}:{_NGINX}",
    )


def _hello_image(build: Build) -> Image:
    return _static(
        strip_host(versions.HELLO_IMAGE), "hello-app", build.command("hello"), user=_NONROOT
    )


def _kured_image(build: Build) -> Image:
    """A stand-in: the real one's module is not to be had."""
    nsenter = File("usr/bin/nsenter", debian.command("busybox-static", "bin/busybox"))
    return _static(
        strip_host(versions.KURED_IMAGE), "usr/bin/kured", build.command("kured"), nsenter
    )


def _e2e_images(tests: Build, tools: Build) -> list[Image]:
    """The images of the end-to-end tests that can be made here, under the tags that these tests want."""
    makers: dict[str, Callable[[str, Build], Image]] = {
        "agnhost": _agnhost_image,
        "busybox": lambda name, _: _busybox_image(name),
        "glibc-dns-testing": lambda name, _: _debian_image(name),
        "kitten": _web_image,
        "nautilus": _web_image,
        "nginx": lambda name, _: _nginx_image(name),
        "nonewprivs": _nonewprivs_image,
    }
    listed = host.run([tests.command("e2e.test"), "--list-images"]).split()
    repository = "e2e-test-images/"
    names = [n for n in map(strip_host, listed) if n.startswith(repository)]
    kinds = {name: name.removeprefix(repository).partition(":")[0] for name in names}
    return [makers[kind](name, tools) for name, kind in kinds.items() if kind in makers]


def _debian_image(
    name: str,
    files: tuple[File, ...] = (),
    entrypoint: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
) -> Image:
    """Debian's shell and tools: upstream's image for DNS tests is the same, agnhost's is of Alpine."""
    links = (File("bin/nc", "nc.openbsd"), File("usr/bin/awk", "mawk"))
    return Image(
        name=name,
        debs=tuple(debian.fetch(_TESTERS)),
        base=(*_MINIMAL, *links),
        files=files,
        entrypoint=entrypoint,
        arguments=arguments,
    )


def _agnhost_image(name: str, tools: Build, *more: File) -> Image:
    """The tests' own server and client; the older tag that they update from gets the same command."""
    porter = _e2e_images_source(tools) / "agnhost" / "porter"
    passwd, group, *_ = _MINIMAL
    files = (
        File("agnhost", tools.command("agnhost")),
        File("agnhost-2", "agnhost"),
        File("uploads", None),
        *(File(file, porter / file, 0o644) for file in ("localhost.crt", "localhost.key")),
        # A user whose groups a test looks up in the image.
        _with_line(passwd, b"user-defined-in-image:x:1000:1000::/home:/bin/sh\n"),
        _with_line(group, b"group-defined-in-image:x:50000:user-defined-in-image\n"),
    )
    return _debian_image(name, (*files, *more), ("/agnhost",), ("pause",))


def _with_line(file: File, line: bytes) -> File:
    assert isinstance(file.content, bytes), "it is not made of a file"
    return replace(file, content=file.content + line)


def _web_image(name: str, tools: Build) -> Image:
    """Agnhost with a picture to serve: ``kitten`` or ``nautilus``."""
    kind = name.rpartition("/")[2].partition(":")[0]
    html = _e2e_images_source(tools) / kind / "html"
    page = (File(file, html / file, 0o644) for file in (f"{kind}.jpg", "data.json"))
    return replace(_agnhost_image(name, tools, *page), arguments=("test-webserver",))


def _busybox_image(name: str) -> Image:
    """Debian's busybox, which is of another release than upstream's image."""
    busybox = debian.command("busybox-static", "bin/busybox")
    applets = host.run([busybox, "--list"]).split()
    links = (File(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox")
    files = (File("bin/busybox", busybox), *links)
    return Image(name=name, base=_MINIMAL, files=files, arguments=("sh",))


def _nginx_image(name: str) -> Image:
    """Debian's nginx, which is of another release than upstream's image; every tag is the same."""
    return Image(
        name=name,
        debs=tuple(debian.fetch(["nginx"])),
        base=_MINIMAL,
        files=(
            # What Debian sets up when the package is configured.
            File("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default"),
            File("var/www/html/index.html", "/usr/share/nginx/html/index.html"),
            File("run", None),
        ),
        arguments=("nginx", "-g", "daemon off;"),
    )


def _nonewprivs_image(name: str, tools: Build) -> Image:
    command = File("usr/local/bin/nnp", tools.command("nonewprivs"), 0o4755)
    return Image(name=name, base=_MINIMAL, files=(command,), arguments=("nnp",))


def _e2e_images_source(tools: Build) -> Path:
    return golang.download(tools.module, tools.version) / "test" / "images"
