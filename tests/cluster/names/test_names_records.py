"""Names: which lead where, and what dnsmasq is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.model import Endpoint
from kirsch.cluster.network.names.dnsmasq import command, complaint, settings
from kirsch.cluster.network.names.records import records, text
from kirsch.unit import UnitName


def endpoint(unit: str, address: str, ready: bool = True, slot: str = "-") -> Endpoint:
    return Endpoint(UnitName.parse(unit).service, unit, slot, "m", address, (), ready)


def names(*units: str) -> list[UnitName]:
    return [UnitName.parse(unit) for unit in units]


def test_a_unit_has_its_full_name_the_one_without_type_and_its_service():
    found = records([endpoint("webdb.container", "10.210.128.1")], names("webdb.container"))
    assert found == {
        "webdb.container.kirsch.internal": ("10.210.128.1",),
        "webdb.kirsch.internal": ("10.210.128.1",),
    }


def test_a_service_leads_to_all_of_its_ready_instances():
    endpoints = [
        endpoint("notes@2.container", "10.210.128.3"),
        endpoint("notes@1.container", "10.210.128.2"),
        endpoint("notes@3.container", "10.210.128.4", ready=False),
    ]
    found = records(endpoints, names(*(each.unit for each in endpoints)))
    assert found["notes.kirsch.internal"] == ("10.210.128.2", "10.210.128.3")
    assert found["notes@1.kirsch.internal"] == found["notes-1.kirsch.internal"] == ("10.210.128.2",)
    assert not [name for name in found if "3" in name]


def test_a_service_leads_to_its_leader_and_each_role_has_a_name():
    def instance(number: int, role: str) -> Endpoint:
        each = endpoint(f"webdb@{number}.container", f"10.0.0.{number}")
        return replace(each, role=role, leads=role == "primary")

    endpoints = [instance(1, "replica"), instance(2, "primary"), instance(3, "replica"), instance(4, "")]
    units = names(*(each.unit for each in endpoints))
    found = records(endpoints, units)
    assert found["webdb.kirsch.internal"] == found["webdb-primary.kirsch.internal"] == ("10.0.0.2",)
    assert found["webdb-replica.kirsch.internal"] == ("10.0.0.1", "10.0.0.3")
    assert found["webdb-3.kirsch.internal"] == ("10.0.0.3",)
    assert found["webdb-4.kirsch.internal"] == ("10.0.0.4",)
    nobody = records(endpoints[2:], units)
    assert "webdb.kirsch.internal" not in nobody
    other = records(endpoints, [*units, *names("webdb-replica.service")])
    assert "webdb-replica.kirsch.internal" not in other


def test_the_name_of_a_global_unit_leads_to_the_machine_where_it_leads():
    endpoints = [
        replace(endpoint("db.container", "10.0.0.1", slot="a"), role="primary"),
        replace(endpoint("db.container", "10.0.0.2", slot="b"), role="replica", leads=False),
    ]
    found = records(endpoints, names("db.container"))
    assert found["db.kirsch.internal"] == ("10.0.0.1",)
    assert found["db-replica.kirsch.internal"] == ("10.0.0.2",)
    assert found["db.container.kirsch.internal"] == ("10.0.0.1", "10.0.0.2")


def test_a_unit_that_is_called_so_keeps_its_name():
    endpoints = [endpoint("n@1.service", "10.0.0.1")]
    found = records(endpoints, names("n@1.service", "n-1.service"))
    assert "n-1.kirsch.internal" not in found
    assert found["n@1.kirsch.internal"] == ("10.0.0.1",)


def test_a_global_unit_leads_to_every_machine_it_is_on_and_a_timer_nowhere():
    endpoints = [
        endpoint("lb.container", "10.0.0.1", slot="a"),
        endpoint("lb.container", "10.0.0.2", slot="b"),
        endpoint("lb.timer", "10.0.0.3"),
    ]
    found = records(endpoints, names("lb.container", "lb.timer"))
    assert found["lb.kirsch.internal"] == ("10.0.0.1", "10.0.0.2")
    assert "lb.timer.kirsch.internal" not in found


def test_a_name_that_dns_cannot_have_is_left_out():
    long = "x" * 64
    found = records([endpoint(f"{long}.service", "10.0.0.1"), endpoint("a:b.service", "10.0.0.2")], [])
    assert set(found) == {"a-b.kirsch.internal", "a-b.service.kirsch.internal"}


units = st.from_regex(r"[a-c]{1,2}(@[1-3])?\.(service|container|timer)", fullmatch=True)


@given(
    st.lists(
        st.builds(endpoint, units, st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), st.booleans()),
        unique_by=lambda each: each.unit,
    )
)
def test_what_is_not_ready_has_no_record_and_all_else_is_in_the_text(endpoints: list[Endpoint]):
    found = records(endpoints, names(*(each.unit for each in endpoints)))
    ready = {each.address for each in endpoints if each.ready and not each.unit.endswith(".timer")}
    assert {address for addresses in found.values() for address in addresses} == ready
    pairs = {(name, line.split()[0]) for line in text(found).splitlines() for name in line.split()[1:]}
    assert pairs == {(name, address) for name, addresses in found.items() for address in addresses}


def test_what_dnsmasq_is_told():
    told = settings("10.210.0.1", Path("/run/kirsch/names/records")).splitlines()
    assert "listen-address=10.210.0.1" in told
    assert "hostsdir=/run/kirsch/names/records" in told
    assert "local=/kirsch.internal/" in told
    argv = command("/usr/sbin/dnsmasq", Path("/run/kirsch/names/dnsmasq.conf"))
    assert argv[0] == "systemd-run"
    assert argv[argv.index("--") + 1 :] == [
        "/usr/sbin/dnsmasq",
        "--conf-file=/run/kirsch/names/dnsmasq.conf",
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["", "dnsmasq: failed to create inotify: Too many open files", "FAILED to start up"],
            "failed to create inotify: Too many open files: limit 24",
        ),
        (
            ["dnsmasq: failed to create inotify for /etc/resolv.conf: No space left on device"],
            "failed to create inotify for /etc/resolv.conf: No space left on device: limit 28",
        ),
        (["failed to create inotify: Permission denied"], "failed to create inotify: Permission denied"),
        (
            ["", "dnsmasq: failed to create listening socket for port 53: Too many open files"],
            "failed to create listening socket for port 53: Too many open files",
        ),
        (["", "FAILED to start up"], ""),
        ([], ""),
    ],
)
def test_why_dnsmasq_ended_with_the_limit_that_is_reached(lines: list[str], said: str):
    assert complaint(lines, lambda number: f"limit {number}") == said


def test_a_limit_that_cannot_be_read_is_not_told():
    words = "failed to create inotify: Too many open files"
    assert complaint([words], lambda number: "") == words
