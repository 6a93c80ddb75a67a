"""How a host becomes a node: control-plane.sh and join.sh, asking other hosts as peers.sh does."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.unit.hosts import (
    ADMITTED,
    CONTROL_PLANES,
    DOOR_KEY,
    PEERS,
    SECRET_FILES,
    TOKEN,
    Host,
)

STATE = "/var/lib/own-kubernetes"
CONFIG = "/etc/own-kubernetes"
SHARED = "10.0.0.5"
NO_MEMBER = "echo none"
STRANGER = "echo 'root@10.0.0.12: Permission denied (publickey).' >&2; exit 255"
NOT_WELL = "exit 75"
MEMBER = "echo blue"
MINTED = f"echo {TOKEN} Q0E= https://10.0.0.5:6443"
PKI = {
    "ca.crt": "CA", "ca.key": "CA-PRIVATE", "sa.key": "SA-PRIVATE", "sa.pub": "SA",
    "front-proxy-ca.crt": "FRONT", "front-proxy-ca.key": "FRONT-PRIVATE",
    "etcd/ca.crt": "ETCD", "etcd/ca.key": "ETCD-PRIVATE",
}  # fmt: skip

KUBEADM = """\
case $1 in
  init)
    cp "${2#--config=}" /etc/seen.yaml
    mkdir -p /etc/kubernetes
    echo >/etc/kubernetes/admin.conf ;;
  join)
    cat "${2#--config=}" /run/own-kubernetes/discovery.yaml >/etc/seen.yaml
    (cd /run/own-kubernetes && stat --format=%a SECRETS >/etc/modes)
    mkdir -p /etc/kubernetes
    echo >/etc/kubernetes/kubelet.conf
    echo >/etc/kubernetes/admin.conf ;;
esac""".replace("SECRETS", " ".join(SECRET_FILES))


def keys() -> str:
    """What a control plane gives of the cluster's keys."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in PKI.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o600 if name.endswith(".key") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return base64.b64encode(packed.getvalue()).decode()


def new_host(host: Host, address: str) -> Host:
    """A host that is prepared."""
    host.write(f"{CONFIG}/join.yaml", "token: '@TOKEN@'\nid: '@PROVIDER_ID@'\n")
    host.write(f"{CONFIG}/discovery.yaml", "server: '@SERVER@'\nca: '@CA@'\n")
    host.write(f"{CONFIG}/login-user", "root\n")
    host.write(f"{CONFIG}/settings", "d1g3st\n")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    host.path(STATE).mkdir(parents=True)
    host.path("/etc/systemd/system").mkdir(parents=True)
    host.command("kubeadm", KUBEADM)
    host.command("kubectl", "echo True")
    host.command("dpkg-query", "printf 1.36.4-1.1")
    host.on_network(address)
    return host


def kubeadm(host: Host) -> list[str]:
    """The verbs that kubeadm was called with."""
    return [call.split()[0] for call in host.called("kubeadm")]


def stage(host: Host) -> str:
    return host.read(f"{STATE}/stage").strip()


def nothing_is_told(host: Host, done: subprocess.CompletedProcess[str], *secrets: str) -> None:
    """No secret is left behind, is in an argument list, or is shown."""
    assert host.secrets() == []
    for secret in (TOKEN.partition(".")[2], "PRIVATE", *secrets):
        assert not [call for call in host.calls if secret in call]
        assert secret not in done.stdout + done.stderr


# --- control-plane.sh: who makes the cluster -----------------------------------------------------


@pytest.fixture
def control_plane(tmp_path: Path) -> Host:
    host = new_host(Host(tmp_path), "10.0.0.11")
    host.write(f"{CONFIG}/init.yaml", "kubernetesVersion: v0.0.0\nid: '@PROVIDER_ID@'\n")
    host.peers({"10.0.0.12 cluster": NO_MEMBER, "10.0.0.13 cluster": NO_MEMBER})
    return host


def become(
    host: Host, node: str = "cp1", peers: str = PEERS, **env: str
) -> subprocess.CompletedProcess[str]:
    return host.run(
        "control-plane.sh",
        stdin=peers + ADMITTED + DOOR_KEY,
        env={"NODE": node, "ROLE": "control-plane", **env},
    )


@pytest.mark.parametrize("second", [NO_MEMBER, STRANGER])
@pytest.mark.parametrize("third", [NO_MEMBER, STRANGER])
def test_the_first_makes_the_cluster_where_all_others_say_that_they_are_no_members(
    control_plane: Host, second: str, third: str
) -> None:
    control_plane.peers({"10.0.0.12 cluster": second, "10.0.0.13 cluster": third})
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert kubeadm(control_plane) == ["init"]
    assert control_plane.read("/etc/seen.yaml") == "kubernetesVersion: v1.36.4\nid: ''\n"
    assert (stage(control_plane), control_plane.read(f"{STATE}/cluster")) == ("member", "blue\n")
    assert control_plane.asked == ["root@10.0.0.12 cluster", "root@10.0.0.13 cluster"]
    assert any("delete secret" in call for call in control_plane.calls), "kubeadm's own token"
    assert "kubeadm init: " in done.stderr


def test_who_makes_the_cluster_has_its_settings_and_who_joins_is_given_them(
    control_plane: Host,
) -> None:
    """upgrade.sh sees to those that join."""
    become(control_plane)
    assert control_plane.read(f"{STATE}/settings") == "d1g3st\n"
    control_plane.run("leave.sh")
    cluster_of(control_plane, "10.0.0.12")
    assert become(control_plane).returncode == 0
    assert kubeadm(control_plane) == ["init", "reset", "join"]
    assert not control_plane.path(f"{STATE}/settings").exists()


def test_a_sole_control_plane_asks_nobody(control_plane: Host) -> None:
    done = become(control_plane, peers=PEERS.partition("\n")[0] + "\n")
    assert done.returncode == 0, done.stderr
    assert (kubeadm(control_plane), control_plane.asked) == (["init"], [])


@pytest.mark.parametrize("member", ["10.0.0.12", "10.0.0.13"])
def test_the_first_joins_where_one_says_that_it_is_a_member(
    control_plane: Host, member: str
) -> None:
    """It is a new machine, and the cluster outlived the old one."""
    cluster_of(control_plane, member)
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert (kubeadm(control_plane), stage(control_plane)) == (["join"], "member")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("ssh: connect to host 10.0.0.13 port 22: Connection refused", 255),
        ("ssh: connect to host 10.0.0.13 port 22: Connection timed out", 255),
        ("Host key verification failed.", 255),
        ("sudo: a password is required", 1),
        ("door.sh: command not found", 127),
    ],
)
def test_no_second_cluster_is_made_beside_one_that_cant_be_asked(
    control_plane: Host, said: str, status: int
) -> None:
    answer = f"echo '{said}' >&2; exit {status}"
    control_plane.peers({"10.0.0.12 cluster": NO_MEMBER, "10.0.0.13 cluster": answer})
    control_plane.sooner("control-plane.sh", "wait_for 300", "wait_for 0")
    done = become(control_plane)
    assert done.returncode == 1
    assert f"10.0.0.13 port 22: {said}\n" in done.stderr
    assert (
        "not every other control plane could be asked whether cluster blue is there" in done.stderr
    )
    assert "take the control plane that is gone out of the stack file" in done.stderr
    assert kubeadm(control_plane) == []
    assert not control_plane.path(f"{STATE}/stage").exists()


def test_a_host_that_can_t_be_asked_matters_not_where_another_is_a_member(
    control_plane: Host,
) -> None:
    cluster_of(control_plane, "10.0.0.13")  # 10.0.0.12 can't be reached
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert kubeadm(control_plane) == ["join"]


SECOND_LOOK = "[[ -e /etc/asked ]] || { echo >/etc/asked; exit 255; }; "


def test_a_host_that_still_boots_is_asked_again(control_plane: Host) -> None:
    control_plane.peers(
        {"10.0.0.12 cluster": SECOND_LOOK + NO_MEMBER, "10.0.0.13 cluster": NO_MEMBER}
    )
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert kubeadm(control_plane) == ["init"]
    assert control_plane.asked.count("root@10.0.0.12 cluster") == 2
    assert "10.0.0.12 port 22" not in done.stderr, "nothing to be said in the end"


def test_a_member_of_another_cluster_is_none_of_this_one(control_plane: Host) -> None:
    control_plane.peers({"10.0.0.12 cluster": "echo green", "10.0.0.13 cluster": NO_MEMBER})
    assert become(control_plane).returncode == 0
    assert kubeadm(control_plane) == ["init"]


@pytest.mark.parametrize("node", ["cp2", "cp3"])
def test_none_but_the_first_makes_a_cluster(control_plane: Host, node: str) -> None:
    control_plane.on_network(CONTROL_PLANES[node])
    control_plane.peers({"* cluster": NO_MEMBER})
    control_plane.sooner("control-plane.sh", "wait_for 300", "wait_for 0")
    done = become(control_plane, node)
    assert done.returncode == 1
    assert "cluster blue is nowhere" in done.stderr
    assert "see why the first control plane, cp1, did not make it" in done.stderr
    assert kubeadm(control_plane) == []


def test_the_others_wait_until_there_is_a_cluster(control_plane: Host) -> None:
    control_plane.on_network("10.0.0.12")
    cluster_of(
        control_plane,
        "10.0.0.11",
        {"10.0.0.11 cluster": f"[[ -e /etc/asked ]] || {{ echo >/etc/asked; exit 1; }}; {MEMBER}"},
    )
    done = become(control_plane, "cp2")
    assert done.returncode == 0, done.stderr
    assert kubeadm(control_plane) == ["join"]


# --- control-plane.sh: the first ---------------------------------------------------------------


PROVIDER = {"PROVIDER_ID": "hcloud://4711"}


def test_a_control_plane_on_a_server_says_which(control_plane: Host) -> None:
    assert become(control_plane, **PROVIDER).returncode == 0
    assert "id: 'hcloud://4711'\n" in control_plane.read("/etc/seen.yaml")


def test_a_control_plane_waits_for_the_address_that_it_advertises(control_plane: Host) -> None:
    control_plane.command("ip", ":")
    control_plane.sooner("lib.sh", "wait_for 120", "wait_for 0")
    done = become(control_plane)
    assert done.returncode == 1
    assert "no interface has the address 10.0.0.11" in done.stderr
    assert kubeadm(control_plane) == []


def test_the_first_holds_the_shared_address_before_any_api_server_is_well(
    control_plane: Host,
) -> None:
    control_plane.write(f"{CONFIG}/virtual-address", f"{SHARED}\n")
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    held = control_plane.calls.index(f"ip address replace {SHARED}/32 dev ens10")
    assert held < next(n for n, c in enumerate(control_plane.calls) if c.startswith("kubeadm init"))
    assert "systemctl enable --quiet --now keepalived" in control_plane.calls


def test_without_a_shared_address_there_is_no_keepalived(control_plane: Host) -> None:
    become(control_plane)
    assert not [c for c in control_plane.calls if "keepalived" in c or "ip address replace" in c]


def test_a_failed_init_is_marked_as_unfinished_and_leaves_no_secret(control_plane: Host) -> None:
    control_plane.command("kubeadm", "exit 1")
    done = become(control_plane)
    assert done.returncode != 0
    assert stage(control_plane) == "init"
    nothing_is_told(control_plane, done)


# --- control-plane.sh: what is there already ----------------------------------------------------


def test_a_member_is_adopted(control_plane: Host) -> None:
    become(control_plane)
    control_plane.forget_calls()
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert (kubeadm(control_plane), control_plane.asked) == ([], [])
    assert "systemctl start containerd kubelet" in control_plane.calls


@pytest.mark.parametrize("left", ["init", "join"])
@pytest.mark.parametrize("member", [True, False])
def test_what_was_left_unfinished_is_reset_and_done_again(
    control_plane: Host, left: str, member: bool
) -> None:
    """By what the cluster is now, not by what was tried."""
    control_plane.write(f"{STATE}/stage", f"{left}\n")
    control_plane.write(f"{STATE}/cluster", "blue\n")
    control_plane.write("/etc/kubernetes/manifests/kube-apiserver.yaml", "half done")
    if member:
        cluster_of(control_plane, "10.0.0.12")
    done = become(control_plane)
    assert done.returncode == 0, done.stderr
    assert kubeadm(control_plane) == ["reset", "join" if member else "init"]
    assert f"reset of an unfinished {left}: " in done.stderr
    assert not control_plane.path("/etc/kubernetes/manifests").exists()
    assert stage(control_plane) == "member"


def test_nothing_is_reset_before_others_have_been_asked(control_plane: Host) -> None:
    """What was left may be all that there is of the cluster."""
    control_plane.write(f"{STATE}/stage", "init\n")
    control_plane.peers({"10.0.0.12 cluster": NO_MEMBER})
    control_plane.sooner("control-plane.sh", "wait_for 300", "wait_for 0")
    assert become(control_plane).returncode == 1
    assert (kubeadm(control_plane), stage(control_plane)) == ([], "init")


@pytest.mark.parametrize("left", ["init", "join", "member"])
def test_a_host_of_another_cluster_of_ours_is_refused(control_plane: Host, left: str) -> None:
    control_plane.write(f"{STATE}/cluster", "green\n")
    control_plane.write(f"{STATE}/stage", f"{left}\n")
    done = become(control_plane)
    assert done.returncode == 1
    assert "belongs to our cluster 'green'" in done.stderr
    assert "expected: a host of cluster 'blue'" in done.stderr
    assert (kubeadm(control_plane), stage(control_plane)) == ([], left)
    nothing_is_told(control_plane, done)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("schedulable", ["true", "false"])
def test_workloads_and_load_balancers_may_use_a_control_plane_that_is_for_them(
    control_plane: Host, schedulable: str, again: bool
) -> None:
    if again:  # the setting is edited later
        become(control_plane)
        control_plane.forget_calls()
    become(control_plane, SCHEDULABLE=schedulable)
    on, off = "node.kubernetes.io/exclude-from-external-load-balancers", "NoSchedule"
    calls = [" ".join(c.split()[3:]) for c in control_plane.called("kubectl") if " node cp1 " in c]
    wanted = [
        f"label node cp1 {on}-" if schedulable == "true" else f"label node cp1 {on}= --overwrite",
        f"taint node cp1 node-role.kubernetes.io/control-plane:{off}"
        + ("-" if schedulable == "true" else " --overwrite"),
    ]
    assert calls == wanted


def test_a_control_plane_speaks_to_its_own_api_server(control_plane: Host) -> None:
    control_plane.write(f"{CONFIG}/virtual-address", f"{SHARED}\n")
    become(control_plane)
    assert control_plane.called("kubectl")
    for call in control_plane.called("kubectl"):
        assert "--server=https://10.0.0.11:6443" in call


def test_an_api_server_that_does_not_answer_is_an_error(control_plane: Host) -> None:
    control_plane.command("kubectl", "[[ $* != *readyz* ]]")
    control_plane.sooner("control-plane.sh", "wait_for 120", "wait_for 0")
    done = become(control_plane)
    assert done.returncode == 1
    assert "error on pretended: the API server does not answer" in done.stderr
    assert stage(control_plane) == "member", (
        "it is one: the next run waits again, and resets nothing"
    )


def test_a_control_plane_lets_hosts_in_and_looks_at_the_nodes(control_plane: Host) -> None:
    assert become(control_plane).returncode == 0
    lines = control_plane.read("/home/.ssh/authorized_keys").splitlines()
    assert [line.split('" ')[1] for line in lines] == [
        "ssh-ed25519 AAAAworkers own-kubernetes-door",
        "ssh-ed25519 AAAAcontrols own-kubernetes-door",
    ]
    for unit in ("own-kubernetes-nodes.service", "own-kubernetes-nodes.timer"):
        assert control_plane.path(f"/etc/systemd/system/{unit}").exists()
    assert "systemctl enable --quiet --now own-kubernetes-nodes.timer" in control_plane.calls


# --- control-plane.sh: the others ----------------------------------------------------------------


def cluster_of(host: Host, member: str, answers: dict[str, str] | None = None) -> None:
    """Another host is a member, and well, but for some answers; all others can't be reached."""
    well = {
        f"{member} cluster": MEMBER,
        f"{member} keys": f"echo {keys()}",
        f"{member} bury*": ":",
        f"{member} mint*": MINTED,
        f"{member} open*": ":",
        f"{member} forget*": ":",
    }
    special = answers or {}
    host.peers({**special, **{k: v for k, v in well.items() if k not in special}})


@pytest.fixture
def second(control_plane: Host) -> Host:
    """The second control plane of a cluster."""
    control_plane.on_network("10.0.0.12")
    cluster_of(control_plane, "10.0.0.11")
    return control_plane


def test_a_control_plane_joins_with_the_clusters_keys_and_a_fresh_token(second: Host) -> None:
    done = become(second, "cp2", **PROVIDER)
    assert done.returncode == 0, done.stderr
    assert kubeadm(second) == ["join"]
    assert second.read("/etc/seen.yaml") == (
        f"token: '{TOKEN}'\nid: 'hcloud://4711'\nserver: 'https://10.0.0.5:6443'\nca: 'Q0E='\n"
    )
    assert second.asked == [
        "root@10.0.0.11 cluster", "root@10.0.0.11 keys", "root@10.0.0.11 bury cp1,cp2,cp3",
        "root@10.0.0.11 mint cp2 10.0.0.12 1.36.4",
        "root@10.0.0.11 open 10.0.0.12", "root@10.0.0.13 open 10.0.0.12",
        "root@10.0.0.11 forget abcdef",
    ]  # fmt: skip
    assert {name: second.read(f"/etc/kubernetes/pki/{name}") for name in PKI} == PKI
    for name in PKI:
        mode = second.path(f"/etc/kubernetes/pki/{name}").stat().st_mode & 0o777
        assert mode == 0o600 or not name.endswith(".key"), name


def test_a_joining_control_plane_leaves_no_secret_behind_and_shows_none(second: Host) -> None:
    done = become(second, "cp2")
    assert done.returncode == 0, done.stderr
    assert set(second.read("/etc/modes").split()) == {"600"}
    nothing_is_told(second, done, keys()[:64])


def test_a_joining_control_plane_takes_no_shared_address_until_it_is_well(second: Host) -> None:
    second.write(f"{CONFIG}/virtual-address", f"{SHARED}\n")
    assert become(second, "cp2").returncode == 0
    assert not [call for call in second.calls if "ip address replace" in call]
    joined = next(n for n, call in enumerate(second.calls) if call.startswith("kubeadm join"))
    assert second.calls.index("systemctl enable --quiet --now keepalived") > joined


def test_a_join_that_failed_is_marked_as_unfinished(second: Host) -> None:
    second.command("kubeadm", "[[ $1 != join ]]")
    done = become(second, "cp2")
    assert done.returncode != 0
    assert stage(second) == "join"
    nothing_is_told(second, done)


def test_keys_are_asked_of_one_after_the_other(second: Host) -> None:
    cluster_of(second, "10.0.0.13", {"10.0.0.11 cluster": MEMBER, "10.0.0.11 *": NOT_WELL})
    done = become(second, "cp2")
    assert done.returncode == 0, done.stderr
    asked = [request for request in second.asked if request.endswith("keys")]
    assert asked == ["root@10.0.0.11 keys", "root@10.0.0.13 keys"]


@pytest.mark.parametrize("answer", ["exit 1", "exit 75", "exit 255", ":", "echo bm9uc2Vuc2U="])
def test_without_keys_nothing_is_joined(second: Host, answer: str) -> None:
    cluster_of(second, "10.0.0.11", {"10.0.0.11 keys": answer})
    second.sooner("control-plane.sh", "retry 60", "retry 0")
    done = become(second, "cp2")
    assert done.returncode == 1
    assert "no control plane gives the cluster's keys" in done.stderr
    assert kubeadm(second) == []


# --- join.sh -----------------------------------------------------------------------------------

LOGIN = PEERS + DOOR_KEY


@pytest.fixture
def worker(tmp_path: Path) -> Host:
    host = new_host(Host(tmp_path), "10.0.0.21")
    cluster_of(host, "10.0.0.11")
    return host


def test_join_uses_a_fresh_token_and_gives_it_back(worker: Host) -> None:
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert worker.read("/etc/seen.yaml") == (
        f"token: '{TOKEN}'\nid: ''\nserver: 'https://10.0.0.5:6443'\nca: 'Q0E='\n"
    )
    assert set(worker.read("/etc/modes").split()) == {"600"}
    assert (stage(worker), worker.read(f"{STATE}/cluster")) == ("member", "blue\n")
    assert worker.asked == [
        "root@10.0.0.11 mint w1 10.0.0.21 1.36.4",
        "root@10.0.0.11 open 10.0.0.21", "root@10.0.0.12 open 10.0.0.21",
        "root@10.0.0.13 open 10.0.0.21",
        "root@10.0.0.11 forget abcdef",
    ]  # fmt: skip


def test_every_control_plane_is_opened_before_kubeadm_joins_by_any(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    opened = [n for n, call in enumerate(worker.calls) if call.endswith("open 10.0.0.21")]
    joined = next(n for n, call in enumerate(worker.calls) if call.startswith("kubeadm join"))
    assert len(opened) == len(CONTROL_PLANES)
    assert max(opened) < joined


def test_a_worker_on_a_server_says_which(worker: Host) -> None:
    assert worker.run("join.sh", stdin=LOGIN, env=PROVIDER).returncode == 0
    assert "id: 'hcloud://4711'\n" in worker.read("/etc/seen.yaml")


@pytest.mark.parametrize("first", ["exit 255", NOT_WELL])
def test_a_control_plane_that_is_gone_or_not_well_is_passed_over(worker: Host, first: str) -> None:
    cluster_of(worker, "10.0.0.12", {"10.0.0.11 *": first})
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    answered = [request.split()[0] for request in worker.asked if " mint " in request]
    assert answered == ["root@10.0.0.11", "root@10.0.0.12"]


def test_one_that_refuses_is_not_passed_over_but_asked_again(worker: Host) -> None:
    """Another one would say the same."""
    cluster_of(
        worker, "10.0.0.11", {"10.0.0.11 mint*": f"{SECOND_LOOK.replace('255', '1')}{MINTED}"}
    )
    worker.command("sleep", ":")
    assert worker.run("join.sh", stdin=LOGIN).returncode == 0
    answered = [request.split()[0] for request in worker.asked if " mint " in request]
    assert answered == ["root@10.0.0.11", "root@10.0.0.11"]


def test_a_worker_waits_for_control_planes_that_are_upgraded_meanwhile(worker: Host) -> None:
    count = "echo >>/etc/asked; (($(wc -l </etc/asked) > 3)) || { echo older 1.35.7; exit; }; "
    cluster_of(worker, "10.0.0.11", {"10.0.0.11 mint*": count + MINTED})
    worker.command("sleep", ":")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("waiting for the upgrade of a control plane that runs 1.35.7\n") == 3
    joined = next(n for n, call in enumerate(worker.calls) if call.startswith("kubeadm join"))
    assert len([call for call in worker.calls[:joined] if " mint " in call]) == 4
    assert len([call for call in worker.calls if " open " in call]) == len(CONTROL_PLANES)


def test_control_planes_that_are_never_upgraded_are_named_by_their_version(worker: Host) -> None:
    cluster_of(worker, "10.0.0.11", {"10.0.0.11 mint*": "echo older 1.35.7"})
    worker.sooner("peers.sh", "SECONDS + 1800", "SECONDS + 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "a control plane still runs Kubernetes 1.35.7" in done.stderr
    assert "all of them upgraded to 1.36.4" in done.stderr
    assert kubeadm(worker) == []


def test_join_takes_apart_what_it_is_told(worker: Host) -> None:
    """Addresses of ports other than 22 as sshd has them, and the key, which ssh wants with its last newline."""
    peers = (
        "host cp1 debian 10.0.0.11 2222 ssh-ed25519 AAAAcp1\n"
        "host cp2 root 10.0.0.12 22 ecdsa-sha2-nistp256 AAAAcp2\n"
    )
    copy = "cp /run/own-kubernetes/* /etc; stat --format=%a /run/own-kubernetes/* >/etc/modes; "
    cluster_of(worker, "10.0.0.11", {"10.0.0.11 mint*": copy + MINTED})
    worker.command("kubeadm", "mkdir -p /etc/kubernetes; echo >/etc/kubernetes/kubelet.conf")
    done = worker.run("join.sh", stdin=peers + DOOR_KEY)
    assert done.returncode == 0, done.stderr
    assert worker.read("/etc/known-hosts") == (
        "[10.0.0.11]:2222 ssh-ed25519 AAAAcp1\n10.0.0.12 ecdsa-sha2-nistp256 AAAAcp2\n"
    )
    assert worker.read("/etc/door-key") == DOOR_KEY
    assert worker.read("/etc/admitted") == ""
    assert set(worker.read("/etc/modes").split()) == {"600"}
    (first, *_) = [call for call in worker.called("ssh") if " mint " in call]
    assert " -p 2222 " in first
    assert " debian@10.0.0.11 mint w1 " in first


def test_hosts_are_asked_by_their_own_keys_and_nothing_of_the_machines(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    assert worker.called("ssh")
    for call in worker.called("ssh"):
        for option in (
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=none",
            "IdentitiesOnly=yes",
        ):
            assert f" -o {option} " in call
        assert f"UserKnownHostsFile={worker.root}/run/own-kubernetes/known-hosts" in call
        assert call.startswith("-F none ")
        assert "BatchMode=yes" in call


def test_join_waits_for_the_address_before_it_asks_for_a_token(worker: Host) -> None:
    worker.command("ip", ":")
    worker.sooner("lib.sh", "wait_for 120", "wait_for 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "no interface has the address 10.0.0.21" in done.stderr
    assert worker.asked == []


def test_join_leaves_no_secret_behind_and_shows_none(worker: Host) -> None:
    done = worker.run("join.sh", stdin=LOGIN)
    assert list(worker.path("/run/own-kubernetes").iterdir()) == []
    nothing_is_told(worker, done)


def test_a_failed_join_leaves_no_secret_behind_either(worker: Host) -> None:
    worker.command("kubeadm", "[[ $1 != join ]]")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode != 0
    assert list(worker.path("/run/own-kubernetes").iterdir()) == []
    assert stage(worker) == "join"
    nothing_is_told(worker, done)


def test_a_token_that_is_not_forgotten_is_told_and_no_error(worker: Host) -> None:
    cluster_of(worker, "10.0.0.11", {"10.0.0.11 forget*": "exit 1"})
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert "the token was not deleted; it ends by itself in 15 minutes" in done.stderr


def test_join_resets_what_it_left_unfinished_and_does_it_again(worker: Host) -> None:
    worker.write(f"{STATE}/stage", "join\n")
    worker.write("/etc/kubernetes/kubelet.conf", "half done")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert kubeadm(worker) == ["reset", "join"]


@pytest.mark.parametrize("left", ["join", "member"])
def test_a_worker_of_another_cluster_of_ours_is_refused(worker: Host, left: str) -> None:
    worker.write(f"{STATE}/cluster", "green\n")
    worker.write(f"{STATE}/stage", f"{left}\n")
    worker.write("/etc/kubernetes/kubelet.conf", "theirs")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "belongs to our cluster 'green'" in done.stderr
    assert (kubeadm(worker), worker.asked, stage(worker)) == ([], [], left)
    nothing_is_told(worker, done)


def test_join_finds_a_node_that_is_there(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    worker.forget_calls()
    assert worker.run("join.sh", stdin=LOGIN).returncode == 0
    assert (kubeadm(worker), worker.asked) == ([], [])


def test_a_node_that_the_cluster_has_forgotten_joins_again(worker: Host) -> None:
    worker.run("join.sh", stdin=LOGIN)
    worker.forget_calls()
    worker.sooner("join.sh", "wait_for 30", "wait_for 0")
    worker.command("kubectl", "[[ $* != *'get node w1' ]] || exit 1; echo True")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 0, done.stderr
    assert kubeadm(worker) == ["reset", "join"]


def test_join_without_a_token_names_the_control_planes(worker: Host) -> None:
    worker.peers({})
    worker.sooner("peers.sh", "retry 120", "retry 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    names = "cp1 (10.0.0.11) cp2 (10.0.0.12) cp3 (10.0.0.13)"
    assert f"no control plane answers for cluster blue: {names}\n" in done.stderr
    assert "open the control planes' SSH port" in done.stderr
    assert worker.secrets() == []


def test_a_node_that_never_gets_ready_is_an_error(worker: Host) -> None:
    worker.command("kubectl", "echo False")
    worker.sooner("join.sh", "wait_for 300", "wait_for 0")
    done = worker.run("join.sh", stdin=LOGIN)
    assert done.returncode == 1
    assert "node w1 is not Ready" in done.stderr


def test_secret_files_are_those_that_are_looked_for(worker: Host) -> None:
    """The other side of the tests above: while the phase runs they are there."""
    worker.command("kubeadm", "ls /run/own-kubernetes >/etc/seen")
    worker.run("join.sh", stdin=LOGIN)
    assert set(worker.read("/etc/seen").split()) == set(SECRET_FILES)
