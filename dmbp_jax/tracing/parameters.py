"""Which parameters the layers of a network read."""

from collections.abc import Iterator

import jax
import numpy as np

from dmbp_jax.checks import InputError
from dmbp_jax.rules import find_sites
from dmbp_jax.tracing.network import GatedApply
from dmbp_jax.tracing.steps import Affine
from dmbp_jax.typing import Apply, Image, Params


def layer_parameters(
    apply: Apply, params: Params, image: Image | np.ndarray | jax.ShapeDtypeStruct
) -> dict[str, tuple[str, ...]]:
    """The dotted paths of the tensors that each affine layer reads, by its site, in the order of the network.

    A layer is the product with its weights, the bias, and the frozen batch-norm behind it. The variances of a
    batch-norm are left out: they are statistics and not learned, and a random one could be below zero. A
    network of the package, or one written for rules, has the tensors at the path that the site's name spells;
    of a `gated` one the program tells.

    Raises `InputError` where no layer reads any of `params`.

    >>> import jax.numpy as jnp
    >>> from dmbp_jax.tracing import gated
    >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "unused": jnp.ones(1)}
    >>> apply, params = gated((lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["w"].T, params))
    >>> layer_parameters(apply, params, jnp.ones(3))
    {'dense': ('b', 'w'), 'dense_2': ('w',)}
    """
    paths = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    if isinstance(apply, GatedApply):
        read = dict(_read(apply, params, image))
        found = {site: tuple(paths[number] for number in numbers) for site, numbers in read.items()}
    else:
        sites = [site.name for site in find_sites(apply, params, image) if site.kind == "affine"]
        found = {site: tuple(path for path in paths if path.startswith(f"{site}.")) for site in sites}
    found = {site: tensors for site, tensors in found.items() if tensors}
    if not found:
        raise InputError(
            "no layer of the network reads any of its params, so that none can forget: hand its weights over "
            "as params, and not inside the function"
        )
    return found


def _read(
    apply: GatedApply, params: Params, image: Image | np.ndarray | jax.ShapeDtypeStruct
) -> Iterator[tuple[str, tuple[int, ...]]]:
    _, steps = apply.program(params, jax.ShapeDtypeStruct((1, *image.shape), image.dtype))
    for step in steps:
        if isinstance(step, Affine):
            yield step.site, step.parameters
