"""The notebooks run on small settings, and what is committed of them comes from a clean run."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
COMMITTED = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
# These read what networks from PyPI gave, or count for minutes.
RUN = sorted({*COMMITTED} - {"what_to_expect"})


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def shown_text(cell):
    """Everything that a reader of a cell's outputs could read."""
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(content)


@pytest.mark.long
@pytest.mark.parametrize("name", RUN)
def test_a_notebook_runs_on_small_settings(name, shared, tmp_path):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "DMBP_NOTEBOOK_SMALL": "1",
        "DMBP_PHOTOS": str(shared / "images"),
        "IPYTHONDIR": str(tmp_path),  # no start-up files of whoever runs this
        # Whatever the tests draw with, a notebook shows its figures.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    notebook = read(name)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute(env=environment)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    complaints = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not complaints
    assert any(
        "image/png" in output.get("data", {}) or "image/jpeg" in output.get("data", {}) for output in outputs
    )


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_outputs_are_of_one_clean_run(name):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_notebooks_name_no_machine_and_are_small(name):
    for cell in read(name).cells:
        for text in (cell.source, *(shown_text(cell) if cell.cell_type == "code" else ())):
            for path in ("/tmp", "/work", "/home", "/root", "/Users", "C:\\"):
                assert path not in text, text
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 1.5e6
