"""dashboard: a page of the cluster, in this computer's browser."""

import atexit
import os
import sys
import tempfile
import webbrowser
from pathlib import Path

import click

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.machines import alone
from kirsch.cli.names import recorded_names
from kirsch.cli.values import place
from kirsch.cli.verb import Options, flag, option, verb
from kirsch.cluster.api.client import Client

USERS = "KIRSCH_DASHBOARD_USERS"


@verb(
    "dashboard",
    option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="its port (one that is free)"),
    flag("--no-browser", help="print the address, and open no browser"),
    option(
        "--listen",
        metavar="[ADDRESS:]PORT",
        help="serve other computers too, with a login; users are in KIRSCH_DASHBOARD_USERS",
    ),
    text="It serves the page itself, on 127.0.0.1, until Ctrl-C, and speaks to kirschd as every verb does: "
    "the cluster has no port for it, and buttons can do what you may. The address that it prints works "
    "once, for one browser.\n\n"
    "From another computer: `ssh -t -L PORT:127.0.0.1:PORT HOST kirsch dashboard --port PORT`.\n\n"
    "With --listen it runs as a unit, behind a balancer. KIRSCH_DASHBOARD_USERS has a line for each user: "
    "NAME ROLE PASSWORD, with a role of view, deploy, admin.",
    example="kirsch dashboard",
)
def dashboard(options: Options) -> int:
    """Serve the dashboard until Ctrl-C."""
    if options.listen and options.port is not None:
        raise Misuse("--listen says the port: leave --port out")
    client = options.client()
    client.get("/kirsch/v1/daemon")  # there is nothing to show otherwise: the error says what to do
    from kirsch.bus import ServerError
    from kirsch.cluster.dashboard.login import Login, UsersError, parse_users
    from kirsch.cluster.dashboard.server import HOST, Dashboard

    listen, login = (HOST, options.port or 0), None
    try:
        if options.listen:
            listen, login = _listen(options.listen), Login(parse_users(os.environ.get(USERS, "")))
        page = Dashboard(client, recorded_names(options), _place(client), listen, login)
    except UsersError as error:
        raise Failure(f"{USERS}: {error}") from None
    except ServerError as error:
        raise Failure(str(error)) from None

    with tempfile.TemporaryDirectory(prefix="kirsch-dashboard-") as folder:

        def opened() -> None:
            print(f"Open {page.address}\nCtrl-C ends it.", flush=True)
            if not (options.no_browser or login) and _has_screen():
                webbrowser.open(_way_in(Path(folder), page.address))

        try:
            page.run(opened)
        except ServerError as error:
            raise Failure(str(error)) from None
    return 0


def dashboard_beside(client: Client) -> str:
    """Serve the dashboard in this process, beside what it does, until it ends; returns where it is in a
    sentence, empty if it cannot be served."""
    from kirsch.bus import ServerError
    from kirsch.cluster.dashboard.server import HOST, Dashboard

    try:
        page = Dashboard(client, {}, _place(client), (HOST, 0))
        page.start()
    except ServerError:
        return ""
    atexit.register(page.close)
    return f"Dashboard: {page.address}"


def _listen(text: str) -> tuple[str, int]:
    """Read ADDRESS:PORT, or PORT alone: then the unit's address."""
    try:
        address, port = place(text)
    except ValueError:
        port = 0
    if not port:
        raise Misuse(f"--listen is [ADDRESS:]PORT, as 8080 or [::1]:8080, and not {text!r}")
    return address if ":" in text else os.environ.get("KIRSCH_ADDRESS") or address, port


def _way_in(folder: Path, address: str) -> str:
    """Write a page that leads to an address, and return its own: everybody on this computer can read a
    browser's command line, and this folder only its owner."""
    file = folder / "open.html"
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={address}">'
        f'<title>Dashboard</title><a href="{address}">Dashboard</a>'
    )
    return file.as_uri()


def _place(client: Client) -> str:
    """Return what people call the place of a kirschd: an application's folder, a cluster's name."""
    if alone(client):
        return str(client.transport).removesuffix("/.kirsch/kirsch.sock")
    return str(client.transport)


def _has_screen() -> bool:
    """Return True on a desktop; elsewhere the browser that is found might run in the terminal."""
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
