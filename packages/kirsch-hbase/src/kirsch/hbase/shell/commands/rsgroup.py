"""Group `rsgroup`: groups of region servers (RSGroupAdminEndpoint)."""

from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, text

GROUP = "rsgroup"


rows(
    GROUP,
    {
        "add_rsgroup": (
            lambda admin, group: admin.groups.add(group),
            "Add an empty group of region servers.\n\nadd_rsgroup 'my_group'",
        ),
        "remove_rsgroup": (
            lambda admin, group: admin.groups.remove(group),
            "Remove a group, which must be empty.\n\nremove_rsgroup 'my_group'",
        ),
        "rename_rsgroup": (
            lambda admin, group, new_group: admin.groups.rename(group, new_group),
            "Rename a group.\n\nrename_rsgroup 'default_group', 'my_group'",
        ),
        "move_servers_rsgroup": (
            lambda admin, group, addresses: admin.groups.move(group, addresses),
            "Move servers to a group. Regions of other groups' tables leave them.\n\n"
            "move_servers_rsgroup 'dest', ['host1:16020', 'host2:16020']",
        ),
        "move_tables_rsgroup": (
            lambda admin, group, tables: admin.groups.move(group, tables=tables),
            "Move tables to a group. Their regions move to its servers.\n\n"
            "move_tables_rsgroup 'dest', ['t1', 't2']",
        ),
        "move_servers_tables_rsgroup": (
            lambda admin, group, addresses, tables: admin.groups.move(group, addresses, tables),
            "Move servers and tables to a group.\n\n"
            "move_servers_tables_rsgroup 'dest', ['host1:16020'], ['t1', 't2']",
        ),
        "move_namespaces_rsgroup": (
            lambda admin, group, namespaces: admin.groups.move_namespaces(group, namespaces),
            "Move namespaces to a group, with the tables they have and will have.\n\n"
            "move_namespaces_rsgroup 'dest', ['ns1', 'ns2']",
        ),
        "move_servers_namespaces_rsgroup": (
            lambda admin, group, addresses, namespaces: admin.groups.move_namespaces(
                group, namespaces, addresses
            ),
            "Move servers and namespaces to a group.\n\n"
            "move_servers_namespaces_rsgroup 'dest', ['host1:16020'], ['ns1', 'ns2']",
        ),
        "remove_servers_rsgroup": (
            lambda admin, addresses: admin.groups.remove_servers(addresses),
            "Remove decommissioned servers from their groups.\n\n"
            "remove_servers_rsgroup ['host1:16020', 'host2:16020']",
        ),
        "get_rsgroup": (
            lambda admin, group: (
                lambda found: Facts({"GROUP": found.name, "SERVERS": found.servers, "TABLES": found.tables})
            )(admin.groups.get(group)),
            "Show the servers and tables of a group.\n\nget_rsgroup 'my_group'",
        ),
        "get_server_rsgroup": (
            lambda admin, address: admin.groups.of_server(address).name,
            "Show the group of a server.\n\nget_server_rsgroup 'host1:16020'",
        ),
        "get_table_rsgroup": (
            lambda admin, table: admin.groups.of_table(table).name,
            "Show the group of a table.\n\nget_table_rsgroup 't1'",
        ),
        "get_namespace_rsgroup": (
            lambda admin, namespace: admin.groups.of_namespace(namespace),
            "Show the group that a namespace's new tables join.\n\nget_namespace_rsgroup 'ns1'",
        ),
        "show_rsgroup_config": (
            lambda admin, group: Facts(admin.groups.get(group).configuration),
            "Show a group's settings.\n\nshow_rsgroup_config 'my_group'",
        ),
    },
)


def _name(group: Any) -> str:
    return text(group, "a group's name")


@command(GROUP)
def list_rsgroups(session: Session, pattern: str = ".*") -> Grid:
    """List groups, all or those that match a pattern.

    list_rsgroups
    list_rsgroups 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    lines = [
        (group.name, kind, what)
        for group in session.connection.admin.groups.list()
        if matches.test(group.name)
        for kind, what in (
            *(("server", server) for server in group.servers),
            *(("table", table) for table in group.tables),
            *(() if group.servers or group.tables else ((None, None),)),
        )
    ]
    return Grid(("GROUP", "KIND", "NAME"), lines, "line")


@command(GROUP)
def balance_rsgroup(session: Session, group: str, *how: str) -> Facts:
    """Distribute a group's regions evenly over its servers now.

    balance_rsgroup 'my_group'
    balance_rsgroup 'my_group', 'dry_run'
    """
    given = {text(word).lower() for word in how}
    if unknown := given - {"ignore_rit", "dry_run"}:
        raise CommandError(
            f"balance_rsgroup does not know {', '.join(unknown)}: there are ignore_rit and dry_run"
        )
    groups = session.connection.admin.groups
    answer = groups.balance(
        text(group, "a group's name"), ignore_rit="ignore_rit" in given, dry_run="dry_run" in given
    )
    ran = bool(answer.get("balanceRan"))
    facts = {
        "RAN": ran,
        "MOVES_CALCULATED": answer.get("moves_calculated"),
        "MOVES_EXECUTED": answer.get("moves_executed"),
    }
    return Facts(facts, f"The balancer {'ran' if ran else 'did not run'}")


@command(GROUP, keep_hashes=True)
def alter_rsgroup_config(session: Session, group: str, *changes: dict[str, Any], **more: Any) -> None:
    """Change a group's settings.

    alter_rsgroup_config 'my_group', {METHOD => 'set', 'hbase.rsgroup.fallback.enable' => 'true'}
    alter_rsgroup_config 'my_group', {METHOD => 'unset', NAME => 'hbase.rsgroup.fallback.enable'}
    """
    groups, name = session.connection.admin.groups, text(group, "a group's name")
    configuration = dict(groups.get(name).configuration)
    for change in [c for c in (*changes, more) if c]:
        settings = {str(key): value for key, value in change.items()}
        upper = {key.upper(): key for key in settings}
        method = settings.pop(upper.get("METHOD", ""), None)
        if method == "set" and settings:
            configuration.update({key: text(value) for key, value in settings.items()})
        elif method == "unset" and "NAME" in upper:
            configuration.pop(text(settings[upper["NAME"]]), None)
        else:
            raise UsageError(
                "alter_rsgroup_config: METHOD => 'set' with settings, or METHOD => 'unset', NAME => 'WHICH'"
            )
    groups.configure(name, configuration)
