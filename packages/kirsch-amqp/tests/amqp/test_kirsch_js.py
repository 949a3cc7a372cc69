"""kirsch.js in Chromium, and in one story in Firefox, against a Bridge on CherryPy."""

import contextlib
import time
from dataclasses import replace

import pytest
from tests.amqp.applications import Application
from tests.amqp.firefox import Firefox
from tests.amqp.rabbit import Rabbit
from tests.amqp.visitor import Visitor
from tests.deadline import eventually

from kirsch.amqp import Hello, Identity, Limits, Refused, Tokens, mount

pytestmark = [pytest.mark.services, pytest.mark.slow]

PAGE = """<!doctype html><title>kirsch.js</title><script type="module">
import { KirschClient, KirschError } from "/kirsch.js";
window.KirschClient = KirschClient;
window.begin = (options = {}) => {
  const client = new KirschClient("/ws", { name: "Ada", token: "user", ...options });
  window.client = client;
  window.states = []; window.errors = []; window.broker = [];
  client.on("state", ({ state }) => states.push(state));
  client.on("error", (error) => errors.push(error.code));
  client.on("broker", ({ connected }) => broker.push(connected));
  client.on("closed", ({ code }) => { window.over = code; });
  return client;
};
window.enter = (name, options) => {
  const room = client.join(name, options);
  room.said = []; room.gaps = 0; room.signals = []; room.errors = [];
  room.on("message", (message) => room.said.push(message.data));
  room.on("gap", () => { room.gaps += 1; });
  room.on("signal", (signal) => room.signals.push([signal.name, signal.data]));
  room.on("error", (error) => room.errors.push(error.code));
  window.room = room;
};
window.outcome = (promise) => promise.then(() => "sent", (error) => error.code);
window.there = true;
</script>"""


class Pages:
    """CherryPy on one port: the page, the script, the WebSocket."""

    def __init__(self, rabbit, **options):
        import cherrypy
        from cherrypy.process.wspbus import Bus

        from kirsch.bus import http_server
        from kirsch.websocket.cherrypy import WebSocketPlugin, WebSocketTool

        self.application = Application(Bus(), rabbit.url, "thread", {"name": rabbit.name(), **options})
        bridge, self.bus = self.application.bridge, self.application.bus
        tool = WebSocketTool(self.bus)

        class Root:
            @cherrypy.expose
            def index(self):
                return PAGE

            @cherrypy.expose
            def ws(self):
                pass

        from cherrypy._cprequest import Hook

        arguments = {
            "application": bridge.connection,
            "policy": bridge.policy,
            "limits": bridge.websocket_limits,
        }
        tree = cherrypy._cptree.Tree()
        tree.mount(Root(), "", {"/ws": {"hooks.before_handler": Hook(tool.begin, priority=60, **arguments)}})
        mount(tree)
        self.plugin = WebSocketPlugin(self.bus)
        self.plugin.subscribe()
        server = http_server(self.bus, tree, port=0)
        server.bind()
        self.url = f"http://127.0.0.1:{server.bind_addr[1]}/"
        self.application.url = f"ws://127.0.0.1:{server.bind_addr[1]}/ws"

    def __enter__(self):
        self.bus.start()
        self.application.ready()
        return self

    def __exit__(self, *error):
        self.bus.exit()

    def cut(self):
        """Every connection is lost, as by a network that is gone."""
        for websocket in self.plugin.connections:
            websocket.wire.abort()


def authenticate(hello, request):
    return Identity(hello.name) if hello.token == "user" else None


def check(identity, room, data):
    if data == "spam":
        raise Refused("no advertisements")
    return data


@pytest.fixture(scope="module")
def pages(rabbit):
    limits = Limits(rate=50, burst=40)
    with Pages(rabbit, authenticate=authenticate, check=check, limits=limits) as pages:
        yield pages


@contextlib.contextmanager
def opened(browser, pages, **options):
    """A page with a client that is welcome."""
    page = browser.new_page()
    page.set_default_timeout(50_000)
    failures = []
    page.on("pageerror", lambda error: failures.append(error))
    page.goto(pages.url)
    page.wait_for_function("window.there")
    page.evaluate("options => { begin(options) }", options)
    try:
        yield page
    except Exception:
        print(
            page.evaluate("JSON.stringify([states, errors, broker, client.client, window.room, window.over])")
        )
        raise
    page.evaluate("client.close()")
    page.close()
    assert not failures


@pytest.fixture
def page(browser, pages):
    with opened(browser, pages) as page:
        yield page


def test_pages_meet_in_a_room(browser, pages, page):
    with opened(browser, pages, name="Bob") as other:
        for each in (page, other):
            each.evaluate("enter('lobby')")
            each.wait_for_function("room.joined")
        other.wait_for_function("room.count === 2 && [...room.members.values()].sort().join() === 'Ada,Bob'")
        assert page.evaluate("outcome(room.send({ text: 'hello' }))") == "sent"
        other.wait_for_function("room.said.length === 1 && room.said[0].text === 'hello'")
        page.wait_for_function("room.said.length === 1")
        other.evaluate("room.signal('typing')")
        page.wait_for_function("room.signals.join() === 'Bob,typing'")
        other.evaluate("room.leave()")
        page.wait_for_function("room.count === 1 && room.members.size === 1")
    assert page.evaluate("states") == ["open"]


def test_a_page_hears_what_was_said_before(pages, page):
    with Visitor(pages.application, hello=False) as visitor:
        visitor.hello(token="user")
        visitor.join("past")
        for number in range(1, 6):
            visitor.send("past", number, number)
        assert visitor.messages(5) == [1, 2, 3, 4, 5]
    page.evaluate("enter('past', { last: 3 })")
    page.wait_for_function("room.said.join() === '3,4,5'")


def test_a_page_that_was_cut_off_comes_back_and_misses_nothing(pages, page):
    page.evaluate("enter('cut')")
    page.wait_for_function("room.joined")
    page.evaluate("window.sent = []; for (let n = 1; n <= 30; n++) room.send(n).then(() => sent.push(n))")
    pages.cut()
    page.wait_for_function("states.includes('waiting')")
    page.evaluate("for (let n = 31; n <= 35; n++) room.send(n).then(() => sent.push(n))")
    page.wait_for_function("sent.length === 35 && room.said.length === 35")
    assert page.evaluate("room.said") == list(range(1, 36))
    assert page.evaluate("room.gaps") == 0
    assert page.evaluate("client.unconfirmed") == 0


def test_users_have_tickets_and_tokens_that_are_renewed(rabbit, browser):
    """One user in two windows: a private room, a token that is renewed, a direct message, a kick."""
    secret = Tokens("of the tests, and long enough for it", "test")

    def issue(hello, request):
        # The page's function gave what it was asked for so many times.
        identity = secret.authenticate(Hello(token=secret.issue("ada", "Ada")), request)
        return replace(identity, expires=time.time() + 2) if hello.token == 1 else identity

    with Pages(rabbit, authenticate=issue, tickets=secret.admit) as pages:
        ticket = secret.ticket("!plans", "ada")
        with opened(browser, pages) as page, opened(browser, pages) as other:
            page.evaluate("() => { client.close(); window.asked = 0; begin({ token: () => ++asked }) }")
            for each in (page, other):
                each.evaluate("ticket => enter('!plans', { ticket })", ticket)
            for each in (page, other):
                each.wait_for_function("room.joined && room.count === 2")
            assert page.evaluate("[client.user, [...room.people.keys()].join()].join()") == "ada,ada"
            assert page.evaluate("room.people.get('ada').clients.length") == 2
            # It was renewed: by a refresh, or by another connection where a busy machine was late for that.
            page.wait_for_function("asked === 2 && client.state === 'open'")
            page.evaluate(
                """() => {
                  client.join('@ada').on('message', ({ data, user }) => { window.direct = [data, user]; });
                }"""
            )
            page.wait_for_function("client.join('@ada').joined")
            assert other.evaluate("outcome(client.join('@ada').send('psst'))") == "sent"
            page.wait_for_function("window.direct?.join() === 'psst,ada'")
            page.evaluate("room.on('left', ({ reason }) => { window.left = reason }); undefined")
            pages.application.bridge.kick("ada", "!plans", "enough")
            page.wait_for_function("window.left === 'enough' && !room.joined")
            assert page.evaluate("outcome(room.send(1))") == "forbidden"
            pages.application.bridge.ban("ada", reason="for good")
            page.wait_for_function("window.over === 4403 && client.state === 'closed'")


def test_more_than_the_rate_is_sent_in_the_end(page):
    page.evaluate("enter('fast')")
    page.wait_for_function("room.joined")
    page.evaluate("window.sent = 0; for (let n = 1; n <= 70; n++) room.send(n).then(() => { sent += 1 })")
    page.wait_for_function("sent === 70 && room.said.length === 70")
    assert sorted(page.evaluate("room.said")) == list(range(1, 71))


def test_what_is_refused_is_told(page):
    page.evaluate("enter('refused')")
    page.wait_for_function("room.joined")
    assert page.evaluate("outcome(room.send('spam'))") == "refused"
    assert page.evaluate("outcome(room.send('x'.repeat(70000)))") == "too-large"
    assert page.evaluate("outcome(room.send('not so'))") == "sent"


def test_a_wrong_token_ends_it(browser, pages):
    with opened(browser, pages, token="wrong") as page:
        page.evaluate("enter('lobby'); window.result = outcome(room.send(1)); undefined")
        page.wait_for_function("window.over === 4401")
        assert page.evaluate("result") == "unauthenticated"
        assert page.evaluate("client.state") == "closed"


def test_a_client_of_another_page_with_the_same_key_ends_it(browser, pages, page):
    page.wait_for_function("client.state === 'open'")
    with opened(browser, pages, key=page.evaluate("client.key")) as other:
        other.wait_for_function("client.state === 'open'")
        page.wait_for_function("window.over === 4409")


def test_the_script_is_served_as_a_module(browser, pages):
    import urllib.request

    url = pages.url + "kirsch.js"
    with urllib.request.urlopen(url) as response:
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        tag, body = response.headers["ETag"], response.read()
    assert b"export class KirschClient" in body
    request = urllib.request.Request(url, headers={"If-None-Match": tag})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 304


@pytest.mark.soak
def test_a_page_outlives_the_broker(browser, tmp_path):
    with (
        Rabbit(tmp_path / "data") as rabbit,
        Pages(rabbit, authenticate=authenticate) as pages,
        opened(browser, pages) as page,
    ):
        page.evaluate("enter('lobby')")
        page.wait_for_function("room.joined && client.broker")
        assert page.evaluate("outcome(room.send(1))") == "sent"
        rabbit.kill()
        page.wait_for_function("!client.broker")
        page.evaluate("window.result = outcome(room.send(2)); undefined")
        rabbit.start()
        page.wait_for_function("client.broker")
        assert page.evaluate("result") == "sent"
        page.wait_for_function("room.said.join() === '1,2'")
        assert page.evaluate("states") == ["open"]
        eventually(lambda: page.evaluate("broker") == [True, False, True])


def test_older_messages_come_by_pages(rabbit, browser):
    """More of them than the server has in memory, each once, and those that come meanwhile behind them."""
    limits = Limits(rate=10_000, burst=10_000, unconfirmed=10_000)
    with (
        Pages(rabbit, limits=limits, memory=(64 << 20, 10, 1 << 20)) as pages,
        Visitor(pages.application, "Bob") as bob,
        opened(browser, pages) as page,
    ):
        bob.join("lobby", presence=False)
        for number in range(1, 131):
            bob.send("lobby", number, number)
        assert bob.messages(130) == list(range(1, 131))
        page.evaluate("enter('lobby', { last: 20 })")
        page.wait_for_function("room.said.length === 20")
        assert page.evaluate("room.more")
        bob.send("lobby", 131, 131)
        page.wait_for_function("room.said.length === 21")
        heard = page.evaluate(
            """async () => {
              const older = [];
              for (;;) {
                const { messages, more } = await room.history(50);
                older.unshift(...messages.map(({ data }) => data));
                if (!more) return [...older, ...room.said];
              }
            }"""
        )
        assert heard == list(range(1, 132))
        assert not page.evaluate("room.more")
        # One at a time.
        outcomes = page.evaluate("Promise.all([room.history(), room.history()].map(outcome))")
        assert outcomes == ["sent", "busy"]


@pytest.mark.timeout(240)
def test_pages_in_firefox_meet_come_back_and_read_what_was_said(pages, tmp_path):
    with Firefox(tmp_path) as firefox:
        ada, bob = firefox.open(pages.url), firefox.open(pages.url)
        for page, name in ((ada, "Ada"), (bob, "Böb 😀")):
            page.wait_for_function("window.there")
            page.evaluate(f"void begin({{ name: {name!r} }})")
            page.evaluate("void enter('fox', { last: 2 })")
            page.wait_for_function("room.joined")
        ada.wait_for_function("[...room.members.values()].sort().join() === 'Ada,Böb 😀'")
        assert ada.evaluate("outcome(room.send({ text: 'hello ✓' }))") == "sent"
        bob.wait_for_function("room.said.length === 1 && room.said[0].text === 'hello ✓'")
        bob.evaluate("void room.signal('typing')")
        ada.wait_for_function("room.signals.join() === 'Böb 😀,typing'")
        # The network is gone, and what is said meanwhile goes when it is back, once and in order.
        ada.evaluate("void Array.from({ length: 20 }, (_, n) => room.send(n + 1))")
        pages.cut()
        for page in (ada, bob):
            page.wait_for_function("states.includes('waiting')")
            page.wait_for_function("client.state === 'open' && room.said.length === 21")
            assert page.evaluate("[room.said.slice(1), room.gaps]") == [list(range(1, 21)), 0]
        late = firefox.open(pages.url)
        late.wait_for_function("window.there")
        late.evaluate("void begin({ name: 'Late' })")
        late.evaluate("void enter('fox', { last: 2 })")
        late.wait_for_function("room.said.join() === '19,20'")
        older = late.evaluate("room.history(3).then(({ messages }) => messages.map(({ data }) => data))")
        assert older == [16, 17, 18]
        assert late.evaluate("outcome(room.send('x'.repeat(70000)))") == "too-large"
