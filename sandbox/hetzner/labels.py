"""Labels and label selectors, as the API's documentation defines them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.hetzner.errors import invalid

_PART: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?"
_DOMAIN: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_KEY: Final = re.compile(rf"(?:(?P<prefix>{_DOMAIN}(?:\.{_DOMAIN})*)/)?{_PART}")
_VALUE: Final = re.compile(rf"(?:{_PART})?")
_RESERVED: Final = "hetzner.cloud"

Match = Callable[[Mapping[str, str]], bool]


def check(labels: Any) -> dict[str, str]:
    """Labels of a request.

    Raises:
        ApiError: They are not labels; says which and why.
    """
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise invalid("labels", "must be an object")
    for key, value in labels.items():
        _check_key(key)
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise invalid("labels", f"value '{value}' of label '{key}' is not correctly formatted")
    return dict(labels)


def _check_key(key: str) -> None:
    found = _KEY.fullmatch(key)
    prefix = found["prefix"] or "" if found else ""
    if not found or len(prefix) > 253:
        raise invalid("labels", f"label key '{key}' is not correctly formatted")
    if prefix == _RESERVED:
        raise invalid("labels", f"label key '{key}': the prefix {_RESERVED}/ is reserved")


_TERMS: Final = re.compile(r",(?![^(]*\))")
_SET: Final = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL: Final = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^=!\s]*)")
_PRESENT: Final = re.compile(r"(?P<no>!?)\s*(?P<key>[^=!\s]+)")


def selector(text: str, field: str = "label_selector") -> Match:
    """A selector's test of a resource's labels; an empty selector matches nothing.

    Args:
        text: For example ``env=prod,!old`` or ``tier in (a,b)``.
        field: The request's field, for the error.

    Raises:
        ApiError: It is not a selector.

    >>> selector("env in (prod,test),!old")({"env": "test"})
    True
    """
    terms = [_term(term.strip(), field) for term in _TERMS.split(text)] if text.strip() else []
    return lambda labels: bool(terms) and all(term(labels) for term in terms)


def _term(text: str, field: str) -> Match:
    if found := _SET.fullmatch(text):
        key = found["key"]
        values = {value.strip() for value in found["values"].split(",")}
        wanted = found["how"] == "in"
        return _checked(key, lambda labels: (labels.get(key) in values) == wanted, field)
    if found := _EQUAL.fullmatch(text):
        key, value = found["key"], found["value"]
        equal = found["how"] != "!="
        return _checked(key, lambda labels: (labels.get(key) == value) == equal, field)
    if found := _PRESENT.fullmatch(text):
        key, present = found["key"], not found["no"]
        return _checked(key, lambda labels: (key in labels) == present, field)
    raise invalid(field, f"'{text}' is not a label selector")


def _checked(key: str, match: Match, field: str) -> Match:
    if not _KEY.fullmatch(key):
        raise invalid(field, f"'{key}' is not a label key")
    return match
