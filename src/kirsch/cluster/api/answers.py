"""How the API answers: JSON, and problem+json (RFC 9457) for every error."""

import html
import json
import logging
import sys
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

import cherrypy

from kirsch.bus import AsyncioPlugin, MethodDispatcher
from kirsch.cluster.registry.base import LimitExceeded, RegistryError
from kirsch.cluster.units import Refused
from kirsch.unit import UnitError

MAX_BODY = 1 << 20
TIMEOUT = 30.0

Value = TypeVar("Value")

log = logging.getLogger(__name__)


def json_answer(value: Any, status: int = 200) -> bytes:
    """A JSON body, with the headers set."""
    cherrypy.response.status = status
    cherrypy.response.headers["Content-Type"] = "application/json"
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def empty() -> None:
    """204, no body."""
    cherrypy.response.status = 204
    cherrypy.response.headers.pop("Content-Type", None)


def json_body() -> dict[str, Any]:
    """The request's body, a JSON object. Raises HTTPError 400, 415."""
    request = cherrypy.request
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise cherrypy.HTTPError(415, "send application/json")
    try:
        body = json.loads(request.body.read(MAX_BODY))
    except ValueError as error:
        raise cherrypy.HTTPError(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise cherrypy.HTTPError(400, "the body is to be a JSON object")
    return body


def status_of(error: BaseException | None) -> int | None:
    """The status that one of our own errors means; None for what nobody foresaw."""
    match error:
        case Refused(status=status):
            return status
        case UnitError() | LimitExceeded():
            return 400
        case RegistryError():
            return 503
        case _:
            return None


def run(loop: AsyncioPlugin, work: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine in the event loop for a request's thread."""
    answer: Value = loop.run(work, TIMEOUT)
    return answer


def failed() -> None:
    """Answer an exception that a handler raised: our own say their status, any other is 500 and logged."""
    error = sys.exc_info()[1]
    status = status_of(error)
    if status is None:
        log.exception("%s %s", cherrypy.request.method, cherrypy.request.path_info)
    cherrypy.HTTPError(status or 500, str(error)).set_response()


def problem(status: str, message: str, traceback: str, version: str) -> bytes:
    """CherryPy's error page, as problem+json; a traceback is for the log alone."""
    cherrypy.response.headers["Content-Type"] = "application/problem+json"
    code = int(status.split()[0])
    detail = html.unescape(message) if code < 500 or code == 503 else "kirschd failed; its log says how"
    body = {"type": "about:blank", "title": HTTPStatus(code).phrase, "status": code, "detail": detail}
    return json.dumps(body, ensure_ascii=False).encode() + b"\n"


CONFIG: dict[str, Any] = {
    "request.dispatch": MethodDispatcher(),
    "request.error_response": failed,
    "error_page.default": problem,
    "tools.log_tracebacks.on": False,
    "tools.trailing_slash.on": False,
}
