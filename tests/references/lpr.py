"""LPR's loss in NumPy, for a chain of matrices with a ReLU between each and the next."""

import numpy as np


def relu(z):
    return np.where(z > 0, z, 0)


def forward(matrices, image):
    """The pre-activations of every layer; the last are the logits."""
    values, h = [], image.reshape(-1)
    for matrix in matrices:
        values.append(h @ matrix)
        h = relu(values[-1])
    return values


def learned_gradient(matrices, image, weights, thetas):
    """The input gradient, backwards through one matrix after the other, a gate at each ReLU."""
    cotangent = matrices[-1] @ weights
    for z, theta, matrix in reversed(
        list(zip(forward(matrices, image)[:-1], thetas, matrices[:-1], strict=True))
    ):
        cotangent = matrix @ (cotangent * (z > 0) / (1 + np.exp(-theta)))
    return cotangent.reshape(image.shape)


def saliency(matrices, image, weights, thetas):
    return np.abs(learned_gradient(matrices, image, weights, thetas)).max(axis=2)


def total_variation(mask):
    rows, columns = mask.shape
    total = 0.0
    for i in range(rows):
        for j in range(columns):
            if i + 1 < rows:
                total += abs(mask[i + 1, j] - mask[i, j])
            if j + 1 < columns:
                total += abs(mask[i, j + 1] - mask[i, j])
    return total / (rows * columns)


def loss(matrices, image, weights, thetas, *, scale, baseline, area_weight, total_variation_weight, output):
    mask = np.minimum(saliency(matrices, image, weights, thetas) / scale, 1)
    masked = mask[:, :, None] * image + (1 - mask[:, :, None]) * baseline
    logits = forward(matrices, masked)[-1]
    if output == "softmax":
        log_probabilities = logits - np.log(np.exp(logits).sum())
    else:
        log_probabilities = np.log(1 / (1 + np.exp(-logits)))
    return (
        -(weights * log_probabilities).sum()
        + area_weight * mask.mean()
        + total_variation_weight * total_variation(mask)
    )


def finite_differences(function, arrays, step=1e-6):
    """The gradient of `function(arrays)`, one element after the other."""
    gradients = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + step
            above = function(arrays)
            array[index] = before - step
            below = function(arrays)
            array[index] = before
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients
