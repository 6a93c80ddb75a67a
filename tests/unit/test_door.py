"""What a control plane does for other hosts: who is let in, what they may ask, and whom the API is open to."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from cluster.exits import NOT_WELL
from tests.unit.hosts import SCRIPTS, TOKEN, Host
from tests.unit.sites import HA, rendered

STATE = "/var/lib/own-kubernetes"
CONFIG = "/etc/own-kubernetes"

KUBECTL = """\
case $* in
  *readyz*) [[ ! -e /etc/api-is-down ]] ;;
  *kubeletVersion*) cat /etc/kubelet-versions ;; # of the control planes
  *podCIDR*) echo 10.244.0.0/24 ;; # the controllers have given a node its pods
  *' get node '*InternalIP*) cat /etc/node-address 2>/dev/null || true ;;
  *' get node '*Ready*) cat /etc/node-is-ready ;;
  *' get nodes '*InternalIP*) cat /etc/addresses ;;
  *' get secrets '*) cat /etc/tokens ;;
esac"""
"""The answers of a cluster; the Node that is asked for is there when it has an address."""

ETCD = """\
case $* in
  ps*) echo c0ffee ;;
  *'member list') cat /etc/members ;;
  *'endpoint health')
    for dead in $(cat /etc/dead 2>/dev/null); do [[ $* != *"//$dead:2379"* ]] || exit 1; done ;;
esac"""
MEMBERS = """\
a1, started, cp1, https://10.0.0.11:2380, https://10.0.0.11:2379, false
b2, started, cp2, https://10.0.0.12:2380, https://10.0.0.12:2379, false
c3, started, cp3, https://10.0.0.13:2380, https://10.0.0.13:2379, false
"""
PKI = [
    *("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key"),
    *("etcd/ca.crt", "etcd/ca.key"),
]


@pytest.fixture
def control_plane(tmp_path: Path) -> Host:
    """One that is a member, and well."""
    host = Host(tmp_path)
    host.write(f"{STATE}/stage", "member\n")
    host.write(f"{STATE}/cluster", "blue\n")
    host.write(f"{CONFIG}/login-user", "root\n")
    host.write("/etc/kubernetes/admin.conf", "    server: https://10.0.0.5:6443\n  name: x\n")
    host.write("/etc/kubelet-versions", "v1.36.4\nv1.36.4\n")
    host.write("/etc/members", MEMBERS)
    host.path("/run/own-kubernetes").mkdir(parents=True)
    for name in (*PKI, "apiserver.key", "etcd/server.key"):
        host.write(f"/etc/kubernetes/pki/{name}", f"{name} PRIVATE\n" * 30)
    host.on_network("10.0.0.11")
    host.command("kubectl", KUBECTL)
    host.command("crictl", ETCD)
    host.command("kubeadm", f"echo {TOKEN}")
    return host


def ask(
    host: Host, request: str, role: str = "worker", **env: str
) -> subprocess.CompletedProcess[str]:
    return host.run("door.sh", role, env={"SSH_ORIGINAL_COMMAND": request, **env})


def changes(host: Host) -> list[str]:
    """What was changed in the cluster: kubectl's and etcdctl's words."""
    kubectl = [
        call.partition("--request-timeout=10s ")[2] or call for call in host.called("kubectl")
    ]
    etcd = [call.partition("--command-timeout=5s ")[2] for call in host.called("crictl")]
    reads = ("get ", "member list", "endpoint health")
    return [words for words in (*etcd, *kubectl) if words and not words.startswith(reads)]


# --- admit.sh ----------------------------------------------------------------------------------

ADMITTED = "worker ssh-ed25519 AAAAworkers\ncontrol-plane ssh-ed25519 AAAAcontrols\n"


def test_a_key_opens_the_door_of_its_role_and_nothing_else(control_plane: Host) -> None:
    keys = control_plane.write("/home/.ssh/authorized_keys", "ssh-ed25519 AAAA the-admin\n")
    for _ in range(2):
        done = control_plane.run("admit.sh", stdin=ADMITTED)
        assert done.returncode == 0, done.stderr
        door = control_plane.scripts / "door.sh"
        assert keys.read_text().splitlines() == [
            "ssh-ed25519 AAAA the-admin",
            f'restrict,command="{door} worker" ssh-ed25519 AAAAworkers own-kubernetes-door',
            f'restrict,command="{door} control-plane" ssh-ed25519 AAAAcontrols own-kubernetes-door',
        ]
    assert keys.stat().st_mode & 0o777 == 0o600
    assert control_plane.called("chown") == [f"root: {keys}"], "written once"


def test_a_user_without_keys_gets_the_file(control_plane: Host) -> None:
    control_plane.run("admit.sh", stdin=ADMITTED)
    assert len(control_plane.read("/home/.ssh/authorized_keys").splitlines()) == 2


def test_other_keys_take_the_place_of_ours_and_of_nobody_elses(control_plane: Host) -> None:
    keys = control_plane.write("/home/.ssh/authorized_keys", "ssh-ed25519 AAAA the-admin\n")
    control_plane.run("admit.sh", stdin=ADMITTED)
    control_plane.run("admit.sh", stdin="worker ssh-ed25519 BBBB\n")
    admin, worker = keys.read_text().splitlines()
    assert admin == "ssh-ed25519 AAAA the-admin"
    assert worker.endswith(' worker" ssh-ed25519 BBBB own-kubernetes-door')


def test_a_login_user_other_than_root_comes_to_the_door_by_sudo(control_plane: Host) -> None:
    control_plane.write(f"{CONFIG}/login-user", "debian\n")
    control_plane.command("id", "echo debian")
    control_plane.run("admit.sh", stdin=ADMITTED)
    line, _ = control_plane.read("/home/.ssh/authorized_keys").splitlines()
    door = f'sudo -n {control_plane.scripts}/door.sh worker \\"$SSH_ORIGINAL_COMMAND\\"'
    assert line.startswith(f'restrict,command="{door}" ssh-ed25519 ')
    assert control_plane.called("chown")[0].startswith("debian: ")


def test_the_line_for_sudo_hands_the_request_over_as_one_word(control_plane: Host) -> None:
    """As sshd runs it: without the outer quotes and the backslashes before inner ones."""
    control_plane.write(f"{CONFIG}/login-user", "debian\n")
    control_plane.command("id", "echo debian")
    control_plane.command("sudo", 'printf "[%s]" "$@"')
    control_plane.run("admit.sh", stdin=ADMITTED)
    line, _ = control_plane.read("/home/.ssh/authorized_keys").splitlines()
    command = line.partition('command="')[2].partition('" ssh-')[0].replace('\\"', '"')
    request = "mint w1 $(id) ; id"
    done = control_plane.source("lib.sh", command, env={"SSH_ORIGINAL_COMMAND": request})
    assert done.stdout == f"[-n][{control_plane.scripts}/door.sh][worker][{request}]"


# --- door.sh: who may ask what -----------------------------------------------------------------


@pytest.mark.parametrize("role", ["worker", "control-plane"])
@pytest.mark.parametrize(
    "request_",
    [
        "", "bash", "id", "mint", "mint ", "mint w1", "mint w1 10.0.0.21", "mint w1 10.0.0.21 1.36",
        "mint w1; id", "mint $(id) 10.0.0.21 1.36.4", "mint -w1 10.0.0.21 1.36.4",
        "mint W1 10.0.0.21 1.36.4", "mint w1 10.0.0.21 1.36.4\nid", "mint w1 10.0.0.21 1.36.4 x",
        "mint --all 10.0.0.21 1.36.4", "open", "open 10.0.0", "open 10.0.0.21; id", "open 10.0.0.0/8",
        "open any", "open 10.0.0.21 10.0.0.22", "forget", "forget abc", "forget ../../x",
        "forget $(id)", "forget abcdef abcdef", "forget ABCDEF", "drain", "drain w1", "drain w1 -1",
        "drain w1 99999", "drain --all 60", "drain w1 60 --force", "uncordon", "uncordon --all",
        "uncordon w1 w2", "keys ", "keys /etc/shadow", "cluster x", "bury", "bury cp1 cp2",
        "bury $(id)", "remove w1",
    ],
)  # fmt: skip
def test_everything_else_is_refused(control_plane: Host, role: str, request_: str) -> None:
    done = ask(control_plane, request_, role)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "this key is for hosts of the cluster only" in done.stderr
    assert changes(control_plane) == []
    assert control_plane.called("kubeadm") == control_plane.called("nft") == []


@pytest.mark.parametrize("request_", ["keys", "bury cp1,cp2,cp3"])
def test_a_workers_key_may_not_do_what_a_control_planes_may(
    control_plane: Host, request_: str
) -> None:
    done = ask(control_plane, request_, "worker")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"request '{request_}' of a worker" in done.stderr
    assert ask(control_plane, request_, "control-plane").returncode == 0


def test_a_request_comes_as_a_word_where_sudo_was_between(control_plane: Host) -> None:
    done = control_plane.run("door.sh", "worker", "cluster")
    assert (done.returncode, done.stdout) == (0, "blue\n")


REQUESTS = (
    *("mint w1 10.0.0.21 1.36.4", "open 10.0.0.21", "forget abcdef", "drain w1 60", "uncordon w1"),
    *("keys", "bury cp1"),
)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("stage", ["", "init", "join", "down"])
def test_one_that_is_not_well_sends_to_another(
    control_plane: Host, request_: str, stage: str
) -> None:
    if stage == "down":
        control_plane.write("/etc/api-is-down", "")
    else:
        control_plane.write(f"{STATE}/stage", stage)
    done = ask(control_plane, request_, "control-plane")
    assert (done.returncode, done.stdout) == (NOT_WELL, "")
    assert changes(control_plane) == []


@pytest.mark.parametrize("well", [True, False])
def test_a_member_names_its_cluster_well_or_not(control_plane: Host, well: bool) -> None:
    if not well:
        control_plane.write("/etc/api-is-down", "")
    done = ask(control_plane, "cluster")
    assert (done.returncode, done.stdout) == (0, "blue\n")


@pytest.mark.parametrize("stage", ["", "init", "join"])
def test_one_that_is_no_member_says_so(control_plane: Host, stage: str) -> None:
    control_plane.write(f"{STATE}/stage", stage)
    done = ask(control_plane, "cluster")
    assert (done.returncode, done.stdout) == (0, "none\n"), "any other status would be no answer"


def test_the_door_answers_of_this_control_plane_and_no_other(control_plane: Host) -> None:
    for request in REQUESTS:
        ask(control_plane, request, "control-plane")
    calls = control_plane.called("kubectl")
    assert len(calls) > len(REQUESTS)
    assert all("--server=https://10.0.0.11:6443" in call for call in calls)


def test_a_control_plane_gets_the_clusters_keys_and_none_of_this_ones_own(
    control_plane: Host,
) -> None:
    control_plane.write("/etc/kubernetes/pki/encryption.yaml", "identity: {}\n")
    done = ask(control_plane, "keys", "control-plane")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(done.stdout))) as archive:
        names = archive.getnames()
        assert sorted(names) == sorted([*PKI, "encryption.yaml"])
        for name in names:
            packed = archive.extractfile(name)
            assert packed is not None
            assert packed.read().decode() == control_plane.read(f"/etc/kubernetes/pki/{name}")


# --- door.sh: tokens ---------------------------------------------------------------------------

MINT = "mint w1 10.0.0.21 1.36.4"


def test_mint_prints_a_short_lived_token_the_ca_and_the_server(control_plane: Host) -> None:
    done = ask(control_plane, MINT)
    token, ca, server = done.stdout.split()
    assert (token, server) == (TOKEN, "https://10.0.0.5:6443")
    assert base64.b64decode(ca).decode() == "ca.crt PRIVATE\n" * 30
    (call,) = control_plane.called("kubeadm")
    assert call.startswith("token create --ttl=15m ")


@pytest.mark.parametrize(
    ("versions", "version", "oldest"),
    [
        ("v1.36.4", "1.36.4", ""),
        ("v1.36.4\nv1.36.4\nv1.36.3", "1.36.4", "1.36.3"),
        ("v1.36.4\nv1.35.9", "1.36.4", "1.35.9"),
        ("v1.36.9", "1.36.10", "1.36.9"),
        ("v1.36.10\nv1.36.9", "1.36.9", ""),
        ("v1.37.0", "1.36.4", ""),
    ],
)
def test_no_host_joins_that_is_newer_than_a_control_plane(
    control_plane: Host, versions: str, version: str, oldest: str
) -> None:
    control_plane.write("/etc/kubelet-versions", f"{versions}\n")
    done = ask(control_plane, f"mint w1 10.0.0.21 {version}")
    assert done.returncode == 0, done.stderr
    assert (done.stdout == f"older {oldest}\n") == bool(oldest)
    assert bool(control_plane.called("kubeadm")) == (not oldest)


@pytest.mark.parametrize(
    ("description", "deleted"),
    [("own-kubernetes: a join of w1", ["abcdef", "fedcba"]), ("x", []), ("", [])],
)
def test_forget_deletes_tokens_of_our_own_only(
    control_plane: Host, description: str, deleted: list[str]
) -> None:
    """And of the same node only, whose earlier tries may have left some."""
    control_plane.write(
        "/etc/tokens",
        f"bootstrap-token-abcdef {description}\nbootstrap-token-fedcba {description}\n"
        "bootstrap-token-others own-kubernetes: a join of w10\nbootstrap-token-theirs \n",
    )
    done = ask(control_plane, "forget abcdef")
    assert done.returncode == 0, done.stderr
    found = [c.split() for c in changes(control_plane) if " delete " in c]
    assert sorted(w for words in found for w in words if "bootstrap" in w) == [
        f"bootstrap-token-{name}" for name in deleted
    ]


# --- door.sh: the dead -------------------------------------------------------------------------


def kubelet(host: Host, *, answers: bool, address: str) -> None:
    """A Node of the joining one's name is there."""
    host.write("/etc/node-address", address)
    host.command("timeout", "exit 0" if answers else "exit 1")


def test_mint_takes_away_the_node_of_a_machine_that_is_gone(control_plane: Host) -> None:
    kubelet(control_plane, answers=False, address="10.0.0.21")
    done = ask(control_plane, MINT)
    assert done.stdout.split()[0] == TOKEN
    assert changes(control_plane) == ["delete node w1 --ignore-not-found --timeout=60s"]
    kinds = [call.split()[0] for call in control_plane.calls]
    deleted = next(n for n, call in enumerate(control_plane.calls) if "delete node" in call)
    assert kinds.index("kubeadm") > deleted, "a token is for the free name"


@pytest.mark.parametrize("role", ["worker", "control-plane"])
def test_mint_leaves_a_node_alone_whose_kubelet_answers(control_plane: Host, role: str) -> None:
    kubelet(control_plane, answers=True, address="10.0.0.13")
    done = ask(control_plane, "mint cp3 10.0.0.13 1.36.4", role)
    assert (done.stdout.split()[0], changes(control_plane)) == (TOKEN, [])
    assert control_plane.called("timeout") == ["3 bash -c </dev/tcp/10.0.0.13/10250"]


def test_mint_for_a_new_name_deletes_nothing(control_plane: Host) -> None:
    done = ask(control_plane, MINT)
    assert (done.stdout.split()[0], changes(control_plane)) == (TOKEN, [])
    assert control_plane.called("timeout") == []


def test_mint_looks_at_the_real_port(control_plane: Host) -> None:
    """Without a pretended ``timeout``: nobody listens at a port of this machine's own network 127/8."""
    control_plane.write("/etc/node-address", "127.9.8.7")
    ask(control_plane, MINT)
    assert changes(control_plane) == ["delete node w1 --ignore-not-found --timeout=60s"]


@pytest.mark.parametrize("there", [True, False])
def test_a_dead_control_planes_etcd_member_goes_before_its_name_is_used_again(
    control_plane: Host, there: bool
) -> None:
    """There may be no Node any more."""
    kubelet(control_plane, answers=False, address="10.0.0.13" if there else "")
    done = ask(control_plane, "mint cp3 10.0.0.13 1.36.4", "control-plane")
    assert done.returncode == 0, done.stderr
    nodes = ["delete node cp3 --ignore-not-found --timeout=60s"] if there else []
    assert changes(control_plane) == ["member remove c3", *nodes]


@pytest.mark.parametrize(
    "line",
    [
        "c3, unstarted, , https://10.0.0.13:2380, , false",
        "c3, started, cp3, https://10.0.0.99:2380, https://10.0.0.99:2379, false",
    ],
    ids=["never-started", "at-another-address"],
)
def test_a_member_is_known_by_its_name_or_its_address(control_plane: Host, line: str) -> None:
    control_plane.write("/etc/members", f"{MEMBERS.partition('c3')[0]}{line}\n")
    done = ask(control_plane, "mint cp3 10.0.0.13 1.36.4", "control-plane")
    assert done.returncode == 0, done.stderr
    assert changes(control_plane) == ["member remove c3"]


def test_a_workers_key_takes_no_etcd_member_away(control_plane: Host) -> None:
    """Whatever name it gives."""
    kubelet(control_plane, answers=False, address="10.0.0.13")
    ask(control_plane, "mint cp3 10.0.0.13 1.36.4", "worker")
    assert not [words for words in changes(control_plane) if words.startswith("member")]


@pytest.mark.parametrize("failing", ["*'member list'", "*'member remove'*"])
def test_no_token_is_given_where_etcd_keeps_a_dead_member(
    control_plane: Host, failing: str
) -> None:
    kubelet(control_plane, answers=False, address="10.0.0.13")
    control_plane.command("crictl", ETCD.replace("case $* in", f"case $* in\n{failing}) exit 1 ;;"))
    done = ask(control_plane, "mint cp3 10.0.0.13 1.36.4", "control-plane")
    assert done.returncode not in (0, NOT_WELL)
    assert (done.stdout, control_plane.called("kubeadm")) == ("", [])
    assert not [words for words in changes(control_plane) if words.startswith("delete")]


def test_bury_takes_away_control_planes_that_are_dead_and_not_wanted(control_plane: Host) -> None:
    control_plane.write("/etc/dead", "10.0.0.12 10.0.0.13")
    done = ask(control_plane, "bury cp1,cp2,cp4", "control-plane")
    assert done.returncode == 0, done.stderr
    # cp2 is dead as well, but wanted: mint sees to it when it joins again.
    assert changes(control_plane) == [
        "member remove c3", "delete node cp3 --ignore-not-found --timeout=60s",
    ]  # fmt: skip
    assert "control plane cp3 (10.0.0.13) is not wanted any more and dead" in done.stderr


@pytest.mark.parametrize("wanted", ["cp1,cp2,cp3", "cp1,cp2"])
def test_bury_leaves_those_alone_that_are_wanted_or_alive(control_plane: Host, wanted: str) -> None:
    assert ask(control_plane, f"bury {wanted}", "control-plane").returncode == 0
    assert changes(control_plane) == []


def test_a_name_is_wanted_as_a_whole(control_plane: Host) -> None:
    control_plane.write("/etc/dead", "10.0.0.13")
    ask(control_plane, "bury cp1,cp2,cp33,xcp3,cp3-2", "control-plane")
    assert "member remove c3" in changes(control_plane)


# --- door.sh: drains ---------------------------------------------------------------------------


def test_a_node_is_drained_for_its_upgrade_and_used_again_after(control_plane: Host) -> None:
    control_plane.write("/etc/node-is-ready", "True")
    done = ask(control_plane, "drain w1 90")
    assert (done.returncode, done.stdout) == (0, "")
    assert changes(control_plane)[0] == "cordon w1"
    drain = changes(control_plane)[1].split("drain ")[1].split()
    assert drain == ["w1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"]
    assert ask(control_plane, "uncordon w1").returncode == 0
    assert changes(control_plane)[-1] == "uncordon w1"


def test_a_drain_has_the_time_that_it_was_given(control_plane: Host) -> None:
    """kubectl's bound on a request would end it as well."""
    control_plane.write("/etc/node-is-ready", "True")
    ask(control_plane, "drain w1 90")
    (drain,) = [call for call in control_plane.called("kubectl") if " drain " in call]
    assert "--request-timeout" not in drain


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_is_not_ready_is_cordoned_only(control_plane: Host, ready: str) -> None:
    control_plane.write("/etc/node-is-ready", ready)
    done = ask(control_plane, "drain w1 90")
    assert done.returncode == 0
    assert changes(control_plane) == ["cordon w1"]
    assert "node w1 is not Ready: nothing is drained there" in done.stderr


@pytest.mark.parametrize("failing", ["*' drain '*", "*' cordon '*", "*' get node '*Ready*"])
def test_a_drain_that_failed_is_none(control_plane: Host, failing: str) -> None:
    control_plane.write("/etc/node-is-ready", "True")
    stub = KUBECTL.replace("case $* in", f"case $* in\n{failing}) echo the reason >&2; exit 1 ;;")
    control_plane.command("kubectl", stub)
    done = ask(control_plane, "drain w1 90")
    assert done.returncode not in (0, NOT_WELL, 255)
    assert "the reason" in done.stderr
    drains = [call for call in control_plane.called("kubectl") if " drain " in call]
    assert bool(drains) == ("drain" in failing)


# --- firewall.sh -------------------------------------------------------------------------------

NFT = 'if [[ $* == *--file* ]]; then cat >/etc/loaded; else echo "$*" >>/etc/added; fi'


@pytest.fixture
def filtered(control_plane: Host, tmp_path: Path) -> Host:
    """A control plane with its packet filter."""
    (tmp_path / "site").mkdir()
    _, files = rendered(tmp_path / "site", HA)
    control_plane.write(f"{CONFIG}/firewall.nft", files["cp1"][f"{CONFIG}/firewall.nft"] + "\n")
    control_plane.write("/etc/addresses", "10.0.0.11\n10.0.0.21\n")
    control_plane.path("/etc/systemd/system").mkdir(parents=True)
    control_plane.command("nft", NFT)
    return control_plane


def firewall(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    done = host.run("firewall.sh", *words)
    assert done.returncode == 0, done.stderr
    return done


def loaded(host: Host) -> dict[str, list[str]]:
    """What was put into the sets with the rules that were loaded last."""
    rules = host.read(f"{CONFIG}/firewall.nft")
    text = host.read("/etc/loaded")
    assert text.startswith(rules), "one transaction with the rules"
    sets: dict[str, list[str]] = {"nodes4": [], "joining4": []}
    for line in text.removeprefix(rules).splitlines():
        command, _, element = line.partition(" { ")
        sets[command.removeprefix("add element inet own_kubernetes ")].append(element.rstrip(" }"))
    return sets


def test_rules_are_loaded_with_the_nodes_that_were_known_last(filtered: Host) -> None:
    firewall(filtered, "load")
    assert loaded(filtered) == {"nodes4": [], "joining4": []}
    filtered.write(f"{STATE}/nodes", "10.0.0.11\n10.0.0.21\n")
    firewall(filtered, "load")
    assert loaded(filtered) == {"nodes4": ["10.0.0.11", "10.0.0.21"], "joining4": []}


def test_a_host_that_is_about_to_join_is_let_in_at_once_and_for_a_while(filtered: Host) -> None:
    firewall(filtered, "open", "10.0.0.22")
    element = "element inet own_kubernetes joining4 { 10.0.0.22 timeout 15m }"
    assert filtered.read("/etc/added") == f"add {element}\n"
    assert not filtered.path("/etc/loaded").exists(), "nothing else is touched"


def test_a_host_that_is_about_to_join_stays_let_in_when_rules_are_loaded_anew(
    filtered: Host,
) -> None:
    firewall(filtered, "open", "10.0.0.22")
    firewall(filtered, "load")
    assert loaded(filtered)["joining4"] == ["10.0.0.22 timeout 15m"]


def test_an_address_that_nft_refuses_spoils_nothing(filtered: Host) -> None:
    filtered.command("nft", "exit 1")
    assert filtered.run("firewall.sh", "open", "999.0.0.1").returncode != 0
    filtered.command("nft", NFT)
    firewall(filtered, "load")
    assert loaded(filtered)["joining4"] == []


def test_the_door_opens_it(filtered: Host) -> None:
    assert ask(filtered, "open 10.0.0.22").returncode == 0
    assert "10.0.0.22" in filtered.read("/etc/added")


def test_nodes_are_let_in_as_the_cluster_has_them(filtered: Host) -> None:
    firewall(filtered, "sync")
    assert loaded(filtered)["nodes4"] == ["10.0.0.11", "10.0.0.21"]
    filtered.write("/etc/addresses", "10.0.0.22\n10.0.0.11\n")
    firewall(filtered, "sync")
    assert loaded(filtered)["nodes4"] == ["10.0.0.11", "10.0.0.22"]


def test_a_host_that_has_joined_is_a_node_and_no_more_let_in_as_a_guest(filtered: Host) -> None:
    for address in ("10.0.0.21", "10.0.0.22"):
        firewall(filtered, "open", address)
    firewall(filtered, "sync")
    assert loaded(filtered) == {
        "nodes4": ["10.0.0.11", "10.0.0.21"],
        "joining4": ["10.0.0.22 timeout 15m"],
    }


def test_the_same_nodes_in_another_order_load_nothing(filtered: Host) -> None:
    firewall(filtered, "sync")
    filtered.path("/etc/loaded").unlink()
    filtered.write("/etc/addresses", "10.0.0.21\n10.0.0.11\n")
    firewall(filtered, "sync")
    assert not filtered.path("/etc/loaded").exists()


@pytest.mark.parametrize("answer", ["exit 1", ":", "echo; echo"])
def test_without_an_answer_the_known_nodes_stay(filtered: Host, answer: str) -> None:
    firewall(filtered, "sync")
    filtered.path("/etc/loaded").unlink()
    filtered.command("kubectl", answer)
    firewall(filtered, "sync")
    assert not filtered.path("/etc/loaded").exists()
    assert filtered.read(f"{STATE}/nodes") == "10.0.0.11\n10.0.0.21\n"


def test_what_is_no_address_gets_into_no_rule(filtered: Host) -> None:
    filtered.write("/etc/addresses", "10.0.0.21\n\nfd00::1\n10.0.0.22 }; flush ruleset\n")
    firewall(filtered, "sync")
    assert loaded(filtered)["nodes4"] == ["10.0.0.21"]


@pytest.mark.parametrize("stage", ["", "init", "join"])
def test_one_that_is_no_member_looks_at_no_nodes(filtered: Host, stage: str) -> None:
    filtered.write(f"{STATE}/stage", stage)
    firewall(filtered, "sync")
    assert filtered.called("kubectl") == filtered.called("nft") == []


def test_a_host_without_rules_about_nodes_loads_what_it_has(filtered: Host) -> None:
    """A cloud worker's: it keeps pods from the server's own data, and no more."""
    rules = filtered.write(f"{CONFIG}/firewall.nft", "table inet own_kubernetes {\n}\n").read_text()
    filtered.write(f"{STATE}/nodes", "10.0.0.11\n")
    firewall(filtered, "load")
    assert filtered.read("/etc/loaded") == rules


def test_the_units_run_what_they_should(filtered: Host) -> None:
    firewall(filtered, "follow")
    assert "enable --quiet --now own-kubernetes-nodes.timer" in filtered.called("systemctl")
    service = filtered.read("/etc/systemd/system/own-kubernetes-nodes.service")
    assert f"ExecStart={filtered.scripts}/firewall.sh sync\n" in service
    assert f"ExecStart={filtered.scripts}/serving.sh\n" in service
    unit = (SCRIPTS / "own-kubernetes-firewall.service").read_text()
    assert "ExecStart=/usr/local/lib/own-kubernetes/firewall.sh load\n" in unit


@pytest.mark.parametrize("words", [(), ("flush",)])
def test_other_words_are_refused(filtered: Host, words: tuple[str, ...]) -> None:
    done = filtered.run("firewall.sh", *words)
    assert done.returncode == 1
    assert "expected: load, open, sync or follow" in done.stderr
    assert filtered.called("nft") == []
