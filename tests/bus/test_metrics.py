"""MetricsPlugin: what it counts, under which names, and that clients cannot make it grow."""

import http.client

import cherrypy
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kirsch.bus import MethodDispatcher, MetricsPlugin, http_server


class Item:
    exposed = True

    def GET(self):
        return b"item"

    def DELETE(self):
        raise cherrypy.HTTPError(409)


class Items:
    exposed = True

    def GET(self, *arguments):
        return b"items"

    def _cp_dispatch(self, vpath):
        if vpath[0].isdigit():
            vpath.pop(0)
            return Item()
        return None


class Root:
    exposed = True

    def __init__(self):
        self.items = Items()

    def GET(self):
        raise RuntimeError("no")

    def PUT(self):
        cherrypy.response.stream = True
        return (b"%d" % number for number in range(3))


@pytest.fixture
def site():
    """ask(method, path) -> status and body; .metrics is the plugin."""
    # after_request is published on CherryPy's own bus, whichever bus the server is on.
    metrics = MetricsPlugin(cherrypy.engine)
    metrics.subscribe()
    tree = cherrypy._cptree.Tree()
    config = {"/": {"request.dispatch": MethodDispatcher(), "tools.log_tracebacks.on": False}}
    tree.mount(Root(), "/site", config)
    metrics.mount(tree)
    from cherrypy.process.wspbus import Bus

    server = http_server(Bus(), tree, port=0)
    server.bind()
    server.start()

    def ask(method, path, headers=None):
        connection = http.client.HTTPConnection(*server.bind_addr, timeout=10)
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, response.headers["Content-Type"], body

    ask.metrics = metrics
    yield ask
    server.stop()
    metrics.unsubscribe()


def counts(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "http_request_duration_seconds_count"
    }


def test_requests_are_counted_by_method_route_and_status(site, eventually):
    for method, path in (
        ("GET", "/site/items"),
        ("GET", "/site/items"),
        ("GET", "/site/items/7"),
        ("DELETE", "/site/items/8"),
        ("GET", "/site/items/some/thing"),
        ("GET", "/site"),
        ("PUT", "/site/"),
        ("POST", "/site/items"),
    ):
        site(method, path)
    expected = {
        ("GET", "/site/items", "200"): 2,
        ("GET", "/site/items/{}", "200"): 1,
        ("DELETE", "/site/items/{}", "409"): 1,
        ("GET", "/site/items/*", "200"): 1,
        ("GET", "/site", "500"): 1,
        ("PUT", "/site", "200"): 1,
        ("POST", "/site/items", "405"): 1,
    }
    # A request is counted when its response has been sent.
    eventually(lambda: counts(site("GET", "/metrics")[2]) == expected)


def test_what_clients_make_up_makes_no_new_series(site):
    for number in range(50):
        site("GET", f"/site/items/{number}")
        site("GET", f"/site/items/made-up-{number}")
        site(f"METHOD{number}", "/site/items")
    assert set(counts(site("GET", "/metrics")[2])) == {
        ("GET", "/site/items/{}", "200"),
        ("GET", "/site/items/*", "200"),
        ("other", "/site/items", "405"),
    }


def test_the_process_is_told_of_and_others_may_add(site):
    from prometheus_client import Gauge

    site.metrics.add(Gauge("answer", "to everything", registry=None))
    text = site("GET", "/metrics")[2]
    assert "\nprocess_resident_memory_bytes " in text
    assert "\nanswer 0.0\n" in text


def test_the_format_is_the_one_that_is_asked_for(site):
    assert site("GET", "/metrics")[1].startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    status, media_type, text = site("GET", "/metrics", accept)
    assert (status, media_type.split(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_other_methods_are_405(site):
    assert site("POST", "/metrics")[0] == 405
    assert site("HEAD", "/metrics")[::2] == (200, "")
