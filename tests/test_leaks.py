"""A long program: what is explained does not stay, and of many networks the last are kept."""

import gc
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax.attribution import layer_activation
from dmbp_jax.evaluation import _measures as measures
from dmbp_jax.evaluation import _own_metrics as own_metric
from dmbp_jax.metrics import Curve
from dmbp_jax.ops._programs import KEPT, forget_programs, kept_jit
from dmbp_jax.rules import PLAIN

CLASSES, NETWORKS = 5, KEPT + 2
IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)
STATM = Path("/proc/self/statm")


def new_network(number):
    """A function that equals no other, and parameters."""

    def apply(params, images, *, rule=PLAIN):
        h = rule.relu("relu", rule.affine("dense", images.mean((1, 2)) @ params + number, "filter"))
        return rule.affine("scores", h @ params.T @ params, "class")

    return apply, jnp.ones((3, CLASSES))


def explain(apply, params):
    dmbp_jax.explain(apply, params, IMAGES, [1, 2], "gradient")


def several_classes(apply, params):
    dmbp_jax.explain_classes(apply, params, IMAGES, [1, 2], "gradient")


def activation(apply, params):
    layer_activation(apply, params, IMAGES, "relu")


def curve(apply, params):
    image, heatmap = IMAGES[0], IMAGES[0, :, :, 0]
    found = measures._curve(
        params, image, heatmap, jnp.asarray(1), metric=curve_of_one, apply=apply, output=jax.nn.softmax
    )
    assert np.isfinite(found.auc)


def own(apply, params):
    own_metric._compiled(
        params, IMAGES[0], IMAGES[0, :, :, 0], jnp.asarray(1), {}, function=one_step, apply=apply,
        output=jax.nn.softmax, logits=False, static=(),
    )  # fmt: skip
    own_metric._logits(params, jnp.asarray(IMAGES), apply=apply)


def one_step(predict, image, heatmap, target):
    return predict((image * heatmap[:, :, None])[None])[0, target]


def curve_of_one(predict, image, heatmap, target):
    score = one_step(predict, image, heatmap, target)
    return Curve(score, score[None])


@pytest.mark.long
@pytest.mark.parametrize("use", [explain, several_classes, activation, curve, own])
def test_of_many_networks_the_last_are_kept(use):
    gc.collect()
    arrays, networks = len(jax.live_arrays()), []
    for number in range(NETWORKS):
        apply, params = new_network(number)
        networks.append(weakref.ref(apply))
        use(apply, params)
        del apply, params
    gc.collect()
    alive = [network() is not None for network in networks]
    assert sum(alive) <= KEPT
    assert alive[-1]
    # Of the networks' functions, which hold a number; their parameters and maps are gone.
    assert len(jax.live_arrays()) <= arrays + 5


def resident() -> float:
    """Megabytes of this process."""
    return int(STATM.read_text().split()[1]) * 4096 / 2**20


@pytest.mark.long
@pytest.mark.skipif(not STATM.exists(), reason="asks Linux for the memory of a process")
@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param("gradient", {"batch_size": 1}, id="chunks"),
        pytest.param("gradient", {"on_step": lambda *step: None}, id="steps"),
    ],
)
def test_after_200_calls_with_new_images_memory_is_what_it_was_after_20(method, options):
    """Images and maps of 3 MB: one array left behind by each call would be 500 MB."""
    network, random = new_network(0), np.random.default_rng(1)
    sizes, counts = {}, {}
    for call in range(200):
        images = random.random((1, 512, 512, 3), np.float32)
        a = dmbp_jax.explain(*network, images, [1], method, progress=False, **options)
        assert a.finite.all()
        del a
        if call % 20 == 19:
            gc.collect()
            sizes[call], counts[call] = resident(), len(jax.live_arrays())
    assert counts[199] <= counts[19]
    assert sizes[199] < sizes[19] + 100


def test_a_second_call_for_the_same_network_traces_nothing_and_all_can_be_let_go():
    traced = []

    def scaled(x, *, by):
        traced.append(by)
        return x

    program = kept_jit(scaled)
    for by in (2, 2.0, 2, True, 2.0):
        program(jnp.ones(3), by=by)
    assert traced == [2, 2.0, True]
    assert [type(one) for one in traced] == [int, float, bool]
    forget_programs()
    program(jnp.ones(3), by=2)
    assert len(traced) == 4
