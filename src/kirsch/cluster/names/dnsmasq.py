"""dnsmasq's settings, and the command that has systemd run it (dnsmasq(8), systemd-run(1)). Pure."""

from pathlib import Path

from kirsch.cluster.names.records import DOMAIN

UNIT = "kirsch-names.service"
PROGRAM = "dnsmasq"
CACHE = 1000  # names of others that are remembered

# It reads what kirschd writes, listens on port 53, and is allowed nothing else. It is no child of kirschd's:
# names are answered while that restarts. A unit that is not in a file goes when the machine does.
_PROPERTIES = (
    "Description=the names of kirsch's units",
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
        *(program, "--keep-in-foreground", f"--conf-file={configuration}"),
    ]
