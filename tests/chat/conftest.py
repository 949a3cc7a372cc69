"""A real RabbitMQ and two real instances of the chat, each on a loopback address of its own."""

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.amqp.rabbit import Rabbit
from tests.deadline import eventually

# On a machine that does other things too.
expect.set_options(timeout=15_000)
CHAT = Path(__file__).parents[2] / "examples" / "chat"
PATIENCE = 60
ROOMS_PASSWORD = "kettle and cups"


@dataclass
class Instance:
    """`python -m chat`, somewhere."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.address}:8080/"

    @property
    def said(self) -> str:
        return self.log.read_text()

    def get(self, path: str, **fields: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self.address, 8080, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={n.replace("_", "-"): v for n, v in fields.items()})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def readiness(self) -> dict[str, Any]:
        try:
            return json.loads(self.get("/readyz")[2])
        except OSError:
            assert self.process.poll() is None, self.said
            return {"ready": False}

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.said
        assert "Traceback" not in self.said


@dataclass
class Instances:
    """Those that a module of tests has started."""

    folder: Path
    started: list[Instance] = field(default_factory=list)

    def start(self, url: str, *, address: str = "", wait: bool = True) -> Instance:
        """Another one, at a broker."""
        number = len(self.started) + 1
        address = address or "127.{}.{}.{}".format(*(random.randint(1, 254) for _ in range(3)))
        foreign = ("AMQP", "CHAT", "KIRSCH", "RABBITMQ", "PORT")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {
            "AMQP_URL": url,
            "CHAT_DRAIN": "0",
            "KIRSCH_ADDRESS": address,
            "KIRSCH_UNIT": f"chat@{number}.container",
            "CHAT_ROOMS_PASSWORD": ROOMS_PASSWORD,
        }
        log = self.folder / f"log{number}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "chat"], cwd=CHAT, env=inherited | own, stdout=out, stderr=out
            )
        instance = Instance(f"chat@{number}", address, process, log)
        self.started.append(instance)
        if wait:
            eventually(lambda: instance.readiness()["ready"], PATIENCE, "the chat")
        return instance


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    started = Instances(tmp_path_factory.mktemp("chat"))
    yield started
    for each in started.started:
        if each.process.poll() is None:
            each.end()


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    with Rabbit(tmp_path_factory.mktemp("rabbit") / "data") as rabbit:
        yield rabbit


@pytest.fixture(scope="module")
def pair(instances: Instances, rabbit: Rabbit) -> tuple[Instance, Instance]:
    """Two instances at one broker."""
    return instances.start(rabbit.url), instances.start(rabbit.url)


class Window:
    """A person's window."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    @property
    def box(self) -> Any:
        return self.page.get_by_label("Message", exact=True)

    @property
    def texts(self) -> Any:
        return self.page.locator(".message .text")

    def say(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def should_show(self, *texts: str) -> None:
        """These are the last of all that is said in the room."""
        expect(self.texts.last).to_have_text(texts[-1])
        assert self.texts.all_inner_texts()[-len(texts) :] == list(texts)

    def enter(self, room: str) -> None:
        self.page.locator(f"[data-room='{room}']").click()
        expect(self.page.locator("#room-name")).to_have_text(room)

    def open_room(self, room: str) -> None:
        self.page.get_by_label("Open a room").fill(room)
        self.page.keyboard.press("Enter")
        expect(self.page.locator("#room-name")).to_have_text(room)

    def should_be_connected(self, broker: bool = True) -> None:
        text = "connected" if broker else "the broker is away, messages wait"
        expect(self.page.locator("#state")).to_have_text(text, timeout=30_000)


Open = Callable[..., Window]


@pytest.fixture
def window(browser: Browser) -> Iterator[Open]:
    """Opens a window of a person who comes in by a name; options are those of a browser context. Fails the
    test on any script error."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(
        instance: Instance, name: str, room: str = "", *, broker: bool = True, **options: Any
    ) -> Window:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.goto(instance.url + (f"#{room}" if room else ""))
        page.get_by_label("What are you called?").fill(name)
        page.keyboard.press("Enter")
        opened = Window(page, name)
        opened.should_be_connected(broker)
        return opened

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def room() -> str:
    """One that nobody has been in."""
    return f"room-{random.randrange(1 << 40):x}"
