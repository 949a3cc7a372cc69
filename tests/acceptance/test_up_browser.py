"""`kirsch up examples/notes` in Chromium, through HAProxy: by keyboard, and while an instance dies."""

import itertools
import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from kirsch.cluster.agent.readiness import PACE
from kirsch.robot import processes
from kirsch.robot.application import Application
from kirsch.robot.browser import Browser
from kirsch.robot.output import Moment
from kirsch.robot.units import find, is_in

PATIENCE = 30

pytestmark = [pytest.mark.services, pytest.mark.slow]


# Not for the session: while Playwright runs, no other test can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(application: Application, browser: Browser) -> Iterator[Page]:
    """The page at the address that `kirsch up` prints."""
    browser.errors.clear()
    yield browser.open(application.address)
    browser.close_page()
    assert browser.errors == []


@pytest.fixture
def kill(application: Application) -> Callable[[str], Callable[[], None]]:
    """Kills a unit's process, until HAProxy sends it nothing more; what it returns waits until it is back."""

    def kill_it(unit: str) -> Callable[[], None]:
        line = find(application.unit_lines(), unit)
        assert line is not None
        pid = line["pid"]
        assert application.states is not None
        assert application.output is not None
        killing = Moment.now("kill")
        assert processes.kill(pid, PATIENCE)
        noticed = rf"Server notes/{unit.replace('@', ':')}\.\w+ (enters drain|is DOWN)"
        assert application.output.wait_for(noticed, PATIENCE, after=killing)
        states = application.states

        def back() -> None:
            assert states.wait_for(unit, lambda line: is_in(line, "ready") and line["pid"] != pid, PATIENCE)

        return back

    return kill_it


def write(page: Page, text: str) -> None:
    page.get_by_label("New note").focus()
    page.keyboard.type(text)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text(text, exact=True)).to_be_visible()
    expect(page.get_by_label("New note")).to_have_value("")


def instance(page: Page) -> str:
    return page.locator("#instance").inner_text()


def test_a_note_s_whole_life_by_keyboard(page):
    keys = page.keyboard
    write(page, "Buy cherries")
    keys.press("Tab")
    keys.press("Tab")
    expect(page.get_by_role("button", name="Edit: Buy cherries")).to_be_focused()
    keys.press("Enter")
    keys.type(" and plums")
    keys.press("Control+Enter")
    expect(page.get_by_text("Buy cherries and plums")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Buy cherries and plums")).to_be_visible()
    page.get_by_role("button", name="Delete: Buy cherries and plums").focus()
    keys.press("Enter")
    keys.press("Enter")
    expect(page.get_by_text("No notes yet")).to_be_visible()


def test_instances_take_turns(page):
    expect(page.locator("#instance")).to_have_text(re.compile("^notes@[12]$"))
    shown, begun = [], time.monotonic()
    for number in range(10):
        write(page, f"turn {number}")
        shown.append(instance(page))
    checks = (time.monotonic() - begun) / PACE.later + 1
    assert set(shown) == {"notes@1", "notes@2"}
    # The balancer's own Health= is answered by an instance too: who then has the next turn had the last one.
    again = sum(one == other for one, other in itertools.pairwise(shown))
    assert again <= checks, shown


def test_the_page_goes_on_while_an_instance_dies(page, kill):
    write(page, "before")
    back = kill("notes@1")
    for number in range(3):
        write(page, f"meanwhile {number}")
    back()
    seen = set()
    for number in range(10):
        write(page, f"afterwards {number}")
        seen.add(instance(page))
    assert seen == {"notes@1", "notes@2"}
    page.reload()
    expect(page.get_by_text("meanwhile 2")).to_be_visible()
