"""`load_model`: a network with its weights, its preprocessing and its classes."""

import dataclasses
import inspect
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError, check_choice, check_first, check_name, kind_of
from dmbp_jax._plugins import load_object, names_object
from dmbp_jax.images import Preprocess
from dmbp_jax.models._architectures import ARCHITECTURES, get_architecture
from dmbp_jax.models._checkpoints import to_params
from dmbp_jax.models._fetch import fetch
from dmbp_jax.models._manifest import read_manifest
from dmbp_jax.models._port import read_weights
from dmbp_jax.ops import log_probabilities, probabilities
from dmbp_jax.ops._derivatives import check_output
from dmbp_jax.typing import Apply, OutputActivation, Params

if TYPE_CHECKING:
    import dmbp_jax.models._nnx

# The description of a model: classes, preprocessing, output.

_probabilities = jax.jit(probabilities, static_argnums=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unprepared(Preprocess):
    """The preprocessing of a network that takes arrays, without a preprocessing of photographs."""

    def _place(self, width: int, height: int) -> NoReturn:  # noqa: ARG002
        raise InputError(
            "this network takes no photographs, since it has no preprocessing: give "
            "preprocess=dmbp_jax.images.Preprocess(...), of a Model in its ModelSpec, or normalised arrays"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Properties of a set of weights; for a user's own network the first fields suffice."""

    architecture: str
    """The network's name."""
    classes: tuple[str, ...] = ()
    """The classes' names; if empty, an evaluation counts the classes of the user's own network."""
    preprocess: Preprocess = Unprepared()
    """From a photograph to the network's input."""
    output: OutputActivation | None = None
    """The output activation that gives probabilities; None: a sigmoid of a single logit, a softmax of
    several."""
    tag: str = "own"
    input_size: int | None = None
    """Side in pixels of the images that the network was trained on."""
    licence: str = "unknown"
    source: str = "own"
    wnids: tuple[str, ...] = ()
    """The WordNet ids of the classes, if they have any."""

    def __post_init__(self) -> None:
        check_output(self.output)

    def probabilities(self, logits: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The probabilities of logits under the network's output activation.

        Raises `InputError` for a softmax of one logit, which is always 1.
        """
        # As one program instead of five operations.
        return _probabilities(logits, self.output)

    def log_probabilities(self, logits: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The logarithms of `probabilities`."""
        return log_probabilities(logits, self.output)

    def class_index(self, text: str | int) -> int:
        """The index of the class given by an index, a name, or a part of exactly one name.

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
        """The index of the class of a dataset's label: an index, a WordNet id, or a full name.

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


# `load_model`: a network of the package or the user's own, with its parameters and its description.


class Model(NamedTuple):
    """A trained network: `model.apply(model.params, images)` are its logits."""

    apply: Apply
    params: Params
    spec: ModelSpec

    def with_output(self, output: OutputActivation | None) -> "Model":
        """The same network with another output activation; None: unchanged.

        Raises `InputError` for an unknown output.
        """
        return self if output is None else self._replace(spec=dataclasses.replace(self.spec, output=output))

    def __repr__(self) -> str:
        """One line, in place of all weights."""
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"Model({self.spec.architecture}, {count} parameters, {len(self.spec.classes)} classes)"


Factory: TypeAlias = Callable[[], Any]
"""Returns a `Model`, or `(apply, params)`."""
REGISTERED: dict[str, Factory] = {}
"""The networks that users have registered."""


def register_network(factory: Factory, *, name: str | None = None) -> Factory:
    """Register a network for `load_model`, and so for `--model` of all commands.

    Args:
        factory: `factory() -> Model`, or `-> (apply, params)` as from `gated`; called when the network is
            loaded. The commands need a `Model`, whose `ModelSpec` has the preprocessing of photographs.
        name: by default the function's.

    Returns:
        The factory, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that is empty, or that the package uses or reserves, such as `"all"`.

    >>> def doubled():
    ...     return lambda params, x, rule=None: params * x.mean(axis=(1, 2)), 2.0
    >>> register_network(doubled) is doubled, load_model("doubled").spec.architecture
    (True, 'doubled')
    >>> del REGISTERED["doubled"]
    """
    name = check_name("network", getattr(factory, "__name__", "") if name is None else name)
    if name in ARCHITECTURES:
        raise InputError(f"there is a network {name!r} in the package: give name= another one")
    REGISTERED[name] = factory
    return factory


def as_model(network: Any, name: str) -> Model:
    """A `Model` unchanged; for `(apply, params)` a `Model` without class names and preprocessing.

    Raises `InputError` for something else.

    >>> as_model((lambda params, x, rule=None: x, {}), "mine").spec.classes
    ()
    """
    if isinstance(network, Model):
        return network
    if isinstance(network, tuple) and len(network) == 2 and callable(network[0]):
        return Model(*network, ModelSpec(architecture=name))
    raise InputError(
        f"{name} is {type(network).__name__}: a network is a Model, or (apply, params), such as "
        "dmbp_jax.gated(network) gives"
    )


def count_classes(model: Model, shape: tuple[int, ...]) -> Model:
    """A network without class names gets a class for each of its logits, for an image `(h, w, c)`.

    >>> model = as_model((lambda params, x, rule=None: x.mean(axis=(1, 2)), {}), "mine")
    >>> count_classes(model, (8, 8, 2)).spec.classes
    ('class 0', 'class 1')
    """
    if model.spec.classes:
        return model
    image = jax.ShapeDtypeStruct((1, *shape), jax.numpy.float32)
    logits = jax.eval_shape(jax.jit(model.apply), model.params, image)
    names = tuple(f"class {number}" for number in range(logits.shape[-1]))
    return model._replace(spec=dataclasses.replace(model.spec, classes=names))


def load_model(name: str, weights: str | Path | None = None) -> Model:
    """A trained network by name.

    Args:
        name: an architecture, such as `"squeezenet1_1"` (embedded weights) or `"resnet50"` (fetched on first
            use); a name of `register_network`; or `package.module:factory` or `file.py:factory`, a function
            as `register_network` takes them.
        weights: a tag of the manifest, or the path of a `.safetensors` file with torchvision's, timm's or
            `dmbp-jax weights port`'s tensors. Its preprocessing is that of the published checkpoint of the
            architecture. A common prefix of all names (`module.`, `model.`) is removed, with a warning.
            Default: the manifest's first entry for that architecture.

    Raises:
        InputError: unknown name or tag; a file that is missing, damaged or of another architecture, as far as
            its tensors, its metadata or the hub's `config.json` beside it tell; weights that cannot be
            fetched.

    >>> model = load_model("squeezenet1_1")
    >>> model.spec.classes[281]
    'tabby'
    """
    if name in REGISTERED or names_object(name):
        if weights is not None:
            raise InputError(f"{name} brings its own weights: leave weights out")
        factory = REGISTERED[name] if name in REGISTERED else load_object(name)
        try:
            inspect.signature(factory).bind()
        except TypeError:
            raise InputError(
                f"{name} is not a function that makes a network: it returns a Model, or (apply, params)"
            ) from None
        return as_model(factory(), name.rpartition(":")[2])
    check_choice("model", name, [*ARCHITECTURES, *REGISTERED], variants=True)
    architecture = get_architecture(name)
    manifest = read_manifest()
    if weights is not None and Path(weights).suffix == ".safetensors":
        path, tag, source = Path(weights), Path(weights).stem, str(weights)
        entry = manifest.find_for_file(name, path.name)
    elif weights is not None and _is_checkpoint(Path(weights)):
        raise InputError(
            f"{weights} is a PyTorch checkpoint; port it once with "
            f"`dmbp-jax weights port {weights} --arch {name} -o {name}.safetensors` and give the result"
        )
    else:
        entry = manifest.find(name, None if weights is None else str(weights))
        path, tag, source = fetch(entry), entry.tag, entry.source
    state, layers, note = read_weights(path, entry)
    if note:
        warnings.warn(note, stacklevel=2)
    count = layers[-1].weight[0]
    names = manifest.classes[entry.classes]
    # The user's own checkpoint may have other classes than those of the manifest.
    own = len(names) != count
    return Model(
        architecture.apply,
        jax.device_put(to_params(state, layers, str(path))),
        ModelSpec(
            architecture=name,
            tag=tag,
            classes=tuple(f"class {i}" for i in range(count)) if own else names,
            wnids=() if own else manifest.wnids.get(entry.classes, ()),
            preprocess=manifest.preprocess[entry.preprocess],
            input_size=entry.input_size,
            output=None if count == 1 else entry.output,
            licence=entry.licence if source == entry.source else "unknown",
            source=source,
        ),
    )


def _is_checkpoint(path: Path) -> bool:
    """Whether it is the path of a PyTorch file, not a tag."""
    return path.suffix in (".pth", ".pt", ".tar", ".ckpt", ".bin", ".pkl") or path.is_file()


def _check_is_model(name: str, *args: Any) -> None:
    if args and not isinstance(args[0], Model):
        raise InputError(f"{name} takes a Model, such as load_model gives; got {kind_of(args[0])}")


@check_first(_check_is_model)
def to_nnx(model: Model) -> "dmbp_jax.models._nnx.Network":
    """A network of the package as a `flax.nnx.Module`: to train it, or to build it into another one.

    Its parameters are `nnx.Param`s, under the names of `model.params`: `network.features["0"].kernel`. It is
    called with images `(n, h, w, c)`, preprocessed as the model's, and gives the same logits `(n, k)`.
    Batch-norm is folded, and there is no dropout: it computes the same in training and in evaluation.

    A layer may be replaced by an `nnx.Linear` or `nnx.Conv`, of other classes for example; stride and padding
    stay the architecture's. `gated(network)` gives the same maps as `model`, and its layers have the same
    names. `model.apply` takes trained parameters as `nnx.to_pure_dict(nnx.state(network, nnx.Param))`.

    Raises:
        InputError: flax is not installed; something else than a `Model`; parameters that are not arrays in
            nested dictionaries.

    >>> model = load_model("squeezenet1_1")
    >>> network = to_nnx(model)
    >>> network.features["0"].kernel.shape
    (3, 3, 3, 64)
    """
    try:
        from dmbp_jax.models._nnx import Network
    except ImportError:
        raise InputError("to_nnx needs flax: pip install 'flax>=0.12.7'") from None
    return Network(model.apply, model.params)
