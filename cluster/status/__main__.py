"""How the cluster is: nodes, API servers, etcd, certificates, addresses, upgrades that are pending.

    pulumi stack output kubeconfig --show-secrets | python -m cluster.status --kubeconfig -

Exits with 0 if all is well, 1 if something is not (named in the last lines), 2 if the API can't be asked.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.status import NOT_REACHED, show
from cluster.status.api import StatusError

STDIN = "-"


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _arguments(words)
    try:
        text = _kubeconfig(arguments.kubeconfig)
    except StatusError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_REACHED
    return show(text, arguments.want or "", as_json=arguments.json)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.status",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Of several files in KUBECONFIG kubectl lets the first one say which cluster is meant.
    default = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or STDIN
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        default=default,
        help="the administrator's kubeconfig, - for stdin (default: KUBECONFIG if that is set, else -)",
    )
    parser.add_argument(
        "--want",
        metavar="VERSION",
        type=_version,
        help="the Kubernetes version all nodes should have (default: the newest that one has)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(words)


def _version(text: str) -> str:
    if not re.fullmatch(r"v?[0-9]+\.[0-9]+\.[0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a full version, like 1.37.2")
    return text.removeprefix("v")


def _kubeconfig(file: str) -> str:
    """The kubeconfig's text.

    Raises:
        StatusError: there is none.
    """
    try:
        if file != STDIN:
            return Path(file).expanduser().read_text()
        if not sys.stdin.isatty():
            return sys.stdin.read()
        said = "nothing is piped in, and KUBECONFIG is not set"
    except OSError as error:
        said = error.strerror or str(error)
    except UnicodeDecodeError:
        said = "it is no text"
    raise StatusError(
        f"no kubeconfig from {'stdin' if file == STDIN else file}: {said}",
        "the file that the stack's output kubeconfig holds",
        "pulumi stack output kubeconfig --show-secrets | python -m cluster.status --kubeconfig -",
    )


if __name__ == "__main__":
    sys.exit(main())
