"""A shell on the server of the run, and a record of which test ran which command."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Shared, Standalone

from kirsch.hbase import connect
from kirsch.hbase.shell import ruby_syntax
from kirsch.hbase.shell.answers import Stream
from kirsch.hbase.shell.interpreter import Interpreter
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session

# Commands that answered, by the test that ran them; tests in the order in which they ran.
RAN: dict[str, list[str]] = {}
TESTS: list[str] = []


@pytest.fixture(scope="session")
def quorum(hbase: Shared) -> str:
    """The server of the run."""
    return hbase.quorum


class Recorded(Session):
    """A session that notes which commands answered."""

    test = ""

    def run(self, command: Any, arguments: Any, options: Any) -> Any:
        value = super().run(command, arguments, options)
        if self.test:
            RAN.setdefault(self.test, []).append(command.name)
        return value


@dataclass
class Shell:
    """A shell in this process."""

    interpreter: Interpreter
    out: StringIO
    errors: StringIO = field(default_factory=StringIO)

    def __call__(self, typed: str, **names: Any) -> Any:
        """Run lines; the last one's value, or the exception. A stream's rows come as a list."""
        self.interpreter.namespace.update(names)
        value = None
        for line in typed.strip().splitlines():
            python = ruby_syntax.translate(line.strip(), self.interpreter.known)
            scope = self.interpreter.namespace
            value = eval(python, scope) if _is_expression(python) else exec(python, scope)
            if isinstance(value, Stream):
                value = list(value)
        return value

    def says(self, typed: str) -> tuple[int, str, str]:
        """What running it gives: the exit status, and what it prints."""
        self.out.truncate(0)
        self.out.seek(0)
        old, sys.stderr = sys.stderr, StringIO()
        try:
            status = self.interpreter.run(typed)
            return status, self.out.getvalue(), sys.stderr.getvalue()
        finally:
            sys.stderr = old

    @property
    def session(self) -> Session:
        return self.interpreter.session


def _is_expression(python: str) -> bool:
    try:
        compile(python, "", "eval")
    except SyntaxError:
        return False
    return True


@pytest.fixture(scope="session")
def session(quorum: str, java: None):
    session = Recorded(lambda: connect(quorum, patience=60))
    yield session
    session.close()


@pytest.fixture(scope="session")
def labels_quorum(tmp_path_factory, java: None):
    """A server with visibility labels, for their tests only."""
    server = Standalone(tmp_path_factory.mktemp("labels"), "--access", "--labels").start()
    yield server.quorum
    server.kill()


@pytest.fixture(scope="session")
def labels_session(labels_quorum: str):
    session = Recorded(lambda: connect(labels_quorum, patience=60))
    # The master makes their table after it has said that it serves.
    eventually(lambda: session.connection.admin.exists("hbase:labels"), 60, "the table of labels")
    eventually(lambda: session.connection.admin.enabled("hbase:labels"), 60, "the table of labels")
    yield session
    session.close()


@pytest.fixture
def labelled(labels_session: Recorded, request: pytest.FixtureRequest):
    """A shell on the server with visibility labels."""
    labels_session.test = test_name(request.function)
    TESTS.append(labels_session.test)
    out = StringIO()
    yield Shell(Interpreter(labels_session, Output(out)), out)
    labels_session.test = ""


@pytest.fixture(scope="session")
def empty(session: Recorded) -> str:
    """A table with the family f that nothing is written to."""
    shell = Shell(Interpreter(session, Output(StringIO())), StringIO())
    shell("exists('empty') or create('empty', 'f')")
    return "empty"


@pytest.fixture
def shell(session: Recorded, request: pytest.FixtureRequest):
    """A shell with a namespace of its own; what a test makes in HBase has names of its own."""
    session.test = test_name(request.function)
    TESTS.append(session.test)
    out = StringIO()
    yield Shell(Interpreter(session, Output(out)), out)
    session.test = ""


@pytest.fixture
def shell_of(quorum: str, client: None) -> Callable[..., Shell]:
    """Shells with output of their own, such as JSON."""

    def make(session: Session, **options: Any) -> Shell:
        out = StringIO()
        return Shell(Interpreter(session, Output(out, **options)), out)

    return make


def test_name(function: Any) -> str:
    """As the table of commands names a test."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


test_name.__test__ = False  # type: ignore[attr-defined]
