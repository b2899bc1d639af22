"""A browser on a notebook that JupyterLab runs; without Chromium, or without playwright, the tests are skipped."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec

import nbformat
import pytest

from trackerlib.show import browser


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    missing = "" if find_spec("playwright") else "needs playwright (make install's dev extra)"
    missing = missing if browser.CHROMIUM else "needs Chromium (Debian: apt install chromium)"
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)  # CI installs both
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory) -> Iterator[Callable]:
    """`opened(book, theme, run, **page options)`: open a notebook and run all of it; the page, once the first frame is
    painted."""
    with ExitStack() as stack:

        def open_notebook(book: nbformat.NotebookNode, theme: str = "JupyterLab Light", run: bool = True, **options):
            root, own = (tmp_path_factory.mktemp(name) for name in ("root", "own"))
            nbformat.write(book, root / "book.ipynb")
            address = stack.enter_context(browser.lab(root, own, theme))
            page = stack.enter_context(browser.page_in(chromium, **options))
            if not run:
                page.goto(address("book.ipynb"))
                return page
            browser.run_all(page, address("book.ipynb"))
            page.locator(".trk-canvas[data-frame]").first.wait_for(timeout=120_000)
            return page

        yield open_notebook
