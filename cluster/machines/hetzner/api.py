"""The one door to Hetzner's API for what the program asks itself, past the resources.

Requests go through the official client. It neither tries again after a lost connection nor keeps its
waits short, so both are set here: a question is answered or given up within about a minute.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hcloud import APIException, Client
from requests import RequestException, Response
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import ProtocolError

from cluster.errors import AnswerError

CLUSTER_LABEL = "own-kubernetes/cluster"
"""On everything that is made for a cluster; its value is the cluster's name."""

NODE_LABEL = "own-kubernetes/node"
"""On servers and their addresses; its value is the node's name."""

CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
TRIES_TO_REACH = 2
"""How often a connection that is refused or lost is tried again."""

TRIES_WHEN_BUSY = 4
"""How often a request that was put off is sent again; the waits are 0, 1, 2 and 4 s, each up to 1 s more."""

PASSING = (429, 500, 502, 503, 504)
"""Rate limit and trouble on the other side. All that is asked here may be asked twice."""

PER_PAGE = 50
"""Entries in an answer, the most that the API gives."""

TOKEN = re.compile(r"[A-Za-z0-9]{64}")

Answer = TypeVar("Answer")
Question = Callable[[Client], Answer]


class HetznerError(AnswerError):
    """Hetzner's API can't be asked, or refuses."""


def ask(token: str, endpoint: str, questions: Sequence[Question[Answer]]) -> list[Answer]:
    """Ask several things side by side, each over a connection of its own.

    Args:
        token: the project's API token.
        endpoint: the API's address, like ``https://api.hetzner.cloud/v1``.
        questions: what to ask; the answers come in this order.

    Raises:
        HetznerError: for the first question that has no answer.
    """
    # Sessions are not meant for several threads, so each question has a client of its own.
    clients = [connect(token, endpoint) for _ in questions]
    with explained(endpoint), ThreadPoolExecutor(max(1, len(questions))) as threads:
        return list(threads.map(lambda question, client: question(client), questions, clients))


def connect(token: str, endpoint: str) -> Client:
    """A client whose requests are bounded; nothing is sent yet.

    Raises:
        HetznerError: endpoint or token are none, so that they need not be tried.
    """
    place = urlsplit(endpoint)
    if place.scheme not in ("https", "http") or not place.hostname:
        raise HetznerError(
            f"hcloud:endpoint = {endpoint!r} is not the address of an API",
            "a URL like https://api.hetzner.cloud/v1, which is the default",
            "correct hcloud:endpoint or HCLOUD_ENDPOINT, or remove it",
        )
    if not TOKEN.fullmatch(token):
        # Also keeps a token with a line break from being quoted in an error about HTTP headers.
        raise _bad_token(f"hcloud:token has {len(token)} characters" if token else "no API token")
    client = Client(
        token,
        api_endpoint=endpoint.rstrip("/"),
        application_name="own-kubernetes",
        poll_interval=0.5,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
    )
    # The client has no setting for any of this.
    inner = client._client
    inner._retry_max_retries = 0
    for scheme in ("https://", "http://"):
        inner._session.mount(scheme, HTTPAdapter(max_retries=_retries()))
    inner._session.hooks["response"].append(_refuse_rate_limit)
    return client


def _retries() -> Retry:
    return Retry(
        total=None,
        connect=TRIES_TO_REACH,
        read=TRIES_TO_REACH,
        status=TRIES_WHEN_BUSY,
        status_forcelist=PASSING,
        allowed_methods=None,
        backoff_factor=0.5,
        backoff_jitter=1.0,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may name an hour
    )


def entries(client: Client, kind: str, **filters: str | Sequence[str]) -> list[dict[str, Any]]:
    """Everything of a kind, page by page.

    Args:
        client: made by ``connect``.
        kind: the path and the key of the answer, like ``servers``.
        filters: query parameters, like ``label_selector``.
    """
    found: list[dict[str, Any]] = []
    page: int | None = 1
    while page:
        query = {**filters, "page": page, "per_page": PER_PAGE}
        answer = client.request("GET", f"/{kind}", params=query)
        found += answer[kind]
        page = answer.get("meta", {}).get("pagination", {}).get("next_page")
    return found


@contextmanager
def explained(endpoint: str) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        HetznerError: with what happened, what was expected and what to do.
    """
    host = urlsplit(endpoint).hostname or endpoint
    try:
        yield
    except APIException as error:
        raise _refusal(host, error) from None
    except RequestException as error:
        raise HetznerError(
            f"Hetzner's API at {host} can't be reached: {_reason(error)}",
            f"an answer from {endpoint} within {READ_SECONDS:.0f} s, tried {TRIES_TO_REACH + 1} times",
            "look at this machine's network, proxy and name service, and at hcloud:endpoint",
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise HetznerError(
            f"Hetzner's API at {host} gave an answer of an unknown form ({error!r})",
            "an answer as docs.hetzner.cloud describes it",
            "look at hcloud:endpoint; if it is right, this program is too old for the API",
        ) from None


def _refusal(host: str, error: APIException) -> HetznerError:
    said = f"{error.message} ({error.code})"
    if error.code in ("unauthorized", 401):
        return _bad_token(f"Hetzner's API at {host} does not know the API token: {said}")
    if error.code in ("forbidden", 403):
        return _bad_token(f"Hetzner's API at {host} does not let the API token do this: {said}")
    if error.code in _TROUBLE or (isinstance(error.code, int) and error.code >= 500):
        return HetznerError(
            f"Hetzner's API at {host} is in trouble: {said}",
            "an answer; the request was tried several times",
            "try again later; status.hetzner.com tells of outages",
        )
    return HetznerError(
        f"Hetzner's API at {host} refuses: {said}",
        "an API as docs.hetzner.cloud describes it, in version 1",
        "look at hcloud:endpoint (the default is https://api.hetzner.cloud/v1)",
    )


_TROUBLE = (
    *("service_error", "server_error", "unknown_error"),
    *("maintenance", "bad_gateway", "timeout", "unavailable"),
)


def _bad_token(happened: str) -> HetznerError:
    return HetznerError(
        happened,
        "the API token of a project, 64 letters and digits, with the right to read and write",
        "make one in the project's console (Security, API tokens), then run "
        "`pulumi config set --secret hcloud:token`, or put it into HCLOUD_TOKEN",
    )


def _refuse_rate_limit(response: Response, *_: Any, **__: Any) -> None:
    """Raised here, as the client's own error does not have the headers."""
    if response.status_code == 429:
        response.close()
        raise HetznerError(
            f"Hetzner's API at {urlsplit(response.url).hostname} had too many requests (429)",
            f"{_allowance(response.headers)} for all that use the project",
            f"run it again {_wait(response.headers)}; what is done already stays",
        )


def _allowance(headers: Mapping[str, str]) -> str:
    limit = headers.get("RateLimit-Limit", "")
    return f"at most {limit} requests an hour" if limit.isdecimal() else "fewer requests an hour"


def _wait(headers: Mapping[str, str]) -> str:
    """``RateLimit-Reset`` is when all requests are there again; until then they come back one by one."""
    reset = headers.get("RateLimit-Reset", "")
    if not reset.isdecimal():
        return "in a few minutes"
    seconds = max(0, int(reset) - int(time.time()))
    at = time.strftime("%H:%M:%S UTC", time.gmtime(int(reset)))
    return f"in a few minutes: requests come back bit by bit, all of them in {seconds} s (at {at})"


def _reason(error: BaseException) -> str:
    """The innermost cause, as the outer ones repeat addresses and URLs."""
    reason, inner = type(error).__name__, error
    for _ in range(10):
        if isinstance(inner, OSError) and inner.strerror:
            reason = inner.strerror
        elif isinstance(inner, ProtocolError):
            reason = "the connection was cut off"
        elif "timed out" in str(inner):
            reason = "timed out"
        following = getattr(inner, "reason", None)
        if not isinstance(following, BaseException):
            following = inner.__cause__ or inner.__context__
        if following is None:
            break
        inner = following
    return reason
