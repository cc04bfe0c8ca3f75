"""The optimiser is its formula, and nothing but it."""

import jax.numpy as jnp
import numpy as np
import pytest

from dmbp_jax.dmbp._config import DMBPConfig
from dmbp_jax.dmbp._optimization import optimize
from dmbp_jax.ops._programs import run_loop
from dmbp_jax.result import Scores


@pytest.mark.parametrize("eps", [1e-8, 0.5])
def test_rmsprop_follows_pytorchs_formula(eps):
    """y+ = sum of squares, to be made large: the gradient at theta is -2 theta."""
    start = np.asarray([0.5, -3.0, 0.0])
    config = DMBPConfig(steps=7, learning_rate=0.3, decay=0.9, eps=eps)

    def gradient(thetas):
        positive = (thetas["site"] ** 2).sum()
        return {"site": -2 * thetas["site"]}, Scores(jnp.asarray(0.0), positive, jnp.asarray(0.0), -positive)

    thetas, history = run_loop(optimize(gradient, {"site": jnp.asarray(start, jnp.float32)}, config))

    theta, v, expected = start.copy(), np.zeros(3), []
    for _ in range(7):
        expected.append((theta**2).sum())
        gradient = -2 * theta
        v = 0.9 * v + 0.1 * gradient**2
        theta = theta - 0.3 * gradient / (np.sqrt(v) + eps)
    np.testing.assert_allclose(thetas["site"], theta, rtol=1e-5)
    np.testing.assert_allclose(history.positive, expected, rtol=1e-5)
