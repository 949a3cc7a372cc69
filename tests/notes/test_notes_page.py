"""The page in Chromium, used as people use it: by mouse, by keyboard, on a phone, at night, with bad luck."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = pytest.mark.services
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def open_page(browser: Browser, client: Any) -> Iterator[Callable[..., Page]]:
    """Opens the page; options are those of a browser context. Fails the test on any script error."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_it(**options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.goto(client.url)
        expect(page.locator("#list")).not_to_have_attribute("aria-busy", "true")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def add(page: Page, text: str) -> None:
    page.get_by_label("New note").fill(text)
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_label("New note")).to_have_value("")


def texts(page: Page) -> Any:
    return page.locator(".note .text")


class TestNotes:
    def test_the_empty_state_and_the_first_note(self, page, client):
        expect(page.get_by_text("No notes yet")).to_be_visible()
        add(page, "First\n  of all")
        expect(page.get_by_text("No notes yet")).to_be_hidden()
        expect(page.locator("#status")).to_have_text("Saved.")
        expect(page.get_by_label("New note")).to_be_focused()
        add(page, "Second")
        expect(texts(page)).to_have_text(["Second", "First of all"])
        page.reload()
        expect(texts(page)).to_have_text(["Second", "First of all"])
        assert [note["text"] for note in client("GET", "/api/notes").json()["notes"]] == [
            "Second",
            "First\n  of all",
        ]

    def test_editing(self, page, client):
        add(page, "tomato")
        page.get_by_role("button", name="Edit: tomato").click()
        box = page.get_by_label("Text of the note")
        expect(box).to_be_focused()
        box.fill("potato")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(texts(page)).to_have_text(["potato"])
        expect(page.get_by_role("button", name="Edit: potato")).to_be_focused()
        expect(page.locator(".note time")).to_have_text("edited just now")
        assert client("GET", "/api/notes").json()["notes"][0]["version"] == 2

    def test_deleting_asks_first(self, page, client):
        add(page, "stays")
        add(page, "goes")
        page.get_by_role("button", name="Delete: goes").click()
        page.get_by_role("button", name="Keep").click()
        expect(page.get_by_role("button", name="Delete: goes")).to_be_focused()
        page.get_by_role("button", name="Delete: goes").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(texts(page)).to_have_text(["stays"])
        expect(page.locator("#status")).to_have_text("Deleted.")
        assert len(client("GET", "/api/notes").json()["notes"]) == 1

    def test_searching(self, page):
        for text in ("Black cherries", "Brown bread"):
            add(page, text)
        page.get_by_label("Search the notes").fill("CHERR")
        expect(texts(page)).to_have_text(["Black cherries"])
        expect(page.locator("#status")).to_have_text("1 found.")
        page.get_by_label("Search the notes").fill("plums")
        expect(page.get_by_text("Nothing found for “plums”")).to_be_visible()
        add(page, "found again")
        expect(page.get_by_label("Search the notes")).to_have_value("")
        expect(texts(page)).to_have_text(["found again", "Brown bread", "Black cherries"])

    def test_more_pages(self, open_page, client):
        for number in range(45):
            client.write(f"note {number}")
        page = open_page()
        expect(texts(page)).to_have_count(20)
        page.get_by_role("button", name="Load more").click()
        expect(texts(page)).to_have_count(40)
        expect(page.locator(".note").nth(20)).to_be_focused()
        page.get_by_role("button", name="Load more").click()
        expect(texts(page)).to_have_count(45)
        expect(page.get_by_role("button", name="Load more")).to_be_hidden()
        expect(texts(page)).to_have_text([f"note {number}" for number in reversed(range(45))])

    def test_text_is_never_markup(self, page):
        attack = '<img src=x onerror="document.title=1"><script>document.title=2</script>&lt;'
        add(page, attack)
        page.reload()
        expect(texts(page)).to_have_text([attack])
        page.get_by_label("Search the notes").fill("<b>nothing")
        expect(page.get_by_text("Nothing found for “<b>nothing”")).to_be_visible()
        expect(page).to_have_title("Notes")
        assert page.locator("main script, .note img").count() == 0

    def test_addresses_are_links(self, page):
        text = "See https://example.org/a?b=c#d, and javascript:alert(1)."
        add(page, text)
        expect(texts(page)).to_have_text([text])
        links = page.locator(".note .text a")
        expect(links).to_have_count(1)
        expect(links).to_have_attribute("href", "https://example.org/a?b=c#d")
        expect(links).to_have_attribute("rel", "noopener noreferrer nofollow")

    def test_which_instance_answered(self, page):
        expect(page.locator("#instance")).to_have_text("notes@1")


class TestKeyboard:
    def test_a_note_s_whole_life(self, page):
        keys = page.keyboard
        page.get_by_label("New note").focus()
        keys.type("written")
        keys.press("Enter")
        keys.type("by hand")
        keys.press("Control+Enter")
        expect(texts(page)).to_have_text(["written by hand"])
        edit = page.locator(".note .edit")
        for _ in range(2):
            keys.press("Tab")
        expect(edit).to_be_focused()
        assert edit.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
        keys.press("Enter")
        keys.type(", gone again")
        keys.press("Escape")
        expect(edit).to_be_focused()
        expect(texts(page)).to_have_text(["written by hand"])
        keys.press("Enter")
        keys.type(", twice")
        keys.press("Control+Enter")
        expect(texts(page)).to_have_text(["written by hand, twice"])
        expect(edit).to_be_focused()
        keys.press("Tab")
        keys.press("Enter")
        keys.press("Escape")
        expect(page.locator(".note .delete")).to_be_focused()
        keys.press("Enter")
        keys.press("Enter")
        expect(page.get_by_text("No notes yet")).to_be_visible()
        expect(page.get_by_label("New note")).to_be_focused()

    def test_everything_has_a_name(self, open_page, client):
        client.write("x")
        page = open_page()
        for control in page.locator("button:visible, input:visible, textarea:visible").all():
            name = control.evaluate("e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent")
            assert name.strip()

    def test_skip_to_the_notes(self, page):
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the notes")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#list")).to_be_focused()


class TestTrouble:
    def test_the_server_s_words_are_shown(self, page):
        page.get_by_role("button", name="Add note").click()
        expect(page.get_by_role("alert")).to_have_text("A note cannot be empty.")
        page.get_by_label("New note").fill("x" * 200_001)
        page.get_by_role("button", name="Add note").click()
        expect(page.get_by_role("alert")).to_contain_text("200,000")

    def test_the_network_is_down(self, page):
        add(page, "before")
        page.context.set_offline(True)
        page.get_by_label("New note").fill("a long thought")
        page.get_by_role("button", name="Add note").click()
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        expect(page.get_by_label("New note")).to_have_value("a long thought")
        page.get_by_role("button", name="Edit: before").click()
        page.get_by_label("Text of the note").fill("after")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".note .error")).to_contain_text("cannot be reached")
        expect(page.get_by_label("Text of the note")).to_have_value("after")
        page.context.set_offline(False)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(texts(page)).to_have_text(["after"])
        page.reload()
        expect(page.get_by_label("New note")).to_have_value("a long thought")
        page.get_by_role("button", name="Add note").click()
        expect(texts(page)).to_have_text(["a long thought", "after"])

    def test_the_list_cannot_be_loaded(self, page, client):
        client.write("there")
        page.route(
            "**/api/notes?*", lambda route: route.fulfill(status=503, content_type="text/html", body="<h1>No")
        )
        page.get_by_label("Search the notes").fill("there")
        expect(page.get_by_role("alert")).to_contain_text("The server answered 503")
        page.unroute("**/api/notes?*")
        page.get_by_role("button", name="Try again").click()
        expect(texts(page)).to_have_text(["there"])
        expect(page.get_by_role("alert")).to_be_hidden()

    @pytest.fixture
    def disputed(self, page, client):
        """Somebody else changed the note while it was edited here."""
        add(page, "original")
        page.get_by_role("button", name="Edit: original").click()
        page.get_by_label("Text of the note").fill("mine")
        note = client("GET", "/api/notes").json()["notes"][0]
        path = f"/api/notes/{note['id']}"
        client("PUT", path, {"text": "theirs"}, If_Match="*")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".conflict")).to_contain_text("theirs")
        expect(page.get_by_label("Text of the note")).to_have_value("mine")
        return path

    def test_a_conflict_is_reloaded(self, page, client, disputed):
        page.get_by_role("button", name=re.compile("Reload")).click()
        expect(texts(page)).to_have_text(["theirs"])
        assert client("GET", disputed).json()["text"] == "theirs"

    def test_a_conflict_is_overwritten(self, page, client, disputed):
        page.get_by_role("button", name=re.compile("Overwrite")).click()
        expect(texts(page)).to_have_text(["mine"])
        assert client("GET", disputed).json()["text"] == "mine"

    def test_overwriting_sees_a_further_change(self, page, client, disputed):
        client("PUT", disputed, {"text": "theirs again"}, If_Match="*")
        page.get_by_role("button", name=re.compile("Overwrite")).click()
        expect(page.locator(".conflict")).to_contain_text("theirs again")
        assert client("GET", disputed).json()["text"] == "theirs again"

    def test_deleted_while_edited(self, page, client):
        add(page, "original")
        page.get_by_role("button", name="Edit: original").click()
        page.get_by_label("Text of the note").fill("mine")
        note = client("GET", "/api/notes").json()["notes"][0]
        client("DELETE", f"/api/notes/{note['id']}", If_Match="*")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".conflict")).to_contain_text("deleted")
        page.get_by_role("button", name="Save mine as a new note").click()
        expect(texts(page)).to_have_text(["mine"])
        assert [each["text"] for each in client("GET", "/api/notes").json()["notes"]] == ["mine"]

    def test_changed_before_it_was_deleted(self, page, client):
        add(page, "original")
        note = client("GET", "/api/notes").json()["notes"][0]
        client("PUT", f"/api/notes/{note['id']}", {"text": "theirs"}, If_Match="*")
        page.get_by_role("button", name="Delete: original").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.locator(".note .error")).to_contain_text("Not deleted")
        expect(texts(page)).to_have_text(["theirs"])


class TestLooks:
    def test_on_a_phone(self, open_page, client):
        client.write("unbreakable" * 40)
        client.write("short")
        page = open_page(**PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for button in page.locator("button:visible, input:visible").all():
            box = button.bounding_box()
            assert box["height"] >= 44
            assert box["width"] >= 44
        # There are no keys to speak of.
        expect(page.locator(".hint:visible")).to_have_count(0)
        page.get_by_role("button", name="Edit: short").tap()
        page.get_by_role("textbox", name="Text of the note").fill("longer")
        page.get_by_role("button", name="Save", exact=True).tap()
        expect(texts(page).first).to_have_text("longer")

    def test_at_night(self, open_page):
        def brightness(scheme: str) -> int:
            page = open_page(color_scheme=scheme)
            color = page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(int(number) for number in re.findall(r"\d+", color)[:3])

        assert brightness("dark") < 150
        assert brightness("light") > 600

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_words_stand_out(self, open_page, client, scheme):
        client.write("x")
        page = open_page(color_scheme=scheme)

        def contrast(foreground: str, background: str) -> float:
            """WCAG 2.2's contrast ratio."""
            one, other = sorted((luminance(page, foreground), luminance(page, background)), reverse=True)
            return (one + 0.05) / (other + 0.05)

        for foreground in ("--ink", "--muted", "--cherry", "--cherry-deep"):
            assert contrast(foreground, "--card") >= 4.5
        assert contrast("--muted", "--paper") >= 4.5
        assert contrast("--on-cherry", "--cherry") >= 4.5
        assert contrast("--cherry-deep", "--wash") >= 4.5


def luminance(page: Page, variable: str) -> float:
    code = page.evaluate(
        "name => getComputedStyle(document.documentElement).getPropertyValue(name)", variable
    )
    digits = code.strip().removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
