"""What the stack file puts on the cluster besides: objects of the user's own manifests, and Helm releases.

Each object is a resource with the type that pulumi-kubernetes has for its kind, so that previews, policies and
waits are those of any other. Namespaces and definitions of kinds come first, then charts and Kubernetes' own
kinds side by side (a chart's pods may wait for a Secret), last objects of other kinds, which a chart may bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster import checks
from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.manifests import Manifest
from cluster.mending import mended
from cluster.settings import HelmReleaseSettings, Stack

FIRST = ("Namespace", "CustomResourceDefinition")
SECRET_FIELDS = ("data", "stringData")
API_GROUPS = frozenset(
    {
        *("", "apps", "autoscaling", "batch", "policy"),
        *(
            f"{group}.k8s.io"
            for group in (
                *("admissionregistration", "apiextensions", "apiregistration", "authentication"),
                *("authorization", "certificates", "coordination", "discovery", "events"),
                *("flowcontrol.apiserver", "networking", "node", "rbac.authorization", "resource"),
                *("scheduling", "storage", "storagemigration"),
            )
        ),
    }
)
"""Of every API server (kubernetes.io, API reference); its other groups are somebody's definitions."""


def extras(
    name: str,
    stack: Stack,
    access: ApiAccess,
    after: Sequence[pulumi.Resource | None],
    opts: pulumi.ResourceOptions | None = None,
) -> Extras | None:
    """The user's own objects and releases, where the stack file has any."""
    if not stack.manifests and not stack.settings.helm_releases:
        return None
    return Extras(name, stack, access, [*filter(None, after)], opts)


class Extras(pulumi.ComponentResource):
    """Objects of ``extraManifests``, and ``helmReleases``.

    Args:
        name: prefix of the resources' names.
        stack: the settings, and what stands in the files that they name.
        access: the cluster's API.
        after: what has to be there first: they may use all that the program itself brings.
    """

    def __init__(
        self,
        name: str,
        stack: Stack,
        access: ApiAccess,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:workload:Extras", name, None, opts)
        self._name, self._stack, self._access = name, stack, access
        ready = [*access.workers, *after]
        first = [m for m in stack.manifests if m.kind in FIRST]
        own = [m for m in stack.manifests if m not in first and m.group in API_GROUPS]
        others = [m for m in stack.manifests if m not in first and m not in own]
        ready += [self._object(manifest, ready) for manifest in first]
        ready += [self._namespace(namespace) for namespace in self._new_namespaces(first)]
        releases = [
            self._release(release, values, ready)
            for release, values in stack.settings.helm_releases.items()
        ]
        for manifest in own:
            self._object(manifest, ready)
        for manifest in others:
            self._object(manifest, [*ready, *releases])
        self.register_outputs({})

    def _object(self, manifest: Manifest, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        version = str(manifest.body["apiVersion"])
        return pulumi.CustomResource(
            f"kubernetes:{version if manifest.group else f'core/{version}'}:{manifest.kind}",
            f"{self._name}-{manifest.kind}-{manifest.name}",
            _secrets_marked(manifest),
            self._access.options(self, after),
        )

    def _new_namespaces(self, declared: Sequence[Manifest]) -> list[str]:
        """Those of releases that nobody else makes."""
        there = {
            *checks.KUBERNETES_NAMESPACES,
            *(m.name for m in declared if m.kind == "Namespace"),
        }
        releases = self._stack.settings.helm_releases.values()
        return sorted({release.namespace for release in releases} - there)

    def _namespace(self, namespace: str) -> pulumi.Resource:
        return k8s.core.v1.Namespace(
            f"{self._name}-Namespace-{namespace}",
            metadata={"name": namespace},
            opts=self._access.options(self),
        )

    def _release(
        self, release: str, values: HelmReleaseSettings, after: Sequence[pulumi.Resource]
    ) -> pulumi.Resource:
        name = f"{self._name}-release-{release}"
        hooks = mended(name, self._access, values.namespace, release)
        return k8s.helm.v3.Release(
            name,
            name=release,
            namespace=values.namespace,
            values=self._stack.helm_values[release],
            timeout=300,
            **chart_source(
                self._stack.settings,
                release,
                values.version,
                chart=values.chart,
                repository=values.repo or "",
                after=after,
            ),
            opts=self._access.options(self, after, hooks),
        )


def _secrets_marked(manifest: Manifest) -> Mapping[str, Any]:
    """The object, of a Secret all that is secret in it marked so: it stays out of state and previews."""
    if manifest.kind != "Secret" or manifest.group:
        return manifest.body
    marked = {
        key: pulumi.Output.secret(manifest.body[key])
        for key in SECRET_FIELDS
        if key in manifest.body
    }
    return {**manifest.body, **marked}
