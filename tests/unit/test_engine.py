"""The engines, without network: configuration, words for the tools, order of deletes, the child process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from sandbox import site
from sandbox.engine import EngineError, choose, keys, kube, ssh, stackfile
from sandbox.engine.journal import Journal, Record, delete_all
from sandbox.engine.progress import Progress, hide, seconds, texts_in
from sandbox.engine.real import RealEngine
from sandbox.engine.resources import Workshop, to_delete
from sandbox.engine.standin import StandinEngine
from tests.unit.ssh_hosts import LOGIN_TEXT, SshHost, serving

# Configuration


def resolve(declared: dict[str, Any], given: dict[str, Any]) -> stackfile.StackConfig:
    return stackfile.resolve("p", declared, given, "dev")


def test_values_reach_the_program_as_the_engine_gives_them() -> None:
    config = resolve(
        {
            "text": {"type": "string", "default": "x"},
            "nodes": {"type": "object"},
            "list": {"type": "array", "items": {"type": "string"}, "default": []},
            "count": {"type": "integer", "default": 3},
            "on": {"type": "boolean", "default": True},
            "hidden": {"secret": True, "default": ""},
        },
        {"p:nodes": {"b": {"z": 1}, "a": [True, None]}, "hcloud:token": "t", "p:unknown": "kept"},
    )
    assert dict(config.values) == {
        "p:text": "x",
        "p:nodes": '{"a":[true,null],"b":{"z":1}}',
        "p:list": "[]",
        "p:count": "3",
        "p:on": "true",
        "p:hidden": "",
        "hcloud:token": "t",
        "p:unknown": "kept",
    }
    assert config.secrets == ("p:hidden",)


def test_a_default_is_not_merged_into_a_given_object() -> None:
    declared = {"o": {"type": "object", "default": {"a": 1, "b": 2}}}
    assert resolve(declared, {"p:o": {"a": 3}}).values["p:o"] == '{"a":3}'


@pytest.mark.parametrize(
    ("declared", "given", "message"),
    [
        ({"x": {"type": "string"}}, {}, "missing configuration value 'x'"),
        ({"x": None, "y": {}, "z": {}}, {}, "missing configuration values 'x', 'y' and 'z'"),
        ({"x": {"type": "integer"}}, {"x": "many"}, "'x' must be of type 'integer'"),
        ({"x": {"type": "integer"}}, {"x": True}, "'x' must be of type 'integer'"),
        (
            {"x": {"type": "array", "items": {"type": "string"}}},
            {"x": [{}]},
            "must be of type 'array<string>'",
        ),
        ({"x": {"type": "object"}}, {"x": "{}"}, "must be of type 'object'"),
        ({"x": {"type": "string", "secret": True}}, {"x": "s"}, "must be encrypted"),
        ({"x": {}}, {"x": {"a": [{"secure": "v1:abc"}]}}, "is encrypted"),
    ],
)
def test_refused_configuration(
    declared: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        resolve(declared, given)


def test_the_dev_stack_can_be_read() -> None:
    config = stackfile.read(site.ROOT, "dev")
    assert config.project == "own-kubernetes"
    assert "cp1" in json.loads(config.values["own-kubernetes:nodes"])


def test_each_stack_has_a_home_of_its_own() -> None:
    assert stackfile.home("dev") == site.STATE / "engine"
    assert stackfile.home("hetzner") == site.STATE / "engine-hetzner"


def test_a_stack_file_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: p\nruntime: python\n")
    (tmp_path / "Pulumi.x.yaml").write_text("config: {p:a: near}\n")
    elsewhere = tmp_path / "other.yaml"
    with pytest.raises(EngineError, match=r"stack 'x': .*other.yaml is not there"):
        stackfile.read(tmp_path, "x", elsewhere)
    elsewhere.write_text("config: {p:a: far, hcloud:endpoint: http://x/v1}\n")
    assert dict(stackfile.read(tmp_path, "x").values) == {"p:a": "near"}
    far = dict(stackfile.read(tmp_path, "x", elsewhere).values)
    assert far == {"p:a": "far", "hcloud:endpoint": "http://x/v1"}


def test_two_nodes_of_one_name_are_refused_by_the_line(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    (tmp_path / "Pulumi.x.yaml").write_text("config:\n  p:nodes:\n    w1: {}\n    w1: {}\n")
    with pytest.raises(EngineError, match=r"(?s)'w1' already defined.*line 4"):
        stackfile.read(tmp_path, "x")


def test_the_real_engine_gets_a_copy_of_the_stack_file(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: p\nruntime: python\n")
    elsewhere = tmp_path / "other.yaml"
    elsewhere.write_text("config: {hcloud:token: t}\n")
    engine = RealEngine(tmp_path, tmp_path / "home", stack="x", stack_file=elsewhere)
    copy = engine._work_folder() / "Pulumi.x.yaml"
    assert copy.read_text() == "config: {hcloud:token: t}\n"
    copy.write_text("config: {}\nencryptionsalt: salt\n")
    engine._work_folder()
    assert copy.read_text() == "config: {hcloud:token: t}\nencryptionsalt: salt\n"


# ssh


def connection(**changes: Any) -> ssh.Connection:
    given = {"host": "192.0.2.1", "privateKey": "KEY", "hostKey": "ssh-ed25519 AAAA comment"}
    return ssh.Connection.parse({**given, **changes})


def test_no_secret_is_on_the_command_line_and_the_host_key_is_checked(tmp_path: Path) -> None:
    given = connection(user="me", port=2222.0, perDialTimeout=7)
    ssh.write_files(given, tmp_path / "c")
    words = ssh.arguments(given, tmp_path / "c")
    assert words[-1] == "me@192.0.2.1"
    assert {"-p2222", "StrictHostKeyChecking=yes", "ConnectTimeout=7"} < set(words)
    assert "HostKeyAlgorithms=ssh-ed25519" in words
    assert not [word for word in words if "KEY" in word]
    assert (tmp_path / "c/identity").read_text() == "KEY\n"
    assert (tmp_path / "c/known_hosts").read_text() == "[192.0.2.1]:2222 ssh-ed25519 AAAA\n"
    for path in (tmp_path / "c").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_proxy_has_files_of_its_own(tmp_path: Path) -> None:
    proxy = {"host": "192.0.2.9", "privateKey": "P", "hostKey": "ssh-ed25519 BBBB"}
    given = connection(proxy=proxy)
    ssh.write_files(given, tmp_path)
    command = next(w for w in ssh.arguments(given, tmp_path) if w.startswith("ProxyCommand="))
    assert f"{tmp_path}/proxy/identity" in command
    assert command.endswith("-W %h:%p -- root@192.0.2.9")


def dialled(
    host: SshHost, key: SshHost, proxy: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """A connection to a host that is expected to have a key."""
    return {
        "host": "127.0.0.1",
        "port": host.port,
        "privateKey": LOGIN_TEXT,
        "hostKey": key.host_key,
        "dialErrorLimit": 0,
        "proxy": proxy,
    }


def test_every_host_key_on_the_way_is_checked(tmp_path: Path) -> None:
    def told(connection: Mapping[str, Any]) -> str:
        try:
            ssh.run(ssh.Connection.parse(connection), "true", scratch=tmp_path)
        except ssh.SshError as error:
            return str(error)
        return ""

    mismatch = "ssh: handshake failed: ssh: host key mismatch"
    with serving(tmp_path) as make:
        host, bastion, other = make(), make(), make()
        right, wrong = dialled(bastion, bastion), dialled(bastion, other)
        assert mismatch in told(dialled(host, other))
        assert f"proxy: {mismatch}" in told(dialled(host, host, wrong))
        assert (host.lines, bastion.passed_on) == ([], [])
        assert "Host key verification failed" in told(dialled(host, other, right))
        assert (host.lines, bastion.passed_on) == ([], [host.port])
        assert told(dialled(host, host, right)) == ""
        assert (host.lines, bastion.lines) == (["true"], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hostKey": None}, "needs hostKey"),
        ({"privateKey": ""}, "needs privateKey"),
        ({"password": "x"}, "not in the stand-in: password"),
    ],
)
def test_refused_connections(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ssh.SshError, match=message):
        connection(**changes)


def test_a_refused_dial_is_tried_the_given_number_of_times(tmp_path: Path) -> None:
    nobody_there = connection(host="127.0.0.1", port=1, dialErrorLimit=2)
    began = time.monotonic()
    with pytest.raises(ssh.SshError, match=r"after 2 failed attempts: dial root@127.0.0.1 port 1"):
        ssh.run(nobody_there, "true", scratch=tmp_path)
    assert time.monotonic() - began < 5


def test_a_local_command_tells_both_streams_when_it_fails() -> None:
    with pytest.raises(ssh.SshError, match=r'(?s)status 3: running "shown":.*out.*err'):
        ssh.run_local(["sh", "-c", "echo out; sleep 0.1; echo err >&2; exit 3"], shown="shown")


def test_a_command_may_leave_its_stdin_unread() -> None:
    ended = ssh.run_local(["sh", "-c", "echo ok"], shown="", stdin=b"x" * 1_000_000)
    assert ended.stdout == "ok"


def test_a_command_has_a_bound() -> None:
    with pytest.raises(ssh.SshError, match="no end within its timeout"):
        ssh.run_local(["sleep", "5"], shown="", timeout=0.1)


# Kubernetes


def test_release_words() -> None:
    words = kube.release_words(
        {
            "name": "r",
            "namespace": "n",
            "chart": "c",
            "version": "1.2.3",
            "repositoryOpts": {"repo": "http://x"},
            "values": {"password": "SECRET"},
            "timeout": 60,
        }
    )
    line = " ".join(words)
    assert line.startswith("upgrade --install r c -n n --values -")
    assert "--version 1.2.3 --repo http://x --wait" in line
    assert words[-1] == "--timeout=60s"
    assert "SECRET" not in line
    assert "--wait" not in kube.release_words({"name": "r", "chart": "c", "skipAwait": True})


@pytest.mark.parametrize(
    ("live", "words"),
    [
        ({"kind": "ConfigMap", "apiVersion": "v1"}, ""),
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, "rollout status Deployment.v1.apps/x"),
        ({"kind": "Namespace", "apiVersion": "v1", "status": {"phase": "Active"}}, ""),
        ({"kind": "Service", "apiVersion": "v1", "spec": {"type": "ClusterIP"}}, ""),
        (
            {"kind": "Service", "apiVersion": "v1", "spec": {"type": "LoadBalancer"}},
            "wait Service/x --for=jsonpath={.status.loadBalancer.ingress[0].ip}",
        ),
    ],
)
def test_what_a_live_object_waits_for(live: dict[str, Any], words: str) -> None:
    assert " ".join(kube.wait_words({"metadata": {"name": "x"}, **live})) == words


def test_an_object_without_a_name_keeps_the_one_it_got() -> None:
    inputs = {"apiVersion": "v1", "kind": "ConfigMap", "data": None}
    made = kube.manifest_of(inputs, "settings", None)
    assert made["metadata"]["name"].startswith("settings-")
    assert "data" not in made
    assert kube.manifest_of(inputs, "settings", "settings-1")["metadata"]["name"] == "settings-1"


def test_durations() -> None:
    assert seconds("") is None
    assert seconds("1h30m") == 5400
    assert seconds("1.5s") == 1.5
    with pytest.raises(EngineError, match="want a duration"):
        seconds("soon")


# The journal


def record(name: str, *after: str, deleted_with: str = "") -> Record:
    return Record(
        urn=name, type="command:remote:Command", name=name, after=after, deleted_with=deleted_with
    )


def test_the_journal_is_private_and_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "created.json"
    journal = Journal(path)
    for name in ("a", "b"):
        journal.put(record(name))
    journal.put(record("a", "b"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Journal(path).records() == [record("a", "b"), record("b")]


def test_deletes_run_in_reverse_and_spare_what_goes_with_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "created.json")
    for each in (
        record("host"),
        record("init", "host"),
        record("object", "init", deleted_with="init"),
        record("join", "init"),
        record("drain", "join"),
    ):
        journal.put(each)
    gone: list[str] = []
    assert delete_all(journal.records(), lambda r: gone.append(r.name), journal) == {}
    assert gone == ["drain", "join", "init", "host"]
    assert Journal(tmp_path / "created.json").records() == []


def test_a_failed_delete_keeps_itself_and_what_it_stands_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "created.json")
    for each in (record("a"), record("b", "a"), record("c", "b")):
        journal.put(each)

    def delete(one: Record) -> None:
        if one.name == "b":
            raise RuntimeError("busy")

    failures = delete_all(journal.records(), delete, journal)
    assert [str(error) for error in failures.values()] == ["busy"]
    assert [one.name for one in journal.records()] == ["a", "b"]


def test_no_more_is_written_down_than_deleting_takes() -> None:
    inputs = {"create": "x", "update": "u", "delete": "y"}
    command = Record("u", "command:remote:Command", "c", inputs=inputs)
    assert to_delete(command).inputs == {"create": "x", "delete": "y"}, (
        "the program reads its lines"
    )
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "v"}}
    assert (
        "data" not in to_delete(Record("u", "kubernetes:core/v1:Secret", "s", inputs=secret)).inputs
    )


def test_a_private_key_is_written_down_and_secrets_of_what_is_left_out_are_not() -> None:
    made = {"algorithm": "RSA", "rsaBits": 2048, "made": {"privateKeyPem": "x"}}
    key = Record("u", keys.PRIVATE_KEY, "k", inputs=made)
    assert to_delete(key).inputs == made
    command = Record(
        "u",
        "command:local:Command",
        "c",
        inputs={"update": "x", "environment": {"T": "t"}},
        secret=("update", "environment"),
    )
    assert to_delete(command).secret == ("environment",)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "created.json"
    kept = Record("u", "t", "n", inputs={"l": [1]}, after=("a",), secret=("s",), protected=True)
    Journal(path).put(kept)
    assert Journal(path).records() == [kept]


# Key pairs


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        ({"algorithm": "ED25519"}, "ssh-ed25519"),
        ({"algorithm": "ECDSA", "ecdsaCurve": "P256"}, "ecdsa-sha2-nistp256"),
        ({"algorithm": "RSA"}, "ssh-rsa"),
    ],
)
def test_a_key_pair_belongs_together_in_all_its_forms(
    inputs: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    made = keys.make(inputs, tmp_path)
    assert list(tmp_path.iterdir()) == []
    public = made["publicKeyOpenssh"]
    assert public.split()[0] == kind
    assert public.endswith("\n")
    for form in ("privateKeyOpenssh", "privateKeyPem"):
        if form == "privateKeyPem" and kind == "ssh-ed25519":
            continue  # OpenSSH does not read it; see the next test
        path = tmp_path / form
        path.touch(mode=0o600)
        path.write_text(made[form])
        assert keygen("-y", "-f", str(path)).split()[:2] == public.split()
    file = tmp_path / "key.pub"
    file.write_text(public)
    assert made["publicKeyFingerprintSha256"] in keygen("-l", "-f", str(file))
    assert made["publicKeyFingerprintMd5"] in keygen("-l", "-E", "md5", "-f", str(file))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("form", ["privateKeyPem", "privateKeyPemPkcs8"])
@pytest.mark.parametrize("algorithm", ["ED25519", "ECDSA", "RSA"])
def test_openssl_reads_the_pems(algorithm: str, form: str, tmp_path: Path) -> None:
    made = keys.make({"algorithm": algorithm, "ecdsaCurve": "P256"}, tmp_path)
    words = ["openssl", "pkey", "-pubout"]
    ended = subprocess.run(words, input=made[form], capture_output=True, text=True, check=True)
    assert ended.stdout == made["publicKeyPem"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"algorithm": "ECDSA"}, "ecdsaCurve P224: the stand-in has P256"),
        ({"algorithm": "DSA"}, "algorithm DSA: want ED25519"),
    ],
)
def test_refused_key_pairs(inputs: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=message):
        keys.make(inputs, tmp_path)


# Progress


def test_secrets_are_taken_out_of_texts() -> None:
    secrets = texts_in({"a": ["first line\nsecond line"], "b": {"c": "abc"}, "d": 7})
    assert secrets == ["first line", "second line", "abc"]
    assert hide("x second line y abc first", secrets) == "x [secret] y abc first"


@pytest.mark.parametrize("phase", ["create", "delete"])
def test_a_secret_environment_is_in_no_error_and_no_line(phase: str, tmp_path: Path) -> None:
    lines: list[str] = []
    workshop = Workshop(tmp_path, Progress(lines.append))
    command = Record(
        "u",
        "command:local:Command",
        "c",
        inputs={phase: "echo $TOKEN; echo said; exit 3", "environment": {"TOKEN": "very-secret"}},
        secret=("environment",),
    )
    with pytest.raises(ssh.SshError, match="status 3") as failed:
        workshop.create(command, None) if phase == "create" else workshop.delete(command)
    for text in (str(failed.value), "\n".join(lines)):
        assert "said" in text
        assert "[secret]" in text
        assert "very-secret" not in text


def test_what_is_quick_is_not_told_and_what_fails_always_is() -> None:
    lines: list[str] = []
    progress = Progress(lines.append)
    with progress.step("w1-join", "command"):
        pass
    with pytest.raises(ValueError, match="x"), progress.step("w1-join", "command"):
        raise ValueError("x")
    assert len(lines) == 1
    assert "w1-join" in lines[0]
    assert "command FAILED in 0.0 s" in lines[0]


# The whole stand-in, with commands of this host

PROGRAM = """
import os
import pulumi
from pulumi_command import local

def explain(args):
    pulumi.log.error("hook heard: " + args.errors[0])
    return False

trace = pulumi.Config().require("trace")
# Each of the eight ends only when all have begun: side by side, or never.
begun = f"{trace}.begun"
together = f"echo >>{begun}; timeout 60 sh -c 'until [ $(wc -l <{begun}) -ge 8 ]; do sleep 0.05; done'"

class Part(pulumi.ComponentResource):
    def __init__(self):
        super().__init__("test:index:Part", "part")
        self.many = [
            local.Command(
                f"many{i}",
                create=f"{together} && echo {i}",
                delete=f"echo many{i} >>{trace}",
                opts=pulumi.ResourceOptions(parent=self),
            )
            for i in range(8)
        ]
        self.last = local.Command(
            "last",
            create="cat; echo quiet >&2",
            delete=f"echo last >>{trace}",
            stdin=pulumi.Output.secret("hidden"),
            logging="none",
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=self.many, additional_secret_outputs=["stdout"]
            ),
        )
        self.register_outputs({})

part = Part()
pulumi.export("sum", pulumi.Output.all(*[c.stdout for c in part.many]).apply("".join))
pulumi.export("secret", part.last.stdout)
if os.environ.get("FAIL"):
    bad = local.Command(
        "bad",
        create="echo why >&2; exit 3",
        opts=pulumi.ResourceOptions(
            depends_on=[part.last],
            hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook("explain", explain)]),
        ),
    )
    after = local.Command(
        "after", create=f"echo after >>{trace}", opts=pulumi.ResourceOptions(depends_on=[bad])
    )
    pulumi.export("after", after.stdout)
if os.environ.get("UNKNOWN"):
    pulumi.CustomResource("cloud:index:Thing", "thing", {})
if os.environ.get("REFUSED"):
    raise pulumi.RunError("this stack can't be used")
"""


@pytest.fixture
def project(tmp_path: Path) -> StandinEngine:
    root = tmp_path / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text("name: p\nruntime: python\nconfig: {trace: {type: string}}\n")
    (root / "Pulumi.dev.yaml").write_text(f"config: {{p:trace: {tmp_path}/trace}}\n")
    (root / "__main__.py").write_text(PROGRAM)
    return StandinEngine(root, tmp_path / "home")


def test_up_gives_outputs_and_down_goes_in_reverse(project: StandinEngine, tmp_path: Path) -> None:
    lines: list[str] = []
    assert project.up(lines.append) == {"sum": "01234567", "secret": "hidden"}
    assert "no diff and no state" in lines[0]
    assert not [line for line in lines if "hidden" in line or "quiet" in line]
    project.down(lines.append)
    order = (tmp_path / "trace").read_text().split()
    assert order[0] == "last"
    assert len(order) == 9
    assert not (tmp_path / "home/scratch").exists()
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_failure_is_told_hooks_hear_it_and_nothing_new_begins(
    project: StandinEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(EngineError, match=r"(?s)bad .*Process exited with status 3.*why"):
        project.up(lines.append)
    assert [line for line in lines if "hook heard: Process exited with status 3" in line]
    assert not (tmp_path / "trace").exists()
    monkeypatch.delenv("FAIL")
    assert project.up(lines.append)["secret"] == "hidden"


GUARDED = """
def before(args):
    if os.environ.get("GUARD"):
        raise pulumi.RunError("not yet: " + args.name)
    with open(trace, "a") as file:
        file.write("before ")

hook = pulumi.ResourceHook("before", before)
local.Command(
    "guarded",
    create=f"echo made >>{trace}",
    opts=pulumi.ResourceOptions(
        hooks=pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])
    ),
)
"""


def test_what_a_program_hooks_before_a_resource_is_run_and_may_refuse(
    project: StandinEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project/__main__.py").write_text(PROGRAM.partition("class Part")[0] + GUARDED)
    monkeypatch.setenv("GUARD", "1")
    with pytest.raises(EngineError, match=r"guarded .*not yet: guarded"):
        project.up(lambda _: None)
    assert not (tmp_path / "trace").exists()
    monkeypatch.delenv("GUARD")
    for _ in range(2):
        project.up(lambda _: None)
    assert (tmp_path / "trace").read_text().split() == ["before", "made"] * 2


ASKS = """
own = "pulumi:pulumi:readStackResourceOutputs"
answer = pulumi.runtime.invoke(own, {"stackName": "organization/p/dev"})
state = {urn.rpartition("::")[2]: r for urn, r in answer.value["outputs"].items()}
pulumi.export("state", {name: [r["type"], r["outputs"].get("create", ""), "stdin" in r["outputs"]]
                        for name, r in state.items() if name in ("many0", "last")})
if os.environ.get("OTHER"):
    pulumi.runtime.invoke("cloud:index:getThing", {})
"""


def test_a_program_may_ask_for_its_own_state_which_tells_no_secret(
    project: StandinEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "project/__main__.py"
    program.write_text(PROGRAM.replace("part = Part()", f"{ASKS}\npart = Part()"))
    assert project.up(print)["state"] == {}
    kind = "command:local:Command"
    assert project.up(print)["state"] == {
        "many0": [kind, ANY, False],
        "last": [kind, "cat; echo quiet >&2", False],
    }
    monkeypatch.setenv("OTHER", "1")
    with pytest.raises(EngineError, match="has no function cloud:index:getThing"):
        project.up(print)


def test_what_left_the_program_is_deleted(project: StandinEngine, tmp_path: Path) -> None:
    project.up(lambda _: None)
    program = tmp_path / "project/__main__.py"
    program.write_text(program.read_text().replace("range(8)", "range(7)"))
    project.up(lambda _: None)
    assert (tmp_path / "trace").read_text().split() == ["many7"]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("UNKNOWN", "has no resource of type cloud:index:Thing"),
        ("REFUSED", r"^this stack can't be used$"),
    ],
)
def test_errors_of_the_program(
    project: StandinEngine, monkeypatch: pytest.MonkeyPatch, variable: str, message: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(EngineError, match=message):
        project.up(lambda _: None)


OPTIONS = """
import os
import pulumi
import pulumi_tls as tls
from pulumi_command import local

run = int(os.environ["RUN"])
trace = pulumi.Config("hcloud").require("endpoint")
host = local.Command("host", create="true")
key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
pulumi.export("key", key.private_key_openssh)
pulumi.export("public", key.public_key_openssh)
pulumi.export("hidden", pulumi.Output.from_input(key.private_key_pem.is_secret()))
pulumi.export("open", pulumi.Output.from_input(key.public_key_openssh.is_secret()))
local.Command(
    f"name-{run}",
    create="true",
    delete=f"echo renamed >>{trace}",
    triggers=[run],
    opts=pulumi.ResourceOptions(
        aliases=[pulumi.Alias(name=f"name-{run - 1}")],
        delete_before_replace=True,
        ignore_changes=["stdin"],
        replace_on_changes=["create"],
        replace_with=[host],
    ),
)
if run == 1:
    local.Command(
        "left",
        create="true",
        delete=f"echo left >>{trace}",
        opts=pulumi.ResourceOptions(retain_on_delete=True),
    )
local.Command(
    "safe",
    create="true",
    delete=f"echo safe >>{trace}",
    opts=pulumi.ResourceOptions(protect=run < 3),
)
"""


def test_options_and_keys_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: p\nruntime: python\n")
    elsewhere = tmp_path / "other.yaml"
    elsewhere.write_text(f"config: {{hcloud:endpoint: {tmp_path}/trace}}\n")
    (tmp_path / "__main__.py").write_text(OPTIONS)
    engine = StandinEngine(tmp_path, tmp_path / "home", stack="x", stack_file=elsewhere)
    lines: list[str] = []
    monkeypatch.setenv("RUN", "1")
    first = engine.up(lines.append)
    assert first["hidden"]
    assert not first["open"]
    with pytest.raises(EngineError, match="protected, so nothing is deleted: safe"):
        engine.down(lines.append)
    monkeypatch.setenv("RUN", "2")
    assert engine.up(lines.append) == first
    assert not (tmp_path / "trace").exists()
    monkeypatch.setenv("RUN", "3")
    assert engine.up(lines.append) == first
    engine.down(lines.append)
    assert sorted((tmp_path / "trace").read_text().split()) == ["renamed", "safe"]
    assert not [line for line in lines if "BEGIN" in line]


def test_a_killed_caller_takes_its_engine_along(project: StandinEngine, tmp_path: Path) -> None:
    program = tmp_path / "project/__main__.py"
    hangs = program.read_text().replace("{together}", f"touch {tmp_path}/on; sleep 77")
    program.write_text(hangs)
    call = (
        "from pathlib import Path; from sandbox.engine.standin import StandinEngine; "
        f"StandinEngine(Path({str(program.parent)!r}), Path({str(tmp_path / 'home')!r})).up()"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", call], cwd=site.ROOT, stdout=subprocess.DEVNULL
    )
    _eventually(lambda: (tmp_path / "on").exists())
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    program.write_text(PROGRAM)
    _eventually(lambda: _free(tmp_path / "home/lock"))
    assert project.up(lambda _: None)["secret"] == "hidden"


def _free(lock: Path) -> bool:
    return subprocess.run(["flock", "-n", lock, "true"]).returncode == 0


def _eventually(holds: Any) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("not within 60 s")


def test_there_is_no_preview_without_the_real_engine(project: StandinEngine) -> None:
    with pytest.raises(EngineError, match="no preview"):
        project.preview()


def test_the_engine_says_which_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose(said.append).name.startswith("stand-in")
    (tmp_path / "pulumi").touch(mode=0o755)
    assert choose(said.append).name == "the Pulumi CLI"
    assert said == ["engine: stand-in (no `pulumi` on the PATH)", "engine: the Pulumi CLI"]
