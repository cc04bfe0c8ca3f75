"""The pages in `docs/` tell the truth: what they show runs, what they name exists.

Blocks of Python run page by page, in order, in one namespace; commands run in one folder, with the
photographs that the pages speak of. Both have a network of three layers in place of the trained ones, with
SqueezeNet's classes and photographs of 32 pixels: they show that the pages' calls are right, not what the
pages say of maps. (`test_readme.py` runs the README with the network that ships.)
"""

import dataclasses
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import jax
import PIL.Image
import pytest
import typer
from commands import run_here
from registered import forgetting
from small import TINY_LAYERS, draw_params, tiny_apply
from test_downstream import PACKAGES, exported

import dmbp_jax
from dmbp_jax import cli, models
from dmbp_jax.evaluation import _plan as plan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
TEXT = {page: (DOCS / f"{page}.md").read_text("utf-8") for page in PAGES}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT[page], flags=re.DOTALL | re.MULTILINE)


def tiny_model():
    """`load_model("squeezenet1_1")`, for a fraction of the time."""
    *hidden, last = TINY_LAYERS
    layers = (*hidden, last._replace(weight=(1000, last.weight[1])))
    spec = models.load_model("squeezenet1_1").spec
    preprocess = dataclasses.replace(spec.preprocess, resize=36, crop=32)
    spec = dataclasses.replace(spec, preprocess=preprocess, input_size=32)
    return models.Model(tiny_apply, draw_params(layers), spec)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    model = tiny_model()
    for module in (dmbp_jax, models, plan):
        monkeypatch.setattr(module, "load_model", lambda name, weights=None: model)


# Blocks of Python.


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": page}
    with forgetting():
        for number, block in enumerate(blocks(page, "python"), start=1):
            exec(compile(block, f"{page}.md, block {number}", "exec"), names)
            for name in ("a", "b"):
                if isinstance(names.get(name), dmbp_jax.Attribution):
                    assert names[name].finite.all(), f"{page}.md, block {number}"


def test_no_block_is_overlooked():
    """A block in a language that nobody runs, or one that is indented, would be."""
    for page, text in TEXT.items():
        fences = re.findall(r"^ *```(.*)$", text, flags=re.MULTILINE)
        assert set(fences) <= {"python", "sh", ""}, page
        assert len(fences) == 2 * (len(blocks(page, "python")) + len(blocks(page, "sh"))), page


# Commands.


def commands(page: str) -> list[list[str]]:
    """The words of every command of a page's `sh` blocks."""
    lines = "".join(blocks(page, "sh")).splitlines()
    parts = [part for line in lines for part in line.split(" && ")]
    return [words for words in (shlex.split(part, comments=True) for part in parts) if words]


def ours(page: str) -> list[list[str]]:
    """Those of `dmbp-jax` that no earlier page shows."""
    before = [words for other in PAGES[: PAGES.index(page)] for words in commands(other)]
    return [words[1:] for words in commands(page) if words[0] == "dmbp-jax" and words not in before]


def is_for_others(arguments: list[str]) -> bool:
    """Whether a command needs what is not at hand: weights, ImageNet, VOC, PyTorch, other machines."""
    text = " ".join(arguments)
    return arguments[0] == "bench" or any(
        word in text
        for word in ("weights fetch", "weights port", "imagenet:", "voc2012:", "--weights", "--coordinator")
    )


def parse(arguments: list[str]) -> None:
    """Read a command line as the command does, names and kinds of options included, and do nothing."""
    command = typer.main.get_command(cli.make_app())
    name = "dmbp-jax"
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, list(arguments)).close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages' commands speak of: `cat.jpg`, `more/dog.jpg`, and two folders with labels."""
    folder = tmp_path_factory.mktemp("pages")
    for photo, side in (
        ("cat.jpg", 40), ("more/dog.jpg", 40), ("photos/one.jpg", 40), ("photos/two.jpg", 48),
        ("my_photographs/cat.png", 40),
    ):  # fmt: skip
        (folder / photo).parent.mkdir(exist_ok=True)
        PIL.Image.open(dmbp_jax.example_photo()).resize((side, side)).save(folder / photo)
    (folder / "photos/labels.csv").write_text("file,class_index\none.jpg,281\ntwo.jpg,285\n")
    (folder / "my_photographs/labels.csv").write_text("file,class_index\ncat.png,281\n")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if ours(page)])
def test_the_commands_of_a_page_run(page, folder):
    """Those that need what is not at hand are only parsed: their options exist, and take such values."""
    for arguments in ours(page):
        parse(arguments)
        if not is_for_others(arguments):
            run = run_here(folder, *arguments)
            assert run.code == 0, (arguments, run.err)
    assert not list(folder.glob("**/*.tmp"))


def test_what_is_only_parsed_is_still_checked():
    shown = [arguments for page in PAGES for arguments in ours(page)]
    assert 0 < sum(map(is_for_others, shown)) < len(shown) - 10
    with pytest.raises(Exception, match="No such option"):
        parse(["evaluate", "--daat", "imagenet:val", "-o", "run"])
    with pytest.raises(KeyError):
        parse(["weights", "prot", "a.pth"])


def test_other_commands_are_installations_with_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for page in PAGES:
        for words in commands(page):
            assert words[0] in ("dmbp-jax", "pip"), words
            for extras in re.findall(r"\.\[(.*?)\]", " ".join(words)):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), words


# What the pages name.


def test_every_method_has_its_section_its_picture_and_its_options():
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT["methods"], re.DOTALL | re.MULTILINE))
    assert [name for name in sections if name in dmbp_jax.METHODS] == list(dmbp_jax.METHODS)
    for name, options in dmbp_jax.list_methods().items():
        section = sections[name]
        assert f"](figures/{name}" in section
        assert "**Source**" in section or "Source, options and cost are those of" in section
        assert "**Cost**" in section or "Source, options and cost are those of" in section
        assert "**Take it**" in section
        if "options and cost are those of" in section:
            continue
        for option in options:
            assert f"`{option}`" in section, (name, option)
    assert "`strength`" in sections["dmbp"]


def test_pictures_are_there_and_small():
    shown = {picture for text in TEXT.values() for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)}
    for picture in shown:
        assert (DOCS / picture).is_file(), picture
    drawn = {f"figures/{path.name}" for path in (DOCS / "figures").iterdir()}
    assert drawn <= shown
    for picture in drawn:
        assert (DOCS / picture).stat().st_size < 60_000, picture


def test_the_reference_has_every_public_name_and_no_other():
    pages = "".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    identifiers = re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE)
    assert len(identifiers) == len(set(identifiers))
    for identifier in identifiers:
        module, _, name = identifier.rpartition(".")
        home = importlib.import_module(module)
        assert hasattr(home, name) or name in home.__annotations__, identifier
    public = {name for package in PACKAGES for name in exported(package)}
    assert not public - {identifier.rpartition(".")[2] for identifier in identifiers}


def test_all_metrics_and_presets_are_spoken_of():
    from dmbp_jax.evaluation._registry import METRICS

    headings = " ".join(re.findall(r"^### (.*)$", TEXT["evaluation"], flags=re.MULTILINE))
    for name in METRICS:
        assert f"`{name}`" in headings, name
    for preset in dmbp_jax.PRESETS:
        assert f"## Preset `{preset}`" in TEXT["how_dmbp_works"]


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in [f"{page}.md" for page in PAGES] + [
        f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")
    ]:
        assert f": {page}\n" in contents, page


def test_the_pages_name_no_machine():
    for page, text in TEXT.items():
        for path in ("/tmp", "/work", "/home", "/root", "/Users", "C:\\"):
            assert path not in text, (page, path)


def test_a_page_is_not_run_with_the_real_network():
    assert jax.tree.leaves(dmbp_jax.load_model("squeezenet1_1").params)[0].size < 1000
