"""Hetzner's cloud controller manager and CSI driver, by their charts.

Neither needs the servers' metadata service from a pod: pods are kept from it. The cloud controller
manager would ask it for nothing but a check that is turned off here; the CSI controller is told its
location; and the CSI driver's part on each node, which asks it for its server's number, is on the host's
network.

Both get the API token, with which all of the Hetzner project can be changed: they run on control planes,
so that a worker, and what breaks out of a pod there, never has it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.machines.hetzner.api import CLUSTER_LABEL
from cluster.machines.hetzner.servers import HetznerServers
from cluster.mending import mended
from cluster.nodes import Nodes, provider_ids
from cluster.settings import HETZNER_ENDPOINT, Settings, Stack

NAMESPACE = "kube-system"
SECRET = "hcloud"
"""Where both charts look for ``token``, and the cloud controller manager's for ``network``."""

CCM = "hcloud-cloud-controller-manager"
CSI = "hcloud-csi"

STORAGE_CLASS = "hcloud-volumes"

CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": ""}

ANY_NODE = [{"operator": "Exists", "effect": "NoSchedule"}]
"""Tolerates whatever keeps pods away: kubeadm's taint, a site's own ones, and those of a node that is not
Ready or not known to the cloud controller manager yet, whom nobody else would free of them."""


def hetzner_controllers(
    name: str,
    stack: Stack,
    access: ApiAccess,
    nodes: Nodes,
    cloud: HetznerServers,
    opts: pulumi.ResourceOptions | None = None,
) -> HetznerControllers | None:
    """The controllers where there are servers; pods wait for the one that frees new nodes."""
    if cloud.network is None:
        return None
    controllers = HetznerControllers(
        name,
        stack.settings,
        access,
        nodes,
        token=stack.hetzner_token,
        network=cloud.network,
        endpoint=stack.hetzner_endpoint,
        opts=opts,
    )
    access.workers += controllers.initialised
    return controllers


class HetznerControllers(pulumi.ComponentResource):
    """The releases of those that are wanted, and the Secret that they read.

    Args:
        name: prefix of the resources' names.
        settings: which of the two, where load balancers and volumes go, chart location.
        access: the cluster's API.
        nodes: what carries each node; existing hosts are made safe before the cloud controller manager
            starts.
        token: the API token, to read and write; kept a secret here.
        network: the private network's number (or name).
        endpoint: the API; the charts are told of it only if it is not the public one.

    Attributes:
        initialised: what pods wait for: until the cloud controller manager runs, new nodes carry a taint.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        access: ApiAccess,
        nodes: Nodes,
        *,
        token: pulumi.Input[str],
        network: pulumi.Input[str],
        endpoint: str = HETZNER_ENDPOINT,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:machines:HetznerControllers", name, None, opts)
        self._name, self._settings, self._access, self._nodes = name, settings, access, nodes
        self._endpoint = None if endpoint == HETZNER_ENDPOINT else endpoint
        secret_token = pulumi.Output.secret(token)
        self._annotations = {"own-kubernetes/token-digest": _digest(secret_token)}
        self.initialised: list[pulumi.Resource] = []
        wanted = settings.hetzner
        if wanted.cloud_controller_manager or wanted.csi_driver:
            secret = k8s.core.v1.Secret(
                f"{name}-secret",
                metadata={"name": SECRET, "namespace": NAMESPACE},
                string_data={"token": secret_token, "network": pulumi.Output.from_input(network)},
                opts=access.options(self),
            )
            if wanted.cloud_controller_manager:
                self.initialised = [self._ccm(secret)]
            if wanted.csi_driver:
                self._csi(secret)
        self.register_outputs({})

    def _ccm(self, secret: pulumi.Resource) -> pulumi.Resource:
        """Waits for no server but the control plane's: new nodes wait for it."""
        return self._release(
            "ccm",
            CCM,
            versions.HCLOUD_CCM,
            ccm_values(self._settings, self._endpoint, self._annotations),
            [secret, self._nodes.control_plane, *self._host_patches()],
        )

    def _csi(self, secret: pulumi.Resource) -> pulumi.Resource:
        return self._release(
            "csi",
            CSI,
            versions.HCLOUD_CSI,
            csi_values(self._settings, self._endpoint, self._annotations),
            [secret, *self._access.workers, *self.initialised],
        )

    def _release(
        self,
        suffix: str,
        chart: str,
        version: str,
        values: dict[str, Any],
        after: list[pulumi.Resource],
    ) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            f"{self._name}-{suffix}",
            name=chart,
            namespace=NAMESPACE,
            values=values,
            timeout=300,
            **chart_source(
                self._settings,
                chart,
                version,
                chart=chart,
                repository=versions.HCLOUD_REPOSITORY,
                after=after,
            ),
            opts=self._access.options(
                self, after, mended(f"{self._name}-{suffix}", self._access, NAMESPACE, chart)
            ),
        )

    def _host_patches(self) -> list[pulumi.Resource]:
        """Existing hosts get their provider ID, those too that registered when all nodes were such.

        The kubelet gives it at registration only; once given it can't be changed or taken away.
        """
        return [
            k8s.core.v1.NodePatch(
                f"{self._name}-{node}",
                metadata={"name": node},
                spec={"provider_id": provider_ids.of_host(self._settings.cluster_name, node)},
                opts=pulumi.ResourceOptions.merge(
                    self._access.options(self, [self._nodes.joined[node]]),
                    pulumi.ResourceOptions(retain_on_delete=True),  # the API would refuse
                ),
            )
            for node in self._settings.nodes
            if node not in self._settings.hetzner_nodes
        ]


def ccm_values(settings: Settings, endpoint: str | None, annotations: Any) -> dict[str, Any]:
    """Values of the cloud controller manager's chart: node addresses, load balancers, no routes.

    Args:
        settings: the stack's settings.
        endpoint: the API, unless it is the public one.
        annotations: of the pods.
    """
    environment = {
        # Flannel's VXLAN carries the pods' traffic, so the network needs no routes to them.
        "HCLOUD_NETWORK_ROUTES_ENABLED": "false",
        # The one thing that it asks the metadata service; on an existing host it would find none.
        "HCLOUD_NETWORK_DISABLE_ATTACHED_CHECK": "true",
        # Made of data centres' names, which Hetzner gives up; upstream advises against it.
        "HCLOUD_INSTANCES_ZONE_LABEL_ENABLED": "false",
        **_load_balancers(settings),
        **({"HCLOUD_ENDPOINT": endpoint} if endpoint else {}),
    }
    return {
        # Puts it on the host's network too: it starts without the pods' network and without DNS.
        # With it come --allocate-node-cidrs and --cluster-cidr, which only its routes would look at.
        "networking": {
            "enabled": True,
            "clusterCIDR": str(settings.pod_cidr),
        },
        "args": {"bind-address": "127.0.0.1"},  # its own port, on the host's network
        "env": {key: {"value": value} for key, value in environment.items()},
        # The chart's one replica elects no leader: two must never run side by side.
        "strategy": {"type": "Recreate"},
        "monitoring": {"enabled": False},
        "nodeSelector": CONTROL_PLANE,
        "additionalTolerations": ANY_NODE,
        "podAnnotations": annotations,
    }


def _load_balancers(settings: Settings) -> dict[str, str]:
    """For Services of type LoadBalancer; with floating IPs they are MetalLB's."""
    hetzner = settings.hetzner
    if settings.entry != "load-balancer":
        return {"HCLOUD_LOAD_BALANCERS_ENABLED": "false"}
    return {
        "HCLOUD_LOAD_BALANCERS_LOCATION": hetzner.location,
        "HCLOUD_LOAD_BALANCERS_TYPE": hetzner.load_balancer_type,
        # The firewall lets nobody reach the nodes' ports by their public addresses.
        "HCLOUD_LOAD_BALANCERS_USE_PRIVATE_IP": "true",
        "HCLOUD_LOAD_BALANCERS_PRIVATE_SUBNET_IP_RANGE": str(
            hetzner.subnet_cidr or settings.node_cidr
        ),
        # A Service's status shows the public addresses only: they go into DNS.
        "HCLOUD_LOAD_BALANCERS_DISABLE_PRIVATE_INGRESS": "true",
        # A node that is gone gets no more connections after about 15 s, not 45 s.
        "HCLOUD_LOAD_BALANCERS_HEALTH_CHECK_INTERVAL": "5s",
        "HCLOUD_LOAD_BALANCERS_HEALTH_CHECK_TIMEOUT": "3s",
        "HCLOUD_LOAD_BALANCERS_HEALTH_CHECK_RETRIES": "3",
    }


def csi_values(settings: Settings, endpoint: str | None, annotations: Any) -> dict[str, Any]:
    """Values of the CSI driver's chart; the arguments are those of ``ccm_values``."""
    return {
        # Keeps pods with volumes off nodes that are no servers. It can't be turned off again, nor
        # turned on for volumes that are there: so it is on before a cluster becomes a mixed one.
        "global": {"enableProvidedByTopology": True},
        "controller": {
            # A volume goes where its pod is; without the default the driver asks the metadata service.
            "hcloudVolumeDefaultLocation": settings.hetzner.location,
            # What a destroy finds the volumes by.
            "volumeExtraLabels": {CLUSTER_LABEL: settings.cluster_name},
            "extraEnvVars": [{"name": "HCLOUD_ENDPOINT", "value": endpoint}] if endpoint else [],
            "nodeSelector": CONTROL_PLANE,
            "tolerations": ANY_NODE,
            "priorityClassName": "system-cluster-critical",
            "podAnnotations": annotations,
        },
        "node": {
            "hostNetwork": True,  # for the metadata service: its server's number and location
            "affinity": {"nodeAffinity": _servers_only()},
            "priorityClassName": "system-node-critical",
        },
        "storageClasses": [
            {"name": STORAGE_CLASS, "defaultStorageClass": True, "reclaimPolicy": "Delete"}
        ],
    }


def _servers_only() -> dict[str, Any]:
    wanted = {
        "key": provider_ids.PROVIDED_BY,
        "operator": "In",
        "values": [provider_ids.PROVIDED_BY_HETZNER_CLOUD],
    }
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [wanted]}]
        }
    }


def _digest(token: pulumi.Output[str]) -> pulumi.Output[str]:
    """Changes with the token, so that pods start anew; no way back to it, so no secret."""
    return pulumi.Output.unsecret(
        token.apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:12])
    )
