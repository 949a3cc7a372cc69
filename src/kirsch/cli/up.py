"""up and down: an application on this computer."""

import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kirsch.cli.completion import clusters, folders
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.journal import printable
from kirsch.cli.names import machine_names, reasons_of
from kirsch.cli.output import PROGRESS, Flood, Lines, Palette, Progress, Steps
from kirsch.cli.releases import explained, has_commands, listed, note_of, wait
from kirsch.cli.values import YES, confirm, timeout
from kirsch.cli.verb import REPORT, Options, argument, flag, option, verb
from kirsch.cluster.api.client import UNITS, Client, ClientError, applied
from kirsch.cluster.application import Application, load
from kirsch.cluster.application.embedded import (
    Embedded,
    EmbeddedError,
    ended,
    is_real_root,
    launch,
    owner,
    running,
    socket_path,
)
from kirsch.cluster.application.plan import Now, Plan, interruptions, known_units, plan, steps_of
from kirsch.cluster.engine.placement import NO_MACHINE
from kirsch.cluster.provision.endpoint import KUBERNETES
from kirsch.cluster.runtime.host import missing_environment
from kirsch.unit import Options as UnitOptions
from kirsch.unit import UnitFile, UnitName

Line = Mapping[str, Any]
Say = Callable[[str], None]

DIRECTORY = argument(
    "directory",
    "DIR",
    "where its kirsch.toml, unit files or Procfile is (.); or one unit file",
    optional=True,
    default=".",
    complete=folders,
)

STOP_TIMEOUT = 120.0
# Folders of StateDirectory= and CacheDirectory=, and where kirsch.sql.postgres keeps data as root: a package
# that is not imported, for it needs SQLAlchemy, which applications without a database do not have.
KEPT = ("state", "cache")
ELSEWHERE = Path("/var/lib/kirsch/postgres")
# Seconds in which kirschd is to tell what runs before it is asked to stop that.
WATCH_TIMEOUT = 10.0
# Lines that units wrote while they started: shown once all is ready.
BACKLOG = 200
# What a CherryPy bus says of its own start, and HAProxy of servers that `kirsch balancer` adds and deletes.
NOISE = (
    r"ENGINE (Listening for SIG\w+\.|Bus START\w+|Started monitor thread .*|Set handler .*)$"
    r"|^\[NOTICE\] +\(\d+\) : (CLI : 'server \S+' : New server registered\.|Server deleted\.)$"
)


@verb(
    "up",
    DIRECTORY,
    option(
        "--on",
        metavar="CLUSTER",
        help="run it on a cluster of this computer, or on kubernetes:CONTEXT of the kubeconfig",
        complete=clusters,
    ),
    option(
        "--registry",
        metavar="HOST/PATH",
        help="with kubernetes:CONTEXT: where its images are pushed, and taken from",
        default="",
    ),
    flag(
        "-d",
        "--detach",
        help="return once all is ready, and leave it running; on a cluster, once all is submitted",
    ),
    flag("--dry-run", help="say what would be done, and do nothing but build images"),
    option("-m", "--message", metavar="TEXT", help="why, for the history", default=""),
    flag("--now", help="take the place of a release that is under way"),
    flag("--exit-on-failure", help="stop everything where a unit fails while it starts"),
    timeout(180, "give up after this time"),
    REPORT,
    text="Its units are started in the order of their links, and their lines shown until Ctrl-C stops "
    "them. If a unit fails the others run all the same, unless --exit-on-failure is given. If it is up "
    "already it is brought up to date.\n\n"
    "On a cluster its images are built and sent to the cluster's own registry first. What has not changed "
    "is left alone, the instances of a service start anew one after another, and units that the folder has "
    "no more are destroyed. It goes on running when this verb ends.",
    example="kirsch up examples/notes",
)
def up(options: Options) -> int:
    """Run an application: in the foreground until Ctrl-C, or detached."""
    return bring_up(options)


def _update(application: Application, client: Client, options: Options) -> int:
    """Bring an application that is up to what its folder says."""
    before = _processes(client)
    for line in interruptions(_planned(application, client)):
        print(line, flush=True)
    started, number = apply(client, application, note_of(options))
    if number is not None:
        _await_release(client, application, number, started, options.timeout, before)
    _say_where(client, application, started)
    _report(options, application, client, started, number)
    changed = "it is up to date now" if number is not None else "nothing has changed"
    print(f"It was up already; {changed}. Stop it with `kirsch down {options.directory}`.")
    return 0


def bring_up(
    options: Options, beside: Callable[[Application, Callable[[str], None]], None] | None = None
) -> int:
    """Run an application as `kirsch up` does; `beside` is called once it is up."""
    on = getattr(options, "on", None)
    only_here(options, "up")
    application = load(Path(options.directory), cluster=on is not None)
    if getattr(options, "registry", "") and not (on and on.startswith(KUBERNETES)):
        raise Misuse("--registry goes with --on kubernetes:CONTEXT: other clusters have one of their own")
    if on:
        # What is being built is to be tidied up, as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if on.startswith(KUBERNETES):
            from kirsch.cli.kubernetes import up_on
        else:
            from kirsch.cli.rollout import up_on
        return up_on(application, options)
    client = running(application.state)
    if getattr(options, "json", False) and client is None and not (options.detach or options.dry_run):
        raise Misuse("--json goes with -d, --on or --dry-run: in the foreground units' lines are printed")
    if client is not None:
        application = _with_images(application)
        dry = options.dry_run
        return _dry_run(application, client, options) if dry else _update(application, client, options)
    if getattr(options, "dry_run", False):
        return _dry_run(application, None, options)
    # A service manager's stop is Ctrl-C by another name.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    since = time.time()
    failed: Mapping[str, str] = {}
    try:
        with Lines(sys.stdout, f"starting {application.name} …"):
            embedded = launch(application, attached=not options.detach)
    except EmbeddedError as error:
        raise Failure(str(error)) from None
    try:
        if embedded.user:
            print(_whose(application, embedded.user), flush=True)
        _warn(application, embedded)
        application = _with_images(application)
        started, number = apply(embedded.client, application, note_of(options))
        if number is not None and has_commands(embedded.client, application.name, number):
            _await_release(embedded.client, application, number, started, options.timeout, {})
        else:
            strict = getattr(options, "exit_on_failure", False)
            failed = _await_ready(
                embedded.client, application, number, started, options.timeout, strict=strict
            )
        _say_where(embedded.client, application, [name for name in started if name not in failed])
        _say_failed(failed)
        if options.detach:
            _report(options, application, embedded.client, started, number, failed=dict(failed))
            print(f"Stop it with `kirsch down {options.directory}`.")
            return 1 if failed else 0
        page = f"`kirsch {_inside(options.directory)}dashboard` shows it."
        # Only a person has a use for an address that works once.
        if sys.stdout.isatty():
            from kirsch.cli.dashboard import dashboard_beside

            page = dashboard_beside(embedded.client) or page
        print(f"Ctrl-C stops it. {page}\n", flush=True)
        where = f"{application.open}  " if application.open else ""
        lines = Lines(sys.stdout, f"{where}Ctrl-C stops {application.name}")
        if beside:
            beside(application, lines.print)
        _follow(embedded, started, since, lines, noise(application))
    except KeyboardInterrupt:
        _stop(embedded)
        if options.detach:
            raise  # it was to be up, and is not
        return 0
    except BaseException:
        _stop(embedded, quietly=True)
        raise
    if embedded.wait(STOP_TIMEOUT) != 0:
        raise Failure(f"kirschd was killed; {application.state / 'kirschd.log'} may say why")
    print(f"{application.name} was stopped by `kirsch down`")
    return 0


def _with_images(application: Application) -> Application:
    """Build the images of its containers for a kirschd that runs; the same application with those."""
    if not application.boxed:
        return application
    if socket_path(application.state).stat().st_uid != os.geteuid():
        print("warning: no image is built: the folder's owner has images of their own", file=sys.stderr)
        return application
    from kirsch.cli.image import failures_shown
    from kirsch.cluster.application.build import with_images
    from kirsch.cluster.provision.command import Runner

    steps = Steps(sys.stdout)
    with failures_shown(steps):
        return with_images(application, Runner(), steps)


def _whose(application: Application, user: str) -> str:
    """Say as which user an application runs that root has started."""
    if application.directory.stat().st_uid != 0:
        return f"It runs as {user}, the owner of its folder."
    return f"It runs as {user}, for the folder is root's: it may write to folders of StateDirectory= alone."


def _warn(application: Application, embedded: Embedded) -> None:
    """Warn of units that run as root though none asks for it, and of a virtual environment not made yet."""
    # The user of a container's processes is its image's affair.
    others = application.units.keys() - application.boxed
    files = [UnitFile.parse(application.units[name], name) for name in others]
    named = [any(file.get(section, "User") for section in file.sections) for file in files]
    if os.geteuid() == 0 and is_real_root() and not embedded.user and not all(named):
        ours = application.directory.stat().st_uid == 0
        how = ": `chown -R USER DIR` changes that" if ours else ""
        print(f"warning: units without User= run as root{how}", file=sys.stderr)
    if command := missing_environment(application.directory, os.environ):
        print(f"warning: kirsch's own Python runs it until `{command}` makes its own", file=sys.stderr)


@verb(
    "down",
    DIRECTORY,
    option(
        "--on",
        metavar="CLUSTER",
        help="on this cluster, where its units stay submitted, or on kubernetes:CONTEXT",
        complete=clusters,
    ),
    flag("--volumes", help="remove what its units keep too, databases among it"),
    YES,
    REPORT,
    text="Its data stays, unless --volumes is given. On a terminal that asks first.",
    example="kirsch down examples/notes",
)
def down(options: Options) -> int:
    """Stop an application that runs."""
    directory = Path(options.directory)
    only_here(options, "down")
    if options.on:
        if options.volumes:
            raise Misuse("--volumes is about this computer: what a cluster keeps stays on its machines")
        if options.on.startswith(KUBERNETES):
            from kirsch.cli.kubernetes import down_on
        else:
            from kirsch.cli.rollout import down_on
        return down_on(load(directory, cluster=True), options)
    state = (directory.parent if directory.is_file() else directory) / ".kirsch"
    if not directory.exists():
        raise Failure(f"{directory}: no such directory")
    client = running(state)
    kept = [path for name in KEPT if (path := state / name).is_dir()] if options.volumes else []
    if kept and not options.yes:
        confirm(f"This removes {', '.join(map(str, [*kept, *databases(state).values()]))}.", "yes")
    if client is None:
        if pid := owner(state):
            raise Failure(
                f"{directory} is up, but its kirschd (process {pid}) does not answer: end it by kill {pid}"
            )
        print(f"{directory} is not up")
        options.report(stopped=False, removed=_remove(state, kept))
        return 0
    pid = client.get("/kirsch/v1/daemon")["pid"]
    with _watched_stop(client):
        client.post("/kirsch/v1/down")
        if not ended(pid, STOP_TIMEOUT):
            raise Failure(f"kirschd (process {pid}) still stops units after {STOP_TIMEOUT:g} s")
    print(f"{directory} is down")
    options.report(stopped=True, removed=_remove(state, kept))
    return 0


def databases(state: Path) -> dict[str, Path]:
    """The folders where PostgreSQL keeps data that is not below a state folder, by the unit's folder there.

    As root it lies elsewhere, as its account may not enter what is root's; a link leads there.
    """
    links = [path for path in (state / "state").glob("*/data") if path.is_symlink()]
    return {path.parent.name: path.resolve() for path in links if path.resolve().parent == ELSEWHERE}


def _remove(state: Path, kept: Sequence[Path]) -> list[str]:
    """Remove what units of an application keep, whose kirschd has ended; return the folders."""
    removed = []
    for path in [*databases(state).values(), *kept] if kept else ():
        if path.is_dir():
            shutil.rmtree(path)
            removed.append(str(path))
            print(f"removed {path}")
    return removed


def _report(
    options: Options,
    application: Application,
    client: Client,
    names: Collection[str],
    number: int | None,
    **more: Any,
) -> None:
    """Report an application that is up: its address, its units' lines, and the release that changed it."""
    if getattr(options, "json", False):
        units = [line for line in client.get(UNITS)["units"] if line["name"] in names]
        releases = [row for row in listed(client, application.name) if row["number"] == number]
        options.report(
            application=application.name, open=application.open, units=units, releases=releases, **more
        )


def only_here(options: Options, verb: str) -> None:
    """Raises Misuse where the options name a kirschd: this verb has one of its own, or a cluster by --on."""
    for name in ("cluster", "endpoint", "tunnel"):
        if (given := getattr(options, name, None)) and given != getattr(options, "on", None):
            cluster = given if name == "cluster" else "CLUSTER"
            instead = f"; on a cluster: `kirsch {verb} --on {cluster}`" if hasattr(options, "on") else ""
            raise Misuse(f"--{name} is not for {verb}, which is about this computer{instead}")


def _inside(directory: str) -> str:
    """Return what leads a verb into a folder that this one is not."""
    folder = Path(directory)
    folder = folder.parent if folder.is_file() else folder
    return "" if folder.resolve() == Path.cwd() else f"-C {shlex.quote(str(folder))} "


def _planned(application: Application, client: Client | None) -> Plan:
    """Return what `up` would do."""
    lines = client.get(UNITS)["units"] if client else []
    known = applied(client, application.name) if client else {"units": [], "scale": {}}
    now = Now("", known_units(lines), frozenset(known["units"]), scale=known["scale"])
    return plan(application, {}, now)


def _dry_run(application: Application, client: Client | None, options: Options) -> int:
    """Print what `up` would do."""
    planned = _planned(application, client)
    options.report(application=application.name, steps=[*steps_of(planned)])
    print("\n".join(steps_of(planned)) or f"nothing would change: {application.name} is up to date")
    return 0


def apply(
    client: Client, application: Application, note: Mapping[str, Any] | None = None
) -> tuple[list[str], int | None]:
    """Make the application known and start it; the units that are to become ready, and the number of the
    release, None where nothing would change."""
    answer = client.put(
        f"/kirsch/v1/applications/{quote(application.name, safe='')}",
        {
            "units": dict(application.units),
            "files": dict(application.files),
            "start": list(application.start),
            "release": dict(application.release),
            **(note or {}),
        },
    )
    for warning in answer["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    return answer["start"], answer["release"]


def _await_release(
    client: Client,
    application: Application,
    number: int,
    names: list[str],
    timeout: float,
    before: Mapping[str, int],
) -> None:
    """Show each unit's way until the release is done; `before` are the processes they had before the change.

    Raises Failure where it does not go well.
    """
    progress = Progress(sys.stdout, names)

    def shown(line: Line) -> None:
        name = line["name"]
        if name in names:
            progress.step(name, _stage(line, before.get(name, 0)))

    row = {"application": application.name, "number": number, "start": names}
    try:
        end = wait(client, row, timeout, shown)
    except KeyboardInterrupt:
        print(f"\nthe release goes on: `kirsch release show {application.name} {number}`")
        raise
    if end["state"] == "canary":
        name = f"{application.name} {number}"
        print(f"Canaries are ready: `kirsch release promote {name}` replaces the others, `abort` goes back.")


def _stage(line: Line, before: int) -> str:
    """Return the step of a unit, in words; empty if there is nothing to tell."""
    if line["finished"]:
        return "done"
    if line["ready"] and line["settled"]:
        address = f"{line['address']}:{line['ports'][0]}" if line["ports"] else line["address"]
        return f"ready at {address}" if address else "ready"
    return _step(line, before)


def _await_ready(
    client: Client,
    application: Application,
    number: int | None,
    names: list[str],
    timeout: float,
    *,
    strict: bool,
) -> Mapping[str, str]:
    """Show each unit's way until all are ready, or have failed, or wait for one that has: those, with why.

    Raises Failure with the first that fails if `strict`, or if no other runs then.
    """
    progress = Progress(sys.stdout, names)
    waiting, runs, failed = set(names), set[str](), dict[str, str]()
    links, reasons = dict.fromkeys(names, ()), dict[str, str]()
    if not names:
        return {}
    for line in _lines(client, application.name, number, timeout):
        name = line["name"]
        if name not in names:
            continue
        waiting.add(name)
        runs.discard(name)
        failed.pop(name, None)
        reasons[name] = "; ".join(line["reasons"])
        links[name] = tuple(line["links"])
        if line["finished"] or (line["ready"] and line["settled"]):
            waiting.discard(name)
            runs |= set() if line["finished"] else {name}
        elif line["active"] == "failed" and line["settled"]:
            failed[name] = f"failed: {reasons_of(line, machine_names(client))}"
        # No machine: this computer waits for the lease of a kirschd that was killed here.
        elif line["refused"] and line["reasons"] != [NO_MACHINE.reason]:
            failed[name] = f"cannot be scheduled: {reasons_of(line, machine_names(client))}"
        if failed and strict:
            raise Failure(next(f"{name} {why}" for name, why in failed.items()))
        progress.step(name, "failed" if name in failed else _stage(line, 0))
        hopeless = failed | waiting_for(failed, links, waiting)
        if waiting <= hopeless.keys():
            if failed and not runs:
                raise Failure(next(f"{name} {why}" for name, why in failed.items()))
            return hopeless
    if progress.seconds < timeout:
        raise Failure(f"kirschd ended meanwhile; {application.state / 'kirschd.log'} may say why")
    late = ", ".join(
        f"{name} ({reasons.get(name) or progress.shown.get(name, 'not started')})" for name in sorted(waiting)
    )
    raise Failure(f"not ready after {timeout:g} s: {late}")


def waiting_for(
    failed: Collection[str], links: Mapping[str, Sequence[str]], waiting: Collection[str]
) -> dict[str, str]:
    """Return the units, of those waiting, that wait for one that failed or for one that waits so. Pure.

    `links` are all units' targets. A service is hopeless once all its instances are.
    """
    waits: dict[str, str] = {}
    while True:
        hopeless = {*failed, *waits}
        more = {
            name: f"waits for {target}"
            for name in waiting
            for target in links[name]
            if name not in hopeless and (meant := _called(target, links)) and meant <= hopeless
        }
        if not more:
            return waits
        waits |= more


def _called(target: str, names: Collection[str]) -> set[str]:
    """The units that a link's target names: one, or all instances of a service."""
    stems = {name: name.rpartition(".")[0] for name in names}
    return {name for name, stem in stems.items() if target in (name, stem, stem.partition("@")[0])}


def _say_failed(failed: Mapping[str, str]) -> None:
    """Say on standard error which units failed while the others run, and how to see more."""
    for name, why in failed.items():
        print(f"kirsch: {name} {why}", file=sys.stderr)
    if failed:
        name = next(iter(failed))
        print(
            f"The others run. `kirsch journal {name}` has its lines; `kirsch start {name}` tries it again.",
            file=sys.stderr,
        )


def _step(line: Line, before: int) -> str:
    """Return the step of a unit that is starting, in words; empty if there is nothing to tell."""
    if line["message"]:
        return str(line["message"])
    if line["sub"] == "running" and line["pid"] == before and not line["settled"]:
        return "to be restarted"
    if line["sub"] == "running" and not line["checked"]:
        return ""  # it counts as ready in a moment
    return PROGRESS.get(line["sub"], "")


def _processes(client: Client) -> dict[str, int]:
    """The main process of each unit that runs."""
    return {line["name"]: line["pid"] for line in client.get(UNITS)["units"] if line["pid"]}


def _lines(client: Client, application: str, number: int | None, timeout: float) -> Iterator[Line]:
    """Units' lines as they change, until time is up or the stream ends.

    Raises Failure once the release that starts them is taken back: what it started is stopped then.
    """
    first = True
    for event in client.stream("/kirsch/v1/events", timeout=timeout):
        yield from (line for line in event["units"] if not line.get("gone"))
        rows = listed(client, application) if first else event.get("releases", ())
        first = False
        for row in rows:
            if (row["application"], row["number"], row["state"]) == (application, number, "rolled-back"):
                raise Failure(explained(client, row))


def _say_where(client: Client, application: Application, names: list[str]) -> None:
    """The address to open, and each instance's own."""
    print(f"\n{application.name} is up" + (f": {application.open}" if application.open else ""))
    lines = {line["name"]: line for line in client.get(UNITS)["units"]}
    palette = Palette.for_stream(sys.stdout, names)
    width = max(map(len, names), default=0)
    for name in names:
        ports = " ".join(f"{lines[name]['address']}:{port}" for port in lines[name]["ports"])
        print(f"  {palette.paint(name, name.ljust(width) if ports else name)}  {ports}".rstrip())
    state = application.state / "state"
    for folder in sorted(state.iterdir()) if state.is_dir() else ():
        print(f"Data of {folder.name}: {databases(application.state).get(folder.name, folder)}")


def noise(application: Application) -> re.Pattern[str]:
    """Return what a terminal does not get: NOISE, and answers to the checks of Health=. Pure."""
    paths = set()
    for name, text in application.units.items():
        unit = UnitName.parse(name)
        unit = unit.with_instance("1") if unit.is_template else unit
        health = UnitOptions.parse(UnitFile.parse(text), unit).health
        paths |= {health.path} if health and health.path else set()
    checks = (rf'"GET {re.escape(path)} HTTP/1\.0" 2\d\d\b' for path in sorted(paths))
    return re.compile("|".join([NOISE, *checks]))


def _follow(embedded: Embedded, names: list[str], since: float, lines: Lines, noise: re.Pattern[str]) -> None:
    """Print every unit's lines since then, each unit in a colour of its own, until the stream ends.

    A terminal gets neither a flood nor `noise`.
    """
    palette, flood, lock = Palette.for_stream(sys.stdout, names), Flood(), threading.Lock()

    def tell(second: float) -> None:
        with lock:
            for unit, number in flood.kept_back(int(second)):
                more = f"… {number} more lines in that second: `kirsch journal {unit}`"
                lines.print(f"{palette.column(unit)} {more}")

    def tell_later() -> None:
        """Tell of lines that were kept back also where the unit is silent after them."""
        timer = threading.Timer(1.0, lambda: tell(time.time()))
        timer.daemon = True
        timer.start()

    with lines:
        for line in embedded.client.stream("/kirsch/v1/journal", lines=BACKLOG):
            if line["time"] < since or (lines.on_terminal and noise.search(line["text"])):
                continue
            if lines.on_terminal:
                tell(line["time"])
                with lock:
                    before, admitted = flood.full, flood.admits(line["unit"])
                if not admitted:
                    if not before:
                        tell_later()
                    continue
            lines.print(f"{palette.column(line['unit'])} {printable(line['text'])}")


def _stop(embedded: Embedded, *, quietly: bool = False) -> None:
    """Stop in the reverse order of links; a second Ctrl-C does not wait."""
    if not quietly:
        print("\nstopping; Ctrl-C again to kill", flush=True)
    try:
        with nullcontext() if quietly else _watched_stop(embedded.client):
            try:
                embedded.client.post("/kirsch/v1/down")
            except ClientError:
                pass  # it is on its way out, or gone
            embedded.tether.close()
            if embedded.wait(STOP_TIMEOUT) is None:
                raise TimeoutError
        return
    except (KeyboardInterrupt, TimeoutError):
        pass
    embedded.process.kill()
    embedded.wait()
    raise Failure("killed before all units had stopped")


@contextmanager
def _watched_stop(client: Client) -> Iterator[None]:
    """Print each unit that has stopped, while the body waits until kirschd has ended."""
    begun, given_up = threading.Event(), threading.Event()
    runs: set[str] = set()

    def watch() -> None:
        try:
            for event in client.stream("/kirsch/v1/events"):
                for line in event["units"]:
                    name = line["name"]
                    if line.get("active", "-") not in ("inactive", "failed", "-"):
                        runs.add(name)
                    elif name in runs and not given_up.is_set():
                        runs.remove(name)
                        print(f"  {name} stopped", flush=True)
                begun.set()
        except ClientError:
            return
        finally:
            begun.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    begun.wait(WATCH_TIMEOUT)  # a unit that stops before would not be told of
    try:
        yield
        thread.join(WATCH_TIMEOUT)
    finally:
        given_up.set()
    # The last ones can stop so shortly before kirschd ends that it sends no event of them any more.
    for name in sorted(runs):
        print(f"  {name} stopped", flush=True)
