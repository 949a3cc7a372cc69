"""Applications from any folder: a Procfile, one unit file."""

import re

import pytest
from tests.cli.application import Application

from kirsch.cluster.application import procfile
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord


def test_a_folder_with_a_procfile_runs(application: Application):
    (application.directory / "Procfile").write_text(
        "# comment\n"
        "web: python server.py  # on $PORT\n"
        "clock: echo \"$GREETING, 100% of '$PORT'\"; sleep 1000\n"
    )
    (application.directory / "units").rmdir()
    (application.directory / ".env").write_text("GREETING=Hello\nKIRSCH_ADDRESS=127.0.0.1\n")
    printed = application.ok("up", "-d")
    assert "web.service" in printed
    assert "Hello, 100% of '5100'" in application.ok("journal", "-n", "20", "clock")
    assert application.units()["web.service"]["active"] == "active"
    assert "web of the Procfile" in application.ok("status", "web")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("web", "Procfile:1: 'web' is not NAME: COMMAND"),
        ("web:", "Procfile:1: 'web:' is not NAME: COMMAND"),
        ("a: sleep 1\na: sleep 2", "Procfile:2: a is there twice"),
    ],
)
def test_a_procfile_that_is_wrong_is_one_line(application: Application, line: str, error: str):
    (application.directory / "units").rmdir()
    (application.directory / "Procfile").write_text(line + "\n")
    assert application.fails("up") == error


@pytest.mark.parametrize("command", ["sleep 1", "a $B '${C}' 50% \\\\ \"d\"", "cd x && y | z > w", "A=1 b"])
def test_a_command_reads_back_as_it_was(command: str):
    from kirsch.cluster.runtime.command_line import parse_command_lines
    from kirsch.unit import UnitName, expand

    line = procfile.quoted(command)
    name = UnitName.parse("web.service")
    [parsed] = parse_command_lines("ExecStart", f"/bin/sh -c {line}", lambda text: expand(text, name))
    assert parsed.argv({}) == ("/bin/sh", "-c", command)


def test_ssh_to_a_unit_of_here_says_so_though_there_is_a_cluster(
    application: Application, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(application.directory / "data"))
    lab = MachineRecord("n1", "1" * 32, "127.0.0.1", "127.0.0.1", api_port=1)
    ClusterRecord("lab", "c0ffee", "2026-12-02", "", (lab,), complete=True).save()
    application.sleeper("web.service")
    application.ok("up", "-d")
    assert "web is this computer: `kirsch exec UNIT sh`" in application.fails("ssh", "web")
    assert "cluster lab" in application.fails("ssh", "other")


def test_one_unit_file_runs_alone(application: Application):
    path = application.sleeper("web.service")
    application.sleeper("other.service")
    printed = application.ok("up", "-d", str(path))
    assert re.search(r"\nweb is up\n", printed)
    assert "web.service" in printed
    assert "other.service" not in printed
    assert application.ok("down", str(path)).endswith(f"{path} is down\n")


@pytest.mark.parametrize("words", [("-C", "{}", "up", "-d"), ("up", "-d", "-C", "{}")])
def test_a_folder_to_go_to_first(application: Application, words: tuple[str, ...]):
    application.sleeper("a.service")
    folder = str(application.directory)
    inner = application.directory / "units"
    done = application.run(*(word.format(folder) for word in words), "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert "a.service" in application.ok("-C", str(inner), "list-units")
    assert application.fails("-C", "/nowhere", "list-units") == "/nowhere: No such file or directory"
