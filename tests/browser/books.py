"""Notebooks for the browser tests."""

from pathlib import Path

import nbformat


def changed(path: Path, **parameters: str) -> nbformat.NotebookNode:
    """A notebook with other values of some text parameters."""
    book = nbformat.read(path, as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in parameters.items():
        old = f'{name}: str = ""'
        assert old in cell.source
        cell.source = cell.source.replace(old, f"{name}: str = {value!r}")
    return book
