"""The chat in Chromium: two windows at two instances, by mouse, by keyboard, on a phone."""

import json
import re
import threading

import pika
import pytest
from playwright.sync_api import expect
from tests.amqp.rabbit import Rabbit
from tests.chat.conftest import ROOMS_PASSWORD, Window

pytestmark = [pytest.mark.services, pytest.mark.slow]
NO_LOCKS = "Object.defineProperty(navigator, 'locks', { value: undefined })"
NO_CHANNELS = "delete window.BroadcastChannel"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def publish(rabbit, room, texts):
    """Have another program say something."""
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for text in texts:
            channel.basic_publish("chat.rooms", room, text.encode())


@pytest.mark.soak
def test_what_was_said_long_ago_is_found_by_scrolling(rabbit, pair, window, room):
    """From the broker's stream: an instance that was started anew, and has nothing in its memory, too."""
    texts = [f"message {number}" for number in range(1, 171)]
    publish(rabbit, room, texts)
    ada = window(pair[0], "Ada", room)
    ada.should_show(texts[-1])
    expect(ada.texts).to_have_count(50)
    for count in (100, 150, 170):
        ada.page.locator("#scroll").evaluate("scroll => { scroll.scrollTop = 0; }")
        expect(ada.texts).to_have_count(count)
        # Nobody is taken away from what they were looking at.
        expect(ada.page.get_by_text(texts[-count + 50 - 1], exact=True)).to_be_visible()
    assert ada.texts.all_inner_texts() == texts
    expect(ada.page.get_by_role("button", name="Earlier messages")).to_be_hidden()
    ada.say("now")
    ada.should_show(texts[-1], "now")


@pytest.mark.soak
def test_what_was_typed_without_a_connection_outlives_a_reload(pair, window, room):
    ada, cut, routes = window(pair[0], "Ada", room), [], []

    def route(socket):
        if cut:
            socket.close()
        else:
            routes.append(socket)
            socket.connect_to_server()

    ada.page.route_web_socket(re.compile("/ws$"), route)
    ada.page.reload()
    ada.should_be_connected()
    cut.append(True)
    routes[-1].close()
    expect(ada.page.locator("#state")).to_contain_text("connection lost")
    for text in ("typed before", "and then"):
        ada.say(text)
    pending = ada.page.locator("#pending .text")
    expect(pending).to_have_text(["typed before", "and then"])
    ada.page.reload()
    expect(pending).to_have_text(["typed before", "and then"])
    more = [str(number) for number in range(10)]
    for text in more:
        ada.say(text)
    # The list is folded.
    expect(pending).to_have_text(["typed before", "and then", "0", "1", "2"])
    expect(ada.page.locator("#pending")).to_contain_text("and 7 more are being sent")
    cut.clear()
    ada.should_be_connected()
    expect(ada.texts).to_have_text(["typed before", "and then", *more])
    expect(pending).to_have_count(0)
    ada.page.reload()
    expect(ada.texts).to_have_text(["typed before", "and then", *more])
    expect(pending).to_have_count(0)


def test_what_is_typed_and_not_sent_outlives_a_reload(pair, window, room):
    ada = window(pair[0], "Ada", room)
    ada.box.press_sequentially("half a sent")
    ada.page.reload()
    expect(ada.box).to_have_value("half a sent")
    ada.box.press_sequentially("ence")
    ada.page.keyboard.press("Enter")
    ada.should_show("half a sentence")
    ada.page.reload()
    ada.should_show("half a sentence")
    expect(ada.box).to_have_value("")


class Crowd:
    """Another process with many members in a room, as its events tell of it."""

    def __init__(self, rabbit, room, count):
        self.url, self.over = rabbit.url, threading.Event()
        members = {f"client-{number}": f"Person {number:03}" for number in range(count)}
        self.state = {"event": "state", "process": "crowd", "version": 1, "rooms": {room: members}}
        self.thread = threading.Thread(target=self.stay)

    def stay(self):
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            while True:
                channel.basic_publish("chat.events", "", json.dumps(self.state).encode())
                if self.over.wait(1):
                    break
            channel.basic_publish("chat.events", "", b'{"event":"bye","process":"crowd"}')

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def test_a_message_changes_only_what_it_is_about_though_many_are_here(rabbit, pair, window, room):
    ada, bob = window(pair[0], "Ada", room), window(pair[1], "Bob", room)
    with Crowd(rabbit, room, 497):
        expect(ada.page.locator("#people-count")).to_have_text("499")
        people = ada.page.locator("#people li")
        expect(people).to_have_count(101)
        expect(people.last).to_have_text("and 399 more")
        ada.page.evaluate(
            """() => {
              window.changes = 0;
              const count = (found) => { window.changes += found.length; };
              const all = { childList: true, subtree: true };
              for (const id of ["people", "rooms", "pending"])
                new MutationObserver(count).observe(document.getElementById(id), all);
            }"""
        )
        for number in range(10):
            bob.say(str(number))
        ada.should_show(*map(str, range(10)))
        assert ada.page.evaluate("changes") == 0


def test_addresses_are_links_and_nothing_else_is(pair, window, room):
    ada = window(pair[0], "Ada", room)
    ada.say("see https://example.com/a?b=1#c. (http://x.example) javascript:alert(1) <a href=x>y</a>")
    links = ada.page.locator(".message .text a")
    expect(links).to_have_text(["https://example.com/a?b=1#c", "http://x.example"])
    assert links.first.get_attribute("rel") == "noopener noreferrer nofollow"
    ada.should_show("see https://example.com/a?b=1#c. (http://x.example) javascript:alert(1) <a href=x>y</a>")


def test_who_chose_a_room_can_type_at_once(pair, window, room):
    ada = window(pair[0], "Ada", room)
    ada.enter("kitchen")
    expect(ada.box).to_be_focused()


class TestTwoWindows:
    def test_two_windows_talk_through_two_instances(self, pair, window, room):
        ada, bob = window(pair[0], "Ada", room), window(pair[1], "Bob", room)
        expect(ada.page.locator("#instance")).to_have_text(pair[0].name)
        expect(bob.page.locator("#instance")).to_have_text(pair[1].name)
        ada.say("Is anybody here?")
        bob.should_show("Is anybody here?")
        ada.should_show("Is anybody here?")
        bob.say("I am.")
        for each in (ada, bob):
            each.should_show("Is anybody here?", "I am.")
        expect(ada.page.locator(".message .name").last).to_have_text("Bob")
        expect(ada.page.locator(".own .text")).to_have_text(["Is anybody here?"])
        expect(bob.page.locator(".own .text")).to_have_text(["I am."])

    def test_who_is_here_comes_and_goes(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        people = ada.page.locator("#people li")
        expect(people).to_have_text(["Ada (you)"])
        bob = window(pair[1], "Bob", room)
        expect(people).to_have_text(["Ada (you)", "Bob"])
        expect(ada.page.locator("#people-count")).to_have_text("2")
        bob.page.close()
        expect(people).to_have_text(["Ada (you)"])

    def test_who_is_typing(self, pair, window, room):
        ada, bob = window(pair[0], "Ada", room), window(pair[1], "Bob", room)
        expect(bob.page.locator("#people li")).to_have_count(2)
        ada.box.press_sequentially("He")
        expect(bob.page.locator("#typing")).to_have_text("Ada is typing …")
        expect(ada.page.locator("#typing")).to_have_text("")
        ada.say("Hello")
        bob.should_show("Hello")
        expect(bob.page.locator("#typing")).to_have_text("")

    @pytest.mark.soak
    def test_who_has_read_the_last_message(self, pair, window, room):
        ada, bob, cy = (window(pair[at], name, room) for at, name in ((0, "Ada"), (1, "Bob"), (1, "Cy")))
        below = ada.page.locator("#typing")
        bob.enter("kitchen")
        ada.say("Are you there?")
        expect(below).to_have_text("Read by Cy")
        bob.enter(room)
        expect(below).to_have_text("Read by Bob and Cy")
        # Whose message is the last asks; a window that comes anew hears it again.
        expect(bob.page.locator("#typing")).to_have_text("")
        ada.page.reload()
        ada.should_be_connected()
        expect(below).to_have_text("Read by Bob and Cy")
        cy.say("Yes.")
        expect(cy.page.locator("#typing")).to_have_text("Read by Ada and Bob")
        expect(below).to_have_text("")

    def test_one_who_comes_later_hears_what_was_said(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        for text in ("one", "two", "three"):
            ada.say(text)
            ada.should_show(text)
        late = window(pair[1], "Late", room)
        expect(late.texts).to_have_text(["one", "two", "three"])
        # And once more after a reload, each once, still the same person.
        ada.page.reload()
        expect(ada.page.locator(".own .text")).to_have_text(["one", "two", "three"])
        ada.should_be_connected()
        ada.say("four")
        late.should_show("three", "four")

    def test_text_is_text(self, pair, window, room):
        attack = '<img src=x onerror="document.title=1"><script>document.title=2</script>&lt;'
        mallory, bob = window(pair[0], "<b>Mallory</b>", room), window(pair[1], "Bob", room)
        mallory.say(attack)
        bob.should_show(attack)
        expect(bob.page.locator(".message .name")).to_have_text("<b>Mallory</b>")
        assert bob.page.locator(".message img, .message script, .message b b").count() == 0
        expect(bob.page).to_have_title(f"{room} – Chat")


class TestRooms:
    def test_unread_messages_are_counted_where_one_is_not(self, pair, window, room):
        ada, bob = window(pair[0], "Ada", room), window(pair[1], "Bob", room)
        bob.enter("kitchen")
        for text in ("one", "two"):
            ada.say(text)
        badge = bob.page.locator(f"[data-room='{room}'] .unread")
        expect(badge).to_have_text("2 unread")
        expect(bob.page).to_have_title("(2) kitchen – Chat")
        bob.enter(room)
        bob.should_show("one", "two")
        expect(badge).to_be_hidden()
        expect(bob.page).to_have_title(f"{room} – Chat")
        # What was read is no news to a page that is loaded anew at once.
        bob.enter("kitchen")
        bob.page.reload()
        expect(bob.page.locator("#state")).to_have_text("connected")
        expect(bob.page.locator(f"[data-room='{room}']")).to_be_visible()
        expect(badge).to_be_hidden()

    def test_whoever_runs_it_sees_the_rooms_and_what_is_said_in_them(self, pair, window, room, browser):
        ada, bob = window(pair[0], "Ada", room), window(pair[1], "<b>Bob</b>", room)
        with browser.new_context(http_credentials={"username": "me", "password": ROOMS_PASSWORD}) as context:
            page, errors = context.new_page(), []
            page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(pair[0].url + "rooms")
            row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=room, exact=True))
            expect(row.get_by_role("cell").nth(0)).to_have_text("2")
            expect(row.get_by_role("cell").last).to_have_text("<b>Bob</b>, Ada")
            ada.say("Hello")
            bob.should_show("Hello")
            # Of what was said since the page is open.
            expect(row.get_by_role("cell").nth(2)).not_to_have_text("0")
            expect(page.locator("#state")).to_have_text("the broker is there")
            assert errors == []

    def test_a_room_that_is_opened_is_there_for_all(self, pair, window, room):
        ada, bob = window(pair[0], "Ada"), window(pair[1], "Bob")
        ada.open_room(room)
        ada.say("A room of our own")
        ada.should_show("A room of our own")
        bob.enter(room)
        bob.should_show("A room of our own")
        bob.page.get_by_role("button", name=f"Leave {room}").click()
        expect(bob.page.locator("#room-name")).to_have_text("lobby")
        expect(ada.page.locator("#people li")).to_have_text(["Ada (you)"])

    def test_a_name_that_is_none(self, pair, window):
        ada = window(pair[0], "Ada")
        ada.page.get_by_label("Open a room").fill("a/b")
        ada.page.keyboard.press("Enter")
        expect(ada.page.locator("#room-error")).to_have_text("A room's name has letters, digits and dashes.")

    def test_what_is_written_in_one_room_is_not_said_in_another(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        ada.box.fill("for later")
        ada.enter("garden")
        expect(ada.box).to_have_value("")
        ada.enter(room)
        expect(ada.box).to_have_value("for later")
        # The browser's own way back.
        ada.page.go_back()
        expect(ada.page.locator("#room-name")).to_have_text("garden")


class TestNames:
    def test_the_server_has_the_last_word(self, pair, window, browser):
        page = browser.new_page()
        page.goto(pair[0].url)
        page.get_by_label("What are you called?").fill("!!!")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("A name has letters or digits", timeout=15_000)
        page.get_by_label("What are you called?").fill("Ada")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("connected", timeout=30_000)
        page.close()

    def test_another_name(self, pair, window, room):
        ada, bob = window(pair[0], "Ada", room), window(pair[1], "Bob", room)
        ada.page.get_by_role("button", name="Change name").click()
        expect(ada.page.get_by_label("What are you called?")).to_have_value("Ada")
        ada.page.get_by_label("What are you called?").fill("Countess")
        ada.page.keyboard.press("Enter")
        expect(bob.page.locator("#people li")).to_have_text(["Bob (you)", "Countess"])


class TestByKeyboard:
    def test_all_of_it(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        ada.box.focus()
        ada.page.keyboard.type("two")
        ada.page.keyboard.press("Shift+Enter")
        ada.page.keyboard.type("lines")
        ada.page.keyboard.press("Enter")
        ada.should_show("two\nlines")
        expect(ada.box).to_be_focused()
        expect(ada.box).to_have_value("")
        ada.enter("lobby")
        ada.page.keyboard.press("Alt+ArrowDown")
        expect(ada.page.locator("#room-name")).to_have_text("kitchen")
        expect(ada.box).to_be_focused()
        ada.page.keyboard.press("Alt+ArrowUp")
        expect(ada.page.locator("#room-name")).to_have_text("lobby")

    def test_for_screen_readers(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        ada.say("Listen")
        ada.should_show("Listen")
        log = ada.page.get_by_role("log", name="Messages")
        expect(log).to_contain_text("Listen")
        assert log.get_attribute("aria-live") == "polite"
        expect(ada.page.get_by_role("status")).to_have_text("connected")
        expect(ada.page.get_by_role("heading", name=f"Room: {room}")).to_be_visible()
        expect(ada.page.get_by_role("navigation", name="Rooms")).to_be_visible()
        expect(ada.page.locator(f"[data-room='{room}']")).to_have_attribute("aria-current", "true")


class TestOnAPhone:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, pair, window, room, scheme):
        ada = window(pair[0], "Ada", room, color_scheme=scheme, **PHONE)
        ada.say("x" * 300)
        expect(ada.texts).to_have_count(1)
        assert ada.page.evaluate("document.documentElement.scrollWidth") <= 390
        menu = ada.page.get_by_role("button", name="Rooms")
        assert menu.get_attribute("aria-expanded") == "false"
        menu.click()
        assert menu.get_attribute("aria-expanded") == "true"
        for control in ada.page.locator("button:visible").all():
            assert control.bounding_box()["height"] >= 40
        ada.enter("garden")
        expect(ada.page.locator("#side")).to_be_hidden()
        menu.click()
        ada.page.keyboard.press("Escape")
        expect(menu).to_be_focused()


class TestAWindowThatIsCopied:
    """As by a browser's "Duplicate tab": sessionStorage is copied, with the key that is in it."""

    @staticmethod
    def copy(ada, without):
        for script in without:
            ada.page.context.add_init_script(script)
        if without:
            ada.page.reload()
            ada.should_be_connected()
        with ada.page.context.expect_page() as opened:
            ada.page.evaluate("window.open(location.href); undefined")
        page = opened.value
        expect(page.locator("#state")).to_have_text("connected", timeout=30_000)
        return Window(page, ada.name)

    @pytest.mark.parametrize(
        "without", [(), pytest.param((NO_LOCKS,), marks=pytest.mark.soak)], ids=["locks", "asking"]
    )
    def test_it_is_another_one(self, pair, window, room, without):
        ada = window(pair[0], "Ada", room)
        ada.say("one")
        ada.should_show("one")
        key = ada.page.evaluate("sessionStorage.getItem('chat.key')")
        other = self.copy(ada, without)
        # It is the same person.
        expect(other.page.locator("#people li")).to_have_text(["Ada (you)"])
        expect(other.page.locator("#people-count")).to_have_text("1")
        other.say("two")
        ada.say("three")
        for each in (ada, other):
            expect(each.texts).to_have_count(3)
            each.should_be_connected()
        expect(ada.page.locator(".own .text")).to_have_text(["one", "three"])
        expect(other.page.locator(".own .text")).to_have_text(["two"])
        # Each is the same after a reload.
        for each, own in ((ada, ["one", "three"]), (other, ["two"])):
            each.page.reload()
            each.should_be_connected()
            expect(each.page.locator(".own .text")).to_have_text(own)
        assert ada.page.evaluate("sessionStorage.getItem('chat.key')") == key
        assert other.page.evaluate("sessionStorage.getItem('chat.key')") != key

    @pytest.mark.soak
    def test_where_nothing_tells_it_from_the_first_one_of_them_waits(self, pair, window, room):
        ada = window(pair[0], "Ada", room)
        other = self.copy(ada, (NO_LOCKS, NO_CHANNELS)).page
        expect(ada.page.locator("#state")).to_contain_text("open in another window")
        # What cannot be sent stays there, all of it.
        for text in ("one", "two"):
            ada.say(text)
        pending = ada.page.locator("#pending .text")
        expect(pending).to_have_text(["one", "two"])
        ada.page.get_by_role("button", name="Take it back").first.click()
        expect(pending).to_have_text(["two"])
        expect(ada.box).to_have_value("one")
        ada.page.get_by_role("button", name="Use it here").click()
        ada.should_be_connected()
        expect(other.locator("#state")).to_contain_text("open in another window")


class TestALongTalk:
    @pytest.mark.soak
    def test_so_many_lines_are_on_the_page_and_more_when_they_are_asked_for(self, pair, window, room, rabbit):
        import pika

        ada = window(pair[0], "Ada", room)
        lines = ada.page.locator("#messages .message")

        def said(first, last):
            with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
                channel = connection.channel()
                for number in range(first, last + 1):
                    properties = pika.BasicProperties(content_type="application/json")
                    body = json.dumps({"text": f"line {number}"})
                    channel.basic_publish("chat.rooms", room, body.encode(), properties)
            expect(ada.texts.last).to_have_text(f"line {last}")

        said(1, 650)
        # It does not say when: now.
        expect(ada.page.locator("#messages .rule")).to_have_text(["Today"])
        assert 60 <= lines.count() <= 90
        assert ada.texts.all_inner_texts() == [f"line {n}" for n in range(651 - lines.count(), 651)]
        above = ada.page.get_by_role("button", name="Earlier messages")
        place = "document.querySelector('#messages li:last-child').getBoundingClientRect().top"
        for _ in range(10):
            if above.is_hidden():
                break
            before, at = lines.count(), ada.page.evaluate(place)
            above.evaluate("button => button.click()")
            assert lines.count() > before
            # What was on the screen has not moved.
            assert abs(ada.page.evaluate(place) - at) < 50
        expect(above).to_be_hidden()
        assert ada.texts.first.inner_text() == "line 151"
        # Who reads what was said before is not moved, though the oldest go in the end.
        ada.page.locator("#scroll").evaluate("element => { element.scrollTop = 0 }")
        said(651, 900)
        assert lines.count() <= 600
        expect(ada.page.get_by_role("button", name="250 new messages below")).to_be_visible()
        ada.page.get_by_role("button", name="250 new messages below").click()
        said(901, 901)
        assert lines.count() <= 90


class TestConnections:
    @pytest.mark.slow
    def test_an_instance_that_dies_and_comes_back(self, pair, instances, rabbit, window, room):
        mortal = instances.start(rabbit.url)
        ada, bob = window(mortal, "Ada", room), window(pair[1], "Bob", room)
        ada.say("before")
        bob.should_show("before")
        mortal.process.kill()
        mortal.process.wait(20)
        expect(ada.page.locator("#state")).to_contain_text("connection lost")
        ada.say("in the dark")
        expect(ada.page.locator("#pending")).to_contain_text("in the dark sending …")
        bob.say("meanwhile")
        bob.should_show("before", "meanwhile")
        again = instances.start(rabbit.url, address=mortal.address)
        ada.should_be_connected()
        for each in (ada, bob):
            each.should_show("before", "meanwhile", "in the dark")
        expect(ada.page.locator("#pending li")).to_have_count(0)
        expect(bob.page.locator("#people li")).to_have_text(["Ada", "Bob (you)"], timeout=20_000)
        again.end()

    @pytest.mark.soak
    @pytest.mark.slow
    def test_a_broker_that_is_killed_and_comes_back(self, instances, window, room, tmp_path):
        with Rabbit(tmp_path / "data") as mortal:
            one, two = instances.start(mortal.url), instances.start(mortal.url)
            ada, bob = window(one, "Ada", room), window(two, "Bob", room)
            ada.say("before")
            bob.should_show("before")
            mortal.kill()
            expect(ada.page.locator("#state")).to_have_text("the broker is away, messages wait")
            ada.say("while it is away")
            # It is shown when the server sends it back, and no earlier.
            expect(ada.page.locator("#pending")).to_contain_text("while it is away sending …")
            ada.should_show("before")
            # Whoever comes now finds the page, with what is in memory.
            assert one.readiness()["ready"]
            late = window(two, "Late", room, broker=False)
            late.should_show("before")
            mortal.start()
            for each in (ada, bob, late):
                expect(each.texts).to_have_text(["before", "while it is away"], timeout=60_000)
                each.should_be_connected()
            for each in (one, two):
                each.end()
