"""Runs the Python of one page of packages/kirsch-websocket/docs: `python -m tests.websocket.snippets PAGE`.

The blocks of a page share their names, and may await. `url` is that of an echo server. Blocks that show an
example's file are test_examples' to compare.
"""

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path

from kirsch.websocket import Policy, WebSocket
from kirsch.websocket.threaded import serve

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"# (examples/\S+\.py)\n")


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Each block of Python: the line it begins in, and its text."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in _BLOCK.finditer(text)]


def run(page: Path) -> int:
    """Run what is not an example's file; how many blocks that were."""
    count = 0
    with serve(Echo, policy=Policy(subprotocols=("chat",))) as server, asyncio.Runner() as runner:
        names = {"__name__": "snippets", "url": server.url}
        for line, text in blocks(page):
            if SHOWN.match(text):
                continue
            code = compile("\n" * (line - 1) + text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(_awaited(eval(code, names)))
            else:
                exec(code, names)
            count += 1
    return count


async def _awaited(coroutine):
    return await coroutine


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
