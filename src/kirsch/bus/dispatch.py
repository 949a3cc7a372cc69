"""From a path and a method to what answers them."""

from functools import lru_cache
from typing import Any

import cherrypy


class MethodDispatcher(cherrypy.dispatch.MethodDispatcher):
    """CherryPy's, but a path leads to resources alone: CherryPy follows any attribute, such as /__class__.

    A resource is what has an attribute `exposed`; False means that only what lies below it answers. A segment
    of the path is the name of the next resource as it is, or what `_cp_dispatch` makes one of. The first that
    is neither, and all after it, are arguments to the deepest exposed resource.
    """

    def __call__(self, path_info: str) -> None:
        """Set the request's handler and configuration, and the response's Allow."""
        request = cherrypy.serving.request
        resource, arguments = self.find_handler(path_info)
        if resource is None:
            request.handler = cherrypy.NotFound()
            return
        method = request.method.upper()
        kind: Any = type(resource)
        own = tuple(name for name in getattr(resource, "__dict__", ()) if name.isupper())
        cherrypy.serving.response.headers["Allow"] = _allowed(kind, own)
        function = getattr(resource, method, None)
        if function is None and method == "HEAD":
            function = getattr(resource, "GET", None)
        if function is None:
            request.handler = cherrypy.HTTPError(405)
            return
        request.config.update(getattr(function, "_cp_config", {}))
        arguments = [argument.replace("%2F", "/") for argument in arguments]
        request.handler = cherrypy.dispatch.LateParamPageHandler(function, *arguments)

    def find_handler(self, path: str) -> tuple[Any, list[str]]:
        """The resource, or None, and the arguments; sets the request's configuration, as CherryPy's does.

        And `request.route`, for metrics: the path of the resource, where a segment that is a value is `{}`,
        and arguments are `*`. There are as many as there are resources, not as clients can make up.
        """
        request = cherrypy.serving.request
        segments = [segment for segment in path.split("/") if segment]
        sections = [
            request.app.config.get("/" + "/".join(segments[:n]), {}) for n in range(len(segments) + 1)
        ]
        config = cherrypy.config.copy()
        found, arguments = None, []
        resource, left, route = request.app.root, list(segments), ""
        request.route = ""
        while resource is not None:
            config.update(getattr(resource, "_cp_config", {}))
            while len(sections) > len(left):
                config.update(sections.pop(0))
            if getattr(resource, "exposed", False):
                found, arguments = resource, list(left)
                request.route = request.script_name + route + ("/*" if left else "") or "/"
            if not left:
                break
            resource, step = _next(resource, left)
            route += step
        for section in sections:
            config.update(section)
        request.config = config
        request.is_index = False
        return found, arguments


@lru_cache(1000)
def _allowed(kind: Any, own: tuple[str, ...]) -> str:
    """The methods that a class defines, and those that an object of it has of its own, for Allow."""
    names = {name for name in dir(kind) if name.isupper()} | set(own)
    return ", ".join(sorted(names | {"HEAD"} if "GET" in names else names))


def _next(resource: Any, left: list[str]) -> tuple[Any, str]:
    """The resource that the first segments of `left` name, taken off it, and their part in the route; None
    when they name none."""
    name = left[0]
    below = None if name.startswith("_") else getattr(resource, name, None)
    if hasattr(below, "exposed"):
        del left[0]
        return below, f"/{name}"
    dispatch = getattr(resource, "_cp_dispatch", None)
    if dispatch is None:
        return None, ""
    before = len(left)
    below = dispatch(vpath=left)
    if len(left) == before:  # it looked at the segment and left it
        del left[0]
    return below, "/{}" * (before - len(left))
