"""What a destroyed cluster leaves at Hetzner: deleted if its controllers made it, named in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hcloud import Client
from hcloud.actions import BoundAction
from hcloud.images import Image
from hcloud.load_balancer_types import LoadBalancerType
from hcloud.locations import Location
from hcloud.networks import BoundNetwork, NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.servers import BoundServer

from cluster.machines.hetzner import sweep
from cluster.machines.hetzner.api import connect
from tests.unit.hetzner_apis import TOKEN, Answer, CannedApi, canned_api, error, standin

OURS = {"own-kubernetes/cluster": "own"}
CSI = {**OURS, "managed-by": "csi-driver"}
SERVICE = {"hcloud-ccm/service-uid": "0c7d"}
NETWORK = 77
GONE = error(404, "not_found", "not found")
DELETED = Answer(204, "")


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedApi]:
    monkeypatch.setattr(sweep, "PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)
    with canned_api() as server:
        monkeypatch.setenv("HCLOUD_ENDPOINT", server.url)
        server.answers = [error(500, "unexpected", "no such request was expected")]
        for kind in sweep.KINDS:
            server.routes[f"GET /{kind}"] = [listed(kind)]
        yield server


def listed(kind: str, *entries: Mapping[str, Any]) -> Answer:
    return Answer(200, {kind: list(entries), "meta": {"pagination": {"next_page": None}}})


def action(status: str, number: int = 5, **more: Any) -> dict[str, Any]:
    return {"action": {"id": number, "command": "detach_volume", "status": status, **more}}


def balancer(number: int, *networks: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"a{number}",
        "labels": SERVICE,
        "private_net": [{"network": network, "ip": "10.78.0.9"} for network in networks],
        "services": [{"protocol": "tcp", "http": None}],
        **more,
    }


def volume(
    number: int, server: int | None = None, labels: Mapping[str, str] = CSI
) -> dict[str, Any]:
    return {"id": number, "name": f"pvc-{number}", "labels": labels, "server": server}


def run(capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    code = sweep.main(words.split())
    out, err = capsys.readouterr()
    assert TOKEN not in out + err
    return code, out, err


def changes(canned: CannedApi) -> list[str]:
    return [request for request in canned.asked if not request.startswith("GET")]


MADE = f"made own --network {NETWORK}"


# --- what the controllers made -----------------------------------------------------------------------


def test_nothing_was_made(canned: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, MADE) == (0, "", "")
    assert changes(canned) == []


def test_load_balancers_of_services_in_the_clusters_network_go(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    canned.routes |= {
        "GET /load_balancers": [
            listed(
                "load_balancers",
                balancer(1, NETWORK),
                balancer(2, 78),
                balancer(3),
                # The API is not believed that it looked at the label.
                balancer(4, NETWORK, labels=OURS),
            )
        ],
        "DELETE /load_balancers/1": [Answer(201, action("running"))],
        "GET /actions/5": [Answer(200, action("running")), Answer(200, action("success"))],
    }
    assert run(capsys, MADE) == (
        0,
        "deleted load balancer a1 (1)\n"
        "left alone: load balancer a3 (3), made for a Service of some cluster, is in no network\n",
        "",
    )
    assert changes(canned) == ["DELETE /v1/load_balancers/1"]
    assert any("label_selector=hcloud-ccm%2Fservice-uid&" in request for request in canned.asked)


def test_certificates_of_such_a_service_go_too(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    with_tls = [{"protocol": "https", "http": {"certificates": [9]}}]
    canned.routes |= {
        "GET /load_balancers": [listed("load_balancers", balancer(1, NETWORK, services=with_tls))],
        "DELETE /load_balancers/1": [DELETED],
        "GET /certificates": [
            listed(
                "certificates",
                {"id": 9, "name": "ccm-managed-0c7d", "labels": SERVICE},
                {"id": 10, "name": "mine", "labels": {}},
            )
        ],
        "DELETE /certificates/9": [error(409, "resource_in_use", "still used"), DELETED],
    }
    assert run(capsys, MADE)[:2] == (
        0,
        "deleted load balancer a1 (1)\ndeleted certificate ccm-managed-0c7d (9)\n",
    )
    asked = [request for request in canned.asked if "GET /v1/certificates" in request]
    assert asked == [
        "GET /v1/certificates?label_selector=hcloud-ccm%2Fservice-uid%3D0c7d&page=1&per_page=50"
    ]


def test_volumes_of_the_cluster_go_detached_first(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    canned.routes |= {
        "GET /volumes": [
            listed(
                "volumes",
                volume(11, server=3),
                volume(12),
                volume(13, labels={**CSI, "own-kubernetes/cluster": "other"}),
                volume(14, labels={**CSI, "managed-by": "me"}),
            )
        ],
        "GET /volumes/11": [Answer(200, {"volume": volume(11, server=3)})],
        "POST /volumes/11/actions/detach": [
            error(423, "locked", "server is being deleted"),
            Answer(201, action("success")),
        ],
        "DELETE /volumes/11": [DELETED],
        "GET /volumes/12": [GONE],
    }
    assert run(capsys, MADE) == (
        0,
        "deleted volume pvc-11 (11)\ngone already: volume pvc-12 (12)\n",
        "",
    )
    assert changes(canned) == [
        "POST /v1/volumes/11/actions/detach",
        "POST /v1/volumes/11/actions/detach",
        "DELETE /v1/volumes/11",
    ]


def test_volumes_are_kept_on_demand(canned: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    canned.routes["GET /volumes"] = [listed("volumes", volume(11))]
    assert run(capsys, f"{MADE} --keep-volumes") == (0, "kept: volume pvc-11 (11)\n", "")
    assert changes(canned) == []


def test_what_can_not_be_deleted_is_named_and_the_rest_goes(
    canned: CannedApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PATIENCE_SECONDS", 0.1)
    canned.routes |= {
        "GET /load_balancers": [
            listed("load_balancers", balancer(1, NETWORK), balancer(2, NETWORK))
        ],
        "DELETE /load_balancers/1": [error(423, "protected", "load balancer is protected")],
        "DELETE /load_balancers/2": [Answer(201, action("error", error=FAILED))],
        "GET /volumes": [listed("volumes", volume(11), volume(12, 3), volume(13))],
        "GET /volumes/11": [Answer(200, {"volume": volume(11)})],
        "DELETE /volumes/11": [DELETED],
        "GET /volumes/12": [Answer(200, {"volume": volume(12, 3)})],
        "POST /volumes/12/actions/detach": [Answer(201, action("running"))],
        "GET /actions/5": [Answer(200, action("running"))],
        "GET /volumes/13": [Answer(200, {"volume": volume(13)})],
        "DELETE /volumes/13": [error(423, "locked", "volume is locked")],
    }
    code, out, err = run(capsys, MADE)
    assert code == 1
    assert out == "deleted volume pvc-11 (11)\n"
    assert err == (
        "could not delete all that cluster own made at Hetzner Cloud:\n"
        "  - load balancer a1 (1): load balancer is protected (protected)\n"
        "  - load balancer a2 (2): no way (action_failed)\n"
        "  - volume pvc-12 (12): detach_volume is not done yet\n"
        "  - volume pvc-13 (13): volume is locked (locked)\n"
        "      expected: all of it deleted within 0 s\n"
        "      remedy:   run `pulumi destroy` again, or delete these in the project's console\n"
    )


FAILED = {"code": "action_failed", "message": "no way"}


# --- what is left ------------------------------------------------------------------------------------

LEAKS = "leaks own"


def test_nothing_is_left(canned: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, LEAKS) == (0, "nothing of cluster own is left at Hetzner Cloud\n", "")
    assert sorted(canned.asked) == sorted(
        f"GET /v1/{kind}?label_selector=own-kubernetes%2Fcluster%3Down&page=1&per_page=50"
        for kind in sweep.LABELLED
    )


def test_what_is_left_is_named(canned: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    canned.routes |= {
        "GET /floating_ips": [
            listed("floating_ips", {"id": 8, "name": "own-floating-1", "labels": OURS})
        ],
        "GET /volumes": [listed("volumes", volume(11))],
        "GET /networks": [listed("networks", {"id": NETWORK, "name": "own", "labels": OURS})],
    }
    assert run(capsys, LEAKS) == (
        1,
        "",
        "cluster own has left things at Hetzner Cloud:\n"
        "  - network own (77)\n"
        "  - floating IP own-floating-1 (8)\n"
        "  - volume pvc-11 (11)\n"
        "      expected: nothing with the label own-kubernetes/cluster=own\n"
        "      remedy:   run `pulumi destroy` again; what is still there then, delete in the project's "
        "console\n",
    )
    assert changes(canned) == []


def test_kept_volumes_are_named_and_no_failure(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    canned.routes["GET /volumes"] = [listed("volumes", volume(11), volume(12))]
    assert run(capsys, f"{LEAKS} --keep-volumes") == (
        0,
        "kept, and to be paid for until you delete them:\n"
        "  - volume pvc-11 (11)\n"
        "  - volume pvc-12 (12)\n"
        "nothing else of cluster own is left at Hetzner Cloud\n",
        "",
    )


# --- the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [LEAKS, MADE])
def test_a_wrong_token_is_told(
    words: str, canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    canned.routes.clear()
    canned.answers = [error(401, "unauthorized", "unable to authenticate")]
    code, out, err = run(capsys, words)
    assert (code, out) == (1, "")
    assert err.startswith("Hetzner's API at 127.0.0.1 does not know the API token: unable to")


def test_no_token_is_told(
    monkeypatch: pytest.MonkeyPatch, canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HCLOUD_TOKEN")
    code, _, err = run(capsys, LEAKS)
    assert (code, err.splitlines()[0]) == (1, "no API token")
    assert canned.asked == []


@pytest.mark.parametrize("name", ["", "a,b", "Own", "a=b", "-a", "a" * 64])
def test_a_name_that_would_widen_the_search_is_refused(
    name: str, canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["leaks", "--", name])
    assert "is not a cluster's name" in capsys.readouterr().err
    assert canned.asked == []


# --- at the stand-in ---------------------------------------------------------------------------------


def test_a_cluster_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)
    with standin(tmp_path) as hetzner:
        monkeypatch.setenv("HCLOUD_ENDPOINT", hetzner.endpoint)
        project = Project(connect(TOKEN, hetzner.endpoint))
        network, other = project.network("own", OURS), project.network("other", {})
        project.balancer("ours", network, SERVICE)
        project.balancer("theirs", other, SERVICE)
        project.balancer("ingress", network, OURS)
        project.volume("free", CSI)
        project.volume("attached", CSI, project.server("own-w1"))
        project.volume("theirs", {**CSI, "own-kubernetes/cluster": "other"})
        code, out, _ = run(capsys, f"made own --network {network.id}")
        assert (code, [line.rpartition(" (")[0] for line in out.splitlines()]) == (
            0,
            ["deleted load balancer ours", "deleted volume free", "deleted volume attached"],
        )
        assert run(capsys, f"made own --network {network.id}")[:2] == (0, "")
        code, _, err = run(capsys, LEAKS)
        names = [line.rpartition(" (")[0] for line in err.splitlines() if "  - " in line]
        assert (code, names) == (
            1,
            ["  - server own-w1", "  - network own", "  - load balancer ingress"],
        )
        assert run(capsys, "leaks another")[0] == 0


@dataclass(frozen=True)
class Project:
    """Fills a project at the stand-in."""

    client: Client

    def network(self, name: str, labels: dict[str, str]) -> BoundNetwork:
        subnet = NetworkSubnet("10.78.0.0/24", type="cloud", network_zone="eu-central")
        return self.client.networks.create(name, "10.78.0.0/16", [subnet], labels=labels)

    def balancer(self, name: str, network: BoundNetwork, labels: dict[str, str]) -> None:
        self._wait(
            self.client.load_balancers.create(
                name,
                LoadBalancerType(name="lb11"),
                location=Location(name="fsn1"),
                labels=labels,
                network=network,
            ).action
        )

    def server(self, name: str) -> BoundServer:
        made = self.client.servers.create(
            name,
            ServerType(name="cx23"),
            Image(name="debian-12"),
            location=Location(name="fsn1"),
            labels=OURS,
        )
        self._wait(made.action, *made.next_actions)
        return made.server

    def volume(self, name: str, labels: dict[str, str], server: BoundServer | None = None) -> None:
        place = None if server else Location(name="fsn1")
        # The client takes the labels as they are, whatever its annotation says.
        made = self.client.volumes.create(10, name, labels, place, server)  # type: ignore[arg-type]
        self._wait(made.action, *made.next_actions)

    def _wait(self, *actions: BoundAction | None) -> None:
        for action in actions:
            if action:
                action.wait_until_finished()


def test_a_server_goes_and_may_be_gone(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    open_to_all = {"delete": False, "rebuild": False}
    canned.routes |= {
        "GET /servers/9": [Answer(200, {"server": {"protection": open_to_all}}), GONE],
        "DELETE /servers/9": [Answer(200, action("success", command="delete_server"))],
    }
    assert run(capsys, "server own --id 9") == (0, "deleted server of cluster own (9)\n", "")
    assert run(capsys, "server own --id 9") == (0, "gone already: server of cluster own (9)\n", "")


def test_what_protects_a_control_plane_from_others_is_lifted_first(
    canned: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    protection = {"delete": True, "rebuild": True}
    canned.routes |= {
        "GET /servers/9": [Answer(200, {"server": {"protection": protection}})],
        "POST /servers/9/actions/change_protection": [Answer(201, action("success"))],
        "DELETE /servers/9": [Answer(200, action("success"))],
    }
    assert run(capsys, "server own --id 9")[0] == 0
    assert changes(canned) == [
        "POST /v1/servers/9/actions/change_protection",
        "DELETE /v1/servers/9",
    ]


UNUSED: dict[str, dict[str, Any]] = {
    "servers": {"private_net": []},
    "networks": {"subnets": [], "servers": []},
    "primary_ips": {"assignee_id": None},
    "firewalls": {"applied_to": []},
    "placement_groups": {"servers": []},
    "load_balancers": {"private_net": [], "services": [], "targets": []},
    "floating_ips": {"server": None},
}
USED: dict[str, dict[str, Any]] = {
    "servers": {"private_net": [{"network": 1}]},
    "networks": {"subnets": [{"ip_range": "10.0.0.0/16"}], "servers": []},
    "primary_ips": {"assignee_id": 4},
    "firewalls": {"applied_to": [{"type": "server"}]},
    "placement_groups": {"servers": [4]},
    "load_balancers": {"private_net": [], "services": [], "targets": [{"type": "server"}]},
    "floating_ips": {"server": 4},
}


@pytest.mark.parametrize("kind", sorted(UNUSED))
def test_what_a_lost_answer_left_is_deleted_unless_it_is_used(canned: CannedApi, kind: str) -> None:
    place = (TOKEN, canned.url, "own", kind, "own-x")
    thing = {"id": 9, "name": "own-x", "labels": OURS}
    canned.routes[f"GET /{kind}"] = [listed(kind, thing | USED[kind])]
    assert not sweep.left_over(*place)
    assert changes(canned) == []
    canned.routes[f"GET /{kind}"] = [listed(kind, thing | UNUSED[kind])]
    canned.routes["GET /servers/9"] = [Answer(200, {"server": {"protection": {"delete": False}}})]
    canned.routes[f"DELETE /{kind}/9"] = [DELETED]
    assert sweep.left_over(*place)
    assert changes(canned) == [f"DELETE /v1/{kind}/9"]


def test_an_ssh_key_of_another_is_left_alone(canned: CannedApi) -> None:
    key = {"id": 9, "name": "own", "labels": OURS, "public_key": "ssh-ed25519 AAAA me"}
    canned.routes["GET /ssh_keys"] = [listed("ssh_keys", key)]
    canned.routes["DELETE /ssh_keys/9"] = [DELETED]
    place = (TOKEN, canned.url, "own", "ssh_keys", "own")
    assert not sweep.left_over(*place, "ssh-ed25519 BBBB")
    assert sweep.left_over(*place, "ssh-ed25519 AAAA")
