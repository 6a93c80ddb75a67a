"""The search for secrets finds them, whatever they are wrapped in, and nothing else."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.trust.needles import Needles, modes, secrets_in
from tests.trust.watch import Watch

SECRET = "s3cret/with+every_sort.of-letter"
PEM, PKCS8, OPENSSH = (
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.PrivateFormat.PKCS8,
    serialization.PrivateFormat.OpenSSH,
)


def key_and_public_half(kind: str, form: serialization.PrivateFormat) -> tuple[str, bytes]:
    key: Any = {
        "rsa": lambda: rsa.generate_private_key(65537, 1024),
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public


@pytest.mark.parametrize(
    ("kind", "form"),
    [("rsa", PEM), ("rsa", PKCS8), ("rsa", OPENSSH), ("ec", PEM), ("ec", PKCS8), ("ec", OPENSSH),
     ("ed25519", PKCS8), ("ed25519", OPENSSH)],
)  # fmt: skip
def test_the_secret_of_a_key_is_in_it_alone(kind: str, form: serialization.PrivateFormat) -> None:
    (one, public), (other, _) = (key_and_public_half(kind, form) for _ in range(2))
    needles = Needles({"key": secrets_in(one)})
    assert len(needles) == 1
    assert needles.within(one.encode()) == {"key"}
    assert needles.within(public + other.encode()) == set()


def test_secrets_of_files_that_hosts_have() -> None:
    token, key = "abcdef.0123456789abcdef", "S2V5IG9mIHRoaXMgY2xpZW50"
    text = (
        f"    client-key-data: {key}\n  tlsBootstrapToken: no\n    token: {token}\n    token: '@TOKEN@'\n"
        'user = "ACCESS:secret/of+storage="\n      - secret: c2VjcmV0IGF0IHJlc3Q=\n  user: kubernetes-admin\n'
        "  - secretbox: {keys: [{name: key, secret: YW5vdGhlciBvbmUgb2YgdGhlc2U=}]}\n"
    )
    assert secrets_in(text) == [
        key, "0123456789abcdef", "secret/of+storage=", "c2VjcmV0IGF0IHJlc3Q=",
        "YW5vdGhlciBvbmUgb2YgdGhlc2U=",
    ]  # fmt: skip


@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_a_secret_is_found_in_base64_of_anything_around_it(before: str, tmp_path: Path) -> None:
    needles = Needles({"planted": [SECRET]})
    wrapped = base64.b64encode(f"{before}{SECRET} and more".encode())
    assert needles.within(b"log: " + wrapped) == {"planted"}
    (tmp_path / "state.json").write_bytes(b"{\0" + wrapped)
    (tmp_path / "other").write_text("nothing")
    assert needles.within_files(tmp_path, tmp_path / "missing") == {
        str(tmp_path / "state.json"): {"planted"}
    }
    assert Needles({"other": [SECRET[::-1]]}).within(wrapped) == set()


def test_files_that_others_may_read(tmp_path: Path) -> None:
    for name, mode in (("mine", 0o600), ("everybodys", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    assert list(modes(map(str, sorted(tmp_path.iterdir())))) == [
        (str(tmp_path / "everybodys"), 0o644)
    ]


def test_a_watch_sees_files_and_processes_that_are_gone_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "below" / "key"
    file.parent.mkdir()
    with Watch([], [tmp_path], interval=0.01) as watch:
        sleeper = subprocess.Popen(
            [sys.executable, "-c", f"import time; {SECRET!r}; time.sleep(60)"]
        )
        file.write_text("contents")
        file.chmod(0o640)
        end = time.monotonic() + 30
        while time.monotonic() < end and not (
            any(SECRET.encode() in words for words in watch.command_lines)
            and (str(file), 0o640, b"contents") in watch.files
        ):
            time.sleep(0.01)
        sleeper.kill()
        sleeper.wait()
        file.unlink()
    assert (str(file), 0o640, b"contents") in watch.files
    assert any(SECRET.encode() in words for words in watch.command_lines)
