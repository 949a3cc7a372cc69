"""From a request as cheroot (11.1, pinned) has read it to a WSGI application, and back."""

import sys
from collections.abc import Callable
from typing import Any

import cheroot.wsgi

_NAMES = 1000
_variables: dict[bytes, str] = {}
_fields: dict[str, bytes] = {}


class Gateway(cheroot.wsgi.Gateway_10):
    """Cheroot's, but what is the same for every request is made once."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        """The environment of PEP 3333."""
        request = self.req
        connection, server = request.conn, request.server
        if isinstance(server.bind_addr, str) or connection.ssl_env:
            return super().get_environ()  # type: ignore[no-untyped-call, no-any-return]
        environ = {
            "ACTUAL_SERVER_PROTOCOL": server.protocol,
            "PATH_INFO": request.path.decode("latin-1"),
            "QUERY_STRING": request.qs.decode("latin-1"),
            "REMOTE_ADDR": connection.remote_addr or "",
            "REMOTE_PORT": str(connection.remote_port or ""),
            "REQUEST_METHOD": request.method.decode("latin-1"),
            "REQUEST_URI": request.uri.decode("latin-1"),
            "SCRIPT_NAME": "",
            "SERVER_NAME": server.server_name,
            "SERVER_PORT": str(server.bind_addr[1]),
            "SERVER_PROTOCOL": request.request_protocol.decode("latin-1"),
            "SERVER_SOFTWARE": server.software,
            "wsgi.errors": sys.stderr,
            "wsgi.input": request.rfile,
            "wsgi.input_terminated": request.chunked_read,
            "wsgi.multiprocess": False,
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.url_scheme": request.scheme.decode("latin-1"),
            "wsgi.version": self.version,
        }
        for name, value in request.inheaders.items():
            environ[_variables.get(name) or _variable(name)] = value.decode("latin-1")
        return environ

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """What the application calls with its response's status and header fields (PEP 3333)."""
        if self.started_response:
            return super().start_response(status, headers, exc_info)  # type: ignore[no-any-return]
        self.started_response = True
        self.req.status = status.encode("latin-1")
        add = self.req.outheaders.append
        for name, value in headers:
            field = _fields.get(name) or _field(name)
            if field == b"Content-Length":
                self.remaining_bytes_out = int(value)
            add((field, value.encode("latin-1")))
        return self.write


def _field(name: str) -> bytes:
    field = b"Content-Length" if name.lower() == "content-length" else name.encode("latin-1")
    if len(_fields) < _NAMES:
        _fields[name] = field
    return field


def _variable(name: bytes) -> str:
    text = name.decode("latin-1").upper().replace("-", "_")
    if text not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        text = f"HTTP_{text}"
    if len(_variables) < _NAMES:
        _variables[name] = text
    return text
