"""The options of `kirsch secret …`."""

import argparse
from collections.abc import Callable

# A verb's parser from its name, where its function is, what it does, an example.
Verb = Callable[[str, str, str, str], argparse.ArgumentParser]


def secrets(verb: Verb) -> None:
    """All of them."""
    setting = verb(
        "secret set",
        "secret:set_",
        "Set a secret to what is on standard input. It has at most 64 KiB; a terminal is asked without "
        "showing it. Units ask for it by Secret=NAME in [X-Kirsch]; one that waits for it starts. Those "
        "that run have the old value until they are restarted.",
        "kirsch secret set notes-database < password",
    )
    setting.add_argument("name", metavar="NAME", help="letters, digits, and - _ . inside")
    setting.add_argument("--new", action="store_true", help="fail if it is there already")
    setting.add_argument("--restart", action="store_true", help="restart the running units that use it")
    setting.add_argument("--json", action="store_true", help="print JSON")
    listed = verb(
        "secret list",
        "secret:list_",
        "List secrets, never their values. It says when each was set, and which units use it.",
        "kirsch secret list",
    )
    listed.add_argument("--no-legend", action="store_true", help="leave the heading out")
    listed.add_argument("--json", action="store_true", help="print JSON")
    removed = verb(
        "secret rm",
        "secret:remove",
        "Forget secrets. One that a unit uses stays, unless it is forced: running units keep what they "
        "have, and wait for it at their next start.",
        "kirsch secret rm notes-database",
    )
    removed.add_argument("names", nargs="+", metavar="NAME")
    removed.add_argument("--force", action="store_true", help="also one that units use")
    removed.add_argument("--json", action="store_true", help="print JSON")
