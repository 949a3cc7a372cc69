"""Permissions of users (ACLs) and visibility labels, where the server has these features on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase.errors import HBaseError, Invalid, Unsupported
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import family_name, namespace_name, table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection

ACTIONS = {"R": "READ", "W": "WRITE", "X": "EXEC", "C": "CREATE", "A": "ADMIN"}


@dataclass(frozen=True, slots=True)
class Permission:
    """Actions of a user or a `@group`, globally or in a namespace, table, family or column.

    `actions` are letters of RWXCA: read, write, execute, create, administer.
    """

    user: str
    actions: str
    namespace: str = ""
    table: str = ""
    family: str = ""
    qualifier: str = ""

    def java(self) -> Any:
        """Return a Java UserPermission. Raises Invalid."""
        kind = hbase("security.access.Permission")
        if self.table:
            builder = kind.newBuilder(hbase("TableName").valueOf(table_name(self.table)))
            if self.family:
                builder.withFamily(family_name(self.family))
            if self.qualifier:
                builder.withQualifier(self.qualifier.encode())
        elif self.family or self.qualifier:
            raise Invalid("a permission for a family or column needs its table: table=")
        elif self.namespace:
            builder = kind.newBuilder(namespace_name(self.namespace))
        else:
            builder = kind.newBuilder()
        unknown = set(self.actions.upper()) - set(ACTIONS)
        if unknown:
            words = ", ".join(f"{letter} ({word.lower()})" for letter, word in ACTIONS.items())
            raise Invalid(f"{self.actions!r}: actions are letters of {words}")
        action = hbase("security.access.Permission$Action")
        actions = [action.valueOf(ACTIONS[letter]) for letter in self.actions.upper()]
        built = builder.withActions(jpype.JArray(action)(actions)).build()
        return hbase("security.access.UserPermission")(self.user, built)


class Permissions:
    """`admin.permissions`. Raises Unsupported where the server does not control access, Denied."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._call = connection.call
        self._java = java

    def grant(self, permission: Permission, *, add: bool = False) -> None:
        """Grant a permission, in place of the present ones, or with `add` in addition."""
        self._call(self._java.grant, permission.java(), add)

    def revoke(self, permission: Permission) -> None:
        """Revoke a permission with all its actions."""
        self._call(self._java.revoke, permission.java())

    def list(self, *, user: str = "", namespace: str = "", table: str = "") -> list[Permission]:
        """Return the permissions of a user, a namespace or a table; global ones if neither of these is
        named."""
        request = hbase("security.access.GetUserPermissionsRequest")
        if table:
            builder = request.newBuilder(hbase("TableName").valueOf(table_name(table)))
        elif namespace:
            builder = request.newBuilder(namespace_name(namespace))
        else:
            builder = request.newBuilder()
        if user:
            builder.withUserName(user)
        return [_permission(one) for one in self._call(self._java.getUserPermissions, builder.build())]

    def find(self, pattern: str | None = None) -> Sequence[Permission]:
        """Return the permissions of the tables whose names match a regular expression, of a namespace
        (`@name`), or global ones."""
        client = hbase("security.access.AccessControlClient")
        found = self._call(client.getUserPermissions, self._connection.java, pattern)
        return [_permission(one) for one in found]


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


class Labels:
    """Visibility labels, as `admin.labels`. Raises Unsupported where VisibilityController is not loaded."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._connection = connection
        self._call = connection.call
        self._java = java

    def check(self) -> None:
        """Raise Unsupported where the server has no visibility labels."""
        if "CELL_VISIBILITY" not in {
            str(one.name()) for one in self._call(self._java.getSecurityCapabilities)
        }:
            raise Unsupported(
                "this server has no visibility labels: VisibilityController is not among its coprocessors "
                "(hbase.coprocessor.master.classes, hbase.coprocessor.region.classes)"
            )

    def add(self, labels: Sequence[str]) -> None:
        """Define labels that cells may have."""
        self._check(self._client("addLabels", _strings(labels)))

    def list(self, pattern: str = ".*") -> Sequence[str]:
        """Return the labels that match a regular expression, sorted."""
        return sorted(str(one.toStringUtf8()) for one in self._client("listLabels", pattern).getLabelList())

    def grant(self, user: str, labels: Sequence[str]) -> None:
        """Let a user see cells with these labels."""
        self._check(self._client("setAuths", _strings(labels), user))

    def of(self, user: str) -> Sequence[str]:
        """Return the labels that a user may see, sorted."""
        return sorted(str(one.toStringUtf8()) for one in self._client("getAuths", user).getAuthList())

    def revoke(self, user: str, labels: Sequence[str] | None = None) -> None:
        """Take labels from a user, all if none is named."""
        if given := self.of(user) if labels is None else labels:
            self._check(self._client("clearAuths", _strings(given), user))

    def _client(self, method: str, *arguments: Any) -> Any:
        self.check()
        client = hbase("security.visibility.VisibilityClient")
        return self._call(getattr(client, method), self._connection.java, *arguments)

    @staticmethod
    def _check(answer: Any) -> None:
        for result in answer.getResultList():
            if result.hasException():
                message = str(result.getException().getValue().toStringUtf8())
                raise HBaseError(message.strip().splitlines()[0].rpartition("Exception: ")[2])


def _strings(values: Sequence[str]) -> Any:
    return jpype.JArray(jpype.JString)(list(values))
