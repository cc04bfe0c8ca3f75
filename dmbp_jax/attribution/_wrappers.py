"""Methods made from methods: the noise tunnel, SmoothGrad, meta-saliency."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dmbp_jax._checks import InputError, called, check_choice
from dmbp_jax._ranges import NonNegative, Number, check_range, check_whole
from dmbp_jax.attribution._gradients import gradient
from dmbp_jax.ops import Loop, iterative, log_probabilities, target_score
from dmbp_jax.ops._derivatives import first_max
from dmbp_jax.ops._programs import loop_of
from dmbp_jax.ops._resample import full_along
from dmbp_jax.result import Attribution, Method
from dmbp_jax.result._attribution import attribution
from dmbp_jax.typing import Apply, Image, Key, Params, Target

# A method at noisy copies of the image: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
#
# The square is from Hooker et al., "A Benchmark for Interpretability Methods in Deep Neural Networks",
# NeurIPS 2019; the variance from Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack
# Sensitivity to Parameter Values", 2018.

STATISTICS = ("smoothgrad", "smoothgrad_sq", "vargrad")


def noise_tunnel(
    method: Method, *, n_samples: int = 50, noise_level: NonNegative = 0.15, statistic: str = "smoothgrad"
) -> Method:
    """`method` at `n_samples` noisy copies of the image, and a statistic of its values.

    With `v` the values, and means over the copies: `"smoothgrad"` is `mean(v)`, `"smoothgrad_sq"` is
    `mean(v^2)`, `"vargrad"` is `mean((v - mean(v))^2)`, each element by element. The noise is normal, its
    standard deviation `noise_level` times the image's own range, `max - min`. Captum's `NoiseTunnel` is the
    same but takes the deviation itself (`stdevs`).

    `noise_tunnel(gradient)` is the method `smoothgrad`. A method that multiplies by the image does so with
    the noisy one, as in Captum.

    Args:
        method: any method of one image. A method that draws random numbers gets a new key for each copy.
        n_samples: noisy copies, at least 1.
        noise_level: at least 0; at 0 there is no noise.
        statistic: `"smoothgrad"`, `"smoothgrad_sq"` or `"vargrad"`.

    Returns:
        A method with the signature and the options of `method`, named `noisy_` and its name, that needs a
        `key`. Its result has only `values` and `finite` (of all copies). Keep and reuse it: every new one is
        compiled again.

    Raises:
        InputError: a number out of range, an unknown statistic. When it is called: no `key`.

    >>> from dmbp_jax.attribution import gradient
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> arguments = linear, {"w": jnp.full((3, 2), 4.0)}, jnp.ones((1, 1, 3)), jnp.asarray(0)
    >>> for statistic in ("smoothgrad", "smoothgrad_sq", "vargrad"):
    ...     noisy = noise_tunnel(gradient, n_samples=4, statistic=statistic)
    ...     print(noisy(*arguments, key=jax.random.key(0)).values.ravel().tolist())
    [4.0, 4.0, 4.0]
    [16.0, 16.0, 16.0]
    [0.0, 0.0, 0.0]
    """
    _check(n_samples, noise_level, statistic)

    @functools.wraps(method)
    def noisy(
        apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, **options: Any
    ) -> Any:
        own = functools.partial(method, apply, params, target=target, **options)
        return noisy_loop(
            own, image, key=key, n_samples=n_samples, noise_level=noise_level, statistic=statistic, name=name
        )

    # Without a name of its own the result would replace `method` in the registry.
    noisy.__name__ = name = f"noisy_{called(method)}"
    return iterative(noisy)


def noisy_loop(
    explain_copy: Callable[..., Attribution],
    image: Image,
    *,
    key: Key | None,
    n_samples: int,
    noise_level: NonNegative,
    statistic: str,
    name: str,
) -> Loop:
    """The loop of `noise_tunnel` over `explain_copy(image=, key=)`; `name` is the method's in messages.

    Raises `InputError` for a number out of range, an unknown statistic, and without a `key`.
    """
    _check(n_samples, noise_level, statistic)
    if key is None:
        raise InputError(f"{name} draws noise: give key=jax.random.key(0)")
    deviation = noise_level * (first_max(image) + first_max(-image))

    def at_copy(number: Int[Array, ""]) -> Attribution:
        drawn = jax.random.fold_in(key, number)
        # In single precision, whatever the image's, so that a key gives the same noise.
        noise = jax.random.normal(drawn, image.shape, jnp.float32).astype(image.dtype)
        # The method's own key is independent of the noise.
        return explain_copy(image=image + deviation * noise, key=jax.random.fold_in(drawn, 0))

    def step(seen: _Seen, number: Int[Array, ""]) -> _Seen:
        a = at_copy(number)
        return _Seen(_add(statistic, seen.sums, a.values, number), seen.finite & a.finite)

    def finish(seen: _Seen) -> Attribution:
        values = seen.sums[-1] / n_samples
        return Attribution(values=values, finite=seen.finite & jnp.isfinite(values).all())

    values = jax.eval_shape(at_copy, jnp.int32(0)).values
    zeros = full_along(image, values.shape, 0, values.dtype)
    sums = (zeros, zeros) if statistic == "vargrad" else (zeros,)
    return Loop(n_samples, _Seen(sums, full_along(image, (), 0, jnp.float32) == 0), step, finish)


class _Seen(NamedTuple):
    """The statistics of the copies so far."""

    sums: tuple[Float[Array, "..."], ...]
    """The sum of `v` or of `v^2`; of `"vargrad"` the mean, and the sum of squares around it."""
    finite: Bool[Array, ""]


def _add(statistic: str, sums: tuple[Array, ...], values: Array, number: Int[Array, ""]) -> tuple[Array, ...]:
    if statistic == "vargrad":
        # Welford, 1962: a difference of two large sums of squares would cancel.
        mean, squares = sums
        apart = values - mean
        mean = mean + apart / (number + 1).astype(values.dtype)
        return mean, squares + apart * (values - mean)
    return (sums[0] + (values if statistic == "smoothgrad" else values**2),)


def _check(n_samples: int, noise_level: NonNegative, statistic: str) -> None:
    check_choice("statistic", statistic, STATISTICS)
    check_whole("n_samples", n_samples, least=1)
    check_range("noise_level", noise_level, NonNegative)


# SmoothGrad: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.


@iterative
def smoothgrad(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    n_samples: int = 50,
    noise_level: NonNegative = 0.15,
    multiply_by_inputs: bool = False,
) -> Loop:
    """The mean gradient at `n_samples` noisy copies of the image.

    `noise_tunnel(gradient)`. The noise is normal, its standard deviation `noise_level` times the image's own
    range, `max - min`.
    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates. PAIR's `saliency`
    squares the gradients before the mean unless told otherwise; here they keep their sign.

    Raises `InputError` without a `key`, for `n_samples < 1`, and for a `noise_level` below 0.

    >>> import jax, jax.numpy as jnp
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3))
    >>> a = smoothgrad(linear, params, image, jnp.asarray(0), key=jax.random.key(0))
    >>> a.values.shape
    (2, 2, 3)
    """
    loop = noisy_loop(
        functools.partial(gradient, apply, params, target=target),
        image,
        key=key,
        n_samples=n_samples,
        noise_level=noise_level,
        statistic="smoothgrad",
        name="smoothgrad",
    )

    def times_image(mean: Attribution) -> Attribution:
        a = attribution(mean.values * image)
        return dataclasses.replace(a, finite=a.finite & mean.finite)

    return loop.then(times_image) if multiply_by_inputs else loop


# Meta-saliency: Rebuffi et al., "There and Back Again: Revisiting Backpropagation Saliency Methods", CVPR
# 2020, the part on meta-saliency.


def meta_saliency(method: Method, *, step_size: NonNegative = 1e-4, sign: int = 1) -> Method:
    """`method` at parameters that have taken one step of gradient descent on the explained image.

    `method(params')` with `params' = params - sign * step_size * d(loss)/d(params)` and `loss` the
    cross-entropy of the explained class. In the paper the step makes the maps of different classes differ
    more.

    Each image has its own step. A batch therefore holds one copy of the parameters per image, and its
    convolutions one kernel per image: choose a small `batch_size`.

    The cross-entropy is that of a softmax for every network of several logits, as in the authors' code, also
    for networks trained for VOC. For a single logit it is that of a sigmoid, since that of a softmax is
    always 0.

    Args:
        method: any method of one image.
        step_size: of the gradient step, not below 0; the paper's epsilon, `lr` in the authors' code
            (TorchRay's `meta_saliency`), whose default this is. 0 gives `method` itself.
        sign: 1 descends the loss, towards the class, that code's default; -1 ascends it, away from the class
            (`negate_loss` there).

    Returns:
        A method with the signature and the options of `method`, named `meta_` and its name.

    Raises:
        InputError: `step_size` negative or not finite, `sign` neither 1 nor -1.

    >>> from dmbp_jax.attribution import gradient
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.zeros((3, 2))}, jnp.ones((1, 1, 3))
    >>> meta_saliency(gradient, step_size=0.5)(linear, params, image, jnp.asarray(0)).values.tolist()
    [[[0.25, 0.25, 0.25]]]
    """
    check_range("step_size", step_size, NonNegative)
    if sign not in (1, -1):
        raise InputError(f"sign must be 1 or -1, got {sign}")

    loop = loop_of(method)

    @functools.wraps(method)
    def after_step(
        apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, **options: Any
    ) -> Any:
        stepped = descend(apply, params, image, target, step=sign * step_size)
        return (loop or method)(apply, stepped, image, target, key=key, **options)

    # Without a name of its own the result would replace `method` in the registry.
    after_step.__name__ = f"meta_{called(method)}"
    return after_step if loop is None else iterative(after_step)


def descend(apply: Apply, params: Params, image: Image, target: Target, *, step: Number) -> Params:
    """`params - step * d(loss)/d(params)` of the cross-entropy of `target` at one image.

    `loss = -log softmax(logits)[target]`, or `-<weights, log softmax(logits)>` where the target is weights:
    they are the soft label, and need not sum to 1. For a single logit the sigmoid replaces the softmax.
    Leaves that are not floating point, such as counters, stay as they are.

    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> params, image = {"w": jnp.zeros((1, 2))}, jnp.ones((1, 1, 1))
    >>> descend(linear, params, image, jnp.asarray(0), step=1.0)["w"].tolist()
    [[0.5, -0.5]]
    """
    leaves, structure = jax.tree.flatten(params)
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]

    def rebuild(moving: list[Array]) -> Params:
        rest = iter(moving)
        filled = [next(rest) if moves else leaf for leaf, moves in zip(leaves, floating, strict=True)]
        return jax.tree.unflatten(structure, filled)

    def loss(moving: list[Array]) -> Float[Array, ""]:
        return -target_score(log_probabilities(apply(rebuild(moving), image[None])[0]), target)

    moving = [jnp.asarray(leaf) for leaf, moves in zip(leaves, floating, strict=True) if moves]
    return rebuild([leaf - step * slope for leaf, slope in zip(moving, jax.grad(loss)(moving), strict=True)])
