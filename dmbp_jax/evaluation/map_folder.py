"""Maps that somebody else has made, in a folder of `.npy` files."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dmbp_jax.checks import InputError
from dmbp_jax.data.find import expand
from dmbp_jax.data.npy import read_npy


class MapFolder(NamedTuple):
    """A folder of maps.

    The map of a sample is `NAME.npy`, with the sample's name as rows have it, a photograph's ending included:
    `cat.png.npy`. Where a sample has several targets there is one for each, `NAME.TARGET.npy` with the index
    of the class. A map is `(h, w)`, of the network's input; of `(h, w, c)` the sum over channels is taken.
    """

    path: Path

    @classmethod
    def at(cls, path: str) -> "MapFolder":
        """The folder of that path; raises `InputError` if there is none."""
        folder = expand(path)
        if not path or not folder.is_dir():
            raise InputError(f"maps:FOLDER reads maps from a folder of .npy files, and there is no {path!r}")
        return cls(folder.resolve())

    def find(self, name: str, target: int | None, *, alone: bool) -> Path:
        """The file of a sample's map; raises `InputError` that names it if it is not there.

        `alone`: it is the only target of its sample, and need not be named. `target` None is not known yet.
        """
        choices = [] if target is None else [self.path / f"{name}.{target}.npy"]
        choices += [self.path / f"{name}.npy"] if alone else []
        for file in choices:
            if file.is_file():
                return file
        wanted = " or ".join(str(file) for file in choices)
        raise InputError(f"no map of {name}: there is no {wanted}")

    def read(self, name: str, target: int, size: tuple[int, int], *, alone: bool) -> Float[np.ndarray, "h w"]:
        """The map of a sample, float32; raises `InputError` for a file that is no map of that `size`."""
        file = self.find(name, target, alone=alone)
        values = read_npy(file)
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise InputError(f"{file} holds no array of numbers but of {values.dtype}")
        # What goes beyond float32 becomes infinite, as in a map that was made here.
        with np.errstate(over="ignore", invalid="ignore"):
            if values.ndim == 3 and values.shape[:2] == size:
                values = values.sum(axis=-1)
            values = values.astype(np.float32)
        if values.shape != size:
            raise InputError(
                f"{file} has the shape {values.shape}, and the network's image of {name} is {size}: a map is "
                "(h, w) or (h, w, c) of the same rows and columns"
            )
        return values

    def fingerprint(self) -> str:
        """What the files hold, with their names: other maps make another run."""
        digest = hashlib.sha256()
        for file in sorted(path for path in self.path.rglob("*.npy") if path.is_file()):
            digest.update(file.relative_to(self.path).as_posix().encode("utf-8", "surrogateescape"))
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()[:16]
