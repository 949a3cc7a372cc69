"""The options of `kirsch ws` and `kirsch ws serve`."""

import argparse

from kirsch.cli.values import count, field, place, seconds, size

PROVIDERS = ("asyncio", "threaded", "tornado", "gevent", "cherrypy", "wsgi")
LOOPS = ("asyncio", "uvloop")

CLIENT = (
    "Talk to a WebSocket. On a terminal each line is sent as a text message, and what comes is shown. In a "
    "pipe each line of standard input is a message, and each message a line of standard output.\n\n"
    "On a terminal Ctrl-D, Ctrl-C and /quit close the connection with 1000; /close CODE REASON closes it "
    "with another code, /ping asks whether the peer is there, /help says what else there is. A line that "
    "begins with // is sent with one / less.\n\n"
    "In a pipe the connection is closed when standard input has ended and nothing has come for --timeout "
    "seconds; with --listen it goes on until the peer closes it. --exit-after N ends it after N messages, -1 "
    "after one; it fails if fewer came. The exit status is 1 too unless the connection was closed with 1000, "
    "1001 or no code.\n\n"
    "A password is never an argument, for others could see it: it is asked on the terminal, or taken from "
    "KIRSCH_WS_PASSWORD."
)
SERVER = (
    "Serve an echo. Every message goes back as it came, text as text, binary as binary. Prints where it "
    "listens once it does. SIGTERM and Ctrl-C end it; its connections are closed with 1001 first, and those "
    "that do not answer within 10 seconds are ended."
)


def client(parser: argparse.ArgumentParser) -> None:
    """What `kirsch ws` can be given."""
    add = parser.add_argument
    add("url", metavar="URL", help="ws://, wss:// or ws+unix://PATH[:/TARGET]; ws:// may be left out")
    add("--ping", nargs="?", type=count, const=0, metavar="N", help="measure round trips, N or until Ctrl-C")
    add(
        "--bench",
        nargs="?",
        type=seconds,
        const=5.0,
        metavar="SECONDS",
        help="measure the rate of an echo (5)",
    )
    add("--size", type=size, metavar="BYTES", help="of each message of --bench (64), or each ping (8)")
    add("--in-flight", type=count, metavar="N", help="messages of --bench that wait for their echo (100)")
    add("--interval", type=seconds, metavar="SECONDS", help="between two pings (1)")
    add("-1", "--one", action="store_true", help="end after the first message that comes")
    add("--exit-after", type=count, metavar="N", help="end after N messages that come")
    add("--listen", action="store_true", help="go on after the end of standard input")
    add(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="wait so long at most for the connection (10), and for the next message once all is sent (1)",
    )
    add("--binary", action="store_true", help="all of standard input is one binary message; print bytes")
    add("--subprotocol", action="append", default=[], metavar="NAME", help="offer it; may be repeated")
    add("--header", action="append", type=field, default=[], metavar="'NAME: VALUE'",
        help="send this field too; may be repeated")  # fmt: skip
    add("--origin", metavar="URL", help="say that a page from there asks, as a browser would")
    add("--user", metavar="NAME", help="HTTP basic authentication; the password is asked for")
    add("--ca", metavar="FILE", help="trust the certificates in this file (PEM) and no others")
    add("--insecure", action="store_true", help="take any certificate")
    add("--proxy", metavar="URL", help="http://, https://, socks5:// …, or none; else as http_proxy says")
    add("--no-compress", action="store_true", help="do not offer permessage-deflate")
    add("--max-size", type=size, default=64 << 20, metavar="BYTES", help="of a message that comes (64M)")
    add("--json", action="store_true", help="print JSON, a line for each message or result")


def server(parser: argparse.ArgumentParser) -> None:
    """What `kirsch ws serve` can be given."""
    add = parser.add_argument
    add("place", nargs="?", type=place, metavar="[HOST:]PORT",
        help="where to listen; 127.0.0.1 without HOST, a free port for 0")  # fmt: skip
    add("--provider", choices=PROVIDERS, default="asyncio",
        help="what does the I/O (asyncio): " + ", ".join(PROVIDERS))  # fmt: skip
    add("--unix", metavar="PATH", help="listen on a Unix socket instead")
    add("--ssl-cert", metavar="FILE", help="speak TLS, with this certificate (PEM)")
    add("--ssl-key", metavar="FILE", help="its private key, if it is not in the same file")
    add("--max-size", type=size, default=64 << 20, metavar="BYTES", help="of a message (64M)")
    add("--origin", action="append", default=[], metavar="URL",
        help="browsers' pages from there only; may be repeated; `same` is the host itself (any)")  # fmt: skip
    add("--subprotocol", action="append", default=[], metavar="NAME", help="speak it; may be repeated")
    add("--no-compress", action="store_true", help="do without permessage-deflate")
    add("--threads", type=count, metavar="N", help="threaded, cherrypy, wsgi: of so many threads (10)")
    add("--loop", choices=LOOPS, help="asyncio, tornado: asyncio's own event loop, or uvloop")
