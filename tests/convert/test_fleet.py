"""Units as fleet's users had them, read as an application of kirsch."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.convert.fleet import docker_run, read
from kirsch.unit import Options, UnitError, UnitFile, UnitName

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
DATABASE = """[Unit]
Description=PostgreSQL
After=docker.service network-online.target
Requires=docker.service

[Service]
TimeoutStartSec=0
ExecStartPre=-/usr/bin/docker kill webdb
ExecStartPre=-/usr/bin/docker rm webdb
ExecStartPre=/usr/bin/docker pull postgres:9.4
ExecStart=/usr/bin/docker run --rm --name webdb -e POSTGRES_USER=notes -v /data:/var/lib/pgsql postgres:9.4
ExecStop=/usr/bin/docker stop webdb
Restart=always

[X-Fleet]
MachineMetadata=disk=ssd
"""
APPLICATION = """[Unit]
Description=The notes
[Service]
ExecStart=/bin/bash -c "docker run --name=notes-%i -p 8080:8080 --link webdb:postgres \\
  -e 'MOTTO=two words' --log-driver=syslog example/notes python -m 'web app'"
[X-Fleet]
Conflicts=notes@*.service
MachineOf=webdb.service
"""
SIDEKICK = """[Unit]
BindsTo=notes@%i.service
[Service]
ExecStart=/bin/sh -c "while true; do etcdctl set /notes/%i up --ttl 60; sleep 45; done"
[X-Fleet]
MachineOf=notes@%i.service
"""


def made():
    return read(
        {"webdb.service": DATABASE, "notes@.service": APPLICATION, "notes-discovery@.service": SIDEKICK}
    )


def lines(name):
    return made().files[f"units/{name}"].splitlines()


def test_a_container_keeps_what_docker_was_told():
    unit = lines("webdb.container")
    assert unit[:2] == ["[Unit]", "Description=PostgreSQL"]
    assert {
        "Image=docker.io/library/postgres:9.4",
        "Environment=POSTGRES_USER=notes",
        "Restart=always",
    } <= set(unit)
    assert "After=network-online.target" in unit
    assert not any("docker.service" in line or line.startswith("Exec") for line in unit)


def test_links_ports_and_placement():
    unit = lines("notes@.container")
    assert {
        "Link=webdb:postgres",
        "PublishPort=8080:8080",
        "Expose=8080",
        "Conflicts=notes@*.container",
    } <= set(unit)
    assert "MachineOf=webdb.container" in unit
    assert 'Exec=python -m "web app"' in unit
    assert 'Environment="MOTTO=two words"' in unit


def test_a_unit_without_a_container_stays_as_it_is_and_is_told_what_kirsch_does_for_it():
    assert made().files["units/notes-discovery@.service"] == SIDEKICK
    assert made().remarks == (
        "notes@.service: docker run --log-driver syslog is not carried over",
        "notes-discovery@.service: it announces something in etcd; "
        "kirsch publishes ready endpoints by itself",
    )


def test_what_it_writes_is_valid():
    for path, text in made().files.items():
        name = UnitName.parse(path.removeprefix("units/"))
        Options.parse(UnitFile.parse(text), name.with_instance("1") if name.is_template else name)


@pytest.mark.parametrize(
    ("line", "words"),
    [("docker run --rm -it", "names no image"), ("docker run 'x", "No closing quotation")],
)
def test_a_line_that_cannot_be_read_is_told_with_its_place(line, words):
    with pytest.raises(UnitError, match=words) as error:
        read({"x.service": f"[Service]\nExecStart={line}\n"})
    assert str(error.value).startswith("x.service:2:11: ")


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12), max_size=6))
def test_no_command_line_breaks_it(words):
    try:
        docker_run(UnitFile.parse(f"[Service]\nExecStart=docker run {' '.join(words)}\n"))
    except UnitError:
        pass


def test_the_command(tmp_path):
    (tmp_path / "webdb.service").write_text(DATABASE)

    def run(*arguments):
        command = [KIRSCH, "import", "fleet", "webdb.service", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)

    assert run("-o", "out").returncode == 0
    assert (tmp_path / "out/units/webdb.container").is_file()
    again = run("-o", "out")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
