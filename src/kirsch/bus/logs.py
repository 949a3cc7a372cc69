"""Logs to standard error, as text or JSON, and to syslog where that is wanted."""

import json
import logging
import logging.handlers
import os
import re
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import cherrypy

# CherryPy writes its own time before each message; ours says it already.
CHERRYPY_TIME = re.compile(r"^\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\]\s*")


def one_line(error: Exception, folder: Path, *, named: bool = True) -> str:
    """Return an error in one line, with the last file and line of a folder that raised it.

    `named` is False where the message says enough without the error's class.
    """
    text = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
    if named:
        text = f"{type(error).__name__}: {text}"
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        text = f"{type(error).__name__}: {error.msg}"
        places.append((error.filename, error.lineno))
    for name, line in reversed(places):
        if Path(name).resolve().is_relative_to(folder.resolve()):
            return f"{name}, line {line}: {text}"
    return text


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000+00:00 INFO cherrypy.error: ENGINE Bus STARTED`; a traceback on more lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


class JSONFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, thread, and exception with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "thread": record.threadName,
        }
        if trace := _traceback(self, record):
            entry["exception"] = trace
        return json.dumps(entry, ensure_ascii=False)


class SyslogFormatter(logging.Formatter):
    """Text after the priority: the logger's name as tag, and the message."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name}: {_message(record)}"


def configure_logging(
    format: Literal["text", "json"] = "text",
    level: int | str = "INFO",
    syslog: str | None = None,
    access: bool = False,
) -> None:
    """Send CherryPy's logs and the root logger's to standard error, and to syslog if it has an address.

    `syslog` is a socket's path (/dev/log) or HOST:PORT (UDP). Without `access` there is no access log, and
    no time spent on formatting it. Called again it replaces what it did. Raises ValueError when the format
    or level is unknown, or syslog cannot be reached.
    """
    if format not in ("text", "json"):
        raise ValueError(f"a log's format is text or json, not {format!r}")
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    handlers: list[logging.Handler] = [stderr]
    if syslog is not None:
        handlers.append(_syslog_handler(syslog))
    root = logging.getLogger()
    root.setLevel(level)
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    cherrypy.log.screen = False  # its own handlers would say everything twice
    cherrypy.log.error_log.setLevel(level)
    if access:
        vars(cherrypy.log).pop("access", None)
    else:
        cherrypy.log.access = no_access_log


def no_access_log() -> None:
    """In the place of cherrypy.log.access, which formats a line whether or not anybody reads it."""


def _syslog_handler(address: str) -> logging.Handler:
    host, colon, port = address.rpartition(":")
    where: str | tuple[str, int] = address
    if not address.startswith("/"):
        if not colon or not port.isdecimal():
            raise ValueError(f"syslog is a socket's path or HOST:PORT, not {address!r}")
        where = (host.strip("[]"), int(port))
    try:
        if where is address:
            os.stat(address)  # the handler would say nothing now, and complain at each message
        handler = logging.handlers.SysLogHandler(where)
    except OSError as error:
        raise ValueError(f"cannot log to syslog at {address}: {error.strerror}") from None
    handler.setFormatter(SyslogFormatter())
    return handler


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name.startswith("cherrypy."):
        message = CHERRYPY_TIME.sub("", message)
    return message


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
