"""From settings to a page answering over HTTP: machines, nodes, network, ingress, workloads.

Told twice: by ``__main__.py`` for a stack file, at the stack's root, and by ``Cluster`` for another program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi

from cluster import changes
from cluster.access import ApiAccess
from cluster.backup import etcd_backup
from cluster.extras import extras
from cluster.ingress.address import ingress_address
from cluster.ingress.nginx import NginxIngress
from cluster.ingress.tls import ingress_tls
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
from cluster.settings import Stack
from cluster.workload import hello_world


class Story:
    """A cluster's resources, in the order in which it comes about.

    Args:
        stack: the settings and secrets.
        root: the project's folder, where paths in settings start.
        prefix: of all resources' names. A stack file's have none: another would be other resources.
        opts: of what has no other parent. A stack file's have none either, for the same reason.

    Attributes:
        access: the cluster's API, for resources in it.
        outputs: what users are told, by the stack outputs' names.

    Raises:
        SettingsError: the cluster that is there can't follow the settings.
    """

    def __init__(
        self,
        stack: Stack,
        root: Path,
        prefix: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        settings = stack.settings
        changes.check(settings, changes.before(prefix))

        hosts = ExistingHosts(stack)
        cloud = HetznerServers(stack, root, prefix, opts)
        machines = machines_of(settings, hosts, cloud)
        nodes = Nodes(f"{prefix}nodes", settings, machines, root, stack.recovery_key, prefix, opts)
        etcd_backup(f"{prefix}backup", stack, nodes, opts)
        self.access = access = ApiAccess(f"{prefix}access", settings, nodes, opts)
        NodeLabels(f"{prefix}labels", settings, access, nodes, opts)
        OsUpdates(f"{prefix}os-updates", settings, nodes, access, opts)

        Flannel(f"{prefix}flannel", settings, access, opts)
        network_policies(f"{prefix}network-policies", settings, access, opts)
        hetzner_controllers(f"{prefix}hetzner-controllers", stack, access, nodes, cloud, opts)
        ips = [ip.address for ip in cloud.floating_ips]
        balancing = load_balancing(f"{prefix}metallb", settings, access, nodes, ips, opts)
        ingress = NginxIngress(f"{prefix}nginx", settings, access, cloud.entry_address, opts)
        floating_mover(
            f"{prefix}floating",
            stack,
            nodes,
            cloud.floating_ips,
            cloud.servers,
            [ingress.release],
            opts,
        )
        tls = ingress_tls(f"{prefix}tls", stack, access, nodes, opts)
        hello = hello_world(f"{prefix}hello", settings, access, ingress, tls, opts)
        own = extras(f"{prefix}extras", stack, access, [balancing, ingress, tls], opts)
        SecretsEncryption(f"{prefix}encryption", settings, nodes, [hello, own], opts)

        self.outputs: dict[str, Any] = {
            "kubeconfig": access.kubeconfig,
            "url": hello and hello.url,
            "ingressAddress": ingress_address(prefix, settings, nodes, ingress, hello),
            "serviceAddress": hello and hello.service_address,
            "nodes": {name: machine.internal_address for name, machine in machines.items()},
            "certificatesExpire": nodes.certificates_expire,
            "logins": {name: machine.login for name, machine in machines.items()},
            "dnsRecord": hello
            and pulumi.Output.format("{}. A {}", settings.hello_host, hello.ingress_address),
        }
