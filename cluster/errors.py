"""What this program raises: every message names key, value, expectation and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import RunError


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the stack file.

    Attributes:
        key: the setting, as a path below the project's namespace (``nodes.w1.hostKey``).
        value: what stands there; never a secret.
        expected: what would be right.
        remedy: what to do now.
    """

    key: str
    value: object
    expected: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.key} = {_short(self.value)}\n"
            f"      expected: {self.expected}\n"
            f"      remedy:   {self.remedy}"
        )


class ClusterError(RunError):
    """Base of this program's errors; Pulumi prints a ``RunError`` without a traceback."""


class AnswerError(ClusterError):
    """Somebody who was asked does not answer, or refuses.

    Args:
        happened: what went wrong, with the host's name.
        expected: what would be right.
        remedy: what to do now.
    """

    def __init__(self, happened: str, expected: str, remedy: str) -> None:
        super().__init__(f"{happened}\n      expected: {expected}\n      remedy:   {remedy}")


class SettingsError(ClusterError):
    """The stack file can't be used; raised before any resource is declared.

    All problems found are listed at once, so that one edit can mend them all.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} setting{'s' if count > 1 else ''} of this stack can't be used"
        super().__init__("\n  ".join([f"{head}:", *(f"- {problem}" for problem in self.problems)]))


def _short(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
