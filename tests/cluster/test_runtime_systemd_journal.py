"""The journal of a machine with systemd, as kirsch shows it."""

import asyncio
import json
import os

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.systemd.journal import Names, SystemdJournal, message, parse


@pytest.fixture
def opener(machine, tmp_path):
    return lambda: Bench.of_systemd(tmp_path, machine)


def entry(**fields):
    return json.dumps({"__REALTIME_TIMESTAMP": "1500000", **fields}).encode()


SERVICES = {"x.service": "x.container", "y.service": "y.service"}


@pytest.mark.parametrize(
    ("fields", "stream"),
    [
        ({"_SYSTEMD_UNIT": "x.service", "MESSAGE": "a", "PRIORITY": "6"}, "out"),
        ({"_SYSTEMD_UNIT": "x.service", "MESSAGE": "a", "PRIORITY": "3"}, "err"),
        ({"_SYSTEMD_UNIT": "init.scope", "UNIT": "x.service", "MESSAGE": "a"}, "kirsch"),
        ({"_SYSTEMD_UNIT": "x.service", "MESSAGE": "a", "PODMAN_EVENT": "died"}, "kirsch"),
        ({"_SYSTEMD_UNIT": ["x.service", "z.service"], "MESSAGE": "a"}, "out"),
    ],
)
def test_streams(fields, stream):
    (record,) = parse(entry(**fields), SERVICES)
    assert (record.unit, record.time, record.stream, record.text) == ("x.container", 1.5, stream, "a")


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'"x"', b"{}", entry(_SYSTEMD_UNIT="z.service", MESSAGE="a"), entry()]
)
def test_what_is_no_record(line):
    assert parse(line, SERVICES) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n", "a"),
        (None, "(a message too long to be shown)"),
        ([104, 105, 255, 10], "hi�"),
        (["a", [98]], "a\nb"),
    ],
)
def test_messages(value, text):
    assert message(value) == text


def test_units_of_the_machines_own_are_not_read(tmp_path):
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for name in ("kirschd.service", "getty@.service"):
        (folder / name).touch()
    names = Names(tmp_path)
    assert names.services(["kirschd.service", "getty@tty1.service", "mine.service", "mine@1.service"]) == {
        "mine.service": "mine.service",
        "mine@1.service": "mine@1.service",
    }


@pytest.mark.machines
@pytest.mark.timeout(600)
@story
async def test_tail_and_follow(bench):
    script = 'echo one; echo two >&2; printf "\\\\377 three\\\\n"; while read x; do echo $x; done'
    name = await bench.service(f"ExecStart=/bin/sh -c '{script}'\nStandardInput=file:@FOLDER@/in")
    os.mkfifo(bench.folder / "in")
    starting = asyncio.ensure_future(bench.runtime.start(name))
    writer = await asyncio.to_thread((bench.folder / "in").open, "w")
    await starting
    await bench.line(name, "three")
    assert bench.lines(name) == ["one", "two", "� three"]
    assert any("Started" in text for text in bench.lines(name, "kirsch"))
    seen = []

    async def follow():
        async for record in bench.journal.follow(["x.service"], 1):
            seen.append(record.text)
            if record.text == "five":
                return

    following = asyncio.ensure_future(follow())
    await bench.poll(lambda: bool(seen))
    for text in ("four", "five"):
        writer.write(f"{text}\n")
        writer.flush()
    async with asyncio.timeout(20):
        await following
    assert seen[-3:] == ["� three", "four", "five"]
    assert bench.journal.tail("x.service", 0) == []
    assert [record.text for record in bench.journal.tail("x.service", 2)] == ["four", "five"]
    assert bench.journal.tail("nothing.service", 10) == []
    assert bench.journal.tail("no name", 10) == []
    writer.close()


@pytest.mark.machines
@pytest.mark.timeout(600)
@story
async def test_followers_of_all_and_the_end_of_them(bench):
    journal = SystemdJournal(bench.machine.root, bench.machine.prefix)
    seen = []

    async def follow():
        async for record in journal.follow(None, 0):
            seen.append((record.unit, record.text))

    following = asyncio.ensure_future(follow())
    for number in range(2):
        name = await bench.service(
            f"Type=oneshot\nExecStart=/bin/sh -c 'echo here {number}'", name=f"u@{number}.service"
        )
        await bench.poll(lambda: bool(bench.processes("--follow")))
        await bench.runtime.start(name)
        await bench.poll(lambda n=number: (f"u@{n}.service", f"here {n}") in seen)
    assert {unit for unit, _ in seen} == {"u@0.service", "u@1.service"}
    journal.close()
    async with asyncio.timeout(20):
        await following
    await bench.poll(lambda: bench.processes("--follow") == [])
    assert [record async for record in journal.follow(None, 10)] == []
