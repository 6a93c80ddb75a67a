"""A chart's host may be away for a moment: it is waited for before a release is made, and named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster import charts


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


def test_a_host_that_stays_away_is_named_with_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def knock(_: str) -> None:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(charts, "knock", knock)
    monkeypatch.setattr(charts, "PATIENCE_SECONDS", -1.0)
    url = "https://charts.example.com/index.yaml"
    with pytest.raises(charts.ChartError, match=f"no answer from {url}.*Connection refused"):
        waited("metallb", repository_opts={"repo": "https://charts.example.com"})
