"""Names of tables, namespaces and families: what HBase allows, checked before it is asked. Pure."""

import re

from kirsch.hbase.errors import Invalid

# TableName.isLegalTableQualifierName and isLegalNamespaceName; ColumnFamilyDescriptorBuilder.isLegal...
_TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NAMESPACE = re.compile(r"[A-Za-z0-9_]+")
_ALLOWED = "letters, digits, _ - and ., and not - or . first"


def table_name(text: str) -> str:
    """A table's name, `table` or `namespace:table`, without `default:` before it. Raises Invalid."""
    if not isinstance(text, str):
        raise Invalid(f"{text!r} is no table's name: it must be a str")
    namespace, colon, table = text.rpartition(":")
    if colon and not _NAMESPACE.fullmatch(namespace):
        raise Invalid(f"{text!r} is no table's name: a namespace has letters, digits and _ only")
    if not _TABLE.fullmatch(table):
        raise Invalid(f"{text!r} is no table's name: it may have {_ALLOWED}")
    return table if namespace == "default" else text


def namespace_name(text: str) -> str:
    """A namespace's name. Raises Invalid."""
    if not isinstance(text, str) or not _NAMESPACE.fullmatch(text):
        raise Invalid(f"{text!r} is no namespace's name: it may have letters, digits and _")
    return text


def family_name(text: str | bytes) -> bytes:
    """A family's name. Raises Invalid."""
    name = text.encode() if isinstance(text, str) else text
    if not name or name.startswith(b".") or b":" in name or b"/" in name or name == b"recovered.edits":
        raise Invalid(f"{text!r} is no family's name: it is not empty, has no : or /, and no . first")
    if len(name) > 127 or any(byte < 0x20 or byte == 0x7F for byte in name):
        raise Invalid(f"{text!r} is no family's name: it is at most 127 bytes, and printable")
    return name
