"""JAX's representation of traced programs: the only module that reads parameters of equations by name.

These names are private to JAX and change between versions. These functions work with all supported versions.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.extend.core import Jaxpr, JaxprEqn

_LIBRARIES = tuple(f"{Path(file).parent}{os.sep}" for file in (jax.__file__, Path(__file__).parent))
"""The folders of JAX and of this package."""

CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}
    | {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
)
"""Equations that run the program inside them once."""


class Inner(NamedTuple):
    """A program inside an equation; its arguments are its constants, then the equation's."""

    jaxpr: Jaxpr
    consts: list[Any]


class Scan(NamedTuple):
    """A `jax.lax.scan`: arguments are constants, carries and scanned arrays; results are carries and stacked
    outputs."""

    length: int
    reverse: bool
    consts: int
    carries: int
    body: Inner
    step: Callable[..., Sequence[Any]]
    """The body as a function of its constants, its carries and an element of the scanned arrays."""

    @property
    def is_map(self) -> bool:
        """Whether the steps are independent of each other: every carry is returned unchanged."""
        came = self.body.jaxpr.invars[self.consts : self.consts + self.carries]
        return all(one is other for one, other in zip(came, self.body.jaxpr.outvars, strict=False))


class Windows(NamedTuple):
    """The windows of a `reduce_window`, one entry for each axis."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    base_dilation: tuple[int, ...]
    window_dilation: tuple[int, ...]


class Convolution(NamedTuple):
    """The parameters of a `conv_general_dilated`."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    axes: jax.lax.ConvDimensionNumbers
    feature_groups: int
    batch_groups: int
    precision: Any
    """None, unless the network asks for one."""
    result_dtype: Any
    """None, unless it is to differ from the operands'."""

    @property
    def output_channel_axis(self) -> int:
        """Between the kernel's elements."""
        return self.axes.rhs_spec[0]


def evaluate(jaxpr: Jaxpr) -> Callable[..., Sequence[Any]]:
    """A program without constants as a function of arrays."""
    # Up to JAX 0.10 a class of its own held the constants of a program.
    closed = jaxpr if hasattr(jaxpr, "consts") else core.ClosedJaxpr(jaxpr, [])  # type: ignore[attr-defined]
    function: Callable[..., Sequence[Any]] = core.jaxpr_as_fun(closed)
    return function


def called(eqn: JaxprEqn) -> Inner | None:
    """The program that a call runs; None for an equation that is no call."""
    if eqn.primitive.name not in CALLS:
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in eqn.params:
            return _inner(eqn.params[name])
    return None


def is_jit(eqn: JaxprEqn) -> bool:
    """Whether a call is only a call, so that inlining it changes nothing."""
    return eqn.primitive.name in ("jit", "pjit")


def custom_derivative_of(eqn: JaxprEqn) -> str | None:
    """The function of a `custom_jvp` or `custom_vjp` as `name at file:line`, or a description without a name.

    None for an equation without a custom derivative, and for functions of JAX and of this package, whose
    custom derivatives are those of what they compute.
    """
    if not eqn.primitive.name.startswith("custom_"):
        return None
    inner = called(eqn)
    if inner is None:
        return None
    info = getattr(getattr(inner.jaxpr, "debug_info", None), "func_src_info", None) or ""
    file = info.split(" at ")[-1]
    # `jax.custom_gradient` wraps the user's function in one of its own.
    if not info or "custom_derivatives.py" in file:
        return "a function with a custom gradient"
    return None if file.startswith(_LIBRARIES) else info


def called_name(eqn: JaxprEqn) -> str:
    """The name of the function that a call runs; empty if it has none."""
    return str(eqn.params.get("name", "")) if eqn.primitive.name in CALLS else ""


def scan_of(eqn: JaxprEqn) -> Scan | None:
    """The parts of a `scan`; None for another equation."""
    if eqn.primitive.name != "scan":
        return None
    p = eqn.params
    if "num_consts" in p:
        consts, carries = p["num_consts"], p["num_carry"]
    else:  # since JAX 0.11
        consts, carries = (len(part) for part in p["ft_in"].unpack()[:2])
    body = p["jaxpr"]
    step: Callable[..., Sequence[Any]] = core.jaxpr_as_fun(body)
    return Scan(p["length"], p["reverse"], consts, carries, _inner(body), step)


def branches_of(eqn: JaxprEqn) -> tuple[Inner, ...]:
    """The programs among which a `cond` chooses; none for another equation."""
    return tuple(map(_inner, eqn.params["branches"])) if eqn.primitive.name == "cond" else ()


def inner_programs(eqn: JaxprEqn) -> Iterator[Inner]:
    """Every program inside an equation."""
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                yield _inner(one)


def exponent_of(params: Mapping[str, Any]) -> int:
    """The `y` of `x ** y`, an `integer_pow`."""
    return int(params["y"])


def windows_of(params: Mapping[str, Any]) -> Windows:
    """The windows of a `reduce_window_max` or `reduce_window_min`."""
    return Windows(
        params["window_dimensions"],
        params["window_strides"],
        tuple((low, high) for low, high in params["padding"]),
        params["base_dilation"],
        params["window_dilation"],
    )


def convolution_of(params: Mapping[str, Any]) -> Convolution:
    """The parameters of a `conv_general_dilated`."""
    return Convolution(
        tuple(params["window_strides"]),
        tuple((low, high) for low, high in params["padding"]),
        tuple(params["lhs_dilation"]),
        tuple(params["rhs_dilation"]),
        params["dimension_numbers"],
        params["feature_group_count"],
        params["batch_group_count"],
        params["precision"],
        params["preferred_element_type"],
    )


def permutation_of(params: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes of the operand of a `transpose`, in the order of the result's."""
    return tuple(int(axis) for axis in params["permutation"])


def broadcast_axes(params: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes of the result of a `broadcast_in_dim` that the operand's axes become."""
    return tuple(int(axis) for axis in params["broadcast_dimensions"])


def removed_axes(params: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes of the operand that a reduction, such as `reduce_max`, or a `squeeze` leaves out."""
    return tuple(int(axis) for axis in (params["axes"] if "axes" in params else params["dimensions"]))


def axes_along(name: str, params: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes along which an operation that keeps their lengths combines or reverses elements."""
    if name.startswith("cum") or name in ("sort", "top_k", "approx_top_k"):
        return (ordering_of(params).axis,)
    if name == "rev":
        return tuple(int(axis) for axis in params["dimensions"])
    if name.startswith("reduce_window"):
        return tuple(axis for axis, size in enumerate(params["window_dimensions"]) if size > 1)
    if name == "fft":
        return tuple(range(-len(params["fft_lengths"]), 0))
    return ()


def order_of_reshape(params: Mapping[str, Any], rank: int) -> tuple[int, ...]:
    """The order in which a `reshape` takes the axes of its operand."""
    order = params["dimensions"]
    return tuple(range(rank)) if order is None else tuple(int(axis) for axis in order)


def slices_of(name: str, params: Mapping[str, Any], shape: Sequence[int]) -> Iterator[list[slice]]:
    """For each result of a `slice` or a `split`, the elements along each axis; for a `dynamic_slice`, whose
    start is known at run time only, those in the middle."""
    rank = len(shape)
    if name == "dynamic_slice" and len(params["slice_sizes"]) == rank:
        sizes = params["slice_sizes"]
        yield [slice(a != b, a + (a != b)) for a, b in zip(sizes, shape, strict=True)]
    elif name == "slice":
        steps = params["strides"] or [1] * rank
        yield list(map(slice, params["start_indices"], params["limit_indices"], steps))
    elif name == "split":
        start = 0
        for size in params["sizes"]:
            taken = [slice(None)] * rank
            taken[params["axis"]] = slice(start, start + size)
            yield taken
            start += size


def stacked_axis(params: Mapping[str, Any]) -> int:
    """The axis that a `stack` adds, or that an `unstack` removes."""
    return int(params["axis"])


def concatenated_axis(params: Mapping[str, Any]) -> int:
    """The axis along which a `concatenate` joins its operands."""
    return int(params["dimension"])


def new_dtype(params: Mapping[str, Any]) -> Any:
    """The dtype that a `convert_element_type` makes."""
    return params["new_dtype"]


def product_axes(params: Mapping[str, Any]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """For each operand of a `dot_general`, the axes over which it sums, and those that both operands have."""
    contracted, both = params["dimension_numbers"]
    return tuple((tuple(gone), tuple(kept)) for gone, kept in zip(contracted, both, strict=True))


class Ordering(NamedTuple):
    """The axis and direction of a sort, a top-k or a running maximum."""

    axis: int
    keys: int = 1
    """The number of operands of a `sort` that are its keys."""
    reverse: bool = False
    """Whether a running maximum runs from the end."""


def ordering_of(params: Mapping[str, Any]) -> Ordering:
    """The axis and direction of a `sort`, `top_k`, `approx_top_k`, `cummax` or `cummin`."""
    names = ("axis", "dimension", "reduction_dimension")
    axis = next(params[name] for name in names if name in params)
    return Ordering(int(axis), params.get("num_keys", 1), params.get("reverse", False))


def varying_alike(arrays: Sequence[Any]) -> Sequence[Any]:
    """Operands of one equation that vary over the same devices of a `shard_map`.

    Functions of `jax.lax` ensure this; evaluating an equation directly does not.
    """
    over = [jax.typeof(array).mat.varying for array in arrays]
    every = frozenset[str]().union(*over)
    return [
        array if axes == every else jax.lax.pcast(array, tuple(every - axes), to="varying")
        for array, axes in zip(arrays, over, strict=True)
    ]


def _inner(program: Any) -> Inner:
    # With its constants, or (remat's, up to JAX 0.10) without; since JAX 0.11 the two are one class.
    if isinstance(program, Jaxpr) and not hasattr(program, "consts"):
        return Inner(program, [])
    return Inner(program.jaxpr, list(program.consts))
