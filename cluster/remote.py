"""The one door for everything run over SSH.

A host gets the scripts once (``CopyToRemote``: state and preview show their digest, not their text), then
each phase is one ``remote.Command`` whose ``create`` is a line of data. There are no triggers and no
``update``: a changed line runs the same converging script again, in place, and a preview shows the change
as one short line. ``cluster/nodes/scripts/run.sh`` is the other side of the door.

Facts behind the settings here (pulumi-command 1.2): every command is a dial of its own; a dial is tried
again after 0.1 s, then 1.5 times as long each time, up to 5 s; a host key that is not given is not
checked; what goes to stdin is never printed when a command fails; a failed create leaves no state.
"""

from __future__ import annotations

import functools
import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import local, remote

from cluster import clock
from cluster.exits import NO_CLUSTER
from cluster.machines import Bastion, Machine

SCRIPTS = Path(__file__).parent / "nodes" / "scripts"
REMOTE_HOME = ".own-kubernetes"
"""Below the login user's home; the scripts lie in its ``scripts/``."""

CLOCK = f"{REMOTE_HOME}/scripts/clock.sh"

INSTALLED = "/usr/local/lib/own-kubernetes"
"""Where ``run.sh`` puts the scripts, to run them from there; a new server is given some of them there."""

PER_DIAL_SECONDS = 10
FIRST_PAUSE_SECONDS = 0.1
PAUSE_FACTOR = 1.5
LONGEST_PAUSE_SECONDS = 5.0

_NOT_THE_SERVERS = [
    f"connection.{key}" for key in ("privateKey", "dialErrorLimit", "perDialTimeout", "proxy")
]
"""What of a connection may change while the server stays the same."""


class Host(pulumi.ComponentResource):
    """One machine behind the door: the scripts lie there, phases can be run.

    Args:
        name: the node's name.
        machine: the machine.
        timeout_seconds: bound on reaching the machine, for each command.
        remove_packages: an existing host loses, at the end, the packages that it did not have before.

    Attributes:
        machine: the machine.
        host_key: the SSH host key that all phases check.
        carrier: the resource whose deletion is the end of all that was done on the machine: the cloud
            server or, of a host that stays, what gives it back. Nothing else is undone one by one.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        timeout_seconds: int,
        *,
        remove_packages: bool = True,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("own-kubernetes:remote:Host", name, None, opts)
        self.machine = machine
        self._name = name
        self._hooks = pulumi.ResourceHookBinding(
            on_error=[_unreachable(name, machine, timeout_seconds)]
        )
        bound = f"{copy_bound(timeout_seconds)}s"
        first = _connection(machine, machine.host_key, timeout_seconds)
        self.host_key: pulumi.Input[str] = machine.host_key
        self.carrier = machine.carrier or self._end(remove_packages)
        if machine.first_contact:
            self.host_key = self._trust(first).stdout
        self._connection = _connection(machine, self.host_key, timeout_seconds)
        compared = clock.compared(name, self.way_in, self.as_root(["bash", CLOCK]))
        self._clocked = pulumi.ResourceHookBinding(
            before_create=[compared], before_update=[compared], on_error=self._hooks.on_error
        )
        self.scripts = remote.CopyToRemote(
            f"{name}-scripts",
            connection=self._connection,
            source=pulumi.FileArchive(_from_project(SCRIPTS)),
            remote_path=REMOTE_HOME,
            # A rebuilt machine shows itself by a new host key and has no scripts any more. Replacing
            # is harmless: nothing is run when a copy is deleted.
            triggers=[self.host_key],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[self.carrier, *machine.after],
                deleted_with=self.carrier,
                hooks=self._hooks,
                # The first to reach the host: bounds dials that hang, as retries alone do not.
                custom_timeouts=pulumi.CustomTimeouts(create=bound, update=bound),
            ),
        )
        self.register_outputs({})

    @property
    def way_in(self) -> pulumi.Output[dict[str, Any]]:
        """What ``cluster.parting`` needs to reach the host; a secret."""
        machine = self.machine
        return pulumi.Output.all(
            name=machine.name,
            address=machine.address,
            port=machine.port,
            user=machine.user,
            host_key=self.host_key,
            private_key=machine.private_key,
            **({"proxy": vars(machine.bastion)} if machine.bastion else {}),
        )

    def _end(self, remove_packages: bool) -> local.Command:
        """Gives a host back: out of its cluster, and as it was found.

        Run from here and not by ``remote.Command``, whose delete fails for ever when a host does not
        answer any more.
        """
        words = ["restore", f"REMOVE_PACKAGES={str(remove_packages).lower()}"]
        leave, restore = self.line(["leave"]), self.line(words)
        undo = f"{{ {leave} && {restore} && rm -rf {REMOTE_HOME}; }} </dev/null"
        # A host that was wiped has nothing to undo.
        line = f"test ! -e {REMOTE_HOME}/scripts/run.sh || {undo}"
        return at_the_end(
            f"{self._name}-end",
            "cluster.parting end",
            stdin=parting_words({self: line}),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _trust(self, connection: remote.ConnectionArgs) -> remote.Command:
        """The first contact with a new server, by the host key of its first boot, which ends there.

        It must not run again on the same server, where that key is gone: what may change without a new
        server is ignored. For a new one the engine would take what is ignored from the old one's state.
        """
        return remote.Command(
            f"{self._name}-trust",
            connection=connection,
            create=f"bash {INSTALLED}/trust.sh",
            logging=remote.Logging.STDERR,
            add_previous_output_in_env=False,
            triggers=[self.machine.provider_id],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(self.machine.after),
                deleted_with=self.machine.carrier,
                delete_before_replace=True,
                ignore_changes=None if self.machine.new else _NOT_THE_SERVERS,
                custom_timeouts=pulumi.CustomTimeouts(create="30m"),
                hooks=self._hooks,
            ),
        )

    def run(
        self,
        phase: str,
        values: Mapping[str, pulumi.Input[str]] | None = None,
        *,
        name: str = "",
        stdin: pulumi.Input[str] | None = None,
        undo: Sequence[str] = (),
        secret: bool = False,
        timed: bool = False,
        after: Sequence[pulumi.Resource] = (),
    ) -> remote.Command:
        """Declare a phase: a script of ``nodes/scripts``, converging, detached on the host.

        Args:
            phase: the script's name without ``.sh``.
            values: data that may be seen in state, previews and process lists.
            name: the resource's, where it is not HOST-PHASE: for what any control plane could run.
            stdin: data that may be long, or secret (then an ``Output.secret``).
            undo: phase and ``KEY=VALUE`` words to run when the resource is deleted while its host stays.
            secret: the phase's output is a secret and is not logged.
            timed: the host's clock is looked at before.
            after: what has to be there first, besides the scripts.

        Returns:
            The command; its ``stdout`` is the phase's result.
        """
        return remote.Command(
            name or f"{self._name}-{phase}",
            connection=self._connection,
            create=self._create_line(phase, values or {}),
            delete=self._undo_line(undo) if undo else None,
            stdin=stdin,
            logging=remote.Logging.NONE if secret else remote.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[self.scripts, *after],
                deleted_with=self.carrier,
                additional_secret_outputs=["stdout", "stderr"] if secret else None,
                custom_timeouts=pulumi.CustomTimeouts(create="30m", update="30m", delete="15m"),
                hooks=self._clocked if timed else self._hooks,
            ),
        )

    def _create_line(
        self, phase: str, values: Mapping[str, pulumi.Input[str]]
    ) -> pulumi.Input[str]:
        def line(known: Mapping[str, str]) -> str:
            return self.line([phase, *(f"{key}={value}" for key, value in known.items())])

        plain = {key: value for key, value in values.items() if isinstance(value, str)}
        return line(plain) if len(plain) == len(values) else pulumi.Output.all(**values).apply(line)

    def line(self, words: Sequence[str]) -> str:
        """The shell line that runs a phase on this host."""
        return self.as_root(["bash", f"{REMOTE_HOME}/scripts/run.sh", *words])

    def as_root(self, words: Sequence[str]) -> str:
        """The shell line that runs a command on this host as root."""
        sudo = [] if self.machine.user == "root" else ["sudo", "-n"]
        return shlex.join([*sudo, *words])

    def removal_line(self, words: Sequence[str]) -> str:
        """The shell line that has this control plane take a node out of its cluster.

        A host without scripts has never been in one, and says so.
        """
        there = f"test -e {REMOTE_HOME}/scripts/run.sh || exit {NO_CLUSTER}"
        return f"{there}; {self.line(['remove', *words])}"

    def _undo_line(self, words: Sequence[str]) -> str:
        """A host that was wiped has nothing to undo."""
        return f"test ! -e {REMOTE_HOME}/scripts/run.sh || {self.line(words)} </dev/null"


def at_the_end(
    name: str,
    module: pulumi.Input[str],
    *,
    stdin: pulumi.Input[str] | None = None,
    environment: Mapping[str, pulumi.Input[str]] | None = None,
    triggers: Sequence[pulumi.Input[str]] | None = None,
    opts: pulumi.ResourceOptions,
) -> local.Command:
    """A command of this program that does its work when the resource is deleted.

    Args:
        name: the resource's name.
        module: the module and its arguments, which may be seen in state and process lists.
        stdin: secrets for it.
        environment: likewise.
        triggers: what makes another of the command.
        opts: the resource's options.
    """
    return local.Command(
        name,
        create="true",
        delete=pulumi.Output.format("{} -m {}", python(), module),
        stdin=stdin,
        environment=environment,
        logging=local.Logging.STDERR if stdin else None,
        add_previous_output_in_env=False,
        triggers=list(triggers) if triggers else None,
        opts=opts,
    )


def parting_words(lines: Mapping[Host, str]) -> pulumi.Output[str]:
    """stdin of ``cluster.parting`` and ``recovery``: hosts to try in this order, each with its line; secret."""
    hosts = [
        host.way_in.apply(lambda way, line=line: {**way, "line": line})  # type: ignore[misc]
        for host, line in lines.items()
    ]
    return pulumi.Output.secret(pulumi.Output.json_dumps(hosts))


def python() -> str:
    """The shell word for what runs this program, so that state is the same on every machine.

    From the project's folder, ``.venv/bin/python``; where the program is a plugin of another one's, from the
    home directory, below which Pulumi keeps its plugins.
    """
    venv = Path(sys.prefix)
    path = venv.parent.resolve() / venv.name / "bin" / "python"  # .venv itself may be a link
    if path.is_relative_to(Path.cwd()):
        return shlex.quote(str(path.relative_to(Path.cwd())))
    home = Path.home().resolve()
    below = path.is_relative_to(home)
    return f"~/{shlex.quote(str(path.relative_to(home)))}" if below else shlex.quote(str(path))


@functools.cache
def scripts_digest(*names: str) -> str:
    """Of these host scripts, or of all: in a phase's line it brings those installed on a host up to date."""
    digest = hashlib.sha256()
    for script in sorted(map(SCRIPTS.joinpath, names) if names else SCRIPTS.iterdir()):
        digest.update(script.name.encode() + b"\0" + script.read_bytes())
    return digest.hexdigest()[:12]


def dial_retries(timeout_seconds: int) -> int:
    """How many retries fit into the bound when each dial is refused at once.

    >>> dial_retries(60), dial_retries(300)
    (20, 68)
    """
    retries, pause, spent = 0, FIRST_PAUSE_SECONDS, 0.0
    while spent + pause <= timeout_seconds:
        spent += pause
        retries += 1
        pause = min(pause * PAUSE_FACTOR, LONGEST_PAUSE_SECONDS)
    return retries


def copy_bound(timeout_seconds: int) -> int:
    """How long the first copy may take, in seconds: more than its retries, which tell why no dial went through.

    A bound that comes first says only that time is up, also where another host key answered.

    >>> copy_bound(60), copy_bound(300)
    (76, 340)
    """
    return timeout_seconds + timeout_seconds // 10 + PER_DIAL_SECONDS


def _connection(
    machine: Machine, host_key: pulumi.Input[str], timeout_seconds: int
) -> remote.ConnectionArgs:
    return remote.ConnectionArgs(
        host=machine.address,
        port=machine.port,
        user=machine.user,
        private_key=machine.private_key,
        host_key=host_key,
        per_dial_timeout=PER_DIAL_SECONDS,
        dial_error_limit=dial_retries(timeout_seconds),
        proxy=_proxy(machine.bastion, timeout_seconds) if machine.bastion else None,
    )


def _proxy(bastion: Bastion, timeout_seconds: int) -> remote.ProxyConnectionArgs:
    return remote.ProxyConnectionArgs(
        host=bastion.address,
        port=bastion.port,
        user=bastion.user,
        private_key=bastion.private_key,
        host_key=bastion.host_key,
        per_dial_timeout=PER_DIAL_SECONDS,
        dial_error_limit=dial_retries(timeout_seconds),
    )


def _from_project(path: Path) -> str:
    """Relative to the project's folder, so that state is the same on every machine."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


GIVEN_UP = "failed attempts"
"""In the text of a dial that was given up for the number of its tries."""

OUT_OF_TIME = "deadline exceeded"
"""In the text of an operation that was cut off: of a copy, which is quick, only its dial can be."""


OTHER_KEY = ("host key mismatch", "no common algorithm for host key")
"""In the text of a dial to a machine that has another key than the known one (golang.org/x/crypto/ssh)."""


def _unreachable(name: str, machine: Machine, timeout_seconds: int) -> pulumi.ErrorHook:
    """Names host, port, user and bound when a dial failed; the engine's own text has no user."""

    async def explain(args: pulumi.ErrorHookArgs) -> bool:
        signs = [GIVEN_UP, OUT_OF_TIME] if args.type.endswith("CopyToRemote") else [GIVEN_UP]
        text = " ".join(args.errors)
        if any(sign in text for sign in signs):
            # A server's is known only now; the hook's own arguments have it as a secret.
            address = await pulumi.Output.from_input(machine.address).future()
            if any(sign in text for sign in OTHER_KEY):
                told = _other_machine(machine, str(address))
            else:
                told = _no_login(machine, str(address), timeout_seconds)
            pulumi.log.error(f"{name}: {told}")
        return False

    return pulumi.ErrorHook(f"{name}-unreachable", explain)


def _no_login(machine: Machine, address: str, timeout_seconds: int) -> str:
    way = machine.bastion
    by = f" by the bastion {way.address} port {way.port}" if way else ""
    jump = f"{machine.jump} " if way else ""
    return (
        f"no SSH login as {machine.user} at {address} port {machine.port}{by}, "
        f"tried for up to {timeout_seconds} s (sshTimeoutSeconds). Expected: an SSH server "
        f"there with the configured host key that lets {machine.user} in. Remedy: try "
        f"`ssh {jump}-p {machine.port} {machine.user}@{address}` and mend what it says."
    )


def _other_machine(machine: Machine, address: str) -> str:
    """With a bastion it is that: of hosts behind it pulumi-command (1.2) tells a failed handshake, no more."""
    way = machine.bastion
    place = f"{way.address} port {way.port}" if way else f"{address} port {machine.port}"
    key = "proxy.hostKey" if way else f"nodes.{machine.name}.hostKey"
    return (
        f"another machine answers at {place}: its SSH host key is not the known one, and nothing was run "
        f"there. Expected: the key in {key} or sshKnownHostsFile, or of a new server the one that it made. "
        "Remedy: read /etc/ssh/ssh_host_*_key.pub on the machine's console: if it was rebuilt, its new key "
        f"belongs in {key}; if it has the known key, somebody else answers in its place."
    )
