"""The last things at Hetzner Cloud that no resource of the program stands for.

Run when a stack is destroyed, and by hand at any time, from the project's folder, with the API token in
``HCLOUD_TOKEN`` (and ``HCLOUD_ENDPOINT`` where it is not the public API):

    python -m cluster.machines.hetzner.sweep leaks CLUSTER [--keep-volumes]
    python -m cluster.machines.hetzner.sweep made CLUSTER --network ID [--keep-volumes]
    python -m cluster.machines.hetzner.sweep server CLUSTER --id ID

``server`` deletes one, which may be gone: the provider fails then (terraform-provider-hcloud,
``internal/server/resource.go``), and a stack that lost a server could neither be mended nor destroyed.
``leaks`` names all that carries the cluster's label; it changes nothing, and exits with 1 if there is
something. ``made`` deletes what the cluster's own controllers made there, when they run no more: they
can't do it then.

How these are told (the controllers' sources, hcloud-cloud-controller-manager ``hcops/load_balancer.go`` and
csi-driver ``driver/controller.go``): a load balancer for a Service carries the Service's UID as a label,
but nothing of the cluster, so that only being in the cluster's network shows whose it is. A
volume carries ``managed-by=csi-driver`` and the labels that the driver was given, the cluster's among them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from hcloud import APIException, Client

from cluster.machines.hetzner.api import (
    CLUSTER_LABEL,
    HetznerError,
    ask,
    connect,
    entries,
    explained,
)
from cluster.settings import HETZNER_ENDPOINT

SERVICE_LABEL = "hcloud-ccm/service-uid"
"""Of the cloud controller manager; its value is the UID of the Service."""

CSI_LABEL, CSI = "managed-by", "csi-driver"

KINDS: Mapping[str, str] = {
    "servers": "server",
    "primary_ips": "primary IP",
    "networks": "network",
    "firewalls": "firewall",
    "placement_groups": "placement group",
    "ssh_keys": "SSH key",
    "load_balancers": "load balancer",
    "floating_ips": "floating IP",
    "volumes": "volume",
    "certificates": "certificate",
}
"""Path in the API to name, of all that is looked at or deleted."""

LABELLED = tuple(kind for kind in KINDS if kind != "certificates")

PATIENCE_SECONDS = 60.0
"""Bound on deleting: what is locked by another action is tried again until then."""

PAUSE_SECONDS = 0.5

UNPROTECTED = {"delete": False, "rebuild": False}

CLUSTER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Entry = Mapping[str, Any]


class Sweep:
    """Deletes what a cluster's controllers made.

    Args:
        client: for the API.
        cluster: the cluster's name.
        deadline: when to give up, by the monotonic clock.
        say: gets a line for everything that is deleted or left alone.
    """

    def __init__(
        self, client: Client, cluster: str, deadline: float, say: Callable[[str], None] = print
    ) -> None:
        self._client, self._cluster, self._deadline, self._say = client, cluster, deadline, say
        self._failed: list[str] = []

    def run(self, network: int, *, keep_volumes: bool) -> None:
        """Delete load balancers in the network, then the cluster's volumes, unless they are kept.

        Raises:
            HetznerError: something could not be deleted; everything else was.
        """
        for balancer in self._balancers(network):
            self._delete("load_balancers", balancer)
            for certificate in self._certificates(balancer):
                self._delete("certificates", certificate)
        for volume in self._volumes():
            if keep_volumes:
                self._say(f"kept: {_named('volumes', volume)}")
            else:
                self._delete("volumes", volume)
        self._give_up_on_failures()

    def one(self, kind: str, entry: Entry) -> None:
        """Delete one thing; it may be gone.

        Raises:
            HetznerError: it could not be deleted.
        """
        self._delete(kind, entry)
        self._give_up_on_failures()

    def _give_up_on_failures(self) -> None:
        if self._failed:
            raise HetznerError(
                f"could not delete all that cluster {self._cluster} made at Hetzner Cloud:\n  - "
                + "\n  - ".join(self._failed),
                f"all of it deleted within {PATIENCE_SECONDS:.0f} s",
                "run `pulumi destroy` again, or delete these in the project's console",
            )

    def _balancers(self, network: int) -> Iterator[Entry]:
        for balancer in entries(self._client, "load_balancers", label_selector=SERVICE_LABEL):
            networks = [private["network"] for private in balancer["private_net"]]
            if SERVICE_LABEL in balancer["labels"] and network in networks:
                yield balancer
            elif not networks:
                self._say(
                    f"left alone: {_named('load_balancers', balancer)}, made for a Service of some "
                    "cluster, is in no network"
                )

    def _certificates(self, balancer: Entry) -> list[dict[str, Any]]:
        """Those that were made for the load balancer's Service."""
        https = [service.get("http") or {} for service in balancer["services"]]
        if not any(options.get("certificates") for options in https):
            return []
        return self._labelled("certificates", {SERVICE_LABEL: balancer["labels"][SERVICE_LABEL]})

    def _volumes(self) -> list[dict[str, Any]]:
        return self._labelled("volumes", {CLUSTER_LABEL: self._cluster, CSI_LABEL: CSI})

    def _labelled(self, kind: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Looked at again here: an API that passed over the selector would cost somebody's data."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = entries(self._client, kind, label_selector=selector)
        return [entry for entry in found if labels.items() <= entry["labels"].items()]

    def _delete(self, kind: str, entry: Entry) -> None:
        name = _named(kind, entry)
        while True:
            try:
                self._delete_once(kind, entry["id"])
            except APIException as error:
                if error.code == "not_found":
                    self._say(f"gone already: {name}")
                elif error.code in _PASSING and time.monotonic() < self._deadline:
                    time.sleep(PAUSE_SECONDS)
                    continue
                else:
                    self._failed.append(f"{name}: {error.message} ({error.code})")
            except TimeoutError as error:
                self._failed.append(f"{name}: {error}")
            else:
                self._say(f"deleted {name}")
            return

    def _delete_once(self, kind: str, number: int) -> None:
        if kind == "volumes":
            volume = self._client.request("GET", f"/volumes/{number}")["volume"]
            if volume["server"] is not None:
                self._finish(self._client.request("POST", f"/volumes/{number}/actions/detach"))
        if kind == "servers":
            server = self._client.request("GET", f"/servers/{number}")["server"]
            if any(server["protection"].values()):  # against others: a control plane's
                path = f"/servers/{number}/actions/change_protection"
                self._finish(self._client.request("POST", path, json=UNPROTECTED))
        self._finish(self._client.request("DELETE", f"/{kind}/{number}"))

    def _finish(self, answer: Entry) -> None:
        """Wait for an answer's action, if it has one.

        Raises:
            APIException: the action failed.
            TimeoutError: it is not done by the deadline.
        """
        action = answer.get("action")
        while action and action["status"] == "running":
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{action['command']} is not done yet")
            time.sleep(PAUSE_SECONDS)
            action = self._client.request("GET", f"/actions/{action['id']}")["action"]
        if action and action["status"] == "error":
            raise APIException(action["error"]["code"], action["error"]["message"], None)


_PASSING = ("locked", "conflict", "resource_in_use", "service_error")
"""Another action is at it, or what it hangs on is just going."""


def made(token: str, endpoint: str, cluster: str, network: int, *, keep_volumes: bool) -> None:
    """Delete what a cluster's controllers made, saying what.

    Raises:
        HetznerError: the API can't be asked, or something could not be deleted.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    with explained(endpoint):
        sweep = Sweep(connect(token, endpoint), cluster, deadline)
        sweep.run(network, keep_volumes=keep_volumes)


def server(token: str, endpoint: str, cluster: str, number: int) -> None:
    """Delete one server of a cluster; it may be gone.

    Raises:
        HetznerError: the API can't be asked, or the server could not be deleted.
    """
    with explained(endpoint):
        client = connect(token, endpoint)
        sweep = Sweep(client, cluster, time.monotonic() + PATIENCE_SECONDS)
        sweep.one("servers", {"id": number, "name": f"of cluster {cluster}"})


def left_over(
    token: str, endpoint: str, cluster: str, kind: str, name: str, public_key: str = ""
) -> bool:
    """Delete what a run that lost the API's answer has made and does not know of.

    It carries the cluster's label and is not in use; whatever is in use belongs to another stack.

    Args:
        token: API token.
        endpoint: the API.
        cluster: the cluster's name.
        kind: path in the API, one of ``KINDS``.
        name: the name that is taken.
        public_key: of an SSH key: only the same one is deleted.

    Returns:
        Whether there was such a thing and it is gone now.

    Raises:
        HetznerError: the API can't be asked, or it could not be deleted.
    """
    with explained(endpoint):
        client = connect(token, endpoint)
        found = entries(client, kind, name=name, label_selector=f"{CLUSTER_LABEL}={cluster}")
        unused = [
            entry
            for entry in found
            if entry.get("public_key", "").split()[:2] == public_key.split()[:2]
            and not any(entry.get(field) for field in _IN_USE)
        ]
        sweep = Sweep(client, cluster, time.monotonic() + PATIENCE_SECONDS, lambda _: None)
        for entry in unused:
            sweep.one(kind, entry)
    return bool(unused)


_IN_USE = (
    "applied_to",
    "assignee_id",
    "private_net",
    "server",
    "servers",
    "services",
    "subnets",
    "targets",
)
"""What is empty in a thing that was just made: a server, say, is in no private network yet."""


def leaks(token: str, endpoint: str, cluster: str, *, keep_volumes: bool) -> None:
    """Say what carries a cluster's label.

    Args:
        token: the project's API token.
        endpoint: the API's address.
        cluster: the cluster's name.
        keep_volumes: volumes of the CSI driver are named, but may be there.

    Raises:
        HetznerError: there is something that should not be, or the API can't be asked.
    """
    selector = f"{CLUSTER_LABEL}={cluster}"
    questions = [partial(entries, kind=kind, label_selector=selector) for kind in LABELLED]
    answers = ask(token, endpoint, questions)
    left: list[str] = []
    kept: list[str] = []
    for kind, found in zip(LABELLED, answers, strict=True):
        for entry in found:
            stays = keep_volumes and kind == "volumes" and entry["labels"].get(CSI_LABEL) == CSI
            (kept if stays else left).append(_named(kind, entry))
    if kept:
        print("kept, and to be paid for until you delete them:", *kept, sep="\n  - ")
    if left:
        raise HetznerError(
            f"cluster {cluster} has left things at Hetzner Cloud:\n  - " + "\n  - ".join(left),
            f"nothing with the label {selector}",
            "run `pulumi destroy` again; what is still there then, delete in the project's console",
        )
    print(f"nothing {'else ' if kept else ''}of cluster {cluster} is left at Hetzner Cloud")


def _named(kind: str, entry: Entry) -> str:
    return f"{KINDS[kind]} {entry['name']} ({entry['id']})"


def _cluster(text: str) -> str:
    """A name that is one, so that it can't widen a label selector."""
    if not CLUSTER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a cluster's name")
    return text


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster.machines.hetzner.sweep")
    what = parser.add_subparsers(dest="what", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("cluster", type=_cluster, help="the cluster's name (clusterName)")
    shared.add_argument(
        "--keep-volumes", action="store_true", help="volumes of the CSI driver stay"
    )
    one = what.add_parser("server", parents=[shared], help="delete one of its servers")
    one.add_argument("--id", type=int, required=True, help="the server's number")
    what.add_parser("leaks", parents=[shared], help="name what carries the cluster's label")
    sweep = what.add_parser("made", parents=[shared], help="delete what its controllers made")
    sweep.add_argument("--network", type=int, required=True, help="the private network's id")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The command; see the module's text. Returns the exit code."""
    arguments = _arguments(sys.argv[1:] if words is None else words)
    token = os.environ.get("HCLOUD_TOKEN", "")
    endpoint = os.environ.get("HCLOUD_ENDPOINT") or HETZNER_ENDPOINT
    place = (token, endpoint, arguments.cluster)
    try:
        if arguments.what == "made":
            made(*place, arguments.network, keep_volumes=arguments.keep_volumes)
        elif arguments.what == "server":
            server(*place, arguments.id)
        else:
            leaks(*place, keep_volumes=arguments.keep_volumes)
    except HetznerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
