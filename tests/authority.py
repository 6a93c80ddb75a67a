"""A CA of one's own, as a site without internet has one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority(NamedTuple):
    """A CA's two halves, PEM, the first in a file."""

    file: Path
    key: str

    def settings(self, **more: Any) -> dict[str, Any]:
        """A stack file's settings by which it signs."""
        tls = {"issuer": "ca", "caCertificateFile": str(self.file)}
        return {"ingressTls": tls, "ingressCaKey": self.key, **more}


def authority(folder: Path, *, ca: bool = True, days: int = 30) -> Authority:
    """Make one.

    Args:
        folder: where its certificate is kept.
        ca: whether its certificate says that it may sign.
        days: for how long it is valid yet.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        *(False, False, False, False, False), key_cert_sign=ca, crl_sign=ca,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"ca-{days}-{ca}.crt"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Authority(file, text.decode())
