"""docs/errors.md: every error that the program and the host scripts can raise, read off their source."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from itertools import chain

from tests.unit.hosts import SCRIPTS
from tests.unit.pages.source import UNKNOWN, Module, last_name
from tests.unit.pages.text import table
from tests.unit.stacks import ROOT

FORMS: Mapping[str, int] = {"_wrong": 0, "_of_form": 1}
"""What refuses a single value; where in its arguments expectation and remedy begin."""

BASES = {"ClusterError"}
"""Errors that have what happened, expectation and remedy, in this order, are made from it."""

_SAYS = re.compile(r"\s*\b(?:expected|remedy):\s*", re.IGNORECASE)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_FAIL = re.compile(r"(?:^|[\s;({])fail\s")
_WAIT = re.compile(r"\bwait_for (?P<seconds>\S+) (?=\")")


@cache
def _modules() -> list[Module]:
    return [Module(path) for path in sorted((ROOT / "cluster").rglob("*.py"))]


def of_changes() -> str:
    """Those of edits that a live cluster can't follow."""
    return table(["setting", "why", "expected", "way out"], _problems(["changes"]))


def of_settings() -> str:
    """Those of settings that do not go together, with each other or with what Hetzner offers."""
    others = [module.path.stem for module in _modules() if module.path.stem != "changes"]
    return table(["setting", "why", "expected", "way out"], _problems(others))


def of_forms() -> str:
    """Those of single values."""
    rows: dict[tuple[str, ...], None] = {}
    for module, call in _calls(FORMS):
        first = FORMS[last_name(call.func)]
        said = _arguments(call, first + 2)[first:]
        if not all(isinstance(words, ast.Name) for words in said):  # passed on
            rows[tuple(map(module.text, said))] = None
    return table(["expected", "way out"], rows)


def _problems(modules: Collection[str]) -> Iterator[list[str]]:
    for module, call in _calls(["Problem"]):
        key, _, *said = map(module.text, _arguments(call, 4))
        if module.path.stem in modules and any(text != text.upper() for text in said):
            yield [_if_known(key, "several"), module.docstring(call), *map(_if_known, said)]


def _arguments(call: ast.Call, count: int) -> list[ast.expr]:
    """The first arguments of a call, by place or by name; what is not given is an empty text."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [*given, *[ast.Constant("")] * count][:count]


def _if_known(text: str, instead: str = "the message tells") -> str:
    """A text, unless all of it comes at run time."""
    return instead if text == text.upper() else text


def _calls(names: Collection[str]) -> Iterator[tuple[Module, ast.Call]]:
    return ((module, call) for module in _modules() for call in module.calls(names))


def of_others() -> str:
    """Those of other places, like an API that does not answer."""
    rows = chain.from_iterable(map(_raised, _modules()))
    return table(["what happened", "expected", "way out"], rows)


def _raised(module: Module) -> Iterator[list[str]]:
    for call in module.calls(_error_classes()):
        yield [_if_known(module.text(argument)) for argument in _arguments(call, 3)]
    for call in module.calls({"error", "print"}):
        said = _SAYS.split(module.text(call.args[0])) if call.args else []
        if len(said) == 3:
            yield [said[0].removeprefix("error: "), *map(_if_known, said[1:])]


@cache
def _error_classes() -> frozenset[str]:
    """The names of all classes that come of ``BASES``, but for that of the stack file."""
    found = set(BASES)
    classes = [n for m in _modules() for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)]
    for _ in classes:
        found |= {c.name for c in classes if found & set(map(last_name, c.bases))}
    return frozenset(found - BASES - {"SettingsError"})


def of_hosts() -> str:
    """Those of the host scripts."""
    rows = ([*said, f"`{name}`"] for name, text in _scripts() for said in failures(text))
    return table(["error on HOST", "expected", "way out", "script"], rows)


def _scripts() -> list[tuple[str, str]]:
    return [(path.name, path.read_text()) for path in sorted(SCRIPTS.glob("*.sh"))]


def waits() -> str:
    """What the host scripts wait for, and how long."""
    rows = (
        [_shown(_quoted(text, wait.end())[0]), f"{_shown(wait['seconds'])} s", f"`{name}`"]
        for name, text in _scripts()
        for wait in _WAIT.finditer(text)
    )
    return table(["waited N s in vain", "N", "script"], rows)


def failures(script: str) -> Iterator[list[str]]:
    """The three texts of each ``fail`` of a script (lib.sh)."""
    script = _COMMENT.sub("", script)
    for found in _FAIL.finditer(script):
        words, at = [], found.end()
        for _ in range(3):
            word, at = _quoted(script, at)
            words.append(_shown(word))
        yield words


def _quoted(text: str, start: int) -> tuple[str, int]:
    """The next word in double quotes, ``…`` for the commands in it, and where what is behind it begins."""
    depth, found = 0, ""
    at = text.index('"', start) + 1
    while depth or text[at] != '"':
        if text.startswith("$(", at):
            found += "" if depth else UNKNOWN
            depth += 1
            at += 1
        elif depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
        else:
            at += text[at] == "\\"
            found += text[at]
        at += 1
    return found, at + 1


def _shown(word: str) -> str:
    """A shell's text with its variables' names."""
    word = re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", word)
    return re.sub(
        r"\$(?:\{([A-Za-z_]\w*)[^}]*\}|([A-Za-z_]\w*)|\{[^}]*\}|.)",
        lambda found: (found[1] or found[2] or UNKNOWN).upper(),
        word,
    )
