"""Bytes as they come from a pipe, cut into lines of text."""


class Lines:
    """Cuts a stream into lines: UTF-8, what is not becomes U+FFFD; a line over `limit` bytes comes in pieces.

    A piece never ends within a character. However the stream is chopped up, the lines are the same.
    """

    def __init__(self, limit: int = 65536) -> None:
        if limit < 4:
            raise ValueError("a limit below 4 bytes cannot hold every character")
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their newlines."""
        *complete, rest = (self._rest + data).split(b"\n")
        done = [piece for line in complete for piece in self._pieces(line)]
        *early, self._rest = self._pieces(rest)
        return [piece.decode("utf-8", "replace") for piece in done + early]

    def close(self) -> list[str]:
        """The last line, if the stream did not end in a newline."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        pieces = []
        while len(line) > self._limit:
            end = self._limit
            while end > self._limit - 3 and line[end] & 0xC0 == 0x80:
                end -= 1
            pieces.append(line[:end])
            line = line[end:]
        return [*pieces, line]
