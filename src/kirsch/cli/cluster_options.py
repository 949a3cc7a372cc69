"""The options of `kirsch cluster …`."""

import argparse
from collections.abc import Callable
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
        help="let a port of this computer lead to one of the first machine; may be repeated",
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
    config = verb(
        "cluster ssh-config",
        "cluster:ssh_config",
        "Print a configuration for ssh. Its hosts are the machines, by their names.",
        "kirsch cluster ssh-config > config && ssh -F config n1",
    )
    _name(config)
    _name(
        verb(
            "cluster destroy",
            "cluster:destroy",
            "Remove a cluster of this computer. Its machines and all that is on them go; nothing is left.",
            "kirsch cluster destroy",
        )
    )


def _name(parser: Any) -> None:
    parser.add_argument("name", nargs="?", default="kirsch", metavar="NAME", help="of the cluster (kirsch)")


def _metadata(parser: Any) -> None:
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE,…", help=METADATA)
