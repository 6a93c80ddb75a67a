"""What a run that was killed left of a Helm release, taken away before the next run goes on.

Helm keeps a Secret for each revision of a release. One that was cut off stays *pending*, and makes Helm refuse
whatever comes after; one that ended after the engine was killed is there while the stack knows nothing of it,
and its name is taken. Only these records go: the objects of the release stay, and Helm takes them over, as they
carry the release's name (helm.sh/docs, "Labels and Annotations"). The engine's lock on the stack has seen to it
that no other run works on them.

A resource hook does it, as the engine calls one only right before it makes or changes the release.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pulumi

from cluster.access import ApiAccess

PATIENCE_SECONDS = 60.0
"""How long the API is tried; it may be about to answer again."""

PAUSE_SECONDS = 2.0


def mended(
    name: str, access: ApiAccess, namespace: str, release: str
) -> pulumi.ResourceHookBinding:
    """Hooks for a release.

    Args:
        name: prefix of the hooks' names.
        access: the cluster's API.
        namespace: the release's.
        release: its name in Helm.
    """

    def hook(moment: str, ruin: Callable[[str], bool]) -> pulumi.ResourceHook:
        async def mend(_: pulumi.ResourceHookArgs) -> None:
            kubeconfig = await access.kubeconfig.future()
            assert kubeconfig is not None, "no hook runs in a preview"
            await asyncio.to_thread(forget, kubeconfig, namespace, release, ruin)

        return pulumi.ResourceHook(f"{name}-{moment}", mend)

    return pulumi.ResourceHookBinding(
        # The stack knows of none.
        before_create=[hook("new", lambda status: True)],
        before_update=[hook("again", lambda status: status.startswith("pending"))],
    )


def forget(kubeconfig: str, namespace: str, release: str, ruin: Callable[[str], bool]) -> None:
    """Delete Helm's records of a release whose status says that they are ruins.

    Raises:
        StatusError: the API can't be asked, for a minute.
    """
    from cluster.status.api import Api, StatusError, read  # most runs need none of it

    api = Api(read(kubeconfig))
    end = time.monotonic() + PATIENCE_SECONDS
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    while True:
        try:
            found = api.get(f"{secrets}?labelSelector=owner%3Dhelm%2Cname%3D{release}")["items"]
            for record in (item["metadata"] for item in found):
                if ruin(record["labels"].get("status", "")):
                    api.delete(f"{secrets}/{record['name']}")
                    pulumi.log.info(
                        f"took {record['name']} away, which a run that was cut off left"
                    )
            return
        except StatusError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_SECONDS)
