"""Key pairs as pulumi-tls makes them, by ``ssh-keygen``.

Its files are private, and no secret is on its argument list.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sandbox.engine import ssh
from sandbox.engine.progress import EngineError

PRIVATE_KEY = "tls:index/privateKey:PrivateKey"
CURVES = {"P256": "256", "P384": "384", "P521": "521"}
RSA_BITS = 2048

# What stands before the 32 bytes of an Ed25519 key in PKCS #8 and in SubjectPublicKeyInfo (RFC 8410).
_ED25519_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
_ED25519_PUBLIC = bytes.fromhex("302a300506032b6570032100")


def make(inputs: Mapping[str, Any], scratch: Path) -> dict[str, str]:
    """A new key pair.

    Args:
        inputs: ``algorithm``, ``ecdsaCurve`` and ``rsaBits``.
        scratch: a directory that only this user can read.

    Returns:
        The outputs of a ``PrivateKey``, and its ``id``.

    Raises:
        EngineError: an algorithm or curve that OpenSSH does not have.
    """
    words = _words(inputs)
    with TemporaryDirectory(dir=scratch) as name:
        path = Path(name) / "key"
        _keygen("-q", *words, "-N", "", "-C", "", "-f", str(path))
        openssh = path.read_text()
        public = " ".join(Path(f"{path}.pub").read_text().split()[:2])
        edwards = inputs["algorithm"] == "ED25519"
        pems = _ed25519_pems(openssh, public) if edwards else _pems(path)
    blob = base64.b64decode(public.split()[1])
    return {
        **pems,
        "id": hashlib.sha1(_body(pems["publicKeyPem"]), usedforsecurity=False).hexdigest(),
        "privateKeyOpenssh": openssh,
        "publicKeyOpenssh": f"{public}\n",
        "publicKeyFingerprintMd5": hashlib.md5(blob, usedforsecurity=False).digest().hex(":"),
        "publicKeyFingerprintSha256": "SHA256:"
        + _base64(hashlib.sha256(blob).digest()).rstrip("="),
    }


def _words(inputs: Mapping[str, Any]) -> list[str]:
    algorithm, curve = inputs["algorithm"], inputs.get("ecdsaCurve") or "P224"
    match algorithm:
        case "ED25519":
            return ["-t", "ed25519"]
        case "RSA":
            return ["-t", "rsa", "-b", str(int(inputs.get("rsaBits") or RSA_BITS))]
        case "ECDSA" if curve in CURVES:
            return ["-t", "ecdsa", "-b", CURVES[curve]]
        case "ECDSA":
            raise EngineError(f"ecdsaCurve {curve}: the stand-in has {', '.join(CURVES)}")
        case _:
            raise EngineError(f"algorithm {algorithm}: want ED25519, ECDSA or RSA")


def _keygen(*words: str) -> str:
    return ssh.run_local(["ssh-keygen", *words], shown="ssh-keygen").stdout


def _pems(path: Path) -> dict[str, str]:
    """The same key in PEM; rewrites its file."""
    public = _keygen("-e", "-m", "PKCS8", "-f", f"{path}.pub")
    texts = {"publicKeyPem": f"{public}\n"}
    for output, form in (("privateKeyPem", "PEM"), ("privateKeyPemPkcs8", "PKCS8")):
        _keygen("-q", "-p", "-P", "", "-N", "", "-m", form, "-f", str(path))
        texts[output] = path.read_text()
    return texts


def _ed25519_pems(openssh: str, public: str) -> dict[str, str]:
    """OpenSSH writes this kind in its own form only: the seed stands twice 4 bytes behind the public key.

    There (PROTOCOL.key) the private part repeats the public key, and the seed is the first half of the
    next field.
    """
    point = base64.b64decode(public.split()[1])[-32:]
    whole = _body(openssh)
    start = whole.rindex(point, 0, whole.rindex(point)) + len(point) + 4
    private = _pem("PRIVATE KEY", _ED25519_PRIVATE + whole[start : start + 32])
    return {
        "publicKeyPem": _pem("PUBLIC KEY", _ED25519_PUBLIC + point),
        "privateKeyPem": private,
        "privateKeyPemPkcs8": private,
    }


def _body(pem: str) -> bytes:
    return base64.b64decode("".join(pem.split("\n")[1:]).partition("-")[0])


def _pem(kind: str, body: bytes) -> str:
    text = _base64(body)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
