"""The workflows for GitHub: pinned, with the least rights, and no secret where a fork's code could run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.stacks import ROOT

FOLDER = ROOT / ".github" / "workflows"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
OWN_BRANCH = "github.event.pull_request.head.repo.full_name == github.repository"
OTHERS_CODE = {"pull_request_target", "workflow_run", "issue_comment"}
"""What starts a workflow with secrets, and may lead it to code of somebody who has no right to them."""


def workflows() -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.yml"))]


def read(path: Path) -> dict[str, Any]:
    """A workflow, every value as text: YAML would take the key ``on`` for true."""
    workflow: dict[str, Any] = yaml.load(path.read_text(), yaml.BaseLoader)
    return workflow


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def uses(job: dict[str, Any]) -> list[str]:
    """The actions of a job, without their versions."""
    return [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]


@pytest.mark.parametrize("path", workflows())
def test_actions_are_pinned(path: Path) -> None:
    lines = path.read_text().splitlines()
    found = [line.split("uses: ")[1] for line in lines if "uses: " in line]
    assert found
    assert [line for line in found if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("path", workflows())
def test_rights_are_given_job_by_job(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for job in jobs(path).values():
        assert set(job["permissions"].values()) <= {"read", "write"}
        assert job["timeout-minutes"]


@pytest.mark.parametrize("path", workflows())
def test_who_may_write_runs_no_code_of_the_repository(path: Path) -> None:
    for job in jobs(path).values():
        if "write" in job["permissions"].values():
            assert uses(job) == ["actions/download-artifact"]
            assert "secrets." not in str(job)


@pytest.mark.parametrize("path", workflows())
def test_a_checkout_leaves_no_token_behind(path: Path) -> None:
    for job in jobs(path).values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": "false"}


@pytest.mark.parametrize("path", workflows())
def test_forks_reach_no_secret(path: Path) -> None:
    workflow = read(path)
    assert not OTHERS_CODE & set(workflow["on"])
    assert "secrets." not in str(workflow.get("env", {}))
    for job in jobs(path).values():
        if "secrets." in str(job):
            assert job["environment"], "where rules on who may use them can be set"
            assert "pull_request" not in workflow["on"] or OWN_BRANCH in job["if"]


@pytest.mark.parametrize("path", workflows())
def test_texts_of_others_are_no_part_of_a_script(path: Path) -> None:
    for job in jobs(path).values():
        assert [step["run"] for step in job["steps"] if "${{" in step.get("run", "")] == []


def test_the_cli_is_as_old_as_its_sdk() -> None:
    wanted = re.search(r"^pulumi==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert wanted
    texts = [path.read_text() for path in FOLDER.glob("*.yml")]
    found = {version for text in texts for version in re.findall(r"pulumi-version: (.+)", text)}
    assert found == {wanted[1]}
