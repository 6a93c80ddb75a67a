"""A chart's host may be away for a moment: it is waited for before a release is made, and named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import pytest

from cluster import charts
from tests.unit.stacks import load


class Handler(BaseHTTPRequestHandler):
    """Answers with the status in the path."""

    def do_HEAD(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_whoever_answers_is_there_were_it_with_a_refusal(server: str) -> None:
    for status in (200, 401, 404):
        charts.knock(f"{server}/{status}")
    with pytest.raises(OSError, match="503"):
        charts.knock(f"{server}/503")


def waited(chart: str, **source: Any) -> None:
    asyncio.run(charts.once_it_answers({"chart": chart, "version": "1.0.0", **source}))


def test_a_host_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def knock(url: str) -> None:
        asked.append(url)
        if len(asked) < 3:
            raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(charts, "knock", knock)
    monkeypatch.setattr(charts, "PAUSE_SECONDS", 0)
    waited("oci://ghcr.io/nginx/charts/nginx")
    assert asked == ["https://ghcr.io/v2/"] * 3
    waited("./charts/mine.tgz")
    assert len(asked) == 3, "a file is not asked for"


def test_a_release_is_declared_only_once_its_host_answers() -> None:
    answers = asyncio.Event()

    async def once_it_answers(_: object) -> None:
        await answers.wait()

    async def declared() -> None:
        with patch("cluster.charts.once_it_answers", once_it_answers):
            source = charts.chart_source(load().settings, "metallb", "1.0.0", chart="metallb")
            chart = source["chart"]
            value = asyncio.ensure_future(chart.future())
            await asyncio.sleep(0.01)
            assert not value.done(), "the provider would load the chart, and fail"
            answers.set()
            assert await value == "metallb"

    asyncio.run(declared())


def test_a_host_that_stays_away_is_named_with_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def knock(_: str) -> None:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(charts, "knock", knock)
    monkeypatch.setattr(charts, "PATIENCE_SECONDS", -1.0)
    url = "https://charts.example.com/index.yaml"
    with pytest.raises(charts.ChartError, match=f"no answer from {url}.*Connection refused"):
        waited("metallb", repository_opts={"repo": "https://charts.example.com"})
