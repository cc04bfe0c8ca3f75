"""Draws the pictures of the pages: every method on the photograph that ships with the package.

`python docs/draw_figures.py`, from a checkout; a few minutes on one core. Run it again when a method changes.
"""

from pathlib import Path

import jax
import numpy as np
import PIL.Image

import dmbp_jax as dmbp
from dmbp_jax._methods import choose_method
from dmbp_jax.plot import blend, color_heatmap
from dmbp_jax.plot._heatmap import from_minimum

FOLDER = Path(__file__).with_name("figures")
GAP = 8
MOST_BYTES = 58_000


def draw(name: str, panels: list[np.ndarray]) -> None:
    """Panels side by side, as small as a page of many pictures wants them."""
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    picture, path = PIL.Image.fromarray(np.concatenate(row, axis=1)), FOLDER / f"{name}.jpg"
    # Not a palette: of few colours the rare ones are lost, and blue pixels became red. Nor are colours to be
    # stored at half the resolution, as JPEG does unless told: red and blue pixels are neighbours.
    for quality in (95, 90, 85, 80, 75, 70, 65, 60):
        picture.save(path, quality=quality, subsampling=0)
        if path.stat().st_size < MOST_BYTES:
            break
    print(name, path.stat().st_size, "bytes")


def main() -> None:
    """The photograph, and for every method its map and the map over the photograph."""
    model = dmbp.load_model("squeezenet1_1")
    photo = model.spec.preprocess.crop_photo(dmbp.example_photo())
    x = model.spec.preprocess(dmbp.example_photo())[None]
    target = [int(model.apply(model.params, x)[0].argmax())]
    print("explained:", model.spec.classes[target[0]])
    draw("photograph", [photo])
    wanted = [(name, name, "fast") for name in dmbp.METHODS if name != "dmbp"]
    for file, name, preset in [("dmbp_paper", "dmbp", "paper"), ("dmbp_fast", "dmbp", "fast"), *wanted]:
        method, options = choose_method(
            name, preset, architecture=model.spec.architecture, output=model.spec.output
        )
        a = dmbp.explain(model.apply, model.params, x, target, method, key=jax.random.key(0), **options)
        heatmap = from_minimum(np.asarray(a.heatmap[0]))
        draw(file, [color_heatmap(heatmap), blend(photo, heatmap)])


if __name__ == "__main__":
    main()
