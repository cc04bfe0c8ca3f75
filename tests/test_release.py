"""What surrounds a release says what the package says: commands, names, and the version in one place."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read_yaml(path):
    return yaml.safe_load(path.read_text("utf-8"))


def commands(workflow):
    for job in read_yaml(workflow)["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


def test_every_file_for_the_forge_is_yaml():
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml"]
    assert len(files) >= 9
    for file in files:
        assert isinstance(read_yaml(file), dict), file


def test_the_tests_workflow_calls_what_the_readme_gives():
    readme = (ROOT / "README.md").read_text("utf-8")
    given = re.findall(r"^pip install.*$", readme, re.MULTILINE)
    called = list(commands(ROOT / ".github" / "workflows" / "tests.yml"))
    assert given
    assert set(given) <= set(called)


def test_the_tests_workflow_tries_every_python_that_the_package_names():
    matrix = read_yaml(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["include"]
    named = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert {job["python"] for job in matrix} == named


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_name_files_that_exist(workflow):
    for command in commands(workflow):
        for name in re.findall(r"\.ci/\w+", command):
            assert (ROOT / name).is_file(), name


def test_pre_commit_calls_what_the_contributing_page_gives():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for hook in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        command = hook["entry"].replace(" --force-exclude", "")
        assert command in page, command


def test_the_version_stands_in_one_place():
    version = PROJECT["version"]
    for name in (
        "README.md",
        "CITATION.cff",
        "dmbp_jax/__init__.py",
        "mkdocs.yml",
        ".github/workflows/release.yml",
    ):
        assert version not in (ROOT / name).read_text("utf-8").replace(f"`v{version}`", ""), name
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_citation_names_the_paper_that_the_readme_names():
    cited = read_yaml(ROOT / "CITATION.cff")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert cited["title"] == PROJECT["name"]
    assert cited["license"] == PROJECT["license"]
    assert cited["preferred-citation"]["title"] in readme
    assert cited["preferred-citation"]["url"] in readme
    assert cited["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_flax_is_a_dependency_where_it_has_wheels():
    """pip would take one of 2022 under Python 3.15, which does not import."""
    (flax,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "flax")
    pythons = ("3.11", "3.12", "3.13", "3.14", "3.15")
    wanted = [flax.marker.evaluate({"python_version": version}) for version in pythons]
    assert wanted == [True, True, True, True, False]
    assert not flax.specifier.contains("0.6.1")


def test_the_oldest_libraries_are_those_of_the_metadata():
    printed = subprocess.run(
        [sys.executable, ROOT / ".ci" / "oldest"], capture_output=True, text=True, check=True
    ).stdout
    pinned = {one.name: one for one in map(Requirement, printed.splitlines())}
    needed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert len(pinned) == len(needed) > 20
    for one in map(Requirement, needed):
        (oldest,) = pinned[one.name].specifier
        assert (oldest.operator, f">={oldest.version}") == ("==", str(one.specifier)), one
        assert pinned[one.name].marker == one.marker, one


def test_the_tests_script_resolves_for_pythons_that_are_not_tried_yet():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (tried,) = re.findall(r"for version in ([\d. ]+); do\n[^\n]*step", script)
    (resolved,) = re.findall(r"python \.ci/resolve ([\d. ]+)", script)
    named = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert set(tried.split()) == named
    assert resolved.split() == ["3.14", "3.15"]
