"""RabbitMQ on the bus, and rooms of WebSockets over all processes.

    amqp = AMQPPlugin(cherrypy.engine)
    bridge = Bridge(cherrypy.engine, amqp)
    amqp.subscribe()
    bridge.subscribe()

`AMQPPlugin` connects the bus to a broker; `Bridge` lets browsers meet in rooms, whichever process they are
connected to. Names are imported when they are first used.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

if find_spec("pika") is None or find_spec("cherrypy") is None:
    from kirsch.install import pip_install

    raise ImportError(f"kirsch.amqp needs pika and CherryPy: {pip_install('kirsch-amqp')}", name="pika")

if TYPE_CHECKING:
    from kirsch.amqp.access import Identity, Ticket
    from kirsch.amqp.bridge import Bridge
    from kirsch.amqp.broker import Broker, BrokerError, broker_from
    from kirsch.amqp.client import RoomClient, RoomError, RoomMessage
    from kirsch.amqp.connection import Refused
    from kirsch.amqp.javascript import mount
    from kirsch.amqp.limits import Limits
    from kirsch.amqp.message import Delivery, Publication, Rejected
    from kirsch.amqp.metrics import BridgeCollector
    from kirsch.amqp.overview import RoomsPage
    from kirsch.amqp.plugin import AMQPPlugin
    from kirsch.amqp.protocol import Hello
    from kirsch.amqp.tokens import Tokens
    from kirsch.amqp.topology import Binding, Consumer, Exchange, Queue

__all__ = [
    "AMQPPlugin",
    "Binding",
    "Bridge",
    "BridgeCollector",
    "Broker",
    "BrokerError",
    "Consumer",
    "Delivery",
    "Exchange",
    "Hello",
    "Identity",
    "Limits",
    "Publication",
    "Queue",
    "Refused",
    "Rejected",
    "RoomClient",
    "RoomError",
    "RoomMessage",
    "RoomsPage",
    "Ticket",
    "Tokens",
    "broker_from",
    "mount",
]

_MODULES = {
    "AMQPPlugin": "plugin",
    "Binding": "topology",
    "Bridge": "bridge",
    "BridgeCollector": "metrics",
    "Broker": "broker",
    "BrokerError": "broker",
    "Consumer": "topology",
    "Delivery": "message",
    "Exchange": "topology",
    "Hello": "protocol",
    "Identity": "access",
    "Limits": "limits",
    "Publication": "message",
    "Queue": "topology",
    "Refused": "connection",
    "Rejected": "message",
    "RoomClient": "client",
    "RoomError": "client",
    "RoomMessage": "client",
    "RoomsPage": "overview",
    "Ticket": "access",
    "Tokens": "tokens",
    "broker_from": "broker",
    "mount": "javascript",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
