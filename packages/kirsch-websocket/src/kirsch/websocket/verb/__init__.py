"""ws: a client of WebSockets, and an echo server."""

import getpass
import os
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import click
from click.shell_completion import CompletionItem

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.values import count, field, place, seconds, size
from kirsch.cli.verb import Noun, Options, Verb, argument, flag, option
from kirsch.websocket import ClientOptions, Deflate, Limits
from kirsch.websocket.core.frame import ABNORMAL
from kirsch.websocket.core.url import BadUrl, Proxy, Url
from kirsch.websocket.threaded import connect
from kirsch.websocket.verb.pipe import Client

PASSWORD = "KIRSCH_WS_PASSWORD"  # noqa: S105 - the variable's name
PROVIDERS = ("asyncio", "threaded", "tornado", "gevent", "cherrypy", "wsgi")
LOOPS = ("asyncio", "uvloop")
PEM = click.Path()
CLIENT = (
    "On a terminal each line is sent as a text message, and what comes is shown. In a "
    "pipe each line of standard input is a message, and each message a line of standard output.\n\n"
    "On a terminal Ctrl-D, Ctrl-C and /quit close the connection with 1000; /close CODE REASON closes it "
    "with another code, /ping asks whether the peer is there, /help says what else there is. A line that "
    "begins with // is sent with one / less.\n\n"
    "In a pipe the connection is closed when standard input has ended and nothing has come for --timeout "
    "seconds; with --listen it goes on until the peer closes it. --exit-after N ends it after N messages, -1 "
    "after one; it fails if fewer came. The exit status is 1 too unless the connection was closed with 1000, "
    "1001 or no code.\n\n"
    "A password is never an argument, for others could see it: it is asked on the terminal, or taken from "
    "KIRSCH_WS_PASSWORD."
)
SERVER = (
    "Every message goes back as it came, text as text, binary as binary. Prints where it "
    "listens once it does. SIGTERM and Ctrl-C end it; its connections are closed with 1001 first, and those "
    "that do not answer within 10 seconds are ended.\n\n"
    "Unlike a server of your own it takes pages of any origin, messages of 64 MiB with any ratio of "
    "compression, and queues 256 MiB or four messages for a client; it raises its limit of open files as far "
    "as it may. Other limits are the library's: 16 KiB and 10 seconds for a handshake, a ping after 20 s "
    "of silence and the end 20 seconds later.\n\n"
    "With --asgi an application is served in place of the echo, by uvicorn with this library's WebSockets: "
    "FastAPI, Starlette, Django Channels. --max-size, --no-compress, --loop and the options of address and "
    "of TLS hold for it.\n\n"
    "With --config a file says all: the place (listen or unix), provider, threads, loop, and the tables "
    "routes (a path to MODULE:NAME, a class or a function of yours beside the file), policy (origins, "
    "subprotocols, compression, headers), limits (by the names of Limits, 'none' for none) and tls "
    "(certificate, key). Policy and limits are the library's then, not the echo's. [HOST:]PORT and --unix "
    "hold in place of the file's."
)


def talk(options: Options) -> int:
    """Talk to a WebSocket: on a terminal, in a pipe, or to measure it."""
    _check(options)
    url, how, context = _url(options), _options(options), _context(options)
    if how.auth is None and url.username is not None:
        how = replace(how, auth=(url.username, _password(url.username)))
    # A service manager's stop is Ctrl-C by another name.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    websocket = connect(url, Client, options=how, ssl=context, timeout=options.timeout)
    with websocket:
        try:
            status: int = _mode(options)(websocket, url, options)
        except (KeyboardInterrupt, BrokenPipeError):
            # Whoever read has what they wanted, and the peer did nothing wrong.
            websocket.close()
            raise
    code, reason = websocket.outcome or (ABNORMAL, "")
    if options.json and not _measures(options):
        from kirsch.websocket.verb.pipe import line

        print(line({"closed": {"code": code, "reason": reason}}))
    if not websocket.well:
        from kirsch.cli.journal import printable

        ended = "broke off" if code == ABNORMAL else f"was closed: {code} {printable(reason)}".rstrip()
        raise Failure(f"the connection {ended}")
    return status


def _mode(options: Options) -> Any:
    """Return the function for the mode: ping, bench, terminal or pipe."""
    if options.ping is not None:
        from kirsch.websocket.verb.measure import ping as mode
    elif options.bench is not None:
        from kirsch.websocket.verb.measure import bench as mode
    elif _interactive(options) and find_spec("prompt_toolkit") is not None:
        from kirsch.websocket.verb.terminal import talk as mode
    else:
        from kirsch.websocket.verb.pipe import pipe as mode
    return mode


def _interactive(options: Options) -> bool:
    other = (options.json, options.binary, options.one, options.listen, options.exit_after, options.timeout)
    return sys.stdin.isatty() and sys.stdout.isatty() and not any(other)


def _measures(options: Options) -> bool:
    return options.ping is not None or options.bench is not None


def _check(options: Options) -> None:
    """Refuse options that do not go together. Raises Misuse."""
    if options.ping is not None and options.bench is not None:
        raise Misuse("--ping or --bench, not both")
    measures = _measures(options)
    for name, fits, why in (
        ("size", measures, "goes with --ping or --bench"),
        ("in_flight", options.bench is not None, "goes with --bench"),
        ("interval", options.ping is not None, "goes with --ping"),
        ("binary", options.ping is None, "does not go with --ping"),
        ("one", not measures, "does not go with --ping or --bench"),
        ("exit_after", not measures and not options.one, "does not go with --one, --ping or --bench"),
        ("listen", not measures, "does not go with --ping or --bench"),
    ):
        if getattr(options, name) and not fits:
            raise Misuse(f"--{name.replace('_', '-')} {why}")
    if options.ping is not None and options.size and options.size > 125:
        raise Misuse("a ping carries 125 bytes at most (RFC 6455, 5.5)")
    if options.insecure and options.ca is not None:
        raise Misuse("--ca or --insecure, not both")


def _url(options: Options) -> Url:
    """Return the URL that was typed. Raises Misuse."""
    text = options.url if "://" in options.url else f"ws://{options.url}"
    try:
        url = Url.parse(text)
    except BadUrl as error:
        raise Misuse(str(error)) from None
    if url.password:
        raise Misuse(f"others can see a password in a URL: use --user, and {PASSWORD} where nobody can type")
    return url


def _options(options: Options) -> ClientOptions:
    """Return the options of the connection. Raises Misuse."""
    size, flight = options.size or 0, options.in_flight or 1
    limits = Limits(
        message=options.max_size,
        # Whatever its ratio, a message is no larger than the limit.
        ratio=None,
        queue=max(1 << 20, 2 * size * flight if options.bench is not None else 0),
        handshake_timeout=options.timeout or 10.0,
        close_timeout=2.0,
    )
    compressed = not options.no_compress and options.bench is None
    try:
        proxy = "environment" if options.proxy is None else None if options.proxy == "none" else options.proxy
        if options.proxy not in (None, "none") and Proxy.parse(options.proxy).password:
            raise Misuse("others can see a password in --proxy: set http_proxy or https_proxy")
        made = ClientOptions(
            subprotocols=tuple(options.subprotocol),
            deflate=Deflate() if compressed else None,
            origin=options.origin,
            headers=tuple(options.header),
            proxy=proxy,
            limits=limits,
        )
        if options.user is None:
            return made
        return replace(made, auth=(options.user, _password(options.user)))
    except ValueError as error:
        raise Misuse(str(error)) from None


def _password(user: str) -> str:
    """From the environment, or the terminal. Raises Misuse where there is neither."""
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(f"Password of {user}: ")
    except (OSError, EOFError):
        raise Misuse(f"there is no terminal to ask for {user}'s password: set {PASSWORD}") from None


def _context(options: Options) -> ssl.SSLContext | None:
    """Return how TLS is checked, None by default. Raises Failure if certificates cannot be read."""
    if options.insecure:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif options.ca is not None:
        try:
            context = ssl.create_default_context(cafile=options.ca)
        except ssl.SSLError:
            raise Failure(f"{options.ca}: holds no certificates (PEM)") from None
        except OSError as error:
            raise Failure(f"{options.ca}: {error.strerror}") from None
    else:
        return None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _serve(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest the other verb: nobody knows the URLs."""
    return [CompletionItem("serve")] if "serve".startswith(incomplete) else []


class Talk(Verb):
    """A verb with options whose value may be left out: --ping takes what follows only if it is a number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        optional = {"--ping": count, "--bench": seconds}
        kept: list[str] = []
        last: list[str] = []
        for word, following in pairwise([*args, "-"]):
            alone = word in optional and not following.startswith("-") and not _is(optional[word], following)
            (last if alone else kept).append(word)
        return super().parse_args(ctx, kept + last)


def _is(parse: Callable[[str], Any], text: str) -> bool:
    """True if a text can be a value; a number is meant for one, even if it is wrong."""
    try:
        return text.isdecimal() or parse(text) is not None
    except ValueError:
        return False


ws = Noun(
    "ws",
    otherwise=Talk(
        "ws",
        talk,
        (
            argument(
                "url",
                "URL",
                "ws://, wss:// or ws+unix://PATH[:/TARGET]; ws:// may be left out",
                complete=_serve,
            ),
            option(
                "--ping",
                metavar="[N]",
                type=count,
                is_flag=False,
                flag_value=0,
                help="measure round trips, N or until Ctrl-C",
            ),
            option(
                "--bench",
                metavar="[SECONDS]",
                type=seconds,
                is_flag=False,
                flag_value=5.0,
                help="measure the rate of an echo (5)",
            ),
            option(
                "--size", metavar="BYTES", type=size, help="of each message of --bench (64), or each ping (8)"
            ),
            option(
                "--in-flight",
                metavar="N",
                type=count,
                help="messages of --bench that wait for their echo (100)",
            ),
            option("--interval", metavar="SECONDS", type=seconds, help="between two pings (1)"),
            flag("-1", "--one", help="end after the first message that comes"),
            option("--exit-after", metavar="N", type=count, help="end after N messages that come"),
            flag("--listen", help="go on after the end of standard input"),
            option(
                "--timeout",
                metavar="SECONDS",
                type=seconds,
                help="wait so long at most for the connection (10), and for the next message once all is "
                "sent (1)",
            ),
            flag("--binary", help="all of standard input is one binary message; print bytes"),
            option("--subprotocol", metavar="NAME", repeat=True, help="offer it; may be repeated"),
            option(
                "--header",
                metavar="'NAME: VALUE'",
                repeat=True,
                type=field,
                help="send this field too; may be repeated",
            ),
            option("--origin", metavar="URL", help="say that a page from there asks, as a browser would"),
            option("--user", metavar="NAME", help="HTTP basic authentication; the password is asked for"),
            option(
                "--ca",
                metavar="FILE",
                type=PEM,
                help="trust the certificates in this file (PEM) and no others",
            ),
            flag("--insecure", help="take any certificate"),
            option(
                "--proxy",
                metavar="URL",
                help="http://, https://, socks5:// …, or none; else as http_proxy says",
            ),
            flag("--no-compress", help="do not offer permessage-deflate"),
            option(
                "--max-size",
                metavar="BYTES",
                type=size,
                default=64 << 20,
                help="of a message that comes (64M)",
            ),
            flag("--json", help="print JSON, a line for each message or result"),
        ),
        summary="talk to a WebSocket",
        text=CLIENT,
        example="kirsch ws wss://example.com/chat",
    ),
)


@ws.verb(
    "serve",
    "serve an echo, an ASGI application, or what a file says",
    argument(
        "place",
        "[HOST:]PORT",
        "where to listen; 127.0.0.1 without HOST, a free port for 0",
        optional=True,
        type=place,
    ),
    option(
        "--provider",
        metavar="NAME",
        type=click.Choice(PROVIDERS),
        default="asyncio",
        help="what does the I/O (asyncio): " + ", ".join(PROVIDERS),
    ),
    option("--unix", metavar="PATH", type=PEM, help="listen on a Unix socket instead"),
    option("--ssl-cert", metavar="FILE", type=PEM, help="speak TLS, with this certificate (PEM)"),
    option("--ssl-key", metavar="FILE", type=PEM, help="its private key, if it is not in the same file"),
    option("--max-size", metavar="BYTES", type=size, default=64 << 20, help="of a message (64M)"),
    option(
        "--origin",
        metavar="URL",
        repeat=True,
        help="browsers' pages from there only; may be repeated; `same` is the host itself (any)",
    ),
    option("--subprotocol", metavar="NAME", repeat=True, help="speak it; may be repeated"),
    flag("--no-compress", help="do without permessage-deflate"),
    option(
        "--config",
        metavar="FILE",
        type=PEM,
        help="serve what this file says (TOML: routes, policy, limits, TLS), not an echo",
    ),
    option("--asgi", metavar="MODULE:APP", help="serve this ASGI application by uvicorn, not an echo"),
    option("--threads", metavar="N", type=count, help="threaded, cherrypy, wsgi: of so many threads (10)"),
    option(
        "--loop",
        metavar="LOOP",
        type=click.Choice(LOOPS),
        help="asyncio, tornado: asyncio's own event loop, or uvloop",
    ),
    text=SERVER,
    example="kirsch ws serve 8765",
)
def serve(options: Options) -> int:
    """Serve an echo until SIGTERM."""
    from kirsch.websocket.verb.serve import serve as echo

    return echo(options)
