"""From what a person typed, files and folders, to the photographs meant."""

from collections.abc import Iterable
from pathlib import Path

from dmbp_jax.checks import InputError
from dmbp_jax.data.decode import PHOTO_SUFFIXES


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and the photographs in folders, sorted by name and not recursively; each once.

    Figures that the command wrote into a folder, `*_dmbp.*`, are not taken for photographs.

    Raises `InputError` for a path that does not exist and for a folder without photographs.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.iterdir()
                if file.is_file()
                and file.suffix.lower() in PHOTO_SUFFIXES
                and not file.stem.endswith("_dmbp")
            )
            if not inside:
                raise InputError(f"the folder {path} holds no photographs")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    return list(dict.fromkeys(found))
