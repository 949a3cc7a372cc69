"""Groups `security` (AccessController) and `visibility labels` (VisibilityController)."""

from typing import Any

from kirsch.hbase.shell.answers import Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.queries import SCAN, rewrite
from kirsch.hbase.shell.session import Session, python_bytes, text

ACTIONS = {"R": "READ", "W": "WRITE", "X": "EXEC", "C": "CREATE", "A": "ADMIN"}


rows(
    "security",
    {
        "list_security_capabilities": (
            lambda admin: Names("CAPABILITY", admin.cluster.capabilities()),
            "List the security features of the server.\n\nlist_security_capabilities",
        ),
    },
)

rows(
    "visibility labels",
    {
        "add_labels": (
            lambda admin, labels: admin.labels.add(labels),
            "Define visibility labels.\n\nadd_labels ['SECRET', 'PRIVATE']",
        ),
        "list_labels": (
            lambda admin, pattern=".*": Names("LABEL", admin.labels.list(pattern)),
            "List visibility labels, all or those that match a pattern.\n\n"
            "list_labels\nlist_labels 'secret.*'",
        ),
        "set_auths": (
            lambda admin, user, labels: admin.labels.grant(user, labels),
            "Let a user see cells with these labels.\n\nset_auths 'bob', ['SECRET', 'PRIVATE']",
        ),
        "get_auths": (
            lambda admin, user: Names("LABEL", admin.labels.of(user)),
            "List the labels that a user may see.\n\nget_auths 'bob'",
        ),
        "clear_auths": (
            lambda admin, user, labels=None: admin.labels.revoke(user, labels),
            "Take labels from a user, all if none is named.\n\n"
            "clear_auths 'bob', ['SECRET']\nclear_auths 'bob'",
        ),
    },
)


@command("security", keep_hashes=True)
def grant(
    session: Session,
    user: str,
    permissions: Any,
    table: Any = None,
    family: Any = None,
    qualifier: Any = None,
) -> int | None:
    """Grant a user or @group permissions: globally, or of a namespace (@ns), table, family or column.

        grant 'bob', 'RWXCA'
        grant '@admins', 'RWXCA'
        grant 'bob', 'RWXCA', '@ns1'
        grant 'bob', 'RW', 't1', 'f1', 'col1'
        grant 't1', {'bob' => 'RW'}, {COLUMNS => ['f1:q1']}

    R read, W write, X execute, C create, A administer. The last form grants permissions of the cells that a
    scan finds now, and returns their number.
    """
    if isinstance(permissions, dict):
        return _grant_cells(session, user, permissions, table or {})
    target = _permission(session, _actions(session, permissions), table, family, qualifier)
    granted = session.java("security.access.UserPermission")(text(user, "a user's name"), target)
    session.admin("grant", granted, False)
    return None


@command("security")
def revoke(session: Session, user: str, table: Any = None, family: Any = None, qualifier: Any = None) -> None:
    """Revoke permissions: global ones, or of a namespace (@ns), table, family or column.

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
    """List permissions: global ones, of a namespace (@ns), or of tables that match a pattern.

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


def _actions(session: Session, letters: Any) -> Any:
    given = text(letters, "permissions").upper()
    if unknown := [letter for letter in given if letter not in ACTIONS]:
        raise CommandError(f"{unknown[0]} is not a permission: there are R, W, X, C and A")
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
    """Rewrite the cells that a scan finds with permissions of their own."""
    permissions = session.java("java.util.HashMap")()
    kind = session.java("security.access.Permission")
    for user, letters in rights.items():
        made = kind.newBuilder().withActions(_actions(session, letters)).build()
        permissions.put(text(user, "a user's name"), made)
    put = session.java("client.Put")(session.bytes(b"any"))
    session.call(put.setACL, permissions)
    attributes = {
        str(one.getKey()): python_bytes(one.getValue()) for one in put.getAttributesMap().entrySet()
    }
    return rewrite(session, table, specification, attributes=attributes)


@command("visibility labels", keep_hashes=True, options=SCAN)
def set_visibility(
    session: Session, table: Any, visibility: str, specification: Any = None, **more: Any
) -> int:
    """Set the visibility of the cells that a scan finds. Returns their number.

    set_visibility 't1', 'SECRET&!PUBLIC', {COLUMNS => ['f1', 'f2:q']}
    """
    session.connection.admin.labels.check()
    expression = text(visibility, "a visibility")
    return rewrite(session, table, {**(specification or {}), **more}, visibility=expression)
