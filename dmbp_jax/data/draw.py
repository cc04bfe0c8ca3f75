"""Random order that is the same everywhere."""

import hashlib


def draw(seed: int, name: str) -> bytes:
    """The lot that `name` draws under `seed`: sorting by it gives a random order.

    A name's lot depends on nothing else, so an order stays what it is when other names come or go, and is the
    same with every machine and every version of NumPy, whose generators promise that only within one.

    >>> sorted(["a", "b", "c", "d"], key=lambda name: draw(0, name))
    ['a', 'd', 'b', 'c']
    """
    return hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
