"""A user's program, type-checked as such: a network, a rule and methods of one's own.

Uses every public name of `dmbp_jax`, `.attribution`, `.dmbp`, `.ops`, `.result`, `.rules`, `.targets` and
`.typing`.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np

import dmbp_jax as dmbp
from dmbp_jax import METHODS, explain, gated, layer_parameters, ops, targets
from dmbp_jax.attribution import (
    FullGradients,
    blur_integrated_gradients,
    deconvnet,
    deeplift,
    full_gradients,
    fullgrad,
    grad_cam,
    gradient,
    gradient_x_input,
    guided_backprop,
    guided_grad_cam,
    integrated_gradients,
    layer_activation,
    layer_gradient,
    layer_gradient_x_activation,
    lpr,
    meta_saliency,
    noise_tunnel,
    norm_grad,
    random_map,
    rise,
    selective_norm_grad,
    smoothgrad,
    virtual_identity,
)
from dmbp_jax.dmbp import PRESETS, DMBPConfig, SweepConfig, masked_sites, objective
from dmbp_jax.dmbp import dmbp as dmbp_method
from dmbp_jax.result import Attribution, Method, Scores
from dmbp_jax.rules import (
    ACTIVATIONS,
    PLAIN,
    Linearization,
    Masked,
    Plain,
    Site,
    biases_at,
    find_sites,
    lay_out,
    linearize,
    masked_gate,
    tap,
)
from dmbp_jax.typing import (
    Apply,
    Finite,
    Image,
    Images,
    Key,
    Keys,
    Logits,
    NonNegative,
    OnStep,
    OutputActivation,
    Params,
    Positive,
    Role,
    Rule,
    Target,
    Values,
    Window,
)

OUTPUT: OutputActivation = "softmax"
POOL = Window(size=2, stride=2)


def network(params: Params, images: Images, *, rule: Rule = PLAIN) -> Logits:
    """A convolution, a ReLU, a max-pool and a class layer, each of which asks the rule."""
    hidden: Role = "filter"
    z = ops.conv2d(images, params["conv"]["kernel"], params["conv"]["bias"], padding=1)
    h = rule.max_pool("pool", rule.relu("relu", rule.affine("conv", z, hidden)), POOL)
    flat = ops.adaptive_avg_pool(h, 1)[:, 0, 0]
    return rule.affine("fc", ops.linear(flat, params["fc"]["kernel"], params["fc"]["bias"]), "class")


def draw_params(key: Key) -> Params:
    """Random parameters, the batch-norm behind the convolution folded into it."""
    first, second = jax.random.split(key)
    norm = ops.BatchNorm(
        scale=np.full(4, 2.0, np.float32),
        offset=np.zeros(4, np.float32),
        mean=np.zeros(4, np.float32),
        variance=np.ones(4, np.float32),
    )
    drawn: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.array(
        jax.random.normal(first, (3, 3, 3, 4)), np.float32
    )
    kernel, bias = ops.fold_batch_norm(drawn, np.zeros(4, np.float32), norm)
    return {
        "conv": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)},
        "fc": {"kernel": jax.random.normal(second, (4, 3)), "bias": jnp.zeros(3)},
    }


@dataclasses.dataclass(frozen=True)
class Halved(Plain):
    """A rule of one's own: the plain one, with ReLUs of half the height."""

    factor: Positive = 0.5

    def relu(self, site: str, z: Values) -> Values:
        """Half of the ReLU."""
        return self.factor * super().relu(site, z)


def halved_gradient(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Keys | None = None,
    factor: Positive = 0.5,
    shift: Finite = 0.0,
    floor: NonNegative = 0.0,
) -> Attribution:
    """A method of one's own: the gradient under a rule of one's own."""
    del key
    tapped = tap(apply, params, image, target, (), rule=Halved(factor))
    values: jax.Array = jnp.where(abs(tapped.to_image) < floor, 0, tapped.to_image) + shift
    return Attribution(values=values, finite=jnp.isfinite(values).all())


@ops.iterative
def mean_of_noisy(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, n_samples: int = 2
) -> ops.Loop:
    """A method of one's own with a loop, whose progress is told."""
    key = jax.random.key(0) if key is None else key

    def step(total: jax.Array, number: jax.Array) -> jax.Array:
        noise = 0.1 * jax.random.normal(jax.random.fold_in(key, number), image.shape)
        return total + tap(apply, params, image + noise, target, ()).to_image

    loop = ops.Loop(n_samples, jnp.zeros_like(image), step)
    return loop.then(lambda total: Attribution(total / n_samples, jnp.isfinite(total).all()))


def explain_it(params: Params, images: Images) -> jax.Array:
    """The maps of the package's methods and of one's own, and the fields of a result."""
    steps: list[tuple[int, int]] = []
    told: OnStep = lambda done, total: steps.append((done, total))  # noqa: E731
    a: dmbp.Attribution = dmbp.explain(network, params, images, [0, 2], preset="fast", on_step=told)
    assert_type(a.values, jax.Array)
    assert steps
    assert a.scores is not None
    assert a.positive is not None
    assert a.negative is not None
    scores: dmbp.Scores = a.scores
    total, positive, negative, nuisance = scores
    gap: jax.Array = total - positive - negative - nuisance
    maps: jax.Array = jnp.asarray(a.heatmap)
    halves: jax.Array = jnp.asarray(a.positive) + jnp.asarray(a.negative)
    assert np.allclose(np.asarray(halves.sum(axis=-1)), np.asarray(maps), atol=1e-4)
    assert float(abs(gap).max()) < 1e-3
    assert bool(a.finite.all())

    detailed = explain(
        network, params, np.asarray(images), np.array([0, 2]), steps=2, return_masks=True, return_history=True
    )
    assert detailed.masks is not None
    assert detailed.history is not None
    masks: Mapping[str, jax.Array] = detailed.masks
    first: jax.Array = detailed.history.total[:, 0]
    assert masks["conv"].shape == (2, 8, 8, 4)
    assert first.shape == (2,)
    assert detailed.completeness_gap is None
    assert detailed.convergence_delta is None

    mine: Method = halved_gradient
    weights: jax.Array = dmbp.contrast(0, 2, classes=3)[None].repeat(2, axis=0)
    for method in (mine, mean_of_noisy, meta_saliency(mine), noise_tunnel(mine, n_samples=2), "grad_cam"):
        other = explain(network, params, images, weights, method, key=jax.random.key(1), batch_size=1)
        maps = maps + jnp.asarray(other.heatmap)
    several: Attribution = dmbp.explain_classes(network, params, images, [0, 1], "gradient")
    assert several[0].heatmap.shape == (2, 8, 8)
    for batch in dmbp.explain_batches(network, params, [(images, [0, 2])], "gradient", keep="heatmap"):
        assert batch.values.shape == (2, 8, 8, 1)
    alone: Attribution = dmbp_method(network, params, images[0], jnp.asarray(0), preset="fast")
    return maps + jnp.asarray(alone.heatmap)[None]


def look_inside(params: Params, image: Image, target: Target) -> dict[str, tuple[int, ...]]:
    """Sites, gates, activations and gradients."""
    sites: tuple[Site, ...] = find_sites(network, params, image)
    shapes: dict[str, tuple[int, ...]] = {site.name: site.shape for site in sites}
    tensors: dict[str, tuple[str, ...]] = layer_parameters(network, params, image)
    assert set(tensors) <= set(shapes)
    logits, at = linearize(network, params, image)
    gates: Linearization = at
    site: Site = next(one for one in sites if one.name == "relu")
    tapped = tap(network, params, image, target, [site])
    assert bool(jnp.array_equal(gates.gates["relu"][0], tapped.activations["relu"] > 0))
    tokens: jax.Array = jnp.zeros((1 + 6, 8))
    assert lay_out(tokens, (2, 3)).shape == (2, 3, 8)
    output: jax.Array = layer_activation(network, params, image[None], site.name)
    slope, product = (
        method(network, params, image, target, site=site.name).values
        for method in (layer_gradient, layer_gradient_x_activation)
    )
    assert bool(jnp.allclose(slope * output[0], product, atol=1e-5))
    assert site.kind in ACTIVATIONS
    sizes: jax.Array = virtual_identity(tapped.activations[site.name], tapped.gradients[site.name])
    biases: dict[str, jax.Array] = biases_at(network, params, image)
    full: FullGradients = full_gradients(network, params, image, target)
    parts: jax.Array = full.input.sum() + sum(bias.sum() for bias in full.biases.values())
    assert bool(jnp.allclose(parts, full.score, atol=1e-4))
    masked: Rule = Masked(gates, {one.name: jnp.ones(one.shape) for one in masked_sites(sites, "filter")})
    again: jax.Array = network(params, image[None], rule=masked)[0]
    assert bool(jnp.allclose(again, logits, atol=1e-5))
    gate = masked_gate(image, None, jnp.ones_like(image))
    assert_type(gate, jax.Array)
    return (
        shapes
        | {
            "sizes": sizes.shape,
            "gate": gate.shape,
        }
        | {name: bias.shape for name, bias in biases.items()}
    )


def choose_options(scores: Scores) -> tuple[int, float]:
    """Presets and single options."""
    config: DMBPConfig = DMBPConfig(steps=3)
    quicker: DMBPConfig = dataclasses.replace(config, learning_rate=0.1)
    assert dmbp.PRESETS["fast"] == dmbp.SweepConfig(strength=1.5)
    assert PRESETS["paper"] == dmbp.DMBPConfig()
    stronger: SweepConfig = dataclasses.replace(dmbp.SweepConfig(), strength=4.0)
    assert stronger.mask_sites == "relu"
    loss: jax.Array = objective(scores, config.objective)
    return config.steps, float(quicker.learning_rate + loss)


def use_operations(image: Image) -> jax.Array:
    """Array operations that networks and methods are made of."""
    batch: Images = image[None]
    pooled: jax.Array = ops.max_pool(batch, POOL)
    assert_type(pooled, jax.Array)
    blurred: jax.Array = ops.gaussian_blur(image, 1.0, max_sigma=2.0)
    weights: jax.Array = targets.contrast(0, 1, classes=3)
    logit = jnp.asarray([0.5])
    chance: jax.Array = ops.probabilities(logit)  # of one logit a sigmoid
    assert bool(jnp.allclose(jnp.log(chance), ops.log_probabilities(logit)))
    return ops.upsample(pooled[0], (8, 8)) + blurred + ops.target_score(jnp.arange(3.0), weights)


def explain_any_network() -> tuple[int, ...]:
    """A plain function, gated."""

    def mlp(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return jnp.maximum(x @ params["first"], 0) @ params["second"]

    wrapped = gated((mlp, {"first": jnp.ones((7, 4)), "second": jnp.ones((4, 3))}), output=targets.flatten)
    apply, params = dmbp.gated((mlp, wrapped.params))
    known: Callable[..., jax.Array] = wrapped.apply
    assert callable(known)
    a = dmbp.explain(apply, params, np.ones((2, 7), np.float32), [0, 2], preset="fast")
    assert targets.element((3,), -1) == 2
    both: jax.Array = targets.total([0, 2], classes=3) - targets.contrast(0, 2, classes=3)
    here: jax.Array = targets.region(np.ones((1, 3), np.bool_), 0, classes=1, reduction="sum")
    b = dmbp.explain(apply, params, np.ones((2, 7), np.float32), jnp.stack([both, here]), "gradient")
    shape: tuple[int, ...] = (a.values + b.values).shape
    return shape


def list_all_methods() -> int:
    """The methods are functions, in a registry that lists their options."""
    functions: list[Method] = [gradient, gradient_x_input, integrated_gradients, smoothgrad, deeplift, rise]
    functions += [blur_integrated_gradients, guided_backprop, deconvnet, guided_grad_cam, grad_cam, fullgrad]
    functions += [lpr, norm_grad, selective_norm_grad]
    options = dmbp.list_methods()
    names = [method for method in options if dmbp.METHODS[method] in functions]
    assert {*options} == {*names, "dmbp"}
    assert dmbp.METHODS["gradient"] is METHODS["gradient"]
    assert options["lpr"]["n_steps"] > 0
    assert random_map.__name__ not in dmbp.METHODS
    return len(options)


def main() -> None:
    """Run everything; a map that is not what its method's name says is an error."""
    warnings.simplefilter("error", dmbp.ExplanationWarning)
    key: Key = jax.random.key(0)
    params = draw_params(key)
    images: Images = jax.random.normal(key, (2, 8, 8, 3))
    assert explain_it(params, images).shape == (2, 8, 8)
    assert look_inside(params, images[0], jnp.asarray(1))["relu"] == (8, 8, 4)
    assert choose_options(Scores(*map(jnp.asarray, (1.0, 3.0, -2.5, 0.5))))[0] == 3
    assert use_operations(images[0]).shape == (8, 8, 3)
    assert explain_any_network() == (2, 7)
    assert list_all_methods() == 16
    print(f"dmbp_jax {dmbp.__version__}: {OUTPUT}")


if __name__ == "__main__":
    main()
