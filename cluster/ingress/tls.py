"""HTTPS: cert-manager, by its Helm chart, and a ClusterIssuer that every Ingress may ask for a certificate.

An Ingress does so by the annotation ``cert-manager.io/cluster-issuer: default`` and a Secret's name in ``tls``.

As MetalLB's, cert-manager's webhook answers some seconds after its pod is ready, and the API server refuses
issuers until then: the same command waits for it. The chart's own look at it, a Job with one more image, is
left out.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from cluster import versions
from cluster.access import ApiAccess
from cluster.charts import chart_source
from cluster.ingress.nginx import CLASS
from cluster.mending import mended
from cluster.nodes import Nodes
from cluster.nodes.hardening import namespace_labels
from cluster.settings import IngressTlsSettings, Stack

NAMESPACE = "cert-manager"
"""Also where cert-manager looks for the Secrets of ClusterIssuers."""

RELEASE = "cert-manager"
ISSUER = "default"
CA_SECRET = "ingress-ca"
CA_DAYS = 3650

VALUES = {
    # The chart keeps them when the release goes: with them every certificate would go.
    "crds": {"enabled": True},
    "startupapicheck": {"enabled": False},
    # The chart's own looks first after 5 s.
    "webhook": {"readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 2}},
}


def ingress_tls(
    name: str,
    stack: Stack,
    access: ApiAccess,
    nodes: Nodes,
    opts: pulumi.ResourceOptions | None = None,
) -> IngressTls | None:
    """What signs certificates, where that is wanted."""
    tls = stack.settings.ingress_tls
    return IngressTls(name, stack, tls, access, nodes, opts) if tls else None


class IngressTls(pulumi.ComponentResource):
    """cert-manager's release, and the issuer.

    Args:
        name: prefix of the resources' names.
        stack: chart location, and the user's CA.
        tls: who signs.
        access: the cluster's API.
        nodes: where to wait for the webhook.

    Attributes:
        issuer: the ClusterIssuer ``default``.
        annotations: of an Ingress that asks it for a certificate.
    """

    def __init__(
        self,
        name: str,
        stack: Stack,
        tls: IngressTlsSettings,
        access: ApiAccess,
        nodes: Nodes,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:ingress:IngressTls", name, None, opts)
        self._name, self._access = name, access
        self._namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": namespace_labels("restricted")},
            opts=access.options(self),
        )
        self._webhook = nodes.control_host.run(
            "webhook", {"OF": RELEASE}, name=f"{name}-webhook", after=[self._release(stack)]
        )
        self.annotations = {"cert-manager.io/cluster-issuer": ISSUER}
        if tls.issuer == "acme":
            # nginx-ingress takes the challenge's path only in the Ingress that has the host already.
            self.annotations["acme.cert-manager.io/http01-edit-in-place"] = "true"
            self.issuer = self._issuer("issuer", ISSUER, {"acme": _acme(tls)})
        else:
            ca = self._own_ca(stack.ingress_ca) if stack.ingress_ca else self._new_ca()
            self.issuer = self._issuer("issuer", ISSUER, {"ca": {"secretName": CA_SECRET}}, ca)
        self.register_outputs({})

    def _release(self, stack: Stack) -> k8s.helm.v3.Release:
        name = f"{self._name}-release"
        return k8s.helm.v3.Release(
            name,
            name=RELEASE,
            namespace=NAMESPACE,
            values=VALUES,
            timeout=300,
            **chart_source(
                stack.settings,
                "cert-manager",
                versions.CERT_MANAGER,
                chart=f"{versions.CERT_MANAGER_REPOSITORY}/cert-manager",
                after=self._access.workers,
            ),
            opts=self._access.options(
                self,
                [self._namespace, *self._access.workers],
                mended(name, self._access, NAMESPACE, RELEASE),
            ),
        )

    def _issuer(
        self, role: str, name: str, spec: Any, *after: pulumi.Resource
    ) -> k8s.apiextensions.CustomResource:
        return k8s.apiextensions.CustomResource(
            f"{self._name}-{role}",
            api_version="cert-manager.io/v1",
            kind="ClusterIssuer",
            metadata={"name": name},
            spec=spec,
            opts=self._access.options(self, [self._webhook, *after]),
        )

    def _own_ca(self, pair: tuple[str, pulumi.Output[str]]) -> pulumi.Resource:
        certificate, key = pair
        return k8s.core.v1.Secret(
            f"{self._name}-ca",
            metadata={"name": CA_SECRET, "namespace": NAMESPACE},
            type="kubernetes.io/tls",
            string_data={"tls.crt": certificate, "tls.key": key},
            opts=self._access.options(self, [self._namespace]),
        )

    def _new_ca(self) -> pulumi.Resource:
        """A CA whose key never leaves the cluster; it signs itself."""
        itself = self._issuer("ca-issuer", CA_SECRET, {"selfSigned": {}})
        return k8s.apiextensions.CustomResource(
            f"{self._name}-ca",
            api_version="cert-manager.io/v1",
            kind="Certificate",
            metadata={"name": CA_SECRET, "namespace": NAMESPACE},
            spec={
                "isCA": True,
                "commonName": "own-kubernetes ingress",
                "secretName": CA_SECRET,
                "duration": f"{CA_DAYS * 24}h",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
                "issuerRef": {"kind": "ClusterIssuer", "name": CA_SECRET},
            },
            opts=self._access.options(self, [self._webhook, itself]),
        )


def _acme(tls: IngressTlsSettings) -> dict[str, Any]:
    return {
        "email": tls.email,
        "server": tls.server,
        "privateKeySecretRef": {"name": "acme-account"},
        "solvers": [{"http01": {"ingress": {"ingressClassName": CLASS}}}],
    }
