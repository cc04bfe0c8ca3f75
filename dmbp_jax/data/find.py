"""From what a person typed, files and folders, to the photographs meant."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dmbp_jax.checks import InputError, InputWarning, shorten
from dmbp_jax.data.decode import PHOTO_SUFFIXES
from dmbp_jax.data.labels import LABEL_FILES


class Listing(NamedTuple):
    """The names of what lies directly in a folder, sorted; without hidden ones, that begin with a dot."""

    photos: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]
    """Files that are not called as photographs are."""


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and the photographs in folders, sorted by name and not recursively; each once.

    Figures that the command wrote into a folder, `*_dmbp.*`, are not taken for photographs. Files of a folder
    that are not taken, but for those of labels, are counted and named by an `InputWarning`.

    Raises `InputError` for a path that does not exist and for a folder without photographs.
    """
    found: list[Path] = []
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            inside = list_folder(path)
            named = {given.name for given in paths if given.parent == path}
            others = [name for name in inside.others if name not in named and name not in LABEL_FILES]
            left = not_photographs(others, path) if others else ""
            if not inside.photos:
                raise InputError(f"the folder {path} holds no photographs{left and ': '}{left}")
            if left:
                warnings.warn(left, InputWarning, stacklevel=2)
            found += [path / name for name in inside.photos]
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    return list(dict.fromkeys(found))


def expand(path: str) -> Path:
    """A path as a person typed it, with `~` and `~name` made the folder of that user.

    Raises `InputError` for a user whose folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot tell the path {shorten(path)!r}: {error}") from None


def list_folder(path: Path) -> Listing:
    """What lies directly in a folder.

    Raises `InputError` if the folder does not exist or may not be read.
    """
    photos, folders, others = [], [], []
    try:
        # `scandir` knows files from folders without asking about each: that counts over a network.
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif is_photo(entry.name) and entry.is_file():
                    photos.append(entry.name)
                else:
                    others.append(entry.name)
    except FileNotFoundError:
        raise InputError(f"no such folder: {path}") from None
    except NotADirectoryError:
        raise InputError(f"{path} is not a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {path} cannot be read: {error}") from None
    return Listing(tuple(sorted(photos)), tuple(sorted(folders)), tuple(sorted(others)))


def listed(names: Iterable[str], noun: str, *, most: int = 3) -> str:
    """How many there are, and the first few, for messages.

    >>> listed(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "photograph")
    '4 photographs (a.jpg, b.jpg, c.jpg and others)'
    """
    names = list(names)
    shown = ", ".join(map(shorten, names[:most])) + (" and others" if len(names) > most else "")
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'} ({shown})"


def not_photographs(names: Iterable[str], folder: Path) -> str:
    """What to say of files in a folder that are not taken.

    >>> not_photographs(["cat.heic"], Path("photos"))
    'not taken for photographs, by their names: 1 file (cat.heic) of photos'
    """
    return f"not taken for photographs, by their names: {listed(names, 'file')} of {folder}"


def is_photo(name: str) -> bool:
    """Whether a file is called as photographs are, and not as the figures that the command writes.

    >>> is_photo("cat.JPEG"), is_photo("cat_dmbp.png"), is_photo("labels.csv")
    (True, False, False)
    """
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in PHOTO_SUFFIXES and not stem.endswith("_dmbp")


def example_photo() -> Path:
    """The path of `chelsea.png`, a tabby cat.

    Photograph by Stefan van der Walt, released to the public domain (CC0); from scikit-image's data folder.

    >>> example_photo().name
    'chelsea.png'
    """
    return Path(__file__).with_name("chelsea.png")
