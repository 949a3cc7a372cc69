"""The line that says how far a command is."""

import threading
from io import StringIO

import pytest
from tests.deadline import eventually

from kirsch.hbase.shell.session import Progress


def test_control_c_while_it_begins_leaves_nothing(monkeypatch):
    """Else it would be written over the prompt from then on, and never again for a command."""
    stream, started = StringIO(), []
    progress, start = Progress(stream), threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), progress.of("count"):
            pass
    (thread,) = started
    thread.join(20)
    assert not thread.is_alive()
    assert stream.getvalue() == ""
    with progress.of("count"):
        progress.say("5 rows")
        eventually(lambda: "count: 5 rows, " in stream.getvalue(), what="the line")
    assert stream.getvalue().endswith("\r\x1b[K")
