"""The pages for users say what the program is now, and their links and examples hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from sandbox import recording
from tests.unit import pages
from tests.unit.graph import run_program
from tests.unit.pages import errors, source
from tests.unit.stacks import NAMESPACE, PRIVATE_KEY, ROOT, host_key, load

MADE = [path for path in pages.all_pages() if pages.made_parts(path.read_text())]
PUBLIC_KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


@pytest.fixture(autouse=True)
def from_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", named(MADE))
def test_made_parts_are_what_the_program_says(page: Path, update_goldens: bool) -> None:
    text = page.read_text()
    now = pages.renewed(text)
    if update_goldens:
        page.write_text(now)
    assert update_goldens or text == now, (
        f"{page.name} would change: run pytest tests/unit/test_docs.py --update-goldens and look at it"
    )


def test_every_made_part_is_in_a_page() -> None:
    parts = [part for page in MADE for part in pages.made_parts(page.read_text())]
    assert sorted(parts) == sorted(pages.PARTS)


@pytest.mark.parametrize("page", named(pages.all_pages()))
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in pages.anchors(target.read_text()), f"{page.name} links to {link}"


def test_the_index_names_every_page() -> None:
    linked = {
        link.partition("#")[0] for link in pages.links((pages.DOCS / "README.md").read_text())
    }
    there = {path.name for path in pages.DOCS.glob("*.md")} - {"README.md"}
    assert there <= linked, f"docs/README.md lacks {there - linked}"


def examples() -> list[Any]:
    """The stack files in the pages: those that begin with their name, and tell all that is needed."""
    return [
        pytest.param(text, id=f"{path.name}-{number}")
        for path in pages.all_pages()
        for number, text in enumerate(pages.fenced(path.read_text(), "yaml"))
        if text.startswith("# Pulumi.") and "nodes:" in text
    ]


@pytest.mark.parametrize("text", examples())
def test_stack_files_in_pages_are_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "mirror.asc").touch()
    text = text.replace("AAAA...", host_key("here").split()[1]).replace("age1...", PUBLIC_KEY)
    values = yaml.safe_load(text)["config"]
    own = {key.removeprefix(f"{NAMESPACE}:"): value for key, value in values.items()}
    # What such a file does not hold: secrets, and files that are told apart from it.
    secrets = {"sshPrivateKey": PRIVATE_KEY, "hcloud:token": "t0ken" * 12 + "hcld"}
    if "s3" in own.get("backup", {}):
        secrets["backupS3Credentials"] = "access:secret"
    assert load(base={**secrets, **own}, root=tmp_path).settings.nodes


def test_the_steps_from_scratch_are_resources_of_the_program() -> None:
    text = (pages.DOCS / "from-scratch.md").read_text()
    names = {
        word for row in re.findall(r"^\|.*\|$", text, re.MULTILINE) for word in _resources(row)
    }
    assert len(names) > 10
    graph = run_program({"nodes.w1.labels": {"example.com/disk": "fast"}}, preview=True)
    assert sorted(names - {*graph.requests}) == []


def _resources(row: str) -> list[str]:
    """In the last column, as code."""
    return re.findall(r"`([\w-]+)`", row.rsplit("|", 2)[1])


def test_the_picture_of_a_run_is_what_was_taken(update_goldens: bool) -> None:
    log, picture = pages.DOCS / "images" / "up.log", pages.DOCS / "images" / "up.svg"
    drawn = recording.draw(recording.Recording.read(log.read_text()))
    if update_goldens:
        picture.write_text(drawn)
    assert picture.read_text() == drawn


def test_a_run_is_taken_and_drawn() -> None:
    run = recording.take(["printf", r"one <&>\n\nend\n"], "make up")
    assert [text for _, text in run.lines] == ["one <&>", "", "end"]
    assert recording.Recording.read(run.write()) == recording.Recording(
        "make up", [(round(seconds, 1), text) for seconds, text in run.lines]
    )
    drawn = ElementTree.fromstring(recording.draw(run))
    shown = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert shown == ["make up", "# make up", "one <&>", None, "end"]
    with pytest.raises(subprocess.CalledProcessError):
        recording.take(["false"], "make up")


# --- texts read off the source -------------------------------------------------------------------

MODULE = '''
LIMIT = 5

def refuse(name, remedy):
    """Why it is so."""
    text = f"at most {LIMIT} of {name}"
    text += f", not {count()}"
    raise Wrong(name, text, remedy)

def one():
    refuse("a", "take it out" if few else "ask")

def two():
    refuse("b", chosen())

def chosen():
    return "choose one"
'''


def test_a_text_is_put_together_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    module = source.Module(tmp_path / "module.py")
    (call,) = module.calls({"Wrong"})
    assert [module.text(argument) for argument in call.args] == [
        "a, or b",
        "at most 5 of NAME, not …",
        "take it out, or ask, or choose one",
    ]
    assert module.docstring(call) == "Why it is so."


def test_an_error_of_a_script_is_read_as_it_is_said() -> None:
    script = r"""
      # fail WHAT EXPECTED REMEDY
      [[ -e $x ]] || fail "no $x at ${place#*/}" "a \"file\" ($(head -1 "$(name)"))" \
        "make it${y:+ for $y}"
    """
    assert [*errors.failures(script)] == [["no X at PLACE", 'a "file" (…)', "make it for Y"]]
