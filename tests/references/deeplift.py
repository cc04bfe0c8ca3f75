"""DeepLIFT's rescale rule on `small.tiny_network`, by NumPy loops: activations, then multipliers backwards.

A max-pool is taken as `max(a, b) = b + relu(a - b)`, window element by window element, row by row.
"""

import numpy as np


def conv(x, kernel, bias):
    """3x3 convolution of one (h, w, c) map, padded by one pixel."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for i, j in np.ndindex(*x.shape[:2]):
        out[i, j] = np.einsum("hwc,hwco->o", padded[i : i + 3, j : j + 3], kernel) + bias
    return out


def conv_back(multipliers, kernel):
    """What the convolution's input gets of the multipliers of its output."""
    h, w, _ = multipliers.shape
    padded = np.zeros((h + 2, w + 2, kernel.shape[2]))
    for i, j in np.ndindex(h, w):
        padded[i : i + 3, j : j + 3] += np.einsum("hwco,o->hwc", kernel, multipliers[i, j])
    return padded[1:-1, 1:-1]


def slope(z, z0):
    """relu's (a - a0) / (z - z0)."""
    if z == z0:
        return float(z > 0)
    return (max(z, 0) - max(z0, 0)) / (z - z0)


slopes = np.vectorize(slope)


def pool(x, x0):
    """Maxima over 2x2 windows of both maps, and each window element's share of the multiplier."""
    h, w, c = x.shape
    out, out0 = np.zeros((2, h // 2, w // 2, c))
    shares = np.zeros_like(x)
    for i, j, k in np.ndindex(h // 2, w // 2, c):
        places = [(2 * i + di, 2 * j + dj, k) for di in (0, 1) for dj in (0, 1)]
        run, run0 = x[places[0]], x0[places[0]]
        weights = [1.0]
        for place in places[1:]:
            keep = slope(run - x[place], run0 - x0[place])
            weights = [keep * weight for weight in weights] + [1 - keep]
            run, run0 = max(run, x[place]), max(run0, x0[place])
        out[i, j, k], out0[i, j, k] = run, run0
        for place, weight in zip(places, weights, strict=True):
            shares[place] = weight
    return out, out0, shares


def deeplift(params, image, baseline, target):
    """The attributions of one image."""
    one, two, last = params["conv1"], params["conv2"], params["fc"]
    z1, z10 = (conv(x, one["kernel"], one["bias"]) for x in (image, baseline))
    pooled, pooled0, shares = pool(np.maximum(z1, 0), np.maximum(z10, 0))
    z2, z20 = (h + conv(h, two["kernel"], two["bias"]) for h in (pooled, pooled0))
    positions = z2.shape[0] * z2.shape[1]
    m = slopes(z2, z20) * (last["kernel"][:, target] / positions)
    m = m + conv_back(m, two["kernel"])
    m = shares * np.repeat(np.repeat(m, 2, axis=0), 2, axis=1)
    m = slopes(z1, z10) * m
    return conv_back(m, one["kernel"]) * (image - baseline)
