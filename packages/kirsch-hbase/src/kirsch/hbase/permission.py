"""Permissions: who may do what, where the server controls access (ACLs)."""

from dataclasses import dataclass
from typing import Any

import jpype

from kirsch.hbase.calls import call
from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import family_name, namespace_name, table_name

ACTIONS = {"R": "READ", "W": "WRITE", "X": "EXEC", "C": "CREATE", "A": "ADMIN"}


@dataclass(frozen=True, slots=True)
class Permission:
    """`actions` of RWXCA (read, write, execute, create, administer) for a user, or a group by `@group`:
    everywhere, in a namespace, in a table, in a family or column of it."""

    user: str
    actions: str
    namespace: str = ""
    table: str = ""
    family: str = ""
    qualifier: str = ""


class Permissions:
    """`admin.permissions`. Raises Unsupported where the server does not control access, Denied."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def grant(self, permission: Permission, *, add: bool = False) -> None:
        """Give a permission; `add`: to those that there are, else in their place."""
        call(self._java.grant, _java(permission), add)

    def revoke(self, permission: Permission) -> None:
        """Take a permission, all actions of it."""
        call(self._java.revoke, _java(permission))

    def list(self, *, user: str = "", namespace: str = "", table: str = "") -> list[Permission]:
        """Those of a user, a namespace or a table; the global ones if neither of the last two is named."""
        request = hbase("security.access.GetUserPermissionsRequest")
        if table:
            builder = request.newBuilder(hbase("TableName").valueOf(table_name(table)))
        elif namespace:
            builder = request.newBuilder(namespace_name(namespace))
        else:
            builder = request.newBuilder()
        if user:
            builder.withUserName(user)
        return [_permission(one) for one in call(self._java.getUserPermissions, builder.build())]


def _java(permission: Permission) -> Any:
    kind = hbase("security.access.Permission")
    if permission.table:
        builder = kind.newBuilder(hbase("TableName").valueOf(table_name(permission.table)))
        if permission.family:
            builder.withFamily(family_name(permission.family))
        if permission.qualifier:
            builder.withQualifier(permission.qualifier.encode())
    elif permission.family or permission.qualifier:
        raise Invalid("a permission for a family or a column names its table")
    elif permission.namespace:
        builder = kind.newBuilder(namespace_name(permission.namespace))
    else:
        builder = kind.newBuilder()
    unknown = set(permission.actions.upper()) - set(ACTIONS)
    if unknown:
        words = ", ".join(f"{letter} ({word.lower()})" for letter, word in ACTIONS.items())
        raise Invalid(f"{permission.actions!r} is not made of {words}")
    action = hbase("security.access.Permission$Action")
    actions = [action.valueOf(ACTIONS[letter]) for letter in permission.actions.upper()]
    built = builder.withActions(jpype.JArray(action)(actions)).build()
    return hbase("security.access.UserPermission")(permission.user, built)


def _permission(java: Any) -> Permission:
    permission = java.getPermission()
    letters = {name: letter for letter, name in ACTIONS.items()}
    given = {str(action.name()) for action in permission.getActions()}
    actions = "".join(letter for name, letter in letters.items() if name in given)
    scope = str(java.getAccessScope().name())
    user = str(java.getUser())
    if scope == "TABLE":
        table = str(permission.getTableName().getNameAsString())
        family, qualifier = permission.getFamily(), permission.getQualifier()
        return Permission(user, actions, "", table, _text(family), _text(qualifier))
    if scope == "NAMESPACE":
        return Permission(user, actions, str(permission.getNamespace()))
    return Permission(user, actions)


def _text(value: Any) -> str:
    return "" if value is None else bytes(value).decode(errors="backslashreplace")
