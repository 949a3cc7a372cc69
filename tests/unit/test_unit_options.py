"""The options of [X-Kirsch] and [X-Fleet]: what they mean, and what is refused, in fleet's words."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.unit import Health, Link, Options, Port, Published, Secret, UnitError, UnitFile, UnitName
from kirsch.unit.given import OLD_OPTIONS, OPTIONS


def options(text: str, name: str = "notes@1.container", section: str = "X-Kirsch") -> Options:
    return Options.parse(UnitFile.parse(f"[{section}]\n{text}\n", "n"), UnitName.parse(name))


def container(text: str, name: str = "notes@1.container") -> Options:
    return options(text, name, "Container")


def refusal(text: str, name: str = "notes@1.container", section: str = "X-Kirsch") -> str:
    with pytest.raises(UnitError) as refused:
        options(text, name, section)
    return str(refused.value)


def test_a_file_without_options():
    assert options("", section="Service") == Options(flat=True, boxed=True)
    assert options("", "notes@1.service", section="Service") == Options()
    assert (Options().on_partition, Options().link_update) == ("keep", "restart")


def test_everything_at_once():
    file = UnitFile.parse(
        """\
[Unit]
Description=Notes

[Container]
Image=notes.image
PublishPort=8091:8091
HealthInterval=5s

[X-Kirsch]
MachineMetadata="disk=ssd" "region=eu"
MachineMetadata=region=us
Conflicts=%p@*.container
Spread=zone
Link=webdb:postgres
Link=cache
Expose=8080 http
ExposeEnv=NOTES_USER NOTES_DB
Health=http://:8080/readyz
CPU=50%
Memory=512M
Secret=db-password:POSTGRES_PASSWORD
Secret=key
OnPartition=stop
LinkUpdate=ignore
Endpoints=yes
"""
    )
    read = Options.parse(file, UnitName.parse("notes@1.container"))
    assert read == Options(
        machine_metadata=(("disk", frozenset({"ssd"})), ("region", frozenset({"eu", "us"}))),
        conflicts=("notes@*.container",),
        spread="zone",
        links=(Link("webdb", "postgres"), Link("cache", "cache")),
        expose=(Port(8080, "tcp", "http"),),
        expose_env=("NOTES_USER", "NOTES_DB"),
        health=Health("http", 8080, "/readyz", interval=5.0),
        cpu=0.5,
        memory=512 * 1024 * 1024,
        secrets=(Secret("db-password", "POSTGRES_PASSWORD"), Secret("key")),
        on_partition="stop",
        link_update="ignore",
        endpoints=True,
        published=(Published(None, 8091, 8091),),
        flat=True,
        boxed=True,
    )
    assert hash(read)


@pytest.mark.parametrize(
    ("line", "flat"),
    [
        ("Network=host", False),
        ("Network=mine.network", False),
        ("Network=a\nNetwork=", True),
        ("Pod=mine.pod", False),
        ("PodmanArgs=--cpus 2 --network=none", False),
        ("PodmanArgs=--ip 10.0.0.3", False),
        ("PodmanArgs=--network-alias=me", True),
        ("PublishPort=80:80", True),
    ],
)
def test_a_container_is_in_the_flat_network_unless_it_says_otherwise(line: str, flat: bool):
    assert options(line, section="Container").flat is flat


class TestSections:
    def test_both_are_the_same_thing(self):
        text = "[X-Fleet]\nMachineID=a\n[X-Kirsch]\nSpread=zone\n"
        read = Options.parse(UnitFile.parse(text), UnitName.parse("a.service"))
        assert (read.machine_id, read.spread) == ("a", "zone")

    def test_the_last_in_the_file_wins_wherever_it_stands(self):
        name = UnitName.parse("a.service")
        on, off = "[X-Kirsch]\nGlobal=yes\n", "[X-Fleet]\nGlobal=no\n"
        assert not Options.parse(UnitFile.parse(on + off), name).is_global
        assert Options.parse(UnitFile.parse(off + on), name).is_global

    def test_an_empty_assignment_takes_back_what_stands_before(self):
        assert options("Conflicts=a\nX-Conflicts=b\nConflicts=\nConflicts=c").conflicts == ("c",)
        assert options("CPU=2\nCPU=").cpu == 0

    def test_unknown_options(self):
        message = 'n:2:1: unrecognized requirement in [X-Kirsch] section: "Conflict"; did you mean Conflicts?'
        assert refusal("Conflict=a") == message
        listed = refusal("  Frobnicate=a", section="X-Fleet")
        assert listed.startswith(
            'n:2:3: unrecognized requirement in [X-Fleet] section: "Frobnicate"; there are '
        )
        assert "MachineID" in listed

    def test_other_sections_are_not_ours(self):
        assert options("Frobnicate=a", section="X-Kirsch-Process") == Options(flat=True)


class TestFleet:
    def test_old_names(self):
        assert options("X-ConditionMachineID=a").machine_id == "a"
        assert options("X-ConditionMachineBootID=a").machine_id == "a"
        assert options("X-ConditionMachineOf=a.service").machine_of == ("a.service",)
        assert options("X-Conflicts=a").conflicts == ("a",)
        assert options("X-ConditionMachineMetadata=a=1").machine_metadata == (("a", frozenset("1")),)

    def test_the_first_machine_id_and_new_names_first(self):
        assert options("MachineID=a\nMachineID=b").machine_id == "a"
        assert options("X-ConditionMachineID=a\nMachineID=b").machine_id == "b"
        assert options("X-ConditionMachineBootID=a\nX-ConditionMachineID=b").machine_id == "b"

    @pytest.mark.parametrize("value", ['"a" "b"', "a b", "a\nConflicts=b", '"a b"'])
    def test_several_globs(self, value):
        assert options(f"Conflicts={value}").conflicts == ("a", "b")
        assert options(f"Conflicts={value}".replace("Conflicts", "Replaces")).replaces == ("a", "b")

    def test_names_with_escapes_are_not_unescaped(self):
        assert options(r"Conflicts=a\x2db.service").conflicts == (r"a\x2db.service",)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("a=1", {"a": {"1"}}),
            ("a=1 and more", {"a": {"1 and more"}}),
            ('"a=1" "b=2" "a=3"', {"a": {"1", "3"}, "b": {"2"}}),
            ("a=1\nMachineMetadata=a=2", {"a": {"1", "2"}}),
        ],
    )
    def test_metadata(self, value, expected):
        read = options(f"MachineMetadata={value}").machine_metadata
        assert {key: set(values) for key, values in read} == expected

    @pytest.mark.parametrize("value", ["a", "=1", "a=", "a=1 b=2", '"a=1" "b"', "a b=1"])
    def test_bad_metadata(self, value):
        assert "is not KEY=VALUE; several stand on one line as" in refusal(f"MachineMetadata={value}")

    def test_specifiers(self):
        read = options("MachineOf=%p-data@%i.service\nSpread=%%%N\nConflicts=%n")
        assert read.machine_of == ("notes-data@1.service",)
        assert read.spread == "%notes@1"
        assert read.conflicts == ("notes@1.container",)
        assert refusal("MachineOf=%z").startswith("n:2:11: MachineOf: unknown specifier %z; there are %n")

    def test_in_a_template_what_depends_on_the_instance_waits(self):
        text = "MachineOf=data@%i.service\nExpose=80%i\nExpose=70\nConflicts=%p@*.container\nLink=db%i"
        read = options(text, "notes@.container")
        assert read == Options(expose=(Port(70),), conflicts=("notes@*.container",), flat=True, boxed=True)
        assert options(text).expose == (Port(801), Port(70))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("MachineID=a\nMachineOf=b", "MachineID cannot be used with Peers"),
            ("Conflicts=b\nMachineID=a", "MachineID cannot be used with Conflicts"),
            ("MachineID=a\nGlobal=true", "MachineID cannot be used with Global"),
            ("MachineID=a\nReplaces=b", "MachineID cannot be used with Replaces"),
            ("Global=true\nMachineOf=b", "Global cannot be used with Peers"),
            ("Global=true\nReplaces=b", "Global cannot be used with Replaces"),
            ("Conflicts=a\nReplaces=b", "Conflicts cannot be used with Replaces"),
            ("MachineOf=a\nConflicts=a", 'unresolvable requirements: peer "a" matches conflict "a"'),
            ("MachineOf=ab\nReplaces=a*", 'unresolvable requirements: peer "ab" matches replace "a*"'),
            ("Global=true\nSpread=a", "Global cannot be used with Spread"),
            (
                "Sticky=yes\nOnPartition=stop",
                "Sticky cannot be used with OnPartition=stop: sticky units always keep",
            ),
        ],
    )
    @pytest.mark.parametrize("section", ["X-Kirsch", "X-Fleet"])
    def test_what_excludes_each_other(self, text, message, section):
        with pytest.raises(UnitError) as refused:
            options(text, section=section)
        assert refused.value.message == message
        assert refused.value.line in (2, 3)
        assert refused.value.column > 1

    @pytest.mark.parametrize(
        "text",
        [
            "Global=true\nConflicts=a\nMachineMetadata=a=1",
            "Global=true\nGlobal=false\nMachineID=a",
            "Global=true\nGlobal=\nMachineID=a",
            "MachineOf=a.service\nConflicts=b.service",
            "MachineOf=a.service\nReplaces=b.service",
            "Sticky=yes\nOnPartition=keep",
        ],
    )
    def test_what_does_not(self, text):
        assert options(text)

    def test_follows_several_units(self):
        assert options("MachineOf=a.service\nMachineOf=a.service").machine_of == ("a.service",)
        assert options("MachineOf=a.service b.service").machine_of == ("a.service", "b.service")
        assert options("MachineOf=a.service\nMachineOf=\nMachineOf=b.service").machine_of == ("b.service",)
        assert len(options("MachineOf=" + " ".join(f"u{n}.service" for n in range(64))).machine_of) == 64
        many = "\n".join(f"MachineOf=u{n}.service" for n in range(65))
        assert refusal(many) == "n:66:11: MachineOf: a unit follows at most 64 others"
        message = 'unresolvable requirements: peer "b.service" matches conflict "b*"'
        assert message in refusal("MachineOf=a.service\nMachineOf=b.service\nConflicts=b*")
        assert refusal("MachineOf=a").startswith('n:2:11: MachineOf: unit name must contain "."')

    def test_bad_globs(self):
        assert refusal("Conflicts=a b[").startswith("n:2:11: Conflicts: invalid pattern 'b['")


class TestLinks:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("webdb", [("webdb", "webdb")]),
            ("webdb:postgres", [("webdb", "postgres")]),
            ("webdb.container", [("webdb.container", "webdb")]),
            ("notes@1.container", [("notes@1.container", "notes")]),
            ("notes@1.container:n1", [("notes@1.container", "n1")]),
            ("a:b.service:c", [("a:b.service", "c")]),
            ("web.site:web-1.x_y", [("web.site", "web-1.x_y")]),
            ("webdb cache:c", [("webdb", "webdb"), ("cache", "c")]),
            ("webdb\nLink=webdb\nLink=cache", [("webdb", "webdb"), ("cache", "cache")]),
            ("db%i", [("db1", "db1")]),
            ("webdb/replica", [("webdb", "webdb-replica")]),
            ("webdb/replica:reads", [("webdb", "reads")]),
        ],
    )
    def test_links(self, value, expected):
        assert [(link.target, link.alias) for link in options(f"Link={value}").links] == expected

    def test_a_link_asks_for_a_role(self):
        read = options("Link=webdb:postgres webdb/replica").links
        assert [(link.role, link.text) for link in read] == [("", "webdb"), ("replica", "webdb/replica")]

    def test_a_link_knows_where_it_stands(self):
        [link] = options("Link=webdb").links
        assert (link.entry.line, link.entry.column) == (2, 6)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("webdb:", '"webdb:" ends in ":": an alias follows it, or leave it out'),
            (":postgres", "a link names a service or a unit, such as webdb or webdb.container"),
            (
                "notes@.container",
                '"notes@.container" is a template: link to its service "notes" or to an instance',
            ),
            ("notes@1", '"notes@1" is neither a service nor a unit: unit name must contain "."'),
            ("a?b", '"a?b" is not the name of a service or a unit'),
            ("a/B", '"B" cannot name a role: small letters'),
            ("a/b/c", '"b/c" cannot name a role'),
            ("a/", '"" cannot name a role'),
            ("/b", "a link names a service or a unit"),
            ("a@1.service/b", '"a@1.service" is one unit: a role is asked of a service, as in a/b'),
            ("webdb:1x", '"1x" cannot be an alias: it begins with a letter'),
            ("webdb:x=y", '"x=y" cannot be an alias'),
            (r"a\x2db.service", r'; give it one: "a\x2db.service:NAME"'),
            ("webdb:" + "x" * 64, "at most 63 characters"),
            ("webdb:a-b cache:A.B", '"A.B" is the alias of "webdb" already'),
        ],
    )
    def test_bad_links(self, value, message):
        said = refusal(f"Link={value}")
        assert said.startswith("n:2:6: Link: ")
        assert message in said


class TestPorts:
    @pytest.mark.parametrize(
        ("value", "port"),
        [
            ("8080", Port(8080)),
            ("8080/tcp", Port(8080)),
            ("53/udp", Port(53, "udp")),
            ("5432 postgres", Port(5432, "tcp", "postgres")),
            ("53/udp  dns-1", Port(53, "udp", "dns-1")),
        ],
    )
    def test_expose(self, value, port):
        assert options(f"Expose={value}").expose == (port,)

    def test_several(self):
        read = options("Expose=80 http\nExpose=53/udp\nExpose=53/tcp").expose
        assert read == (Port(80, "tcp", "http"), Port(53, "udp"), Port(53))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("0", "'0' is not a port: a number from 1 to 65535"),
            ("65536", "'65536' is not a port"),
            ("http", "'http' is not a port"),
            ("-1", "'-1' is not a port"),
            ("٨٠", "is not a port"),
            ("80/sctp", '"sctp" is not a protocol: write tcp or udp'),
            ("80/", '"" is not a protocol'),
            ("80 a b", "'80 a b' is not a port: write 8080, 8080/udp, or 5432 and a name"),
            ("80 a/b", '"a/b" cannot name a port'),
            ("80\nExpose=80/tcp", "80/tcp is exposed twice"),
            ("80 a\nExpose=81 a", 'two ports are named "a"'),
        ],
    )
    def test_bad_expose(self, value, message):
        said = refusal(f"Expose={value}")
        assert said.split(": ")[1] == "Expose"
        assert message in said

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("80", [(None, 0, 80, "tcp")]),
            ("8091:80", [(None, 8091, 80, "tcp")]),
            ("8091:80/udp", [(None, 8091, 80, "udp")]),
            ("127.0.0.1:8091:80", [("127.0.0.1", 8091, 80, "tcp")]),
            ("127.0.0.1::80", [("127.0.0.1", 0, 80, "tcp")]),
            ("[::1]:8091:80", [("::1", 8091, 80, "tcp")]),
            (":80", [(None, 0, 80, "tcp")]),
            ("8000-8001:80-81", [(None, 8000, 80, "tcp"), (None, 8001, 81, "tcp")]),
            ("80-81", [(None, 0, 80, "tcp"), (None, 0, 81, "tcp")]),
            ("809%i:8080", [(None, 8091, 8080, "tcp")]),
        ],
    )
    def test_published(self, value, expected):
        read = container(f"PublishPort={value}").published
        assert [(each.host_ip, each.host, each.container, each.protocol) for each in read] == expected
        assert {each.entry.line for each in read} == {2}

    def test_published_is_reset_by_an_empty_one(self):
        read = container("PublishPort=1:1\nPublishPort=\nPublishPort=2:2\nPublishPort=3:3").published
        assert [each.host for each in read] == [2, 3]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("x:80", "'x' is not a port"),
            ("80:", "'' is not a port"),
            ("1:2:3:4", "is not a published port: write [[IP:][HOST]:]CONTAINER[/PROTOCOL]"),
            ("::1:80:80", "is not a published port"),
            ("localhost:80:80", '"localhost" is not an IP address'),
            ("[zz]:80:80", '"zz" is not an IP address'),
            ("8000-8002:80-81", "the two ranges differ in length (3 and 2)"),
            ("81-80", "'81-80' is not a range of ports: it ends before it begins"),
            ("80/x", '"x" is not a protocol'),
            ("%z", "unknown specifier %z"),
        ],
    )
    def test_bad_published(self, value, message):
        said = refusal(f"PublishPort={value}", section="Container")
        assert said.startswith("n:2:13: PublishPort: ")
        assert message in said


class TestHealth:
    @pytest.mark.parametrize(
        ("value", "health"),
        [
            ("http://:8080/readyz", Health("http", 8080, "/readyz")),
            ("http://:8080", Health("http", 8080, "/")),
            ("http://:8080/a?b=c", Health("http", 8080, "/a?b=c")),
            ("tcp://:5432", Health("tcp", 5432)),
            ("tcp://:543%i", Health("tcp", 5431)),
        ],
    )
    def test_urls(self, value, health):
        assert options(f"Health={value}").health == health

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("8080", "is not a health check: write http://:8080/readyz or tcp://:5432"),
            ("https://:8080/", "is not a health check"),
            ("http:/:8080/", "is not a health check"),
            ("http://[:8080/", "is not a health check"),
            ("http://localhost:8080/", "names a host: a unit is checked at its own address"),
            ("http://localhost/", "'localhost' is not a port"),
            ("http://:/", "'' is not a port"),
            ("tcp://:0", "'0' is not a port"),
            ("tcp://:5432/x", "nothing follows the port of a tcp check"),
            ("http://:80/ä", "a path has no spaces"),
            ("http://:80/a b", "a path has no spaces"),
        ],
    )
    def test_bad_urls(self, value, message):
        said = refusal(f"Health={value}")
        assert said.startswith("n:2:8: Health: ")
        assert message in said

    @pytest.mark.parametrize(
        ("value", "command"),
        [
            ("pg_isready -q", ("/bin/sh", "-c", "pg_isready -q")),
            ("curl -f 'a b' || exit 1", ("/bin/sh", "-c", "curl -f 'a b' || exit 1")),
            ('["curl", "-f", "a b"]', ("curl", "-f", "a b")),
            ('["CMD", "curl", "a b"]', ("curl", "a b")),
            ('["CMD-SHELL", "curl a"]', ("/bin/sh", "-c", "curl a")),
            ('["curl a"]', ("/bin/sh", "-c", "curl a")),
            ("CMD curl -f a", ("curl", "-f", "a")),
            ("CMD-SHELL curl -f a", ("/bin/sh", "-c", "curl -f a")),
            ("test %i = 1 -a %H = %{x}", ("/bin/sh", "-c", "test 1 = 1 -a %H = %{x}")),
        ],
    )
    def test_commands(self, value, command):
        assert container(f"HealthCmd={value}").health == Health("command", command=command)

    @pytest.mark.parametrize(
        "text", ["HealthCmd=none", "HealthCmd=a\nHealthCmd=", "HealthCmd=a\nHealthInterval=disable"]
    )
    def test_switched_off(self, text):
        assert container(text).health is None

    def test_times(self):
        text = "HealthCmd=a\nHealthInterval=1m30s\nHealthTimeout=500ms\nHealthRetries=3\nHealthStartPeriod=0"
        health = container(text).health
        assert (health.interval, health.timeout, health.retries, health.start_period) == (90, 0.5, 3, 0)

    def test_the_option_goes_before_the_command(self):
        text = "[Container]\nHealthCmd=a\nHealthRetries=5\n[X-Kirsch]\nHealth=tcp://:1\n"
        health = Options.parse(UnitFile.parse(text), UnitName.parse("a.container")).health
        assert health == Health("tcp", 1, retries=5)

    @pytest.mark.parametrize(
        "text",
        [
            "HealthInterval=0",
            "HealthInterval=soon",
            "HealthTimeout=-1",
            "HealthRetries=0",
            "HealthRetries=x",
            "HealthCmd=CMD",
            'HealthCmd=["CMD-SHELL"]',
        ],
    )
    def test_bad_values(self, text):
        assert refusal(f"HealthStartPeriod=1\n{text}", section="Container").startswith("n:3:")


class TestRoles:
    def test_each_has_a_check_of_its_own_in_the_order_of_the_file(self):
        given = ("primary http://:8008/primary", "replica CMD test -e /replica")
        read = options("\n".join(["Health=tcp://:5432", *(f"HealthRole={role}" for role in given)]))
        primary, replica = read.roles
        assert (primary.name, primary.check) == ("primary", Health("http", 8008, "/primary"))
        assert (replica.name, replica.check.command) == ("replica", ("test", "-e", "/replica"))

    def test_there_are_none_by_default(self):
        assert options("Health=tcp://:80").roles == ()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "HealthRole=primary",
                "'primary' is not a role and its check: write primary http://:8008/primary",
            ),
            ("HealthRole=Primary tcp://:80", '"Primary" cannot name a role'),
            ("HealthRole=a tcp://:80/x", "nothing follows the port of a tcp check"),
            ("HealthRole=a http://there:80/", "names a host"),
            ("HealthRole=a none", "'a none' has no check"),
            ("HealthRole=a tcp://:80\nHealthRole=a tcp://:81", 'the role "a" is given twice'),
        ],
    )
    def test_what_is_none(self, text, message):
        assert message in refusal(f"Health=tcp://:80\n{text}")

    def test_readiness_comes_first(self):
        assert refusal("HealthRole=a tcp://:80") == (
            "n:2:12: HealthRole: a role is asked for once the unit is ready: give it a Health= too"
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CPU = two", "n:2:7: CPU: 'two' is not a number of cores: write 2, 0.5 or 50%"),
        ("Memory=1MB", "n:2:8: Memory: '1MB' is not a size: write bytes, or 512K, 512M, 2G, 1T"),
        ("Global=maybe", "n:2:8: Global: 'maybe' is not a boolean: write yes or no"),
        ("Sticky=\\\n  perhaps", "n:3:3: Sticky: 'perhaps' is not a boolean: write yes or no"),
        ("OnPartition=die", 'n:2:13: OnPartition: "die" is neither keep nor stop'),
        ("LinkUpdate=never", 'n:2:12: LinkUpdate: "never" is neither restart nor ignore'),
        ("Spread=a b", "n:2:8: Spread: 'a b' is not a key of machine metadata: no spaces and no '='"),
        (
            "ExposeEnv=A B-C",
            'n:2:11: ExposeEnv: "B-C" is not a variable: letters, digits and "_", and no digit first',
        ),
        ("Secret=a/b", 'n:2:8: Secret: "a/b" cannot name a secret: letters, digits, "-", "_" and "." inside'),
        ("Secret=a:", 'n:2:8: Secret: "" is not a variable: letters, digits and "_", and no digit first'),
        ("Secret=a:X b:X", "n:2:8: Secret: X is given the secret a already"),
        ('MachineID="a" "', 'n:2:11: MachineID: unbalanced quotes: " is opened and never closed'),
    ],
)
def test_bad_values(text, message):
    assert refusal(text) == message


def test_values_that_repeat_are_one():
    assert options("ExposeEnv=A B\nExposeEnv=A").expose_env == ("A", "B")
    assert options("Secret=a a:X\nSecret=a").secrets == (Secret("a"), Secret("a", "X"))


def test_times_are_finite():
    assert container("HealthCmd=a").health.interval is None
    assert math.isfinite(options("CPU=999999999").cpu)


def test_a_megabyte_of_options_takes_no_time():
    ports = "\n".join(f"Expose={number} p{number}\nExpose={number}/udp" for number in range(1, 20_000))
    text = f"[X-Kirsch]\n{ports}\n" + "MachineOf=a.service\nConflicts=b.service\n" * 5_000
    began = time.process_time()
    read = Options.parse(UnitFile.parse(text), UnitName.parse("c.service"))
    assert time.process_time() - began < 3, "linear it takes some tenths of a second"
    assert len(read.expose) == 2 * 19_999


names = st.sampled_from(
    [*OPTIONS, *OLD_OPTIONS, "PublishPort", "HealthCmd", "HealthInterval", "HealthRetries"]
)
value = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.text(st.sampled_from('ab1:/@.%i"-[] =*h\\'))
)
lines = st.lists(st.tuples(st.sampled_from(["X-Kirsch", "X-Fleet", "Container"]), names, value))


@given(lines)
def test_any_values_are_options_or_a_unit_error_with_its_line(given_lines):
    text = "".join(f"[{section}]\n{name}={value}\n" for section, name, value in given_lines)
    try:
        Options.parse(UnitFile.parse(text, "x"), UnitName.parse("a@b.container"))
    except UnitError as error:
        refused = error
    else:
        return
    assert refused.line
    assert refused.column
    assert "\n" not in str(refused)


@pytest.mark.parametrize(
    ("section", "name"), [("Container", "a.container"), ("Pod", "a.pod"), ("Kube", "a.kube")]
)
def test_what_publishes_a_port(section: str, name: str):
    read = options("PublishPort=8091:80", name, section)
    assert read.published == (Published(None, 8091, 80),)
