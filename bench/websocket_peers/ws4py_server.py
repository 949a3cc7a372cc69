"""ws4py on the WSGI server of the standard library, as it does it: one thread that polls all connections.

On gevent's server it has a greenlet for each: `python ws4py_server.py ROLE gevent`.
"""

import logging
import socket
import sys

if "gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

from ready import BACKLOG, ROLE, ready
from ws4py.server.wsgiutils import WebSocketWSGIApplication
from ws4py.websocket import WebSocket

connections: list[WebSocket] = []


class Handler(WebSocket):
    def opened(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(self)

    def received_message(self, message: object) -> None:
        if ROLE == "broadcast":
            for connection in connections:
                connection.send(message.data, message.is_binary)
        elif ROLE == "length":
            self.send(str(len(message.data)))
        else:
            self.send(message.data, message.is_binary)


logging.disable()
application = WebSocketWSGIApplication(handler_cls=Handler)
if "gevent" in sys.argv:
    from ws4py.server.geventserver import WSGIServer

    server = WSGIServer(("127.0.0.1", 0), application, backlog=BACKLOG, log=None)
    server.start()
else:
    from wsgiref.simple_server import make_server

    from ws4py.server.wsgirefserver import WebSocketWSGIRequestHandler, WSGIServer

    class Quiet(WebSocketWSGIRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, application, WSGIServer, Quiet)
    server.socket.listen(BACKLOG)
    server.initialize_websockets_manager()
ready(server.server_port)
server.serve_forever()
