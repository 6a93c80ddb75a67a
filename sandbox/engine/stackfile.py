"""Stack configuration as the real engine hands it to a program, read without the engine.

Rules of the real one that matter here: a default of ``Pulumi.yaml`` stands in for a whole missing key; a
declared key without one is required; only keys with a ``type`` are checked; keys nobody declared pass;
objects and arrays reach the program as JSON text, everything else as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox import site
from sandbox.engine.progress import EngineError

DEV = "dev"
"""The stack of the local machines."""


def home(stack: str) -> Path:
    """Where an engine keeps what it knows of a stack; private."""
    return site.STATE / ("engine" if stack == DEV else f"engine-{stack}")


def path_of(root: Path, stack: str, elsewhere: Path | None) -> Path:
    """A stack's file: the one in the project's folder, or the one given instead.

    Raises:
        EngineError: the given one is not there.
    """
    if elsewhere is None:
        return root / f"Pulumi.{stack}.yaml"
    if not elsewhere.is_file():
        raise EngineError(f"stack '{stack}': {elsewhere} is not there; want a stack file")
    return elsewhere


@dataclass(frozen=True)
class StackConfig:
    """A stack's configuration.

    Attributes:
        project: the project's name.
        values: text by full key (``project:key``).
        secrets: the full keys that are secret.
    """

    project: str
    values: Mapping[str, str]
    secrets: tuple[str, ...]


def read(root: Path, stack: str, elsewhere: Path | None = None) -> StackConfig:
    """Read ``Pulumi.yaml`` and the stack's file; see :func:`path_of`.

    Raises:
        EngineError: a value is missing, of the wrong type, or encrypted (there is no key here), or a key
            stands twice.
    """
    project = yaml.safe_load((root / "Pulumi.yaml").read_text())
    path = path_of(root, stack, elsewhere)
    try:
        file = yaml.load(path.read_text(), _Loader) if path.exists() else None
    except yaml.constructor.ConstructorError as error:
        raise EngineError(f"{path.name}: {error}") from None
    given = (file or {}).get("config") or {}
    return resolve(project["name"], project.get("config") or {}, given, stack)


def resolve(
    project: str, declared: Mapping[str, Any], given: Mapping[str, Any], stack: str
) -> StackConfig:
    """Merge declared keys with a stack file's values; see :func:`read`."""
    rules = {_full(project, k): v if isinstance(v, dict) else {} for k, v in declared.items()}
    values = {
        key: rule["default"] for key, rule in rules.items() if rule.get("default") is not None
    }
    values |= {_full(project, key): value for key, value in given.items()}
    missing = sorted(_short(project, key) for key in rules if key not in values)
    if missing:
        keys = " and ".join(
            filter(None, [", ".join(f"'{k}'" for k in missing[:-1]), f"'{missing[-1]}'"])
        )
        plural = "s" if len(missing) > 1 else ""
        raise EngineError(f"Stack '{stack}' is missing configuration value{plural} {keys}")
    for key, value in values.items():
        _refuse_encrypted(key, value)
        rule = rules.get(key, {})
        if "type" in rule and not _fits(value, rule):
            raise EngineError(
                f"Stack '{stack}' with configuration key '{_short(project, key)}' "
                f"must be of type '{_type_name(rule)}'"
            )
        if "type" in rule and rule.get("secret"):
            raise EngineError(
                f"Stack '{stack}' with configuration key '{_short(project, key)}' "
                "must be encrypted as it's secret"
            )
    secrets = tuple(sorted(key for key, rule in rules.items() if rule.get("secret")))
    return StackConfig(project, {key: _text(value) for key, value in values.items()}, secrets)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, such as a node's name, where PyYAML would take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                text = f"mapping key {name!r} already defined"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _full(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _short(project: str, key: str) -> str:
    return key.removeprefix(f"{project}:")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return str(value)


def _fits(value: object, rule: Mapping[str, Any]) -> bool:
    match rule["type"]:
        case "string":
            return not isinstance(value, dict | list)
        case "integer":
            return _is_integer(value)
        case "boolean":
            return isinstance(value, bool) or value in ("true", "false")
        case "array":
            return isinstance(value, list) and all(_fits(item, rule["items"]) for item in value)
        case "object":
            return isinstance(value, dict)
        case other:
            raise EngineError(f"Pulumi.yaml: no such type: {other!r}")


def _is_integer(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value.lstrip("-").isdecimal()
    return isinstance(value, int | float) and float(value).is_integer()


def _type_name(rule: Mapping[str, Any]) -> str:
    return f"array<{_type_name(rule['items'])}>" if rule["type"] == "array" else str(rule["type"])


def _refuse_encrypted(key: str, value: object) -> None:
    if isinstance(value, dict) and set(value) == {"secure"}:
        raise EngineError(
            f"{key} is encrypted; only the Pulumi CLI can read it: put it on the PATH"
        )
    for item in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _refuse_encrypted(key, item)
