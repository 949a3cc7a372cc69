"""A machine whose /run is full: what that costs a unit, and that it costs no other anything."""

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.base import Prepared
from kirsch.unit import UnitFile, UnitName

pytestmark = [pytest.mark.machines, pytest.mark.timeout(600)]

SLEEP = "[Service]\nExecStart=/bin/sleep 1000\n"
LARGE = f"{SLEEP}# {'x' * 100_000}\n"


@pytest.fixture
def opener(machine, tmp_path):
    return lambda: Bench.of_systemd(tmp_path, machine)


@pytest.fixture
def fill(machine):
    """Fills /run up to so many bytes."""
    path = machine.root / "run/filler"

    def fill(left):
        path.unlink(missing_ok=True)
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(file.tell() - left)

    before = machine.run("findmnt", "--noheadings", "--output=OPTIONS", "/run")
    machine.run("mount", "-o", "remount,size=30M", "/run")
    yield fill
    path.unlink(missing_ok=True)
    size = next((o for o in before.strip().split(",") if o.startswith("size=")), "size=50%")
    machine.run("mount", "-o", f"remount,{size}", "/run")


def contents(machine):
    """All of kirsch's files, with what is in them."""
    folders = ("run/systemd/system", "run/containers/systemd", "run/kirsch")
    paths = [path for folder in folders for path in (machine.root / folder).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths}


def test_only_what_does_not_fit_fails_and_nothing_is_half_written(opener, machine, fill):
    async def load(bench):
        running = await bench.load(SLEEP, "running.service")
        pid = (await bench.runtime.start(running)).pid
        changed = await bench.load(SLEEP, "changed.service")
        before = contents(machine)
        fill(80_000)
        names = [
            UnitName.parse(n) for n in ("large.service", "changed.service", "small.service", "q.container")
        ]
        large, small = UnitFile.parse(LARGE), UnitFile.parse("[Service]\nExecStart=/bin/sleep 2000\n")
        quadlet = UnitFile.parse(f"[Container]\nImage=none\n# {'x' * 100_000}\n")
        files = [large, large, small, quadlet]
        await bench.runtime.load([Prepared(n, f) for n, f in zip(names, files, strict=True)])
        for name in (names[0], changed, names[3]):
            state = bench.state(name)
            assert (state.load, state.active) == ("error", "inactive"), name
            assert "No space left on device" in state.message
            assert (await bench.runtime.start(name)).active == "inactive"
        after = contents(machine)
        assert {path for path in after if path not in before} == {
            machine.root / "run/systemd/system/small.service",
            machine.root / "run/systemd/system/small.service.d/50-kirsch.conf",
            machine.root / "run/kirsch/units/small.service.json",
        }
        assert before == {path: after.get(path) for path in before}
        assert (await bench.runtime.start(names[2])).active == "active"
        assert (bench.state(running).active, bench.state(running).pid) == ("active", pid)
        fill(20_000_000)  # systemd itself wants 16 MiB for a reload
        await bench.runtime.load([Prepared(names[0], large), Prepared(changed, large)])
        state = await bench.runtime.start(names[0])
        assert (state.active, state.message) == ("active", "")
        assert (await bench.runtime.start(changed)).active == "active"

    story(load)(opener)


def test_a_reload_that_systemd_refuses_for_want_of_room(opener, machine, fill):
    async def change(bench):
        name = await bench.load(SLEEP)
        pid = (await bench.runtime.start(name)).pid
        fill(1_000_000)
        await bench.load("[Service]\nExecStart=/bin/sleep 2000\n")
        state = bench.state(name)
        assert (state.load, state.active, state.pid) == ("error", "active", pid)
        assert "not enough space available on /run/systemd" in state.message
        fill(20_000_000)
        await bench.load("[Service]\nExecStart=/bin/sleep 2000\n")
        assert (bench.state(name).load, bench.state(name).message) == ("loaded", "")

    story(change)(opener)


def test_a_full_disk_does_not_keep_anything_from_being_stopped(opener, machine, fill):
    async def stop(bench):
        name = await bench.load(SLEEP)
        await bench.runtime.start(name)
        fill(0)
        other = await bench.load("[Service]\nExecStart=/bin/sleep 3000\n", "other.service")
        assert "No space left on device" in bench.state(other).message
        assert (await bench.runtime.stop(name)).active == "inactive"
        await bench.runtime.unload([name, other])
        assert bench.runtime.states() == {}
        assert contents(machine) == {}

    story(stop)(opener)


def test_what_runs_is_taken_up_though_the_disk_is_full(opener, machine, fill):
    async def restart(bench):
        name = await bench.load(SLEEP)
        pid = (await bench.runtime.start(name, "m")).pid
        fill(0)
        await bench.again()
        assert (bench.state(name).pid, bench.state(name).mark) == (pid, "m")

    story(restart)(opener)
