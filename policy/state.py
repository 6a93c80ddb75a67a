"""The rules on the state that a stack left: ``pulumi stack export | .venv/bin/python policy/state.py``.

A state shows what the engine does not tell policies. Exit status 1 if something is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rules import RULES, STACK_RULES, STATE_RULES, UNKNOWN, Resource

SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key of what is no plain value, such as a secret (pulumi, ``sdk/go/common/resource/properties.go``)."""


def resources(export: Mapping[str, Any]) -> list[Resource]:
    """The live resources of an exported stack; what replacements left to be deleted is passed over."""
    return [
        Resource(
            type=entry["type"],
            urn=entry["urn"],
            props=_known(entry.get("inputs") or {}),
            refers=entry.get("propertyDependencies") or {},
            deleted_with=entry.get("deletedWith") or "",
        )
        for entry in export["deployment"].get("resources") or []
        if not entry.get("delete")
    ]


def problems(stack: list[Resource]) -> Iterator[str]:
    """What is wrong, a line for each."""
    for rule in (*RULES, *STATE_RULES):
        for resource in stack:
            for problem in rule.check(resource):
                yield _line(rule.name, resource, problem)
    for whole in STACK_RULES:
        for resource, problem in whole.check(stack):
            yield _line(whole.name, resource, problem)


def _line(rule: str, resource: Resource, problem: str) -> str:
    return f"{rule}: {resource.urn.rpartition('::')[2]}: {problem}"


def _known(value: Any) -> Any:
    """Values without secrets, which are encrypted here."""
    if isinstance(value, dict):
        return UNKNOWN if SIGNATURE in value else {k: _known(item) for k, item in value.items()}
    return [_known(item) for item in value] if isinstance(value, list) else value


def main() -> int:
    """The command; see the module's text."""
    stack = resources(json.load(sys.stdin))
    found = list(problems(stack))
    print("\n".join(found) or f"{len(stack)} resources keep to every rule")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
