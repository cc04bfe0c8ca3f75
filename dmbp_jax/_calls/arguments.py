"""The arguments of `explain`: converted to arrays and plain values, or refused in one sentence."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax._calls.call import Options
from dmbp_jax._checks import InputError, called, check_choice, is_number, kind_of
from dmbp_jax._ranges import check_range, check_whole, range_of
from dmbp_jax.result import Method

_NAMES = {
    "images": "images are strings: read each with model.spec.preprocess(path), and stack them",
    "targets": "targets are strings: model.spec.class_index(name) gives the class of a name",
    "classes": "classes are strings: model.spec.class_index(name) gives the class of a name",
}


def as_array(values: npt.ArrayLike | jax.Array, what: str) -> jax.Array | np.ndarray:
    """An array without moving it: on its device, or in host memory.

    Raises `InputError` for other values, with the name `what`.

    >>> as_array(["tabby"], "targets")
    Traceback (most recent call last):
    dmbp_jax.InputError: targets are strings: model.spec.class_index(name) gives the class of a name
    """
    if isinstance(values, jax.Array):
        return values
    if isinstance(values, jax.ShapeDtypeStruct):
        raise InputError(
            f"{what} are a shape without numbers: jax.eval_shape(lambda {what}: explain(...), {what}) gives "
            "the shapes of an explanation"
        )
    if isinstance(values, Mapping):
        raise InputError(f"{what} must be one array, got a dict of {', '.join(map(str, values))}")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} must be one array of numbers: {_why(values, what)}") from error
    if array.dtype.kind in "US":
        raise InputError(_NAMES[what])
    if array.dtype.kind == "O":
        raise InputError(f"{what} must be an array of numbers, got {kind_of(values)}")
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype.kind in "iu" and array.size:
        beyond = max((int(array.min()), int(array.max())), key=abs)
        if not np.iinfo(kept).min <= beyond <= np.iinfo(kept).max:
            raise InputError(f"{what} hold the number {beyond}, which is out of the range of {kept}")
    return array.astype(kept, copy=False)


def _why(values: Any, what: str) -> str:
    """Why NumPy cannot convert it to an array."""
    if hasattr(values, "detach"):
        return f"give {what}.detach().cpu().numpy()"
    if isinstance(values, list | tuple):
        if any(isinstance(value, jax.core.Tracer) for value in values):
            return f"jnp.stack({what})"
        shapes = list(dict.fromkeys(str(getattr(value, "shape", kind_of(value))) for value in values))
        if len(shapes) > 1:
            return f"these have different shapes, {', '.join(shapes[:4])}; make them of one, or one call each"
    return f"got {kind_of(values)}"


def check_options(method: Method, options: dict[str, Any]) -> None:
    """Raise `InputError` for an option that the method does not have, or that is no number where its
    annotation says so."""
    parameters = inspect.signature(method).parameters
    known = {
        parameter.name: parameter
        for parameter in parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        choices = [name for name in known if name != "key"]
        for name in options:
            if not choices:
                raise InputError(f"{called(method)} has no options, got {name}")
            check_choice(f"option of {called(method)}", name, choices)
    for name, value in options.items():
        if name not in known or isinstance(value, jax.Array | np.ndarray):
            continue
        annotation, default = known[name].annotation, known[name].default
        if value is None and default not in (None, inspect.Parameter.empty):
            raise InputError(f"{name} cannot be None: leave it out for its default, {default!r}")
        if annotation is int:
            check_whole(name, value, least=-(2**63))
        is_real = annotation is float or (get_origin(annotation) is Annotated and range_of(annotation))
        if is_real and not is_number(value):
            raise InputError(f"{name} must be a number, got {value!r}")


def divide_options(method: Method, options: dict[str, Any]) -> tuple[dict[str, jax.Array], Options]:
    """The dynamic options of a program, arrays and numbers with a range; and the static ones, all others.

    Raises `InputError` for a number out of its range, and for a static option without a hash.
    """
    arrays: dict[str, jax.Array] = {}
    static: list[tuple[str, type, Any]] = []
    annotations = _annotations(method)
    for name, value in sorted(options.items()):
        is_array = isinstance(value, jax.Array | np.ndarray)
        annotation = annotations.get(name)
        # A baseline may be an image too; a numeric option may not.
        is_one = value.ndim == 0 or get_origin(annotation) is Annotated if is_array else is_number(value)
        if range_of(annotation) and is_one:
            check_range(name, value, annotation)
            # Weakly typed, as Python's numbers are, so that the images' dtype is kept.
            arrays[name] = jax.lax.full_like(jnp.asarray(0.0), value if is_array else float(value))
        elif is_array:
            arrays[name] = jnp.asarray(value)
        else:
            try:
                hash(value)
            except TypeError:
                raise InputError(
                    f"option {name} must be a plain number, string, flag or an array, got {kind_of(value)}"
                ) from None
            static.append((name, type(value), value))
    return arrays, tuple(static)


def _annotations(method: Method) -> dict[str, Any]:
    """The annotations of a method's options: its own parameters, and the fields of dataclasses in the
    annotation of `**options: Annotated[Any, Fields]`."""
    found: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        found[parameter.name] = parameter.annotation
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for kind in filter(dataclasses.is_dataclass, getattr(parameter.annotation, "__metadata__", ())):
                found |= {field.name: field.type for field in dataclasses.fields(kind)}
    return found


def check_key(key: Any, *, several: bool = True) -> None:
    """Raise `InputError` unless it is None, or one random key or several, of `jax.random.key` or `PRNGKey`.

    `several=False`: a key for each image is not taken.

    >>> check_key(0)
    Traceback (most recent call last):
    dmbp_jax.InputError: key must be a random key, jax.random.key(0), or one for each image, got an int
    """
    if key is None:
        return
    is_array = isinstance(key, jax.Array | np.ndarray)
    if not is_array or _key_axes(key) not in (0, 1):
        got = f"shape {key.shape} of {key.dtype}" if is_array else kind_of(key)
        raise InputError(f"key must be a random key, jax.random.key(0), or one for each image, got {got}")
    if not several and _key_axes(key):
        raise InputError(f"key must be one random key, jax.random.key(0), got {len(key)} keys")


def key_of_each(key: jax.Array | np.ndarray | None, count: int) -> jax.Array | np.ndarray | None:
    """A key for each of `count` images: the given ones, or the given one split; None without a key.

    Raises `InputError` for another number of keys than of images.
    """
    if key is None:
        return None
    if not _key_axes(key):
        return jax.random.split(key, count)
    if len(key) != count:
        raise InputError(f"got {count} images but {len(key)} keys: give one key, or one for each image")
    return key


def keys_from(key: jax.Array | np.ndarray, first: int, count: int) -> jax.Array:
    """The keys of `count` images from place `first` on, those that `key_of_each` gives for all.

    >>> key = jax.random.key(0)
    >>> bool((keys_from(key, 3, 2) == key_of_each(key, 5)[3:]).all())
    True
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(first, first + count, dtype=np.uint32))


def _key_axes(key: jax.Array | np.ndarray) -> int:
    """0 for one key, 1 for a row of keys, of `jax.random.key` or `PRNGKey`; -1 for other arrays."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.ndim
    return key.ndim - 1 if key.dtype == np.uint32 else -1


def check_division(batch_size: Any, mesh: Mesh | None, on_step: Callable[..., None] | None = None) -> None:
    """Raise `InputError` unless the batch size is None, `"auto"` or a number above 0, the mesh is one, and
    `on_step` can be called."""
    if isinstance(batch_size, str) and batch_size != "auto":
        raise InputError(f"batch_size must be a number, None or 'auto', got {batch_size!r}")
    if batch_size is not None and batch_size != "auto":
        check_whole("batch_size", batch_size, least=1)
    if mesh is not None and not isinstance(mesh, Mesh):
        raise InputError(f"mesh must be a jax.sharding.Mesh or None, got {kind_of(mesh)}")
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be a function on_step(done, total) or None, got {kind_of(on_step)}")
