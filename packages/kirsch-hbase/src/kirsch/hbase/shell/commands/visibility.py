"""visibility labels: cells that not everybody sees (VisibilityController)."""

from typing import Any

from kirsch.hbase.shell.answer import Names
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.session import Session, many, text

GROUP = "visibility labels"


@command(GROUP)
def add_labels(session: Session, labels: Any) -> None:
    """Make labels known.

    add_labels ['SECRET', 'PRIVATE']
    """
    _check(session, _client(session, "addLabels", _array(labels)))


@command(GROUP)
def list_labels(session: Session, pattern: str = ".*") -> Names:
    """List labels, those that match a pattern if there is one.

    list_labels
    list_labels 'secret.*'
    """
    answer = _client(session, "listLabels", text(pattern, "a pattern"))
    return Names("LABEL", sorted(str(label.toStringUtf8()) for label in answer.getLabelList()))


@command(GROUP)
def set_auths(session: Session, user: str, labels: Any) -> None:
    """Let a user see what has certain labels.

    set_auths 'bob', ['SECRET', 'PRIVATE']
    """
    _check(session, _client(session, "setAuths", _array(labels), text(user, "a user's name")))


@command(GROUP)
def get_auths(session: Session, user: str) -> Names:
    """List the labels that a user sees.

    get_auths 'bob'
    """
    answer = _client(session, "getAuths", text(user, "a user's name"))
    return Names("LABEL", sorted(str(label.toStringUtf8()) for label in answer.getAuthList()))


@command(GROUP)
def clear_auths(session: Session, user: str, labels: Any = None) -> None:
    """Let a user not see certain labels any more; any label if none is named.

    clear_auths 'bob', ['SECRET']
    clear_auths 'bob'
    """
    given = many(labels) if labels is not None else list(get_auths.function(session, user))
    if given:
        _check(session, _client(session, "clearAuths", _array(given), text(user, "a user's name")))


@command(GROUP, keep_hashes=True)
def set_visibility(
    session: Session, table: Any, visibility: str, specification: Any = None, **more: Any
) -> int:
    """Write the cells that a scan finds anew, visible by an expression of labels. Answers how many they are.

    set_visibility 't1', 'SECRET&!PUBLIC', {COLUMNS => ['f1', 'f2:q']}
    """
    from kirsch.hbase.shell.cells import rewrite

    _known(session)
    expression = session.java("security.visibility.CellVisibility")(text(visibility, "a visibility"))
    return rewrite(
        session, table, {**(specification or {}), **more}, lambda put: put.setCellVisibility(expression)
    )


def _known(session: Session) -> None:
    names = {str(c.name()) for c in session.admin("getSecurityCapabilities")}
    if "CELL_VISIBILITY" not in names:
        raise CommandError(
            "this server has no visibility labels: VisibilityController is not among its coprocessors "
            "(hbase.coprocessor.master.classes, hbase.coprocessor.region.classes)"
        )


def _client(session: Session, method: str, *arguments: Any) -> Any:
    _known(session)
    client = session.java("security.visibility.VisibilityClient")
    return session.call(getattr(client, method), session.connection.java, *arguments)


def _array(labels: Any) -> Any:
    import jpype

    return jpype.JArray(jpype.JString)([text(label, "a label") for label in many(labels)])


def _check(session: Session, answer: Any) -> None:
    """Raises CommandError for the first label that was refused."""
    for result in answer.getResultList():
        if result.hasException():
            message = str(result.getException().getValue().toStringUtf8())
            raise CommandError(message.strip().splitlines()[0].rpartition("Exception: ")[2])
