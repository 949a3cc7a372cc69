"""Policies of releases, and the units that their commands run as."""

import pytest

from kirsch.cluster.model.release import commanded, with_scale
from kirsch.unit import Options, Policy, UnitError, UnitFile, UnitName
from kirsch.unit.release import command_file, read_policy

CONTAINER = """\
[Unit]
Description=The notes, instance %i

[Container]
Image=localhost/notes
PublishPort=8091:8091
HealthCmd=true
Exec=serve \\
  --fast

[X-Kirsch]
Link=webdb:postgres
Expose=8080 http
Secret=notes-database:POSTGRES_PASSWORD
Health=http://:8080/readyz
Spread=hostname
HealthyFor=2s

[Service]
Type=notify
Restart=always
TimeoutStopSec=30

[X-Kirsch-Process]
Type=notify
ExecStart=python -m webapp
StateDirectory=notes

[Install]
WantedBy=default.target
"""


def test_a_command_has_what_its_unit_has_but_serves_nobody_and_ends():
    file = command_file(UnitFile.parse(CONTAINER), "notes-release@3.container", "python -m webapp.migrate")
    assert file.text == (
        "[Unit]\nDescription=The notes, instance %i\n\n"
        "[Container]\nImage=localhost/notes\nExec=python -m webapp.migrate\n\n"
        "[X-Kirsch]\nLink=webdb:postgres\nSecret=notes-database:POSTGRES_PASSWORD\nLinkUpdate=ignore\n\n"
        "[Service]\nTimeoutStopSec=30\nType=oneshot\nRestart=no\n\n"
        "[X-Kirsch-Process]\nStateDirectory=notes\nType=oneshot\nRestart=no\n"
        "ExecStart=python -m webapp.migrate\n"
    )


def test_a_service_gets_the_command_as_its_own():
    text = "[Service]\nType=notify\nExecStart=a\nExecStartPre=b\nRestart=always\n[X-Fleet]\nGlobal=true\n"
    file = command_file(UnitFile.parse(text), "a-release@1.service", "c d")
    assert [tuple(option) for option in file.options] == [
        ("Service", "ExecStartPre", "b"),
        ("Service", "Type", "oneshot"),
        ("Service", "Restart", "no"),
        ("Service", "ExecStart", "c d"),
        ("X-Kirsch", "LinkUpdate", "ignore"),
    ]


def units(**options: str) -> dict[UnitName, Options]:
    found = {}
    for service, line in options.items():
        name = UnitName.parse(f"{service}.service")
        file = UnitFile.parse(f"[Service]\nExecStart=a\n[X-Kirsch]\n{line}\n")
        found[name] = Options.parse(file, name)
    return found


@pytest.mark.parametrize(
    ("given", "command", "expected"),
    [
        (units(web="", worker="", db="Sticky=yes"), "m", {"web.service": "m"}),
        (units(front="", db="Sticky=yes", lb="Global=true"), "m", {"front.service": "m"}),
        (units(front="ReleaseCommand=own", web=""), "m", {"front.service": "own", "web.service": "m"}),
        (units(web="ReleaseCommand=own"), "m", {"web.service": "own"}),
        (units(web=""), "", {}),
    ],
)
def test_a_command_belongs_to_one_service(given: dict, command: str, expected: dict):
    found = commanded("web", Policy(command=command), given)
    assert {name.text: each for name, each in found.items()} == expected


def test_where_it_is_not_clear_whose_a_command_is_that_is_to_be_said():
    with pytest.raises(UnitError, match=r"ReleaseCommand= in that unit.s .X-Kirsch.: front, worker"):
        commanded("web", Policy(command="m"), units(front="", worker=""))


@pytest.mark.parametrize("text", ["", "  ", "a\nb"])
def test_a_command_is_one_line(text: str):
    with pytest.raises(UnitError, match="release: command: write the command in one line"):
        read_policy({"command": text})


def test_a_scale_goes_before_the_folders_numbers():
    start, scale = ["db.service", "web@1.service", "web@2.service", "lb.service"], {"web@.service": 3}
    found, differs, told = with_scale(start, scale, ["web@1.service", "web@2.service", "web@4.service"])
    assert found == ["db.service", "web@1.service", "web@2.service", "web@4.service", "lb.service"]
    assert differs == scale
    assert told == [
        "web has 3 instances by `kirsch scale`; kirsch.toml starts 2: `kirsch scale web=2` goes back to that"
    ]
    assert with_scale(start, {"web@.service": 1}, start)[0] == ["db.service", "web@1.service", "lb.service"]


@pytest.mark.parametrize("scale", [{}, {"web@.service": 2}, {"gone@.service": 3}])
def test_a_scale_that_says_nothing_else_is_forgotten(scale: dict[str, int]):
    start = ["web@1.service", "web@2.service"]
    assert with_scale(start, scale, start) == (start, {}, [])
