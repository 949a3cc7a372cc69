"""Transfer of rows, gets and mutations between Python and Java, in blocks.

A call through JPype costs microseconds, and a thread that returns from Java waits for the interpreter lock,
so a whole block crosses in one call. The Java side is composed from public methods of HBase's client and of
java.util.stream by java.lang.invoke: building kirsch needs no JDK and no HBase jars, and the wheel contains
no class files. In Java the functions would read

    pack        Arrays.stream(results).map(Result::listCells).filter(Objects::nonNull)
                    .flatMap(Collection::stream).forEach(encoder::write)
    mutations   RegionAction.parseFrom(block).getActionList().stream().map(Action::getMutation)
                    .map(ProtobufUtil::toMutation).collect(toList())
    cell_writer the same, then .map(Mutation::getFamilyCellMap).map(Map::values).flatMap(Collection::stream)
                    .flatMap(Collection::stream).forEach(cell -> writer.write(key, cell))
    reader      Get::parseFrom, ProtobufUtil::toGet, table::get, ProtobufUtil::toResult, Result::toByteArray
    next_rows   Stream.generate(scanner::next).limit(wanted).takeWhile(Objects::nonNull).peek(found::add)
                    .mapToLong(Result::getTotalSizeOfCells).map(total::addAndGet)
                    .allMatch(range::isValidValue), then `pack` of what was found

`encoder` is that of HBase's KeyValueCodec. Two kinds of functions are used: what runs for each cell or row is
made by LambdaMetafactory of one method, and is as fast as a lambda in Java; what runs once a block is a chain
of method handles, some hundred nanoseconds slower. A class compiled by javac would save about a microsecond a
row in `pack` (bench/RESULTS.md); it would make a JDK and HBase's jars a need of the build.
"""

import threading
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import jpype

from kirsch.hbase.cell import Cell, decode_result
from kirsch.hbase.jvm import cls, hbase

_PROTOS = "shaded.protobuf.generated.ClientProtos$"


class MethodHandles:
    """Builder of Java functions from methods (java.lang.invoke)."""

    def __init__(self) -> None:
        # The lookup belongs to JPype: it sees public members only.
        self.handles = cls("java.lang.invoke.MethodHandles")
        self.lookup = self.handles.lookup()
        self.factory = cls("java.lang.invoke.LambdaMetafactory")
        self.object = cls("java.lang.Object").class_
        self.boolean = cls("java.lang.Boolean").TYPE
        self.int = cls("java.lang.Integer").TYPE
        self.long = cls("java.lang.Long").TYPE
        self.void = cls("java.lang.Void").TYPE
        self.bytes = jpype.JArray(jpype.JByte).class_

    def type(self, returns: Any, *takes: Any) -> Any:
        """Return the MethodType of a result and parameters."""
        kinds = jpype.JArray(cls("java.lang.Class"))(list(takes))
        return cls("java.lang.invoke.MethodType").methodType(returns, kinds)

    def virtual(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """Return a handle of an instance method."""
        return self.lookup.findVirtual(owner.class_, name, self.type(returns, *takes))

    def static(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """Return a handle of a static method."""
        return self.lookup.findStatic(owner.class_, name, self.type(returns, *takes))

    def make(
        self, interface: str, name: str, erased: Any, method: Any, typed: Any, captured: tuple[Any, ...] = ()
    ) -> Any:
        """Return a handle that makes a functional interface of one method, given the captured objects."""
        made = self.type(cls(f"java.util.function.{interface}").class_, *captured)
        return self.factory.metafactory(self.lookup, name, made, erased, method, typed).getTarget()

    def functions(self, method: Any, returns: Any, takes: Any, captured: tuple[Any, ...] = ()) -> Any:
        """Return a handle that makes a java.util.function.Function, given the captured objects."""
        erased = self.type(self.object, self.object)
        return self.make("Function", "apply", erased, method, self.type(returns, takes), captured)

    def function(self, method: Any, returns: Any, takes: Any) -> Any:
        """Return a java.util.function.Function of one method."""
        return interface("Function", self.functions(method, returns, takes).invokeWithArguments([]))

    def given(self, method: Any, *arguments: Any) -> Any:
        """Bind the arguments behind a handle's first one."""
        return self.handles.insertArguments(method, 1, *arguments)

    def chain(self, first: Any, *rest: Any) -> Any:
        """Return a handle that gives each step the result of the step before."""
        made = first
        for step in rest:
            made = made.asType(made.type().changeReturnType(step.type().parameterType(0)))
            made = self.handles.filterReturnValue(made, step)
        return made

    def after(self, last: Any, *steps: Any) -> Any:
        """Return a handle that runs `steps` first, which take nothing or the arguments of `last`."""
        made = last
        for step in reversed(steps):
            made = self.handles.foldArguments(made, step.asType(step.type().changeReturnType(self.void)))
        return made

    def proxy(self, name: str, handle: Any) -> Any:
        """Return a functional interface of java.util.function that a handle implements."""
        proxies = cls("java.lang.invoke.MethodHandleProxies")
        return interface(name, proxies.asInterfaceInstance(cls(f"java.util.function.{name}").class_, handle))


def interface(name: str, java: Any) -> Any:
    """Cast a Java object to a functional interface of java.util.function."""
    return cls(f"java.util.function.{name}") @ java


class Functions:
    """Java functions of this module. Each is made at its first use, which takes milliseconds."""

    def __init__(self) -> None:
        self.make = MethodHandles()
        self.result = hbase("client.Result")
        self.util = hbase("shaded.protobuf.ProtobufUtil")
        self.arrays = cls("java.util.Arrays")
        self.codec = hbase("codec.KeyValueCodec")()
        self.bytes = cls("java.io.ByteArrayOutputStream")
        self.list = cls("java.util.List")
        self.streams = cls("java.util.stream.Stream")
        self.functions = cls("java.util.function.Function")

    # Rows from Java

    @cached_property
    def list_cells(self) -> Any:
        method = self.make.virtual(self.result, "listCells", self.list.class_)
        return self.make.function(method, self.list.class_, self.result.class_)

    @cached_property
    def stream_of(self) -> Any:
        return self.make.virtual(cls("java.util.Collection"), "stream", self.streams.class_)

    @cached_property
    def stream(self) -> Any:
        return self.make.function(self.stream_of, self.streams.class_, cls("java.util.Collection").class_)

    @cached_property
    def map(self) -> Any:
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
        """Function from a Result to its protobuf message as bytes."""
        make, message, result = self.make, hbase(f"{_PROTOS}Result"), self.result.class_
        to_result = make.static(self.util, "toResult", message.class_, result)
        written = make.virtual(message, "toByteArray", make.bytes)
        made = make.function(to_result, message.class_, result)
        return interface("Function", made.andThen(make.function(written, make.bytes, message.class_)))

    # Gets and mutations to Java

    def _actions(self, name: str, of: str, method: Any, returns: Any) -> Any:
        """Return a handle from a block to the list of one kind of its actions."""
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
        return self.make.static(self.util, "toGet", hbase("client.Get").class_, hbase(f"{_PROTOS}Get").class_)

    @cached_property
    def gets(self) -> Any:
        listed = self._actions("getGet", "Get", self.to_get, hbase("client.Get").class_)
        return self.make.proxy("Function", listed)

    @cached_property
    def get(self) -> Any:
        """Function from a get's protobuf message as bytes to a Get."""
        make, message, get = self.make, hbase(f"{_PROTOS}Get"), hbase("client.Get").class_
        parse = make.static(message, "parseFrom", message.class_, make.bytes)
        parsed = make.function(parse, message.class_, make.bytes)
        return interface("Function", parsed.andThen(make.function(self.to_get, get, message.class_)))

    @cached_property
    def getter(self) -> Any:
        """Handle from a Table to a Function from Get to Result."""
        table, get, result = hbase("client.Table"), hbase("client.Get").class_, self.result.class_
        method = self.make.virtual(table, "get", result, get)
        return self.make.functions(method, result, get, (table.class_,))

    # The next rows of a scan

    @cached_property
    def next(self) -> Any:
        """Handle from a ResultScanner to a Supplier of its rows."""
        make, scanner = self.make, hbase("client.ResultScanner")
        return make.make(
            "Supplier", "get", make.type(make.object), make.virtual(scanner, "next", self.result.class_),
            make.type(self.result.class_), (scanner.class_,),
        )  # fmt: skip

    def adder(self, found: Any) -> Any:
        """Return a Consumer that appends to an ArrayList."""
        make, lists = self.make, cls("java.util.ArrayList")
        return make.make(
            "Consumer", "accept", make.type(make.void, make.object),
            make.virtual(lists, "add", make.boolean, make.object), make.type(make.void, make.object),
            (lists.class_,),
        ).invokeWithArguments([found])  # fmt: skip

    @cached_property
    def weight(self) -> Any:
        """Function from a Result to the bytes of its cells."""
        make, result = self.make, self.result
        return make.make(
            "ToLongFunction", "applyAsLong", make.type(make.long, make.object),
            make.static(result, "getTotalSizeOfCells", make.long, result.class_),
            make.type(make.long, result.class_),
        ).invokeWithArguments([])  # fmt: skip

    def summer(self, total: Any) -> Any:
        """Return a LongUnaryOperator that adds to an AtomicLong."""
        make, counter = self.make, cls("java.util.concurrent.atomic.AtomicLong")
        return make.make(
            "LongUnaryOperator", "applyAsLong", make.type(make.long, make.long),
            make.virtual(counter, "addAndGet", make.long, make.long), make.type(make.long, make.long),
            (counter.class_,),
        ).invokeWithArguments([total])  # fmt: skip

    def below(self, most: int) -> Any:
        """Return a LongPredicate for numbers from 0 to below `most`."""
        make, ranges = self.make, cls("java.time.temporal.ValueRange")
        return make.make(
            "LongPredicate", "test", make.type(make.boolean, make.long),
            make.virtual(ranges, "isValidValue", make.boolean, make.long),
            make.type(make.boolean, make.long), (ranges.class_,),
        ).invokeWithArguments([ranges.of(0, most - 1)])  # fmt: skip


@cache
def functions() -> Functions:
    """Return the functions of this process; the JVM must run."""
    return Functions()


def pack(results: Any) -> bytes:
    """Return the cells of a Java Result[] as a block for kirsch.hbase.cell.decode."""
    tools = functions()
    out = tools.bytes(1 << 12)
    encoder = tools.codec.getEncoder(out)
    write = tools.writer.invokeWithArguments([encoder])
    cells = tools.arrays.stream(results).map(tools.list_cells).filter(tools.not_null).flatMap(tools.stream)
    cells.forEach(write)
    encoder.flush()
    return bytes(out.toByteArray())


def sizes(results: Any) -> list[int]:
    """Return the number of cells of each Result of a Java Result[]."""
    tools = functions()
    return list(tools.arrays.stream(results).mapToInt(tools.size).toArray())


def cells(result: Any) -> list[Cell]:
    """Return the cells of one Java Result, in one call; `pack` is for many."""
    return decode_result(bytes(functions().message.apply(result)))


def reader(table: Any) -> Callable[[bytes], list[Cell]]:
    """Return a function that takes a get as kirsch.hbase.mutation encodes it, and reads the row's cells."""
    tools = functions()
    get = interface("Function", tools.getter.invokeWithArguments([table]))
    apply = interface("Function", tools.get.andThen(get).andThen(tools.message)).apply
    return lambda message: decode_result(bytes(apply(_java(message))))


def mutations(block: bytes) -> Any:
    """Return a Java List of the puts and deletes of a block."""
    return cls("java.util.List") @ functions().mutations.apply(_java(block))


def writer(mutator: Any) -> Callable[[bytes], None]:
    """Return a function that gives blocks of mutations to a Java BufferedMutator."""
    tools, owner = functions(), hbase("client.BufferedMutator")
    make = tools.make
    method = make.virtual(owner, "mutate", make.void, cls("java.util.List").class_).bindTo(mutator)
    accept = make.proxy("Consumer", make.chain(tools.to_mutations, method)).accept
    return lambda block: accept(_java(block))


def batch(table: Any) -> Callable[[bytes], None]:
    """Return a function that writes blocks of mutations to a Java Table, each by Table.batch."""
    tools, lists, owner = functions(), cls("java.util.List").class_, hbase("client.Table")
    make = tools.make
    objects = jpype.JArray(cls("java.lang.Object")).class_
    method = make.virtual(owner, "batch", make.void, lists, objects).bindTo(table)
    # Table.batch writes its results into an array of the list's length: List.toArray makes one.
    of_list = make.virtual(cls("java.util.List"), "toArray", objects)
    both = make.handles.permuteArguments(
        make.handles.filterArguments(method, 1, of_list), make.type(make.void, lists), 0, 0
    )
    accept = make.proxy("Consumer", make.chain(tools.to_mutations, both)).accept
    return lambda block: accept(_java(block))


def cell_writer(writer: Any) -> Callable[[bytes], None]:
    """Return a function that writes the cells of blocks of puts with a RecordWriter of Hadoop's."""
    tools, owner, maps = functions(), cls("org.apache.hadoop.mapreduce.RecordWriter"), cls("java.util.Map")
    make, stream, mutation = tools.make, tools.streams, hbase("client.Mutation")
    families = cls("java.util.NavigableMap").class_
    by_family = make.function(make.virtual(mutation, "getFamilyCellMap", families), families, mutation.class_)
    collection = cls("java.util.Collection").class_
    lists = make.function(make.virtual(maps, "values", collection), collection, maps.class_)
    # HFileOutputFormat2 reads no key but that of the cell.
    key = hbase("io.ImmutableBytesWritable")()
    write = make.make(
        "Consumer", "accept", make.type(make.void, make.object),
        make.virtual(owner, "write", make.void, make.object, make.object),
        make.type(make.void, make.object), (owner.class_, make.object),
    ).invokeWithArguments([writer, key])  # fmt: skip
    written = make.chain(
        tools.to_mutations,
        tools.stream_of,
        _step(stream, "map", stream.class_, "Function", by_family),
        _step(stream, "map", stream.class_, "Function", lists),
        _step(stream, "flatMap", stream.class_, "Function", tools.stream),
        _step(stream, "flatMap", stream.class_, "Function", tools.stream),
        _step(stream, "forEach", make.void, "Consumer", write),
    )
    accept = make.proxy("Consumer", written).accept
    return lambda block: accept(_java(block))


def gets(block: bytes) -> Any:
    """Return a Java List of the gets of a block."""
    return cls("java.util.List") @ functions().gets.apply(_java(block))


def _java(data: bytes) -> Any:
    return _byte_array()(data)


@cache
def _byte_array() -> Any:
    return jpype.JArray(jpype.JByte)


class _Batcher:
    """Reader of a scan's rows in blocks of about `most` bytes, for one thread.

    `fetch(supplier, wanted)` returns the packed cells of the next rows, which stay in `found`.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        tools, make = functions(), functions().make
        supplier = cls("java.util.function.Supplier").class_
        counter = cls("java.util.concurrent.atomic.AtomicLong")
        self.found, total, out = cls("java.util.ArrayList")(), counter(), tools.bytes(1 << 12)
        packed = make.after(
            make.virtual(tools.bytes, "toByteArray", make.bytes).bindTo(out),
            make.virtual(tools.bytes, "reset", make.void).bindTo(out),
            self._pack_into(out),
        )
        whole = make.after(
            make.handles.dropArguments(packed, 0, supplier, make.long),
            make.virtual(cls("java.util.ArrayList"), "clear", make.void).bindTo(self.found),
            make.given(make.virtual(counter, "set", make.void, make.long), 0).bindTo(total),
            self._collect(total),
        )
        self.fetch: Any = make.proxy("BiFunction", whole).apply

    def _collect(self, total: Any) -> Any:
        """Return a handle that takes a Supplier and a number of rows, and fills `found`."""
        tools, make = functions(), functions().make
        stream, longs = tools.streams, cls("java.util.stream.LongStream")
        generate = make.static(stream, "generate", stream.class_, cls("java.util.function.Supplier").class_)
        limit = make.virtual(stream, "limit", stream.class_, make.long)
        return make.chain(
            make.handles.collectArguments(limit, 0, generate),
            _step(stream, "takeWhile", stream.class_, "Predicate", tools.not_null),
            _step(stream, "peek", stream.class_, "Consumer", tools.adder(self.found)),
            _step(stream, "mapToLong", longs.class_, "ToLongFunction", tools.weight),
            _step(longs, "map", longs.class_, "LongUnaryOperator", tools.summer(total)),
            _step(longs, "allMatch", make.boolean, "LongPredicate", tools.below(self.most)),
        )

    def _pack_into(self, out: Any) -> Any:
        """Return a handle that writes the cells of `found` to a stream of bytes."""
        tools, make = functions(), functions().make
        stream = tools.streams
        # This encoder has no buffer of its own, so it needs no flush, after which it could not be used again.
        write = tools.writer.invokeWithArguments([tools.codec.getEncoder(out)])
        return make.chain(
            tools.stream_of.bindTo(self.found),
            _step(stream, "map", stream.class_, "Function", tools.list_cells),
            _step(stream, "filter", stream.class_, "Predicate", tools.not_null),
            _step(stream, "flatMap", stream.class_, "Function", tools.stream),
            _step(stream, "forEach", make.void, "Consumer", write),
        )


def _step(owner: Any, name: str, returns: Any, kind: str, function: Any) -> Any:
    """Return a handle of a stream's method with its function bound."""
    make = functions().make
    return make.given(make.virtual(owner, name, returns, cls(f"java.util.function.{kind}").class_), function)


class _ThreadLocal(threading.local):
    batcher: _Batcher | None = None


_local = _ThreadLocal()


def rows_of(scanner: Any) -> Any:
    """Return a Java ResultScanner's rows as `next_rows` takes them."""
    return functions().next.invokeWithArguments([scanner])


def next_rows(rows: Any, wanted: int, most: int) -> tuple[int, bytes]:
    """Read the next rows of a scan: their number, and their cells as a block for kirsch.hbase.cell.decode.

    It reads `wanted` rows, or fewer where the last one brings the block to `most` bytes or the scan ends.
    Rows are counted in bytes because one may have megabytes and the next none.
    """
    batcher = _local.batcher
    if batcher is None or batcher.most != most:
        batcher = _local.batcher = _Batcher(most)
    try:
        data = bytes(batcher.fetch(rows, wanted))
        if len(data) > 2 * most:
            # One row was very large: release the buffer that grew for it.
            _local.batcher = None
        return int(batcher.found.size()), data
    finally:
        batcher.found.clear()
