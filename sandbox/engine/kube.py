"""Kubernetes objects through kubectl and releases through Helm, awaited as pulumi-kubernetes awaits them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import mirror
from sandbox.engine import ssh

FIELD_MANAGER = "own-kubernetes-sandbox"
AWAIT_SECONDS = 600
"""How long an object may take to be ready where nothing else is said; the real provider's default."""

DELETE_SECONDS = 300
RELEASE_SECONDS = 300
"""Helm's default timeout."""

SKIP_AWAIT = "pulumi.com/skipAwait"

# What a created object waits for: a rollout, or words for `kubectl wait`.
_ROLLOUTS = {"Deployment", "DaemonSet", "StatefulSet"}
_WAITS = {
    "Namespace": "jsonpath={.status.phase}=Active",
    "CustomResourceDefinition": "condition=Established",
    "Ingress": "jsonpath={.status.loadBalancer.ingress[0].ip}",
    "Service": "jsonpath={.status.loadBalancer.ingress[0].ip}",
    "Job": "condition=Complete",
    "Pod": "condition=Ready",
}


def find_tool(name: str) -> str:
    """``kubectl`` or ``helm``: the mirror's, else the PATH's.

    Raises:
        MirrorError: neither has it.
    """
    try:
        return str(mirror.tool(name))
    except mirror.MirrorError:
        found = shutil.which(name)
        if found is None:
            raise
        return found


@dataclass(frozen=True)
class Cluster:
    """One cluster's API.

    Args:
        folder: a directory that only this user can read; holds the kubeconfig and the tools' caches.
    """

    folder: Path

    @classmethod
    def open(cls, kubeconfig: str, folder: Path) -> Cluster:
        """Keep a kubeconfig's text, or that of the file it names, in ``folder``."""
        text = kubeconfig if "\n" in kubeconfig else Path(kubeconfig).expanduser().read_text()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(text)
        return cls(folder)

    def call(
        self, tool: str, words: list[str], *, stdin: str | None = None, timeout: float | None = None
    ) -> str:
        """Run kubectl or helm; returns what it printed.

        Raises:
            SshError: it failed; has its message.
        """
        # Both keep what they learn about a cluster by its address, and ours change behind one address.
        environment = {
            "KUBECONFIG": f"{self.folder}/kubeconfig",
            "KUBECACHEDIR": f"{self.folder}/cache",
            "HELM_CACHE_HOME": f"{self.folder}/helm/cache",
            "HELM_CONFIG_HOME": f"{self.folder}/helm/config",
            "HELM_DATA_HOME": f"{self.folder}/helm/data",
        }
        return ssh.run_local(
            [find_tool(tool), *words],
            shown=" ".join([tool, *words]),
            environment={**os.environ, **environment},
            stdin=None if stdin is None else stdin.encode(),
            timeout=timeout,
        ).stdout

    # Objects

    def apply(
        self, manifest: Mapping[str, Any], *, patch: bool, timeout: float | None
    ) -> dict[str, Any]:
        """Server-side apply, wait until ready, and return the live object."""
        words = ["apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "-o", "json"]
        if patch:
            words.append("--force-conflicts")
        applied = self.call(
            "kubectl", [*words, "-f", "-"], stdin=json.dumps(manifest), timeout=timeout
        )
        live: dict[str, Any] = json.loads(applied)
        skip = (manifest.get("metadata", {}).get("annotations") or {}).get(SKIP_AWAIT)
        wait = [] if patch or skip == "true" else wait_words(live)
        if not wait:
            return live
        self.call("kubectl", [*wait, f"--timeout={timeout or AWAIT_SECONDS:.0f}s"])
        awaited: dict[str, Any] = json.loads(
            self.call("kubectl", ["get", *_reference(manifest), "-o", "json"])
        )
        return awaited

    def delete(self, manifest: Mapping[str, Any]) -> None:
        """Delete an object and wait until it is gone; it need not be there."""
        bound = f"--timeout={DELETE_SECONDS}s"
        self.call(
            "kubectl",
            ["delete", *_reference(manifest), "--ignore-not-found", "--wait", bound],
            timeout=DELETE_SECONDS + 10,
        )

    # Releases

    def release(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Install or upgrade a release and wait for its objects; returns its status."""
        name, namespace = inputs["name"], inputs.get("namespace") or "default"
        with_values = json.dumps(inputs.get("values") or {})
        timeout = int(inputs.get("timeout") or RELEASE_SECONDS)
        self.call("helm", release_words(inputs), stdin=with_values, timeout=timeout + 30)
        return self._status(name, namespace)

    def _status(self, name: str, namespace: str) -> dict[str, Any]:
        listed = json.loads(
            self.call(
                "helm", ["list", "--all", "--filter", f"^{name}$", "-n", namespace, "-o", "json"]
            )
        )
        if not listed:
            return {}
        found = listed[0]
        return {
            "name": name,
            "namespace": namespace,
            "revision": int(found["revision"]),
            "status": found["status"],
            "chart": found["chart"],
            "appVersion": found["app_version"],
        }

    def uninstall(self, name: str, namespace: str, timeout: int = RELEASE_SECONDS) -> None:
        """Remove a release and wait until its objects are gone; it need not be there."""
        words = ["uninstall", name, "-n", namespace, "--ignore-not-found", "--wait"]
        self.call("helm", [*words, f"--timeout={timeout}s"], timeout=timeout + 30)


def release_words(inputs: Mapping[str, Any]) -> list[str]:
    """helm's words for a ``helm.sh/v3:Release``; the values go to stdin."""
    name, namespace = inputs["name"], inputs.get("namespace") or "default"
    words = ["upgrade", "--install", name, inputs["chart"], "-n", namespace, "--values", "-"]
    if inputs.get("version"):
        words += ["--version", inputs["version"]]
    if repository := (inputs.get("repositoryOpts") or {}).get("repo"):
        words += ["--repo", repository]
    if not inputs.get("skipAwait"):
        words.append("--wait")
    switches = {
        "atomic": "--atomic",
        "createNamespace": "--create-namespace",
        "skipCrds": "--skip-crds",
        "disableWebhooks": "--no-hooks",
        "waitForJobs": "--wait-for-jobs",
    }
    words += [switch for key, switch in switches.items() if inputs.get(key)]
    return [*words, f"--timeout={int(inputs.get('timeout') or RELEASE_SECONDS)}s"]


def manifest_of(inputs: Mapping[str, Any], name: str, known_name: str | None) -> dict[str, Any]:
    """A resource's inputs as an object to apply.

    Args:
        inputs: ``apiVersion``, ``kind``, ``metadata`` and the rest.
        name: the resource's name; an object without one gets it, with a random ending.
        known_name: the name that an earlier run made up for it.
    """
    metadata = dict(inputs.get("metadata") or {})
    if not metadata.get("name"):
        metadata["name"] = known_name or f"{name}-{secrets.token_hex(4)}"
    manifest = {key: value for key, value in inputs.items() if value is not None}
    return {**manifest, "metadata": metadata}


def identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """As much of an object as it takes to find it again."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}


def _reference(manifest: Mapping[str, Any]) -> list[str]:
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = f"{manifest['kind']}.{version}.{group}" if group else manifest["kind"]
    metadata = manifest["metadata"]
    namespace = ["-n", metadata["namespace"]] if metadata.get("namespace") else []
    return [f"{kind}/{metadata['name']}", *namespace]


def wait_words(live: Mapping[str, Any]) -> list[str]:
    """kubectl's words to wait until a live object is ready; none if there is nothing to wait for."""
    kind = live["kind"]
    if kind in _ROLLOUTS:
        return ["rollout", "status", *_reference(live)]
    if kind == "Namespace" and (live.get("status") or {}).get("phase") == "Active":
        return []
    if kind == "Service" and (live.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    return ["wait", *_reference(live), f"--for={_WAITS[kind]}"] if kind in _WAITS else []
