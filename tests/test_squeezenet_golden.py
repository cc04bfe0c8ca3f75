"""The embedded network against `squeezenet_dmbp.npz`.

These numbers come from an independent PyTorch 2.14 program (see the design page, section 6), on eight of the
shared photographs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax.ops import _pool as pool
from dmbp_jax.rules import Masked, Plain, linearize

pytestmark = pytest.mark.usefixtures("fully_optimized")

RUNS = {
    "all": {},
    "posneg": {"objective": "posneg"},
    "positive": {"objective": "positive"},
    "all_lr0.1": {"learning_rate": 0.1},
}
CLOSE = 20
"""Steps over which the scores agree tightly; later ones drift apart, rounding being amplified."""


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "reference" / "squeezenet_dmbp.npz")


@pytest.fixture(scope="module")
def model():
    return dmbp_jax.load_model("squeezenet1_1")


@pytest.fixture(scope="module")
def images(model, golden):
    return jnp.stack([model.spec.preprocess.normalize(rgb) for rgb in golden["rgb"]])


def test_logits(model, images, golden):
    logits = jax.jit(model.apply)(model.params, images)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-3, rtol=0)


def test_gradients_but_for_gates_that_rounding_decides(model, images, golden):
    """The gradient to 1e-4 of its norm, once at most one gate of an image has been turned.

    A gate whose pre-activation is zero up to float32 rounding (or a pool whose two best elements are equal
    so) opens in one program and not in the other; the gradient is discontinuous there. Turning that one gate
    must explain the whole difference. (Seen: 5 of 8 photographs agree as they are, to 1e-6, and one gate or
    pool choice each explains the other three.)
    """
    undecided = {}

    @jax.jit
    def gradient(image, at, target):
        return jax.grad(lambda x: model.apply(model.params, x[None], rule=Masked(at, {}))[0][target])(image)

    for i, (image, target) in enumerate(zip(images, golden["target"], strict=True)):
        _, at = linearize(model.apply, model.params, image)
        expected = golden["gradient"][i]

        def off(at, image=image, target=target, expected=expected):
            return np.linalg.norm(gradient(image, at, target) - expected) / np.linalg.norm(expected)

        if off(at) > 1e-4:
            turned = map(off, turned_at_rounding(model, image, at))
            undecided[i] = next((error for error in turned if error < 1e-4), None)
    assert len(undecided) <= 3
    assert None not in undecided.values(), undecided


def turned_at_rounding(model, image, at):
    """The linearizations with one gate or pool choice turned that lies within float32 rounding of a tie."""
    seen = Watch({}, {})
    model.apply(model.params, image[None], rule=seen)
    for site, z in seen.z.items():
        near = np.abs(z) < 3e-7 * np.abs(z).max()
        for place in map(tuple, np.argwhere(near)):
            gate = at.gates[site].at[place].set(~at.gates[site][place])
            yield at._replace(gates={**at.gates, site: gate})
    for site, (h, window) in seen.h.items():
        elements = np.stack(pool.pool_windows(h, window, fill=-jnp.inf))
        order = np.argsort(elements, axis=0, kind="stable")
        best, second = (np.take_along_axis(elements, order[k][None], 0)[0] for k in (-1, -2))
        # Equal elements, as flat parts of a photograph have them, are decided alike: the first one.
        near = (best > second) & (best - second < 3e-7 * best.max())
        for place in map(tuple, np.argwhere(near)):
            chosen = int(at.selections[site][place])
            other = next(int(k) for k in order[(slice(-2, None), *place)] if k != chosen)
            selection = at.selections[site].at[place].set(np.uint8(other))
            yield at._replace(selections={**at.selections, site: selection})


class Watch(Plain):
    """The plain rule, keeping what every nonlinearity is given."""

    def __init__(self, z, h):
        object.__setattr__(self, "z", z)
        object.__setattr__(self, "h", h)

    def relu(self, site, z):
        self.z[site] = z
        return super().relu(site, z)

    def max_pool(self, site, h, window):
        self.h[site] = (h, window)
        return super().max_pool(site, h, window)


@pytest.mark.long
@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=() if run == "all_lr0.1" else pytest.mark.long) for run in RUNS],
)
def test_scores_follow_the_reference_and_final_maps_correlate(model, images, golden, run):
    """The whole run: 200 steps, 50 or 10."""
    a = dmbp_jax.explain(
        model.apply,
        model.params,
        images[:4],
        golden["target"][:4],
        steps=len(golden[f"{run}/y_pos"]) - 1,
        return_history=True,
        **RUNS[run],
    )
    for part, name in ((a.history.positive, "y_pos"), (a.history.negative, "y_neg")):
        history, expected = np.asarray(part).T, golden[f"{run}/{name}"]
        assert history.shape == expected.shape
        np.testing.assert_allclose(history[: CLOSE + 1], expected[: CLOSE + 1], rtol=1e-3, atol=1e-5)
    positive, negative = golden[f"{run}/map_pos"], golden[f"{run}/map_neg"]
    for i, heatmap in enumerate(a.heatmap):
        assert correlation(heatmap, positive[i] + negative[i]) > 0.95
        assert correlation(a.positive[i].sum(-1), positive[i]) > 0.95
        assert correlation(a.negative[i].sum(-1), negative[i]) > 0.95


def correlation(one, other):
    return np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]
