"""A method at noisy copies of the image: Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.

The square is from Hooker et al., "A Benchmark for Interpretability Methods in Deep Neural Networks", NeurIPS
2019; the variance from Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity
to Parameter Values", 2018.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dmbp_jax.checks import InputError, NonNegative, called, check_choice, check_range
from dmbp_jax.ops import Loop, full_along, iterative, largest
from dmbp_jax.result import Attribution, Method
from dmbp_jax.typing import Apply, Image, Key, Params, Target

STATISTICS = ("smoothgrad", "smoothgrad_sq", "vargrad")


def noise_tunnel(
    method: Method, *, n_samples: int = 50, noise_level: NonNegative = 0.15, statistic: str = "smoothgrad"
) -> Method:
    """`method` at `n_samples` noisy copies of the image, and a statistic of its values.

    With `v` the values, and means over the copies: `"smoothgrad"` is `mean(v)`, `"smoothgrad_sq"` is
    `mean(v^2)`, `"vargrad"` is `mean((v - mean(v))^2)`, each element by element. The noise is normal, its
    standard deviation `noise_level` times the image's own range, `max - min`; Captum's `NoiseTunnel`, which
    does the same, has the deviation itself (`stdevs`).

    `noise_tunnel(gradient)` is the method `smoothgrad`. A method that multiplies by the image does so with
    the noisy one, as in Captum.

    Args:
        method: any method of one image. One that draws gets a key of its own for each copy.
        n_samples: noisy copies, at least 1.
        noise_level: at least 0; at 0 there is no noise.
        statistic: `"smoothgrad"`, `"smoothgrad_sq"` or `"vargrad"`.

    Returns:
        A method with the signature and the options of `method`, named `noisy_` and its name, that needs a
        `key`. Of its result only `values` and `finite` (of all copies) are there. Keep it: each is compiled
        for itself.

    Raises:
        InputError: a number out of range, an unknown statistic. When it is called: no `key`.

    >>> from dmbp_jax.attribution.gradient import gradient
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

    # The registry goes by name, where a copy of the method's own would replace it.
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
    deviation = noise_level * (largest(image) + largest(-image))

    def at_copy(number: Int[Array, ""]) -> Attribution:
        drawn = jax.random.fold_in(key, number)
        # In single precision, whatever the image's, so that a key means the same noise.
        noise = jax.random.normal(drawn, image.shape, jnp.float32).astype(image.dtype)
        # A method that draws does so beside the noise.
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
    """What the copies so far come to."""

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
    if n_samples < 1:
        raise InputError(f"n_samples must be at least 1, got {n_samples}")
    check_range("noise_level", noise_level, NonNegative)
