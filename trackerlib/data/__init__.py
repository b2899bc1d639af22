"""Sequences and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..config import near
from .folder import load_folder
from .otb import load_otb
from .sequence import Dataset, Sequence

__all__ = ["DATASETS", "Dataset", "Sequence", "load_dataset"]


def _rendered(split: str) -> Callable[..., Dataset]:
    def load(root: None, **options) -> Dataset:
        from .rendered import rendered  # costs an import of the renderer, which real data never needs

        return rendered(split=split, **options)

    return load


def _otb(name: str) -> Callable[..., Dataset]:
    return lambda root, **options: load_otb(root, name=name, **options)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "rendered": _rendered("test"),
    "rendered-train": _rendered("train"),
    "rendered-val": _rendered("val"),
    "rendered-test": _rendered("test"),
    "rendered-long": _rendered("long"),
    "otb": _otb("otb"),
    "otb2013": _otb("otb2013"),
    "otb50": _otb("otb50"),
    "otb100": _otb("otb100"),
    "folder": load_folder,
}


def load_dataset(name: str, root: str | Path | None = None, **options) -> Dataset:
    """A dataset by name: `rendered` needs no file, `otb` is every sequence under `root`, `otb100` the benchmark's list.

    options go to the dataset's own loader (`box=` for `folder`, `names=` for `otb`). Raises ValueError for an unknown
    name, naming the near ones, and for a root that is missing or unwanted; FileNotFoundError says what layout it wants.

    >>> len(load_dataset("otb100", "OTB"))      # doctest: +SKIP
    100
    """
    if name not in DATASETS:
        raise ValueError(f"no dataset is called {name!r}{near(name, DATASETS)}")
    if name.startswith("rendered") == (root is not None):
        wants = (
            "is made in memory and takes no root"
            if root is not None
            else "lies in files: say where with root (--root DIR)"
        )
        raise ValueError(f"dataset {name!r} {wants}")
    return DATASETS[name](root, **options)
