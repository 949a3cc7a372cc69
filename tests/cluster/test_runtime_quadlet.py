"""Quadlets on a machine of their own, with podman and an image that is made there."""

import asyncio
import re
import time

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.systemd.runtime import SystemdRuntime
from kirsch.unit import UnitError, UnitFile, UnitName

pytestmark = [pytest.mark.machines, pytest.mark.timeout(600)]

IMAGE = "localhost/tiny"
# A few programs with the libraries they need are an image.
_MAKE = f"""
set -e
podman image exists {IMAGE} && exit 0
folder=$(mktemp -d)
for program in /bin/sh /bin/sleep /bin/cat /bin/env /bin/rm; do
    mkdir -p $folder$(dirname $program)
    cp $program $folder$program
    for file in $(ldd $program | grep -o '/[^ ]*'); do
        mkdir -p $folder$(dirname $file)
        cp $file $folder$file
    done
done
mkdir -p $folder/tmp $folder/proc $folder/sys $folder/dev $folder/run $folder/etc
tar -C $folder -c . | podman import --quiet - {IMAGE}
rm -r $folder
"""
# It ends when it is asked to: sleep, as the first process of a container, would not.
WAIT = "trap 'exit 0' TERM; sleep 1000 & wait"
CONTAINER = f"[Container]\nImage={IMAGE}\nPull=never\nNetwork=none\n"


@pytest.fixture
def opener(machine, tmp_path):
    machine.run("sh", "-c", _MAKE)
    return lambda: Bench.of_systemd(tmp_path, machine)


@story
async def test_a_container_is_started_stopped_and_forgotten(bench):
    text = f'{CONTAINER}Environment=A=theirs\nExec=sh -c "echo $A $SECRET; {WAIT}"\n'
    name = await bench.load(text, "x.container", A="ours", SECRET='a "quoted" $x \\ %n')
    assert (bench.machine.root / "run/containers/systemd/x.container").read_text() == text
    state = bench.state(name)
    assert (state.load, state.active) == ("loaded", "inactive")
    state = await bench.runtime.start(name, "m")
    assert (state.active, state.sub, state.mark) == ("active", "running", "m")
    assert await bench.line(name, "ours") == 'ours a "quoted" $x \\ %n'
    assert "quoted" not in bench.machine.run("systemctl", "cat", "x.service")
    (pid,) = bench.machine.show("x.service", "MainPID")
    for process in (bench.machine.root / "proc").glob("[0-9]*/cmdline"):
        try:
            assert b"quoted" not in process.read_bytes()
        except OSError:
            continue  # it has ended
    bench.seen.clear()
    await bench.again()
    assert (bench.state(name).active, bench.state(name).mark) == ("active", "m")
    assert bench.machine.show("x.service", "MainPID") == [pid]
    assert bench.seen == {}
    state = await bench.runtime.stop(name)
    assert (state.active, state.result) == ("inactive", "success")
    assert bench.machine.run("podman", "ps", "--all", "--quiet") == ""
    await bench.runtime.unload([name])
    assert bench.machine.show("x.service", "LoadState") == ["not-found"]
    assert list((bench.machine.root / "run/containers/systemd").iterdir()) == []


@story
async def test_secrets_that_are_credentials_are_in_a_container(bench):
    name = UnitName.parse("x.container")
    file = UnitFile.parse(f'{CONTAINER}Exec=sh -c "cat /run/secrets/password; echo; {WAIT}"\n')
    await bench.runtime.load([Prepared(name, file, {}, {"password": "it's secret"})])
    state = await bench.runtime.start(name)
    assert (state.active, state.message) == ("active", "")
    await bench.line(name, "it's secret")
    assert (await bench.runtime.stop(name)).active == "inactive"


@story
async def test_a_command_runs_in_a_container(bench):
    name = await bench.load(f'{CONTAINER}Exec=sh -c "{WAIT}"\n', "x.container", KIRSCH_UNIT="x")
    await bench.runtime.start(name)
    check = ["/bin/sh", "-c", 'test "$KIRSCH_UNIT" = x']
    assert await bench.runtime.run(name, check, 20) == 0
    assert await bench.runtime.run(name, ["/bin/sh", "-c", "exit 7"], 20) == 7
    assert await bench.runtime.run(name, ["/no/such/program"], 20) == 127
    marker = "9183.25"
    assert await bench.runtime.run(name, ["/bin/sleep", marker], 2) == 124
    assert bench.processes(marker) == []
    context = await bench.runtime.context(name)
    assert context.environment["KIRSCH_UNIT"] == "x"
    assert (await bench.runtime.stop(name)).active == "inactive"
    assert await bench.runtime.run(name, check, 20) == 127


@story
async def test_instances_of_a_template_and_what_they_name(bench):
    units = {
        "data.volume": "[Volume]\n",
        "lan.network": "[Network]\nDisableDNS=true\n",
        "x@1.container": f"[Container]\nImage={IMAGE}\nPull=never\nNetwork=lan.network\n"
        f'Volume=data.volume:/data\nExec=sh -c "echo %i >/data/who; {WAIT}"\n',
    }
    prepared = [Prepared(UnitName.parse(n), UnitFile.parse(t, n)) for n, t in units.items()]
    await bench.runtime.load(prepared)
    names = {unit.name.text: unit.name for unit in prepared}
    assert {bench.state(name).load for name in names.values()} == {"loaded"}
    state = await bench.runtime.start(names["x@1.container"])
    assert (state.active, state.message) == ("active", "")
    await bench.until_sub(names["data.volume"], "exited")
    await bench.until_sub(names["lan.network"], "exited")
    who = "podman volume inspect --format '{{.Mountpoint}}' systemd-data"
    await bench.poll(lambda: bench.machine.run("sh", "-c", f"cat $({who})/who", check=False).strip() == "1")
    for name in ("x@1.container", "data.volume", "lan.network"):
        assert (await bench.runtime.stop(names[name])).active == "inactive"
    bench.machine.run("podman", "volume", "rm", "systemd-data")
    bench.machine.run("podman", "network", "rm", "systemd-lan")


@story
async def test_what_a_quadlet_names_goes_and_comes_back(bench):
    network = Prepared(
        UnitName.parse("lan.network"), UnitFile.parse("[Network]\nDisableDNS=true\n", "lan.network")
    )
    text = f"[Container]\nImage={IMAGE}\nPull=never\nNetwork=lan.network\nExec=sleep 1\n"
    unit = Prepared(UnitName.parse("x.container"), UnitFile.parse(text, "x.container"))
    await bench.runtime.load([unit, network])
    assert bench.state(unit.name).load == "loaded"
    await bench.runtime.unload([network.name])
    state = bench.state(unit.name)
    assert state.load == "not-found"
    assert state.message.startswith("Quadlet: ")
    assert "lan.network" in state.message
    await bench.runtime.load([network])
    assert (bench.state(unit.name).load, bench.state(unit.name).message) == ("loaded", "")


@story
async def test_pods_and_builds(bench):
    (bench.folder / "Containerfile").write_text(f"FROM {IMAGE}\nENV BUILT=yes\n")
    built = "b.build"
    units = {
        "p.pod": "[Pod]\nPodmanArgs=--network=none\n",
        built: f"[Build]\nImageTag=localhost/built\nSetWorkingDirectory={bench.folder}\nNetwork=none\n",
        "x.container": f'[Container]\nImage={built}\nPod=p.pod\nExec=sh -c "echo built $$BUILT; {WAIT}"\n',
    }
    prepared = [Prepared(UnitName.parse(n), UnitFile.parse(t, n)) for n, t in units.items()]
    await bench.runtime.load(prepared)
    pod, build, name = (unit.name for unit in prepared)
    assert {bench.state(each).load for each in (pod, build, name)} == {"loaded"}
    state = await bench.runtime.start(name)
    assert (state.active, state.message) == ("active", "")
    await bench.until_sub(pod, "running")
    await bench.line(name, "built yes")
    assert bench.machine.run("podman", "pod", "ps", "--format={{.Name}}").split() == ["systemd-p"]
    await bench.runtime.stop(name)
    assert (await bench.runtime.stop(pod)).active == "inactive"
    await bench.runtime.stop(build)
    bench.machine.run("podman", "image", "rm", "localhost/built")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.container", "[Container]\nExec=sleep 1\n", "no Image or Rootfs key specified"),
        ("x.container", f"{CONTAINER}Colour=blue\n", "unsupported key 'Colour'"),
        ("x.container", f"{CONTAINER}Network=none.network\n", "none.network"),
        ("x.network", "[Network]\nSubnet=1\nGateway=2\nGateway=3\n", "cannot set more gateways than subnets"),
        ("x.kube", "[Kube]\n", "no Yaml key specified"),
    ],
)
def test_what_quadlet_refuses_is_told_in_its_words(opener, name, text, words):
    async def refuse(bench):
        before = await bench.load(f"{CONTAINER}Exec=sleep 1000\n", "good.container")
        unit = await bench.load(text, name)
        state = bench.state(unit)
        assert (state.load, state.active) == ("bad-setting", "inactive")
        assert state.message.startswith("Quadlet: ")
        assert words in state.message
        assert "/run/" not in state.message
        assert (await bench.runtime.start(unit)).active == "inactive"
        assert bench.state(before).load == "loaded"
        assert not (bench.machine.root / "run/containers/systemd" / name).exists()
        # Mended, it is there.
        await bench.load(f"{CONTAINER}Exec=sleep 1000\n", "x.container")
        assert bench.state(UnitName.parse("x.container")).load == "loaded"

    story(refuse)(opener)


@story
async def test_what_is_submitted_is_checked(bench):
    name = UnitName.parse("x.container")
    with pytest.raises(UnitError, match="no Image or Rootfs"):
        bench.runtime.check(name, UnitFile.parse("[Container]\nExec=sleep 1\n", "x.container"))
    text = f"{CONTAINER}Network=there.network\nVolume=data.volume:/data\nPod=p.pod\n"
    text = re.sub("Network=none\n", "", text)
    assert bench.runtime.check(name, UnitFile.parse(text, "x.container")) == []


@story
async def test_much_that_is_submitted_is_not_waited_for(bench):
    refused, warned = 0, []
    began = time.monotonic()
    for number in range(2000):
        name = UnitName.parse(f"x{number}.container")
        try:
            warned += bench.runtime.check(name, UnitFile.parse(f"[Container]\nExec={number}\n", name.text))
        except UnitError:
            refused += 1
    assert time.monotonic() - began < 10
    assert refused > 0
    assert "much to check" in warned[0]
    # What is known is known.
    with pytest.raises(UnitError, match="no Image or Rootfs"):
        bench.runtime.check(
            UnitName.parse("y.container"), UnitFile.parse("[Container]\nExec=0\n", "y.container")
        )


@story
async def test_a_container_that_cannot_start_says_why(bench):
    name = await bench.load("[Container]\nImage=localhost/none\nPull=never\n", "x.container")
    await bench.runtime.start(name)
    await bench.until(name, lambda state: "localhost/none" in state.message and state.active == "failed")


@story
async def test_a_pod_that_cannot_start_says_why(bench):
    units = {
        "p.pod": "[Pod]\nPodmanArgs=--network=none --colour=blue\n",
        "x.container": f"[Container]\nImage={IMAGE}\nPull=never\nPod=p.pod\nExec=sleep 1\n",
    }
    await bench.runtime.load([Prepared(UnitName.parse(n), UnitFile.parse(t, n)) for n, t in units.items()])
    pod, name = (UnitName.parse(n) for n in units)
    assert "p-pod.service could not be" in (await bench.runtime.start(name)).message
    await bench.until(
        pod, lambda state: "unknown flag: --colour" in state.message and state.active == "failed"
    )


@story
async def test_a_container_that_dies_is_seen(bench):
    name = await bench.load(f"{CONTAINER}Exec=sh -c 'echo bye; sleep 0.2; exit 3'\n", "x.container")
    await bench.runtime.start(name)
    state = await bench.until(name, lambda state: state.active == "failed" and "bye" in state.message)
    assert state.result == "exit-code"
    assert "3" in state.message


@story
async def test_a_container_is_killed(bench):
    name = await bench.load(f"{CONTAINER}Exec=sleep 9184.5\n", "x.container")
    await bench.runtime.start(name)
    await bench.poll(lambda: len(bench.processes("9184.5")) > 0)
    await bench.runtime.kill(name)
    await bench.until(name, lambda state: state.active in ("failed", "inactive"))
    assert [pid for pid in bench.processes("9184.5") if _lives(bench, pid)] == []


def _lives(bench, pid):
    try:
        return "Z" not in (bench.machine.root / f"proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.fixture
def theirs(machine):
    """A Quadlet of somebody else's."""
    path = machine.root / "etc/containers/systemd/etc.container"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONTAINER)
    other = machine.root / "run/containers/systemd/unread.container"
    other.parent.mkdir(parents=True, exist_ok=True)
    machine.run("systemctl", "daemon-reload")
    other.write_text("[Container]\n")
    yield [path, other]
    path.unlink()
    other.unlink()
    machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("text", ["etc.container", "unread.container"])
def test_a_quadlet_of_anothers_is_never_touched(opener, theirs, text):
    async def touch(bench):
        before = [path.read_bytes() for path in theirs]
        name = await bench.load(f"{CONTAINER}Exec=sleep 1000\n", text)
        state = bench.state(name)
        assert state.load == "error"
        assert "not kirsch's" in state.message
        await bench.runtime.start(name)
        await bench.runtime.unload([name])
        assert [path.read_bytes() for path in theirs] == before

    story(touch)(opener)


# Quadlet before podman 5: it reads no drop-ins, and says so little else.
_OLD = """#!/bin/sh
case " $* " in *" -version "*) echo 4.9.3; exit;; esac
new=
for folder in $(echo "${QUADLET_UNIT_DIRS:-/run/containers/systemd}" | tr : ' '); do
    copy=$(mktemp -d)
    find "$folder" -maxdepth 1 -type f -exec cp {} "$copy" ';'
    new="$new${new:+:}$copy"
done
QUADLET_UNIT_DIRS=$new exec /usr/libexec/podman/quadlet.new "$@"
"""


@pytest.fixture
def old(machine):
    """A machine with a Quadlet of before podman 5."""
    path = machine.root / "usr/libexec/podman/quadlet"
    path.rename(path.with_suffix(".new"))
    path.write_text(_OLD)
    path.chmod(0o755)
    yield
    path.with_suffix(".new").rename(path)


def test_a_quadlet_that_reads_no_drop_ins(opener, machine, old):
    async def play(bench):
        runs = await SystemdRuntime.capabilities(machine.root, machine.prefix)
        assert "image" in runs
        assert not {"pod", "build"} & set(runs)
        text = f'{CONTAINER}Exec=sh -c "env; cat /run/secrets/p; echo; {WAIT}"'
        file = UnitFile.parse(text, "x.container")
        name = UnitName.parse("x.container")
        await bench.runtime.load([Prepared(name, file, {"KIRSCH_UNIT": "it"}, {"p": "credential"})])
        assert bench.state(name).hash == file.hash
        state = await bench.runtime.start(name)
        assert (state.active, state.message) == ("active", "")
        await bench.line(name, "KIRSCH_UNIT=it")
        await bench.line(name, "credential")
        await bench.again()
        assert bench.state(name).hash == file.hash
        assert bench.state(name).active == "active"
        bad = await bench.load(f"{CONTAINER}Colour=blue\n", "y.container")
        assert "Colour" in bench.state(bad).message
        assert (await bench.runtime.stop(name)).active == "inactive"

    story(play)(opener)


@story
async def test_two_units_that_are_one_service(bench):
    service = await bench.load("[Service]\nExecStart=/bin/sleep 1000\n", "x.service")
    container = await bench.load(f"{CONTAINER}Exec=sleep 1000\n", "x.container")
    assert bench.state(service).load == "loaded"
    assert bench.state(container).load == "error"
    assert "x.service" in bench.state(container).message


@story
async def test_what_the_machine_can_run(bench):
    runs = await SystemdRuntime.capabilities(bench.machine.root, bench.machine.prefix)
    assert {"service", "socket", "timer", "container", "pod", "network", "volume", "image", "build"} <= set(
        runs
    )
    assert not {"snapshot", "busname", "scope"} & set(runs)
    bare = await SystemdRuntime.capabilities(bench.folder)
    assert "service" in bare
    assert "container" not in bare


@story
async def test_containers_side_by_side(bench):
    names = [UnitName.parse(f"c@{number}.container") for number in range(4)]
    file = UnitFile.parse(f'{CONTAINER}Exec=sh -c "{WAIT}"\n')
    await bench.runtime.load([Prepared(name, file) for name in names])
    states = await asyncio.gather(*(bench.runtime.start(name) for name in names))
    assert {(state.active, state.message) for state in states} == {("active", "")}
    states = await asyncio.gather(*(bench.runtime.stop(name) for name in names))
    assert {state.active for state in states} == {"inactive"}
