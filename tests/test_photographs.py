"""All methods on photographs, as `--method all` runs them, with a network of three layers."""

from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
from small import CLASSES, tiny_network

from dmbp_jax import Attribution
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._methods import METHODS
from dmbp_jax._progress import StepProgress
from dmbp_jax.cli._explain import Photograph, explain_photographs, write_arrays, write_figure
from dmbp_jax.images import Preprocess
from dmbp_jax.models import Model, ModelSpec


@pytest.fixture(scope="module")
def model():
    apply, params, _ = tiny_network()
    spec = ModelSpec(
        architecture="tiny",
        tag="random",
        classes=tuple(f"class {i}" for i in range(CLASSES)),
        preprocess=Preprocess(resize=None, crop=8, mean=(0.5, 0.5, 0.5)),
        input_size=8,
        output="softmax",
        licence="none",
        source="random",
    )
    return Model(apply, params, spec)


@pytest.mark.long
def test_all_methods_explain_and_are_drawn_in_order_with_progress(model, tmp_path, capsys):
    rng = np.random.default_rng(0)
    photographs = [
        Photograph(Path(f"{i}.png"), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in range(3)
    ]
    progress = StepProgress()
    with progress.shown():
        explained = explain_photographs(
            model,
            photographs,
            target=1,
            contrast_with=2,
            methods=list(METHODS),
            preset="fast",
            batch_size=2,
            key=jax.random.key(0),
            progress=progress,
        )
    lines = capsys.readouterr().err.splitlines()
    total = len(METHODS)
    assert [line for line in lines if "compiling" in line] == [
        f"{name} ({i} of {total}): compiling" for i, name in enumerate(METHODS, start=1)
    ]
    # Two batches of one pass.
    assert f"dmbp (1 of {total}): step 2 of 2" in lines
    # 1000 masks in chunks of 32, for each batch.
    assert f"rise ({list(METHODS).index('rise') + 1} of {total}): step 64 of 64" in lines

    assert [one.photograph.path.name for one in explained] == ["0.png", "1.png", "2.png"]
    for one in explained:
        assert list(one.attributions) == list(METHODS)
        assert all(a.finite for a in one.attributions.values())
    write_figure(explained[0], model.spec, tmp_path / "all.png")
    with PIL.Image.open(tmp_path / "all.png") as figure:
        assert figure.size[0] > 1000
    write_arrays(explained[0], tmp_path / "all.safetensors")
    for name in METHODS:
        loaded = Attribution.load(tmp_path / "all.safetensors", name)
        jax.tree.map(np.testing.assert_array_equal, loaded, explained[0].attributions[name])


def test_what_is_drawn_does_not_depend_on_the_photographs_beside(model):
    rng = np.random.default_rng(0)
    photographs = [
        Photograph(Path(f"{i}.png"), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in range(3)
    ]

    def maps(chosen, batch_size):
        found = explain_photographs(
            model,
            chosen,
            target=1,
            contrast_with=None,
            methods=["smoothgrad"],
            preset="fast",
            batch_size=batch_size,
            key=jax.random.key(0),
            progress=StepProgress(),
        )
        return {one.photograph.path: np.asarray(one.attributions["smoothgrad"].values) for one in found}

    together = maps(photographs, 2)
    for path, values in (maps(photographs[::-1], 2) | maps(photographs[1:2], 1)).items():
        np.testing.assert_allclose(values, together[path], rtol=0, atol=1e-5 * np.abs(together[path]).max())


@pytest.mark.long
@pytest.mark.parametrize(("batch_size", "shapes"), [("auto", 4), (2, 2)])
def test_odd_numbers_of_photographs_reuse_a_few_programs(model, batch_size, shapes):
    rng = np.random.default_rng(0)
    photographs = [
        Photograph(Path(f"{i}.png"), rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in range(13)
    ]
    jax.clear_caches()
    with count_compile_time() as compiled:
        for count in (3, 4, 5, 7, 8, 1, 2, 6, 13, 9):
            explained = explain_photographs(
                model,
                photographs[:count],
                target=None,
                contrast_with=None,
                methods=["gradient"],
                preset="fast",
                batch_size=batch_size,
                key=jax.random.key(0),
                progress=StepProgress(),
            )
            assert len(explained) == count
    assert sum("explain" in name for name in compiled.programs) == shapes
    assert sum("apply" in name for name in compiled.programs) == 1
