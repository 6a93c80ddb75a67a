"""A Kubernetes cluster of your own, as Pulumi components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.args import ClusterArgs
    from cluster.component import Cluster

__all__ = ["Cluster", "ClusterArgs"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loaded when asked for: the package's own commands start without Pulumi's SDKs."""
    if name == "Cluster":
        from cluster.component import Cluster

        return Cluster
    if name == "ClusterArgs":
        from cluster.args import ClusterArgs

        return ClusterArgs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
