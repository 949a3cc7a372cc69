"""images/postgres-ha: three members under Patroni with a real etcd, and what was acknowledged meanwhile."""

import json
import random
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.cluster.etcd_server import needs_etcd
from tests.deadline import eventually
from tests.sql.patroni_members import (
    PASSWORD,
    PATIENCE,
    SERVE,
    Member,
    Trio,
    Writer,
    confined_etcd,
    image_program,
)

UNIT = {
    "KIRSCH_UNIT": "webdb@2.container",
    "KIRSCH_ADDRESS": "0.0.0.0",
    "POSTGRES_PASSWORD": PASSWORD,
    "POSTGRES_REPLICATION_PASSWORD": "among members",
}
ACCOUNT = {
    "hosts": ["10.0.0.1:2379", "10.0.0.2:2379"],
    "username": "webdb",
    "password": "p",
    "authority": "A",
    "certificate": "C",
    "key": "K",
}


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    return image_program("serve")


class TestConfiguration:
    def test_a_member_is_called_after_its_unit(self, serve: ModuleType):
        made = serve.configuration(UNIT, "10.210.0.7")
        assert (made["scope"], made["name"], made["namespace"]) == ("webdb", "webdb-2", "/postgres")
        assert made["restapi"]["connect_address"] == "10.210.0.7:8008"
        assert made["postgresql"]["listen"] == "0.0.0.0:5432"

    @pytest.mark.parametrize(
        ("asked", "mode"), [("", True), ("on", True), ("off", False), ("quorum", "quorum")]
    )
    def test_replication_is_synchronous_as_asked(self, serve: ModuleType, asked: str, mode: object):
        made = serve.configuration(UNIT | {"POSTGRES_SYNC": asked}, "10.0.0.1")
        assert made["bootstrap"]["dcs"]["synchronous_mode"] == mode

    def test_every_member_has_the_same_passwords_and_each_is_for_one_purpose(self, serve: ModuleType):
        one = serve.configuration(UNIT, "10.0.0.1")
        other = serve.configuration(UNIT | {"KIRSCH_UNIT": "webdb@3.container"}, "10.0.0.2")
        logins = one["postgresql"]["authentication"]
        assert logins == other["postgresql"]["authentication"]
        assert one["restapi"]["authentication"] == other["restapi"]["authentication"]
        rotated = serve.configuration(UNIT | {"POSTGRES_PASSWORD": "another"}, "10.0.0.1")
        assert rotated == one, "the owner's password may change while members run"
        words = [each["password"] for each in logins.values()] + [
            one["restapi"]["authentication"]["password"]
        ]
        assert len(set(words)) == len(words)

    def test_nobody_comes_in_without_a_password(self, serve: ModuleType):
        rules = serve.configuration(UNIT, "10.0.0.1")["postgresql"]["pg_hba"]
        assert {rule.split()[-1] for rule in rules} == {"scram-sha-256"}

    def test_a_password_may_stand_in_a_file(self, serve: ModuleType, tmp_path: Path):
        file = tmp_path / "word"
        file.write_text("w\n")
        there = {key: value for key, value in UNIT.items() if key != "POSTGRES_PASSWORD"}
        assert serve.given(there | {"POSTGRES_PASSWORD_FILE": str(file)}, "POSTGRES_PASSWORD") == "w"
        serve.configuration(there | {"POSTGRES_PASSWORD_FILE": str(file)}, "10.0.0.1")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"POSTGRES_PASSWORD": ""}, "set POSTGRES_PASSWORD"),
            ({"POSTGRES_REPLICATION_PASSWORD": ""}, "set POSTGRES_REPLICATION_PASSWORD"),
            ({"POSTGRES_USER": "patroni"}, "POSTGRES_USER: patroni, replicator, rewind are members' own"),
            ({"POSTGRES_SYNC": "yes"}, "POSTGRES_SYNC=yes: write on, off or quorum"),
            ({"POSTGRES_CLUSTER": "a/b"}, "POSTGRES_CLUSTER=a/b: letters"),
            ({"POSTGRES_PASSWORD_FILE": "/w"}, "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set"),
        ],
    )
    def test_what_is_wrong_is_a_line(self, serve: ModuleType, change: dict[str, str], message: str):
        with pytest.raises(serve.SettingsError, match=message):
            serve.configuration(UNIT | change, "10.0.0.1")

    def test_the_account_in_etcd_is_one_secret(self, serve: ModuleType, tmp_path: Path):
        account = serve.store({"POSTGRES_ETCD": json.dumps(ACCOUNT)})
        settings, files = serve.connected(account, tmp_path / "patroni.json")
        assert (settings["hosts"], settings["username"], settings["password"]) == (
            ACCOUNT["hosts"],
            "webdb",
            "p",
        )
        assert {files[Path(settings[name])] for name in ("cacert", "cert", "key")} == {"A", "C", "K"}
        assert serve.store({"PATRONI_ETCD3_HOSTS": "h:1"}) == {}, "Patroni reads its own variables"
        for wrong in ("x", "[]", json.dumps({"hosts": []})):
            with pytest.raises(serve.SettingsError, match="is not what `kirsch db account` makes"):
                serve.store({"POSTGRES_ETCD": wrong})

    def test_without_an_etcd_nothing_is_begun(self, tmp_path: Path):
        done = subprocess.run(
            [SERVE],
            env={"PATH": "/usr/bin:/bin", "POSTGRES_PASSWORD": "w", "PGDATA": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(
            "postgres: no etcd is named: give it the secret that `kirsch db account` makes"
        )
        assert not list(tmp_path.iterdir())


@pytest.fixture
def megabytes() -> int:
    """Room that a member's disk has; 0 for that of this computer."""
    return 0


@pytest.fixture
def trio(megabytes: int) -> Iterator[Trio]:
    """Three members that follow one of them, in a network of their own."""
    folder = Path(tempfile.mkdtemp(prefix="kirsch-ha-"))
    folder.chmod(0o755)
    etcd, account = confined_etcd(folder)
    made = Trio(folder, f"127.{random.randint(1, 254)}.{random.randint(1, 254)}", account, megabytes)
    try:
        made.await_settled()
        yield made
    finally:
        made.close()
        etcd.stop()
        shutil.rmtree(folder, ignore_errors=True)


def post(member: Member, path: str, body: dict[str, Any], token: str = "") -> Any:
    """etcd's answer to a request by HTTP, with a member's certificate."""
    own = member.folder / "patroni.json"
    context = ssl.create_default_context(cafile=own.with_suffix(".authority"))
    context.load_cert_chain(own.with_suffix(".certificate"), own.with_suffix(".key"))
    headers = {"Authorization": token} if token else {}
    url = f"https://{member.account['hosts'][0]}/v3{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


@needs_etcd
@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_another_leads(trio: Trio):
    member = trio.members[0]
    name = {"name": member.account["username"], "password": member.account["password"]}
    token = post(member, "/auth/authenticate", name)["token"]
    # base64: /kirsch/v1/leader, and what begins with /postgres/webdb/.
    refused = post(member, "/kv/range", {"key": "L2tpcnNjaC92MS9sZWFkZXI="}, token)
    assert "permission denied" in refused["error"]
    own = {"key": "L3Bvc3RncmVzL3dlYmRiLw==", "range_end": "L3Bvc3RncmVzL3dlYmRiMA=="}
    assert int(post(member, "/kv/range", own, token)["count"]) > 3

    with Writer(trio).writing() as writer:
        writer.await_written()
        first = trio.leader()
        assert first is not None
        trio.switch_over()
        second = trio.await_leader(but=first)
        writer.await_written()
        print(f"switchover: {writer.longest_gap:.1f} s without a write")
        trio.await_settled()

        writer.times.clear()
        writer.await_written()
        second.kill()
        trio.await_leader(but=second)
        writer.await_written()
        print(f"killed leader: {writer.longest_gap:.1f} s without a write")
        second.start()
        trio.await_settled()
        assert trio.leader() is not second
        writer.await_written()
    assert writer.lost() == set()
    assert writer.turns() <= writer.timeline(), "two took writes at a time"


def fill(member: Member, left: int) -> Path:
    """Leave so many bytes of a member's disk, or none; the file that takes the rest."""
    path = member.folder / "full"
    with suppress(OSError), path.open("wb") as file:
        while not left or shutil.disk_usage(member.folder).free > left:
            file.write(bytes(1 << 20))
    return path


@needs_etcd
@pytest.mark.services
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("megabytes", [350])
class TestFullDisks:
    def test_a_leader_whose_disk_is_full_gives_up(self, trio: Trio):
        with Writer(trio).writing() as writer:
            writer.await_written()
            first = trio.leader()
            assert first is not None
            full = fill(first, 0)
            trio.await_leader(but=first)
            writer.await_written()
            print(f"full disk: {writer.longest_gap:.1f} s without a write")
            full.unlink()
            trio.await_settled()
            writer.await_written()
        assert writer.lost() == set()
        assert writer.turns() <= writer.timeline(), "two took writes at a time"

    def test_who_has_no_room_is_not_chosen(self, trio: Trio):
        """The replica in step has little room left, then the leader none: the third one leads."""
        with Writer(trio).writing() as writer:
            writer.await_written()
            first, roles = trio.leader(), trio.roles()
            assert first is not None
            step, third = sorted(
                (m for m in trio.members if m is not first), key=lambda m: roles[m.name], reverse=True
            )
            room = fill(step, 24 << 20)
            eventually(
                lambda: trio.roles().get(third.name) == "sync_standby", PATIENCE, "the third one in step"
            )
            full = fill(first, 0)
            assert trio.await_leader(but=first) is third
            writer.await_written()
            room.unlink()
            full.unlink()
            trio.await_settled()
            again = {"leader": third.name, "candidate": step.name}

            def leads_again() -> bool:
                third.ask("/switchover", again)  # refused until it is in step
                return trio.leader() is step

            eventually(leads_again, PATIENCE, "it may lead again")
            writer.await_written()
        assert writer.lost() == set()
        assert writer.turns() <= writer.timeline(), "two took writes at a time"
