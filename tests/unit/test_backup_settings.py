"""Backups in the stack file and in the graph: what is refused, what the engine gets and must not see."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cluster import age_keys, recovery, settings
from cluster.settings import S3_CREDENTIALS
from sandbox.mirror import parts
from tests.unit import goldens
from tests.unit.graph import SECRET, Graph, run_program
from tests.unit.sites import HA
from tests.unit.stacks import REMOVED, ROOT, changed, declarations, load, problem
from tests.unit.test_graph import access_output, answers

__all__ = ["access_output", "answers"]  # fixtures

PUBLIC = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
PRIVATE = "AGE-SECRET-KEY-12RJDVDGX42TTW4HJPCU0X827CFRGXKQ66MSZPF0S7M5CAF92NW3SY58F3V"
KEY_FILE = f"# created: 2026-01-01T00:00:00Z\n# public key: {PUBLIC}\n{PRIVATE}\n"
STORAGE = {
    "endpoint": "https://fsn1.your-objectstorage.com",
    "region": "fsn1",
    "bucket": "own-backups",
    "prefix": "clusters/blue",
}
CREDENTIALS = "AKIA0123:in-clear/secret+key="
BACKUP: Mapping[str, Any] = {"backup": {"publicKey": PUBLIC}}
UPLOADED: Mapping[str, Any] = {
    "backup": {"publicKey": PUBLIC, "schedule": "Sun 04:30", "keep": 3, "s3": STORAGE},
    S3_CREDENTIALS: CREDENTIALS,
}
CONTROL_PLANES = ("cp1", "cp2", "cp3")


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is encrypted with age, in form."""
    file = tmp_path_factory.mktemp("snapshots") / "blue-cp1-20260101T030000Z.tar.age"
    file.write_bytes(b"age-encryption.org/v1\n-> X25519 AAAA\n")
    return file


@pytest.fixture(scope="module")
def recovery_of(snapshot: Path) -> Mapping[str, Any]:
    return {"recoverySnapshot": str(snapshot), "recoveryKey": KEY_FILE}


# --- age keys ----------------------------------------------------------------------------------


def test_keys_of_age_are_known_by_their_form() -> None:
    if not shutil.which("age-keygen"):
        pytest.fail("age is not installed: run `make check`, or `apt-get install age`")
    text = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
    public = text.split("public key: ")[1].split()[0]
    assert age_keys.is_public(public)
    assert age_keys.private_key(text) == text.splitlines()[-1]


@pytest.mark.parametrize("at", [4, 20, 61])
def test_a_slip_of_the_pen_is_seen(at: int) -> None:
    other = "q" if PUBLIC[at] != "q" else "p"
    assert not age_keys.is_public(PUBLIC[:at] + other + PUBLIC[at + 1 :])
    assert age_keys.private_key(PRIVATE[:-3] + PRIVATE[-1] + PRIVATE[-2:]) is None


@pytest.mark.parametrize(
    "text", ["", "age1", PRIVATE, PUBLIC.upper(), f"{PUBLIC} ", "ssh-ed25519 AAAA"]
)
def test_what_is_no_public_key(text: str) -> None:
    assert not age_keys.is_public(text)


@pytest.mark.parametrize(
    "text", ["", "# only a comment", PUBLIC, f"{PRIVATE}\n{PRIVATE}", PRIVATE.lower()]
)
def test_what_is_not_one_private_key(text: str) -> None:
    assert age_keys.private_key(text) is None


# --- settings ----------------------------------------------------------------------------------


def test_off_by_default() -> None:
    stack = load()
    assert stack.settings.backup is None
    assert (stack.backup_credentials, stack.recovery_key) == (None, None)


def test_a_public_key_is_enough() -> None:
    backup = load(BACKUP).settings.backup
    assert backup is not None
    assert backup.schedule == "*-*-* 03:00:00"
    assert backup.directory == "/var/backups/own-kubernetes"
    assert backup.keep == 7
    assert backup.s3 is None


def test_where_snapshots_are_uploaded() -> None:
    backup = load(UPLOADED).settings.backup
    assert backup is not None
    assert backup.s3 is not None
    assert backup.s3.url == "https://fsn1.your-objectstorage.com/own-backups/clusters/blue"
    bare = load(changed(UPLOADED, {"backup.s3.prefix": REMOVED})).settings.backup
    assert bare is not None
    assert bare.s3 is not None
    assert bare.s3.url == "https://fsn1.your-objectstorage.com/own-backups"


SCHEDULES = (
    *(
        "*-*-* 03:00:00",
        "daily",
        "Sun 04:30",
        "Mon..Fri 22:00",
        "Mon,Wed *-*-* 01:02:03 UTC",
        "*:0/15",
    ),
    *("*-*-1,15 12:00 Europe/Berlin", "2026-01-01", "Sat", "*-02~03 04:00"),
)


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules(text: str) -> None:
    backup = load({"backup": {"publicKey": PUBLIC, "schedule": text}}).settings.backup
    assert backup is not None
    assert backup.schedule == text
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "calendar", text], check=True, capture_output=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "at three",
        "03",
        "3 am",
        "*-*-* 3",
        "03:00; reboot",
        "daily\nOnBootSec=1",
        " 03:00",
        "@daily",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    found = problem({"backup": {"publicKey": PUBLIC, "schedule": text}}, "backup.schedule")
    assert found.value == text
    assert "a calendar event of systemd" in found.expected
    assert "systemd-analyze calendar" in found.remedy


BAD: tuple[tuple[str, object, str], ...] = (
    ("publicKey", REMOVED, "a value"),
    ("publicKey", "age1qqqq", "the public key of an age key pair"),
    ("publicKey", "ssh-ed25519 AAAA", "the public key of an age key pair"),
    ("directory", "backups", "an absolute path"),
    ("directory", "/var/backups/..", "an absolute path"),
    ("directory", "/var/back ups", "an absolute path"),
    ("directory", "/", "an absolute path"),
    ("directory", "/tmp/backups", "outlives a reboot"),
    ("directory", "/var/lib/etcd", "outlives a reboot and the cluster"),
    ("directory", "/etc/kubernetes/backups", "outlives a reboot and the cluster"),
    ("keep", 0, ""),
    ("keep", "many", ""),
    ("retention", 5, "a setting that Pulumi.yaml describes"),
    ("s3.endpoint", "fsn1.your-objectstorage.com", "the storage's address"),
    ("s3.endpoint", "https://example.com/bucket", "the storage's address without bucket"),
    ("s3.region", "", "the storage's region"),
    ("s3.region", REMOVED, "a value"),
    ("s3.bucket", "Own_Backups", "a bucket's name"),
    ("s3.bucket", "own/backups", "a bucket's name"),
    ("s3.prefix", "/clusters", "without a slash at either end"),
    ("s3.prefix", "clusters/", "without a slash at either end"),
    ("s3.prefix", "a/../b", "a path in the bucket"),
    ("s3.accessKey", "AKIA", "a setting that Pulumi.yaml describes"),
)  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), BAD)
def test_what_is_refused(key: str, value: object, expected: str) -> None:
    found = problem(changed(UPLOADED, {f"backup.{key}": value}), f"backup.{key}")
    assert expected in found.expected
    assert found.remedy


def test_a_private_key_in_the_wrong_place_is_not_shown() -> None:
    found = problem({"backup": {"publicKey": PRIVATE}}, "backup.publicKey")
    assert PRIVATE not in str(found)
    assert "age-keygen" in found.remedy


@pytest.mark.parametrize("given", ["", "in-clear", "in clear:x", 'a:in-clear"'])
def test_credentials_are_needed_in_their_form_and_never_shown(given: str) -> None:
    found = problem({**UPLOADED, S3_CREDENTIALS: given}, S3_CREDENTIALS)
    assert "ACCESS-KEY:SECRET-KEY" in found.expected
    assert "pulumi config set --secret backupS3Credentials" in found.remedy
    assert "in-clear" not in str(found)
    assert load({**BACKUP, S3_CREDENTIALS: given}), "nothing is uploaded"


# --- settings of a recovery --------------------------------------------------------------------


def test_the_key_may_be_given_as_age_keygen_wrote_it(recovery_of: Mapping[str, Any]) -> None:
    for text in (KEY_FILE, PRIVATE, f"{PRIVATE}\n"):
        stack = load({**recovery_of, "recoveryKey": text})
        assert stack.recovery_key is not None


def test_a_snapshot_needs_its_key(recovery_of: Mapping[str, Any]) -> None:
    for text in ("", PUBLIC, "in-clear"):
        found = problem({**recovery_of, "recoveryKey": text}, "recoveryKey")
        assert "the age key (AGE-SECRET-KEY-1...)" in found.expected
        assert "pulumi config set --secret recoveryKey < key.txt" in found.remedy
        assert "in-clear" not in str(found)


def test_a_key_does_not_lie_around() -> None:
    found = problem({"recoveryKey": PRIVATE}, "recoveryKey")
    assert found.remedy == "run `pulumi config rm recoveryKey`"
    assert PRIVATE not in str(found)


def test_a_snapshot_has_to_be_there(recovery_of: Mapping[str, Any], tmp_path: Path) -> None:
    missing = {**recovery_of, "recoverySnapshot": "snapshots/none.tar.age"}
    assert problem(missing, "recoverySnapshot").expected == "a file that can be read"
    opened = tmp_path / "opened.tar"
    opened.write_text("cluster.yaml")
    found = problem({**recovery_of, "recoverySnapshot": str(opened)}, "recoverySnapshot")
    assert "encrypted with age" in found.expected


# --- the graph ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph(
    answers: dict[str, dict[str, Any]],
    recovery_of: Mapping[str, Any],
) -> Iterator[Graph]:
    """Three control planes with all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_program({**HA, **UPLOADED, **recovery_of}, outputs=answers)


def described(graph: Graph, snapshot: Path) -> str:
    """What backups and recovery add to the graph."""
    names = [name for name in sorted(graph.requests) if re.search(r"backup$|-recovery$", name)]
    texts = []
    for name in names:
        inputs = graph.plain_inputs(name)
        facts = {
            "type": graph.type(name),
            "parent": graph.parent(name),
            "after": ", ".join(sorted(graph.dependencies(name))),
            "deleted with": graph.deleted_with(name),
            **{key: inputs[key] for key in ("create", "delete", "stdin") if key in inputs},
        }
        texts.append(name + "".join(f"\n  {key}: {value}" for key, value in facts.items() if value))
    text = "\n".join(texts) + "\n"
    text = text.replace(str(snapshot), "SNAPSHOT")
    return re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{12})\b", "DIGEST", text)


def test_golden(graph: Graph, snapshot: Path, update_goldens: bool) -> None:
    goldens.compare("backup/graph.txt", described(graph, snapshot), update=update_goldens)


def test_every_control_plane_takes_snapshots_when_all_have_joined(graph: Graph) -> None:
    for name in CONTROL_PLANES:
        line = graph.inputs(f"{name}-backup")["create"]
        assert f"NODE={name}" in line
        assert "'SCHEDULE=Sun 04:30'" in line
        assert {f"{cp}-join" for cp in CONTROL_PLANES} <= graph.dependencies(f"{name}-backup")
    assert not any(name.startswith("w") and name.endswith("-backup") for name in graph.requests)


def test_taking_the_setting_out_takes_it_away(graph: Graph, answers: dict[str, Any]) -> None:
    assert graph.inputs("cp2-backup")["delete"].endswith("run.sh backup REMOVE=true </dev/null")
    without = run_program(HA, outputs=answers)
    assert [name for name in without.requests if "backup" in name or "recovery" in name] == []


def test_no_secret_is_in_clear(graph: Graph) -> None:
    for name in graph.requests:
        text = json.dumps(graph.plain_inputs(name))
        for secret in ("in-clear", PRIVATE, "AGE-SECRET-KEY"):
            assert secret not in text, name
    assert graph.plain_inputs("cp1-backup")["stdin"] == SECRET
    assert graph.inputs("cp1-backup")["stdin"] == CREDENTIALS
    assert graph.plain_inputs("cp1-recovery")["stdin"] == SECRET
    outputs = json.dumps(graph.outputs)
    assert PRIVATE not in outputs
    assert CREDENTIALS not in outputs


def test_only_the_first_control_plane_gets_the_snapshot_and_its_key(graph: Graph) -> None:
    assert graph.inputs("cp1-join")["stdin"].startswith(f"open {PRIVATE}\nhost cp1 ")
    assert "cp1-recovery" in graph.dependencies("cp1-join")
    assert "cp1-prepare" in graph.dependencies("cp1-recovery")
    for name in ("cp2", "cp3", "w1"):
        assert PRIVATE not in graph.inputs(f"{name}-join")["stdin"]


def test_everything_runs_again_that_a_cluster_which_comes_back_needs(
    graph: Graph, snapshot: Path
) -> None:
    """Also on machines that were not made anew but left the lost cluster, or are workers of it."""
    word = f"RECOVERY={hashlib.sha256(snapshot.read_bytes()).hexdigest()[:12]}"
    names = [f"{name}-join" for name in (*CONTROL_PLANES, "w1", "w2")]
    for name in (*names, *(f"{name}-backup" for name in CONTROL_PLANES)):
        assert word in graph.inputs(name)["create"].split(), name


def test_the_snapshot_itself_passes_no_resource(graph: Graph) -> None:
    for name in graph.requests:
        assert "age-encryption.org" not in json.dumps(graph.inputs(name)), name


def test_a_preview_has_the_same_graph(
    graph: Graph, recovery_of: Mapping[str, Any], snapshot: Path
) -> None:
    preview = run_program({**HA, **UPLOADED, **recovery_of}, preview=True)
    assert described(preview, snapshot) == described(graph, snapshot)


def test_another_user_than_root_asks_for_its_rights(
    answers: dict[str, Any],
    recovery_of: Mapping[str, Any],
) -> None:
    graph = run_program({**recovery_of, "sshUser": "debian"}, outputs=answers)
    (way,) = json.loads(graph.inputs("cp1-recovery")["stdin"])
    assert way["line"].startswith("sudo -n bash /usr/local/lib/own-kubernetes/receive.sh ")


# --- sending the snapshot ----------------------------------------------------------------------


class Machine(asyncssh.SSHServer):
    """Lets everybody with a key in."""

    def begin_auth(self, username: str) -> bool:
        return False


async def _served(
    snapshot: Path, status: int, *, deaf: bool = False
) -> tuple[int, list[bytes], list[str]]:
    """What ``send`` returned, and what the host got: bytes and lines."""
    received: list[bytes] = []
    lines: list[str] = []

    async def process(process: asyncssh.SSHServerProcess[bytes]) -> None:
        lines.append(process.command or "")
        received.append(b"" if deaf else await process.stdin.read())
        process.stderr.write(b"taken\n")
        process.exit(status)

    host_key, login = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    server = await asyncssh.create_server(
        Machine, "127.0.0.1", 0, server_host_keys=[host_key], process_factory=process, encoding=None
    )
    try:
        host = {
            "name": "cp1",
            "address": "127.0.0.1",
            "port": server.get_port(),
            "user": "root",
            "host_key": host_key.export_public_key().decode(),
            "private_key": login.export_private_key().decode(),
            "line": "bash receive.sh",
        }
        return await recovery.send(host, snapshot), received, lines
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [0, 1])
def test_the_snapshot_is_sent_as_it_is(
    event_loop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    file = tmp_path / "snapshot"
    file.write_bytes(bytes(range(256)) * 4096)
    found = event_loop.run_until_complete(_served(file, status))
    assert found == (status, [file.read_bytes()], ["bash receive.sh"])
    assert capfd.readouterr().err == "taken\n"


def test_a_host_that_does_not_take_all_of_it_is_heard(
    event_loop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "snapshot"
    file.write_bytes(bytes(8 << 20))
    found = event_loop.run_until_complete(_served(file, 1, deaf=True))
    assert found == (1, [b""], ["bash receive.sh"])
    assert capfd.readouterr().err == "taken\n"


def test_a_host_that_is_not_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "snapshot"
    file.write_bytes(b"encrypted")
    login = asyncssh.generate_private_key("ssh-ed25519")
    host = {
        "name": "cp1",
        "address": "127.0.0.1",
        "port": 1,
        "user": "root",
        "host_key": login.export_public_key().decode(),
        "private_key": login.export_private_key().decode(),
        "line": "true",
    }
    monkeypatch.setattr(recovery, "PATIENCE_SECONDS", 0)
    assert _called(monkeypatch, file, [host]) == 1
    said = capfd.readouterr().err
    assert "error: cp1 (127.0.0.1 port 1) was not reached" in said
    assert "remedy:" in said


def test_a_snapshot_that_is_gone_or_another_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "snapshot"
    file.write_bytes(b"another")
    assert _called(monkeypatch, file, []) == 1
    assert "it has changed since `pulumi up` began" in capfd.readouterr().err
    file.unlink()
    assert _called(monkeypatch, file, []) == 1
    assert "No such file or directory" in capfd.readouterr().err


def _called(monkeypatch: pytest.MonkeyPatch, file: Path, hosts: list[Any]) -> int:
    """The command's exit code; the digest is that of a file which says "encrypted"."""
    digest = hashlib.sha256(b"encrypted").hexdigest()
    monkeypatch.setattr("sys.argv", ["recovery", str(file), digest])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(hosts)))
    return recovery.main()


# --- the sandbox's mirror ----------------------------------------------------------------------


def test_the_mirror_has_what_snapshots_take() -> None:
    assert "age" in parts.HOST_PREPARATION
    assert [build.name for build in parts._etcd_builds("3.6.8")] == ["etcd", "etcdctl", "etcdutl"]
    assert [build.name for build in parts._etcd_builds("3.5.15")] == ["etcd", "etcdctl"]


def test_secrets_are_declared_as_such() -> None:
    for key in settings.SECRETS:
        assert declarations()[key]["secret"] is True
        assert "type" not in declarations()[key], "the engine refuses a type beside it"
