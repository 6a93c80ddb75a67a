"""``python -m sandbox.machines``: the machines from a shell."""

from __future__ import annotations

import argparse
import os
import sys

from sandbox import machines
from sandbox.machines import disks, login

ONE = {
    "reboot": (machines.reboot, "have a machine reboot itself, and wait for it"),
    "power-cut": (machines.power_cut, "kill a machine in one instant, and wait until it is back"),
    "power-off": (machines.power_off, "pull a machine's plug; it stays off"),
    "power-on": (machines.power_on, "switch a machine on"),
    "link-down": (machines.link_down, "pull a machine's network cable"),
    "link-up": (machines.link_up, "put a machine's network cable back"),
    "remove": (machines.remove, "remove a machine with its disk"),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m sandbox.machines", description=machines.__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start machines, and wait until they answer")
    up.add_argument("specs", nargs="+", type=_spec, metavar="NAME=ADDRESS[:MEMORY_MIB[:CPUS]]")
    down = commands.add_parser("down", help="remove all machines, their disks and their network")
    down.add_argument("--all", action="store_true", help="another checkout's, too")
    commands.add_parser("list", help="name, address and state of all machines")
    for name, (_, text) in ONE.items():
        commands.add_parser(name, help=text).add_argument("name", choices=disks.names())
    ssh = commands.add_parser("ssh", help="log in as root, or run a command there")
    ssh.add_argument("name")
    ssh.add_argument("remote", nargs=argparse.REMAINDER, metavar="COMMAND")
    return top


def main() -> None:
    """Do what the command line says."""
    arguments = parser().parse_args()
    if os.geteuid():
        sys.exit("python -m sandbox.machines: only root can make machines; run it with sudo")
    try:
        _do(arguments)
    except (RuntimeError, ValueError, LookupError, TimeoutError) as error:
        sys.exit(f"python -m sandbox.machines: {error}")


def _do(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "up":
            machines.up(arguments.specs)
        case "down":
            if not arguments.all:
                machines.check_own()
            machines.down()
        case "list":
            on = machines.running()
            for name in disks.names():
                print(name, disks.load(name).address, "on" if name in on else "off")
        case "ssh":
            line = login.command_line(arguments.name)
            shell = [] if line[0] == "ssh" else ["exec bash --login"]
            remote = [" ".join(arguments.remote)] if arguments.remote else shell
            os.execvp(line[0], [*line, *remote])
        case one:
            ONE[one][0](arguments.name)


def _spec(text: str) -> machines.MachineSpec:
    try:
        return machines.MachineSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
