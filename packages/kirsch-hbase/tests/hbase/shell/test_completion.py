"""What Tab offers without a server: nothing is waited for."""

from io import StringIO

import pytest

from kirsch.hbase.shell.completion import Completion
from kirsch.hbase.shell.interpreter import Interpreter
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session
from kirsch.hbase.table import Page


@pytest.fixture
def completion():
    def never():
        raise AssertionError("it connects")

    interpreter = Interpreter(Session(never), Output(StringIO()))
    interpreter.namespace["numbers"] = [1, 2]
    return Completion(interpreter)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("descri", ["describe", "describe_namespace"]),
        ("x = descri", ["describe", "describe_namespace"]),
        ("if True:\n    descri", ["describe", "describe_namespace"]),
        ("scan 't', LIM", ["LIMIT => "]),
        ("scan 't', {LIM", ["LIMIT => "]),
        ("scan 't', {LIMIT => 1, STAR", ["STARTROW => "]),
        ("create 't', {NAME => 'f', BLOO", ["BLOOMFILTER => "]),
        ("put('t', 'r', 'f:q', 'v', VISI", ["VISIBILITY => "]),
        ("numbers.cou", ["count"]),
        ("numbers.__le", ["__le__", "__len__"]),
        ("put 't', 'r', 'f:q', numbers.cou", ["count"]),
        ("nowhere.cou", []),
        ("help 'descri", ["describe", "describe_namespace"]),
        ("help 'visi", ["visibility labels"]),
        ("impor", ["import"]),
        ("isinst", ["isinstance"]),
        ("connec", ["connection"]),
        ("admin.snap", []),  # that is not waited for, either
        # No tables without a connection; and it is not waited for.
        ("scan 't", []),
        ("drop '", []),
        ("", []),
    ],
)
def test_what_is_offered(completion, typed, offered):
    start, words = completion.of(typed)
    assert words == offered
    assert all(word.startswith(typed[start:]) for word in words)


class Admin:
    @property
    def snapshots(self) -> Page:
        raise AssertionError("it was asked")


class Connection:
    admin = Admin()

    def close(self) -> None:
        pass


def test_the_connection_has_names_to_offer_once_it_is_there():
    session = Session(Connection)
    interpreter = Interpreter(session, Output(StringIO()))
    _ = session.connection
    completion = Completion(interpreter)
    assert completion.of("admin.snap") == (6, ["snapshots"])
    assert completion.of("connection.admin.snap")[1] == ["snapshots"]
    # By what is said of it.
    assert completion.of("admin.snapshots.af")[1] == ["after"]
    assert "admin" not in interpreter.namespace


def test_nothing_is_called_to_complete(completion):
    class Trap:
        @property
        def inner(self):
            raise AssertionError("a property was asked")

    completion._interpreter.namespace["trap"] = Trap()
    completion.of("trap.inner.x")
    assert "inner" in completion.of("trap.")[1]
