"""Mistakes that users make in a call of `explain` or `gated`, and the sentence that each of them gets.

As a program it makes them all and prints what came of each, as JSON: `test_mistakes.py` runs it in a process
of its own, since within pytest the annotations are checked first, with other messages.
"""

import functools
import json
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from small import CLASSES, tiny_network

import dmbp_jax
from dmbp_jax import attribution, explain, explain_classes, gated, targets
from dmbp_jax._checks import InputError
from dmbp_jax.images import ArraySample, Preprocess
from dmbp_jax.metrics import grid_pointing_game, insertion, max_sensitivity, road
from dmbp_jax.models import Model
from dmbp_jax.plot import Style
from dmbp_jax.rules import find_sites

APPLY, PARAMS, IMAGES = tiny_network()
TARGETS = [0, 1, 2]


def probabilities(images):
    return jax.nn.softmax(APPLY(PARAMS, images))


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv, self.norm = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(CLASSES)(linen.relu(linen.Conv(4, (3, 3))(x)).mean((1, 2)))


class WithTrain(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        return linen.Dropout(0.5, deterministic=not train)(linen.Dense(CLASSES)(x.mean((1, 2))))


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self):
        keys = jax.random.split(jax.random.key(0))
        self.conv, self.head = eqx.nn.Conv2d(3, 4, 3, key=keys[0]), eqx.nn.Linear(4, CLASSES, key=keys[1])
        self.norm, self.drop = eqx.nn.BatchNorm(4, "batch", mode="ema"), eqx.nn.Dropout(0.5)

    def __call__(self, x, state, *, key):
        h, state = self.norm(self.conv(x), state)
        return self.head(self.drop(jax.nn.relu(h), key=jax.random.split(key)[0]).mean((1, 2))), state


class Channels(eqx.Module):
    conv: eqx.nn.Conv2d = eqx.field(
        default_factory=lambda: eqx.nn.Conv2d(3, CLASSES, 3, key=jax.random.key(0))
    )

    def __call__(self, x):
        return self.conv(x).mean((1, 2))


class Tensor:
    """As PyTorch's that wants its gradient, which gives no array."""

    __module__ = "torch"

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self


class TorchModule:
    __module__ = "torch.nn.modules.module"

    def __call__(self, *args, **kwargs):
        raise TypeError("forward() got an unexpected keyword argument 'rule'")


def function(params, x):
    return jax.nn.relu(x.mean((1, 2)) @ params)


def model():
    made = Nnx()
    made.eval()
    return made


def linen_variables():
    return Linen().init(jax.random.key(0), IMAGES)


def equinox_network():
    return eqx.nn.make_with_state(Equinox)()


def call(*args, **options):
    """`explain` with what is not given as it should be."""
    named = dict(zip(("apply", "params", "images", "targets", "method"), args, strict=False)) | options
    return explain(**({"apply": APPLY, "params": PARAMS, "images": IMAGES, "targets": TARGETS} | named))


def evaluate(targets=TARGETS, images=IMAGES, **options):
    """`dmbp_jax.evaluate` with what is not given as it should be."""
    given = {"network": (APPLY, PARAMS), "samples": (images, targets), "methods": "gradient"}
    return dmbp_jax.evaluate(**(given | {"metrics": "deletion", "progress": False} | options))


def of_vectors(method):
    network = gated((lambda params, x: jax.nn.relu(x @ params), jnp.ones((7, 3))))
    return explain(*network, jnp.ones((2, 7)), [0, 1], method, key=jax.random.key(0))


def of_gated(network, images=IMAGES, **options):
    return explain(*gated(network, **options), images, TARGETS[: len(images)], "gradient")


class Mistake(NamedTuple):
    make: Callable[[], Any]
    sentence: str
    """Words of it, in order; ` ... ` stands for others."""


M = Mistake
NEEDS_GATED = "takes no rule= ... apply, params = gated(model) or gated((function, params))"
CHANNELS_LAST = "does not take images of shape (3, 3, 8, 8): channels come last, images.transpose(0, 2, 3, 1)"
FIRST = IMAGES.transpose(0, 3, 1, 2)

MISTAKES: dict[str, Mistake] = {
    # The network.
    "gated forgotten: function": M(lambda: call(function, jnp.ones((3, 5))), f"function {NEEDS_GATED}"),
    "gated forgotten: linen's apply": M(lambda: call(Linen().apply, linen_variables()), NEEDS_GATED),
    "gated forgotten: linen": M(lambda: call(Linen(), linen_variables()), f"Linen {NEEDS_GATED}"),
    "gated forgotten: nnx": M(lambda: call(model(), nnx.state(model())), f"Nnx {NEEDS_GATED}"),
    "gated forgotten: equinox": M(lambda: call(Channels(), None), f"Channels {NEEDS_GATED}"),
    "a module of PyTorch": M(
        lambda: call(TorchModule(), None), "a TorchModule of PyTorch: only JAX networks are explained"
    ),
    "swapped": M(lambda: explain(PARAMS, APPLY, IMAGES, TARGETS), "apply and params are swapped: explain("),
    "no function": M(
        lambda: call("squeezenet1_1"), "apply must be a function apply(params, images, *, rule)"
    ),
    "the pair of gated": M(
        lambda: explain(gated(model()), IMAGES, TARGETS),
        "takes apply and params apart: explain(*network, images",
    ),
    "the pair, and a method": M(
        lambda: explain(gated(model()), IMAGES, TARGETS, "gradient"), "explain(*network, images, ...)"
    ),
    "the pair, classes": M(
        lambda: explain_classes(gated(model()), IMAGES, [0]), "explain_classes(*network, images, ...)"
    ),
    "a whole model": M(
        lambda: explain(Model(APPLY, PARAMS, None), IMAGES, TARGETS), "explain(network.apply, network.params"
    ),
    "under jit": M(lambda: call(jax.jit(APPLY)), "compiled by jax.jit ... give the function itself"),
    "several outputs": M(
        lambda: call(lambda p, x, *, rule: (x, x)), "one array, the logits (n, classes), got a tuple"
    ),
    "no output": M(lambda: call(lambda p, x, *, rule: None), "one array, the logits (n, classes), got None"),
    # Its parameters.
    "no params": M(lambda: call(APPLY, None), "params are None"),
    "no params, gated": M(lambda: call(gated(model()).apply, None), "params are None"),
    "params of another": M(
        lambda: call(APPLY, {"a": 1.0}), "are not this network's: they have no layer 'conv1'"
    ),
    "params of another, nnx": M(lambda: call(gated(model()).apply, PARAMS), "not all that the module holds"),
    "params of another, equinox": M(lambda: call(gated(Channels()).apply, PARAMS), "not this module's"),
    "without batch statistics": M(
        lambda: call(gated(model()).apply, nnx.split(model(), nnx.Param, ...)[1]),
        "not all that the module holds ... batch statistics",
    ),
    "without collections": M(
        lambda: of_gated((Linen(), linen_variables()["params"])),
        "all that module.init returned, {'params': ...",
    ),
    "a string among params": M(
        lambda: call(APPLY, {**PARAMS, "a": {"b": "c"}}), "arrays, got a str at ['a']['b']"
    ),
    # The images.
    "no batch axis": M(lambda: call(images=IMAGES[0]), "got (8, 8, 3); add a batch axis with image[None]"),
    "no batch axis, nnx": M(
        lambda: of_gated(model(), IMAGES[0]), "of shape (8, 8, 3): add a batch axis with images[None]"
    ),
    "no batch axis, equinox": M(
        lambda: of_gated(Channels(), IMAGES[0], layout="NCHW"),
        "(8, 8, 3): add a batch axis with images[None]",
    ),
    "channels first": M(lambda: call(images=FIRST), CHANNELS_LAST),
    "channels first, nnx": M(lambda: of_gated(model(), FIRST), CHANNELS_LAST),
    "channels first, linen": M(lambda: of_gated((Linen(), linen_variables()), FIRST), CHANNELS_LAST),
    "channels first, layout": M(lambda: of_gated(Channels(), FIRST, layout="NCHW"), CHANNELS_LAST),
    "channels first, silently": M(
        lambda: of_gated(Channels(), FIRST), "another axis than the last of the images ... layout='NCHW'"
    ),
    "layout forgotten": M(lambda: of_gated(Channels()), "(3, 8, 8, 3): give gated(..., layout='NCHW')"),
    "grey": M(
        lambda: call(images=IMAGES[..., :1]),
        "does not take images of shape (3, 8, 8, 1): it takes 3 channels",
    ),
    "grey, nnx": M(lambda: of_gated(model(), IMAGES[..., :1]), "(3, 8, 8, 1): it takes 3 channels"),
    "sizes": M(
        lambda: call(images=[np.ones((8, 8, 3)), np.ones((4, 8, 3))]),
        "different shapes, (8, 8, 3), (4, 8, 3)",
    ),
    "images and labels": M(lambda: call(images=(IMAGES, TARGETS)), "different shapes, (3, 8, 8, 3), a list"),
    "files": M(
        lambda: call(images=["a.jpg"] * 3), "images are strings: read each with model.spec.preprocess"
    ),
    "a dict": M(lambda: call(images={"image": IMAGES}), "images must be one array, got a dict of image"),
    "no images": M(lambda: call(images=None), "images must be an array of numbers, got None"),
    "a tensor with gradient": M(lambda: call(images=Tensor()), "give images.detach().cpu().numpy()"),
    "shapes": M(
        lambda: call(images=jax.ShapeDtypeStruct((3, 8, 8, 3), float)), "jax.eval_shape(lambda images"
    ),
    "a photograph": M(
        lambda: call(images=np.zeros((9, 9, 3), np.uint8)), "uint8; use model.spec.preprocess(photo)"
    ),
    "traced images in a list": M(
        lambda: jax.jit(lambda x: call(images=[x, x, x]))(IMAGES[0]),
        "images must be one array ... jnp.stack(images)",
    ),
    # The targets.
    "names": M(lambda: call(targets=["tabby"] * 3), "targets are strings: model.spec.class_index(name)"),
    "a name": M(lambda: call(targets="tabby"), "targets are strings: model.spec.class_index(name)"),
    "names of classes": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, ["tabby"]),
        "classes are strings: model.spec.class_index",
    ),
    "one number": M(lambda: call(targets=1), "targets must be 3 class indices ... give [target] * 3"),
    "a column": M(lambda: call(targets=[[0], [1], [2]]), "got shape (3, 1) ... give targets.reshape(-1)"),
    "no targets": M(lambda: call(targets=None), "targets must be an array of numbers, got None"),
    "floats of classes": M(
        lambda: call(targets=[0.0, 1.0, 2.0]), "whole numbers ... of class indices give targets.astype(int)"
    ),
    "one row of weights": M(
        lambda: call(images=IMAGES[:1], targets=np.ones(CLASSES)), "got shape (10,) ... give targets[None]"
    ),
    "several classes": M(
        lambda: call(targets=[[0, 1], [1, 2], [2, 3]]),
        "explain_classes explains several ... of weights, also one-hot ones, give targets.astype(float)",
    ),
    "one-hot": M(lambda: call(targets=np.eye(CLASSES, dtype=int)[:3]), "one-hot ones, give targets.astype"),
    "one-hot, booleans": M(lambda: call(targets=np.eye(CLASSES)[:3] > 0), "of bool ... astype(float)"),
    "flags": M(lambda: call(targets=[True, False, True]), "whole numbers ... got shape (3,) of bool"),
    "beyond 32 bits": M(
        lambda: call(targets=[2**32 + 1, 0, 0]),
        "targets hold the number 4294967297, which is out of the range",
    ),
    "classes beyond 32 bits": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [1, -(2**32)]), "classes hold the number -4294967296"
    ),
    "no class": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [[]]), "classes must be ... shape (3, 1, 0)"
    ),
    "objects": M(lambda: call(targets=np.asarray([1, 2, None])), "targets must be an array of numbers"),
    "complex": M(lambda: call(targets=np.ones((3, CLASSES), complex)), "which are floating"),
    "a class twice": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [[0, 1], [2, 2], [3, 4]]),
        "image 1 has the class 2 twice",
    ),
    "a class of all twice": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [1, 2, 1]), "image 0 has the class 1 twice"
    ),
    "one-hot classes": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, np.eye(CLASSES, dtype=int)[:3]),
        "the class 0 twice ... of one-hot rows give targets.argmax(axis=1)",
    ),
    "flags of classes": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, np.eye(CLASSES)[:3] > 0),
        "weights ... .astype(float)",
    ),
    "evaluate: weights": M(
        lambda: evaluate(np.ones((3, CLASSES)) / CLASSES),
        "sample '0' has the target 0.1: give the index ... floating numbers are weights",
    ),
    "evaluate: floats": M(lambda: evaluate([0.0, 1.0, 2.0]), "target 0.0: give the index, a whole number"),
    "evaluate: flags": M(lambda: evaluate([True, False, True]), "has the target True: give the index"),
    "evaluate: a class twice": M(
        lambda: evaluate([(1, 2), (3, 3), (0, 1)]), "the image '1' has the class 3 twice"
    ),
    "evaluate: one-hot": M(
        lambda: evaluate(np.eye(CLASSES, dtype=int)[:3]), "class 0 twice ... give targets.argmax(axis=1)"
    ),
    "evaluate: one-hot rows of two classes": M(
        lambda: evaluate(np.eye(2, dtype=int)[[0, 1, 0]], network=gated((function, jnp.ones((3, 2))))),
        "may be a one-hot row: of such rows give targets.argmax(axis=1), and for both classes ... 'class 1')",
    ),
    "evaluate: two names of a class": M(
        lambda: evaluate([(1, "class 1"), 1, 2]), "the image '0' has the class 1 twice"
    ),
    "evaluate: nested": M(
        lambda: evaluate([[[1, 2]], [[1, 2]], [[3, 4]]]), "sample '0' has the target [1, 2]: give"
    ),
    "evaluate: one target": M(lambda: evaluate(1), "with a target for each ... and 1 targets"),
    "evaluate: a name": M(lambda: evaluate("cat"), "with a target for each ... and 1 targets"),
    # An evaluation.
    "evaluate: grey": M(
        lambda: evaluate(images=IMAGES[..., :1]),
        "the image '0': the network does not ... it takes 3 channels",
    ),
    "evaluate: channels first": M(lambda: evaluate(images=FIRST), "the image '0': ... channels come last"),
    "evaluate: too small": M(
        lambda: evaluate(images=IMAGES[:, :1, :1]), "the image '0': the image is too small for this network"
    ),
    "evaluate: one too small": M(
        lambda: dmbp_jax.evaluate(
            (APPLY, PARAMS),
            [ArraySample(IMAGES[0], 1), ArraySample(IMAGES[1, :1], 1, name="flat")],
            methods="gradient",
        ),
        "the image 'flat': the image is too small",
    ),
    "evaluate: sizes": M(
        lambda: evaluate(images=[np.ones((8, 8, 3)), np.ones((4, 8, 3)), np.ones((8, 8, 3))]),
        "different shapes, (8, 8, 3), (4, 8, 3): give ArraySample(image, target) for each",
    ),
    "evaluate: a function": M(
        lambda: evaluate(network=(function, jnp.ones((3, 2)))), "function takes no rule= ... gated"
    ),
    "evaluate: names of classes": M(
        lambda: evaluate(classes=["cat", "dog"]), "10 logits and 2 names of classes: give a name for each"
    ),
    "evaluate: no samples": M(
        lambda: evaluate(samples=None), "samples must be (images, targets) ... got None"
    ),
    "evaluate: an option that is none": M(
        lambda: evaluate(per_klass=2), "unknown option of evaluate 'per_klass': did you mean 'per_class'?"
    ),
    "evaluate: boxes": M(
        lambda: evaluate(samples=[ArraySample(IMAGES[0], 1, boxes=[(1, 2, 3, 4)])]),
        "must be a Box(label, left",
    ),
    "evaluate: no method": M(lambda: evaluate(methods=None), "method must be a name ... got None"),
    "evaluate: no metric": M(lambda: evaluate(metrics=[]), "no metric given"),
    "evaluate: a metric that is none": M(lambda: evaluate(metrics=3), "metric must be a name ... got an int"),
    "evaluate: what makes methods": M(
        lambda: evaluate(methods=attribution.noise_tunnel), "call it, as in noise_tunnel(gradient)"
    ),
    **{
        f"evaluate: {name} {value!r}": M(
            functools.partial(evaluate, **{name: value}), f"{name} must be {said}"
        )
        for name, value, said in (
            ("batch_size", None, "a whole number, got None"),
            ("batch_size", 2.0, "a whole number, got 2.0"),
            ("limit", "3", "a whole number, got '3'"),
            ("per_class", 1.5, "a whole number, got 1.5"),
            ("gallery", True, "a whole number, got True"),
            ("grid", None, "a whole number, got None"),
            ("seed", 2**63, "below 2 ** 63"),
            ("folder", 3, "a path or None, got an int"),
            ("preprocess", "x", "a dmbp_jax.images.Preprocess, got a str"),
            ("processes", 3, "of join_processes, or None, got an int"),
        )
    },
    # The sites.
    "sites: grey": M(lambda: find_sites(APPLY, PARAMS, IMAGES[0, ..., :1]), "the layer takes 3 channels"),
    "sites: images": M(lambda: find_sites(APPLY, PARAMS, IMAGES), "without batch axis ... give images[0]"),
    "sites: no image": M(lambda: find_sites(APPLY, PARAMS, None), "image must be an array ... got None"),
    "sites: bytes": M(
        lambda: find_sites(APPLY, PARAMS, np.zeros((8, 8, 3), np.uint8)), "must be floating point, got uint8"
    ),
    "sites: half": M(
        lambda: find_sites(APPLY, PARAMS, IMAGES[0].astype("float16")), "give images.astype('float32')"
    ),
    "sites: swapped": M(lambda: find_sites(PARAMS, APPLY, IMAGES[0]), "apply must be a function, got a dict"),
    "sites: a pair": M(lambda: find_sites((APPLY, PARAMS), IMAGES[0]), "find_sites(*network, images, ...)"),
    "sites: no rule": M(
        lambda: find_sites(function, jnp.ones((3, 2)), IMAGES[0]), "takes no rule= ... gated("
    ),
    # Precision and size.
    "half images": M(
        lambda: call(images=IMAGES.astype("float16")),
        "does not take images of float16: its parameters are float32 ... give images.astype('float32')",
    ),
    "half parameters": M(
        lambda: call(APPLY, jax.tree.map(lambda leaf: leaf.astype("bfloat16"), PARAMS)),
        "its parameters are bfloat16 and the images float32: give images.astype('bfloat16')",
    ),
    "too small": M(
        lambda: call(images=IMAGES[:, :1, :1]), "too small for this network ... use larger images"
    ),
    # Messages name the method that was asked for.
    "random": M(lambda: call(method="random"), "draws a map: give key=jax.random.key(0)"),
    "random_map": M(lambda: call(method="random_map"), "unknown method 'random_map': it is 'random'"),
    **{
        f"{name} of a vector": M(
            functools.partial(of_vectors, name), f"{name} explains images (h, w, c) only"
        )
        for name in ("guided_grad_cam", "grad_cam", "selective_norm_grad", "norm_grad", "random")
    },
    "ragged": M(lambda: call(targets=[[1, 2], [3]]), "targets must be one array of numbers"),
    # The method and its options.
    "GradCAM": M(lambda: call(method="GradCAM"), "unknown method 'GradCAM': did you mean 'grad_cam'?"),
    "capitals": M(lambda: call(method="DMBP"), "did you mean 'dmbp'?"),
    "a preset": M(lambda: call(method="fast"), "'fast' is a preset of the method 'dmbp': preset='fast'"),
    "a variant": M(lambda: call(method="dmbp_posneg"), "explain takes dmbp, objective='posneg'"),
    "a module": M(
        lambda: call(method=attribution), "method must be a name ... got the module dmbp_jax.attribution"
    ),
    "a class": M(
        lambda: call(method=types.SimpleNamespace), "method must be a name ... got the class SimpleNamespace"
    ),
    "a list of methods, classes": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [0], ["gradient"]),
        "method must be a name ... got a list",
    ),
    "no method": M(lambda: call(method=None), "method must be a name ... got None"),
    "what makes methods": M(
        lambda: call(method=attribution.noise_tunnel),
        "noise_tunnel is no method( ... call it, as in noise_tunnel(gradient)",
    ),
    "option of none": M(lambda: call(method="gradient", steps=3), "gradient has no options, got steps"),
    "a float of steps": M(
        lambda: call(method="integrated_gradients", n_steps=3.0), "n_steps must be a whole number, got 3.0"
    ),
    "a string of steps": M(
        lambda: call(method="integrated_gradients", n_steps="3"), "n_steps must be a whole number, got '3'"
    ),
    "a string of noise": M(
        lambda: call(method="smoothgrad", noise_level="low", key=jax.random.key(0)),
        "noise_level must be a number",
    ),
    "baseline None": M(
        lambda: call(method="integrated_gradients", baseline=None),
        "baseline cannot be None ... default, 'zero'",
    ),
    "baseline list": M(
        lambda: call(method="integrated_gradients", baseline=[0, 0, 0]),
        "string, flag or an array, got a list",
    ),
    # Options of metrics and figures.
    "a float of steps of a metric": M(
        lambda: insertion(probabilities, IMAGES[0], IMAGES[0, ..., 0], 1, n_steps=2.5),
        "n_steps must be a whole number, got 2.5",
    ),
    "a float of a chunk": M(
        lambda: insertion(probabilities, IMAGES[0], IMAGES[0, ..., 0], 1, perturbations_per_eval=2.5),
        "perturbations_per_eval must be a whole number, got 2.5",
    ),
    "a float of cells": M(
        lambda: grid_pointing_game(np.ones((8, 8)), grid=2.5, cell=0), "grid must be a whole number, got 2.5"
    ),
    "a word among shares": M(
        lambda: road(probabilities, IMAGES[0], IMAGES[0, ..., 0], 1, key=jax.random.key(0), shares=("half",)),
        "each of shares must be in (0, 1), got 'half'",
    ),
    "a word for a number of a figure": M(lambda: Style(alpha="half"), "alpha must be in [0, 1], got 'half'"),
    "a radius without end": M(
        lambda: max_sensitivity(lambda x: x, IMAGES[0], IMAGES[0], key=jax.random.key(0), radius=np.inf),
        "radius must be finite and at least 0, got inf",
    ),
    # Everything else.
    "key: number": M(
        lambda: call(method="smoothgrad", key=0),
        "a random key, jax.random.key(0), or one ... got an int",
    ),
    "key: Rngs": M(lambda: call(method="smoothgrad", key=nnx.Rngs(0)), "jax.random.key(0) ... got a Rngs"),
    "key: several": M(
        lambda: call(method="smoothgrad", key=jax.random.split(jax.random.key(0), 2)),
        "got 3 images but 2 keys",
    ),
    "key: floats": M(lambda: call(method="smoothgrad", key=jnp.zeros(2)), "got shape (2,) of float32"),
    "batch_size 2.0": M(lambda: call(batch_size=2.0), "batch_size must be a whole number, got 2.0"),
    "batch_size True": M(lambda: call(batch_size=True), "batch_size must be a whole number, got True"),
    "classes_at_once 2.0": M(
        lambda: explain_classes(APPLY, PARAMS, IMAGES, [0], classes_at_once=2.0),
        "classes_at_once must be a whole",
    ),
    "devices": M(lambda: call(mesh=jax.devices()), "mesh must be a jax.sharding.Mesh or None, got a list"),
    "on_step": M(lambda: call(on_step=True), "on_step must be a function on_step(done, total)"),
    # What is gated.
    "gated: two": M(
        lambda: gated(Linen(), linen_variables()),
        "takes one argument, the network: gated((module, variables))",
    ),
    "gated: swapped": M(
        lambda: gated((linen_variables(), Linen())), "the other way round: give gated((module, variables))"
    ),
    "gated: class": M(lambda: gated(Nnx), "got the class Nnx: give an object of it"),
    "gated: model": M(
        lambda: gated(Model(APPLY, PARAMS, None)), "takes a rule as it is: explain(model.apply"
    ),
    "gated: PyTorch": M(lambda: gated(TorchModule()), "got a TorchModule of PyTorch: only JAX networks"),
    "gated: state left out": M(
        lambda: gated(equinox_network()[0]), "takes a state: give gated((model, state))"
    ),
    "gated: training, state": M(lambda: of_gated(equinox_network(), layout="NCHW"), "inference_mode(model)"),
    "gated: training, key": M(
        lambda: of_gated(eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Lambda(Channels())]), layout="NCHW"),
        "draws random numbers ... inference_mode(model)",
    ),
    "gated: train left out": M(
        lambda: of_gated((WithTrain(), WithTrain().init(jax.random.key(0), IMAGES, False))),
        "missing 1 required positional argument: 'train': give a function",
    ),
    # Beside them.
    "a method of other packages": M(
        lambda: call(APPLY, method="lrp"), "is not here; 'lpr' is another method"
    ),
    "a contrast of names": M(
        lambda: dmbp_jax.contrast("tabby", 1, classes=CLASSES),
        "a class is an index, got 'tabby': model.spec.class_index(name)",
    ),
    "a contrast of floats": M(
        lambda: dmbp_jax.contrast(1.0, 2, classes=CLASSES), "a class is a whole number from 0 to 9, got 1.0"
    ),
    "a total of floats": M(
        lambda: targets.total([1.0], classes=CLASSES), "a class is a whole number from 0 to 9, got 1.0"
    ),
    "a total of one": M(
        lambda: targets.total(3, classes=CLASSES), "targets must be some of the classes 0 to 9, got 3"
    ),
    "an element of floats": M(
        lambda: targets.element((2, 3), 1.0, 0), "an element's indices are whole numbers, got (1.0, 0)"
    ),
    "a name that is a number": M(
        lambda: dmbp_jax.register_method(dmbp_jax.METHODS["gradient"], name=3),
        "a method needs a name of letters, digits and any of _ . + -, got 3: give name=",
    ),
    "several photographs at once": M(
        lambda: Preprocess()(["a.jpg", "b.jpg"]),
        "a path, an image or an array, got a list: give one at a time",
    ),
}


def outcome(make: Callable[[], Any]) -> list[str]:
    """The kind of error and its message."""
    try:
        make()
    except InputError as error:
        return [InputError.__name__, str(error)]
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


if __name__ == "__main__":
    assert dmbp_jax.InputError.__name__ == "InputError"
    print(json.dumps({name: outcome(mistake.make) for name, mistake in MISTAKES.items()}))
