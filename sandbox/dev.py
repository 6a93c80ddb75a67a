"""A stack on this host: mirror, machines, engine, and what a person wants to see at the end."""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from cluster import bom
from sandbox import cloud, engine, ha, machines, mirror, site
from sandbox.engine import stackfile

Log = Callable[[str], None]

STACK = "dev"
"""Three existing hosts; see ``cloud`` and ``ha`` for the others."""

STACKS = (STACK, cloud.STACK, ha.STACK)
PAGE_SECONDS = 60
"""How long the page may take to answer once everything is there (ARP, readiness)."""

MEMORY_MIB = {"control-plane": 4096, "worker": 3072}


def stack_nodes() -> dict[str, dict[str, Any]]:
    """The nodes of the dev stack's file, by name."""
    text = (site.ROOT / f"Pulumi.{STACK}.yaml").read_text()
    nodes: dict[str, dict[str, Any]] = yaml.safe_load(text)["config"]["own-kubernetes:nodes"]
    return nodes


def start_site(log: Log = print) -> None:
    """Mirror and machines: what a user's site has before the first ``up``."""
    mirror.build(log=log)
    machines.up(
        [
            machines.MachineSpec(name, IPv4Address(node["address"]), MEMORY_MIB[node["role"]])
            for name, node in stack_nodes().items()
        ],
        log=log,
    )
    mirror.serve(log=log)


def up(log: Log = print, stack: str = STACK) -> dict[str, Any]:
    """From nothing, or from whatever is there, to the page.

    Args:
        log: gets progress and summary.
        stack: one of ``STACKS``.

    Returns:
        The stack's outputs.

    Raises:
        RuntimeError: the page does not answer as it should.
    """
    began = time.monotonic()
    {STACK: start_site, cloud.STACK: cloud.start_site, ha.STACK: ha.start_site}[stack](log)
    outputs = _engine(stack, log).up(log)
    _write_kubeconfig(outputs["kubeconfig"])
    stack_file = stackfile.path_of(site.ROOT, stack, _stack_file(stack))
    site.BILL.write_text(bom.text(stack_file, outputs["kubeconfig"]))
    page = fetch_page(outputs["ingressAddress"], host_of(outputs))
    log("")
    for line in summary(outputs, page, time.monotonic() - began):
        log(line)
    return outputs


def down(log: Log = print, *, anyones: bool = False) -> None:
    """Destroy what stacks there are, then the machines and everything else but the cache.

    Nothing need be there. A stack that can't be destroyed any more goes with its machines.

    Args:
        log: gets progress.
        anyones: another checkout's machines go, too.

    Raises:
        RuntimeError: something runs for another checkout, or is left behind.
    """
    if not anyones:
        machines.check_own()
    for stack in STACKS:
        if stackfile.home(stack).exists():
            try:
                _engine(stack, log).down(log)
            except Exception as error:
                log(f"the stack goes with its machines, as destroying it failed: {error}")
    cloud.stop_site(log)
    shutil.rmtree(site.STATE, ignore_errors=True)
    left = machines.leftovers()
    if left:
        raise RuntimeError(f"left behind: {', '.join(left)}")
    log("nothing is left but the cache")


def _engine(stack: str, log: Log) -> engine.Engine:
    return engine.choose(log, stack=stack, stack_file=_stack_file(stack))


def _stack_file(stack: str) -> Path | None:
    files = {cloud.STACK: cloud.stack_file, ha.STACK: ha.stack_file}
    return files[stack]() if stack in files else None


def host_of(outputs: Mapping[str, Any]) -> str:
    """The page's host name."""
    return str(outputs["url"]).removeprefix("http://").rstrip("/")


def get(address: str, host: str, seconds: float = 5) -> tuple[int, str]:
    """One HTTP request to an address by a host name: status and body."""
    connection = http.client.HTTPConnection(address, 80, timeout=seconds)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def fetch_page(address: str, host: str, seconds: float = PAGE_SECONDS) -> str:
    """The page's text, tried until it answers 200.

    Raises:
        RuntimeError: it does not within the bound; tells what came last.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            status, body = get(address, host)
            if status == 200:
                return body
            last = f"status {status}"
        except OSError as error:
            last = str(error)
        if time.monotonic() > end:
            raise RuntimeError(f"http://{host}/ at {address}: {last}, for {seconds:.0f} s")
        time.sleep(0.2)


def summary(outputs: Mapping[str, Any], page: str, seconds: float) -> list[str]:
    """What to tell at the end, line by line."""
    nodes = ", ".join(f"{name} ({address})" for name, address in outputs["nodes"].items())
    return [
        f"up in {seconds:.0f} s: {outputs['url']} at {outputs['ingressAddress']} answers:",
        *(f"    {line}" for line in page.strip().splitlines()),
        f"nodes       {nodes}",
        f"kubeconfig  {site.KUBECONFIG.relative_to(site.ROOT)}",
        f"made of     {site.BILL.relative_to(site.ROOT)}",
        f"DNS record  {outputs['dnsRecord']}",
        f"try it      curl -H 'Host: {host_of(outputs)}' http://{outputs['ingressAddress']}/",
    ]


def _write_kubeconfig(text: str) -> None:
    site.KUBECONFIG.touch(mode=0o600)
    site.KUBECONFIG.write_text(text)
