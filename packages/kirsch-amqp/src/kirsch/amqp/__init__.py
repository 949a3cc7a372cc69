"""The broker, the bus and the browser: RabbitMQ on the bus, and rooms of WebSockets (`pip install
kirsch-amqp`).

    amqp = AMQPPlugin(cherrypy.engine)
    bridge = Bridge(cherrypy.engine, amqp)
    amqp.subscribe()
    bridge.subscribe()

`AMQPPlugin` connects the bus to a broker; `Bridge` lets browsers meet in rooms, whichever process they are
connected to. Names are imported when they are first used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("pika") is None or find_spec("cherrypy") is None:
    raise ImportError("kirsch.amqp needs pika and CherryPy: pip install kirsch-amqp", name="pika")

if TYPE_CHECKING:
    from kirsch.amqp.bridge import Bridge
    from kirsch.amqp.broker import Broker, BrokerError, broker_from
    from kirsch.amqp.identity import Identity, Refused
    from kirsch.amqp.javascript import mount
    from kirsch.amqp.limits import Limits
    from kirsch.amqp.message import Delivery, Publication, Rejected
    from kirsch.amqp.metrics import BridgeCollector
    from kirsch.amqp.plugin import AMQPPlugin
    from kirsch.amqp.protocol import Hello
    from kirsch.amqp.topology import Binding, Consumer, Exchange, Queue

_MODULES = {
    "bridge": ("Bridge",),
    "broker": ("Broker", "BrokerError", "broker_from"),
    "identity": ("Identity", "Refused"),
    "javascript": ("mount",),
    "limits": ("Limits",),
    "message": ("Delivery", "Publication", "Rejected"),
    "metrics": ("BridgeCollector",),
    "plugin": ("AMQPPlugin",),
    "protocol": ("Hello",),
    "topology": ("Binding", "Consumer", "Exchange", "Queue"),
}

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
    "broker_from",
    "mount",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
