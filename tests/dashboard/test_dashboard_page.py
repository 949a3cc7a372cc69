"""The dashboard in Chromium: what it shows, what its buttons do, and for whom."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from tests.cli.application import DEADLINE, KIRSCH, Application, wait_for
from tests.dashboard.conftest import Dashboard, opened

from kirsch.cluster.api.client import Client

pytestmark = [pytest.mark.services, pytest.mark.slow]

PAGES = ("#/", "#/unit/shop%401.service", "#/application/shop", "#/events")
# In so many ms the page tells what kirschd knows.
SOON = 2000


@pytest.fixture(scope="module")
def let_in(browser: Browser, dashboard: Dashboard) -> Iterator[list[dict[str, Any]]]:
    """The cookies of a browser that has opened the address, which works once."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(dashboard.address)
    expect(page.locator("h1")).to_contain_text("units")
    assert "token" not in page.url
    yield context.cookies()
    context.close()


@pytest.fixture
def open_page(browser: Browser, dashboard: Dashboard, let_in: Any) -> Iterator[Callable[..., Page]]:
    """Opens a page by its hash; options are a context's. Fails the test on any script error."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(below: str = "#/", **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        contexts[-1].add_cookies(let_in)
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.goto(f"http://{dashboard.host}{dashboard.path}{below}")
        expect(page.locator("h1")).to_be_visible()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def kirschd_of(application: Application) -> Client:
    return Client(application.directory / ".kirsch/kirsch.sock")


def process_of(application: Application, unit: str) -> int:
    return kirschd_of(application).get(f"/kirsch/v1/units/{unit}")["on"][0]["pid"]


@pytest.fixture
def healed(application: Application) -> Iterator[None]:
    yield
    application.ok("start", "shop@1", "shop@2", "till")


def cell(page: Page, unit: str) -> Any:
    return page.locator("a.cell", has_text=re.compile(rf"{re.escape(unit)}\b"))


class TestOverview:
    def test_all_is_well(self, page: Page):
        expect(page.locator("h1")).to_have_text("All 3 units are as they should be.")
        expect(page.locator(".machine a.cell")).to_have_count(3)
        expect(cell(page, "shop@1")).to_have_accessible_name("shop@1: ready")
        expect(page.locator(".wrong")).to_be_hidden()

    def test_an_instance_that_dies_is_told_of_first(self, page: Page, application: Application, healed: None):
        expect(cell(page, "shop@1")).to_have_accessible_name("shop@1: ready")
        events = kirschd_of(application).stream("/kirsch/v1/events", timeout=DEADLINE)
        next(events)
        os.kill(process_of(application, "shop@1.service"), signal.SIGKILL)
        for event in events:
            if ("shop@1.service", "failed") in [
                (line["name"], line.get("active")) for line in event["units"]
            ]:
                break
        wrong = page.locator(".wrong li").first
        expect(wrong).to_contain_text("shop@1 failed", timeout=SOON)
        expect(wrong).to_contain_text("was killed by SIGKILL", timeout=SOON)
        expect(page.locator("h1")).to_have_text("1 of 3 units is not as wanted.", timeout=SOON)
        expect(page).to_have_title("(1) Overview – kirsch")

        page.get_by_role("link", name="shop", exact=True).click()
        expect(page.get_by_role("link", name="shop@1: failed")).to_be_visible()
        page.get_by_role("link", name="Overview").click()
        wrong.get_by_role("button", name="Start").click()
        page.get_by_role("dialog").get_by_role("button", name="Start").click()
        expect(page.locator("#done")).to_contain_text("Start shop@1: it is ready")
        expect(page.locator("h1")).to_have_text("All 3 units are as they should be.")
        expect(wrong).to_be_hidden()

    @pytest.mark.slow
    def test_kirschd_ends_and_is_back(self, browser: Browser, tmp_path: Path):
        made = Application(tmp_path)
        made.sleeper("one.service")
        made.ok("up", "-d")
        try:
            with opened(tmp_path) as dashboard:
                page = browser.new_context().new_page()
                page.goto(dashboard.address)
                expect(page.locator("h1")).to_have_text("The unit is as it should be.")
                made.ok("down", ".")
                expect(page.get_by_role("alert")).to_contain_text("no kirschd")
                made.ok("up", "-d")
                expect(page.get_by_role("alert")).to_be_hidden(timeout=20_000)
                expect(page.locator("h1")).to_have_text("The unit is as it should be.")
                page.context.close()
        finally:
            made.close()


class TestUnit:
    def test_stop_asks_once_and_tells(self, open_page: Callable[..., Page], healed: None):
        page = open_page("#/unit/till.service")
        expect(page.locator("h1")).to_contain_text("ready")
        stop = page.get_by_role("button", name="Stop", exact=True)
        stop.click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        stop.click()
        expect(page.get_by_role("dialog")).to_contain_text("Stop till?")
        page.keyboard.press("Escape")
        expect(page.locator("h1")).to_contain_text("ready")
        stop.click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(page.locator("#done")).to_contain_text("it is not running")
        expect(page.locator("h1")).to_contain_text("not running")
        expect(stop).to_have_attribute("aria-disabled", "true")
        stop.press("Enter")
        expect(page.locator("#done")).to_contain_text("It does not run.")
        page.get_by_role("button", name="Start", exact=True).click()
        page.keyboard.press("Tab")
        page.get_by_role("dialog").get_by_role("button", name="Start").press("Enter")
        expect(page.locator("h1")).to_contain_text("ready")

    def test_restart(self, open_page: Callable[..., Page], application: Application):
        before = process_of(application, "till.service")
        page = open_page("#/unit/till.service")
        page.get_by_role("button", name="Restart").click()
        page.get_by_role("dialog").get_by_role("button", name="Restart").click()
        wait_for(lambda: process_of(application, "till.service") not in (0, before), "another process")
        expect(page.locator("h1")).to_contain_text("ready")

    def test_it_says_what_a_unit_is(self, open_page: Callable[..., Page]):
        page = open_page("#/unit/till.service")
        facts = page.locator("dl")
        expect(facts).to_contain_text("active (running) since")
        expect(facts).to_contain_text("shop@1 shop@2 (shop)")
        facts.get_by_role("link", name="shop@1").click()
        expect(page.locator("h1")).to_contain_text("shop@1")
        row = page.get_by_role("row", name=re.compile("Health="))
        expect(row).to_contain_text("the check that says whether the unit is ready")
        expect(row).to_contain_text("by kirsch, everywhere")
        expect(page.get_by_role("button", name="Move…")).to_have_attribute(
            "title", "There is no other machine."
        )

    def test_its_figures_are_plotted(self, open_page: Callable[..., Page]):
        page = open_page("#/unit/shop%401.service")
        memory = page.get_by_role("img", name=re.compile("^Memory since .* now, at most .* [KM]iB$"))
        # The first sample is taken some seconds after kirschd has started.
        expect(memory).to_be_visible(timeout=20_000)
        cpu = page.get_by_role("img", name=re.compile(r"^CPU since .* now, at most [\d.]+ %$"))
        expect(cpu).to_be_visible()

    def test_the_journal_is_searched_paused_and_kept(self, open_page: Callable[..., Page]):
        page = open_page("#/unit/shop%401.service")
        journal = page.get_by_role("log")
        expect(journal).to_contain_text("serving shop@1.service")
        page.get_by_label("Search the journal").fill("SERVING")
        expect(journal.locator("div").first).to_contain_text("serving shop@1.service")
        expect(page.locator(".log [role=status]")).to_have_text(re.compile(r"\d+ of \d+ lines"))
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "shop@1.log"
        text = Path(download.value.path()).read_text()
        assert re.fullmatch(r"(\d{4}-\d\d-\d\dT[\d:.]+Z shop@1\.service serving shop@1\.service\n)+", text)

    def test_the_journal_goes_on_as_lines_are_written(
        self, open_page: Callable[..., Page], application: Application
    ):
        before = application.ok("journal", "--lines", "500", "till").count("few coins")
        page = open_page("#/unit/till.service")
        lines = page.get_by_role("log").locator("div > span", has_text="few coins")
        expect(lines).to_have_count(before)
        application.ok("restart", "till")
        expect(lines).to_have_count(before + 1)
        page.get_by_role("button", name="Pause").click()
        application.ok("restart", "till")
        expect(page.locator(".log [role=status]")).to_have_text(re.compile(r"\d+ more lines"))
        expect(lines).to_have_count(before + 1)
        page.get_by_role("button", name="Go on").click()
        expect(lines).to_have_count(before + 2)

    def test_the_journal_has_levels(self, open_page: Callable[..., Page]):
        page = open_page("#/unit/till.service")
        journal = page.get_by_role("log")
        expect(journal).to_contain_text("no coins")
        # Without the colour that the unit gives it.
        expect(journal.get_by_text("opened", exact=True).first).to_be_visible()
        for level, words in {
            "errors": ["ERROR: no coins"],
            "standard error": ["ERROR: no coins"],
            "warnings and errors": ["WARNING: few coins", "ERROR: no coins"],
        }.items():
            page.get_by_label("Lines of").select_option(label=level)
            texts = set(journal.locator("div > span").all_inner_texts())
            assert texts == set(words), level

    @pytest.mark.parametrize(
        ("line", "level"),
        [
            ("<3>out of coins", "error"),
            ("<4>few coins", "warning"),
            ("<6>ERROR is no word of its own", ""),
            ('{"time": 1, "level": "WARNING", "text": "few"}', "warning"),
            ('{"severity":"error"}', "error"),
            ("2026-12-02 08:00:00 UTC [7] FATAL:  no such role", "error"),
            ("2026/12/02 08:00:00 [warn] 7#7: few", "warning"),
            ("an error in lower case, and TERRORS", ""),
        ],
    )
    def test_levels_of_lines(self, page: Page, line: str, level: str):
        found = page.evaluate("async (line) => (await import('./static/words.js')).levelOf(line)", line)
        assert found == level

    def test_there_is_no_such_unit(self, open_page: Callable[..., Page]):
        expect(open_page("#/unit/none.service").locator("h1")).to_contain_text("there is no such unit")


def test_a_machine_shows_what_it_has_and_what_is_reserved(open_page: Callable[..., Page], page: Page):
    page.locator(".machine h2 a").click()
    expect(page.locator("dl")).to_have_count(2)
    use = page.locator("dl").last
    expect(use).to_contain_text(re.compile(r"0\.1 of \d+ cores reserved, \d+\.\d\d used"), timeout=20_000)
    expect(use).to_contain_text(re.compile(r"64 MiB of [\d.]+ [GM]iB reserved, [\d.]+ [GM]iB used"))
    expect(use).to_contain_text(re.compile(r"[\d.]+ GiB of [\d.]+ GiB free"))
    expect(page.get_by_role("row", name="till")).to_be_visible()


def test_an_application_is_a_graph_with_a_history(open_page: Callable[..., Page]):
    page = open_page("#/application/shop")
    expect(page.get_by_role("link", name="till: ready, uses shop@1, shop@2")).to_be_visible()
    expect(page.locator("path.link")).to_have_count(2)
    expect(page.locator(".releases li").first).to_have_text(re.compile(r"Release \d+ runs now"))


def test_a_sample_leaves_the_focus_on_a_box(open_page: Callable[..., Page]):
    page = open_page("#/application/shop")
    with page.expect_event("websocket", lambda opened: "figures=yes" in opened.url) as stream:
        page.reload()
    box = page.get_by_role("link", name="till: ready, uses shop@1, shop@2")
    box.focus()
    stream.value.wait_for_event(
        "framereceived", predicate=lambda text: '"figures"' in str(text), timeout=20_000
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(box).to_be_focused()


def test_events_are_searched(open_page: Callable[..., Page], application: Application):
    page = open_page("#/events")
    expect(page.locator(".events")).to_contain_text("Release 1 of shop was opened")
    application.ok("restart", "till")
    expect(page.locator(".events")).to_contain_text("till is ready")
    page.get_by_label("Units").uncheck()
    expect(page.locator(".events")).not_to_contain_text("till is ready")
    page.get_by_label("Search the events").fill("nothing is called so")
    expect(page.locator(".events li")).to_have_count(0)


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_serious(self, open_page: Callable[..., Page], scheme: str):
        page = open_page(color_scheme=scheme)
        machine = page.locator(".machine h2 a").get_attribute("href")
        for below in (*PAGES, machine):
            page.goto(f"{page.url.partition('#')[0]}{below}")
            expect(page.locator("main :is(.cell, li, tbody td)").first).to_be_visible()
            found = Axe().run(page).response["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], below

    @pytest.mark.parametrize(("width", "height"), [(360, 640), (3840, 2160)])
    def test_nothing_stands_over_the_edge(self, open_page: Callable[..., Page], width: int, height: int):
        page = open_page(viewport={"width": width, "height": height})
        for below in PAGES:
            page.goto(f"{page.url.partition('#')[0]}{below}")
            expect(page.locator("main :is(.cell, li, tbody td)").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_by_keyboard(self, page: Page):
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(page.locator("a.cell").first).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("shop@1")
        expect(page.locator("#main")).to_be_focused()


@pytest.mark.slow
def test_releases_are_steered(open_page: Callable[..., Page], application: Application):
    page = open_page("#/application/shop")
    file = application.directory / "units/shop@.service"
    before = file.read_text()
    releases = page.locator(".releases li")
    newest, oldest = releases.first, releases.last

    def press(release: Locator, button: str) -> None:
        release.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()

    file.write_text(f"{before}Canary=1\nHealthyFor=1s\n")
    assert "kirsch release promote" in application.ok("up")
    expect(newest).to_contain_text("its canaries are ready: it waits for you")
    press(newest, "Promote")
    expect(newest).to_contain_text("runs now", timeout=30_000)

    count = releases.count()
    press(oldest, "Bring back")
    expect(page.locator("#done")).to_contain_text(f"Bring back: release {count + 1} is")
    expect(releases).to_have_count(count + 1)
    expect(newest).to_contain_text("runs now", timeout=30_000)

    # It stays under way until it is called off.
    file.write_text(f"{before}HealthyFor=10min\nDeadline=20min\n")
    up = subprocess.Popen([*KIRSCH, "up", str(application.directory)], stdout=subprocess.DEVNULL)
    try:
        expect(newest).to_contain_text("under way", timeout=30_000)
        press(newest, "Pause")
        expect(newest).to_contain_text("paused")
        press(newest, "Go on")
        expect(newest).to_contain_text("under way")
        press(newest, "Call off")
        expect(newest).to_contain_text("called off", timeout=30_000)
    finally:
        up.kill()
        up.wait()
        file.write_text(before)
    expect(page.locator(".releases li", has_text="runs now")).to_contain_text(f"Release {count + 1}")
