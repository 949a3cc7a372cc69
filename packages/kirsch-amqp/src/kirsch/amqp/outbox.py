"""What was published and is not confirmed yet: in order, bounded, sent again when a connection is lost.

No I/O, no lock: one thread uses it.
"""

from collections import deque
from collections.abc import Iterator

from kirsch.amqp.message import Publication

# What a publication costs besides its body, in bytes.
OVERHEAD = 512


class Outbox:
    """Publications from the moment they are taken until the broker confirms or refuses them.

    After `lost()` all that were sent and not confirmed are to be sent again, before all others and in their
    order: the broker may get a message twice, and never an earlier one after a later one that it had not
        seen.

    Attributes:
        count, size: how many there may be, and how many bytes. bytes: how many there are.
    """

    def __init__(self, count: int = 10_000, size: int = 32 << 20) -> None:
        self.count = count
        self.size = size
        self.bytes = 0
        self._waiting: deque[Publication] = deque()
        self._sent: dict[int, Publication] = {}
        self._tag = 0
        # How many, from the oldest on, go one by one: one of them has ended a channel.
        self._suspects = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def full(self) -> bool:
        """No more is to be taken."""
        return len(self) >= self.count or self.bytes >= self.size

    def add(self, publication: Publication) -> bool:
        """Take one; False if it is full."""
        if self.full:
            return False
        self._waiting.append(publication)
        self.bytes += len(publication.body) + OVERHEAD
        return True

    def take(self) -> Iterator[Publication]:
        """Those to be sent now, in order; each counts as sent, with the channel's next delivery tag."""
        while self._waiting and not (self._suspects and self._sent):
            publication = self._waiting.popleft()
            self._tag += 1
            self._sent[self._tag] = publication
            yield publication

    def give_up(self, publication: Publication) -> None:
        """The one taken last could not be sent: the next has its delivery tag."""
        del self._sent[self._tag]
        self._tag -= 1
        self._done([publication])

    @property
    def unanswered(self) -> int:
        """How many were sent."""
        return len(self._sent)

    def sent_beyond(self, size: int) -> bool:
        """Whether the body of one that was sent has more bytes."""
        return any(len(publication.body) > size for publication in self._sent.values())

    def settle(self, tag: int, multiple: bool) -> list[Publication]:
        """Those that the broker has answered for: `tag`, or all up to it. They are done with."""
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
        """The broker has ended the channel for one of those that were sent: which, and it is given up.

        While that is not known they go one by one: None.
        """
        if self._suspects and len(self._sent) == 1:
            _, guilty = self._sent.popitem()
            self._done([guilty])
            return guilty
        self._suspects = max(self._suspects, len(self._sent))
        return None

    def refuse(self, exchange: str, key: str | None = None) -> list[Publication]:
        """Give up those to an exchange, or with a key there, that is not there or not for us.

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
        """The channel is gone: what was sent is to be sent again, and tags begin anew."""
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        self._tag = 0

    def clear(self) -> list[Publication]:
        """Give up all that is left: what that is."""
        left = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._done(left)
        return left

    def _done(self, publications: list[Publication]) -> None:
        """These are neither sent nor wait any more."""
        self.bytes -= sum(len(publication.body) + OVERHEAD for publication in publications)
        self._suspects = max(0, self._suspects - len(publications))
