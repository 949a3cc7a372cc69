"""On a machine that leaves: stop the units that kirsch runs there, and its dnsmasq, and remove their files.

Run by the machine's own kirsch, as `python -m kirsch.cluster.provision.leave`, once kirschd is stopped.
"""

import subprocess
from pathlib import Path

from kirsch.cluster.names.dnsmasq import UNIT as NAMES
from kirsch.cluster.runtime.systemd_disk import Disk


def main() -> None:
    """What other people's units are is let be."""
    subprocess.run(["systemctl", "stop", NAMES], check=False, stderr=subprocess.DEVNULL)
    disk = Disk(Path("/"))
    found = list(disk.found())
    if found:
        subprocess.run(["systemctl", "stop", *(unit.record.service for unit in found)], check=False)
    for unit in found:
        disk.remove(unit.name)
    subprocess.run(["systemctl", "daemon-reload"], check=True)


if __name__ == "__main__":
    main()
