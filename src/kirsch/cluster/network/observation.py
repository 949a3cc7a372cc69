"""Observation of the flat network on this machine by ip(8), bridge(8), nft(8), podman-network(1)."""

import asyncio
import os
import shutil
from collections.abc import Mapping

from kirsch.cluster.network import plan
from kirsch.cluster.network.state import (
    NETWORK,
    PORT,
    TABLE,
    Guard,
    Link,
    Observed,
    PodmanNetwork,
    read_forwarding,
    read_guard,
    read_links,
    read_podman,
)

# Seconds for one command.
TIMEOUT = 30.0


class CommandFailed(Exception):
    """A command did not do what it should: which, and its last words."""


async def devices() -> tuple[Mapping[str, Link], frozenset[str], frozenset[tuple[str, str]]]:
    """Return the network devices, and what the VXLAN port sends where. Raises CommandFailed."""
    links = read_links(await output("ip", "-json", "-details", "address", "show"))
    if PORT not in links:
        return links, frozenset(), frozenset()
    return links, *read_forwarding(await output("bridge", "-json", "fdb", "show", "dev", PORT))


async def podman_network() -> PodmanNetwork | None:
    """Return podman's network; None if it has none. Raises CommandFailed."""
    names = (await output("podman", "network", "ls", "--quiet")).split()
    return read_podman(await output("podman", "network", "inspect", NETWORK)) if NETWORK in names else None


def guards() -> bool:
    """Return True if this machine has nft, which makes the guard."""
    return shutil.which("nft") is not None


async def guard() -> Guard | None:
    """The guard; None if there is none. Raises CommandFailed."""
    try:
        return read_guard(await output("nft", "--json", "list", "table", "ip", TABLE))
    except CommandFailed as error:
        if "No such file" in str(error):
            return None
        raise


async def removal() -> list[plan.Command]:
    """Return the commands that remove the machine's part; parts that cannot be observed are left out."""
    try:
        observed = Observed(*await devices())
    except CommandFailed:
        return []
    try:
        podman = await podman_network()
    except CommandFailed:
        podman = None
    guarded = await guard() if guards() else None
    return plan.removal(Observed(observed.links, observed.flooded, observed.learned, podman, guarded))


async def output(*argv: str) -> str:
    """Run a command and return its output. Raises CommandFailed, with its last words."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except FileNotFoundError:
        raise CommandFailed(f"{argv[0]} is not installed") from None
    try:
        async with asyncio.timeout(TIMEOUT):
            printed, said = await process.communicate()
    except TimeoutError:
        raise CommandFailed(f"{' '.join(argv)}: not done after {TIMEOUT:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or [f"exit status {process.returncode}"]
        # nft shows below its words where in the command they are about.
        words = next((line for line in lines if line.startswith("Error: ")), lines[-1])
        raise CommandFailed(f"{' '.join(argv)}: {words.removeprefix('Error: ')[:300]}")
    return printed.decode(errors="replace")
