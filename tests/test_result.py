"""What an explanation can do: be told in a line, taken apart, kept in a file, drawn and shown."""

import dataclasses
import io
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from small import tiny_network

import dmbp_jax
from dmbp_jax import Attribution, InputError, Scores
from dmbp_jax.plot import color_heatmap, draw_explanation, smooth_heatmap
from dmbp_jax.plot._heatmap import from_minimum
from dmbp_jax.result._attribution import write_explanations

PHOTO = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
PHOTOS = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def a(network):
    """Everything that a result can hold, of three images."""
    apply, params, images = network
    return dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=2, return_masks=True, return_history=True)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def panels(figure):
    """The pictures of a figure by their titles, row by row."""
    rows = figure.subfigs or [figure]
    return [
        {axes.get_title(): np.asarray(axes.images[0].get_array()) for axes in row.axes if axes.images}
        for row in rows
    ]


def captions(figure):
    rows = figure.subfigs or [figure]
    return [row.get_supxlabel() for row in rows], [row.get_suptitle() for row in rows]


# In a line.


def test_repr_is_short_and_tells_shapes_flags_and_scores(a):
    text = repr(a)
    assert len(text) < 1000
    assert "values=float32[3,8,8,3]" in text
    assert "finite=3 of 3" in text
    assert f"total=[{float(a.scores.total[0]):.4g}, " in text
    assert "masks={2 sites}" in text
    assert "total=float32[3,3]" in text
    assert "convergence_delta" not in text
    one = repr(a[0])
    assert "finite=True, " in one
    assert f"total={float(a.scores.total[0]):.4g}," in one


def test_repr_of_many_images_stops_after_some():
    many = Attribution(np.zeros((100, 4, 4, 1)), np.ones(100, bool), convergence_delta=np.arange(100.0))
    assert repr(many) == (
        "Attribution(values=float64[100,4,4,1], finite=100 of 100, convergence_delta=[0, 1, 2, 3, ...])"
    )


def test_repr_knows_what_stands_in_place_of_arrays(a):
    seen = []

    def look(b):
        seen.append(repr(b))
        assert b._repr_png_() is None
        return b

    jax.jit(look)(a)
    jax.vmap(look)(a)
    jax.eval_shape(lambda b: look(b).values, a)
    assert all("values=float32[" in text and "Traced" not in text for text in seen)
    assert len(seen) == 3
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), a)
    assert "values=float32[3,8,8,3]" in repr(shapes)
    assert "values=0, finite=None" not in repr(Attribution(values=0, finite=None))
    assert repr(Attribution(values=0, finite=1)) == "Attribution(values=0, finite=1)"
    gone = jnp.ones(3)
    gone.delete()
    assert "finite=float32[3]" in repr(Attribution(values=gone, finite=gone))


def test_an_explanation_is_a_tree_of_arrays_still(a):
    leaves, structure = jax.tree.flatten(a)
    assert isinstance(jax.tree.unflatten(structure, leaves), Attribution)
    assert not isinstance(a, tuple)
    assert len(a) == 3
    doubled = jax.jit(lambda b: jax.tree.map(lambda leaf: leaf, b))(a)
    assert_equal(doubled, a)


# Taken apart.


def test_an_index_is_an_image_and_a_slice_is_several(network, a):
    for index in (0, 2, -1):
        assert_equal(a[index], jax.tree.map(lambda leaf, index=index: leaf[index], a))
    assert a[1].heatmap.shape == (8, 8)
    assert a[1:3].heatmap.shape == (2, 8, 8)


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_that_is_not_there_is_refused(a, index):
    with pytest.raises(IndexError, match=f"there is no image {index} in a batch of 3"):
        a[index]
    with pytest.raises(InputError, match="explanation of one image"):
        a[0][0]
    for wrong in ("values", 1.0, True, None, (0, 1)):
        with pytest.raises(InputError, match="indexed by an image or a slice"):
            a[wrong]


def test_it_is_walked_image_by_image(a):
    assert len(list(a)) == len(a) == 3
    for one, expected in zip(a, a.values, strict=True):
        np.testing.assert_array_equal(one.values, expected)


def test_a_heatmap_sums_channels_whatever_stands_before_them():
    for batch in ((), (2,), (2, 3)):
        flags = np.ones(batch, bool)
        assert Attribution(np.ones((*batch, 4, 5, 3)), flags).heatmap.shape == (*batch, 4, 5)
        # A volume has channels, an image without channels, a sequence and a row of features have none.
        assert Attribution(np.ones((*batch, 2, 4, 5, 3)), flags).heatmap.shape == (*batch, 2, 4, 5)
        for shape in ((28, 28), (6, 4), (7,), ()):
            values = np.random.default_rng(0).normal(size=(*batch, *shape))
            np.testing.assert_array_equal(Attribution(values, flags).heatmap, values)


def test_an_image_without_channels_is_drawn_with_its_parts():
    values = np.random.default_rng(0).normal(size=(2, 12, 10)).astype(np.float32)
    scores = Scores(*np.ones((4, 2), np.float32))
    a = Attribution(values, np.ones(2, bool), scores, np.maximum(values, 0), np.minimum(values, 0))
    for row, one in zip(panels(a.plot()), values, strict=True):
        np.testing.assert_array_equal(row["map"], color_heatmap(one))
        positive = next(picture for name, picture in row.items() if name.startswith("positive"))
        assert positive.shape[:2] == (12, 10)


# In a file.


def test_what_is_saved_is_what_is_loaded(a, tmp_path):
    # As `explain_classes` gives them, with an axis of classes behind that of the images.
    of_classes = jax.tree.map(lambda leaf: np.stack([leaf, leaf], axis=1), a)
    bare = dataclasses.replace(a, masks=None, history=None, scores=None)
    for number, one in enumerate((a, a[0], bare, of_classes)):
        path = tmp_path / f"{number}.safetensors"
        one.save(path, photo=PHOTO, target=3)
        assert_equal(Attribution.load(path), one)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}.safetensors" for i in range(4)]


def test_a_file_has_plain_names_for_others_to_read(a, tmp_path):
    a.save(tmp_path / "a.safetensors", photo=PHOTO, target=3)
    arrays = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert {"values", "finite", "scores.total", "history.nuisance", "masks.conv1", "photo"} <= set(arrays)
    assert arrays["target"] == 3
    np.testing.assert_array_equal(arrays["photo"], PHOTO)
    np.testing.assert_array_equal(arrays["scores.total"], a.scores.total)


def test_arrays_that_do_not_lie_in_a_row_are_saved_as_they_are_read(tmp_path):
    values = np.arange(24.0).reshape(4, 3, 2).transpose(2, 1, 0)[::-1]
    Attribution(values, np.bool_(True)).save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(Attribution.load(tmp_path / "a.safetensors").values, values)


def test_bfloat16_is_kept_as_float32(tmp_path):
    values = jnp.asarray([[[1.5, -0.3]]], jnp.bfloat16)
    Attribution(values, jnp.asarray(True)).save(tmp_path / "a.safetensors")
    loaded = Attribution.load(tmp_path / "a.safetensors").values
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, values.astype(jnp.float32))


def test_names_of_sites_may_hold_dots_and_slashes(tmp_path):
    masks = {"layer1.0.relu": np.ones(2, np.float32), "Dense_0/values": np.zeros(3, np.float32)}
    one = Attribution(np.ones((2, 2, 1)), np.bool_(True), masks=masks)
    one.save(tmp_path / "a.safetensors")
    assert_equal(Attribution.load(tmp_path / "a.safetensors"), one)
    write_explanations(tmp_path / "b.safetensors", {"rise": one.fields(), "dmbp": one.fields()}, {})
    assert_equal(Attribution.load(tmp_path / "b.safetensors", "dmbp"), one)
    with pytest.raises(InputError, match="unknown explanation 'rsie': did you mean 'rise'"):
        Attribution.load(tmp_path / "b.safetensors", "rsie")
    with pytest.raises(InputError, match="unknown explanation ''"):
        Attribution.load(tmp_path / "b.safetensors")


GOOD = {
    "values": np.ones((2, 4, 4, 3), np.float32),
    "finite": np.ones(2, bool),
    "positive": np.ones((2, 4, 4, 3), np.float32),
    "masks.relu1": np.ones((2, 4, 4, 5), np.float32),
    **{f"scores.{name}": np.ones(2, np.float32) for name in Scores._fields},
    **{f"history.{name}": np.ones((2, 7), np.float32) for name in Scores._fields},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finite": None}, "`finite` must be flags"),
        ({"finite": np.ones(2, np.float32)}, "`finite` must be flags"),
        ({"finite": np.ones((2, 2), bool)}, r"does not fit the others"),
        ({"finite": np.ones(3, bool)}, r"does not fit the others"),
        ({"values": np.ones(2, np.float32)}, r"has the shape \(2"),
        ({"values": np.ones((2, 4, 4, 3), np.int64)}, "array values must be floating point, not int64"),
        ({"positive": np.ones((2, 4, 4, 1), np.float32)}, "array positive has the shape"),
        ({"masks.relu1": np.ones((3, 4), np.float32)}, r"array masks\.relu1 has the shape"),
        ({"scores.total": None}, "its scores must be total, positive, negative, nuisance"),
        ({"scores.more": np.ones(2, np.float32)}, "its scores must be total, positive, negative, nuisance"),
        ({"scores.total": np.ones((2, 1), np.float32)}, r"array scores\.total has the shape"),
        ({"history.total": np.ones((3, 7), np.float32)}, r"array history\.total has the shape"),
    ],
    ids=str,
)
def test_a_file_whose_arrays_are_no_explanation_is_refused(tmp_path, change, message):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(GOOD, path)
    assert Attribution.load(path).history.total.shape == (2, 7)
    changed = {name: array for name, array in (GOOD | change).items() if array is not None}
    safetensors.numpy.save_file(changed, path)
    with pytest.raises(InputError, match=message) as refusal:
        Attribution.load(path)
    assert str(path) in str(refusal.value)


def test_what_cannot_be_saved_or_loaded_is_refused_and_leaves_nothing(a, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="'finite' is the name of a part"):
        a.save(path, finite=PHOTO)
    with pytest.raises(InputError, match="'convergence_delta' is the name of a part"):
        a.save(path, convergence_delta=PHOTO)
    with pytest.raises(InputError, match="save outside of jit"):
        jax.eval_shape(lambda b: b.save(path), a)
    with pytest.raises(InputError, match="no such file"):
        Attribution.load(path)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"not tensors")
    with pytest.raises(InputError, match="damaged, truncated or not a safetensors file"):
        Attribution.load(path)
    safetensors.numpy.save_file({"weights": np.ones(2)}, path)
    with pytest.raises(InputError, match="holds no explanation"):
        Attribution.load(path)
    with pytest.raises(InputError, match="cannot write"):
        a.save(tmp_path / "a.safetensors" / "b.safetensors")
    a.save(path)
    with pytest.raises(InputError, match="leave out name='dmbp'"):
        Attribution.load(path, "dmbp")


# Drawn.


def test_a_plot_has_a_row_for_each_image_with_its_parts_on_its_own_scale(a):
    figure = a.plot(PHOTOS, titles=["one", "two", "three"], captions="DMBP.")
    for i, row in enumerate(panels(figure)):
        names = list(row)
        assert names[:2] + names[-1:] == ["photograph", "map", "overlay"]
        assert names[2] == f"positive part, y+ = {a.scores.positive[i]:.3g}"
        np.testing.assert_array_equal(row["photograph"], PHOTOS[i])
        np.testing.assert_array_equal(row["map"], color_heatmap(np.asarray(a.heatmap[i])))
    below, above = captions(figure)
    assert above == ["one", "two", "three"]
    assert all(text.startswith("DMBP. Red is evidence for the class, blue against it.") for text in below)
    assert not any("Smoothed" in text for text in below)


def test_a_plot_of_one_image_is_the_figure_of_draw_explanation(a):
    one = a[1]
    parts = {
        f"positive part, y+ = {one.scores.positive:.3g}": np.asarray(one.positive.sum(-1)),
        f"negative part, y- = {one.scores.negative:.3g}": np.asarray(one.negative.sum(-1)),
    }
    drawn = draw_explanation(PHOTO, np.asarray(one.heatmap), parts)
    assert_equal(panels(one.plot(PHOTO)), panels(drawn))


def test_one_photograph_serves_all_rows_and_none_leaves_the_maps_alone(a):
    for row in panels(a.plot(PHOTO)):
        np.testing.assert_array_equal(row["photograph"], PHOTO)
    for row in panels(a.plot()):
        assert "photograph" not in row
        assert "overlay" not in row
    np.testing.assert_array_equal(panels(a[0].plot(PIL.Image.fromarray(PHOTO)))[0]["photograph"], PHOTO)


def test_smoothing_is_told_and_changes_no_value(a, tmp_path):
    before = np.asarray(a.values).copy()
    figure = a.plot(PHOTO, smooth=1.5)
    assert all("Smoothed for display, by a Gaussian of 1.5 pixels." in text for text in captions(figure)[0])
    smoothed = smooth_heatmap(np.asarray(a.heatmap[0]), 1.5)
    np.testing.assert_array_equal(panels(figure)[0]["map"], color_heatmap(from_minimum(smoothed)))
    np.testing.assert_array_equal(a.values, before)
    figure.savefig(tmp_path / "smooth.png")
    a.save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(Attribution.load(tmp_path / "a.safetensors").values, before)


def test_smoothing_keeps_constants_means_and_what_is_not_finite():
    heatmap = np.full((12, 12), 3.0)
    heatmap[4, 5] = np.nan
    smoothed = smooth_heatmap(heatmap, 2.0)
    np.testing.assert_allclose(smoothed, heatmap)
    rough = np.random.default_rng(0).normal(size=(40, 40))
    assert smooth_heatmap(rough, 2.0).std() < rough.std() / 4
    assert smooth_heatmap(rough, 0.0) is rough
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    spread = smooth_heatmap(impulse, 2.0)
    expected = np.exp(-((np.arange(21) - 10.0) ** 2) / 8)
    np.testing.assert_allclose(spread[10] / spread[10, 10], expected, atol=2e-4)


def test_alpha_colours_and_percentile_are_options(a):
    one = a[0]
    grey = panels(one.plot(PHOTO, alpha=0.0))[0]["overlay"]
    np.testing.assert_array_equal(grey, grey[..., :1].repeat(3, axis=-1))
    half = panels(one.plot(PHOTO, alpha=0.5))[0]["overlay"].astype(int)
    whole = panels(one.plot(PHOTO))[0]["overlay"].astype(int)
    np.testing.assert_allclose(half, (grey.astype(int) + whole) / 2, atol=1)
    other = one.plot(PHOTO, cmap="PuOr_r", percentile=50.0)
    heatmap = np.asarray(one.heatmap)
    limit = float(np.percentile(np.abs(heatmap), 50))
    np.testing.assert_array_equal(panels(other)[0]["map"], color_heatmap(heatmap, limit, cmap="PuOr_r"))
    assert "Red" not in captions(other)[0][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0.0}, r"percentile must be in \(0, 100\]"),
        ({"percentile": 101.0}, r"percentile must be in \(0, 100\], got 101"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"smooth": -1.0}, "smooth must be finite and at least 0"),
        ({"smooth": float("nan")}, "smooth must be finite"),
        ({"cmap": "RdBu_rr"}, "did you mean 'RdBu_r'"),
        ({"opacity": 0.5}, "unknown option of a figure 'opacity'"),
        ({"titles": ["one"]}, "got 1 titles for 3 images"),
        ({"captions": ["one"] * 4}, "got 4 captions for 3 images"),
        ({"photo": PHOTO[:4]}, "the photograph is 4 x 8 and the map 8 x 8"),
        ({"photo": PHOTO / 255}, "a photograph must be"),
        ({"photo": PHOTO[..., 0]}, "a photograph must be"),
        ({"photo": PHOTOS[:2]}, "got 2 photographs for 3 images"),
    ],
)
def test_bad_options_of_a_plot_are_refused(a, options, message):
    with pytest.raises(InputError, match=message):
        a.plot(**options)


def test_what_is_no_map_is_refused(a):
    with pytest.raises(InputError, match="outside of jit"):
        jax.eval_shape(lambda b: b.plot() and b, a)
    with pytest.raises(InputError, match="are no maps"):
        Attribution(np.ones((2, 7)), np.ones(2, bool)).plot()
    with pytest.raises(InputError, match="17 images are too many"):
        Attribution(np.ones((17, 4, 4, 1)), np.ones(17, bool)).plot()
    with pytest.raises(InputError, match=r"draw one image's, a\[0\]"):
        Attribution(np.ones((2, 3, 4, 4, 1)), np.ones((2, 3), bool)).plot()
    with pytest.raises(InputError, match=r"not a path, got out.png: .*crop_photo"):
        a.plot("out.png")


def test_numbers_are_not_saved_under_the_name_of_a_picture(a, tmp_path):
    with pytest.raises(InputError, match=r"why.png: the numbers go into a .safetensors file"):
        a.save(tmp_path / "why.png")
    assert not list(tmp_path.iterdir())


def test_figures_belong_to_nobody(a):
    """pyplot keeps every figure that it makes until it is told to close it."""
    a.plot(PHOTO).savefig(io.BytesIO())
    assert a._repr_png_()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


# Shown.


def test_a_notebook_shows_the_first_maps_and_their_scores(a):
    with PIL.Image.open(io.BytesIO(a._repr_png_())) as picture:
        three = picture.size
    with PIL.Image.open(io.BytesIO(a[0]._repr_png_())) as picture:
        assert picture.width < three[0]
    many = Attribution(np.ones((100, 4, 4, 1)), np.arange(100) % 2 == 0)
    assert len(many._repr_png_()) < 200_000
    classes = Attribution(np.ones((2, 3, 4, 4, 1)), np.ones((2, 3), bool))
    assert classes._repr_png_()
    assert Attribution(np.ones((2, 7)), np.ones(2, bool))._repr_png_() is None


def test_show_opens_a_viewer_or_a_notebooks_display(a, monkeypatch):
    seen = []
    monkeypatch.setattr(PIL.Image.Image, "show", lambda picture: seen.append(("viewer", picture.size)))
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    a[0].show(PHOTO, titles="tabby")
    notebook = types.ModuleType("IPython")
    notebook.get_ipython = lambda: types.SimpleNamespace(kernel=kernels.pop(0))
    notebook.display = types.ModuleType("IPython.display")
    notebook.display.display = lambda picture: seen.append(("notebook", picture.size))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook.display)
    kernels = [None, "ipykernel"]
    a[0].show(PHOTO, titles="tabby")
    a[0].show(PHOTO, titles="tabby")
    assert not kernels
    assert [where for where, _ in seen] == ["viewer", "viewer", "notebook"]
    assert len({size for _, size in seen}) == 1


def test_scores_alone_are_short_too():
    scores = Scores(*np.ones((4, 3, 201)))
    shape = "float64[3,201]"
    assert repr(scores) == f"Scores(total={shape}, positive={shape}, negative={shape}, nuisance={shape})"
