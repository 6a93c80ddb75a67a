"""Everything that a cluster downloads, built from package registries and served on this host.

`build` fills the cache (once for each version), `serve` offers it to the machines: an image registry
at ``site.REGISTRY``, and an apt repository and Helm charts below ``site.FILES``.
"""

from pathlib import Path

from sandbox.mirror import oci
from sandbox.mirror.errors import MirrorError
from sandbox.mirror.host import PACKAGES as HOST_PACKAGES
from sandbox.mirror.pipeline import TOOLS, build, build_optional
from sandbox.mirror.servers import serve, status, stop

__all__ = [
    "HOST_PACKAGES",
    "MirrorError",
    "build",
    "build_optional",
    "images",
    "serve",
    "status",
    "stop",
    "tool",
]


def images() -> list[str]:
    """Names of all images in the registry, as ``repository:tag``."""
    return oci.served()


def tool(name: str) -> Path:
    """A command for this host from what was built: ``kubectl``, ``helm`` or ``registry``.

    Raises:
        MirrorError: There is none of that name, or the mirror is not built.
    """
    command = TOOLS / name
    if not command.exists():
        raise MirrorError(f"no tool {name!r} in {TOOLS}: run `python -m sandbox.mirror build`")
    return command
