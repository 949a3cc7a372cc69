"""The options of `kirsch device …`."""

from pathlib import Path

from kirsch.cli.image_options import Verb


def devices(verb: Verb) -> None:
    """All verbs of phones."""
    bundle = verb(
        "device bundle",
        "device:bundle",
        "Make one file of an application, for a phone. It is pure Python, with CherryPy, kirsch's bus, "
        "device and websocket, and the package of DIR that has a __main__; Termux and SL4A run it as it "
        "is.\n\n"
        "What goes into it is what the application imports here. No registry is asked.",
        "kirsch device bundle examples/location",
    )
    bundle.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="the application (.)",
    )
    bundle.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="what to write (the package's name, .pyz, here)"
    )
    bundle.add_argument(
        "--arguments",
        default="",
        metavar="WORDS",
        help="the application's arguments where it is started without any, as by a tap: --arguments=--share",
    )
    bundle.add_argument("--json", action="store_true", help="print JSON")
