"""The page in Chromium: what the phone says, and what the browser knows itself, allowed and not."""

import json
import os
import re
import urllib.request

import pytest
from playwright.sync_api import expect
from tests.deadline import eventually
from tests.device.sl4a_stand_in import GPS, SECURITY, Sl4aStandIn, line_of

pytestmark = [pytest.mark.services, pytest.mark.slow]
# On a machine that does other things too.
expect.set_options(timeout=15_000)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def open_page(browser):
    """Opens a page; options are those of a browser context. Fails the test on any script error."""
    contexts, errors = [], []

    def open_it(url, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def phone():
    with Sl4aStandIn() as server:
        server.move(gps=GPS)
        yield server


@pytest.fixture(scope="module")
def running(start, phone):
    return start(**phone.environment)


def url_of(running):
    return f"http://localhost:{running.port}/location"


def test_the_phones_location_live(open_page, running, phone):
    page = open_page(url_of(running))
    expect(page.get_by_text("50.08990° N")).to_be_visible()
    expect(page.get_by_text("14.40000° E")).to_be_visible()
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#accuracy")).to_have_text("within 8 m,")
    expect(page.locator("#bearing")).to_have_text("east (90°)")
    expect(page.locator("#source")).to_have_text("sl4a (gps)")
    fewer = {name: value for name, value in GPS.items() if name not in ("altitude", "bearing")}
    phone.move(gps=fewer | {"latitude": -33.5, "time": GPS["time"] + 1000})
    expect(page.get_by_text("33.50000° S")).to_be_visible()
    expect(page.locator("#altitude")).to_have_text("unknown")
    expect(page.locator("#bearing")).to_have_text("unknown")
    assert page.evaluate("document.querySelector('#way').points.length") == 2
    assert "mlat=-33.5" in page.locator("#open").get_attribute("href")
    phone.move(gps=GPS | {"time": GPS["time"] + 2000})


@pytest.fixture
def far(phone, running):
    """The phone is two kilometres from where it was, and knows less well where; it goes back at the end."""

    def told() -> float:
        request = urllib.request.Request(url_of(running), headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["latitude"]

    latitude = GPS["latitude"] + 0.02
    phone.move(gps=GPS | {"accuracy": 900.0, "latitude": latitude, "time": GPS["time"] + 3000})
    # A page that knew where it was before would draw the way from there.
    eventually(lambda: told() == latitude)
    yield
    phone.move(gps=GPS | {"time": GPS["time"] + 4000})
    eventually(lambda: told() == GPS["latitude"])


@pytest.mark.usefixtures("far")
def test_the_circle_of_accuracy_is_whole(open_page, running):
    page = open_page(url_of(running))
    expect(page.locator("#accuracy")).to_have_text("within 900 m,")
    # The page comes with the words; a script draws.
    expect(page.locator("#circle")).to_have_attribute("r", re.compile("[1-9]"))
    circle, picture = page.locator("#circle").bounding_box(), page.locator("svg:has(#circle)").bounding_box()
    assert circle["height"] > 20
    assert circle["y"] >= picture["y"]
    assert circle["y"] + circle["height"] <= picture["y"] + picture["height"]
    assert circle["x"] >= picture["x"]
    assert circle["x"] + circle["width"] <= picture["x"] + picture["width"]


def test_the_browsers_own_location_allowed(open_page, running):
    page = open_page(
        url_of(running),
        geolocation={"latitude": 50.0989, "longitude": 14.4, "accuracy": 30},
        permissions=["geolocation"],
    )
    expect(page.get_by_text("50.08990° N")).to_be_visible()
    page.get_by_role("button", name="Ask this browser").press("Enter")
    expect(page.locator("#browser-text")).to_have_text(
        "This browser is at 50.09890° N 14.40000° E, within 30 m, 1.0 km from the phone."
    )
    expect(page.locator("#browser-mark")).to_be_visible()
    expect(page.get_by_role("button", name="Ask again")).to_be_focused()


def test_the_browsers_own_location_denied(open_page, running):
    page = open_page(url_of(running), permissions=[])
    page.get_by_role("button", name="Ask this browser").click()
    expect(page.locator("#browser-text")).to_contain_text("You have not allowed this page to know")
    expect(page.locator("#browser-mark")).to_be_hidden()
    expect(page.get_by_role("button", name="Ask this browser")).to_be_focused()


def test_on_an_insecure_page_the_browser_is_not_asked(browser, start):
    running = start("--source", "fixed:1,2", LOCATION_HOSTS="phone.test")
    arguments = ["--no-sandbox", "--host-resolver-rules=MAP phone.test 127.0.0.1"]
    other = browser.browser_type.launch(executable_path=os.environ["CHROMIUM"], args=arguments)
    page = other.new_page()
    page.goto(f"http://phone.test:{running.port}/location")
    page.get_by_role("button", name="Ask this browser").click()
    expect(page.locator("#browser-text")).to_contain_text("to https pages and to localhost only")
    other.close()


@pytest.mark.parametrize(
    ("error", "title"), [(SECURITY, "The phone does not allow it"), ("java.lang.Null", "Nobody can be asked")]
)
def test_why_there_is_none(open_page, start, sl4a, error, title):
    sl4a.answers["startLocating"] = lambda number: line_of(number, error=error)
    page = open_page(url_of(start(**sl4a.environment)))
    expect(page.locator("#reason")).to_have_text(title)
    expect(page.locator("#failures")).to_contain_text("sl4a")
    expect(page.locator("#known")).to_be_hidden()
    # It comes by itself once it can.
    del sl4a.answers["startLocating"]
    sl4a.move(gps=GPS)
    expect(page.get_by_text("50.08990° N")).to_be_visible()


def test_what_a_source_says_is_text(open_page, start, sl4a):
    attack = '<img src=x onerror="document.title=1">'
    sl4a.answers["startLocating"] = lambda number: line_of(number, error=attack)
    page = open_page(url_of(start(**sl4a.environment)))
    expect(page.locator("#failures")).to_contain_text(attack)
    assert page.title() == "Where am I?"


def test_the_token_is_typed(open_page, start):
    running = start("--share", "--source", "fixed:1,2")
    page = open_page(url_of(running))
    page.get_by_label("Token").fill("guess")
    page.get_by_role("button", name="Show the location").click()
    expect(page.get_by_text("This token is not the one on the phone's screen.")).to_be_visible()
    page.get_by_label("Token").fill(running.token.lower())
    page.keyboard.press("Enter")
    expect(page.get_by_text("1.00000° N")).to_be_visible()
    expect(page.locator("#state")).to_have_text("live")
    page.reload()
    expect(page.get_by_text("1.00000° N")).to_be_visible()


def test_the_token_in_the_address_is_taken_out_of_it(open_page, start):
    running = start("--share", "--source", "fixed:1,2")
    page = open_page(f"{url_of(running)}?token={running.token}")
    expect(page.get_by_text("1.00000° N")).to_be_visible()
    assert page.url == url_of(running)


def test_it_finds_back_when_the_phone_was_away(open_page, start):
    running = start("--source", "fixed:1,2")
    page = open_page(url_of(running))
    expect(page.locator("#state")).to_have_text("live")
    page.context.set_offline(True)
    running.process.terminate()
    running.process.wait(20)
    expect(page.locator("#state")).to_have_text("connection lost, trying again")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(open_page, running, scheme):
    page = open_page(url_of(running), color_scheme=scheme, **PHONE)
    expect(page.get_by_text("50.08990° N")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in page.get_by_role("button").all():
        assert control.bounding_box()["height"] >= 44


def test_by_keyboard_and_for_screen_readers(open_page, running):
    page = open_page(url_of(running))
    expect(page.get_by_text("50.08990° N")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the location")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#phone")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Open the map")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Ask this browser")).to_be_focused()
    expect(page.get_by_role("region", name="This phone")).to_be_visible()
    expect(page.get_by_role("img", name="The way of the last minutes")).to_be_visible()
    # The age is not read out each second.
    assert page.locator("[role=status] #age, [aria-live] #age, #age[role]").count() == 0
