"""Red and blue on pairs of photographs, for the networks of `study_networks.py`: the rule of the preset `fast`.

`python notebooks/study_parts.py SHARED CACHE resnet 26 25 3` takes 25 of the photographs that the network gets
right, from the 26th on, and puts each beside the next three of another class. For these pairs it prints the
share of the red on the one and of the blue on the other (`contrast_localization`), of `fast`, of its rule
changed in one place, of the paper's optimisation with fewer and larger steps, and of two methods to compare
with; with 95 % intervals of the bootstrap over photographs, since pairs that share one are not independent.
"Either" is the share of each colour when each pair is also explained the other way round.
The rule was chosen on SqueezeNet's first 13 photographs, the ResNet's first 26 and the VGG's first 6. `CACHE` is
a folder for what PyPI gives; `SHARED` holds photographs and probes.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study_networks import Network, Photo, load, photographs

import dmbp_jax as dmbp
from dmbp_jax.metrics import contrast_localization

FEWER_STEPS = {"steps": 10, "learning_rate": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "fast": {"preset": "fast"},
    "strength 1": {"preset": "fast", "strength": 1.0},
    "strength 4": {"preset": "fast", "strength": 4.0},
    "masks at filters": {"preset": "fast", "mask_sites": "filter"},
    "Eq. 10, parts apart": {**FEWER_STEPS, "parts_apart": True},
    "Eq. 10, their sum": FEWER_STEPS,
}


def recognized(network: Network, photos: list[Photo]) -> list[Photo]:
    """Those that the network gets right."""
    predict = jax.jit(lambda params, image: network.apply(params, image[None])[0].argmax())
    return [photo for photo in photos if int(predict(network.params, photo.image)) == photo.target]


def pair(photos: list[Photo], neighbours: int) -> list[tuple[int, Photo, Photo]]:
    """The place of a photograph, it, and one of the next `neighbours` of another class, the first behind the
    last."""
    pairs = []
    for place, left in enumerate(photos):
        others = [other for other in photos[place + 1 :] + photos[:place] if other.target != left.target]
        pairs += [(place, left, other) for other in others[:neighbours]]
    return pairs


def maps(network: Network, image: jax.Array, weights: jax.Array) -> dict[str, np.ndarray]:
    """The heat maps of one pair; Grad-CAM, which has no blue, once for each direction."""

    def explain(target: jax.Array, method: str, **options: Any) -> np.ndarray:
        a = dmbp.explain(network.apply, network.params, image[None], target[None], method, **options)
        return np.asarray(a.heatmap[0])

    found = {"gradient x input": explain(weights, "gradient_x_input")}
    found["Grad-CAM, both ways"] = explain(weights, "grad_cam") - explain(-weights, "grad_cam")
    for name, options in VARIANTS.items():
        found[name] = explain(weights, "dmbp", **options)
    return found


def interval(values: np.ndarray, places: np.ndarray) -> str:
    """The mean, and its 95 % percentile interval of the bootstrap over the photographs on the left."""
    known = ~np.isnan(values)
    members = [np.flatnonzero((places == place) & known) for place in np.unique(places)]
    rng = np.random.default_rng(0)
    drawn = [
        values[np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])].mean()
        for _ in range(10_000)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values[known].mean():.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print the table of one network."""
    shared, cache, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    first, count, neighbours = map(int, sys.argv[4:7])
    network = load(name, shared, cache)
    photos = recognized(network, photographs(network, shared))[first : first + count]
    pairs = pair(photos, neighbours)
    shares: dict[str, list[tuple[float, float]]] = {}
    for _, left, right in pairs:
        image = jnp.asarray(np.concatenate([left.image, right.image], axis=1))
        classes = jax.eval_shape(network.apply, network.params, image[None]).shape[1]
        weights = dmbp.contrast(left.target, right.target, classes=classes)
        here = np.broadcast_to(np.arange(image.shape[1]) < left.image.shape[1], image.shape[:2])
        for method, heatmap in maps(network, image, weights).items():
            shares.setdefault(method, []).append(contrast_localization(heatmap, here, ~here))
        print(f"{len(shares['fast'])} of {len(pairs)}", file=sys.stderr, flush=True)
    places = np.array([place for place, _, _ in pairs])
    print(f"{len(photos)} photographs, {len(pairs)} pairs")
    for method, found in shares.items():
        red, blue = np.array(found).T
        # A contrast turned round exchanges the parts: each colour, both ways round, has the mean of the two.
        both = interval((red + blue) / 2, places)
        low = (np.array(found) < 0.5).sum()
        print(
            f"{method:<20} red {interval(red, places)}   blue {interval(blue, places)}   either {both}   "
            f"below one half {low} of {2 * len(found)}"
        )


if __name__ == "__main__":
    main()
