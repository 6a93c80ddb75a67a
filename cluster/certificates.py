"""When certificates end, and who is told."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pulumi
import yaml
from cryptography import x509

WARN_DAYS = 30
"""A certificate that ends sooner is told of; kubeadm's last a year, and upgrades renew them."""


def expiry(certificate: str) -> datetime:
    """When a certificate (PEM) ends.

    Raises:
        ValueError: it is none.
    """
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def client_expiry(kubeconfig: str) -> str:
    """When the certificate in a kubeconfig ends (RFC 3339); nothing where there is none in it."""
    for entry in yaml.safe_load(kubeconfig).get("users", []):
        if data := entry["user"].get("client-certificate-data"):
            return expiry(base64.b64decode(data).decode()).isoformat().replace("+00:00", "Z")
    return ""


def warned_of(expiries: dict[str, str]) -> dict[str, str]:
    """The same; warns of certificates that expire within ``WARN_DAYS``, in a preview too."""
    now = datetime.now(UTC)
    for owner, text in expiries.items():
        days = (datetime.fromisoformat(text) - now).days if text else WARN_DAYS
        if days < WARN_DAYS:
            pulumi.log.warn(
                f"certificates of {owner} expire on {text} ({days} days from now). Remedy: set "
                "certificateRenewal to today's date (any new word will do) and run `pulumi up`; an upgrade of "
                "Kubernetes renews those of the control planes too."
            )
    return expiries
