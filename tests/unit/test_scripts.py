"""The host scripts: checked by shellcheck, and run by bash on a pretended host."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.nodes.files import envelope
from tests.unit.hosts import DOOR_KEY, FAST, OS_RELEASES, PEERS, SCRIPTS, Host
from tests.unit.sites import rendered
from tests.unit.stacks import ROOT, dev_stack

ALL_SCRIPTS = sorted(
    path for part in ("cluster", "sandbox", "benchmarks") for path in (ROOT / part).rglob("*.sh")
)
SUPPORTED = ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04")
PREPARED_FILES = {
    "/etc/modules-load.d/own-kubernetes.conf": "overlay\nbr_netfilter",
    "/etc/own-kubernetes/apt-keys": "",
    "/etc/own-kubernetes/containerd.toml": 'sandbox = "@PAUSE@"',
    "/etc/own-kubernetes/login-user": "root",
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def names(script: Path) -> str:
    return str(script.relative_to(ROOT))


# --- as text -----------------------------------------------------------------------------------


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.fail(
            "shellcheck is not installed: run `make check`, or `apt-get install shellcheck`"
        )
    done = subprocess.run(
        [shellcheck, "--external-sources", *map(names, ALL_SCRIPTS), ".ci/run"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("script", ALL_SCRIPTS, ids=names)
def test_scripts_stop_at_the_first_failure(script: Path) -> None:
    text = script.read_text()
    if "Sourced" in text.split("\n\n")[0]:
        assert not text.startswith("#!"), "never run"
    elif text.startswith("#!/bin/sh"):
        assert "\nset -eu\n" in text
    else:
        assert "\nset -euo pipefail\n" in text
        assert text.startswith(("#!/usr/bin/env bash\n", "#!/bin/bash\n"))


@pytest.mark.parametrize("script", ALL_SCRIPTS, ids=names)
def test_scripts_say_what_they_are_for(script: Path) -> None:
    assert script.read_text().splitlines()[1].startswith("# ")


# --- lib.sh ------------------------------------------------------------------------------------


def test_put_writes_tells_a_change_and_leaves_the_same_alone(host: Host) -> None:
    body = 'put "$2/deep/file" < <(printf "%s" "$1"); echo "$CHANGED"'
    results = [
        host.source("lib.sh", f"set -- {text} {host.root}\n{body}").stdout.strip()
        for text in ("one", "one", "two")
    ]
    assert results == ["true", "false", "true"]
    assert host.read("/deep/file") == "two"
    assert [path.name for path in host.path("/deep").iterdir()] == ["file"], "no leftovers"


@pytest.mark.parametrize(("words", "mode"), [("", 0o644), ("0600", 0o600)])
def test_put_sets_the_mode(host: Host, words: str, mode: int) -> None:
    host.source("lib.sh", f"umask 000; echo text | put {host.root}/file {words}")
    assert host.path("/file").stat().st_mode & 0o777 == mode


def test_put_replaces_a_file_at_once(host: Host) -> None:
    old = host.write("/file", "old")
    before = old.stat().st_ino
    host.source("lib.sh", f"echo new | put {old}")
    assert old.stat().st_ino != before


def test_stage_is_empty_until_it_is_set_and_survives(host: Host) -> None:
    assert host.source("lib.sh", 'echo "[$(stage)]"').stdout == "[]\n"
    host.source("lib.sh", "set_stage init; set_stage init")
    assert host.source("lib.sh", 'echo "[$(stage)]"').stdout == "[init]\n"
    assert host.read("/var/lib/own-kubernetes/stage") == "init\n"


FLAKY = "tries=0\nflaky() { ((++tries > $1)); }\n"


def test_retry_goes_on_until_the_command_succeeds(host: Host) -> None:
    done = host.source("lib.sh", f"{FAST}{FLAKY}retry 100 flaky 3; echo $tries")
    assert done.stdout == "4\n"
    assert re.findall(r"again in (\d+) s", done.stderr) == ["1", "2", "4"]


def test_retry_gives_up_within_its_bound(host: Host) -> None:
    done = host.source(
        "lib.sh", f"{FAST}{FLAKY}retry 60 flaky 99 || echo given up after $SECONDS s"
    )
    match = re.search(r"given up after (\d+) s", done.stdout)
    assert match is not None
    assert 45 <= int(match[1]) <= 60
    assert max(map(int, re.findall(r"again in (\d+) s", done.stderr))) <= 16


def test_wait_for_names_what_never_came(host: Host) -> None:
    done = host.source("lib.sh", f"{FAST}wait_for 30 'the moon' false || echo gone on")
    assert done.stdout == "gone on\n"
    assert done.stderr == "waited 30 s in vain: the moon\n"


def test_wait_for_says_nothing_when_it_came(host: Host) -> None:
    done = host.source("lib.sh", f"{FAST}{FLAKY}wait_for 30 'the moon' flaky 2; echo $tries")
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_step_says_what_and_how_long_and_keeps_results_clean(host: Host) -> None:
    done = host.source("lib.sh", "work() { echo chatter; }\nstep 'some work' work; echo result")
    assert done.stdout == "result\n"
    assert re.fullmatch(r"some work: \d+\.\d s\n", done.stderr)


def test_a_failed_step_ends_the_script_and_shows_the_end_of_its_output(host: Host) -> None:
    work = "work() { seq 1 99; echo the reason >&2; return 7; }\n"
    env = {"DETAIL": str(host.root / "detail")}
    done = host.source("lib.sh", f"{work}step 'some work' work; echo never", env=env)
    assert done.returncode == 7
    assert done.stdout == ""
    assert "the reason" in done.stderr
    assert "\n10\n" not in done.stderr
    assert "the reason" in host.read("/detail")


def test_fail_names_host_expectation_and_remedy(host: Host) -> None:
    done = host.source("lib.sh", "fail 'no fuel' 'a full tank' 'go to the pump'; echo never")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error on pretended: no fuel\n  expected: a full tank\n  remedy:   go to the pump\n"
    )


INTERFACES = """\
1: lo    inet 127.0.0.1/8 scope host lo
2: eth0    inet 203.0.113.9/32 metric 100 scope global dynamic eth0
3: ens10    inet {address}/32 brd {address} scope global dynamic ens10
"""


@pytest.mark.parametrize("there", ["10.78.0.5", "203.0.113.9"])
def test_an_address_is_waited_for_until_it_is_plugged_in(host: Host, there: str) -> None:
    host.write("/etc/own-kubernetes/internal-address", f"{there}\n")
    host.write("/etc/interfaces", INTERFACES.format(address="10.78.0.5"))
    host.command("ip", "echo >>/etc/asked; (($(wc -l </etc/asked) < 3)) || cat /etc/interfaces")
    done = host.source("lib.sh", f"{FAST}wait_for_address; echo $SECONDS")
    assert int(done.stdout) < 10, done.stderr
    assert len([call for call in host.calls if call.startswith("ip ")]) == 3


@pytest.mark.parametrize("other", ["10.78.0.55", "110.78.0.5", "10.78.0.4", "10.7800.5"])
def test_an_address_that_never_comes_is_named(host: Host, other: str) -> None:
    host.write("/etc/own-kubernetes/internal-address", "10.78.0.5\n")
    host.write("/etc/interfaces", INTERFACES.format(address=other))
    host.command("ip", "cat /etc/interfaces")
    host.sooner("lib.sh", "wait_for 120", "wait_for 2")
    done = host.source("lib.sh", f"{FAST}wait_for_address; echo never")
    assert done.returncode == 1
    assert "error on pretended: no interface has the address 10.78.0.5" in done.stderr
    assert "correct privateAddress (or address)" in done.stderr


FOREIGN = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/etcd/member/wal",
)


@pytest.mark.parametrize("sign", FOREIGN)
def test_somebody_elses_cluster_is_refused_and_left_alone(host: Host, sign: str) -> None:
    host.write(sign, "theirs")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    for script in ("prepare.sh", "control-plane.sh", "join.sh"):
        done = host.run(script, stdin=PEERS + DOOR_KEY)
        assert done.returncode == 1, script
        assert "a Kubernetes node that this program did not make" in done.stderr
        assert "kubeadm reset" in done.stderr
    assert host.read(sign) == "theirs"
    changing = ("kubeadm", "apt-get", "systemctl stop", "swapoff")
    assert not [call for call in host.calls if call.startswith(changing)]
    assert not host.path("/var/lib/own-kubernetes").exists()


@pytest.mark.parametrize("sign", FOREIGN)
def test_our_own_cluster_is_not_refused(host: Host, sign: str) -> None:
    host.write(sign, "ours")
    host.write("/var/lib/own-kubernetes/stage", "member\n")
    assert host.source("lib.sh", "refuse_foreign_cluster; echo ours").stdout == "ours\n"


# --- prepare.sh: checks ------------------------------------------------------------------------


@pytest.mark.parametrize("system", SUPPORTED)
def test_supported_systems_pass(tmp_path: Path, system: str) -> None:
    done = Host(tmp_path, system).source("prepare.sh", "check_system; check_resources; echo fine")
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.parametrize("system", sorted(set(OS_RELEASES) - set(SUPPORTED)))
def test_other_systems_are_refused_by_name_before_anything_changes(
    tmp_path: Path, system: str
) -> None:
    host = Host(tmp_path, system)
    done = host.run("prepare.sh")
    pretty = OS_RELEASES[system].split('"')[1]
    assert done.returncode == 1
    assert f"error on pretended: operating system {pretty}\n" in done.stderr
    assert "expected: Debian 12 or 13, Ubuntu 22.04 or 24.04" in done.stderr
    assert not host.path("/var/lib/own-kubernetes").exists()
    assert not [call for call in host.calls if not call.startswith(("hostname", "dpkg"))]


def test_other_architectures_are_refused_by_name(host: Host) -> None:
    host.command("dpkg", "echo riscv64")
    done = host.run("prepare.sh")
    assert done.returncode == 1
    assert "architecture riscv64" in done.stderr
    assert "amd64 or arm64" in done.stderr


@pytest.mark.parametrize(
    ("cpus", "mib", "complaint"),
    [
        (1, 4096, "1 CPU\n  expected: at least 2 CPUs\n"),
        (2, 1699, "1699 MiB of memory\n  expected: at least 1700 MiB\n"),
        (2, 1700, ""),
        (64, 65536, ""),
    ],
)
def test_bounds_of_cpus_and_memory(host: Host, cpus: int, mib: int, complaint: str) -> None:
    host.command("nproc", f"echo {cpus}")
    host.write("/proc/meminfo", f"MemTotal: {mib * 1024} kB\n")
    done = host.source("prepare.sh", "check_resources")
    assert done.returncode == (1 if complaint else 0)
    assert complaint in done.stderr
    assert ("use a larger host" in done.stderr) == bool(complaint)


# --- prepare.sh: files -------------------------------------------------------------------------


def test_files_arrive_as_they_were_rendered(tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    (tmp_path / "site").mkdir()
    _, files = rendered(tmp_path / "site", base=dev_stack())
    sent = {f"{host.root}{path}": text for path, text in files["w1"].items()}
    body = "mkdir -p $STATE; : >$STATE/files.new; write_files; forget_old_files"
    host.source("prepare.sh", body, stdin=envelope(sent))
    for path, text in sent.items():
        assert Path(path).read_text() == f"{text.rstrip()}\n"
    assert host.read("/var/lib/own-kubernetes/files").split() == list(sent)


@pytest.mark.parametrize(
    ("system", "uri", "suite"),
    [
        ("debian-12", "linux/debian", "bookworm"),
        ("debian-13", "linux/debian", "trixie"),
        ("ubuntu-22.04", "linux/ubuntu", "jammy"),
        ("ubuntu-24.04", "linux/ubuntu", "noble"),
    ],
)
def test_package_sources_of_each_system(tmp_path: Path, system: str, uri: str, suite: str) -> None:
    host = Host(tmp_path / "host", system)
    (tmp_path / "site").mkdir()
    _, files = rendered(tmp_path / "site")
    path = "/etc/apt/sources.list.d/own-kubernetes.sources"
    sent = envelope({f"{host.root}{path}": files["w1"][path]})
    host.source("prepare.sh", "mkdir -p $STATE; write_files", stdin=sent)
    text = host.read(path)
    assert f"URIs: https://download.docker.com/{uri}\n" in text
    assert f"Suites: {suite}\n" in text
    assert "@" not in text


def test_unchanged_files_are_not_written_again_and_unwanted_ones_go(host: Host) -> None:
    body = "mkdir -p $STATE; : >$STATE/files.new; write_files; forget_old_files"
    first = {f"{host.root}/etc/{name}": name for name in ("keep", "edit", "drop")}
    host.source("prepare.sh", body, stdin=envelope(first))
    stays = host.path("/etc/keep").stat()
    second = {f"{host.root}/etc/keep": "keep", f"{host.root}/etc/edit": "edited"}
    host.source("prepare.sh", body, stdin=envelope(second))
    assert host.path("/etc/keep").stat().st_ino == stays.st_ino
    assert host.read("/etc/edit") == "edited\n"
    assert not host.path("/etc/drop").exists()


FSTAB = """\
# /etc/fstab: static file system information.
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
/swapfile\tnone\tswap\tsw\t0\t0
# UUID=3 none swap sw 0 0
/dev/vdb /mnt/swap ext4 defaults 0 2
"""


def test_swap_goes_for_good_and_comes_back(host: Host) -> None:
    host.write("/etc/fstab", FSTAB)
    for _ in range(2):  # again: nothing is commented out twice
        host.source("prepare.sh", "turn_swap_off")
        assert host.read("/etc/fstab").splitlines() == [
            "# /etc/fstab: static file system information.",
            "UUID=1 / ext4 errors=remount-ro 0 1",
            "# own-kubernetes: UUID=2 none swap sw 0 0",
            "# own-kubernetes: /swapfile\tnone\tswap\tsw\t0\t0",
            "# UUID=3 none swap sw 0 0",
            "/dev/vdb /mnt/swap ext4 defaults 0 2",
        ]
    assert "swapoff --all" in host.calls
    host.write("/var/lib/own-kubernetes/found/complete", "")
    host.write("/var/lib/own-kubernetes/found/swaps", "/swapfile\n")
    host.write("/var/lib/own-kubernetes/found/packages", "bash\n")
    host.write("/var/lib/own-kubernetes/files", "")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    host.path("/etc/systemd/system").mkdir(parents=True)
    assert host.run("restore.sh").returncode == 0
    assert host.read("/etc/fstab") == FSTAB
    assert "swapon /swapfile" in host.calls


# --- prepare.sh: packages ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "found", "is_installed"),
    [
        ("kubeadm=1.36.4-*", "installed 1.36.4-1.1", True),
        ("kubeadm=1.36.4-*", "config-files 1.36.4-1.1", False),
        ("kubeadm=1.36.4-*", "unpacked 1.36.4-1.1", False),
        ("kubeadm=1.36.4-*", "installed 1.36.40-1.1", False),
        ("kubeadm=1.36.4-*", "installed 1.36.3-1.1", False),
        ("kubeadm=1.36.4-*", "", False),
        ("socat", "installed 1.7.4.4-2", True),
        ("socat", "not-installed ", False),
        ("socat", "", False),
    ],
)
def test_a_package_counts_as_installed_in_exactly_the_wanted_version(
    host: Host, package: str, found: str, is_installed: bool
) -> None:
    host.command("dpkg-query", f"printf '%s' '{found}'; [[ -n '{found}' ]]")
    done = host.source("prepare.sh", f"installed '{package}' && echo yes || echo no")
    assert done.stdout == ("yes\n" if is_installed else "no\n")


VERSIONS = """\
case ${@: -1} in
  containerd.io) printf 'installed 2.2.1-1' ;;
  cri-tools) printf 'installed 1.36.0-1.1' ;;
  kube*) printf 'installed 1.36.4-1.1' ;;
  *) printf 'installed 1.2.3' ;;
esac"""

APT_GET = """\
[[ $* != *' install '* ]] || printf '[%s]' "$@" >>/etc/installs
[[ $* != *' install '* ]] || echo >>/etc/installs"""
"""Notes each word by itself."""


def installs(host: Host) -> list[list[str]]:
    """The packages of each call of apt-get, and whether they are fetched only."""
    if not host.path("/etc/installs").exists():
        return []
    calls = [line[1:-1].split("][") for line in host.read("/etc/installs").splitlines()]
    kept = [[w for w in words if w == "--download-only" or "-" not in w[:1]] for words in calls]
    return [[w for w in words if "::" not in w and w != "install"] for words in kept]


KUBERNETES = [f"{name}=1.36.4-*" for name in ("kubeadm", "kubelet", "kubectl")]


@pytest.mark.parametrize("stage", ["init", "join", "member"])
@pytest.mark.parametrize("found", ["1.37.2", "1.36.3", "1.35.0"])
def test_a_nodes_version_is_not_changed_in_passing(host: Host, found: str, stage: str) -> None:
    """Packages of the wanted one are fetched, for upgrade.sh; everything else is installed as ever."""
    host.command("dpkg-query", VERSIONS.replace("1.36.4", found))
    host.command("apt-get", APT_GET)
    host.write("/var/lib/own-kubernetes/stage", f"{stage}\n")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    done = host.source("prepare.sh", "install_packages")
    assert done.returncode == 0, done.stderr
    assert installs(host) == [["--download-only", *KUBERNETES]]


def test_what_else_a_node_of_another_version_lacks_is_installed(host: Host) -> None:
    host.command(
        "dpkg-query", f"[[ ${{@: -1}} != socat ]] || exit 1\n{VERSIONS.replace('1.36.4', '1.36.3')}"
    )
    host.command("apt-get", APT_GET)
    host.write("/var/lib/own-kubernetes/stage", "member\n")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    done = host.source("prepare.sh", "install_packages")
    assert done.returncode == 0, done.stderr
    fetched, installed = installs(host)
    assert fetched == ["--download-only", *KUBERNETES]
    assert {"socat", "containerd.io=2.2.1-*"} <= set(installed)
    assert not [word for word in installed if word.startswith("kube") or not word]


def test_a_host_that_is_no_node_gets_the_wanted_version_whatever_it_had(host: Host) -> None:
    host.command("dpkg-query", VERSIONS.replace("1.36.4", "1.37.2"))
    host.command("apt-get", APT_GET)
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    assert host.source("prepare.sh", "install_packages").returncode == 0
    (installed,) = installs(host)
    assert set(KUBERNETES) <= set(installed)
    assert "--download-only" not in installed


def test_a_shared_address_takes_what_keeps_it(host: Host) -> None:
    host.command("dpkg-query", "exit 1")
    host.command("apt-get", APT_GET)
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    for address in (False, True):
        if address:
            host.write("/etc/own-kubernetes/virtual-address", "10.0.0.5\n")
        assert host.source("prepare.sh", "install_packages").returncode == 0
        assert ({"keepalived", "curl"} <= set(installs(host)[-1])) == address


def test_packages_that_cant_be_installed_are_named(host: Host) -> None:
    host.command("dpkg-query", "exit 1")
    host.command("apt-get", "[[ $* != *' install '* ]]")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    done = host.source("prepare.sh", f"{FAST}install_packages")
    assert done.returncode == 1
    assert "packages not installed: containerd.io=2.2.1-* cri-tools" in done.stderr
    assert "containerd or docker.io has to be removed first" in done.stderr


def test_packages_of_exact_versions_are_installed_at_once_and_held(host: Host) -> None:
    host.command("dpkg-query", "exit 1")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    done = host.source("prepare.sh", "install_packages")
    assert done.returncode == 0, done.stderr
    installs = [call for call in host.calls if call.startswith("apt-get") and " install " in call]
    assert len(installs) == 1
    words = installs[0].split()
    for package in ("kubeadm", "kubelet", "kubectl"):
        assert f"{package}=1.36.4-*" in words
    assert "containerd.io=2.2.1-*" in words
    assert "DPkg::Lock::Timeout=300" in words
    assert "apt-mark hold containerd.io kubeadm kubelet kubectl" in host.calls
    assert not [call for call in host.calls if call.startswith("curl")], "a mirror needs no key"


def test_installed_packages_are_left_alone(host: Host) -> None:
    host.command("dpkg-query", VERSIONS)
    assert host.source("prepare.sh", "install_packages").returncode == 0
    assert not [call for call in host.calls if call.startswith("apt-get")]


@pytest.mark.parametrize("missing", ["socat", "kubeadm", "containerd.io"])
def test_one_missing_package_is_enough_to_install(host: Host, missing: str) -> None:
    host.command("dpkg-query", f"[[ ${{@: -1}} != {missing} ]] || exit 1\n{VERSIONS}")
    host.write("/etc/own-kubernetes/apt-keys", "\n")
    assert host.source("prepare.sh", "install_packages").returncode == 0
    assert [call for call in host.calls if call.startswith("apt-get") and " install " in call]


KEY_LINE = "/etc/apt/keyrings/k.asc https://example.com/key " + "A" * 40


@pytest.mark.parametrize(("found", "taken"), [("A" * 40, True), ("B" * 40, False)])
def test_a_signing_key_is_taken_by_fingerprint_only(host: Host, found: str, taken: bool) -> None:
    host.write("/etc/own-kubernetes/apt-keys", f"{host.root}{KEY_LINE}\n")
    host.path("/etc/apt/keyrings").mkdir(parents=True)
    host.write("/etc/ssl/certs/ca-certificates.crt", "")
    host.command("curl", 'while [[ $1 != --output ]]; do shift; done; echo key >"$2"')
    host.command("gpg", f"printf 'pub:::\\nfpr:::::::::{found}:\\nsub:::\\nfpr:::::::::C:\\n'")
    done = host.source("prepare.sh", "fetch_keys")
    assert host.path("/etc/apt/keyrings/k.asc").exists() == taken
    assert (done.returncode == 0) == taken
    if not taken:
        assert f"signing key {found} at https://example.com/key" in done.stderr
        assert f"expected: key {'A' * 40}" in done.stderr


def test_an_unreachable_key_names_its_url(host: Host) -> None:
    host.write("/etc/own-kubernetes/apt-keys", f"{host.root}{KEY_LINE}\n")
    host.write("/etc/ssl/certs/ca-certificates.crt", "")
    host.command("curl", "exit 7")
    done = host.source("prepare.sh", f"{FAST}fetch_keys")
    assert done.returncode == 1
    assert "no answer from https://example.com/key" in done.stderr
    assert "mirror.apt" in done.stderr


# --- prepare.sh: containerd and images ---------------------------------------------------------


def test_containerd_gets_kubeadms_pause_image_and_restarts_on_change_only(host: Host) -> None:
    host.command(
        "kubeadm", "printf 'registry.k8s.io/kube-proxy:v1.36.4\\nregistry.k8s.io/pause:3.10.1\\n'"
    )
    host.write("/etc/own-kubernetes/containerd.toml", 'sandbox = "@PAUSE@"\n')
    host.source("prepare.sh", "set_up_containerd")
    assert host.read("/etc/containerd/config.toml") == 'sandbox = "registry.k8s.io/pause:3.10.1"\n'
    assert host.read("/etc/crictl.yaml").splitlines() == [
        "runtime-endpoint: unix:///run/containerd/containerd.sock", "timeout: 60",
    ]  # fmt: skip
    assert "systemctl restart containerd" in host.calls
    host.forget_calls()
    host.source("prepare.sh", "set_up_containerd")
    assert "systemctl restart containerd" not in host.calls


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        ("worker", {"r/kube-proxy:1", "r/pause:3", "hello:1"}),
        (
            "control-plane",
            {"r/kube-apiserver:1", "r/kube-proxy:1", "r/pause:3", "r/etcd:3", "hello:1"},
        ),
    ],
)
def test_images_of_the_role_are_fetched(host: Host, role: str, wanted: set[str]) -> None:
    host.command("kubeadm", "printf '%s\\n' r/kube-apiserver:1 r/kube-proxy:1 r/pause:3 r/etcd:3")
    host.command("systemctl", "[[ $1 != is-active ]]")
    host.write("/etc/own-kubernetes/images", "hello:1\n")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    done = host.source("prepare.sh", "pull_images", env={"ROLE": role})
    assert done.returncode == 0, done.stderr
    assert set(host.read("/run/own-kubernetes/images").split()) == wanted
    assert any("--max-procs=4" in call and "crictl pull" in call for call in host.calls)


def test_no_image_is_fetched_where_that_is_off(host: Host) -> None:
    assert host.source("prepare.sh", "pull_images").returncode == 0
    assert not [call for call in host.calls if call.startswith("systemd-run")]


# --- prepare.sh: keepalived --------------------------------------------------------------------


KEEPALIVED = {
    "/etc/own-kubernetes/virtual-address": "10.0.0.5",
    "/etc/own-kubernetes/keepalived.conf": "interface @DEVICE@\nunicast_src_ip 10.0.0.11",
}


@pytest.fixture
def sharing(host: Host) -> Host:
    """A control plane's host that shares an address."""
    for path, text in KEEPALIVED.items():
        host.write(path, f"{text}\n")
    host.on_network("10.0.0.11")
    return host


def test_keepalived_gets_the_interface_of_the_nodes_own_address(sharing: Host) -> None:
    done = sharing.source("prepare.sh", "set_up_keepalived")
    assert done.returncode == 0, done.stderr
    config = sharing.read("/etc/keepalived/keepalived.conf")
    assert config == "interface ens10\nunicast_src_ip 10.0.0.11\n"


def test_a_running_keepalived_is_told_of_a_change_only(sharing: Host) -> None:
    sharing.source("prepare.sh", "set_up_keepalived")
    sharing.source("prepare.sh", "set_up_keepalived")
    assert sharing.called("systemctl").count("reload keepalived") == 1
    sharing.write("/etc/own-kubernetes/keepalived.conf", "interface @DEVICE@\n")
    sharing.source("prepare.sh", "set_up_keepalived")
    assert sharing.called("systemctl").count("reload keepalived") == 2


def test_keepalived_is_not_started_before_the_host_is_a_control_plane(sharing: Host) -> None:
    sharing.command("systemctl", "[[ $1 != is-active ]]")
    done = sharing.source("prepare.sh", "set_up_keepalived")
    assert done.returncode == 0, done.stderr
    assert sharing.called("systemctl") == ["is-active --quiet keepalived"]


# --- trust.sh ----------------------------------------------------------------------------------

MAKE_KEY = """\
file=${@: -1}
count=$(($(cat /etc/made 2>/dev/null || echo 0) + 1))
echo "$count" >/etc/made
echo "PRIVATE $count" >"$file"
echo "ssh-ed25519 AAAA$count root@pretended" >"$file.pub"
"""
FIRST_BOOT_FAILED = """\
case "$*" in
  *--wait*) echo 'status: error'; exit 1 ;;
  *--long*) echo 'errors: write_files went wrong'; exit 1 ;;
esac"""


@pytest.fixture
def server(host: Host) -> Host:
    """A new server after its first boot."""
    host.path("/etc/ssh").mkdir()
    host.command("ssh-keygen", MAKE_KEY)
    host.command("cloud-init", "echo 'status: done'")
    return host


def test_trust_makes_a_key_once_and_prints_its_public_half_each_time(server: Host) -> None:
    for _ in range(3):
        done = server.run("trust.sh")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "ssh-ed25519 AAAA1\n"
    assert server.read("/etc/ssh/ssh_host_ed25519_key") == "PRIVATE 1\n"
    assert [call for call in server.calls if call.startswith("ssh-keygen")] == [
        f"ssh-keygen -q -t ed25519 -N  -C root@pretended -f {server.root}"
        "/etc/ssh/ssh_host_ed25519_key"
    ]
    assert server.calls.count("systemctl reload ssh") == 3, "also when the first one was cut off"


def test_trust_takes_no_key_that_was_there_before(server: Host) -> None:
    """One of the image, or of a try that was cut off before anybody could read its answer."""
    for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"):
        server.write(f"/etc/ssh/{name}", "of the image")
    assert server.run("trust.sh").stdout == "ssh-ed25519 AAAA1\n"
    assert server.read("/etc/ssh/ssh_host_ed25519_key") == "PRIVATE 1\n"


def test_trust_leaves_the_first_key_for_its_own_rerun(server: Host) -> None:
    first_booted(server)
    server.run("trust.sh")
    assert all(server.path(path).exists() for path in FIRST_KEYS)


def test_trust_waits_for_the_first_boot_before_it_touches_anything(server: Host) -> None:
    server.run("trust.sh")
    calls = [call.split()[0] for call in server.calls]
    assert calls.index("cloud-init") < calls.index("ssh-keygen") < calls.index("systemctl")
    assert "cloud-init status --wait" in server.calls


def test_a_first_boot_that_went_wrong_is_told_and_is_no_end(server: Host) -> None:
    server.command("cloud-init", FIRST_BOOT_FAILED)
    server.write("/var/log/cloud-init-output.log", "noise\n" * 50 + "E: no space left\n")
    done = server.run("trust.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ssh-ed25519 AAAA1\n"
    assert "cloud-init on pretended says:\nerrors: write_files went wrong\n" in done.stderr
    assert "E: no space left\n" in done.stderr
    assert done.stderr.count("noise") < 20


def test_a_first_boot_that_left_no_log_is_no_end_either(server: Host) -> None:
    server.command("cloud-init", FIRST_BOOT_FAILED)
    done = server.run("trust.sh")
    assert (done.returncode, done.stdout) == (0, "ssh-ed25519 AAAA1\n"), done.stderr


def test_a_first_boot_that_never_ends_is_bounded(server: Host) -> None:
    server.command("timeout", "exit 124")
    server.command("cloud-init", "echo 'status: running'")
    done = server.run("trust.sh")
    assert done.stdout == "ssh-ed25519 AAAA1\n"
    assert "timeout 900 cloud-init status --wait" in server.calls
    assert "status: running" in done.stderr


def test_trust_fails_where_sshd_would_not_show_the_key(server: Host) -> None:
    server.command("systemctl", "exit 1")
    done = server.run("trust.sh")
    assert (done.returncode, done.stdout) == (1, ""), "a key that nobody shows is not to be checked"


# --- prepare.sh and restore.sh as a whole ------------------------------------------------------


FIREWALL = {"/etc/own-kubernetes/firewall.nft": "table inet own_kubernetes"}


def prepared(host: Host, role: str = "worker", more: Mapping[str, str] | None = None) -> None:
    host.command("kubeadm", "echo registry.k8s.io/pause:3.10.1")
    host.command("dpkg-query", "printf 'bash\\ncoreutils\\n'")
    host.command("systemctl", "[[ $1 != is-active ]]")
    host.command("sysctl", "[[ $1 == --* ]] || echo 'net.ipv4.ip_forward = 0'")
    host.on_network("10.0.0.11")
    host.write("/etc/sysctl.d/90-own-kubernetes.conf", "")
    host.path("/etc/systemd/system").mkdir(parents=True, exist_ok=True)
    host.path("/run/own-kubernetes").mkdir(parents=True, exist_ok=True)
    wanted = {**PREPARED_FILES, **(more or {})}
    files = {f"{host.root}{path}": text for path, text in wanted.items()}
    done = host.run("prepare.sh", stdin=envelope(files), env={"ROLE": role})
    assert done.returncode == 0, done.stderr


def test_prepare_may_run_again_and_notes_how_the_host_was_found_once(host: Host) -> None:
    prepared(host)
    found = host.path("/var/lib/own-kubernetes/found")
    assert (found / "packages").read_text().split() == ["bash", "coreutils"]
    assert (found / "sysctls").read_text() == "net.ipv4.ip_forward = 0\n"
    host.write("/etc/fstab", "changed since\n")
    prepared(host)
    assert (found / "fstab").read_text() == "/dev/vda1 / ext4 defaults 0 1\n"


def test_a_host_with_packet_filter_rules_gets_the_firewall(host: Host) -> None:
    prepared(host)
    assert not [call for call in host.calls if "firewall" in call]
    prepared(host, "control-plane", FIREWALL)
    assert "systemctl restart own-kubernetes-firewall.service" in host.calls
    assert "firewall.nft" in host.read("/etc/systemd/system/own-kubernetes-firewall.service")


UNITS = (
    *("backup.service", "backup.timer", "firewall.service", "floating.service"),
    *("nodes.service", "nodes.timer"),
)


def test_every_unit_of_ours_is_one_that_restore_knows() -> None:
    assert {path.name for path in SCRIPTS.iterdir() if path.suffix != ".sh"} == {
        f"own-kubernetes-{name}" for name in UNITS
    }


FIRST_KEYS = ("/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ecdsa_key.pub")
USER_DATA = ("/var/lib/cloud/instance/user-data.txt", "/var/lib/cloud/instance/user-data.txt.i")


def first_booted(host: Host) -> None:
    """The host is a new server after its first boot."""
    for path in (*FIRST_KEYS, *USER_DATA, "/etc/ssh/ssh_host_ed25519_key"):
        host.write(path, "key\n")


def test_the_first_key_stays_until_the_host_was_given_another(host: Host) -> None:
    first_booted(host)
    prepared(host)  # at the first boot, before anybody came in
    assert all(host.path(path).exists() for path in (*FIRST_KEYS, *USER_DATA))
    assert "systemctl reload ssh" not in host.calls


def test_the_first_key_goes_once_the_host_was_reached_by_another(host: Host) -> None:
    first_booted(host)
    host.write("/var/lib/own-kubernetes/trusted", "")
    prepared(host)
    assert not [path for path in (*FIRST_KEYS, *USER_DATA) if host.path(path).exists()]
    assert host.path("/etc/ssh/ssh_host_ed25519_key").exists()
    assert host.calls.count("systemctl reload ssh") == 1
    prepared(host)
    assert host.calls.count("systemctl reload ssh") == 1, "there is nothing left to forget"


def test_an_existing_hosts_keys_are_its_own(host: Host) -> None:
    first_booted(host)
    prepared(host)
    prepared(host)
    assert all(host.path(path).exists() for path in (*FIRST_KEYS, *USER_DATA))


def test_restore_takes_away_what_prepare_brought(host: Host) -> None:
    prepared(host, "control-plane", FIREWALL)
    key = host.write("/etc/apt/keyrings/k.asc", "key")
    host.write("/etc/own-kubernetes/apt-keys", f"{key} https://example.com/key FINGERPRINT\n")
    host.command("dpkg-query", "printf 'bash\\ncoreutils\\nkubeadm\\nsocat\\n'")
    host.forget_calls()
    done = host.run("restore.sh")
    assert done.returncode == 0, done.stderr
    purge = next(call for call in host.calls if " purge " in call)
    assert purge.split("purge ")[1].split() == ["kubeadm", "socat"]
    assert not key.exists()
    for path in (
        *PREPARED_FILES,
        "/etc/own-kubernetes",
        "/var/lib/own-kubernetes",
        "/usr/local/lib/own-kubernetes",
        "/etc/systemd/system/own-kubernetes-firewall.service",
        "/etc/crictl.yaml",
        "/etc/containerd",
    ):
        assert not host.path(path).exists(), path


def test_restore_takes_away_every_service_of_ours(host: Host) -> None:
    """Those too of phases that failed, or that no longer are."""
    prepared(host, "control-plane", {**FIREWALL, **KEEPALIVED})
    assert host.path("/etc/keepalived/keepalived.conf").exists()
    units = [f"own-kubernetes-{name}" for name in UNITS]
    for unit in units:
        host.write(f"/etc/systemd/system/{unit}", "")
    others = host.write("/etc/systemd/system/theirs.service", "")
    host.forget_calls()
    assert host.run("restore.sh").returncode == 0
    assert {f"disable --now --quiet {unit}" for unit in units} <= set(host.called("systemctl"))
    assert list(others.parent.iterdir()) == [others]
    assert not host.path("/etc/keepalived/keepalived.conf").exists()


def test_restore_keeps_packages_where_that_is_wanted(host: Host) -> None:
    prepared(host)
    host.command("dpkg-query", "printf 'bash\\ncoreutils\\nkubeadm\\n'")
    assert host.run("restore.sh", env={"REMOVE_PACKAGES": "false"}).returncode == 0
    assert not [call for call in host.calls if " purge " in call]


def test_restore_of_a_host_that_was_never_prepared_does_nothing(host: Host) -> None:
    done = host.run("restore.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert host.calls == []


@pytest.mark.parametrize(
    "missing", ["/etc/own-kubernetes/apt-keys", "/var/lib/own-kubernetes/files"]
)
def test_restore_goes_on_after_it_or_prepare_was_cut_off(host: Host, missing: str) -> None:
    prepared(host)
    host.path(missing).unlink()
    done = host.run("restore.sh")
    assert done.returncode == 0, done.stderr
    assert not host.path("/var/lib/own-kubernetes").exists()


def test_restore_takes_away_files_of_a_prepare_that_was_cut_off(host: Host) -> None:
    prepared(host)
    state = host.path("/var/lib/own-kubernetes")
    (state / "files").rename(state / "files.new")  # the name while files are being written
    assert host.run("restore.sh").returncode == 0
    assert not host.path("/etc/modules-load.d/own-kubernetes.conf").exists()


# --- access.sh ---------------------------------------------------------------------------------


def test_access_prints_the_kubeconfig_as_json(host: Host) -> None:
    host.write("/etc/kubernetes/admin.conf", "apiVersion: v1\n" + "x" * 5000)
    done = host.run("access.sh")
    values = {key: base64.b64decode(text).decode() for key, text in json.loads(done.stdout).items()}
    assert values == {"kubeconfig": "apiVersion: v1\n" + "x" * 5000}
    assert done.stderr == ""


# --- leave.sh, run.sh --------------------------------------------------------------------------


def test_leave_does_nothing_on_a_host_that_is_in_no_cluster_of_ours(host: Host) -> None:
    host.write("/etc/kubernetes/kubelet.conf", "theirs")
    assert host.run("leave.sh").returncode == 0
    assert host.read("/etc/kubernetes/kubelet.conf") == "theirs"
    assert host.calls == []


@pytest.fixture
def member(host: Host) -> Host:
    """A node of our cluster."""
    for path in ("stage", "cluster", "nodes", "cordoned", "upgrading", "settings", "renewed"):
        host.write(f"/var/lib/own-kubernetes/{path}", "member\n")
    host.write("/etc/kubernetes/kubelet.conf", "")
    host.write("/etc/cni/net.d/10-flannel.conflist", "{}")
    host.write("/etc/own-kubernetes/login-user", "root\n")
    host.on_network("10.0.0.5")
    return host


def test_leave_takes_the_host_out_and_may_run_again(member: Host) -> None:
    for _ in range(2):
        done = member.run("leave.sh")
        assert done.returncode == 0, done.stderr
    assert not member.path("/etc/kubernetes").exists()
    assert list(member.path("/var/lib/own-kubernetes").iterdir()) == []
    assert list(member.path("/etc/cni/net.d").iterdir()) == []
    assert [call.split()[0] for call in member.called("kubeadm")] == ["reset"]
    assert "ip link delete flannel.1" in member.calls


def test_leave_goes_on_where_kubeadm_cant_reset(member: Host) -> None:
    """The cluster may be dead, and its etcd not let go of the member."""
    member.command("kubeadm", "exit 1")
    done = member.run("leave.sh")
    assert done.returncode == 0, done.stderr
    assert "kubeadm reset reported an error; going on" in done.stderr
    assert not member.path("/var/lib/own-kubernetes/stage").exists()


def test_leave_gives_a_shared_address_to_another_before_the_reset(member: Host) -> None:
    member.write("/etc/own-kubernetes/virtual-address", "10.0.0.5\n")
    member.run("leave.sh")
    keepalived = member.calls.index("systemctl disable --quiet --now keepalived")
    address = member.calls.index("ip address delete 10.0.0.5/32 dev ens10")
    reset = next(n for n, call in enumerate(member.calls) if call.startswith("kubeadm reset"))
    assert keepalived < address < reset


def test_leave_without_a_shared_address_touches_no_keepalived(member: Host) -> None:
    member.run("leave.sh")
    assert not [call for call in member.calls if "keepalived" in call or "address delete" in call]


def test_leave_ends_the_look_at_the_nodes_and_lets_no_host_in_any_more(member: Host) -> None:
    keys = member.write(
        "/home/.ssh/authorized_keys",
        'ssh-ed25519 AAAA the-admin\nrestrict,command="x" ssh-ed25519 BBBB own-kubernetes-door\n',
    )
    member.run("leave.sh")
    assert keys.read_text() == "ssh-ed25519 AAAA the-admin\n"
    assert "systemctl disable --quiet --now own-kubernetes-nodes.timer" in member.calls


def test_leave_removes_kubernetes_rules_and_keeps_all_others(member: Host) -> None:
    member.write(
        "/etc/rules",
        "*filter\n:INPUT ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j KUBE-FIREWALL\n"
        "-A FORWARD -j FLANNEL-FWD\nCOMMIT\n",
    )
    member.command("iptables-save", "cat /etc/rules")
    member.command("iptables-restore", "cat >/etc/restored")
    assert member.run("leave.sh").returncode == 0
    assert member.read("/etc/restored").splitlines() == [
        "*filter", ":INPUT ACCEPT", "-A INPUT -p tcp --dport 22 -j ACCEPT", "COMMIT",
    ]  # fmt: skip


def test_run_refuses_a_host_without_systemd(host: Host) -> None:
    copy = host.scripts / "run.sh"
    copy.write_text(copy.read_text().replace("((EUID == 0))", "((0 == 0))"))
    done = host.run("run.sh", "prepare")
    assert done.returncode == 1
    assert "systemd is not running here" in done.stderr


def test_run_refuses_to_go_on_without_root(host: Host) -> None:
    copy = host.scripts / "run.sh"
    copy.write_text(copy.read_text().replace("((EUID == 0))", "((1 == 0))"))
    done = host.run("run.sh", "prepare")
    assert done.returncode == 1
    assert "password-less sudo" in done.stderr


def test_run_takes_new_scripts_and_no_script_is_missing_meanwhile(host: Host) -> None:
    """Other runs, timers and logins use them at any moment."""
    copied = shutil.copytree(host.scripts, host.path("/root/.own-kubernetes/scripts"))
    entry = copied / "run.sh"
    entry.write_text(entry.read_text().replace("((EUID == 0))", "((0 == 0))"))
    (host.scripts / "updates.sh").write_text("old")
    (host.scripts / "of-an-older-version.sh").write_text("old")
    host.path("/run/systemd/system").mkdir(parents=True)
    for changer in ("mv", "rm"):
        there = "[[ -s /usr/local/lib/own-kubernetes/updates.sh ]] || echo missing >>/etc/missing"
        host.command(changer, f'{there}\n/bin/{changer} "$@"\n{there}')
    host.command("systemd-run", "[[ -x ${!#} ]]")
    done = host.run(str(entry), "updates")
    assert (done.returncode, done.stderr) == (0, "")
    installed = {script.name: script.read_text() for script in host.scripts.iterdir()}
    assert installed == {script.name: script.read_text() for script in copied.iterdir()}
    assert not host.path("/etc/missing").exists()


def test_every_phase_is_a_script_of_its_own() -> None:
    phases = {
        *("trust", "prepare", "control-plane", "join", "upgrade", "access", "webhook", "floating"),
        *("remove", "leave", "restore"),
    }
    assert phases <= {script.stem for script in SCRIPTS.glob("*.sh")}
