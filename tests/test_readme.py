"""What the README shows runs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_examples_run_and_their_comments_hold(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, gated = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(first, "README.md", "exec"), names)
    others: dict = {"dmbp": names["dmbp"]}
    exec(compile(gated, "README.md", "exec"), others)
    assert others["a"].values.shape == (2, 7)
    assert others["a"].finite.all()
    assert names["tabby"] == 281
    assert names["a"].values.shape == (1, 224, 224, 3)
    assert names["a"].heatmap.shape == (1, 224, 224)
    assert (names["a"].positive >= 0).all()
    assert (names["a"].negative <= 0).all()
    assert capsys.readouterr().out.startswith("y = ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tabby.png", "tabby.safetensors"]


def test_the_pictures_and_pages_are_there():
    linked = re.findall(r"\]\(([^)]+)\)", README)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert any(one.startswith("docs/") for one in linked)
    for one in linked:
        assert one.startswith("https://") or (ROOT / one).is_file(), one


def test_it_is_short_and_names_every_method():
    assert len(README.splitlines()) <= 130
    from dmbp_jax import METHODS

    (listed,) = re.findall(r"need a `key`\):\n\n(.*?)\n\n", README, flags=re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(METHODS)


def test_its_two_commands_are_those_of_the_tests_script():
    """`.ci/run` runs the first to explain the example, the second to test."""
    explain, test = re.findall(r"^pip install.*$", README, flags=re.MULTILINE)
    assert explain == "pip install . && dmbp-jax explain --example"
    assert test == "pip install -e '.[test]' && pytest -n 2 --dist loadfile"


def test_the_versions_tried_are_those_of_the_metadata_and_of_the_tests_script():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    (jax,) = (name.partition(">=")[2] for name in project["dependencies"] if name.startswith("jax>="))
    first, *others = pythons
    assert project["requires-python"] == f">={first}"
    oldest, newest = f"Python {first} with the oldest libraries allowed (JAX {jax})", " and ".join(others)
    tried = f"on {oldest}, and on Python {newest} with the newest"
    assert tried in " ".join(README.split())
    script = (ROOT / ".ci/run").read_text("utf-8")
    (tried_there,) = re.findall(r"^for version in (.*); do$", script, flags=re.MULTILINE)
    assert sorted(tried_there.split()) == sorted(pythons)
    assert f'if [ "$version" = {first} ]; then' in script
