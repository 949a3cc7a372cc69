"""Autobahn's echo client on kirsch.websocket.tornado: `echo_tornado.py URL AGENT`."""

import sys

from awaited import run
from tornado.ioloop import IOLoop

from kirsch.websocket.tornado import connect

IOLoop.current().run_sync(lambda: run(connect, *sys.argv[1:]))
