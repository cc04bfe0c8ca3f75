"""Images made of several photographs: grids and pairs."""

import heapq

from dmbp_jax._checks import InputError
from dmbp_jax.images._folder import listed
from dmbp_jax.images._samples import Dataset, Problem, Sample, draw

# Composites: photographs of different classes, side by side in one image.
#
# The grid pointing game (Boehle, Fritz, Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
# Classifications", CVPR 2021) asks how much of the map for a class falls into that class's cell.


def make_grids(dataset: Dataset, *, grid: int = 2, seed: int = 0) -> Dataset:
    """Random composites of `grid * grid` photographs, as many as the dataset allows.

    No photograph is used twice, and the cells of a composite have different labels. The classes with most
    remaining photographs are used first, which gives the greatest possible number of composites. A
    composite's name is its cells' names joined by `+`. Samples of several classes and unused photographs are
    reported as problems.

    Raises `InputError` if `grid` is below 2, the dataset is composite already, or there are too few classes.
    """
    if grid < 2:
        raise InputError(f"a composite needs a grid of at least 2, got {grid}")
    if any(sample.grid != 1 for sample in dataset.samples):
        raise InputError("composites cannot be built of composites; give their photographs' own dataset")
    cells = grid * grid
    single = [sample for sample in dataset.samples if len(sample.labels) == 1]
    problems = [
        Problem(sample.name, f"not used in a composite: it has {len(sample.labels)} classes")
        for sample in dataset.samples
        if len(sample.labels) != 1
    ]
    by_label: dict[str, list[Sample]] = {}
    for sample in sorted(single, key=lambda sample: draw(seed, sample.name)):
        by_label.setdefault(sample.labels[0], []).append(sample)
    if len(by_label) < cells:
        raise InputError(
            f"a composite of {grid} x {grid} needs photographs of {cells} classes, and the dataset has "
            f"{len(single)} photographs of {len(by_label)}"
        )

    def place(label: str) -> tuple[int, bytes, str]:
        left = len(by_label[label])
        return -left, draw(seed, f"{label} with {left} left"), label

    queue = [place(label) for label in by_label]
    heapq.heapify(queue)
    composites: list[Sample] = []
    while len(queue) >= cells:
        chosen = [heapq.heappop(queue)[2] for _ in range(cells)]
        photos = [by_label[label].pop() for label in chosen]
        # Otherwise the first cell would always show the class with most photographs.
        photos.sort(key=lambda sample: draw(seed, sample.name))
        composites.append(_composite(photos, grid))
        for label in chosen:
            if by_label[label]:
                heapq.heappush(queue, place(label))
    used = {path for composite in composites for path in composite.paths}
    left = [sample.name for sample in single if sample.paths[0] not in used]
    if left:
        message = f"{listed(left, 'photograph')} of fewer than {cells} classes remained"
        problems.append(Problem("photographs left over", message))
    return Dataset("grid", tuple(composites), dataset.problems + tuple(problems))


def _composite(photos: list[Sample], grid: int) -> Sample:
    # Boxes would need the photographs' sizes, which are not known before they are read.
    return Sample(
        name="+".join(photo.name for photo in photos),
        paths=tuple(photo.paths[0] for photo in photos),
        labels=tuple(photo.labels[0] for photo in photos),
        grid=grid,
    )


# Pairs: photographs of two classes side by side, each at the network's full size.
#
# Composites of shrunk photographs (`make_grids`) cost no more than a photograph, but many networks recognise
# # nothing in them. In a pair both photographs keep their full size, and a map for one class minus the other
# is evaluated by `dmbp_jax.metrics.contrast_localization`.


def make_pairs(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """As many pairs as there are photographs: each is once on the left, beside one of another class.

    The photographs are shuffled, and each has on its right the next one of another class, cyclically. A
    pair's name is both names joined by `|`. Samples of several classes are reported as problems.

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
