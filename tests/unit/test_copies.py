"""Copies of the kubeconfig that the Kubernetes provider leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster import copies

KUBECONFIG = """\
apiVersion: v1
kind: Config
users:
- name: admin
  user:
    client-certificate-data: Y2VydA==
    client-key-data: a2V5
"""


def left_by_the_provider(folder: Path, number: int, text: str = KUBECONFIG) -> Path:
    """As it writes what it was given: keys in another order, all else kept."""
    path = folder / f"kubeconfig{number}"
    path.write_text(yaml.safe_dump(yaml.safe_load(copies.for_provider(text))))
    return path


def test_the_provider_gets_the_same_with_a_mark() -> None:
    marked = yaml.safe_load(copies.for_provider(KUBECONFIG.rstrip()))
    (extension,) = marked.pop("extensions")
    assert extension["name"] == copies.MARK
    assert marked == yaml.safe_load(KUBECONFIG)


def test_a_run_takes_its_copies_away_and_those_of_earlier_runs(tmp_path: Path) -> None:
    before = left_by_the_provider(tmp_path, 1)
    program = (
        "import sys, pathlib; from cluster import copies\n"
        "given = copies.for_provider(sys.argv[1])\n"
        "assert not pathlib.Path(sys.argv[2]).exists()\n"
        "pathlib.Path(sys.argv[2]).write_text(given)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, KUBECONFIG, str(before)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_such_a_copy_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    saved = tmp_path / "kubeconfig2"
    saved.write_text(KUBECONFIG)
    other = left_by_the_provider(tmp_path, 3, KUBECONFIG.replace("a2V5", "b3RoZXI="))
    linked = tmp_path / "elsewhere"
    linked.write_text(copies.for_provider(KUBECONFIG))
    (tmp_path / "kubeconfig4").symlink_to(linked)
    ours = left_by_the_provider(tmp_path, 5)
    somebodys = left_by_the_provider(tmp_path, 6)
    lstat = Path.lstat

    def owned(path: Path) -> os.stat_result:
        values = list(lstat(path))
        values[4] += path == somebodys  # st_uid
        return os.stat_result(values)

    monkeypatch.setattr(Path, "lstat", owned)
    copies.take_away("a2V5")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {saved.name, other.name, linked.name, "kubeconfig4", somebodys.name}
    assert not ours.exists()
