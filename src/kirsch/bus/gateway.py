"""From a request as cheroot (11.1, pinned) has read it to a WSGI application, and back."""

import sys
from typing import Any

import cheroot.wsgi

_NAMES = 1000
_variables: dict[bytes, str] = {}


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


def _variable(name: bytes) -> str:
    text = name.decode("latin-1").upper().replace("-", "_")
    if text not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        text = f"HTTP_{text}"
    if len(_variables) < _NAMES:
        _variables[name] = text
    return text
