"""Hetzner Cloud's resources, made and unmade as pulumi-hcloud does it.

The stand-in runs everything again on each ``up``, so making is converging: what an earlier run made is found
by its id, or by its name where that run broke off before it heard the id; it is brought to what is wanted in
place, and replaced where it can't be. A thing of the same name that no run of ours began is never taken over.

Ids and outputs are those of terraform-provider-hcloud, which pulumi-hcloud wraps.
"""

from __future__ import annotations

from sandbox.engine.hetzner.addresses import FloatingIps, PrimaryIps
from sandbox.engine.hetzner.api import Api
from sandbox.engine.hetzner.balancers import BalancerNetworks, LoadBalancers, Services, Targets
from sandbox.engine.hetzner.maker import Maker, Named
from sandbox.engine.hetzner.networks import Firewalls, Networks, ServerNetworks, Subnets
from sandbox.engine.hetzner.servers import (
    PlacementGroups,
    Servers,
    SshKeys,
    hash_of_user_data,
)

__all__ = ["MAKERS", "PROVIDER", "Api", "Maker", "Named", "hash_of_user_data"]

PROVIDER = "pulumi:providers:hcloud"

MAKERS: dict[str, type[Maker]] = {
    "hcloud:index/sshKey:SshKey": SshKeys,
    "hcloud:index/network:Network": Networks,
    "hcloud:index/networkSubnet:NetworkSubnet": Subnets,
    "hcloud:index/firewall:Firewall": Firewalls,
    "hcloud:index/placementGroup:PlacementGroup": PlacementGroups,
    "hcloud:index/primaryIp:PrimaryIp": PrimaryIps,
    "hcloud:index/server:Server": Servers,
    "hcloud:index/serverNetwork:ServerNetwork": ServerNetworks,
    "hcloud:index/floatingIp:FloatingIp": FloatingIps,
    "hcloud:index/loadBalancer:LoadBalancer": LoadBalancers,
    "hcloud:index/loadBalancerNetwork:LoadBalancerNetwork": BalancerNetworks,
    "hcloud:index/loadBalancerService:LoadBalancerService": Services,
    "hcloud:index/loadBalancerTarget:LoadBalancerTarget": Targets,
}
"""By type token: what makes it."""
