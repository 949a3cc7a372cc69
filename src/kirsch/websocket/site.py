"""From a handshake to a connection: what a server offers at which path, and what a client gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.websocket.application import WebSocket, log
from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.handshake import Policy, Request, accept
from kirsch.websocket.limits import Limits
from kirsch.websocket.opening import ClientOptions, Opened

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

    def open(self, request: Request, peer: str) -> tuple[WebSocket, bytes]:
        """The connection a request asks for, and the response that tells the client.

        Raises HandshakeError, also 404 for a path where nothing is, and 500 where the Factory failed: that is
        logged.
        """
        application = self.application
        if isinstance(application, Mapping):
            application = application.get(request.path)
            if application is None:
                raise HandshakeError(404, "there is no WebSocket at this path")
        factory = self.wrap(application)
        accepted = accept(request, self.policy)
        codec = accepted.deflate and accepted.deflate.codec(client=False, limits=self.limits)
        stream = getattr(factory, "streaming", False)
        try:
            websocket = factory(limits=self.limits, codec=codec, stream=stream)
        except Exception as cause:
            log.error("%s: no connection could be made", peer, exc_info=cause)
            raise HandshakeError(500, "the application failed") from None
        websocket.request, websocket.subprotocol, websocket.peer = request, accepted.subprotocol, peer
        return websocket, accepted.response


def joined(factory: Factory, opened: Opened, options: ClientOptions, stream: bool = False) -> WebSocket:
    """A client's connection, after its handshake; `stream` where the factory itself does not say so."""
    agreed = opened.agreed
    codec = agreed.deflate and agreed.deflate.codec(client=True, limits=options.limits)
    stream = stream or getattr(factory, "streaming", False)
    websocket = factory(client=True, limits=options.limits, codec=codec, stream=stream)
    websocket.subprotocol, websocket.peer = agreed.subprotocol, opened.url.place
    return websocket
