"""What the API answers when it does not do what it was asked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

STATUS: Final[Mapping[str, int]] = {
    "json_error": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "maintenance": 403,
    "resource_limit_exceeded": 403,
    "not_found": 404,
    "firewall_resource_not_found": 404,
    "method_not_allowed": 405,
    "uniqueness_error": 409,
    "conflict": 409,
    "deprecated_api_endpoint": 410,
    "resource_unavailable": 412,
    "primary_ip_version_mismatch": 412,
    "source_port_already_used": 412,
    "locked": 423,
    "protected": 423,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "timeout": 504,
}
"""HTTP status of an error code, as documented; a code that is not here goes with 422."""


class ApiError(Exception):
    """An error answer.

    Args:
        code: For programs, as documented.
        message: For people.
        details: What the code's documentation says belongs there.
        status: Other than the code's usual one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.details = details
        self.status = status or STATUS.get(code, 422)

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "details": None if self.details is None else dict(self.details),
            }
        }


def invalid(field: str, problem: str) -> ApiError:
    """A field of the request has a value that it must not have."""
    return ApiError(
        "invalid_input",
        f"invalid input in field '{field}': {problem}",
        {"fields": [{"name": field, "messages": [problem]}]},
    )


def not_found(kind: str, resource: int | str) -> ApiError:
    """There is no such thing.

    Args:
        kind: What it would be, in the singular: ``server``.
        resource: Its id or name.
    """
    words = kind.replace("_", " ")
    return ApiError("not_found", f"{words} with ID '{resource}' not found")


def taken(field: str, problem: str) -> ApiError:
    """Something else has this already, and only one may."""
    return ApiError("uniqueness_error", problem, {"fields": [{"name": field}]})


def over_limit(limit: str, problem: str) -> ApiError:
    """More than a project may have."""
    return ApiError("resource_limit_exceeded", problem, {"limits": [{"name": limit}]})


def locked(kind: str, resource: int) -> ApiError:
    """Another action runs on this resource."""
    return ApiError(
        "locked", f"{kind.replace('_', ' ')} {resource} is locked: an action runs on it"
    )


def conflict(kind: str, resource: int) -> ApiError:
    """Another change of this resource is under way."""
    return ApiError("conflict", f"{kind.replace('_', ' ')} {resource} is being changed: try again")


def protected(kind: str, resource: int) -> ApiError:
    """It is protected against what was asked for."""
    return ApiError("protected", f"{kind.replace('_', ' ')} {resource} is protected")
