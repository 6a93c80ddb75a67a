"""Pages for users: parts of them are made from the program, so that they can't grow old.

A made part stands between ``<!-- made: NAME -->`` and ``<!-- end -->``. pytest writes it with
``--update-goldens``, and fails where it is not what the program says now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.unit.pages import errors, mirror, picture, prices, settings
from tests.unit.stacks import ROOT

DOCS = ROOT / "docs"

PARTS: Mapping[str, Callable[[], str]] = {
    "bills": prices.bills,
    "components": picture.components,
    "components-at-hetzner": picture.components_at_hetzner,
    "errors-of-changes": errors.of_changes,
    "errors-of-forms": errors.of_forms,
    "errors-of-hosts": errors.of_hosts,
    "errors-of-others": errors.of_others,
    "errors-of-settings": errors.of_settings,
    "mirror": mirror.contents,
    "nodes": picture.nodes,
    "settings-in-full": settings.in_full,
    "settings-in-short": settings.in_short,
    "waits-of-hosts": errors.waits,
}

_PART = re.compile(
    r"(?P<head><!-- made: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
_FENCED = re.compile(
    r"^(?P<indent> *)```(?P<kind>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


def all_pages() -> list[Path]:
    """Every page: those beside the program, and those in docs/."""
    return sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


def made_parts(text: str) -> list[str]:
    """The names of a page's made parts."""
    return [part["name"] for part in _PART.finditer(text)]


def renewed(text: str) -> str:
    """A page's text with every made part as it is now."""
    return _PART.sub(lambda part: f"{part['head']}\n{PARTS[part['name']]()}\n{part['end']}", text)


def fenced(text: str, kind: str) -> list[str]:
    """The blocks of code of a kind (``yaml``) in a page."""
    return [block["text"] for block in _FENCED.finditer(text) if block["kind"] == kind]


def links(text: str) -> list[str]:
    """Where a page's links and pictures lead, but for those to other sites."""
    targets = [link["target"] for link in _LINK.finditer(_FENCED.sub("", text))]
    return [target for target in targets if "://" not in target]


def anchors(text: str) -> set[str]:
    """What can stand behind ``#`` in a link to a page: its headings as GitHub makes anchors of them."""
    headings = [heading["text"] for heading in _HEADING.finditer(_FENCED.sub("", text))]
    plain = [re.sub(r"\]\([^)]*\)", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}
