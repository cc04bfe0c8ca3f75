"""The manifest, the embedded weights, class names, and the commands that read them."""

import csv
import dataclasses
import io
import re
import sys
import tomllib

import numpy as np
import pytest
from state_dicts import refuse, run_command

from dmbp_jax import models
from dmbp_jax.models import ARCHITECTURES
from dmbp_jax.models._fetch import find_fetched
from dmbp_jax.models._manifest import weights_folder
from dmbp_jax.models._port import check_sha256, digits_in_name

MANIFEST = models.read_manifest()
CHECKPOINTS = [entry for entry in MANIFEST.entries if entry.checkpoint]
SQUEEZENET_FIRES = (3, 4, 6, 7, 9, 10, 11, 12)
"""The places of fire2 to fire9 among torchvision's features."""


def test_every_architecture_has_weights_and_every_entry_an_architecture():
    assert {entry.architecture for entry in MANIFEST.entries} == ARCHITECTURES.keys()


def test_names_are_unique_and_unambiguous():
    names = [entry.name for entry in MANIFEST.entries]
    assert len(names) == len(set(names))
    assert not any("." in entry.architecture for entry in MANIFEST.entries)


@pytest.mark.parametrize("entry", MANIFEST.entries, ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry):
    assert sum(source is not None for source in (entry.file, entry.hub, entry.checkpoint)) == 1
    assert entry.source in (entry.file, entry.hub, entry.checkpoint)
    assert (entry.sha256 is None) == (entry.hub is not None)
    assert entry.classes in MANIFEST.classes
    assert entry.preprocess in MANIFEST.preprocess
    assert entry.licence
    assert entry.input_size == 224
    assert entry.output == {"imagenet": "softmax", "voc": "sigmoid"}[entry.classes]
    assert MANIFEST.find(entry.architecture, entry.tag) is entry


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda entry: entry.name)
def test_a_checkpoint_carries_its_digits_in_its_name(entry):
    file = weights_folder() / entry.checkpoint.rpartition("/")[2]
    assert digits_in_name(file) == entry.sha256
    assert re.fullmatch("[0-9a-f]{8}", entry.sha256)


def test_every_checkpoint_is_listed_once():
    assert len(CHECKPOINTS) > 0
    assert len({entry.checkpoint for entry in CHECKPOINTS}) == len(CHECKPOINTS)


def test_the_manifest_names_every_file_in_its_folder():
    with (weights_folder() / "manifest.toml").open("rb") as file:
        content = tomllib.load(file)
    lists = {*content["classes"].values(), *content["wnids"].values()}
    named = {*lists, *(entry.file for entry in MANIFEST.entries if entry.file)}
    described = {"README.md", "manifest.toml", "LICENSE-squeezenet.txt"}
    assert {path.name for path in weights_folder().iterdir()} == named | described


def test_wordnet_ids_are_in_the_order_of_the_classes(shared):
    (wnids,) = MANIFEST.wnids.values()
    assert len(set(wnids)) == 1000
    # ImageNet numbers its classes in the order of these ids.
    assert list(wnids) == sorted(wnids)
    with (shared / "images" / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert wnids[int(row["class_index"])] == row["wnid"]


@pytest.mark.parametrize(("key", "count"), [("imagenet", 1000), ("voc", 20)])
def test_class_lists_are_complete(key, count):
    names = MANIFEST.classes[key]
    assert len(names) == count
    assert all(name and name == name.strip() for name in names)


def test_class_names_are_in_the_order_of_the_logits():
    assert MANIFEST.classes["imagenet"][0] == "tench"
    assert MANIFEST.classes["imagenet"][281] == "tabby"
    assert MANIFEST.classes["imagenet"][999] == "toilet tissue"
    assert MANIFEST.classes["voc"] == tuple(sorted(MANIFEST.classes["voc"]))


@pytest.mark.parity
def test_class_names_are_torchvisions():
    from torchvision.models import SqueezeNet1_1_Weights

    assert list(MANIFEST.classes["imagenet"]) == SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.parity
@pytest.mark.parametrize(
    "entry", [one for one in CHECKPOINTS if one.tag != "voc"], ids=lambda entry: entry.name
)
def test_checkpoints_are_where_torchvision_has_them(entry):
    import torchvision

    assert torchvision.models.get_model_weights(entry.architecture).IMAGENET1K_V1.url == entry.checkpoint


# The embedded weights.


def test_the_embedded_file_is_the_one_that_the_manifest_names():
    entry = MANIFEST.find("squeezenet1_1")
    assert len(entry.sha256) == 64
    check_sha256(models.fetch(entry), entry.sha256)


def test_the_embedded_weights_are_the_reference_value_by_value(shared):
    params = models.load_model("squeezenet1_1").params
    layers = {"conv1": params["features"]["0"], "conv10": params["classifier"]["1"]}
    for number, place in enumerate(SQUEEZENET_FIRES, start=2):
        fire = params["features"][str(place)]
        layers |= {
            f"fire{number}/squeeze1x1": fire["squeeze"],
            f"fire{number}/expand1x1": fire["expand1x1"],
            f"fire{number}/expand3x3": fire["expand3x3"],
        }
    loaded = {}
    for name, layer in layers.items():
        loaded |= {f"{name}.w": layer["kernel"], f"{name}.b": layer["bias"]}
    with np.load(shared / "reference" / "squeezenet1_1_caffe.npz") as reference:
        assert set(reference) == loaded.keys()
        for name, tensor in loaded.items():
            np.testing.assert_array_equal(tensor, reference[name], err_msg=name)


def test_embedded_weights_that_are_damaged_are_refused(monkeypatch, tmp_path):
    entry = MANIFEST.find("squeezenet1_1")
    content = find_fetched(entry).read_bytes()
    (tmp_path / entry.file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr(sys.modules["dmbp_jax.models._fetch"], "weights_folder", lambda: tmp_path)
    assert "SHA-256" in refuse(models.load_model, "squeezenet1_1")


# Finding.


def test_the_first_entry_is_the_default():
    assert MANIFEST.find("squeezenet1_1").tag == "caffe"
    assert MANIFEST.find("resnet50").hub == "timm/resnet50.tv_in1k"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet51",), "no weights for 'resnet51'"),
        (("",), "no weights for ''"),
        (("squeezenet1_1", "cafe"), "did you mean 'caffe'? Known: caffe, tv_in1k"),
        (("squeezenet1_1", ""), "Known: caffe, tv_in1k"),
    ],
)
def test_what_there_is_not_is_refused(arguments, message):
    assert message in refuse(MANIFEST.find, *arguments)


# Class names.


@pytest.fixture(scope="module")
def spec() -> models.ModelSpec:
    return models.load_model("squeezenet1_1").spec


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("281", 281),
        ("0", 0),
        ("999", 999),
        (281, 281),
        ("tabby", 281),
        ("TABBY", 281),
        ("Tiger_Cat", 282),
        ("  tiger   cat ", 282),
        ("great white", 2),
        ("tissue", 999),
        ("hen", 8),  # and part of others
        ("crane", 517),  # likewise
    ],
)
def test_a_class_is_found(spec, text, index):
    assert spec.class_index(text) == index


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("cran", [134, 517]),
        ("Great_", [2, 24, 238, 246, 257]),
        ("shark", [2, 3]),
    ],
)
def test_an_ambiguous_class_lists_its_candidates(spec, text, candidates):
    message = refuse(spec.class_index, text)
    listed = re.findall(r"^ +(\d+)  (.+)$", message, re.MULTILINE)
    assert listed == [(str(i), spec.classes[i]) for i in candidates]
    assert repr(text) in message


def test_classes_of_one_name_are_told_apart_by_number(spec):
    namesakes = dataclasses.replace(spec, classes=("crane", "crane bird", "Crane"))
    assert re.findall(r"^ +(\d+) ", refuse(namesakes.class_index, "crane"), re.MULTILINE) == ["0", "2"]
    assert namesakes.class_index("2") == 2


def test_many_candidates_are_all_listed(spec):
    message = refuse(spec.class_index, "terrier")
    terriers = [name for name in spec.classes if "terrier" in name.lower()]
    assert len(terriers) > 10
    assert all(f"  {name}\n" in f"{message}\n" for name in terriers)


@pytest.mark.parametrize("text", ["1000", "-1", "-281", "99999"])
def test_an_index_out_of_range_is_refused_with_the_range(spec, text):
    message = f"target {int(text)} is out of range: the network has classes 0 to 999"
    assert refuse(spec.class_index, text) == message


@pytest.mark.parametrize("text", ["unicorn", "", "  ", "_", "--5", "²", "5-"])
def test_an_unknown_class_is_refused(spec, text):
    assert refuse(spec.class_index, text) == f"no class of squeezenet1_1 is named like {text!r}"


# The commands.


@pytest.fixture
def nothing_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("DMBP_JAX_CACHE", str(tmp_path))


def test_the_list_has_names_and_addresses_whole_in_a_pipe(nothing_fetched, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert run_command(monkeypatch, "weights", "list") == 0
    _, *lines = capsys.readouterr().out.splitlines()
    printed = [(line.split()[0], line.split()[-2], line.split()[-1]) for line in lines]
    expected = [(one.name, "embedded" if one.file else "no", one.source) for one in MANIFEST.entries]
    assert printed == expected


def test_the_list_cuts_nothing_off_in_a_narrow_terminal(nothing_fetched, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")  # no colours, 80 columns
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run_command(monkeypatch, "weights", "list") == 0
    assert max(len(line) for line in terminal.getvalue().splitlines()) <= 80
    assert "…" not in terminal.getvalue()


@pytest.mark.parametrize("name", ["squeezenet1_1", "squeezenet1_1.caffe"])
def test_embedded_weights_need_no_fetching(nothing_fetched, monkeypatch, capsys, name):
    assert run_command(monkeypatch, "weights", "fetch", name) == 0
    file = weights_folder() / "squeezenet1_1_caffe.safetensors"
    assert capsys.readouterr().out == f"squeezenet1_1.caffe: {file}\n"


@pytest.mark.parametrize("name", ["nonsense", "squeezenet1_1.nonsense", ""])
def test_fetching_an_unknown_name_is_one_message(nothing_fetched, monkeypatch, capsys, name):
    assert run_command(monkeypatch, "weights", "fetch", name) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.fullmatch("error: .*\n", errors)
