"""What systemd's runtime does beside what every one does: on a machine of its own."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.systemd.bus import BusError, SystemdBus
from kirsch.cluster.runtime.systemd.journal import said
from kirsch.cluster.runtime.systemd.runtime import SystemdRuntime
from kirsch.unit import UnitFile, UnitName

pytestmark = [pytest.mark.machines, pytest.mark.timeout(600)]

SLEEP = "ExecStart=/bin/sleep 1000"


@pytest.fixture
def opener(machine, tmp_path):
    return lambda: Bench.of_systemd(tmp_path, machine)


class Reloads:
    """Counts systemd's reloads."""

    def __init__(self):
        self.count = 0

    async def joined(self):
        pass

    def changed(self, path, interface, values):
        pass

    def appeared(self, unit):
        pass

    def reloaded(self):
        self.count += 1


@contextlib.asynccontextmanager
async def reloads(bench):
    """Reloads meanwhile: all of those that were asked for before the end are counted then."""
    listener = Reloads()
    bus = SystemdBus(bench.machine.root / "run/dbus/system_bus_socket", listener)
    await bus.open()
    try:
        yield listener
        await bus.manager("GetDefaultTarget")
    finally:
        await bus.close()


def prepare(text, name="x.service", **environment):
    return Prepared(UnitName.parse(name), UnitFile.parse(text, name), environment)


# Files


@story
async def test_the_files_of_a_unit_come_and_go(bench):
    root = bench.machine.root
    before = {
        path for folder in ("system", "containers") for path in (root / "run/systemd").glob(f"{folder}/**/*")
    }
    text = "# a comment\n[Unit]\n[Service]\nExecStart=/bin/sleep \\\n  1000\n[X-Kirsch]\nSpread=zone\n"
    name = await bench.load(text, PASSWORD="secret")
    assert (root / "run/systemd/system/x.service").read_text() == text
    variables = root / "run/kirsch/units/x.service.env"
    assert variables.stat().st_mode & 0o777 == 0o600
    assert "secret" in variables.read_text()
    assert "secret" not in bench.machine.run("systemctl", "cat", "x.service")
    await bench.runtime.start(name)
    await bench.runtime.stop(name)
    await bench.runtime.unload([name])
    assert {p for f in ("system", "containers") for p in (root / "run/systemd").glob(f"{f}/**/*")} == before
    assert list((root / "run/kirsch/units").iterdir()) == []
    assert bench.machine.show("x.service", "LoadState") == ["not-found"]


@story
async def test_variables_reach_a_service_as_they_are(bench):
    values = {
        "A": 'it\'s "quoted" and \\escaped\\ with $HOME `id` %n %% ;#',
        "B": "two\nlines\n",
        "C": "",
        "D": "  blanks  ",
        "E": "grüße \x7f",
    }
    name = await bench.load(
        "[Service]\nType=oneshot\nEnvironment=A=no F=theirs\nExecStart=/bin/sh -c 'env -0 >@FOLDER@/env'\n",
        **values,
    )
    await bench.runtime.start(name)
    printed = (bench.folder / "env").read_text().split("\0")
    for variable, value in {**values, "F": "theirs"}.items():
        assert f"{variable}={value}" in printed


@story
async def test_secrets_that_are_credentials(bench):
    script = "cp -r $CREDENTIALS_DIRECTORY @FOLDER@/seen; id -u >@FOLDER@/seen/uid"
    text = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{script}'\n".replace(
        "@FOLDER@", str(bench.folder)
    )
    unit = prepare(text)
    await bench.runtime.load([replace(unit, credentials={"pass.word": 'it\'s "secret"\n', "b": "2"})])
    folder = bench.machine.root / "run/kirsch/units/x.service.secrets"
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600, 0o600]
    assert "hidden" not in bench.machine.run("systemctl", "cat", "x.service")
    state = await bench.runtime.start(unit.name)
    assert state.message == ""
    assert (bench.folder / "seen/pass.word").read_text() == 'it\'s "secret"\n'
    await bench.runtime.load([replace(unit, credentials={"b": "2"})])
    assert [path.name for path in folder.iterdir()] == ["b"]
    await bench.runtime.unload([unit.name])
    assert not folder.exists()


@story
async def test_every_legal_character_of_a_name(bench):
    name = await bench.load(
        "[Service]\nExecStart=/bin/sh -c 'exec sleep 1000' %i\n",
        "a:b-c_d.e\\x2df@g:h-i_j.k\\x2dl.service",
        KIRSCH_UNIT="it",
    )
    state = await bench.runtime.start(name)
    assert state.active == "active"
    check = ["/bin/sh", "-c", 'test "$KIRSCH_UNIT" = it']
    assert await bench.runtime.run(name, check, 10) == 0
    await bench.again()
    assert bench.state(name).pid == state.pid
    assert (await bench.runtime.stop(name)).active == "inactive"


@story
async def test_one_reload_a_batch_and_none_for_what_is_read(bench):
    units = [prepare(f"[Service]\n{SLEEP}\n", f"u@{number}.service", A="1") for number in range(20)]
    async with reloads(bench) as seen:
        await bench.runtime.load(units)
    assert seen.count == 1
    async with reloads(bench) as seen:
        await bench.runtime.load([Prepared(unit.name, unit.file, {"A": "2"}) for unit in units])
    assert seen.count == 0
    await bench.runtime.start(units[0].name)
    assert await bench.runtime.run(units[0].name, ["/bin/sh", "-c", 'test "$A" = 2'], 10) == 0
    async with reloads(bench) as seen:
        await asyncio.gather(
            *(bench.runtime.load([prepare(f"[Service]\n{SLEEP}0\n", str(u.name))]) for u in units)
        )
    assert seen.count <= 3


# After kirschd


@story
async def test_what_runs_is_taken_up_with_its_mark(bench):
    name = await bench.service(SLEEP)
    before = await bench.runtime.start(name, "order 7")
    other = await bench.service("ExecStart=/bin/sh -c 'exit 3'", name="y.service")
    await bench.runtime.start(other, "order 8")
    failed = await bench.until_sub(other, "failed")
    await bench.until(other, lambda state: "3" in state.message)
    assert await bench.service(SLEEP, name="z.service")
    bench.seen.clear()
    await bench.again()
    assert bench.state(name) == before
    state = bench.state(other)
    assert (state.active, state.result, state.mark) == ("failed", "exit-code", "order 8")
    assert "3" in state.message
    assert state.since == failed.since
    assert bench.state(UnitName.parse("z.service")).active == "inactive"
    assert bench.seen == {}
    assert (await bench.runtime.start(name)).pid == before.pid
    assert (await bench.runtime.stop(name)).active == "inactive"


@story
async def test_what_is_stopped_has_another_mark_until_it_has_and_then_none(bench):
    name = await bench.service(
        "ExecStart=/bin/sh -c 'trap \"\" TERM; echo > @FOLDER@/deaf; read x < @FOLDER@/gate'"
    )
    for each in ("deaf", "gate"):
        os.mkfifo(bench.folder / each)
    await bench.runtime.start(name, "order 7")
    await asyncio.to_thread((bench.folder / "deaf").read_text)
    stop = asyncio.ensure_future(bench.runtime.stop(name, "ends"))
    await bench.until_sub(name, "stop-sigterm")
    stop.cancel()
    # Here kirschd ends, and another one comes.
    await bench.again()
    assert bench.state(name).mark == "ends"
    await asyncio.to_thread((bench.folder / "gate").write_text, "go\n")
    await bench.runtime.stop(name, "ends again")
    assert bench.state(name).mark == ""
    await bench.again()
    assert (bench.state(name).active, bench.state(name).mark) == ("inactive", "")


@story
async def test_what_ended_meanwhile_is_seen(bench):
    name = await bench.service("ExecStart=/bin/sh -c 'read x < @FOLDER@/gate; exit 4'")
    os.mkfifo(bench.folder / "gate")
    await bench.runtime.start(name)
    await bench.runtime.close()
    await asyncio.to_thread((bench.folder / "gate").write_text, "go\n")
    bench.machine.run("sh", "-c", "until systemctl is-failed -q x.service; do sleep 0.05; done")
    await bench.again()
    state = await bench.until(name, lambda state: "4" in state.message)
    assert (state.active, state.result) == ("failed", "exit-code")


@story
async def test_a_load_that_was_cut_short_leaves_nothing(bench):
    name = await bench.service(SLEEP)
    await bench.runtime.close()
    run = bench.machine.root / "run"
    (run / "systemd/system/x.service").unlink()
    (run / "systemd/system/.kirsch-x.service").write_text("half")
    await bench.again()
    assert name not in bench.runtime.states()
    assert not (run / "systemd/system/x.service.d").exists()
    assert not (run / "systemd/system/.kirsch-x.service").exists()
    assert list((run / "kirsch/units").iterdir()) == []


@story
async def test_systemd_and_its_bus_start_anew(bench):
    name = await bench.service("ExecStart=/bin/sh -c 'read x < @FOLDER@/gate; exit 5'")
    os.mkfifo(bench.folder / "gate")
    pid = (await bench.runtime.start(name, "m")).pid
    bench.machine.run("systemctl", "daemon-reexec")
    other = await bench.service(SLEEP, name="y.service")
    state = await bench.runtime.start(other)
    assert (state.active, state.message) == ("active", "")
    assert bench.state(name).pid == pid
    bench.machine.run("systemctl", "kill", "--signal=KILL", "dbus.service")
    bench.machine.run("sh", "-c", "until systemctl restart dbus.socket dbus.service; do sleep 0.1; done")
    await asyncio.to_thread((bench.folder / "gate").write_text, "go\n")
    state = await bench.until_sub(name, "failed")
    assert (state.result, state.mark) == ("exit-code", "m")
    assert (await bench.runtime.stop(other)).active == "inactive"


def test_a_bus_that_does_not_read_for_a_while_is_not_lost(opener, caplog):
    """dbus-fast's writer, whose inside systemd_bus takes over, loses what it cannot send at once."""

    async def ask_much(bench):
        names = [UnitName.parse(f"u@{number}.service") for number in range(50)]
        file = UnitFile.parse("[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n")
        await bench.runtime.load([Prepared(name, file) for name in names])
        bus = SystemdBus(bench.machine.root / "run/dbus/system_bus_socket", Reloads())
        await bus.open()
        (daemon,) = bench.machine.show("dbus.service", "MainPID")
        bench.machine.run("kill", "-STOP", daemon)
        starts = [asyncio.ensure_future(bench.runtime.start(name)) for name in names for _ in range(5)]
        long = [f"{'x' * 200}{name}" for name in names * 3]
        lists = [asyncio.ensure_future(bus.manager("ListUnitsByNames", "as", long)) for _ in range(100)]
        try:
            done, _ = await asyncio.wait([*starts, *lists], timeout=1)
            assert not done
        finally:
            bench.machine.run("kill", "-CONT", daemon)
        states = await asyncio.gather(*starts)
        assert {(state.active, state.message) for state in states} == {("active", "")}
        assert {len(listed[0]) for listed in await asyncio.gather(*lists)} == {150}
        await bus.close()
        assert "lost" not in caplog.text

    story(ask_much)(opener)


@story
async def test_no_bus_at_all_is_an_error_in_a_line(bench):
    with pytest.raises(BusError, match="cannot reach systemd over D-Bus"):
        await SystemdRuntime.open(bench.folder)


# Others' units


@pytest.fixture
def theirs(machine):
    """Units of somebody else's, one of which runs."""
    text = f"[Service]\n{SLEEP}\n"
    paths = ["etc/systemd/system/etc.service", "run/systemd/system/run.service"]
    for path in paths:
        (machine.root / path).write_text(text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "etc.service", "run.service")
    machine.run("systemd-run", "--quiet", "--unit=transient.service", "/bin/sleep", "1000")
    machine.run("systemctl", "mask", "--runtime", "masked.service")
    yield dict.fromkeys(paths, text)
    machine.run("systemctl", "stop", "etc.service", "run.service", "transient.service")
    machine.run("systemctl", "unmask", "--runtime", "masked.service")
    for path in paths:
        (machine.root / path).unlink()
    machine.run("systemctl", "daemon-reload")


NAMES = ["etc.service", "run.service", "transient.service", "masked.service", "systemd-journald.service"]
NAMES += ["dbus-org.freedesktop.login1.service"]


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("text", NAMES)
def test_what_is_anothers_is_never_touched(opener, machine, theirs, text):
    async def touch(bench):
        before = machine.show(text, "LoadState", "ActiveState", "MainPID", "FragmentPath", "DropInPaths")
        name = await bench.service("ExecStart=/bin/false", name=text)
        state = bench.state(name)
        assert (state.load, state.active) == ("error", "inactive")
        assert text in state.message
        assert "not kirsch's" in state.message
        await bench.runtime.start(name)
        await bench.runtime.stop(name)
        await bench.runtime.kill(name)
        await bench.runtime.reload(name)
        assert await bench.runtime.run(name, ["/bin/true"], 10) == 127
        await bench.runtime.unload([name])
        assert name not in bench.runtime.states()
        assert (
            machine.show(text, "LoadState", "ActiveState", "MainPID", "FragmentPath", "DropInPaths") == before
        )
        assert all((machine.root / path).read_text() == content for path, content in theirs.items())

    story(touch)(opener)


@story
async def test_a_file_that_systemd_has_not_read_yet_is_anothers_too(bench):
    path = bench.machine.root / "run/systemd/system/x.service"
    path.write_text("[Service]\nExecStart=/bin/true\n")
    try:
        await bench.service(SLEEP)
        assert path.read_text() == "[Service]\nExecStart=/bin/true\n"
    finally:
        path.unlink()


@story
async def test_a_file_that_comes_in_front_of_ours(bench):
    name = await bench.service(SLEEP)
    path = bench.machine.root / "etc/systemd/system/x.service"
    path.write_text("[Service]\nExecStart=/bin/sleep 2000\n")
    try:
        bench.machine.run("systemctl", "daemon-reload")
        state = await bench.until(name, lambda state: state.load == "error")
        assert "/etc/systemd/system/x.service" in state.message
        assert (await bench.runtime.start(name)).active == "inactive"
    finally:
        path.unlink()
    bench.machine.run("systemctl", "daemon-reload")
    await bench.until(name, lambda state: state.load == "loaded")


@story
async def test_a_drop_in_of_somebody_elses_stays(bench):
    name = await bench.service(SLEEP)
    theirs = bench.machine.root / "run/systemd/system/x.service.d/10-theirs.conf"
    theirs.write_text("[Service]\nNice=3\n")
    await bench.runtime.unload([name])
    assert theirs.read_text() == "[Service]\nNice=3\n"
    theirs.unlink()
    theirs.parent.rmdir()


# States


@story
async def test_what_others_do_to_a_unit_is_seen(bench):
    name = await bench.service(SLEEP)
    bench.machine.run("systemctl", "start", "x.service")
    assert (await bench.until_sub(name, "running")).pid > 0
    bench.machine.run("systemctl", "stop", "x.service")
    await bench.until_sub(name, "dead")
    await bench.runtime.start(name)
    bench.machine.run("systemctl", "kill", "--signal=KILL", "x.service")
    state = await bench.until(name, lambda state: state.active == "failed" and "KILL" in state.message)
    assert state.result == "signal"
    bench.machine.run("systemctl", "reset-failed", "x.service")
    await bench.until_sub(name, "dead")


@pytest.mark.soak
@story
async def test_no_change_is_lost_at_reloads(bench):
    names = [UnitName.parse(f"u@{number}.service") for number in range(40)]
    restarts = "Restart=always\nRestartSec=1ms\nStartLimitBurst=100000"
    file = UnitFile.parse("[Service]\nExecStart=/bin/sh -c 'sleep 0.0$(($$ % 10)); exit 1'\n")
    again = UnitFile.parse(
        f"[Unit]\nStartLimitBurst=100000\n[Service]\nExecStart=/bin/sleep 0.03\n{restarts}\n"
    )
    await bench.runtime.load([Prepared(name, file if name.instance < "3" else again) for name in names])
    for _ in range(5):
        starts = [asyncio.ensure_future(bench.runtime.start(name)) for name in names]
        for _ in range(3):
            await asyncio.to_thread(bench.machine.run, "systemctl", "daemon-reload")
        await asyncio.gather(*starts)
    await asyncio.gather(*(bench.runtime.stop(name) for name in names if name.instance >= "3"))
    shown = {name: bench.machine.show(name.text, "ActiveState", "SubState") for name in names}
    for name in names:
        active, sub = shown[name]
        await bench.until(
            name, lambda state, active=active, sub=sub: (state.active, state.sub) == (active, sub)
        )


@story
async def test_status_text_and_reload(bench):
    script = "systemd-notify --ready --status=serving; while :; do sleep 1000; done"
    name = await bench.service(
        f"Type=notify\nNotifyAccess=all\nExecStart=/bin/sh -c '{script}'\nExecReload=/bin/false"
    )
    assert (await bench.runtime.start(name)).sub == "running"
    await bench.until(name, lambda state: state.message == "serving")
    state = await bench.runtime.reload(name)
    assert state.active == "active"
    assert "reload failed" in state.message


# Words


@story
async def test_a_start_that_systemd_refuses_has_failed_in_its_words(bench):
    for name, text in {
        "alone.socket": "[Socket]\nListenStream=/run/alone.sock\n",
        "alone.timer": "[Timer]\nOnActiveSec=1h\n",
    }.items():
        state = await bench.runtime.start(await bench.load(text, name=name))
        assert (state.active, state.result) == ("failed", "resources"), name
        assert "alone.service" in state.message
        assert "efusing" in state.message


@story
async def test_words_that_journald_has_yet_to_take_in_are_waited_for(bench):
    bench.machine.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
    try:
        bench.machine.run("logger", "--tag=late", "the words")
        reading = asyncio.create_task(said(bench.machine.prefix, ["SYSLOG_IDENTIFIER=late"], 5))
        await bench.poll(lambda: reading.done() or bench.processes("--sync"))
    finally:
        bench.machine.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")
    assert await reading == ["the words"]


@story
async def test_what_systemd_passes_over_is_told_in_its_words(bench):
    name = await bench.load(f"[Service]\n{SLEEP}\nRestart=perhaps\nColour=blue\n")
    state = await bench.until(name, lambda state: state.message != "")
    assert "line 3: Failed to parse" in state.message
    assert "line 4: Unknown key" in state.message
    assert (await bench.runtime.start(name)).message == state.message
    await bench.service(SLEEP)
    await bench.until(name, lambda state: state.message == "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Service]\nUser=nobody-here\nExecStart=/bin/true\n", "User="),
        ("[Service]\nExecStart=/no/such/program\n", "203/EXEC"),
        ("[Service]\nWorkingDirectory=/no/where\nExecStart=/bin/true\n", "200/CHDIR"),
        (
            "[Unit]\nConditionPathExists=/no/where\n[Service]\nExecStart=/bin/true\n",
            "ConditionPathExists=/no/where",
        ),
        (
            "[Unit]\nAssertPathExists=/no/where\n[Service]\nExecStart=/bin/true\n",
            "AssertPathExists=/no/where",
        ),
        ("[Unit]\nRequires=y.service\nAfter=y.service\n[Service]\nExecStart=/bin/true\n", "y.service"),
        ("[Service]\nType=oneshot\nTimeoutStartSec=1ms\nExecStart=/bin/sleep 9\n", "took too long"),
        (
            "[Service]\nType=oneshot\nExecStartPre=/bin/false\nExecStart=/bin/true\n",
            "ExecStartPre=/bin/false",
        ),
        ("[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo no luck; exit 3'\n", "last lines: no luck"),
    ],
)
def test_why_a_unit_does_not_run(opener, text, words):
    async def fail(bench):
        await bench.service("Type=oneshot\nExecStart=/bin/false", name="y.service")
        name = await bench.load(text)
        await bench.runtime.start(name)
        await bench.until(name, lambda state: words in state.message and state.active != "active")

    story(fail)(opener)


@story
async def test_the_last_words_are_of_this_run(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sh -c 'echo $WORD; exit 3'", WORD="first")
    await bench.runtime.start(name)
    await bench.until(name, lambda state: "last lines: first" in state.message)
    await bench.service("Type=oneshot\nExecStart=/bin/sh -c 'echo $WORD; exit 3'", WORD="a \x1b[31msecond")
    await bench.runtime.start(name)
    await bench.until(name, lambda state: "last lines: a  [31msecond" in state.message)


@story
async def test_what_cannot_be_loaded_at_all(bench):
    name = await bench.load("[Service]\nType=oneshot\n")
    state = bench.state(name)
    assert state.load == "bad-setting"
    assert "lacks ExecStart=" in state.message or "has no ExecStart=" in state.message


# Types of units


@story
async def test_units_with_install(bench):
    target = await bench.load("[Unit]\n", "group.target")
    text = f"[Service]\n{SLEEP}\n[Install]\nWantedBy=group.target\nAlias=other.service\n"
    name = await bench.load(text)
    assert bench.machine.run("systemctl", "is-enabled", "x.service").strip() == "enabled-runtime"
    await bench.runtime.start(target)
    await bench.until_sub(name, "running")
    assert bench.machine.show("other.service", "Id") == ["x.service"]
    other = await bench.service(SLEEP, name="other.service")
    assert "another name of x.service on this machine, which is kirsch's too" in bench.state(other).message
    await bench.runtime.unload([other])
    await bench.again()
    await bench.load(f"[Service]\n{SLEEP}\n")
    assert bench.machine.run("systemctl", "is-enabled", "x.service", check=False).strip() == "static"
    await bench.load(text)
    await asyncio.gather(*(bench.runtime.stop(each) for each in (name, target)))
    await bench.runtime.unload([name, target])
    folder = bench.machine.root / "run/systemd/system"
    assert [path.name for path in folder.iterdir() if path.name.startswith(("group", "other", "x."))] == []


@story
async def test_sockets(bench):
    path = f"{bench.folder}/s"
    unit = await bench.load(f"[Socket]\nListenStream={path}\nAccept=no\n", "x.socket")
    name = await bench.service("ExecStart=/bin/sh -c 'echo $LISTEN_FDS; exec sleep 1000'")
    state = await bench.runtime.start(unit)
    assert (state.active, state.sub) == ("active", "listening")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        await bench.until_sub(name, "running")
        await bench.until_sub(unit, "running")
    await bench.line(name, "1")
    assert (await bench.runtime.stop(unit)).sub == "dead"


@story
async def test_timers_and_paths(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sh -c 'echo ran'")
    timer = await bench.load("[Timer]\nOnActiveSec=10ms\nAccuracySec=1ms\n", "x.timer")
    assert (await bench.runtime.start(timer)).active == "active"
    await bench.line(name, "ran")
    await bench.until_sub(timer, "elapsed")
    other = await bench.service("Type=oneshot\nExecStart=/bin/rm @FOLDER@/flag", name="y.service")
    path = await bench.load("[Path]\nPathExists=@FOLDER@/flag\n", "y.path")
    assert (await bench.runtime.start(path)).sub == "waiting"
    (bench.folder / "flag").touch()
    await bench.until(other, lambda state: state.since > 0 and state.sub == "dead")
    await bench.poll(lambda: not (bench.folder / "flag").exists())


@story
async def test_mounts_slices_and_automounts(bench):
    where = bench.folder / "m"
    where.mkdir()
    stem = bench.machine.run("systemd-escape", "--path", str(where)).strip()
    mount = await bench.load(f"[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere={where}\n", f"{stem}.mount")
    assert (await bench.runtime.start(mount)).sub == "mounted"
    assert (await bench.runtime.stop(mount)).sub == "dead"
    cut = await bench.load("[Slice]\nMemoryMax=100M\n", "kirschtest.slice")
    assert (await bench.runtime.start(cut)).active == "active"
    name = await bench.service(f"{SLEEP}\nSlice=kirschtest.slice")
    await bench.runtime.start(name)
    assert bench.machine.show("x.service", "Slice") == ["kirschtest.slice"]


@story
async def test_types_that_no_systemd_has_any_more(bench):
    for text in ("x.snapshot", "x.busname", "x.scope"):
        name = UnitName.parse(text)
        warnings = bench.runtime.check(name, UnitFile.parse("[Unit]\n", text))
        assert text in warnings[0]
        await bench.runtime.load([Prepared(name, UnitFile.parse("[Unit]\n", text))])
        assert bench.state(name).load != "loaded"
        assert bench.state(name).message


@story
async def test_a_unit_that_keeps_its_processes_is_stopped_whole(bench):
    marker = f"marker-{bench.folder.name}"
    name = await bench.service(
        "KillMode=process\nExecStart=/bin/sh -c 'sleep 1000 & echo ready; exec sleep 1000'", MARKER=marker
    )
    await bench.runtime.start(name)
    await bench.line(name, "ready")
    await bench.runtime.stop(name)
    assert bench.processes(marker) == []


# Figures

READ = """
import sys
from pathlib import Path
from kirsch.cluster.runtime.base import ProcessGroup
from kirsch.cluster.runtime.usage import UsageReader

root, service, pid = sys.argv[1:]
used = UsageReader(Path(root)).units({service: ProcessGroup(service, int(pid))})[service]
print(used.processes, used.memory, used.cpu)
"""


@story
async def test_a_unit_s_figures_are_its_control_group_s(bench):
    name = await bench.load("[Service]\nExecStart=/bin/sh -c '(sleep 1000 &); sleep 1000 & wait'\n")
    await bench.runtime.start(name)
    group = bench.runtime.groups()[name]
    # Control groups and processes are told as they are in the namespaces of who asks.
    enter = [*bench.machine.prefix[:3], "--cgroup", "--pid"]
    ask = [*enter, sys.executable, "-c", READ, str(bench.machine.root), group.service, str(group.main)]

    def used():
        return [
            float(word)
            for word in subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
        ]

    deadline = time.monotonic() + 30
    while used()[0] != 3:  # the one whose parent has ended is among them
        assert time.monotonic() < deadline, used()
    _, memory, _ = used()
    assert memory > 100_000
