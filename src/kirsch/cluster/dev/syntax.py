"""Syntax errors of Python code. Pure, and of the standard library alone.

Containers run this file with their own Python, `python -c`: it reads {path: text} as JSON, and answers
with the errors.
"""

import json
import sys
from collections.abc import Mapping


def check(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the syntax errors of texts by path: for a person, with file, line and the line itself."""
    wrong: dict[str, str] = {}
    for path, text in texts.items():
        try:
            compile(text, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            lines = [f"{path}:{error.lineno or 1}: {type(error).__name__}: {error.msg}"]
            if error.text:
                bare = error.text.rstrip("\n")
                lines.append(f"    {bare}")
                lines.append("    " + " " * (max(error.offset or 1, 1) - 1) + "^")
            wrong[path] = "\n".join(lines)
        except (ValueError, OverflowError, MemoryError, RecursionError) as error:
            # A null byte; what is nested too deeply.
            wrong[path] = f"{path}:1: {str(error) or type(error).__name__}"
    return wrong


if __name__ == "__main__":
    json.dump(check(json.load(sys.stdin)), sys.stdout)
