"""Changes to bytes, for machines where atheris is not: chosen by chance, from a seed."""

from collections.abc import Iterator
from random import Random

TELLING = bytes.fromhex("00 01 7d 7e 7f 80 81 82 88 89 8a c1 c3 ed f4 fe ff 0d 0a")


def inputs(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, then any number of others made of them."""
    yield from seeds
    random = Random(seed)
    pool = list(seeds)
    while True:
        data = bytearray(random.choice(pool))
        for _ in range(random.choice((1, 1, 2, 4, 8))):
            change(data, pool, random)
        yield bytes(data[:6000])
        if random.random() < 0.02:
            pool[random.randrange(len(seeds), len(pool) + 1) :] = [bytes(data[:3000])]
            del pool[500:]


def change(data: bytearray, pool: list[bytes], random: Random) -> None:
    place = random.randrange(len(data) + 1)
    match random.randrange(7):
        case 0 if data:
            data[place % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            data[place % len(data)] = random.choice(TELLING)
        case 2:
            data[place:place] = random.randbytes(random.randrange(1, 5))
        case 3:
            del data[place : place + random.choice((1, 2, 8, 50))]
        case 4:
            data[place:place] = data[place : place + random.choice((1, 2, 8, 50))]
        case 5:
            other = random.choice(pool)
            start = random.randrange(len(other) + 1)
            data[place:] = other[start:]
        case _:
            data[place:place] = bytes((random.choice(TELLING),)) * random.choice((1, 2, 8))
