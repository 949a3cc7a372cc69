"""Errors of pika and of the broker, described in one line."""

import os
import re
import socket
import ssl
from typing import Any

from pika.exceptions import ConnectionClosed

# Text of RabbitMQ's error for a stream that it was creating when it was killed, and cannot delete.
HALF_MADE = re.compile(r"queue '([\w.~-]+)' in vhost '([\w./~-]+)' is down or inaccessible")
FORGET = 'rabbit_amqqueue:internal_delete(rabbit_misc:r(<<"{1}">>, queue, <<"{0}">>), <<"kirsch">>).'
# Texts of its errors for a body beyond its max_message_size, an exchange, and a forbidden routing key.
LARGER = re.compile(r"message size [0-9]+ is larger than (?:configured )?max size ([0-9]+)")
EXCHANGE = re.compile(r"exchange '([^']*)'")
TOPIC = re.compile(r"access to topic '(.*)' in .*exchange '")


def describe(error: Any) -> str:
    """Describe an exception of pika in a line."""
    # pika wraps the failure of each phase of connecting, and of each attempt.
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
            return describe(cause)
    if isinstance(error, OSError) and error.strerror:
        # asyncio gives an address in place of the reason; TLS and name resolution have words of their own.
        if error.errno is None or isinstance(error, ssl.SSLError | socket.gaierror):
            return error.strerror
        return os.strerror(error.errno)
    text = str(error).splitlines()[0] if str(error) else ""
    return text or type(error).__name__


def largest_body(error: Any) -> int | None:
    """Return the largest body that the broker takes, if the error says that one was larger."""
    found = LARGER.search(getattr(error, "reply_text", ""))
    return None if found is None else int(found[1])


def denied(error: Any) -> tuple[str | None, str | None]:
    """Return the exchange that the error names, and the routing key if it is about one."""
    text = getattr(error, "reply_text", "")
    exchange, topic = EXCHANGE.search(text), TOPIC.search(text)
    return exchange and exchange[1], topic and topic[1]
