"""Links: docker's variables, who waits for whom, and circles."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.agent.allocation import HostAddresses
from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.agent.preparation import Preparation
from kirsch.cluster.model import Assignment, Endpoint, links
from kirsch.cluster.secrets import FileSecrets
from kirsch.unit import Link, Options, Port, UnitFile, UnitName


def name(text: str) -> UnitName:
    return UnitName.parse(text)


def endpoint(unit: str, address: str, *ports: Port, ready: bool = True, **env: str) -> Endpoint:
    return Endpoint(name(unit).service, unit, "-", "m1", address, ports, ready, env)


WEBDB = endpoint("webdb.container", "127.9.9.1", Port(5432), POSTGRES_USER="notes")
NOTES = name("notes@1.container")


def test_the_variables_are_dockers():
    assert links.variables(NOTES, [Link("webdb", "postgres")], [WEBDB]) == {
        "POSTGRES_NAME": "/notes@1.container/postgres",
        "POSTGRES_PORT": "tcp://127.9.9.1:5432",
        "POSTGRES_PORT_5432_TCP": "tcp://127.9.9.1:5432",
        "POSTGRES_PORT_5432_TCP_ADDR": "127.9.9.1",
        "POSTGRES_PORT_5432_TCP_PORT": "5432",
        "POSTGRES_PORT_5432_TCP_PROTO": "tcp",
        "POSTGRES_ENV_POSTGRES_USER": "notes",
    }


def test_the_plain_port_is_the_lowest_and_an_alias_becomes_a_variables_name():
    target = endpoint("x.service", "127.9.9.2", Port(9000), Port(53, "udp"))
    found = links.variables(NOTES, [Link("x", "my-x.y")], [target])
    assert found["MY_X_Y_PORT"] == "udp://127.9.9.2:53"
    assert found["MY_X_Y_PORT_9000_TCP_PORT"] == "9000"


def test_several_endpoints_are_numbered_and_the_first_ready_one_is_plain():
    endpoints = [
        endpoint("n@1.service", "127.9.9.1", Port(80), ready=False),
        endpoint("n@3.service", "127.9.9.3", Port(80)),
        endpoint("n@2.service", "127.9.9.2", Port(80)),
    ]
    found = links.variables(NOTES, [Link("n", "n")], endpoints)
    assert found["N_PORT"] == "tcp://127.9.9.2:80"
    assert found["N_1_PORT_80_TCP_ADDR"] == "127.9.9.2"
    assert found["N_2_PORT_80_TCP_ADDR"] == "127.9.9.3"
    assert "N_3_PORT" not in found


def test_one_unit_of_a_service_can_be_named():
    endpoints = [endpoint("n@1.service", "127.9.9.1"), endpoint("n@2.service", "127.9.9.2")]
    assert links.endpoints_of(Link("n@2.service", "n"), endpoints) == endpoints[1:]


def test_a_link_waits_until_one_endpoint_is_ready():
    away, here = [Link("cache", "cache"), Link("webdb", "db")], [Link("webdb", "db")]
    assert links.unready(away, [WEBDB]) == ["cache"]
    assert links.unready(here, [WEBDB]) == []
    assert links.unready(here, [endpoint("webdb.container", "127.9.9.1", ready=False)]) == ["webdb"]


def test_only_the_variables_that_are_listed_are_exposed():
    environment = 'Environment=USER=notes PASSWORD=secret\nEnvironment="DB=my notes"\n'
    text = f"[Container]\n{environment}[X-Kirsch]\nExposeEnv=USER DB NONE\n"
    file = UnitFile.parse(text)
    options = Options.parse(file, name("webdb.container"))
    assert links.exposed_environment(file, options) == {"USER": "notes", "DB": "my notes"}


def test_a_circle_is_told_in_order():
    units = {
        name("a.service"): [Link("b", "b")],
        name("b.service"): [Link("c", "c")],
        name("c.service"): [Link("a.service", "a")],
        name("d.service"): [Link("a", "a")],
    }
    assert [unit.text for unit in links.circle(units)] == ["a.service", "b.service", "c.service", "a.service"]
    assert links.circle({name("a.service"): [Link("a", "a")]}) == [name("a.service")] * 2


@given(st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7))))
def test_a_circle_is_found_where_there_is_one(graph: dict[int, set[int]]):
    units = {
        name(f"u{n}.service"): [Link(f"u{other}", "x") for other in others] for n, others in graph.items()
    }
    found = links.circle(units)
    reach = {n: {o for o in others if o in graph} for n, others in graph.items()}
    for _ in graph:
        reach = {n: others.union(*(reach[o] for o in others)) for n, others in reach.items()}
    assert bool(found) == any(n in others for n, others in reach.items())
    for user, used in pairwise(found):
        assert any(links.targets(link, used) for link in units[user])


def test_a_timer_is_no_instance_of_the_service_that_it_is_called_after():
    assert not links.targets(Link("webdb", "db"), name("webdb.timer"))
    assert links.targets(Link("webdb.timer", "db"), name("webdb.timer"))
    assert links.targets(Link("webdb", "db"), name("webdb.container"))


def test_hosts_are_the_alias_and_the_targets_name():
    assert links.hosts([Link("webdb", "postgres")], [WEBDB]) == {
        "postgres": "127.9.9.1",
        "webdb": "127.9.9.1",
    }


def test_hosts_of_a_unit_are_names_that_hosts_can_have():
    endpoints = [endpoint("n@1.service", "127.9.9.1"), endpoint("n@2.service", "127.9.9.2")]
    assert links.hosts([Link("n@2.service", "n")], endpoints) == {
        "n": "127.9.9.2",
        "n-2.service": "127.9.9.2",
    }


def test_an_alias_goes_before_another_targets_name_and_nothing_leads_to_what_is_not_ready():
    endpoints = [
        endpoint("a.service", "127.9.9.1"),
        endpoint("b.service", "127.9.9.2"),
        endpoint("c.service", "127.9.9.3", ready=False),
    ]
    linked = [Link("b", "x"), Link("a", "b"), Link("c", "c")]
    assert links.hosts(linked, endpoints) == {"x": "127.9.9.2", "b": "127.9.9.1", "a": "127.9.9.1"}


def instance(number: int, role: str, ready: bool = True, leading: str = "primary") -> Endpoint:
    """An instance of webdb, which has the roles primary and replica."""
    each = endpoint(f"webdb@{number}.container", f"10.0.0.{number}", Port(5432), ready=ready)
    return replace(each, role=role, leads=role == leading)


TRIO = [instance(1, "replica"), instance(2, "primary"), instance(3, "replica")]


def test_a_service_with_roles_leads_to_the_first_of_them():
    found = links.variables(NOTES, [Link("webdb", "postgres")], TRIO)
    assert found["POSTGRES_PORT_5432_TCP_ADDR"] == "10.0.0.2"
    assert links.hosts([Link("webdb", "postgres")], TRIO) == {"postgres": "10.0.0.2", "webdb": "10.0.0.2"}


def test_the_numbered_variables_tell_of_all_that_may_come_to_lead():
    found = links.variables(NOTES, [Link("webdb", "postgres")], TRIO)
    numbered = [found[f"POSTGRES_{number}_PORT_5432_TCP_ADDR"] for number in (1, 2, 3)]
    assert numbered == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_link_that_asks_for_a_role_is_given_no_other():
    readers = Link("webdb", "reads", role="replica")
    found = links.variables(NOTES, [readers], TRIO)
    assert found["READS_PORT_5432_TCP_ADDR"] == found["READS_1_PORT_5432_TCP_ADDR"] == "10.0.0.1"
    assert found["READS_2_PORT_5432_TCP_ADDR"] == "10.0.0.3"
    assert "READS_3_PORT" not in found
    assert links.hosts([readers], TRIO) == {"reads": "10.0.0.1", "webdb-replica": "10.0.0.1"}
    assert links.unready([readers], [TRIO[1]]) == ["webdb/replica"]
    assert links.unready([Link("webdb", "x")], [TRIO[0]]) == ["webdb"]


def test_one_unit_is_linked_to_in_whatever_role():
    assert links.endpoints_of(Link("webdb@3.container", "x"), TRIO) == TRIO[2:]


def test_where_names_are_answered_the_variables_follow_the_role():
    linked = [Link("webdb", "postgres"), Link("webdb", "reads", role="replica"), Link("n", "n")]
    found = links.variables(NOTES, linked, [*TRIO, endpoint("n.service", "10.0.0.9", Port(80))], "x.internal")
    assert found["POSTGRES_PORT_5432_TCP_ADDR"] == "webdb.x.internal"
    assert found["POSTGRES_PORT"] == "tcp://webdb.x.internal:5432"
    assert found["POSTGRES_1_PORT_5432_TCP_ADDR"] == "10.0.0.1"
    assert found["READS_PORT_5432_TCP_ADDR"] == "webdb-replica.x.internal"
    assert found["N_PORT_80_TCP_ADDR"] == "10.0.0.9"


def test_nothing_starts_anew_when_another_leads():
    linked = [Link("webdb", "postgres")]
    known = links.addresses(linked, TRIO)
    assert set(known.values()) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    after = [instance(1, "primary"), instance(2, "", ready=False), instance(3, "replica")]
    assert links.moved(known, linked, after) == []


def test_roles_are_stored_and_those_who_have_none_as_before():
    for each in TRIO:
        assert Endpoint.parse(each.to_json()) == each
    unsettled = instance(1, "")
    assert not unsettled.leads
    assert Endpoint.parse(unsettled.to_json()) == unsettled
    assert not {"role", "leads"} & json.loads(WEBDB.to_json()).keys(), "kirschds before roles read it"


some_roles = st.sampled_from(["", "primary", "replica"])
some_instances = st.lists(
    st.builds(instance, st.integers(1, 5), some_roles, st.booleans()), unique_by=lambda each: each.unit
)


@given(some_instances, st.sampled_from(["", "primary", "replica"]))
def test_a_link_leads_to_its_role_or_waits(instances: list[Endpoint], role: str):
    link = Link("webdb", "db", role=role)
    meant = {e.address for e in instances if e.ready and e.role == (role or "primary")}
    assert bool(links.unready([link], instances)) == (not meant)
    found = links.variables(NOTES, [link], instances)
    assert bool(found) == bool(meant)
    if meant:
        assert found["DB_PORT_5432_TCP_ADDR"] in meant
        assert links.hosts([link], instances)["db"] in meant


aliases = st.sampled_from(["webdb", "n", "x", "A.b", "c-d"])
some_links = st.lists(st.builds(Link, st.sampled_from(["webdb", "n", "n@1.service", "gone"]), aliases))
some_endpoints = st.lists(
    st.builds(
        endpoint,
        st.sampled_from(["webdb.container", "n@1.service", "n@2.service"]),
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        ready=st.booleans(),
    ),
    unique_by=lambda each: each.unit,
)


@given(some_links, some_endpoints)
def test_hosts_lead_to_addresses_that_variables_have_too(linked: list[Link], endpoints: list[Endpoint]):
    given_addresses = set(links.addresses(linked, endpoints).values())
    hosts = links.hosts(linked, endpoints)
    assert set(hosts.values()) <= given_addresses
    ready = {link.alias for link in linked} - {
        link.alias for link in linked if links.unready([link], endpoints)
    }
    assert ready <= hosts.keys()


@given(some_links, some_endpoints, some_endpoints)
def test_what_moved_is_ready_at_another_address(
    linked: list[Link], before: list[Endpoint], now: list[Endpoint]
):
    known = links.addresses(linked, before)
    assert links.moved(known, linked, before) == []
    for which in links.moved(known, linked, now):
        (there,) = [e for e in now if f"{e.unit}/{e.slot}" == which]
        assert there.ready
        assert there.address != known[which]


def test_what_a_timer_starts_has_the_links_of_now(tmp_path: Path):
    """Nobody starts it here: so it is made ready anew when what it uses is elsewhere."""
    backup = name("backup.service")
    file = UnitFile.parse(
        "[Service]\nExecStart=/bin/true\n[X-Kirsch]\nLink=webdb:postgres\n", "backup.service"
    )
    assigned = Assigned(file, Options.parse(file, backup), Assignment(file.hash, "loaded"))
    preparation = Preparation(HostAddresses("10.0.0.1"), FileSecrets(tmp_path), "")

    def outdated(*endpoints: Endpoint) -> bool:
        return preparation.outdated({backup: assigned}, endpoints) == {backup}

    def address(*endpoints: Endpoint) -> str | None:
        prepared = asyncio.run(preparation.of(backup, assigned, endpoints, ()))
        return prepared.environment.get("POSTGRES_PORT_5432_TCP_ADDR")

    assert outdated(), "an earlier kirschd has made it ready, and with what nobody knows"
    assert address() is None
    assert not outdated()
    assert not outdated(replace(WEBDB, ready=False))
    assert outdated(WEBDB)
    assert address(WEBDB) == "127.9.9.1"
    assert not outdated(WEBDB)
    assert not outdated(replace(WEBDB, ready=False)), "it is where it was until it is elsewhere"
    assert not outdated(WEBDB, endpoint("other.service", "127.9.9.7"))
    moved = replace(WEBDB, address="127.9.9.8", machine="m2")
    assert outdated(moved)
    assert address(moved) == "127.9.9.8"
    assert not outdated(moved)
    assert outdated(replace(moved, env={"POSTGRES_USER": "others"}))
