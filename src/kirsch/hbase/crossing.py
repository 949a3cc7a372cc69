"""Cells and mutations cross between Python and Java in blocks, not one by one: a call costs microseconds.

What runs per cell runs in Java, though no Java was compiled: the JVM makes classes of method handles at run
time (java.lang.invoke.LambdaMetafactory), and a stream calls them. So `pack` is

    Arrays.stream(results).map(Result::listCells).filter(Objects::nonNull).flatMap(Collection::stream)
        .forEach(encoder::write)

with the encoder of HBase's KeyValueCodec, and `mutations` is

    RegionAction.parseFrom(block).getActionList().stream().map(Action::getMutation)
        .map(ProtobufUtil::toMutation).collect(toList())
"""

from functools import cache
from typing import Any

import jpype

from kirsch.hbase.jvm import cls, hbase

_PROTOS = "shaded.protobuf.generated.ClientProtos$"


class Lambdas:
    """Java's functional interfaces, implemented by methods of classes."""

    def __init__(self) -> None:
        # The lookup is JPype's: it sees what is public.
        self.lookup = cls("java.lang.invoke.MethodHandles").lookup()
        self.factory = cls("java.lang.invoke.LambdaMetafactory")
        self.object = cls("java.lang.Object").class_
        self.boolean = cls("java.lang.Boolean").TYPE
        self.int = cls("java.lang.Integer").TYPE
        self.void = cls("java.lang.Void").TYPE

    def type(self, returns: Any, *takes: Any) -> Any:
        """A method's type."""
        kinds = jpype.JArray(cls("java.lang.Class"))(list(takes))
        return cls("java.lang.invoke.MethodType").methodType(returns, kinds)

    def virtual(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """A method of objects."""
        return self.lookup.findVirtual(owner.class_, name, self.type(returns, *takes))

    def static(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """A method of a class."""
        return self.lookup.findStatic(owner.class_, name, self.type(returns, *takes))

    def make(
        self, interface: str, name: str, erased: Any, method: Any, typed: Any, captured: tuple[Any, ...] = ()
    ) -> Any:
        """A method handle that makes an implementation of an interface, given what it captures."""
        made = self.type(cls(f"java.util.function.{interface}").class_, *captured)
        return self.factory.metafactory(self.lookup, name, made, erased, method, typed).getTarget()

    def function(self, method: Any, returns: Any, takes: Any) -> Any:
        """A java.util.function.Function."""
        erased = self.type(self.object, self.object)
        return self.make("Function", "apply", erased, method, self.type(returns, takes)).invokeWithArguments(
            []
        )


class Crossing:
    """The functions, made once a process."""

    def __init__(self) -> None:
        make = Lambdas()
        result, cell = hbase("client.Result"), hbase("Cell").class_
        collection, stream = cls("java.util.Collection"), cls("java.util.stream.Stream").class_
        lists = cls("java.util.List").class_
        self.list_cells = make.function(make.virtual(result, "listCells", lists), lists, result.class_)
        self.stream = make.function(make.virtual(collection, "stream", stream), stream, collection.class_)
        self.not_null = make.make(
            "Predicate", "test", make.type(make.boolean, make.object),
            make.static(cls("java.util.Objects"), "nonNull", make.boolean, make.object),
            make.type(make.boolean, make.object),
        ).invokeWithArguments([])  # fmt: skip
        output = hbase("io.CellOutputStream")
        self.writer = make.make(
            "Consumer", "accept", make.type(make.void, make.object),
            make.virtual(output, "write", make.void, cell), make.type(make.void, cell), (output.class_,),
        )  # fmt: skip
        self.size = make.make(
            "ToIntFunction", "applyAsInt", make.type(make.int, make.object),
            make.virtual(result, "size", make.int), make.type(make.int, result.class_),
        ).invokeWithArguments([])  # fmt: skip
        action, mutation = hbase(f"{_PROTOS}Action"), hbase(f"{_PROTOS}MutationProto").class_
        self.get_mutation = make.function(
            make.virtual(action, "getMutation", mutation), mutation, action.class_
        )
        kind = hbase("client.Mutation").class_
        util = hbase("shaded.protobuf.ProtobufUtil")
        self.to_mutation = make.function(make.static(util, "toMutation", kind, mutation), kind, mutation)
        get = hbase("client.Get").class_
        self.to_get = make.function(
            make.static(util, "toGet", get, hbase(f"{_PROTOS}Get").class_), get, hbase(f"{_PROTOS}Get").class_
        )
        self.get_get = make.function(
            make.virtual(action, "getGet", hbase(f"{_PROTOS}Get").class_),
            hbase(f"{_PROTOS}Get").class_, action.class_,
        )  # fmt: skip
        self.region_action = hbase(f"{_PROTOS}RegionAction")
        self.arrays = cls("java.util.Arrays")
        self.collectors = cls("java.util.stream.Collectors")
        self.codec = hbase("codec.KeyValueCodec")()
        self.bytes = cls("java.io.ByteArrayOutputStream")


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
    (
        tools.arrays.stream(results)
        .map(tools.list_cells)
        .filter(tools.not_null)
        .flatMap(tools.stream)
        .forEach(write)
    )
    encoder.flush()
    return bytes(out.toByteArray())


def sizes(results: Any) -> list[int]:
    """How many cells each of the results has."""
    tools = crossing()
    return list(tools.arrays.stream(results).mapToInt(tools.size).toArray())


def mutations(block: bytes) -> Any:
    """A Java List of Put and Delete, of a block that kirsch.hbase.mutation made."""
    tools = crossing()
    actions = tools.region_action.parseFrom(block).getActionList()
    return actions.stream().map(tools.get_mutation).map(tools.to_mutation).collect(tools.collectors.toList())


def gets(block: bytes) -> Any:
    """A Java List of Get, of a block that kirsch.hbase.mutation made."""
    tools = crossing()
    actions = tools.region_action.parseFrom(block).getActionList()
    return actions.stream().map(tools.get_get).map(tools.to_get).collect(tools.collectors.toList())
