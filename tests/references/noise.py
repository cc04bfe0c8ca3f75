"""Statistics of a method's values at noisy images, as their papers define them: NumPy, all copies kept."""

import numpy as np


def noisy_statistics(explain, image, noises, noise_level):
    """`explain(image) -> values` at `image + noise_level * range * noise` for each of `noises`."""
    image = np.asarray(image, np.float64)
    spread = noise_level * (image.max() - image.min())
    values = np.stack(
        [np.asarray(explain(image + spread * np.asarray(noise)), np.float64) for noise in noises]
    )
    return {
        "smoothgrad": np.mean(values, axis=0),
        "smoothgrad_sq": np.mean(np.square(values), axis=0),
        "vargrad": np.var(values, axis=0),
    }
