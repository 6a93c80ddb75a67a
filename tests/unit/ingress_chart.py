"""The sandbox's stand-in for the ingress controller's chart, as Helm and as tests see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import mirror
from sandbox.mirror.errors import MirrorError
from tests.unit.stacks import ROOT

CHART = ROOT / "sandbox/mirror/ingress/chart"


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """Values that the chart has no key for, and so would pass over in silence."""
    return list(_unknown(values, yaml.safe_load((CHART / "values.yaml").read_text()), ""))


def _unknown(values: Mapping[str, Any], known: Mapping[str, Any], place: str) -> list[str]:
    found = [f"{place}{key}" for key in values.keys() - known.keys()]
    for key in values.keys() & known.keys():
        if isinstance(known[key], dict) and known[key]:  # an empty one takes anything
            found += _unknown(values[key], known[key], f"{place}{key}.")
    return sorted(found)


def rendered(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The chart's objects by kind, where there is a Helm; of a kind the last one."""
    helm = _helm() or pytest.skip("no helm: neither a mirror's nor one on the PATH")
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    command = [helm, "template", "nginx-ingress", str(CHART), "--values", str(file)]
    homes = {f"HELM_{what}_HOME": str(folder / "helm") for what in ("CACHE", "CONFIG", "DATA")}
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **homes}
    ).stdout
    return {item["kind"]: item for item in yaml.safe_load_all(text) if item}


def _helm() -> str | None:
    try:
        return str(mirror.tool("helm"))
    except MirrorError:
        return shutil.which("helm")
