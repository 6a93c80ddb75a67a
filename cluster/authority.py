"""Whether a certificate and a key make a CA that can sign."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def unfit(certificate: str, key: str | None) -> str:
    """Why they are none; nothing where they are one.

    Args:
        certificate: PEM; of several the first counts.
        key: PEM without passphrase, or None where it is known only later.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        return "it is no certificate of a CA"
    if not constraints.ca:
        return "it is no certificate of a CA"
    if not found.not_valid_before_utc <= datetime.now(UTC) < found.not_valid_after_utc:
        return f"it is valid until {found.not_valid_after_utc:%Y-%m-%d}"
    if key is None:
        return ""
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (TypeError, ValueError):
        return "ingressCaKey is no private key in PEM without passphrase"
    same = private.public_key().public_bytes(*_FORM) == found.public_key().public_bytes(*_FORM)
    return "" if same else "ingressCaKey is of another one"
