"""Commands beside the processes of systemd's units."""

import asyncio

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.base import Prepared
from kirsch.unit import UnitFile, UnitName

pytestmark = [pytest.mark.machines, pytest.mark.timeout(600)]

SLEEP = "ExecStart=/bin/sleep 1000"


@pytest.fixture
def opener(machine, tmp_path):
    return lambda: Bench.of_systemd(tmp_path, machine)


@pytest.mark.parametrize(
    ("lines", "check"),
    [
        ("DynamicUser=yes", 'test "$(id -u)" = "$(ps -o uid= -C sleep | tr -d " ")"'),
        ("DynamicUser=yes\nStateDirectory=x-state", 'touch "$STATE_DIRECTORY/y"'),
        ("User=nobody", 'test "$(id -un)" = nobody'),
        ("RuntimeDirectory=x-run", 'test "$RUNTIME_DIRECTORY" = /run/x-run -a -d /run/x-run'),
        ("PrivateNetwork=yes", "test $(ls /sys/class/net | wc -l) = 1"),
        ("SystemCallFilter=~@mount", "! mount -t tmpfs none /mnt 2>/dev/null"),
        ("CapabilityBoundingSet=CAP_KILL", "grep -q 'CapBnd:.*0000000000000020' /proc/self/status"),
        ("LimitNOFILE=123", "test $(ulimit -n) = 123"),
        ("UMask=0077", "test $(umask) = 0077"),
        ("ReadOnlyPaths=/var", "! touch /var/x-file 2>/dev/null"),
        ("Environment='A=$B %% \"q\"'", 'test "$A" = "\\$B % \\"q\\""'),
    ],
)
def test_a_command_is_confined_as_the_service(opener, lines, check):
    async def run(bench):
        name = await bench.service(f"{SLEEP}\n{lines}")
        state = await bench.runtime.start(name)
        assert state.active == "active"
        assert await bench.runtime.run(name, ["/bin/sh", "-c", check], 20) == 0
        assert await bench.runtime.run(name, ["/bin/sh", "-c", f"! {{ {check}; }}"], 20) == 1
        # What is a service's own goes on being there.
        assert bench.state(name).active == "active"
        assert await bench.runtime.run(name, ["/bin/sh", "-c", check], 20) == 0

    story(run)(opener)


@story
async def test_nothing_is_left_of_a_command(bench):
    name = await bench.service(SLEEP)
    await bench.runtime.start(name)
    assert await bench.runtime.run(name, ["/bin/sh", "-c", "sleep 9185.5 & sleep 9185.5"], 0.5) == 124
    assert bench.processes("9185.5") == []
    running = asyncio.ensure_future(bench.runtime.run(name, ["/bin/sleep", "9186.5"], 60))
    await bench.poll(lambda: len(bench.processes("9186.5")) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await bench.poll(lambda: bench.processes("9186.5") == [])
    units = bench.machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "kirsch-run-*")
    assert units == ""


@story
async def test_commands_while_systemd_reloads(bench):
    name = await bench.service(SLEEP)
    await bench.runtime.start(name)

    async def reload():
        for _ in range(5):
            await asyncio.to_thread(bench.machine.run, "systemctl", "daemon-reload")

    reloading = asyncio.ensure_future(reload())
    results = await asyncio.gather(
        *(bench.runtime.run(name, ["/bin/sh", "-c", f"exit {number}"], 20) for number in range(30))
    )
    await reloading
    assert results == list(range(30))


@story
async def test_no_command_beside_what_is_no_process(bench):
    name = await bench.load("[Unit]\n", "x.target")
    await bench.runtime.start(name)
    assert await bench.runtime.run(name, ["/bin/true"], 5) == 127
    assert await bench.runtime.run(UnitName.parse("nothing.service"), ["/bin/true"], 5) == 127


@story
async def test_what_a_running_unit_has(bench):
    name = await bench.service(
        f"Type=exec\n{SLEEP}\nUser=nobody\nWorkingDirectory=/usr\nUMask=0027\nLimitNOFILE=100:200",
        KIRSCH_UNIT="x",
        P="a=b",
    )
    assert await bench.runtime.context(name) is None
    await bench.runtime.start(name)
    context = await bench.runtime.context(name)
    assert (context.environment["KIRSCH_UNIT"], context.environment["P"]) == ("x", "a=b")
    assert (context.directory, context.user, context.umask) == ("/usr", "65534", 0o027)
    assert context.limits["NOFILE"] == (100, 200)


@story
async def test_what_a_prepared_unit_would_have(bench):
    text = f"[Service]\n{SLEEP}\nEnvironment=A=1\nWorkingDirectory=/usr\nProtectSystem=strict\n"
    prepared = Prepared(UnitName.parse("x.service"), UnitFile.parse(text, "x.service"), {"KIRSCH_UNIT": "x"})
    context = await bench.runtime.context(prepared)
    assert (context.environment["A"], context.environment["KIRSCH_UNIT"]) == ("1", "x")
    assert context.directory == "/usr"
