"""Every architecture crossed with the identities of the method and the properties of JAX functions.

The networks are at a fraction of their widths, and compute in float64, where the identities hold to rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.masked_backprop import eq14
from small import CLASSES, SIZE, long_but, small_layout, small_network

import dmbp_jax
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.dmbp import dmbp, masked_sites
from dmbp_jax.models import ARCHITECTURES
from dmbp_jax.rules import Masked, find_sites, linearize

pytestmark = pytest.mark.usefixtures("x64")

EVERY = pytest.mark.parametrize(
    "name", long_but(("resnet50", "squeezenet1_1", "vgg11_bn"), sorted(ARCHITECTURES))
)
BLOCKS = ("alexnet", "resnet18", "resnet50", "squeezenet1_1", "vgg11")
"""One network for each kind of source code; the others repeat its operations at other depths and widths."""
# With its batch-norms folded, a VGG is the one without (which is a test). The short tests have the one with
# shortcuts.
GRAPHS = pytest.mark.parametrize("name", long_but(("resnet18",), BLOCKS))
MASK_SITES = ("filter", "relu", "filter_and_shortcut")
# A negligible eps, at which the result does not depend on the scale of the logits.
OPTIONS = {"steps": 2, "learning_rate": 0.1, "return_history": True, "return_masks": True, "eps": 1e-150}


@pytest.fixture(autouse=True)
def forget_each_compilation():
    """Nothing is shared between these tests, and deep networks fill a process fast."""
    yield
    jax.clear_caches()


def target_weights(count=2):
    return jax.random.normal(jax.random.key(2), (count, CLASSES), jnp.float64)


def close(actual, expected, rtol=1e-8):
    """Equal up to `rtol` of the largest expected magnitude."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def random_masks(sites):
    keys = jax.random.split(jax.random.key(3), len(sites))
    return {
        site.name: jax.random.uniform(key, site.shape, jnp.float64)
        for site, key in zip(sites, keys, strict=True)
    }


@pytest.mark.parametrize("name", sorted(name for name in ARCHITECTURES if name.endswith("_bn")))
def test_a_folded_batch_norm_leaves_the_same_graph(name):
    found = []
    for one in (name, name.removesuffix("_bn")):
        apply, params, images = small_network(one)
        found.append([site[1:] for site in find_sites(apply, params, images[0])])
    assert found[0] == found[1]


@GRAPHS
def test_masks_of_ones_masked_backprop_and_mask_gradients(name):
    """Identities 1, 2 and 3, in one compiled function."""
    apply, params, images = small_network(name, jnp.float64)
    image, weights = images[0], target_weights()[0]
    sites = find_sites(apply, params, image)
    # Masks at every kind of site at once: each reading of the paper is a subset.
    maskable = [site for site in sites if site.kind == "relu" or site.role in ("filter", "shortcut")]
    masks, direction = random_masks(maskable), random_masks(maskable[::-1])

    step = 1e-5
    ones = jax.tree.map(jnp.ones_like, masks)
    ahead = jax.tree.map(lambda m, d: m + step * d, masks, direction)
    behind = jax.tree.map(lambda m, d: m - step * d, masks, direction)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), ones, masks, ahead, behind)

    @jax.jit
    def quantities(params, image):
        logits, at = linearize(apply, params, image)

        def plain(image):
            return jnp.vdot(weights, apply(params, image[None])[0])

        def masked(masks, image):
            return jnp.vdot(weights, apply(params, image[None], rule=Masked(at, masks))[0])

        return (
            jnp.vdot(weights, logits),
            jax.value_and_grad(plain)(image),
            jax.vmap(jax.value_and_grad(masked, argnums=(0, 1)), in_axes=(0, None))(stacked, image),
            eq14(apply, params, image, weights, masks),
        )

    recorded, (logit, gradient), (y, (to_masks, to_image)), definition = quantities(params, image)
    close(recorded, logit)
    # Masks of ones.
    close(y[0], logit)
    close(to_image[0], gradient)
    # Duality.
    close(y[1], definition[0])
    close(to_image[1], definition[1])
    assert np.abs(definition[1]).max() > 0
    # Mask gradients along one direction, against the central difference.
    slope = sum(jnp.vdot(to_masks[name][1], direction[name]) for name in masks)
    close(slope, (y[2] - y[3]) / (2 * step), rtol=1e-5)


@GRAPHS
def test_scores_add_up_images_are_independent_and_logits_may_be_scaled(name):
    """Identities 4, 5 and 6, and no second compilation, in one compiled function."""
    apply, params, images = small_network(name, jnp.float64)
    weights = target_weights()
    batch = dmbp_jax.explain(apply, params, images, weights, **OPTIONS)

    parts = batch.history.positive + batch.history.negative + batch.history.nuisance
    close(parts, batch.history.total)
    # The plain pass of the whole batch, outside jit: each operation by itself.
    close(batch.scores.total, jax.vmap(jnp.vdot)(weights, apply(params, images)))
    assert batch.history.total.shape == (2, 3)
    assert batch.values.shape == images.shape
    assert batch.finite.all()
    close(batch.positive + batch.negative, batch.values)

    # Each image beside itself in place of the other one, and with 1024 times the logits. A power of two
    # rounds nothing differently, and with a negligible eps RMSProp sees only the gradients' proportions.
    twice = [(jnp.stack([images[i]] * 2), jnp.stack([weights[i], 1024 * weights[i]])) for i in (0, 1)]
    with count_compile_time() as compiled:
        results = [dmbp_jax.explain(apply, params, *pair, **OPTIONS) for pair in twice]
    assert compiled.programs == []
    for i, result in enumerate(results):
        jax.tree.map(lambda leaf, of_batch, i=i: close(leaf[0], of_batch[i]), result, batch)
        jax.tree.map(lambda leaf: close(leaf[1], leaf[0], rtol=1e-9), result.masks)
        close(result.values[1], 1024 * result.values[0])


@pytest.mark.long
@pytest.mark.parametrize("name", BLOCKS)
def test_one_image_outside_jit_and_vmap_gives_the_same(name):
    """Every operation by itself, but for the passes and the loop over the steps."""
    apply, params, images = small_network(name, jnp.float64)
    weights = target_weights()
    batch = dmbp_jax.explain(apply, params, images, weights, **OPTIONS)
    alone = dmbp(apply, params, images[1], weights[1], **OPTIONS)
    jax.tree.map(close, alone, jax.tree.map(lambda leaf: leaf[1], batch))


@EVERY
def test_readings_of_mask_sites_differ_only_with_shortcuts(name):
    apply, params, images = small_network(name, jnp.float64)
    sites = find_sites(apply, params, images[0])
    count = {where: len(masked_sites(sites, where)) for where in MASK_SITES}
    relus = sum(site.kind == "relu" for site in sites)
    projections = sum(site.role == "shortcut" for site in sites)
    assert count["relu"] == relus
    assert count["filter_and_shortcut"] - count["filter"] == projections
    if name.startswith("resnet"):
        assert projections == (3 if name in ("resnet18", "resnet34") else 4)
        affine = sum(site.kind == "affine" for site in sites)
        assert count["filter"] == affine - projections - 1
    else:
        assert projections == 0
        assert count["filter"] == relus


@pytest.mark.long
@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0", "vgg11"])
def test_without_shortcuts_all_mask_sites_give_the_same_map(name):
    apply, params, images = small_network(name, jnp.float64)
    maps = [
        dmbp_jax.explain(
            apply, params, images, target_weights(), steps=3, learning_rate=0.1, mask_sites=where
        ).values
        for where in MASK_SITES
    ]
    close(maps[1], maps[0])
    close(maps[2], maps[0])


@pytest.mark.long
def test_with_shortcuts_the_mask_sites_give_different_maps():
    apply, params, images = small_network("resnet18", jnp.float64)
    maps = [
        dmbp_jax.explain(
            apply, params, images, target_weights(), steps=2, learning_rate=0.1, mask_sites=where
        ).values
        for where in MASK_SITES
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(maps[one] - maps[other]).max() > 1e-3 * np.abs(maps[one]).max()


@EVERY
def test_layout_is_what_apply_reads(name):
    """Each layer of the layout is one affine site, and the other way round; odd sizes work."""
    apply, params, _ = small_network(name)
    shape = jax.ShapeDtypeStruct((SIZE + 13, SIZE + 2, 3), jnp.float32)
    affine = [site for site in find_sites(apply, params, shape) if site.kind == "affine"]
    assert {site.name for site in affine} == {layer.name for layer in small_layout(name)}
    assert len(affine) == len(small_layout(name))


@pytest.mark.parametrize(("name", "shape"), [("vgg16", (2, 2)), ("vgg16_caffe", (3, 3))])
def test_caffe_rounds_the_size_of_pools_up(name, shape):
    """77 x 66 is halved five times, towards 2 x 2 or 3 x 3."""
    apply, params, _ = small_network(name, jnp.float64)
    pools = [s for s in find_sites(apply, params, jnp.zeros((77, 66, 3))) if s.kind == "max_pool"]
    assert pools[-1].shape[:2] == shape
