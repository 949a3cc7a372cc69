"""A cluster's backup: what is in it, what is not, and its return to other machines."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.etcd_server import needs_etcd
from tests.cluster.members import members

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.daemon.machine import setup
from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import KEY, Certificates, Issued
from kirsch.cluster.node.authority import authority, issue
from kirsch.cluster.node.backup import KINDS, PART_KEYS, Backup, Nightly, check, lasting, moved, parts
from kirsch.cluster.node.settings import Settings
from kirsch.cluster.node.units import Refused
from kirsch.cluster.provision.backup import opened, passphrase_key, restore_folder
from kirsch.cluster.provision.record import ProvisionError
from kirsch.cluster.registry.base import Entry

SLEEPER = "[Service]\nExecStart=sleep 1000\n"
BACKUP = "/kirsch/v1/backup"


def backup(made: float = 1.0, **more: str) -> Backup:
    return Backup("blue", made, {"1": "n1"}, {keys.text("a"): "x"}, **more)


def test_it_is_read_as_it_was_written_and_nothing_else_is():
    assert Backup.parse(backup().to_json()) == backup()
    for text, says in (
        ("{}", "no backup"),
        ("[]", "no backup"),
        ("x", "Expecting value"),
        ('{"kirsch": 2}', "format 2"),
        ('{"kirsch": 1, "cluster": "blue"}', "no backup"),
    ):
        with pytest.raises(ValueError, match=says):
            Backup.parse(text)


def test_certificates_of_machines_and_what_was_revoked_are_left_out():
    def entry(issued: Issued) -> Entry:
        return Entry(keys.certificate("1F"), issued.to_json(), 1, 1)

    assert lasting(entry(Issued("ann", "view", 1.0)))
    assert not lasting(entry(Issued("ann", "view", 1.0, revoked=True)))
    assert not lasting(entry(Issued("n1", "machine", 1.0, "1")))


def test_what_is_about_a_machine_goes_to_the_one_of_the_same_name():
    entries = {
        keys.home("a.service"): "old1",
        keys.home("b.service"): "old2",
        keys.machine_settings("old1"): "{}",
        keys.machine_settings("old2"): "{}",
        keys.unit("a.service"): "u",
    }
    assert moved(entries, {"old1": "n1", "old2": "n9"}, {"n1": "new1"}) == {
        keys.home("a.service"): "new1",
        keys.machine_settings("new1"): "{}",
        keys.unit("a.service"): "u",
    }


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), st.integers(0, 2 << 18), max_size=60
    )
)
def test_parts_hold_everything_once_and_units_last(sizes: dict[tuple[str, int], int]):
    entries = {f"{kind}{number}": "x" * size for (kind, number), size in sizes.items()}
    found = list(parts(entries))
    assert {key: value for part in found for key, value in part.items()} == entries
    assert sum(map(len, found)) == len(entries)
    kinds = [KINDS.index(keys.kind(key)) for part in found for key in part]
    assert kinds == sorted(kinds)
    assert all(0 < len(part) <= PART_KEYS for part in found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (keys.machine("1"), "{}"),
        ("/kirsch/v1/leader", "1"),
        ("/elsewhere", "1"),
        ("elsewhere", "1"),
        ("/kirsch/v1/releases/1", "{}"),
        ("/kirsch/v1/units/", "{}"),
        (keys.unit("a.nothing"), "{}"),
        (keys.unit("a.service"), "{}"),
        (keys.secret("a"), "plain"),
        (keys.text("a"), 1),
    ],
)
def test_what_no_kirsch_wrote_is_refused(key: str, value: object):
    with pytest.raises(Refused, match="is nothing that a backup has"):
        check({key: value})


def test_keys_open_with_the_passphrase_alone_and_come_back_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    files = {"cluster.json": "{}", "tls/ca.key": "secret", "secrets.key": "k"}
    sealed = passphrase_key("word", b"salt").seal("backup", json.dumps(files).encode(), 1.0)
    made = backup(salt="c2FsdA==", keys=sealed)
    assert "secret" not in made.to_json().replace("secrets", "")
    assert opened(made, "word") == files
    with pytest.raises(ProvisionError, match="passphrase is not that"):
        opened(made, "other")
    folder = restore_folder(made, files)
    assert (folder / "tls/ca.key").read_text() == "secret"
    assert (folder / "tls/ca.key").stat().st_mode & 0o777 == 0o600
    assert not (folder / "secrets.key").exists()
    with pytest.raises(ProvisionError, match="is known here"):
        restore_folder(made, files)
    with pytest.raises(ProvisionError, match="a machine made this backup"):
        restore_folder(backup(), opened(backup(), ""))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "more"))
    with pytest.raises(ProvisionError, match="is no file of a cluster's folder"):
        restore_folder(made, {"../../x": ""})


def test_those_of_three_nights_are_kept(tmp_path: Path):
    nightly = Nightly(tmp_path / "backups", "blue", lambda: True)
    paths = [nightly.make(backup(made=86400.0 * night)) for night in range(5)]
    assert sorted((tmp_path / "backups").iterdir()) == paths[-3:]
    assert Backup.parse(paths[-1].read_text()).made == 4 * 86400.0
    assert paths[-1].stat().st_mode & 0o777 == 0o600


def test_each_machine_with_the_authority_s_key_makes_them_without_a_setting(tmp_path: Path):
    signer = authority("blue")
    own = issue(signer, "n1", "n1", "10.0.0.1", role="machine", lifetime=timedelta(days=30))
    files = Certificates(*(tmp_path / name for name in ("ca.crt", "own.crt", "own.key")))
    for path, content in zip(
        (files.authority, files.certificate, files.key),
        (signer.certificate, own.certificate, own.key),
        strict=True,
    ):
        path.write_bytes(content)
    settings = Settings.parse(
        f'cluster = "blue"\nname = "n1"\naddress = "10.0.0.1"\netcd = ["https://10.0.0.1:2379"]\n'
        f'machine-id = "{"1" * 32}"\nstate = "{tmp_path}/state"\nrun = "{tmp_path}/run"\n'
        f'[tls]\nauthority = "{files.authority}"\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n'
    )
    backups = setup(settings).backups
    assert backups is not None
    assert backups.folder == tmp_path / "state/backups"
    assert not backups.wanted()
    # A machine that takes a lost one's place is given the key while it runs.
    files.authority.with_name(KEY).write_bytes(signer.key)
    assert backups.wanted()


@needs_etcd
@pytest.mark.services
@pytest.mark.slow
def test_units_and_secrets_return_to_another_cluster(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with members(tmp_path / "one", 2) as cluster:
        path = cluster.unit("a.service", SLEEPER + "[X-Kirsch]\nSticky=yes\nMachineMetadata=zone=a\n")
        cluster.ok("start", path)
        home = cluster.lines()["a.service"]["machine"]
        name = next(machine.name for machine in cluster.machines if machine.id == home)
        word = tmp_path / "word"
        word.write_text("hush")
        with word.open() as given:
            cluster.ok("secret", "set", "s", stdin=given)
        found = cluster.client.get(BACKUP)
    assert "hush" not in json.dumps(found)
    assert not [
        key for key in found["entries"] if keys.kind(key) in (keys.STATES, keys.SCHEDULE, keys.ADDRESSES)
    ]
    with members(tmp_path / "two", 2) as cluster:
        now = {machine.name: machine.id for machine in cluster.machines}
        entries = moved(found["entries"], found["machines"], now)
        for _ in range(2):  # the second time after one that ended half way
            for part in parts(entries):
                cluster.client.put(BACKUP, {"entries": part})
        cluster.ok("start", "a")
        line = cluster.lines()["a.service"]
        assert (line["machine"], line["active"]) == (now[name], "active")
        assert [each["name"] for each in cluster.client.get("/kirsch/v1/secrets")["secrets"]] == ["s"]
        with pytest.raises(ClientError, match="is there, with another value"):
            cluster.client.put(BACKUP, {"entries": {key: "other" for key in entries if keys.TEXTS in key}})
