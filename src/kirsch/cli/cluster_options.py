"""The options of `kirsch cluster …`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kirsch.cli.values import count

METADATA = "what units can ask of a machine; may be repeated"
# A verb's parser from its name, where its function is, what it does, an example.
Verb = Callable[[str, str, str, str], argparse.ArgumentParser]


def clusters(verb: Verb) -> None:
    """All verbs of clusters."""
    create = verb(
        "cluster create",
        "cluster:create",
        "Make a cluster of machines on this computer. They are containers that run systemd, etcd, podman, "
        "sshd and kirschd, with keys and certificates of their own. It needs podman, and root. If a step "
        "fails, all is undone.\n\n"
        "Metadata is KEY=VALUE for all machines, KEY=A/B/C for one machine after another, n2:KEY=VALUE for "
        "one of them.",
        "kirsch cluster create --machines 3 --metadata zone=a/b/c --publish 7070:8091",
    )
    _name(create)
    create.add_argument("--machines", type=count, default=1, metavar="N", help="how many (1)")
    _metadata(create)
    create.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="PORT:PORT",
        help="let a port of this computer lead to one of whichever machines answer; may be repeated",
    )
    create.add_argument(
        "--subnet",
        default="10.210.0.0/16",
        metavar="ADDRESS/PREFIX",
        help="in which containers of all machines have addresses (10.210.0.0/16), or none",
    )
    create.add_argument(
        "--image", metavar="IMAGE", help="what machines begin with: one built from images/node (made anew)"
    )
    listed = verb(
        "cluster list", "cluster:list_", "List the clusters that were made on this computer.",
        "kirsch cluster list",
    )  # fmt: skip
    listed.add_argument("--no-legend", action="store_true", help="leave the heading out")
    listed.add_argument("--json", action="store_true", help="print JSON")
    status = verb(
        "cluster status",
        "cluster:status",
        "Say how a cluster's machines are. Exit status 1 if any is not well.",
        "kirsch cluster status",
    )
    _name(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    for name, words, example in (
        ("start", "Switch a cluster's machines on. It returns when they are in the cluster.", ""),
        (
            "stop",
            "Switch a cluster's machines off. Units stop in order; nothing is lost.",
            " kirsch n2",
        ),
    ):
        switch = verb(f"cluster {name}", f"cluster:{name}", words, f"kirsch cluster {name}{example}")
        _name(switch)
        switch.add_argument("machines", nargs="*", metavar="MACHINE", help="these alone (all)")
    config = verb(
        "cluster ssh-config",
        "cluster:ssh_config",
        "Print a configuration for ssh. Its hosts are the machines, by their names.",
        "kirsch cluster ssh-config > config && ssh -F config n1",
    )
    _name(config)
    add = verb(
        "cluster add",
        "cluster:add",
        "Have a host join a cluster. kirsch comes onto it by ssh: it needs sshd, Python 3.11 to 3.13 and "
        "systemd, and ssh must let you in without typing, as root or one who may sudo. Containers need "
        "podman 4.4 or newer there; it is said what the host cannot run.",
        "kirsch cluster add root@10.0.0.7 --metadata zone=d",
    )
    add.add_argument("host", metavar="[USER@]HOST", help="as ssh finds it")
    add.add_argument("--name", default="", metavar="NAME", help="in the cluster (its host's name)")
    add.add_argument(
        "--address", default="", metavar="ADDRESS", help="at which other machines reach it (HOST's)"
    )
    add.add_argument("--port", type=count, help="sshd's (what ssh's settings say)")
    add.add_argument("--identity", type=Path, metavar="FILE", help="the key to log in with (what ssh finds)")
    add.add_argument("--ssh-config", type=Path, metavar="FILE", help="ssh's settings (its own)")
    _metadata(add)
    remove = verb(
        "cluster remove",
        "cluster:remove",
        "Have a machine leave its cluster. Its units move to others first; then kirsch goes from it, or all "
        "of it if it is a container. Volumes of units on a host stay.",
        "kirsch cluster remove n4",
    )
    remove.add_argument("machine", metavar="MACHINE", help="its name, id or address")
    remove.add_argument(
        "--force", action="store_true", help="also one that is away, or that has sticky units: they are lost"
    )
    images = verb(
        "cluster images",
        "cluster:images",
        "Have another machine keep the cluster's images. All take them from there then; it is for when the "
        "machine that kept them is gone, or is to leave. Images are not brought along: they are sent there "
        "again. Done again, it tells machines that were away.",
        "kirsch cluster images n2",
    )
    images.add_argument("machine", metavar="MACHINE", help="its name, id or address")
    destroy = verb(
        "cluster destroy",
        "cluster:destroy",
        "Remove a cluster of this computer. Its machines and all that is on them go, nothing is left; from "
        "hosts that joined it kirsch goes.",
        "kirsch cluster destroy",
    )
    _name(destroy)


def _name(parser: Any) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of the cluster (--cluster, KIRSCH_CLUSTER, else kirsch)"
    )


def _metadata(parser: Any) -> None:
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE,…", help=METADATA)
