"""The sanity check and cascading randomisation of networks of every library, in an evaluation."""

import jax
import numpy as np
import pytest
from small import long_but
from zoo import CASES, user_settings

import dmbp_jax
from dmbp_jax import metrics
from dmbp_jax._gated import layer_parameters

NAMES = ("nnx resnet", "linen bottleneck resnet", "equinox cnn", "plain channels first")


@pytest.mark.parametrize("name", long_but(("plain channels first",), NAMES))
def test_the_layers_of_any_network_forget(name):
    case = next(case for case in CASES if case.name == name)
    with user_settings():
        apply, params = dmbp_jax.gated(case.build(), **case.options)
        images, targets = np.asarray(case.images(2)), [1, 2]
        chosen = {"methods": ["gradient_x_input"], "metrics": ["sanity", "cascade"], "progress": False}
        run = dmbp_jax.evaluate((apply, params), (images, targets), **chosen)
        rows = {(row.image, row.metric): row for row in run.rows()}
        # The same by hand: the class layer, and all layers from it on.
        layers = list(layer_parameters(apply, params, images[0]).values())[::-1]
        key = jax.random.key(0)

        def explain(params):
            return dmbp_jax.explain(apply, params, images, targets, "gradient_x_input").heatmap

        before = explain(params)
        first = explain(metrics.randomize_layers(key, params, layers[:1]))
        last = explain(metrics.randomize_layers(key, params, layers))
    for number in range(2):
        signed, absolute = metrics.rank_correlation(before[number], first[number])
        assert rows[str(number), "sanity"].value == pytest.approx(signed, abs=1e-3)
        assert rows[str(number), "sanity_abs"].value == pytest.approx(absolute, abs=1e-3)
        curve = rows[str(number), "cascade"].curve
        assert len(curve) == len(layers) > 2
        assert curve[0] == pytest.approx(signed, abs=1e-3)
        assert curve[-1] == pytest.approx(
            metrics.rank_correlation(before[number], last[number]).signed, abs=1e-3
        )
        assert abs(signed) < 0.999
