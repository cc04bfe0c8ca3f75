"""Red and blue on pairs of photographs, for the networks of `study_fast.py`: the parts of the map kept apart.

`python notebooks/study_parts.py SHARED CACHE resnet 14` prints, for 14 pairs of photographs that the network
gets right, the share of the red on the one and of the blue on the other (`contrast_localization`), of the
preset `fast`, of its rule changed in one place, and of two methods to compare with. `CACHE` is a folder for
what PyPI gives; `SHARED` holds photographs and probes. SqueezeNet needs none of this: `dmbp-jax evaluate
--data pairs:PATH --metrics contrast` measures it.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study_fast import Network, Photo, load, photographs

import dmbp_jax as dmbp
from dmbp_jax.metrics import contrast_localization

VARIANTS: dict[str, dict[str, Any]] = {
    "fast": {},
    "1 step": {"steps": 1},
    "3 steps": {"steps": 3},
    "masks at filters": {"mask_sites": "filter"},
    "Eq. 10": {"objective": "all"},
    "the sum of Eq. 7": {"parts_apart": False},
}


def recognized(network: Network, photos: list[Photo]) -> list[Photo]:
    """Those that the network gets right."""
    predict = jax.jit(lambda params, image: network.apply(params, image[None])[0].argmax())
    return [photo for photo in photos if int(predict(network.params, photo.image)) == photo.target]


def pair(photos: list[Photo], count: int) -> list[tuple[Photo, Photo]]:
    """Each photograph beside the next one of another class, as `dmbp_jax.data.make_pairs` does."""
    pairs = []
    for place, left in enumerate(photos[:count]):
        others = photos[place + 1 :] + photos[:place]
        pairs.append((left, next(other for other in others if other.target != left.target)))
    return pairs


def maps(network: Network, image: jax.Array, weights: jax.Array) -> dict[str, np.ndarray]:
    """The heat maps of one pair; Grad-CAM, which has no blue, once for each direction."""

    def explain(target: jax.Array, method: str, **options: Any) -> np.ndarray:
        a = dmbp.explain(network.apply, network.params, image[None], target[None], method, **options)
        return np.asarray(a.heatmap[0])

    found = {"gradient x input": explain(weights, "gradient_x_input")}
    found["Grad-CAM, both ways"] = explain(weights, "grad_cam") - explain(-weights, "grad_cam")
    for name, options in VARIANTS.items():
        found[name] = explain(weights, "dmbp", preset="fast", **options)
    return found


def main() -> None:
    """Print the table of one network."""
    shared, cache, name, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    network = load(name, shared, cache)
    shares: dict[str, list[tuple[float, float]]] = {}
    for left, right in pair(recognized(network, photographs(network, shared)), count):
        image = jnp.asarray(np.concatenate([left.image, right.image], axis=1))
        classes = jax.eval_shape(network.apply, network.params, image[None]).shape[1]
        weights = dmbp.contrast(classes, left.target, right.target)
        here = np.broadcast_to(np.arange(image.shape[1]) < left.image.shape[1], image.shape[:2])
        for method, heatmap in maps(network, image, weights).items():
            shares.setdefault(method, []).append(contrast_localization(heatmap, here, ~here))
        print(f"{len(shares['fast'])} of {count}", file=sys.stderr, flush=True)
    for method, found in shares.items():
        red, blue = np.nanmean(found, axis=0)
        print(f"{method:<22} red {red:.3f}   blue {blue:.3f}   of {len(found)} pairs")


if __name__ == "__main__":
    main()
