"""Site: a server's applications by path; and how a connection is made of a handshake."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import iscoroutinefunction, isfunction, signature
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from kirsch.websocket.core import arguments
from kirsch.websocket.core.application import WebSocket, log
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import Policy, accept, phrase
from kirsch.websocket.core.headers import Request, Response
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions, Opened
from kirsch.websocket.core.url import Url

# A class that extends WebSocket, or a callable with the same arguments.
Factory = Callable[..., WebSocket]
_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Site:
    """Application, or a mapping of paths to applications, with the policy and the limits for clients.

    `application` is a Factory, or a mapping of paths to Factories; other paths then get 404. A path such as
    "/rooms/{room}" is a route: `{room}` is any one part of the path, which a connection finds, decoded, in
    `path_params`. `wrap` makes a Factory of anything else that the provider takes (a function that runs on a
    connection).
    """

    application: Any
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    wrap: Callable[[Any], Factory] = lambda application: application
    # The routes that have a name in braces, by their parts.
    _routes: tuple[tuple[list[str], Any], ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        """Check everything. Raises TypeError, in one line."""
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
        routes = (
            [(path.split("/"), self.application[path]) for path in self.application if "{" in path]
            if several
            else []
        )
        object.__setattr__(self, "_routes", tuple(routes))
        arguments.kind("policy", self.policy, Policy, "a kirsch.websocket.Policy")
        arguments.kind("limits", self.limits, Limits, "a kirsch.websocket.Limits")

    def route(self, path: str) -> tuple[Any, Mapping[str, str]] | None:
        """Return the application at a path, and the parts that its route names; None if there is none."""
        if not isinstance(self.application, Mapping):
            return self.application, _NO_PARAMS
        application = self.application.get(path)
        if application is None and "%" in path:
            application = self.application.get(unquote(path))
        if application is not None:
            return application, _NO_PARAMS
        if self._routes:
            parts = path.split("/")
            for pattern, application in self._routes:
                if (found := _match(pattern, parts)) is not None:
                    return application, found
        return None

    def open(self, request: Request, peer: str, path: str | None = None) -> tuple[WebSocket, bytes]:
        """Make the connection that a request asks for; return it and the response.

        `path` is the one to look for where it is not the request's, but the rest of it.

        Raises HandshakeError: 404 for an unknown path, 431 for too many fields, 500 where the Factory or a
        function of the policy failed (which is logged), the answer of its `process_request`, and those of
        `accept`.
        """
        try:
            return self._open(request, peer, request.path if path is None else path)
        except HandshakeError as error:
            if request.method == "HEAD":
                error.body = b""
            raise
        except Exception as cause:
            log.error("%s: no connection could be made", peer, exc_info=cause)
            raise HandshakeError(500, "the application failed") from None

    def _open(self, request: Request, peer: str, path: str) -> tuple[WebSocket, bytes]:
        if self.policy.process_request is not None:
            answer = self.policy.process_request(request)
            if answer is not None:
                raise _answered(answer)
        route = self.route(path)
        if route is None:
            raise HandshakeError(404, "there is no WebSocket at this path")
        if len(request.headers) > self.limits.headers:
            # HeadReader checks this too, but another server may have read the request.
            raise HandshakeError(431, f"more than {self.limits.headers} header fields")
        factory = self.wrap(route[0])
        accepted = accept(request, self.policy)
        codec = accepted.deflate and accepted.deflate.codec(client=False, limits=self.limits)
        stream = getattr(factory, "streaming", False)
        websocket = factory(limits=self.limits, codec=codec, stream=stream)
        # Fails for a class whose __init__ does not call its parent's.
        websocket.get_buffer()
        if route[1]:
            websocket.path_params = route[1]
        websocket.request, websocket.subprotocol, websocket.peer = request, accepted.subprotocol, peer
        return websocket, accepted.response


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    """Return the named parts of a path, decoded, if it is one of a route's."""
    if len(pattern) != len(parts):
        return None
    found: dict[str, str] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted[:1] == "{" and wanted[-1:] == "}" and part:
            found[wanted[1:-1]] = unquote(part)
        elif wanted not in (part, unquote(part)):
            return None
    return found


def _answered(answer: object) -> HandshakeError:
    """Return a response of `process_request` in the form of a refusal. Raises TypeError, ValueError."""
    arguments.kind("what process_request returns", answer, Response, "a kirsch.websocket.Response or None")
    assert isinstance(answer, Response)
    if not 200 <= answer.status <= 599:
        raise ValueError(f"process_request answers with a status from 200 to 599, not {answer.status}")
    reason = answer.reason or phrase(answer.status)
    return HandshakeError(answer.status, reason, tuple(answer.headers.items()), answer.body)


def _takes_a_connection(function: Any) -> None:
    """Raise TypeError for a function that cannot be called with a connection alone."""
    try:
        parameters = signature(function)
    except (TypeError, ValueError):
        # A builtin without a signature.
        return
    try:
        parameters.bind(None)
    except TypeError:
        name = getattr(function, "__name__", "the application")
        raise TypeError(
            f"{name}{parameters} cannot be called with a connection alone; its path is ws.request.path"
        ) from None


def refuse_coroutines(application: Any) -> None:
    """Raise TypeError for a coroutine function, which threads and greenlets cannot run."""
    if iscoroutinefunction(application):
        raise TypeError(f"{application.__name__} is a coroutine function: they are for asyncio and Tornado")


def check_client(url: object, application: object, options: object, ssl: object, timeout: object) -> None:
    """Check the arguments of `connect`. Raises TypeError, ValueError."""
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


def client_connection(
    factory: Factory, opened: Opened, options: ClientOptions, stream: bool = False
) -> WebSocket:
    """Make a client's connection after its handshake; a factory's own `streaming` counts besides `stream`."""
    agreed = opened.agreed
    codec = agreed.deflate and agreed.deflate.codec(client=True, limits=options.limits)
    stream = stream or getattr(factory, "streaming", False)
    websocket = factory(client=True, limits=options.limits, codec=codec, stream=stream)
    websocket.subprotocol, websocket.peer = agreed.subprotocol, opened.url.place
    websocket.response = opened.response
    return websocket
