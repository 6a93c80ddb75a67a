"""Where a chart is taken from: its public place, or a site's mirror.

Its host is waited for before the release is declared, and not by a hook of the release: the Kubernetes provider
(4.34) loads a chart when it checks a release's arguments, which is before any hook, and in every run. A chart
that is away then ends the run, though only after what waits for load balancing has given up.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from cluster.errors import AnswerError
from cluster.settings import Settings

PATIENCE_SECONDS = 120.0
"""How long a chart's host may be away. Helm itself asks it once."""

PAUSE_SECONDS = 3.0
ANSWER_SECONDS = 10.0


class ChartError(AnswerError):
    """A chart's host does not answer."""


def chart_source(
    settings: Settings,
    name: str,
    version: str,
    *,
    chart: str,
    repository: str = "",
    after: Sequence[pulumi.Resource] = (),
) -> dict[str, Any]:
    """The arguments of a Helm release that say which chart it is.

    Args:
        settings: the stack's settings; ``mirror.charts`` wins over the public place.
        name: the chart's name, the key in ``mirror.charts``.
        version: exact version.
        chart: the chart in the repository, or an ``oci://`` reference.
        repository: URL of a chart repository, or nothing for OCI.
        after: the chart's host is waited for when these are made.
    """
    mirrored = settings.mirror.charts.get(name)
    source: dict[str, Any] = {"chart": chart, "version": version}
    if mirrored is not None:
        source["chart"] = mirrored.replace("{version}", version)
    elif repository:
        source["repository_opts"] = {"repo": repository}
    return {**source, "chart": _awaited(source, after)}


def _awaited(
    source: Mapping[str, Any], after: Sequence[pulumi.Resource]
) -> pulumi.Output[str] | str:
    """The chart, once its host answers; previews don't wait."""
    chart = str(source["chart"])
    if pulumi.runtime.is_dry_run():
        return chart

    async def wait(_: object) -> str:
        await once_it_answers(source)
        return chart

    return pulumi.Output.all(*[resource.urn for resource in after]).apply(wait)


async def once_it_answers(source: Mapping[str, Any]) -> None:
    """Wait until the host of a chart answers; a file needs none.

    Args:
        source: the arguments of a release that say which chart it is.

    Raises:
        ChartError: it does not, for ``PATIENCE_SECONDS``.
    """
    url = _place(source)
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https", "oci"):
        return
    asked = f"https://{rest.partition('/')[0]}/v2/" if scheme == "oci" else url
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await asyncio.to_thread(knock, asked)
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ChartError(
                    f"no answer from {url}, tried for {PATIENCE_SECONDS:.0f} s: {error}",
                    "the place of a Helm chart, to be reached from this machine",
                    "see why it does not answer, or set mirror.charts, and run this again",
                ) from None
        await asyncio.sleep(PAUSE_SECONDS)


def _place(source: Mapping[str, Any]) -> str:
    repository = source.get("repository_opts")
    return f"{repository['repo']}/index.yaml" if repository else str(source["chart"])


def knock(url: str) -> None:
    """See that somebody answers, were it with a refusal.

    Raises:
        OSError: nobody does.
    """
    try:
        urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS
        ).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise
    except urllib.error.URLError as error:
        # Helm may trust it, and tells if it does not.
        if not isinstance(error.reason, ssl.SSLError):
            raise
