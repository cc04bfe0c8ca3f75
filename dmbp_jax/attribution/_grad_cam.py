"""Grad-CAM and guided Grad-CAM: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV 2017."""

import jax
from jaxtyping import Array, Float

from dmbp_jax._checks import check_is_image
from dmbp_jax.attribution._gradients import rectified_gradient
from dmbp_jax.attribution._layer import tap_layer
from dmbp_jax.ops import upsample
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.rules import find_sites
from dmbp_jax.rules._guided import Guided
from dmbp_jax.rules._tap import choose_map, lay_out
from dmbp_jax.typing import Apply, Image, Key, Params, Target


def grad_cam(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    site: str | None = None,
    token_grid: tuple[int, int] | None = None,
) -> Attribution:
    """`relu(sum_c mean_u(dy/dA_c) A_c)`, upsampled bilinearly (half-pixel centres) to the image: `(h, w, 1)`.

    `site` names the activation `A`; by default it is the last ReLU with a map, the last convolutional stage.
    `token_grid`, `(rows, columns)`, lays out the tokens of a transformer's site, and is not needed
    otherwise (`lay_out` of `rules/_tap.py`). `key` is not used. Raises `InputError` for an unknown site and
    one without a map.
    """
    return attribution(
        _cam(apply, params, image, target, site=site, token_grid=token_grid, method="grad_cam")
    )


def guided_grad_cam(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    key: Key | None = None,
    site: str | None = None,
    token_grid: tuple[int, int] | None = None,
    multiply_by_inputs: bool = False,
) -> Attribution:
    """Guided backpropagation times Grad-CAM, `(h, w, c)`; the options are those of `grad_cam`.

    Grad-CAM is upsampled bilinearly, as by its authors; Captum's `GuidedGradCam` uses the nearest value by
    default.
    """
    # First the check that raises, then the one that warns.
    cam = _cam(apply, params, image, target, site=site, token_grid=token_grid, method="guided_grad_cam")
    values = rectified_gradient(apply, params, image, target, Guided()) * cam
    return attribution(values * image if multiply_by_inputs else values)


def _cam(
    apply: Apply,
    params: Params,
    image: Image,
    target: Target,
    *,
    site: str | None,
    token_grid: tuple[int, int] | None,
    method: str,
) -> Float[Array, "h w 1"]:
    check_is_image(image.shape, method)
    at = choose_map(find_sites(apply, params, image), site, token_grid)
    activation, gradient = (lay_out(one, token_grid) for one in tap_layer(apply, params, image, target, at))
    weights = gradient.mean(axis=(0, 1), keepdims=True)
    cam = jax.nn.relu((weights * activation).sum(axis=-1, keepdims=True))
    return upsample(cam, (image.shape[0], image.shape[1]))
