"""Java's functional interfaces, made of methods of classes while it runs: java.lang.invoke, no compiler.

Two kinds. What runs for each cell or row is made by LambdaMetafactory, of one method, and is as fast as a
lambda of Java's. What runs once a block is a method handle made of several, one after another: it is slower
by some hundred nanoseconds, and spares a call from Python for each.
"""

from functools import cache
from typing import Any

import jpype

from kirsch.hbase.jvm import cls


class Lambdas:
    """What makes them."""

    def __init__(self) -> None:
        # The lookup is JPype's: it sees what is public.
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
        """A method's type."""
        kinds = jpype.JArray(cls("java.lang.Class"))(list(takes))
        return cls("java.lang.invoke.MethodType").methodType(returns, kinds)

    def virtual(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """A method of objects."""
        return self.lookup.findVirtual(owner.class_, name, self.type(returns, *takes))

    def static(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        """A method of a class."""
        return self.lookup.findStatic(owner.class_, name, self.type(returns, *takes))

    # Of one method

    def make(
        self, interface: str, name: str, erased: Any, method: Any, typed: Any, captured: tuple[Any, ...] = ()
    ) -> Any:
        """A method handle that makes an implementation of an interface, given what it captures."""
        made = self.type(cls(f"java.util.function.{interface}").class_, *captured)
        return self.factory.metafactory(self.lookup, name, made, erased, method, typed).getTarget()

    def functions(self, method: Any, returns: Any, takes: Any, captured: tuple[Any, ...] = ()) -> Any:
        """A method handle that makes Functions, given what they capture."""
        erased = self.type(self.object, self.object)
        return self.make("Function", "apply", erased, method, self.type(returns, takes), captured)

    def function(self, method: Any, returns: Any, takes: Any) -> Any:
        """A java.util.function.Function."""
        return interface("Function", self.functions(method, returns, takes).invokeWithArguments([]))

    # Of several

    def given(self, method: Any, *arguments: Any) -> Any:
        """A method handle with what follows its first argument."""
        return self.handles.insertArguments(method, 1, *arguments)

    def chain(self, first: Any, *rest: Any) -> Any:
        """A method handle, and those that are given what the one before returns."""
        made = first
        for step in rest:
            made = made.asType(made.type().changeReturnType(step.type().parameterType(0)))
            made = self.handles.filterReturnValue(made, step)
        return made

    def after(self, last: Any, *steps: Any) -> Any:
        """A method handle that returns what `last` does, after steps that take nothing, or what it takes."""
        made = last
        for step in reversed(steps):
            made = self.handles.foldArguments(made, step.asType(step.type().changeReturnType(self.void)))
        return made

    def proxy(self, name: str, handle: Any) -> Any:
        """A functional interface of java.util.function, implemented by a method handle."""
        kind = cls(f"java.util.function.{name}")
        proxies = cls("java.lang.invoke.MethodHandleProxies")
        return interface(name, proxies.asInterfaceInstance(kind.class_, handle))


def interface(name: str, java: Any) -> Any:
    """A Java object as what it implements, whatever class it was made of."""
    return cls(f"java.util.function.{name}") @ java


@cache
def lambdas() -> Lambdas:
    """What makes them, once a process; the JVM must run."""
    return Lambdas()
