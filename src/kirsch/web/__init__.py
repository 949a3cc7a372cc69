"""A site on CherryPy: its settings, its files, who may ask, how errors are told.

    site = Site.from_environment(os.environ, "SHOP")
    root.static = Static(files("shop") / "static", LOOK)
    application = cherrypy.Application(root, "", {"/": {
        "request.dispatch": MethodDispatcher(),
        "hooks.on_start_resource.strangers": own_site(site.hosts, "SHOP_HOSTS"),
        **PROBLEMS,
    }})
    application.request_class = Request
    http_server(bus, labelled(application, {"Server": "shop"}), host=site.address, port=site.port)

Each part serves without the others. Names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kirsch.web.etag import TagError, Tags, is_held
    from kirsch.web.file import File, Page, Static, files_below
    from kirsch.web.guard import Guesses, is_own_host, is_same_site, own_site
    from kirsch.web.header import HEADERS, labelled
    from kirsch.web.look import LOOK
    from kirsch.web.problem import PROBLEMS, Problem, Request, is_for_people
    from kirsch.web.site import SettingsError, Site, port_of

__all__ = [
    "HEADERS",
    "LOOK",
    "PROBLEMS",
    "File",
    "Guesses",
    "Page",
    "Problem",
    "Request",
    "SettingsError",
    "Site",
    "Static",
    "TagError",
    "Tags",
    "files_below",
    "is_for_people",
    "is_held",
    "is_own_host",
    "is_same_site",
    "labelled",
    "own_site",
    "port_of",
]

_MODULES = {
    "etag": ("TagError", "Tags", "is_held"),
    "file": ("File", "Page", "Static", "files_below"),
    "guard": ("Guesses", "is_own_host", "is_same_site", "own_site"),
    "header": ("HEADERS", "labelled"),
    "look": ("LOOK",),
    "problem": ("PROBLEMS", "Problem", "Request", "is_for_people"),
    "site": ("SettingsError", "Site", "port_of"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
            except ModuleNotFoundError as error:
                if error.name != "cherrypy":
                    raise
                from kirsch.install import pip_install

                raise ImportError(f"kirsch.web needs CherryPy: {pip_install('kirsch')}") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
