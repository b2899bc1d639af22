"""Committed notebooks: stripped, parameterised, short, and free of what breaks on another machine."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest

from trackerlib.parameters import RUNNERS, code_cells, declared
from trackerlib.resources import resource
from trackerlib.stages import load_graph

ROOT = resource("notebooks")
NOTEBOOKS = sorted(p for p in ROOT.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
FORBIDDEN = (
    r"sys\.path",
    r"^\s*[!%]\s*pip",
    r"^\s*%cd",
    r"import \*",
    r"[\"'](/home|/root|/Users|/tmp|/work|[A-Z]:\\)",
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def notebook(request) -> Path:
    return request.param


def test_it_is_a_valid_notebook_for_python3_with_cell_ids(notebook):
    book = nbformat.read(notebook, as_version=nbformat.NO_CONVERT)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) >= (4, 5)
    spec = book.metadata.kernelspec
    assert (spec.name, spec.display_name, spec.language) == ("python3", "Python 3", "python")


def test_it_is_stripped_and_small(notebook):
    book = nbformat.read(notebook, as_version=4)
    assert notebook.stat().st_size < 100_000
    assert not {"widgets", "papermill"} & set(book.metadata)
    for cell in book.cells:
        assert "papermill" not in cell.metadata
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_its_first_code_cell_holds_the_parameters_and_papermill_reads_the_same_ones(notebook):
    assert "parameters" in code_cells(notebook)[0].tags
    ours = declared(notebook)
    theirs = papermill.inspect_notebook(str(notebook))
    assert list(theirs) == list(ours)
    assert all(theirs[name]["help"] for name in ours), "each parameter has a comment"
    assert ours["out_dir"].default == ""
    assert set(RUNNERS) & set(ours) == set(RUNNERS), "out_dir and inputs belong to every notebook"


def test_it_has_no_idiom_that_breaks_elsewhere(notebook):
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert [pattern for pattern in FORBIDDEN if re.search(pattern, source, re.MULTILINE)] == []


def test_its_cells_are_short(notebook):
    lines = {cell.source.splitlines()[0]: len(cell.source.splitlines()) for cell in code_cells(notebook)[1:]}
    assert {first: count for first, count in lines.items() if count > 20} == {}, "logic belongs in the module"


def test_it_calls_itself_by_its_own_stage_name(notebook):
    name = str(notebook.relative_to(ROOT).with_suffix(""))
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert f'notebook.here("{name}", out_dir, inputs)' in source


def test_every_notebook_is_a_stage_and_every_profile_loads():
    graph = load_graph()
    assert {stage.notebook for stage in graph.stages.values()} == set(NOTEBOOKS)
    for profile in ("small", "paper"):
        assert set(load_graph(profile).stages) == set(graph.stages)
