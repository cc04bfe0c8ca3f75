"""The metrics by loops, from the papers' definitions: one pixel, one image, one box at a time."""

import itertools
import math

import numpy as np
from scipy import ndimage, signal


def rise_kernel():
    """`gkern(11, 5)` of RISE's `evaluation.py`."""
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    return ndimage.gaussian_filter(impulse, 5)


def rise_blur(image):
    """Every channel convolved with the kernel, zeros around it (`padding=klen // 2`)."""
    kernel = rise_kernel()
    return np.stack(
        [signal.convolve2d(image[:, :, c], kernel, mode="same") for c in range(image.shape[2])], axis=2
    )


def auc(values):
    """Trapezoids, one after the other."""
    area = 0.0
    for left, right in itertools.pairwise(values):
        area += (left + right) / 2 / (len(values) - 1)
    return area


def tie_breaker(shape):
    """A number of its own for every pixel, from NumPy's frozen generator."""
    return np.random.RandomState(shape).permutation(shape[0] * shape[1]).reshape(shape)


def pixels_in_order(heatmap, decreasing):
    """Positions `(i, j)`: the greater value is the greater, of equal values that with the greater number."""
    ties = tie_breaker(heatmap.shape)
    places = list(np.ndindex(heatmap.shape))
    return sorted(places, key=lambda place: (heatmap[place], ties[place]), reverse=decreasing)


def curve(probability, start, finish, order, step):
    """RISE's loop: look at the image, then exchange `step` pixels. `probability(image)` is a number."""
    shown = np.array(start, np.float64)
    steps = (len(order) + step - 1) // step
    values = []
    for i in range(steps + 1):
        values.append(probability(shown))
        for place in order[step * i : step * (i + 1)]:
            shown[place] = finish[place]
    return np.asarray(values)


def step_size(heatmap, n_steps=28):
    return math.ceil(heatmap.shape[0] * heatmap.shape[1] / n_steps)


def insertion(predict, image, heatmap, target, step):
    order = pixels_in_order(heatmap, decreasing=True)
    return curve(lambda x: predict(x)[target], rise_blur(image), image, order, step)


def deletion(predict, image, heatmap, target, step):
    order = pixels_in_order(heatmap, decreasing=True)
    return curve(lambda x: predict(x)[target], image, np.zeros_like(image), order, step)


def complementary_insertion(predict, image, heatmap, others, step):
    """The mean area under the curves of the other classes, each by itself."""
    order = pixels_in_order(heatmap, decreasing=False)
    curves = [curve(lambda x: predict(x)[k], rise_blur(image), image, order, step) for k in others]  # noqa: B023
    return np.mean([auc(one) for one in curves])


def pointing_game(heatmap, boxes, tolerance):
    """The distance from the maximum's centre to every box, by cases."""
    row, column = pixels_in_order(heatmap, decreasing=True)[0]
    y, x = row + 0.5, column + 0.5
    for left, top, right, bottom in boxes:
        across = left - x if x < left else x - right if x > right else 0
        down = top - y if y < top else y - bottom if y > bottom else 0
        if math.sqrt(across**2 + down**2) <= tolerance:
            return True
    return False


def to_photograph(heatmap, region, size):
    left, top, right, bottom = region
    out = np.full(size, -np.inf)

    def neighbours(place, length):
        place = min(max(place, 0), length - 1)
        first = min(math.floor(place), length - 1)
        return first, min(first + 1, length - 1), place - first

    for row, column in np.ndindex(size):
        y, x = row + 0.5, column + 0.5
        if not (left <= x <= right and top <= y <= bottom):
            continue
        i, ii, down = neighbours((y - top) / (bottom - top) * heatmap.shape[0] - 0.5, heatmap.shape[0])
        j, jj, along = neighbours((x - left) / (right - left) * heatmap.shape[1] - 0.5, heatmap.shape[1])
        above = (1 - along) * heatmap[i, j] + along * heatmap[i, jj]
        below = (1 - along) * heatmap[ii, j] + along * heatmap[ii, jj]
        out[row, column] = (1 - down) * above + down * below
    return out


def grid_pointing_game(heatmap, grid, cell):
    height, width = heatmap.shape
    inside = everywhere = 0.0
    for (i, j), value in np.ndenumerate(heatmap):
        if value > 0:
            everywhere += value
            # The last cell that starts at or before the pixel.
            row = max(r for r in range(grid) if height * r // grid <= i)
            column = max(c for c in range(grid) if width * c // grid <= j)
            if row * grid + column == cell:
                inside += value
    return inside / everywhere


def ranks(values):
    """From 1; equal values share the mean of their places."""
    return np.asarray(
        [1 + sum(o < v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]
    )


def spearman(a, b):
    a, b = ranks(np.ravel(a)), ranks(np.ravel(b))
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())


def contrast_localization(heatmap, target_region, other_region):
    red = blue = red_there = blue_there = 0.0
    for place in np.ndindex(heatmap.shape):
        value = float(heatmap[place])
        if value > 0:
            red += value
            red_there += value if target_region[place] else 0.0
        if value < 0:
            blue += value
            blue_there += value if other_region[place] else 0.0
    return red_there / red if red else math.nan, blue_there / blue if blue else math.nan


def counter_evidence(logits, image, heatmap, target, shares):
    """Changes of log-probability and logit; `logits(image)` is a vector."""

    def look(shown):
        values = np.asarray(logits(shown), np.float64)
        return values[target] - np.log(np.exp(values - values.max()).sum()) - values.max(), values[target]

    blurred = rise_blur(image)
    order = pixels_in_order(heatmap, decreasing=False)
    changes = []
    for share in shares:
        shown = np.array(image, np.float64)
        for place in order[: math.ceil(share * len(order))]:
            if heatmap[place] < 0:
                shown[place] = blurred[place]
        changes.append([after - before for after, before in zip(look(shown), look(image), strict=True)])
    return np.transpose(changes)


def relevance_mass_accuracy(heatmap, region, ignored):
    on_object = everywhere = 0.0
    for place in np.ndindex(heatmap.shape):
        if heatmap[place] > 0 and not ignored[place]:
            everywhere += heatmap[place]
            on_object += heatmap[place] if region[place] else 0.0
    return on_object / everywhere


def relevance_rank_accuracy(heatmap, region, ignored):
    order = [place for place in pixels_in_order(heatmap, decreasing=True) if not ignored[place]]
    size = sum(bool(region[place]) for place in order)
    return sum(bool(region[place]) for place in order[:size]) / size


def gini(values):
    """Half the relative mean absolute difference: the index as economists define it, from all pairs."""
    magnitudes = [abs(value) for value in np.ravel(values)]
    differences = sum(abs(one - other) for one in magnitudes for other in magnitudes)
    return differences / (2 * len(magnitudes) * sum(magnitudes))
