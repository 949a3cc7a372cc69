"""The options of `kirsch hbase server` and `kirsch hbase jars`."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from kirsch.cli.values import count

# As kirsch.hbase.jars has it, which is not imported for --help.
VERSION = "2.6.4-hadoop3"
# A verb's parser from its name, where its function is, what it does, an example.
Verb = Callable[[str, str, str, str], argparse.ArgumentParser]


def server(verb: Verb) -> None:
    """kirsch hbase server."""
    parser = verb(
        "hbase server",
        "hbase_server:server",
        "Run a standalone HBase. For development and tests: master, region server and ZooKeeper in one "
        "process, with its data in a folder. It says when it is up, and stops cleanly on Ctrl-C.",
        "kirsch hbase server --directory /tmp/hbase",
    )
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="its data ($STATE_DIRECTORY, else ./hbase-data)"
    )
    parser.add_argument(
        "--address",
        default=os.environ.get("KIRSCH_ADDRESS", "127.0.0.1"),
        metavar="ADDRESS",
        help="the address it binds ($KIRSCH_ADDRESS, else 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=_port, default=2181, metavar="PORT", help="ZooKeeper's, which clients are told (2181)"
    )
    parser.add_argument("--memory", type=count, default=512, metavar="MB", help="Java's heap (512)")
    parser.add_argument("--access", action="store_true", help="with access control: grant, revoke")
    parser.add_argument("--labels", action="store_true", help="with visibility labels")
    parser.add_argument("--groups", action="store_true", help="with groups of region servers")
    parser.add_argument(
        "--superuser", default="admin", metavar="USER", help="who may do all with these (admin)"
    )
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="NAME=VALUE",
        help="a setting of HBase's; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--java-option", action="append", default=[], type=java_option, metavar="OPTION",
        help="an option of Java's, such as --java-option=-XX:TieredStopAtLevel=4: half as fast again, once "
        "it has run for a while; may be repeated",
    )  # fmt: skip
    parser.add_argument("--version", default=VERSION, metavar="VERSION", help=f"HBase's ({VERSION})")
    parser.add_argument("--verbose", action="store_true", help="show its warnings too")


def jars(verb: Verb) -> None:
    """kirsch hbase jars."""
    parser = verb(
        "hbase jars",
        "hbase_server:jars",
        "Fetch HBase's client with Maven, once, into a cache. What is there already is not fetched again. "
        "KIRSCH_HBASE_JARS names another folder than ~/.cache/kirsch/hbase, and KIRSCH_HBASE_VERSION the "
        "version that connect and the shell take, where the cache has several.",
        "kirsch hbase jars",
    )
    parser.add_argument("--server", action="store_true", help="the server's jars too")
    parser.add_argument("--version", default=VERSION, metavar="VERSION", help=f"HBase's ({VERSION})")
    parser.add_argument("--class-path", action="store_true", help="print a class path, for java -cp")
    parser.add_argument("--json", action="store_true", help="print JSON")


def setting(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def java_option(text: str) -> str:
    """An option of Java's: what does not begin with - would be the class that it runs."""
    if not text.startswith("-"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no option of Java's: it begins with -, as -Xlog:gc does"
        )
    return text


def _port(text: str) -> int:
    number = count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"port {number} is above 65535")
    return number
