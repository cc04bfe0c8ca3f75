"""`Attribution` and `Scores`, and their file format."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import PIL.Image
from jaxtyping import Array, Bool, Float

from dmbp_jax._checks import InputError, check_choice, is_number
from dmbp_jax.images._files import read_tensors, write_tensors
from dmbp_jax.result._display import describe, is_known

if TYPE_CHECKING:
    import matplotlib.figure


# The parts of an explained logit.


class Scores(NamedTuple):
    """The parts of the explained logit `y` (Eq. 14): `total = positive + negative + nuisance`.

    Scalars for one image, `(n,)` for a batch, one axis more in a history.
    """

    total: Float[Array, "..."]
    positive: Float[Array, "..."]
    negative: Float[Array, "..."]
    nuisance: Float[Array, "..."]

    def __repr__(self) -> str:
        return describe(self)


# Explanations in a `.safetensors` file.
#
# Each field is an array of that name; those of `scores`, `history` and `masks` are prefixed by the field's
# name: `scores.total`, `masks.layer1.0.relu1`. In a file of several explanations each is prefixed by its
# name: `rise/values`.

Fields = Mapping[str, Any]
"""The fields of an explanation: arrays, or arrays by name, or None."""


def write_explanations(path: Path, explanations: Mapping[str, Fields], beside: Fields) -> None:
    """Write explanations by their names, "" for an unnamed one, with the arrays `beside` them.

    Raises `InputError` inside `jit`, for an array beside them whose name is taken, and where `path` cannot be
    written.
    """
    arrays: dict[str, Any] = {}
    for name, fields in explanations.items():
        for field, value in fields.items():
            key = f"{name}/{field}" if name else field
            if isinstance(value, Mapping):
                arrays |= {f"{key}.{part}": array for part, array in value.items()}
            elif value is not None:
                arrays[key] = value
    for key, value in beside.items():
        if key in arrays or ("" in explanations and key in explanations[""]):
            raise InputError(f"{key!r} is the name of a part of the explanation: choose another one")
        arrays[key] = np.asarray(value)
    for key, array in arrays.items():
        if not is_known(array):
            raise InputError(
                f"cannot save {key}: its values are not in this process; save outside of jit and vmap"
            )
    write_tensors(path, {key: _storable(array) for key, array in arrays.items()}, {})


def read_explanation(path: Path, name: str, known: Mapping[str, bool]) -> dict[str, Any]:
    """The fields of the explanation of that name; `known` says which fields are several arrays.

    Raises `InputError` for a file that is missing, damaged, or holds no explanation, or none of that name.
    """
    tensors, _ = read_tensors(path)
    names = {
        key.removesuffix("values").removesuffix("/") for key in tensors if key.rpartition("/")[2] == "values"
    }
    if not names:
        raise InputError(f"{path} holds no explanation: it has no array `values`")
    if name not in names:
        if names == {""}:
            raise InputError(f"{path} holds one explanation, without a name: leave out name={name!r}")
        check_choice("explanation", name, names)
    fields: dict[str, Any] = {}
    for key, array in tensors.items():
        prefix = f"{name}/" if name else ""
        field, _, part = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix) or field not in known:
            continue
        if known[field]:
            fields.setdefault(field, {})[part] = array
        else:
            fields[field] = array
    return fields


def check_fields(path: Path, fields: Fields) -> None:
    """Raise `InputError` unless the fields, read from a file, have the shapes of one explanation."""
    values, finite = fields["values"], fields.get("finite")
    if finite is None or finite.dtype != bool:
        raise InputError(f"{path} is damaged: its array `finite` must be flags, one for each explanation")
    for field in ("scores", "history"):
        if field in fields and set(fields[field]) != set(Scores._fields):
            raise InputError(f"{path} is damaged: its {field} must be {', '.join(Scores._fields)}")
    whole = {"values": values.shape, "positive": values.shape, "negative": values.shape}
    for field, given in fields.items():
        for part, array in given.items() if isinstance(given, dict) else [("", given)]:
            key = f"{field}.{part}" if part else field
            if field != "finite" and not np.issubdtype(array.dtype, np.floating):
                raise InputError(
                    f"{path} is damaged: its array {key} must be floating point, not {array.dtype}"
                )
            # One number for each image, or one array for each image with axes after the batch axis.
            more = field in ("values", "positive", "negative", "masks", "history")
            leading = array.shape[: finite.ndim] if more else array.shape
            if (
                leading != finite.shape
                or (more and array.ndim == finite.ndim)
                or array.shape != whole.get(field, array.shape)
            ):
                raise InputError(
                    f"{path} is damaged: its array {key} has the shape {array.shape}, which does not fit the "
                    "others"
                )


def _storable(array: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(array)
    # Every bfloat16 is a float32; older versions of the library cannot read the former as NumPy.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


# The result of every method.


# Fields may be NumPy arrays (a batch in chunks, a file), so they are not checked at run time.
@no_type_check
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """An explanation: the contribution of each input value to the explained output.

    Shapes are given for a batch; a single-image method returns the same without the leading `n`. It is a
    tree of arrays for JAX, and is indexed along the batch: `a[3]` is the explanation of one image, `a[:8]`
    that of eight. `dataclasses.replace` changes a field.
    """

    values: Float[Array, "..."]
    """Attribution of every input value, `(n, h, w, c)`; the unit is the logit's."""
    finite: Bool[Array, "..."]
    """Per image: False if any number of the explanation is infinite or not a number, `(n,)`."""
    scores: Scores | None = None
    """The logit and its parts, each `(n,)`."""
    positive: Float[Array, "..."] | None = None
    """DMBP: the positive branch's part, `(n, h, w, c)`; with `parts_apart` at least 0."""
    negative: Float[Array, "..."] | None = None
    """DMBP: the negative branch's part, `(n, h, w, c)`; with `parts_apart` at most 0."""
    completeness_gap: Float[Array, "..."] | None = None
    """DMBP of a network with smooth operations: the part of the logit from the tangents' constants, neither
    inputs nor biases, `(n,)`."""
    convergence_delta: Float[Array, "..."] | None = None
    """Methods whose values should add up to a difference of scores: their sum minus it, `(n,)`."""
    masks: dict[str, Float[Array, "..."]] | None = None
    """DMBP, on request: the positive branch's mask of every masked site, `(n, *site shape)`."""
    history: Scores | None = None
    """DMBP, on request: the scores before each step and after the last, `(n, steps + 1)`."""

    @property
    def heatmap(self) -> Float[Array | np.ndarray, "..."]:
        """The sum over channels, `(n, h, w)`: positive is evidence for the target, negative against it.

        Inputs of three axes and more have channels, which are the last one: `(n, h, w, c)`, and
        `(n, frames, h, w, c)`. Values of fewer axes are unchanged: `(n, features)`, `(n, 28, 28)`, and `(n,
        tokens, features)`, since the shape does not distinguish features from columns;
        `a.values.sum(axis=-1)` sums over features.

        >>> Attribution(np.ones((2, 8, 9, 3)), np.ones(2, bool)).heatmap.shape
        (2, 8, 9)
        >>> Attribution(np.ones((2, 28, 28)), np.ones(2, bool)).heatmap.shape
        (2, 28, 28)
        """
        return self.values.sum(axis=-1) if self.values.ndim - np.ndim(self.finite) > 2 else self.values

    def __len__(self) -> int:
        """The number of images. Raises `InputError` without a batch axis."""
        if not np.ndim(self.finite):
            raise InputError("this is the explanation of one image: it has no batch axis")
        return int(self.finite.shape[0])

    def __getitem__(self, index: int | slice) -> "Attribution":
        """The explanation of one image of a batch, without batch axis; with a slice of several.

        Raises `InputError` for an index that is no whole number and no slice, and without a batch axis;
        `IndexError` for an index out of range.

        >>> a = Attribution(np.ones((2, 8, 8, 3)), np.ones(2, bool))
        >>> a[-1].heatmap.shape, a[:1].heatmap.shape, len(a)
        ((8, 8), (1, 8, 8), 2)
        """
        count = len(self)
        if not isinstance(index, slice):
            if not is_number(index, numbers.Integral):
                raise InputError(
                    f"an explanation is indexed by an image or a slice, a[3] or a[:8], not by {index!r}"
                )
            if not -count <= index < count:
                # Ends Python's own loops.
                raise IndexError(f"there is no image {index} in a batch of {count}")
        taken: Attribution = jax.tree.map(lambda leaf: leaf[index], self)
        return taken

    def plot(
        self,
        photo: npt.ArrayLike | PIL.Image.Image | None = None,
        *,
        titles: str | Sequence[str] = "",
        captions: str | Sequence[str] = "",
        **style: Any,
    ) -> "matplotlib.figure.Figure":
        """A figure with a row for each image: photograph, map, DMBP's two parts, the map over the photograph.

        Red is evidence for the target, blue against it, white neither; each row has its own scale. The figure
        is not one of `pyplot`'s: `figure.savefig("why.png")`.

        Args:
            photo: `(h, w, 3)` of 8 bits, as the network saw it (`model.spec.preprocess.crop_photo`), or
                `(n, h, w, 3)`: one for each image; or a Pillow image. None: maps without photographs.
            titles: above the rows; one text for all, or one for each.
            captions: below the rows, before the figure's own caption.
            **style: fields of `dmbp_jax.plot.Style`: `percentile` (where colours saturate), `alpha` (how
                opaque the overlay is), `cmap` (the colours), `smooth` (pixels of a Gaussian, for display; the
                caption says so).

        Raises:
            InputError: values that are no maps, more than 16 images, inside `jit`, a photograph or a number
                of titles that does not fit, an unknown option or one out of range.

        >>> a = Attribution(np.ones((2, 8, 8, 3)), np.ones(2, bool))
        >>> len(a.plot(np.zeros((8, 8, 3), np.uint8), smooth=1.5).subfigs)
        2
        """
        # Imported on use: matplotlib is slow to import.
        from dmbp_jax.plot import draw_explanations
        from dmbp_jax.plot._heatmap import make_style
        from dmbp_jax.result._rows import make_rows

        chosen = make_style(**style)
        return draw_explanations(make_rows(self, photo, titles, captions, chosen), style=chosen)

    def show(self, photo: npt.ArrayLike | PIL.Image.Image | None = None, **options: Any) -> None:
        """Show the figure of `plot`, with its options: in the notebook, or else in the system's viewer."""
        from dmbp_jax.result._display import show_figure

        show_figure(self.plot(photo, **options))

    def save(self, path: str | Path, **beside: npt.ArrayLike | int | float) -> None:
        """Write all fields to a `.safetensors` file, atomically; `Attribution.load` reads it.

        Arrays `beside` it, such as `photo=` or `logits=`, are saved in the same file by their names. bfloat16
        is kept as float32. Raises `InputError` inside `jit`, for a name that is taken or a file's name with
        another ending, and where `path` cannot be written.
        """
        if Path(path).suffix != ".safetensors":
            raise InputError(f"cannot save {path}: the numbers go into a .safetensors file")
        write_explanations(Path(path), {"": self.fields()}, beside)

    @classmethod
    def load(cls, path: str | Path, name: str = "") -> "Attribution":
        """The explanation in a file that `save` wrote, as NumPy arrays; what was saved beside it is left out.

        `name` chooses among the methods of a file that `dmbp-jax explain --method all` saved. Raises
        `InputError` for a file that is missing or damaged, or holds no such explanation.
        """
        several = {one.name: one.name in ("scores", "history", "masks") for one in dataclasses.fields(cls)}
        fields = read_explanation(Path(path), name, several)
        check_fields(Path(path), fields)
        for field in ("scores", "history"):
            if field in fields:
                fields[field] = Scores(**fields[field])
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """The fields as they are saved: arrays, or arrays by name, or None."""
        return {
            name: value._asdict() if isinstance(value, Scores) else value
            for name, value in vars(self).items()
        }

    def __repr__(self) -> str:
        return describe(self)

    def _repr_png_(self) -> bytes | None:
        """The notebook's display: the maps of the first images, with their scores."""
        from dmbp_jax.result._display import png_of_maps

        return png_of_maps(self)


jax.tree_util.register_dataclass(Attribution)

Method: TypeAlias = Callable[..., Attribution]
"""`method(apply, params, image, target, *, key=None, **options) -> Attribution` for one image."""


# What of an explanation is kept.

Kept: TypeAlias = Literal["values", "heatmap", "parts"]
"""What has the size of an image: `values`, or in place of them their sum over channels; DMBP's two parts."""
KEPT = ("values", "heatmap", "parts")


def check_kept(keep: Kept | Sequence[Kept] | None) -> tuple[Kept, ...] | None:
    """The names of what is kept, None for everything.

    Raises `InputError` for an unknown name, and unless one of `"values"` and `"heatmap"` is among them.

    >>> check_kept("heatmap"), check_kept(["values", "parts"])
    (('heatmap',), ('values', 'parts'))
    """
    if keep is None:
        return None
    several = isinstance(keep, Sequence) and not isinstance(keep, str)
    names: tuple[Any, ...] = tuple(keep) if several else (keep,)
    for name in names:
        check_choice("keep", name, KEPT)
    if ("values" in names) == ("heatmap" in names):
        raise InputError(
            f"keep must name either 'values' or 'heatmap', their sum over channels, got {keep!r}"
        )
    return names


def keep_only(a: Attribution, keep: tuple[Kept, ...] | None) -> Attribution:
    """The explanation without what is not kept; maps and their parts as `(..., h, w, 1)` for `"heatmap"`."""
    if keep is None:
        return a

    def maps(values: Any) -> Any:
        if values is None or "heatmap" not in keep:
            return values
        summed = dataclasses.replace(a, values=values).heatmap
        return summed if summed.ndim == values.ndim else summed[..., None]

    parts = (a.positive, a.negative) if "parts" in keep else (None, None)
    positive, negative = map(maps, parts)
    return dataclasses.replace(a, values=maps(a.values), positive=positive, negative=negative)


# From a method's values to an `Attribution`.


def attribution(values: Float[Array, "..."], **fields: Any) -> Attribution:
    """An `Attribution` of one image with its `finite` flag set from `values`."""
    return Attribution(values=values, finite=jnp.isfinite(values).all(), **fields)
