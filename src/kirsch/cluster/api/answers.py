"""Answers of the API: JSON, and problem+json (RFC 9457) for every error."""

import concurrent.futures
import html
import json
import logging
import re
import sys
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar

import cherrypy

from kirsch.bus import AsyncioPlugin, MethodDispatcher
from kirsch.bus.process.command import ChildError
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import LimitExceeded, RegistryError
from kirsch.cluster.secrets import SecretError
from kirsch.unit import UnitError

MAX_BODY = 1 << 20
# JSON makes a unit file of 1 MiB longer than it is; an application has several.
MAX_UNIT_BODY = 4 * MAX_BODY
TIMEOUT = 30.0
RETRY_AFTER = "1"
MOST_SECONDS = 1e11
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", re.ASCII)

Value = TypeVar("Value")

log = logging.getLogger(__name__)


def encode(value: Any) -> bytes:
    """A line of JSON; half of a surrogate pair, which JSON's escapes can make, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"


def json_answer(value: Any, status: int = 200) -> bytes:
    """A JSON body, with the headers set."""
    cherrypy.response.status = status
    cherrypy.response.headers["Content-Type"] = "application/json"
    return encode(value)


def empty() -> None:
    """Answer 204 without a body."""
    cherrypy.response.status = 204
    cherrypy.response.headers.pop("Content-Type", None)


def content_type() -> str:
    """The media type of the request's body, in small letters; empty where none is given."""
    field: str = cherrypy.serving.request.headers.get("Content-Type", "")
    return field.partition(";")[0].strip().lower()


def json_body(limit: int = MAX_UNIT_BODY) -> dict[str, Any]:
    """The request's body, a JSON object in UTF-8 of at most `limit` bytes. Raises HTTPError 400, 408, 413,
    415."""
    if content_type() != "application/json":
        raise cherrypy.HTTPError(415, "send application/json")
    content = read_body(limit)
    try:
        body = parse_json(content)
        json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except ValueError as error:
        raise cherrypy.HTTPError(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise cherrypy.HTTPError(400, "the body is to be a JSON object")
    return body


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8. Raises ValueError, also for JSON that is nested too deep."""
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_body(limit: int) -> bytes:
    """Return the request's body, which the server has received in whole. Raises HTTPError 413."""
    content: bytes = cherrypy.serving.request.rfile.read(limit + 1)
    if len(content) > limit:
        raise cherrypy.HTTPError(413, f"the body has more than {limit >> 20} MiB")
    return content


def parameters(given: Mapping[str, Any], *known: str) -> dict[str, list[str]]:
    """The query's parameters, each with all its values. Raises HTTPError 400 for one that is not known."""
    for name in given:
        if name not in known:
            there = ", ".join(known) or "none"
            raise cherrypy.HTTPError(400, f"{name} is no parameter of this resource; it has {there}")
    return {name: [value] if isinstance(value, str) else list(value) for name, value in given.items()}


def single(values: Mapping[str, list[str]], name: str, default: str) -> str:
    """A parameter that may be given once. Raises HTTPError 400."""
    found = values.get(name, [default])
    if len(found) > 1:
        raise cherrypy.HTTPError(400, f"{name} is given more than once")
    return found[0]


def flag(values: Mapping[str, list[str]], name: str) -> bool:
    """A parameter that is yes or no, which it is where it is not given. Raises HTTPError 400."""
    found = single(values, name, "no")
    if found not in ("yes", "no"):
        raise cherrypy.HTTPError(400, f"{name} is to be yes or no")
    return found == "yes"


def seconds(values: Mapping[str, list[str]], name: str) -> float:
    """A parameter that is a time since the epoch; 0 where it is not given. Raises HTTPError 400."""
    found = single(values, name, "0")
    if not _SECONDS.fullmatch(found) or not 0 <= float(found) <= MOST_SECONDS:
        raise cherrypy.HTTPError(400, f"{name} is to be a number of seconds")
    return float(found)


def status_of(error: BaseException | None) -> int | None:
    """The status that one of our own errors means; None for what nobody foresaw."""
    match error:
        case Refused(status=status) | SecretError(status=status):
            return status
        case UnitError() | LimitExceeded():
            return 400
        case ChildError():
            return 409
        case RegistryError() | TimeoutError():
            return 503
        case concurrent.futures.CancelledError():  # the event loop ends
            return 503
        case _:
            return None


def run(loop: AsyncioPlugin, work: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine in the event loop for a request's thread."""
    if loop.loop is None:
        work.close()
        raise cherrypy.HTTPError(503, "kirschd is about to end")
    answer: Value = loop.run(work, TIMEOUT)
    return answer


def failed() -> None:
    """Answer an exception that a handler raised: our own say their status, any other is 500 and logged."""
    error = sys.exc_info()[1]
    status = status_of(error)
    if status is None:
        log.exception("%s %s", cherrypy.request.method, cherrypy.request.path_info)
    cherrypy.HTTPError(status or 500, str(error) or type(error).__name__).set_response()


def problem(status: str, message: str, traceback: str, version: str) -> bytes:
    """Return CherryPy's error page as problem+json; a traceback goes to the log only."""
    headers = cherrypy.serving.response.headers
    headers["Content-Type"] = "application/problem+json"
    code = int(status.split()[0])
    if code == 503:
        headers["Retry-After"] = RETRY_AFTER
    detail = html.unescape(message) if code < 500 or code == 503 else "kirschd failed; its log says how"
    body = {"type": "about:blank", "title": HTTPStatus(code).phrase, "status": code, "detail": detail}
    return encode(body)


class Request(cherrypy.Application.request_class):
    """CherryPy's request, with our error body even where it refuses before it reads the configuration."""

    error_page: ClassVar = {"default": problem}


CONFIG: dict[str, Any] = {
    "request.dispatch": MethodDispatcher(),
    "request.error_response": failed,
    # json_body does.
    "request.process_request_body": False,
    "error_page.default": problem,
    "tools.log_tracebacks.on": False,
    "tools.log_headers.on": False,
    "tools.trailing_slash.on": False,
}
