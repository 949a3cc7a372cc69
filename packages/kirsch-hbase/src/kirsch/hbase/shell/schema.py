"""Tables' and families' options as people type them, and Java's builders that take them."""

import difflib
from collections.abc import Mapping
from typing import Any

from kirsch.hbase.names import family_name
from kirsch.hbase.shell.command import CommandError, UsageError
from kirsch.hbase.shell.session import Session, data, many, text

# Each option's setter, and what it takes: int, long, short, bool, str, size (a number, or text such as 10MB),
# or the name of an enum.
FAMILY = {
    "VERSIONS": ("setMaxVersions", "int"),
    "MIN_VERSIONS": ("setMinVersions", "int"),
    "TTL": ("setTimeToLive", "time"),
    "BLOCKSIZE": ("setBlocksize", "size"),
    "BLOOMFILTER": ("setBloomFilterType", "regionserver.BloomType"),
    "COMPRESSION": ("setCompressionType", "io.compress.Compression$Algorithm"),
    "COMPRESSION_COMPACT": ("setCompactionCompressionType", "io.compress.Compression$Algorithm"),
    "COMPRESSION_COMPACT_MAJOR": ("setMajorCompactionCompressionType", "io.compress.Compression$Algorithm"),
    "COMPRESSION_COMPACT_MINOR": ("setMinorCompactionCompressionType", "io.compress.Compression$Algorithm"),
    "DATA_BLOCK_ENCODING": ("setDataBlockEncoding", "io.encoding.DataBlockEncoding"),
    "INDEX_BLOCK_ENCODING": ("setIndexBlockEncoding", "io.encoding.IndexBlockEncoding"),
    "IN_MEMORY": ("setInMemory", "bool"),
    "IN_MEMORY_COMPACTION": ("setInMemoryCompaction", "MemoryCompactionPolicy"),
    "BLOCKCACHE": ("setBlockCacheEnabled", "bool"),
    "CACHE_DATA_ON_WRITE": ("setCacheDataOnWrite", "bool"),
    "CACHE_INDEX_ON_WRITE": ("setCacheIndexesOnWrite", "bool"),
    "CACHE_BLOOMS_ON_WRITE": ("setCacheBloomsOnWrite", "bool"),
    "EVICT_BLOCKS_ON_CLOSE": ("setEvictBlocksOnClose", "bool"),
    "PREFETCH_BLOCKS_ON_OPEN": ("setPrefetchBlocksOnOpen", "bool"),
    "KEEP_DELETED_CELLS": ("setKeepDeletedCells", "KeepDeletedCells"),
    "REPLICATION_SCOPE": ("setScope", "int"),
    "COMPRESS_TAGS": ("setCompressTags", "bool"),
    "ENCRYPTION": ("setEncryptionType", "str"),
    "IS_MOB": ("setMobEnabled", "bool"),
    "MOB_THRESHOLD": ("setMobThreshold", "long"),
    "MOB_COMPACT_PARTITION_POLICY": ("setMobCompactPartitionPolicy", "client.MobCompactPartitionPolicy"),
    "DFS_REPLICATION": ("setDFSReplication", "short"),
    "STORAGE_POLICY": ("setStoragePolicy", "str"),
    "NEW_VERSION_BEHAVIOR": ("setNewVersionBehavior", "bool"),
}
TABLE = {
    "MAX_FILESIZE": ("setMaxFileSize", "size"),
    "MEMSTORE_FLUSHSIZE": ("setMemStoreFlushSize", "size"),
    "READONLY": ("setReadOnly", "bool"),
    "COMPACTION_ENABLED": ("setCompactionEnabled", "bool"),
    "SPLIT_ENABLED": ("setSplitEnabled", "bool"),
    "MERGE_ENABLED": ("setMergeEnabled", "bool"),
    "NORMALIZATION_ENABLED": ("setNormalizationEnabled", "bool"),
    "NORMALIZER_TARGET_REGION_COUNT": ("setNormalizerTargetRegionCount", "int"),
    "NORMALIZER_TARGET_REGION_SIZE": ("setNormalizerTargetRegionSize", "long"),
    "NORMALIZER_TARGET_REGION_SIZE_MB": ("setNormalizerTargetRegionSize", "long"),
    "DURABILITY": ("setDurability", "client.Durability"),
    "PRIORITY": ("setPriority", "int"),
    "FLUSH_POLICY": ("setFlushPolicyClassName", "str"),
    "SPLIT_POLICY": ("setRegionSplitPolicyClassName", "str"),
    "REGION_REPLICATION": ("setRegionReplication", "int"),
    "REGION_MEMSTORE_REPLICATION": ("setRegionMemStoreReplication", "bool"),
    "ERASURE_CODING_POLICY": ("setErasureCodingPolicy", "str"),
    "OWNER": ("setOwnerString", "str"),
}
# The largest of Java's numbers.
MOST = {"short": (1 << 15) - 1, "int": (1 << 31) - 1, "long": (1 << 63) - 1}
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


def family(session: Session, name: Any, options: Mapping[str, Any], old: Any = None) -> Any:
    """A ColumnFamilyDescriptor: a new one, or an old one changed. Raises CommandError, UsageError,
    Invalid."""
    builders = session.java("client.ColumnFamilyDescriptorBuilder")
    source = session.bytes(family_name(data(name))) if old is None else old
    builder = session.call(builders.newBuilder, source)
    for key, value in options.items():
        if key in NAMES:
            continue
        if key in MAPS:
            setter = builder.setConfiguration if key == "CONFIGURATION" else builder.setValue
            for setting, one in _map(key, value).items():
                session.call(setter, setting, one)
        elif key in FAMILY:
            _set(session, builder, FAMILY[key], key, value)
        else:
            raise UsageError(_unknown("a family", key, FAMILY))
    return builder.build()


def table(session: Session, builder: Any, options: Mapping[str, Any]) -> None:
    """Set a table's options on a TableDescriptorBuilder. Raises CommandError, UsageError."""
    for key, value in options.items():
        if key in NAMES:
            continue
        if key in MAPS:
            for setting, one in _map(key, value).items():
                session.call(builder.setValue, setting, one)
        elif key.lower().startswith(COPROCESSOR):
            for one in many(value):
                session.call(
                    builder.setCoprocessor if "|" not in text(one) else builder.addCoprocessorWithSpec,
                    text(one),
                )
        elif key in TABLE:
            _set(session, builder, TABLE[key], key, value)
        else:
            raise UsageError(_unknown("a table", key, TABLE))


def _set(session: Session, builder: Any, how: tuple[str, str], key: str, value: Any) -> None:
    setter, kind = how
    method = getattr(builder, setter)
    if kind in ("int", "long", "short"):
        boxes = {"int": "java.lang.Integer", "long": "java.lang.Long", "short": "java.lang.Short"}
        boxed = session.java(boxes[kind]).valueOf(str(_whole(key, value, MOST[kind])))
        session.call(method, getattr(boxed, f"{kind}Value")())
    elif kind == "bool":
        session.call(method, _truth(key, value))
    elif kind == "str":
        session.call(method, text(value, key))
    elif kind == "size" or kind == "time":
        if kind == "time" and str(value).upper() == "FOREVER":
            value = 2**31 - 1
        session.call(method, str(_whole(key, value)) if str(value).strip().isdecimal() else text(value, key))
    else:
        session.call(method, _named(session, kind, key, value))


def _named(session: Session, kind: str, key: str, value: Any) -> Any:
    try:
        return session.enum(kind, value)
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


def attributes(descriptor: Any) -> dict[str, str]:
    """Return the attributes of a descriptor of a table or family, as text."""
    found = {}
    for key, value in dict(descriptor.getValues()).items():
        found[bytes(key.get()).decode()] = bytes(value.get()).decode(errors="backslashreplace")
    configuration = getattr(descriptor, "getConfiguration", None)
    for key, value in dict(configuration() if configuration else {}).items():
        found[f"CONFIGURATION {key}"] = str(value)
    return dict(sorted(found.items()))
