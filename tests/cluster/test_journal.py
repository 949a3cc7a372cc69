"""The journal: appending, rotating, reading back, following, and what goes wrong with disks."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.runtime import journal as module
from kirsch.cluster.runtime.journal import Journal, Record, file_name

DEADLINE = 20  # seconds


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def texts(records: list[Record]) -> list[str]:
    return [record.text for record in records]


def test_what_is_appended_is_read_back(journal):
    journal.append("a.service", "out", "one", 1.5)
    journal.append("a.service", "err", "", 2.25)
    journal.append("b.service", "kirsch", "other", 3)
    journal.append("a.service", "kirsch", "Started a.service.", 4)
    assert journal.tail("a.service", 10) == [
        Record("a.service", 1.5, "out", "one"),
        Record("a.service", 2.25, "err", ""),
        Record("a.service", 4, "kirsch", "Started a.service."),
    ]
    assert texts(journal.tail("a.service", 1)) == ["Started a.service."]
    assert journal.tail("a.service", 0) == journal.tail("c.service", 10) == []


def test_another_journal_goes_on_where_one_ended(tmp_path):
    for number in range(3):
        journal = Journal(tmp_path)
        journal.append("a", "out", str(number), number)
        journal.close()
    assert texts(Journal(tmp_path).tail("a", 10)) == ["0", "1", "2"]


def test_line_breaks_part_records(journal):
    journal.append("a", "out", "one\ntwo\r\n\x85\u2028three", 1)
    assert texts(journal.tail("a", 10)) == ["one", "two\r", "\x85\u2028three"]


def test_files_are_for_their_owner(journal):
    previous = os.umask(0)
    try:
        journal.append("a", "out", "x", 1)
    finally:
        os.umask(previous)
    assert journal.directory.stat().st_mode & 0o777 == 0o700
    [file] = journal.directory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_unit_has_two_files_at_most(tmp_path):
    journal = Journal(tmp_path, max_file=1000)
    for number in range(1000):
        journal.append("a", "out", f"line {number}", number)
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = texts(Journal(tmp_path).tail("a", 1000))
    assert kept == [f"line {number}" for number in range(1000 - len(kept), 1000)]
    assert len(kept) > 30


def test_a_line_longer_than_a_file(tmp_path):
    journal = Journal(tmp_path, max_file=1000)
    for text in ("before", "x" * 5000, "after"):
        journal.append("a", "out", text, 1)
    assert texts(journal.tail("a", 10))[-2:] == ["x" * 5000, "after"]


def test_a_long_tail_over_many_blocks(journal):
    expected = [f"{number} " + "é" * (number % 700) for number in range(3000)]
    for text in expected:
        journal.append("a", "out", text, 1)
    assert texts(journal.tail("a", 3000)) == expected
    assert texts(journal.tail("a", 1234)) == expected[-1234:]


@pytest.mark.parametrize(
    "torn", [b"17", b"1732434632.123456", b"1732434632.123456 ou", b"\xff\x00", b"nonsense x y"]
)
def test_a_torn_last_line_is_passed_over(tmp_path, torn):
    journal = Journal(tmp_path)
    journal.append("a", "out", "whole", 1)
    journal.close()
    with (tmp_path / "a.log").open("ab") as file:
        file.write(torn)
    journal = Journal(tmp_path)
    assert texts(journal.tail("a", 10)) == ["whole"]
    journal.append("a", "out", "next", 2)
    assert texts(journal.tail("a", 10)) == ["whole", "next"]


def test_after_kill_9_all_that_was_appended_is_there(tmp_path):
    code = f"""
        from pathlib import Path
        from kirsch.cluster.runtime.journal import Journal
        journal = Journal(Path({str(tmp_path)!r}))
        number = 0
        while True:
            journal.append("a", "out", "line %d" % number, number)
            print(number, flush=True)
            number += 1
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    with writer:
        for _ in islice(writer.stdout, 200):
            pass
        writer.send_signal(signal.SIGKILL)
        last = [199, *map(int, writer.stdout.read().split("\n")[:-1])][-1]
    kept = texts(Journal(tmp_path).tail("a", 1_000_000))
    assert kept == [f"line {number}" for number in range(len(kept))]
    assert len(kept) > last


def test_a_full_disk_drops_lines_with_one_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    journal = Journal(tmp_path)
    (tmp_path / "a.log").symlink_to("/dev/full")
    for _ in range(5):
        journal.append("a", "out", "lost", 1)
    journal.append("b", "out", "kept", 1)
    [warning] = caplog.messages
    assert "No space left on device" in warning
    assert texts(journal.tail("b", 10)) == ["kept"]


def fill(path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


@pytest.mark.root
def test_a_disk_that_is_full_for_a_while(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(mount)], check=False)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        journal = Journal(mount)
        filler = mount / "filler"
        journal.append("a", "out", "before", 1)
        fill(filler)
        for number in range(2000):
            journal.append("a", "out", f"lost {number}", 2)
        filler.unlink()
        journal.append("a", "out", "after", 3)
        journal.append("a", "out", "and on", 4)
        kept = texts(journal.tail("a", 10_000))
        assert kept[0] == "before"
        assert kept[-2:] == ["after", "and on"]
        assert len(kept) < 1000
        assert len(caplog.messages) == 2
        assert "lines were dropped" in caplog.messages[1]
        journal.close()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_folder_that_is_gone(tmp_path, caplog):
    journal = Journal(tmp_path / "journal")
    (tmp_path / "journal").rmdir()
    journal.append("a", "out", "lost", 1)
    (tmp_path / "journal").mkdir()
    journal.append("a", "out", "kept", 1)
    assert texts(journal.tail("a", 10)) == ["kept"]


@pytest.mark.parametrize(
    "unit",
    [
        "notes@1.container",
        "a%b.service",
        "a\\x2fb@c\\x20d.service",
        "../../etc/passwd",
        "x" * 256 + ".service",
    ],
)
def test_odd_names_have_safe_files(tmp_path, unit):
    journal = Journal(tmp_path)
    journal.append(unit, "out", "x", 1)
    assert texts(journal.tail(unit, 1)) == ["x"]
    assert len(list(tmp_path.iterdir())) == 1


@given(st.text(min_size=1), st.text(min_size=1))
def test_file_names(one, two):
    assert (file_name(one) == file_name(two)) == (one == two)
    assert "/" not in file_name(one)
    assert len(file_name(one)) < 240


@given(
    st.floats(0, 1e11),
    st.sampled_from(module.STREAMS),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
)
def test_a_record_is_read_back(time, stream, text):
    record = Record("a", time, stream, text)
    found = Record.parse("a", bytes(record).removesuffix(b"\n"))
    assert found is not None
    assert (found.stream, found.text) == (stream, text)
    assert abs(found.time - time) < 1e-4


@given(st.binary())
def test_any_bytes_are_a_record_or_none(line):
    record = Record.parse("a", line.replace(b"\n", b""))
    assert record is None or record.stream in module.STREAMS


def run(scenario) -> None:
    async def bounded():
        async with asyncio.timeout(DEADLINE):
            await scenario

    asyncio.run(bounded())


async def take(follower, count: int) -> list[str]:
    return [(await anext(follower)).text for _ in range(count)]


def test_follow_gives_the_last_lines_then_new_ones(journal):
    async def scenario():
        for number in range(5):
            journal.append("a", "out", f"a{number}", number)
            journal.append("b", "out", f"b{number}", number + 0.5)
            journal.append("c", "out", f"c{number}", number + 0.7)
        both = journal.follow(["a", "b"], 3)
        everything = journal.follow(None, 2)
        assert await take(both, 3) == ["b3", "a4", "b4"]
        assert await take(everything, 2) == ["b4", "c4"]
        journal.append("c", "out", "new c", 9)
        journal.append("d", "out", "new d", 9)
        journal.append("a", "out", "new a", 9)
        assert await take(both, 1) == ["new a"]
        assert await take(everything, 3) == ["new c", "new d", "new a"]
        await both.aclose()
        await everything.aclose()

    run(scenario())


def test_a_new_journal_follows_what_an_old_one_wrote(tmp_path):
    journal = Journal(tmp_path)
    journal.append("notes@1.container", "out", "old", 1)
    journal.close()

    async def scenario():
        follower = Journal(tmp_path).follow(None, 5)
        record = await anext(follower)
        assert (record.unit, record.text) == ("notes@1.container", "old")
        await follower.aclose()

    run(scenario())


def test_between_last_and_new_lines_none_is_missing(journal):
    """Threads write while followers join."""

    async def scenario():
        stop = threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                journal.append("a", "out", str(number), 1)
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(5):
                follower = journal.follow(["a"], 20)
                numbers = [int(text) for text in await take(follower, 60)]
                assert numbers == list(range(numbers[0], numbers[0] + 60))
                await follower.aclose()
        finally:
            stop.set()
            writer.join()

    run(scenario())


def test_a_slow_reader_is_told_what_it_lost(journal):
    async def scenario():
        journal.append("a", "out", "first", 1)
        follower = journal.follow(["a"], 1)
        assert await take(follower, 1) == ["first"]
        for number in range(module.MAX_QUEUE // 2 + 123):
            journal.append("a", "out", str(number), 1)
        assert (await take(follower, module.MAX_QUEUE // 2))[-1] == str(module.MAX_QUEUE // 2 - 1)
        told = await anext(follower)
        assert (told.unit, told.stream) == ("a", "kirsch")
        assert told.text == "123 lines were dropped: they were read too slowly"
        journal.append("a", "out", "on", 1)
        assert await take(follower, 1) == ["on"]
        await follower.aclose()

    run(scenario())


def test_units_that_flood_cost_a_quiet_one_no_line(journal):
    async def scenario():
        journal.append("a", "out", "first", 1)
        follower = journal.follow(lines=1)
        assert await take(follower, 1) == ["first"]
        for _ in range(module.MAX_QUEUE + 1):
            journal.append("a", "out", "flood", 1)
            journal.append("b", "out", "flood", 1)
        journal.append("quiet", "err", "cannot read settings.ini", 1)
        while (record := await anext(follower)).unit != "quiet":
            assert record.text == "flood"
        assert {(await anext(follower)).unit for _ in "ab"} == {"a", "b"}
        await follower.aclose()

    run(scenario())


def test_closing_ends_followers(journal):
    async def scenario():
        follower = journal.follow(["a"], 5)
        journal.append("a", "out", "last", 1)
        assert await take(follower, 1) == ["last"]
        waiting = asyncio.ensure_future(anext(follower, None))
        await asyncio.sleep(0)
        journal.close()
        assert await waiting is None
        assert [record.text async for record in journal.follow(["a"], 5)] == ["last"]
        journal.append("a", "out", "too late", 1)
        assert texts(journal.tail("a", 5)) == ["last"]

    run(scenario())


@pytest.mark.parametrize("joined", [True, False])
def test_a_follower_that_goes_is_forgotten(journal, joined):
    journal.append("a", "out", "x", 1)

    async def scenario():
        follower = journal.follow(["a"], 1)
        if joined:
            await anext(follower)
        reading = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    run(scenario())
    assert not journal._followers
