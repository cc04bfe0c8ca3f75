"""Pairs: photographs of two classes side by side, each at the network's full size.

Composites of shrunk photographs (`make_grids`) cost no more than a photograph, but many networks recognise
nothing in them. Two photographs at full size are seen as each is alone, so that a map for one class minus the
other can be asked what belongs to which: `dmbp_jax.metrics.contrast_localization`.
"""

from dmbp_jax.checks import InputError
from dmbp_jax.data.sample import Dataset, Problem, Sample
from dmbp_jax.data.subset import draw


def make_pairs(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """As many pairs as there are photographs: each is once on the left, beside one of another class.

    The photographs are put in a random order, and each has on its right the next one of another class; after
    the last comes the first. A name is both names with `|` between. Samples of several classes are problems.

    Raises `InputError` if the dataset is composite already, or has photographs of one class only.

    >>> from pathlib import Path
    >>> photos = [Sample(name, (Path(name),), (name[0],)) for name in ("a1", "a2", "b1")]
    >>> [pair.name for pair in make_pairs(Dataset("folder", tuple(photos))).samples]
    ['a2|b1', 'a1|b1', 'b1|a2']
    """
    if any(len(sample.paths) > 1 for sample in dataset.samples):
        raise InputError("pairs cannot be built of composites; give their photographs' own dataset")
    single = [sample for sample in dataset.samples if len(sample.labels) == 1]
    problems = tuple(
        Problem(sample.name, f"not used in a pair: it has {len(sample.labels)} classes")
        for sample in dataset.samples
        if len(sample.labels) != 1
    )
    if len({sample.labels for sample in single}) < 2:
        without = dataset.problems + problems
        why = (
            f"; {len(without)} cannot, the first: {without[0].name}, {without[0].message}" if without else ""
        )
        raise InputError(
            f"a pair needs photographs of two classes, and there are {len(single)} that can be used, of "
            f"{len({sample.labels for sample in single})}{why}"
        )
    order = sorted(single, key=lambda sample: draw(seed, sample.name))
    pairs = []
    for place, left in enumerate(order):
        others = order[place + 1 :] + order[:place]
        right = next(other for other in others if other.labels != left.labels)
        pairs.append(
            Sample(
                name=f"{left.name}|{right.name}",
                paths=left.paths + right.paths,
                labels=left.labels + right.labels,
                pair=True,
            )
        )
    return Dataset("pairs", tuple(pairs), dataset.problems + problems)
