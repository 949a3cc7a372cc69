"""Options of tables and families as people type them, as what kirsch.hbase's Schema takes."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kirsch.hbase.schema import Family, Schema
from kirsch.hbase.shell.command import CommandError, UsageError
from kirsch.hbase.shell.session import Session, many, text

# What each option takes: int, long, short, bool, str, size and time (a number, or text such as 10MB, 1 DAY),
# or the name of one of Java's enums.
_COMPRESSION = "io.compress.Compression$Algorithm"
FAMILY = {
    "VERSIONS": "int",
    "MIN_VERSIONS": "int",
    "TTL": "time",
    "BLOCKSIZE": "size",
    "BLOOMFILTER": "regionserver.BloomType",
    "COMPRESSION": _COMPRESSION,
    "COMPRESSION_COMPACT": _COMPRESSION,
    "COMPRESSION_COMPACT_MAJOR": _COMPRESSION,
    "COMPRESSION_COMPACT_MINOR": _COMPRESSION,
    "DATA_BLOCK_ENCODING": "io.encoding.DataBlockEncoding",
    "INDEX_BLOCK_ENCODING": "io.encoding.IndexBlockEncoding",
    "IN_MEMORY": "bool",
    "IN_MEMORY_COMPACTION": "MemoryCompactionPolicy",
    "BLOCKCACHE": "bool",
    "CACHE_DATA_ON_WRITE": "bool",
    "CACHE_INDEX_ON_WRITE": "bool",
    "CACHE_BLOOMS_ON_WRITE": "bool",
    "EVICT_BLOCKS_ON_CLOSE": "bool",
    "PREFETCH_BLOCKS_ON_OPEN": "bool",
    "KEEP_DELETED_CELLS": "KeepDeletedCells",
    "REPLICATION_SCOPE": "int",
    "COMPRESS_TAGS": "bool",
    "ENCRYPTION": "str",
    "IS_MOB": "bool",
    "MOB_THRESHOLD": "long",
    "MOB_COMPACT_PARTITION_POLICY": "client.MobCompactPartitionPolicy",
    "DFS_REPLICATION": "short",
    "STORAGE_POLICY": "str",
    "NEW_VERSION_BEHAVIOR": "bool",
}
TABLE = {
    "MAX_FILESIZE": "size",
    "MEMSTORE_FLUSHSIZE": "size",
    "READONLY": "bool",
    "COMPACTION_ENABLED": "bool",
    "SPLIT_ENABLED": "bool",
    "MERGE_ENABLED": "bool",
    "NORMALIZATION_ENABLED": "bool",
    "NORMALIZER_TARGET_REGION_COUNT": "int",
    "NORMALIZER_TARGET_REGION_SIZE": "long",
    "NORMALIZER_TARGET_REGION_SIZE_MB": "long",
    "DURABILITY": "client.Durability",
    "PRIORITY": "int",
    "FLUSH_POLICY": "str",
    "SPLIT_POLICY": "str",
    "REGION_REPLICATION": "int",
    "REGION_MEMSTORE_REPLICATION": "bool",
    "ERASURE_CODING_POLICY": "str",
    "OWNER": "str",
}
# What HBase keeps under another name.
_KEPT = {"NORMALIZER_TARGET_REGION_SIZE": "NORMALIZER_TARGET_REGION_SIZE_MB"}
# The largest of Java's numbers.
MOST = {"short": (1 << 15) - 1, "int": (1 << 31) - 1, "long": (1 << 63) - 1}
_UNITS = {"size": "BYTE", "time": "TIME_INTERVAL"}
MAPS = ("CONFIGURATION", "METADATA")
# What a hash has that says which family it is, or what is to be done.
NAMES = ("NAME", "METHOD", "CLASSNAME")
COPROCESSOR = "coprocessor"


def upper(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Options with their names in upper case; a coprocessor's stays as it is."""
    named = {text(key, "an option's name"): value for key, value in given.items()}
    return {
        key if key.lower().startswith(COPROCESSOR) else key.upper(): value for key, value in named.items()
    }


def with_family(session: Session, table: Schema, name: str, given: Mapping[str, Any]) -> Schema:
    """Return a table with a family of these options. Raises CommandError, UsageError, HBaseError."""
    old = next((family for family in table.families if family.name == name), None) or Family(name)
    attributes, configuration, _ = _options(session, "a family", FAMILY, given)
    return table.with_family(old.with_words(attributes, configuration))


def with_options(session: Session, table: Schema, given: Mapping[str, Any]) -> Schema:
    """Return a table with options. Raises CommandError, UsageError, HBaseError."""
    attributes, configuration, coprocessors = _options(session, "a table", TABLE, given)
    # HBase keeps both in one place, where Schema tells them apart by their names.
    words = {**attributes, **configuration}
    return replace(
        table,
        attributes={**table.attributes, **{name: word for name, word in words.items() if "." not in name}},
        configuration={**table.configuration, **{name: word for name, word in words.items() if "." in name}},
        coprocessors=(*table.coprocessors, *coprocessors),
    )


def _options(
    session: Session, what: str, known: Mapping[str, str], given: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return attributes by the names that HBase keeps them under, settings that differ, and coprocessors."""
    attributes: dict[str, str] = {}
    configuration: dict[str, str] = {}
    coprocessors: list[str] = []
    for key, value in given.items():
        if key in NAMES:
            continue
        if key in MAPS:
            (configuration if key == "CONFIGURATION" else attributes).update(_map(key, value))
        elif key in known:
            attributes[_KEPT.get(key, key)] = _word(session, known[key], key, value)
        elif known is TABLE and key.lower().startswith(COPROCESSOR):
            coprocessors.extend(text(one) for one in many(value))
        else:
            raise UsageError(_unknown(what, key, known))
    return attributes, configuration, coprocessors


def _word(session: Session, kind: str, key: str, value: Any) -> str:
    """Return an option's value as HBase keeps it."""
    if kind in MOST:
        return str(_whole(key, value, MOST[kind]))
    if kind == "bool":
        return str(_truth(key, value)).lower()
    if kind == "str":
        return text(value, key)
    if kind in _UNITS:
        if kind == "time" and str(value).upper() == "FOREVER":
            return str(MOST["int"])
        if str(value).strip().isdecimal():
            return str(_whole(key, value))
        printer = session.java("util.PrettyPrinter")
        unit = session.enum("util.PrettyPrinter$Unit", _UNITS[kind])
        return str(session.call(printer.valueOf, text(value, key), unit))
    try:
        return str(session.enum(kind, value).name())
    except CommandError as error:
        raise CommandError(f"{key}: {error}") from None


def _whole(key: str, value: Any, most: int = (1 << 63) - 1) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        raise CommandError(f"{key} is a whole number, not {value!r}")
    if int(value) > most:
        raise CommandError(f"{key} is {most} at most, not {value}")
    return int(value)


def _truth(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise CommandError(f"{key} is true or false, not {value!r}")


def _map(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{key} is a hash: {key} => {{'setting' => 'value'}}")
    return {text(setting): text(one) for setting, one in value.items()}


def _unknown(what: str, key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, [*known, *MAPS], 1)
    return f"{what} has no option {key}" + (
        f"; do you mean {near[0]}?" if near else ": help('create') says which"
    )
