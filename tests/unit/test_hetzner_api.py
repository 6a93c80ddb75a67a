"""Asking Hetzner's API: what is tried again, and what a failure says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import urllib3
from hcloud import Client

from cluster.errors import ClusterError
from cluster.machines.hetzner import api
from cluster.machines.hetzner.api import HetznerError, ask, connect, entries
from tests.unit.hetzner_apis import TOKEN, Answer, CannedApi, canned_api, error


@pytest.fixture
def canned() -> Iterator[CannedApi]:
    with canned_api() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which are not waited for."""
    waits: list[float] = []
    compute = urllib3.Retry.get_backoff_time

    def record(retry: urllib3.Retry) -> float:
        waits.append(compute(retry))
        return 0.0

    monkeypatch.setattr(urllib3.Retry, "get_backoff_time", record)
    return waits


def locations(client: Client) -> list[dict[str, Any]]:
    return entries(client, "locations")


def refusal(endpoint: str, token: str = TOKEN) -> str:
    with pytest.raises(HetznerError) as caught:
        ask(token, endpoint, [locations])
    assert isinstance(caught.value, ClusterError)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


FSN1 = Answer(200, {"locations": [{"name": "fsn1"}], "meta": {"pagination": {"next_page": None}}})


# --- answers ---------------------------------------------------------------------------------------------


def test_all_pages_are_read(canned: CannedApi) -> None:
    second = {"meta": {"pagination": {"next_page": 2}}, "servers": [{"id": 1}]}
    third = {"meta": {"pagination": {"next_page": None}}, "servers": [{"id": 2}]}
    canned.answers = [Answer(200, second), Answer(200, third)]
    client = connect(TOKEN, f"{canned.url}/")
    assert entries(client, "servers", label_selector="a=b") == [{"id": 1}, {"id": 2}]
    assert canned.asked == [
        "GET /v1/servers?label_selector=a%3Db&page=1&per_page=50",
        "GET /v1/servers?label_selector=a%3Db&page=2&per_page=50",
    ]
    assert canned.tokens == {f"Bearer {TOKEN}"}


def test_questions_are_asked_side_by_side(canned: CannedApi) -> None:
    canned.answers = [FSN1]
    canned.before = threading.Barrier(7, timeout=10).wait
    assert ask(TOKEN, canned.url, [locations] * 7) == [[{"name": "fsn1"}]] * 7


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_what_passes_is_tried_again(status: int, canned: CannedApi, pauses: list[float]) -> None:
    trouble = error(status, "rate_limit_exceeded", "wait", {"Retry-After": "3600"})
    canned.answers = [trouble, trouble, FSN1]
    assert ask(TOKEN, canned.url, [locations]) == [[{"name": "fsn1"}]]
    assert len(canned.asked) == 3
    assert sum(pauses) < 10


# --- refusals --------------------------------------------------------------------------------------------

GOOD_TOKEN = (
    "      expected: the API token of a project, 64 letters and digits, with the right to read and write\n"
    "      remedy:   make one in the project's console (Security, API tokens), then run "
    "`pulumi config set --secret hcloud:token`, or put it into HCLOUD_TOKEN"
)


@pytest.mark.parametrize(
    ("token", "happened"),
    [
        ("", "no API token"),
        (TOKEN[:-1], "hcloud:token has 63 characters"),
        (f"{TOKEN}\n", "hcloud:token has 65 characters"),
        (f"{TOKEN[:-1]}ä", "hcloud:token has 64 characters"),
    ],
)
def test_a_token_that_can_not_be_one(token: str, happened: str, canned: CannedApi) -> None:
    assert refusal(canned.url, token) == f"{happened}\n{GOOD_TOKEN}"
    assert canned.asked == []


def test_a_wrong_token(canned: CannedApi) -> None:
    canned.answers = [error(401, "unauthorized", "unable to authenticate")]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 does not know the API token: unable to authenticate "
        f"(unauthorized)\n{GOOD_TOKEN}"
    )
    assert len(canned.asked) == 1


def test_a_token_without_the_right(canned: CannedApi) -> None:
    canned.answers = [error(403, "forbidden", "insufficient permissions")]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 does not let the API token do this: insufficient permissions "
        f"(forbidden)\n{GOOD_TOKEN}"
    )


def test_too_many_requests(
    canned: CannedApi, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_350_000.0)
    headers = {"RateLimit-Limit": "3600", "RateLimit-Reset": "1795351800", "Retry-After": "1800"}
    canned.answers = [error(429, "rate_limit_exceeded", "slow down", headers)]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 had too many requests (429)\n"
        "      expected: at most 3600 requests an hour for all that use the project\n"
        "      remedy:   run it again in a few minutes: requests come back bit by bit, all of them in "
        "1800 s (at 12:50:00 UTC); what is done already stays"
    )
    assert len(canned.asked) == 1 + api.TRIES_WHEN_BUSY
    assert sum(pauses) <= 0 + 1 + 2 + 4 + api.TRIES_WHEN_BUSY


def test_too_many_requests_without_headers(canned: CannedApi, pauses: list[float]) -> None:
    canned.answers = [Answer(429, "slow down")]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 had too many requests (429)\n"
        "      expected: fewer requests an hour for all that use the project\n"
        "      remedy:   run it again in a few minutes; what is done already stays"
    )
    assert pauses


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(500, "server_error", "oops"), "oops (server_error)"),
        (error(503, "maintenance", "back soon"), "back soon (maintenance)"),
        (Answer(502, "<html>Bad Gateway</html>"), "Bad Gateway (502)"),
    ],
)
def test_trouble_on_the_other_side(
    answer: Answer, said: str, canned: CannedApi, pauses: list[float]
) -> None:
    canned.answers = [answer]
    assert refusal(canned.url) == (
        f"Hetzner's API at 127.0.0.1 is in trouble: {said}\n"
        "      expected: an answer; the request was tried several times\n"
        "      remedy:   try again later; status.hetzner.com tells of outages"
    )
    assert len(canned.asked) == 1 + len(pauses)


def test_something_else_at_the_endpoint(canned: CannedApi) -> None:
    canned.answers = [Answer(404, "<html>Not Found</html>")]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 refuses: Not Found (404)\n"
        "      expected: an API as docs.hetzner.cloud describes it, in version 1\n"
        "      remedy:   look at hcloud:endpoint (the default is https://api.hetzner.cloud/v1)"
    )


def test_an_answer_of_another_form(canned: CannedApi) -> None:
    canned.answers = [Answer(200, {"places": []})]
    assert refusal(canned.url) == (
        "Hetzner's API at 127.0.0.1 gave an answer of an unknown form (KeyError('locations'))\n"
        "      expected: an answer as docs.hetzner.cloud describes it\n"
        "      remedy:   look at hcloud:endpoint; if it is right, this program is too old for the API"
    )


@pytest.mark.parametrize(
    "endpoint", ["api.hetzner.cloud/v1", "ftp://api.hetzner.cloud", "https://"]
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    assert refusal(endpoint) == (
        f"hcloud:endpoint = {endpoint!r} is not the address of an API\n"
        "      expected: a URL like https://api.hetzner.cloud/v1, which is the default\n"
        "      remedy:   correct hcloud:endpoint or HCLOUD_ENDPOINT, or remove it"
    )


def unreachable(endpoint: str, host: str, reason: str) -> str:
    return (
        f"Hetzner's API at {host} can't be reached: {reason}\n"
        f"      expected: an answer from {endpoint} within {api.READ_SECONDS:.0f} s, tried 3 times\n"
        "      remedy:   look at this machine's network, proxy and name service, and at hcloud:endpoint"
    )


def test_nobody_listens(pauses: list[float]) -> None:
    endpoint = "http://127.0.0.1:9/v1"
    assert refusal(endpoint) == unreachable(endpoint, "127.0.0.1", "Connection refused")
    assert len(pauses) == api.TRIES_TO_REACH


def test_no_such_host(pauses: list[float]) -> None:
    endpoint = "https://api.hetzner.invalid/v1"
    text = refusal(endpoint)
    assert text.startswith("Hetzner's API at api.hetzner.invalid can't be reached: ")
    assert "name" in text.splitlines()[0].lower() + "; " + text.splitlines()[2]
    assert pauses


def test_an_api_that_hangs(
    canned: CannedApi, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "READ_SECONDS", 0.05)
    released = threading.Event()
    canned.answers, canned.before = [FSN1], partial(released.wait, 10)
    text = refusal(canned.url)
    released.set()
    assert text == unreachable(canned.url, "127.0.0.1", "timed out")
    assert len(pauses) == api.TRIES_TO_REACH


def test_an_api_that_hangs_up(canned: CannedApi, pauses: list[float]) -> None:
    canned.answers = [Answer(0, "")]
    text = refusal(canned.url)
    assert text == unreachable(canned.url, "127.0.0.1", "the connection was cut off")
    assert len(canned.asked) == 3
