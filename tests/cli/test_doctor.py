"""kirsch doctor: what is needed, what is there, and what to type."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kirsch.cli.doctor import Computer, Needs, diagnose, needs_of
from kirsch.cluster.application import load

ROOT = Path(__file__).parents[2]
KIRSCH = str(Path(sys.executable).with_name("kirsch"))
WHOLE = Computer(
    python="3.11", application_python="", compiled=True, haproxy="2.6", postgres="18", podman="5.4",
    root=False, cgroups=True, manager=True, files=1 << 20, watches=1 << 20, free=1 << 40,
    taken=(), kirschd=False,
)  # fmt: skip
ALL = Needs(haproxy=True, postgres=True, podman=True, ports=(8091,))


def states(needs, computer, *, known=True):
    return {each.name: (each.state, each.advice) for each in diagnose(needs, computer, known=known)}


def test_the_notes_need_haproxy_postgresql_and_their_ports():
    assert needs_of(load(ROOT / "examples/notes")) == Needs(haproxy=True, postgres=True, ports=(8090, 8091))


def test_a_whole_computer_has_all():
    assert {state for state, _ in states(ALL, WHOLE).values()} == {"ok"}


@pytest.mark.parametrize("program", ["haproxy", "postgres", "podman"])
def test_what_is_needed_and_not_there_is_missing_and_how_to_get_it_is_said(program):
    state, advice = states(ALL, replace(WHOLE, **{program: ""}))[program]
    assert state == "missing"
    assert program in advice
    assert states(Needs(), replace(WHOLE, **{program: ""}))[program][0] == "note"
    assert states(ALL, replace(WHOLE, **{program: ""}), known=False)[program][0] == "note"


def test_a_port_in_use_is_missing_unless_the_application_is_up():
    busy = replace(WHOLE, taken=(8091,))
    assert states(ALL, busy)["port 8091"][0] == "missing"
    assert states(ALL, replace(busy, kirschd=True))["port 8091"][0] == "ok"


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("files", 256, "files"),
        ("watches", 100, "watches"),
        ("cgroups", False, "cgroups"),
        ("root", True, "user"),
    ],
)
def test_limits_are_noted(field, value, name):
    assert states(ALL, replace(WHOLE, **{field: value}))[name][0] == "note"


def test_a_full_disk_is_missing():
    assert states(ALL, replace(WHOLE, free=1000))["disk"][0] == "missing"


def kirsch(*words, cwd):
    return subprocess.run([KIRSCH, "doctor", *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_person_asks(tmp_path):
    done = kirsch(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok       python")
    done = kirsch("nowhere", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "kirsch: nowhere: no such directory\n")
    (tmp_path / "Procfile").write_text("nonsense\n")
    done = kirsch(cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_port_that_somebody_has_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        unit = f"[Container]\nPublishPort={port}:80\n[X-Kirsch-Process]\nExecStart=sleep 9\n"
        (tmp_path / "units").mkdir()
        (tmp_path / "units/web.container").write_text(unit)
        done = kirsch("--json", cwd=tmp_path)
        found = {each["name"]: each for each in json.loads(done.stdout)}
        assert done.returncode == 1
        assert found[f"port {port}"]["state"] == "missing"
        assert str(port) in found[f"port {port}"]["advice"]
