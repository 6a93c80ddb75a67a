"""The faults of the table, each at three points of a run: how it is brought about, and what ends it.

A cell begins on bare machines, on a cluster that is up, or with a worker that is new to one. Its steps begin
a run, let the fault happen at a point of it, and take the fault away. What happens next is the same for all: a
run that failed is run again, and the cluster has to be whole.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox import machines, mirror
from sandbox.engine import stackfile
from sandbox.machines import login
from sandbox.mirror.servers import all_servers
from tests.live.cluster import on
from tests.live.ha_site import members
from tests.trust.place import SHARED_ADDRESS, STACK, THREE, Place
from tests.trust.runs import PointMissedError, RunFailedError, eventually

When = Callable[[Place], bool]
Step = Callable[[Place], object]

OUTAGE_SECONDS = 45
DESTROY_SECONDS = 60


@dataclass(frozen=True)
class Cell:
    """One fault at one point.

    Attributes:
        fault: its number in the table.
        point: early, middle or late.
        what: what is done, for the table.
        start: brings the place to where the cell begins.
        steps: until the fault is over.
        says: what the run has to say as it fails; it need not fail without this.
        finish: what has to hold then; by default that the cluster is whole.
    """

    fault: str
    point: str
    what: str
    start: Callable[[Place], None]
    steps: Sequence[Step]
    says: str = ""
    finish: Callable[[Place], str] | None = None

    @property
    def key(self) -> str:
        """Its name on the command line."""
        return f"{self.fault}:{self.point}"

    def tried(self, place: Place) -> tuple[float, str]:
        """Do all of it.

        Returns:
            Seconds from the end of the fault until all is as it should be, and what that took.

        Raises:
            RunFailedError: it is not.
        """
        self.start(place)
        self.met(place)
        began = time.monotonic()
        took = (self.finish or whole)(place)
        return time.monotonic() - began, took

    def met(self, place: Place) -> None:
        """Do the steps.

        Raises:
            RunFailedError: a point was not met, or the run does not say what it has to.
        """
        for step in self.steps:
            step(place)
        if self.says:
            eventually("the end of the run", lambda: place.run.ended)
            if self.says not in (told := place.run.said):
                raise RunFailedError(f"nothing about {self.says!r} in:\n{told[-2000:]}")


# Where a cell begins


def bare(place: Place) -> None:
    """Fresh machines, and nothing made yet."""
    place.bare()


def living(place: Place) -> None:
    """The cluster is up."""
    if not place.outputs or "cp3" in place.nodes:
        place.bare()
        place.up()


def new_worker(place: Place) -> None:
    """The cluster is up, and the stack file has a worker more, on a fresh machine."""
    living(place)
    place.rebuilt("w2")


def with_worker(place: Place) -> None:
    """The cluster is up with a worker more."""
    living(place)
    if "w2" not in place.nodes:
        place.rebuilt("w2")
        place.up()


def three(place: Place) -> None:
    """Three bare control planes behind one address."""
    place.bare(THREE, apiVirtualAddress=SHARED_ADDRESS, scheduleOnControlPlanes=True)


def three_up(place: Place) -> None:
    """Three control planes, up."""
    if "cp3" not in place.nodes or not place.outputs:
        three(place)
        place.up()


# Points


def phase(machine: str, name: str) -> When:
    """A phase runs on a machine."""
    return lambda place: place.running(machine, name)


def begun(resource: str) -> When:
    """The engine has begun with a resource."""
    return lambda place: place.run.begun(resource)


def there(machine: str, path: str) -> When:
    """A file is on a machine."""
    return lambda place: on(machine, f"test -e {path} && echo yes", check=False) == "yes"


def pending(namespace: str, status: str) -> When:
    """Helm works on a release, as the cluster itself tells."""
    ask = (
        f"kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace={namespace} get secrets "
        f"--selector=owner=helm,status={status} --output=name"
    )
    return lambda place: "secret/" in on("cp1", ask, check=False)


# Steps


def up(place: Place) -> None:
    """Begin a run, if none is under way."""
    if not place.runs or place.run.ended:
        place.begin()


def until(when: When) -> Step:
    """Wait for a point of the run."""

    def wait(place: Place) -> None:
        eventually("the point", lambda: when(place) or place.run.ended, 240)
        if not when(place) and place.run.ended:
            raise PointMissedError(f"ended before the point:\n{place.run.tail()}")

    return wait


def pause(seconds: float) -> Step:
    """Let time pass."""
    return lambda place: time.sleep(seconds)


def ended(place: Place) -> None:
    """Wait for the run's end."""
    eventually("the end of the run", lambda: place.run.ended, 400)


def killed(place: Place) -> None:
    """``kill -9`` of the program and its engine."""
    place.run.kill()


def shell(machine: str, line: str) -> Step:
    """Run a line on a machine, whatever comes of it."""
    return lambda place: on(machine, line, check=False)


def link(machine: str, *, up: bool) -> Step:
    """Pull a machine's cable, or put it back."""
    return lambda place: (machines.link_up if up else machines.link_down)(machine)


def no_sessions(machine: str) -> Step:
    """Kill every SSH session of a machine; what they started is not theirs."""
    return lambda place: console(machine, "pkill -KILL -f '^sshd: root'")


def console(machine: str, line: str) -> str:
    """Run a line on a machine without SSH, once it has booted."""
    eventually(f"the console of {machine}", lambda: _is_on(machine))
    words = login._console(machine)
    return subprocess.run([*words, line], capture_output=True, text=True, check=False).stdout


def _is_on(machine: str) -> bool:
    try:
        return login.leader(machine) > 0
    except RuntimeError:
        return False


def power_cut(machine: str) -> Step:
    """Kill all of a machine in one instant; it boots again."""
    return lambda place: machines.power_cut(machine)


def phase_killed(machine: str, name: str) -> Step:
    """Kill a phase on its host."""
    return shell(machine, f"systemctl kill --signal=KILL own-kubernetes-run-{name}")


LOCK = (
    "systemd-run --quiet --collect --unit=holder python3 -c "
    '"import fcntl, time; f = open(\\"{file}\\", \\"w\\"); fcntl.lockf(f, fcntl.LOCK_EX); '
    'time.sleep({seconds})"'
)


def locked(machine: str, file: str, seconds: int) -> Step:
    """Hold one of apt's locks."""
    return shell(machine, LOCK.format(file=file, seconds=seconds))


LISTS, DPKG = "/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend"

FALSE_DATE = """\
cat >/usr/local/bin/date <<'END'
#!/bin/sh
case $* in
  +%s) echo $(($(/usr/bin/date +%s) + 3600)) ;;
  *) exec /usr/bin/date "$@" ;;
esac
END
chmod 755 /usr/local/bin/date"""
"""The machines share this host's clock: only what their scripts ask for the time is moved."""

TIME_SERVICE = """\
cat >/etc/systemd/system/chrony.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/rm -f /usr/local/bin/date
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload; systemctl enable chrony"""

RIGHT_DATE = "rm -f /usr/local/bin/date"


def other_key(machine: str) -> Step:
    """Another host key answers, as it would from another machine at this address."""
    line = (
        "cd /etc/ssh && mv ssh_host_ed25519_key kept && mv ssh_host_ed25519_key.pub kept.pub && "
        "ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key && systemctl restart ssh"
    )
    return lambda place: console(machine, line)


def own_key(machine: str) -> Step:
    """The machine's own host key answers again."""
    line = (
        "cd /etc/ssh && mv kept ssh_host_ed25519_key && mv kept.pub ssh_host_ed25519_key.pub && "
        "systemctl restart ssh"
    )
    return lambda place: console(machine, line)


def nothing_done(machine: str) -> Step:
    """Nothing was run on a machine."""

    def look(place: Place) -> None:
        if found := console(machine, "ls -d /root/.own-kubernetes /etc/own-kubernetes 2>/dev/null"):
            raise RunFailedError(f"{machine} has {found}")

    return look


def nothing_prepared(machine: str) -> Step:
    """Scripts were copied, and nothing was changed."""

    def look(place: Place) -> None:
        if found := console(
            machine, "ls -d /etc/own-kubernetes /var/lib/own-kubernetes 2>/dev/null"
        ):
            raise RunFailedError(f"{machine} has {found}")

    return look


def remade(machine: str, last: int, role: str = "worker") -> Step:
    """The machine is deleted, and another one is at its address, with another key."""
    return lambda place: place.rebuilt(machine, last, role)


def server_away(name: str) -> Step:
    """End one of the mirror's servers: ``files`` (packages, charts) or ``registry``."""

    def stop(place: Place) -> None:
        server = next(s for s in all_servers() if s.name == name)
        subprocess.run(["kill", str(server.pid())], check=True)
        eventually(f"the end of {name}", lambda: server.pid() is None, 20)

    return stop


def server_back(place: Place) -> None:
    """Start the mirror's servers again."""
    mirror.serve(log=lambda _: None)


TOKENS = (
    "export KUBECONFIG=/etc/kubernetes/admin.conf; for n in $(seq 60); do "
    "for s in $(kubectl --namespace=kube-system get secrets --output=name "
    "--field-selector=type=bootstrap.kubernetes.io/token); do {deed}; done; sleep 0.1; done"
)
DELETED = "kubectl --namespace=kube-system delete $s"
EXPIRED = (
    "kubectl --namespace=kube-system patch $s --type=merge "
    '--patch \'{{"stringData": {{"expiration": "2020-01-01T00:00:00Z"}}}}\''
)
CONTROLLER = "^/.*controller.*--webhook-mode|^/controller "


def frozen(seconds: float, *meanwhile: Step) -> Step:
    """MetalLB's controller, which has the webhook, does not answer for some time."""

    def freeze(place: Place) -> None:
        held = [name for name in place.nodes if _controller(name, "STOP")]
        if not held:
            raise RunFailedError("MetalLB's controller runs nowhere")
        time.sleep(seconds)
        for step in meanwhile:
            step(place)
        for name in held:
            _controller(name, "CONT")

    return freeze


def _controller(machine: str, signal: str) -> bool:
    return on(machine, f"pkill -{signal} -f '{CONTROLLER}' && echo yes", check=False) == "yes"


def controller_runs(place: Place) -> bool:
    """MetalLB's controller is there."""
    return any(_controller(name, "0") for name in place.nodes if "w" in name)


def pool(last: int) -> Step:
    """Edit the pool."""

    def edit(place: Place) -> None:
        place.changes["loadBalancerPools"] = [f"10.77.0.200-10.77.0.{last}"]

    return edit


# Ends


def whole(place: Place) -> str:
    """The run ends, and is run again if it failed: the cluster is whole."""
    try:
        place.take()
        took = "by itself"
    except RunFailedError as error:
        print(f"the run ended with: {str(error)[-1500:]}", flush=True)
        place.up()
        took = "`up` again"
    place.check()
    return took


def destroyed(place: Place) -> str:
    """Destroy, which has to end well and soon, and to give the hosts back that answer."""
    began = time.monotonic()
    place.begin("down")
    place.run.answer()
    spent = time.monotonic() - began
    if spent > DESTROY_SECONDS:
        raise RunFailedError(f"destroy took {spent:.0f} s")
    for name in place.nodes:
        if name in machines.running():
            found = on(
                name, "ls -d /etc/kubernetes /var/lib/own-kubernetes 2>/dev/null", check=False
            )
            if found:
                raise RunFailedError(f"{name} still has {found}")
    place.outputs = {}
    return "destroy"


def three_members(place: Place) -> str:
    """The cluster is whole, and etcd has the members of the stack file."""
    took = whole(place)
    if (found := members()) != set(place.nodes):
        raise RunFailedError(f"etcd's members are {found}")
    return took


def without_state(place: Place) -> None:
    """Lose all that the engine knows."""
    shutil.rmtree(stackfile.home(STACK))


def one_by_one(place: Place) -> str:
    """The cluster is whole, and no two control planes were joining at the same time."""
    took = whole(place)
    spans = sorted(_spans(name) for name in THREE)
    for (_, end), (begin, _) in itertools.pairwise(spans):
        if begin < end:
            raise RunFailedError(f"two joined at once: {spans}")
    return took


def _spans(machine: str) -> tuple[float, float]:
    """When a machine's kubeadm ran, in seconds since 1970: what it made first and last."""
    line = "stat --format=%Y /etc/kubernetes/kubelet.conf /var/lib/own-kubernetes/stage"
    times = [float(word) for word in on(machine, line).split()]
    return min(times), max(times)
