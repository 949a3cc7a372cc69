"""drain, cordon, uncordon, metadata: settings of machines; move, rebalance: units to other machines."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from kirsch.cli.completion import instances, machines
from kirsch.cli.errors import Failure
from kirsch.cli.names import full_names, machine_names, named, reasons_of, recorded_names
from kirsch.cli.output import machine
from kirsch.cli.values import JSON, NO_BLOCK, pair, timeout
from kirsch.cli.verb import REPORT, Options, argument, flag, verb
from kirsch.cli.waiting import NOBODY, Line, changes, is_up, wait
from kirsch.cluster.api.client import UNITS, Client, ClientError, unit_path
from kirsch.cluster.api.transport import Unix

MACHINES = "/kirsch/v1/machines"
REBALANCE = "/kirsch/v1/rebalance"
MACHINE = "its id or the beginning of that, its host's name, or its address"
SOME = argument("machines", "MACHINE", MACHINE, many=True, complete=machines)


@verb(
    "drain",
    SOME,
    NO_BLOCK,
    timeout(600),
    flag("--json", help="print JSON, once all is done"),
    text="They move one after another, the next once the last is ready elsewhere. Sticky units stay, and so "
    "do those that are on every machine and those that no other machine may have: they are listed. The "
    "machine gets no more until `kirsch uncordon`.",
    example="kirsch drain n1",
)
def drain(options: Options) -> int:
    """Move all units off machines, one after another, and cordon them."""
    client = _of_several(options)
    before: list[Line] = client.get(UNITS)["units"]
    drained = [_mark(client, options, name, {"drained": True}) for name in options.machines]
    told = []
    for found in drained:
        entry = {"machine": found["id"], "address": found["address"], "drained": not options.no_block}
        told.append(entry)
        if options.no_block or found.get("away"):
            if not options.json:
                print(f"Machine {_shown(found)} is being drained")
            continue
        here = [line for line in before if line["machine"] == found["id"]]
        kept = [line for line in here if line["is_global"] or line["sticky"]]
        leaving = [line["name"] for line in here if line not in kept and line["desired"] != "inactive"]
        moved = []
        keeps = {line["name"]: "global" if line["is_global"] else "sticky" for line in kept}
        for line in _leave(client, found["id"], leaving, options.timeout):
            if line["bound"] and line["machine"] == found["id"]:
                keeps[line["name"]] = _bound_by(line)
                continue
            moved.append({"unit": line["name"], "to": line["machine"], "active": line["active"]})
            if not options.json:
                print(_moved(line))
        entry |= {"moved": moved, "keeps": keeps}
        if not options.json:
            listed = ", ".join(f"{name} ({reason})" for name, reason in keeps.items())
            print(f"Machine {_shown(found)} is drained" + (f"; it keeps {listed}" if keeps else ""))
    if options.json:
        print(json.dumps(told, indent=2))
    return 0


@verb("cordon", SOME, REPORT, text="Those it has stay.", example="kirsch cordon n1")
def cordon(options: Options) -> int:
    """Let no more units be scheduled to machines."""
    client = _of_several(options)
    marked = []
    for name in options.machines:
        marked.append(_mark(client, options, name, {"cordoned": True}))
        print(f"Machine {_shown(marked[-1])} takes no more units")
    options.report(machines=[{"id": each["id"], "cordoned": True} for each in marked])
    return 0


def alone(client: Client) -> bool:
    """Return True if the client speaks to an application on this computer, which has no other machine."""
    return isinstance(client.transport, Unix) and client.transport.path.parent.name == ".kirsch"


def _of_several(options: Options) -> Client:
    """Return the client, but of an application on this computer alone. Raises ClientError, Failure."""
    client = options.client()
    if alone(client):
        raise Failure("this computer is the only machine of the application: no unit can leave it")
    return client


@verb("uncordon", SOME, REPORT, example="kirsch uncordon n1")
def uncordon(options: Options) -> int:
    """Let units be scheduled to machines again."""
    client = options.client()
    marked = []
    for name in options.machines:
        marked.append(_mark(client, options, name, {"cordoned": False}))
        print(f"Machine {_shown(marked[-1])} takes units again")
    options.report(machines=[{"id": each["id"], "cordoned": False} for each in marked])
    return 0


@verb(
    "metadata",
    argument("machine", "MACHINE", MACHINE, complete=machines),
    argument("pairs", "KEY=VALUE", "set it; KEY= takes a key away", many=True, optional=True, type=pair),
    JSON,
    text="Units that may not stay there then move away. Metadata outlasts the machine's absence.",
    example="kirsch metadata n1 zone=b disk=",
)
def metadata(options: Options) -> int:
    """Set a machine's metadata, or print it."""
    client = options.client()
    found = client.get(machine_path(options.machine))
    if options.pairs:
        client.patch(machine_path(found["id"]), {"metadata": dict(options.pairs)})
        found = client.get(machine_path(found["id"]))
    if options.json:
        print(json.dumps(found["metadata"], indent=2, sort_keys=True, ensure_ascii=False))
        return 0
    for key, value in sorted(found["metadata"].items()):
        print(f"{key}={value}")
    return 0


@verb(
    "move",
    argument("unit", "UNIT", "a name, its type may be left out", complete=instances),
    argument("machine", "MACHINE", f"{MACHINE}; any other if left out", optional=True, complete=machines),
    NO_BLOCK,
    timeout(60),
    JSON,
    text="It is stopped here and started there; what it keeps on its machine's disk stays behind. With the "
    "machine that it is on, a move that could not be made yet is called off.",
    example="kirsch move webdb n2",
)
def move(options: Options) -> int:
    """Move a unit, a sticky one too."""
    client = _of_several(options)
    [name] = full_names(client, [options.unit])
    wanted = {"machine": machine_name(options.machine)} if options.machine else {}
    order = client.post(unit_path(name, "/move"), wanted)
    stays_there = order["from"] == order["to"]
    if stays_there or options.no_block:
        if options.json:
            _print_move(name, order["from"], order["to"], moved=False)
        else:
            print(f"Unit {name} stays where it is" if stays_there else f"Triggered unit {name} move")
        return 0

    for line in _await_move(client, name, order["from"], options.timeout):
        if options.json:
            _print_move(name, order["from"], line["machine"], moved=True)
        else:
            print(_moved(line))
    return 0


@verb(
    "rebalance",
    flag("--dry-run", help="say what would be moved, and move nothing"),
    timeout(180, "give up waiting for one unit after this time"),
    JSON,
    text="Instances whose Spread= is not met move one after another, each once the one before is ready. It "
    "does not wait until machines are calm. Run it again if it was interrupted.",
    example="kirsch rebalance --dry-run",
)
def rebalance(options: Options) -> int:
    """Move instances to where their Spread= wants them."""
    client = options.client()
    told = client.get(REBALANCE)
    done: list[Line] = []
    if options.dry_run:
        done = told["moves"]
    else:
        for _ in told["moves"]:
            told = client.post(REBALANCE, {})
            for move in told["moves"]:
                for line in _await_move(client, move["unit"], move["from"], options.timeout):
                    done.append(move)
                    if not options.json:
                        print(_moved(line), flush=True)
        told = client.get(REBALANCE)
    if options.json:
        print(json.dumps({"moves": done, "stays": told["stays"]}, indent=2))
        return 1 if told["stays"] else 0
    names = cache(lambda: machine_names(client, recorded_names(options)))
    for move in done if options.dry_run else ():
        target = names().get(move["to"], move["to"])
        print(f"Unit {move['unit']} would move to {target}: {named(move['reason'], names())}")
    for service, reason in told["stays"].items():
        print(f"{service} stays as it is: {named(reason, names())}", file=sys.stderr)
    if not done and not told["stays"]:
        print("Nothing has to move.")
    return 1 if told["stays"] else 0


def _await_move(client: Client, name: str, source: str, timeout: float) -> list[Line]:
    """Return a unit's lines once it runs elsewhere. Raises Failure when it cannot, or time is up."""

    def stays(line: Line) -> str:
        return "cannot move now, and will when it can" if line["stays"] else ""

    def arrived(line: Line) -> bool:
        return _is_past(line, source) and line["active"] != "failed"

    return wait(client, [name], arrived, timeout, stays)


def machine_path(name: str) -> str:
    """Return a machine's path in the API."""
    return f"{MACHINES}/{quote(machine_name(name), safe='')}"


def machine_name(given: str) -> str:
    """A machine's name, also as tables show it: 113f16a7.../10.0.0.5."""
    shown, dots, _ = given.partition("...")
    return shown if dots else given


def _mark(client: Client, options: Options, name: str, marks: Mapping[str, bool]) -> Mapping[str, Any]:
    """The machine that was marked. One that is away is known by its id, and here by the cluster's record."""
    try:
        found: Mapping[str, Any] = client.get(machine_path(name))
    except ClientError as error:
        if error.status != 404:
            raise
        id = _recorded(options, name)
        client.patch(machine_path(id or name), marks)
        return {"id": id or machine_name(name), "address": "", "away": name}
    client.patch(machine_path(found["id"]), marks)
    return found


def _recorded(options: Options, name: str) -> str:
    """Return the id of a machine from this computer's record of the cluster; empty if there is none."""
    from kirsch.cluster.provision.record import ClusterRecord, ProvisionError

    where = options.where()
    try:
        return ClusterRecord.load(where.cluster).machine(machine_name(name)).id if where.cluster else ""
    except ProvisionError:
        return ""


def _shown(found: Mapping[str, Any]) -> str:
    if away := found.get("away"):
        return f"{away}, which is away,"
    return machine(found["id"], found["address"], full=False)


def _print_move(name: str, source: str, target: str, *, moved: bool) -> None:
    print(json.dumps({"unit": name, "from": source, "to": target, "moved": moved}, indent=2))


def _leave(client: Client, source: str, names: Sequence[str], timeout: float) -> Iterator[Line]:
    """Yield units' lines, each once it runs elsewhere; at the end those that no other machine may have.

    Raises Failure when others cannot leave, or time is up."""
    left = dict.fromkeys(names)
    lines: dict[str, Line] = {}
    for changed in changes(client, names, timeout) if names else ():
        lines |= {line["name"]: line for line in changed}
        for name in [name for name in left if name in lines]:
            line = lines[name]
            if line.get("gone"):
                del left[name]
            elif _is_past(line, source):
                del left[name]
                yield line
        there = [lines[name] for name in left if name in lines]
        _refuse_to_wait(client, there)
        if all(name in lines and lines[name]["bound"] for name in left):
            yield from there
            return
    if left:
        name = min(left)
        reasons = reasons_of(lines[name], machine_names(client)) if name in lines else ""
        raise Failure(
            f"{len(left)} of its units have not left after {timeout:g} s; {name}: {reasons or NOBODY}"
        )


def _refuse_to_wait(client: Client, left: Sequence[Line]) -> None:
    """Raise Failure when none of the units that are left can leave, and some of them might later."""
    stuck = [line for line in left if not line["bound"]]
    if stuck and all(line["stays"] for line in left):
        told = f"{stuck[0]['name']}: {reasons_of(stuck[0], machine_names(client))}"
        more = f" (and {len(stuck) - 1} more)" if len(stuck) > 1 else ""
        raise Failure(f"no other machine can have {told}{more}")


def _bound_by(line: Line) -> str:
    """Return why no other machine may have a unit, each reason once."""
    refusals = (reason.partition(": ") for reason in line["reasons"])
    return "; ".join(
        dict.fromkeys(why for who, colon, why in refusals if colon and who.startswith("machine "))
    )


def _is_past(line: Line, source: str) -> bool:
    """Return True if a unit runs elsewhere as it did on its machine, or has failed there."""
    if line["desired"] == "inactive":
        return True
    if line["machine"] in ("", source) or not line["settled"]:
        return False
    if line["desired"] != "launched" or line["active"] == "failed":
        return True
    # The machine is free of it also while its Health= says that it is not ready.
    return is_up(line) or bool(line["checked"] and line["active"] in ("active", "reloading"))


def _moved(line: Line) -> str:
    there = machine(line["machine"], line["machine_address"], full=False)
    failed = f", and failed there: kirsch status {line['name']}" if line["active"] == "failed" else ""
    return f"Unit {line['name']} moved to {there}{failed}"
