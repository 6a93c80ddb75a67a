"""What can only be read: locations, types, images, ISOs and prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.hetzner import catalog, web
from sandbox.hetzner.cloud import Cloud
from sandbox.hetzner.errors import ApiError, not_found
from sandbox.hetzner.store import Record
from sandbox.hetzner.web import Answer, Handler, Request, listing

Items = Callable[[Cloud], list[Record]]


def index(plural: str, items: Items, filters: Sequence[str] = ()) -> Handler:
    """The handler that lists some items."""
    return lambda cloud, request: listing(plural, items(cloud), request, filters)


def read(kind: str, items: Items) -> Handler:
    """The handler that reads one of some items."""

    def handler(cloud: Cloud, request: Request) -> Answer:
        for item in items(cloud):
            if item["id"] == request.id:
                return Answer(200, {kind: item})
        raise not_found(kind, request.id)

    return handler


def locations(_cloud: Cloud) -> list[Record]:
    """All locations."""
    return list(catalog.LOCATIONS)


def server_types(cloud: Cloud) -> list[Record]:
    """All server types, with what cannot be had now."""
    unavailable = cloud.store.unavailable
    return [catalog.server_type_body(kind, unavailable) for kind in catalog.SERVER_TYPES]


def balancer_types(_cloud: Cloud) -> list[Record]:
    """All load balancer types."""
    return [catalog.balancer_type_body(kind) for kind in catalog.BALANCER_TYPES]


def images(_cloud: Cloud) -> list[Record]:
    """All images."""
    return list(catalog.IMAGES)


def isos(_cloud: Cloud) -> list[Record]:
    """All ISOs."""
    return list(catalog.ISOS)


def pricing(_cloud: Cloud, _request: Request) -> Answer:
    """``GET /pricing``."""
    return Answer(200, {"pricing": catalog.pricing()})


def nothing(plural: str) -> Handler:
    """The handler that lists what the stand-in does not know any of."""
    return lambda _cloud, request: listing(plural, [], request)


def datacenters(_cloud: Cloud, _request: Request) -> Answer:
    """``GET /datacenters``: removed from the API in October 2026."""
    raise _removed("2026-06-02-datacenters-deprecated")


def actions(cloud: Cloud, request: Request) -> Answer:
    """``GET /actions``: only those that are named by id, since January 2025."""
    if not request.query.get("id"):
        raise _removed("2023-07-20-actions-list-endpoint-is-deprecated")
    return web.actions(cloud, request)


def _removed(entry: str) -> ApiError:
    announcement = f"https://docs.hetzner.cloud/changelog#{entry}"
    return ApiError(
        "deprecated_api_endpoint", "API functionality was removed", {"announcement": announcement}
    )
