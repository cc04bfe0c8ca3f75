"""The command: a photograph in, an explanation out; bad input ends with one message and nothing written."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from commands import Run, run_here, run_process

import dmbp_jax
from dmbp_jax import Attribution, models
from dmbp_jax.cli import _explain
from dmbp_jax.images import example_photo

BIRD, DOG = "n01514668_cock.JPEG", "n02113023_Pembroke.JPEG"
SPEC = models.load_model("squeezenet1_1").spec
NUMBER = r"(-?[0-9.]+(?:e[+-]?\d+)?)"
SCORES = re.compile(rf"y = {NUMBER}: y\+ = {NUMBER}, y- = {NUMBER}, y~ = {NUMBER}")


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def lines(text: str) -> list[str]:
    """Those with something in them: rich before 14.3 ends a progress with an empty one."""
    return [line for line in text.splitlines() if line]


def arrays(path: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(path)


def truncate(source: Path, destination: Path) -> None:
    destination.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


# One photograph.


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("example")
    return run_process(folder, "explain", "--example", "-o", "cat.png", "--save", "cat.safetensors")


@pytest.fixture(scope="module")
def saved(example) -> dict[str, np.ndarray]:
    return arrays(example.folder / "cat.safetensors")


def test_example_succeeds_and_writes_what_was_asked_and_no_more(example):
    assert example.code == 0, example.err
    assert sorted(everything_in(example.folder)) == ["cat.png", "cat.safetensors"]
    assert re.findall(r"^wrote (.*)$", example.out, re.MULTILINE) == ["cat.png", "cat.safetensors"]


def test_output_lists_the_five_likeliest_classes(example, saved):
    rows = re.findall(r"^  (\S.*?) +([0-9.]+)%  \(class (\d+)\)$", example.out, re.MULTILINE)
    likeliest = np.argsort(-saved["probabilities"])[:5]
    assert [int(row[2]) for row in rows] == likeliest.tolist()
    assert [row[0] for row in rows] == [SPEC.classes[i] for i in likeliest]
    percentages = [float(row[1]) for row in rows]
    np.testing.assert_allclose(percentages, 100 * saved["probabilities"][likeliest], atol=0.051)
    assert {"tabby", "tiger cat", "Egyptian cat"} == {row[0] for row in rows[:3]}


def test_output_says_what_is_explained_and_how(example, saved):
    assert f"explained: {SPEC.classes[int(saved['target'])]}, preset fast\n" in example.out
    assert "preset fast, one backward pass" in example.out
    assert "--preset paper" in example.out


def test_printed_scores_are_those_saved_and_add_up(example, saved):
    (printed,) = SCORES.findall(example.out)
    names = ("total", "positive", "negative", "nuisance")
    np.testing.assert_allclose([float(p) for p in printed], [saved[f"scores.{n}"] for n in names], rtol=1e-3)
    parts = saved["scores.positive"] + saved["scores.negative"] + saved["scores.nuisance"]
    np.testing.assert_allclose(parts, saved["scores.total"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(saved["scores.total"], saved["logits"][saved["target"]], rtol=1e-4)


def test_progress_says_compiling_and_a_single_pass_has_no_steps(example):
    assert lines(example.err) == ["compiling"]


def test_figure_is_a_row_of_panels_in_red_and_blue(example):
    with PIL.Image.open(example.folder / "cat.png") as image:
        red, green, blue = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
    assert red.shape[1] > 2 * red.shape[0]
    assert red.shape[0] > 224
    assert ((red - blue > 100) & (red - green > 100)).mean() > 0.001
    assert ((blue - red > 100) & (blue - green > 100)).mean() > 0.001


def test_saved_arrays_are_coherent(saved):
    np.testing.assert_array_equal(saved["photo"], SPEC.preprocess.crop_photo(example_photo()))
    assert saved["values"].shape == (224, 224, 3)
    assert saved["finite"]
    np.testing.assert_allclose(saved["values"], saved["positive"] + saved["negative"], atol=1e-5)
    assert np.abs(saved["values"]).max() > 0


def test_saved_prediction_is_coherent(saved):
    assert saved["target"] == saved["logits"].argmax()
    assert saved["contrast"] == -1
    odds = np.exp(saved["logits"].astype(np.float64) - saved["logits"].max())
    np.testing.assert_allclose(saved["probabilities"], odds / odds.sum(), rtol=1e-4, atol=1e-7)


# A contrast.


@pytest.fixture(scope="module")
def contrasted(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("contrast")
    arguments = ("--target", "Tiger_Cat", "--contrast", "281", "-o", "cat.pdf", "--save", "cat.SafeTensors")
    return run_process(folder, "explain", "--example", *arguments)


def test_contrast_explains_the_difference_of_two_logits(contrasted):
    assert contrasted.code == 0, contrasted.err
    assert lines(contrasted.err)[-1] == "compiling"
    assert "explained: tiger cat minus tabby, preset fast\n" in contrasted.out
    saved = arrays(contrasted.folder / "cat.SafeTensors")
    assert (saved["target"], saved["contrast"]) == (282, 281)
    difference = saved["logits"][282] - saved["logits"][281]
    np.testing.assert_allclose(saved["scores.total"], difference, rtol=1e-4, atol=1e-3)


def test_ending_chooses_the_format_and_may_be_in_capitals(contrasted):
    assert sorted(everything_in(contrasted.folder)) == ["cat.SafeTensors", "cat.pdf"]
    assert (contrasted.folder / "cat.pdf").read_bytes().startswith(b"%PDF-")


def test_most_likely_class_cannot_be_contrasted_with_itself(tmp_path):
    done = run_here(tmp_path, "explain", "--example", "--contrast", "Egyptian cat")
    assert done.code == 2
    assert re.search(r"^error: .*chelsea\.png: its most likely class, 'Egyptian cat'", done.err, re.MULTILINE)
    assert "step" not in done.err
    assert everything_in(tmp_path) == {}


# Several photographs, one of which cannot be read.


@pytest.fixture(scope="module")
def several(tmp_path_factory, shared) -> Run:
    folder = tmp_path_factory.mktemp("several")
    (folder / "photos").mkdir()
    (folder / "other").mkdir()
    shutil.copy(shared / "images" / BIRD, folder / "photos" / "bird é:cat:.jpg")
    truncate(shared / "images" / BIRD, folder / "photos" / "broken.jpg")
    shutil.copy(example_photo(), folder / "photos" / "cat.png")
    shutil.copy(shared / "images" / DOG, folder / "other" / "cat.jpg")
    outputs = ("-o", "figures", "--save", "numbers", "--batch-size", "2")
    # A name that the output's encoding lacks must not stop the run.
    return run_process(folder, "explain", "photos", "other/cat.jpg", *outputs, PYTHONIOENCODING="ascii")


def test_unreadable_photograph_is_named_at_the_end_with_exit_code_2(several):
    assert several.code == 2
    _, _, message = several.err.partition("error: ")
    assert message.startswith("1 of 4 photographs could not be explained:\n  photos/broken.jpg is damaged or")
    assert len(message.splitlines()) == 2
    assert "broken" not in several.out


def test_the_others_are_explained_and_equal_stems_stay_apart(several):
    stems = ("bird é:cat:_dmbp", "cat-2_dmbp", "cat_dmbp")
    assert sorted(everything_in(several.folder / "figures")) == [f"{stem}.png" for stem in stems]
    assert sorted(everything_in(several.folder / "numbers")) == [f"{stem}.safetensors" for stem in stems]
    for name, source in (
        ("bird é:cat:", "photos/bird é:cat:.jpg"),
        ("cat", "photos/cat.png"),
        ("cat-2", "other/cat.jpg"),
    ):
        saved = arrays(several.folder / "numbers" / f"{name}_dmbp.safetensors")
        crop = SPEC.preprocess.crop_photo(several.folder / source)
        np.testing.assert_array_equal(saved["photo"], crop)
        assert saved["target"] == saved["logits"].argmax()
        for line in (source, f"wrote figures/{name}_dmbp.png", f"wrote numbers/{name}_dmbp.safetensors"):
            assert line.replace("é", r"\xe9") in several.out.splitlines()


def test_each_photograph_is_explained_for_the_class_that_the_reference_program_finds(shared, several):
    with np.load(shared / "reference" / "squeezenet_dmbp.npz") as file:
        likeliest = dict(zip(file["names"].tolist(), file["logits"].argmax(axis=1), strict=True))
    found = re.findall(r"^explained: (.*), preset fast$", several.out, re.MULTILINE)
    assert found == [SPEC.classes[likeliest[BIRD]], "Egyptian cat", SPEC.classes[likeliest[DOG]]]


def test_progress_counts_batches(several):
    progress, _, _ = several.err.partition("error: ")
    assert lines(progress) == ["compiling", *(f"step {i} of 2" for i in range(1, 3))]


def test_photograph_in_a_batch_is_explained_as_if_alone(several, saved):
    batched = arrays(several.folder / "numbers" / "cat_dmbp.safetensors")
    np.testing.assert_allclose(batched["scores.positive"], saved["scores.positive"], rtol=1e-3)
    correlation = np.corrcoef(*(one["values"].sum(axis=-1).ravel() for one in (batched, saved)))[0, 1]
    assert correlation > 0.999


# Refusals.


@pytest.fixture
def refuse(tmp_path) -> Callable[..., str]:
    """Run a command that must fail before anything slow and write nothing; its message."""
    PIL.Image.new("RGB", (300, 260), "red").save(tmp_path / "good.png")
    shutil.copy(tmp_path / "good.png", tmp_path / "good_dmbp.png")
    PIL.Image.new("RGB", (300, 260), "red").save(tmp_path / "whole.jpg")
    truncate(tmp_path / "whole.jpg", tmp_path / "truncated.jpg")
    (tmp_path / "text.jpg").write_text("no photograph\n" * 100)
    (tmp_path / "text.safetensors").write_text("no weights\n" * 100)
    (tmp_path / "empty.png").touch()
    np.save(tmp_path / "nan.npy", np.full((300, 300, 3), np.nan, np.float32))
    np.save(tmp_path / "rank.npy", np.zeros((1, 300, 300, 3), np.uint8))
    PIL.Image.new("L", (1, 100_000)).save(tmp_path / "strip.png")
    (tmp_path / "nothing").mkdir()
    before = everything_in(tmp_path)

    def run(*arguments: str) -> str:
        done = run_here(tmp_path, "explain", *arguments)
        assert (done.code, done.out) == (2, "")
        assert "compiling" not in done.err
        assert "Traceback" not in done.err
        assert everything_in(tmp_path) == before
        return done.err

    return run


PHOTOGRAPHS = {
    "none": ([], ["no photograph given", "--example"]),
    "missing": (["absent.jpg"], ["absent.jpg", "no such file"]),
    "name too long": (["a" * 300 + ".jpg"], ["File name too long"]),
    "text": (["text.jpg"], ["text.jpg", "not an image"]),
    "truncated": (["truncated.jpg"], ["truncated.jpg", "truncated"]),
    "empty": (["empty.png"], ["empty.png", "empty (0 bytes)"]),
    "nan": (["nan.npy"], ["nan.npy", "NaN"]),
    "rank": (["rank.npy"], ["rank.npy", "(1, 300, 300, 3)"]),
    "elongated": (["strip.png"], ["strip.png", "too elongated"]),
    "empty folder": (["nothing"], ["nothing", "no photographs"]),
    "all unreadable": (["text.jpg", "empty.png"], ["2 of 2", "text.jpg", "empty.png"]),
}
CHOICES = {
    "target out of range": (["--target", "1000"], ["1000", "0 to 999"]),
    "target below range": (["--target=-1"], ["-1", "0 to 999"]),
    "unknown target": (["--target", "flying saucer"], ["flying saucer"]),
    "empty target": (["--target", ""], ["''"]),
    "ambiguous target": (["--target", "cat"], ["'cat' fits", "285  Egyptian cat", "283  Persian cat"]),
    "unknown contrast": (["--contrast", "flying saucer"], ["flying saucer"]),
    "contrast is target": (
        ["--target", "tabby", "--contrast", "281"],
        ["target and contrast are both 'tabby'"],
    ),
    "unknown model": (["--model", "squeezenet1.1"], ["'squeezenet1.1'", "did you mean 'squeezenet1_1'?"]),
    "unknown method": (["--method", "dmpb"], ["'dmpb'", "did you mean 'dmbp'?"]),
    "unknown preset": (["--preset", "papr"], ["'papr'", "did you mean 'paper'?"]),
    "unknown weights": (["--weights", "cafe"], ["'cafe'", "did you mean 'caffe'?"]),
    "missing weights": (["--weights", "absent.safetensors"], ["no such file: absent.safetensors"]),
    "foreign weights": (["--weights", "text.safetensors"], ["text.safetensors", "not a safetensors file"]),
}
OUTPUTS = {
    "unknown ending": (["-o", "map.xyz"], ["map.xyz", ".png"]),
    "no ending": (["-o", "map"], ["cannot write map", ".png"]),
    "numbers with unknown ending": (["--save", "map.npy"], ["map.npy", ".safetensors"]),
    "photograph itself": (["-o", "good.png"], ["good.png", "another name"]),
    "photograph by another path": (["-o", "nothing/../good.png"], ["good.png", "another name"]),
    "another of the photographs": (["good_dmbp.png"], ["good_dmbp.png", "another name"]),
    "several to one file": (["whole.jpg", "-o", "good.png"], ["several photographs", "good.png"]),
    "several to one new file": (["whole.jpg", "-o", "new.png"], ["several photographs", "new.png"]),
    "several numbers to one file": (
        ["whole.jpg", "--save", "new.safetensors"],
        ["several photographs", "new.safetensors"],
    ),
    "below a file": (["-o", "text.jpg/map.png"], ["cannot write text.jpg/map.png"]),
    "numbers below a file": (
        ["--save", "text.jpg/map.safetensors"],
        ["cannot write text.jpg/map.safetensors"],
    ),
    "several below a file": (
        ["whole.jpg", "-o", "text.jpg/maps"],
        ["cannot write text.jpg/maps/good_dmbp.png"],
    ),
    "name too long": (["-o", "a" * 252 + ".png"], ["too long"]),
}


@pytest.mark.parametrize(("arguments", "said"), PHOTOGRAPHS.values(), ids=PHOTOGRAPHS)
def test_bad_photograph_is_refused(refuse, arguments, said):
    message = refuse(*arguments)
    assert message.startswith("error: ")
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize(("arguments", "said"), (CHOICES | OUTPUTS).values(), ids=CHOICES | OUTPUTS)
def test_bad_option_is_refused(refuse, arguments, said):
    message = refuse("good.png", *arguments)
    assert message.startswith("error: ")
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize("arguments", [["--batch-size", "0"], ["--batch-size", "two"], ["--nonsense"]])
def test_bad_usage_is_refused(refuse, arguments):
    assert "Usage: " in refuse("good.png", *arguments)


def test_a_preset_of_a_method_that_has_none_is_refused(refuse):
    message = refuse("good.png", "--method", "grad_cam", "--preset", "paper")
    assert "--preset is of dmbp and rise; grad_cam has none" in message


@pytest.mark.parametrize("short", [[], ["explain"], ["weights"], ["weights", "port"]])
def test_help_has_a_short_name(tmp_path, short):
    assert run_here(tmp_path, *short, "-h").out == run_here(tmp_path, *short, "--help").out != ""


def test_help_before_a_command_is_that_commands(tmp_path):
    found, expected = run_here(tmp_path, "--help", "explain"), run_here(tmp_path, "explain", "--help")
    assert (found.code, found.out) == (0, expected.out)
    assert "--contrast" in found.out


def test_the_version_is_the_packages(tmp_path):
    assert run_here(tmp_path, "--version").out == f"dmbp-jax {dmbp_jax.__version__}\n"


def test_results_bear_the_name_of_their_method_and_a_slash_makes_a_folder(tmp_path):
    files = ("-o", "figures/", "--save", "numbers/")
    run = run_here(tmp_path, "explain", "--example", "--method", "gradient_x_input", *files)
    assert run.code == 0, run.err
    assert (tmp_path / "figures/chelsea_gradient_x_input.png").is_file()
    assert (tmp_path / "numbers/chelsea_gradient_x_input.safetensors").is_file()


@pytest.mark.parametrize("arguments", [["text.jpg"], ["--example", "--target", "cat"]])
def test_refusal_of_the_installed_command(tmp_path, arguments):
    (tmp_path / "text.jpg").write_text("no photograph\n" * 100)
    done = run_process(tmp_path, "explain", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert sorted(everything_in(tmp_path)) == ["text.jpg"]


def test_help_lists_every_option(tmp_path):
    done = run_here(tmp_path, "explain", "--help")
    options = ("target", "contrast", "model", "weights", "method", "preset", "output", "save", "batch-size")
    assert (done.code, done.err) == (0, "")
    assert [option for option in options if f"--{option}" not in done.out] == []


# What goes wrong elsewhere.


def failing(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def test_fault_of_our_own_is_reported_in_short_and_in_full_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load_model", failing(RuntimeError("a fault")))
    done = run_here(tmp_path, "explain", "--example")
    assert done.code == 1
    assert done.err.startswith("internal error: RuntimeError: a fault\n")
    assert "Traceback" not in done.err
    monkeypatch.setenv("DMBP_JAX_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="a fault"):
        run_here(tmp_path, "explain", "--example")


def test_full_disk_is_no_fault_of_our_own(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "map.png")
    monkeypatch.setattr(models, "load_model", failing(full))
    done = run_here(tmp_path, "explain", "--example")
    assert done.code == 2
    assert re.fullmatch(r"error: .*No space left on device: 'map\.png'\n", done.err)


def test_interruption_ends_with_130(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load_model", failing(KeyboardInterrupt()))
    done = run_here(tmp_path, "explain", "--example")
    assert done.code == 130
    assert "Traceback" not in done.err


def test_another_method_has_one_map_and_no_scores(tmp_path):
    files = ("-o", "why.png", "--save", "why.safetensors")
    run = run_here(tmp_path, "explain", "--example", "--method", "gradient_x_input", *files)
    assert run.code == 0, run.err
    assert "y+" not in run.out
    assert "preset" not in run.out
    with PIL.Image.open(tmp_path / "why.png") as figure:
        assert figure.width < 3 * 2.7 * 150
    a = Attribution.load(tmp_path / "why.safetensors")
    assert a.values.shape == (224, 224, 3)
    assert a.positive is None


def test_figures_are_written_before_further_photographs_are_explained(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        shutil.copy(example_photo(), tmp_path / name)
    written, explain = [], _explain.explain_photographs

    def watched(*args, **options):
        written.append(sorted(path.name for path in tmp_path.glob("*_gradient.png")))
        return explain(*args, **options)

    monkeypatch.setattr(_explain, "TOGETHER", 1)
    monkeypatch.setattr(_explain, "explain_photographs", watched)
    run = run_here(tmp_path, "explain", "a.png", "b.png", "--method", "gradient")
    assert run.code == 0, run.err
    assert written == [[], ["a_gradient.png"]]


@pytest.mark.long
def test_an_ablation_is_a_method_of_the_command(tmp_path):
    run = run_here(tmp_path, "explain", "--example", "--method", "dmbp_posneg", "--save", "why.safetensors")
    assert run.code == 0, run.err
    assert SCORES.search(run.out)
    assert "step 10 of 10" in run.err
    assert "one backward pass" not in run.out
    assert Attribution.load(tmp_path / "why.safetensors").scores.positive > 0
