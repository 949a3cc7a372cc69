"""A session's connection: begun early, waited for where it is needed and where it is left."""

import threading

from kirsch.hbase.shell.session import Session


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_connection_that_is_being_made_is_waited_for_and_closed():
    may, made = threading.Event(), Connection()

    def connect() -> Connection:
        assert may.wait(30)
        return made

    session = Session(connect)
    session.begin()
    leaving = threading.Thread(target=session.close)
    leaving.start()
    leaving.join(0.1)
    assert leaving.is_alive()
    may.set()
    leaving.join(30)
    assert made.closed


def test_one_that_failed_is_none_and_one_that_was_never_begun():
    def connect() -> Connection:
        raise OSError("nobody is there")

    session = Session(connect)
    session.close()
    session.begin()
    session.close()
    assert not session.ready
