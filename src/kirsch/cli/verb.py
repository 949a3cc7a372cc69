"""Building blocks of verbs: click's commands, with manual pages and errors of one line.

A verb is declared above the function that carries it out, its parameters as data::

    @verb("drain", argument("machines", "MACHINE", MACHINE, many=True), *waits(600), JSON,
          example="kirsch drain n1", text="Units move one after another.")
    def drain(options: Options) -> int:

`kirsch.cli.verbs` lists the verbs with their modules. Other distributions add a verb by an entry point in
the group ``kirsch.verbs``: its name is the verb, its object a `Verb` or a `Noun`. Their line in
``kirsch --help`` is the summary of the distribution, and nothing of it is imported before the verb is called.
"""

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kirsch.cli.verbs import OTHERS, VALUES, listed, load, overview, summaries, summary, width

if TYPE_CHECKING:
    from kirsch.cluster.api.client import Client
    from kirsch.cluster.provision.endpoint import Where

INDENT = "    "
WHERE = ("endpoint", "cluster", "tunnel")

# Suggestions for one parameter on a command line, from what was typed before it.
Complete = Callable[[click.Context, click.Parameter, str], Iterable[str | CompletionItem]]


class Options(SimpleNamespace):
    """Values of a verb's parameters; `endpoint`, `cluster` and `tunnel` may be given before the verb too."""

    endpoint: str | None
    cluster: str | None
    tunnel: str | None

    def report(self, **values: Any) -> None:
        """Add to what --json prints at the end of a verb that has REPORT; without it nothing is done."""
        reported: dict[str, Any] = self.__dict__.setdefault("reported", {})
        reported.update(values)

    def where(self) -> "Where":
        """Return the kirschd that the options or the environment name. Raises ClientError."""
        from kirsch.cluster.provision.endpoint import Where

        return Where.given(self.endpoint, self.cluster, self.tunnel)

    def client(self, timeout: float | None = None) -> "Client":
        """Return a client of that kirschd, or of the folder's own. Raises ClientError."""
        from kirsch.cluster.api.client import TIMEOUT, Client
        from kirsch.cluster.provision.endpoint import transport_to

        return Client(transport_to(self.where()), TIMEOUT if timeout is None else timeout, _tell_age)

    def reader(self) -> "Client":
        """Return a client for a verb that only reads. An application that is not up is read from its folder,
        which is said on standard error. Raises ClientError."""
        where = self.where()
        if not (where.endpoint or where.cluster or where.tunnel):
            from kirsch.cluster.provision.endpoint import answers_here

            if not answers_here():
                from kirsch.cluster.application.remains import Remains

                if (remains := Remains.find(Path.cwd())) is not None:
                    print(f"kirsch: {remains.notice}", file=sys.stderr)
                    return remains
        return self.client()


_told: set[str] = set()


def _tell_age(as_of: str) -> None:
    """Say once, on standard error, from when an answer is."""
    from datetime import datetime

    if not _told:
        _told.add(as_of)
        at = datetime.fromisoformat(as_of).astimezone()
        print(f"kirsch: as of {at:%H:%M:%S}; the registry has not answered since", file=sys.stderr)


class Parsed(click.ParamType[Any]):
    """Type of a parameter: the result of a function, whose ValueError says what was expected."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def argument(
    name: str,
    metavar: str,
    help: str = "",
    *,
    many: bool = False,
    optional: bool = False,
    default: Any = None,
    type: Any = str,
    complete: Complete | None = None,
) -> click.Argument:
    """Declare what stands after a verb: once, or with `many` once or more; `optional` allows none."""
    given = {} if default is None else {"default": default}
    return click.Argument(
        [name],
        metavar=metavar,
        help=help or None,
        nargs=-1 if many else 1,
        required=not optional,
        type=_type(type),
        shell_complete=complete,
        **given,
    )


def option(
    *names: str,
    metavar: str,
    help: str = "",
    type: Any = str,
    default: Any = None,
    repeat: bool = False,
    hidden: bool = False,
    complete: Complete | None = None,
    **more: Any,
) -> click.Option:
    """Declare an option with a value; with `repeat` it may be given several times."""
    given = {} if default is None else {"default": default}
    return click.Option(
        names,
        metavar=metavar,
        help=help,
        type=_type(type),
        multiple=repeat,
        hidden=hidden,
        shell_complete=complete,
        **given,
        **more,
    )


def flag(*names: str, help: str = "", hidden: bool = False) -> click.Option:
    """Declare an option without a value: False unless it is given."""
    return click.Option(names, is_flag=True, default=False, help=help, hidden=hidden)


def _type(type: Any) -> Any:
    return type if isinstance(type, click.ParamType) or type is str else Parsed(type)


def where(ctx: click.Context) -> dict[str, str | None]:
    """Return which kirschd was named, after the verb or before it."""
    return {name: ctx.params.get(name) or ctx.find_root().params.get(name) for name in WHERE}


# For verbs that change something: words for people go to standard error then.
REPORT = flag("--json", help="print JSON, once all is done")


class Verb(click.Command):
    """One verb. With `rest`, words after the first argument are not read as options."""

    def __init__(
        self,
        name: str,
        run: Callable[[Options], int],
        params: Sequence[click.Parameter] = (),
        *,
        summary: str = "",
        text: str = "",
        example: str = "",
        rest: bool = False,
        title: str = "kirsch",
    ) -> None:
        super().__init__(
            name,
            {
                "help_option_names": ["-h", "--help"],
                "allow_extra_args": True,
                "allow_interspersed_args": not rest,
            },
            callback=self._call,
            params=[*params, *_places(params)],
            short_help=summary,
            help=text,
        )
        self.run = run
        self.example = example
        self.title = title

    def _call(self, **values: Any) -> int:
        several = {p.name for p in self.params if p.nargs == -1 or getattr(p, "multiple", False)}
        # Lists, so that a verb may add to what was given.
        given = {name: list(value) if name in several else value for name, value in values.items()}
        root = click.get_current_context().find_root()
        if folder := given.pop("folder") or root.params.get("folder"):
            os.chdir(str(folder))
        options = Options(**given | where(click.get_current_context()))
        if not (REPORT in self.params and options.json):
            return self.run(options)
        with redirect_stdout(sys.stderr):
            status = self.run(options)
        print(json.dumps(options.__dict__.get("reported", {}), indent=2, ensure_ascii=False))
        return status

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise click.UsageError(f"unrecognized arguments: {' '.join(ctx.args)}", ctx)
        return ctx.args

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        found = super().get_help_option(ctx)
        if found:
            found.help = "show this page"
        return found

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        names = (
            (_name(p) + ("…" if p.nargs == -1 else ""), p)
            for p in self.params
            if isinstance(p, click.Argument)
        )
        return ["[OPTION]…", *(name if p.required else f"[{name}]" for name, p in names)]

    def get_help(self, ctx: click.Context) -> str:
        """Return the page: NAME, SYNOPSIS, DESCRIPTION, ARGUMENTS, OPTIONS, EXAMPLE (man-pages(7))."""
        params = self.get_params(ctx)
        arguments = [(_name(p), p.help) for p in params if isinstance(p, click.Argument) and p.help]
        options = [
            record for p in params if isinstance(p, click.Option) and (record := p.get_help_record(ctx))
        ]
        summary = self.get_short_help_str(limit=200)
        parts = (
            ("NAME", f"{ctx.command_path.replace(' ', '-')} - {summary}"),
            ("SYNOPSIS", _wrapped(" ".join([ctx.command_path, *self.collect_usage_pieces(ctx)]))),
            ("DESCRIPTION", "\n\n".join(map(_wrapped, _paragraphs(summary, self.help or "")))),
            ("ARGUMENTS", _listed(arguments)),
            ("OPTIONS", _listed(options)),
            ("EXAMPLE", self.example),
        )
        return "\n\n".join(f"{title}\n{textwrap.indent(text, INDENT)}" for title, text in parts if text)


class Noun(click.Group):
    """Verbs of two words, such as `kirsch image build`; without a second word, `otherwise`."""

    def __init__(self, name: str, *, summary: str = "", otherwise: Verb | None = None) -> None:
        super().__init__(name, short_help=summary, context_settings={"help_option_names": ["-h", "--help"]})
        self.otherwise = otherwise

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if self.otherwise and (not args or args[0] not in self.commands):
            return self.otherwise.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def verb(
        self, name: str, summary: str, *params: click.Parameter, **words: Any
    ) -> Callable[[Callable[[Options], int]], Callable[[Options], int]]:
        """Declare one of the noun's verbs above its function."""

        def declare(run: Callable[[Options], int]) -> Callable[[Options], int]:
            self.add_command(Verb(name, run, params, summary=summary, **words))
            return run

        return declare

    def get_help(self, ctx: click.Context) -> str:
        """Return the noun's verbs, a line each."""
        path = ctx.command_path.partition(" ")[2]
        verbs = {f"{path} {name}": verb.get_short_help_str(200) for name, verb in self.commands.items()}
        return listed(verbs).rstrip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise Incomplete(f"{self.name} what? There are\n{self.get_help(ctx)}\n")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None and not ctx.resilient_parsing:
            alike = get_close_matches(args[0], self.commands, n=1)
            hint = f"; did you mean {alike[0]}?" if alike else ""
            raise click.UsageError(f"{self.name} what? There are {', '.join(self.commands)}{hint}", ctx)
        return args[0], found, args[1:]


class Incomplete(click.ClickException):
    """A noun without a verb; the message is what to print."""

    exit_code = 2


class Root(click.Group):
    """`kirsch` itself: imports a verb when it is called."""

    def __init__(self) -> None:
        places = [option(f"--{name}", metavar=metavar, help=help) for name, (metavar, help) in VALUES.items()]
        places.append(option("-C", "folder", metavar="DIR", help="go to this folder first"))
        super().__init__("kirsch", callback=_begin, params=places, invoke_without_command=True)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found: click.Command | None = load(cmd_name)
        if found is not None and not found.short_help:
            found.short_help = summary(cmd_name)
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(summaries())

    def get_help(self, ctx: click.Context) -> str:
        return overview().rstrip()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None and not ctx.resilient_parsing:
            raise click.UsageError(unknown(args[0], summaries()), ctx)
        return args[0], found, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=help)
            for name, help in summaries().items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def _begin(folder: str | None, **places: str | None) -> None:
    """Refuse a command line that names a kirschd or a folder, but no verb."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        given = " ".join(f"--{name} {value}" for name, value in places.items() if value is not None)
        raise click.UsageError(f"what is to be done? A verb is missing in {given}", ctx)


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to say of a verb that does not exist, with those like it."""
    if name in OTHERS:
        return f"there is no verb {name}: try kirsch {OTHERS[name]}"
    alike = get_close_matches(name, list(known), n=2)
    return f"there is no verb {name}" + (f"; did you mean {' or '.join(alike)}?" if alike else "")


def verb(name: str, *params: click.Parameter, **words: Any) -> Callable[[Callable[[Options], int]], Verb]:
    """Declare a verb above its function, which it replaces; `Verb` says which `words` there are."""
    return lambda run: Verb(name, run, params, **words)


def _places(params: Sequence[click.Parameter]) -> list[click.Option]:
    """Return the options that name a kirschd, hidden after the verb; a verb may have one of its own."""
    own = {param.name for param in params}
    places = [option(f"--{name}", metavar=VALUES[name][0], hidden=True) for name in WHERE if name not in own]
    return [*places, option("-C", "folder", metavar="DIR", hidden=True)]


def _paragraphs(summary: str, text: str) -> list[str]:
    first, *others = (" ".join(each.split()) for each in text.split("\n\n"))
    return [f"{summary[:1].upper()}{summary[1:]}. {first}".strip(), *others]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, width() - len(INDENT), break_on_hyphens=False)


def _listed(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    formatter = click.HelpFormatter(width=width() - len(INDENT))
    formatter.write_dl(rows, col_max=24)
    return formatter.getvalue().rstrip("\n")


def verb_of(arguments: Sequence[str]) -> list[str]:
    """Return the verb of a command line, for an error that click has no place of."""
    return [next(word for word in arguments if word in summaries())] if {*arguments} & {*summaries()} else []


def message(error: click.UsageError, arguments: Sequence[str] = ()) -> str:
    """Return one line for wrong usage, with the page that helps."""
    path = error.ctx.command_path if error.ctx else " ".join(["kirsch", *verb_of(arguments)])
    return f"{_words(error)} (see {path} --help)"


def _words(error: click.UsageError) -> str:
    match error:
        case click.NoSuchOption():
            word = error.option_name
            known = [name for p in error.ctx.command.params for name in p.opts] if error.ctx else []
            known += ["--help", "--version"] if error.ctx and error.ctx.parent is None else ["--help"]
            alike = get_close_matches(word, known, n=1) if word.startswith("--") else []
            return f"unrecognized arguments: {word}" + (f"; did you mean {alike[0]}?" if alike else "")
        case click.MissingParameter(param=click.Parameter() as param):
            return f"the following arguments are required: {_name(param)}"
        case click.BadParameter(param=click.Parameter() as param):
            return f"argument {_name(param)}: {error.message.rstrip('.')}"
    return error.message[:1].lower() + error.message[1:].rstrip(".")


def _name(param: click.Parameter) -> str:
    return (param.metavar or "") if isinstance(param, click.Argument) else "/".join(param.opts)


def carry_out(arguments: list[str]) -> int:
    """Run a command line; wrong usage is told on standard error, with exit status 2."""
    root = Root()
    try:
        with root.make_context("kirsch", list(arguments)) as ctx:
            status: int = root.invoke(ctx)
            return status
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        title = getattr(error.ctx.command if error.ctx else None, "title", "kirsch")
        print(f"{title}: {message(error, arguments)}", file=sys.stderr)
        return 2
    except Incomplete as error:
        print(f"kirsch: {error.message}", end="", file=sys.stderr)
        return error.exit_code
