"""Servers at Hetzner Cloud, and what is around them: network, firewall, addresses, load balancers.

Every resource is keyed by its node's name and carries the cluster's label, by which a leak is found. Image,
user-data and SSH keys of a server that exists are left as they are, as a change would replace it; the catalog
warns of that. A server that is gone at Hetzner is replaced: the program asks the API in every run, and a
label with the time is a change then, and ignored otherwise.

Order of a destroy: servers first (nothing on them is undone), then what the cluster's own controllers made,
then network and firewall, and last a look at what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
import pulumi_hcloud as hcloud
import pulumi_tls as tls
from pulumi_command import local

from cluster.errors import SettingsError
from cluster.ingress.nginx import HTTP_NODE_PORT, HTTPS_NODE_PORT
from cluster.machines import Machine, bastion_of
from cluster.machines.hetzner.catalog import Catalog
from cluster.machines.hetzner.sweep import left_over
from cluster.machines.hetzner.user_data import user_data
from cluster.network.floating import FloatingIp
from cluster.nodes import prepare_values
from cluster.nodes.files import envelope, host_files
from cluster.remote import at_the_end
from cluster.settings import API_PORT, NodeSettings, Stack

LABEL = "own-kubernetes"
MADE = f"{LABEL}/made"
SWEEP = "cluster.machines.hetzner.sweep"
WORLD = ["0.0.0.0/0", "::/0"]

HEALTH_SECONDS = 3
"""Between two looks of a load balancer at a target; Hetzner takes no less."""


class HetznerServers:
    """The stack file's servers at Hetzner Cloud as machines; without any, nothing is made or asked.

    Args:
        stack: the settings, and token and endpoint of the API.
        root: the project's folder, where paths in settings start.
        prefix: of all resources' names, where a program has several clusters.
        opts: of what the servers belong to.

    Attributes:
        machines: the machines by node name.
        servers: their numbers at the API.
        network: the private network's number.
        entry_address: public IPv4 address by which HTTP comes in: the load balancer's, or the first
            floating IP.
        floating_ips: the floating IPs, if HTTP gets in by them.

    Raises:
        SettingsError: what the API does not offer is asked for.
        ClusterError: the API does not answer, or not to this token.
    """

    def __init__(
        self,
        stack: Stack,
        root: Path,
        prefix: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        self.machines: Mapping[str, Machine] = {}
        self.servers: Mapping[str, pulumi.Output[str]] = {}
        self.network: pulumi.Output[str] | None = None
        self.entry_address: pulumi.Output[str] | None = None
        self.floating_ips: list[FloatingIp] = []
        if not stack.settings.hetzner_nodes:
            return
        site = _Site(prefix, stack, _consulted(stack), root, opts)
        self.machines = {name: site.machine(name) for name in stack.settings.hetzner_nodes}
        self.servers = {name: server.id for name, server in site.servers.items()}
        self.network = site.network.id
        self.floating_ips = site.floating_ips
        self.entry_address = site.balancer.ipv4 if site.balancer else self.floating_ips[0].address


def _consulted(stack: Stack) -> Catalog:
    """What the API offers, once it was compared with what is asked for; tells the price."""
    settings = stack.settings
    catalog = Catalog.fetch(stack.hetzner_token, stack.hetzner_endpoint, settings.cluster_name)
    if problems := catalog.problems(settings):
        raise SettingsError(problems)
    known = stack.public_key if isinstance(stack.public_key, str) else ""
    for warning in catalog.warnings(settings, known or None):
        pulumi.log.warn(warning)
    pulumi.log.info(catalog.price(settings).table())
    return catalog


class _Site(pulumi.ComponentResource):
    """Everything at Hetzner Cloud.

    Attributes:
        servers: by node name.
        network: the private network.
        balancer: the load balancer before the ingress.
        floating_ips: addresses for MetalLB.
    """

    def __init__(
        self,
        prefix: str,
        stack: Stack,
        catalog: Catalog,
        root: Path,
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        name = f"{prefix}hetzner"
        super().__init__("own-kubernetes:machines:HetznerServers", name, None, opts)
        self._name, self._stack, self._settings = name, stack, stack.settings
        self._prefix = prefix
        self._catalog, self._root = catalog, root
        self._token = pulumi.Output.secret(stack.hetzner_token)
        self._provider = hcloud.Provider(
            f"{name}-provider",
            token=self._token,
            endpoint=stack.hetzner_endpoint,
            opts=pulumi.ResourceOptions(parent=self),
        )
        keep = "" if self._settings.hetzner.delete_volumes else " --keep-volumes"
        leaks = self._at_the_end(f"{name}-leaks", f"leaks {self._settings.cluster_name}{keep}", [])
        self._after: list[pulumi.Resource] = [leaks]
        self._private_key, self._ssh_key = self._login()
        self.network, self._subnet = self._make_network()
        sweep = pulumi.Output.format(
            "made {} --network {}{}", self._settings.cluster_name, self.network.id, keep
        )
        self._swept = self._at_the_end(f"{name}-sweep", sweep, [self._subnet])
        self._firewall = self._make_firewall()
        self._groups = {group: self._placement_group(group) for group in self._group_names()}
        nodes = self._settings.hetzner_nodes
        self._boot_keys = {n: self._boot_key(n) for n in nodes}
        self._addresses = {n: self._address(n, node) for n, node in nodes.items()}
        self.servers = {n: self._server(n, node) for n, node in nodes.items()}
        self._ends = {n: self._ending(n) for n in nodes}
        self._plugged = {n: self._plug(n, node) for n, node in nodes.items()}
        self._api = self._api_balancer() if self._settings.hetzner.api_load_balancer else []
        entry = self._settings.entry
        self.balancer = self._ingress_balancer() if entry == "load-balancer" else None
        count = self._settings.hetzner.floating_ips if entry == "floating-ips" else 0
        self.floating_ips = [self._floating_ip(number) for number in range(1, count + 1)]
        self.register_outputs({})

    def machine(self, name: str) -> Machine:
        """A server as the rest of the program sees it."""
        node, server = self._settings.hetzner_nodes[name], self.servers[name]
        kept = self._addresses[name]
        return Machine(
            name=name,
            role=node.role,
            address=kept.ip_address if kept else server.ipv4_address,
            internal_address=str(node.internal_address),
            user=str(node.user),
            port=int(node.port or 22),
            host_key=self._boot_keys[name].public_key_openssh.apply(str.strip),
            private_key=self._private_key,
            bastion=bastion_of(self._stack),
            first_contact=True,
            new=self._catalog.missing(name),
            carrier=server,
            provider_id=server.id.apply(lambda number: f"hcloud://{number}"),
            # A node that leaves is drained before its server is deleted.
            after=(self._plugged[name], self._ends[name], *self._api),
        )

    # What all servers share

    def _options(self, **more: Any) -> pulumi.ResourceOptions:
        after = more.pop("after", [])
        return pulumi.ResourceOptions(
            parent=self, provider=self._provider, depends_on=after, **more
        )

    def _labels(self, **more: str) -> dict[str, str]:
        own = {"cluster": self._settings.cluster_name, **more}
        return {f"{LABEL}/{key}": value for key, value in own.items()}

    def _full(self, name: str) -> str:
        return f"{self._settings.cluster_name}-{name}"

    def _at_the_end(
        self,
        name: str,
        words: pulumi.Input[str],
        after: list[pulumi.Resource],
        triggers: list[pulumi.Input[str]] | None = None,
    ) -> local.Command:
        """A command that does its work when the stack is destroyed."""
        return at_the_end(
            name,
            pulumi.Output.format("{} {}", SWEEP, words),
            environment={
                "HCLOUD_TOKEN": self._token,
                "HCLOUD_ENDPOINT": self._stack.hetzner_endpoint,
            },
            triggers=triggers,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=after, delete_before_replace=bool(triggers)
            ),
        )

    def _login(self) -> tuple[pulumi.Output[str], hcloud.SshKey]:
        """The user's own key, or one that is made and kept in the stack's state, encrypted."""
        private, public = self._stack.private_key, pulumi.Output.from_input(self._stack.public_key)
        if private is None:
            made = tls.PrivateKey(
                f"{self._name}-login-key",
                algorithm="ED25519",
                opts=pulumi.ResourceOptions(parent=self),
            )
            private = made.private_key_openssh
            public = made.public_key_openssh.apply(str.strip)
        key = hcloud.SshKey(
            f"{self._name}-ssh-key",
            name=self._settings.cluster_name,
            public_key=public,
            labels=self._labels(),
            opts=self._named("ssh_keys", self._settings.cluster_name),
        )
        return private, key

    def _named(self, kind: str, name: str, **more: Any) -> pulumi.ResourceOptions:
        """For what has a name of its own in the project: no second one can be made beside it.

        Where the name is taken by what an earlier run made without learning of it (the API's answer was
        lost), that one is deleted, and the engine asked to try again.
        """
        stack = self._stack
        cluster = stack.settings.cluster_name

        def explain(args: pulumi.ErrorHookArgs) -> bool:
            if args.failed_operation != "create" or "uniqueness_error" not in " ".join(args.errors):
                return False
            key = str((args.new_inputs or {}).get("publicKey", ""))
            place = (stack.hetzner_token, stack.hetzner_endpoint, cluster)
            if left_over(*place, kind, name, key):
                pulumi.log.warn(f"{kind} {name}: deleted one that an earlier run left unfinished")
                return True
            pulumi.log.error(
                f"{kind} {name}: the name is taken in this Hetzner Cloud project, by one that is in use "
                f"or not of cluster {cluster}. Expected: a name that nothing else has. Remedy: choose "
                "another clusterName; no two stacks of a project may share one."
            )
            return False

        taken = pulumi.ErrorHook(f"{kind}-{name}-taken", explain)
        hooks = [taken, *more.pop("hooks", [])]
        more.setdefault("after", self._after)
        return self._options(
            delete_before_replace=True, hooks=pulumi.ResourceHookBinding(on_error=hooks), **more
        )

    def _make_network(self) -> tuple[hcloud.Network, hcloud.NetworkSubnet]:
        settings, shared = self._settings, self._settings.hetzner
        network = hcloud.Network(
            f"{self._name}-network",
            name=settings.cluster_name,
            ip_range=str(settings.node_cidr),
            labels=self._labels(),
            opts=self._named("networks", settings.cluster_name),
        )
        subnet = self._make_subnet("subnet", network, "cloud", shared.subnet_cidr)
        if shared.vswitch_id:
            self._make_subnet("vswitch", network, "vswitch", shared.vswitch_cidr)
        return network, subnet

    def _make_subnet(
        self, name: str, network: hcloud.Network, kind: str, part: object | None
    ) -> hcloud.NetworkSubnet:
        return hcloud.NetworkSubnet(
            f"{self._name}-{name}",
            network_id=network.id.apply(int),
            type=kind,
            network_zone=self._catalog.network_zone(self._settings),
            ip_range=str(part or self._settings.node_cidr),
            vswitch_id=self._settings.hetzner.vswitch_id if kind == "vswitch" else None,
            opts=self._options(after=self._after, delete_before_replace=True),
        )

    def _make_firewall(self) -> hcloud.Firewall:
        """Of the public interface; the private network is not filtered."""
        admins = [str(network) for network in self._settings.admin_cidrs]
        rules = [_rule("ssh", 22, admins), _rule("kubernetes api", API_PORT, admins)]
        if self._settings.entry == "floating-ips":
            rules += [_rule("http", 80, WORLD), _rule("https", 443, WORLD)]
        return hcloud.Firewall(
            f"{self._name}-firewall",
            name=self._settings.cluster_name,
            rules=rules,
            labels=self._labels(),
            opts=self._named("firewalls", self._settings.cluster_name),
        )

    # Servers

    def _group_names(self) -> list[str]:
        nodes = self._settings.hetzner_nodes.values()
        return sorted({str(node.placement_group) for node in nodes})

    def _placement_group(self, group: str) -> hcloud.PlacementGroup:
        return hcloud.PlacementGroup(
            f"{self._name}-group-{group}",
            name=self._full(group),
            type="spread",
            labels=self._labels(),
            opts=self._named("placement_groups", self._full(group)),
        )

    def _boot_key(self, node: str) -> tls.PrivateKey:
        return tls.PrivateKey(
            f"{self._prefix}{node}-boot-key",
            algorithm="ECDSA",
            ecdsa_curve="P256",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _address(self, name: str, node: NodeSettings) -> hcloud.PrimaryIp | None:
        if not self._settings.hetzner.keep_addresses:
            return None
        return hcloud.PrimaryIp(
            f"{self._prefix}{name}-address",
            name=self._full(name),
            type="ipv4",
            auto_delete=False,
            location=node.location,
            labels=self._labels(node=name),
            opts=self._named("primary_ips", self._full(name)),
        )

    def _server(self, name: str, node: NodeSettings) -> hcloud.Server:
        kept = self._addresses[name]
        address = hcloud.ServerPublicNetArgs(
            ipv4_enabled=True, ipv6_enabled=False, ipv4=kept.id.apply(int) if kept else None
        )
        missing = self._catalog.missing(name)
        # Not Pulumi's own protection: that would refuse to replace a dead server, and every destroy.
        protected = node.role == "control-plane"
        labels = self._labels(node=name, role=node.role)
        if name in self._settings.takes_workloads:
            labels |= self._labels(ingress="true")
        if missing:
            labels[MADE] = datetime.now(UTC).strftime("%Y-%m-%dT%H.%M.%SZ")
        return hcloud.Server(
            f"{self._prefix}{name}-server",
            name=self._full(name),
            server_type=str(node.server_type),
            image=node.image,
            location=node.location,
            ssh_keys=[self._ssh_key.id],
            user_data=self._user_data(name, node),
            firewall_ids=[self._firewall.id.apply(int)],
            placement_group_id=self._groups[str(node.placement_group)].id.apply(int),
            public_nets=[address],
            labels=labels,
            keep_disk=True,  # a server can be made smaller again
            delete_protection=protected,
            rebuild_protection=protected,
            opts=self._server_options(name, missing),
        )

    def _server_options(self, name: str, missing: bool) -> pulumi.ResourceOptions:
        # For one that is replaced too, the engine would take what is ignored from the old one's state: the
        # login key there may be gone, and the user-data be that of an older stack file.
        kept = ["image", "userData", "sshKeys", f'labels["{MADE}"]']
        return self._named(
            "servers",
            self._full(name),
            after=[self._subnet, self._swept],
            retain_on_delete=True,  # see _ending
            ignore_changes=None if missing else kept,
            # Nothing on a server is undone: as another kind of node it begins anew.
            replace_on_changes=[
                f'labels["{LABEL}/role"]',
                *([f'labels["{MADE}"]'] if missing else []),
            ],
            hooks=[self._explained(name)],
        )

    def _ending(self, name: str) -> local.Command:
        """Deletes the server in place of the provider, which fails for one that is gone already."""
        server, cluster = self.servers[name], self._settings.cluster_name
        words = pulumi.Output.format("server {} --id {}", cluster, server.id)
        return self._at_the_end(f"{self._prefix}{name}-end", words, [server], triggers=[server.id])

    def _user_data(self, name: str, node: NodeSettings) -> pulumi.Output[str]:
        files = envelope(host_files(self._settings, name, self._root))
        values = prepare_values(self._settings, node.role)
        user_data(files, values, "-" * 600, "-" * 200)  # too long is told before anything is made
        key = self._boot_keys[name]
        return pulumi.Output.secret(
            pulumi.Output.all(key.private_key_openssh, key.public_key_openssh).apply(
                lambda halves: user_data(files, values, *halves)
            )
        )

    def _explained(self, name: str) -> pulumi.ErrorHook:
        """What to do when the API can't make a server right now."""
        node = self._settings.hetzner_nodes[name]

        def explain(args: pulumi.ErrorHookArgs) -> bool:
            text = " ".join(args.errors)
            for sign, remedy in _REMEDIES.items():
                if sign in text:
                    pulumi.log.error(
                        f"{name}: Hetzner can't make a {node.server_type} at {node.location} now "
                        f"({sign}). Expected: a server for nodes.{name}. Remedy: {remedy}"
                    )
            return False

        return pulumi.ErrorHook(f"{self._prefix}{name}-server-refused", explain)

    def _plug(self, name: str, node: NodeSettings) -> hcloud.ServerNetwork:
        server = self.servers[name]
        return hcloud.ServerNetwork(
            f"{self._prefix}{name}-network",
            server_id=server.id.apply(int),
            subnet_id=self._subnet.id,
            ip=str(node.internal_address),
            opts=self._options(deleted_with=server, delete_before_replace=True),
        )

    # Ways in

    def _ingress_balancer(self) -> hcloud.LoadBalancer:
        balancer, plugged = self._balancer("ingress", self._settings.server_cidr[-3])
        for name, port, target in (("http", 80, HTTP_NODE_PORT), ("https", 443, HTTPS_NODE_PORT)):
            self._forward(f"ingress-{name}", balancer, port, target)
        self._targets("ingress", balancer, plugged, f"{LABEL}/ingress=true")
        return balancer

    def _api_balancer(self) -> list[pulumi.Resource]:
        """In the private network only: it hides where a client comes from, so the world must not use it."""
        balancer, plugged = self._balancer("api", self._settings.server_cidr[-2], public=False)
        return [
            self._forward("api-port", balancer, API_PORT, API_PORT),
            self._targets("api", balancer, plugged, f"{LABEL}/role=control-plane"),
        ]

    def _balancer(
        self, name: str, address: object, *, public: bool = True
    ) -> tuple[hcloud.LoadBalancer, hcloud.LoadBalancerNetwork]:
        balancer = hcloud.LoadBalancer(
            f"{self._name}-{name}-balancer",
            name=self._full(name),
            load_balancer_type=self._settings.hetzner.load_balancer_type,
            location=self._settings.hetzner.location,
            labels=self._labels(),
            opts=self._named("load_balancers", self._full(name), after=[self._subnet, self._swept]),
        )
        plugged = hcloud.LoadBalancerNetwork(
            f"{self._name}-{name}-balancer-network",
            load_balancer_id=balancer.id.apply(int),
            subnet_id=self._subnet.id,
            ip=str(address),
            enable_public_interface=public,
            opts=self._options(deleted_with=balancer),
        )
        return balancer, plugged

    def _forward(
        self, name: str, balancer: hcloud.LoadBalancer, port: int, target: int
    ) -> hcloud.LoadBalancerService:
        return hcloud.LoadBalancerService(
            f"{self._name}-{name}",
            load_balancer_id=balancer.id,
            protocol="tcp",
            listen_port=port,
            destination_port=target,
            health_check={
                "protocol": "tcp",
                "port": target,
                "interval": HEALTH_SECONDS,
                "timeout": 2,
                "retries": 2,
            },
            opts=self._options(deleted_with=balancer, delete_before_replace=True),
        )

    def _targets(
        self,
        name: str,
        balancer: hcloud.LoadBalancer,
        plugged: hcloud.LoadBalancerNetwork,
        which: str,
    ) -> hcloud.LoadBalancerTarget:
        return hcloud.LoadBalancerTarget(
            f"{self._name}-{name}-targets",
            load_balancer_id=balancer.id.apply(int),
            type="label_selector",
            label_selector=f"{LABEL}/cluster={self._settings.cluster_name},{which}",
            use_private_ip=True,
            opts=self._options(after=[plugged], deleted_with=balancer),
        )

    def _floating_ip(self, number: int) -> FloatingIp:
        """Assigned by the mover, on a control plane: an assignment made here would be undone by it."""
        made = hcloud.FloatingIp(
            f"{self._name}-floating-{number}",
            name=self._full(f"floating-{number}"),
            type="ipv4",
            home_location=self._settings.hetzner.location,
            labels=self._labels(),
            opts=self._named(
                "floating_ips",
                self._full(f"floating-{number}"),
                after=[self._swept],
                ignore_changes=["serverId"],
            ),
        )
        return FloatingIp(made.id, made.ip_address)


def _rule(description: str, port: int, sources: list[str]) -> hcloud.FirewallRuleArgs:
    return hcloud.FirewallRuleArgs(
        description=description,
        direction="in",
        protocol="tcp",
        port=str(port),
        source_ips=sources,
    )


_REMEDIES = {
    "resource_unavailable": "choose another serverType or location (a preview names those in stock), "
    "or run `pulumi up` again later",
    "placement_error": "run `pulumi up` again later, or give the node another placementGroup",
    "resource_limit_exceeded": "ask Hetzner for a higher limit in the console, or use fewer servers",
    "rate_limit_exceeded": "wait some minutes for the API's rate limit, then run `pulumi up` again",
}
