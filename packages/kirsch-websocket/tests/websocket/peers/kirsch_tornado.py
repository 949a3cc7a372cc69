"""kirsch.websocket.tornado's client finds the facts: `kirsch_tornado.py URL URL URL`."""

import json
import sys

from ours import find
from tornado.ioloop import IOLoop

from kirsch.websocket.tornado import connect

print(json.dumps(IOLoop.current().run_sync(lambda: find(connect, *sys.argv[1:]))))
