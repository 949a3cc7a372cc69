"""The JVM in this process: started once, with options that leave Ctrl-C to Python.

`-Xrs` and `interrupt=False` keep the JVM from handling signals, so that SIGINT is a KeyboardInterrupt and
atexit functions run.
"""

import faulthandler
import gc
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jpype
import jpype.config
import jpype.imports  # from org.apache.hadoop.hbase.client import Scan

from kirsch.hbase import archive, jdk
from kirsch.hbase import jars as jar
from kirsch.hbase.errors import NoJars, NoJava, OtherJVM

# A heap that is small until it is used; the serial collector starts faster, and needs no threads of its own.
OPTIONS = (
    "-Xrs",
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Xshare:auto",
)
# What Hadoop and protobuf reach into.
OPENS = ("java.nio", "sun.nio.ch", "jdk.internal.ref", "java.lang")
# Of HBase 2.4 and newer; older clients lack it.
NEEDED = "org.apache.hadoop.hbase.client.CheckAndMutate"

_lock = threading.Lock()
# True in a process that was forked from one with a JVM, whose threads it lacks: any call would wait for ever.
_forked = False
_ours: tuple[tuple[Path, ...], tuple[str, ...]] | None = None


def start(
    jars: Sequence[str | Path] | str | Path | None = None,
    java: str | Path | None = None,
    options: Sequence[str] = (),
) -> None:
    """Start the JVM, or check that a running one has what is asked for. Raises NoJava, NoJars or OtherJVM."""
    global _ours
    check_fork()
    with _lock:
        if jpype.isJVMStarted():
            _fits(jars, options)
            return
        home = jdk.find(java)
        path = tuple(jar.find(jars))
        library = jdk.library(home)
        # Java finds a null by SIGSEGV. faulthandler.disable() would put back the handler from before, as
        # pytest does at its end, and the next null would end the process. Java reports crashes itself.
        faulthandler.disable()
        try:
            jpype.startJVM(
                str(library),
                *OPTIONS,
                *archive.options(home, path),
                *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS),
                *options,
                classpath=[str(entry) for entry in path],
                convertStrings=False,
                interrupt=False,
            )
        except (RuntimeError, OSError, TypeError, ValueError) as error:
            words = str(error).strip().splitlines()
            raise NoJava(
                f"Java did not start ({words[0] if words else 'it does not say why'}): {home}"
            ) from None
        _ours = (path, tuple(options))
        errors(False)
        if threading.current_thread() is not threading.main_thread():
            # Java holds who starts it for its main thread, and Java 25 waits for it at the end, gone or not.
            # With its next call the thread is attached again, as a daemon.
            cls("java.lang.Thread").detach()
    _check()


def check_fork() -> None:
    """Raise OtherJVM in a process that was forked from one with a JVM."""
    if _forked:
        raise OtherJVM(
            "this process was forked from one that runs Java, which does not survive a fork: connect in a "
            "process of its own (subprocess, or multiprocessing with spawn)"
        )


def _mark_fork() -> None:
    global _forked
    _forked = jpype.isJVMStarted()
    # The JVM of the parent is not ours to shut down, and would be waited for.
    jpype.config.onexit = False
    # JPype has Java collect garbage when Python does, and no thread of the JVM is left to do it.
    gc.callbacks[:] = [each for each in gc.callbacks if getattr(each, "__module__", "") != "_jpype"]


os.register_at_fork(after_in_child=_mark_fork)


def errors(shown: bool) -> None:
    """Show or hide what Java writes to System.err. It is hidden by default, because the client prints
    exceptions that it also raises (RpcRetryingCallerWithReadReplicas.handleException)."""
    system, stream = cls("java.lang.System"), cls("java.io.PrintStream")
    if shown:
        descriptor = cls("java.io.FileDescriptor").err
        system.setErr(stream(cls("java.io.FileOutputStream")(descriptor), True))
    else:
        system.setErr(stream(cls("java.io.OutputStream").nullOutputStream()))


def _fits(jars: Sequence[str | Path] | str | Path | None, options: Sequence[str]) -> None:
    if _ours is None:
        if _class(NEEDED) is None:
            raise OtherJVM(
                "a JVM runs in this process already, and it was started without HBase's jars: call "
                "kirsch.hbase.connect before it is started, or start it with the jars of `kirsch hbase jars`"
            )
        return
    path, given = _ours
    if (jars is not None and tuple(jar.find(jars)) != path) or (options and tuple(options) != given):
        raise OtherJVM(
            "the JVM of this process was started by an earlier connect with other jars or options, and there "
            "can be one only: leave them out, or use another process"
        )


def _check() -> None:
    if _class(NEEDED) is not None:
        return
    path = _ours[0] if _ours else ()
    loader = cls("java.lang.ClassLoader").getSystemClassLoader()
    if loader.getResource("org/apache/hadoop/hbase/HConstants.class") is None:
        raise NoJars(
            f"HBase's client is not among the jars, the first of which is {path[0] if path else 'none'}"
        )
    version = getattr(_class("org.apache.hadoop.hbase.Version"), "version", None)
    told = f"HBase {version}" if version else "another version of HBase, or not all of it"
    raise NoJars(f"these jars are of {told}, and kirsch needs HBase's client 2.4 or newer: kirsch hbase jars")


def _class(name: str) -> Any:
    """Return a class, or None where it cannot be loaded."""
    try:
        return jpype.JClass(name)
    except (TypeError, jpype.JException):
        return None


def cls(name: str) -> Any:
    """Return a Java class by its full name. Raises NoJars where no jar has it, OtherJVM after a fork."""
    check_fork()
    return _loaded(name)


@cache
def _loaded(name: str) -> Any:
    if not jpype.isJVMStarted():
        raise OtherJVM("the JVM is not running yet: call kirsch.hbase.connect first")
    try:
        return jpype.JClass(name)
    except TypeError:
        raise NoJars(f"no jar has the class {name}") from None


def hbase(name: str) -> Any:
    """Return a class below org.apache.hadoop.hbase: `hbase("client.Scan")`."""
    return cls(f"org.apache.hadoop.hbase.{name}")


def memory() -> tuple[int, int]:
    """Return the used and the maximal bytes of Java's heap."""
    runtime = cls("java.lang.Runtime").getRuntime()
    return int(runtime.totalMemory() - runtime.freeMemory()), int(runtime.maxMemory())
