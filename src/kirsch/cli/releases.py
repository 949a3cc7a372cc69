"""releases, release show/pause/resume/promote/abort, rollback: changes of applications, and their history."""

import getpass
import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kirsch.cli import kubernetes
from kirsch.cli.errors import Failure
from kirsch.cli.journal import printable
from kirsch.cli.names import machine_names
from kirsch.cli.output import Column, table
from kirsch.cli.values import JSON, NO_BLOCK, NO_LEGEND, count, timeout
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option, verb
from kirsch.cli.waiting import events
from kirsch.cluster.api.client import RELEASES, UNITS, Client, ClientError

# Lines of a unit that failed, as many as are shown, and as many as are looked through for them.
SHOWN = 10
READ = 1000
# The stream of lines that kirsch itself writes about a unit.
OURS = "kirsch"

Row = Mapping[str, Any]

APPLICATION = argument(
    "application", "APP", "the application; may be left out where there is one", optional=True, default=""
)
NUMBER = argument("number", "N", "the release's number; the newest if left out", optional=True, type=count)
MESSAGE = option("-m", "--message", metavar="TEXT", help="why, for the history", default="")
NOW = flag("--now", help="take the place of a release that is under way")

release = Noun("release")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


COLUMNS: dict[str, Column] = {
    "application": lambda row, full: str(row["application"]),
    "release": lambda row, full: str(row["number"]),
    "state": lambda row, full: str(row["state"]),
    "created": lambda row, full: _time(row["created"]),
    "by": lambda row, full: str(row["who"]),
    "message": lambda row, full: _message(row),
}


def _message(row: Row) -> str:
    failure = row["failure"]
    return f"{failure['unit']} {failure['reason']}" if failure else str(row["message"])


@verb(
    "releases",
    APPLICATION,
    NO_LEGEND,
    JSON,
    text="Each change of units that run is a release: by `kirsch up`, `submit --replace`, `restart`. The "
    "last ten of each application are kept.",
    example="kirsch releases notes",
)
def releases(options: Options) -> int:
    """List releases, the newest first."""
    rows = _history(options.client(), options.application)
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print(table(rows, COLUMNS, list(COLUMNS), legend=not options.no_legend), end="")
    return 0


@release.verb(
    "show",
    "show a release: how far it is, and what it changes",
    APPLICATION,
    NUMBER,
    JSON,
    text="It names its units' images, and its secrets by the time at which they had been set. Texts that it "
    "changes are shown as diff(1) does. A release that failed says at which instance, "
    "with its last lines.",
    example="kirsch release show notes 4",
)
def show(options: Options) -> int:
    """Print one release: its state, and the texts and images that it changes."""
    from difflib import unified_diff

    client = options.client()
    found = client.get(_path(_meant(client, options)))
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    row = found["release"]
    # A kirschd of the version before has neither images nor secrets.
    secrets = row.get("secrets", {})
    fields = {
        "State": row["state"],
        "Created": f"{_time(row['created'])} by {row['who'] or 'somebody'}",
        "Ended": _time(row["ended"]),
        "Message": row["message"],
        "Images": ", ".join(found.get("images", ())),
        "Secrets": ", ".join(f"{name} of {_time(at) or 'later'}" for name, at in secrets.items()),
        "Replaced": ", ".join(row["replaced"]),
        "Destroyed": ", ".join(found["gone"]),
    }
    print(f"release {row['number']} of {row['application']}")
    print("\n".join(f"{name:>10}: {value}" for name, value in fields.items() if value))
    if row["failure"]:
        print(f"\n{explained(client, row)}")
    alike: dict[tuple[str, str], list[str]] = {}
    for change in found["changes"]:
        alike.setdefault((change["before"] or "", change["after"] or ""), []).append(change["unit"])
    for texts, units in alike.items():
        before, after = (text.splitlines(keepends=True) for text in texts)
        name = ", ".join(units)
        print()
        sys.stdout.writelines(unified_diff(before, after, f"{name} before", f"{name} after"))
    return 0


def _steer(name: str, summary: str, states: Sequence[str], text: str) -> None:
    @release.verb(
        name,
        summary,
        APPLICATION,
        NUMBER,
        JSON,
        text=text,
        example=f"kirsch release {name} notes",
    )
    def steer(options: Options) -> int:
        client = options.client()
        found = _meant(client, options, states)
        row = client.post(_path(found), {"do": name})["release"]
        if options.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            print(f"release {row['number']} of {row['application']}: {_DONE[name]}")
        return 0


_DONE = {
    "pause": "paused",
    "resume": "goes on",
    "promote": "the other instances are replaced too",
    "abort": "called off: what it replaced goes back to the text it had",
}
UNDER_WAY = ("waiting", "running", "canary", "paused", "rolling-back")
_steer("pause", "pause a release", UNDER_WAY, "No more instances are replaced until it is resumed.")
_steer("resume", "go on with a release that is paused", UNDER_WAY, "An instance that failed is tried again.")
_steer(
    "promote",
    "replace the other instances too, after canaries",
    UNDER_WAY,
    "With canary = N in [release] of kirsch.toml, a release stops after N instances until this is said.",
)
_steer("abort", "call a release off", UNDER_WAY, "What it replaced goes back to the text it had.")


@verb(
    "rollback",
    APPLICATION,
    NUMBER,
    MESSAGE,
    NOW,
    NO_BLOCK,
    timeout(180, "give up waiting after this time"),
    REPORT,
    text="It is a release like any other, with the texts of an earlier one: of the last good one but "
    "one, if no number is given.",
    example="kirsch rollback notes 3",
)
def rollback(options: Options) -> int:
    """Bring an earlier release back."""
    if kubernetes.named(options):
        return kubernetes.rollback(options)
    client = options.client()
    application = _named(options) or _only(client)
    body = {"who": who(), "message": options.message, "now": options.now}
    if options.number is not None:
        body["number"] = options.number
    row = client.post(f"{RELEASES}/{quote(application, safe='')}", body)["release"]
    if options.no_block:
        options.report(releases=[row])
        print(f"release {row['number']} of {application}: {row['message']}")
        return 0
    options.report(releases=[wait(client, row, options.timeout)])
    print(f"release {row['number']} of {application} is done: {row['message']}")
    return 0


def who() -> str:
    """Return who asks, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def note_of(options: Options) -> dict[str, Any]:
    """Return what goes with a change: who makes it, and why."""
    message, now = getattr(options, "message", ""), getattr(options, "now", False)
    return {"who": who(), "message": message, "now": now}


def listed(client: Client, application: str = "") -> list[Row]:
    """Return releases, the newest first."""
    query = f"?application={quote(application, safe='')}" if application else ""
    rows: list[Row] = client.get(f"{RELEASES}{query}")["releases"]
    return rows


def _history(client: Client, application: str) -> list[Row]:
    """Return releases, the newest first. Raises Failure where the application that is named has none."""
    rows = listed(client, application)
    if application and not rows:
        names = sorted({row["application"] for row in listed(client)})
        among = f"; there are some of {', '.join(names)}" if names else ""
        raise Failure(f"there are no releases of {application}{among}")
    return rows


def _named(options: Options) -> str:
    """The application that was named; a number alone is a release's."""
    if options.application.isdigit() and options.number is None:
        options.number, options.application = int(options.application), ""
    return str(options.application)


def _only(client: Client) -> str:
    """The one application that has releases. Raises Failure."""
    names = sorted({row["application"] for row in listed(client)})
    if len(names) != 1:
        raise Failure("there are no releases" if not names else f"name the application: {', '.join(names)}")
    return str(names[0])


def _meant(client: Client, options: Options, states: Sequence[str] = ()) -> Row:
    """The release that a person means: the newest where no number is given. Raises Failure."""
    application = _named(options)
    rows = _history(client, application)
    if options.number is not None:
        rows = [row for row in rows if row["number"] == options.number]
    under_way = [row for row in rows if row["state"] in states]
    rows = under_way or rows
    if not rows:
        what = f"release {options.number}" if options.number is not None else "release"
        raise Failure(f"there is no {what}" + (f" of {application}" if application else ""))
    if len({row["application"] for row in rows}) > 1:
        names = sorted({row["application"] for row in rows})
        raise Failure(f"name the application: {', '.join(names)}")
    return rows[0]


def _path(row: Row) -> str:
    return f"{RELEASES}/{quote(row['application'], safe='')}/{row['number']}"


def _is_held_up(client: Client, row: Row) -> bool:
    """True if a release before this one is under way; else it waits for the engine's next step alone."""
    rows = listed(client, row["application"])
    return any(each["number"] < row["number"] and each["state"] in UNDER_WAY for each in rows)


def follow(
    client: Client, row: Row, names: Sequence[str], timeout: float, shown: Callable[[Row], None]
) -> Row:
    """Return a release once it is over, paused, or waits to be promoted; `shown` gets each unit's line that
    changes. Raises Failure when time is up."""
    for first, event in events(client, names, timeout):
        for line in event["units"]:
            if not line.get("gone"):
                shown(line)
        changed = event["releases"]
        if first:
            changed = [client.get(_path(row))["release"]]
        each: Row
        for each in changed:
            if first and each["state"] == "waiting" and _is_held_up(client, row):
                print("It waits for the release that is under way; --now takes its place.", flush=True)
            same = (each["application"], each["number"]) == (row["application"], row["number"])
            if same and (each["ended"] or each["state"] in ("paused", "canary")):
                return each
    raise Failure(
        f"release {row['number']} of {row['application']} is not done after {timeout:g} s, and goes on; "
        f"`kirsch release show {row['application']} {row['number']}` says how far it is"
    )


def has_commands(client: Client, application: str, number: int) -> bool:
    """Return True for a release that runs commands first: without these its units do not start."""
    row = client.get(_path({"application": application, "number": number}))["release"]
    return bool(row["commands"])


def wait(client: Client, row: Row, timeout: float, shown: Callable[[Row], None] = lambda line: None) -> Row:
    """Wait for a release. Raises Failure with what went wrong, where, and what runs now."""
    names = row["start"]
    end = follow(client, row, names, timeout, shown)
    if end["state"] not in ("done", "canary"):
        raise Failure(explained(client, end))
    return end


def explained(client: Client, row: Row) -> str:
    """Return one paragraph on a release that did not go well."""
    failure, number = row["failure"], f"release {row['number']} of {row['application']}"
    parts = []
    if failure:
        machine = machine_names(client).get(failure["machine"], "") if failure["machine"] else ""
        where = f" on {machine}" if machine else ""
        parts.append(f"{number} failed: {failure['unit']}{where} {failure['reason']}.")
        if lines := list(_last_lines(client, failure)):
            parts.append("Its last lines:")
            parts += [f"  {line}" for line in lines]
    else:
        parts.append(f"{number} is {row['state']}.")
    parts.append(_after(client, row))
    return "\n".join(parts)


def _last_lines(client: Client, failure: Row) -> Iterator[str]:
    """Yield the lines that the unit wrote in the try that failed."""
    if not failure["began"]:
        return
    try:
        lines = client.get("/kirsch/v1/journal", unit=failure["unit"], lines=READ)["lines"]
    except ClientError:
        return
    mine = [line for line in lines if failure["began"] - 1 <= line["time"] <= failure["ended"]]
    own = [line for line in mine if line["stream"] != OURS]
    yield from (printable(line["text"]) for line in (own or mine)[-SHOWN:])


def _after(client: Client, row: Row) -> str:
    """Return what runs now, and what to do next."""
    again = "mend it and repeat the change"
    match row["state"]:
        case "rolled-back" | "aborted":
            if row["failure"] and row["failure"]["unit"] in row["commands"]:
                return f"Nothing was changed{_running(client, row['start'])}."
            if not row["failure"]:
                words = "What it had replaced runs the text it had before"
            else:
                words = "Everything that it had replaced runs the text it had before"
            return f"{words}{_running(client, row['start'])}."
        case "paused":
            name = f"{row['application']} {row['number']}"
            return f"It is paused: `kirsch release resume {name}` tries again, `abort` takes it back."
        case "superseded":
            return "Another release took its place."
    return f"What it started stays as it is{_running(client, row['start'])}; {again}."


def _running(client: Client, names: Iterable[str]) -> str:
    wanted = set(names)
    lines = [line for line in client.get(UNITS)["units"] if line["name"] in wanted]
    ready = sorted({line["name"] for line in lines if line["ready"]})
    return f" (ready: {', '.join(ready)})" if ready else " (nothing of it is ready)"
