"""Where a chart is taken from: its public place, or a site's mirror."""

from __future__ import annotations

from typing import Any

from cluster.settings import Settings


def chart_source(
    settings: Settings, name: str, version: str, *, chart: str, repository: str = ""
) -> dict[str, Any]:
    """The arguments of a Helm release that say which chart it is.

    Args:
        settings: the stack's settings; ``mirror.charts`` wins over the public place.
        name: the chart's name, the key in ``mirror.charts``.
        version: exact version.
        chart: the chart in the repository, or an ``oci://`` reference.
        repository: URL of a chart repository, or nothing for OCI.
    """
    mirrored = settings.mirror.charts.get(name)
    if mirrored is not None:
        return {"chart": mirrored.replace("{version}", version), "version": version}
    source: dict[str, Any] = {"chart": chart, "version": version}
    if repository:
        source["repository_opts"] = {"repo": repository}
    return source
