"""State dicts: what does not fit is refused by tensor, what fits becomes the parameters of slow oracles."""

import jax
import numpy as np
import pytest
from state_dicts import NORM, TINY, random_state, refuse

from dmbp_jax.models._checkpoints import check_state_dict, to_params
from dmbp_jax.models._layers import LayerShape


def replaced(name: str, tensor: np.ndarray):
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("change", "tensor", "problem"),
    [
        (lambda s: {k: s[k] for k in s if k != "features.0.bias"}, "features.0.bias", "is missing"),
        (lambda s: {k: s[k] for k in s if k != "stem.bn.running_var"}, "stem.bn.running_var", "is missing"),
        (lambda s: {k: s[k] for k in s if k != "classifier.3.weight"}, "classifier.3.weight", "is missing"),
        (replaced("stem.conv.bias", np.zeros(4, np.float32)), "stem.conv.bias", "is unexpected"),
        (replaced("extra", np.zeros(1, np.float32)), "extra", "is unexpected"),
        (replaced("features.0.weight", np.zeros((2, 4), np.float32)), "features.0.weight", "(2, 4, 1, 1)"),
        (replaced("classifier.3.bias", np.zeros(4, np.float32)), "classifier.3.bias", "(3,), got (4,)"),
        (replaced("classifier.3.weight", np.zeros((), np.float32)), "classifier.3.weight", "got ()"),
        (replaced("classifier.3.weight", np.zeros((0, 5), np.float32)), "classifier.3.weight", "got (0, 5)"),
        (replaced("features.0.bias", np.array([0, np.nan], np.float32)), "features.0.bias", "NaN"),
        (replaced("stem.bn.bias", np.full(4, np.inf, np.float32)), "stem.bn.bias", "infinite"),
        (replaced("features.0.bias", np.zeros(2, np.int32)), "features.0.bias", "floating point, got int32"),
        (replaced("features.0.bias", np.zeros(2, bool)), "features.0.bias", "floating point, got bool"),
        (replaced("features.0.bias", np.zeros(2, complex)), "features.0.bias", "got complex128"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_tensor_and_file(change, tensor, problem):
    message = refuse(check_state_dict, change(random_state(TINY)), TINY, "some/file.pth")
    assert message.startswith(f"some/file.pth, as tiny: tensor {tensor} ")
    assert problem in message
    assert "\n" not in message


def test_several_missing_tensors_are_counted():
    assert "(and 10 more)" in refuse(check_state_dict, {}, TINY, "f")


def test_what_was_done_to_a_network_is_said_where_its_tensors_tell():
    state = random_state(TINY)
    pruned = {name: tensor for name, tensor in state.items() if name != "features.0.weight"}
    for parts in (
        ("features.0.weight_orig", "features.0.weight_mask"),
        ("features.0.weight_g", "features.0.weight_v"),
        ("features.0.parametrizations.weight.original0", "features.0.parametrizations.weight.original1"),
    ):
        message = refuse(check_state_dict, pruned | dict.fromkeys(parts, np.ones(1)), TINY, "f")
        assert f"features.0.weight is missing: it is in parts, {', '.join(parts)}; make " in message
    fused = {name: tensor for name, tensor in state.items() if not name.startswith("stem.bn.")}
    message = refuse(check_state_dict, fused | {"stem.conv.bias": np.ones(4, np.float32)}, TINY, "f")
    assert message.endswith(
        "its layers are fused or quantised, it seems; port the checkpoint from before that"
    )


def test_batch_counts_are_ignored():
    state = random_state(TINY) | {"stem.bn.num_batches_tracked": np.array(7)}
    layers = check_state_dict(state, TINY, "f")
    assert "num_batches_tracked" not in to_params(state, layers, "f")["stem"]


@pytest.mark.parametrize("classes", [1, 20, 1000])
def test_any_number_of_classes_fits(classes):
    assert check_state_dict(random_state(TINY, classes), TINY, "f")[-1].weight == (classes, 5)


@pytest.mark.parametrize("variance", [-1.0, 1e-45])
def test_folding_that_is_not_finite_is_refused_by_layer_and_file(variance):
    layer = LayerShape("conv", (1, 1, 1, 1), bias=False, batch_norm="bn")
    state = {name: np.full(1, 3e38, np.float32) for name in ("bn.weight", "bn.bias", "bn.running_mean")}
    state |= {"conv.weight": np.ones((1, 1, 1, 1), np.float32), "bn.running_var": np.float32([variance])}
    assert refuse(to_params, state, [layer], "f.pth") == "f.pth: folding bn into conv is not finite"


# Parameters, by slow oracles.


def test_folded_batch_norm_equals_convolution_then_batch_norm():
    state = {name: tensor.astype(np.float64) for name, tensor in random_state(TINY).items()}
    state["stem.bn.weight"] *= [1, -1, 0, 1]
    state["stem.bn.running_var"] *= [1, 1, 1, 1e-6]
    state = {name: tensor.astype(np.float32) for name, tensor in state.items()}
    layer = to_params(state, tuple(TINY.layout(3)), "f")["stem"]["conv"]
    patch = np.random.default_rng(1).standard_normal((3, 3, 3))  # channels, rows, columns
    for out in range(4):
        z = sum(
            float(state["stem.conv.weight"][out, c, y, x]) * patch[c, y, x] for c, y, x in np.ndindex(3, 3, 3)
        )
        scale, offset, mean, variance = (float(state[f"stem.bn.{name}"][out]) for name in NORM)
        expected = (z - mean) / (variance + 1e-5) ** 0.5 * scale + offset
        actual = layer["bias"][out] + sum(
            float(layer["kernel"][y, x, c, out]) * patch[c, y, x] for c, y, x in np.ndindex(3, 3, 3)
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_linear_layer_on_a_map_takes_it_channels_last():
    state = random_state(TINY)
    kernel = to_params(state, tuple(TINY.layout(3)), "f")["classifier"]["0"]["kernel"]
    maps = np.random.default_rng(1).standard_normal((2, 3, 3))  # channels, rows, columns
    for out in range(5):
        expected = sum(
            float(state["classifier.0.weight"][out, c * 9 + y * 3 + x]) * maps[c, y, x]
            for c, y, x in np.ndindex(2, 3, 3)
        )
        actual = maps.transpose(1, 2, 0).reshape(-1) @ kernel[:, out].astype(np.float64)
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_plain_layers_are_turned_and_nothing_else():
    state = random_state(TINY)
    params = to_params(state, tuple(TINY.layout(3)), "f")
    np.testing.assert_array_equal(params["classifier"]["3"]["kernel"], state["classifier.3.weight"].T)
    np.testing.assert_array_equal(params["classifier"]["3"]["bias"], state["classifier.3.bias"])
    kernel = params["features"]["0"]["kernel"]
    assert all(kernel[0, 0, i, o] == state["features.0.weight"][o, i, 0, 0] for i, o in np.ndindex(4, 2))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
