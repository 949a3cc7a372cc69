"""Size of the terminal, for the command line and HBase's shell."""

import os
import shutil
from typing import TextIO


def size(stream: TextIO) -> os.terminal_size:
    """Return columns and lines of the terminal behind a stream (TIOCGWINSZ, as less(1) uses it).

    COLUMNS and LINES, which shells export and other windows inherit, count only where the terminal reports no
    size (a serial line). Without these it is 80 by 24.
    """
    try:
        told = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no terminal, no descriptor, closed
        return shutil.get_terminal_size()
    return told if told.columns and told.lines else shutil.get_terminal_size()
