"""Errors of HBase: a small tree, made from Java's exceptions without importing Java.

Each message is one line that says what to do. `java` is the Java exception, `trace()` its stack trace.
"""

import re
from collections.abc import Sequence
from typing import Any


class HBaseError(Exception):
    """Base of all errors. `java` is the Java exception behind it, if there is one; `failures` are the keys of
    a batch's rows that were not written, with their errors. All other rows were written."""

    def __init__(self, message: str, java: Any = None) -> None:
        super().__init__(message)
        self.java = java
        self.failures: tuple[tuple[bytes, HBaseError], ...] = ()

    def trace(self) -> str:
        """Java's stack trace; empty where no Java exception is behind it."""
        if self.java is None:
            return ""
        return str(self.java.stacktrace())


class StartError(HBaseError):
    """The client could not be started here: no Java, no jars, or others than it needs."""


class NoJava(StartError):
    """Java is missing or too old."""


class NoJars(StartError):
    """HBase's client jars are missing, or of another version."""


class OtherJVM(StartError):
    """The JVM of this process was started with other jars or options, and cannot be changed."""


class Unavailable(HBaseError):
    """ZooKeeper, the master or a region server does not answer."""


class NotFound(HBaseError, LookupError):
    """A table, family, namespace, snapshot, peer or group that does not exist."""


class Exists(HBaseError):
    """Something with this name exists already."""


class Disabled(HBaseError):
    """A table is disabled and must be enabled, or the reverse."""


class Denied(HBaseError, PermissionError):
    """The user lacks a permission."""

    def __str__(self) -> str:
        return str(self.args[0])


class Invalid(HBaseError, ValueError):
    """An invalid argument: a name, a schema, a filter, a value."""


class CodecError(Invalid):
    """A value that a codec cannot encode, or bytes that it cannot decode."""


class FilterError(Invalid):
    """A syntax error in a filter's text; `position` counts from 0."""

    def __init__(self, message: str, text: str = "", position: int = 0, java: Any = None) -> None:
        super().__init__(message, java)
        self.text = text
        self.position = position


class Unsupported(HBaseError):
    """The server lacks a feature, or has it off."""


class Throttled(HBaseError):
    """A quota is used up."""


class Closed(HBaseError):
    """The connection, scanner or mutator is closed."""


class BatchError(HBaseError):
    """Rows of a batch were not written, for different reasons: see `failures`."""

    def __init__(
        self, message: str, failures: Sequence[tuple[bytes, HBaseError]] = (), java: Any = None
    ) -> None:
        super().__init__(message, java)
        self.failures = tuple(failures)


def joined(errors: Sequence[HBaseError]) -> HBaseError:
    """Combine the errors of several blocks of writes: the first, or a BatchError with the rows of all."""
    first = errors[0]
    failures = [failure for error in errors for failure in error.failures]
    if len(errors) == 1 or not failures:
        return first
    return BatchError(f"{len(failures)} rows could not be written; the first: {first}", failures, first.java)


# Java's exceptions by the last part of their names. In the words, {} is the first group of the pattern that
# matches Java's message, or that message itself.
_ANY = re.compile(r"(.*)", re.S)
_STATE = re.compile(r"(?:.*tableName=)?([^\s,]+)")
_QUOTED = re.compile(r"'([^']+)'")
Rule = tuple[type[HBaseError], re.Pattern[str], str]
RULES: dict[str, Rule] = {
    "TableNotFoundException": (NotFound, re.compile(r"(?:Table )?'?([^\s',]+)"), "there is no table {}"),
    "TableExistsException": (Exists, _ANY, "there is a table {} already"),
    "TableNotEnabledException": (Disabled, _STATE, "table {} is disabled: enable it first"),
    "TableNotDisabledException": (Disabled, _STATE, "table {} is enabled: disable it first"),
    "NamespaceNotFoundException": (NotFound, _ANY, "there is no namespace {}"),
    "NamespaceExistException": (
        Exists,
        re.compile(r"(?:Namespace )?(\S+)"),
        "there is a namespace {} already",
    ),
    "NoSuchColumnFamilyException": (
        NotFound,
        re.compile(r"Column family (\S+) does not exist in region ([^,]+),"),
        "there is no family {} in table {}",
    ),
    "InvalidFamilyOperationException": (Invalid, _ANY, "{}"),
    "SnapshotDoesNotExistException": (NotFound, _QUOTED, "there is no snapshot {}"),
    "SnapshotExistsException": (Exists, _QUOTED, "there is a snapshot {} already"),
    "ReplicationPeerNotFoundException": (NotFound, _ANY, "there is no replication peer: {}"),
    "AccessDeniedException": (
        Denied,
        re.compile(r"(?:Insufficient permissions )?(.*)", re.S),
        "not permitted: {}",
    ),
    "DoNotRetryRegionException": (Invalid, _ANY, "{}"),
    "UnsupportedOperationException": (Unsupported, _ANY, "this server does not support it: {}"),
    "UnknownProtocolException": (Unsupported, _ANY, "this server has no such service: {}"),
    "QuotaExceededException": (Throttled, _ANY, "a quota is used up: {}"),
    "RpcThrottlingException": (Throttled, _ANY, "a quota is used up: {}"),
    "SpaceLimitingException": (Throttled, _ANY, "a quota is used up: {}"),
    "ConstraintException": (Invalid, _ANY, "{}"),
    "IllegalArgumentException": (Invalid, _ANY, "{}"),
    "NumberFormatException": (Invalid, _ANY, "{}"),
    "NullPointerException": (Invalid, _ANY, "an argument is missing: {}"),
    "MasterNotRunningException": (Unavailable, _ANY, "no HBase master answers: {}"),
    "ServerNotRunningYetException": (Unavailable, _ANY, "HBase is still starting: {}"),
    "PleaseHoldException": (Unavailable, _ANY, "HBase is still starting: {}"),
    "ZooKeeperConnectionException": (Unavailable, _ANY, "ZooKeeper does not answer: {}"),
    "NoServerForRegionException": (Unavailable, _ANY, "no server has this region: {}"),
    "CallTimeoutException": (Unavailable, _ANY, "HBase did not answer in time: {}"),
    "TimeoutIOException": (Unavailable, _ANY, "HBase did not answer in time: {}"),
    "SocketTimeoutException": (Unavailable, _ANY, "HBase did not answer in time: {}"),
    "ConnectException": (Unavailable, _ANY, "HBase does not answer: {}"),
    "ConnectionClosedException": (Unavailable, _ANY, "HBase has closed the connection: {}"),
    "ConnectionClosingException": (Unavailable, _ANY, "HBase has closed the connection: {}"),
    "NotServingRegionException": (Unavailable, _ANY, "no server has this region: {}"),
    "RegionServerStoppedException": (Unavailable, _ANY, "the region's server is stopping: {}"),
    "UnknownHostException": (Unavailable, _ANY, "there is no such host: {}"),
    "ConnectionLossException": (Unavailable, _ANY, "ZooKeeper does not answer: {}"),
    "RejectedExecutionException": (Closed, _ANY, "the connection is closed"),
    "OutOfMemoryError": (
        HBaseError,
        _ANY,
        "Java has no memory left ({}): give it more with options=['-Xmx2g']",
    ),
    "NoClassDefFoundError": (NoJars, _ANY, "these jars lack {}: they are of another version of HBase"),
    "NoSuchMethodError": (NoJars, _ANY, "these jars lack {}: they are of another version of HBase"),
    "ClassNotFoundException": (NoJars, _ANY, "no jar has the class {}"),
}
# Where the class of the exception says nothing, its message does. Its words are Java's, or these, with the
# first group of the pattern.
SAID: tuple[tuple[type[HBaseError], re.Pattern[str], str], ...] = (
    (NotFound, re.compile(r"Unable to find the table name for snapshot=(\S+)"), "there is no snapshot {}"),
    (Invalid, re.compile(r"Field is not a long, it's (\d+) bytes"), "no counter has {} bytes: it has 8"),
    (Unsupported, re.compile(r"not enabled|is not supported|[Dd]isabled by|No registered .* service"), ""),
    (NotFound, re.compile(r"does ?n[o']t exist|not found", re.I), ""),
    (Exists, re.compile(r"already exists", re.I), ""),
    (
        Unavailable,
        re.compile(r"Can't get peerClusterId|Zookeeper .* could not be completed|KeeperErrorCode"),
        "",
    ),
    (
        Unavailable,
        re.compile(r"((?:Failed to get result within|[Oo]peration) timeout.*)", re.S),
        "HBase did not answer in time: {}",
    ),
)
# Where the message says more than the class of any exception: the first because Java says much else where a
# client without a ticket comes to a server that wants Kerberos, the second because HBase's balancer of groups
# fails with a NullPointerException while another client's table is being made.
SAID_FIRST: tuple[tuple[type[HBaseError], re.Pattern[str], str], ...] = (
    (
        Denied,
        re.compile("no valid authentication method|GSS initiate failed|Failed to find any Kerberos"),
        "HBase wants Kerberos, and there is no valid ticket: run kinit, or set hbase.client.keytab.file "
        "and hbase.client.keytab.principal",
    ),
    (
        Unavailable,
        re.compile('"currentHostServer" is null'),
        "a region of the group has no server at this moment: repeat it",
    ),
)
# They only wrap what happened, unless nothing else is known.
WRAPPERS = {
    "RetriesExhaustedException": "HBase did not answer in time: {}",
    "RetriesExhaustedWithDetailsException": "HBase did not answer in time: {}",
    "RemoteWithExtrasException": "{}",
    "RemoteException": "{}",
    "DoNotRetryIOException": "{}",
    "ExecutionException": "{}",
    "CompletionException": "{}",
    "UndeclaredThrowableException": "{}",
    "ServiceException": "{}",
    "IOException": "{}",
    "HBaseIOException": "{}",
    "UncheckedIOException": "{}",
    "RuntimeException": "{}",
    "InterruptedIOException": "it was interrupted: {}",
}
_NAMED = re.compile(r"\b(?:[a-z][\w]*\.)+(?:\w+\$)?([A-Z]\w*(?:Exception|Error))\b:?\s*")


def from_chain(chain: Sequence[tuple[str, str]]) -> tuple[type[HBaseError], str]:
    """Return the class and message for a Java exception and its causes, outermost first, each as its class
    name and message."""
    told: list[tuple[str, str]] = []
    for name, message in chain:
        told.append((name.rpartition(".")[2].rpartition("$")[2], message))
        # A server's exception arrives as text: its name and message, then the server's stack.
        told.extend((found, _rest(message, end)) for found, end in named(message))
    if found := _said(SAID_FIRST, told):
        return found
    for name, message in told:
        if name in RULES:
            # A class that the client lacks arrives twice, its message only the second time.
            said = next((other for named_, other in told if named_ == name and plain(other)), message)
            return _by_rule(RULES[name], said)
    if found := _said(SAID, told):
        return found
    name, message = told[-1]
    for candidate, text in reversed(told):
        if plain(text):
            name, message = candidate, text
            break
    words = WRAPPERS[name].format(plain(message)) if name in WRAPPERS else f"{name}: {plain(message)}"
    kind = Unavailable if name.startswith("RetriesExhausted") else HBaseError
    return kind, words.removesuffix(": ")


def _said(
    table: Sequence[tuple[type[HBaseError], re.Pattern[str], str]], told: Sequence[tuple[str, str]]
) -> tuple[type[HBaseError], str] | None:
    """Return the class and words of the first message that a row of the table matches; None if none does."""
    for _, message in told:
        for kind, pattern, words in table:
            if match := pattern.search(message):
                return kind, words.format(*map(plain, match.groups())) if words else plain(message)
    return None


def named(message: str) -> list[tuple[str, int]]:
    """Return the exceptions that a message names at the beginning of its lines, and where their messages
    begin."""
    found = []
    for match in _NAMED.finditer(message):
        line = message[message.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "at " not in line:
            found.append((match.group(1), match.end()))
    return found


def plain(message: str) -> str:
    """Reduce a Java message to one line, without class names before it and the stack behind it."""
    lines = [line for line in message.strip().splitlines() if not line.lstrip().startswith(("at ", "..."))]
    text = " ".join(line.strip() for line in lines if not line.startswith("Caused by:"))
    while match := _NAMED.match(text):
        text = text[match.end() :]
    return text.strip()


def _rest(message: str, start: int) -> str:
    end = message.find("\n", start)
    return message[start : end if end >= 0 else len(message)]


def _by_rule(rule: Rule, message: str) -> tuple[type[HBaseError], str]:
    kind, pattern, words = rule
    text = plain(message)
    match = pattern.search(text)
    groups = match.groups() if match else (text,) * words.count("{}")
    return kind, words.format(*groups).strip().removesuffix(":")
