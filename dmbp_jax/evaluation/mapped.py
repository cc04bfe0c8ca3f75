"""The maps of a chunk by one method: explained now, kept from before, or read from a folder."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dmbp_jax.batching.chunks import by_shape
from dmbp_jax.checks import InputError
from dmbp_jax.compile_time import stopwatch
from dmbp_jax.evaluation.contestants import Contestant
from dmbp_jax.evaluation.items import Item
from dmbp_jax.evaluation.kept_maps import KeptMap, keep_map
from dmbp_jax.evaluation.plan import Plan
from dmbp_jax.evaluation.store import Store


class Mapped(NamedTuple):
    """An item with its map."""

    item: Item
    heatmap: Float[np.ndarray, "h w"]
    seconds: float | None
    """Its share of its batch's time, compiling left out; None for a map from a folder."""
    compiling: float = 0.0
    """Its share of the seconds of compiling."""
    kept: KeptMap | None = None
    """The map to be kept, where one is."""


def get_maps(plan: Plan, store: Store, contestant: Contestant, items: Sequence[Item]) -> list[Mapped]:
    """The map of every item, in the order of the items.

    Kept maps are used where all of these are there: a chunk is explained as a whole or not at all.

    Raises `InputError` for a file of a folder of maps that is not there, or no map of the item's image.
    """
    if contestant.maps is not None:
        return [
            Mapped(
                item,
                contestant.maps.read(item.name, item.target, item.image.shape[:2], alone=item.alone),
                None,
            )
            for item in items
        ]
    if plan.keep_maps:
        kept = [store.kept_map(item.name, item.target, contestant.name) for item in items]
        there = [one for one in kept if one is not None]
        if len(there) == len(items):
            for item, one in zip(items, there, strict=True):
                if (one.height, one.width) != item.image.shape[:2]:
                    raise InputError(
                        f"the kept map of {item.name} by {contestant.name} is damaged: it is {one.height} x "
                        f"{one.width}, and the network's image {item.image.shape[:2]}; take another folder"
                    )
            return [Mapped(item, one.heatmap(), one.seconds) for item, one in zip(items, there, strict=True)]
    return _explain(plan, contestant, items)


def _explain(plan: Plan, contestant: Contestant, items: Sequence[Item]) -> list[Mapped]:
    found: dict[int, Mapped] = {}
    for group in by_shape(items, lambda item: item.image.shape):
        with stopwatch() as watch:
            heatmaps = plan.setting.heatmaps(
                contestant, group, [item.target for item in group], plan.model.params
            )
        seconds, compiling = watch.working / len(group), watch.compiling / len(group)
        for item, heatmap in zip(group, heatmaps, strict=True):
            one = Mapped(item, heatmap, seconds, compiling)
            if plan.keep_maps:
                kept = keep_map(item.name, item.target, contestant.name, seconds, heatmap)
                # What is measured is what is kept: a metric that is added later has the same maps.
                one = one._replace(heatmap=kept.heatmap(), kept=kept)
            found[id(item)] = one
    return [found[id(item)] for item in items]
