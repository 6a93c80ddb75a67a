"""docs/settings.md: every setting, as Pulumi.yaml declares and ``cluster/settings.py`` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from cluster.settings import Settings
from tests.unit.pages.text import table
from tests.unit.stacks import declarations

Schema = Mapping[str, Any]


def in_short() -> str:
    """All settings in one table."""
    rows = (
        [f"[{key}](#{key.lower()})", _kind(e), _default(e)] for key, e in declarations().items()
    )
    return table(["setting", "form", "default"], rows)


def in_full() -> str:
    """Each setting with its description; of one that is a map, what may stand in it."""
    return "\n".join(_section(key, entry) for key, entry in declarations().items())


def _section(key: str, entry: Schema) -> str:
    default = f"default {_default(entry)}" if "default" in entry else _default(entry)
    head = f"### {key}\n\n*{_kind(entry)}; {default}*\n\n{entry['description'].strip()}\n"
    return head + "".join(f"\n{part}" for part in _inner(key))


def _kind(entry: Schema) -> str:
    return "text, a secret" if entry.get("secret") else _form(entry)


def _default(entry: Schema) -> str:
    if "default" not in entry:
        return "needed"
    return "empty" if entry["default"] in ("", {}, []) else f"`{json.dumps(entry['default'])}`"


def _inner(key: str) -> Iterator[str]:
    """Tables of what may stand in a map."""
    annotation = {f.alias: f.annotation for f in Settings.model_fields.values()}.get(key)
    if annotation is None:  # a secret
        return
    schema = TypeAdapter(annotation).json_schema(mode="validation")
    models = [schema, *schema.get("$defs", {}).values()]
    sections = [model for model in models if model.get("additionalProperties") is False]
    for number, model in enumerate(sections):
        rows = (
            [f"`{name}`", _form(value), _given(model, name)]
            for name, value in model["properties"].items()
        )
        inner = f"{model['description'].replace('``', '`')}\n\n" if number else ""
        yield inner + table(["key", "form", "default"], rows)


def _given(model: Schema, name: str) -> str:
    if name in model.get("required", []):
        return "needed"
    default = model["properties"][name]["default"]
    return "" if default in (None, "", {}, []) else f"`{json.dumps(default)}`"


def _form(schema: Schema) -> str:
    """What a value looks like, in words."""
    if "anyOf" in schema:  # optional
        return _form(schema["anyOf"][0])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return "map, see below"
    if "format" in schema:
        return _FORMATS.get(schema["format"], "text")
    word = _TYPES.get(schema.get("type", ""), "any value")
    if "items" in schema:
        return f"{word} of {_form(schema['items'])}s"
    if "minimum" in schema:
        most = f"to {schema['maximum']}" if "maximum" in schema else "or more"
        return f"{word}, {schema['minimum']} {most}"
    return word


_TYPES = {
    "string": "text",
    "integer": "number",
    "boolean": "true or false",
    "object": "map",
    "array": "list",
}
_FORMATS = {"ipv4": "IPv4 address", "ipv4network": "IPv4 network", "path": "path"}
