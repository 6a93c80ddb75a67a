"""Where host names of the cluster's pages have to lead."""

from __future__ import annotations

import pulumi

from cluster.ingress.nginx import NAMESPACE, SERVICE, NginxIngress
from cluster.nodes import Nodes
from cluster.settings import Settings
from cluster.workload import HelloWorld


def ingress_address(
    prefix: str,
    settings: Settings,
    nodes: Nodes,
    ingress: NginxIngress,
    hello: HelloWorld | None,
) -> pulumi.Output[str | None] | pulumi.Output[str]:
    """The ingress controller's address: the page's Ingress tells it, or, without one, the Service itself.

    Args:
        prefix: of resources' names.
        settings: the pools.
        nodes: whom to ask without a page.
        ingress: the controller.
        hello: the page, or None.
    """
    if hello:
        return hello.ingress_address
    if ingress.address is not None:
        return ingress.address
    pools = ",".join(map(str, settings.load_balancer_pools))
    command = nodes.control_host.run(
        "ingress-address",
        {"NAMESPACE": NAMESPACE, "SERVICE": SERVICE, "POOLS": pools},
        name=f"{prefix}nginx-address",
        after=[ingress.release],
    )
    return command.stdout.apply(str.strip)
