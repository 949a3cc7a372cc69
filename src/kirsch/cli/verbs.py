"""The verbs: their modules, and their lines in `kirsch --help`. Nothing is imported but what is asked for."""

import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kirsch import terminal

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# Columns of a page; a narrower terminal has as many as it has, down to NARROW.
WIDTH, NARROW = 80, 40
GROUP = "kirsch.verbs"

# By what a person wants to do: verb -> module and name in it, and one line.
VERBS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Run an application": {
        "init": ("init:init", "write the first files of an application"),
        "up": ("up:up", "run an application here, or on a cluster"),
        "dev": ("dev:dev", "run an application while you write it"),
        "down": ("up:down", "stop an application"),
        "serve": ("serve:serve", "serve a WSGI application over HTTP"),
    },
    "Change units": {
        "verify": ("verify:verify", "check unit files without submitting them"),
        "import": ("convert:import_", "make an application of files for another system"),
        "export": ("convert:export", "write an application for another system"),
        "submit": ("units:submit", "submit unit files"),
        "load": ("units:load", "put units on a machine without starting them"),
        "start": ("units:start", "start units"),
        "scale": ("units:scale", "run so many instances of a template"),
        "restart": ("units:restart", "stop units and start them again"),
        "stop": ("units:stop", "stop units"),
        "unload": ("units:unload", "stop units and take them off their machine"),
        "destroy": ("units:destroy", "stop units and forget them"),
        "secret": ("secret:secret", "set, rotate, list and remove secrets"),
    },
    "Look at units": {
        "list-units": ("lists:list_units", "list the units on machines, and their states (ps)"),
        "list-unit-files": ("lists:list_unit_files", "list all units that were submitted"),
        "status": ("units:status", "show the state of units, with their last lines"),
        "top": ("top:top", "show what machines and units use, live"),
        "journal": ("journal:journal", "print what units wrote (logs)"),
        "why": ("units:why", "say why units are not where, or as, people want them"),
        "dashboard": ("dashboard:dashboard", "show units and machines in a browser"),
        "cat": ("units:cat", "print units' files, byte for byte"),
    },
    "Releases": {
        "releases": ("releases:releases", "list the changes of applications"),
        "release": ("releases:release", "show a release, pause it, go on, call it off"),
        "rollback": ("releases:rollback", "bring an earlier release back"),
    },
    "Run a command": {
        "run": ("oneoff:run", "run a one-off command"),
        "exec": ("oneoff:execute", "run a command beside a running unit"),
        "db": ("db:db", "look after databases with replicas"),
        "ssh": ("ssh:ssh", "log in to a machine of a cluster, or run a command there"),
    },
    "Manage machines": {
        "list-machines": ("lists:list_machines", "list the machines"),
        "drain": ("machines:drain", "have all units leave a machine"),
        "cordon": ("machines:cordon", "have no more units come to a machine"),
        "uncordon": ("machines:uncordon", "have units come to a machine again"),
        "metadata": ("machines:metadata", "set a machine's metadata, or print it"),
        "move": ("machines:move", "move a unit to another machine, a sticky one too"),
        "rebalance": ("machines:rebalance", "move instances to where their Spread= wants them"),
        "cluster": ("cluster:cluster", "make clusters of machines, and change them"),
        "audit": ("users:audit", "list who changed what in a cluster, and what was refused"),
        "image": ("image:image", "build, send and remove images"),
        "metrics": ("metrics:metrics", "name a cluster's machines to Prometheus"),
    },
    "Other": {
        "doctor": ("doctor:doctor", "say what this computer has and lacks"),
        "postgres": ("postgres:postgres", "run PostgreSQL: the main process of a unit"),
        "balancer": ("balancer:balancer", "run HAProxy for the cluster's services"),
        "completion": ("completion:completion", "print a script for a shell's completion"),
        "help": ("help:help_", "list the verbs, or explain one"),
        "version": ("help:version", "print kirsch's version"),
    },
}
# As people type them, who come from docker compose.
ALIASES = {"ps": "list-units", "logs": "journal"}
# Verbs of docker compose, systemctl, kubectl and fleetctl that are none here, with what to type.
OTHERS = {
    "apply": "up, or submit --replace FILE",
    "attach": "journal -f UNIT",
    "build": "image build",
    "compose": "import compose FILE, then up",
    "config": "verify FILE",
    "create": "init, or submit FILE",
    "daemon-reload": "submit --replace FILE",
    "delete": "destroy UNIT",
    "describe": "status UNIT",
    "disable": "stop UNIT",
    "docker": "import compose FILE, then up",
    "edit": "cat UNIT, then submit --replace FILE",
    "enable": "start UNIT",
    "events": "list-units --watch",
    "get": "list-units",
    "images": "image list",
    "is-active": "status UNIT",
    "kill": "stop UNIT",
    "label": "metadata MACHINE KEY=VALUE",
    "list": "list-units",
    "login": "ssh MACHINE",
    "mask": "stop UNIT",
    "new": "init DIR --template KIND",
    "port": "list-units --fields unit,address",
    "pull": "image pull",
    "push": "image push",
    "reload": "restart UNIT",
    "remove": "destroy UNIT",
    "reset-failed": "start UNIT",
    "rm": "destroy UNIT",
    "show": "status UNIT, or cat UNIT",
    "taint": "cordon MACHINE",
    "units": "list-units",
}
# Options that name a kirschd: before the verb, or after it.
VALUES = {
    "endpoint": ("URL", "the kirschd to speak to: unix://PATH, or https://HOST:PORT"),
    "cluster": ("NAME", "the cluster to speak to, by any machine of it that answers"),
    "tunnel": ("HOST", "the machine to speak to, by ssh"),
}
DESCRIPTION = "kirsch runs unit files: here, and on a cluster of machines."
EPILOG = """\
Begin with an application:  kirsch up examples/notes
Then, in its folder:        kirsch list-units
More about a verb:          kirsch help VERB

Exit status: 0 done, 1 could not, 2 wrong usage.
KIRSCH_ENDPOINT, KIRSCH_CLUSTER and KIRSCH_TUNNEL stand for
the options of those names.
"""


def overview() -> str:
    """Return the page of `kirsch --help`."""
    options = {f"--{name} {metavar}": what for name, (metavar, what) in VALUES.items()}
    options |= {
        "-C DIR": "go to this folder first",
        "-h, --help": "this page",
        "--version": "kirsch's version",
    }
    parts = [f"usage: kirsch [OPTION]… VERB …\n\n{DESCRIPTION}\n"]
    for title, verbs in VERBS.items():
        parts.append(f"{title}:\n{listed({name: what for name, (_, what) in verbs.items()})}")
    if extra := {name: _summary(point) for name, point in extensions().items()}:
        parts.append(f"Of other packages:\n{listed(extra)}")
    return "\n".join([*parts, f"Options:\n{listed(options)}", EPILOG])


def summaries() -> dict[str, str]:
    """Return all verbs with their lines."""
    own = {name: what for verbs in VERBS.values() for name, (_, what) in verbs.items()}
    own |= {alias: own[verb] for alias, verb in ALIASES.items()}
    return own | {name: _summary(point) for name, point in extensions().items()}


def summary(name: str) -> str:
    """Return a verb's line. The distributions are searched only for a verb that is not kirsch's own."""
    name = ALIASES.get(name, name)
    for verbs in VERBS.values():
        if name in verbs:
            return verbs[name][1]
    return _summary(extensions()[name])


def load(name: str) -> Any:
    """Import a verb and return it; None if there is no such verb. Raises Failure."""
    name = ALIASES.get(name, name)
    for verbs in VERBS.values():
        if name in verbs:
            module, _, attribute = verbs[name][0].partition(":")
            return getattr(import_module(f"kirsch.cli.{module}"), attribute)
    point = extensions().get(name)
    if point is None:
        return None
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        from kirsch.cli.errors import Failure

        distribution = point.dist.name if point.dist else point.value
        raise Failure(f"{name} comes from {distribution}, which cannot be loaded: {error}") from error


@cache
def extensions() -> "dict[str, EntryPoint]":
    """Return the verbs of other distributions. A verb of kirsch's own is never replaced."""
    from importlib.metadata import entry_points

    own = {name for verbs in VERBS.values() for name in verbs} | ALIASES.keys()
    return {point.name: point for point in sorted(entry_points(group=GROUP)) if point.name not in own}


def _summary(point: "EntryPoint") -> str:
    return (point.dist.metadata["Summary"] or "") if point.dist else ""


def listed(rows: Mapping[str, str]) -> str:
    """Return names and what they are, a line each."""
    column = max(map(len, rows), default=0) + 4
    columns = width()
    return "".join(
        textwrap.fill(what, columns, initial_indent=f"  {name}".ljust(column), subsequent_indent=" " * column)
        + "\n"
        for name, what in rows.items()
    )


def width() -> int:
    """Return how many columns a page has on this terminal."""
    return max(min(terminal.size(sys.stdout).columns, WIDTH), NARROW)
