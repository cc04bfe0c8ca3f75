"""A random part of a dataset, the same on every machine."""

import hashlib
from collections import Counter

from dmbp_jax.checks import InputError
from dmbp_jax.data.sample import Dataset, Sample


def draw(seed: int, name: str) -> bytes:
    """The lot that `name` draws under `seed`: sorting by it gives a random order.

    A name's lot depends on nothing else, so an order stays what it is when other names come or go, and is the
    same with every machine and every version of NumPy, whose generators promise that only within one.

    >>> sorted(["a", "b", "c", "d"], key=lambda name: draw(0, name))
    ['a', 'd', 'b', 'c']
    """
    return hashlib.blake2b(f"{seed}\n{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def take(
    dataset: Dataset, *, limit: int | None = None, per_class: int | None = None, seed: int = 0
) -> Dataset:
    """At most `per_class` random samples of each class, then at most `limit` random ones; None takes all.

    A sample of several classes counts for its first. The dataset's order is kept, and so are its problems.
    A smaller number takes a part of what a larger one takes. The paper has 5 images of each ImageNet class.

    Raises `InputError` for a number below 1.

    >>> from pathlib import Path
    >>> numbers = [Sample(str(i), (Path(f"{i}.jpg"),), (str(i % 3),)) for i in range(9)]
    >>> [sample.name for sample in take(Dataset("folder", tuple(numbers)), per_class=2).samples]
    ['0', '2', '4', '5', '6', '7']
    """
    for what, number in (("limit", limit), ("per_class", per_class)):
        if number is not None and number < 1:
            raise InputError(f"{what} must be at least 1, got {number}")
    lots = sorted(dataset.samples, key=lambda sample: draw(seed, sample.name))
    if per_class is not None:
        lots = _first_of_each(lots, per_class)
    taken = {sample.name for sample in lots[:limit]}
    return dataset._replace(samples=tuple(sample for sample in dataset.samples if sample.name in taken))


def _first_of_each(samples: list[Sample], number: int) -> list[Sample]:
    count: Counter[str] = Counter()
    first = []
    for sample in samples:
        label = sample.labels[0]
        if count[label] < number:
            count[label] += 1
            first.append(sample)
    return first
