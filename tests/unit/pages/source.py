"""Texts as they stand in the program's source, also those that are put together at run time.

In place of a value that is known at run time only its name stands, in capital letters, or ``…``. What has a
name is looked up where it was given its value: in its function, by those who call that, or in its module.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path

UNKNOWN = "…"
_DEPTH = 6
"""How often a name may lead to another one."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A module's source.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        for parent in ast.walk(self.tree):
            for child in ast.iter_child_nodes(parent):
                child.parent = parent  # type: ignore[attr-defined]

    def calls(self, names: Collection[str]) -> Iterator[ast.Call]:
        """Every call of one of some functions or classes, in the order of the source."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and last_name(node.func) in names
        ]
        return iter(sorted(found, key=lambda call: call.lineno))

    def docstring(self, node: ast.AST) -> str:
        """The first sentence of the docstring of the function around a node."""
        function = self._function(node)
        text = (ast.get_docstring(function) or "") if function else ""
        return text.split("\n\n")[0].replace("``", "`").replace("\n", " ")

    def text(self, node: ast.expr, depth: int = 0) -> str:
        """An expression as text."""
        if isinstance(node, ast.Constant):
            return f"{node.value:g}" if isinstance(node.value, float) else str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            own = self._values(node.value, callers=False)
            return self._either(own, depth + 1) or _named(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.text(node.left, depth) + self.text(node.right, depth)
        if isinstance(node, ast.IfExp | ast.BoolOp):
            several = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            return self._either(several, depth)
        return self._either(self._values(node, callers=True), depth + 1) or _named(node)

    def _either(self, nodes: Collection[ast.expr], depth: int) -> str:
        if depth > _DEPTH:
            return ""
        texts = [self.text(node, depth) for node in nodes if _may_be_text(node)]
        return ", or ".join(dict.fromkeys(text for text in texts if text not in ("", UNKNOWN)))

    def _values(self, node: ast.expr, *, callers: bool) -> list[ast.expr]:
        """What a name or a call of our own may stand for.

        Args:
            node: the name or the call.
            callers: whether what a function is called with counts, and what it returns.
        """
        if isinstance(node, ast.Call) and callers:
            function = self._functions.get(last_name(node.func))
            returns = ast.walk(function) if function else ()
            return [r.value for r in returns if isinstance(r, ast.Return) and r.value]
        if not isinstance(node, ast.Name):
            return []
        function = self._function(node)
        if function is None or node.id not in _bound(function):
            return _assigned(self.tree.body, node.id)
        if callers and node.id in (names := [a.arg for a in function.args.args]):
            place = names.index(node.id) - (names[0] == "self")
            calls = self.calls([function.name])
            return [call.args[place] for call in calls if len(call.args) > place]
        values = _assigned(ast.walk(function), node.id)
        return [v for v in values if not isinstance(v, ast.Constant) or isinstance(v.value, str)]

    @cached_property
    def _functions(self) -> dict[str, Function]:
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, Function)}

    def _function(self, node: ast.AST) -> Function | None:
        while node := getattr(node, "parent", None):  # type: ignore[assignment]
            if isinstance(node, Function):
                return node
        return None


def _bound(function: Function) -> set[str]:
    """Names that a function gives a value, its parameters among them."""
    stored = {
        n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    arguments = function.args
    return stored | {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}


def _assigned(nodes: Iterable[ast.AST], name: str) -> list[ast.expr]:
    """What a name is made to be, what is added to it put behind."""
    found: list[ast.expr] = []
    for node in nodes:
        targets: list[ast.expr] = []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        if not any(isinstance(target, ast.Name) and target.id == name for target in targets):
            continue
        value = node.value  # type: ignore[attr-defined]
        if isinstance(node, ast.AugAssign):
            found[-1:] = [ast.BinOp(found[-1], ast.Add(), value)]
        elif value:
            found.append(value)
    return found


def _may_be_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | int | float) and not isinstance(node.value, bool)
    return isinstance(
        node, ast.JoinedStr | ast.BinOp | ast.IfExp | ast.BoolOp | ast.Name | ast.Call
    )


def last_name(node: ast.expr) -> str:
    """The last name of a dotted one (``pulumi.log.error``)."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _named(node: ast.expr) -> str:
    """What stands in place of a value: its name."""
    if isinstance(node, ast.Call) and last_name(node.func) == "str" and node.args:
        return _named(node.args[0])
    return last_name(node).strip("_").upper() or UNKNOWN
