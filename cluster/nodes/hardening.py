"""What a cluster is closed with by default: pure functions, rendered into kubeadm's configuration and files.

Measured with the CIS Kubernetes Benchmark (``tests/trust/cis.py``). What kubeadm and the kubelet do by
themselves does not stand here again. For users: docs/hardening.md.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import yaml

from cluster.settings import Settings

FOLDER = "/etc/own-kubernetes/apiserver"
"""What the API server reads as it starts; on every control plane, without secrets."""

AUDIT_FOLDER = "/var/log/own-kubernetes/audit"
PKI = "/etc/kubernetes/pki"

LIMITED_ANONYMOUS_MINOR = 32
"""From 1.32 on the API server can let anonymous requests in by their path (KEP-4633)."""

CIPHER_SUITES = [
    f"TLS_ECDHE_{key}_WITH_AES_{bits}"
    for key in ("ECDSA", "RSA")
    for bits in ("128_GCM_SHA256", "256_GCM_SHA384")
]
"""Of TLS 1.2; those of TLS 1.3 can't be chosen (crypto/tls)."""

TERMINATED_PODS = 1000
PIDS_OF_A_POD = 4096

KUBELET: dict[str, Any] = {
    "serverTLSBootstrap": True,  # serving.sh has the requests signed
    "tlsMinVersion": "VersionTLS12",
    "tlsCipherSuites": CIPHER_SUITES,
    "seccompDefault": True,
    "protectKernelDefaults": True,  # files.py sets what it looks for
    "podPidsLimit": PIDS_OF_A_POD,
    "enableProfilingHandler": False,
    "enableDebugFlagsHandler": False,
}

PodSecurity = Literal["privileged", "baseline", "restricted"]


def namespace_labels(level: PodSecurity) -> dict[str, str]:
    """A namespace's own level of the Pod Security Standards, whatever holds for the others."""
    modes = ("enforce", "audit", "warn")
    return {f"pod-security.kubernetes.io/{mode}": level for mode in modes}


def files(settings: Settings) -> dict[str, str]:
    """What control planes' API servers read, path to text."""
    documents = {"admission": _admission(settings)}
    if settings.audit_log.enabled:
        documents["audit"] = audit_policy()
    if settings.minor >= LIMITED_ANONYMOUS_MINOR:
        documents["authentication"] = _AUTHENTICATION
    return {
        f"{FOLDER}/{name}.yaml": yaml.safe_dump(document, sort_keys=False)
        for name, document in documents.items()
    }


def control_plane(settings: Settings) -> dict[str, Any]:
    """kubeadm's ``apiServer``, ``controllerManager`` and ``scheduler``."""
    parts: dict[str, Any] = {
        "apiServer": {
            "extraArgs": _arguments(_api_server(settings)),
            "extraVolumes": _volumes(settings),
        },
        "controllerManager": {
            "extraArgs": _arguments(
                {"profiling": "false", "terminated-pod-gc-threshold": str(TERMINATED_PODS)}
            )
        },
        "scheduler": {"extraArgs": _arguments({"profiling": "false"})},
    }
    # Another digest is another manifest, so that edited files have their readers started anew, and by it
    # upgrade.sh knows which manifests are of these settings.
    whole = json.dumps([parts, files(settings)], sort_keys=True)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    for part in parts.values():
        part["extraEnvs"] = [{"name": "OWN_KUBERNETES_SETTINGS", "value": f"s{digest}"}]
    return parts


def _arguments(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _api_server(settings: Settings) -> dict[str, str]:
    arguments = {
        "admission-control-config-file": f"{FOLDER}/admission.yaml",
        # Beside kubeadm's own: external addresses of a Service take others' traffic (CVE-2020-8554).
        "enable-admission-plugins": "NodeRestriction,DenyServiceExternalIPs",
        "encryption-provider-config": f"{PKI}/encryption.yaml",
        "kubelet-certificate-authority": f"{PKI}/ca.crt",
        "profiling": "false",
        # Else tokens that pods are given for an hour are good for a year.
        "service-account-extend-token-expiration": "false",
        "tls-min-version": "VersionTLS12",
        "tls-cipher-suites": ",".join(CIPHER_SUITES),
    }
    if settings.minor >= LIMITED_ANONYMOUS_MINOR:
        arguments["authentication-config"] = f"{FOLDER}/authentication.yaml"
    log = settings.audit_log
    if log.enabled:
        arguments |= {
            "audit-policy-file": f"{FOLDER}/audit.yaml",
            "audit-log-path": f"{AUDIT_FOLDER}/audit.log",
            "audit-log-maxage": str(log.max_age_days),
            "audit-log-maxbackup": str(log.max_files),
            "audit-log-maxsize": str(log.max_size_mib),
        }
    return arguments


def _volumes(settings: Settings) -> list[dict[str, Any]]:
    volumes = [_volume("own-kubernetes", FOLDER, "Directory", read_only=True)]
    if settings.audit_log.enabled:
        volumes.append(_volume("audit", AUDIT_FOLDER, "DirectoryOrCreate", read_only=False))
    return volumes


def _volume(name: str, path: str, kind: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "name": name,
        "hostPath": path,
        "mountPath": path,
        "readOnly": read_only,
        "pathType": kind,
    }


def _admission(settings: Settings) -> dict[str, Any]:
    """Pod Security for namespaces that say nothing of their own (KEP-2579).

    ``kube-system`` is Kubernetes' own: kube-proxy and, on Hetzner, the CSI driver need the host.
    """
    configuration = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {
            "enforce": settings.pod_security,
            "enforce-version": "latest",
            "audit": "restricted",
            "audit-version": "latest",
            "warn": "restricted",
            "warn-version": "latest",
        },
        "exemptions": {"namespaces": ["kube-system"]},
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": configuration}],
    }


_AUTHENTICATION = {
    # Served by all minors from 1.32 to 1.37: a control plane that waits for its upgrade reads it, too.
    "apiVersion": "apiserver.config.k8s.io/v1beta1",
    "kind": "AuthenticationConfiguration",
    "jwt": [],
    "anonymous": {
        "enabled": True,
        "conditions": [{"path": path} for path in ("/livez", "/readyz", "/healthz")],
    },
}
"""Probes of the kubelet, of keepalived and of load balancers have no credentials; nobody else is anonymous."""


def audit_policy() -> dict[str, Any]:
    """Who did what, without what is secret: bodies of requests are kept for rights only.

    The first rule that matches counts (kubernetes.io/docs/tasks/debug/debug-cluster/audit). Left out is what
    components do all the time by themselves, and what tells nothing.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            _rule("None", nonResourceURLs=["/livez*", "/readyz*", "/healthz*", "/version"]),
            # Its own, to fill its caches: whoever asks it is another user.
            _rule("None", users=["system:apiserver"], verbs=["get", "list", "watch"]),
            _rule("None", resources=_resources("coordination.k8s.io", "leases")),
            _rule("None", resources=_resources("", "events") + _resources("events.k8s.io")),
            _rule(
                "None",
                userGroups=["system:nodes"],
                verbs=["get", "patch"],
                resources=_resources("", "nodes", "nodes/status", "pods/status"),
            ),
            _rule(
                "None",
                users=[
                    "system:kube-controller-manager",
                    "system:kube-scheduler",
                    "system:kube-proxy",
                ],
                verbs=["get", "list", "watch"],
                resources=_resources("", "endpoints", "services", "nodes", "pods", "namespaces")
                + _resources("discovery.k8s.io", "endpointslices"),
            ),
            _rule(
                "Request",
                verbs=["create", "update", "patch", "delete", "deletecollection"],
                resources=_resources("rbac.authorization.k8s.io")
                + _resources("admissionregistration.k8s.io")
                + _resources("networking.k8s.io", "networkpolicies"),
            ),
            _rule("Metadata"),
        ],
    }


def _rule(level: str, **what: Any) -> dict[str, Any]:
    return {"level": level, **what}


def _resources(group: str, *names: str) -> list[dict[str, Any]]:
    """Of an API group, all if none is named."""
    return [{"group": group, **({"resources": list(names)} if names else {})}]
