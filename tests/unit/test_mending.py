"""What a killed run left of a Helm release goes before the next run; all else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import mending
from tests.unit.kubernetes_apis import Cluster, serving

PATH = "/api/v1/namespaces/metallb-system/secrets"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    found.lists[PATH] = [
        record(1, "superseded"),
        record(2, "deployed"),
        record(3, "pending-upgrade"),
    ]
    with serving(found, "cp1"):
        yield found


def record(revision: int, status: str) -> dict[str, Any]:
    labels = {"name": "metallb", "owner": "helm", "status": status, "version": str(revision)}
    return {"metadata": {"name": f"sh.helm.release.v1.metallb.v{revision}", "labels": labels}}


def deleted(cluster: Cluster) -> list[str]:
    return [path.rpartition(".")[2] for verb, _, path in map(words, cluster.asked) if verb]


def words(asked: str) -> tuple[str, str, str]:
    *verb, node, path = asked.split()
    return "".join(verb), node, path


def test_a_revision_that_was_cut_off_goes(cluster: Cluster) -> None:
    mending.forget(
        cluster.kubeconfig(), "metallb-system", "metallb", lambda s: s.startswith("pending")
    )
    assert deleted(cluster) == ["v3"]
    assert "labelSelector=owner%3Dhelm%2Cname%3Dmetallb" in cluster.asked[0]


def test_of_a_release_that_the_stack_does_not_know_every_record_goes(cluster: Cluster) -> None:
    mending.forget(cluster.kubeconfig(), "metallb-system", "metallb", lambda _: True)
    assert deleted(cluster) == ["v1", "v2", "v3"]


def test_an_api_that_does_not_answer_yet_is_asked_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_: float) -> None:
        cluster.status = 200

    cluster.status = 503
    monkeypatch.setattr("cluster.mending.time.sleep", pause)
    mending.forget(cluster.kubeconfig(), "metallb-system", "metallb", lambda _: False)
    assert len(cluster.asked) == 2
