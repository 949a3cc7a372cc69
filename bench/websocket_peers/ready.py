"""What the peers' servers share: `python NAME_server.py ROLE` serves, and says where on stdout.

ROLE is echo (every message goes back), length (its length goes back, for messages too large to return) or
broadcast (it goes to every connection).
"""

import resource
import sys

ROLE = sys.argv[1] if len(sys.argv) > 1 else "echo"
LARGEST = 1 << 30
BACKLOG = 1024


def ready(port: int) -> None:
    print(f"listening on ws://127.0.0.1:{port}/", flush=True)


def many_files() -> None:
    """Thousands of connections are a file each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


many_files()
