"""NormGrad slowly: every position's weight gradient is formed entry by entry, then aggregated."""

import numpy as np


def weight_gradients(activation, gradient, layer):
    """The term of every position in the weight gradient of a virtual identity layer: `(h, w, ...)`."""
    rows, columns, channels = activation.shape
    shape = {
        "bias": (channels,),
        "scaling": (channels,),
        "conv1x1": (channels, channels),
        "conv3x3": (channels, channels, 3, 3),
    }[layer]
    terms = np.zeros((rows, columns, *shape))
    padded = np.zeros((rows + 2, columns + 2, channels))
    padded[1:-1, 1:-1] = activation
    for i in range(rows):
        for j in range(columns):
            for out in range(channels):
                g = gradient[i, j, out]
                if layer == "bias":
                    terms[i, j, out] = g
                elif layer == "scaling":
                    terms[i, j, out] = g * activation[i, j, out]
                else:
                    for inner in range(channels):
                        if layer == "conv1x1":
                            terms[i, j, out, inner] = g * activation[i, j, inner]
                        else:
                            terms[i, j, out, inner] = g * padded[i : i + 3, j : j + 3, inner]
    return terms


def aggregate(terms, aggregation):
    """One number per position of the entries of its term."""
    entries = terms.reshape(*terms.shape[:2], -1)
    return {
        "norm": lambda: np.sqrt((entries**2).sum(axis=-1)),
        "sum": lambda: entries.sum(axis=-1),
        "positive_norm": lambda: np.sqrt((np.where(entries > 0, entries, 0) ** 2).sum(axis=-1)),
        "max": lambda: np.abs(entries).max(axis=-1),
    }[aggregation]()


def upsample(one, size):
    """Bilinear interpolation with half-pixel centres; beyond the outermost centres the edge goes on."""
    result = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            total = 0.0
            y, x = (
                (k + 0.5) * have / want - 0.5 for k, have, want in zip((i, j), one.shape, size, strict=True)
            )
            for row in (int(np.floor(y)), int(np.floor(y)) + 1):
                for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                    value = one[min(max(row, 0), one.shape[0] - 1), min(max(column, 0), one.shape[1] - 1)]
                    total += (1 - abs(y - row)) * (1 - abs(x - column)) * value
            result[i, j] = total
    return result


def combine(maps, size, how, weights):
    """The weighted mean of the maps that are not constant, each scaled to [0, 1]; zeros if all are."""
    if len(maps) == 1:
        return upsample(maps[0], size)
    scaled, kept = [], []
    for one, weight in zip(maps, weights, strict=True):
        if one.max() == one.min():
            continue
        large = upsample(one, size)
        scaled.append((large - large.min()) / (large.max() - large.min()))
        kept.append(weight)
    if sum(kept) == 0:
        return np.zeros(size)
    result = np.zeros(size) if how == "sum" else np.ones(size)
    for one, weight in zip(scaled, kept, strict=True):
        share = weight / sum(kept)
        result = result + share * one if how == "sum" else result * one**share
    return result
