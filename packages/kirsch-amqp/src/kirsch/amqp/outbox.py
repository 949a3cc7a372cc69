"""Publications that the broker has not confirmed: in order, bounded, sent again after a lost connection.

No I/O, no lock: one thread uses it.
"""

from collections import deque
from collections.abc import Iterator

from kirsch.amqp.message import Publication

# Bytes that a publication takes besides its body.
OVERHEAD = 512


class Outbox:
    """Publications from the moment they are taken until the broker confirms or refuses them.

    After `lost()`, publications that were sent and not confirmed are sent again first, in their order. So the
    broker may get a message twice, but never an earlier one after a later one that it had not seen.

    Attributes:
        count: limit of publications.
        size: limit of bytes.
        bytes: bytes that the publications take now.
    """

    def __init__(self, count: int = 10_000, size: int = 32 << 20) -> None:
        self.count = count
        self.size = size
        self.bytes = 0
        self._waiting: deque[Publication] = deque()
        self._sent: dict[int, Publication] = {}
        self._tag = 0
        # Number of publications, from the oldest on, that go one at a time: one of them ended a channel.
        self._suspects = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def full(self) -> bool:
        """True when no more publications are taken."""
        return len(self) >= self.count or self.bytes >= self.size

    def add(self, publication: Publication) -> bool:
        """Take a publication; return False if the outbox is full."""
        if self.full:
            return False
        self._waiting.append(publication)
        self.bytes += len(publication.body) + OVERHEAD
        return True

    def take(self) -> Iterator[Publication]:
        """Yield publications to be sent now, in order; each takes the channel's next delivery tag."""
        while self._waiting and not (self._suspects and self._sent):
            publication = self._waiting.popleft()
            self._tag += 1
            self._sent[self._tag] = publication
            yield publication

    def give_up(self, publication: Publication) -> None:
        """Drop the publication taken last, which could not be sent: the next takes its delivery tag."""
        del self._sent[self._tag]
        self._tag -= 1
        self._done([publication])

    @property
    def unanswered(self) -> int:
        """Number of publications that were sent and are not confirmed."""
        return len(self._sent)

    def sent_beyond(self, size: int) -> bool:
        """Return True if the body of a sent publication has more bytes."""
        return any(len(publication.body) > size for publication in self._sent.values())

    def settle(self, tag: int, multiple: bool) -> list[Publication]:
        """Remove and return the publications that the broker has answered for: `tag`, or all up to it."""
        if multiple:
            tags = []
            for sent in self._sent:
                if sent > tag:
                    break
                tags.append(sent)
        else:
            tags = [tag] if tag in self._sent else []
        settled = [self._sent.pop(sent) for sent in tags]
        self._done(settled)
        return settled

    def blame(self) -> Publication | None:
        """Remove and return the publication for which the broker has ended the channel.

        Returns None while it is not known which one that is: publications are then sent one at a time.
        """
        if self._suspects and len(self._sent) == 1:
            _, guilty = self._sent.popitem()
            self._done([guilty])
            return guilty
        self._suspects = max(self._suspects, len(self._sent))
        return None

    def refuse(self, exchange: str, key: str | None = None) -> list[Publication]:
        """Remove and return the publications to an exchange, or to a key there, that is missing or forbidden.

        They would end every channel.
        """

        def such(each: Publication) -> bool:
            return each.exchange == exchange and key in (None, each.key)

        refused = [each for each in (*self._sent.values(), *self._waiting) if such(each)]
        self._sent = {tag: each for tag, each in self._sent.items() if not such(each)}
        self._waiting = deque(each for each in self._waiting if not such(each))
        self._done(refused)
        return refused

    def lost(self) -> None:
        """Have everything that was sent sent again: the channel is gone, and tags begin anew."""
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        self._tag = 0

    def clear(self) -> list[Publication]:
        """Remove and return all publications."""
        left = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._done(left)
        return left

    def _done(self, publications: list[Publication]) -> None:
        """Account for publications that were removed."""
        self.bytes -= sum(len(publication.body) + OVERHEAD for publication in publications)
        self._suspects = max(0, self._suspects - len(publications))
