"""up and down with --on: an application on a cluster."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.image import failures_shown
from kirsch.cli.names import named
from kirsch.cli.output import PROGRESS, Palette, Progress, Steps
from kirsch.cli.releases import has_commands, listed, note_of, wait
from kirsch.cli.verb import Options
from kirsch.cli.waiting import pictures
from kirsch.cluster.api.client import UNITS, Client, applied
from kirsch.cluster.application import Application, fitting
from kirsch.cluster.application.build import made
from kirsch.cluster.application.plan import Destroy, Plan, Submit, interruptions, plan, steps_of
from kirsch.cluster.application.target import Target, meanwhile, standing, waves
from kirsch.cluster.image.lock import registry_lock, shared

Line = Mapping[str, Any]

STOP_TIMEOUT = 120.0
DOWN = ("inactive", "failed", "-")


def up_on(application: Application, options: Options) -> int:
    """Bring an application onto a cluster, and wait until all of it is ready."""
    target = Target.load(options.on)
    # A cluster that is away is known before anything is built.
    now = target.now(application)
    application = fitting(application, len(target.record.machines), now.units)
    steps = Steps(sys.stdout)
    with failures_shown(steps):
        images = made(application, target.runner, steps)
    number: int | None = None
    # What the registry has is to be there still when units name it.
    with shared(registry_lock(target.registry.address)):
        planned = plan(application, target.seen(images), now)
        # A unit that is refused is told before images are sent and secrets made.
        warnings = target.check(planned) if planned.steps else []
        if not options.dry_run:
            for line in interruptions(planned):
                print(line, flush=True)
            with steps:
                warnings, number = target.carry_out(planned, steps, note_of(options))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.dry_run:
        options.report(application=application.name, steps=[*steps_of(planned)])
        print("\n".join(steps_of(planned)) or f"nothing would change: {application.name} is up to date")
        return 0
    for secret in planned.secrets:
        print(f"          secret {secret}: made at random")
    for account in planned.accounts:
        print(f"          secret {account.secret}: {account.service} has an account in the cluster's etcd")
    for name in _destroyed(planned):
        print(f"          {name}: destroyed, for the folder has it no more")
    if options.detach:
        _report(options, target, planned, number)
        print(
            f"\n{application.name} is submitted; `kirsch --cluster {options.on} list-units` shows how it is"
        )
        return 0
    known = now.units.keys() & set(planned.units)
    try:
        runs = any(now.units[name].desired == "launched" for name in known)
        if number is not None and (runs or has_commands(target.client, application.name, number)):
            _await_release(target, planned, number, options.timeout)
        elif number is not None:
            _await_ready(target, planned, options.timeout)
    except KeyboardInterrupt:
        stop = f"kirsch down {options.directory} --on {options.on}"
        print(f"\n{application.name} goes on starting; `{stop}` stops it")
        raise
    _say_where(target, planned)
    _report(options, target, planned, number)
    print(f"Stop it with `kirsch down {options.directory} --on {options.on}`.")
    return 0


def down_on(application: Application, options: Options) -> int:
    """Stop an application's units on a cluster, those that use others first; they stay submitted."""
    target = Target.load(options.on)
    client = target.client
    mine = set(applied(client, application.name)["units"])
    lines = [line for line in client.get(UNITS)["units"] if line["name"] in mine]
    running = [line for line in lines if line["desired"] != "inactive"]
    if not running:
        print(f"{application.name} is not up on {options.on}")
        options.report(stopped=False)
        return 0
    for wave in waves(running):
        client.patch(UNITS, {"change": [{"name": name, "desiredState": "inactive"} for name in wave]})
        _await_stopped(client, wave)
    print(f"{application.name} is down on {options.on}; its data stays there")
    options.report(stopped=True)
    return 0


def _report(options: Options, target: Target, planned: Plan, number: int | None) -> None:
    """Report an application that is on a cluster: its address, its units' lines, and what was changed."""
    if options.json:
        name, mine = planned.application.name, planned.units
        options.report(
            application=name,
            open=target.address(planned.application),
            units=[line for line in target.client.get(UNITS)["units"] if line["name"] in mine],
            releases=[row for row in listed(target.client, name) if row["number"] == number],
            destroyed=[*_destroyed(planned)],
        )


def _await_release(target: Target, planned: Plan, number: int, timeout: float) -> None:
    """Show each unit's way until the release is done. Raises Failure where it does not go well."""
    names = list(planned.application.start)
    progress, machines = Progress(sys.stdout, names), target.names()

    def shown(line: Line) -> None:
        if line["name"] in names:
            up = line["settled"] and (line["finished"] or line["ready"])
            progress.step(line["name"], _done([line], machines) if up else _step([line], machines))

    row = {"application": planned.application.name, "number": number, "start": names}
    if wait(target.client, row, timeout, shown)["state"] == "canary":
        print(
            f"Canaries are ready: `kirsch --cluster {target.record.name} release promote "
            f"{planned.application.name} {number}` replaces the others, `abort` goes back."
        )


def _await_ready(target: Target, planned: Plan, timeout: float) -> None:
    """Show each unit's way until all are as planned. Raises Failure with the first that cannot be."""
    names = list(planned.application.start)
    progress = Progress(sys.stdout, names)
    waiting = set(names)
    machines = target.names()
    lines: Mapping[str, Mapping[str, Line]] = {}
    if not names:
        return
    for lines, _ in pictures(target.client, names, timeout):
        for name in sorted(waiting):
            behind, hopeless = standing(lines.get(name, {}).values(), planned.hashes[name])
            if hopeless:
                raise Failure(f"{name} {named(hopeless, machines)}")
            if behind:
                progress.step(name, _step(behind, machines))
            elif behind is not None:
                waiting.discard(name)
                progress.step(name, _done(list(lines[name].values()), machines))
        if not waiting:
            return
    reasons = {
        name: meanwhile(lines.get(name, {}).values(), planned.hashes[name])
        or progress.shown.get(name, "not started")
        for name in sorted(waiting)
    }
    late = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    raise Failure(f"not ready after {timeout:g} s: {late}")


def _step(lines: Sequence[Line], machines: Mapping[str, str]) -> str:
    """Return the step of a unit that is not yet as planned, in words."""
    line = lines[0]
    if line["machine"] and not line["machine_address"]:
        return f"its machine {_machine(line, machines)} is away"
    words = named(str(line["message"] or PROGRESS.get(line["sub"], "")), machines)
    return f"{words} on {_machine(line, machines)}" if words and line["is_global"] else words


def _done(lines: Sequence[Line], machines: Mapping[str, str]) -> str:
    word = "done" if all(line["finished"] for line in lines) else "ready"
    return f"{word} on {' '.join(sorted(_machine(line, machines) for line in lines))}"


def _machine(line: Line, machines: Mapping[str, str]) -> str:
    return machines.get(line["machine"], str(line["machine"])[:8])


def _await_stopped(client: Client, names: Sequence[str]) -> None:
    waiting = set(names)
    for lines, _ in pictures(client, names, STOP_TIMEOUT):
        for name in sorted(waiting):
            told = lines.get(name, {}).values()
            if all(line["desired"] == "inactive" and line["active"] in DOWN for line in told):
                waiting.discard(name)
                print(f"  {name} stopped", flush=True)
        if not waiting:
            return
    raise Failure(f"still stopping after {STOP_TIMEOUT:g} s: {', '.join(sorted(waiting))}")


def _destroyed(planned: Plan) -> Iterable[str]:
    return [step.unit for step in planned.steps if isinstance(step, Destroy)]


def _say_where(target: Target, planned: Plan) -> None:
    """The address to open, what has changed, and where each unit is."""
    application = planned.application
    address = target.address(application)
    print(f"\n{application.name} is up on {target.record.name}" + (f": {address}" if address else ""))
    names = [*application.start]
    on: dict[str, list[Line]] = {name: [] for name in names}
    for line in target.client.get(UNITS)["units"]:
        if line["name"] in on:
            on[line["name"]].append(line)
    machines = target.names()
    places = {
        name: " ".join(sorted(_machine(line, machines) for line in lines)) for name, lines in on.items()
    }
    palette = Palette.for_stream(sys.stdout, names)
    width, place = max(map(len, names), default=0), max(map(len, places.values()), default=0)
    for name in names:
        first = on[name][0] if on[name] else None
        serves = (
            [f"{first['address']}:{port}" for port in first["ports"]] if first and len(on[name]) == 1 else []
        )
        shown = palette.paint(name, name.ljust(width))
        print(f"  {shown}  {places[name]:<{place}}  {' '.join(serves)}".rstrip())
    if not planned.steps:
        print("Nothing has changed.")
    elif changed := [step.unit for step in planned.steps if isinstance(step, Submit) and not step.new]:
        print(f"changed: {', '.join(changed)}")
