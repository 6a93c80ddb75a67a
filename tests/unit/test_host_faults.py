"""What the host scripts do when something around them fails, and what of it they show."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.unit.hosts import DOOR_KEY, FAST, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# --- what is quoted ----------------------------------------------------------------------------

SECRETS = {
    "bootstrap token": "abcdef.0123456789abcdef",
    "base64 of a key": base64.b64encode(bytes(range(48))).decode(),
    "service account": "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl-_x",
    "age key": "AGE-SECRET-KEY-1" + "Q" * 58,
    "password": "hunter2",
    "in a URL": "s3cret",
}
SAID = f"""\
joining with {SECRETS["bootstrap token"]}
client-key-data: {SECRETS["base64 of a key"]}
Bearer {SECRETS["service account"]}
identity {SECRETS["age key"]}
password = {SECRETS["password"]}
GET https://admin:{SECRETS["in a URL"]}@example.com/x refused
{DOOR_KEY}\
failed to pull registry.k8s.io/pause@sha256:{"0123456789ab" + "c" * 52}: connection refused
[kubelet-check] /etc/kubernetes/manifests/kube-apiserver.yaml on 10.0.0.11:6443 is not there
"""


def test_what_is_quoted_of_a_failed_phase_has_no_secret(host: Host) -> None:
    log = host.write("/detail", SAID)
    env = {"DETAIL": str(log)}
    done = host.source("lib.sh", "exit 3", env=env)
    for kind, secret in SECRETS.items():
        assert secret not in done.stderr, kind
    assert "PRIVATE" not in done.stderr
    assert "GET https://[secret]@example.com/x refused" in done.stderr
    assert "pause@sha256:0123456789ab: connection refused" in done.stderr
    assert "kube-apiserver.yaml on 10.0.0.11:6443 is not there" in done.stderr


# --- packages and images -----------------------------------------------------------------------

LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 99 (apt-get)"
AWAY = "W: Failed to fetch http://10.0.0.1/apt/InRelease  Could not connect to 10.0.0.1:80"
UNKNOWN = "E: Unable to locate package kubeadm"


def install(host: Host, apt_get: str) -> tuple[int, str, list[str]]:
    """Outcome and words of an installation, and what apt was asked for."""
    host.command("apt-get", apt_get)
    host.command("dpkg-query", "exit 1")
    lines = f"{FAST}install_exactly kubeadm || fail_for_packages kubeadm\n"
    body = f'source "$LIBRARY/packages.sh"\nwork() {{ {lines} }}\nstep packages work'
    done = host.source("lib.sh", body, env={"DETAIL": str(host.write("/detail", ""))})
    asked = ["update" if " update" in call else "install" for call in host.called("apt-get")]
    return done.returncode, done.stderr, asked


def when(count: int, verb: str, said: str, status: int) -> str:
    """apt-get fails so often at one verb."""
    return f"""\
[[ $* == *{verb}* ]] || exit 0
echo >>/etc/tries
(($(wc -l </etc/tries) > {count})) || {{ echo '{said}' >&2; exit {status}; }}
"""


def test_a_lock_on_the_package_lists_is_waited_for(host: Host) -> None:
    status, said, asked = install(host, when(5, "update", LOCKED, 100))
    assert (status, asked) == (0, ["update"] * 6 + ["install"]), said
    assert "held by process 99 (apt-get)" in said


def test_who_holds_a_lock_for_too_long_is_named(host: Host) -> None:
    status, said, asked = install(host, when(9999, "update", LOCKED, 100))
    assert status == 1
    assert "install" not in asked
    assert "packages not installed: kubeadm (E: Could not get lock" in said
    assert "held by process 99 (apt-get))" in said
    assert "apt's locks free within 5 minutes" in said


def test_a_source_that_does_not_answer_is_asked_again_for_its_lists(host: Host) -> None:
    """`apt-get update` ends well then, and knows no package."""
    away = f"echo '{AWAY}' >&2; {when(4, 'install', UNKNOWN, 100)}"
    status, said, asked = install(host, away)
    assert (status, asked[:3], asked[-2:]) == (
        0,
        ["update", "install", "install"],
        ["update", "install"],
    )
    assert "http://10.0.0.1/apt/InRelease" in said, "while it is tried again"


def test_a_source_that_stays_away_is_named_by_its_url(host: Host) -> None:
    status, said, _ = install(host, f"echo '{AWAY}' >&2; {when(9999, 'install', UNKNOWN, 100)}")
    assert status == 1
    assert "packages not installed: kubeadm (" in said
    assert "Failed to fetch http://10.0.0.1/apt/InRelease" in said.partition("(")[2]


def test_an_installation_that_a_power_cut_stopped_is_ended_first(host: Host) -> None:
    host.command("dpkg", "echo configured >>/etc/dpkg")
    interrupted = "[[ $* != *install* || -e /etc/dpkg ]] || exit 100"
    status, said, asked = install(host, interrupted)
    assert (status, asked) == (0, ["update", "install", "install"]), said
    assert host.called("dpkg") == ["--force-confold --configure -a"]


REFUSED = "[ERROR ImagePull]: failed to pull image registry.k8s.io/pause:3.10: connection refused"


def test_kubeadm_is_run_again_once_a_registry_that_was_away_answers(host: Host) -> None:
    host.command("dpkg-query", "echo 1.36.4-1.1")
    host.command(
        "kubeadm",
        f"""\
echo >>/etc/tries
[[ $1 != init || $(wc -l </etc/tries) -gt 1 ]] || {{ echo '{REFUSED}' >&2; exit 1; }}
[[ $1 != config || $(wc -l </etc/tries) -gt 4 ]]""",
    )
    body = f'{FAST}step init with_images kubeadm init; echo "at $SECONDS"'
    done = host.source("lib.sh", body, env={"DETAIL": str(host.write("/detail", ""))})
    assert done.returncode == 0, done.stderr
    pull = "config images pull --kubernetes-version v1.36.4"
    assert host.called("kubeadm") == ["init", *[pull] * 4, "init"]


def test_kubeadms_other_failures_are_no_matter_of_images(host: Host) -> None:
    host.command("kubeadm", "echo '[ERROR Port-6443]: Port 6443 is in use' >&2; exit 1")
    done = host.source(
        "lib.sh", "with_images kubeadm init", env={"DETAIL": str(host.write("/detail", ""))}
    )
    assert done.returncode == 1
    assert host.called("kubeadm") == ["init"]


# --- clock -------------------------------------------------------------------------------------

NOW = 1_700_000_000


def look_at_clock(host: Host, ahead: int, service: str = "") -> tuple[int, str]:
    """Status and words of clock.sh on a host whose clock is ahead of ours; a time service may set it."""
    host.write("/etc/ahead", f"{ahead}\n")
    host.write("/proc/uptime", "5000.17 9000.00\n")
    host.command(
        "date",
        f'[[ $* == +%s ]] || exec /usr/bin/date "$@"\necho $(({NOW} + $(cat /etc/ahead)))',
    )
    host.command(
        "systemctl",
        f"[[ $1 != is-enabled || ${{@: -1}} == '{service}' ]] || exit 1\n"
        "[[ $1 != restart ]] || echo 1 >/etc/ahead",
    )
    done = host.run("clock.sh", str(NOW))
    return done.returncode, done.stderr


@pytest.mark.parametrize("ahead", [0, 30, -30])
def test_a_clock_that_is_right_is_left_alone(host: Host, ahead: int) -> None:
    assert look_at_clock(host, ahead, "chrony") == (0, "")
    assert not host.called("systemctl")


@pytest.mark.parametrize("ahead", [31, -31, 7200])
def test_a_clock_that_is_off_is_refused_by_the_hosts_name(host: Host, ahead: int) -> None:
    status, said = look_at_clock(host, ahead)
    assert status == 1
    assert f"error on pretended: the clock is off by {ahead} s\n" in said
    assert "at most 30 s from that of the machine which runs this program (Tue Nov 14" in said
    assert "remedy:   set this host's clock" in said


@pytest.mark.parametrize("service", ["chrony", "systemd-timesyncd"])
def test_a_clock_that_is_off_is_set_by_the_hosts_own_service(host: Host, service: str) -> None:
    status, said = look_at_clock(host, -3600, service)
    assert (status, said) == (0, f"the clock is off by -3600 s: {service} is to set it\n")
    assert f"restart {service}" in host.called("systemctl")
