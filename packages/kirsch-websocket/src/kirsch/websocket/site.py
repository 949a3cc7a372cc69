"""From a handshake to a connection: what a server offers at which path, and what a client gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import iscoroutinefunction, isfunction, signature
from typing import Any

from kirsch.websocket import arguments
from kirsch.websocket.application import WebSocket, log
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.handshake import Policy, Request, accept
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions, Opened
from kirsch.websocket.url import Url

# What makes one connection: a class that extends WebSocket, or whatever takes the same arguments.
Factory = Callable[..., WebSocket]


@dataclass(frozen=True, slots=True)
class Site:
    """An application, or one for each path; what is accepted of clients and what they may cost.

    `application` is a Factory, or a mapping of paths to Factories: other paths get 404 then. `wrap` makes a
    Factory of what a provider takes besides (a function that is given a connection to iterate over).
    """

    application: Any
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    wrap: Callable[[Any], Factory] = lambda application: application

    def __post_init__(self) -> None:
        """Raises TypeError, in one line, for what cannot be offered."""
        several = isinstance(self.application, Mapping)
        for path, application in self.application.items() if several else [("/", self.application)]:
            if not isinstance(path, str) or not path.startswith("/"):
                raise TypeError(f"the path of an application begins with a slash: not {path!r}")
            if not callable(application):
                raise TypeError(f"an application is a class or a function, not {type(application).__name__}")
            if isinstance(application, type) and not issubclass(application, WebSocket):
                raise TypeError(f"{application.__name__} does not extend kirsch.websocket.WebSocket")
            if self.wrap(application) is not application:
                _takes_a_connection(application)
        arguments.kind("policy", self.policy, Policy, "a kirsch.websocket.Policy")
        arguments.kind("limits", self.limits, Limits, "a kirsch.websocket.Limits")

    def open(self, request: Request, peer: str) -> tuple[WebSocket, bytes]:
        """The connection a request asks for, and the response that tells the client.

        Raises HandshakeError, also 404 for a path where nothing is, 431 for too many fields, and 500 where
        the Factory failed: that is logged.
        """
        application = self.application
        if isinstance(application, Mapping):
            application = application.get(request.path)
            if application is None:
                raise HandshakeError(404, "there is no WebSocket at this path")
        if len(request.headers) > self.limits.headers:
            # Where another server has read it.
            raise HandshakeError(431, f"more than {self.limits.headers} header fields")
        factory = self.wrap(application)
        accepted = accept(request, self.policy)
        codec = accepted.deflate and accepted.deflate.codec(client=False, limits=self.limits)
        stream = getattr(factory, "streaming", False)
        try:
            websocket = factory(limits=self.limits, codec=codec, stream=stream)
            # A class whose __init__ does not call its parent's has nothing to read with.
            websocket.get_buffer()
        except Exception as cause:
            log.error("%s: no connection could be made", peer, exc_info=cause)
            raise HandshakeError(500, "the application failed") from None
        websocket.request, websocket.subprotocol, websocket.peer = request, accepted.subprotocol, peer
        return websocket, accepted.response


def _takes_a_connection(function: Any) -> None:
    """Raises TypeError for a function that cannot be called with a connection alone."""
    try:
        parameters = signature(function)
    except (TypeError, ValueError):
        # It does not tell.
        return
    try:
        parameters.bind(None)
    except TypeError:
        name = getattr(function, "__name__", "the application")
        raise TypeError(
            f"{name}{parameters} cannot be called with a connection alone; its path is ws.request.path"
        ) from None


def refuse_coroutines(application: Any) -> None:
    """For providers that call functions in threads or greenlets: TypeError for a coroutine function."""
    if iscoroutinefunction(application):
        raise TypeError(f"{application.__name__} is a coroutine function: they are for asyncio and Tornado")


def check(url: object, application: object, options: object, ssl: object, timeout: object) -> None:
    """What a client is given. Raises TypeError, ValueError."""
    arguments.kind("url", url, str | Url, "a text or a kirsch.websocket.Url")
    if isinstance(application, type) and not issubclass(application, WebSocket):
        raise TypeError(f"{application.__name__} does not extend kirsch.websocket.WebSocket")
    if application is not None and not callable(application):
        raise TypeError(f"an application is a class, not {arguments.shown(application)}")
    if isfunction(application) and len(signature(application).parameters) == 1:
        raise TypeError(
            f"{application.__name__} is a function, and a client's application is a class: leave it out, and "
            "iterate over the connection"
        )
    arguments.kind("options", options, ClientOptions | None, "kirsch.websocket.ClientOptions or None")
    arguments.context(ssl)
    arguments.seconds("timeout", timeout, none=True)


def joined(factory: Factory, opened: Opened, options: ClientOptions, stream: bool = False) -> WebSocket:
    """A client's connection, after its handshake; `stream` where the factory itself does not say so."""
    agreed = opened.agreed
    codec = agreed.deflate and agreed.deflate.codec(client=True, limits=options.limits)
    stream = stream or getattr(factory, "streaming", False)
    websocket = factory(client=True, limits=options.limits, codec=codec, stream=stream)
    websocket.subprotocol, websocket.peer = agreed.subprotocol, opened.url.place
    return websocket
