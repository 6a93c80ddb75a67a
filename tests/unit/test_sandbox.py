"""The sandbox's stacks: what is written for them is what the program takes; and this host's bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import cloud, ha, site, stacks
from sandbox.machines import limits
from tests.unit.sites import dev_files
from tests.unit.stacks import host_key, load


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written into the real state directory."""
    monkeypatch.setattr(site, "STATE", tmp_path / "state")
    return tmp_path / "state"


def values_in(file: Path) -> dict[str, Any]:
    """The settings of a stack file, as the program knows them."""
    config = yaml.safe_load(file.read_text())["config"]
    return {key.removeprefix(stacks.PREFIX): value for key, value in config.items()}


def test_the_stack_of_several_control_planes_is_one_that_the_program_takes(tmp_path: Path) -> None:
    dev_files(tmp_path)
    known = [f"{node['address']} {host_key(name)}\n" for name, node in ha.NODES.items()]
    (tmp_path / ".sandbox/ssh/known_hosts").write_text("".join(known))
    settings = load(base=values_in(ha.stack_file()), root=tmp_path).settings
    assert (len(settings.control_planes), len(settings.workers)) == (3, 2)
    assert settings.endpoint == f"{ha.VIRTUAL_ADDRESS}:6443"


def test_the_stack_on_servers_is_one_that_the_program_takes(tmp_path: Path) -> None:
    dev_files(tmp_path)
    settings = load(base=values_in(cloud.stack_file()), root=tmp_path).settings
    assert settings.hetzner_nodes


def test_changes_are_put_in_by_their_path_or_take_a_key_out() -> None:
    own = {"kept": 1, "nodes": {"w1": {"role": "worker"}, "w2": {}}, "gone": 2}
    changes = {"nodes.w1.role": "control-plane", "nodes.w2": None, "gone": None, "new.deep": [3]}
    file = stacks.write("x", own, changes, {"hcloud:token": "t"})
    assert values_in(file) == {
        "kept": 1, "nodes": {"w1": {"role": "control-plane"}}, "new": {"deep": [3]},
        "hcloud:token": "t",
    }  # fmt: skip
    assert own["nodes"] == {"w1": {"role": "worker"}, "w2": {}}, "the next stack's too"


@pytest.fixture
def knob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bound of the kernel, pretended."""
    monkeypatch.setattr(limits, "KNOB", tmp_path / "knob")
    monkeypatch.setattr(limits, "FOUND", tmp_path / "state" / "found")
    return tmp_path / "knob"


def test_a_bound_is_raised_and_put_back_as_it_was_found(knob: Path) -> None:
    knob.write_text("128\n")
    for _ in range(2):
        limits.raise_bound()
        assert int(knob.read_text()) == limits.NEEDED
        assert limits.leftovers() == [f"raised {knob}"]
    limits.put_back()
    assert knob.read_text() == "128\n"
    assert limits.leftovers() == []


def test_a_bound_that_is_high_enough_is_left_alone(knob: Path) -> None:
    knob.write_text("8192\n")
    limits.raise_bound()
    assert limits.leftovers() == []
    limits.put_back()
    assert knob.read_text() == "8192\n"
