"""The cluster as a component of another program: in Python by import, in other languages as a package."""

# Without `from __future__ import annotations`: the provider host reads the annotations, as types.
from pathlib import Path

import pulumi
from pydantic.alias_generators import to_snake

from cluster import settings
from cluster.args import ClusterArgs
from cluster.story import Story


class Cluster(pulumi.ComponentResource):
    """A Kubernetes cluster, with a hello-world page; several may be in one program."""

    kubeconfig: pulumi.Output[str]
    """The administrator's kubeconfig, a secret."""
    url: str
    """The hello-world page."""
    ingress_address: pulumi.Output[str]
    """Where host names of the cluster's pages have to lead."""
    service_address: pulumi.Output[str] | None
    """The hello-world Service's own address; at Hetzner it has none."""
    nodes: dict[str, str]
    """The address between the nodes, by node name."""
    certificates_expire: pulumi.Output[dict[str, str]]
    """When the first certificate of each control plane expires, and that of the kubeconfig (RFC 3339)."""
    logins: dict[str, pulumi.Output[str]]
    """``user@address`` for SSH, by node name."""
    dns_record: pulumi.Output[str]
    """What to put into DNS for the hello-world page."""

    def __init__(
        self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare a cluster.

        Args:
            name: of the cluster, unless ``cluster_name`` is another, and prefix of all resources' names.
            args: the settings; paths start in the program's folder.
            opts: options of the component.

        Raises:
            SettingsError: with everything that can't be used, before any resource is made.
        """
        super().__init__("own-kubernetes:index:Cluster", name, None, opts)
        root = Path.cwd()
        stack = settings.of({"cluster_name": name, **args}, root)
        story = Story(stack, root, f"{name}-", pulumi.ResourceOptions(parent=self))
        self.access = story.access
        """The cluster's API: ``provider``, and ``options`` for resources that go with the cluster."""
        for key, value in story.outputs.items():
            setattr(self, to_snake(key), value)
        self.register_outputs(story.outputs)
