"""The balancer's decisions: values in, commands out."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.balancer.config import filled
from kirsch.cluster.balancer.endpoints import parse_endpoints
from kirsch.cluster.balancer.haproxy import Server, State
from kirsch.cluster.balancer.plan import (
    SERVER_OPTIONS,
    Backend,
    BalancerError,
    plan,
    server_name,
    superfluous,
    timed,
    wanted,
    without_port,
)
from kirsch.cluster.model import Endpoint
from kirsch.unit import Port

NOTES = Backend("notes", "notes", "8080")
PORTS = (Port(8080, "tcp", "http"), Port(53, "udp", "dns"))
ONE = Endpoint("notes", "notes@1.container", "-", "", "127.5.6.2", PORTS, ready=True)
TWO = Endpoint("notes", "notes@2.container", "-", "", "127.5.6.3", PORTS, ready=True)
SERVER = Server("notes", "notes:1.container", "127.5.6.2", 8080, State.READY)


def lines(endpoints, servers, backends=(NOTES,), **options):
    return [command.line for command in plan(endpoints, servers, backends, **options)]


def test_a_new_endpoint_gets_a_server_with_its_checks():
    assert lines([ONE], []) == [
        f"add server notes/notes:1.container 127.5.6.2:8080 {SERVER_OPTIONS}",
        "enable health notes/notes:1.container",
        "set server notes/notes:1.container state ready",
    ]
    assert lines([ONE], [], options="weight 2") == [
        "add server notes/notes:1.container 127.5.6.2:8080 weight 2",
        "set server notes/notes:1.container state ready",
    ]


def test_the_drain_time_begins_with_the_drain_whatever_haproxy_tells():
    """HAProxy 3 counts from when a server came up: a request in flight was cut in the next round."""
    servers, since = timed([SERVER], {}, now=100.0)
    assert (servers, since) == ([SERVER], {})
    draining = replace(SERVER, state=State.DRAIN, sessions=1)
    servers, since = timed([draining], since, now=100.1)
    assert lines([], servers) == []
    servers, since = timed([draining], since, now=130.0)
    assert lines([], servers) == []
    servers, since = timed([draining], since, now=130.2)
    assert lines([], servers) == ["shutdown sessions server notes/notes:1.container"]
    # One that has come back meanwhile has all its time again.
    servers, since = timed([SERVER], since, now=131.0)
    servers, since = timed([draining], since, now=200.0)
    assert lines([], servers) == []


def test_one_that_haproxy_began_with_is_never_deleted_and_may_come_back():
    fixed = {("notes", SERVER.name)}
    resting = replace(SERVER, state=State.MAINTENANCE)
    assert lines([], [resting], fixed=fixed) == []
    assert not superfluous([resting], {}, fixed)
    assert superfluous([resting], {})
    assert superfluous([SERVER], {}, fixed)
    assert lines([ONE], [resting], fixed=fixed) == ["set server notes/notes:1.container state ready"]


def test_servers_are_filled_in_at_the_head_of_their_backend():
    text = "frontend a\n bind :1\nbackend notes # here\n balance roundrobin\nlisten other\n\tbind :2"
    servers = {
        ("notes", "n:1"): ("10.0.0.1", 80),
        ("other", "o"): ("::1", 81),
        ("none", "x"): ("10.0.0.3", 1),
    }
    assert filled(text, servers, "check").splitlines() == [
        "frontend a",
        " bind :1",
        "backend notes # here",
        "    server n:1 10.0.0.1:80 check",
        " balance roundrobin",
        "listen other",
        "    server o [::1]:81 check",
        "\tbind :2",
    ]
    assert filled(text, {}, "check") == text + "\n"


def test_nothing_to_do():
    assert lines([ONE], [SERVER]) == []
    assert lines([], []) == []


def test_one_that_is_not_ready_is_not_added_and_drained_if_it_was():
    assert lines([replace(ONE, ready=False)], []) == []
    assert lines([replace(ONE, ready=False)], [SERVER]) == ["set server notes/notes:1.container state drain"]
    assert lines([], [SERVER]) == ["set server notes/notes:1.container state drain"]


def test_the_steps_of_a_server_on_its_way_out():
    draining = replace(SERVER, state=State.DRAIN)
    assert lines([], [replace(draining, sessions=1, since=29)]) == []
    assert lines([], [replace(draining, sessions=1, since=30)]) == [
        "shutdown sessions server notes/notes:1.container"
    ]
    assert lines([], [replace(draining, sessions=1, silent=True)]) == [
        "shutdown sessions server notes/notes:1.container"
    ]
    assert lines([], [draining]) == ["set server notes/notes:1.container state maint"]
    out = replace(SERVER, state=State.MAINTENANCE)
    assert lines([], [replace(out, sessions=1)]) == []
    assert lines([], [out]) == ["del server notes/notes:1.container"]


@pytest.mark.parametrize(
    # In maintenance idle connections to what was there before are closed.
    ("state", "on_the_way"),
    [(State.DRAIN, ["set server notes/notes:1.container state maint"]), (State.MAINTENANCE, [])],
)
def test_one_that_comes_back_in_time_stays(state, on_the_way):
    assert lines([ONE], [replace(SERVER, state=state, sessions=1)]) == [
        *on_the_way,
        "set server notes/notes:1.container state ready",
    ]


def test_one_that_moved_keeps_its_server():
    moved = replace(ONE, address="127.9.9.9")
    assert lines([moved], [SERVER]) == ["set server notes/notes:1.container addr 127.9.9.9 port 8080"]


def test_ports_by_number_and_by_name():
    assert wanted([ONE], [Backend("b", "notes", "http")]) == {("b", "notes:1.container"): ("127.5.6.2", 8080)}
    for port in ("dns", "53", "8081"):
        backend = Backend("b", "notes", port)
        assert wanted([ONE], [backend]) == {}
        assert without_port([ONE], [backend]) == [
            f"notes@1.container exposes no tcp port {port}: it is no server of backend b"
        ]
    assert without_port([ONE, TWO], [NOTES, Backend("b", "other", "9")]) == []


def test_slots_of_a_global_unit_are_servers_apart():
    assert server_name(replace(ONE, unit="web.service", slot="m/1")) == "web.service-m_1"


def test_backend_parse():
    assert Backend.parse("web=notes:http-alt") == Backend("web", "notes", "http-alt")
    assert Backend.parse("reads=webdb/replica:5432") == Backend("reads", "webdb", "5432", "replica")
    wrong = ("", "notes", "notes=notes", "notes=notes:", "=notes:80", "a b=notes:80", "a/b=notes:80")
    for text in (*wrong, "reads=webdb/:5432"):
        with pytest.raises(BalancerError, match="BACKEND=SERVICE:PORT"):
            Backend.parse(text)


def test_a_backend_has_the_endpoints_of_its_role():
    leader, reader = replace(ONE, role="primary"), replace(TWO, role="replica", leads=False)
    nobody = replace(TWO, unit="notes@3.container", leads=False)
    everyone = [leader, reader, nobody]
    assert set(wanted(everyone, [NOTES])) == {("notes", "notes:1.container")}
    assert set(wanted(everyone, [replace(NOTES, role="replica")])) == {("notes", "notes:2.container")}
    line = json.dumps({"endpoints": [each.public() for each in everyone]})
    assert parse_endpoints(line) == (0, tuple(everyone))


def test_endpoints_are_read_as_they_are_served():
    served = replace(ONE, machine="m1", env={"PASSWORD": "no"})
    line = '{"endpoints": [' + json.dumps(served.public()) + "]}"
    assert parse_endpoints(line) == (0, (ONE,))


@given(st.text() | st.sampled_from(['{"endpoints": [{}]}', '{"endpoints": 3}', "[]", '{"endpoints": [3]}']))
def test_another_line_is_no_endpoints(line):
    with pytest.raises(ValueError, match="not a line of endpoints"):
        parse_endpoints(line)


def test_an_address_cannot_be_a_command():
    evil = replace(ONE, address="127.0.0.1;shutdown frontend web").public()
    with pytest.raises(ValueError, match="not a line of endpoints"):
        parse_endpoints(json.dumps({"endpoints": [evil]}))


def obey(servers: dict[tuple[str, str], Server], line: str) -> None:
    """HAProxy in miniature: do one command, or fail where it would refuse."""
    words = line.split()
    verb, target = ("set", words[2]) if words[0] == "set" else (" ".join(words[:2]), words[2])
    if verb == "shutdown sessions":
        target = words[3]
    key = (target.split("/")[0], target.split("/")[1])
    if verb == "add server":
        assert key not in servers
        address, port = words[3].rsplit(":", 1)
        servers[key] = Server(*key, address, int(port), State.MAINTENANCE)
    elif verb == "set" and words[3] == "state":
        servers[key] = replace(servers[key], state=State(words[4]))
    elif verb == "set":
        servers[key] = replace(servers[key], address=words[4], port=int(words[6]))
    elif verb == "shutdown sessions":
        assert servers[key].since >= 30
        servers[key] = replace(servers[key], sessions=0)
    elif verb == "del server":
        assert servers[key].state is State.MAINTENANCE
        assert not servers[key].sessions
        del servers[key]


ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        service=st.sampled_from(["notes", "other"]),
        unit=st.sampled_from(["notes@1.container", "notes@2.container", "other.service"]),
        slot=st.just("-"),
        machine=st.just(""),
        address=st.sampled_from(["127.5.6.2", "127.5.6.3"]),
        ports=st.just(PORTS),
        ready=st.booleans(),
    ),
    unique_by=lambda endpoint: endpoint.unit,
)
SERVERS = st.lists(
    st.builds(
        Server,
        backend=st.sampled_from(["notes", "both"]),
        name=st.sampled_from(["notes:1.container", "notes:2.container", "gone"]),
        address=st.sampled_from(["127.5.6.2", "127.5.6.3"]),
        port=st.sampled_from([8080, 1]),
        state=st.sampled_from(State),
        sessions=st.integers(0, 2),
        since=st.integers(0, 40),
    ),
    unique_by=lambda server: (server.backend, server.name),
)


@given(ENDPOINTS, SERVERS)
def test_some_rounds_lead_from_anywhere_to_what_is_wanted(endpoints, servers):
    backends = [NOTES, Backend("both", "notes", "http")]
    present = {(server.backend, server.name): server for server in servers}
    for _ in range(5):
        commands = plan(endpoints, present.values(), backends)
        for command in commands:
            obey(present, command.line)
        # Time goes by, and in time every request ends or is overdue.
        present = {key: replace(server, since=server.since + 30) for key, server in present.items()}
    assert plan(endpoints, present.values(), backends) == []
    assert {key: (s.address, s.port) for key, s in present.items()} == wanted(endpoints, backends)
    assert all(server.state is State.READY for server in present.values())
