"""The photographs that a network gets right, of which pairs are made."""

import jax

from dmbp_jax.checks import InputError
from dmbp_jax.data import Dataset, Problem, read_ahead, read_sample
from dmbp_jax.data.subset import draw
from dmbp_jax.evaluation.items import label_indices
from dmbp_jax.pretrained import Model


def choose_recognized(
    dataset: Dataset, model: Model, *, limit: int | None = None, seed: int = 0, depth: int | None = None
) -> Dataset:
    """The samples without those of one class that the network takes for another.

    They are tried in the random order of `seed` until there are `limit`; None tries all. The dataset's order
    is kept. What the network takes for something else, and what cannot be read, becomes a problem.

    Raises `InputError` for a label that the model does not know.
    """
    predict = jax.jit(lambda params, image: model.apply(params, image[None])[0].argmax())
    recognized: set[str] = set()
    problems: list[Problem] = []
    lots = sorted(
        (sample for sample in dataset.samples if len(sample.labels) == 1),
        key=lambda sample: draw(seed, sample.name),
    )
    preprocess = model.spec.preprocess
    for sample, loaded in read_ahead(lots, lambda sample: read_sample(sample, preprocess, depth=depth)):
        if len(recognized) == limit:
            break
        if isinstance(loaded, InputError):
            problems.append(Problem(sample.name, str(loaded)))
            continue
        found = int(predict(model.params, loaded.image))
        if (found,) == label_indices(sample, model.spec):
            recognized.add(sample.name)
        else:
            taken = model.spec.classes[found]
            problems.append(Problem(sample.name, f"not used in a pair: the network takes it for {taken!r}"))
    return dataset._replace(
        samples=tuple(
            sample for sample in dataset.samples if len(sample.labels) != 1 or sample.name in recognized
        ),
        problems=dataset.problems + tuple(problems),
    )
