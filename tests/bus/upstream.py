"""A pytest plugin: has CherryPy's own tests (cherrypy.test, in its wheel) run against kirsch's HTTP server.

`pytest -p tests.bus.upstream --pyargs cherrypy.test`. Nothing of the suite is changed; kirsch's error pages
are left out, as for any server that is not told to conceal what CherryPy says.
"""

from typing import Any

import cherrypy

from kirsch.bus.http import ApplicationServer, Server


class PlainServer(ApplicationServer):
    """CherryPy's server as the suite wants it: it sets `wsgi_app` once the server runs."""

    def start(self) -> None:
        Server.start(self)

    @property
    def wsgi_app(self) -> Any:
        return self.application

    @wsgi_app.setter
    def wsgi_app(self, application: Any) -> None:
        self.application = application


type(cherrypy.server).instance = "tests.bus.upstream.PlainServer"
