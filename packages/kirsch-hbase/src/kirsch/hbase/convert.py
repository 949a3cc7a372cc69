"""Conversion of values between Java and Python: `to_python`, `to_java`."""

from collections.abc import Iterable, Mapping
from typing import Any

import jpype

from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import cls


def to_python(value: Any) -> Any:
    """Convert a Java value to Python: strings, numbers, byte[] (bytes), arrays and collections (list, set,
    dict), Optional (its value or None), enums (their names). Other values are returned unchanged."""
    if (
        value is None
        or isinstance(value, bool | bytes | dict | list | set)
        or type(value) in (int, float, str)
    ):
        return value
    if isinstance(value, jpype.JArray(jpype.JByte)):
        return bytes(value)
    if isinstance(value, jpype.JArray):
        return [to_python(one) for one in value]
    if isinstance(value, jpype.JString):
        return str(value)
    if isinstance(value, cls("java.lang.Enum")):
        return str(value.name())
    if isinstance(value, jpype.JBoolean | cls("java.lang.Boolean")):
        return bool(value)
    if isinstance(value, int | cls("java.lang.Long") | cls("java.lang.Integer") | cls("java.lang.Short")):
        return int(value)
    if isinstance(value, float | cls("java.lang.Double") | cls("java.lang.Float")):
        return float(value)
    if isinstance(value, cls("java.util.Optional")):
        return to_python(value.get()) if value.isPresent() else None
    if isinstance(value, cls("java.util.Map")):
        return {_key(entry.getKey()): to_python(entry.getValue()) for entry in value.entrySet()}
    if isinstance(value, cls("java.util.Set")):
        return {_key(one) for one in value}
    if isinstance(value, cls("java.util.Collection")):
        return [to_python(one) for one in value]
    if isinstance(value, hbase_bytes()):
        return bytes(value.get())
    return value


def to_java(value: Any) -> Any:
    """Convert a Python value to Java: bytes to byte[], str to String, int to Long, sequences to ArrayList,
    sets to HashSet, mappings to HashMap, their members too. A Java value is returned unchanged."""
    if value is None or isinstance(value, jpype.JObject):
        return value
    if isinstance(value, bytes | bytearray):
        return jpype.JArray(jpype.JByte)(bytes(value))
    if isinstance(value, str):
        return jpype.JString(value)
    if isinstance(value, bool):
        return cls("java.lang.Boolean").valueOf(value)
    if isinstance(value, int):
        return cls("java.lang.Long").valueOf(jpype.JLong(value))
    if isinstance(value, float):
        return cls("java.lang.Double").valueOf(jpype.JDouble(value))
    if isinstance(value, Mapping):
        made = cls("java.util.LinkedHashMap")()
        for key, one in value.items():
            made.put(to_java(key), to_java(one))
        return made
    if isinstance(value, set | frozenset):
        return _collection("java.util.LinkedHashSet", value)
    if isinstance(value, Iterable):
        return _collection("java.util.ArrayList", value)
    return value


def pattern(text: str) -> Any:
    """Return a Java Pattern of a regular expression. Raises Invalid."""
    try:
        return cls("java.util.regex.Pattern").compile(text)
    except jpype.JException as error:
        raise Invalid(f"{text!r} is no regular expression: {error.getDescription()}") from None


def _collection(name: str, values: Iterable[Any]) -> Any:
    made = cls(name)()
    for value in values:
        made.add(to_java(value))
    return made


def _key(value: Any) -> Any:
    """Return a value as a dict's key."""
    key = to_python(value)
    return tuple(key) if isinstance(key, list) else key


def hbase_bytes() -> Any:
    """Return the class org.apache.hadoop.hbase.util.Bytes."""
    return cls("org.apache.hadoop.hbase.util.Bytes")
