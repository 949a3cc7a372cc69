"""Which messages were there before: a client sends again what it does not know to be confirmed. No I/O."""

from collections import OrderedDict
from typing import Final

# Numbers behind a client's highest that are still told apart.
WINDOW: Final = 1024
_MASK: Final = (1 << WINDOW) - 1


class Doubles:
    """Numbers seen of each client: `first` says whether one is new.

    Exact for the last 1024 numbers of a client; what is further behind is a double. Of at most `clients` that
    sent last something is remembered.
    """

    def __init__(self, clients: int = 20_000) -> None:
        self._clients = clients
        # The highest number, and a bit for each of those below it, its own the lowest.
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def first(self, client: str, number: int) -> bool:
        """Whether this number of this client is new; it is not, from now on."""
        highest, bits = self._seen.pop(client, (0, 0))
        if number > highest:
            ahead = number - highest
            bits = ((bits << ahead) & _MASK if ahead < WINDOW else 0) | 1
            highest, new = number, True
        else:
            behind = highest - number
            new = behind < WINDOW and not bits >> behind & 1
            if new:
                bits |= 1 << behind
        self._seen[client] = highest, bits
        if len(self._seen) > self._clients:
            self._seen.popitem(last=False)
        return new

    def clear(self) -> None:
        self._seen.clear()
