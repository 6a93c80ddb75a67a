"""The dev stack on sandbox machines, from bare hosts to the page and back, on every engine there is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import bom, versions
from sandbox import dev, machines, site
from sandbox.engine import Engine, EngineError
from sandbox.engine.real import RealEngine
from sandbox.engine.standin import StandinEngine
from tests.live.cluster import (
    ENGINES,
    FOUND,
    Run,
    eventually,
    heads_of_secrets,
    here,
    in_pod,
    keep_kubeconfig,
    kubectl,
    on,
    pods_by_node,
    ready,
    sandbox,
    shows_logs,
)
from tests.trust import cis
from tests.trust.needles import Needles
from tests.trust.secrets import Sight, all_secrets, searched, watched

OUTSIDE = IPv4Address("10.77.0.250")
NODES = ("cp1", "w1", "w2")
DNS_SERVICE = "10.96.0.10"

DNS_QUERY = """
import socket, struct
name = b"".join(bytes([len(p)]) + p for p in b"hello-world.hello-world.svc.cluster.local".split(b"."))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + name + bytes([0, 0, 1, 0, 1]), ("%s", 53))
print(socket.inet_ntoa(s.recv(512)[-4:]))
"""
"""Asks the cluster's DNS for the Service's address, without a resolver library."""


@dataclass
class Stack:
    """A stack that is up, how its hosts were found, and what was to be seen as it came up."""

    engine: Engine
    outputs: dict[str, Any]
    found: dict[str, str]
    sight: Sight


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with sandbox(request.param) as kind:
        engine = kind()
        dev.start_site()
        found = {name: on(name, FOUND) for name in NODES}
        with watched(NODES) as sight:
            outputs = engine.up(sight.log)
        keep_kubeconfig(outputs["kubeconfig"])
        yield Stack(engine, outputs, found, sight)


def test_the_page_answers_by_host_name_at_the_ingress(stack: Stack) -> None:
    status, body = dev.get(stack.outputs["ingressAddress"], "hello.example.com")
    assert (status, body.splitlines()[0]) == (200, "Hello, world!")
    assert stack.outputs["url"] == "http://hello.example.com/"
    assert stack.outputs["dnsRecord"] == f"hello.example.com. A {stack.outputs['ingressAddress']}"


def test_another_host_name_is_not_found(stack: Stack) -> None:
    assert dev.get(stack.outputs["ingressAddress"], "other.example.com")[0] == 404


def test_the_service_answers_at_its_own_address(stack: Stack) -> None:
    assert stack.outputs["serviceAddress"] != stack.outputs["ingressAddress"]
    status, body = dev.get(stack.outputs["serviceAddress"], "anything")
    assert (status, body.splitlines()[0]) == (200, "Hello, world!")


def test_every_node_is_ready_at_the_wanted_version(stack: Stack) -> None:
    nodes = kubectl("get", "nodes")["items"]
    assert sorted(node["metadata"]["name"] for node in nodes) == sorted(NODES)
    assert all(map(ready, nodes))
    assert {n["status"]["nodeInfo"]["kubeletVersion"] for n in nodes} == {f"v{versions.KUBERNETES}"}
    assert kubectl("get", "node", "w2")["metadata"]["labels"]["example.com/disk"] == "fast"


def test_pods_reach_pods_on_other_nodes_and_dns(stack: Stack) -> None:
    pods = pods_by_node("hello-world")
    assert len(pods) == 2, "the page's pods are spread over the nodes"
    one, other = pods.values()
    address = other["status"]["podIP"]
    assert "Hello, world!" in in_pod(
        one, one["spec"]["nodeName"], f"curl -sS --max-time 5 http://{address}:8080/"
    )
    service = kubectl("--namespace=hello-world", "get", "service", "hello-world")
    answer = in_pod(one, one["spec"]["nodeName"], f"python3 -c '{DNS_QUERY % DNS_SERVICE}'")
    assert answer == service["spec"]["clusterIP"]


def api_answers(run: Run) -> bool:
    url = "https://10.77.0.11:6443/version"
    return run(["curl", "--silent", "--insecure", "--max-time", "3", url]).returncode == 0


def test_the_api_answers_administrators_and_nodes_and_nobody_else(stack: Stack) -> None:
    assert api_answers(here)
    assert api_answers(lambda words: machines.ssh("w1", " ".join(words), check=False))
    with machines.outsider(OUTSIDE) as run:
        assert run(["bash", "-c", "</dev/tcp/10.77.0.11/22"]).returncode == 0, "SSH is open to it"
        assert not api_answers(run)


def test_kube_proxy_answers_arp_strictly(stack: Stack) -> None:
    config = kubectl("--namespace=kube-system", "get", "configmap", "kube-proxy")["data"]
    assert yaml.safe_load(config["config.conf"])["ipvs"]["strictARP"] is True


def test_no_join_secret_is_left(stack: Stack) -> None:
    secrets = kubectl("--namespace=kube-system", "get", "secrets")["items"]
    assert [s for s in secrets if s["type"] == "bootstrap.kubernetes.io/token"] == []
    for name in NODES:
        left = "find /run/own-kubernetes -name 'join*' -o -name discovery.yaml -o -name '*key*'"
        assert on(name, left) == ""
        keys = "grep -rlE 'BEGIN ([A-Z]+ )?PRIVATE KEY' /run/own-kubernetes /root || true"
        assert on(name, keys) == ""
    assert site.KUBECONFIG.stat().st_mode & 0o077 == 0


def test_the_bill_of_materials_has_every_image_that_runs_with_its_digest(stack: Stack) -> None:
    specs = [pod["spec"] for pod in kubectl("get", "pods", "--all-namespaces")["items"]]
    containers = [c for s in specs for c in (*s["containers"], *s.get("initContainers", []))]
    running = {whole_name(container["image"]) for container in containers}
    # Kubelets tell of a new image with a delay.
    assert eventually(lambda: running <= billed(stack.outputs["kubeconfig"]), 120)


def billed(kubeconfig: str) -> set[str]:
    """The images in the bill of materials that have digests."""
    bill = json.loads(bom.text(site.ROOT / "Pulumi.dev.yaml", kubeconfig))
    return {f"{c['name']}:{c['version']}" for c in bill["components"] if "hashes" in c}


def whole_name(image: str) -> str:
    """An image's name with the registry that it has by default."""
    return image if "." in image.partition("/")[0] else f"docker.io/{image}"


def test_no_secret_is_where_others_could_look(stack: Stack) -> None:
    secrets = all_secrets(NODES, stack.sight)
    needles = Needles(secrets)
    assert "kubeconfig" in needles.within(stack.outputs["kubeconfig"].encode()), "it would be found"
    for known in (
        "cp1:/etc/kubernetes/pki/ca.key",
        "cp1:/etc/kubernetes/pki/encryption.yaml",
        "w1:/var/lib/kubelet/pki/",
        "in flight: w1:/run/",
    ):
        assert any(name.startswith(known) for name in secrets), known
    assert any(b"kubeadm\0join" in words for words in stack.sight.watch.command_lines)
    assert [place for place in searched(NODES, needles, stack.sight) if place.hits] == []


def test_the_hosts_keys_can_do_nothing_else(stack: Stack) -> None:
    """Tried with a key of the test's own that is let in on the same terms as a worker's."""
    terms = on("cp1", "grep 'door.sh worker' /root/.ssh/authorized_keys").partition(" ssh-")[0]
    on(
        "cp1",
        "ssh-keygen -q -t ed25519 -N '' -C tried -f /root/key && "
        f"echo '{terms}' $(cat /root/key.pub) >>/root/.ssh/authorized_keys",
    )
    ssh = "ssh -i /root/key -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no"
    for request in ("cat /etc/kubernetes/admin.conf", "keys", "cluster; id", ""):
        asked = machines.ssh("cp1", f"{ssh} root@10.77.0.11 {request!r}", check=False)
        assert asked.returncode != 0, request
        assert asked.stdout == "", request
        assert "this key is for hosts of the cluster only" in asked.stderr, request
    on(
        "cp1",
        "rm -f /root/key* /root/.ssh/known_hosts; sed -i '/ tried$/d' /root/.ssh/authorized_keys",
    )


AUDIT_LOG = "/var/log/own-kubernetes/audit/audit.log"


def test_secrets_are_encrypted_in_etcd_and_not_in_the_audit_log(stack: Stack) -> None:
    kubectl("create", "secret", "generic", "told", "--from-literal=word=not-to-be-told")
    assert heads_of_secrets("cp1") == {"k8s:enc:secretbox:v1:key"}
    assert kubectl("get", "secret", "told")["data"]["word"] == "bm90LXRvLWJlLXRvbGQ="
    assert on("cp1", f"grep -c secrets/told {AUDIT_LOG}") != "0"
    for word in ("not-to-be-told", "bm90LXRvLWJlLXRvbGQ"):
        assert on("cp1", f"grep -c {word} {AUDIT_LOG}", check=False) == "0"


def test_what_kubelets_serve_is_signed_by_the_cluster(stack: Stack) -> None:
    for name in NODES:
        assert eventually(lambda name=name: shows_logs(name), 60), name  # type: ignore[misc]


def test_the_cis_benchmark_fails_nowhere_without_a_reason(stack: Stack) -> None:
    found = cis.look(["cp1"], NODES)
    assert {f.id for f in found if f.verdict == "FAIL"} <= cis.REASONED_FAILURES
    assert sum(f.verdict == "PASS" for f in found) > 90


def running_state() -> dict[str, str]:
    """What a run that changes nothing leaves as it is: boots, containers, files, objects."""
    files = (
        "find /etc /usr/local/lib/own-kubernetes -xdev -type f | sort | xargs -d '\\n' sha256sum"
    )
    hosts = {
        name: on(name, f"cat /proc/sys/kernel/random/boot_id; crictl ps -q | sort; {files}")
        for name in NODES
    }
    kinds = "deployments,daemonsets,services,ingresses,ipaddresspools.metallb.io"
    objects = kubectl("get", kinds, "--all-namespaces")["items"]
    generations = {o["metadata"]["uid"]: o["metadata"].get("generation") for o in objects}
    return {**hosts, "objects": json.dumps(generations, sort_keys=True)}


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    before = running_state()
    if isinstance(stack.engine, RealEngine):
        assert set(stack.engine.preview()) == {"same"}
    again = stack.engine.up()
    assert again["ingressAddress"] == stack.outputs["ingressAddress"]
    assert running_state() == before


def test_hosts_are_still_right_after_a_reboot(stack: Stack) -> None:
    for name in ("cp1", "w1"):
        machines.reboot(name)
    assert eventually(lambda: all(map(ready, kubectl("get", "nodes")["items"])))
    for name in ("cp1", "w1"):
        assert on(name, "cat /proc/swaps | wc -l") == "1", "a heading only"
        assert on(name, "grep -c '^[^#].*swap' /etc/fstab", check=False) == "0"
        forward = "net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables"
        assert on(name, f"sysctl -n {forward}").split() == ["1", "1"]
        assert on(name, "systemctl is-active containerd kubelet") == "active\nactive"
        modules = on(name, "cat /etc/modules-load.d/own-kubernetes.conf").split()
        assert modules == ["overlay", "br_netfilter"]
        assert on(name, "systemctl is-failed systemd-modules-load", check=False) != "failed"
    with machines.outsider(OUTSIDE) as run:
        assert not api_answers(run)
    assert dev.fetch_page(stack.outputs["ingressAddress"], "hello.example.com", 120)


def test_an_unreachable_host_is_named(stack: Stack, tmp_path: Path) -> None:
    for name in ("__main__.py", "cluster", "Pulumi.yaml", ".venv", ".sandbox"):
        (tmp_path / name).symlink_to(site.ROOT / name)
    file = yaml.safe_load((site.ROOT / "Pulumi.dev.yaml").read_text())
    host_key = machines.host_key("cp1")
    gone = {"role": "control-plane", "address": "10.77.0.99", "hostKey": host_key}
    file["config"] |= {
        "own-kubernetes:nodes": {"gone": gone},
        "own-kubernetes:scheduleOnControlPlanes": True,
        "own-kubernetes:sshTimeoutSeconds": 8,
    }
    (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump(file))
    kind = RealEngine if isinstance(stack.engine, RealEngine) else StandinEngine
    other = kind(tmp_path, tmp_path / "engine")
    told: list[str] = []
    began = time.monotonic()
    with pytest.raises(EngineError) as caught:
        other.up(told.append)
    assert time.monotonic() - began < 8 + 200, "not the 300 s of the default"
    text = "\n".join([*told, str(caught.value)])
    assert "gone: no SSH login as root at 10.77.0.99 port 22, tried for up to 8 s" in text


def test_down_leaves_the_hosts_as_they_were_found(stack: Stack) -> None:
    stack.engine.down()
    for name in NODES:
        assert on(name, FOUND).splitlines() == stack.found[name].splitlines()
