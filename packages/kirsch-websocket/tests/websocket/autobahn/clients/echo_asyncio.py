"""Autobahn's echo client on kirsch.websocket.asyncio: `echo_asyncio.py URL AGENT`."""

import asyncio
import sys

from awaited import run

from kirsch.websocket.asyncio import connect

asyncio.run(run(connect, *sys.argv[1:]))
