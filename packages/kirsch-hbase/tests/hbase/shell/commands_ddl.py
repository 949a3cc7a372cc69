"""ddl and namespace, each command against the server."""

import pytest
from tests.deadline import eventually

from kirsch.hbase import Disabled, HBaseError, Invalid, NotFound
from kirsch.hbase.shell.command import CommandError, UsageError


def test_tables(shell, name):
    table = shell(
        f"create '{name}', 'f1', {{NAME => 'f2', VERSIONS => 3, TTL => 'FOREVER', BLOOMFILTER => 'ROWCOL'}}"
    )
    assert str(table) == name
    assert shell(f"list '{name}.*'") == [name]
    assert name in shell("list")
    assert shell(f"exists '{name}'") is True
    assert shell(f"exists '{name}x'") is False
    assert shell(f"is_enabled '{name}'") is True
    facts = shell(f"describe '{name}'")
    assert facts["ENABLED"] is True
    families = {family["NAME"]: family for family in facts["FAMILIES"]}
    assert (families["f1"]["VERSIONS"], families["f1"]["TTL"]) == ("1", "FOREVER")
    assert (families["f2"]["VERSIONS"], families["f2"]["BLOOMFILTER"]) == ("3", "ROWCOL")
    shell(f"disable '{name}'")
    assert shell(f"is_disabled '{name}'") is True
    shell(f"disable '{name}'")  # once more is no mistake
    shell(f"enable '{name}'; enable '{name}'")
    assert shell(f"is_disabled '{name}'") is False
    with pytest.raises(Disabled, match=f"table {name} is enabled: disable it first"):
        shell(f"drop '{name}'")
    shell(f"disable '{name}'; drop '{name}'")
    assert shell(f"exists '{name}'") is False


def test_tables_that_are_split(shell, name, tmp_path):
    shell(f"create '{name}', 'f', SPLITS => ['b', 'm']")
    assert shell(f"get_splits '{name}'") == ["b", "m"]
    regions = shell(f"list_regions '{name}'")
    assert [(row["START_KEY"], row["END_KEY"]) for row in regions] == [(b"", b"b"), (b"b", b"m"), (b"m", b"")]
    assert shell(f"list_regions '{name}', 'localhost', ['REGION_NAME']")[0].keys() == {"REGION_NAME"}
    assert shell(f"list_regions '{name}', 'elsewhere'") == []
    assert len(shell(f"list_regions '{name}', {{LOCALITY_THRESHOLD => 2}}")) == 3
    where = shell(f"locate_region '{name}', 'c'")
    assert (where["START_KEY"], where["REGION"]) == (b"b", regions[1]["REGION_NAME"])
    shell(f"create '{name}h', 'f', {{NUMREGIONS => 4, SPLITALGO => 'HexStringSplit'}}")
    assert shell(f"get_splits '{name}h'") == ["40000000", "80000000", "c0000000"]
    shell(f"create '{name}d', 'f', NUMREGIONS => 2, SPLITALGO => 'DecimalStringSplit'")
    assert shell(f"get_splits '{name}d'") == ["50000000"]
    shell(f"create '{name}u', 'f', NUMREGIONS => 2, SPLITALGO => 'UniformSplit'")
    assert shell(f"get_splits '{name}u'") == ["\\x80" + "\\x00" * 7]
    splits = tmp_path / "splits.txt"
    splits.write_text("10\n20\n")
    shell(f"create '{name}f', 'f', SPLITS_FILE => '{splits}'")
    assert shell(f"get_splits '{name}f'") == ["10", "20"]
    with pytest.raises(CommandError, match="No such file"):
        shell(f"create '{name}g', 'f', SPLITS_FILE => '{splits}x'")


def test_tables_by_pattern(shell, name):
    shell(f"create '{name}a', 'f'; create '{name}b', 'f'")
    both = [f"{name}a", f"{name}b"]
    assert shell(f"disable_all '{name}.*'") == both
    assert shell(f"is_disabled '{name}a'") is True
    assert shell(f"enable_all '{name}.*'") == both
    assert shell(f"is_disabled '{name}b'") is False
    with pytest.raises(CommandError, match=f"no table matches {name}x"):
        shell(f"drop_all '{name}x'")
    shell(f"disable_all '{name}.*'")
    assert shell(f"drop_all '{name}.*'") == both
    assert shell(f"list '{name}.*'") == []


def test_a_pattern_that_is_not_confirmed(shell, name):
    shell(f"create '{name}', 'f'")
    shell.session.confirm = lambda question: question != f"Disable {name}?"
    try:
        assert shell(f"disable_all '{name}'") == []
    finally:
        shell.session.confirm = lambda question: True
    assert shell(f"is_enabled '{name}'") is True


def test_tables_that_are_altered(shell, name):
    shell(f"create '{name}', 'f'")

    def described():
        return shell(f"describe '{name}'")

    shell(f"alter '{name}', NAME => 'f', VERSIONS => 5, METADATA => {{'k' => 'v'}}")
    assert (described()["FAMILIES"][0]["VERSIONS"], described()["FAMILIES"][0]["k"]) == ("5", "v")
    shell(f"alter '{name}', 'g', {{NAME => 'h', IN_MEMORY => true, KEEP_DELETED_CELLS => 'TTL'}}")
    assert [family["NAME"] for family in described()["FAMILIES"]] == ["f", "g", "h"]
    shell(f"alter '{name}', NAME => 'g', METHOD => 'delete'")
    shell(f"alter '{name}', 'delete' => 'h'")
    assert [family["NAME"] for family in described()["FAMILIES"]] == ["f"]
    shell(
        f"alter '{name}', MAX_FILESIZE => '134217728', DURABILITY => 'ASYNC_WAL', "
        "CONFIGURATION => {'a.b' => 'c'}"
    )
    attributes = described()["ATTRIBUTES"]
    assert (attributes["MAX_FILESIZE"], attributes["DURABILITY"], attributes["a.b"]) == (
        "134217728",
        "ASYNC_WAL",
        "c",
    )
    shell(f"alter '{name}', METHOD => 'table_att_unset', NAME => 'MAX_FILESIZE'")
    shell(f"alter '{name}', METHOD => 'table_conf_unset', NAME => 'a.b'")
    assert not {"MAX_FILESIZE", "a.b"} & set(described()["ATTRIBUTES"])
    observer = "org.apache.hadoop.hbase.coprocessor.example.Absent"
    with pytest.raises(CommandError, match="has no coprocessor"):
        shell(f"alter '{name}', METHOD => 'table_remove_coprocessor', CLASSNAME => '{observer}'")
    endpoint = "org.apache.hadoop.hbase.coprocessor.MultiRowMutationEndpoint"
    shell(f"alter '{name}', 'coprocessor' => '|{endpoint}|1001|'")
    assert any(endpoint in value for value in described()["ATTRIBUTES"].values())
    shell(f"alter '{name}', METHOD => 'table_remove_coprocessor', CLASSNAME => '{endpoint}'")
    assert not any(endpoint in value for value in described()["ATTRIBUTES"].values())
    # By its number, as describe has it.
    shell(f"alter '{name}', 'coprocessor' => '|{endpoint}|1001|'")
    with pytest.raises(CommandError, match=r"coprocessor\$2 is not set"):
        shell(f"alter '{name}', METHOD => 'table_att_unset', NAME => 'coprocessor$2'")
    shell(f"alter '{name}', METHOD => 'table_att_unset', NAME => 'coprocessor$1'")
    assert "coprocessor$1" not in described()["ATTRIBUTES"]


def test_tables_that_are_altered_meanwhile(shell, name):
    shell(f"create '{name}', 'f', SPLITS => ['m']")
    shell(f"alter_async '{name}', {{NAME => 'f', VERSIONS => 2}}")
    status = eventually(
        lambda: (found := shell(f"alter_status '{name}'"))["UPDATED"] == found["REGIONS"] == 2 and found, 30
    )
    assert status.sentence == "2/2 regions updated"
    eventually(lambda: shell(f"describe '{name}'")["FAMILIES"][0]["VERSIONS"] == "2", 30)


def test_a_table_like_another(shell, name):
    shell(f"create '{name}', {{NAME => 'f', VERSIONS => 7}}, SPLITS => ['m']")
    shell(f"clone_table_schema '{name}', '{name}c'")
    assert shell(f"describe '{name}c'")["FAMILIES"] == shell(f"describe '{name}'")["FAMILIES"]
    assert shell(f"get_splits '{name}c'") == ["m"]
    shell(f"clone_table_schema '{name}', '{name}n', false")
    assert shell(f"get_splits '{name}n'") == []


def test_a_table_in_a_variable(shell, name):
    shell(f"create '{name}', 'f'")
    shell(f"t = get_table '{name}'")
    shell("t.put 'r', 'f:q', 'v'")
    assert shell("t.count") == 1
    assert [dict(row) for row in shell("t.scan LIMIT => 1")] == [{b"f:q": b"v"}]
    assert shell("t.table")[b"r"][b"f:q"] == b"v"
    assert "scan" in dir(shell("t"))
    with pytest.raises(AttributeError, match="a table has no command scam"):
        shell("t.scam()")
    with pytest.raises(NotFound, match=f"there is no table {name}x"):
        shell(f"get_table '{name}x'")


def test_filters(shell):
    assert {"PrefixFilter", "FirstKeyOnlyFilter"} <= set(shell("show_filters"))


@pytest.mark.parametrize(
    ("typed", "kind", "message"),
    [
        ("create 'NAME'", UsageError, "a table needs a family"),
        ("create 'NAME', 'f', 'f'", CommandError, "family f is named twice"),
        (
            "create 'NAME', {NAME => 'f', VERSION => 3}",
            UsageError,
            "no option VERSION; do you mean VERSIONS?",
        ),
        (
            "create 'NAME', {NAME => 'f', VERSIONS => 'x'}",
            CommandError,
            "VERSIONS is a whole number, not 'x'",
        ),
        ("create 'NAME', {NAME => 'f', VERSIONS => 0}", HBaseError, "versions"),
        (
            "create 'NAME', {NAME => 'f', BLOOMFILTER => 'ROWS'}",
            CommandError,
            "BLOOMFILTER: ROWS is none of NONE, ROW",
        ),
        ("create 'NAME', {NAME => 'f', IN_MEMORY => 'maybe'}", CommandError, "IN_MEMORY is true or false"),
        ("create 'NAME', {NAME => 'f', TTL => '5 apples'}", HBaseError, "."),
        ("create 'NAME', 'f', {CONFIGURATION => 'x'}", UsageError, "CONFIGURATION is a hash"),
        ("create 'NAME', 'f', {NUMREGIONS => 3}", UsageError, "goes with SPLITALGO"),
        ("create 'NAME', 'f', {NUMREGIONS => 3, SPLITALGO => 'X'}", CommandError, "there is no SPLITALGO X"),
        (
            "create 'NAME', 'f', {MAX_FILESIZ => 3}",
            UsageError,
            "no option MAX_FILESIZ; do you mean MAX_FILES",
        ),
        ("create 'na me', 'f'", Invalid, "'na me' is no table's name: it may have letters"),
        ("create 'NAME', 'f:g'", Invalid, "'f:g' is no family's name: it is not empty, has no :"),
        ("alter 'empty', NAME => ''", Invalid, "'' is no family's name"),
        ("create 'nowhere:NAME', 'f'", HBaseError, "namespace"),
        ("describe 'NAME'", NotFound, "there is no table NAME"),
        ("enable 'NAME'", NotFound, "there is no table NAME"),
        ("disable 'NAME'", NotFound, "there is no table NAME"),
        ("drop 'NAME'", NotFound, "there is no table NAME"),
        ("alter 'NAME', 'f'", NotFound, "there is no table NAME"),
        ("list_regions 'NAME'", NotFound, "there is no table NAME"),
        ("locate_region 'NAME', 'r'", NotFound, "there is no table NAME"),
        ("list_regions 'NAME', ['SPEED']", CommandError, "there is no column SPEED"),
        ("create", UsageError, "create: missing table. It is called as: create 't1'"),
        ("list '['", HBaseError, r"\["),
    ],
)
def test_what_ddl_refuses(shell, empty, name, typed, kind, message):
    with pytest.raises(kind, match=message.replace("NAME", name)) as caught:
        shell(
            typed.replace("NAME' ", f"{name}' ").replace("'NAME'", f"'{name}'").replace(":NAME", f":{name}")
            + ("()" if typed == "create" else "")
        )
    assert len(str(caught.value).splitlines()) == 1


def test_namespaces(shell, name):
    shell(f"create_namespace '{name}', {{'hbase.namespace.quota.maxtables' => '5'}}")
    assert shell(f"list_namespace '{name}'") == [name]
    assert name in shell("list_namespace")
    assert shell(f"describe_namespace '{name}'")["hbase.namespace.quota.maxtables"] == "5"
    shell(f"alter_namespace '{name}', {{METHOD => 'set', 'a.b' => 'c'}}")
    assert shell(f"describe_namespace '{name}'")["a.b"] == "c"
    shell(f"alter_namespace '{name}', METHOD => 'unset', NAME => 'a.b'")
    assert "a.b" not in shell(f"describe_namespace '{name}'")
    shell(f"create '{name}:t', 'f'")
    assert shell(f"list_namespace_tables '{name}'") == ["t"]
    with pytest.raises(HBaseError, match=r"has 1 tables|not empty"):
        shell(f"drop_namespace '{name}'")
    shell(f"disable '{name}:t'; drop '{name}:t'; drop_namespace '{name}'")
    with pytest.raises(NotFound, match=f"there is no namespace {name}"):
        shell(f"describe_namespace '{name}'")
    with pytest.raises(UsageError, match="METHOD => 'set'"):
        shell("alter_namespace 'default', {METHOD => 'put'}")


def test_store_files_are_tracked_in_another_way(shell, name):
    shell(f"create '{name}', 'f', 'g'; change_sft '{name}', 'g', 'FILE'")
    family = next(f for f in shell(f"describe '{name}'")["FAMILIES"] if f["NAME"] == "g")
    assert "FILE" in family.values()
    shell(f"create '{name}2', 'f'; change_sft_all '{name}2', 'FILE'")
    assert "FILE" in shell(f"describe '{name}2'")["ATTRIBUTES"].values()
    with pytest.raises(UsageError, match="change_sft 'TABLE', 'TRACKER'"):
        shell(f"change_sft '{name}'")
    with pytest.raises(CommandError, match="no table matches"):
        shell("change_sft_all 'absent.*', 'FILE'")


def test_a_table_is_altered_by_table_att(shell, name):
    shell(f"create '{name}', 'f'; alter '{name}', METHOD => 'table_att', MAX_FILESIZE => '134217728'")
    assert shell(f"describe '{name}'")["ATTRIBUTES"]["MAX_FILESIZE"] == "134217728"


def test_what_describe_prints_can_be_pasted_back(shell, name):
    shell(
        f"create '{name}', {{NAME => 'f', VERSIONS => 5, TTL => 2592000, COMPRESSION => 'GZ', "
        "CONFIGURATION => {'hbase.hstore.blockingStoreFiles' => '10'}, METADATA => {\"k's\" => 'v'}}, 'g', "
        "{MAX_FILESIZE => '134217728', READONLY => false, METADATA => {'mine' => 'x y'}}"
    )
    shell(f"set_quota TYPE => SPACE, TABLE => '{name}', LIMIT => '1G', POLICY => NO_INSERTS")
    shell(
        f"set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, TABLE => '{name}', LIMIT => '1500K/min', "
        "SCOPE => CLUSTER"
    )
    before = shell(f"describe '{name}'")
    assert "NO_INSERTS" in before.sentence
    lines = before.sentence.splitlines()
    assert lines[0] == f"Table {name} is enabled"
    shell(f"set_quota TYPE => SPACE, TABLE => '{name}', LIMIT => NONE; disable '{name}'; drop '{name}'")
    # Of a table's throttles nothing is left with the table.
    eventually(lambda: not shell(f"list_quotas TABLE => '{name}'"))
    status, _, error = shell.says("\n".join(lines[1:]))
    assert (status, error) == (0, "")
    after = shell(f"describe '{name}'")
    assert (after["ATTRIBUTES"], after["FAMILIES"]) == (before["ATTRIBUTES"], before["FAMILIES"])
    assert sorted(after["QUOTAS"]) == sorted(before["QUOTAS"])
    assert len(after["QUOTAS"]) == 2
