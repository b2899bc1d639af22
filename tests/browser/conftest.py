"""A browser on a notebook that JupyterLab runs; without Chromium, or without playwright, the tests are skipped."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import nbformat
import pytest

from trackerlib.show import browser


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    pytest.importorskip("playwright", reason="needs playwright (make install's dev extra)")
    if not browser.CHROMIUM:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory) -> Iterator[Callable]:
    """`opened(book, theme, **page options)`: run all of a notebook; the page, once the first frame is painted."""
    with ExitStack() as stack:

        def open_notebook(book: nbformat.NotebookNode, theme: str = "JupyterLab Light", **options):
            root, own = (tmp_path_factory.mktemp(name) for name in ("root", "own"))
            nbformat.write(book, root / "book.ipynb")
            address = stack.enter_context(browser.lab(root, own, theme))
            page = stack.enter_context(browser.page_in(chromium, **options))
            browser.run_all(page, f"{address}book.ipynb")
            page.locator(".trk-canvas[data-frame]").first.wait_for(timeout=120_000)
            return page

        yield open_notebook


def book_of(*cells: str) -> nbformat.NotebookNode:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return book


def changed(path: Path, **parameters: str) -> nbformat.NotebookNode:
    """A notebook with other values of some text parameters."""
    book = nbformat.read(path, as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in parameters.items():
        old = f'{name}: str = ""'
        assert old in cell.source
        cell.source = cell.source.replace(old, f"{name}: str = {value!r}")
    return book
