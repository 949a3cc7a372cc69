"""Change of a machine's own settings about etcd, for its kirschd, which may not write them itself.

systemd starts it, as `python -m kirsch.cluster.provision.join` (kirsch.cluster.daemon.voters). On standard
input is JSON: {"etcd": URLS} for kirschd's settings, or what a machine needs to join etcd: {"name",
"address", "cluster", "peers", "member"}.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kirsch.cluster.provision import install
from kirsch.cluster.provision.record import MachineRecord
from kirsch.cluster.provision.settings import (
    ETCD_DATA,
    ETCD_DEFAULTS,
    ETCD_DROP_IN,
    ETCD_FOLDER,
    ETCD_UNIT,
    FOLDER,
    etcd_setting,
    member_environment,
)
from kirsch.cluster.secrets.files import write_file


def settings_with(text: str, urls: list[str]) -> str:
    """Return the text of kirschd.toml with other members of etcd. Pure."""
    lines = text.splitlines()
    return "".join(f"{etcd_setting(urls) if line.startswith('etcd = ') else line}\n" for line in lines)


def environment(given: dict[str, Any]) -> str:
    """Return the text of /etc/default/etcd for a member that joins, whose id its first line has. Pure."""
    machine = MachineRecord(given["name"], "", given["address"])
    return f"# member {given['member']}\n" + member_environment(
        given["cluster"], machine, given["peers"], "existing"
    )


def join(given: dict[str, Any]) -> None:
    """Start etcd as a new member; done again for the same member, it keeps what that has by then."""
    defaults, text = Path(ETCD_DEFAULTS), environment(given)
    if not defaults.exists() or defaults.read_text() != text:
        # Of another time: etcd would take itself for the member that it was.
        subprocess.run(["systemctl", "stop", ETCD_UNIT], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", ETCD_DATA], check=True)
        Path(ETCD_FOLDER).mkdir(parents=True, exist_ok=True)
        Path(f"{ETCD_FOLDER}/kirsch.conf").write_text(ETCD_DROP_IN)
        defaults.write_text(text)
    subprocess.run(["sh", "-c", install.start(ETCD_UNIT)], check=True)


def main() -> None:
    """Do what standard input says."""
    given = json.load(sys.stdin)
    if "etcd" in given:
        settings = Path(FOLDER, "kirschd.toml")
        write_file(settings, settings_with(settings.read_text(), given["etcd"]).encode())
    else:
        join(given)


if __name__ == "__main__":
    main()
