"""Image networks of packages on PyPI with random weights, for `study_public_networks.py`.

Nothing is fetched: every weight is drawn. Packages initialise much to 0 or 1 (biases, the last layer of a
branch, layer scale, the running statistics of a batch-norm), where networks compute less than when trained;
`shake` moves all of it. Each package is imported by its own builder only, in a process of its own.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 10


class Built(NamedTuple):
    """A network as `gated` takes it, and what it computes without `gated`."""

    network: Any
    plain: Callable[[jax.Array], jax.Array]
    """Images `(n, h, w, 3)` to logits `(n, CLASSES)`, as the package itself computes them."""
    layout: str = "NHWC"
    given: str = "function"
    """What `network` is."""


class Case(NamedTuple):
    """One row of the table."""

    package: str
    """Its name on PyPI."""
    name: str
    side: int
    """Of the image, in pixels."""
    build: Callable[[int], Built]
    token_grid: tuple[int, int] | None = None
    """The tokens of a transformer, for Grad-CAM."""


def shake(params: Any, seed: int = 0) -> Any:
    """The parameters with noise of a tenth of their own spread, or 0.1 where all of a leaf are equal."""
    generator = np.random.default_rng(seed)

    def move(leaf: Any) -> Any:
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim):
            return leaf
        spread = float(jnp.std(leaf)) if leaf.ndim > 1 else 0.0
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 1
        scale = 0.1 * spread if spread > 0 else 0.1 / np.sqrt(fan_in)
        return leaf + jnp.asarray(scale * generator.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(move, params)


def by_function(function: Callable[[Any, jax.Array], jax.Array], params: Any, layout: str = "NHWC") -> Built:
    """A pure function of parameters and images."""

    def plain(images: jax.Array) -> jax.Array:
        return function(params, images.transpose(0, 3, 1, 2) if layout == "NCHW" else images)

    return Built((function, params), plain, layout)


def keras(name: str, *, pixels: bool = False, **options: Any) -> Callable[[int], Built]:
    """A network of Keras's applications; `pixels` if it normalises images of 0 to 255 itself."""

    def build(side: int) -> Built:
        os.environ["KERAS_BACKEND"] = "jax"
        library = import_module("keras")

        library.utils.set_random_seed(0)
        common = {"weights": None, "classes": CLASSES, "classifier_activation": None}
        make = getattr(library.applications, name)
        model = make(input_shape=(side, side, 3), **common, **options)

        def function(params: Any, images: jax.Array) -> jax.Array:
            images = images * 64 + 128 if pixels else images
            return model.stateless_call(*params, images, training=False)[0]

        trainable, others = (
            [v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
        )
        return by_function(function, (shake(trainable), others))

    return build


def transformers(name: str, head: str = "ForImageClassification", **config: Any) -> Callable[[int], Built]:
    """A Flax network of Hugging Face's transformers, from a small configuration."""

    def build(side: int) -> Built:
        library = import_module("transformers")

        sized = {"image_size": side} if "hidden_sizes" not in config else {}
        made = getattr(library, f"{name}Config")(num_labels=CLASSES, **sized, **config)
        model = getattr(library, f"Flax{name.removesuffix('Vision')}{head}")(
            made, seed=0, input_shape=(1, side, side, 3)
        )

        def function(params: Any, images: jax.Array) -> jax.Array:
            found = model(pixel_values=images, params=params, train=False)
            return found.pooler_output if head == "VisionModel" else found.logits

        return by_function(function, shake(jax.tree.map(jnp.asarray, dict(model.params))), "NCHW")

    return build


def haiku(name: str) -> Callable[[int], Built]:
    """A network of haiku's `nets`."""

    def build(side: int) -> Built:
        library = import_module("haiku")

        made = library.without_apply_rng(
            library.transform_with_state(
                lambda x, train: getattr(library.nets, name)(num_classes=CLASSES)(x, is_training=train)
            )
        )
        noise = jax.random.normal(jax.random.key(1), (4, side, side, 3))
        params, state = made.init(jax.random.key(0), noise, True)
        params = shake(params)
        state = made.apply(params, state, noise, True)[1]  # the running statistics start at a variance of 0
        return by_function(lambda p, x: made.apply(*p, x, False)[0], (params, state))

    return build


def equimo(name: str, **options: Any) -> Callable[[int], Built]:
    """An equinox module of equimo, as `equinox.Partial(model, inference=True)`."""

    def build(side: int) -> Built:
        library, equinox = import_module("equimo.vision.models"), import_module("equinox")

        del side
        made = getattr(library, name)(key=jax.random.key(0), num_classes=CLASSES, **options)
        # equimo asks for a random key unless the call itself says that this is no training.
        model = equinox.Partial(shake(equinox.nn.inference_mode(made)), inference=True)
        return Built(model, lambda images: jax.vmap(model)(images.transpose(0, 3, 1, 2)), "NCHW", "module")

    return build


def jaxonmodels(module: str, load: str, *names: Any) -> Callable[[int], Built]:
    """An equinox module of jaxonmodels, whose call wants a state (and a key) beside the image."""

    def build(side: int) -> Built:
        equinox = import_module("equinox")
        library = import_module(f"jaxonmodels.models.{module}")
        key = jax.random.key(0)
        if load == "VisionTransformer":
            made = library.VisionTransformer(side, 8, 64, 3, 4, CLASSES, key=key, dtype=jnp.float32), None
        else:
            classes = "n_classes" if module == "resnet" else "num_classes"
            made = getattr(library, load)(*names, key=key, **{classes: CLASSES})
        arrays, rest = equinox.partition(equinox.nn.inference_mode(made), equinox.is_array)
        extra = {} if module in ("resnet", "clip", "vit") else {"key": key}

        def function(params: Any, images: jax.Array) -> jax.Array:
            model, state = equinox.combine(params, rest)
            call = lambda x: model(x, state, **extra)  # noqa: E731
            found = jax.vmap(call, axis_name="batch")(images)
            return found[0] if isinstance(found, tuple) else found

        return by_function(function, shake(arrays), "NCHW")

    return build


def linen(
    module: str, name: str, told: dict[str, Any] | None = None, **options: Any
) -> Callable[[int], Built]:
    """A linen module, as it is, or one whose call is `told` that this is no training, by a function."""

    def build(side: int) -> Built:
        made = getattr(import_module(module), name)(**options)
        variables = shake(made.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), **(told or {})))
        if told:
            return by_function(lambda v, x: made.apply(v, x, **told), variables)
        return Built((made, variables), lambda images: made.apply(variables, images), given="module")

    return build


def jimm(name: str, **options: Any) -> Callable[[int], Built]:
    """A `flax.nnx` module of jax-image-models, as it is."""

    def build(side: int) -> Built:
        nnx = import_module("flax.nnx")
        library = import_module("jimm.models.vit")
        # Its parameters are laid out over a mesh, and it looks for one.
        jax.set_mesh(jax.make_mesh((1,), ("fsdp",)))
        model = getattr(library, name)(img_size=side, num_classes=CLASSES, rngs=nnx.Rngs(0), **options)
        model.eval()
        structure, state = nnx.split(model)
        state = shake(state)

        def plain(images: jax.Array) -> jax.Array:
            # Variables belong to the trace in which they are made.
            return nnx.merge(structure, jax.tree.map(lambda leaf: leaf, state))(images)

        return Built(nnx.merge(structure, state), plain, given="module")

    return build


SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
STAGES = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 96], "depths": [2, 2, 2, 2]}
JIMM = {"hidden_size": 48, "num_layers": 3, "num_heads": 3, "mlp_dim": 96}
RANDOM = {"output": "logits", "pretrained": None, "num_classes": CLASSES}
MIXER = {"patch_size": 8, "hidden_size": 64, "attach_head": True}
GRID = (4, 4)


def jax_models(module: str, name: str, **options: Any) -> Callable[[int], Built]:
    """A linen module of jax-models."""
    return linen(f"jax_models.models.{module}", name, {"deterministic": True}, num_classes=CLASSES, **options)


CASES = (
    Case("keras", "ResNet50", 64, keras("ResNet50")),
    Case("keras", "ResNet50V2", 64, keras("ResNet50V2")),
    Case("keras", "VGG16", 64, keras("VGG16")),
    Case("keras", "MobileNet", 64, keras("MobileNet")),
    Case("keras", "MobileNetV2", 64, keras("MobileNetV2")),
    Case("keras", "MobileNetV3Small", 64, keras("MobileNetV3Small", include_preprocessing=False)),
    Case("keras", "EfficientNetB0", 64, keras("EfficientNetB0", pixels=True)),
    Case("keras", "DenseNet121", 64, keras("DenseNet121")),
    Case("keras", "Xception", 96, keras("Xception")),
    Case("keras", "InceptionV3", 96, keras("InceptionV3")),
    Case("transformers", "FlaxResNet", 64, transformers("ResNet", **STAGES)),
    Case("transformers", "FlaxRegNet", 64, transformers("RegNet", **STAGES, groups_width=8)),
    Case("transformers", "FlaxViT", 32, transformers("ViT", patch_size=8, **SMALL), GRID),
    Case("transformers", "FlaxBeit", 32, transformers("Beit", patch_size=8, **SMALL), GRID),
    Case("transformers", "FlaxDinov2", 32, transformers("Dinov2", patch_size=8, **SMALL), GRID),
    Case(
        "transformers",
        "FlaxCLIPVision",
        32,
        transformers("CLIPVision", "VisionModel", patch_size=8, **SMALL),
        GRID,
    ),
    Case("dm-haiku", "ResNet18", 64, haiku("ResNet18")),
    Case("dm-haiku", "ResNet50", 64, haiku("ResNet50")),
    Case("dm-haiku", "MobileNetV1", 64, haiku("MobileNetV1")),
    Case("equimo", "mobilenetv3_small", 64, equimo("mobilenetv3_small")),
    Case("equimo", "convnext_atto", 64, equimo("convnext_atto")),
    Case("equimo", "vit_tiny", 32, equimo("vit_tiny_patch16_224", img_size=32, patch_size=8), GRID),
    Case("jaxonmodels", "resnet18", 64, jaxonmodels("resnet", "load_resnet", "resnet18")),
    Case("jaxonmodels", "CLIP's ViT", 32, jaxonmodels("vit", "VisionTransformer"), GRID),
    Case("jax-resnet", "ResNet50", 64, linen("jax_resnet", "ResNet50", n_classes=CLASSES)),
    Case("jax-resnet", "ResNeSt50", 64, linen("jax_resnet", "ResNeSt50", n_classes=CLASSES)),
    Case("flaxmodels", "ResNet18", 64, linen("flaxmodels", "ResNet18", {"train": False}, **RANDOM)),
    Case(
        "jax-models", "ConvMixer", 56, jax_models("conv_mixer", "ConvMixer", features=64, num_mixer_layers=4)
    ),
    Case("jax-models", "MLPMixer", 32, jax_models("mlp_mixer", "MLPMixer", **MIXER), GRID),
    Case("jax-image-models", "VisionTransformer", 32, jimm("VisionTransformer", patch_size=8, **JIMM), GRID),
)
