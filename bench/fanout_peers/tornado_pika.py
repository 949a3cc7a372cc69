"""Tornado, pika and CherryPy's bus, put together as in the article: one consumer, a bus, a handler each."""

import os
import sys

import pika
from cherrypy.process.wspbus import Bus
from pika.adapters.tornado_connection import TornadoConnection
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

bus = Bus()


class Socket(WebSocketHandler):
    def check_origin(self, origin):
        return True

    def open(self):
        self.set_nodelay(True)
        bus.subscribe("amqp2ws", self.push)

    def push(self, body):
        try:
            self.write_message(body)
        except WebSocketClosedError:
            pass

    def on_message(self, message):
        bus.publish("ws2amqp", message)

    def on_close(self):
        bus.unsubscribe("amqp2ws", self.push)


class Amqp:
    """What comes from the broker goes to the bus, and the other way."""

    def __init__(self, url, ready):
        self.ready = ready
        TornadoConnection(pika.URLParameters(url), on_open_callback=self.opened)

    def opened(self, connection):
        connection.channel(on_open_callback=self.channelled)

    def channelled(self, channel):
        self.channel = channel
        channel.exchange_declare("bench", "fanout", callback=self.exchange)

    def exchange(self, _):
        self.channel.queue_declare("", exclusive=True, callback=self.queue)

    def queue(self, frame):
        self.name = frame.method.queue
        self.channel.queue_bind(self.name, "bench", callback=self.bound)

    def bound(self, _):
        self.channel.basic_consume(self.name, self.came, auto_ack=True)
        bus.subscribe("ws2amqp", lambda body: self.channel.basic_publish("bench", "", body))
        self.ready()

    def came(self, channel, method, properties, body):
        bus.publish("amqp2ws", body.decode())


def ready():
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    HTTPServer(Application([("/", Socket)])).add_sockets(sockets)
    print(f"listening on {sockets[0].getsockname()[1]}", flush=True)


if __name__ == "__main__":
    Amqp(os.environ["AMQP_URL"], ready)
    try:
        IOLoop.current().start()
    except KeyboardInterrupt:
        sys.exit()
