"""Metrics that remove parts of an image, by loops: what is removed is given, what it means is worked out."""

import math

import numpy as np

from references.metrics import pixels_in_order


def infidelity(score, image, values, perturbed, removed):
    """Definition 2.1 of Yeh et al., and the same with the best factor, found by trying; `score(image)`."""
    pairs = []
    for shown, gone in zip(perturbed, removed, strict=True):
        claim = 0.0
        for place in np.ndindex(values.shape):
            claim += float(gone[place[: gone.ndim]]) * float(values[place])
        pairs.append((claim, score(image) - score(shown)))

    def error(scale):
        return sum((scale * claim - fall) ** 2 for claim, fall in pairs) / len(pairs)

    # A parabola: its lowest point follows from three of its points.
    left, middle, right = error(-1.0), error(0.0), error(1.0)
    curvature = (left + right) / 2 - middle
    best = (left - right) / (4 * curvature) if curvature > 0 else 0.0
    return error(1.0), error(best)


def pearson(a, b):
    a, b = np.asarray(a) - np.mean(a), np.asarray(b) - np.mean(b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(a * a) * sum(b * b))


def sensitivity_n(score, image, heatmap, subsets):
    """Of subsets of one size, each `(h, w)` of booleans; removed pixels are 0."""
    sums, falls = [], []
    for subset in subsets:
        shown, total = np.array(image), 0.0
        for place in np.ndindex(heatmap.shape):
            if subset[place]:
                shown[place] = 0
                total += heatmap[place]
        sums.append(total)
        falls.append(score(image) - score(shown))
    return pearson(sums, falls)


def max_sensitivity(explain, image, noises):
    """`explain(image)` of one image at a time."""
    before = explain(image)
    largest = 0.0
    for noise in noises:
        change = explain(image + noise) - before
        largest = max(largest, math.sqrt(sum(x * x for x in change.ravel())))
    return largest / math.sqrt(sum(x * x for x in before.ravel()))


def linear_imputation(image, removed):
    """One equation for each pixel of the image, solved at once: known pixels are what they are."""
    height, width, channels = image.shape
    system = np.zeros((height * width, height * width))
    right = np.zeros((height * width, channels))
    for i, j in np.ndindex(height, width):
        row = i * width + j
        system[row, row] = 1
        if not removed[i, j]:
            right[row] = image[i, j]
            continue
        neighbours = {
            (i + down, j + along): 1 / 6 if 0 in (down, along) else 1 / 12
            for down in (-1, 0, 1)
            for along in (-1, 0, 1)
            if (down, along) != (0, 0) and 0 <= i + down < height and 0 <= j + along < width
        }
        for (k, m), weight in neighbours.items():
            system[row, k * width + m] = -weight / sum(neighbours.values())
    return np.linalg.solve(system, right).reshape(image.shape)


def road(predict, image, heatmap, target, shares, decreasing):
    """Probability and recognition of the target without noise; `predict(image)` is a vector."""
    places = pixels_in_order(heatmap, decreasing)
    probabilities, recognized = [], []
    for share in shares:
        removed = np.zeros(heatmap.shape, bool)
        for place in places[: math.floor(share * len(places))]:
            removed[place] = True
        found = predict(linear_imputation(image, removed))
        probabilities.append(found[target])
        recognized.append(float(found[target] == max(found)))
    return probabilities, recognized
