"""What a terminal says of itself."""

import os
import shutil
from typing import TextIO


def size(stream: TextIO) -> os.terminal_size:
    """Columns and lines of the terminal behind a stream: TIOCGWINSZ, as less(1) takes it.

    COLUMNS and LINES, which shells export and other windows inherit, count where no terminal says a size
    (a serial line); without these it is 80 by 24.
    """
    try:
        told = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no terminal, no descriptor, closed
        return shutil.get_terminal_size()
    return told if told.columns and told.lines else shutil.get_terminal_size()
