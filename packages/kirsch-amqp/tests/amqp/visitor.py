"""A client of the protocol, as a page is one: it sends again, comes back, and drops doubles."""

import json
from secrets import token_urlsafe

from kirsch.websocket import Closed
from kirsch.websocket.threaded import connect

PATIENCE = 20


class Visitor:
    """One connection at a time; what comes is kept, by type, in order."""

    def __init__(self, application, name="somebody", key=None, hello=True, **options):
        self.url = getattr(application, "url", application)
        self.name = name
        self.key = key or token_urlsafe(24)
        self.options = options
        self.ws = connect(self.url, **options)
        self.said = []
        self.client = ""
        if hello:
            self.client = self.hello()["client"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ws.close()
        self.ws.wait_closed(PATIENCE)

    def say(self, **said):
        self.ws.send(json.dumps(said))

    def hello(self, **more):
        self.say(type="hello", key=self.key, name=self.name, **more)
        return self.until("welcome")

    def hear(self, timeout=PATIENCE):
        """The next message."""
        said = json.loads(self.ws.recv(timeout))
        self.said.append(said)
        return said

    def until(self, kind, timeout=PATIENCE, **wanted):
        """The next message of a type, with such members."""
        while True:
            said = self.hear(timeout)
            if said["type"] == kind and all(said.get(name) == value for name, value in wanted.items()):
                return said

    def join(self, room, **options):
        self.say(type="join", room=room, **options)
        return self.until("joined", room=room)

    def send(self, room, number, data):
        self.say(type="send", room=room, number=number, data=data)

    def messages(self, count, timeout=PATIENCE):
        """The next so many messages' data."""
        return [self.until("message", timeout)["data"] for _ in range(count)]

    def ended(self, timeout=PATIENCE):
        """Its close code and reason, once it is closed."""
        try:
            while True:
                self.hear(timeout)
        except Closed as closed:
            return closed.code, closed.reason
