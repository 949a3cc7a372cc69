"""Requests that pages may make, and lines of unit files explained: pure."""

import pytest

from kirsch.cluster.api.access import ROLES
from kirsch.cluster.dashboard.explain import KIRSCH, QUADLET, SYSTEMD, explained
from kirsch.cluster.dashboard.requests import API, CHANGES, READS, is_allowed, refused
from kirsch.cluster.runtime.known import NAMES
from kirsch.unit.given import OPTIONS

FILE = """\
[Unit]
Description=A shop
PartOf=other.service

[Container]
Image=localhost/shop
Environment=A=1
Colour=red

# Why it is so.
[X-Kirsch]
Link=webdb:postgres
Link=a \\
  b

[Service]
Restart=always

[X-Kirsch-Process]
ExecStart=shop
PrivateDevices=yes
"""


def test_requests_are_kirschd_s():
    asked = {f"GET {path}" for path in READS} | set(CHANGES)
    assert {request.replace(" /", f" {API}/") for request in asked} <= ROLES.keys()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "units", True),
        ("HEAD", "units", True),
        ("PUT", "units/a.service", True),
        ("DELETE", "units/a.service", False),
        ("POST", "units/a.service/move", True),
        ("GET", "units/a.service/environment", False),
        ("GET", "secrets", False),
        ("POST", "down", False),
        ("POST", "releases/a/1", True),
    ],
)
def test_allowed(method: str, path: str, allowed: bool):
    assert is_allowed(method, tuple(path.split("/"))) is allowed


def test_a_role_is_told_what_it_lacks():
    assert refused("eve", "admin") == {}
    assert set(refused("bob", "deploy")) == {"GET /audit", "PATCH /machines/{name}"}
    view = refused("ann", "view")
    assert set(view) == {"GET /audit", *CHANGES}
    assert view["PUT /units/{name}"] == "ann has the role view; this needs deploy"


def test_each_line_has_a_meaning_and_a_place():
    rows = {row["text"]: (row["meaning"], row["honoured"]) for row in explained("shop.container", FILE)}
    assert [row["text"] for row in explained("shop.container", FILE)] == FILE.splitlines()
    assert rows["Description=A shop"][1] == "as a process, and under systemd"
    assert rows["PartOf=other.service"] == ("systemd.directives(7)", "under systemd only")
    assert rows["Image=localhost/shop"] == ("the image of the container", "as a container only")
    assert rows["Environment=A=1"][1] == "as a process, and as a container"
    assert rows["Colour=red"][1] == "nowhere"
    assert "no directive" in rows["Colour=red"][0]
    assert rows["Link=webdb:postgres"][1] == rows["Link=a \\"][1] == "by kirsch, everywhere"
    assert rows["# Why it is so."] == rows["  b"] == rows["[Unit]"] == ("", "")
    assert rows["Restart=always"][1] == "under systemd only"
    assert rows["ExecStart=shop"][1] == "as a process only"
    assert rows["PrivateDevices=yes"][1] == "not as a process"
    # A .service is one file for both runtimes.
    [_, restart] = explained("shop.service", "[Service]\nRestart=always")
    assert restart["honoured"] == "as a process, and under systemd"


def test_lines_end_where_systemd_ends_them():
    rows = explained("shop.service", "[Service]\nEnvironment=A=\x0c\u2028b\r\nRestart=always\n")
    assert [row["text"] for row in rows] == ["[Service]", "Environment=A=\x0c\u2028b", "Restart=always"]
    assert rows[2]["meaning"] == "when it is started again"


def test_what_cannot_be_read_is_shown_all_the_same():
    assert explained("shop.service", "no section\n") == [
        {"text": "no section", "meaning": "", "honoured": ""}
    ]


def test_the_tables_name_what_there_is():
    assert KIRSCH.keys() == set(OPTIONS)
    assert SYSTEMD.keys() <= set().union(*NAMES.values())
    assert QUADLET.keys() <= NAMES["Container"]
