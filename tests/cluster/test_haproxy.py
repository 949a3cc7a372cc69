"""HAProxy's tables read into values; the samples are answers of HAProxy 2.6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.balancer.haproxy import (
    HAProxyError,
    Server,
    State,
    add_server,
    admin_state,
    delete_server,
    parse_servers,
    parse_states,
    parse_statistics,
    set_address,
    set_state,
)

STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
srv_check_port srv_check_addr srv_agent_addr srv_agent_port
2 notes 1 notes:1.container 127.5.6.2 2 0 1 1 10 6 3 2 6 0 0 0 - 8080 - 0 0 - - 0
2 notes 2 notes:2.container 127.5.6.3 2 8 1 1 4 6 3 2 6 0 0 0 - 8080 - 0 0 - - 0
2 notes 3 n3 ::1 0 1 1 1 0 1 0 0 14 0 0 0 - 8081 - 0 0 - - 0

"""

STATISTICS = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,status,weight,
notes,notes:1.container,0,0,0,1,,5,400,600,UP,1,
notes,notes:2.container,2,3,1,1,,5,400,600,DRAIN,1,
notes,n3,,0,0,0,,0,0,0,"MAINT, by hand",1,

"""


def test_servers():
    assert parse_servers(STATES, STATISTICS) == (
        Server("notes", "notes:1.container", "127.5.6.2", 8080, State.READY, sessions=0),
        Server("notes", "notes:2.container", "127.5.6.3", 8080, State.DRAIN, sessions=3),
        Server("notes", "n3", "::1", 8081, State.MAINTENANCE, sessions=0),
    )


def test_a_server_in_one_table_only_is_left_for_the_next_time():
    statistics = "".join(line for line in STATISTICS.splitlines(keepends=True) if "n3" not in line)
    assert [server.name for server in parse_servers(STATES, statistics)] == [
        "notes:1.container",
        "notes:2.container",
    ]


def test_a_backend_without_servers():
    header = "".join(STATES.splitlines(keepends=True)[:2]) + "\n"
    assert parse_servers(header, STATISTICS.splitlines(keepends=True)[0]) == ()


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        (0, State.READY),
        (0x01, State.MAINTENANCE),
        (0x20, State.MAINTENANCE),
        (0x08, State.DRAIN),
        (0x09, State.MAINTENANCE),
        (0x10, State.DRAIN),
        (0x04, State.READY),
    ],
)
def test_admin_state(bits, state):
    assert admin_state(bits) is state


def test_what_haproxy_says_instead_of_a_table_is_the_message():
    with pytest.raises(HAProxyError, match="Can't find backend"):
        parse_states("Can't find backend.\n\n")
    with pytest.raises(HAProxyError, match="Unknown command"):
        parse_statistics("Unknown command, but …\n  help\n")
    with pytest.raises(HAProxyError, match="no answer"):
        parse_states("")


@given(st.text(), st.text())
def test_any_other_text_is_refused_in_one_way(before, after):
    for states, statistics in (
        (before, after),
        (STATES + before, STATISTICS + after),
        (STATES[: len(before) * 7], STATISTICS[: len(after) * 7]),
    ):
        try:
            servers = parse_servers(states, statistics)
        except HAProxyError:
            continue
        assert all(isinstance(server, Server) for server in servers)


def test_commands():
    assert add_server("b", "s", "127.0.0.1", 80, "check").line == "add server b/s 127.0.0.1:80 check"
    assert add_server("b", "s", "::1", 80, "").line == "add server b/s [::1]:80"
    assert set_address("b", "s", "::1", 80).line == "set server b/s addr ::1 port 80"
    assert set_state("b", "s", State.MAINTENANCE).line == "set server b/s state maint"
    assert delete_server("b", "s").line == "del server b/s"
