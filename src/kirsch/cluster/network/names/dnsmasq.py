"""dnsmasq's settings, how systemd is to run it, and why it ended (dnsmasq(8), systemd-run(1)). Pure."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from kirsch.cluster.network.names.records import DOMAIN

UNIT = "kirsch-names.service"
PROGRAM = "dnsmasq"
CACHE = 1000  # names of others that are remembered
# What it ends with, whatever the reason was.
_LAST = "FAILED to start up"

# It reads what kirschd writes, listens on port 53, and is allowed nothing else. It is no child of kirschd's:
# names are answered while that restarts. A unit that is not in a file goes when the machine does. It goes
# to the background once it answers: to systemd too it is active then, and not before (Type=forking).
_PROPERTIES = (
    "Description=the names of kirsch's units",
    "Type=forking",
    "DynamicUser=yes",
    "AmbientCapabilities=CAP_NET_BIND_SERVICE",
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "Restart=always",
    "RestartSec=1",
    "StartLimitIntervalSec=0",
)


def settings(address: str, records: Path) -> str:
    """Answer on `address`, also where that comes later, for what stands in the files of the folder `records`,
    which are read again when they change; ask the machine's own resolvers for all else."""
    return f"""\
# Made by kirschd.
listen-address={address}
bind-dynamic
no-hosts
hostsdir={records}
local=/{DOMAIN}/
cache-size={CACHE}
log-facility=-
pid-file=
"""


def command(program: str, configuration: Path) -> list[str]:
    """The arguments that have systemd run `program`, by a path from the root."""
    properties = [f"--property={each}" for each in _PROPERTIES]
    return [
        *("systemd-run", f"--unit={UNIT}", "--collect", "--quiet", *properties, "--"),
        *(program, f"--conf-file={configuration}"),
    ]


def complaint(lines: Iterable[str], limit: Callable[[int], str]) -> str:
    """Why dnsmasq ended, of the last lines it wrote; "" if they do not say. `limit` has for an error's number
    which limit of inotify is reached."""
    said = [line.strip().removeprefix(f"{PROGRAM}: ") for line in lines]
    words = next((line for line in reversed(said) if line and line != _LAST), "")
    if "inotify" in words:
        for number in (errno.EMFILE, errno.ENOSPC):
            if os.strerror(number) in words and (which := limit(number)):
                return f"{words}: {which}"
    return words
