"""Quotas as statements that set them, which `describe` prints."""

import pytest

from kirsch.hbase.quota import Quota, Whose
from kirsch.hbase.shell.commands.quotas import statement

TABLE = Whose(table="ns:t")


@pytest.mark.parametrize(
    ("quota", "written"),
    [
        (
            Quota(TABLE, "SPACE", 3 << 30, "NO_INSERTS", ""),
            "set_quota TYPE => SPACE, TABLE => 'ns:t', LIMIT => '3G', POLICY => NO_INSERTS",
        ),
        (
            Quota(TABLE, "REQUEST_NUMBER", 10, "sec", "LIMIT => 10req/sec, SCOPE => MACHINE"),
            "set_quota TYPE => THROTTLE, TABLE => 'ns:t', LIMIT => '10req/sec'",
        ),
        (
            Quota(Whose(user="u", table="t"), "WRITE_SIZE", 1500 << 10, "min", "SCOPE => CLUSTER"),
            "set_quota TYPE => THROTTLE, THROTTLE_TYPE => WRITE, USER => 'u', TABLE => 't', "
            "LIMIT => '1500K/min', SCOPE => CLUSTER",
        ),
        (
            Quota(TABLE, "READ_CAPACITY_UNIT", 7, "hour", ""),
            "set_quota TYPE => THROTTLE, THROTTLE_TYPE => READ, TABLE => 'ns:t', LIMIT => '7CU/hour'",
        ),
        (
            Quota(TABLE, "REQUEST_SIZE", 1025, "day", ""),
            "set_quota TYPE => THROTTLE, TABLE => 'ns:t', LIMIT => '1025B/day'",
        ),
        (Quota(Whose(user="u"), "GLOBALS_BYPASS", 0, "", ""), "set_quota USER => 'u', GLOBAL_BYPASS => true"),
    ],
)
def test_a_quota_is_written_as_it_is_set(quota, written):
    assert statement(quota) == written
