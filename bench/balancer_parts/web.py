"""One instance behind a balancer: a page of 200 bytes, by CherryPy's server as kirsch has it."""

import os

import cherrypy

from kirsch.bus import NotifyPlugin, http_server

BODY = b"x" * 200


class Root:
    """Its pages."""

    @cherrypy.expose
    def index(self) -> bytes:
        """The one that is asked for."""
        return BODY


cherrypy.config.update({"engine.autoreload.on": False, "log.screen": False, "checker.on": False})
cherrypy.tree.mount(Root(), "/")
cherrypy.server.unsubscribe()
http_server(cherrypy.engine, host=os.environ["KIRSCH_ADDRESS"], port=8080)
NotifyPlugin(cherrypy.engine).subscribe()
cherrypy.engine.signals.subscribe()
cherrypy.engine.start()
cherrypy.engine.block()
