"""What this process has open and which threads it runs: a test that leaves more than there was is told so.

Each is known by what it is, not counted: what others left may go meanwhile, and hides nothing.
"""

import gc
import os
import threading

from tests.deadline import PATIENCE, eventually


def descriptors() -> set[tuple[str, str]]:
    """Each open file descriptor and what it is of, sockets and pipes by their inodes."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            # That of the listing itself, or closed by another thread.
            continue
    return found


class Before:
    """What is there before a test."""

    def __init__(self) -> None:
        gc.collect()
        self.descriptors = descriptors()
        self.threads = set(threading.enumerate())

    def more(self) -> list[object]:
        """What has come since, and is there."""
        return [*(descriptors() - self.descriptors), *(set(threading.enumerate()) - self.threads)]

    def assert_nothing_more(self, timeout: float = PATIENCE) -> None:
        """Wait until nothing more is there; fails after `timeout` seconds with what is."""
        try:
            eventually(lambda: not self.more(), timeout)
        except AssertionError:
            # What is garbage in a cycle is not left behind.
            gc.collect()
            more = self.more()
            assert not more, f"left behind: {more}"
