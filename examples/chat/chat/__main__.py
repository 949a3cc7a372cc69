"""`python -m chat`: one instance of the chat. It serves at once, and is ready once the broker is there."""

import os
import sys

import cherrypy

from kirsch.amqp import AMQPPlugin, BridgeCollector, RoomsPage, mount
from kirsch.bus import (
    SERVER_DEFAULTS,
    HealthPlugin,
    Limits,
    MetricsPlugin,
    NotifyPlugin,
    ServerError,
    configure_logging,
    http_server,
)
from kirsch.web import SettingsError, labelled
from kirsch.websocket.cherrypy import WebSocketPlugin

from .application import application, bridge_of
from .settings import Settings

THREADS = 10


def main() -> int:
    """Run the application until it is told to stop: 0. It cannot run: 1. Its settings are wrong: 2."""
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.site.log)
        serve(settings)
    except SettingsError as error:
        print(f"chat: {error}", file=sys.stderr)
        return 2
    except ServerError as error:
        print(f"chat: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Start the bus and everything on it, and return once it has stopped. Raises ServerError."""
    bus, site = cherrypy.engine, settings.site
    cherrypy.config.update(SERVER_DEFAULTS)
    cherrypy.server.unsubscribe()
    amqp = AMQPPlugin(bus, settings.broker)
    bridge = bridge_of(bus, amqp)
    cherrypy.tree.mount(application(bridge, settings))
    mount(cherrypy.tree)
    if settings.rooms_password:
        RoomsPage(bridge, settings.rooms_password).mount(cherrypy.tree)
    health = HealthPlugin(bus, drain=site.drain)
    # Without the broker there is still what was said before: a reason to stay in the balancer.
    health.add("rooms", bridge.check_serving)
    health.add("rabbitmq", bridge.check, required=False)
    health.mount(cherrypy.tree)
    metrics = MetricsPlugin(bus)
    metrics.add(BridgeCollector(bridge))
    metrics.mount(cherrypy.tree)
    headers = {"Server": "chat", "X-Kirsch-Instance": site.instance}
    tree, limits = labelled(cherrypy.tree, headers), Limits(threads=THREADS)
    http_server(bus, tree, host=site.address, port=site.port, limits=limits, headers=headers).bind()
    bus.signal_handler.subscribe()
    plugins = (amqp, bridge, WebSocketPlugin(bus), health, metrics, NotifyPlugin(bus, health.live))
    for plugin in plugins:
        plugin.subscribe()
    bus.start()
    bus.block()


if __name__ == "__main__":
    sys.exit(main())
