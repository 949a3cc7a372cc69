"""Under load: instances stop, start and change without a lost request; HAProxy and PostgreSQL come back."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.cli.application import descendants

from kirsch.robot.application import Application
from kirsch.robot.http import Load, instances, request, summary

REQUESTS = 5000

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def address(application: Application) -> str:
    return f"{application.address}api/notes"


def kirsch(application: Application, *arguments: str) -> str:
    done = application.kirsch(*arguments, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def change(application: Application, number: int) -> None:
    """Another text of the template: both instances start anew, one after the other."""
    template = application.directory / "units/notes@.container"
    text = template.read_text().replace("Type=notify\n", f"Type=notify\nEnvironment=CHANGE={number}\n")
    template.write_text(text)
    kirsch(application, "up", "-d", str(application.directory))


def test_stop_start_restart_and_change_lose_nothing(application: Application, address: str):
    readers = Load("GET", address, per_second=220, clients=4, seconds=150, requests=20_000)
    writer = Load("POST", address, {"text": "under load"}, per_second=30, clients=2, seconds=150)
    readers.start()
    writer.start()
    number = 0
    try:
        while len(readers.sent) + len(writer.sent) < REQUESTS:
            number += 1
            kirsch(application, "stop", "notes@1")
            kirsch(application, "start", "notes@1")
            kirsch(application, "restart", "notes@2")
            kirsch(application, "restart", "notes@1", "notes@2")
            change(application, number)
    finally:
        readers.stop()
        writer.stop()
    sent = readers.sent + writer.sent
    print(summary(sent), "rounds:", number)
    assert [str(each) for each in sent if each.failed] == []
    assert len(sent) >= REQUESTS
    assert instances(sent).keys() >= {"notes@1", "notes@2"}


def test_haproxy_is_back_within_a_second_with_all_servers(application: Application, address: str):
    balancer = application.unit_lines()["lb.container"]["pid"]
    (haproxy,) = [
        pid for pid in descendants(balancer) if Path(f"/proc/{pid}/comm").read_text() == "haproxy\n"
    ]
    os.kill(haproxy, signal.SIGKILL)
    killed = time.monotonic()
    seen: set[str] = set()
    while seen != {"notes@1", "notes@2"}:
        assert time.monotonic() - killed < 1.0, f"after a second only {seen or 'nobody'} answers"
        try:
            answer = request("GET", address, timeout=1)
        except OSError:
            continue
        if answer.status == 200:
            seen.add(answer.instance)
    print(f"back after {time.monotonic() - killed:.2f} s")


def test_postgresql_restarted_under_load_loses_no_acknowledged_note(application: Application, address: str):
    load = Load("POST", address, {"text": "kept"}, per_second=60, clients=3, seconds=30)
    load.start()
    assert load.wait_for(lambda sent: len(sent) > 60, 20)
    kirsch(application, "restart", "--no-block", "webdb")
    answers = [request("GET", address) for _ in range(200)]
    away_for_readers = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in away_for_readers} == {503}
    assert all(int(answer.headers["retry-after"]) <= 5 for answer in away_for_readers)
    back = len(load.sent)
    assert load.wait_for(lambda sent: sum(not s.failed for s in sent[back:]) > 60, 20)
    load.stop()
    failed = [each for each in load.sent if each.failed]
    print(summary(load.sent), {each.status for each in failed})
    assert {each.status for each in failed} <= {503}
    if failed:
        away = max(each.ended for each in failed) - min(each.begun for each in failed)
        print(f"away for {away:.2f} s")
        assert away <= 5.0
    acknowledged = sum(each.status == 201 for each in load.sent)
    assert count(address, "kept") == acknowledged


def count(address: str, text: str) -> int:
    """How many notes hold a text, page by page."""
    found, url = 0, f"{address}?limit=100&q={text}"
    while url:
        page = request("GET", url).json
        found += len(page["notes"])
        following = page["next"]
        url = following and (
            following if "://" in following else address.removesuffix("/api/notes") + following
        )
    return found
