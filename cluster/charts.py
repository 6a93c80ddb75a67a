"""Where a chart is taken from: its public place, or a site's mirror."""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import pulumi

from cluster.errors import ClusterError
from cluster.settings import Settings

PATIENCE_SECONDS = 120.0
"""How long a chart's host may be away. Helm itself asks it once."""

PAUSE_SECONDS = 3.0
ANSWER_SECONDS = 10.0


class ChartError(ClusterError):
    """A chart's host does not answer.

    Args:
        url: what was asked for.
        why: how it failed last.
    """

    def __init__(self, url: str, why: object) -> None:
        super().__init__(
            f"no answer from {url}, tried for {PATIENCE_SECONDS:.0f} s: {why}\n"
            "      expected: the place of a Helm chart, to be reached from this machine\n"
            "      remedy:   see why it does not answer, or set mirror.charts, and run this again"
        )


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
    if mirrored is not None:
        reference = mirrored.replace("{version}", version)
        return {"chart": _once_it_answers(reference, reference, after), "version": version}
    url = f"{repository}/index.yaml" if repository else chart
    source: dict[str, Any] = {"chart": _once_it_answers(url, chart, after), "version": version}
    if repository:
        source["repository_opts"] = {"repo": repository}
    return source


def _once_it_answers(
    url: str, chart: str, after: Sequence[pulumi.Resource]
) -> pulumi.Output[str] | str:
    """The chart, once its host answers; previews don't wait."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https", "oci") or pulumi.runtime.is_dry_run():
        return chart
    asked = f"https://{rest.partition('/')[0]}/v2/" if scheme == "oci" else url

    async def wait(_: object) -> str:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                await asyncio.to_thread(knock, asked)
                return chart
            except OSError as error:
                if time.monotonic() > end:
                    raise ChartError(url, error) from None
            await asyncio.sleep(PAUSE_SECONDS)

    return pulumi.Output.all(*[resource.urn for resource in after]).apply(wait)


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
        if not isinstance(
            error.reason, ssl.SSLError
        ):  # Helm may trust it, and tells if it does not
            raise
