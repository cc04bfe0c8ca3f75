"""A method, a metric, a network and a kind of data from one file, in Python and in the commands."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from commands import run_here
from datasets import make_folder
from registered import forgetting
from safetensors.numpy import load as load_arrays

import dmbp_jax
from dmbp_jax import _methods as methods_module
from dmbp_jax._checks import InputError
from dmbp_jax._plugins import load_object, load_plugin
from dmbp_jax.evaluation import _registry as registry
from dmbp_jax.evaluation._methods import GROUPS
from dmbp_jax.evaluation._store import open_store

PLUGIN = '''
"""One file that teaches the package a method, a metric, a network and a kind of data."""

import jax
import jax.numpy as jnp
import numpy as np

import dmbp_jax as dmbp
from dmbp_jax.images import Preprocess
from dmbp_jax.models import Model, ModelSpec

NAMES = tuple(f"kind {number}" for number in range(10))


def brightness(apply, params, image, target, *, key=None, power=1):
    """The image itself."""
    values = image**power
    return dmbp.Attribution(values=values, finite=jnp.isfinite(values).all())


def steepness(predict, image, heatmap, target):
    """How steep the map is. Small is good."""
    return float(np.abs(np.diff(np.asarray(heatmap))).mean())


def toy():
    """A network of one convolution, for photographs."""

    def network(params, x):
        h = jax.nn.relu(jax.lax.conv(x.transpose(0, 3, 1, 2), params["kernel"], (1, 1), "SAME"))
        return h.mean(axis=(2, 3)) @ params["head"]

    keys = jax.random.split(jax.random.key(0))
    params = {
        "kernel": jax.random.normal(keys[0], (4, 3, 3, 3)),
        "head": jax.random.normal(keys[1], (4, 10)),
    }
    spec = ModelSpec(architecture="toy", classes=NAMES, preprocess=Preprocess(resize=20, crop=16))
    return Model(*dmbp.gated((network, params)), spec)


def one_logit():
    model = toy()
    return Model(lambda params, x, **rule: model.apply(params, x, **rule)[:, :1], model.params, ModelSpec(
        architecture="one", preprocess=model.spec.preprocess
    ))


def bare():
    return toy()[:2]


def noise(path):
    """`noise:N`: N random images."""
    images = np.random.default_rng(0).normal(size=(int(path), 16, 16, 3)).astype(np.float32)
    return images, np.arange(int(path)) % 10


dmbp.register_method(brightness, title="Brightness")
dmbp.register_method(brightness, name="contrasty", title="Contrasty", power=2)
dmbp.register_metric(steepness, title="Steepness of the map", short="Steep", higher_is_better=False)
dmbp.register_network(toy)
dmbp.register_dataset(noise)
'''


@pytest.fixture
def forget():
    with forgetting():
        yield


@pytest.fixture
def plugin(tmp_path, forget):
    file = tmp_path / "taught.py"
    file.write_text(PLUGIN)
    return file


def test_one_file_teaches_python_all_four(plugin):
    load_plugin(str(plugin))
    run = dmbp_jax.evaluate(
        "toy",
        "noise:5",
        methods=["brightness", "contrasty", "gradient"],
        metrics=["steepness"],
        progress=False,
    )
    assert len(run.rows()) == 15
    assert {row.metric for row in run.rows()} == {"steepness"}
    assert list(dmbp_jax.list_methods())[-1] == "brightness"
    assert dmbp_jax.list_methods()["brightness"] == {"power": 1}
    model = dmbp_jax.load_model("toy")
    a = dmbp_jax.explain(model.apply, model.params, jnp.ones((1, 16, 16, 3)), [0], "brightness", power=2)
    assert a.heatmap.shape == (1, 16, 16)


def test_the_command_evaluate_knows_what_a_plugin_teaches(plugin, tmp_path, forget):
    # `main` runs a command in this process.
    arguments = ("evaluate", "--data", "noise:5", "--model", "toy", "--methods", "brightness,contrasty,dmbp")
    options = ("--metrics", "steepness,insertion", "--plugin", "taught.py", "-o", "run", "--keep-maps")
    done = run_here(tmp_path, *arguments, *options)
    assert done.code == 0, done.err
    assert "Steepness of the map, lower is better" in done.out
    assert "s of compiling in all" in done.out
    with open_store(tmp_path / "run") as store:
        assert len(list(store.rows())) == 30
        assert store.kept_map("0", 0, "brightness") is not None


def test_a_report_is_written_without_the_plugin(plugin, tmp_path):
    load_plugin(str(plugin))
    options = {"methods": ["brightness", "contrasty"], "metrics": ["steepness"], "progress": False}
    dmbp_jax.evaluate("toy", "noise:5", folder=tmp_path / "run", **options)
    for name in ("brightness", "contrasty"):
        methods_module.TITLES.pop(name)
    del registry.METRICS["steepness"], methods_module.METHODS["brightness"]
    done = run_here(tmp_path, "report", "run")
    assert done.code == 0, done.err
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Steepness of the map, lower is better. How steep the map is." in page
    assert "Contrasty" in page
    assert "noise:5" in page


def test_the_command_explain_knows_what_a_plugin_teaches(plugin, tmp_path):
    photos = make_folder(tmp_path / "photos", 2)
    photo = sorted(photos.glob("*.*"))[0]
    done = run_here(
        tmp_path,
        "explain",
        photo,
        "--plugin",
        "taught.py",
        "--model",
        "toy",
        "--method",
        "brightness",
        "-o",
        "a.png",
    )
    assert done.code == 0, done.err
    assert "kind" in done.out
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("name", ["taught.py:toy", "taught:toy"])
def test_a_network_is_named_by_its_factory(plugin, tmp_path, name, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.delitem(sys.modules, "taught", raising=False)
    photos = make_folder(tmp_path / "photos", 3)
    done = run_here(
        tmp_path,
        "evaluate",
        "--data",
        f"folder:{photos}",
        "--model",
        name,
        "--methods",
        "gradient",
        "-o",
        "run",
    )
    assert done.code == 0, done.err
    with open_store(tmp_path / "run") as store:
        assert store.config()["model"] == "toy"
        assert len(list(store.rows())) == 3


def test_a_bare_network_has_no_photographs(plugin, tmp_path):
    photos = make_folder(tmp_path / "photos", 1)
    given = ("evaluate", "--data", f"folder:{photos}", "--model", "taught.py:bare", "-o", "run")
    done = run_here(tmp_path, *given, "--methods", "gradient")
    assert done.code == 2
    assert "since it has no preprocessing: give preprocess=" in done.err
    assert not (tmp_path / "run").exists()
    photo = sorted(photos.glob("*.*"))[0]
    done = run_here(tmp_path, "explain", photo, "--model", "taught.py:bare")
    assert done.code == 2
    assert "since it has no preprocessing" in done.err


def test_a_network_without_names_of_classes_has_numbers(plugin, tmp_path):
    plugin.write_text(PLUGIN.replace("classes=NAMES, ", ""))
    photo = sorted(make_folder(tmp_path / "photos", 1).glob("*.*"))[0]
    given = ("--model", "taught.py:toy", "--target", "9", "--method", "gradient", "-o", "a.png")
    done = run_here(tmp_path, "explain", photo, *given)
    assert done.code == 0, done.err
    assert "explained: class 9" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plugin", "nowhere.py"), "no such file: nowhere.py"),
        (("--plugin", "nowhere_at_all"), "no module 'nowhere_at_all'"),
        (("--model", "taught.py:nobody"), "taught.py has no 'nobody'"),
        (("--model", "nowhere.py:toy"), "no such file: nowhere.py"),
        (("--model", "taught.py:NAMES"), "is not a function that makes a network"),
        (("--model", "taught.py:noise"), "is not a function that makes a network"),
        (("--model", "taught.py:toy", "--weights", "a.safetensors"), "brings its own weights"),
        (("--plugin", "taught.py", "--data", "noises:5"), "a kind of folder, imagenet"),
        (("--plugin", "taught.py", "--data", "noise:5", "--split", "val"), "noise has no splits"),
        (
            ("--plugin", "taught.py", "--data", "grid:noise:5"),
            "is made of photographs, and noise gives arrays",
        ),
    ],
)
def test_what_is_not_there_is_named(plugin, tmp_path, arguments, message):
    given = {"--data": f"folder:{make_folder(tmp_path / 'photos', 1)}", "--methods": "gradient", "-o": "run"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = run_here(tmp_path, "evaluate", *[word for pair in given.items() for word in pair])
    assert done.code == 2, (done.out, done.err)
    assert message in done.err


def test_the_command_explain_takes_one_logit_for_one_class_against_its_opposite(plugin, tmp_path):
    arguments = ("explain", "--example", "--model", "taught.py:one_logit", "--save", "a.safetensors")
    done = run_here(tmp_path, *arguments, "--method", "gradient")
    assert done.code == 0, done.err
    saved = load_arrays((tmp_path / "a.safetensors").read_bytes())
    expected = 1 / (1 + np.exp(-saved["logits"]))
    np.testing.assert_allclose(saved["probabilities"], expected, rtol=1e-5)
    assert f"class 0  {100 * expected[0]:5.1f}%" in done.out
    for activation, message in (
        ("softmax", "softmax of one logit is always 1"),
        ("tanh", "is neither softmax"),
    ):
        done = run_here(tmp_path, *arguments, "--activation", activation)
        assert done.code == 2
        assert message in done.err


def test_an_error_of_the_plugin_is_its_own(tmp_path):
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_plugin(str(tmp_path / "broken.py"))
    with pytest.raises(InputError, match="no such file"):
        load_object(str(tmp_path / "missing.py") + ":thing")


def test_a_plugin_is_loaded_once(tmp_path, forget):
    (tmp_path / "once.py").write_text(
        "import numpy as np\nCOUNTED = np.random.default_rng().integers(2**60)\n"
    )
    first, second = (load_plugin(str(tmp_path / "once.py")) for _ in range(2))
    assert first is second
    assert load_object(f"{tmp_path / 'once.py'}:COUNTED") == first.COUNTED


def test_names_of_the_package_are_not_replaced_and_ones_own_are(forget):
    def gradient(apply, params, image, target, *, key=None): ...

    def insertion(predict, image, heatmap, target): ...

    def folder(path): ...

    def squeezenet1_1(): ...

    for register, thing in (
        (dmbp_jax.register_method, gradient),
        (dmbp_jax.register_metric, insertion),
        (dmbp_jax.register_dataset, folder),
        (dmbp_jax.register_network, squeezenet1_1),
    ):
        with pytest.raises(InputError, match="in the package: give name="):
            register(thing)
        # A cell of a notebook runs twice.
        assert register(thing, name="another") is thing
        assert register(thing, name="another") is thing
    with pytest.raises(InputError, match="in the package: give name="):
        dmbp_jax.register_metric(insertion, name="sanity_abs")
    registers = (
        *(dmbp_jax.register_method, dmbp_jax.register_metric),
        *(dmbp_jax.register_dataset, dmbp_jax.register_network),
    )
    names = [
        "all",
        "ALL",
        *GROUPS,
        *dmbp_jax.PRESETS,
        "maps:x",
        "a,b",
        "a b",
        " a",
        "a\n",
        "",
        "a/b",
        "-a",
    ]
    for register in registers:
        for name in names:
            with pytest.raises(InputError, match=r"means something else|needs a name of letters"):
                register(insertion, name=name)
    dmbp_jax.register_method(gradient, name="another", n_steps=3)
    assert "another" not in methods_module.METHODS
    assert methods_module.VARIANTS["another"] == (gradient, {"n_steps": 3})


def test_a_reader_may_give_arrays_with_masks(forget):
    def masked(path):
        image = np.zeros((8, 8, 3), np.float32)
        return [dmbp_jax.images.ArraySample(image, 0, name=path, mask=np.eye(8, dtype=bool))]

    def inside(predict, image, heatmap, target, *, mask):
        return mask.sum()

    dmbp_jax.register_dataset(masked)
    network = (lambda params, x, rule=None: x.mean(axis=(1, 2)) @ params, jnp.ones((3, 2)))
    run = dmbp_jax.evaluate(network, "masked:A b", methods=["gradient"], metrics=[inside], progress=False)
    assert [row[:5] for row in run.rows()] == [("A b", 0, "gradient", "inside", 8.0)]
