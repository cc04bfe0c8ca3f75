"""From what a person typed, files and folders, to the photographs meant."""

import os
from collections.abc import Iterable
from pathlib import Path

from dmbp_jax.checks import InputError, shorten
from dmbp_jax.data.decode import PHOTO_SUFFIXES


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and the photographs in folders, sorted by name and not recursively; each once.

    Figures that the command wrote into a folder, `*_dmbp.*`, are not taken for photographs.

    Raises `InputError` for a path that does not exist and for a folder without photographs.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, _ = list_folder(path)
            if not inside:
                raise InputError(f"the folder {path} holds no photographs")
            found += [path / name for name in inside]
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


def list_folder(path: Path) -> tuple[list[str], list[str]]:
    """The names of the photographs and of the folders directly in a folder, both sorted; no hidden ones.

    Raises `InputError` if the folder does not exist or may not be read.
    """
    photos, folders = [], []
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
    except FileNotFoundError:
        raise InputError(f"no such folder: {path}") from None
    except NotADirectoryError:
        raise InputError(f"{path} is not a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {path} cannot be read: {error}") from None
    return sorted(photos), sorted(folders)


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
