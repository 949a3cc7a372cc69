"""ws: a client of WebSockets."""

import argparse
import getpass
import os
import signal
import ssl
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from kirsch.cli.errors import Failure, Misuse
from kirsch.websocket import ClientOptions, Deflate, Limits
from kirsch.websocket.frame import ABNORMAL, GOING_AWAY, NO_CODE, NORMAL
from kirsch.websocket.proxy import Proxy
from kirsch.websocket.threaded import Connection, connect
from kirsch.websocket.url import BadUrl, Url

PASSWORD = "KIRSCH_WS_PASSWORD"  # noqa: S105 - the variable's name
WELL = (NORMAL, GOING_AWAY, NO_CODE)


class Client(Connection):
    """A connection that knows how it ended: close code and reason; and the code a person closed it with."""

    outcome: tuple[int, str] | None = None
    chosen: int | None = None

    @property
    def well(self) -> bool:
        """Whether it ended as it should."""
        return self.outcome is not None and self.outcome[0] in (*WELL, self.chosen)

    def closed(self, code: int, reason: str) -> None:
        self.outcome = (code, reason)


def ws(options: argparse.Namespace) -> int:
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
        from kirsch.cli.ws_pipe import line

        print(line({"closed": {"code": code, "reason": reason}}))
    if not websocket.well:
        from kirsch.cli.journal import printable

        ended = "broke off" if code == ABNORMAL else f"was closed: {code} {printable(reason)}".rstrip()
        raise Failure(f"the connection {ended}")
    return status


def _mode(options: argparse.Namespace) -> Any:
    """What is to be done with the connection."""
    if options.ping is not None:
        from kirsch.cli.ws_measure import ping as mode
    elif options.bench is not None:
        from kirsch.cli.ws_measure import bench as mode
    elif _interactive(options) and find_spec("readline") is not None:
        from kirsch.cli.ws_terminal import talk as mode
    else:
        from kirsch.cli.ws_pipe import pipe as mode
    return mode


def _interactive(options: argparse.Namespace) -> bool:
    other = (options.json, options.binary, options.one, options.listen, options.exit_after, options.timeout)
    return sys.stdin.isatty() and sys.stdout.isatty() and not any(other)


def _measures(options: argparse.Namespace) -> bool:
    return options.ping is not None or options.bench is not None


def _check(options: argparse.Namespace) -> None:
    """Raises Misuse where options do not go together."""
    if options.ping is not None and options.bench is not None:
        raise Misuse("--ping or --bench, not both")
    measures = _measures(options)
    for option, fits, why in (
        ("size", measures, "goes with --ping or --bench"),
        ("in_flight", options.bench is not None, "goes with --bench"),
        ("interval", options.ping is not None, "goes with --ping"),
        ("binary", options.ping is None, "does not go with --ping"),
        ("one", not measures, "does not go with --ping or --bench"),
        ("exit_after", not measures and not options.one, "does not go with --one, --ping or --bench"),
        ("listen", not measures, "does not go with --ping or --bench"),
    ):
        if getattr(options, option) and not fits:
            raise Misuse(f"--{option.replace('_', '-')} {why}")
    if options.ping is not None and options.size and options.size > 125:
        raise Misuse("a ping carries 125 bytes at most (RFC 6455, 5.5)")
    if options.insecure and options.ca is not None:
        raise Misuse("--ca or --insecure, not both")


def _url(options: argparse.Namespace) -> Url:
    """Raises Misuse."""
    text = options.url if "://" in options.url else f"ws://{options.url}"
    try:
        url = Url.parse(text)
    except BadUrl as error:
        raise Misuse(str(error)) from None
    if url.password:
        raise Misuse(f"others can see a password in a URL: use --user, and {PASSWORD} where nobody can type")
    return url


def _options(options: argparse.Namespace) -> ClientOptions:
    """Raises Misuse."""
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


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Raises Failure where the certificates cannot be read."""
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
