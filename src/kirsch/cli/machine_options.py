"""The options of verbs for machines, and of those that go from one to another."""

import argparse
from collections.abc import Callable

from kirsch.cli.values import pair, seconds

# A verb's parser from its name, where its function is, what it does, an example.
Verb = Callable[[str, str, str, str], argparse.ArgumentParser]
MACHINE = "its id or the beginning of that, its host's name, or its address"


def machines(verb: Verb) -> None:
    """All of them."""
    drain = verb(
        "drain",
        "machines:drain",
        "Have all units leave a machine. They move one after another, the next once the last is ready "
        "elsewhere. Sticky ones stay, and so do those that are on every machine. The machine gets no more "
        "until `kirsch uncordon`.",
        "kirsch drain n1",
    )
    drain.add_argument("machines", nargs="+", metavar="MACHINE", help=MACHINE)
    _waits(drain, 600)
    drain.add_argument("--json", action="store_true", help="print JSON, once all is done")
    cordon = verb(
        "cordon", "machines:cordon", "Have no more units come to a machine. Those it has stay.",
        "kirsch cordon n1",
    )  # fmt: skip
    cordon.add_argument("machines", nargs="+", metavar="MACHINE", help=MACHINE)
    uncordon = verb(
        "uncordon", "machines:uncordon", "Have units come to a machine again.", "kirsch uncordon n1"
    )
    uncordon.add_argument("machines", nargs="+", metavar="MACHINE", help=MACHINE)
    metadata = verb(
        "metadata",
        "machines:metadata",
        "Set a machine's metadata, or print it. Units that may not stay there then move away. What is set "
        "outlasts the machine's absence.",
        "kirsch metadata n1 zone=b disk=",
    )
    metadata.add_argument("machine", metavar="MACHINE", help=MACHINE)
    metadata.add_argument(
        "pairs", nargs="*", type=pair, metavar="KEY=VALUE", help="set it; KEY= takes a key away"
    )
    metadata.add_argument("--json", action="store_true", help="print JSON")
    move = verb(
        "move",
        "machines:move",
        "Move a unit to another machine, a sticky one too. It is stopped here and started there; what it "
        "keeps on its machine's disk stays behind. With the machine that it is on, a move that could not "
        "be made yet is called off.",
        "kirsch move webdb n2",
    )
    move.add_argument("unit", metavar="UNIT", help="a name, its type may be left out")
    move.add_argument("machine", nargs="?", metavar="MACHINE", help=f"{MACHINE}; any other if left out")
    _waits(move, 60)
    move.add_argument("--json", action="store_true", help="print JSON")
    ssh = verb(
        "ssh",
        "ssh:ssh",
        "Log in to a machine of a cluster by ssh, or run a command there. A unit's name stands for its "
        "machine. Machines made here, and those that were added, know our key; with --tunnel the way goes "
        "through that host.",
        "kirsch ssh notes@1 uptime",
    )
    ssh.add_argument("target", metavar="MACHINE|UNIT", help=f"a machine ({MACHINE}), or a unit")
    command = ssh.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run there"
    )
    command.required = False  # argparse would have it, and say so


def _waits(parser: argparse.ArgumentParser, limit: float) -> None:
    parser.add_argument("--no-block", action="store_true", help="do not wait until it is done")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=limit,
        metavar="SECONDS",
        help=f"wait so long at most ({limit:g})",
    )
