"""`python -m location`: where this phone is, in a browser."""

import os
import socket
import sys

import cherrypy

from kirsch.bus import (
    SERVER_DEFAULTS,
    HealthPlugin,
    Limits,
    NotifyPlugin,
    ServerError,
    configure_logging,
    http_server,
)
from kirsch.device import LocationPlugin, SourceError, sources
from kirsch.web import SettingsError, labelled
from kirsch.websocket.cherrypy import WebSocketPlugin

from .application import application
from .settings import EVERYWHERE, Settings

# A phone has few of everything.
LIMITS = Limits(threads=5, backlog=64, queue=100, keep_alive=50, body=64 * 1024)
# The page may ask the browser where that is.
POLICY = "camera=(), geolocation=(self), microphone=()"


def main() -> int:
    """Serve until told to stop: 0. It cannot: 1. The settings are wrong: 2."""
    try:
        settings = Settings.parse(sys.argv[1:], os.environ)
        serve(settings)
    except (SettingsError, SourceError) as error:
        print(f"location: {error}", file=sys.stderr)
        return 2
    except ServerError as error:
        print(f"location: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Start the bus and all on it, and return once it has stopped. Raises ServerError, SourceError."""
    bus = cherrypy.engine
    plugin = LocationPlugin(bus, sources(settings.sources))
    configure_logging("text")
    cherrypy.config.update(SERVER_DEFAULTS)
    cherrypy.server.unsubscribe()
    cherrypy.tree.mount(application(plugin, settings))
    health = HealthPlugin(bus, drain=0)
    health.mount(cherrypy.tree)
    headers = {"Server": "location", "X-Kirsch-Instance": settings.instance, "Permissions-Policy": POLICY}
    http_server(
        bus,
        labelled(cherrypy.tree, headers),
        host=settings.address,
        port=settings.port,
        limits=LIMITS,
        headers=headers,
    ).bind()
    bus.signal_handler.subscribe()
    for each in (plugin, WebSocketPlugin(bus, threads=3), health, NotifyPlugin(bus, health.live)):
        each.subscribe()
    print(greeting(settings), flush=True)
    bus.start()
    bus.block()


def greeting(settings: Settings) -> str:
    """What the phone's screen says: where to look, and the token where one is asked for."""
    here = f"Open http://localhost:{settings.port}/location"
    if not settings.token:
        return f"{here} on this device. (--share: from others too.)"
    there = own_address() if settings.address == EVERYWHERE else settings.address
    host = f"[{there}]" if ":" in there else there
    others = f"http://{host}:{settings.port}/location"
    return f"{here} on this device,\nor {others} on others.\nToken: {settings.token}"


def own_address() -> str:
    """The address that others reach this device at, as far as it knows: none is sent anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # TEST-NET-1 (RFC 5737): where the way there begins is all that is asked.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "localhost"
        address: str = probe.getsockname()[0]
        return address


if __name__ == "__main__":
    sys.exit(main())
