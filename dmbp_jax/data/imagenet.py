"""ImageNet's validation photographs."""

from collections.abc import Sequence
from pathlib import Path

from dmbp_jax.checks import InputError
from dmbp_jax.data.find import list_folder, listed, not_photographs
from dmbp_jax.data.folder import read_labelled
from dmbp_jax.data.labels import LABEL_FILES, find_labels
from dmbp_jax.data.sample import Dataset, Problem, Sample, check_usable


def read_imagenet(path: Path) -> Dataset:
    """ImageNet's validation set, in class folders or with a CSV file of labels, whichever is there.

    Class folders, `n01440764/ILSVRC2012_val_00000293.JPEG`: the folder's name is the label; sorted by name.
    With a CSV file (see `read_labels`), such as Kaggle's `LOC_val_solution.csv`: its order, and its boxes. It
    is `labels.csv` or `LOC_val_solution.csv` in the folder; where photographs lie in the folder itself, it
    may also be the only `*.csv` in it, or any of these in the folder around it.

    Raises `InputError` if there is no such folder, nothing in it, or no labels for its photographs.
    """
    photos, folders, others = list_folder(path)
    table = next((path / name for name in LABEL_FILES if (path / name).is_file()), None)
    if table is None and photos:
        table = find_labels(path)
        # Beside class folders a photograph has strayed, and a CSV file next door has nothing to do with it.
        if table is None and not folders:
            table = find_labels(path.absolute().parent)
    if table is not None:
        return read_labelled(path, table, kind="imagenet")
    if folders:
        return _read_class_folders(path, photos, folders, others)
    if photos:
        raise InputError(
            f"no labels for the {listed(photos, 'photograph')} in {path}: put them into class folders, such "
            f"as n01440764, or put {' or '.join(LABEL_FILES)} beside them"
        )
    raise InputError(f"the folder {path} holds neither class folders such as n01440764 nor photographs")


def _read_class_folders(
    path: Path, strays: Sequence[str], folders: Sequence[str], others: Sequence[str]
) -> Dataset:
    samples: list[Sample] = []
    problems: list[Problem] = []
    if strays:
        message = f"{listed(strays, 'photograph')} in no class folder, and so without a label"
        problems.append(Problem("stray photographs", message))
    left = list(others)
    for folder in folders:
        photos, _, inside = list_folder(path / folder)
        left += [f"{folder}/{name}" for name in inside]
        if not photos:
            problems.append(Problem(folder, "the class folder holds no photographs"))
        samples += [Sample(f"{folder}/{photo}", (path / folder / photo,), (folder,)) for photo in photos]
    if left:
        problems.append(Problem("other files", not_photographs(left, path)))
    return check_usable(Dataset("imagenet", tuple(samples), tuple(problems)), path)
