"""Methods of one backward pass: the gradient, and its variants under other rules at the nonlinearities."""

import warnings
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from dmbp_jax._checks import ExplanationWarning, check_choice
from dmbp_jax._ranges import FINITE
from dmbp_jax.ops import gaussian_blur, target_score
from dmbp_jax.ops._resample import filled
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.rules import PLAIN
from dmbp_jax.rules._guided import DeconvNet, Guided
from dmbp_jax.rules._rescale import RESCALE
from dmbp_jax.typing import Apply, Image, Key, Numbers, Params, Rule, Target

# Baselines: the image from which a path or a difference starts.

Baseline = Literal["zero", "blur", "mean"] | Annotated[Numbers, FINITE]
BLUR_SIGMA = 10.0


def make_baseline(image: Image, baseline: Baseline) -> Image:
    """`"zero"` of the normalised image (its mean colour over the training set, as a rule), `"blur"` (a
    Gaussian of 10 pixels), `"mean"` (the image's own mean colour), one number for all inputs, or an array of
    the image's shape.

    Raises `InputError` for another name or shape.
    """
    if not isinstance(baseline, str):
        return filled(image, baseline, "baseline")
    check_choice("baseline", baseline, ("zero", "blur", "mean"))
    if baseline == "blur":
        return gaussian_blur(image, BLUR_SIGMA, max_sigma=BLUR_SIGMA)
    if baseline == "mean":
        return jnp.broadcast_to(image.mean(axis=(0, 1), keepdims=True), image.shape)
    return jnp.zeros_like(image)


# The gradient, and gradient times input: Simonyan et al., "Deep Inside Convolutional Networks", 2014;
# Shrikumar et al., "Not Just a Black Box", 2016. The paper's ND, no disentangling, is gradient times input.


def target_gradient(apply: Apply, params: Params, image: Image, target: Target, rule: Rule = PLAIN) -> Image:
    """The gradient of the target's score at one image, backpropagated under `rule`."""
    return jax.grad(lambda x: target_score(apply(params, x[None], rule=rule)[0], target))(image)


def gradient(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`dy/dx`, the sensitivity of the target's logit to every input value; `key` is not used.

    The sign is kept; Simonyan et al. and Captum's `Saliency` take the magnitude.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, x, rule=None: x.reshape(len(x), -1) @ params["w"]
    >>> gradient(linear, {"w": jnp.ones((12, 5))}, jnp.ones((2, 2, 3)), jnp.asarray(0)).values.shape
    (2, 2, 3)
    """
    return attribution(target_gradient(apply, params, image, target))


def gradient_x_input(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`dy/dx * x`: DMBP with masks of ones; `key` is not used."""
    return attribution(target_gradient(apply, params, image, target) * image)


# Guided backpropagation: Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2015.


def rectified_gradient(
    apply: Apply, params: Params, image: Image, target: Target, rule: Guided | DeconvNet
) -> Image:
    """The gradient under a rule that changes ReLUs; an `ExplanationWarning` if the network has none."""
    values = target_gradient(apply, params, image, target, rule)
    if not rule.sites:
        warnings.warn(
            "the network has no ReLU or other piecewise linear activation: guided backpropagation and "
            "DeconvNet are exactly its gradient",
            ExplanationWarning,
            stacklevel=2,
        )
    return values


def guided_backprop(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    multiply_by_inputs: bool = False,
) -> Attribution:
    """The gradient with `dz = 1[z > 0] max(da, 0)` at every ReLU; `key` is not used.

    At every other piecewise linear activation (leaky ReLU, ReLU6, hard tanh, `abs`) `dz = f'(z) max(da, 0)`.
    Maxima, pools and smooth activations have their gradient. Without a piecewise linear activation of a
    single value the result is the gradient, and an `ExplanationWarning` says so.

    `multiply_by_inputs` gives the product with the image, which the DMBP paper evaluates.
    """
    values = rectified_gradient(apply, params, image, target, Guided())
    return attribution(values * image if multiply_by_inputs else values)


# DeconvNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.


def deconvnet(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    multiply_by_inputs: bool = False,
) -> Attribution:
    """The gradient with `dz = max(da, 0)` at every ReLU; `key` is not used.

    The same rule holds at every other piecewise linear activation (leaky ReLU, ReLU6, hard tanh, `abs`): the
    incoming gradient passes a ReLU, whatever the activation was in the forward pass. Maxima, pools and smooth
    activations have their gradient. Without a piecewise linear activation of a single value the result is the
    gradient, and an `ExplanationWarning` says so.

    `multiply_by_inputs` gives the product with the image.
    """
    values = rectified_gradient(apply, params, image, target, DeconvNet())
    return attribution(values * image if multiply_by_inputs else values)


# DeepLIFT with the rescale rule: Shrikumar, Greenside, Kundaje, "Learning Important Features Through
# Propagating Activation Differences", ICML 2017.


def deeplift(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    baseline: Baseline = "zero",
) -> Attribution:
    """`(x - x0) * m`, where `m` multiplies the slopes of the nonlinearities between baseline and image.

    A max-pool is computed as a chain of maxima of two, each `b + relu(a - b)`, so that the values add up to
    `y(x) - y(x0)` through pools as well, up to rounding; `convergence_delta` is the difference. The values of
    Captum's DeepLift do not add up on a ReLU followed by a max-pool. `key` is not used. Raises `InputError`
    for an unknown or misshapen `baseline`.
    """
    start = make_baseline(image, baseline)

    def scores(x: Image) -> tuple[jax.Array, jax.Array]:
        logits = apply(params, jnp.stack([x, start]), rule=RESCALE)
        y, y_start = (target_score(row, target) for row in logits)
        # The baseline's score carries no gradient to the image.
        return y, y - y_start

    multipliers, difference = jax.grad(scores, has_aux=True)(image)
    values = (image - start) * multipliers
    return attribution(values, convergence_delta=values.sum() - difference)
