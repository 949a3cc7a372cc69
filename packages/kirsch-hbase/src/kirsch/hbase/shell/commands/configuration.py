"""configuration: servers that read hbase-site.xml anew."""

from typing import Any

from kirsch.hbase.shell.command import command
from kirsch.hbase.shell.session import Session


@command("configuration")
def update_all_config(session: Session) -> None:
    """Have all servers read their configuration anew.

        update_all_config

    What can be changed so while they run is listed in HBase's reference guide.
    """
    session.admin("updateConfiguration")


@command("configuration")
def update_config(session: Session, server: Any) -> None:
    """Have one server read its configuration anew.

    update_config 'host,16020,1700000000000'
    """
    session.admin("updateConfiguration", session.server(server))
