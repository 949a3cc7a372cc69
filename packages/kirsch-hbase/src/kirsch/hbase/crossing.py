"""Cells and mutations cross between Python and Java in blocks, or in one call: each costs microseconds, and a
thread that comes back from Java waits until no other runs Python.

What runs in Java was not compiled by anybody: kirsch.hbase.lambdas makes it of the client's own methods. So
`pack` is

    Arrays.stream(results).map(Result::listCells).filter(Objects::nonNull).flatMap(Collection::stream)
        .forEach(encoder::write)

with the encoder of HBase's KeyValueCodec, and `mutations` is

    RegionAction.parseFrom(block).getActionList().stream().map(Action::getMutation)
        .map(ProtobufUtil::toMutation).collect(toList())

A `reader`, which takes a get as a message and gives its row as one, is Get::parseFrom, then
ProtobufUtil::toGet, table::get, ProtobufUtil::toResult and Result::toByteArray. How a scan's rows are
gathered is in kirsch.hbase.gathering.
"""

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import jpype

from kirsch.hbase.cell import Cell, decode_result
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.lambdas import interface, lambdas

_PROTOS = "shaded.protobuf.generated.ClientProtos$"


class Crossing:
    """The functions, each made when it is first needed: that takes milliseconds."""

    def __init__(self) -> None:
        self.make = lambdas()
        self.result = hbase("client.Result")
        self.util = hbase("shaded.protobuf.ProtobufUtil")
        self.arrays = cls("java.util.Arrays")
        self.codec = hbase("codec.KeyValueCodec")()
        self.bytes = cls("java.io.ByteArrayOutputStream")
        self.list = cls("java.util.List")
        self.streams = cls("java.util.stream.Stream")
        self.functions = cls("java.util.function.Function")

    # From Java

    @cached_property
    def list_cells(self) -> Any:
        method = self.make.virtual(self.result, "listCells", self.list.class_)
        return self.make.function(method, self.list.class_, self.result.class_)

    @cached_property
    def stream_of(self) -> Any:
        """Collection::stream."""
        return self.make.virtual(cls("java.util.Collection"), "stream", self.streams.class_)

    @cached_property
    def stream(self) -> Any:
        return self.make.function(self.stream_of, self.streams.class_, cls("java.util.Collection").class_)

    @cached_property
    def map(self) -> Any:
        """Stream::map."""
        return self.make.virtual(self.streams, "map", self.streams.class_, self.functions.class_)

    @cached_property
    def not_null(self) -> Any:
        make = self.make
        return make.make(
            "Predicate", "test", make.type(make.boolean, make.object),
            make.static(cls("java.util.Objects"), "nonNull", make.boolean, make.object),
            make.type(make.boolean, make.object),
        ).invokeWithArguments([])  # fmt: skip

    @cached_property
    def writer(self) -> Any:
        make, cell, output = self.make, hbase("Cell").class_, hbase("io.CellOutputStream")
        return make.make(
            "Consumer", "accept", make.type(make.void, make.object),
            make.virtual(output, "write", make.void, cell), make.type(make.void, cell), (output.class_,),
        )  # fmt: skip

    @cached_property
    def size(self) -> Any:
        make = self.make
        return make.make(
            "ToIntFunction", "applyAsInt", make.type(make.int, make.object),
            make.virtual(self.result, "size", make.int), make.type(make.int, self.result.class_),
        ).invokeWithArguments([])  # fmt: skip

    @cached_property
    def message(self) -> Any:
        """From a Result to its message as bytes."""
        make, message, result = self.make, hbase(f"{_PROTOS}Result"), self.result.class_
        to_result = make.static(self.util, "toResult", message.class_, result)
        written = make.virtual(message, "toByteArray", make.bytes)
        made = make.function(to_result, message.class_, result)
        return interface("Function", made.andThen(make.function(written, make.bytes, message.class_)))

    # To Java

    def _actions(self, name: str, of: str, method: Any, returns: Any) -> Any:
        """A method handle from a block to the list of what its actions have."""
        make, region, action = self.make, hbase(f"{_PROTOS}RegionAction"), hbase(f"{_PROTOS}Action")
        message, collector = hbase(f"{_PROTOS}{of}").class_, cls("java.util.stream.Collector").class_
        get = make.function(make.virtual(action, name, message), message, action.class_)
        collect = make.virtual(self.streams, "collect", make.object, collector)
        listed = make.chain(
            make.static(region, "parseFrom", region.class_, make.bytes),
            make.virtual(region, "getActionList", self.list.class_),
            self.stream_of,
            make.given(self.map, get),
            make.given(self.map, make.function(method, returns, message)),
            make.given(collect, cls("java.util.stream.Collectors").toList()),
        )
        return listed.asType(make.type(self.list.class_, make.bytes))

    @cached_property
    def to_mutations(self) -> Any:
        mutation, message = hbase("client.Mutation").class_, hbase(f"{_PROTOS}MutationProto").class_
        method = self.make.static(self.util, "toMutation", mutation, message)
        return self._actions("getMutation", "MutationProto", method, mutation)

    @cached_property
    def mutations(self) -> Any:
        return self.make.proxy("Function", self.to_mutations)

    @cached_property
    def to_get(self) -> Any:
        """ProtobufUtil::toGet."""
        return self.make.static(self.util, "toGet", hbase("client.Get").class_, hbase(f"{_PROTOS}Get").class_)

    @cached_property
    def gets(self) -> Any:
        listed = self._actions("getGet", "Get", self.to_get, hbase("client.Get").class_)
        return self.make.proxy("Function", listed)

    @cached_property
    def get(self) -> Any:
        """From a get as a message to Java's Get."""
        make, message, get = self.make, hbase(f"{_PROTOS}Get"), hbase("client.Get").class_
        parse = make.static(message, "parseFrom", message.class_, make.bytes)
        parsed = make.function(parse, message.class_, make.bytes)
        return interface("Function", parsed.andThen(make.function(self.to_get, get, message.class_)))

    @cached_property
    def getter(self) -> Any:
        """What makes a Function from Get to Result, given a Table."""
        table, get, result = hbase("client.Table"), hbase("client.Get").class_, self.result.class_
        method = self.make.virtual(table, "get", result, get)
        return self.make.functions(method, result, get, (table.class_,))


@cache
def crossing() -> Crossing:
    """The functions; the JVM must run."""
    return Crossing()


def pack(results: Any) -> bytes:
    """The cells of Java results (an array of Result) as a block for kirsch.hbase.cell.decode."""
    tools = crossing()
    out = tools.bytes(1 << 12)
    encoder = tools.codec.getEncoder(out)
    write = tools.writer.invokeWithArguments([encoder])
    cells = tools.arrays.stream(results).map(tools.list_cells).filter(tools.not_null).flatMap(tools.stream)
    cells.forEach(write)
    encoder.flush()
    return bytes(out.toByteArray())


def sizes(results: Any) -> list[int]:
    """How many cells each of the results has."""
    tools = crossing()
    return list(tools.arrays.stream(results).mapToInt(tools.size).toArray())


def cells(result: Any) -> list[Cell]:
    """The cells of one Java Result: in one call, where `pack` is for many."""
    return decode_result(bytes(crossing().message.apply(result)))


def reader(table: Any) -> Callable[[bytes], list[Cell]]:
    """What reads rows of a Java Table: takes a get that kirsch.hbase.mutation made, and gives the cells."""
    tools = crossing()
    get = interface("Function", tools.getter.invokeWithArguments([table]))
    apply = interface("Function", tools.get.andThen(get).andThen(tools.message)).apply
    return lambda message: decode_result(bytes(apply(_java(message))))


def mutations(block: bytes) -> Any:
    """A Java List of Put and Delete, of a block that kirsch.hbase.mutation made."""
    return cls("java.util.List") @ crossing().mutations.apply(_java(block))


def writer(mutator: Any) -> Callable[[bytes], None]:
    """What gives blocks to a Java BufferedMutator."""
    make, owner = lambdas(), hbase("client.BufferedMutator")
    method = make.virtual(owner, "mutate", make.void, cls("java.util.List").class_).bindTo(mutator)
    accept = make.proxy("Consumer", make.chain(crossing().to_mutations, method)).accept
    return lambda block: accept(_java(block))


def batch(table: Any) -> Callable[[bytes], None]:
    """What gives blocks to a Java Table, each as a batch."""
    make, lists, owner = lambdas(), cls("java.util.List").class_, hbase("client.Table")
    objects = jpype.JArray(cls("java.lang.Object")).class_
    method = make.virtual(owner, "batch", make.void, lists, objects).bindTo(table)
    # What each of them comes to goes into an array as long as the list: of its own elements.
    of_list = make.virtual(cls("java.util.List"), "toArray", objects)
    both = make.handles.permuteArguments(
        make.handles.filterArguments(method, 1, of_list), make.type(make.void, lists), 0, 0
    )
    accept = make.proxy("Consumer", make.chain(crossing().to_mutations, both)).accept
    return lambda block: accept(_java(block))


def gets(block: bytes) -> Any:
    """A Java List of Get, of a block that kirsch.hbase.mutation made."""
    return cls("java.util.List") @ crossing().gets.apply(_java(block))


def _java(data: bytes) -> Any:
    return _byte_array()(data)


@cache
def _byte_array() -> Any:
    return jpype.JArray(jpype.JByte)
