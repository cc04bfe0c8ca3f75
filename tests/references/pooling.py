"""Pooling by loops, from PyTorch's documentation of MaxPool2d and AdaptiveAvgPool2d."""

import math

import numpy as np


def max_pool(x, size, stride, padding, ceil_mode):
    """Maxima and positions of the first maxima (row, column) of one (h, w) map."""
    h, w = x.shape

    def count(length):
        n = (length + 2 * padding - size) / stride
        n = (math.ceil(n) if ceil_mode else math.floor(n)) + 1
        # "sliding windows that would start in the right padded region are ignored"
        return n - 1 if ceil_mode and (n - 1) * stride >= length + padding else n

    values = np.full((count(h), count(w)), -np.inf)
    places = np.zeros((*values.shape, 2), int)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            for di in range(size):
                for dj in range(size):
                    r, c = i * stride - padding + di, j * stride - padding + dj
                    if 0 <= r < h and 0 <= c < w and x[r, c] > values[i, j]:
                        values[i, j] = x[r, c]
                        places[i, j] = r, c
    return values, places


def max_windows(x, sizes, strides, pads, apart):
    """Maxima over windows of an array of any rank, and the places of the first ones."""
    counts = [
        (length + sum(pad) - (size - 1) * step - 1) // stride + 1
        for length, size, stride, pad, step in zip(x.shape, sizes, strides, pads, apart, strict=True)
    ]
    values, places = np.full(counts, -np.inf), np.zeros((*counts, x.ndim), int)
    for window in np.ndindex(*counts):
        for element in np.ndindex(*sizes):
            place = [
                w * stride - low + e * step
                for w, stride, (low, _), e, step in zip(window, strides, pads, element, apart, strict=True)
            ]
            inside = all(0 <= at < length for at, length in zip(place, x.shape, strict=True))
            if inside and x[tuple(place)] > values[window]:
                values[window], places[window] = x[tuple(place)], place
    return values, places


def adaptive_avg_pool(x, size):
    """Means of one (h, w) map over size x size bins."""
    h, w = x.shape
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            rows = slice(math.floor(i * h / size), math.ceil((i + 1) * h / size))
            columns = slice(math.floor(j * w / size), math.ceil((j + 1) * w / size))
            out[i, j] = x[rows, columns].mean()
    return out
