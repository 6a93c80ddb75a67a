"""The secrets that a cluster's parts share, made once and kept in the stack's state, encrypted.

They belong to no node: a cluster outlives each of its machines.
"""

from __future__ import annotations

import hashlib
import hmac

import pulumi
import pulumi_tls as tls

from cluster.settings import Role


class ClusterKeys(pulumi.ComponentResource):
    """The SSH keys by which hosts ask control planes for what joining and upgrading takes.

    A key for each role, as a control plane may ask for more (``scripts/door.sh``). Both open nothing but
    that, and lie on no disk but that of the control planes, their public halves.

    Args:
        name: prefix of the resources' names.

    Attributes:
        anchor: exists as long as the cluster does: what lives in the cluster, and asks its API when it is
            deleted one by one, is deleted with it.
    """

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("own-kubernetes:nodes:ClusterKeys", name, None, opts)
        roles: tuple[Role, ...] = ("worker", "control-plane")
        self._keys = {
            role: tls.PrivateKey(
                f"{name}-{role}-key",
                algorithm="ED25519",
                opts=pulumi.ResourceOptions(parent=self),
            )
            for role in roles
        }
        self.anchor: pulumi.Resource = self._keys["worker"]
        self.register_outputs({})

    def private(self, role: Role) -> pulumi.Output[str]:
        """The key of hosts of a role, OpenSSH's format; a secret."""
        return pulumi.Output.secret(self._keys[role].private_key_openssh)

    @property
    def admitted(self) -> pulumi.Output[str]:
        """Lines ``admit ROLE KEY-TYPE KEY``, for ``scripts/peers.sh``."""
        public = {role: key.public_key_openssh for role, key in self._keys.items()}
        return pulumi.Output.all(**public).apply(
            lambda keys: "".join(f"admit {role} {key.strip()}\n" for role, key in keys.items())
        )

    def derived(self, purpose: str) -> pulumi.Output[str]:
        """A secret of 64 hexadecimal digits for a purpose, always the same one."""

        def make(key: str) -> str:
            return hmac.new(key.encode(), purpose.encode(), hashlib.sha256).hexdigest()

        return self.private("control-plane").apply(make)
