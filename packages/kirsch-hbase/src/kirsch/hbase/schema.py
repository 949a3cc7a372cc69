"""Schemas of tables and families as values, and their conversion to and from Java's descriptors."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from kirsch.hbase.calls import call
from kirsch.hbase.errors import Invalid
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import family_name, table_name

FOREVER = 2147483647
# A coprocessor's that says nothing of it (Coprocessor.PRIORITY_USER).
_PRIORITY = 1073741823
# What a Family's fields are called in HBase, and their words there.
_ATTRIBUTES = {
    "versions": "VERSIONS",
    "min_versions": "MIN_VERSIONS",
    "ttl": "TTL",
    "compression": "COMPRESSION",
    "bloom": "BLOOMFILTER",
    "block_size": "BLOCKSIZE",
    "block_cache": "BLOCKCACHE",
    "in_memory": "IN_MEMORY",
    "encoding": "DATA_BLOCK_ENCODING",
    "keep_deleted": "KEEP_DELETED_CELLS",
    "scope": "REPLICATION_SCOPE",
}
COMPRESSIONS = ("NONE", "GZ", "SNAPPY", "LZO", "LZ4", "BZIP2", "ZSTD", "LZMA", "BROTLI")
BLOOMS = ("NONE", "ROW", "ROWCOL", "ROWPREFIX_FIXED_LENGTH")
ENCODINGS = ("NONE", "PREFIX", "DIFF", "FAST_DIFF", "ROW_INDEX_V1")
KEEPING = ("FALSE", "TRUE", "TTL")
_WORDS = {"compression": COMPRESSIONS, "bloom": BLOOMS, "encoding": ENCODINGS, "keep_deleted": KEEPING}


@dataclass(frozen=True, slots=True)
class Family:
    """A column family. `ttl` in seconds (None: for ever); `block_size` in bytes; `scope` 1: is replicated.
    `attributes` are others of HBase's (`MOB_THRESHOLD`, …), `configuration` settings that differ for it."""

    name: str
    versions: int = 1
    min_versions: int = 0
    ttl: float | None = None
    compression: str = "NONE"
    bloom: str = "ROW"
    block_size: int = 65536
    block_cache: bool = True
    in_memory: bool = False
    encoding: str = "NONE"
    keep_deleted: str = "FALSE"
    scope: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        family_name(self.name)
        if self.versions < 1:
            raise Invalid(f"family {self.name}: versions={self.versions} must be 1 or more")
        if not 0 <= self.min_versions <= self.versions:
            raise Invalid(f"family {self.name}: min_versions={self.min_versions} must be 0 to versions")
        if self.ttl is not None and self.ttl < 1:
            raise Invalid(f"family {self.name}: ttl={self.ttl} must be 1 second or more")
        for name, words in _WORDS.items():
            given = str(getattr(self, name)).upper()
            if given not in words:
                raise Invalid(f"family {self.name}: {name}={given} is none of {', '.join(words)}")
            object.__setattr__(self, name, given)

    @classmethod
    def _as_it_is(cls, name: str, given: Mapping[str, Any]) -> "Family":
        """Make a family without checks: an existing one may have values that newer or older servers know."""
        made = object.__new__(cls)
        for one in fields(cls):
            default = one.default if one.default is not MISSING else None
            object.__setattr__(made, one.name, given.get(one.name, default))
        object.__setattr__(made, "name", name)
        return made

    def words(self) -> dict[str, str]:
        """Return the attributes as HBase names and writes them."""
        values: dict[str, Any] = {there: getattr(self, here) for here, there in _ATTRIBUTES.items()}
        values["TTL"] = FOREVER if self.ttl is None else math.ceil(self.ttl)
        return {**{name: _word(value) for name, value in values.items()}, **self.attributes}

    def java(self) -> Any:
        """Return a Java ColumnFamilyDescriptor."""
        builder = hbase("client.ColumnFamilyDescriptorBuilder").newBuilder(family_name(self.name))
        return _built(builder, self.words(), self.configuration)

    def with_words(
        self, words: Mapping[str, str], configuration: Mapping[str, str] | None = None
    ) -> "Family":
        """Return the family with some attributes changed, as HBase names and writes them, and some settings.
        Raises Invalid."""
        changed, others = _read(words)
        # Only what is changed is checked: the rest may be of a newer server.
        checked = Family(
            self.name, **{"versions": self.versions, "min_versions": self.min_versions, **changed}
        )
        values = {
            one.name: getattr(checked if one.name in changed else self, one.name) for one in fields(self)
        }
        values["attributes"] = {**self.attributes, **others}
        values["configuration"] = {**self.configuration, **(configuration or {})}
        return self._as_it_is(self.name, values)

    @classmethod
    def of_java(cls, descriptor: Any) -> "Family":
        """Return the family of a Java ColumnFamilyDescriptor."""
        given, words = _read(_words(descriptor))
        configuration = {str(e.getKey()): str(e.getValue()) for e in descriptor.getConfiguration().entrySet()}
        others = {name: word for name, word in words.items() if name not in configuration}
        return cls._as_it_is(
            _text(descriptor.getName()), {**given, "attributes": others, "configuration": configuration}
        )


@dataclass(frozen=True, slots=True)
class Schema:
    """A table's schema. `attributes`: MAX_FILESIZE, READONLY, DURABILITY, …; `coprocessors` are classes, or
    `JAR|CLASS|PRIORITY|NAME=VALUE,…` as HBase's own shell has it."""

    name: str
    families: tuple[Family, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)
    coprocessors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", table_name(self.name))
        names = [family.name for family in self.families]
        if len(set(names)) < len(names):
            raise Invalid(f"table {self.name}: a family is named twice")

    def family(self, name: str) -> Family:
        """Return a family by its name. Raises Invalid."""
        for one in self.families:
            if one.name == name:
                return one
        there = ", ".join(family.name for family in self.families)
        raise Invalid(f"table {self.name} has no family {name}: it has {there}")

    def with_family(self, family: Family) -> "Schema":
        """Return the schema with a family added or replaced."""
        others = tuple(one for one in self.families if one.name != family.name)
        return replace(self, families=(*others, family))

    def without_family(self, name: str) -> "Schema":
        """Return the schema without a family. Raises Invalid."""
        return replace(self, families=tuple(one for one in self.families if one is not self.family(name)))

    def java(self) -> Any:
        """Return a Java TableDescriptor. Raises Invalid."""
        if not self.families:
            raise Invalid(f"table {self.name} needs a family at least")
        builder = hbase("client.TableDescriptorBuilder").newBuilder(hbase("TableName").valueOf(self.name))
        for family in self.families:
            builder.setColumnFamily(family.java())
        for coprocessor in self.coprocessors:
            call(
                builder.addCoprocessorWithSpec if "|" in coprocessor else builder.setCoprocessor, coprocessor
            )
        return _built(builder, self.attributes, self.configuration)

    @classmethod
    def of_java(cls, descriptor: Any) -> "Schema":
        """Return the schema of a Java TableDescriptor."""
        words = _words(descriptor)
        coprocessors = tuple(_coprocessor(one) for one in descriptor.getCoprocessorDescriptors())
        return cls(
            str(descriptor.getTableName().getNameAsString()),
            tuple(Family.of_java(family) for family in descriptor.getColumnFamilies()),
            {
                name: word
                for name, word in words.items()
                if name not in ("IS_META", "IS_ROOT")
                and not name.startswith("coprocessor$")
                and "." not in name
            },
            {name: word for name, word in words.items() if "." in name},
            coprocessors,
        )


def _coprocessor(java: Any) -> str:
    jar = str(java.getJarPath().get()) if java.getJarPath().isPresent() else ""
    named = {str(entry.getKey()): str(entry.getValue()) for entry in java.getProperties().entrySet()}
    return coprocessor(str(java.getClassName()), jar, int(java.getPriority()), named)


def coprocessor(name: str, jar: str, priority: int, values: Mapping[str, str]) -> str:
    """Return a coprocessor as Schema has it: the class alone where it has the defaults."""
    if not jar and not values and priority == _PRIORITY:
        return name
    return f"{jar}|{name}|{priority}|{','.join(f'{key}={value}' for key, value in values.items())}"


def coprocessor_class(given: str) -> str:
    """Return the class of a coprocessor, given as Schema has it."""
    return given.split("|")[1] if "|" in given else given


def families(given: Iterable["Family | str | Mapping[str, Any]"]) -> tuple[Family, ...]:
    """Return families, each given as a Family, a name, or a mapping of its fields."""
    made = []
    for one in given:
        if isinstance(one, Family):
            made.append(one)
        elif isinstance(one, Mapping):
            made.append(of_fields(one))
        else:
            made.append(Family(one))
    return tuple(made)


def of_fields(given: Mapping[str, Any], old: Family | None = None) -> Family:
    """Return a family of its fields, or an old one with some changed. Raises Invalid."""
    names = [one.name for one in fields(Family)]
    if unknown := [name for name in given if name not in names]:
        raise Invalid(f"a family has no {unknown[0]}: there are {', '.join(names)}")
    if "name" not in given:
        raise Invalid(f"a family has a name, and none is in {dict(given)}")
    try:
        return Family(**given) if old is None else replace(old, **given)
    except TypeError as error:
        raise Invalid(f"a family cannot be {dict(given)}: {error}") from None


def _built(builder: Any, words: Mapping[str, str], configuration: Mapping[str, str]) -> Any:
    for name, word in words.items():
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            builder.setValue(name.encode(), word.encode(errors="surrogateescape"))
        else:
            builder.setValue(name, word)
    for name, word in configuration.items():
        (builder.setConfiguration if hasattr(builder, "setConfiguration") else builder.setValue)(name, word)
    return builder.build()


def _words(descriptor: Any) -> dict[str, str]:
    """Return the values of a Java descriptor."""
    return {
        _text(entry.getKey().get()): _text(entry.getValue().get())
        for entry in descriptor.getValues().entrySet()
    }


def _text(value: Any) -> str:
    """Return a Java byte[] as text, from which the bytes can be made again, such as those of a key that
    encrypts a family."""
    return bytes(value).decode(errors="surrogateescape")


def _read(words: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a Family's fields among attributes, and the other attributes."""
    others = dict(words)
    found: dict[str, Any] = {}
    for here, there in _ATTRIBUTES.items():
        if there in others:
            try:
                found[here] = _value(here, others[there])
            except ValueError:
                continue  # it stays among the attributes
            del others[there]
    return found, others


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(name: str, word: str) -> Any:
    if name in ("block_cache", "in_memory"):
        return word.lower() == "true"
    if name == "ttl":
        return None if int(word) == FOREVER else float(word)
    if name in _WORDS:
        return word.upper() if word.upper() in _WORDS[name] else word
    return int(word)
