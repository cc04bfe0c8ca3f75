"""The user's own metrics: functions of a map, as measured by an evaluation."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax._checks import InputError, check_name, kind_of
from dmbp_jax._methods import name_of
from dmbp_jax.evaluation._fingerprint import code_of
from dmbp_jax.evaluation._items import NEEDS, Item, Measure, Measurement, Metric, Setting, Shown, item_key
from dmbp_jax.evaluation._methods import EvaluatedMethod
from dmbp_jax.ops._programs import kept_jit
from dmbp_jax.typing import Apply, Params

MetricFunction: TypeAlias = Callable[..., Any]
"""See `dmbp_jax.register_metric`."""
POSITIONAL = ("predict", "image", "heatmap", "target")
EXTRAS = ("logits", "labels", "boxes", "mask", "void", "key", "explain")


def metric_of(
    function: MetricFunction,
    *,
    name: str | None = None,
    title: str | None = None,
    short: str | None = None,
    higher_is_better: bool | None = None,
    explanation: str | None = None,
    curve: tuple[str, str] | None = None,
    jit: bool = False,
) -> Metric:
    """The metric of a function; for the arguments see `register_metric`.

    Raises `InputError` for a signature that cannot be called, and a reserved name.
    """
    if not callable(function):
        raise InputError(
            f"metric must be a name, such as 'insertion', or a function, got {kind_of(function)}"
        )
    name = check_name("metric", name_of(function) if name is None else name)
    wanted, needed = _extras(function, name)
    if jit and "explain" in wanted:
        raise InputError(f"the metric {name} calls explain, which cannot be compiled into it: leave jit out")
    code = code_of(function)
    doc = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    title = title or name.replace("_", " ").capitalize()
    shown = Shown(title, short or title, higher_is_better, explanation or doc, curve)
    return Metric(
        name,
        _measure(name, function, wanted, needed, jit),
        {name: shown},
        needs=tuple(one for one in needed if one in NEEDS),
        explains="explain" in needed,
        regions="mask" in wanted,
        function=function,
        code=code.fingerprint,
        untold=code.untold,
    )


def _extras(function: MetricFunction, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keyword-only parameters that an evaluation fills in, and those of them without a default."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 4 or any(p.default is p.empty for p in positional[4:]):
        raise InputError(
            f"the metric {name} must take ({', '.join(POSITIONAL)}), got {inspect.signature(function)}"
        )
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    for p in keywords:
        if p.name not in EXTRAS and p.default is p.empty:
            raise InputError(
                f"the metric {name} asks for {p.name!r}: an evaluation fills in {', '.join(EXTRAS)}; give "
                "all other options a default"
            )
    wanted = [p for p in keywords if p.name in EXTRAS]
    return tuple(p.name for p in wanted), tuple(p.name for p in wanted if p.default is p.empty)


def _measure(
    name: str, function: MetricFunction, wanted: Sequence[str], needed: Sequence[str], jit: bool
) -> Measure:
    call = _compiled if jit else _called

    def measure(
        setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
    ) -> Iterator[Measurement]:
        model = setting.model
        for item, heatmap in zip(items, heatmaps, strict=True):
            boxes = boxes_in_image(item)
            if ("boxes" in needed and not boxes) or ("mask" in needed and item.mask is None):
                continue
            arrays = {
                "mask": item.mask,
                "void": item.void,
                "key": item_key(setting.key, item.name, item.target),
            }
            static = {
                "boxes": boxes,
                "labels": item.labels,
                "explain": _explainer(setting, method, item) if method.function else None,
            }
            found = call(
                model.params,
                item.image,
                heatmap,
                jnp.asarray(item.target),
                {extra: arrays[extra] for extra in wanted if extra in arrays},
                function=function,
                apply=model.apply,
                output=model.spec.probabilities,
                logits="logits" in wanted,
                static=tuple((extra, static[extra]) for extra in wanted if extra in static),
            )
            value, curve = _number(name, found)
            yield Measurement(item, item.target, name, value, curve)

    return measure


def _called(
    params: Params,
    image: Any,
    heatmap: Any,
    target: Any,
    arrays: dict[str, Any],
    *,
    function: MetricFunction,
    apply: Apply,
    output: Callable[[Array], Array],
    logits: bool,
    static: tuple[tuple[str, Any], ...],
) -> Any:
    def predict(images: Any) -> Array:
        return output(raw(images))

    def raw(images: Any) -> Array:
        return _logits(params, jnp.asarray(images), apply=apply)

    more = {"logits": raw} if logits else {}
    return function(predict, image, heatmap, target, **arrays, **dict(static), **more)


_compiled = kept_jit(_called, static_argnames=("static",))


@kept_jit
def _logits(params: Params, images: Array, *, apply: Apply) -> Array:
    return apply(params, images)


def _number(name: str, found: Any) -> tuple[float, tuple[float, ...] | None]:
    """What a metric returned: a number, or a number and a curve."""
    value, curve = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    try:
        number = float(np.asarray(value))
        points = None if curve is None else tuple(np.asarray(curve, float).ravel().tolist())
    except (TypeError, ValueError):
        raise InputError(
            f"the metric {name} must return a number, or a number and its curve, got {type(found).__name__}"
        ) from None
    return number, points


def _explainer(setting: Setting, method: EvaluatedMethod, item: Item) -> Callable[..., np.ndarray]:
    def explain(images: Any, targets: Any = None) -> np.ndarray:
        images = np.asarray(images, np.float32)
        chosen = [item.target] * len(images) if targets is None else targets
        return setting.explain(method, [item] * len(images), images, chosen)

    return explain


def boxes_in_image(item: Item) -> tuple[tuple[float, float, float, float], ...]:
    """The boxes of the target, `(left, top, right, bottom)` in pixels of the network's image and cut to
    it."""
    height, width = item.image.shape[:2]
    left, top, right, bottom = item.region
    x, y = width / (right - left), height / (bottom - top)
    cut = [
        (
            max((box.left - left) * x, 0.0),
            max((box.top - top) * y, 0.0),
            min((box.right - left) * x, float(width)),
            min((box.bottom - top) * y, float(height)),
        )
        for box in item.boxes
    ]
    return tuple(box for box in cut if box[0] < box[2] and box[1] < box[3])
