"""Floating IPs, each assigned to a node that is fit to answer for it, and moved when that node is not.

A service on the control-plane host watches the nodes and assigns the addresses through Hetzner's API
(``cluster/nodes/scripts/floating-mover.sh``). It was chosen over keepalived with a notify script, as that
needs the project's API token on every worker, and over a controller in the cluster, as those that are known
for it are no longer looked after, and one would be cut off together with what it has to replace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pulumi

from cluster.nodes import Nodes
from cluster.remote import SCRIPTS
from cluster.settings import Stack

MOVER = SCRIPTS / "floating-mover.sh"


@dataclass(frozen=True)
class FloatingIp:
    """A floating IP as Hetzner's API knows it.

    Attributes:
        id: its number in the API.
        address: its IPv4 address.
    """

    id: pulumi.Output[str]
    address: pulumi.Output[str]


def floating_mover(
    name: str,
    stack: Stack,
    nodes: Nodes,
    floating_ips: Sequence[FloatingIp],
    servers: Mapping[str, pulumi.Input[str]],
    after: Sequence[pulumi.Resource] = (),
    opts: pulumi.ResourceOptions | None = None,
) -> FloatingMover | None:
    """The mover where floating IPs are the way in."""
    if stack.settings.entry != "floating-ips":
        return None
    return FloatingMover(name, stack, nodes, floating_ips, servers, after, opts)


class FloatingMover(pulumi.ComponentResource):
    """The service that keeps floating IPs on fit nodes; it is there when each is assigned.

    Args:
        name: the component's name.
        stack: the settings, and Hetzner's endpoint and token.
        nodes: where the service runs.
        floating_ips: what it assigns.
        servers: the servers' numbers in Hetzner's API, by node name; of all nodes there.
        after: what makes nodes fit: an address that is assigned before the ingress controllers are
            ready moves to the first that is.

    Attributes:
        commands: the phases that install the service, one on each control plane, and wait for the first
            assignment.
    """

    def __init__(
        self,
        name: str,
        stack: Stack,
        nodes: Nodes,
        floating_ips: Sequence[FloatingIp],
        servers: Mapping[str, pulumi.Input[str]],
        after: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:network:FloatingMover", name, None, opts)
        settings = stack.settings
        carriers = [node for node in settings.hetzner_nodes if node in settings.takes_workloads]
        values: dict[str, pulumi.Input[str]] = {
            "ENDPOINT": stack.hetzner_endpoint,
            "FLOATING_IPS": _listed((ip.id, ip.address) for ip in floating_ips),
            "NODES": _listed(
                (node, servers[node], str(settings.nodes[node].internal_address))
                for node in carriers
            ),
            # A new version of the program restarts the service with its new script.
            "SCRIPT": hashlib.sha256(MOVER.read_bytes()).hexdigest()[:12],
        }
        self.commands = [
            host.run(
                "floating",
                values,
                stdin=pulumi.Output.secret(stack.hetzner_token),
                undo=["floating", "REMOVE=true"],
                after=[*nodes.joined.values(), *after],
            )
            for host in nodes.control_hosts
        ]
        self.register_outputs({})


def _listed(items: Iterable[Sequence[pulumi.Input[str]]]) -> pulumi.Output[str]:
    """``a=1,b=2``: a word of a phase's line, as floating.sh reads it."""
    return pulumi.Output.all(*(pulumi.Output.all(*item) for item in items)).apply(
        lambda known: ",".join("=".join(item) for item in known)
    )
