"""The form of age's X25519 keys (age-encryption.org/v1): Bech32 of 32 bytes, with a checksum.

Only the form is looked at, so that a slip of the pen is told in a preview and not by a host, or by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PUBLIC = "age"
PRIVATE = "age-secret-key-"
"""What stands before the separator, ``1``."""

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6
_SYMBOLS = 52
"""Five bits each, for 256."""


def is_public(text: str) -> bool:
    """Whether it is a public key: ``age1...``, to encrypt for.

    >>> is_public("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj")
    True
    >>> is_public("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwq")
    False
    """
    return text == text.lower() and _fits(text, PUBLIC)


def private_key(text: str) -> str | None:
    """The private key, ``AGE-SECRET-KEY-1...``, in what age-keygen writes; None where there is not one."""
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    fits = len(keys) == 1 and keys[0] == keys[0].upper() and _fits(keys[0].lower(), PRIVATE)
    return keys[0] if fits else None


def looks_private(text: str) -> bool:
    """Whether it may be a private key, which then must not be shown."""
    return PRIVATE in text.lower()


def _fits(text: str, kind: str) -> bool:
    head, separator, data = text.rpartition("1")
    if head != kind or not separator or len(data) != _SYMBOLS + _CHECKSUM:
        return False
    if not set(data) <= set(_ALPHABET):
        return False
    return _checksum([*_expanded(head), *map(_ALPHABET.index, data)]) == 1


def _expanded(head: str) -> Iterator[int]:
    yield from (ord(letter) >> 5 for letter in head)
    yield 0
    yield from (ord(letter) & 31 for letter in head)


def _checksum(values: Iterable[int]) -> int:
    """BIP 173's polynomial."""
    result = 1
    for value in values:
        top = result >> 25
        result = (result & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            result ^= generator if top >> bit & 1 else 0
    return result
