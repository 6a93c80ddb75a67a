"""How the key for Secrets in etcd is changed (encryption.sh), on control planes that share a pretended etcd.

An API server is what its host's file said when it was started last. After each start all that any of them may
have written until then is looked at: every one has to be able to read it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.hosts import CONTROL_PLANES, DOOR_KEY, PEERS, Host

STATE = "/var/lib/own-kubernetes"
ENCRYPTION = "/etc/kubernetes/pki/encryption.yaml"
SECRET = "T0xELUtFWS1PTEQtS0VZLU9MRC1LRVktT0xELUtFWTE="
HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
CLEAR = f"{HEAD}- resources: [secrets]\n  providers:\n  - identity: {{}}\n"
KEY = CLEAR.replace("  - id", f"  - secretbox: {{keys: [{{name: key, secret: {SECRET}}}]}}\n  - id")

CRICTL = """\
case $* in
  *etcdctl*) cat ETCD/values ;;
  ps*) echo c0ffee ;;
  stop*)
    number=$(($(cat ETCD/starts 2>/dev/null || echo 0) + 1))
    echo $number >ETCD/starts
    at=$(cat ETCD/fails 2>/dev/null || true)
    [[ $at != "$number before" ]] || exit 1
    cp /etc/kubernetes/pki/encryption.yaml /etc/running
    { echo "start HOST"; cat ETCD/../10.0.0.1{1,2,3}/etc/running; } >>ETCD/history
    [[ $at != "$number after" ]] || exit 1
    ;;
esac"""
"""The API server is killed, and is there again with what its host has."""

KUBECTL = """\
case $* in
  *readyz*) [[ ! -e /etc/api-is-down ]] ;;
  *' replace '*)
    cat >/dev/null
    [[ ! -e ETCD/refuses ]] || { rm ETCD/refuses; exit 1; }
    name=$(grep -oE 'name: [^,]+|identity' /etc/running | head -n 1)
    value=$(printf 'k8s:enc:secretbox:v1:%s:%s' "${name#name: }" XYZ | base64 --wrap=0)
    [[ ! -e ETCD/keeps-one ]] || other=',{"key":"Yg==","value":"azhzAAo="}'
    echo '{"header":{},"kvs":[{"key":"YQ==","lease":"1","value":"'"$value"'"}'"${other:-}"']}' >ETCD/values
    { echo "rewritten"; cat ETCD/../10.0.0.1{1,2,3}/etc/running; } >>ETCD/history
    ;;
esac"""

SSH = """\
there=ROOT/${@: -2:1}
there=${there/root@/}
[[ ! -e $there/is-off ]] || exit 255
PATH=$there/commands:$PATH
exec bash "$there/usr/local/lib/own-kubernetes/door.sh" control-plane "${@: -1}\""""


class ControlPlanes:
    """Three of them, and the etcd that they share.

    Args:
        root: an empty folder.
        text: of the file that all have, and have loaded.
    """

    def __init__(self, root: Path, text: str = KEY) -> None:
        self.etcd = root / "etcd"
        self.etcd.mkdir()
        self.hosts = {}
        for name, address in CONTROL_PLANES.items():
            (root / address).mkdir()
            self.hosts[name] = host = Host(root / address)
            host.write(f"{STATE}/stage", "member\n")
            host.write(ENCRYPTION, text)
            host.write("/etc/running", text)
            host.path("/run/own-kubernetes").mkdir(parents=True)
            host.on_network(address)
            for command, body in (("crictl", CRICTL), ("kubectl", KUBECTL), ("ssh", SSH)):
                there = body.replace("ETCD", str(self.etcd)).replace("ROOT", str(root))
                host.command(command, there.replace("HOST", name))
            lines = "source cluster.sh; source encryption-keys.sh; encryption_is_loaded"
            done = host.source("lib.sh", lines.replace("source ", f"source {host.scripts}/"))
            assert done.returncode == 0, done.stderr

    def rotate(self, word: str = "", leader: str = "cp1") -> subprocess.CompletedProcess[str]:
        """Run the phase on one of them."""
        env = {"NODE": leader, **({"ROTATION": word} if word else {})}
        return self.hosts[leader].run("encryption.sh", stdin=PEERS + DOOR_KEY, env=env)

    def fail(self, number: int, when: str) -> None:
        """The API server that is started as the n-th is not, or nobody gets to know that it was."""
        (self.etcd / "fails").write_text(f"{number} {when}")

    def names(self) -> list[list[str]]:
        """Of the keys in each one's file, in order."""
        return [[name for name, _ in keys(host.read(ENCRYPTION))] for host in self.hosts.values()]

    def history(self) -> list[tuple[str, list[list[tuple[str, str]]]]]:
        """Each start and each rewriting, and what every API server had loaded then."""
        file = self.etcd / "history"
        found = []
        for part in re.split(
            r"^(?=start|rewritten)", file.read_text() if file.exists() else "", flags=re.M
        )[1:]:
            event, _, rest = part.partition("\n")
            found.append((event, [keys(text) for text in rest.split(HEAD)[1:]]))
        return found

    def starts(self) -> list[str]:
        """Whose API servers were started, in order."""
        return [event.split()[1] for event, _ in self.history() if event != "rewritten"]

    def nothing_was_unreadable(self) -> bool:
        """Whether each could read, all the time, what any may have written."""
        first = keys(KEY)[0]
        written = {first}
        for event, loaded in self.history():
            writing = {entries[0] for entries in loaded}
            written = writing if event == "rewritten" else written | writing
            if not all(written <= set(entries) for entries in loaded):
                return False
        return True


def keys(text: str) -> list[tuple[str, str]]:
    """The entries of a file: names and secrets."""
    found = re.findall(r"(identity)|name: ([^,]+), secret: ([^}]+)", text)
    return [(clear or name, secret) for clear, name, secret in found]


def test_a_word_brings_a_new_key_in_the_order_that_loses_nothing(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path)
    done = site.rotate("2026")
    assert done.returncode == 0, done.stderr
    assert site.names() == [["key-2026", "identity"]] * 3
    assert site.starts() == ["cp2", "cp3", "cp1"] * 3, "one after the other, the leader last"
    assert [event for event, _ in site.history()].index("rewritten") == 6
    assert site.nothing_was_unreadable()
    files = {host.read(ENCRYPTION) for host in site.hosts.values()}
    assert len(files) == 1
    assert SECRET not in files.pop()


def test_a_second_run_does_nothing_and_taking_the_word_out_neither(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path)
    assert site.rotate().returncode == 0
    assert site.starts() == []
    site.rotate("2026")
    before = site.history()
    for word in ("2026", ""):
        done = site.rotate(word, "cp3")
        assert (done.returncode, done.stderr) == (0, "")
    assert site.history() == before


def test_a_single_control_plane_is_away_twice_only(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path)
    alone = PEERS.splitlines()[0] + "\n" + DOOR_KEY
    env = {"NODE": "cp1", "ROTATION": "2026"}
    done = site.hosts["cp1"].run("encryption.sh", stdin=alone, env=env)
    assert done.returncode == 0, done.stderr
    assert site.names()[0] == ["key-2026", "identity"]
    assert site.starts() == ["cp1", "cp1"]


def test_a_cluster_that_was_made_without_a_key_gets_one(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path, CLEAR)
    assert site.rotate().returncode == 0
    assert site.names() == [["key", "identity"]] * 3


@pytest.mark.parametrize(("number", "when"), [(1, "after"), (5, "before"), (8, "after")])
def test_a_run_that_broke_off_is_gone_on_with(tmp_path: Path, number: int, when: str) -> None:
    """On another control plane, too: what was lost with the leader is made anew."""
    site = ControlPlanes(tmp_path)
    site.fail(number, when)
    assert site.rotate("2026").returncode == 1
    assert site.rotate("2026", "cp3" if when == "after" else "cp1").returncode == 0
    assert site.names() == [["key-2026", "identity"]] * 3
    assert site.nothing_was_unreadable()


def test_the_old_key_stays_while_a_secret_is_not_written_anew(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path)
    (site.etcd / "keeps-one").touch()
    done = site.rotate("2026")
    assert done.returncode == 1
    assert "not every Secret is encrypted with key-2026 yet" in done.stderr
    assert site.names() == [["key-2026", "key", "identity"]] * 3
    (site.etcd / "keeps-one").unlink()
    (site.etcd / "refuses").touch()  # once: somebody else changed one meanwhile
    assert site.rotate("2026").returncode == 0
    assert site.names() == [["key-2026", "identity"]] * 3


@pytest.mark.parametrize("sign", ["is-off", "etc/api-is-down"])
def test_nothing_is_changed_while_a_control_plane_does_not_answer(
    tmp_path: Path, sign: str
) -> None:
    site = ControlPlanes(tmp_path)
    cp2 = site.hosts["cp2"]
    cp2.path(sign).touch()
    site.hosts["cp1"].sooner("encryption.sh", "retry 60", "retry 0")
    done = site.rotate("2026")
    assert done.returncode == 1
    assert "control plane cp2 does not tell which keys it has" in done.stderr
    assert site.starts() == []


def test_no_secret_is_seen_by_others(tmp_path: Path) -> None:
    site = ControlPlanes(tmp_path)
    done = site.rotate("2026")
    (_, new), _ = (pair for pair in keys(site.hosts["cp1"].read(ENCRYPTION)))
    for host in site.hosts.values():
        assert host.path(ENCRYPTION).stat().st_mode & 0o777 == 0o600
        told = "\n".join([*host.calls, done.stderr, done.stdout, host.read(f"{STATE}/encryption")])
        assert new not in told
        assert SECRET not in told
        assert not host.path("/run/own-kubernetes/encryption.yaml").exists()


def test_the_door_gives_and_takes_keys_for_control_planes_only(tmp_path: Path) -> None:
    host = ControlPlanes(tmp_path).hosts["cp1"]
    for request in ("encryption", "encryption take"):
        done = host.run("door.sh", "worker", stdin=CLEAR, env={"SSH_ORIGINAL_COMMAND": request})
        assert (done.returncode, done.stdout) == (1, "")
    assert host.read(ENCRYPTION) == KEY
