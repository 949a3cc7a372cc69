"""Cost of a message to the chat's page: `python bench/chat.py [--messages N] [--json FILE]`.

One instance of examples/chat, and Chromium, 1,280 x 800, without a window. In the room are 1 person and then
500, as another process tells the instance. Another program says something, 50 messages a second, so that each
is shown by itself. The figure is CPU time of the page's main thread (Chromium's Performance.getMetrics, with
its thread's clock) for each message: all of it, its scripts, and styles with layout. Asked for: under 2 ms.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fanout
import outcome
from playwright.sync_api import CDPSession, Error, Page, expect, sync_playwright

CHAT = Path(__file__).parents[1] / "examples/chat"
ADDRESS, PORT = "127.0.0.1", 8931
PAUSE = 0.02
PARTS = {"all": ("TaskDuration",), "scripts": ("ScriptDuration",)}
PARTS["styles, layout"] = ("LayoutDuration", "RecalcStyleDuration")


@contextlib.contextmanager
def chat(url: str) -> Iterator[str]:
    """An instance at a broker: its address."""
    environment = os.environ | {
        "AMQP_URL": url,
        "CHAT_DRAIN": "0",
        "KIRSCH_ADDRESS": ADDRESS,
        "PORT": str(PORT),
        "PYTHONPATH": fanout.PYTHONPATH,
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chat"], cwd=CHAT, env=environment, stdout=log, stderr=log
        )
        try:
            yield f"http://{ADDRESS}:{PORT}/"
        finally:
            process.terminate()
            process.wait(20)


class Others:
    """Another process with people in the lobby, and one of them who speaks."""

    def __init__(self, url: str) -> None:
        import pika

        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()

    def tell(self, people: int) -> None:
        """Say who is there; it holds for 11 s (kirsch.amqp.members)."""
        members = {f"client-{number}": f"Person {number:03}" for number in range(people)}
        state = {"event": "state", "process": "others", "version": 1, "rooms": {"lobby": members}}
        self._channel.basic_publish("chat.events", "", json.dumps(state).encode())

    def speak(self, messages: int, people: int) -> None:
        for number in range(messages):
            if number % 100 == 0:
                self.tell(people)
            self._channel.basic_publish("chat.rooms", "lobby", f"What number {number} says".encode())
            time.sleep(PAUSE)


def metrics(session: CDPSession) -> dict[str, float]:
    """Return Chromium's counters of the page's main thread, seconds."""
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


def measure(page: Page, session: CDPSession, url: str, people: int, messages: int) -> dict[str, float]:
    """Return the milliseconds of each part for a message."""
    others = Others(url)
    others.tell(people - 1)
    expect(page.locator("#people-count")).to_have_text(str(people), timeout=60_000)
    # The first fill the page, as later ones find it.
    others.speak(250, people - 1)
    before = metrics(session)
    speaking = threading.Thread(target=others.speak, args=(messages, people - 1))
    speaking.start()
    speaking.join()
    page.wait_for_timeout(500)
    after = metrics(session)
    return {
        part: round(1000 * sum(after[name] - before[name] for name in names) / messages, 2)
        for part, names in PARTS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    every = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    rows: list[dict[str, object]] = []
    with fanout.broker(every) as (url, _, _), chat(url) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(Error):
                page.goto(address)
                break
            time.sleep(0.2)
        page.get_by_label("What are you called?").fill("Ada")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("connected", timeout=60_000)
        for people in (1, 500):
            for part, value in measure(page, session, url, people, options.messages).items():
                subject = f"{people} here"
                rows.append({"what": part, "subject": subject, "value": value, "unit": "ms a message"})
                print(f"{subject:10}{part:16}{value:8.2f} ms of processor a message", flush=True)
        browser.close()
    if options.json:
        outcome.write(options.json, rows, **fanout.versions())


if __name__ == "__main__":
    main()
