"""Answer of both APIs as long as this machine has not joined: 503, and the reason."""

from typing import Any

import cherrypy

from kirsch.cluster.api import answers, fleet

REASON = "this machine is not in the cluster yet: the store is away"


class Away:
    """Resource for any path."""

    def default(self, *path: str, **query: str) -> None:
        """Answer any method. Raises HTTPError 503."""
        raise cherrypy.HTTPError(503, REASON)

    default.exposed = True  # type: ignore[attr-defined]


class FleetAway(Away):
    """Any path of fleet's API."""

    def default(self, *path: str, **query: str) -> None:
        """Raises HTTPError 503, in fleet's words."""
        raise cherrypy.HTTPError(503, fleet.UNAVAILABLE)

    default.exposed = True  # type: ignore[attr-defined]


def mount(tree: Any) -> None:
    """Answer below both APIs' paths, until they are mounted there themselves."""
    for root, path, config, request in (
        (Away(), "/kirsch/v1", answers.CONFIG, answers.Request),
        (FleetAway(), "/fleet/v1", fleet.CONFIG, fleet.FleetRequest),
    ):
        application = cherrypy.Application(root, path)
        application.request_class = request
        own = {key: value for key, value in config.items() if key != "request.dispatch"}
        tree.mount(application, path, {"/": own})
