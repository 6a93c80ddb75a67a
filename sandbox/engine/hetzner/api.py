"""The API of one project, through the official client: patience, and errors for a person."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import hcloud
import requests
from hcloud.actions import BoundAction

from sandbox.engine.progress import EngineError, seconds

ENDPOINT = "https://api.hetzner.cloud/v1"
POLL_SECONDS = 0.5
"""How often an action is asked for its end; the real provider's default."""

ACTION_SECONDS = 600.0
"""How long an action may run."""

BUSY_SECONDS = 60.0
"""How long a thing may be locked by another action, or still be in use by one that goes."""

CALL_SECONDS = 30.0
"""How long the API may take for one answer."""

_BUSY = ("locked", "conflict")
# After these the API may have done it all the same; after every other error it has not.
_UNSURE = (
    "server_error",
    "unknown_error",
    "service_error",
    "bad_gateway",
    "timeout",
    "unavailable",
)

T = TypeVar("T")


class Api:
    """One project's API.

    Args:
        token: the project's token.
        endpoint: the API's address.
        poll_seconds: pause between two looks at an action.
    """

    def __init__(self, token: str, endpoint: str, poll_seconds: float) -> None:
        self.endpoint = endpoint
        self._token = token
        self._poll_seconds = poll_seconds
        self._threads = threading.local()

    @classmethod
    def open(cls, inputs: Mapping[str, Any]) -> Api:
        """From a provider's inputs, with the real one's defaults.

        Raises:
            EngineError: there is no token, or none that can be one.
        """
        token = inputs.get("token") or os.environ.get("HCLOUD_TOKEN") or ""
        # The HTTP library would tell a header that it refuses, and the token with it.
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            state = "has characters that no token has" if token else "is missing"
            raise EngineError(
                f"the provider's token {state}; set hcloud:token or $HCLOUD_TOKEN to one that the "
                "Hetzner Cloud Console gave (Security, API tokens)"
            )
        poll = seconds(inputs.get("pollInterval") or "") or POLL_SECONDS
        return cls(token, (inputs.get("endpoint") or ENDPOINT).rstrip("/"), poll)

    @property
    def client(self) -> hcloud.Client:
        """The calling thread's own client: its connections are not for several threads."""
        if not hasattr(self._threads, "client"):
            self._threads.client = hcloud.Client(
                self._token,
                self.endpoint,
                application_name="own-kubernetes-sandbox",
                poll_interval=self._poll_seconds,
                poll_max_retries=int(ACTION_SECONDS / self._poll_seconds),
                timeout=CALL_SECONDS,
            )
        client: hcloud.Client = self._threads.client
        return client

    def settle(self, answer: Any) -> None:
        """Wait for all actions that an answer of the client names."""
        for action in _actions(answer):
            action.wait_until_finished()

    def patiently(self, call: Callable[[], T], *also: str) -> T:
        """Call until nothing else is at work on the thing, and wait for the actions.

        Args:
            call: one call of the client.
            also: error codes that stand for "not yet" besides those of a lock.
        """
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                answer = call()
            except hcloud.APIException as error:
                if error.code not in (*_BUSY, *also) or time.monotonic() > end:
                    raise
                time.sleep(self._poll_seconds)
            else:
                self.settle(answer)
                return answer

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn the client's errors into ones for a person; no text of theirs has the token.

        Raises:
            EngineError: the API's message and code.
        """
        try:
            yield
        except hcloud.APIException as error:
            raise EngineError(describe(error)) from None
        except hcloud.HCloudException as error:
            raise EngineError(f"Hetzner Cloud: {error}") from None
        except requests.RequestException as error:
            raise EngineError(
                f"Hetzner Cloud's API at {self.endpoint} gives no answer ({type(error).__name__}): "
                "try again, or check hcloud:endpoint"
            ) from None


def refused(error: hcloud.APIException) -> bool:
    """Whether the error says for sure that nothing was done."""
    return isinstance(error.code, str) and error.code not in _UNSURE


_REMEDIES = {
    "unauthorized": "set hcloud:token to a valid token of the project",
    "token_readonly": "set hcloud:token to a token that may write",
    "rate_limit_exceeded": "it was tried several times: wait a minute and run it again",
    "resource_unavailable": "choose another type or location, or try later",
    "uniqueness_error": "no run of this stack made the one there: rename or delete one of both",
}


def describe(error: hcloud.APIException) -> str:
    """The API's message, code and fields, and a remedy where one is known."""
    parts = [f"Hetzner Cloud: {error.message} ({error.code})"]
    fields = error.details.get("fields") if isinstance(error.details, dict) else None
    for field in fields or ():
        text = ", ".join(field.get("messages") or ())
        if text and text not in error.message:
            parts.append(f"{field['name']}: {text}")
    if remedy := _REMEDIES.get(str(error.code)):
        parts.append(remedy)
    return "; ".join(parts)


def _actions(answer: Any) -> list[BoundAction]:
    if isinstance(answer, BoundAction):
        return [answer]
    if isinstance(answer, list):
        return [action for action in answer if isinstance(action, BoundAction)]
    named = [getattr(answer, "action", None) if hasattr(type(answer), "action") else None]
    for several in ("actions", "next_actions"):
        named += (getattr(answer, several) or []) if hasattr(type(answer), several) else []
    return [action for action in named if isinstance(action, BoundAction)]


def absent(call: Callable[[], T]) -> T | None:
    """What a call gives, or nothing if the API knows no such thing."""
    try:
        return call()
    except hcloud.APIException as error:
        if not str(error.code).endswith("not_found"):
            raise
        return None
