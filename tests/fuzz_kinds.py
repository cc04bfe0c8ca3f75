"""What is fuzzed: kinds of files, good ones of each kind, and what reads them.

A case is a file and what is done with it. It may be read, or refused by one `InputError`; see `fuzz_child`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fuzz_images import (
    foreign,
    photographs,
    run_foreign,
    run_photo,
    run_segmentation,
    segmentations,
    sized_cases,
)
from fuzz_lists import LABELS, NAMES, run_labels, run_name, run_voc, voc_cases
from fuzz_mutate import of_files, programs
from fuzz_runs import RunFiles, read_run, run_settings, run_store, settings_cases
from fuzz_tensors import (
    MAPS,
    STATE,
    WEIGHTS,
    checkpoints,
    explanations,
    kept_cases,
    run_checkpoint,
    run_explanation,
    run_kept,
    run_map,
    run_weights,
    tensor_cases,
)
from hypothesis import strategies as st
from state_dicts import TINY

from dmbp_jax.models._checkpoints import check_state_dict, to_params


class Kind(NamedTuple):
    """A kind of input."""

    name: str
    cases: st.SearchStrategy
    run: Callable[[Path, object], None]
    """Called with an empty folder and a case; ends well, or with `InputError`."""
    share: int = 1
    """How many of all cases, relative to the others'."""


def kinds(scratch: Path, *, torch: bool = False) -> dict[str, Kind]:
    """All kinds by name; with `torch` those alone that need PyTorch."""
    # So that no case pays for what JAX sets up once.
    to_params(STATE, check_state_dict(STATE, TINY, ""), "")
    if torch:
        return {"pth": Kind("pth", of_files(checkpoints()), run_checkpoint)}
    good = RunFiles(scratch / "good")
    read_run(scratch / "good")
    store_cases = st.tuples(
        st.sampled_from([*good.files, "results.sqlite", "results-3.sqlite"]),
        programs(),
        st.sampled_from(["", "", "", "folder", "link", "outside", "journal"]),
    )
    explanation_cases = st.tuples(tensor_cases(explanations()), st.sampled_from(["", "rise", "x"]))
    all_kinds = [
        Kind("photograph", of_files(photographs()), run_photo, share=10),
        Kind("declared size", sized_cases(), run_photo, share=1),
        Kind("foreign format", of_files(foreign()), run_foreign, share=2),
        Kind("segmentation", of_files(segmentations()), run_segmentation, share=2),
        Kind("labels CSV", of_files(LABELS), run_labels, share=2),
        Kind("VOC XML", voc_cases(), run_voc, share=3),
        Kind("weights", tensor_cases(WEIGHTS), run_weights, share=3),
        Kind("explanation", explanation_cases, run_explanation, share=3),
        Kind("map .npy", of_files(MAPS), run_map, share=2),
        Kind("kept map", kept_cases(), run_kept, share=1),
        Kind("run's SQLite", store_cases, lambda folder, case: run_store(good, folder, case), share=1),
        Kind(
            "run's settings", settings_cases(), lambda folder, case: run_settings(good, folder, case), share=1
        ),
        Kind("names", NAMES, run_name, share=1),
    ]
    shutil.rmtree(scratch / "good")
    return {kind.name: kind for kind in all_kinds}
