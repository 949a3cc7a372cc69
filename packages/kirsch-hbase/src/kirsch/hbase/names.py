"""Names of tables, namespaces and families, checked before HBase is asked. Pure."""

import unicodedata

from kirsch.hbase.errors import Invalid

# TableName.isLegalTableQualifierName and isLegalNamespaceName; ColumnFamilyDescriptorBuilder.isLegal...
_LETTERS = ("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Nd", "Mn", "Mc")
_ALLOWED = "letters, digits, _ - and ., and not - or . first"


def table_name(text: str) -> str:
    """Check a table's name, `table` or `namespace:table`, and drop `default:` before it. Raises Invalid."""
    if not isinstance(text, str):
        raise Invalid(f"{text!r} is no table's name: it must be a str")
    namespace, colon, table = text.rpartition(":")
    if colon and not _of_letters(namespace, "_"):
        raise Invalid(f"{text!r} is no table's name: a namespace has letters, digits and _ only")
    if not _of_letters(table, "_-.") or table[0] in "-.":
        raise Invalid(f"{text!r} is no table's name: it may have {_ALLOWED}")
    return table if namespace == "default" else text


def namespace_name(text: str) -> str:
    """Check a namespace's name. Raises Invalid."""
    if not isinstance(text, str) or not _of_letters(text, "_"):
        raise Invalid(f"{text!r} is no namespace's name: it may have letters, digits and _")
    return text


def family_name(text: str | bytes) -> bytes:
    """Check a family's name. Raises Invalid."""
    if not isinstance(text, str | bytes):
        raise Invalid(f"{text!r} is no family's name: it must be a str")
    # Bytes that are no text are told apart as Python tells file names (PEP 383).
    name = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    told = name.decode(errors="backslashreplace")
    if not name or name[:1] == b"." or set(name) & set(b":/\\") or name == b"recovered.edits":
        raise Invalid(f"{told!r} is no family's name: it is not empty, has no : / or \\, and no . first")
    if len(name) > 127 or any(byte < 0x20 or byte == 0x7F for byte in name):
        raise Invalid(f"{told!r} is no family's name: it is at most 127 bytes, and printable")
    return name


def _of_letters(text: str, others: str) -> bool:
    """Return whether a text consists of letters and digits of any script, and `others`. Java rejects some
    combining marks itself."""
    return bool(text) and all(
        c in others or (c <= "\uffff" and unicodedata.category(c) in _LETTERS) for c in text
    )
