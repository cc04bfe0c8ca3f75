"""What a loaded model knows about itself: classes, preprocessing, output."""

import dataclasses
import re
from typing import NoReturn

import jax
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.data import Preprocess
from dmbp_jax.ops import log_probabilities, probabilities
from dmbp_jax.ops.target import check_output
from dmbp_jax.typing import OutputActivation

_probabilities = jax.jit(probabilities, static_argnums=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unprepared(Preprocess):
    """The preprocessing of a network that takes arrays, of which nobody has said how they are made."""

    def _place(self, width: int, height: int) -> NoReturn:  # noqa: ARG002
        raise InputError(
            "this network takes no photographs, since nobody has said how they are prepared: give "
            "preprocess=dmbp_jax.data.Preprocess(...), of a Model in its ModelSpec, or arrays that are "
            "normalised"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Facts about one set of weights; of a network of one's own only the first matter."""

    architecture: str
    """The network's name."""
    classes: tuple[str, ...] = ()
    """Their names; of a network of one's own an evaluation counts them, if there are none."""
    preprocess: Preprocess = Unprepared()
    """From a photograph to the network's input."""
    output: OutputActivation | None = None
    """What makes probabilities of its logits; None: a sigmoid of a single one, a softmax of several."""
    tag: str = "own"
    input_size: int | None = None
    """Side in pixels of the images that the network was trained on."""
    licence: str = "unknown"
    source: str = "own"
    wnids: tuple[str, ...] = ()
    """The WordNet ids of the classes, where they have any."""

    def __post_init__(self) -> None:
        check_output(self.output)

    def probabilities(self, logits: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """What the network's own output activation makes of its logits.

        Raises `InputError` for a softmax of one logit, which is always 1.
        """
        # As one program, where its operations would be five.
        return _probabilities(logits, self.output)

    def log_probabilities(self, logits: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The logarithms of `probabilities`."""
        return log_probabilities(logits, self.output)

    def class_index(self, text: str | int) -> int:
        """The class that `text` means: an index, a name, or a part of exactly one name.

        Case and underscores do not matter. Raises `InputError` for an index out of range and an unknown name,
        and lists the candidates when there are several.

        >>> import dmbp_jax
        >>> spec = dmbp_jax.load_model("squeezenet1_1").spec
        >>> spec.class_index("tabby"), spec.class_index("Great_White")
        (281, 2)
        """
        text = str(text)
        if re.fullmatch(r"-?[0-9]+", text):
            index = int(text)
            if not 0 <= index < len(self.classes):
                raise InputError(
                    f"target {index} is out of range: the network has classes 0 to {len(self.classes) - 1}"
                )
            return index
        wanted = _plain(text)
        names = [_plain(name) for name in self.classes]
        found = [i for i, name in enumerate(names) if name == wanted]
        found = found or [i for i, name in enumerate(names) if wanted and wanted in name]
        if not found:
            raise InputError(f"no class of {self.architecture} is named like {text!r}")
        if len(found) > 1:
            listed = "\n".join(f"  {i:>4}  {self.classes[i]}" for i in found)
            raise InputError(
                f"{text!r} fits {len(found)} classes; choose one by its number or full name:\n{listed}"
            )
        return found[0]

    def label_index(self, label: str) -> int:
        """The class that a dataset's label means, to the letter: an index, a WordNet id, or a whole name.

        Case and underscores do not matter. Raises `InputError` for anything else.

        >>> import dmbp_jax
        >>> spec = dmbp_jax.load_model("squeezenet1_1").spec
        >>> spec.label_index("n02123045"), spec.label_index("281"), spec.label_index("Tabby")
        (281, 281, 281)
        """
        if re.fullmatch(r"[0-9]+", label) and int(label) < len(self.classes):
            return int(label)
        if label in self.wnids:
            return self.wnids.index(label)
        wanted = _plain(label)
        found = [i for i, name in enumerate(self.classes) if _plain(name) == wanted]
        if len(found) != 1:
            what = "is no class" if not found else f"is the name of {len(found)} classes"
            raise InputError(
                f"the label {label!r} {what} of {self.architecture}.{self.tag}, which has "
                f"{len(self.classes)} classes; label by index, or take a model trained for this dataset"
            )
        return found[0]


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
