"""A program of one's own that makes a cluster and runs something in it."""

import pulumi
import pulumi_kubernetes as k8s

from cluster import Cluster

config = pulumi.Config()

blue = Cluster(
    "blue",
    {
        "nodes": config.require_object("nodes"),
        "ssh_private_key": config.require_secret("sshPrivateKey"),
        "node_cidr": "10.0.0.0/24",
        "admin_cidrs": ["203.0.113.7/32"],
        "load_balancer_pools": ["10.0.0.200-10.0.0.219"],
        "hello_host": "hello.blue.example.com",
    },
)

shop = k8s.core.v1.Namespace("shop", metadata={"name": "shop"}, opts=blue.access.options())

pulumi.export("kubeconfig", blue.kubeconfig)
pulumi.export("url", blue.url)
