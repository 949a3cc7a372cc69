"""kirsch.websocket.asyncio's client finds the facts: `kirsch_asyncio.py URL URL URL`."""

import asyncio
import json
import sys

from ours import find

from kirsch.websocket.asyncio import connect

print(json.dumps(asyncio.run(find(connect, *sys.argv[1:]))))
