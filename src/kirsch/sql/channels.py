"""Asking the bus: one listener answers, and its exception is the asker's."""

from typing import Any

from cherrypy.process.wspbus import ChannelFailures


def ask(bus: Any, channel: str, *arguments: Any) -> Any:
    """Publish on a channel of SQLAlchemyPlugin and return its answer, or raise what it raised.

    Raises RuntimeError when nobody listens.
    """
    listeners = tuple(bus.listeners.get(channel, ()))
    if len(listeners) == 1:  # as nearly always: no order to find, no failures to collect
        return listeners[0](*arguments)
    try:
        answers = bus.publish(channel, *arguments)
    except ChannelFailures as failures:
        raise failures.get_instances()[0] from None
    if not answers:
        raise RuntimeError(f"nobody answers {channel!r}: subscribe a kirsch.sql.SQLAlchemyPlugin to the bus")
    return answers[-1]
