"""The evaluated methods: by name or as functions, and folders of maps."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dmbp_jax._checks import InputError, check_choice, check_name
from dmbp_jax._methods import METHODS, TITLES, VARIANTS, choose_method, get_method, name_of
from dmbp_jax.dmbp._config import configure
from dmbp_jax.evaluation._fingerprint import code_of, fingerprint
from dmbp_jax.images._files import read_npy
from dmbp_jax.images._folder import expand
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

# Maps of another program, in a folder of `.npy` files.


class MapFolder(NamedTuple):
    """A folder of maps.

    The map of a sample is `NAME.npy`, with the sample's name as in the rows, including a photograph's suffix:
    `cat.png.npy`. For a sample of several targets there is one for each, `NAME.TARGET.npy` with the index of
    the class. A map is `(h, w)`, in pixels of the network's input; of `(h, w, c)` the sum over channels is
    used.
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

        `alone`: it is the sample's only target, which the file's name may omit. `target` None is not known
        yet.
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
        # Numbers beyond float32 become infinite, as in maps of this package.
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
        """The hash of the files' contents and names: a run with other maps is another run."""
        digest = hashlib.sha256()
        for file in sorted(path for path in self.path.rglob("*.npy") if path.is_file()):
            digest.update(file.relative_to(self.path).as_posix().encode("utf-8", "surrogateescape"))
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()[:16]


# Methods in an evaluation, with the paper's options, and maps of other programs.

TABLE1 = ("gradient_x_input", "dmbp_positive", "dmbp_posneg", "dmbp")
"""The ablation of the objective; gradient times input is ND, no disentangling."""
TABLE2 = (
    "gradient_x_input",
    "integrated_gradients",
    "smoothgrad",
    "blur_integrated_gradients",
    "deeplift",
    "guided_backprop",
    "guided_grad_cam",
    "lpr",
    "rise",
    "fullgrad",
    "grad_cam",
    "dmbp",
)
TABLE3 = ("guided_backprop", "guided_grad_cam", "dmbp")

CHEAP = ("gradient_x_input", "guided_backprop", "grad_cam", "dmbp")
"""What is evaluated by default: a few backward passes for each map, under the preset `"fast"`."""

GROUPS: dict[str, tuple[str, ...]] = {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3}
"""Names of groups of methods, in the order of tables; `all` is every method."""
MAPS = "maps:"
"""The prefix of a folder of maps given as a method."""

# Section 4 of the paper: "every gradient method's map is gradient times input". Guided Grad-CAM, a product
# already, stays as its authors define it.
_TIMES_INPUT = ("smoothgrad", "guided_backprop", "deconvnet")


class EvaluatedMethod(NamedTuple):
    """A method of an evaluation, with its options."""

    name: str
    title: str
    function: Method | None
    """None where the maps are read from files."""
    options: dict[str, Any]
    maps: MapFolder | None = None
    named: bool = True
    """Whether it has a registered name, rather than being given as a function."""

    def describe(self) -> dict[str, Any]:
        """What identifies this method in the record of a run."""
        if self.maps is not None:
            return {"maps": self.maps.fingerprint()}
        assert self.function is not None
        dmbp = self.function is METHODS["dmbp"]
        options = dataclasses.asdict(configure(**self.options)) if dmbp else self.options
        code = code_of(self.function).fingerprint
        known: dict[str, Any] = {
            "method": getattr(self.function, "__name__", self.name),
            "options": {name: _plain(value) for name, value in options.items()},
        }
        return known | ({"code": code} if code else {})

    def check_told(self) -> None:
        """Raise `InputError` for a function of which a later run cannot tell whether it is the same."""
        untold = None if self.named or self.function is None else code_of(self.function).untold
        if untold is not None:
            raise InputError(
                f"the method {self.name} uses {untold}, of which a later run in this folder cannot tell "
                "whether it is the same: give it a name that stands for it, register_method(..., name=...)"
            )


def _plain(value: Any) -> Any:
    """An option in the record: a plain value, otherwise its fingerprint."""
    return value if isinstance(value, str | int | float | None) else fingerprint(value)


def known_methods() -> tuple[str, ...]:
    """Every name of a method that can be evaluated: what `all` stands for, dmbp and its ablations last.

    >>> known_methods()[0], known_methods()[-1]
    ('random', 'dmbp')
    """
    last = TABLE1[1:]
    return ("random", *(name for name in (*METHODS, *VARIANTS) if name not in ("random", *last)), *last)


def choose_methods(
    chosen: Iterable[str | Method],
    *,
    preset: str,
    steps: int | None = None,
    architecture: str,
    output: OutputActivation | None,
) -> tuple[EvaluatedMethod, ...]:
    """The methods with those names and functions, each once; `table1`, `table2`, `table3` and `all` stand
    for several, `maps:FOLDER` for maps of another program.

    `steps` is DMBP's number of steps in place of the preset's. Raises `InputError` for an unknown name, two
    methods of one name, and for steps of the preset `"fast"`, which takes none.

    >>> chosen = choose_methods(["table3"], preset="paper", architecture="resnet50", output="softmax")
    >>> [one.name for one in chosen], chosen[0].options
    (['guided_backprop', 'guided_grad_cam', 'dmbp'], {'multiply_by_inputs': True})
    """
    found: dict[str, EvaluatedMethod] = {}

    def add(one: EvaluatedMethod) -> None:
        there = found.setdefault(one.name, one)
        if (there.function, there.maps) != (one.function, one.maps):
            raise InputError(f"two methods are called {one.name!r}: rename one, or register it under a name")

    for given in chosen:
        if not isinstance(given, str):
            add(_own(given, preset, steps, architecture, output))
        elif given.startswith(MAPS):
            folder = MapFolder.at(given.removeprefix(MAPS))
            add(EvaluatedMethod(MAPS + folder.path.name, f"Maps of {folder.path.name}", None, {}, folder))
        else:
            known = known_methods()
            check_choice("method", given, [*known, *GROUPS, "all"])
            for name in known if given == "all" else GROUPS.get(given, (given,)):
                add(_by_name(name, preset, steps, architecture, output))
    if not found:
        raise InputError(
            f"no method given; name one or more of {', '.join([*GROUPS, 'all', *known_methods()])}"
        )
    return tuple(found.values())


def _by_name(
    name: str, preset: str, steps: int | None, architecture: str, output: OutputActivation | None
) -> EvaluatedMethod:
    method, options = choose_method(name, preset, architecture=architecture, output=output)
    if method is METHODS["dmbp"] and steps is not None:
        if options["preset"] == "fast":
            raise InputError("preset fast takes no steps: leave steps out, or take preset paper")
        options = {**options, "steps": steps}
    if name in _TIMES_INPUT:
        options = {**options, "multiply_by_inputs": True}
    return EvaluatedMethod(name, TITLES.get(name, name), method, options)


def _own(
    method: Method, preset: str, steps: int | None, architecture: str, output: OutputActivation | None
) -> EvaluatedMethod:
    """A function: under its name in `METHODS` with that one's options, or under its own."""
    get_method(method)
    for name, known in METHODS.items():
        if known is method:
            return _by_name(name, preset, steps, architecture, output)
    name = check_name("method", name_of(method))
    if name in (*METHODS, *VARIANTS):
        raise InputError(f"there is another method {name!r} in the package: rename yours")
    return EvaluatedMethod(name, name.replace("_", " "), method, {}, named=False)
