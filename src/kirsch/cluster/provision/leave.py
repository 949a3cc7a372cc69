"""Clean-up on a machine that leaves: stop its units and dnsmasq, remove their files and the flat network.

The machine's own kirsch runs it, as `python -m kirsch.cluster.provision.leave`, once kirschd is stopped.
"""

import asyncio
import subprocess
from pathlib import Path

from kirsch.cluster.network.names.dnsmasq import UNIT as NAMES
from kirsch.cluster.network.observation import removal
from kirsch.cluster.runtime.systemd.disk import Disk


def main() -> None:
    """Stop and remove this machine's units; units of other people stay."""
    subprocess.run(["systemctl", "stop", NAMES], check=False, stderr=subprocess.DEVNULL)
    disk = Disk(Path("/"))
    found = list(disk.found())
    if found:
        subprocess.run(["systemctl", "stop", *(unit.record.service for unit in found)], check=False)
    for unit in found:
        disk.remove(unit.name)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    for command in asyncio.run(removal()):
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
