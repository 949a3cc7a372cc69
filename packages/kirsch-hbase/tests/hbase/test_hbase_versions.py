"""Servers of the older versions that are in use, with today's client."""

import pytest
from tests.hbase.standalone import Standalone

from kirsch.hbase import LONG, UTF8, NotFound, connect, filters

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(params=["2.4.17", "2.5.8"])
def old(request, tmp_path, client):
    server = Standalone(tmp_path, f"--version={request.param}").start()
    yield request.param, server.quorum
    server.kill()


def test_an_older_server(old):
    version, quorum = old
    with connect(quorum, patience=60) as hbase:
        admin = hbase.admin
        assert admin.cluster.status().version.startswith(version)
        admin.create("notes", "text", {"name": "count", "versions": 5}, splits=[b"m"])
        admin.alter("notes", {"name": "count", "versions": 7})
        assert admin.schema("notes").family("count").versions == 7
        notes = hbase.table("notes", key=UTF8, value={"count": LONG, "": UTF8})
        notes.put_many(
            (f"{letter}{n:03d}", {"text:body": "Grüße", "count:n": n}) for letter in "ax" for n in range(500)
        )
        assert notes.count() == 1000
        assert notes["x007"]["count:n"] == 7
        assert notes.increment("x007", "count:n", 3) == 10
        assert [
            row.key for row in notes.scan(prefix="x00", filter=f"PrefixFilter({filters.quoted(b'x007')})")
        ] == ["x007"]
        assert notes.check_and_mutate("x007", "count:n", ">", 9, put={"text:body": "more"})
        assert [row and row["text:body"] for row in notes.get_many(["x007", "none"])] == ["more", None]
        del notes["x007"]
        assert "x007" not in notes
        admin.snapshots.take("shot", "notes")
        admin.snapshots.clone("shot", "copy")
        assert hbase.table("copy").count() == 999
        admin.namespaces.create("space")
        assert "space" in admin.namespaces.list()
        admin.quotas.throttle(1000, table="notes")
        assert [quota.limit for quota in admin.quotas.list(table="notes")] == [1000]
        admin.drop("notes", force=True)
        with pytest.raises(NotFound, match="there is no table notes"):
            notes.get("a001")
