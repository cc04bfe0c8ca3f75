"""Which axis of an array belongs to the images: a rule sees it first."""

from jaxtyping import Array

from dmbp_jax.checks import InputError


def part(array: Array, count: int, site: str) -> Array:
    """The array with the axis of the `count` images first.

    Networks may move that axis, or merge it with others, as `(n * t, ...)`.
    """
    where = _axis(array.shape, count)
    if where == 0:
        return array
    if where is not None:
        return array.swapaxes(0, where)
    if array.ndim and array.shape[0] % count == 0:
        return array.reshape(count, array.shape[0] // count, *array.shape[1:])
    raise InputError(
        f"site {site!r} has shape {array.shape}, in which the axis of the {count} images is lost; the "
        "network must treat images independently of each other"
    )


def join(array: Array, like: Array, count: int) -> Array:
    """Undo `part`, for an array that goes where `like` came from."""
    where = _axis(like.shape, count)
    if where is not None:
        return array.swapaxes(0, where)
    return array.reshape(like.shape)


def _axis(shape: tuple[int, ...], count: int) -> int | None:
    return shape.index(count) if count in shape else None
