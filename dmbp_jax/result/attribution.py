"""The result of every method."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
import PIL.Image
from jaxtyping import Array, Bool, Float

from dmbp_jax.checks import InputError
from dmbp_jax.result.describe import describe
from dmbp_jax.result.files import check_fields, read_explanation, write_explanations
from dmbp_jax.result.scores import Scores

if TYPE_CHECKING:
    import matplotlib.figure


class Attribution(NamedTuple):
    """An explanation: what each input value contributes to the explained output.

    Shapes are given for a batch; a single-image method returns the same without the leading `n`.
    """

    values: Float[Array, "..."]
    """Attribution of every input value, `(n, h, w, c)`; the unit is the logit's."""
    finite: Bool[Array, "..."]
    """Per image: False if any number of the explanation is infinite or not a number, `(n,)`."""
    scores: Scores | None = None
    """The logit and its parts, each `(n,)`."""
    positive: Float[Array, "..."] | None = None
    """DMBP: the part that the positive branch contributes, `(n, h, w, c)`; with `parts_apart` at least 0."""
    negative: Float[Array, "..."] | None = None
    """DMBP: the part that the negative branch contributes, `(n, h, w, c)`; with `parts_apart` at most 0."""
    completeness_gap: Float[Array, "..."] | None = None
    """DMBP of a network with smooth operations: the part of the logit that the tangents' constants
    account for, neither an input nor a bias, `(n,)`."""
    convergence_delta: Float[Array, "..."] | None = None
    """Methods whose values should add up to a difference of scores: how far they miss it, `(n,)`."""
    masks: dict[str, Float[Array, "..."]] | None = None
    """DMBP, on request: the positive branch's mask of every masked site, `(n, *site shape)`."""
    history: Scores | None = None
    """DMBP, on request: the scores before each step and after the last, `(n, steps + 1)`."""

    @property
    def heatmap(self) -> Float[Array | np.ndarray, "..."]:
        """The sum over channels, `(n, h, w)`: above zero speaks for the target, below against it.

        Inputs of three axes and more have channels, which are the last one: `(n, h, w, c)`, and
        `(n, frames, h, w, c)`. Values of fewer are as they are: `(n, features)`, `(n, 28, 28)`, and
        `(n, tokens, features)`, since the shape does not tell features from columns;
        `a.values.sum(axis=-1)` adds them up.

        >>> Attribution(np.ones((2, 8, 9, 3)), np.ones(2, bool)).heatmap.shape
        (2, 8, 9)
        >>> Attribution(np.ones((2, 28, 28)), np.ones(2, bool)).heatmap.shape
        (2, 28, 28)
        """
        return self.values.sum(axis=-1) if self.values.ndim - np.ndim(self.finite) > 2 else self.values

    def take(self, index: int | slice) -> "Attribution":
        """The explanation of one image of a batch, without batch axis; with a slice of several.

        Raises `InputError` for an index out of range, and without a batch axis.

        >>> a = Attribution(np.ones((2, 8, 8, 3)), np.ones(2, bool))
        >>> a.take(-1).heatmap.shape, a.take(slice(1)).heatmap.shape
        ((8, 8), (1, 8, 8))
        """
        if not np.ndim(self.finite):
            raise InputError("this is the explanation of one image already: it has no batch axis")
        count = self.finite.shape[0]
        if not isinstance(index, slice) and not -count <= index < count:
            raise InputError(f"there is no image {index} in a batch of {count}")
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

        Red speaks for the target, blue against it, white does not matter; each row has a scale of its own.
        The figure belongs to nobody, `pyplot` does not know it: `figure.savefig("why.png")`.

        Args:
            photo: `(h, w, 3)` of 8 bits, as the network saw it (`model.spec.preprocess.crop_photo`), or
                `(n, h, w, 3)`: one for each image; a Pillow image will do. Without it the maps are alone.
            titles: above the rows; one text serves all.
            captions: below the rows, before what the figure says of itself.
            **style: fields of `dmbp_jax.viz.Style`: `percentile` (where colours saturate), `alpha` (how
                opaque the overlay is), `cmap` (the colours), `smooth` (pixels of a Gaussian, for the eye; the
                caption says so).

        Raises:
            InputError: values that are no maps, more than 16 images, numbers that are not here (inside
                `jit`), a photograph or a number of titles that does not fit, an option of no figure or out
                of range.

        >>> a = Attribution(np.ones((2, 8, 8, 3)), np.ones(2, bool))
        >>> len(a.plot(np.zeros((8, 8, 3), np.uint8), smooth=1.5).subfigs)
        2
        """
        # matplotlib is slow to import, and most programs draw nothing.
        from dmbp_jax.result.rows import make_rows
        from dmbp_jax.viz import draw_explanations
        from dmbp_jax.viz.style import make_style

        chosen = make_style(**style)
        return draw_explanations(make_rows(self, photo, titles, captions, chosen), style=chosen)

    def show(self, photo: npt.ArrayLike | PIL.Image.Image | None = None, **options: Any) -> None:
        """Show the figure of `plot`, with its options: in the notebook, or else in the system's viewer."""
        from dmbp_jax.result.display import show_figure

        show_figure(self.plot(photo, **options))

    def save(self, path: str | Path, **beside: npt.ArrayLike | int | float) -> None:
        """Write everything to a `.safetensors` file, whole or not at all; `Attribution.load` reads it.

        Arrays `beside` it, such as `photo=` or `logits=`, are kept in the same file by their names.
        bfloat16 is kept as float32. Raises `InputError` inside `jit`, for a name that is taken or a file's
        name with another ending, and where `path` cannot be written.
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
        several = {field: field in ("scores", "history", "masks") for field in cls._fields}
        fields = read_explanation(Path(path), name, several)
        check_fields(Path(path), fields)
        for field in ("scores", "history"):
            if field in fields:
                fields[field] = Scores(**fields[field])
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """The fields as they are kept in a file: arrays, or arrays by name, or None."""
        return {
            name: value._asdict() if isinstance(value, Scores) else value
            for name, value in self._asdict().items()
        }

    def __repr__(self) -> str:
        return describe(self)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows in place of `repr`: the maps of the first images, with their scores."""
        from dmbp_jax.result.display import png_of_maps

        return png_of_maps(self)


Method: TypeAlias = Callable[..., Attribution]
"""`method(apply, params, image, target, *, key=None, **options) -> Attribution` for one image."""
