"""The photographs that a network gets right, of which pairs are made."""

import jax
import numpy as np

from dmbp_jax.checks import InputError
from dmbp_jax.data import Dataset, Problem, Sample, read_ahead, read_sample
from dmbp_jax.data.draw import draw
from dmbp_jax.porting import Model


def choose_recognized(dataset: Dataset, model: Model, *, limit: int | None = None, seed: int = 0) -> Dataset:
    """The samples of one class for which the network's most likely class is the true one.

    They are tried in the random order of `seed` until there are `limit`; None tries all. The dataset's order
    is kept. What the network takes for something else, and what cannot be read, becomes a problem.

    Raises `InputError` for a label that the model does not know.
    """
    predict = jax.jit(lambda params, image: model.apply(params, image[None])[0].argmax())
    single = [sample for sample in dataset.samples if len(sample.labels) == 1]
    chosen: set[str] = {sample.name for sample in dataset.samples if len(sample.labels) != 1}
    several = len(chosen)
    problems: list[Problem] = []

    def true_class(sample: Sample) -> int:
        try:
            return model.spec.label_index(sample.labels[0])
        except InputError as error:
            raise InputError(f"{sample.name}: {error}") from None

    lots = sorted(single, key=lambda sample: draw(seed, sample.name))
    for sample, loaded in read_ahead(lots, lambda sample: read_sample(sample, model.spec.preprocess)):
        if limit is not None and len(chosen) - several == limit:
            break
        if isinstance(loaded, InputError):
            problems.append(Problem(sample.name, str(loaded)))
            continue
        found = int(np.asarray(predict(model.params, loaded.image)))
        if found == true_class(sample):
            chosen.add(sample.name)
        else:
            taken = model.spec.classes[found]
            problems.append(Problem(sample.name, f"not used in a pair: the network takes it for {taken!r}"))
    return dataset._replace(
        samples=tuple(sample for sample in dataset.samples if sample.name in chosen),
        problems=dataset.problems + tuple(problems),
    )
