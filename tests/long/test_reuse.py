"""The component package and the policy pack on the real engine, in previews: no machine is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import site
from tests.unit.stacks import PRIVATE_KEY, host_key

pytestmark = pytest.mark.skipif(not shutil.which("pulumi"), reason="no pulumi on the PATH")

NOT_CLONED = shutil.ignore_patterns(".git", ".venv", ".sandbox", ".*_cache", "__pycache__", "build")

Pulumi = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is cloned."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(site.ROOT, folder, symlinks=True, ignore=NOT_CLONED, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def pulumi(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Pulumi:
    """Runs the CLI in a folder of the clone, by default that of the YAML example, with a state of its own."""
    state = tmp_path_factory.mktemp("state")
    own = {"PULUMI_BACKEND_URL": f"file://{state}", "PULUMI_CONFIG_PASSPHRASE": "for a test"}

    def run(*words: str, stdin: str = "", where: str = "examples/yaml") -> Any:
        return subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            cwd=clone / where,
            env={**os.environ, **own},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def do(*words: str, **more: str) -> None:
        done = run(*words, **more)
        assert done.returncode == 0, done.stdout

    do("stack", "init", "test")
    do("config", "set", "--secret", "sshPrivateKey", stdin=PRIVATE_KEY)
    do("config", "set", "controlPlaneHostKey", host_key("cp1"))
    do("config", "set", "workerHostKey", host_key("w1"))
    do("install")  # the package, and below the pack: minutes
    do("install", where="policy")
    return run


def test_a_program_in_yaml_gets_a_cluster_that_keeps_to_the_policies(pulumi: Pulumi) -> None:
    done = pulumi("preview", "--policy-pack", "../../policy")
    assert done.returncode == 0, done.stdout
    for name in ("green-cp1-join", "green-w1-join", "green-hello-ingress"):
        assert name in done.stdout
    assert "own-kubernetes@v1.0.0" in done.stdout, "the pack was asked"


UNCHECKED = """\
  unchecked:
    type: command:remote:Command
    properties:
      create: "true"
      connection:
        host: 10.0.0.11
"""


def test_a_preview_that_breaks_a_policy_fails(pulumi: Pulumi, clone: Path) -> None:
    file = clone / "examples" / "yaml" / "Pulumi.yaml"
    kept = file.read_text()
    file.write_text(kept.replace("outputs:\n", f"{UNCHECKED}outputs:\n"))
    done = pulumi("preview", "--policy-pack", "../../policy")
    file.write_text(kept)
    assert done.returncode != 0
    assert "host-key-checked  (command:remote:Command: unchecked)" in done.stdout
    assert "connection.hostKey is missing" in done.stdout
