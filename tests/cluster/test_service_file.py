"""From unit files to services: defaults, directives, and what is refused or warned of."""

import math
import signal
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.directives import SERVICE, UNIT, InProcess
from kirsch.cluster.runtime.environment import EnvironmentFile
from kirsch.cluster.runtime.known import NAMES
from kirsch.cluster.runtime.service import Directory, Service, read_service
from kirsch.unit import UnitError, UnitFile, UnitName

SYSTEMD = "/lib/systemd/systemd"
SPECIFIERS = {"t": "/state/run", "S": "/state/state", "h": "/root"}


def read(text: str, name: str = "webdb.service") -> tuple[Service, list[str]]:
    unit = UnitName.parse(name)
    return read_service(unit, UnitFile.parse(text, unit.text), SPECIFIERS)


def service(lines: str, name: str = "webdb.service", unit: str = "") -> Service:
    """A service of which everything is honoured."""
    result, warnings = read(f"[Unit]\n{unit}\n[Service]\n{lines}\n", name)
    assert warnings == []
    return result


def refused(lines: str, unit: str = "") -> str:
    with pytest.raises(UnitError) as caught:
        read(f"[Unit]\n{unit}\n[Service]\n{lines}\n")
    return str(caught.value)


def warned(lines: str) -> list[str]:
    return read(f"[Service]\nExecStart=/bin/true\n{lines}\n")[1]


def test_defaults_are_those_of_systemd():
    found = service("ExecStart=/bin/true")
    assert found.type == "simple"
    assert (found.restart, found.restart_delay) == ("no", 0.1)
    assert (found.timeout_start, found.timeout_stop, found.timeout_abort) == (90, 90, 90)
    assert (found.start_limit_burst, found.start_limit_interval) == (5, 10)
    assert (found.kill_mode, found.kill_signal, found.final_kill_signal) == ("control-group", 15, 9)
    assert (found.send_sigkill, found.remain_after_exit, found.umask) == (True, False, 0o022)
    assert (found.notify_access, found.watchdog) == ("none", math.inf)
    assert (found.standard_output, found.standard_error) == ("journal", "journal")


def test_a_service_needs_its_section():
    with pytest.raises(UnitError, match=r"webdb.service: .* it has no \[Service\] section"):
        read("[Unit]\n")


@pytest.mark.parametrize("kind", ["timer", "socket", "volume", "pod", "mount"])
def test_other_types_cannot_run(kind):
    with pytest.raises(UnitError, match=f"^x.{kind}: x.{kind} cannot run as a plain process: only .service"):
        read("[Timer]\n", f"x.{kind}")


def test_a_container_runs_by_its_own_section():
    text = """
[Unit]
Description=Notes %i
After=webdb.container
[Container]
Image=kirsch/notes
PublishPort=8080:8080
HealthCmd=curl http://localhost:8080
Environment=A=1 B=2 "C=%i and more"
[X-Kirsch]
Link=webdb:postgres
[X-Kirsch-Process]
Environment=B=process
ExecStart=python -m notes --unit %n
[Service]
Restart=always
PrivateTmp=yes
[Install]
WantedBy=default.target
"""
    found, warnings = read(text, "notes@1.container")
    assert warnings == []
    assert found.start[0].argv({}) == ("python", "-m", "notes", "--unit", "notes@1.container")
    assert found.environment == {"A": "1", "B": "process", "C": "1 and more"}
    assert found.label == "notes@1.container - Notes 1"
    assert found.restart == "no"


def test_a_container_without_that_section_cannot_run():
    with pytest.raises(UnitError) as caught:
        read("[Container]\nImage=x\n", "webdb.container")
    assert str(caught.value) == (
        "webdb.container: cannot run as a plain process: it has no [X-Kirsch-Process] section"
    )


def test_what_only_the_container_is_given_is_named():
    text = "[Container]\nImage=x\nSecret=password\n[X-Kirsch-Process]\nExecStart=/bin/true\n"
    assert read(text, "webdb.container")[1] == [
        "webdb.container:3:8: Secret= holds for the container only; the process has [X-Kirsch-Process]"
    ]


def test_a_relative_path_is_for_the_process_section_only():
    text = "[X-Kirsch-Process]\nExecStart=./serve\nEnvironmentFile=-.env\nWorkingDirectory=www\n"
    found, warnings = read(text, "x.container")
    assert (found.start[0].program, found.working_directory, warnings) == ("./serve", "www", [])
    assert found.environment_files == (EnvironmentFile(".env", optional=True),)
    assert "neither an absolute path nor a plain file name" in refused("ExecStart=./serve")
    assert "not an absolute path: .env" in refused("ExecStart=/bin/true\nEnvironmentFile=.env")
    assert "not an absolute path: www" in refused("ExecStart=/bin/true\nWorkingDirectory=www")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "it has no ExecStart="),
        ("RemainAfterExit=yes", "it has no ExecStart="),
        ("Type=simple\nRemainAfterExit=yes\nExecStop=/bin/true", "which Type=simple needs"),
        ("ExecStart=/bin/true\nExecStart=/bin/false", "webdb.service:5:11: more than one ExecStart= command"),
        ("ExecStart=/bin/true ; /bin/false", "more than one ExecStart= command"),
        ("Type=oneshot\nExecStart=/bin/a\nRestart=always", "Restart=always cannot be used with Type=oneshot"),
        ("Type=forking\nExecStart=/bin/true", "webdb.service:4:6: Type=forking cannot be run by the process"),
        ("Type=dbus\nExecStart=/bin/true", "there is no D-Bus to wait for"),
        ("Type=fancy\nExecStart=/bin/true", "it is none of simple, exec, oneshot, notify"),
        ("ExecStart=+/bin/true", "webdb.service:4:11: ExecStart=: the prefix +"),
        ("ExecStart=!!/bin/true", "the prefix !"),
        ("ExecStart=$SHELL", "the program may not be a variable"),
        ("ExecStart=-", "no program is named"),
        ('ExecStart=/bin/sh -c "echo', "unbalanced quotes"),
        ("ExecStart=/bin/true\nRestart=sometimes", "Restart=: 'sometimes' is none of no, always"),
        ("ExecStart=/bin/true\nRestartSec=soon", "RestartSec=: 'soon' is not a time span"),
        ("ExecStart=/bin/true\nKillSignal=SIGNAL", "KillSignal=: no such signal"),
        ("ExecStart=/bin/true\nSuccessExitStatus=256", "an exit status is 0 to 255"),
        ("ExecStart=/bin/true\nUMask=999", "UMask=: not an octal mode"),
        ("ExecStart=/bin/true\nEnvironment=1A=x", "not a name for a variable: '1A'"),
        ("ExecStart=/bin/true\nEnvironment=A", "not an assignment NAME=VALUE: A"),
        ("ExecStart=/bin/true\nEnvironment=A=%z", "unknown specifier %z"),
        ("ExecStart=/bin/true\nEnvironment=A=%y", "systemd's specifier %y is not known here"),
        ("ExecStart=/bin/true\nStateDirectory=../x", "StateDirectory=: not a relative path without '..'"),
        ("ExecStart=/bin/true\nStateDirectory=/x", "StateDirectory=: not a relative path"),
        ("ExecStart=/bin/true\nStateDirectory=a:b", "a symbolic link to a folder is not made"),
        ("ExecStart=/bin/true\nDynamicUser=yes", "DynamicUser= cannot be given to a plain process"),
        ("ExecStart=/bin/true\nRootDirectory=/srv", "RootDirectory= cannot be given to a plain process"),
        ("ExecStart=/bin/true\nLoadCredential=a:b", "LoadCredential= cannot be given to a plain process"),
        ("ExecStart=/bin/true\nNice=20", "Nice=: '20' is not a number from -20 to 19"),
    ],
)  # fmt: skip
def test_errors_have_a_place_and_one_line(lines, message):
    assert message in (error := refused(lines))
    assert error.startswith("webdb.service:")
    assert "\n" not in error


def test_a_condition_that_nobody_checks_is_an_error():
    error = refused("ExecStart=/bin/true", unit="ConditionPathExists=/etc/webdb")
    assert error == "webdb.service:2:21: ConditionPathExists= cannot be checked by the process runtime"


def test_what_is_not_honoured_is_named_with_its_place():
    assert warned("PrivateDevices=yes\nMemoryHigh=1G") == [
        "webdb.service:3:16: PrivateDevices= is not honoured by the process runtime",
        "webdb.service:4:12: MemoryHigh= is not honoured by the process runtime",
    ]
    assert warned("Typo=1") == ["webdb.service:3:1: Typo= is no directive of [Service]; did you mean Type=?"]
    assert warned("Nonsense=1") == ["webdb.service:3:1: Nonsense= is no directive of [Service]"]
    assert warned("MemryMax=1G") == [
        "webdb.service:3:1: MemryMax= is no directive of [Service]; did you mean MemoryMax=?"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Type=idle", "Type=idle is run as Type=simple"),
        ("StandardOutput=file:/tmp/x", "StandardOutput=file:/tmp/x goes to the journal instead"),
        ("StandardError=tty", "StandardError=tty goes to the journal instead"),
        ("StandardInput=socket", "StandardInput= is always null"),
        ("KillMode=process", "nothing outlives its unit here"),
        ("KillMode=none", "nothing outlives its unit here"),
        ("LimitLOCKS=10", "LimitLOCKS= is not honoured"),
    ],
)
def test_warnings(line, message):
    [warning] = warned(line)
    assert message in warning


@pytest.mark.parametrize(
    "line",
    [
        "DynamicUser=no",
        "ExitType=main",
        "SyslogIdentifier=x",
        "StandardInput=null",
        "PrivateDevices=",
        "User=",
    ],
)
def test_what_makes_no_difference_is_not_warned_of(line):
    assert warned(line) == []


def test_unit_section_and_unknown_sections():
    text = "[Unit]\nRequires=x.service\n[Service]\nExecStart=/bin/a\n[Socket]\nListenStream=80\n[X-M]\nA=1\n"
    assert read(text)[1] == [
        "webdb.service:2:10: Requires= is not honoured by the process runtime",
        "webdb.service:6:14: the section [Socket] is not honoured by the process runtime",
    ]


def test_commands_in_order_and_reset():
    found = service(
        "ExecStartPre=/bin/a\nExecStartPre=-/bin/b\nExecStart=/bin/wrong\nExecStart=\nExecStart=/bin/c\n"
        "ExecStartPost=/bin/d ; /bin/e\nExecStop=/bin/f\nExecStopPost=/bin/g\nExecReload=kill -HUP $MAINPID\n"
        "ExecCondition=/bin/h"
    )
    programs = {
        field: [c.program for c in getattr(found, field)]
        for field in ("condition", "start_pre", "start", "start_post", "stop", "stop_post", "reload")
    }
    assert programs == {
        "condition": ["/bin/h"],
        "start_pre": ["/bin/a", "/bin/b"],
        "start": ["/bin/c"],
        "start_post": ["/bin/d", "/bin/e"],
        "stop": ["/bin/f"],
        "stop_post": ["/bin/g"],
        "reload": ["kill"],
    }
    assert [c.tolerant for c in found.start_pre] == [False, True]
    assert found.reload[0].argv({"MAINPID": "7"}) == ("kill", "-HUP", "7")


def test_no_start_command_means_oneshot():
    found = service("RemainAfterExit=yes\nExecStop=/bin/true")
    assert (found.type, found.start, found.timeout_start) == ("oneshot", (), math.inf)


def test_times():
    found = service(
        "ExecStart=/bin/true\nTimeoutStartSec=0\nTimeoutStopSec=1min 30s\nRestartSec=50ms\nTimeoutAbortSec=3"
    )
    assert (found.timeout_start, found.timeout_stop) == (math.inf, 90)
    assert (found.restart_delay, found.timeout_abort) == (0.05, 3)
    later = service("ExecStart=/bin/true\nTimeoutStartSec=1\nTimeoutSec=7\nTimeoutStopSec=2")
    assert (later.timeout_start, later.timeout_stop, later.timeout_abort) == (7, 2, 2)


def test_start_limit_is_in_the_unit_section():
    found = service("ExecStart=/bin/true", unit="StartLimitBurst=2\nStartLimitIntervalSec=1min")
    assert (found.start_limit_burst, found.start_limit_interval) == (2, 60)
    assert "StartLimitBurst= is not honoured" in warned("StartLimitBurst=2")[0]


def test_statuses_add_up_until_reset():
    found = service(
        "ExecStart=/bin/true\nSuccessExitStatus=1 TEMPFAIL SIGKILL\nSuccessExitStatus=7\n"
        "RestartPreventExitStatus=1\nRestartPreventExitStatus=\nRestartPreventExitStatus=USR1\n"
        "RestartForceExitStatus=9"
    )
    for code in (1, 75, 7):
        assert Exit(code=code) in found.success
    assert Exit(signal=signal.SIGKILL) in found.success
    assert Exit(code=9) not in found.success
    assert Exit(code=1) not in found.restart_prevent
    assert Exit(signal=signal.SIGUSR1) in found.restart_prevent
    assert Exit(code=9) in found.restart_force


def test_killing_and_notification():
    found = service(
        "Type=notify\nExecStart=/bin/true\nKillMode=mixed\nKillSignal=INT\nFinalKillSignal=SIGABRT\n"
        "SendSIGKILL=no\nSendSIGHUP=yes\nWatchdogSec=3s\nWatchdogSignal=15"
    )
    assert (found.kill_mode, found.kill_signal, found.final_kill_signal) == ("mixed", 2, 6)
    assert (found.send_sigkill, found.send_sighup, found.watchdog_signal) == (False, True, 15)
    assert (found.notify_access, found.watchdog) == ("main", 3)
    assert service("ExecStart=/bin/true\nNotifyAccess=all").notify_access == "all"


def test_circumstances():
    found = service(
        "ExecStart=/bin/true\nUser=nobody\nGroup=nogroup\nUMask=0077\nNice=5\nWorkingDirectory=-%t/x\n"
        "LimitNOFILE=1024:4096\nLimitCORE=infinity\nLimitAS=1G\nStandardOutput=null\n"
        'StateDirectory=a "b c"\nStateDirectoryMode=0700\nRuntimeDirectory=%p\n'
        "RuntimeDirectoryPreserve=restart\nPassEnvironment=TERM LANG\nUnsetEnvironment=PATH A=1"
    )
    assert (found.user, found.group, found.umask, found.nice) == ("nobody", "nogroup", 0o077, 5)
    assert (found.working_directory, found.working_directory_optional) == ("/state/run/x", True)
    assert found.limits == {"NOFILE": (1024, 4096), "CORE": (-1, -1), "AS": (1 << 30, 1 << 30)}
    assert (found.standard_output, found.standard_error) == ("null", "null")
    assert set(found.directories) == {
        Directory("state", "a", 0o700),
        Directory("state", "b c", 0o700),
        Directory("runtime", "webdb"),
    }
    assert found.runtime_directory_preserve == "restart"
    assert (found.pass_environment, found.unset_environment) == (("TERM", "LANG"), ("PATH", "A=1"))


def test_specifiers_are_expanded_after_words_are_split():
    unit = UnitName.parse("a@b\\x20c.service")
    file = UnitFile.parse("[Service]\nExecStart=/bin/echo %I 100%% %n\nEnvironment=X=%I\n")
    found, _ = read_service(unit, file)
    assert found.start[0].argv({}) == ("/bin/echo", "b c", "100%", unit.text)
    assert found.environment == {"X": "b c"}


def test_each_row_of_the_table_of_directives_is_once_there_and_sets_a_field():
    rows = [*SERVICE.values(), *UNIT.values()]
    assert len({each.name for each in rows}) == len(rows)
    assert {each.field for each in rows if each.field} <= {each.name for each in fields(Service)}
    assert all(bool(each.field) == bool(each.read) for each in rows)


@pytest.mark.parametrize("name", [n for n, d in SERVICE.items() if d.process is InProcess.WARNED])
def test_what_the_table_says_is_passed_over_is_warned_of(name):
    [warning] = warned(f"{name}=x")
    assert warning.endswith(f"{name}= is not honoured by the process runtime")


@pytest.mark.parametrize("name", [n for n, d in SERVICE.items() if d.process is InProcess.REFUSED])
def test_what_the_table_says_is_refused_is_an_error(name):
    assert f"{name}= cannot be given to a plain process" in refused(f"ExecStart=/bin/true\n{name}=x")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("ExecStrat=/bin/true", "ExecStrat= is no directive of [Service]; did you mean ExecStart=?"),
        ("execstart=/bin/true", "did you mean ExecStart=?"),
        ("Image=x", "Image= is no directive of [Service]: it belongs into [Container]"),
        ("Wants=x", "Wants= is no directive of [Service]: it belongs into [Unit]"),
        ("Link=db", "Link= is no directive of [Service]: it belongs into [X-Kirsch]"),
    ],
)
def test_a_typo_is_what_is_told_where_a_command_is_missing(lines, message):
    assert message in refused(lines)


def test_every_directive_of_the_table_is_known():
    assert set(SERVICE) <= NAMES["Service"]
    assert set(UNIT) <= NAMES["Unit"]


@pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="no systemd here")
def test_every_directive_of_the_systemd_that_is_here_is_known():
    said = subprocess.run([SYSTEMD, "--dump-configuration-items"], capture_output=True, text=True, check=True)
    section = ""
    for line in said.stdout.splitlines():
        name, equals, _ = line.partition("=")
        section = line.strip("[]") if line.startswith("[") else section
        assert not equals or name in NAMES[section], (section, name)


def test_hardening_that_a_process_can_have():
    found = service(
        "ExecStart=/bin/a\nNoNewPrivileges=yes\nOOMScoreAdjust=500\nCapabilityBoundingSet=\nLimitCPU=10"
    )
    assert (found.no_new_privileges, found.no_capabilities, found.oom_score) == (True, True, 500)
    assert found.limits["CPU"] == (10, 10)
    [warning] = warned("CapabilityBoundingSet=CAP_KILL")
    assert warning.endswith("is honoured by the process runtime if it is empty")
