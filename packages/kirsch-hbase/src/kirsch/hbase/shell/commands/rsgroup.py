"""rsgroup: groups of region servers, each with its tables (RSGroupAdminEndpoint)."""

from typing import Any

from kirsch.hbase.shell.answer import Facts, Grid
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.groups import Service
from kirsch.hbase.shell.session import Session, many, text

GROUP = "rsgroup"
SETTING = "hbase.rsgroup.name"


def _name(group: Any) -> str:
    return text(group, "a group's name")


@command(GROUP)
def list_rsgroups(session: Session, pattern: str = ".*") -> Grid:
    """List groups, those that match a pattern if there is one.

    list_rsgroups
    list_rsgroups 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    rows = [
        (group.name, kind, what)
        for group in Service(session).groups()
        if matches.test(group.name)
        for kind, what in (
            *(("server", server) for server in group.servers),
            *(("table", table) for table in group.tables),
            *(() if group.servers or group.tables else ((None, None),)),
        )
    ]
    return Grid(("GROUP", "KIND", "NAME"), rows, "line")


@command(GROUP)
def get_rsgroup(session: Session, group: str) -> Facts:
    """Say which servers and tables a group has.

    get_rsgroup 'my_group'
    """
    found = Service(session).group(_name(group))
    return Facts({"GROUP": found.name, "SERVERS": found.servers, "TABLES": found.tables})


@command(GROUP)
def add_rsgroup(session: Session, group: str) -> None:
    """Make a group.

    add_rsgroup 'my_group'
    """
    Service(session).call("AddRSGroup", r_s_group_name=_name(group))


@command(GROUP)
def remove_rsgroup(session: Session, group: str) -> None:
    """Forget a group, which must be empty.

    remove_rsgroup 'my_group'
    """
    Service(session).call("RemoveRSGroup", r_s_group_name=_name(group))


@command(GROUP)
def rename_rsgroup(session: Session, old: str, new: str) -> None:
    """Give a group another name.

    rename_rsgroup 'default_group', 'my_group'
    """
    Service(session).call("RenameRSGroup", old_rsgroup_name=_name(old), new_rsgroup_name=_name(new))


@command(GROUP)
def balance_rsgroup(session: Session, group: str, *how: str) -> Facts:
    """Spread a group's regions evenly over its servers now.

    balance_rsgroup 'my_group'
    balance_rsgroup 'my_group', 'dry_run'
    """
    given = {text(word).lower() for word in how}
    if unknown := given - {"ignore_rit", "dry_run"}:
        raise CommandError(
            f"balance_rsgroup does not know {', '.join(unknown)}: there are ignore_rit and dry_run"
        )
    answer = Service(session).call(
        "BalanceRSGroup",
        r_s_group_name=_name(group),
        ignore_rit="ignore_rit" in given,
        dry_run="dry_run" in given,
    )
    ran = bool(answer.get("balanceRan"))
    facts = {
        "RAN": ran,
        "MOVES_CALCULATED": answer.get("moves_calculated"),
        "MOVES_EXECUTED": answer.get("moves_executed"),
    }
    return Facts(facts, f"The balancer {'ran' if ran else 'did not run'}")


@command(GROUP)
def move_servers_rsgroup(session: Session, group: str, servers: Any) -> None:
    """Give servers to a group; regions of other groups' tables leave them.

    move_servers_rsgroup 'dest', ['host1:16020', 'host2:16020']
    """
    Service(session).call("MoveServers", target_group=_name(group), servers=many(servers))


@command(GROUP)
def move_tables_rsgroup(session: Session, group: str, tables: Any) -> None:
    """Give tables to a group; their regions go to its servers.

    move_tables_rsgroup 'dest', ['t1', 't2']
    """
    Service(session).call("MoveTables", target_group=_name(group), table_name=_tables(session, tables))


@command(GROUP)
def move_servers_tables_rsgroup(session: Session, group: str, servers: Any, tables: Any) -> None:
    """Give servers and tables to a group.

    move_servers_tables_rsgroup 'dest', ['host1:16020'], ['t1', 't2']
    """
    Service(session).call(
        "MoveServersAndTables",
        target_group=_name(group),
        servers=many(servers),
        table_name=_tables(session, tables),
    )


@command(GROUP)
def move_namespaces_rsgroup(session: Session, group: str, namespaces: Any) -> None:
    """Give namespaces to a group, with the tables they have and will have.

    move_namespaces_rsgroup 'dest', ['ns1', 'ns2']
    """
    service = Service(session)
    service.group(_name(group))
    tables = _join(session, group, namespaces)
    if tables:
        service.call("MoveTables", target_group=_name(group), table_name=tables)


@command(GROUP)
def move_servers_namespaces_rsgroup(session: Session, group: str, servers: Any, namespaces: Any) -> None:
    """Give servers and namespaces to a group.

    move_servers_namespaces_rsgroup 'dest', ['host1:16020'], ['ns1', 'ns2']
    """
    service = Service(session)
    service.group(_name(group))
    tables = _join(session, group, namespaces)
    service.call("MoveServersAndTables", target_group=_name(group), servers=many(servers), table_name=tables)


@command(GROUP)
def remove_servers_rsgroup(session: Session, servers: Any) -> None:
    """Forget servers that were decommissioned.

    remove_servers_rsgroup ['host1:16020', 'host2:16020']
    """
    Service(session).call("RemoveServers", servers=many(servers))


@command(GROUP)
def get_server_rsgroup(session: Session, server: Any) -> str:
    """Say which group a server is in.

    get_server_rsgroup 'host1:16020'
    """
    return Service(session).of("GetRSGroupInfoOfServer", server=text(server, "a server's name")).name


@command(GROUP)
def get_table_rsgroup(session: Session, table: Any) -> str:
    """Say which group a table is in.

    get_table_rsgroup 't1'
    """
    name = session.table_name(table)
    session.admin("getDescriptor", name)
    return Service(session).of("GetRSGroupInfoOfTable", table_name=str(name)).name


@command(GROUP)
def get_namespace_rsgroup(session: Session, namespace: str) -> str:
    """Say which group a namespace's new tables go to.

    get_namespace_rsgroup 'ns1'
    """
    Service(session).groups()
    descriptor = session.admin("getNamespaceDescriptor", text(namespace, "a namespace's name"))
    return str(descriptor.getConfigurationValue(SETTING) or "default")


@command(GROUP)
def show_rsgroup_config(session: Session, group: str) -> Facts:
    """Say how a group is set up.

    show_rsgroup_config 'my_group'
    """
    return Facts(Service(session).group(_name(group)).configuration)


@command(GROUP, keep_hashes=True)
def alter_rsgroup_config(session: Session, group: str, *changes: dict[str, Any], **more: Any) -> None:
    """Change a group's settings.

    alter_rsgroup_config 'my_group', {METHOD => 'set', 'hbase.rsgroup.fallback.enable' => 'true'}
    alter_rsgroup_config 'my_group', {METHOD => 'unset', NAME => 'hbase.rsgroup.fallback.enable'}
    """
    service = Service(session)
    configuration = dict(service.group(_name(group)).configuration)
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
                "alter_rsgroup_config: METHOD => 'set' with settings, or METHOD => 'unset', NAME => 'SETTING'"
            )
    service.call("UpdateRSGroupConfig", group_name=_name(group), configuration=configuration)


def _tables(session: Session, tables: Any) -> list[str]:
    names = []
    for table in many(tables):
        name = session.table_name(table)
        session.admin("getDescriptor", name)
        names.append(str(name))
    return names


def _join(session: Session, group: str, namespaces: Any) -> list[str]:
    """Writes the group into the namespaces' settings; their tables."""
    tables: list[str] = []
    for namespace in many(namespaces):
        descriptor = session.admin("getNamespaceDescriptor", text(namespace, "a namespace's name"))
        descriptor.setConfiguration(SETTING, _name(group))
        session.admin("modifyNamespace", descriptor)
        tables += [str(name) for name in session.admin("listTableNamesByNamespace", text(namespace))]
    return tables
