"""security: who may do what (AccessController)."""

from typing import Any

from kirsch.hbase.shell.answer import Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.session import Session, text

ACTIONS = {"R": "READ", "W": "WRITE", "X": "EXEC", "C": "CREATE", "A": "ADMIN"}


@command("security", keep_hashes=True)
def grant(
    session: Session,
    user: str,
    permissions: Any,
    table: Any = None,
    family: Any = None,
    qualifier: Any = None,
) -> int | None:
    """Give a user or @group rights: of all, of a namespace (@ns), a table, family or column.

        grant 'bob', 'RWXCA'
        grant '@admins', 'RWXCA'
        grant 'bob', 'RWXCA', '@ns1'
        grant 'bob', 'RW', 't1', 'f1', 'col1'
        grant 't1', {'bob' => 'RW'}, {COLUMNS => ['f1:q1']}

    R read, W write, X execute, C create, A administer. The last form gives rights of the cells that a scan
    finds now, and answers how many they are.
    """
    if isinstance(permissions, dict):
        return _grant_cells(session, user, permissions, table or {})
    target = _permission(session, _actions(session, permissions), table, family, qualifier)
    granted = session.java("security.access.UserPermission")(text(user, "a user's name"), target)
    session.admin("grant", granted, False)
    return None


@command("security")
def revoke(session: Session, user: str, table: Any = None, family: Any = None, qualifier: Any = None) -> None:
    """Take a user's or @group's rights away: of all, of a namespace (@ns), a table, family or column.

    revoke 'bob'
    revoke 'bob', '@ns1'
    revoke 'bob', 't1', 'f1', 'col1'
    """
    target = _permission(session, _actions(session, ""), table, family, qualifier)
    session.admin(
        "revoke", session.java("security.access.UserPermission")(text(user, "a user's name"), target)
    )


@command("security")
def user_permission(session: Session, table: str | None = None) -> Grid:
    """List rights: all of tables that match a pattern, of a namespace (@ns); global ones if none is named.

    user_permission
    user_permission '@ns1'
    user_permission 't1'
    user_permission 'ns1:t.*'
    """
    client = session.java("security.access.AccessControlClient")
    given = session.connection.java
    rows = []
    found = session.call(
        client.getUserPermissions, given, None if table is None else text(table, "a pattern")
    )
    for one in found:
        rows.append((str(one.getUser()), *_scope(one.getPermission())))
    return Grid(("USER", "SCOPE", "NAMESPACE", "TABLE", "FAMILY", "QUALIFIER", "ACTIONS"), rows, "permission")


@command("security")
def list_security_capabilities(session: Session) -> Names:
    """List what security the server has.

    list_security_capabilities
    """
    return Names("CAPABILITY", sorted(str(c.name()) for c in session.admin("getSecurityCapabilities")))


def _actions(session: Session, letters: Any) -> Any:
    given = text(letters, "rights").upper()
    if unknown := [letter for letter in given if letter not in ACTIONS]:
        raise CommandError(f"{unknown[0]} is no right: there are R, W, X, C and A")
    import jpype

    action = session.java("security.access.Permission$Action")
    return jpype.JArray(action)([action.valueOf(ACTIONS[letter]) for letter in given])


def _permission(session: Session, actions: Any, table: Any, family: Any, qualifier: Any) -> Any:
    builder = session.java("security.access.Permission")
    if table is None:
        return builder.newBuilder().withActions(actions).build()
    name = text(table, "a table's name")
    if name.startswith("@"):
        if family is not None:
            raise UsageError("a namespace has no families: grant 'USER', 'RW', '@NAMESPACE'")
        namespace = name[1:]
        session.admin("getNamespaceDescriptor", namespace)
        return builder.newBuilder(namespace).withActions(actions).build()
    target = session.table_name(name)
    descriptor = session.admin("getDescriptor", target)
    if family is not None and not descriptor.hasColumnFamily(session.bytes(family)):
        raise CommandError(f"there is no family {text(family)} in table {name}")
    made = builder.newBuilder(target)
    if family is not None:
        made = made.withFamily(session.bytes(family))
    if qualifier is not None:
        made = made.withQualifier(session.bytes(qualifier))
    return made.withActions(actions).build()


def _scope(permission: Any) -> tuple[Any, ...]:
    actions = ",".join(str(a.name()) for a in permission.getActions())
    scope = str(permission.getAccessScope().name())
    if scope == "GLOBAL":
        return scope, None, None, None, None, actions
    if scope == "NAMESPACE":
        return scope, str(permission.getNamespace()), None, None, None, actions
    from kirsch.hbase.shell.session import python_bytes

    name = permission.getTableName()
    family, qualifier = permission.getFamily(), permission.getQualifier()
    return (
        scope,
        str(name.getNamespaceAsString()),
        str(name),
        None if family is None else python_bytes(family),
        None if qualifier is None else python_bytes(qualifier),
        actions,
    )


def _grant_cells(session: Session, table: Any, rights: dict[Any, Any], specification: dict[str, Any]) -> int:
    """Writes the cells that a scan finds anew, with rights."""
    permissions = session.java("java.util.HashMap")()
    kind = session.java("security.access.Permission")
    for user, letters in rights.items():
        made = kind.newBuilder().withActions(_actions(session, letters)).build()
        permissions.put(text(user, "a user's name"), made)
    from kirsch.hbase.shell.cells import rewrite

    return rewrite(session, table, specification, lambda put: put.setACL(permissions))
