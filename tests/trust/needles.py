"""Secrets, and how they are found where they should not be: in clear, and within anything's base64."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_PEM = re.compile(r"-----BEGIN ([A-Z]* ?)PRIVATE KEY-----\s+(.*?)-----END", re.DOTALL)
_VALUE = re.compile(
    r"(?:^\s*(?:- )?|[{,] ?)(?:client-key-data: |token: |secret: |user = )\"?([A-Za-z0-9+/=._:~-]{16,})"
    r"(?=[\"},\s]|$)",
    re.MULTILINE,
)
_LONG = 60
"""Of longer texts a part in the middle is enough, and lines of base64 are hardly longer."""


def secrets_in(text: str) -> list[str]:
    """What is secret in a file: of private keys a line that no certificate has, tokens, other keys.

    Known are PEM and OpenSSH's keys, kubeconfigs, kubeadm's join configuration, API servers' encryption
    configuration and curl's credentials.
    """
    keys = [_telling(kind.strip(), body.split()) for kind, body in _PEM.findall(text)]
    values = [re.split(r"[.:]", value)[-1] for value in _VALUE.findall(text)]
    return [_middle(value) for value in (*keys, *values)]


def _telling(kind: str, lines: list[str]) -> str:
    """The line with the private half, which stands at the start of an EC key and near the end of an RSA one.

    OpenSSH's keys have the public half before it (PROTOCOL.key): an Ed25519 seed ends in the 257th character,
    the number of a key on P-256 in the 400th.
    """
    if kind == "OPENSSH" and len(lines) < 10:
        return lines[(236 if len(lines) < 7 else 378) // len(lines[0])]
    return lines[-2] if len(lines) > 10 else lines[0]


def _middle(text: str) -> str:
    start = max(0, (len(text) - _LONG) // 2)
    return text[start : start + _LONG]


def forms(secret: str) -> list[bytes]:
    """The secret itself, and what base64 makes of it at each of three places in a longer text.

    >>> b"aGVsbG8td29ybG" in forms("hello-world")
    True
    """
    data = secret.encode()
    encoded = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data)
        # The first and last characters depend on what stands around as well.
        encoded.append(whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6])
    return [data, *encoded]


class Needles:
    """Secrets by what they are called, to be searched for.

    Args:
        secrets: texts of secrets by name.
    """

    def __init__(self, secrets: Mapping[str, Iterable[str]]) -> None:
        self._forms = {
            form: name for name, texts in secrets.items() for text in texts for form in forms(text)
        }
        self.names = set(self._forms.values())

    def __len__(self) -> int:
        return len(self._forms) // 4

    def within(self, data: bytes) -> set[str]:
        """The names of the secrets that are in the data."""
        return {name for form, name in self._forms.items() if form in data}

    def within_files(self, *places: Path) -> dict[str, set[str]]:
        """The names of the secrets that are in files at or below places, by file."""
        there = [place for place in places if place.exists()]
        # The needles go by stdin: an argument list is one of the places where they must not be.
        words = ["grep", "-rlaF", "--devices=skip", "-f", "-", "--", *map(str, there)]
        found = subprocess.run(
            words, input=b"\n".join(self._forms), capture_output=True, check=False
        ).stdout
        paths = found.decode().splitlines() if there else []
        return {path: self.within(Path(path).read_bytes()) for path in paths}


def modes(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Files that others than their owner may read, with their modes."""
    for path in paths:
        mode = Path(path).stat().st_mode & 0o777
        if mode & 0o077:
            yield path, mode
