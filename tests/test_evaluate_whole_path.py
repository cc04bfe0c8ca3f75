"""`dmbp-jax evaluate` and `report` from files to page: the embedded network, real photographs."""

import pytest
from commands import rows_of, run_here
from datasets import VocImage, VocObject, make_imagenet, make_voc, shared_photos

from dmbp_jax import models

# An insertion curve is hundreds of passes.
pytestmark = pytest.mark.usefixtures("fully_optimized")
SPEC = models.load_model("squeezenet1_1").spec


@pytest.mark.long
def test_the_whole_path_on_a_dataset_in_the_shape_of_imagenet(shared, tmp_path):
    for layout in ("folders", "flat", "kaggle"):
        make_imagenet(tmp_path / layout, shared_photos(shared, 2), layout=layout)
    corrupt = next((tmp_path / "folders").rglob("*00000001.JPEG"))
    corrupt.write_bytes(corrupt.read_bytes()[:2000])
    values = {}
    for layout in ("folders", "flat", "kaggle"):
        done = run_here(
            tmp_path,
            *(
                "evaluate",
                "--data",
                f"imagenet:{layout}",
                "--methods",
                "gradient_x_input",
                "--preset",
                "paper",
            ),
            *("-o", f"{layout}-run"),
        )
        assert done.code == 0, done.err
        values[layout] = {row.image.split("/")[-1]: row.value for row in rows_of(tmp_path / f"{layout}-run")}
        assert ("1 left out:" in done.out) == (layout == "folders")
        assert run_here(tmp_path, "report", f"{layout}-run").code == 0
    assert len(values["flat"]) == 2
    assert values["flat"] == pytest.approx(values["kaggle"], rel=1e-5)
    # Image 1 could not be read; image 2 is alone in its batch here, and not there.
    assert values["folders"] == pytest.approx(
        {name: value for name, value in values["flat"].items() if "00000002" in name}, rel=1e-3
    )


@pytest.mark.long
def test_the_whole_path_on_a_dataset_in_the_shape_of_voc(shared, tmp_path):
    (first, cock), (second, ostrich) = shared_photos(shared, 2)
    names = [SPEC.classes[SPEC.label_index(wnid)] for wnid in (first, second)]
    everywhere = (1, 1, 5000, 5000)
    make_voc(
        tmp_path,
        [
            VocImage("2008_000001", (VocObject(names[0], everywhere), VocObject(names[1], everywhere)), cock),
            VocImage("2008_000002", (VocObject(names[1], everywhere, parts=("head",)),), ostrich),
            VocImage("2008_000003", (VocObject(names[1], everywhere),), ostrich),
        ],
    )
    (tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "2008_000003.xml").unlink()
    done = run_here(
        tmp_path,
        *("evaluate", "--data", "voc2012:VOCdevkit", "--methods", "gradient_x_input"),
        *("--metrics", "insertion,complementary_insertion,pointing", "-o", "run"),
    )
    assert done.code == 0, done.err
    assert "1 left out:" in done.out
    assert "2008_000003" in done.out
    rows = rows_of(tmp_path / "run")
    count = {
        metric: sum(row.metric == metric for row in rows)
        for metric in ("insertion", "complementary_insertion", "pointing")
    }
    assert count == {"insertion": 3, "complementary_insertion": 2, "pointing": 3}
    assert all(row.value == 1 for row in rows if row.metric == "pointing")
    assert run_here(tmp_path, "report", "run").code == 0
