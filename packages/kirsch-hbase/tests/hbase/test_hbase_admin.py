"""Schemas, namespaces, snapshots, quotas, peers, regions, procedures."""

import uuid
from dataclasses import replace

import pytest
from tests.deadline import eventually

from kirsch.hbase import Denied, Disabled, Exists, HBaseError, Invalid, NotFound, connect, java
from kirsch.hbase.peer import Peer
from kirsch.hbase.permission import Permission
from kirsch.hbase.schema import Family, Schema

pytestmark = pytest.mark.services


def test_schema_round_trip(connection, name):
    family = Family(
        "cf", versions=3, min_versions=1, ttl=86400, compression="gz", bloom="ROWCOL", block_size=8192,
        block_cache=False, in_memory=True, encoding="FAST_DIFF", keep_deleted="TTL", scope=1,
        configuration={"hbase.hstore.blockingStoreFiles": "20"},
    )  # fmt: skip
    schema = Schema(name, (family,), {"READONLY": "false"}, {"hbase.x": "1"})
    connection.admin.create(schema)
    found = connection.admin.schema(name)
    assert found.attributes["READONLY"] == "false"
    assert found.configuration["hbase.x"] == "1"
    (read,) = found.families
    assert (read.versions, read.ttl, read.compression, read.keep_deleted) == (3, 86400, "GZ", "TTL")
    assert read.configuration == {"hbase.hstore.blockingStoreFiles": "20"}
    assert {**family.words(), **read.attributes} == read.words()


def test_a_family_that_has_what_we_do_not_know_is_shown_as_it_is(connection):
    builders = java("org.apache.hadoop.hbase.client.ColumnFamilyDescriptorBuilder")
    builder = builders.newBuilder(b"cf").setMaxVersions(3)
    # PREFIX_TREE was HBase 1's.
    odd = {
        "DATA_BLOCK_ENCODING": "PREFIX_TREE",
        "COMPRESSION": "ZIP",
        "BLOCKSIZE": "64 KB",
        "IN_MEMORY": "TRUE",
    }
    for setting, word in odd.items():
        builder.setValue(setting, word)
    family = Family.of_java(builder.build())
    assert (family.versions, family.encoding, family.compression) == (3, "PREFIX_TREE", "ZIP")
    assert family.in_memory
    assert family.attributes["BLOCKSIZE"] == "64 KB"
    assert {name: word for name, word in family.words().items() if name in odd} == {
        **odd,
        "IN_MEMORY": "true",
    }
    with pytest.raises(Invalid, match="compression=ZIP is none of"):
        replace(family, versions=4)


def test_alter(connection, name):
    admin = connection.admin
    admin.create(name, "a", "b")
    admin.alter(
        name, {"name": "a", "versions": 5}, "c", drop=["b"], attributes={"MAX_FILESIZE": "1073741824"}
    )
    schema = admin.schema(name)
    assert {family.name: family.versions for family in schema.families} == {"a": 5, "c": 1}
    assert schema.attributes["MAX_FILESIZE"] == "1073741824"
    admin.alter(name, attributes={"MAX_FILESIZE": None})
    assert "MAX_FILESIZE" not in admin.schema(name).attributes
    with pytest.raises(Invalid, match="has no family nope"):
        admin.alter(name, drop=["nope"])
    with pytest.raises(NotFound, match="there is no table nope"):
        admin.alter("nope", "a")


def test_tables(connection, table, name):
    admin = connection.admin
    assert name in admin.tables()
    assert admin.tables(f"{name[:-1]}.") == [name]
    assert "hbase:meta" in admin.tables(system=True)
    with pytest.raises(Exists, match=f"there is a table {name} already"):
        admin.create(name, "cf")
    with pytest.raises(Disabled, match=f"table {name} is enabled: disable it first"):
        admin.drop(name)
    table[b"row"] = {"cf:a": b""}
    admin.truncate(name)
    assert b"row" not in table
    admin.disable(name)
    with pytest.raises(Disabled, match=f"table {name} is disabled: enable it first"):
        table.get(b"row")
    with pytest.raises(Disabled, match=f"table {name} is disabled"):
        list(table.scan())
    admin.enable(name)
    admin.clone_schema(name, name + "_copy")
    assert admin.schema(name + "_copy").family("many").versions == 1000
    admin.drop(name, force=True)
    assert not admin.exists(name)
    with pytest.raises(NotFound, match=f"there is no table {name}"):
        admin.drop(name, force=True)


def test_names_have_letters_of_any_script(connection, name):
    """As HBase has it."""
    connection.admin.namespaces.create(f"{name}_простір")
    for legal in (f"{name}_Ünïcode", f"{name}_простір:表.1"):
        connection.admin.create(legal, "cf", "сім'я")
        connection.table(legal)[b"row"] = {"сім'я:a": b"1"}
        assert connection.table(legal)[b"row"]["сім'я:a"] == b"1"
        assert legal in connection.admin.tables()
        connection.admin.drop(legal, force=True)
    # A mark that is no letter to Java.
    with pytest.raises(Invalid, match="हिन्दी"):
        connection.table("हिन्दी")


@pytest.mark.parametrize("bad", ["", "-t", "a b", "a:b:c", "n-s:t", "t!", "😀"])
def test_names_that_are_not_legal(connection, bad):
    with pytest.raises(Invalid, match="is no table's name"):
        connection.table(bad)
    with pytest.raises(Invalid, match="is no table's name"):
        connection.admin.create(bad, "cf")


def test_schemas_that_make_no_sense(connection, name):
    for family in ({"name": "a:b"}, {"name": "cf", "versions": 0}, {"name": "cf", "compression": "ZIP"}):
        with pytest.raises(Invalid):
            connection.admin.create(name, family)
    with pytest.raises(Invalid, match="needs a family"):
        connection.admin.create(name)
    with pytest.raises(Invalid, match="named twice"):
        connection.admin.create(name, "cf", "cf")
    for family, words in (
        ({"name": "cf", "colour": "red"}, "a family has no colour: there are name, versions, "),
        # As happybase has it.
        ({"cf": {"max_versions": 3}}, "a family has no cf: there are name, versions, "),
        ({"versions": 3}, "a family has a name, and none is in"),
        ({"name": "cf", "versions": "3"}, "a family cannot be {'name': 'cf', 'versions': '3'}: "),
        (["cf"], "['cf'] is no family's name: it must be a str"),
    ):
        with pytest.raises(Invalid) as caught:
            connection.admin.create(name, family)
        assert str(caught.value).startswith(words)
    connection.admin.create(name, "cf")
    with pytest.raises(Invalid, match="a family has no colour: there are name, versions, "):
        connection.admin.alter(name, {"name": "cf", "colour": "red"})


def test_regions(connection, name):
    admin = connection.admin
    admin.create(name, "cf", splits=[b"g", b"p"])
    regions = admin.regions.list(name)
    assert [(region.start, region.stop) for region in regions] == [(b"", b"g"), (b"g", b"p"), (b"p", b"")]
    assert admin.regions.of(name, b"h") == regions[1]
    keys = [bytes((letter,)) for letter in b"abcdefghijklmnopqrstuvwxyz"]
    connection.table(name).put_many((key, {"cf:a": b""}) for key in keys)
    admin.regions.merge(regions[0], regions[1])
    eventually(lambda: len(admin.regions.list(name)) == 2, what="the merge")
    assert connection.table(name).count() == 26
    admin.regions.split(admin.regions.of(name, b"z"), b"t")
    eventually(lambda: len(admin.regions.list(name)) == 3, what="the split")
    assert [region.start for region in admin.regions.list(name)] == [b"", b"p", b"t"]
    assert connection.table(name).count() == 26
    with pytest.raises(NotFound):
        admin.regions.list("nope")


def test_splits_of_a_number(connection, name):
    connection.admin.create(name, "cf", splits=4)
    starts = [region.start for region in connection.admin.regions.list(name)]
    assert starts == [b"", b"40000000", b"80000000", b"c0000000"]


def test_namespaces(connection):
    namespaces, name = connection.admin.namespaces, f"n{uuid.uuid4().hex[:8]}"
    namespaces.create(name, colour="red")
    assert name in namespaces.list()
    with pytest.raises(Exists, match=f"there is a namespace {name} already"):
        namespaces.create(name)
    connection.admin.create(f"{name}:t", "cf")
    assert connection.admin.tables(namespace=name) == [f"{name}:t"]
    connection.table(f"{name}:t")[b"row"] = {"cf:a": b""}
    namespaces.alter(name, {"colour": None, "size": "1"})
    assert namespaces.configuration(name)["size"] == "1"
    assert "colour" not in namespaces.configuration(name)
    with pytest.raises(HBaseError, match="namespace"):
        namespaces.drop(name)
    connection.admin.drop(f"{name}:t", force=True)
    namespaces.drop(name)
    with pytest.raises(NotFound, match=f"there is no namespace {name}"):
        namespaces.configuration(name)
    with pytest.raises(NotFound, match=f"there is no namespace {name}"):
        connection.admin.create(f"{name}:t", "cf")


def test_snapshots(connection, table, name):
    snapshots = connection.admin.snapshots
    table[b"row"] = {"cf:a": b"before"}
    snapshots.take(f"{name}_s", name)
    with pytest.raises(Exists, match=f"there is a snapshot {name}_s already"):
        snapshots.take(f"{name}_s", name)
    assert [(one.name, one.table) for one in snapshots.list(f"{name}.*")] == [(f"{name}_s", name)]
    table[b"row"] = {"cf:a": b"after"}
    snapshots.clone(f"{name}_s", f"{name}_clone")
    assert connection.table(f"{name}_clone")[b"row"]["cf:a"] == b"before"
    snapshots.restore(f"{name}_s")
    assert table[b"row"]["cf:a"] == b"before"
    snapshots.drop(f"{name}_s")
    with pytest.raises(NotFound, match=f"there is no snapshot {name}_s"):
        snapshots.drop(f"{name}_s")
    with pytest.raises(NotFound, match=f"^there is no snapshot {name}_s$"):
        snapshots.restore(f"{name}_s")
    with pytest.raises(NotFound):
        snapshots.take("s", "nope")


def test_quotas(connection, table, name):
    quotas = connection.admin.quotas
    quotas.throttle(5, "min", table=name)
    quotas.limit_space(1 << 30, "NO_WRITES", table=name)
    found = {quota.type: (quota.limit, quota.unit) for quota in quotas.list(table=name)}
    assert found == {"REQUEST_NUMBER": (5, "min"), "SPACE": (1 << 30, "NO_WRITES")}
    quotas.throttle(7, type="WRITE_NUMBER", table=name, scope="CLUSTER")
    (written,) = [quota for quota in quotas.list(table=name) if quota.type == "WRITE_NUMBER"]
    assert (written.limit, "SCOPE => CLUSTER" in written.text) == (7, True)
    quotas.unthrottle(type="WRITE_NUMBER", table=name)
    assert {quota.type for quota in quotas.list(table=name)} == set(found)
    assert [one.policy for one in quotas.usage() if one.subject == name] in ([], [None])
    quotas.unthrottle(table=name)
    quotas.free_space(table=name)
    assert quotas.list(table=name) == []
    with pytest.raises(Invalid, match="name one"):
        quotas.throttle(5)
    with pytest.raises(Invalid, match="there is no throttle"):
        quotas.throttle(5, "week", table=name)
    with pytest.raises(Invalid, match="is of all of them: name 'all'"):
        quotas.throttle(5, servers="localhost:16020")


def test_peers(connection, table, name):
    peers = connection.admin.peers
    endpoint = "org.apache.hadoop.hbase.replication.regionserver.RegionReplicaReplicationEndpoint"
    tables = {name: ("cf",)}
    peer = Peer(
        name, "127.0.0.1:1:/hbase", endpoint=endpoint, enabled=False, all=False, tables=tables, bandwidth=1000
    )
    peers.add(peer)
    assert [one for one in peers.list() if one.name == name] == [peer]
    peers.alter(
        Peer(name, "127.0.0.1:1:/hbase", endpoint=endpoint, enabled=False, namespaces=frozenset({"default"}))
    )
    (found,) = [one for one in peers.list() if one.name == name]
    assert found.all
    assert found.namespaces == {"default"}
    peers.remove(name)
    with pytest.raises(HBaseError, match=name):
        peers.remove(name)


@pytest.mark.soak
def test_cluster(connection, alone):
    status = connection.admin.cluster.status()
    assert status.version.startswith("2.")
    assert len(status.servers) == 2
    assert status.servers[0].heap_most > 100
    cluster = connection.admin.cluster
    assert cluster.balancer() is True
    assert cluster.balancer(False) is True
    assert cluster.balancer(True) is False
    assert cluster.balance().ran in (True, False)
    assert cluster.balance(dry_run=True).made == 0
    for switch in (cluster.normalizer, cluster.splitting, cluster.merging):
        before = switch()
        assert switch(before) is before
    assert isinstance(cluster.capabilities(), list)


def test_procedures(connection, name):
    connection.admin.create(name, "cf")
    names = {procedure["className"].rpartition(".")[2] for procedure in connection.admin.procedures.list()}
    assert "CreateTableProcedure" in names
    locks = connection.admin.procedures.locks()
    assert [lock for lock in locks if name in str(lock.get("resourceName"))] == []
    assert connection.admin.procedures.abort(1 << 40) is False


def test_a_permission_that_is_none(connection):
    with pytest.raises(Invalid, match="actions are letters of R"):
        connection.admin.permissions.grant(Permission("bob", "Q"))


def allowed(operation) -> bool:
    try:
        operation()
    except Denied:
        return False
    return True


def test_two_users_may_do_what_they_were_granted(hbase, connection, name):
    connection.admin.create(name, "cf", "secret")
    table = connection.table(name)
    table[b"row"] = {"cf:a": b"1", "secret:b": b"2"}
    permissions = connection.admin.permissions
    with (
        connect(hbase.quorum, user="bob", patience=60) as bob,
        connect(hbase.quorum, user="eve", patience=60) as eve,
    ):
        for user in (bob, eve):
            with pytest.raises(Denied, match="not permitted"):
                user.table(name).get(b"row")
            with pytest.raises(Denied, match="not permitted"):
                user.admin.create("mine", "cf")
        permissions.grant(Permission("bob", "RW", table=name))
        permissions.grant(Permission("eve", "R", table=name, family="cf"))
        # Region servers hear of it by ZooKeeper, a moment later.
        eventually(lambda: allowed(lambda: bob.table(name).put(b"row", {"secret:b": b"3"})))
        eventually(lambda: allowed(lambda: eve.table(name).get(b"row")))
        assert dict(bob.table(name)[b"row"]) == {b"cf:a": b"1", b"secret:b": b"3"}
        assert dict(eve.table(name)[b"row"]) == {b"cf:a": b"1"}
        with pytest.raises(Denied):
            eve.table(name).put(b"row", {"cf:a": b"x"})
        with pytest.raises(Denied):
            eve.table(name).get(b"row", columns=["secret"])
        with pytest.raises(Denied):
            bob.admin.disable(name)
        found = permissions.list(table=name)
        assert Permission("bob", "RW", table=name) in found
        assert Permission("eve", "R", table=name, family="cf") in found
        permissions.revoke(Permission("bob", "RW", table=name))
        eventually(lambda: not allowed(lambda: bob.table(name).get(b"row")))
    assert "AUTHORIZATION" in connection.admin.cluster.capabilities()
