"""Snapshots, and a cluster made from one: real scripts, age and curl, on pretended hosts."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.s3 import S3
from tests.unit.hosts import Host

CLUSTER_YAML = """\
apiServer: {}
apiVersion: kubeadm.k8s.io/v1beta4
clusterName: blue
controlPlaneEndpoint: 10.0.0.5:6443
kind: ClusterConfiguration
kubernetesVersion: v1.36.4
networking:
  dnsDomain: cluster.local
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/12
"""
ETCD_DATA = "etcd's data: SECRET-OF-THE-CLUSTER\n"
KEYS = ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key",
        "etcd/ca.crt", "etcd/ca.key")  # fmt: skip
NOT_KEYS = ("apiserver.crt", "apiserver.key", "etcd/server.key", "etcd/peer.crt")
FOLDER = "/var/backups/own-kubernetes"
WORK = "/var/lib/etcd/own-kubernetes-backup"
UNITS = "/etc/systemd/system"

CRICTL = """\
case $1 in
  ps) echo c1 ;;
  exec)
    [[ ! -e /etc/etcd-is-down ]] || { echo "context deadline exceeded" >&2; exit 1; }
    printf '%s' "$(</etc/etcd-data)" >"${@: -1}"
    stat --format='%a %n' "$(dirname "${@: -1}")" "${@: -1}" >/etc/modes
    ;;
esac
"""
KUBECTL = """\
case $* in
  *kubeadm-config*) cat /etc/cluster.yaml ;;
  *readyz*) [[ ! -e /etc/api-is-down ]] ;;
esac
"""
SYSTEMCTL = """\
[[ $* != "start own-kubernetes-backup.service" ]] ||
  exec bash /usr/local/lib/own-kubernetes/snapshot.sh >/etc/journal 2>&1
"""
DATE = """\
now=$(cat /etc/now)
echo $((now + 1)) >/etc/now
printf '20260101T%06dZ\\n' "$now"
"""
DPKG_QUERY = """\
case $* in
  *Status*) echo "installed 1.0" ;;
  *) echo "$(cat /etc/kubernetes-version)-1.1" ;;
esac
"""


@pytest.fixture(scope="session")
def age_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An age key pair: the public one, and the private one as age-keygen writes it."""
    if not shutil.which("age-keygen"):
        pytest.fail("age is not installed: run `make check`, or `apt-get install age`")
    file = tmp_path_factory.mktemp("age") / "key.txt"
    subprocess.run(["age-keygen", "-o", str(file)], check=True, capture_output=True)
    text = file.read_text()
    return text.split("public key: ")[1].split()[0], text.splitlines()[-1]


@pytest.fixture
def storage() -> Iterator[S3]:
    storage = S3()
    yield storage
    storage.close()


def pretended(root: Path) -> Host:
    root.mkdir(exist_ok=True)
    host = Host(root)
    host.command("curl", 'exec /usr/bin/curl "$@"')
    host.command("crictl", CRICTL)
    host.command("kubectl", KUBECTL)
    host.command("systemctl", SYSTEMCTL)
    host.command("systemd-analyze", "[[ $2 != *nonsense* ]]")
    host.command("journalctl", "cat /etc/journal")
    host.command("sleep", ":")
    host.command("date", DATE)
    host.command("dpkg-query", DPKG_QUERY)
    host.write("/etc/now", "0")
    host.write("/etc/kubernetes-version", "1.36.4")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    host.path(UNITS).mkdir(parents=True)
    return host


@pytest.fixture
def member(tmp_path: Path) -> Host:
    """A control plane that has joined."""
    host = pretended(tmp_path / "member")
    host.write("/var/lib/own-kubernetes/stage", "member\n")
    host.write("/etc/own-kubernetes/internal-address", "10.0.0.11\n")
    host.write("/etc/cluster.yaml", CLUSTER_YAML)
    host.write("/etc/etcd-data", ETCD_DATA)
    for name in (*KEYS, *NOT_KEYS):
        host.write(f"/etc/kubernetes/pki/{name}", f"{name} IN-CLEAR\n")
    host.path("/var/lib/etcd").mkdir(parents=True)
    return host


def values(age_key: tuple[str, str], storage: S3 | None = None, **more: str) -> dict[str, str]:
    """What the program hands over."""
    to = (
        {"S3_URL": f"{storage.url}/backups/clusters", "S3_REGION": storage.region}
        if storage
        else {}
    )
    return {
        "CLUSTER": "blue",
        "NODE": "cp1",
        "SCHEDULE": "*-*-* 03:00:00",
        "DIRECTORY": "",
        "KEEP": "7",
        "RECIPIENT": age_key[0],
        **to,
        **more,
    }


def back_up(
    host: Host, given: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the phase; its folder is on the pretended host."""
    env = {**given, "DIRECTORY": given["DIRECTORY"] or str(host.path(FOLDER))}
    return host.run("backup.sh", stdin=stdin, env=env)


def snapshots(host: Host, folder: str = FOLDER) -> list[Path]:
    return sorted(host.path(folder).iterdir()) if host.path(folder).exists() else []


def opened(file: Path, age_key: tuple[str, str]) -> dict[str, str]:
    """What is in a snapshot, by name."""
    done = subprocess.run(
        ["age", "--decrypt", "--identity", "-", str(file)],
        input=age_key[1].encode(), capture_output=True, check=True,
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {name: tar.extractfile(name).read().decode() for name in tar.getnames()}  # type: ignore[union-attr]


def everything(host: Host) -> str:
    """All texts on the host but its keys, the source of etcd's data, and the scripts."""
    skipped = ("etc/kubernetes/pki", "etc/etcd-data", "usr", "commands")
    return "\n".join(
        f"{path}: {path.read_bytes()!r}"
        for path in host.root.rglob("*")
        if path.is_file() and not str(path.relative_to(host.root)).startswith(skipped)
    )


# --- taking snapshots --------------------------------------------------------------------------


def test_the_first_snapshot_holds_what_brings_the_cluster_back(
    member: Host, age_key: tuple[str, str]
) -> None:
    done = back_up(member, values(age_key))
    assert done.returncode == 0, done.stderr
    (file,) = snapshots(member)
    assert file.name == "blue-cp1-20260101T000000Z.tar.age"
    found = opened(file, age_key)
    assert done.stderr.splitlines()[-1] == str(file)
    assert list(found) == ["cluster.yaml", *(f"pki/{name}" for name in KEYS), "etcd.db"]
    assert found["cluster.yaml"] == CLUSTER_YAML
    assert found["etcd.db"] == ETCD_DATA.rstrip("\n")
    assert found["pki/ca.key"] == "ca.key IN-CLEAR\n"


def test_nothing_of_it_stays_in_clear(member: Host, age_key: tuple[str, str]) -> None:
    done = back_up(member, values(age_key))
    (file,) = snapshots(member)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not member.path(WORK).exists()
    assert member.read("/etc/modes").split("\n")[0].startswith("700 ")
    assert member.read("/etc/modes").split("\n")[1].startswith("600 ")
    for word in ("SECRET-OF-THE-CLUSTER", "IN-CLEAR"):
        assert word not in everything(member)
        assert word not in done.stdout + done.stderr + "\n".join(member.calls)


def test_etcd_may_take_its_time(member: Host, age_key: tuple[str, str]) -> None:
    """A bound for other commands of etcdctl does not hold for this one."""
    back_up(member, values(age_key))
    (call,) = [call for call in member.calls if "snapshot save" in call]
    assert call.index("--command-timeout=30m") < call.index("snapshot save")
    assert "--command-timeout" not in call[call.index("--command-timeout=30m") + 1 :]


def test_the_last_few_are_kept(member: Host, age_key: tuple[str, str]) -> None:
    others = [f"{FOLDER}/{name}" for name in ("blue-cp1-2-20250101T000000Z.tar.age", "notes.txt")]
    for other in others:
        member.write(other, "somebody else's")
    assert back_up(member, values(age_key, KEEP="3")).returncode == 0
    for _ in range(4):
        done = member.run("snapshot.sh")
        assert done.returncode == 0, done.stderr
    own = [file.name for file in snapshots(member) if "cp1-2026" in file.name]
    assert own == [f"blue-cp1-20260101T00000{n}Z.tar.age" for n in (2, 3, 4)]
    assert all(member.path(other).exists() for other in others)


def test_what_a_run_left_that_was_cut_off_goes(member: Host, age_key: tuple[str, str]) -> None:
    back_up(member, values(age_key))
    member.write(f"{WORK}/etcd.db", "half")
    part = member.write(f"{FOLDER}/blue-cp1-20260101T000000Z.tar.age.part", "half")
    assert member.run("snapshot.sh").returncode == 0
    assert not part.exists()
    assert not member.path(WORK).exists()


def test_a_snapshot_that_fails_says_so_and_leaves_nothing(
    member: Host, age_key: tuple[str, str]
) -> None:
    member.write("/etc/etcd-is-down", "")
    done = back_up(member, values(age_key))
    assert done.returncode == 1
    assert "error on pretended: no snapshot of etcd" in done.stderr
    assert "error on pretended: the first snapshot failed" in done.stderr
    assert "context deadline exceeded" in done.stderr
    assert done.stderr.count("remedy:") == 2
    assert snapshots(member) == []
    assert not member.path(WORK).exists()


def test_an_api_server_that_does_not_answer_is_named(
    member: Host, age_key: tuple[str, str]
) -> None:
    member.write("/etc/api-is-down", "")
    script = member.scripts / "snapshot.sh"
    script.write_text(script.read_text().replace("wait_for 180", "wait_for 0"))
    done = back_up(member, values(age_key))
    assert done.returncode == 1
    assert "the API server does not answer" in done.stderr


def test_a_host_that_is_no_member_takes_none(member: Host, age_key: tuple[str, str]) -> None:
    member.write("/var/lib/own-kubernetes/stage", "join\n")
    done = back_up(member, values(age_key))
    assert done.returncode == 1
    assert "this host is in no cluster of ours" in done.stderr


# --- the timer ---------------------------------------------------------------------------------


def test_the_timer_has_the_schedule_and_is_started(member: Host, age_key: tuple[str, str]) -> None:
    back_up(member, values(age_key, SCHEDULE="Mon..Fri *-*-* 02:30:00 UTC"))
    timer = member.read(f"{UNITS}/own-kubernetes-backup.timer").splitlines()
    assert "OnCalendar=Mon..Fri *-*-* 02:30:00 UTC" in timer
    assert {"Persistent=true", "FixedRandomDelay=true"} <= set(timer)
    assert any(line.startswith("RandomizedDelaySec=") for line in timer)
    assert f"ExecStart={member.scripts}/snapshot.sh" in member.read(
        f"{UNITS}/own-kubernetes-backup.service"
    )
    calls = member.calls
    assert calls.index("systemctl daemon-reload") < calls.index(
        "systemctl restart own-kubernetes-backup.timer"
    )
    assert "systemctl enable --quiet own-kubernetes-backup.timer" in calls


def test_systemd_has_the_last_word_on_the_schedule(member: Host, age_key: tuple[str, str]) -> None:
    done = back_up(member, values(age_key, SCHEDULE="nonsense"))
    assert done.returncode == 1
    assert "systemd does not understand the schedule 'nonsense'" in done.stderr
    assert not member.path(f"{UNITS}/own-kubernetes-backup.timer").exists()


def test_taken_out_nothing_stays_but_the_snapshots(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    back_up(member, values(age_key, storage), storage.credentials)
    member.write("/var/lib/systemd/timers/stamp-own-kubernetes-backup.timer", "")
    for _ in range(2):
        done = member.run("backup.sh", env={"REMOVE": "true"})
        assert done.returncode == 0, done.stderr
    left = [str(path) for path in member.root.rglob("*backup*") if path.is_file()]
    left = [path for path in left if "/usr/" not in path]
    assert left == []
    assert "systemctl disable --now --quiet own-kubernetes-backup.timer" in member.calls
    assert len(snapshots(member)) == 1


@pytest.mark.parametrize("script", ["leave.sh", "restore.sh"])
def test_a_host_that_leaves_takes_no_more_snapshots(
    member: Host, age_key: tuple[str, str], script: str
) -> None:
    back_up(member, values(age_key))
    member.write("/var/lib/own-kubernetes/found/complete", "")
    for found in ("swaps", "packages", "sysctls"):
        member.write(f"/var/lib/own-kubernetes/found/{found}", "")
    done = member.run(script)
    assert done.returncode == 0, done.stderr
    assert any(
        call.startswith("systemctl disable") and "own-kubernetes-backup.timer" in call
        for call in member.calls
    )
    assert len(snapshots(member)) == 1, "the user's, and the way back"
    if script == "restore.sh":
        assert not list(member.path(UNITS).glob("own-kubernetes-backup*"))
        assert not member.path("/etc/own-kubernetes").exists()


# --- the storage -------------------------------------------------------------------------------


def test_snapshots_are_uploaded(member: Host, age_key: tuple[str, str], storage: S3) -> None:
    done = back_up(member, values(age_key, storage), storage.credentials)
    assert done.returncode == 0, done.stderr
    (file,) = snapshots(member)
    assert storage.objects == {f"clusters/{file.name}": file.read_bytes()}


def test_credentials_are_for_root_only_and_in_no_argument_list(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    done = back_up(member, values(age_key, storage), storage.credentials)
    file = member.path("/etc/own-kubernetes/backup.curlrc")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = storage.credentials.partition(":")[2]
    assert secret in file.read_text()
    file.unlink()
    assert secret not in everything(member) + "\n".join(member.calls) + done.stdout + done.stderr


def test_credentials_go_with_the_storage(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    back_up(member, values(age_key, storage), storage.credentials)
    assert back_up(member, values(age_key)).returncode == 0
    assert not member.path("/etc/own-kubernetes/backup.curlrc").exists()
    assert len(storage.objects) == 1
    assert len(snapshots(member)) == 2


@pytest.mark.parametrize("given", ["", "only-one-word", 'a:b"c', "a:b\\n", "a b:c"])
def test_credentials_of_another_form_are_refused_unseen(
    member: Host, age_key: tuple[str, str], storage: S3, given: str
) -> None:
    done = back_up(member, values(age_key, storage), given)
    assert done.returncode == 1
    assert "not of the form ACCESS-KEY:SECRET-KEY" in done.stderr
    assert not given or given not in done.stderr
    assert storage.objects == {}


def test_a_storage_that_refuses_is_named_with_its_reason(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    done = back_up(member, values(age_key, storage), "AKIASTORAGE:another-secret")
    assert done.returncode == 1
    assert "SignatureDoesNotMatch" in done.stderr
    assert "the storage refuses the snapshot (403, above)" in done.stderr
    assert len(snapshots(member)) == 1, "kept here meanwhile"
    assert "another-secret" not in done.stderr


def test_a_storage_that_is_tired_is_asked_again(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    storage.errors = [503, 500]
    done = back_up(member, values(age_key, storage), storage.credentials)
    assert done.returncode == 0, done.stderr
    assert len(storage.objects) == 1
    assert "503" in member.read("/etc/journal")


def test_a_storage_that_does_not_answer_is_named(
    member: Host, age_key: tuple[str, str], storage: S3
) -> None:
    script = member.scripts / "snapshot.sh"
    script.write_text(script.read_text().replace("retry 120", "retry 0"))
    given = values(age_key, storage)
    storage.close()
    done = back_up(member, given, storage.credentials)
    assert done.returncode == 1
    assert f"could not be uploaded to {given['S3_URL']}" in done.stderr
    assert len(snapshots(member)) == 1


@pytest.mark.parametrize(("version", "able"), [("7.81.0", False), ("7.86.0", False),
                                               ("7.87.0", True), ("8.5.0", True)])  # fmt: skip
def test_a_curl_that_cannot_sign_uploads_is_refused(
    member: Host, age_key: tuple[str, str], storage: S3, version: str, able: bool
) -> None:
    member.command("curl", f'[[ $1 != --version ]] || {{ echo "curl {version} (x86_64)"; exit; }}\n'
                           'exec /usr/bin/curl "$@"')  # fmt: skip
    done = back_up(member, values(age_key, storage), storage.credentials)
    assert (done.returncode == 0) is able, done.stderr
    assert ("can't sign uploads for S3" in done.stderr) is not able
    assert back_up(member, values(age_key)).returncode == 0, "only uploads need it"


# --- bringing a cluster back -------------------------------------------------------------------

INIT_YAML = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  kubeletExtraArgs:
  - name: provider-id
    value: '@PROVIDER_ID@'
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: blue
kubernetesVersion: v0.0.0
networking:
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/12
"""
PEERS = "host cp1 root 10.0.0.11 22 ssh-ed25519 AAAAcp1\nhost cp2 root 10.0.0.12 22 ssh-ed25519 AAAAcp2\n"
DOOR = "-----BEGIN OPENSSH PRIVATE KEY-----\nPRIVATE\n-----END OPENSSH PRIVATE KEY-----\n"
SNAPSHOT = "/var/lib/own-kubernetes/recovery/snapshot.tar.age"
RECOVERED = "/var/lib/etcd/own-kubernetes-recovery"
KUBEADM = """\
case "$1 $2" in
  "config images") printf 'registry.k8s.io/%s\\n' kube-apiserver:v1 "etcd:$(cat /etc/etcd-image)" pause:3 ;;
  "init --config"*)
    [[ ! -e /etc/init-fails ]] || { mkdir -p /etc/kubernetes/manifests; exit 1; }
    { cd /etc/kubernetes/pki && find . -type f | sort; } >/etc/seen-keys
    cp /var/lib/etcd/member/db /etc/seen-data 2>/dev/null
    ls -A /var/lib/etcd >/etc/seen-folder
    ;;
  "reset --force") rm -rf /etc/kubernetes /var/lib/etcd/member ;;
esac
true
"""
CTR = """\
for word in "$@"; do
  case $word in
    *.db) data=$word ;;
    --data-dir=*) folder=${word#--data-dir=} ;;
  esac
done
[[ ! -e /etc/etcd-refuses ]] || { echo "expected sha256 checksum" >&2; exit 1; }
[[ ! -e $folder ]] || exit 1
mkdir -p "$folder/member"
cp "$data" "$folder/member/db"
"""


@pytest.fixture
def snapshot(member: Host, age_key: tuple[str, str]) -> Path:
    """A snapshot of the lost cluster."""
    back_up(member, values(age_key))
    (file,) = snapshots(member)
    return file


@pytest.fixture
def new(tmp_path: Path) -> Host:
    """A new machine in the place of the first control plane, prepared."""
    host = pretended(tmp_path / "new")
    host.write("/etc/own-kubernetes/internal-address", "10.0.0.11\n")
    host.write("/etc/own-kubernetes/login-user", "root\n")
    host.write("/etc/own-kubernetes/init.yaml", INIT_YAML)
    host.write("/etc/own-kubernetes/settings", "digest\n")
    host.write("/etc/etcd-image", "3.6.8-0")
    host.command("kubeadm", KUBEADM)
    host.command("ctr", CTR)
    host.command("ip", "echo '2: eth0    inet 10.0.0.11/24 scope global eth0'")
    host.command("ssh", "echo 'root@10.0.0.12: Permission denied (publickey).' >&2; exit 255")
    return host


def receive(host: Host, snapshot: Path, digest: str = "") -> subprocess.CompletedProcess[str]:
    digest = digest or subprocess.check_output(["sha256sum", snapshot], text=True).split()[0]
    with snapshot.open("rb") as file:
        return subprocess.run(
            ["bash", str(host.scripts / "receive.sh"), digest],
            stdin=file, capture_output=True, text=True, check=False,
        )  # fmt: skip


def recover(host: Host, age_key: tuple[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    env = {"CLUSTER": "blue", "NODE": "cp1", "SCHEDULABLE": "false", "RECOVERY": "0123456789ab"}
    stdin = f"open {age_key[1]}\n{PEERS}{DOOR}"
    return host.run("control-plane.sh", stdin=stdin, env={**env, **more})


def kubeadm_calls(host: Host) -> list[str]:
    """What kubeadm was called for, but for questions."""
    calls = [call.split()[1:] for call in host.calls if call.startswith("kubeadm ")]
    return [words[0] if words[1] != "phase" else " ".join(words[2:-1])
            for words in calls if words[0] != "config"]  # fmt: skip


def test_a_lost_cluster_is_made_from_the_snapshot(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    assert receive(new, snapshot).returncode == 0
    done = recover(new, age_key)
    assert done.returncode == 0, done.stderr
    assert new.read("/etc/seen-keys").split() == sorted(
        f"./{name}" for name in (*KEYS, "encryption.yaml")
    )
    encryption = new.read("/etc/kubernetes/pki/encryption.yaml")
    assert "secretbox" not in encryption, "nothing in a snapshot without a key is encrypted"
    assert new.read("/etc/seen-data") == ETCD_DATA.rstrip("\n")
    assert new.read("/etc/seen-folder").split() == ["member"], "etcd's folder has nothing else"
    assert new.read("/var/lib/own-kubernetes/stage") == "member\n"
    (init,) = [call for call in new.calls if call.startswith("kubeadm init --config")]
    assert init.endswith("--ignore-preflight-errors=DirAvailable--var-lib-etcd")


def test_the_key_that_secrets_are_encrypted_with_comes_along(
    member: Host, new: Host, age_key: tuple[str, str]
) -> None:
    """Else nobody could read what is in etcd's data."""
    text = "  - secretbox: {keys: [{name: key, secret: QUJD}]}\n  - identity: {}\n"
    member.write("/etc/kubernetes/pki/encryption.yaml", text)
    back_up(member, values(age_key))
    receive(new, snapshots(member)[0])
    done = recover(new, age_key)
    assert done.returncode == 0, done.stderr
    assert new.read("/etc/kubernetes/pki/encryption.yaml") == text
    assert new.read("/var/lib/own-kubernetes/encryption").splitlines()[1] == "identity"


def test_etcd_becomes_a_cluster_of_this_member_only(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    recover(new, age_key)
    (call,) = [call for call in new.calls if call.startswith("ctr ")]
    words = call.split()
    assert "registry.k8s.io/etcd:3.6.8-0" in words
    assert {
        "--name=cp1",
        "--initial-cluster=cp1=https://10.0.0.11:2380",
        "--initial-advertise-peer-urls=https://10.0.0.11:2380",
        "--bump-revision=1000000000",
        "--mark-compacted",
    } <= set(words)
    assert any(word.endswith("/usr/local/bin/etcdutl") for word in words)


def test_the_image_of_an_older_etcd_has_another_tool(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    new.write("/etc/etcd-image", "3.5.15-0")
    receive(new, snapshot)
    assert recover(new, age_key).returncode == 0
    (call,) = [call for call in new.calls if call.startswith("ctr ")]
    assert "/usr/local/bin/etcdctl snapshot restore" in call
    assert "--bump-revision" not in call


def test_former_control_planes_are_forgotten_before_the_node_counts_as_joined(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    recover(new, age_key)
    calls = new.calls
    delete = next(n for n, call in enumerate(calls) if "delete node --selector" in call)
    assert "node-role.kubernetes.io/control-plane" in calls[delete]
    assert calls.index("systemctl stop kubelet") < delete < calls.index("systemctl start kubelet")
    assert kubeadm_calls(new) == ["init", "upload-config kubelet", "mark-control-plane"]


def test_nothing_of_the_snapshot_stays_but_what_it_became(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    assert stat.S_IMODE(new.path(SNAPSHOT).stat().st_mode) == 0o600
    done = recover(new, age_key)
    assert not new.path(SNAPSHOT).parent.exists()
    assert not new.path(RECOVERED).exists()
    assert not new.path("/run/own-kubernetes/identity").exists()
    assert age_key[1] not in everything(new) + "\n".join(new.calls) + done.stdout + done.stderr
    assert stat.S_IMODE(new.path("/etc/kubernetes/pki/etcd").stat().st_mode) == 0o755


def test_a_recovery_that_broke_off_is_reset_and_done_again(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    new.write("/etc/init-fails", "")
    assert recover(new, age_key).returncode == 1
    assert new.read("/var/lib/own-kubernetes/stage") == "init\n"
    assert new.path(SNAPSHOT).exists()
    assert not new.path("/run/own-kubernetes/identity").exists()
    new.path("/etc/init-fails").unlink()
    done = recover(new, age_key)
    assert done.returncode == 0, done.stderr
    assert new.read("/etc/seen-data") == ETCD_DATA.rstrip("\n")
    assert kubeadm_calls(new) == [
        "init", "reset", "init", "upload-config kubelet", "mark-control-plane",
    ]  # fmt: skip


def test_without_its_snapshot_no_empty_cluster_is_made(new: Host, age_key: tuple[str, str]) -> None:
    done = recover(new, age_key)
    assert done.returncode == 1
    assert "there is no snapshot on this host" in done.stderr
    assert kubeadm_calls(new) == []


def test_without_the_key_no_empty_cluster_is_made(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    done = recover(new, ("", ""))
    assert done.returncode == 1
    assert "can't be opened" in done.stderr or "no age key" in done.stderr
    assert kubeadm_calls(new) == []


def test_another_key_is_refused_with_the_remedy(new: Host, snapshot: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    subprocess.run(["age-keygen", "-o", str(other)], check=True, capture_output=True)
    receive(new, snapshot)
    done = recover(new, ("", other.read_text().splitlines()[-1]), DETAIL=str(new.path("/detail")))
    assert done.returncode == 1
    assert "the snapshot can't be opened" in done.stderr
    assert "set recoveryKey to the key whose public half backup.publicKey was" in done.stderr
    assert "no identity matched" in done.stderr
    assert kubeadm_calls(new) == []
    assert not new.path(RECOVERED).exists()


@pytest.mark.parametrize(
    ("old", "instead", "setting"),
    [
        ("clusterName: blue", "clusterName: green", "clusterName"),
        ("podSubnet: 10.244.0.0/16", "podSubnet: 10.200.0.0/16", "podCidr"),
        ("serviceSubnet: 10.96.0.0/12", "serviceSubnet: 10.32.0.0/12", "serviceCidr"),
    ],
)
def test_a_snapshot_of_another_cluster_is_refused(
    new: Host, snapshot: Path, age_key: tuple[str, str], old: str, instead: str, setting: str
) -> None:
    new.write("/etc/own-kubernetes/init.yaml", INIT_YAML.replace(old, instead))
    receive(new, snapshot)
    done = recover(new, age_key)
    assert done.returncode == 1
    assert f"the snapshot is of a cluster whose {setting} is '{old.split()[1]}'" in done.stderr
    assert f"'{instead.split()[1]}', as in the stack file" in done.stderr
    assert kubeadm_calls(new) == []


@pytest.mark.parametrize(
    ("installed", "taken"),
    [("1.36.4", True), ("1.36.5", True), ("1.37.0", True), ("1.36.3", False), ("1.35.9", False),
     ("1.38.0", False)],
)  # fmt: skip
def test_versions_go_as_in_an_upgrade(
    new: Host, snapshot: Path, age_key: tuple[str, str], installed: str, taken: bool
) -> None:
    new.write("/etc/kubernetes-version", installed)
    receive(new, snapshot)
    done = recover(new, age_key)
    assert (done.returncode == 0) is taken, done.stderr
    assert (f"of Kubernetes 1.36.4, installed here is {installed}" in done.stderr) is not taken


def test_a_snapshot_that_etcd_does_not_take_is_an_error(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    new.write("/etc/etcd-refuses", "")
    receive(new, snapshot)
    done = recover(new, age_key, DETAIL=str(new.path("/detail")))
    assert done.returncode == 1
    assert "etcd does not take the snapshot" in done.stderr
    assert "expected sha256 checksum" in done.stderr
    assert kubeadm_calls(new) == []


def test_while_another_control_plane_may_be_there_nothing_is_recovered(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    new.command("ssh", "echo 'connect to host 10.0.0.12 port 22: No route to host' >&2; exit 255")
    script = new.scripts / "control-plane.sh"
    script.write_text(script.read_text().replace("wait_for 300", "wait_for 0"))
    receive(new, snapshot)
    done = recover(new, age_key)
    assert done.returncode == 1
    assert "not every other control plane could be asked" in done.stderr
    assert kubeadm_calls(new) == []
    assert new.path(SNAPSHOT).exists()


def test_where_the_cluster_is_this_host_joins_it(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    new.command(
        "ssh",
        "case ${@: -1} in\n  cluster) echo blue ;;\n  keys) cat /etc/keys ;;\n"
        "  mint*) echo abcdef.0123456789abcdef Q0E= https://10.0.0.5:6443 ;;\nesac",
    )
    keys = subprocess.check_output(["tar", "--create", "--files-from=/dev/null"])
    new.write("/etc/keys", subprocess.check_output(["base64"], input=keys, text=False).decode())
    for file in ("join", "discovery"):
        new.write(f"/etc/own-kubernetes/{file}.yaml", "token: '@TOKEN@'\n")
    receive(new, snapshot)
    done = recover(new, age_key)
    assert done.returncode == 0, done.stderr
    assert kubeadm_calls(new) == ["join"]
    assert not new.path(SNAPSHOT).exists()


def test_a_member_keeps_no_snapshot(member: Host, snapshot: Path) -> None:
    done = receive(member, snapshot)
    assert done.returncode == 0
    assert "is a member of its cluster already" in done.stderr
    assert not member.path(SNAPSHOT).exists()


def test_a_snapshot_that_arrives_otherwise_is_not_kept(new: Host, snapshot: Path) -> None:
    done = receive(new, snapshot, "0" * 64)
    assert done.returncode == 1
    assert "did not arrive as it was sent" in done.stderr
    assert not new.path(SNAPSHOT).exists()


def test_a_host_that_leaves_keeps_no_snapshot_of_a_recovery(
    new: Host, snapshot: Path, age_key: tuple[str, str]
) -> None:
    receive(new, snapshot)
    new.write("/var/lib/own-kubernetes/found/complete", "")
    for found in ("swaps", "packages", "sysctls"):
        new.write(f"/var/lib/own-kubernetes/found/{found}", "")
    assert new.run("restore.sh").returncode == 0
    assert not new.path("/var/lib/own-kubernetes").exists()
