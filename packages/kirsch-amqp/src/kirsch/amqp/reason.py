"""What the broker, or pika, says of what failed, in a line."""

import re
from typing import Any

from pika.exceptions import ConnectionClosed

# What RabbitMQ says of a stream that it was making as it was killed; it finds no such queue to delete.
HALF_MADE = re.compile(r"queue '([\w.~-]+)' in vhost '([\w./~-]+)' is down or inaccessible")
FORGET = 'rabbit_amqqueue:internal_delete(rabbit_misc:r(<<"{1}">>, queue, <<"{0}">>), <<"kirsch">>).'
# What it says of a body beyond its max_message_size, of an exchange, and of a key that is not for us there.
LARGER = re.compile(r"message size [0-9]+ is larger than (?:configured )?max size ([0-9]+)")
EXCHANGE = re.compile(r"exchange '([^']*)'")
TOPIC = re.compile(r"access to topic '(.*)' in .*exchange '")


def said(error: Any) -> str:
    """What pika's exception says, in a line."""
    # pika wraps what a phase of connecting failed with, and what each attempt did.
    while inner := getattr(error, "exceptions", None) or getattr(error, "exception", None):
        error = inner[-1] if isinstance(inner, list | tuple) else inner
    if isinstance(error, ConnectionClosed) or hasattr(error, "reply_text"):
        told = f"{error.reply_text} ({error.reply_code})"
        if half := HALF_MADE.search(told):
            told += (
                f"; killed as it made that stream? Then: rabbitmqctl eval '{FORGET.format(*half.groups())}'"
            )
        return told
    for cause in getattr(error, "args", ()):
        if isinstance(cause, BaseException):
            return said(cause)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0] if str(error) else ""
    return text or type(error).__name__


def largest(error: Any) -> int | None:
    """How many bytes of a body the broker takes, where it says that one had more."""
    found = LARGER.search(getattr(error, "reply_text", ""))
    return None if found is None else int(found[1])


def named(error: Any) -> tuple[str | None, str | None]:
    """The exchange that the broker names, and the one routing key that it is about, if it is."""
    text = getattr(error, "reply_text", "")
    exchange, topic = EXCHANGE.search(text), TOPIC.search(text)
    return exchange and exchange[1], topic and topic[1]
