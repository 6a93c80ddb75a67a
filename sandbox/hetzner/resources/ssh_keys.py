"""SSH keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from sandbox.hetzner import fields
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import invalid, taken
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import EMPTY, Answer, Kind, Request


def view(_cloud: Cloud, key: Record) -> Record:
    """A key as the API shows it."""
    return dict(key)


KIND: Final = Kind("ssh_key", "ssh_keys", view, ("fingerprint",))


def create(cloud: Cloud, request: Request) -> Answer:
    """``POST /ssh_keys``: name and key must be new."""
    public_key = fields.text(request.body, "public_key").strip()
    fingerprint = _fingerprint(public_key)
    common = fields.common(cloud.store, "ssh_key", request.body)
    if any(key["fingerprint"] == fingerprint for key in cloud.store.all("ssh_key")):
        raise taken("public_key", "SSH key with the same fingerprint already exists")
    key = {**common, "public_key": public_key, "fingerprint": fingerprint}
    return KIND.answer(cloud, cloud.store.add("ssh_key", key), 201)


def delete(cloud: Cloud, request: Request) -> Answer:
    """``DELETE /ssh_keys/{id}``; servers that were made with it keep it."""
    KIND.removable(cloud, request)
    cloud.store.remove("ssh_key", request.id)
    return EMPTY


def find(cloud: Cloud, wanted: object) -> Record:
    """A key by id or name.

    Raises:
        ApiError: There is none.
    """
    for key in cloud.store.all("ssh_key"):
        if wanted in (key["id"], key["name"], str(key["id"])):
            return key
    raise invalid("ssh_keys", f"SSH key '{wanted}' not found")


def _fingerprint(public_key: str) -> str:
    try:
        digest = hashlib.md5(base64.b64decode(public_key.split()[1], validate=True)).hexdigest()
    except (IndexError, binascii.Error):
        raise invalid("public_key", "is not a public key in OpenSSH's format") from None
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
