"""From a stack file to a page answering over HTTP: machines, nodes, network, ingress, workload."""

from pathlib import Path

import pulumi

from cluster import settings
from cluster.access import ApiAccess
from cluster.ingress.nginx import NginxIngress
from cluster.machines.existing import ExistingHosts
from cluster.network.flannel import Flannel
from cluster.network.metallb import MetalLB
from cluster.nodes import Nodes
from cluster.nodes.labels import NodeLabels
from cluster.workload import HelloWorld

root = Path(__file__).parent
stack = settings.load(pulumi.Config(), root)

machines = ExistingHosts(stack).machines
nodes = Nodes("nodes", stack.settings, machines, root)
access = ApiAccess("access", stack.settings.cluster_name, nodes)
NodeLabels("labels", stack.settings, access, nodes)

Flannel("flannel", stack.settings, access)
MetalLB("metallb", stack.settings, access, nodes)
ingress = NginxIngress("nginx", stack.settings, access)
hello = HelloWorld("hello", stack.settings, access, ingress.release)

pulumi.export("kubeconfig", access.kubeconfig)
pulumi.export("url", f"http://{stack.settings.hello_host}/")
pulumi.export("ingressAddress", hello.ingress_address)
pulumi.export("serviceAddress", hello.service_address)
pulumi.export("nodes", {name: str(m.internal_address) for name, m in machines.items()})
pulumi.export(
    "dnsRecord", pulumi.Output.format("{}. A {}", stack.settings.hello_host, hello.ingress_address)
)
