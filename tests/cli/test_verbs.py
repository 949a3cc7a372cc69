"""Each verb on one machine, with fleetctl's tables and texts; and what a person can get wrong."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application, wait_for

MACHINE = r"[0-9a-f]{8}\.\.\./127\.0\.0\.1"


@pytest.fixture
def up(application: Application) -> Application:
    """An application with two sleepers and a template that was not started."""
    application.sleeper("a.service")
    application.sleeper("b.service", "Link=a")
    application.sleeper("t@.service")
    application.ok("up", "-d")
    return application


def test_the_life_of_a_unit(up: Application):
    path = up.directory / "c.service"
    path.write_text(
        "# Kept to the byte.\n[Service]\nExecStart=sleep \\\n  1000\n\n[Unit]\nDescription=The c\n"
    )
    assert up.ok("submit", "c.service") == "Unit c.service inactive\n"
    assert up.ok("cat", "c") == path.read_text()
    assert "c.service" not in up.units()
    assert re.fullmatch(rf"Unit c.service loaded on {MACHINE}\n", up.ok("load", "c"))
    assert up.units()["c.service"]["active"] == "inactive"
    assert re.fullmatch(rf"Unit c.service launched on {MACHINE}\n", up.ok("start", "c"))
    unit = up.units()["c.service"]
    assert (unit["active"], unit["sub"], unit["description"]) == ("active", "running", "The c")
    assert "Active: active (running)" in up.ok("status", "c")
    assert up.ok("stop", "c") == "Successfully stopped units [c.service].\n"
    assert up.units()["c.service"]["active"] == "inactive"
    assert up.ok("unload", "c") == "Unit c.service inactive\n"
    assert "c.service" not in up.units()
    assert up.ok("destroy", "c") == "Destroyed c.service\n"
    assert up.fails("cat", "c") == "there is no unit c"


def test_destroying_a_running_unit_stops_it(up: Application):
    pid = up.units()["b.service"]["pid"]
    up.ok("destroy", "b")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")


@pytest.mark.slow
def test_destroy_need_not_wait_for_the_end(up: Application):
    """The unit's stop waits for a byte in a fifo, which comes once destroy has returned."""
    os.mkfifo(up.directory / "end")
    up.unit("held.service", "[Service]\nExecStart=sleep 1000\nExecStop=sh -c 'read byte < end'\n")
    up.ok("submit", "units/held.service")
    up.ok("start", "held")
    pid = up.units()["held.service"]["pid"]
    assert up.ok("destroy", "--no-block", "held") == "Destroyed held.service\n"
    assert Path(f"/proc/{pid}").exists()
    (up.directory / "end").write_text("x\n")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")


@pytest.mark.slow
def test_start_waits_as_many_attempts_as_fleetctl_is_told(up: Application):
    up.unit("never.service", "[Service]\nType=notify\nExecStart=sleep 1000\n")
    up.ok("submit", "units/never.service")
    assert "never.service is not there after 1 s" in up.fails("start", "--block-attempts", "1", "never")
    assert up.units()["never.service"]["active"] == "activating"
    assert "not a number of" in up.fails("start", "--block-attempts", "few", "never", status=2)


def test_the_tables_are_fleetctls(up: Application):
    units = up.ok("list-units").splitlines()
    assert units[0].split() == ["UNIT", "MACHINE", "ACTIVE", "SUB"]
    assert re.fullmatch(rf"a\.service +{MACHINE} +active +running", units[1])
    files = up.ok("list-unit-files").splitlines()
    assert files[0].split() == ["UNIT", "HASH", "DSTATE", "STATE", "TARGET"]
    assert re.fullmatch(rf"a\.service +[0-9a-f]{{7}} +launched +launched +{MACHINE}", files[1])
    assert re.fullmatch(r"t@\.service +[0-9a-f]{7} +inactive +inactive +-", files[3])
    machines = up.ok("list-machines").splitlines()
    assert machines[0].split() == ["MACHINE", "IP", "METADATA"]
    full = up.ok("list-machines", "--full", "--no-legend", "--fields", "machine")
    assert re.fullmatch(r"[0-9a-f]{32}\n", full)
    assert "there is no column" in up.fails("list-units", "--fields", "nonsense")
    assert {unit["name"] for unit in json.loads(up.ok("list-unit-files", "--json"))} == {
        "a.service",
        "b.service",
        "t@.service",
    }


def test_the_journal_ends_and_follows(up: Application):
    up.unit("say.service", "[Service]\nType=oneshot\nExecStart=printf 'one\\ntwo\\nthree\\n'\n[X-Kirsch]\n")
    up.ok("submit", "units/say.service")
    assert "launched on" in up.ok("start", "say")
    assert up.ok("why", "say") == "say.service: it is as people want it\n"
    lines = up.ok("journal", "-n", "20", "say").splitlines()
    assert [line.split()[-1] for line in lines if line.split()[-1] in ("one", "two", "three")] == [
        "one",
        "two",
        "three",
    ]


@pytest.mark.slow
def test_an_instance_starts_from_the_template_that_was_submitted(up: Application):
    assert "Unit t@blue.service launched on" in up.ok("start", "t@blue")
    assert up.ok("cat", "t@blue") == up.ok("cat", "t@")


def test_start_takes_a_file_as_fleetctl_does(up: Application):
    up.sleeper("new.service")
    printed = up.ok("start", "units/new.service")
    assert printed.startswith("Unit new.service inactive\nUnit new.service launched on")


@pytest.mark.slow
def test_start_tells_of_a_file_with_another_text(up: Application):
    path = up.sleeper("new.service")
    up.ok("submit", "units/new.service")
    assert up.run("start", "units/new.service").stderr == ""
    path.write_text(path.read_text().replace("1000", "2000"))
    done = up.run("start", "units/new.service")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: units/new.service: differs from the unit that was submitted")
    assert "1000" in up.ok("cat", "new")


@pytest.mark.slow
def test_a_failed_unit_says_why_and_is_tried_again(up: Application):
    up.unit(
        "odd.service",
        "[Service]\nExecStart=/bin/sh -c 'echo broken; test -e mended && exec sleep 1000; exit 3'\n",
    )
    up.ok("submit", "units/odd.service")
    error = up.fails("start", "odd")
    assert error == "odd.service failed: exited with status 3; last lines: broken"
    assert "exited with status 3" in up.ok("why", "odd")
    (up.directory / "mended").touch()
    assert "launched on" in up.ok("start", "odd")
    assert up.ok("why", "odd") == "odd.service: it is as people want it\n"


@pytest.mark.slow
def test_a_unit_that_exits_at_once_fails_after_its_limit(application: Application):
    application.unit(
        "bad.service",
        "[Service]\nExecStart=/bin/sh -c 'echo oops; exit 3'\nRestart=on-failure\nRestartSec=10ms\n",
    )
    application.sleeper("good.service")
    error = application.fails("up", "--exit-on-failure")
    assert (
        error == "bad.service failed: exited with status 3; it was started 5 times within 10 s, so it is not "
        "started again; last lines: oops"
    )
    assert application.ok("down") == ". is not up\n"


@pytest.mark.slow
def test_why_says_what_a_unit_waits_for(up: Application):
    up.sleeper("far.service", "MachineMetadata=zone=mars")
    up.sleeper("late.service", "Link=nobody")
    up.ok("submit", "units/far.service", "units/late.service")
    assert "MachineMetadata wants zone=mars, it has no zone" in up.fails("start", "far")
    assert "waits for nobody to be ready; there is no unit nobody" in up.fails(
        "start", "--timeout", "0.5", "late"
    )
    why = up.ok("why").splitlines()
    assert [line.split(":")[0] for line in why] == ["far.service", "late.service"]


@pytest.mark.slow
def test_a_restart_limit_does_not_hold_back_a_stop(up: Application):
    up.unit("flap.service", "[Service]\nExecStart=false\nRestart=always\nRestartSec=1h\n")
    up.ok("submit", "units/flap.service")
    up.ok("start", "--no-block", "flap")
    up.ok("stop", "flap")
    assert up.units()["flap.service"]["active"] in ("inactive", "failed")


@pytest.mark.slow
def test_a_name_that_is_nearly_right(up: Application):
    up.ok("submit", str(up.sleeper("webdb.service")))
    assert up.fails("status", "web") == "there is no unit web; did you mean webdb.service?"
    assert up.fails("stop", "webbd") == "there is no unit webbd; did you mean webdb.service?"
    assert up.fails("stop", "walrus") == "there is no unit walrus"


@pytest.mark.slow
def test_a_type_that_is_nearly_right_names_no_instance(up: Application):
    up.ok("submit", str(up.sleeper("web@.service")))
    assert up.fails("start", "web@1.servce") == "there is no unit web@1.servce; did you mean web@1.service?"
    up.ok("start", "web@v1.2")
    assert "web@v1.2.service" in up.units()
    up.ok("stop", "web@v1.2")


def test_names_are_resolved_where_one_answers(up: Application):
    up.unit("a.container", "[Container]\nImage=x\n[X-Kirsch-Process]\nExecStart=sleep 1000\n")
    up.ok("submit", "units/a.container")
    assert up.fails("stop", "a") == "a could be a.container, a.service: say which"
    up.ok("stop", "a.service")


BAD_UNITS = {
    "unknown option": (
        "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nSpred=zone\n",
        r'units/x\.service:4:1: unrecognized requirement in \[X-Kirsch\] section: "Spred"; did .* Spread\?',
    ),
    "MachineID with Conflicts": (
        "[Service]\nExecStart=sleep 1\n[X-Fleet]\nMachineID=m\nConflicts=y\n",
        r"units/x\.service:\d+:\d+: MachineID cannot be used with Conflicts",
    ),
    "no section": ("ExecStart=sleep 1\n", r"units/x\.service:1:1: .*"),
    "no command": ("[Service]\nUser=nobody\n", r"units/x\.service.*ExecStart.*"),
    "a directive that cannot be honoured": (
        "[Service]\nType=dbus\nExecStart=sleep 1\n",
        r"units/x\.service:2:\d+: .*dbus.*",
    ),
    "a link to itself": (
        "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nLink=x\n",
        r"units/x\.service:4:6: links go in a circle: x\.service -> x\.service; .*",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "error"), BAD_UNITS.values(), ids=BAD_UNITS)
def test_a_bad_unit_is_one_line_with_its_place(up: Application, text: str, error: str):
    before = up.ok("list-unit-files")
    up.unit("x.service", text)
    assert re.fullmatch(error, up.fails("submit", "units/x.service"))
    assert up.ok("list-unit-files") == before
    assert re.fullmatch(f"({re.escape(str(up.directory))}/)?" + error, up.fails("up", "."))
    assert up.units()["a.service"]["active"] == "active"


@pytest.mark.slow
def test_other_things_a_person_can_get_wrong(up: Application):
    up.sleeper("ok.service")
    (up.directory / "units/bad name.service").write_text("[Service]\nExecStart=sleep 1\n")
    assert "bad name.service" in up.fails("submit", "units/bad name.service")
    assert up.fails("submit", "units/none.service") == "units/none.service: No such file or directory"
    assert up.fails("start", "t@.service").startswith('cannot activate template "t@.service"')
    assert up.fails("start", "nobody") == "there is no unit nobody"
    assert up.fails("start", "./nobody.service") == (
        "./nobody.service: there is no such file, and no unit of that name"
    )
    assert up.fails("journal", "t") == "there is no unit t; t@.service is a template: name an instance of it"
    up.ok("load", "t@1")
    assert up.fails("journal", "t") == "there is no unit t; there are t@1.service"
    assert up.fails("stop", "nobody@1") == "there is no unit nobody@1"
    long = "l" * 260 + ".service"
    assert long in up.fails("start", long)
    assert up.fails("metadata", "127.0.0.1", "hostname=zz") == (
        "hostname is what the machine is called, and cannot be set"
    )
    assert up.fails("strat", "a", status=2) == (
        "there is no verb strat; did you mean start or status? (see kirsch --help)"
    )
    assert up.fails("--cluster", "c", "zzz", status=2) == "there is no verb zzz (see kirsch --help)"
    assert "kirsch balancer --help" in up.fails("--cluster", "c", "balancer", status=2)
    assert "required" in up.fails("start", status=2)
    assert up.fails("--cluster", "list-units", status=2) == (
        "what is to be done? A verb is missing in --cluster list-units (see kirsch --help)"
    )
    assert up.fails("up", ".", "more", status=2) == "unrecognized arguments: more (see kirsch up --help)"
    assert up.fails("up", "--detatch", status=2) == (
        "unrecognized arguments: --detatch; did you mean --detach? (see kirsch up --help)"
    )
    assert up.fails("--clustr", "x", "list-units", status=2) == (
        "unrecognized arguments: --clustr; did you mean --cluster? (see kirsch --help)"
    )
    up.unit("a.service", "[Service]\nExecStart=sleep 3\n")
    assert "--replace" in up.fails("submit", "units/a.service")
    replaced, release = up.ok("submit", "--replace", "units/a.service").splitlines()
    assert replaced == "Unit a.service replaced"
    assert release.startswith("Units that run are replaced by release ")
    up.unit("a.service", "[Service]\nExecStart=sleep 300\n")
    started = up.run("start", "--replace", "units/a.service")
    assert "Units that run are replaced by release " in started.stdout
    assert "no kirschd answers" in up.fails("--endpoint", "unix:///nowhere.sock", "list-units")
    assert up.fails("--endpoint", "http://x", "list-units") == (
        "http://x: an endpoint is unix://PATH or https://HOST:PORT"
    )


def test_a_circle_of_links_is_told_and_nothing_starts(application: Application):
    application.sleeper("a.service", "Link=b")
    application.sleeper("b.service", "Link=a")
    error = application.fails("up")
    assert re.fullmatch(r".*\.service:4:6: links go in a circle: .*; each would wait for the next", error)


def test_folders_without_an_application(application: Application, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no unit files" in application.fails("up", "empty")
    assert application.fails("up", "nowhere") == "nowhere: no such directory"
    application.sleeper("a.service")
    toml = application.directory / "kirsch.toml"
    for text, error in {
        'start = ["x"]': "kirsch.toml: start: there is no unit x",
        "start = 1": "kirsch.toml: start is to be a list of unit names",
        "strat = 1": (
            "kirsch.toml: unknown key 'strat'; there are name, open, start, images, cluster, release"
        ),
        "start = [": "kirsch.toml: Invalid value (at end of document)",
    }.items():
        toml.write_text(text)
        assert application.fails("up") == error
    toml.write_bytes(b'name = "\xff"\n')
    assert application.fails("up") == "kirsch.toml: is not UTF-8"
    toml.unlink()
    toml.mkdir()
    assert application.fails("up") == "kirsch.toml: Is a directory"
    assert not (application.directory / ".kirsch").exists()


def test_the_folder_of_unit_files_is_no_application(application: Application):
    application.sleeper("a.service")
    assert "is up" in application.ok("up", "-d", "units")
    application.ok("down", "units")
    (application.directory / "kirsch.toml").write_text('name = "one"\n')
    assert application.fails("up", "units") == (
        f"units has the unit files of an application: name its folder, {application.directory.resolve()}"
    )


def test_a_port_that_is_taken_is_told_with_who_has_it(application: Application):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        application.unit(
            "a.container",
            f"[Container]\nImage=x\nPublishPort={port}:{port}\n[X-Kirsch-Process]\nExecStart=sleep 1000\n",
        )
        error = application.fails("up")
    assert re.fullmatch(
        rf"a\.container failed: port {port} is in use by py\w+\S* \(process {os.getpid()}\); "
        r"stop that, or change PublishPort= \(a\.container:3\)",
        error,
    )
    application.ok("up", "-d")


def test_a_process_has_no_other_ports_than_its_own(application: Application):
    application.unit(
        "a.container", "[Container]\nImage=x\nPublishPort=8091:80\n[X-Kirsch-Process]\nExecStart=sleep 1000\n"
    )
    error = application.fails("up")
    assert error.endswith(
        "a.container:3:13: PublishPort=8091:80: a process has no ports but its own; write 80:80"
    )


def test_a_registry_that_is_not_ours_is_left_alone(application: Application):
    application.sleeper("a.service")
    state = application.directory / ".kirsch"
    state.mkdir()
    (state / "registry.db").write_bytes(b"somebody else's")
    error = application.fails("up")
    assert re.fullmatch(r".*/registry\.db: is not a registry of kirsch: .*", error)
    assert (state / "registry.db").read_bytes() == b"somebody else's"


def test_a_directive_that_is_not_honoured_is_named(application: Application):
    application.unit("a.service", "[Service]\nExecStart=sleep 1000\nPrivateDevices=yes\n")
    done = application.run("up", "-d")
    assert done.returncode == 0
    assert re.fullmatch(
        # Root is warned of more.
        r"(warning: units .*\n)?"
        r"warning: .*a\.service:3:16: PrivateDevices= is not honoured by the process runtime\n",
        done.stderr,
    )


def test_a_missing_program_is_one_line(application: Application):
    application.unit("a.service", "[Service]\nExecStart=no-such-program --now\n")
    error = application.fails("up")
    assert error.startswith("a.service failed: ")
    assert "no-such-program" in error


@pytest.mark.slow
def test_kirschd_that_was_killed_is_told(up: Application):
    os.kill(up.kirschd(), signal.SIGKILL)
    wait_for(lambda: "no kirschd answers" in up.run("stop", "a").stderr, "the CLI says that nobody answers")
    assert "was killed" in up.run("list-units").stderr


@pytest.mark.slow
def test_restart_is_stop_and_start(up: Application):
    before = up.units()["a.service"]["pid"]
    assert "Unit a.service launched on" in up.ok("restart", "a")
    after = up.units()["a.service"]["pid"]
    assert after not in (0, before)
    up.ok("stop", "a")
    assert "Unit a.service launched on" in up.ok("restart", "a")


def test_a_start_waits_for_readiness_where_nothing_is_asked(up: Application):
    up.unit("loop.service", "[Service]\nExecStart=false\nRestart=always\nRestartSec=10ms\n")
    up.ok("submit", "units/loop.service")
    assert "it was started 5 times" in up.fails("start", "loop")


@pytest.mark.slow
def test_an_order_that_only_links_give_is_told(up: Application):
    up.unit(
        "late.service",
        "[Unit]\nDescription=Late %p\nAfter=network.target a.service\n[Service]\nExecStart=sleep 1000\n",
    )
    done = up.run("start", "units/late.service")
    assert done.returncode == 0
    assert done.stderr == (
        "warning: units/late.service:3:7: After=a.service is not honoured by the process runtime; see Link=\n"
    )
    assert "late.service - Late late" in up.ok("status", "late")


@pytest.mark.slow
def test_a_unit_that_never_gets_ready_can_be_stopped(up: Application):
    up.unit("mute.service", "[Service]\nType=notify\nExecStart=sleep 1000\n")
    up.unit("slow.service", "[Service]\nExecStartPre=sleep 1000\nExecStart=sleep 1000\n")
    up.ok("submit", "units/mute.service", "units/slow.service")
    up.ok("start", "--no-block", "mute", "slow")
    wait_for(lambda: up.units().get("slow.service", {}).get("sub") == "start-pre", "slow starts")
    up.ok("stop", "--timeout", "10", "mute", "slow")
    assert {up.units()[name]["active"] for name in ("mute.service", "slow.service")} <= {"inactive", "failed"}
    assert "launched on" in up.ok("restart", "a")


@pytest.mark.slow
def test_a_comment_in_another_encoding_is_kept(application: Application):
    """Every byte comes back, by up, from the registry and after a replacement; in a value it is refused."""
    path = application.sleeper("a.service")
    text = "# Müller\n".encode("latin-1") + path.read_bytes()
    path.write_bytes(text)
    application.ok("verify", "units/a.service")
    application.ok("up", "-d")

    def shown() -> bytes:
        command = [*KIRSCH, "cat", "a"]
        return subprocess.run(command, cwd=application.directory, capture_output=True, timeout=60).stdout

    assert shown() == text
    (application.directory / "units/a.service.d").mkdir()
    (application.directory / "units/a.service.d/more.conf").write_text("[Unit]\nDescription=Müller\n")
    application.ok("up")
    assert shown().startswith(text)
    assert "Description=Müller\n".encode() in shown()
    assert application.units()["a.service"]["description"] == "Müller"
    path.write_bytes(b"[Service]\nExecStart=sleep 1000\nEnvironment=NAME=M\xfcller\n")
    assert "Environment= is not UTF-8" in application.fails("submit", "--replace", "units/a.service")
