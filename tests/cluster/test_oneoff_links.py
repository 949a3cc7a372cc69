"""What a person's link gives a one-off command."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kirsch.cluster.model import Cluster, Endpoint, Unit, UnitRecord
from kirsch.cluster.node.oneoff import NOBODY, link_variables
from kirsch.cluster.node.units import Refused
from kirsch.cluster.secrets import FileSecrets
from kirsch.unit import Link, Options, Port, UnitFile, UnitName

DB = UnitName.parse("db.container")
FILE = UnitFile.parse("[Container]\nImage=x\n[X-Kirsch]\nExpose=5432\nSecret=db:POSTGRES_PASSWORD\n")
SERVES = Endpoint("db", "db.container", "-", "m1", "10.210.128.1", (Port(5432),), True)
CLUSTER = Cluster(
    units={DB: Unit(DB, FILE, Options.parse(FILE, DB), UnitRecord(FILE.hash, "launched"))},
    endpoints=(SERVES,),
)


def test_the_secrets_of_the_target_are_among_them(tmp_path: Path):
    async def use() -> None:
        kept = FileSecrets(tmp_path)
        await kept.put("db", b"hush")
        given, values = await link_variables(CLUSTER, NOBODY, Link("db", "store"), kept)
        assert given["PGPASSWORD"] == given["STORE_ENV_POSTGRES_PASSWORD"] == "hush"
        assert given["PGHOST"] == given["STORE_PORT_5432_TCP_ADDR"] == "10.210.128.1"
        assert values == {"hush"}

    asyncio.run(use())


@pytest.mark.parametrize(
    ("cluster", "status"),
    [
        (replace(CLUSTER, endpoints=()), 409),
        (replace(CLUSTER, endpoints=(replace(SERVES, ready=False),)), 409),
        (replace(CLUSTER, units={}, endpoints=()), 404),
        # It was destroyed, and has not stopped yet.
        (replace(CLUSTER, units={}), 404),
    ],
)
def test_what_cannot_be_linked_to_is_refused(tmp_path: Path, cluster: Cluster, status: int):
    with pytest.raises(Refused) as told:
        asyncio.run(link_variables(cluster, NOBODY, Link("db", "store"), FileSecrets(tmp_path)))
    assert told.value.status == status
