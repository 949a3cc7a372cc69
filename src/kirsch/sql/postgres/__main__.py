"""`python -m kirsch.sql.postgres`: make the database if there is none, then become the server."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from kirsch.sql.postgres.account import choose_account
from kirsch.sql.postgres.binaries import find_binaries, reachable
from kirsch.sql.postgres.data import owner_of, prepare, settle
from kirsch.sql.postgres.settings import PostgresError, Settings

# What the server may see of our environment: never the password. NOTIFY_SOCKET serves Type=notify.
KEPT = ("PATH", "TZ", "LANG", "NOTIFY_SOCKET")


def main(arguments: Sequence[str]) -> int:
    """Run PostgreSQL in the foreground; returns only when it cannot: 1."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):
        # An exception ends initdb with us and removes what it has half made.
        signal.signal(number, lambda signum, _: sys.exit(128 + signum))
    # Parents that are made here must let the server in; what holds data has modes of its own.
    os.umask(0o022)
    try:
        _become_server(Settings.from_environment(os.environ), arguments)
    except PostgresError as error:
        print(f"kirsch.sql.postgres: {error}", file=sys.stderr)
    except OSError as error:
        print(f"kirsch.sql.postgres: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _become_server(settings: Settings, arguments: Sequence[str]) -> None:
    account = choose_account(settings.account, owner_of(settings.data))
    binaries = reachable(find_binaries(settings.binaries), account)
    data = settle(settings.data, account)
    prepare(data, settings, binaries, account)
    argv = [binaries.program("postgres"), "-D", str(data)]
    argv += ["-c", f"listen_addresses={settings.address}", "-p", str(settings.port), *arguments]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    account.become()
    os.chdir("/")
    sys.stderr.flush()
    os.execve(argv[0], argv, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
