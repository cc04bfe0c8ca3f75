"""The axis of the images and the axis of the channels of each value."""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple, TypeAlias

from jaxtyping import Array

from dmbp_jax._checks import InputError
from dmbp_jax._gated.layers import ELEMENTWISE
from dmbp_jax._gated.program import Flat, Op, Value
from dmbp_jax.ops import _equations as equations

# The axes of an operation's result that its operands' axes become.

Moves: TypeAlias = list[list[int]]
"""For each axis of an operand, the axes of the result that it becomes."""


def moves_of(op: Op, position: int, value: Value, flat: Flat) -> Moves:
    """The axes of the result that an operand's axes become; none if unknown."""
    shape, result = flat.kinds[op.inputs[position]].shape, flat.kinds[value].shape
    ranks = [len(flat.kinds[v].shape) for v in op.inputs]
    special = _SPECIAL.get(op.name)
    if op.name == "reshape":
        return _reshaped_moves(shape, result)
    if op.name == "dot_general":
        return product_moves(op, position, ranks)
    if op.name == "conv_general_dilated":
        axes = equations.convolution_of(op.params).axes
        spec, out = axes.lhs_spec, axes.out_spec
        to = {spec[0]: out[0], **dict(zip(spec[2:], out[2:], strict=True))} if position == 0 else {}
        return [[to[axis]] if axis in to else [] for axis in range(len(shape))]
    if special is not None:
        return special(op, len(shape))
    if len(shape) == len(result):
        return [[axis] for axis in range(len(shape))] if op.name not in _UNKNOWN else [[] for _ in shape]
    return [[] for _ in shape]


_UNKNOWN = frozenset({"gather", "scatter", "scatter-add", "scatter_add"})
"""Operations whose parameters give the axes only in comparison with the program for another number of
images."""


def _transposed(op: Op, rank: int) -> Moves:
    order = equations.permutation_of(op.params)
    return [[order.index(axis)] for axis in range(rank)]


def _broadcast(op: Op, _: int) -> Moves:
    return [[axis] for axis in equations.broadcast_axes(op.params)]


def _stacked(op: Op, rank: int) -> Moves:
    new = equations.stacked_axis(op.params)
    return [[axis + (axis >= new)] for axis in range(rank)]


def _unstacked(op: Op, rank: int) -> Moves:
    return _without({equations.stacked_axis(op.params)}, rank)


def _removed(op: Op, rank: int) -> Moves:
    return _without(set(equations.removed_axes(op.params)), rank)


def _without(gone: set[int], rank: int) -> Moves:
    kept = iter(range(rank))
    return [[] if axis in gone else [next(kept)] for axis in range(rank)]


_SPECIAL: dict[str, Callable[[Op, int], Moves]] = {
    "transpose": _transposed,
    "broadcast_in_dim": _broadcast,
    "squeeze": _removed,
    "stack": _stacked,
    "unstack": _unstacked,
    **dict.fromkeys(
        (f"reduce_{what}" for what in ("sum", "max", "min", "prod", "and", "or", "xor")), _removed
    ),
    **dict.fromkeys(("argmax", "argmin"), _removed),
}


def product_moves(op: Op, position: int, ranks: Sequence[int]) -> Moves:
    """The result of a `dot_general` has the axes of both, then the first operand's own, then the second's."""
    sides = equations.product_axes(op.params)
    _, batch = sides[position]
    own = [
        [axis for axis in range(rank) if axis not in (*gone, *both)]
        for rank, (gone, both) in zip(ranks, sides, strict=True)
    ]
    first = len(batch) + (len(own[0]) if position == 1 else 0)
    to = {axis: at for at, axis in enumerate(batch)}
    to |= {axis: first + at for at, axis in enumerate(own[position])}
    return [[to[axis]] if axis in to else [] for axis in range(ranks[position])]


def reshape_groups(shape: Sequence[int], result: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The groups of axes that a reshape converts into each other: the shortest runs of equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) and j < len(result):
        ours, theirs, a, b = [i], [j], shape[i], result[j]
        while a != b:
            if a < b:
                i += 1
                ours.append(i)
                a *= shape[i]
            else:
                j += 1
                theirs.append(j)
                b *= result[j]
        groups.append((ours, theirs))
        i, j = i + 1, j + 1
    # Axes of length 1 at the end.
    if groups:
        groups[-1][0].extend(range(i, len(shape)))
        groups[-1][1].extend(range(j, len(result)))
    return groups


def _reshaped_moves(shape: Sequence[int], result: Sequence[int]) -> Moves:
    moves: Moves = [[] for _ in shape]
    for ours, theirs in reshape_groups(shape, result):
        long, divided = ([a for a in of if s[a] > 1] for of, s in ((ours, shape), (theirs, result)))
        for axis in ours:
            # One axis divided, or several merged; other reshapes are not followed.
            if len(divided) <= 1 or long == [axis]:
                moves[axis] = divided or theirs[:1]
    return moves


# A rule receives arrays with the images' axis first and the channels' axis last. Lengths do not identify
# these axes: there may be two images, and another axis of length 2. The axes are therefore followed from the
# input through every operation; the program for another number of images shows which axis changes its length.


class Images(NamedTuple):
    """The axis of the images, of length `before * n * after`."""

    axis: int
    before: int = 1
    after: int = 1


class Axes(NamedTuple):
    """The axes of a value that depends on the images."""

    images: Images | None = None
    """The images' axis; None if it cannot be identified any more."""
    channels: frozenset[int] = frozenset()
    """The channels' axes; several after a division, as among the heads of an attention; empty without
    channels."""


AxesOf: TypeAlias = Mapping[Value, Axes]
"""The axes of every value that depends on the images."""


def follow_axes(flat: Flat, others: Flat | None, layers: Set[Value]) -> dict[Value, Axes]:
    """The axes of all values that depend on the images.

    `others` is the program for another number of images, None if it has other operations. `layers` are the
    results of products with weights, whose channels are the weights' free axes.

    Raises `InputError` where a value of one image comes to depend on other images.
    """
    shape = flat.kinds[flat.images].shape
    count = shape[0]
    found = {flat.images: Axes(Images(0), frozenset({len(shape) - 1}) - {0})}
    lost_at: dict[Value, Op] = {}
    """For each value, the operation after which its images cannot be identified."""
    nowhere: set[Value] = set()
    """For one image, the values without an axis of length 1 that could be the images'."""
    # The program for more images: for one image, every slice is the whole axis.
    for op, other in zip(flat.ops, (flat if others is None else others).ops, strict=True):
        if not any(v in found for v in op.inputs):
            continue
        if others is not None:
            _refuse_mixing(other, others, found)
        elif count > 1:
            _refuse_walking(op, found)
        lost_before = next((lost_at[v] for v in op.inputs if v in lost_at), None)
        for v in op.outputs:
            images = _images(op, v, flat, others, found) if lost_before is None else None
            if images is None and others is not None:
                if lost_before is None and op.name not in _REARRANGING:
                    raise _mixes(op)
                lost_at[v] = lost_before or op
            lost = images is None or not nowhere.isdisjoint(op.inputs)
            if lost and others is None and count == 1:
                images = _only_one(op, v, flat)
                if flat.kinds[v].shape[images.axis : images.axis + 1] != (1,):
                    nowhere.add(v)
            channels = _free_axes(op, flat, found) if v in layers else _channels(op, v, flat, found)
            found[v] = Axes(images, channels - ({images.axis} if images is not None else set()))
    for v in flat.outputs:
        if v in lost_at:
            raise _mixes(lost_at[v])
    return found


_REARRANGING = frozenset({"reshape", "pad", "concatenate"})
"""Operations that lose the images' axis without mixing images; after them the images cannot be identified."""


def _mixes(op: Op) -> InputError:
    return InputError(
        f"the network mixes images, as batch-norm in training mode does: {op.name}, at {op.place}; it must "
        "treat images independently of each other, since each is explained on its own"
    )


def _refuse_walking(op: Op, found: AxesOf) -> None:
    """Raise `InputError` for a loop over the images, with which the program depends on their number."""
    if op.name != "unstack":
        return
    for v in op.inputs:
        images = found[v].images if v in found else None
        if images is not None and images.axis == equations.stacked_axis(op.params):
            raise InputError(
                f"the network walks over the images, one after the other, at {op.place}; it must treat "
                "images independently of each other, since each is explained on its own: take jax.lax.map "
                "or jax.vmap"
            )


def _refuse_mixing(op: Op, flat: Flat, found: AxesOf) -> None:
    """Raise `InputError` for an operation along the images' axis that keeps its length but mixes images."""
    along = equations.axes_along(op.name, op.params)
    places = set()
    for position, v in enumerate(op.inputs):
        images = found[v].images if v in found else None
        if images is None:
            continue
        places.add(images)
        shape = flat.kinds[v].shape
        if images.axis in [axis % len(shape) for axis in along]:
            raise _mixes(op)
        if op.name == "conv_general_dilated" and position == 0:
            kind = equations.convolution_of(op.params)
            if kind.axes.lhs_spec[0] != images.axis:
                raise _mixes(op)
        if op.name == "dot_general" and images.axis in equations.product_axes(op.params)[position][0]:
            raise _mixes(op)
        length = shape[images.axis]
        for taken in equations.slices_of(op.name, op.params, shape):
            if not _takes_each(taken[images.axis], images, length):
                raise _mixes(op)
    if op.name in ELEMENTWISE and len(places) > 1:
        raise _mixes(op)


def _takes_each(taken: slice, images: Images, length: int) -> bool:
    """Whether a slice along the images' axis takes the same part of each image, in order."""
    start, stop, step = taken.indices(length)
    period = length // images.before
    whole = step == 1 and start % period == 0 and stop % period == 0
    return whole or (images.before == 1 and step == images.after and start < step)


def present(array: Array, axes: Axes, count: int, site: str) -> Array:
    """The array as given to a rule: its `count` images first, and its channels, if they are one axis, last.

    An array with three axes besides the images but without channels is no map, `(h, w, c)`, and is flattened
    to one axis; so are the weights of an attention. Of an array with more axes, those of length 1 are
    removed, as from an image in a batch of one.

    Raises `InputError` where the axis of the images is lost.
    """
    shape, order = _order(array.shape, axes, count, site)
    array = array.reshape(shape).transpose(order)
    while array.ndim > 4 and 1 in array.shape[1:-1]:
        array = array.squeeze(1 + array.shape[1:-1].index(1))
    return array.reshape(count, -1) if array.ndim == 4 and len(axes.channels) != 1 else array


def restore(array: Array, shape: tuple[int, ...], axes: Axes, count: int, site: str) -> Array:
    """Undo `present`, for a result with the original `shape`."""
    longer, order = _order(shape, axes, count, site)
    back = [order.index(axis) for axis in range(len(order))]
    return array.reshape([longer[axis] for axis in order]).transpose(back).reshape(shape)


def _order(
    shape: tuple[int, ...], axes: Axes, count: int, site: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape with the images on an axis of their own, and the order of axes in which they come first."""
    if axes.images is None:
        raise InputError(
            f"site {site!r} has shape {shape}, in which the axis of the {count} images is lost; the network "
            "must treat images independently of each other"
        )
    at, before, after = axes.images
    divided = [*([before] if before > 1 else []), count, *([after] if after > 1 else [])]
    first = at + (before > 1)
    longer = (*shape[:at], *divided, *shape[at + 1 :])
    rest = [axis for axis in range(len(longer)) if axis != first]
    if len(axes.channels) == 1:
        (channel,) = axes.channels
        channel += len(divided) - 1 if channel > at else 0
        rest = [axis for axis in rest if axis != channel] + [channel]
    return longer, (first, *rest)


def _images(op: Op, value: Value, flat: Flat, others: Flat | None, found: AxesOf) -> Images | None:
    if others is None:
        return _followed(op, value, flat, found)
    here, there = flat.kinds[value].shape, others.kinds[value].shape
    count, other = (one.kinds[one.images].shape[0] for one in (flat, others))
    moved = [axis for axis, (a, b) in enumerate(zip(here, there, strict=True)) if a != b]
    if len(moved) != 1 or here[moved[0]] * other != there[moved[0]] * count:
        return None
    if op.name == "reshape":
        # For one image, any axis of length 1 could be the images'.
        images = _followed(op, value, others, found)
        return images if images is not None and images.axis == moved[0] else None
    return Images(moved[0]) if here[moved[0]] == count else _followed(op, value, flat, found)


def _only_one(op: Op, value: Value, flat: Flat) -> Images:
    """One image whose axis was left out: any axis of length 1 holds it, first of all a new one; or else it is
    in front of the others."""
    shape = flat.kinds[value].shape
    kept = equations.broadcast_axes(op.params) if op.name == "broadcast_in_dim" else ()
    ones = [axis for axis, length in enumerate(shape) if length == 1]
    new = [axis for axis in ones if axis not in kept]
    if ones:
        return Images((new or ones)[0])
    return Images(0, after=shape[0]) if shape else Images(0)


def _followed(op: Op, value: Value, flat: Flat, found: AxesOf) -> Images | None:
    """The images' axis of the result, from the operands'."""
    count = flat.kinds[flat.images].shape[0]
    shape = flat.kinds[value].shape
    for position, v in enumerate(op.inputs):
        images = found[v].images if v in found else None
        if images is None:
            continue
        if op.name == "reshape":
            before = flat.kinds[v].shape
            order = equations.order_of_reshape(op.params, len(before))
            return _reshaped(
                [before[axis] for axis in order], shape, images._replace(axis=order.index(images.axis)), count
            )
        to = moves_of(op, position, value, flat)[images.axis]
        if len(to) == 1:
            length, now = flat.kinds[v].shape[images.axis], shape[to[0]]
            if now == length:
                return images._replace(axis=to[0])
            # Several batches concatenated, or one of them again.
            each = count * images.after
            if op.name in ("concatenate", "slice", "split", "tile") and now % each == 0:
                return Images(to[0], now // each, images.after)
    return None


def _channels(op: Op, value: Value, flat: Flat, found: AxesOf) -> frozenset[int]:
    """The channels' axes of the result, from the operands'."""
    for position, v in enumerate(op.inputs):
        if v in found and found[v].channels:
            moves = moves_of(op, position, value, flat)
            to = [moves[axis] for axis in found[v].channels]
            if all(to):
                return frozenset(axis for axes in to for axis in axes)
    return frozenset()


def _free_axes(op: Op, flat: Flat, found: AxesOf) -> frozenset[int]:
    """The channels of a layer's output: the axes that its weights have and its input does not."""
    if op.name == "conv_general_dilated":
        return frozenset({equations.convolution_of(op.params).axes.out_spec[1]})
    (weights,) = [position for position, v in enumerate(op.inputs) if v not in found][:1]
    _, both = equations.product_axes(op.params)[weights]
    moves = product_moves(op, weights, [len(flat.kinds[v].shape) for v in op.inputs])
    return frozenset(axis for own, to in enumerate(moves) if own not in both for axis in to)


def _reshaped(shape: Sequence[int], result: Sequence[int], images: Images, count: int) -> Images | None:
    """The images' axis after a reshape."""
    for ours, theirs in reshape_groups(shape, result):
        if images.axis not in ours:
            continue
        ahead = math.prod(shape[axis] for axis in ours if axis < images.axis) * images.before
        behind = math.prod(shape[axis] for axis in ours if axis > images.axis) * images.after
        places = []
        for axis in theirs:
            outer = math.prod(result[other] for other in theirs if other < axis)
            inner = math.prod(result[other] for other in theirs if other > axis)
            if ahead % outer == 0 and behind % inner == 0 and result[axis] % count == 0:
                places.append(Images(axis, ahead // outer, behind // inner))
        # On an axis of their own, if possible.
        return min(places, key=lambda place: (place.before * place.after, place.axis), default=None)
    return None
