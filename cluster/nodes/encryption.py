"""The key that Secrets are encrypted with in etcd: one on all control planes, another where it is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from cluster.nodes import Nodes
from cluster.settings import Settings


class SecretsEncryption(pulumi.ComponentResource):
    """One command for all control planes, as none may write with a key that another lacks (encryption.sh).

    The key itself is on no way that leads through here: control planes hand it to each other.

    Args:
        name: the component's name.
        settings: the word by which another key is wanted.
        nodes: the control planes, each brought up to date before.
        after: what asks the API meanwhile: of a single control plane it is away for some seconds.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        nodes: Nodes,
        after: Sequence[pulumi.Resource | None],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:nodes:SecretsEncryption", name, None, opts)
        word = settings.encryption_rotation
        host = nodes.control_host
        host.run(
            "encryption",
            {"NODE": host.machine.name, **({"ROTATION": word} if word else {})},
            name=f"{nodes.prefix}cluster-encryption",
            stdin=nodes.peers("control-plane"),
            after=[*nodes.upgraded_control_planes, *filter(None, after)],
        )
        self.register_outputs({})
