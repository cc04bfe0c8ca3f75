"""Opening a dataset by name, random parts of it, and composites: the same everywhere, nothing twice."""

from collections import Counter
from pathlib import Path

import pytest
from datasets import make_imagenet, make_voc, write_csv

from dmbp_jax._checks import InputError
from dmbp_jax.images import Box, Dataset, Problem, Sample, make_grids, make_pairs, open_dataset
from dmbp_jax.images._samples import take

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")


def dataset(*labels: str, problems: tuple[Problem, ...] = ()) -> Dataset:
    """A sample for each label; several classes of one sample are joined by a comma."""
    samples = (
        Sample(f"{i}.jpg", (Path(f"/photos/{i}.jpg"),), tuple(label.split(",")), (Box(label, 0, 0, 1, 1),))
        for i, label in enumerate(labels)
    )
    return Dataset("folder", tuple(samples), problems)


def names(dataset: Dataset) -> list[str]:
    return [sample.name for sample in dataset.samples]


MANY = dataset(*(f"{i % 7}" for i in range(200)), problems=(Problem("x", "is damaged"),))


@pytest.mark.parametrize("options", [{"limit": 20}, {"per_class": 3}, {"per_class": 5, "limit": 8}])
def test_part_is_in_order_with_the_problems_and_depends_on_the_seed_only(options):
    part = take(MANY, **options, seed=3)
    assert part == take(MANY, **options, seed=3)
    assert part != take(MANY, **options, seed=4)
    assert list(part.samples) == [sample for sample in MANY.samples if sample in part.samples]
    assert (part.kind, part.problems) == (MANY.kind, MANY.problems)


def test_part_has_the_size_asked_for():
    assert len(take(MANY, limit=20).samples) == 20
    assert Counter(s.labels[0] for s in take(MANY, per_class=3).samples) == {str(i): 3 for i in range(7)}
    assert len(take(MANY, per_class=3, limit=20).samples) == 20
    assert take(MANY, limit=1000, per_class=1000) == take(MANY) == MANY


def test_smaller_part_lies_in_a_larger_one():
    for option in ("limit", "per_class"):
        for less, more in ((1, 2), (10, 20), (20, 28)):
            assert set(names(take(MANY, **{option: less}))) <= set(names(take(MANY, **{option: more})))


def test_samples_are_drawn_evenly():
    """Over many seeds every sample comes up as often as chance has it: 4 standard deviations at most."""
    count = Counter(name for seed in range(400) for name in names(take(MANY, limit=20, seed=seed)))
    expected, deviation = 400 * 0.1, (400 * 0.1 * 0.9) ** 0.5
    assert all(abs(count[name] - expected) < 4 * deviation for name in names(MANY))


def test_part_is_known_and_stays_when_samples_are_removed():
    """The very names, so that a part is the same on every machine and with every version of NumPy."""
    part = take(MANY, limit=3)
    assert names(part) == ["38.jpg", "148.jpg", "163.jpg"]
    fewer = MANY._replace(samples=tuple(s for s in MANY.samples if s in part.samples or int(s.labels[0]) > 2))
    assert take(fewer, limit=3) == part


def test_sample_of_several_classes_counts_for_its_first():
    mixed = dataset("cat,dog", "dog", "dog,cat", "cat")
    taken = take(mixed, per_class=1)
    assert sorted(sample.labels[0] for sample in taken.samples) == ["cat", "dog"]


@pytest.mark.parametrize("option", ["limit", "per_class"])
@pytest.mark.parametrize("number", [0, -1])
def test_part_of_nothing_is_refused(option, number):
    with pytest.raises(InputError, match=f"{option} must be at least 1, got {number}"):
        take(MANY, **{option: number})


@pytest.mark.parametrize("grid", [2, 3])
def test_composites_have_different_classes_and_no_photograph_twice(grid):
    counts = (30, 20, 10, 10, 9, 8, 7, 6, 5, 4, 3, 2)
    source = dataset(*(f"class {i}" for i, count in enumerate(counts) for _ in range(count)))
    composites = make_grids(source, grid=grid, seed=1)
    by_path = {sample.paths[0]: sample for sample in source.samples}
    used: Counter[Path] = Counter()
    for composite in composites.samples:
        cells = [by_path[path] for path in composite.paths]
        assert composite.grid == grid
        assert len(set(composite.labels)) == len(cells) == grid * grid
        assert composite.labels == tuple(cell.labels[0] for cell in cells)
        assert composite.name == "+".join(cell.name for cell in cells)
        assert composite.boxes == ()
        used.update(composite.paths)
    assert set(used.values()) == {1}
    assert len(set(names(composites))) == len(composites.samples)
    assert composites.kind == "grid"
    (problem,) = composites.problems
    assert problem.message.startswith(f"{len(source.samples) - len(used)} photographs (")


@pytest.mark.parametrize(
    ("counts", "most"), [((5, 5, 5, 5), 5), ((10, 1, 1, 1), 1), ((4, 4, 4, 2, 2), 4), ((3, 3, 2, 2, 1, 1), 3)]
)
def test_there_are_as_many_composites_as_can_be(counts, most):
    source = dataset(*(f"class {i}" for i, count in enumerate(counts) for _ in range(count)))
    for seed in range(10):
        assert len(make_grids(source, seed=seed).samples) == most


def test_composites_depend_on_the_seed_only():
    assert make_grids(MANY, seed=1) == make_grids(MANY, seed=1)
    assert make_grids(MANY, seed=1) != make_grids(MANY, seed=2)


def test_largest_class_is_not_always_in_the_same_cell():
    source = dataset(*["large"] * 40, *(f"class {i}" for i in range(120)))
    places = Counter(composite.labels.index("large") for composite in make_grids(source).samples)
    assert sorted(places) == [0, 1, 2, 3]


def test_samples_of_several_classes_are_left_out_and_told():
    source = dataset("a", "b,c", "b", "c", "d", "e", problems=(Problem("x", "is damaged"),))
    composites = make_grids(source)
    assert len(composites.samples) == 1
    assert composites.problems[:2] == (
        Problem("x", "is damaged"),
        Problem("1.jpg", "not used in a composite: it has 2 classes"),
    )
    assert composites.problems[2].name == "photographs left over"
    assert composites.problems[2].message.startswith("1 photograph (")


@pytest.mark.parametrize(
    ("source", "grid", "reason"),
    [
        (dataset("a", "b", "c", "c"), 2, "2 x 2 needs photographs of 4 classes, .* 4 photographs of 3"),
        (dataset("a,b", "b,c", "c,d", "d,a"), 2, "has 0 photographs of 0"),
        (MANY, 3, "3 x 3 needs photographs of 9 classes, .* 200 photographs of 7"),
        (MANY, 1, "at least 2, got 1"),
        (make_grids(MANY), 2, "composites cannot be built of composites"),
    ],
)
def test_impossible_composites_are_refused(source, grid, reason):
    with pytest.raises(InputError, match=reason):
        make_grids(source, grid=grid)


def test_every_photograph_is_once_on_the_left_beside_one_of_another_class():
    pairs = make_pairs(MANY, seed=1)
    by_path = {sample.paths[0]: sample for sample in MANY.samples}
    assert sorted(pair.paths[0] for pair in pairs.samples) == sorted(by_path)
    for pair in pairs.samples:
        left, right = (by_path[path] for path in pair.paths)
        assert pair.labels == left.labels + right.labels
        assert len(set(pair.labels)) == 2
        assert pair.name == f"{left.name}|{right.name}"
        assert (pair.pair, pair.grid, pair.boxes) == (True, 1, ())
    assert (pairs.kind, pairs.problems) == ("pairs", MANY.problems)


def test_pairs_depend_on_the_seed_only():
    assert make_pairs(MANY, seed=1) == make_pairs(MANY, seed=1)
    assert make_pairs(MANY, seed=1) != make_pairs(MANY, seed=2)


def test_a_class_that_outnumbers_the_others_is_paired_too():
    pairs = make_pairs(dataset(*["large"] * 9, "small")).samples
    assert len(pairs) == 10
    assert all(len(set(pair.labels)) == 2 for pair in pairs)


def test_pairs_are_of_single_photographs_of_one_class():
    pairs = make_pairs(dataset("a", "b,c", "b", problems=(Problem("x", "is damaged"),)))
    assert len(pairs.samples) == 2
    assert pairs.problems == (
        Problem("x", "is damaged"),
        Problem("1.jpg", "not used in a pair: it has 2 classes"),
    )
    for source in (make_pairs(MANY), make_grids(MANY)):
        with pytest.raises(InputError, match="cannot be built of composites"):
            make_pairs(source)
    with pytest.raises(InputError, match="two classes, and there are 2 that can be used, of 1"):
        make_pairs(dataset("a", "a"))
    taken = Problem("x.jpg", "not used in a pair: the network takes it for 'b'")
    with pytest.raises(
        InputError, match=r"of 1; 1 cannot, the first: x.jpg, .* the network takes it for 'b'"
    ):
        make_pairs(dataset("a", "a", problems=(taken,)))


def test_pairs_of_a_folder_and_of_what_is_chosen_of_it(shared):
    photographs = open_dataset(f"folder:{shared / 'images'}")
    assert open_dataset(f"pairs:{shared / 'images'}", seed=2) == make_pairs(photographs, seed=2)
    chosen = photographs._replace(samples=photographs.samples[:5])
    opened = open_dataset(f"pairs:folder:{shared / 'images'}", choose=lambda dataset: chosen)
    assert opened == make_pairs(chosen)


def test_every_kind_is_opened_by_name(tmp_path, monkeypatch):
    imagenet = make_imagenet(tmp_path / "imagenet", [(wnid, None) for wnid in WNIDS])
    make_voc(tmp_path)
    write_csv(imagenet / WNIDS[0] / "labels.csv", ("file", "label"), ("ILSVRC2012_val_00000001.JPEG", "fish"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert open_dataset("imagenet:~/imagenet") == open_dataset(f" ImageNet: {imagenet} ")
    assert open_dataset("imagenet:~/imagenet").kind == "imagenet"
    assert open_dataset("voc2012:~").kind == "voc2012"
    assert open_dataset(f"folder:~/imagenet/{WNIDS[0]}").samples[0].labels == ("fish",)


def test_grid_takes_any_dataset_and_finds_out_what_a_path_is(tmp_path, shared):
    imagenet = make_imagenet(tmp_path / "a:b", [(wnid, None) for wnid in WNIDS])
    flat = make_imagenet(tmp_path / "flat", [(wnid, None) for wnid in WNIDS], layout="flat")
    for spec in (f"grid:{imagenet}", f"grid:imagenet:{imagenet}", f"grid:{flat}", f"grid:folder:{flat}"):
        opened = open_dataset(spec, seed=5)
        assert (opened.kind, len(opened.samples), opened.samples[0].grid) == ("grid", 1, 2)
        assert set(opened.samples[0].labels) < set(WNIDS)
    photographs = open_dataset(f"folder:{shared / 'images'}")
    assert open_dataset(f"grid:{shared / 'images'}", grid=3, seed=2) == make_grids(
        photographs, grid=3, seed=2
    )


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "names no dataset: write KIND:PATH with a kind of folder, imagenet, voc2007, voc2012, grid"),
        ("/some/where", "names no dataset"),
        ("imagnet:/some/where", "names no dataset"),
        ("voc2010:/some/where", "names no dataset"),
        ("imagenet:", "names no dataset"),
        ("grid:", "names no dataset"),
        ("grid:grid:/some/where", "composites of composites"),
        ("pairs:grid:/some/where", "composites of composites"),
        ("folder:/some/where", "no such folder: /some/where"),
        ("imagenet:/some/where", "no such folder: /some/where"),
        ("voc2007:/some/where", "no such folder: /some/where"),
        ("grid:/some/where", "no such folder: /some/where"),
        ("folder:~nobody-of-that-name/x", "cannot tell the path"),
        ("grid:~nobody-of-that-name/x", "cannot tell the path"),
        ("folder:a\0b", "cannot be read"),
    ],
)
def test_unknown_dataset_is_refused_with_the_known_kinds(spec, reason):
    with pytest.raises(InputError, match=reason):
        open_dataset(spec)


def test_file_in_place_of_a_folder_and_a_split_where_there_are_none_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder"):
        open_dataset(f"imagenet:{tmp_path / 'file'}")
    with pytest.raises(InputError, match="imagenet has no splits, got split 'val'"):
        open_dataset(f"imagenet:{tmp_path}", split="val")
