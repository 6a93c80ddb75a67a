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
from tests.unit.hosts import OS_RELEASES, SCRIPTS, Host
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
    if script.name == "lib.sh":
        assert not text.startswith("#!"), "sourced, never run"
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


FAST = "sleep() { SECONDS=$((SECONDS + ${1%.*})); [[ $1 != 0.* ]] || SECONDS=$((SECONDS + 1)); }\n"
"""Time passes without being waited for: bash's own clock is put forward."""

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


def sooner(host: Host, script: str, bound: str, instead: str) -> None:
    """Let a script give up sooner than it would on a real host."""
    copy = host.scripts / script
    assert bound in copy.read_text()
    copy.write_text(copy.read_text().replace(bound, instead))


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
    sooner(host, "lib.sh", "wait_for 120", "wait_for 2")
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
    for script in ("prepare.sh", "init.sh", "join.sh"):
        done = host.run(script, stdin="key")
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


@pytest.mark.parametrize("found", ["1.37.2-1.1", "1.35.0-1.1"])
def test_a_members_version_is_not_changed_in_passing(host: Host, found: str) -> None:
    host.command("dpkg-query", f"[[ $* != *Status* ]] || printf 'installed '; printf '%s' {found}")
    host.write("/var/lib/own-kubernetes/stage", "member\n")
    done = host.source("prepare.sh", "install_packages")
    assert done.returncode == 1
    assert f"this node runs Kubernetes {found[:6]}, wanted is 1.36.4" in done.stderr
    assert "set kubernetesVersion back" in done.stderr
    assert not [call for call in host.calls if call.startswith("apt-get")]


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


VERSIONS = """\
case ${@: -1} in
  containerd.io) printf 'installed 2.2.1-1' ;;
  cri-tools) printf 'installed 1.36.0-1.1' ;;
  kube*) printf 'installed 1.36.4-1.1' ;;
  *) printf 'installed 1.2.3' ;;
esac"""


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
    assert "containerd.sock" in host.read("/etc/crictl.yaml")
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


# --- init.sh -----------------------------------------------------------------------------------

KUBEADM_INIT = """\
if [[ $1 == init ]]; then
  cp "${2#--config=}" /etc/seen.yaml
  mkdir -p /etc/kubernetes
  echo >/etc/kubernetes/admin.conf
fi"""


def on_network(host: Host, address: str) -> None:
    """The host has the address that its files name."""
    host.write("/etc/own-kubernetes/internal-address", f"{address}\n")
    host.command("ip", f"echo '2: ens10    inet {address}/32 brd {address} scope global ens10'")


@pytest.fixture
def control_plane(host: Host) -> Host:
    host.write("/etc/own-kubernetes/init.yaml", "a: 1\nkubernetesVersion: v0.0.0\nb: 2\n")
    host.write("/etc/own-kubernetes/login-user", "root\n")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    host.path("/var/lib/own-kubernetes").mkdir(parents=True)
    host.command("kubeadm", KUBEADM_INIT)
    on_network(host, "10.0.0.11")
    host.command("install", '/usr/bin/install -d "${@: -1}"')
    return host


def kubeadm_calls(host: Host) -> list[str]:
    return [call.split()[1] for call in host.calls if call.startswith("kubeadm")]


def test_init_makes_a_cluster_of_the_wanted_version(control_plane: Host) -> None:
    done = control_plane.run("init.sh")
    assert done.returncode == 0, done.stderr
    assert control_plane.read("/etc/seen.yaml") == "a: 1\nkubernetesVersion: v1.36.4\nb: 2\n"
    assert control_plane.read("/var/lib/own-kubernetes/stage") == "member\n"
    assert control_plane.read("/var/lib/own-kubernetes/cluster") == "blue\n"
    assert any("delete secret" in call for call in control_plane.calls), "kubeadm's own token"
    assert "kubeadm init: " in done.stderr


PROVIDER = {"PROVIDER_ID": "hcloud://4711"}


def test_a_control_plane_on_a_server_says_which(control_plane: Host) -> None:
    control_plane.write("/etc/own-kubernetes/init.yaml", "provider-id: '@PROVIDER_ID@'\n")
    assert control_plane.run("init.sh", env=PROVIDER).returncode == 0
    assert control_plane.read("/etc/seen.yaml") == "provider-id: 'hcloud://4711'\n"


def test_init_waits_for_the_address_that_it_advertises(control_plane: Host) -> None:
    control_plane.command("ip", ":")
    control_plane.command("sleep", ":")
    sooner(control_plane, "lib.sh", "wait_for 120", "wait_for 0")
    done = control_plane.run("init.sh")
    assert done.returncode == 1
    assert "no interface has the address 10.0.0.11" in done.stderr
    assert kubeadm_calls(control_plane) == []


def test_init_finds_a_cluster_that_is_there(control_plane: Host) -> None:
    control_plane.run("init.sh")
    control_plane.forget_calls()
    assert control_plane.run("init.sh").returncode == 0
    assert kubeadm_calls(control_plane) == []


def test_init_resets_what_it_left_unfinished_and_does_it_again(control_plane: Host) -> None:
    control_plane.write("/var/lib/own-kubernetes/stage", "init\n")
    control_plane.write("/etc/kubernetes/manifests/kube-apiserver.yaml", "half done")
    done = control_plane.run("init.sh")
    assert kubeadm_calls(control_plane)[0] == "reset", done.stderr


def test_a_failed_init_is_marked_as_unfinished(control_plane: Host) -> None:
    control_plane.command("kubeadm", "exit 1")
    assert control_plane.run("init.sh").returncode != 0
    assert control_plane.read("/var/lib/own-kubernetes/stage") == "init\n"


def test_init_refuses_a_host_of_another_cluster_of_ours(control_plane: Host) -> None:
    control_plane.run("init.sh")
    control_plane.forget_calls()
    done = control_plane.run("init.sh", env={"CLUSTER": "green"})
    assert done.returncode == 1
    assert "belongs to our cluster 'blue'" in done.stderr
    assert "expected: a host of cluster 'green'" in done.stderr
    assert kubeadm_calls(control_plane) == []


@pytest.mark.parametrize("schedulable", ["true", "false"])
def test_load_balancers_may_use_a_control_plane_for_workloads(
    control_plane: Host, schedulable: str
) -> None:
    control_plane.run("init.sh", env={"SCHEDULABLE": schedulable})
    label = "label node w1 node.kubernetes.io/exclude-from-external-load-balancers-"
    assert any(label in call for call in control_plane.calls) == (schedulable == "true")


# --- admit.sh, access.sh, mint.sh --------------------------------------------------------------


def test_a_joining_host_may_run_mint_and_nothing_else(control_plane: Host) -> None:
    keys = control_plane.write("/home/.ssh/authorized_keys", "ssh-ed25519 AAAA the-admin\n")
    for _ in range(2):
        done = control_plane.run("admit.sh")
        assert done.returncode == 0, done.stderr
    admin, joiner = keys.read_text().splitlines()
    assert admin == "ssh-ed25519 AAAA the-admin"
    mint = control_plane.scripts / "mint.sh"
    assert joiner.startswith(f'restrict,command="{mint}" ssh-ed25519 ')
    assert joiner.endswith(" own-kubernetes-join")
    assert keys.stat().st_mode & 0o777 == 0o600
    memberlist = control_plane.path("/var/lib/own-kubernetes/memberlist-key")
    assert memberlist.stat().st_mode & 0o077 == 0
    assert memberlist.read_text()


def test_a_login_user_other_than_root_runs_mint_with_sudo(control_plane: Host) -> None:
    control_plane.write("/etc/own-kubernetes/login-user", "root2\n")
    control_plane.command("id", "echo root")
    control_plane.run("admit.sh")
    text = control_plane.read("/home/.ssh/authorized_keys")
    mint = f'sudo -n {control_plane.scripts}/mint.sh \\"$SSH_ORIGINAL_COMMAND\\"'
    assert text.startswith(f'restrict,command="{mint}" ')


def test_access_prints_the_secrets_as_json(host: Host) -> None:
    host.write("/etc/kubernetes/admin.conf", "apiVersion: v1\n" + "x" * 5000)
    host.write("/var/lib/own-kubernetes/join-key", "the key\n")
    host.write("/var/lib/own-kubernetes/memberlist-key", "the other key")
    done = host.run("access.sh")
    values = {key: base64.b64decode(text).decode() for key, text in json.loads(done.stdout).items()}
    assert values == {
        "kubeconfig": "apiVersion: v1\n" + "x" * 5000,
        "joinKey": "the key\n",
        "memberlistKey": "the other key",
    }
    assert done.stderr == ""


@pytest.mark.parametrize(
    "request_",
    ["", "bash", "mint", "mint ", "mint w1; id", "mint w1 w2", "mint $(id)", "mint -w1", "mint W1",
     "mint w1\nid", "mint --all", "forget", "forget abc", "forget ../../x", "forget $(id)",
     "forget abcdef abcdef", "forget ABCDEF"],
)  # fmt: skip
def test_mint_refuses_all_other_requests(host: Host, request_: str) -> None:
    done = host.run("mint.sh", env={"SSH_ORIGINAL_COMMAND": request_})
    assert done.returncode == 1
    assert "this key is for joining hosts only" in done.stderr
    assert not [call for call in host.calls if call.startswith(("kube", "openssl"))]


@pytest.mark.parametrize(
    ("description", "deleted"), [("own-kubernetes: one join", True), ("x", False)]
)
def test_mint_forgets_its_own_tokens_only(host: Host, description: str, deleted: bool) -> None:
    encoded = base64.b64encode(description.encode()).decode()
    host.command("kubectl", f"[[ $* != *' get '* ]] || echo {encoded}")
    done = host.run("mint.sh", env={"SSH_ORIGINAL_COMMAND": "forget abcdef"})
    assert done.returncode == 0, done.stderr
    deletions = [call for call in host.calls if "delete secret bootstrap-token-abcdef" in call]
    assert bool(deletions) == deleted


KUBECTL = """\
case $* in
  *podCIDR*) echo 10.244.0.0/24 ;; # the controllers have given a node its pods
  'get node w1 '*) cat /etc/node-address 2>/dev/null || true ;;
esac"""
"""The answers of a cluster; Node w1 is there when it has an address."""


def test_mint_prints_a_short_lived_token_the_ca_and_the_server(host: Host) -> None:
    host.command("kubeadm", f"echo {TOKEN}")
    host.write("/etc/kubernetes/pki/ca.crt", "CERTIFICATE\n" * 50)
    host.write("/etc/kubernetes/admin.conf", "    server: https://10.0.0.11:6443\n  name: x\n")
    host.command("kubectl", KUBECTL)
    done = host.run("mint.sh", env={"SSH_ORIGINAL_COMMAND": "mint w1"})
    token, ca, server = done.stdout.split()
    assert (token, server) == (TOKEN, "https://10.0.0.11:6443")
    assert base64.b64decode(ca).decode() == "CERTIFICATE\n" * 50
    assert any(call.startswith("kubeadm token create --ttl=15m ") for call in host.calls)


def minted(host: Host, address: str, probe: str) -> tuple[str, list[str]]:
    """The token that a joining w1 gets, and the Nodes that are deleted for it."""
    host.command("kubeadm", f"echo {TOKEN}")
    host.command("kubectl", KUBECTL)
    host.command("timeout", probe)
    host.write("/etc/node-address", address)
    host.write("/etc/kubernetes/pki/ca.crt", "CERTIFICATE\n")
    host.write("/etc/kubernetes/admin.conf", "    server: https://10.0.0.11:6443\n")
    done = host.run("mint.sh", env={"SSH_ORIGINAL_COMMAND": "mint w1"})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0], [call for call in host.calls if "kubectl delete" in call]


def test_mint_takes_away_the_node_of_a_machine_that_is_gone(host: Host) -> None:
    token, deleted = minted(host, "10.0.0.21", "exit 1")
    assert token == TOKEN
    assert deleted == ["kubectl delete node w1 --timeout=60s"]
    kinds = [call.split()[0] for call in host.calls]
    assert kinds.index("kubeadm") > host.calls.index(deleted[0]), "a token is for the free name"


def test_mint_leaves_a_node_alone_whose_kubelet_answers(host: Host) -> None:
    token, deleted = minted(host, "10.0.0.21", "exit 0")
    assert (token, deleted) == (TOKEN, [])
    (probe,) = [call for call in host.calls if call.startswith("timeout")]
    assert probe == "timeout 3 bash -c </dev/tcp/10.0.0.21/10250"


def test_mint_for_a_new_name_deletes_nothing(host: Host) -> None:
    token, deleted = minted(host, "", "exit 1")
    assert (token, deleted) == (TOKEN, [])
    assert not [call for call in host.calls if call.startswith("timeout")]


def test_mint_looks_at_the_real_port(host: Host) -> None:
    """Without a pretended ``timeout``: nobody listens at a port of this machine's own network 127/8."""
    host.command("kubectl", KUBECTL)
    host.write("/etc/node-address", "127.9.8.7")
    host.write("/etc/kubernetes/pki/ca.crt", "CERTIFICATE\n")
    host.write("/etc/kubernetes/admin.conf", "    server: https://10.0.0.11:6443\n")
    host.run("mint.sh", env={"SSH_ORIGINAL_COMMAND": "mint w1"})
    assert [call for call in host.calls if "kubectl delete" in call] == [
        "kubectl delete node w1 --timeout=60s"
    ]


# --- join.sh -----------------------------------------------------------------------------------

TOKEN = "abcdef.0123456789abcdef"
KNOWN_HOST = "[10.0.0.11]:2222 ssh-ed25519 AAAAcp1"
JOIN_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nPRIVATE\n-----END OPENSSH PRIVATE KEY-----\n"
LOGIN = f"{KNOWN_HOST}\n{JOIN_KEY}"
KUBEADM_JOIN = """\
if [[ $1 == join ]]; then
  cat "${2#--config=}" /run/own-kubernetes/discovery.yaml >/etc/seen.yaml
  stat --format=%a "${2#--config=}" /run/own-kubernetes/* >/etc/modes
  mkdir -p /etc/kubernetes
  echo >/etc/kubernetes/kubelet.conf
fi"""


@pytest.fixture
def worker(host: Host) -> Host:
    host.write("/etc/own-kubernetes/join.yaml", "token: '@TOKEN@'\n")
    host.write("/etc/own-kubernetes/discovery.yaml", "server: '@SERVER@'\nca: '@CA@'\n")
    host.write("/etc/own-kubernetes/control-plane", "ssh://root@10.0.0.11:22\n")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    host.command("kubeadm", KUBEADM_JOIN)
    host.command("kubectl", "echo True")
    host.command("ssh", f"[[ $* != *' mint w1' ]] || echo {TOKEN} Q0E= https://10.0.0.11:6443")
    on_network(host, "10.0.0.21")
    return host


def test_join_uses_a_fresh_token_and_gives_it_back(worker: Host) -> None:
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert worker.read("/etc/seen.yaml") == (
        f"token: '{TOKEN}'\nserver: 'https://10.0.0.11:6443'\nca: 'Q0E='\n"
    )
    assert set(worker.read("/etc/modes").split()) == {"600"}
    assert worker.read("/var/lib/own-kubernetes/stage") == "member\n"
    assert any(call.startswith("ssh ") and call.endswith("forget abcdef") for call in worker.calls)


def test_a_worker_on_a_server_says_which(worker: Host) -> None:
    worker.write("/etc/own-kubernetes/join.yaml", "provider-id: '@PROVIDER_ID@'\n")
    assert worker.run("join.sh", stdin=LOGIN, env=PROVIDER).returncode == 0
    assert worker.read("/etc/seen.yaml").startswith("provider-id: 'hcloud://4711'\n")


SECOND_HOST = "10.0.0.12 ssh-ed25519 AAAAcp2"


@pytest.mark.parametrize("hosts", [KNOWN_HOST, f"{KNOWN_HOST}\n{SECOND_HOST}"])
def test_join_takes_the_login_apart(worker: Host, hosts: str) -> None:
    """Known hosts, as many as there are, and the key, which ssh wants with its last newline."""
    worker.command("ssh", "cp /run/own-kubernetes/join-* /etc")
    worker.run("join.sh", stdin=f"{hosts}\n{JOIN_KEY}")
    assert worker.read("/etc/join-hosts").rstrip("\n") == hosts
    assert worker.read("/etc/join-key") == JOIN_KEY


def test_the_login_is_for_root_only(worker: Host) -> None:
    worker.command("ssh", "stat --format=%a /run/own-kubernetes/join-* >/etc/modes; exit 255")
    worker.command("sleep", ":")
    sooner(worker, "join.sh", "retry 120", "retry 0")
    worker.run("join.sh", stdin=LOGIN)
    assert worker.read("/etc/modes").split() == ["600", "600"]
    assert list(worker.path("/run/own-kubernetes").iterdir()) == []


def test_join_waits_for_the_address_before_it_asks_for_a_token(worker: Host) -> None:
    worker.command("ip", ":")
    worker.command("sleep", ":")
    sooner(worker, "lib.sh", "wait_for 120", "wait_for 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "no interface has the address 10.0.0.21" in done.stderr
    assert not [call for call in worker.calls if call.startswith("ssh ")]


def test_join_leaves_no_secret_behind_and_shows_none(worker: Host) -> None:
    done = worker.run("join.sh", stdin=LOGIN)
    assert list(worker.path("/run/own-kubernetes").iterdir()) == []
    secret = TOKEN.partition(".")[2]
    assert not [call for call in worker.calls if secret in call or "PRIVATE" in call]
    assert secret not in done.stdout + done.stderr
    assert "PRIVATE" not in done.stdout + done.stderr


def test_a_failed_join_leaves_no_secret_behind_either(worker: Host) -> None:
    worker.command("kubeadm", "[[ $1 != join ]]")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode != 0
    assert list(worker.path("/run/own-kubernetes").iterdir()) == []
    assert worker.read("/var/lib/own-kubernetes/stage") == "join\n"


def test_join_checks_the_control_planes_host_key(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    for call in (call for call in worker.calls if call.startswith("ssh ")):
        assert "StrictHostKeyChecking=yes" in call
        assert f"UserKnownHostsFile={worker.root}/run/own-kubernetes/join-hosts" in call
        assert "-F none" in call


def test_join_resets_what_it_left_unfinished_and_does_it_again(worker: Host) -> None:
    worker.write("/var/lib/own-kubernetes/stage", "join\n")
    worker.write("/etc/kubernetes/kubelet.conf", "half done")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert kubeadm_calls(worker) == ["reset", "join"]


def test_join_finds_a_node_that_is_there(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    worker.forget_calls()
    assert worker.run("join.sh", stdin=LOGIN).returncode == 0
    assert kubeadm_calls(worker) == []
    assert not [call for call in worker.calls if call.startswith("ssh ")]


def test_join_without_a_token_names_the_control_plane(worker: Host) -> None:
    worker.command("ssh", "exit 255")
    worker.command("sleep", ":")
    sooner(worker, "join.sh", "retry 120", "retry 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "no token from ssh://root@10.0.0.11:22" in done.stderr
    assert "open the control plane's SSH port" in done.stderr


# --- leave.sh, run.sh --------------------------------------------------------------------------


def test_leave_does_nothing_on_a_host_that_is_in_no_cluster_of_ours(host: Host) -> None:
    host.write("/etc/kubernetes/kubelet.conf", "theirs")
    assert host.run("leave.sh").returncode == 0
    assert host.read("/etc/kubernetes/kubelet.conf") == "theirs"
    assert host.calls == []


def test_leave_takes_the_host_out_and_may_run_again(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    worker.write("/etc/cni/net.d/10-flannel.conflist", "{}")
    for _ in range(2):
        done = worker.run("leave.sh")
        assert done.returncode == 0, done.stderr
    for path in ("/etc/kubernetes", "/var/lib/own-kubernetes/stage"):
        assert not worker.path(path).exists()
    assert list(worker.path("/etc/cni/net.d").iterdir()) == []
    assert kubeadm_calls(worker) == ["join", "reset"]
    assert "ip link delete flannel.1" in worker.calls


def test_leave_removes_kubernetes_rules_and_keeps_all_others(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    worker.write(
        "/etc/rules",
        "*filter\n:INPUT ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j KUBE-FIREWALL\n"
        "-A FORWARD -j FLANNEL-FWD\nCOMMIT\n",
    )
    worker.command("iptables-save", "cat /etc/rules")
    worker.command("iptables-restore", "cat >/etc/restored")
    assert worker.run("leave.sh").returncode == 0
    assert worker.read("/etc/restored").splitlines() == [
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


def test_every_phase_is_a_script_of_its_own() -> None:
    phases = {"trust", "prepare", "init", "join", "access", "webhook", "leave", "restore"}
    assert phases <= {script.stem for script in SCRIPTS.glob("*.sh")}
