"""How a node says whose machine it is: the kubelet's provider ID and one label, at registration.

Hetzner's cloud controller manager knows a node by its provider ID. Without one it looks for a server of
the node's name, and a node that is not Ready and has no server, it deletes: an existing host in a mixed
cluster would go at its first reboot, or while it joins. A provider ID of another scheme keeps it: the
look-up ends in an error, and the node stays (hcloud/instances.go, internal/providerid).
"""

from __future__ import annotations

from typing import Final

PROVIDED_BY: Final = "instance.hetzner.cloud/provided-by"
"""Label by which Hetzner's controllers tell servers from other machines; ``cloud`` on a server.

The cloud controller manager sets the same one. The kubelet's is there earlier, and without it too.
"""

PROVIDED_BY_HETZNER_CLOUD: Final = "cloud"


def of_server(server: int | str) -> str:
    """The provider ID of a Hetzner server, the one that the cloud controller manager would give.

    Args:
        server: the server's number, or what stands for it.
    """
    return f"hcloud://{server}"


def of_host(cluster: str, node: str) -> str:
    """The provider ID of an existing host: no server, and nobody's to delete.

    Args:
        cluster: the cluster's name.
        node: the node's name.
    """
    return f"existing://{cluster}/{node}"
