"""From a stack file to a page answering over HTTP: machines, nodes, network, ingress, workload."""

from pathlib import Path

import pulumi

from cluster import changes, settings
from cluster.access import ApiAccess
from cluster.backup import etcd_backup
from cluster.ingress.nginx import NginxIngress
from cluster.machines import machines_of
from cluster.machines.existing import ExistingHosts
from cluster.machines.hetzner.controllers import hetzner_controllers
from cluster.machines.hetzner.servers import HetznerServers
from cluster.network.flannel import Flannel
from cluster.network.floating import floating_mover
from cluster.network.metallb import load_balancing
from cluster.network.policies import network_policies
from cluster.nodes import Nodes
from cluster.nodes.encryption import SecretsEncryption
from cluster.nodes.labels import NodeLabels
from cluster.nodes.updates import OsUpdates
from cluster.workload import HelloWorld

root = Path(__file__).parent
stack = settings.load(pulumi.Config(), root)
changes.check(stack.settings, changes.before())

hosts = ExistingHosts(stack)
cloud = HetznerServers(stack, root)
machines = machines_of(stack.settings, hosts, cloud)
nodes = Nodes("nodes", stack.settings, machines, root, stack.recovery_key)
etcd_backup("backup", stack, nodes)
access = ApiAccess("access", stack.settings, nodes)
NodeLabels("labels", stack.settings, access, nodes)
OsUpdates("os-updates", stack.settings, nodes, access)

Flannel("flannel", stack.settings, access)
network_policies("network-policies", stack.settings, access)
hetzner_controllers("hetzner-controllers", stack, access, nodes, cloud)
load_balancing("metallb", stack.settings, access, nodes, [ip.address for ip in cloud.floating_ips])
ingress = NginxIngress("nginx", stack.settings, access, cloud.entry_address)
floating_mover("floating", stack, nodes, cloud.floating_ips, cloud.servers, [ingress.release])
hello = HelloWorld("hello", stack.settings, access, ingress)
SecretsEncryption("encryption", stack.settings, nodes, [hello])

pulumi.export("kubeconfig", access.kubeconfig)
pulumi.export("url", f"http://{stack.settings.hello_host}/")
pulumi.export("ingressAddress", hello.ingress_address)
pulumi.export("serviceAddress", hello.service_address)
pulumi.export("nodes", {name: machine.internal_address for name, machine in machines.items()})
pulumi.export("certificatesExpire", nodes.certificates_expire)
pulumi.export("logins", {name: machine.login for name, machine in machines.items()})
pulumi.export(
    "dnsRecord", pulumi.Output.format("{}. A {}", stack.settings.hello_host, hello.ingress_address)
)
