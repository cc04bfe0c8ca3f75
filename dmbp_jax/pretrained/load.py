"""`load_model`: a network, its parameters, and what is known about them."""

from pathlib import Path
from typing import NamedTuple

import jax

from dmbp_jax.checks import InputError
from dmbp_jax.models import get_architecture
from dmbp_jax.pretrained.fetch import fetch
from dmbp_jax.pretrained.files import read_safetensors
from dmbp_jax.pretrained.manifest import read_manifest
from dmbp_jax.pretrained.names import from_timm
from dmbp_jax.pretrained.spec import ModelSpec
from dmbp_jax.pretrained.state_dict import check_state_dict, to_params
from dmbp_jax.typing import Apply, Params


class Model(NamedTuple):
    """A trained network: `model.apply(model.params, images)` are its logits."""

    apply: Apply
    params: Params
    spec: ModelSpec


def load_model(name: str, weights: str | Path | None = None) -> Model:
    """A trained network by name.

    Args:
        name: an architecture, such as `"squeezenet1_1"` (embedded weights) or `"resnet50"` (fetched on first
            use).
        weights: a tag of the manifest, or the path of a `.safetensors` file with torchvision's, timm's or
            `dmbp-jax weights port`'s tensors, which is taken to want the preprocessing of the published
            checkpoint of that architecture. Default: the manifest's first entry for that architecture.

    Raises:
        InputError: unknown name or tag; a file that is missing, damaged or of another architecture; weights
            that cannot be fetched.

    >>> model = load_model("squeezenet1_1")
    >>> model.spec.classes[281]
    'tabby'
    """
    architecture = get_architecture(name)
    manifest = read_manifest()
    if weights is not None and Path(weights).suffix == ".safetensors":
        path, tag, source = Path(weights), Path(weights).stem, str(weights)
        entry = manifest.find_for_file(name, path.name)
    elif weights is not None and Path(weights).suffix in (".pth", ".pt", ".tar"):
        raise InputError(
            f"{weights} is a PyTorch checkpoint; port it once with "
            f"`dmbp-jax weights port {weights} --arch {name} -o {name}.safetensors` and give the result"
        )
    else:
        entry = manifest.find(name, None if weights is None else str(weights))
        path, tag, source = fetch(entry), entry.tag, entry.source
    state, written_for = read_safetensors(path)
    if written_for not in (None, name):
        raise InputError(f"{path} holds weights of {written_for}, not of {name}")
    state = from_timm(state)
    layers = check_state_dict(state, architecture, str(path))
    count = layers[-1].weight[0]
    names = manifest.classes[entry.classes]
    # A checkpoint of the user's own may have other classes than those of the manifest.
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
            output=entry.output,
            licence=entry.licence if source == entry.source else "unknown",
            source=source,
        ),
    )
