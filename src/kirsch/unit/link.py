"""Links: `Link=webdb:postgres` makes a unit see the service webdb under the name postgres."""

import re
from dataclasses import dataclass, field

from kirsch.unit.error import UnitError
from kirsch.unit.health import role_name
from kirsch.unit.name import UnitName
from kirsch.unit.syntax import Entry

_SERVICE = re.compile(r"[A-Za-z0-9:_.\\-]+")
# An alias becomes the beginning of variables' names and a name in the hosts file.
_ALIAS = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Link:
    """A unit's use of a service (`webdb`) or of one unit (`notes@1.container`), under an alias.

    `role` is the role that instances of the service are to have, "" for the first of its HealthRole=, if any.
    """

    target: str
    alias: str
    entry: Entry | None = field(default=None, compare=False, repr=False)
    role: str = ""

    @property
    def text(self) -> str:
        """Return TARGET[/ROLE], as the unit file has it."""
        return f"{self.target}/{self.role}" if self.role else self.target


def parse_link(word: str, entry: Entry | None = None) -> Link:
    """Read TARGET[/ROLE][:ALIAS]; the alias is the target's service where none is given, or SERVICE-ROLE.

    Raises UnitError.
    """
    target, colon, alias = word.rpartition(":")
    if not colon:
        target, alias = word, ""
    elif not alias:
        raise UnitError(f'"{word}" ends in ":": an alias follows it, or leave it out')
    target, slash, role = target.partition("/")
    service = _service(target)
    if slash:
        if target != service:
            raise UnitError(f'"{target}" is one unit: a role is asked of a service, as in {service}/{role}')
        role_name(role)
    alias = alias or (f"{service}-{role}" if role else service)
    if not _ALIAS.fullmatch(alias):
        hint = "" if colon else f'; give it one: "{word}:NAME"'
        raise UnitError(
            f'"{alias}" cannot be an alias: it begins with a letter, goes on with letters, digits, "-", "_" '
            f'and ".", and has at most 63 characters{hint}'
        )
    return Link(target, alias, entry, role)


def _service(target: str) -> str:
    if not target:
        raise UnitError("a link names a service or a unit, such as webdb or webdb.container")
    try:
        name = UnitName.parse(target)
    except UnitError as error:
        if "@" in target:
            raise UnitError(f'"{target}" is neither a service nor a unit: {error.message}') from None
        if not _SERVICE.fullmatch(target):
            raise UnitError(f'"{target}" is not the name of a service or a unit') from None
        return target
    if name.is_template:
        raise UnitError(f'"{target}" is a template: link to its service "{name.service}" or to an instance')
    return name.service
