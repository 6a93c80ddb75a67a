"""How a node gets another version (upgrade.sh), and how one is taken out of its cluster (remove.sh)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.exits import NO_CLUSTER, NOT_WELL
from tests.unit.hosts import ADMITTED, DOOR_KEY, PEERS, Host
from tests.unit.test_door import ETCD, MEMBERS

STATE = "/var/lib/own-kubernetes"
CONFIG = "/etc/own-kubernetes"
OLD, NEW = "1.36.3", "1.36.4"

SETTINGS = "d1g3st"
EXPIRIES = ("2027-05-02T10:00:00Z", "2027-05-01T10:00:00Z", "2036-01-01T00:00:00Z")

# A node as upgrade.sh sees it: packages have versions, a kubelet that is restarted runs its package's, the
# cluster notes a version, settings, and whether the node is cordoned.

DPKG_QUERY = """\
[[ $* != *Status* ]] || printf 'installed '
printf %s-1.1 "$(cat "/etc/packages/${@: -1}")"
"""
APT_GET = """\
[[ $* == *' install '* ]] || exit 0
for word in "$@"; do
  [[ $word != kube*=* ]] || { version=${word#*=}; echo "${version%-*}" >"/etc/packages/${word%%=*}"; }
done"""
SYSTEMCTL = "[[ $* != 'restart kubelet' ]] || cat /etc/packages/kubelet >/etc/running"
KUBECTL = """\
case $* in
  *readyz*) ;;
  *ClusterConfiguration*) echo "apiVersion: x"; echo "kubernetesVersion: v$(cat /etc/noted)" ;;
  *kubeletVersion*) echo "v$(cat /etc/running)" ;;
  *Ready*) cat /etc/node-is-ready ;;
  *' configmap kube-proxy '*) cat /etc/cluster/kube-proxy ;;
  *unschedulable*) cat /etc/cordoned 2>/dev/null || true ;;
  *' cordon '*) echo true >/etc/cordoned ;;
  *' uncordon '*) rm -f /etc/cordoned ;;
esac"""
KUBEADM = """\
case $* in
  'upgrade apply'*) cat "${5#--config=}" >/etc/seen.yaml; echo "${3#v}" >/etc/noted ;;
  'upgrade node --config'*) cat "${3#--config=}" >/etc/seen.yaml ;;
  'upgrade node phase kubelet-config') cat /etc/cluster/kubelet >/var/lib/kubelet/config.yaml ;;
  'init phase upload-config all'*) grep kubelet "${5#--config=}" >/etc/cluster/kubelet ;;
  'init phase addon kube-proxy'*) grep proxy "${5#--config=}" >/etc/cluster/kube-proxy ;;
  'certs check-expiration'*) printf '{"expirationDate": "%s"}' EXPIRIES ;;
esac""".replace("EXPIRIES", " ".join(EXPIRIES))


@pytest.fixture
def node(tmp_path: Path) -> Host:
    """A Ready node of the old version in a cluster of that version."""
    host = Host(tmp_path)
    for package in ("kubeadm", "kubelet", "kubectl"):
        host.write(f"/etc/packages/{package}", OLD)
    for path in ("/etc/noted", "/etc/running"):
        host.write(path, f"{OLD}\n")
    host.write("/etc/node-is-ready", "True\n")
    host.write(f"{CONFIG}/upgrade.yaml", "kubernetesVersion: '@VERSION@'\n")
    host.write(f"{CONFIG}/init.yaml", "kubernetesVersion: v0.0.0\nkubelet: 1\nproxy: 1\n")
    for path in ("/etc/cluster/kubelet", "/var/lib/kubelet/config.yaml"):
        host.write(path, "kubelet: 1\n")
    host.write("/etc/cluster/kube-proxy", "proxy: 1\n")
    host.write(f"{STATE}/stage", "member\n")
    host.write(f"{STATE}/settings", f"{SETTINGS}\n")
    host.path("/run/own-kubernetes").mkdir(parents=True)
    host.on_network("10.0.0.12")
    host.command("dpkg-query", DPKG_QUERY)
    host.command("apt-get", APT_GET)
    host.command("systemctl", SYSTEMCTL)
    host.command("kubectl", KUBECTL)
    host.command("kubeadm", KUBEADM)
    host.peers(
        {
            "10.0.0.11 drain*": "echo true >/etc/cordoned",
            "10.0.0.11 uncordon*": "rm -f /etc/cordoned",
        }
    )
    host.sooner("upgrade.sh", "STEADY=15", "STEADY=1")
    return host


ROLES = {"control-plane": "cp2", "worker": "w1"}


def upgrade(
    host: Host, role: str = "worker", version: str = NEW, **env: str
) -> subprocess.CompletedProcess[str]:
    given = {"ROLE": role, "NODE": ROLES[role], "KUBERNETES_VERSION": version, "SETTINGS": SETTINGS}
    given |= env
    return host.run("upgrade.sh", stdin=PEERS + ADMITTED + DOOR_KEY, env=given)


def steps(host: Host) -> list[str]:
    """What was done to the node, in order."""
    found = []
    for call in host.calls:
        command, *words = call.split()
        if command == "apt-get" and "install" in words:
            found.append(f"install {' '.join(word for word in words if word.startswith('kube'))}")
        elif command == "kubeadm" and words[:2] != ["certs", "check-expiration"]:
            found.append(" ".join(word for word in words if not word.startswith("--config=")))
        elif command == "kubectl" and {"cordon", "drain", "uncordon", "rollout"} & set(words):
            found.append(" ".join(word for word in words if not word.startswith("--")))
        elif command == "ssh":
            found.append(call.rpartition("root@")[2])
        elif call == "systemctl restart kubelet":
            found.append("restart kubelet")
    return found


def is_upgraded(host: Host, version: str = NEW) -> None:
    versions = {
        host.read(f"/etc/packages/{name}").strip() for name in ("kubeadm", "kubelet", "kubectl")
    }
    assert versions == {version}
    assert host.read("/etc/running").strip() == version
    assert not host.path(f"{STATE}/upgrading").exists()
    assert not host.path(f"{STATE}/cordoned").exists()
    assert host.secrets() == []


# --- upgrade.sh --------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", ["True", "False", ""])
@pytest.mark.parametrize("role", ROLES)
def test_a_node_of_the_version_is_left_alone(node: Host, role: str, ready: str) -> None:
    """One of a new cluster, too, that can't be Ready before the pods' network is there."""
    node.write("/etc/node-is-ready", f"{ready}\n")
    done = upgrade(node, role, OLD)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(node) == []
    assert not node.path("/etc/cordoned").exists()
    is_upgraded(node, OLD)


def test_the_first_control_plane_takes_the_cluster_along(node: Host) -> None:
    done = upgrade(node, "control-plane")
    assert done.returncode == 0, done.stderr
    assert steps(node) == [
        f"install kubeadm={NEW}-*", f"upgrade plan v{NEW}", f"upgrade apply v{NEW} --yes",
        "cordon cp2", "drain cp2",
        f"install kubelet={NEW}-* kubectl={NEW}-*", "restart kubelet", "uncordon cp2",
    ]  # fmt: skip
    assert node.read("/etc/seen.yaml") == f"kubernetesVersion: 'v{NEW}'\n"
    assert f"Kubernetes {OLD} to {NEW}\n" in done.stderr
    is_upgraded(node)


def test_further_control_planes_follow(node: Host) -> None:
    node.write("/etc/noted", f"{NEW}\n")
    done = upgrade(node, "control-plane")
    assert done.returncode == 0, done.stderr
    assert "upgrade node" in steps(node)
    assert not [step for step in steps(node) if "apply" in step or "plan" in step]
    is_upgraded(node)


def test_a_worker_is_drained_by_a_control_plane(node: Host) -> None:
    """It has no right to drain itself."""
    node.write("/etc/noted", f"{NEW}\n")
    done = upgrade(node, DRAIN_SECONDS="90")
    assert done.returncode == 0, done.stderr
    assert steps(node) == [
        f"install kubeadm={NEW}-*", "upgrade node", "10.0.0.11 drain w1 90",
        f"install kubelet={NEW}-* kubectl={NEW}-*", "restart kubelet", "10.0.0.11 uncordon w1",
    ]  # fmt: skip
    is_upgraded(node)


def test_a_worker_never_asks_what_the_cluster_notes(node: Host) -> None:
    """Its credentials would not do, and it has none of an administrator's."""
    upgrade(node)
    for call in node.called("kubectl"):
        assert "kubelet.conf" in call
        assert "admin.conf" not in call


def test_a_worker_asks_the_next_control_plane_where_one_is_not_well(node: Host) -> None:
    node.peers(
        {
            "10.0.0.11 *": f"exit {NOT_WELL}",
            "10.0.0.13 drain*": "echo true >/etc/cordoned",
            "10.0.0.13 uncordon*": "rm -f /etc/cordoned",
        }
    )
    done = upgrade(node)
    assert done.returncode == 0, done.stderr
    asked = [request.partition("@")[2] for request in node.asked]
    hosts = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
    assert asked == [f"{host} {verb}" for verb in ("drain w1 300", "uncordon w1") for host in hosts]


@pytest.mark.parametrize("version", ["1.36.2", "1.35.9", "1.35.10"])
@pytest.mark.parametrize("role", ROLES)
def test_there_is_no_way_back(node: Host, role: str, version: str) -> None:
    done = upgrade(node, role, version)
    assert done.returncode == 1
    assert f"this node runs Kubernetes {OLD}, wanted is {version}" in done.stderr
    assert f"set kubernetesVersion to {OLD} or newer" in done.stderr
    assert steps(node) == []
    assert not node.path(f"{STATE}/upgrading").exists()


@pytest.mark.parametrize(("version", "taken"), [("1.37.0", True), ("1.38.0", False)])
def test_minors_are_taken_one_by_one(node: Host, version: str, taken: bool) -> None:
    done = upgrade(node, "control-plane", version)
    assert (done.returncode == 0) == taken
    if not taken:
        assert "expected: one minor version at a time" in done.stderr
        assert steps(node) == []


def test_versions_are_numbers(node: Host) -> None:
    node.write("/etc/packages/kubelet", "1.36.9")
    assert upgrade(node, version="1.36.10").returncode == 0
    is_upgraded(node, "1.36.10")


FAILING = {
    "kubeadm": ("apt-get", "[[ $* != *' kubeadm='* ]]"),
    "drain": ("kubectl", "[[ $* != *' drain '* ]]"),
    "apply": ("kubeadm", "[[ $* != *' apply '* ]]"),
    "kubelet": ("apt-get", "[[ $* != *' kubelet='* ]]"),
    "restart": ("systemctl", "[[ $* != 'restart kubelet' ]]"),
    "uncordon": ("kubectl", "[[ $* != *' uncordon '* ]]"),
}
STUBS = {"apt-get": APT_GET, "kubectl": KUBECTL, "kubeadm": KUBEADM, "systemctl": SYSTEMCTL}


@pytest.mark.parametrize("at", FAILING)
def test_a_run_that_broke_off_is_gone_on_with(node: Host, at: str) -> None:
    node.command("sleep", ":")
    for script, bound in (
        ("packages.sh", "retry 120"),
        ("upgrade.sh", "wait_for 300"),
        ("upgrade.sh", "retry 60"),
    ):
        node.sooner(script, bound, f"{bound.split()[0]} 0")
    command, condition = FAILING[at]
    node.command(command, f"{condition} || exit 1\n{STUBS[command]}")
    done = upgrade(node, "control-plane")
    assert done.returncode != 0, done.stderr
    assert node.path(f"{STATE}/upgrading").exists()
    assert node.secrets() == []
    node.command(command, STUBS[command])
    done = upgrade(node, "control-plane")
    assert done.returncode == 0, done.stderr
    assert node.read("/etc/noted").strip() == NEW
    assert not node.path("/etc/cordoned").exists(), "it was cordoned by us"
    is_upgraded(node)


def test_a_node_that_does_not_come_back_stays_cordoned_and_is_told(node: Host) -> None:
    node.sooner("upgrade.sh", "wait_for 300", "wait_for 0")
    node.command(
        "systemctl",
        f"{SYSTEMCTL}; [[ $* != 'restart kubelet' ]] || echo Unknown >/etc/node-is-ready",
    )
    done = upgrade(node)
    assert done.returncode == 1
    assert f"node w1 is not Ready with {NEW}" in done.stderr
    assert node.path("/etc/cordoned").exists()
    node.write("/etc/node-is-ready", "True\n")
    node.command("systemctl", SYSTEMCTL)
    assert upgrade(node).returncode == 0
    assert not node.path("/etc/cordoned").exists()
    is_upgraded(node)


def test_the_kubelet_that_counts_is_the_one_that_runs(node: Host) -> None:
    """One that was not restarted is not upgraded, whatever is installed."""
    node.sooner("upgrade.sh", "wait_for 300", "wait_for 0")
    node.command("systemctl", ":")
    done = upgrade(node)
    assert done.returncode == 1
    assert f"node w1 is not Ready with {NEW}" in done.stderr


def test_a_control_plane_that_does_not_stay_well_holds_the_next_one_up(node: Host) -> None:
    """Its new kubelet starts etcd anew, and another member must not go at the same time."""
    node.sooner("upgrade.sh", "SECONDS + 300", "SECONDS + 2")
    node.command("crictl", "[[ $1 != exec ]]")
    done = upgrade(node, "control-plane")
    assert done.returncode == 1
    assert "API server or etcd of cp2 do not stay well" in done.stderr
    assert node.path("/etc/cordoned").exists()
    node.command("crictl", ":")
    assert upgrade(node, "control-plane").returncode == 0
    is_upgraded(node)


@pytest.mark.parametrize("broken_off", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_a_node_that_somebody_else_cordoned_stays_so(
    node: Host, role: str, broken_off: bool
) -> None:
    node.write("/etc/cordoned", "true\n")
    if broken_off:
        node.command("kubeadm", "exit 1")
        assert upgrade(node, role).returncode != 0
        node.command("kubeadm", KUBEADM)
    done = upgrade(node, role)
    assert done.returncode == 0, done.stderr
    assert node.path("/etc/cordoned").exists()
    assert not [step for step in steps(node) if "uncordon" in step]
    is_upgraded(node)


@pytest.mark.parametrize("role", ROLES)
def test_a_drain_that_budgets_forbid_is_told_with_pod_and_remedy(node: Host, role: str) -> None:
    reason = "echo 'error when evicting pods/web-0: would violate the budget' >&2; exit 1"
    node.command("kubectl", KUBECTL.replace("case $* in", f"case $* in\n*' drain '*) {reason} ;;"))
    node.peers({"10.0.0.11 drain*": f"echo true >/etc/cordoned; {reason}"})
    done = upgrade(node, role, DETAIL=str(node.path("/detail")))
    name = ROLES[role]
    assert done.returncode == 1
    assert f"node {name} is not drained after 300 s; it stays cordoned" in done.stderr
    assert "expected: every pod evicted within its disruption budget" in done.stderr
    assert "raise drainTimeoutSeconds" in done.stderr
    assert "error when evicting pods/web-0" in done.stderr
    assert node.path("/etc/cordoned").exists()
    assert not [step for step in steps(node) if "kubelet" in step], "its pods are still there"


def test_an_upgrade_shows_no_secret(node: Host) -> None:
    done = upgrade(node)
    assert not [call for call in node.calls if "PRIVATE" in call]
    assert "PRIVATE" not in done.stdout + done.stderr


def test_a_control_plane_tells_when_its_first_certificate_expires(node: Host) -> None:
    for version in (OLD, NEW):
        assert upgrade(node, "control-plane", version).stdout == f"{min(EXPIRIES)}\n"
    assert upgrade(node, "worker", NEW).stdout == ""


# --- upgrade.sh: settings ------------------------------------------------------------------------

WANTED = {"SETTINGS": "an0ther"}
"""Settings that the node does not have."""


@pytest.fixture
def edited(node: Host) -> Host:
    """The node, where another setting of all kubelets is wanted."""
    node.write(f"{CONFIG}/init.yaml", "kubernetesVersion: v0.0.0\nkubelet: 2\nproxy: 1\n")
    return node


def test_a_control_plane_brings_settings_to_the_cluster_and_to_itself(edited: Host) -> None:
    done = upgrade(edited, "control-plane", OLD, **WANTED)
    assert done.returncode == 0, done.stderr
    assert edited.read("/etc/cluster/kubelet") == "kubelet: 2\n"
    assert edited.read("/var/lib/kubelet/config.yaml") == "kubelet: 2\n"
    assert steps(edited)[-1] == "restart kubelet"
    assert "cordon cp2" not in steps(edited), "pods go on while a kubelet restarts"
    edited.forget_calls()
    assert upgrade(edited, "control-plane", OLD, **WANTED).returncode == 0
    assert steps(edited) == [], "once"


STATIC_PODS = "upgrade node phase control-plane --etcd-upgrade=false --certificate-renewal=false"
WRITE_MANIFESTS = """\
for part in apiserver controller-manager scheduler; do
  echo "      value: d1gest" >"/etc/kubernetes/manifests/kube-$part.yaml"
done"""


def test_a_control_planes_own_settings_are_brought_by_kubeadm(edited: Host) -> None:
    """It goes back to what was there if one of the static pods does not come up."""
    edited.write(
        f"{CONFIG}/init.yaml",
        "    - name: OWN_KUBERNETES_SETTINGS\n      value: d1gest\nkubelet: 1\nproxy: 1\n",
    )
    for part in ("apiserver", "controller-manager", "scheduler"):
        edited.write(f"/etc/kubernetes/manifests/kube-{part}.yaml", "      value: 0ld\n")
    edited.write("/etc/kubernetes/pki/encryption.yaml", "  - identity: {}\n")
    edited.command("crictl", ETCD)
    edited.command("kubeadm", f"[[ $* != {STATIC_PODS!r} ]] || exit 1\n{KUBEADM}")
    done = upgrade(edited, "control-plane", OLD, **WANTED)
    assert done.returncode == 1
    assert "kubeadm has taken them back" in done.stderr
    assert edited.read(f"{STATE}/settings").strip() == SETTINGS, "the next run tries again"
    edited.command("kubeadm", f"[[ $* != {STATIC_PODS!r} ]] || {{ {WRITE_MANIFESTS}\n}}\n{KUBEADM}")
    edited.forget_calls()
    assert upgrade(edited, "control-plane", OLD, **WANTED).returncode == 0
    assert STATIC_PODS in steps(edited)
    assert edited.read(f"{STATE}/encryption") == "identity\n", "the API server has read it"
    edited.forget_calls()
    assert upgrade(edited, "control-plane", OLD, SETTINGS="of-kubelets").returncode == 0
    assert STATIC_PODS not in steps(edited), "they are as they should be"


def test_others_than_root_do_not_read_what_packages_and_kubeadm_leave_open(node: Host) -> None:
    unit = "/usr/lib/systemd/system/kubelet.service"
    opened = [unit, f"{unit}.d/10-kubeadm.conf", "/etc/kubernetes/pki/ca.crt"]
    for path in opened:
        node.write(path, "").chmod(0o644)
    assert upgrade(node, "control-plane", OLD).returncode == 0
    for path in (*opened, "/var/lib/kubelet/config.yaml"):
        assert node.path(path).stat().st_mode & 0o077 == 0, path


def test_a_worker_takes_the_settings_that_the_cluster_has(edited: Host) -> None:
    edited.write("/etc/cluster/kubelet", "kubelet: 2\n")
    done = upgrade(edited, "worker", OLD, **WANTED)
    assert done.returncode == 0, done.stderr
    assert steps(edited) == ["upgrade node phase kubelet-config", "restart kubelet"]
    assert edited.read("/var/lib/kubelet/config.yaml") == "kubelet: 2\n"


def test_a_kubelet_whose_settings_stay_the_same_is_not_restarted(node: Host) -> None:
    assert upgrade(node, "worker", OLD, **WANTED).returncode == 0
    assert steps(node) == ["upgrade node phase kubelet-config"]


@pytest.mark.parametrize("proxy", [1, 2])
def test_kube_proxy_is_restarted_where_its_settings_changed(node: Host, proxy: int) -> None:
    node.write(f"{CONFIG}/init.yaml", f"kubernetesVersion: v0.0.0\nkubelet: 1\nproxy: {proxy}\n")
    assert upgrade(node, "control-plane", OLD, **WANTED).returncode == 0
    restarts = [step for step in steps(node) if "rollout restart daemonset/kube-proxy" in step]
    assert len(restarts) == proxy - 1


def test_settings_that_no_node_lives_with_stop_at_the_first(edited: Host) -> None:
    """What comes after it in the chain keeps its own."""
    edited.sooner("upgrade.sh", "wait_for 300", "wait_for 0")
    edited.write("/etc/node-is-ready", "False\n")
    done = upgrade(edited, "control-plane", OLD, **WANTED)
    assert done.returncode == 1
    assert "node cp2 is not Ready" in done.stderr
    assert edited.read(f"{STATE}/settings").strip() == SETTINGS, "the next run tries again"


# --- upgrade.sh: certificates --------------------------------------------------------------------


@pytest.fixture
def expiring(node: Host) -> Host:
    """A control plane whose API server is not there any more when it was told to end."""
    node.on_network("127.9.8.7")
    node.command("crictl", "[[ $1 != pods ]] || echo pod-1 pod-2; [[ $1 != ps ]] || echo c0ffee")
    return node


def renew(host: Host, role: str = "control-plane", word: str = "today") -> list[str]:
    """What a run that asks for it does."""
    host.forget_calls()
    done = upgrade(host, role, OLD, RENEWAL=word)
    assert done.returncode == 0, done.stderr
    stopped = [
        f"stop {c.partition(' ')[2]}" for c in host.called("crictl") if c.startswith("stopp")
    ]
    return [*steps(host), *stopped]


def test_certificates_are_renewed_once_for_each_word(expiring: Host) -> None:
    assert renew(expiring) == ["certs renew all", "stop pod-1 pod-2"]
    assert renew(expiring) == []
    assert renew(expiring, word="tomorrow") == ["certs renew all", "stop pod-1 pod-2"]


def test_a_run_without_the_word_renews_nothing(expiring: Host) -> None:
    renew(expiring)
    assert upgrade(expiring, "control-plane", OLD).returncode == 0
    assert renew(expiring) == [], "and does not forget it"


def test_a_worker_renews_nothing(expiring: Host) -> None:
    """Its kubelet renews its own."""
    assert renew(expiring, "worker") == []


def test_a_control_plane_is_well_again_before_the_next_one_renews(expiring: Host) -> None:
    expiring.sooner("upgrade.sh", "SECONDS + 300", "SECONDS + 2")
    expiring.command("kubectl", KUBECTL.replace("*readyz*) ;;", "*readyz*) exit 1 ;;"))
    done = upgrade(expiring, "control-plane", OLD, RENEWAL="today")
    assert done.returncode == 1
    expiring.command("kubectl", KUBECTL)
    assert renew(expiring) == ["certs renew all", "stop pod-1 pod-2"], "once more"


# --- remove.sh ---------------------------------------------------------------------------------

CLUSTER = """\
case $* in
  *readyz*) [[ ! -e /etc/api-is-down ]] ;;
  *' get node '*InternalIP*) cat /etc/node-address 2>/dev/null || true ;;
  *' get node '*Ready*) cat /etc/node-is-ready ;;
  *' delete node '*) rm -f /etc/node-address ;;
esac"""


@pytest.fixture
def staying(tmp_path: Path) -> Host:
    """A control plane that stays; cp3, or whatever is asked for, is a Ready node."""
    host = Host(tmp_path)
    host.write(f"{STATE}/stage", "member\n")
    host.write("/etc/node-address", "10.0.0.13")
    host.write("/etc/node-is-ready", "True")
    host.write("/etc/members", MEMBERS)
    host.on_network("10.0.0.11")
    host.command("kubectl", CLUSTER)
    host.command("crictl", f"{ETCD}\n[[ $* != *'member remove c3' ]] || sed -i /^c3/d /etc/members")
    return host


def remove(host: Host, node: str = "cp3", **env: str) -> subprocess.CompletedProcess[str]:
    return host.run("remove.sh", env={"NODE": node, "DRAIN_SECONDS": "90", **env})


def taken(host: Host) -> list[str]:
    """What was done in the cluster, in order."""
    found = []
    for call in host.calls:
        words = [word for word in call.split() if not word.startswith("--")]
        if words[0] == "kubectl" and words[1] in ("cordon", "drain", "delete"):
            found.append(" ".join(words[1:]))
        elif words[0] == "crictl" and "remove" in words:
            found.append(" ".join(words[-3:]))
    return found


def test_a_node_is_taken_out_in_this_order(staying: Host) -> None:
    done = remove(staying)
    assert done.returncode == 0, done.stderr
    assert taken(staying) == ["cordon cp3", "drain cp3", "member remove c3", "delete node cp3"]
    (drain,) = [call for call in staying.called("kubectl") if " drain " in call]
    words = {"--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"}
    assert words <= set(drain.split())
    assert "--request-timeout" not in drain


def test_a_worker_has_no_etcd_member(staying: Host) -> None:
    staying.write("/etc/node-address", "10.0.0.21")
    assert remove(staying, "w1").returncode == 0
    assert taken(staying) == ["cordon w1", "drain w1", "delete node w1"]


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_a_node_that_is_not_ready_is_not_waited_for(staying: Host, ready: str) -> None:
    staying.write("/etc/node-is-ready", ready)
    done = remove(staying)
    assert done.returncode == 0, done.stderr
    assert "node cp3 is not Ready: nothing is drained there" in done.stderr
    assert taken(staying) == ["cordon cp3", "member remove c3", "delete node cp3"]


def test_what_is_gone_already_is_passed_over(staying: Host) -> None:
    for _ in range(2):
        done = remove(staying)
        assert done.returncode == 0, done.stderr
    assert taken(staying).count("member remove c3") == taken(staying).count("drain cp3") == 1


def test_a_member_without_a_node_goes_as_well(staying: Host) -> None:
    """Where a run broke off, or the node was deleted by hand."""
    staying.path("/etc/node-address").unlink()
    assert remove(staying).returncode == 0
    assert taken(staying) == ["member remove c3", "delete node cp3"]


def test_a_drain_that_budgets_forbid_keeps_the_node(staying: Host) -> None:
    reason = "echo 'error when evicting pods/web-0: would violate the budget' >&2; exit 1"
    staying.command(
        "kubectl", CLUSTER.replace("case $* in", f"case $* in\n*' drain '*) {reason} ;;")
    )
    done = remove(staying, DETAIL=str(staying.path("/detail")))
    assert done.returncode == 1
    assert "node cp3 is not drained after 90 s; it stays cordoned" in done.stderr
    assert "give the pods named above more replicas or a wider budget" in done.stderr
    assert "pods/web-0" in done.stderr
    assert taken(staying) == ["cordon cp3", "drain cp3"]


@pytest.mark.parametrize("failing", ["*'member list'", "*'member remove'*"])
def test_a_node_whose_member_etcd_keeps_is_kept(staying: Host, failing: str) -> None:
    """Else a member that nobody knows would count in the quorum for ever."""
    staying.command("crictl", ETCD.replace("case $* in", f"case $* in\n{failing}) exit 1 ;;"))
    done = remove(staying)
    assert done.returncode == 1
    assert "etcd does not let the member of cp3 go" in done.stderr
    assert "bring the other control planes back first" in done.stderr
    assert "delete node cp3" not in taken(staying)


@pytest.mark.parametrize("failing", ["*' get node '*Ready*", "*' get node '*InternalIP*"])
def test_a_node_of_which_nothing_is_known_now_is_kept(staying: Host, failing: str) -> None:
    """It is not taken for one that is gone or dead."""
    staying.command("kubectl", CLUSTER.replace("case $* in", f"case $* in\n{failing}) exit 1 ;;"))
    done = remove(staying)
    assert done.returncode not in (0, NOT_WELL)
    assert not [step for step in taken(staying) if not step.startswith("cordon")]


def test_a_control_plane_that_is_not_well_sends_to_another(staying: Host) -> None:
    staying.sooner("remove.sh", "wait_for 15", "wait_for 0")
    staying.write("/etc/api-is-down", "")
    assert remove(staying).returncode == NOT_WELL
    assert taken(staying) == []


@pytest.mark.parametrize("stage", ["", "init", "join"])
def test_one_that_is_no_member_says_that_it_is_in_no_cluster(staying: Host, stage: str) -> None:
    staying.write(f"{STATE}/stage", stage)
    assert remove(staying).returncode == NO_CLUSTER
    assert taken(staying) == []
