"""What ws4py's examples do, written for this library as the migration guide says."""

import asyncio

import cherrypy
import pytest
from cherrypy.process.wspbus import Bus
from tests.deadline import eventually
from tests.websocket.serving import provider, serving

from kirsch.bus import Limits as ServerLimits
from kirsch.bus import http_server
from kirsch.websocket import ClientOptions, Closed, State, WebSocket
from kirsch.websocket.cherrypy import WebSocketPlugin, WebSocketTool
from kirsch.websocket.threaded import connect

PATIENCE = 20


class EchoClient(WebSocket):
    """Client of ws4py's echo: a message of many fragments, then many messages, until the longest is back."""

    def opened(self):
        self.received, self.ends = [], []
        self.send("#" * length for length in range(1, 200, 25))
        for length in range(0, 200, 25):
            self.send("*" * length)

    def received_message(self, message):
        self.received.append(message)
        if len(message) == 175:
            self.close(reason="Bye bye")

    def closed(self, code, reason):
        self.ends.append((code, reason))


class EchoServer(WebSocket):
    """The server of ws4py's echo."""

    def received_message(self, message):
        self.send(message)


class TestEcho:
    @pytest.mark.parametrize("name", ["threaded", "cherrypy", "gevent", "tornado", "wsgi"])
    def test_with_a_client_in_threads(self, name):
        with serving(name, EchoServer) as server:
            client = connect(server.url, EchoClient)
            assert client.wait_closed(PATIENCE)
        self.check(client)

    def test_with_a_client_on_tornado(self):
        async def run(url):
            client = await provider("tornado").connect(url, EchoClient)
            assert await client.wait_closed(PATIENCE)
            return client

        with serving("threaded", EchoServer) as server:
            self.check(asyncio.run(run(server.url)))

    def test_with_a_client_on_gevent(self):
        with serving("threaded", EchoServer) as server:
            client = provider("gevent").connect(server.url, EchoClient)
            assert client.wait_closed(PATIENCE)
            # ws4py's gevent client is asked for its messages.
            with provider("gevent").connect(server.url) as ws:
                ws.send("one")
                assert ws.recv(PATIENCE) == "one"
        self.check(client)

    def check(self, client):
        first = "".join("#" * length for length in range(1, 200, 25))
        assert client.received == [first, *("*" * length for length in range(0, 200, 25))]
        assert client.ends == [(1000, "Bye bye")]
        # ws4py: client.terminated
        assert client.state == State.CLOSED
        with pytest.raises(Closed):
            client.send("late")


class Chat(WebSocket):
    """The chat of ws4py's examples for CherryPy: what one says all hear, and who leaves is missed."""

    bus = None

    def received_message(self, message):
        self.bus.publish("websocket-broadcast", message)

    def closed(self, code, reason):
        self.bus.publish("websocket-broadcast", f"{self.user} left: {reason or 'without a word'}")


class TestChat:
    @pytest.fixture
    def place(self):
        """A CherryPy application with the chat at /ws, and the plugin."""
        bus = Bus()
        chat = type("Chat", (Chat,), {"bus": bus})

        websocket = cherrypy.tools.websocket = WebSocketTool(bus)

        class Root:
            @cherrypy.expose
            @websocket(application=chat)
            def ws(self):
                websocket = cherrypy.request.websocket
                # ws4py: handler.environ
                websocket.user = websocket.request.headers.get("X-User")

        plugin = WebSocketPlugin(bus)
        plugin.subscribe()
        pages = cherrypy.Application(Root(), "")
        adapter = http_server(bus, pages, port=0, limits=ServerLimits(threads=4))
        adapter.bind()
        bus.state = bus.states.STARTING
        bus.publish("start")
        bus.state = bus.states.STARTED
        yield "ws://{}:{}/ws".format(*adapter.bind_addr), plugin
        bus.stop()

    def test_all_hear_it(self, place):
        url, plugin = place
        people = [connect(url, options=ClientOptions(headers={"X-User": name})) for name in ("ann", "bob")]
        eventually(lambda: len(plugin.connections) == 2)
        people[0].send("hello")
        assert [ws.recv(PATIENCE) for ws in people] == ["hello", "hello"]
        people[0].close(reason="tired")
        assert people[0].wait_closed(PATIENCE)
        assert people[1].recv(PATIENCE) == "ann left: tired"
        people[1].close()
        assert people[1].wait_closed(PATIENCE)
