"""The next rows of a scan, as many as are wanted or as make a block: told by their bytes, for a row may have
megabytes, and the one before it none.

It is done in Java, in one call (see kirsch.hbase.crossing):

    Stream.generate(scanner::next).limit(wanted).takeWhile(Objects::nonNull).peek(found::add)
        .mapToLong(Result::getTotalSizeOfCells).map(total::addAndGet).allMatch(range::isValidValue)

which asks the scanner for no row more than it keeps, and then

    found.stream().map(Result::listCells).filter(Objects::nonNull).flatMap(Collection::stream)
        .forEach(encoder::write)
"""

import threading
from functools import cache
from typing import Any

from kirsch.hbase.crossing import crossing
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.lambdas import lambdas


class Gathering:
    """The functions of it, made once a process."""

    def __init__(self) -> None:
        make, result = lambdas(), hbase("client.Result")
        self.list, self.counter = cls("java.util.ArrayList"), cls("java.util.concurrent.atomic.AtomicLong")
        self.range = cls("java.time.temporal.ValueRange")
        scanner = hbase("client.ResultScanner")
        self.next = make.make(
            "Supplier", "get", make.type(make.object),
            make.virtual(scanner, "next", result.class_), make.type(result.class_), (scanner.class_,),
        )  # fmt: skip
        self.add = make.make(
            "Consumer", "accept", make.type(make.void, make.object),
            make.virtual(self.list, "add", make.boolean, make.object), make.type(make.void, make.object),
            (self.list.class_,),
        )  # fmt: skip
        self.weight = make.make(
            "ToLongFunction", "applyAsLong", make.type(make.long, make.object),
            make.static(result, "getTotalSizeOfCells", make.long, result.class_),
            make.type(make.long, result.class_),
        ).invokeWithArguments([])  # fmt: skip
        self.sum = make.make(
            "LongUnaryOperator", "applyAsLong", make.type(make.long, make.long),
            make.virtual(self.counter, "addAndGet", make.long, make.long), make.type(make.long, make.long),
            (self.counter.class_,),
        )  # fmt: skip
        self.within = make.make(
            "LongPredicate", "test", make.type(make.boolean, make.long),
            make.virtual(self.range, "isValidValue", make.boolean, make.long),
            make.type(make.boolean, make.long), (self.range.class_,),
        )  # fmt: skip


@cache
def gathering() -> Gathering:
    """The functions; the JVM must run."""
    return Gathering()


class Gatherer:
    """What gathers blocks of `most` bytes; for one thread. `fetch` takes a source and how many rows, and
    gives their cells; `found` are the rows."""

    def __init__(self, most: int) -> None:
        self.most = most
        tools = gathering()
        self.found, size, out = tools.list(), tools.counter(), crossing().bytes(1 << 12)
        within = tools.within.invokeWithArguments([tools.range.of(0, most - 1)])
        make, supplier = lambdas(), cls("java.util.function.Supplier").class_
        gathered = self._gathered(size, within)
        rest = make.after(
            make.virtual(crossing().bytes, "toByteArray", make.bytes).bindTo(out),
            make.virtual(crossing().bytes, "reset", make.void).bindTo(out),
            self._packed(out),
        )
        whole = make.after(
            make.handles.dropArguments(rest, 0, supplier, make.long),
            make.virtual(tools.list, "clear", make.void).bindTo(self.found),
            make.given(make.virtual(tools.counter, "set", make.void, make.long), 0).bindTo(size),
            gathered,
        )
        self.fetch: Any = make.proxy("BiFunction", whole).apply

    def _gathered(self, size: Any, within: Any) -> Any:
        """From a source and a number of rows to nothing: the rows are in `found` then."""
        make, tools = lambdas(), gathering()
        functions, stream = "java.util.function.", crossing().streams
        longs = cls("java.util.stream.LongStream")

        def step(owner: Any, name: str, returns: Any, kind: str, function: Any) -> Any:
            return make.given(make.virtual(owner, name, returns, cls(functions + kind).class_), function)

        generate = make.static(stream, "generate", stream.class_, cls(functions + "Supplier").class_)
        limit = make.virtual(stream, "limit", stream.class_, make.long)
        add, sum_ = tools.add.invokeWithArguments([self.found]), tools.sum.invokeWithArguments([size])
        return make.chain(
            make.handles.collectArguments(limit, 0, generate),
            step(stream, "takeWhile", stream.class_, "Predicate", crossing().not_null),
            step(stream, "peek", stream.class_, "Consumer", add),
            step(stream, "mapToLong", longs.class_, "ToLongFunction", tools.weight),
            step(longs, "map", longs.class_, "LongUnaryOperator", sum_),
            step(longs, "allMatch", make.boolean, "LongPredicate", within),
        )

    def _packed(self, out: Any) -> Any:
        """From nothing to nothing: the cells of `found` are in `out` then."""
        make, tools = lambdas(), crossing()
        stream, functions = tools.streams, "java.util.function."
        # It has no buffer of its own, so it need not be flushed, after which it could not be used again.
        write = tools.writer.invokeWithArguments([tools.codec.getEncoder(out)])

        def step(name: str, returns: Any, kind: str, function: Any) -> Any:
            return make.given(make.virtual(stream, name, returns, cls(functions + kind).class_), function)

        return make.chain(
            tools.stream_of.bindTo(self.found),
            step("map", stream.class_, "Function", tools.list_cells),
            step("filter", stream.class_, "Predicate", tools.not_null),
            step("flatMap", stream.class_, "Function", tools.stream),
            step("forEach", make.void, "Consumer", write),
        )


class _Own(threading.local):
    gatherer: Gatherer | None = None


_own = _Own()


def source(scanner: Any) -> Any:
    """A Java ResultScanner as `gather` takes it."""
    return gathering().next.invokeWithArguments([scanner])


def gather(source: Any, wanted: int, most: int) -> tuple[int, bytes]:
    """The next rows of a scan: how many they are, and their cells as a block for kirsch.hbase.cell.decode.

    They are `wanted`; or fewer, because the last of them makes them `most` bytes or more; or all that are
    left."""
    own = _own.gatherer
    if own is None or own.most != most:
        own = _own.gatherer = Gatherer(most)
    try:
        data = bytes(own.fetch(source, wanted))
        if len(data) > 2 * most:
            # A row that was very large: its room is not kept.
            _own.gatherer = None
        return int(own.found.size()), data
    finally:
        own.found.clear()
