"""The dashboard of three real machines, of which one is killed: `pytest -m machines`.

How long the page takes to say so is measured and shown with the report; it decides no test.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.dashboard.conftest import opened
from tests.machines.trial import PATIENCE, Trial, events

from kirsch.cluster.api.client import Client
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.slow]

UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[X-Kirsch]\nSpread=zone\n"
NAMES = ("seen@1.service", "seen@2.service", "seen@3.service")
WELL = "All 3 units are as they should be."
LONG = PATIENCE * 1000  # ms
# Sets window.told to the time, in ms since the epoch, at which the page first has the words.
NOTE = """(words) => new MutationObserver((_, self) => {
  if (!document.querySelector(".wrong").textContent.includes(words)) return;
  window.told = Date.now();
  self.disconnect();
}).observe(document.querySelector("main"), { childList: true, subtree: true, characterData: true })"""
# Rows of a machine's page.
FACTS = {
    "Store": re.compile(r"^Store(leader|follower|voter|member) of etcd [\d.]+, [\d.]+ [KM]iB$"),
    "Network": re.compile(r"^Networknumber \d+ of the flat network$"),
    "Certificate": re.compile(r"^Certificateends .*, in \d+"),
    "zone": re.compile(r"^zone[abc]$"),
}


@pytest.fixture
def seen(trial: Trial) -> Iterator[Trial]:
    """Three machines with a unit each."""
    trial.clear()
    trial.submit("seen@.service", UNIT)
    trial.kirsch("start", *NAMES)
    yield trial
    trial.clear()


class Knowing(threading.Thread):
    """When a machine's kirschd told first that another is away, by its own events."""

    def __init__(self, there: Client, lost: str) -> None:
        super().__init__(daemon=True)
        self.client, self.lost, self.at = there, lost, 0.0
        self.listening = threading.Event()
        self.start()
        assert self.listening.wait(PATIENCE)

    def run(self) -> None:
        for message in events(self.client, PATIENCE):
            self.listening.set()
            if self.lost not in message.get("machines", (self.lost,)):
                self.at = time.time()
                return


def column(page: Page, machine: MachineRecord) -> Locator:
    return page.locator(".machine", has=page.get_by_role("link", name=machine.name, exact=True))


def test_the_page_says_that_a_machine_was_killed(
    seen: Trial, browser: Browser, record_testsuite_property: Callable[[str, object], None], capsys
):
    environment = {**os.environ, "KIRSCH_CLUSTER": seen.record.name}
    with opened(seen.folder, environment) as dashboard:
        page = browser.new_context().new_page()
        page.goto(dashboard.address)
        expect(page.locator("h1")).to_have_text(WELL, timeout=LONG)
        for machine in seen.machines:
            column(page, machine).get_by_role("link", name=machine.name, exact=True).click()
            for term, value in FACTS.items():
                row = page.locator("dl > div", has=page.locator("dt", has_text=term))
                expect(row).to_have_text(value, timeout=LONG)
            page.get_by_role("link", name="Overview").click()

        # The one that the dashboard itself speaks to: the first of the cluster that answers.
        lost = seen.machines[0]
        there = Client(transport_to(Where(seen.machines[1].endpoint, seen.record.name)))
        knowing = Knowing(there, lost.id)
        page.evaluate(NOTE, f"{lost.name} is away")
        try:
            seen.kill(lost)
            away = page.locator(".wrong li", has_text=f"{lost.name} is away")
            expect(away).to_be_visible(timeout=LONG)
            knowing.join(PATIENCE)
            after = page.evaluate("window.told") / 1000 - knowing.at
            expect(column(page, lost)).to_have_count(0, timeout=LONG)
            expect(page.locator("h1")).to_have_text(WELL, timeout=LONG)
            expect(page.locator(".machine a.cell")).to_have_count(3)
        finally:
            seen.boot(lost)
        expect(away).to_have_count(0, timeout=LONG)
        expect(column(page, lost)).to_have_count(1)
        page.context.close()
    record_testsuite_property("the page says that a machine is away, after kirschd knows", round(after, 2))
    with capsys.disabled():
        print(f"\n    the page says it {after:.2f} s after kirschd knows")
