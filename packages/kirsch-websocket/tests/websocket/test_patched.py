"""Threads' server and client in a program that gevent has patched: its threads are greenlets."""

import subprocess
import sys

import pytest

pytest.importorskip("gevent")

PATIENCE = 60

PROGRAM = """
from gevent import monkey

monkey.patch_all()

from kirsch.websocket import ClientOptions, Limits, WebSocket
from kirsch.websocket.threaded import connect, serve


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def echo(ws):
    for message in ws:
        ws.send(message)


limits = Limits(message=None, queue=1 << 28)
options = ClientOptions(limits=limits, deflate=None)
for application in (Echo, echo):
    with serve(application, limits=limits, threads=1) as server, connect(server.url, options=options) as ws:
        try:
            ws.recv(0.05)
        except TimeoutError as error:
            print(error)
        # Who does not read holds up nobody else.
        ws.send(bytes(40_000_000))
        with connect(server.url, options=options) as other:
            for number in range(100):
                other.send(str(number))
            print([other.recv(20) for number in range(100)] == [str(number) for number in range(100)])
        print(len(ws.recv(20)))
"""


def test_a_patched_program_may_use_threads():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["no message came in time", "True", "40000000"] * 2
