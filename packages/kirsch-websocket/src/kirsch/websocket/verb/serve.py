"""ws serve: an echo on any provider, an ASGI application, or what a configuration file says."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.verb import Options
from kirsch.install import pip_install
from kirsch.websocket import Limits, Policy, ProtocolError, Slow, WebSocket
from kirsch.websocket.core.url import place
from kirsch.websocket.listening import Place, listener, unix_socket
from kirsch.websocket.verb.config import LOOPED, THREADED, load

# A provider stops reading when half of the queue waits: at most one more read's messages come then.
QUEUE = 256 << 20
POLICY_VIOLATION = 1008
LARGEST = 64 << 20
THREADS = 10
# What has to be installed for a provider, by the name of the module that is not there.
INSTALL = {
    "tornado": pip_install("kirsch-websocket[tornado]"),
    "gevent": pip_install("kirsch-websocket[gevent]"),
    "cherrypy": pip_install("kirsch-websocket[cherrypy]"),
    "httptools": pip_install("kirsch-websocket[cherrypy]"),
    "uvicorn": "pip install uvicorn",
    "uvloop": "pip install uvloop",
}
PROVIDER = "asyncio"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Echo(WebSocket):
    """Sends back what comes."""

    def received_message(self, message: str | bytes | memoryview) -> None:
        try:
            self.send(message)
        except Slow as error:
            # Only a client that compresses what nobody else can gets that far.
            self.fail(ProtocolError(POLICY_VIOLATION, str(error)))


@dataclass(frozen=True, slots=True)
class Setting:
    """Address, TLS, policy, limits and applications of the server."""

    host: str
    port: int
    unix: str | None
    ssl: ssl.SSLContext | None
    policy: Policy
    limits: Limits
    threads: int
    loop: str | None
    provider: str = PROVIDER
    application: Any = Echo
    asgi: str | None = None
    certificate: tuple[str, str | None] | None = None

    @property
    def common(self) -> dict[str, Any]:
        """Arguments that most providers take."""
        return {"policy": self.policy, "limits": self.limits, "ssl": self.ssl, "unix": self.unix}

    @property
    def where(self) -> str:
        """The place, for people."""
        return self.unix if self.unix is not None else place(self.host, self.port)


def serve(options: Options) -> int:
    """Listen, say so, and echo until SIGTERM or SIGINT."""
    setting = _setting(options)
    # Each connection takes one, and the usual limit is 1024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        if options.asgi is not None:
            _asgi(setting)
        else:
            _PROVIDERS[setting.provider](setting)
    except ImportError as error:
        if error.name is None:
            # The provider itself says what it needs.
            raise Failure(str(error)) from None
        needed = error.name.partition(".")[0]
        if needed not in INSTALL:
            raise
        raise Failure(f"{needed} is not installed: {INSTALL[needed]}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        # Some say the address once more.
        why = str(error.strerror or error).partition(" (while")[0].partition(": (")[0]
        raise Failure(f"cannot listen on {setting.where}: {why}") from None
    except _server_error() as error:
        raise Failure(str(error)) from None
    return 0


def _server_error() -> tuple[type[Exception], ...]:
    """Return the error of CherryPy's server, if that is the one that failed."""
    module = sys.modules.get("kirsch.bus.http")
    return () if module is None else (module.ServerError,)


def _setting(options: Options) -> Setting:
    """Check the options against the provider. Raises Failure, and Misuse if they do not go together."""
    if options.config is not None:
        return _configured(options)
    if (options.place is None) == (options.unix is None):
        raise Misuse("say where: [HOST:]PORT or --unix PATH")
    if options.ssl_key is not None and options.ssl_cert is None:
        raise Misuse("--ssl-key goes with --ssl-cert")
    if options.threads is not None and options.provider not in THREADED:
        raise Misuse(f"--threads is for {', '.join(THREADED)}")
    if options.loop is not None and options.provider not in LOOPED:
        raise Misuse(f"--loop is for {', '.join(LOOPED)}")
    if options.asgi is not None:
        for name in ("origin", "subprotocol", "threads"):
            if getattr(options, name):
                raise Misuse(f"--{name} does not go with --asgi: the application decides")
        if options.provider != PROVIDER:
            raise Misuse("--provider does not go with --asgi: uvicorn serves the application")
    host, port = options.place or ("", 0)
    try:
        policy = Policy(subprotocols=tuple(options.subprotocol), origins=tuple(options.origin) or ("*",))
        if options.no_compress:
            policy = Policy(subprotocols=policy.subprotocols, origins=policy.origins, deflate=None)
    except ValueError as error:
        raise Misuse(str(error)) from None
    return Setting(
        host=host,
        port=port,
        unix=options.unix,
        ssl=_context(options.ssl_cert, options.ssl_key) if options.ssl_cert is not None else None,
        policy=policy,
        # Whatever its ratio, a message is no larger than the limit.
        limits=Limits(message=options.max_size, queue=max(QUEUE, 4 * options.max_size), ratio=None),
        threads=options.threads or THREADS,
        loop=options.loop,
        provider=options.provider,
        asgi=options.asgi,
        certificate=(options.ssl_cert, options.ssl_key) if options.ssl_cert is not None else None,
    )


def _configured(options: Options) -> Setting:
    """Return what a configuration file says; the place may be another. Raises Failure, Misuse."""
    named = ("ssl_cert", "ssl_key", "origin", "subprotocol", "no_compress", "asgi", "threads", "loop")
    given = [name.replace("_", "-") for name in named if getattr(options, name)]
    if options.provider != PROVIDER:
        given.append("provider")
    if options.max_size != LARGEST:
        given.append("max-size")
    if given:
        raise Misuse(f"--{given[0]} does not go with --config: the file says it")
    if options.place is not None and options.unix is not None:
        raise Misuse("say where: [HOST:]PORT or --unix PATH")
    path = Path(options.config)
    config, applications = load(path)
    listen, unix = options.place or config.listen, options.unix or config.unix
    if options.place is not None:
        unix = None
    if listen is None and unix is None:
        raise Failure(f"{path}: says not where to listen: write listen or unix, or give [HOST:]PORT")
    host, port = listen or ("", 0)
    return Setting(
        host=host,
        port=port,
        unix=unix,
        ssl=None if config.certificate is None else _context(*config.certificate),
        policy=config.policy,
        limits=config.limits,
        threads=config.threads or THREADS,
        loop=config.loop,
        provider=config.provider,
        application=applications,
    )


def _context(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for path in (certificate, key):
        try:
            if path is not None:
                open(path, "rb").close()
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from None
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        why = "holds no certificate with its private key (PEM)"
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the key in {key or 'it'} is another certificate's"
        raise Failure(f"{certificate}: {why}") from None
    return context


# The providers. A second signal has its usual effect: it ends what takes its time.


def _looped(setting: Setting) -> None:
    """asyncio, and Tornado, which runs on asyncio's loop."""
    module = import_module(f"kirsch.websocket.{setting.provider}")
    factory = import_module("uvloop").new_event_loop if setting.loop == "uvloop" else None

    async def run() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in SIGNALS:
            loop.add_signal_handler(number, stopped.set)
        async with module.serve(setting.application, setting.host, setting.port, **setting.common) as server:
            _say(server.url)
            await stopped.wait()
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


def _in_threads(setting: Setting) -> None:
    """threaded, and the servers that leave their connections to such threads."""
    module = import_module(f"kirsch.websocket.{setting.provider}")
    how = setting.common | {"threads": setting.threads}
    with _signals() as wait, module.serve(setting.application, setting.host, setting.port, **how) as server:
        _say(server.url)
        wait()


def _gevent(setting: Setting) -> None:
    import gevent
    from gevent.event import Event

    from kirsch.websocket.gevent import serve

    stopped = Event()
    handlers = [gevent.signal_handler(number, stopped.set) for number in SIGNALS]
    with serve(setting.application, setting.host, setting.port, **setting.common) as server:
        _say(server.url)
        stopped.wait()
        for handler, number in zip(handlers, SIGNALS, strict=True):
            handler.cancel()
            signal.signal(number, signal.SIG_DFL)


def _asgi(setting: Setting) -> None:
    """An ASGI application, on uvicorn with this library's WebSockets."""
    import uvicorn
    from uvicorn.importer import ImportFromStringError, import_from_string

    from kirsch.websocket.uvicorn import Protocol

    assert setting.asgi is not None
    sys.path.insert(0, os.getcwd())
    try:
        application = import_from_string(setting.asgi)
    except ImportFromStringError as error:
        raise Failure(str(error)) from None
    certificate, key = setting.certificate or (None, None)
    config = uvicorn.Config(
        application,
        ws=Protocol,
        loop=setting.loop or "auto",
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ws_max_size=setting.limits.message or sys.maxsize,
        ws_per_message_deflate=setting.policy.deflate is not None,
        log_level="warning",
    )
    sock = listener(setting.host, setting.port) if setting.unix is None else unix_socket(setting.unix)
    listening = Place(sock.getsockname(), certificate is not None)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _say(listening.url)

    # uvicorn raises the signal that ended it once more.
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    server = Server(config)
    try:
        server.run(sockets=[sock])
    finally:
        listening.remove()
    if not server.started:
        raise Failure(f"{setting.asgi} did not start")


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], object]]:
    """Return a function that waits for SIGTERM or SIGINT; threads started meanwhile do not see them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def wait() -> None:
        signal.sigwait(SIGNALS)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    yield wait


def _say(url: str) -> None:
    print(f"listening on {url}", flush=True)


_PROVIDERS: dict[str, Callable[[Setting], None]] = {
    "asyncio": _looped,
    "threaded": _in_threads,
    "tornado": _looped,
    "gevent": _gevent,
    "cherrypy": _in_threads,
    "wsgi": _in_threads,
}
