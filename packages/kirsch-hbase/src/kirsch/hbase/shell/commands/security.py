"""Groups `security` (AccessController) and `visibility labels` (VisibilityController)."""

from typing import Any

from kirsch.hbase.permission import ACTIONS, Permission
from kirsch.hbase.shell.answers import Grid, Names
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.queries import SCAN, rewrite
from kirsch.hbase.shell.session import Session, family_text, python_bytes, table_name, text

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
    given = _permission(session, user, _actions(permissions), table, family, qualifier)
    session.admin.permissions.grant(given)
    return None


@command("security")
def revoke(session: Session, user: str, table: Any = None, family: Any = None, qualifier: Any = None) -> None:
    """Revoke permissions: global ones, or of a namespace (@ns), table, family or column.

    revoke 'bob'
    revoke 'bob', '@ns1'
    revoke 'bob', 't1', 'f1', 'col1'
    """
    session.admin.permissions.revoke(_permission(session, user, "", table, family, qualifier))


@command("security")
def user_permission(session: Session, table: str | None = None) -> Grid:
    """List permissions: global ones, of a namespace (@ns), or of tables that match a pattern.

    user_permission
    user_permission '@ns1'
    user_permission 't1'
    user_permission 'ns1:t.*'
    """
    found = session.admin.permissions.find(None if table is None else text(table, "a pattern"))
    rows = [(one.user, *_scope(one)) for one in found]
    return Grid(("USER", "SCOPE", "NAMESPACE", "TABLE", "FAMILY", "QUALIFIER", "ACTIONS"), rows, "permission")


def _actions(letters: Any) -> str:
    given = text(letters, "permissions").upper()
    if unknown := [letter for letter in given if letter not in ACTIONS]:
        raise CommandError(f"{unknown[0]} is not a permission: there are R, W, X, C and A")
    return given


def _permission(
    session: Session, user: Any, actions: str, table: Any, family: Any, qualifier: Any
) -> Permission:
    who = text(user, "a user's name")
    if table is None:
        return Permission(who, actions)
    name = text(table, "a table's name")
    if name.startswith("@"):
        if family is not None:
            raise UsageError("a namespace has no families: grant 'USER', 'RW', '@NAMESPACE'")
        session.admin.namespaces.configuration(name[1:])
        return Permission(who, actions, namespace=name[1:])
    name = table_name(name)
    only = "" if family is None else family_text(family)
    if only not in ("", *(one.name for one in session.admin.schema(name).families)):
        raise CommandError(f"there is no family {text(family)} in table {name}")
    return Permission(
        who, actions, table=name, family=only, qualifier="" if qualifier is None else text(qualifier)
    )


def _scope(permission: Permission) -> tuple[Any, ...]:
    actions = ",".join(ACTIONS[letter] for letter in permission.actions)
    if permission.table:
        namespace = permission.table.rpartition(":")[0] or "default"
        family, qualifier = permission.family.encode() or None, permission.qualifier.encode() or None
        return "TABLE", namespace, permission.table, family, qualifier, actions
    if permission.namespace:
        return "NAMESPACE", permission.namespace, None, None, None, actions
    return "GLOBAL", None, None, None, None, actions


def _grant_cells(session: Session, table: Any, rights: dict[Any, Any], specification: dict[str, Any]) -> int:
    """Rewrite the cells that a scan finds with permissions of their own."""
    permissions = session.java("java.util.HashMap")()
    for user, letters in rights.items():
        given = Permission(text(user, "a user's name"), _actions(letters))
        permissions.put(given.user, given.java().getPermission())
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
    session.admin.labels.check()
    expression = text(visibility, "a visibility")
    return rewrite(session, table, {**(specification or {}), **more}, visibility=expression)
