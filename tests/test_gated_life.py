"""A gated network in a long program: what is compiled again, what is let go, and what JAX is set to."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dmbp_jax
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.ops._programs import KEPT
from dmbp_jax.rules import find_sites

CLASSES = 5


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.scores = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.scores(nnx.relu(self.conv(x)).mean((1, 2)))


class Equinox(equinox.Module):
    conv: equinox.nn.Conv2d
    scores: equinox.nn.Linear

    def __init__(self, key):
        self.conv = equinox.nn.Conv2d(3, 4, 3, key=key)
        self.scores = equinox.nn.Linear(4, CLASSES, key=key)

    def __call__(self, x):
        return self.scores(jax.nn.relu(self.conv(x)).mean((1, 2)))


class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(CLASSES)(flax.linen.relu(flax.linen.Conv(4, (3, 3))(x)).mean((1, 2)))


def make(library, seed):
    if library == "nnx":
        return dmbp_jax.gated(Nnx(nnx.Rngs(seed)))
    if library == "equinox":
        return dmbp_jax.gated(Equinox(jax.random.key(seed)), layout="NCHW")
    module = Linen()
    return dmbp_jax.gated((module, module.init(jax.random.key(seed), jnp.zeros((1, 6, 6, 3)))))


IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("library", ["nnx", "linen", "equinox"])
def test_gated_after_every_epoch_compiles_once_and_keeps_no_network(library):
    leaves, maps, programs = [], [], []
    for epoch in range(3):
        apply, params = make(library, epoch)
        leaves += [weakref.ref(leaf) for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)]
        with count_compile_time() as compiled:
            maps.append(np.asarray(dmbp_jax.explain(apply, params, IMAGES, [1, 2], "gradient").values))
        programs.append([name for name in compiled.programs if "explain" in name])
        del apply, params
    gc.collect()
    assert [len(names) for names in programs] == [1, 0, 0]
    assert np.abs(maps[0] - maps[1]).max() > 0
    assert len(leaves) >= 12
    assert all(leaf() is None for leaf in leaves)


@pytest.mark.long
def test_of_many_functions_the_last_are_kept():
    functions = []
    for number in range(KEPT + 6):

        def network(params, x, number=number):
            return jax.nn.relu(x.mean((1, 2)) @ params) + number

        functions.append(weakref.ref(network))
        gated = dmbp_jax.gated((network, jnp.ones((3, CLASSES))))
        dmbp_jax.explain(*gated, IMAGES, [1, 2], "gradient")
        del network, gated
    gc.collect()
    alive = [function() is not None for function in functions]
    assert sum(alive) <= KEPT
    assert alive[-1]


def test_a_plan_is_for_what_jax_is_set_to():
    apply, params = make("nnx", 0)
    image = jnp.asarray(IMAGES[0])

    def precisions():
        program = str(jax.make_jaxpr(lambda x: apply(params, x[None]))(image))
        return program.count("HIGHEST")

    assert precisions() == 0
    with jax.default_matmul_precision("highest"):
        assert precisions() > 0
    assert precisions() == 0


def test_stacked_and_unstacked_arrays_are_linear():
    """Operations of their own since JAX 0.12."""

    def network(params, x):
        first, second = jnp.unstack(jnp.stack([x, 2 * x], axis=1), axis=1)
        return jax.nn.relu(first + second).mean((1, 2))

    apply, params = dmbp_jax.gated((network, {}))
    np.testing.assert_allclose(apply(params, jnp.asarray(IMAGES)), network({}, IMAGES), rtol=1e-6)
    assert [site.name for site in find_sites(apply, params, jnp.asarray(IMAGES[0]))] == ["relu"]


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = (nnx.Conv(i, 8, (3, 3), rngs=rngs) for i in (3, 8))
        self.group = nnx.GroupNorm(8, num_groups=4, rngs=rngs)
        self.layer = nnx.LayerNorm(8, rngs=rngs)
        self.scores = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.group(self.first(x)))
        return self.scores(nnx.relu(self.layer(self.second(x))).mean((1, 2)))


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_the_guard_of_a_normalisation_is_no_relu_and_deeplift_adds_up_through_it():
    """flax keeps a variance above zero with `max(variance, 0)`."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        apply, params = dmbp_jax.gated(Normalised(nnx.Rngs(0)), linearize_smooth=True)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        images = jnp.asarray(IMAGES, jnp.float64)
        sites = [site.name for site in find_sites(apply, params, images[0]) if site.kind == "relu"]
        a = dmbp_jax.explain(apply, params, images, [1, 2], "deeplift")
        logits = apply(params, images)
        start = apply(params, jnp.zeros_like(images))
    assert sites == ["relu", "relu_2"]
    expected = np.asarray([logits[0, 1] - start[0, 1], logits[1, 2] - start[1, 2]])
    np.testing.assert_allclose(a.values.sum((1, 2, 3)), expected, rtol=1e-8)
    np.testing.assert_allclose(a.convergence_delta, 0, atol=1e-8)


DEVICES = """
import sys, warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from small import draw_images, tiny_network
import dmbp_jax
apply, params, _ = tiny_network()
mesh = jax.make_mesh((4,), ("x",))
assert "Explicit" in str(mesh.axis_types)
x, t = jnp.asarray(draw_images(4, 8, 8, 3), jnp.float64), jnp.asarray([0, 1, 2, 0])
params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
there = NamedSharding(mesh, P("x"))
divided, divided_t = jax.device_put(x, there), jax.device_put(t, there)
OPTIONS = {"dmbp": {"steps": 2}, "lpr": {"n_steps": 2}, "integrated_gradients": {"n_steps": 2}}
OPTIONS |= {"blur_integrated_gradients": {"n_steps": 2}, "smoothgrad": {"n_samples": 2, "noise_level": 0.0}}
same = lambda got, like: np.testing.assert_allclose(got, like, rtol=0, atol=1e-8 * np.abs(like).max())
for method in sys.argv[1:]:
    def run(x, t, **more):
        options = OPTIONS.get(method, {})
        return dmbp_jax.explain(apply, params, x, t, method, key=jax.random.key(0), **options, **more).values
    expected = np.asarray(run(x, t))
    for check in (True, False):
        shards = jax.shard_map(run, mesh=mesh, in_specs=(P("x"), P("x")), out_specs=P("x"), check_vma=check)
        same(jax.jit(shards)(divided, divided_t), expected)
    if method in ("gradient", "dmbp"):
        same(run(divided, t), expected)
        same(run(divided, t, batch_size=4), expected)
        same(run(divided, t, mesh=mesh), expected)
        inside = jax.jit(lambda x: run(x, t))(divided)
        same(inside, expected)
        assert inside.sharding.spec[0] == "x"
        with jax.set_mesh(mesh):
            for images in (divided, x):
                # What comes back can be computed with what went in.
                values = run(images, t)
                same(values * images / images, expected)
                same(run(images, t, batch_size=4), expected)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(("gradient", "grad_cam", "dmbp"), id="some"),
        pytest.param([m for m in dmbp_jax.METHODS if m != "rise"], id="all", marks=pytest.mark.long),
    ],
)
def test_images_on_explicit_axes_and_in_shard_map(methods):
    """RISE draws its masks for each device by itself, and so others."""
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, *methods],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        # In double precision: in single, Blur IG's differences of neighbouring blurs are of few digits.
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_ENABLE_X64": "true"}
        | {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))},
    )
    assert done.returncode == 0, done.stderr


def test_a_function_is_traced_for_one_image_and_for_two_whatever_the_batch():
    """How many images there are changes no program: methods run it on one; two tell which axis theirs is."""
    counts = []

    def network(params, x):
        counts.append(len(x))
        return jax.nn.relu(x @ params)

    apply, params = dmbp_jax.gated((network, jnp.ones((3, 2))))
    for images in (jnp.ones((5, 3)), jnp.ones((4, 3))):
        dmbp_jax.explain(apply, params, images, [0] * len(images), "gradient")
    assert counts == [1, 2]
