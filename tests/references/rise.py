"""RISE by loops: one mask pixel at a time, one mask at a time."""

import math

import numpy as np


def make_mask(grid, shift, size):
    """The grid, interpolated at one pixel after the other of the shifted window."""
    grid, cells = np.asarray(grid, np.float64), len(grid)
    ups = [(cells + 1) * math.ceil(length / cells) for length in size]

    def neighbours(pixel, up):
        """The two grid elements around an upsampled pixel, and the weight of the second."""
        place = (pixel + 0.5) * cells / up - 0.5
        first = math.floor(place)
        return mirror(first), mirror(first + 1), place - first

    def mirror(index):
        if cells == 1:
            return 0
        if index < 0:
            return -index
        return index if index < cells else 2 * (cells - 1) - index

    mask = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            i, ii, down = neighbours(row + shift[0], ups[0])
            j, jj, right = neighbours(column + shift[1], ups[1])
            above = (1 - right) * grid[i, j] + right * grid[i, jj]
            below = (1 - right) * grid[ii, j] + right * grid[ii, jj]
            mask[row, column] = (1 - down) * above + down * below
    return mask


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def rise(logits_of, image, weights, grids, shifts, probability, activation=softmax):
    """The saliency of an image; `logits_of(image)` is the network."""
    saliency = np.zeros(image.shape[:2])
    for grid, shift in zip(grids, shifts, strict=True):
        mask = make_mask(grid, shift, image.shape[:2])
        seen = activation(np.asarray(logits_of(image * mask[:, :, None]), np.float64))
        saliency += (weights * seen).sum() * mask
    return saliency / (len(grids) * probability)
