"""Composites: photographs of different classes, side by side in one image.

The grid pointing game (Boehle, Fritz, Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
Classifications", CVPR 2021) asks how much of the map for a class falls into that class's cell.
"""

import heapq

from dmbp_jax.checks import InputError
from dmbp_jax.data.find import listed
from dmbp_jax.data.sample import Dataset, Problem, Sample
from dmbp_jax.data.subset import draw


def make_grids(dataset: Dataset, *, grid: int = 2, seed: int = 0) -> Dataset:
    """As many composites of `grid * grid` photographs as the dataset gives, at random.

    No photograph is used twice, and the cells of a composite have different labels. To that end the classes
    with most photographs left are used first, which gives the greatest possible number of composites. A name
    is its cells' names with `+` between. Samples of several classes, and photographs left over, are problems.

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
        # Else the first cell would always show the class with most photographs.
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
