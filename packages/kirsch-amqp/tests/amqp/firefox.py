"""Debian's Firefox by WebDriver BiDi (W3C), which it speaks itself: Playwright drives one of its own only."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.deadline import eventually

from kirsch.websocket import ClientOptions, Limits
from kirsch.websocket.threaded import connect

FIREFOX = Path("/usr/bin/firefox-esr")
PATIENCE = 60
LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """A Firefox without a window, and pages in it. Started by `with`."""

    def __init__(self, folder):
        self._profile, self._log = folder / "profile", folder / "log"
        self._numbers = itertools.count(1)

    def __enter__(self):
        if not FIREFOX.exists():
            pytest.skip("there is no Firefox: apt-get install firefox-esr")
        self._profile.mkdir(parents=True)
        command = [FIREFOX, "--headless", "--remote-debugging-port=0", "--profile", self._profile]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        listens = eventually(lambda: LISTENS.search(self._log.read_text()), PATIENCE, "Firefox")
        options = ClientOptions(limits=Limits(message=16 << 20))
        self._socket = connect(f"{listens[1]}/session", options=options)
        self("session.new", capabilities={})
        return self

    def __exit__(self, *error):
        self._socket.close()
        self._process.terminate()
        self._process.wait(PATIENCE)

    def __call__(self, method, **parameters):
        """Give a command, and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(PATIENCE))).get("id") != number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def open(self, url):
        """Open a page."""
        context = self("browsingContext.create", type="tab")["context"]
        self("browsingContext.navigate", context=context, url=url, wait="complete")
        return FirefoxPage(self, context)


class FirefoxPage:
    """A page, as far as the tests need Playwright's."""

    def __init__(self, firefox, context):
        self._firefox = firefox
        self._context = context

    def evaluate(self, expression):
        """Return an expression's value, or the promise's, by way of JSON."""
        wrapped = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        result = self._firefox(
            "script.evaluate", expression=wrapped, target={"context": self._context}, awaitPromise=True
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

    def wait_for_function(self, expression):
        eventually(lambda: self.evaluate(expression), PATIENCE, expression)
