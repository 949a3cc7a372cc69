"""Secrets sealed for the registry, and kept there: what the store sees, what opens, what a unit waits for."""

import asyncio
import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.agent.cache import Cache, Cached
from kirsch.cluster.agent.plan import Assigned, Hold, Load, View, plan
from kirsch.cluster.model import Assignment, keys
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.runtime.base import Prepared, RuntimeState
from kirsch.cluster.secrets import MAX_SIZE, FileSecrets, Login, SealedSecrets, SecretError, made_up, variable
from kirsch.cluster.secrets.rotation import RotationError, database, running
from kirsch.cluster.secrets.seal import Key, Unsealable, set_at
from kirsch.unit import Options, UnitError, UnitFile, UnitName
from kirsch.unit.options import secret_name

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}[A-Za-z0-9]", fullmatch=True)
KEY = Key.generate()


@given(NAMES, st.binary(min_size=1, max_size=300), st.floats(0, 1e10))
def test_what_is_sealed_opens_under_its_name_alone(name: str, value: bytes, at: float):
    stored = KEY.seal(name, value, at)
    assert KEY.open(name, stored) == value
    assert set_at(stored) == at
    with pytest.raises(Unsealable):
        KEY.open(name + "x", stored)
    with pytest.raises(Unsealable):
        Key.generate().open(name, stored)
    assert KEY.seal(name, value, at) != stored, "a nonce serves once"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_what_was_changed_in_the_store_does_not_open(position: int, change: int):
    stored = json.loads(KEY.seal("a", b"value", 5.0))
    sealed = bytearray(base64.b64decode(stored["sealed"]))
    sealed[position % len(sealed)] ^= change
    stored["sealed"] = base64.b64encode(bytes(sealed)).decode()
    with pytest.raises(Unsealable):
        KEY.open("a", json.dumps(stored))
    with pytest.raises(Unsealable):
        KEY.open("a", json.dumps(json.loads(KEY.seal("a", b"value", 5.0)) | {"set": 6.0}))


@given(st.text())
def test_any_other_text_is_refused_in_one_way(text: str):
    with pytest.raises(Unsealable):
        KEY.open("a", text)
    assert set_at(text) == 0.0 or text.lstrip().startswith("{")
    with pytest.raises(Unsealable, match="it is no key: 32 bytes in base64"):
        Key.parse(text)


def test_a_key_is_a_line_of_text_and_shows_nothing():
    assert Key.parse(KEY.text) == KEY
    assert KEY.text.count("\n") == 1
    assert repr(KEY) == "Key()"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.key"
    path.touch(0o600)
    path.write_text(KEY.text)
    return path


async def sealed(key: Path) -> tuple[MemoryRegistry, Mirror, SealedSecrets]:
    registry = MemoryRegistry()
    mirror = Mirror(registry, keys.ROOT)
    await mirror.load()
    return registry, mirror, SealedSecrets(registry, mirror, key, lambda: 77.0)


def follow(mirror: Mirror):
    return asyncio.create_task(mirror.run())


def run(work):
    return asyncio.run(work)


def test_the_registry_holds_no_value(key: Path):
    async def use() -> None:
        registry, mirror, secrets = await sealed(key)
        following = follow(mirror)
        assert secrets.missing(["db", "x"]) == ["db", "x"]
        assert await secrets.put("db", b"hush \xff")
        assert await secrets.get("db") == "hush \udcff"
        assert secrets.stored() == {"db": 77.0}
        assert secrets.missing(["db", "x"]) == ["x"]
        entry = await registry.get(keys.secret("db"))
        assert entry is not None
        assert "hush" not in entry.value
        assert not await secrets.put("db", b"other")
        assert await secrets.get("db") == "other"
        with pytest.raises(SecretError, match="there is a secret db already") as told:
            await secrets.put("db", b"third", replace=False)
        assert told.value.status == 409
        assert await secrets.get("db") == "other"
        await secrets.remove("db")
        with pytest.raises(SecretError, match=r"there is no secret db$") as told:
            await secrets.remove("db")
        assert told.value.status == 404
        following.cancel()

    run(use())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "this machine has no key for secrets, .*No such file"),
        (lambda path: path.chmod(0o640), "can be read by others than its owner: chmod 600"),
        (lambda path: path.write_text("abc\n"), "secrets.key: it is no key: 32 bytes in base64"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "this machine has no key for secrets, .*no text"),
    ],
)
def test_a_key_that_is_none_is_said(key: Path, spoil, says: str):
    async def use() -> None:
        _, _, secrets = await sealed(key)
        spoil(key)
        with pytest.raises(SecretError, match=says):
            await secrets.put("db", b"hush")

    run(use())


def test_another_clusters_key_opens_nothing(key: Path, tmp_path: Path):
    other = tmp_path / "other.key"
    other.touch(0o600)
    other.write_text(Key.generate().text)

    async def use() -> None:
        _, mirror, secrets = await sealed(key)
        following = follow(mirror)
        await secrets.put("db", b"hush")
        secrets.key = other
        with pytest.raises(SecretError, match="secret db cannot be opened here: it was sealed with"):
            await secrets.get("db")
        following.cancel()

    run(use())


@pytest.mark.parametrize(("value", "status"), [(b"", 400), (b"x" * (MAX_SIZE + 1), 413)])
def test_a_value_has_a_size(key: Path, tmp_path: Path, value: bytes, status: int):
    async def use() -> None:
        _, _, secrets = await sealed(key)
        for each in (secrets, FileSecrets(tmp_path / "files")):
            with pytest.raises(SecretError) as told:
                await each.put("db", value)
            assert told.value.status == status

    run(use())


def test_files_are_the_owners_and_made_up_at_first_use(tmp_path: Path):
    async def use() -> None:
        secrets = FileSecrets(tmp_path / "secrets")
        assert secrets.missing(["db"]) == []
        value = await secrets.get("db")
        assert len(value) >= 24
        assert await FileSecrets(tmp_path / "secrets").get("db") == value
        assert not await secrets.put("db", b"chosen\n")
        assert await secrets.get("db") == "chosen\n"
        assert list(secrets.stored()) == ["db"]
        path = tmp_path / "secrets/db"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await secrets.remove("db")
        with pytest.raises(SecretError, match="there is no secret db"):
            await secrets.remove("db")
        assert await secrets.get("db") not in (value, "chosen\n")

    run(use())


def test_a_login_goes_with_one_value_and_ends_with_it(key: Path, tmp_path: Path):
    login = Login("notes", "notes_login_1")

    async def use() -> None:
        _, mirror, sealed_ones = await sealed(key)
        following = follow(mirror)
        for secrets in (sealed_ones, FileSecrets(tmp_path / "secrets")):
            await secrets.put("db", b"old")
            assert secrets.login("db") is None
            await secrets.put("db", b"new", login=login)
            assert (await secrets.get("db"), secrets.login("db")) == ("new", login)
            assert list(secrets.stored()) == ["db"]
            for _ in range(2):
                await secrets.settle("db")
                assert (await secrets.get("db"), secrets.login("db")) == ("new", None)
            await secrets.put("db", b"newer", login=login)
            await secrets.put("db", b"newest")
            assert (await secrets.get("db"), secrets.login("db")) == ("newest", None)
        # A power cut between the two files: what is there is the old value, and its owner's.
        await secrets.put("db", b"x", login=login)
        (tmp_path / "secrets/db").write_bytes(b"newest")
        assert secrets.login("db") is None
        following.cancel()

    run(use())


def test_a_login_stands_where_the_owner_is_named():
    login = Login("notes", "notes_login_1")
    given = {"DB_ENV_POSTGRES_USER": "notes", "OTHER_ENV_POSTGRES_USER": "other", "POSTGRES_USER": "notes"}
    assert login.variables(given, "PASSWORD") == {"DB_ENV_POSTGRES_USER": "notes_login_1"}
    assert login.variables({}, "PGPASSWORD") == {"PGUSER": "notes_login_1"}


def test_a_variable_is_a_value_without_its_last_line_end():
    assert variable("a", "pass\n") == "pass"
    assert variable("a", "two\nlines\r\n") == "two\nlines"
    assert variable("a", "one\n\n") == "one\n"
    for value in ("\n", "a\0b"):
        with pytest.raises(SecretError, match="secret a is empty, or has a NUL"):
            variable("a", value)
    assert made_up() != made_up()


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a.", "-a", "a b", "ä", "a" * 254, "a:b", "..", "a%2fb"])
def test_a_secrets_name(name: str):
    assert secret_name("a.b-c_d") == "a.b-c_d"
    with pytest.raises(UnitError, match="cannot name a secret"):
        secret_name(name)


def held(text: str, *lacking: str) -> list[str]:
    """Why a unit that is to run does not start."""
    name = UnitName.parse("a.service")
    file = UnitFile.parse(text.encode(), "a.service")
    assigned = Assigned(file, Options.parse(file, name), Assignment(file.hash, "launched", 1))
    actions = plan(View(assigned={name: assigned}, lacking={name: lacking} if lacking else {}))
    return [action.reason for action in actions if isinstance(action, Hold)]


def test_a_unit_waits_for_its_secrets_and_says_what_to_type():
    text = "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nSecret=db:PW key\n"
    assert held(text, "db") == ["waits for secret db: kirsch secret set db < FILE"]
    assert held(text, "db", "key") == ["waits for secrets db, key: kirsch secret set db < FILE"]
    assert held(text) == []


def test_a_unit_at_rest_is_loaded_with_the_new_value():
    name = UnitName.parse("a.service")
    file = UnitFile.parse(b"[Service]\nExecStart=sleep 1\n[X-Kirsch]\nSecret=db:PW\n", "a.service")
    assigned = Assigned(file, Options.parse(file, name), Assignment(file.hash, "loaded", 1))
    for state, outdated, actions in (
        ("inactive", {name}, [Load(name)]),
        ("inactive", set(), []),
        ("active", {name}, []),
    ):
        running = {name: RuntimeState(active=state, hash=file.hash)}
        assert plan(View({name: assigned}, running, outdated=frozenset(outdated))) == actions


def test_what_a_machine_keeps_for_a_boot_without_the_store_is_sealed(key: Path, tmp_path: Path):
    name = UnitName.parse("db.container")
    file = UnitFile.parse(
        b"[Container]\nImage=x\n[X-Kirsch]\nSticky=yes\nSecret=pw:PW cert\n", "db.container"
    )
    prepared = Prepared(name, file, {"A": "1"}, {"cert": "hush \udcff"}, secrets={"PW": "hush-hush"})
    units = {name: Cached(prepared, Assignment(file.hash, "launched", 1))}
    path = tmp_path / "schedule.json"

    async def use() -> None:
        _, _, secrets = await sealed(key)
        cache = Cache(path, secrets.seal, secrets.unseal)
        cache.keep(units)
        written = path.read_bytes()
        assert b"hush" not in written
        cache.keep(units)
        assert path.read_bytes() == written, "what has not changed is not sealed anew"
        again = Cache(path, secrets.seal, secrets.unseal)
        assert again.units[name].prepared == prepared
        again.keep(units)
        assert path.read_bytes() == written
        secrets.key = tmp_path / "none.key"
        assert Cache(path, secrets.seal, secrets.unseal).units == {}

    run(use())


def unit_line(name: str, **changes: Any) -> dict[str, Any]:
    """A unit's line as kirschd answers it, in so far as a rotation reads it."""
    line = {"ports": (), "ready": True, "role": "", "finished": False, "links": ()}
    return {"name": name, "desired": "launched", "active": "active", **line, **changes}


def test_the_password_of_a_database_with_replicas_is_changed_where_writes_go():
    roles = {1: "replica", 2: "primary", 3: "replica"}
    members = [unit_line(f"webdb@{n}.container", ports=(5432,), role=role) for n, role in roles.items()]
    notes = unit_line("notes@1.container", ports=(8080,), links=("webdb", "cache"))
    reader = unit_line("reader.container", links=("webdb/replica",))
    lines = [*members, notes, reader, unit_line("other.service")]
    users = [line["name"] for line in lines if line["name"] != "other.service"]
    assert database("p", users, lines) == "webdb@2.container"
    assert running("p", users, lines, "webdb@2.container") == ["notes@1.container", "reader.container"]
    with pytest.raises(RotationError, match=r"other\.service uses secret p .* write Link=webdb into"):
        running("p", [*users, "other.service"], lines, "webdb@2.container")
    without = [line for line in lines if line["role"] != "primary"]
    with pytest.raises(
        RotationError, match=r"none of webdb@1\.container, webdb@3\.container takes writes .*status"
    ):
        database("p", users, without)
    hung = [line | {"ready": False} if line["role"] == "primary" else line for line in lines]
    with pytest.raises(RotationError, match="takes writes at present"):
        database("p", users, hung)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no unit that uses it is a PostgreSQL"),
        (
            [unit_line("a.service", ports=(5432,)), unit_line("b.service", ports=(5432,))],
            "a.*, b.* are a Postgre",
        ),
        # Databases of their own: no role says that one of them has the others' data.
        ([unit_line(f"a@{n}.service", ports=(5432,)) for n in (1, 2)], "a@1.*, a@2.* are a PostgreSQL"),
        ([unit_line("a.service", ports=(5432,), ready=False)], "a.service is not ready"),
    ],
)
def test_what_is_not_one_database_is_not_rotated(lines: list[dict[str, Any]], why: str):
    with pytest.raises(RotationError, match=why):
        database("p", [line["name"] for line in lines], lines)
