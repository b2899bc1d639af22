"""Sequences and where they come from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..config import near
from . import got10k, imagenet_vid, otb, tlp, uav, vot
from .benchmark import Benchmark, Reader
from .crops import Part, Read
from .folder import load_folder
from .sequence import Dataset, Sequence

__all__ = ["BENCHMARKS", "DATASETS", "Dataset", "Sequence", "load_dataset", "parts_of"]


def _rendered(split: str) -> Callable[..., Dataset]:
    def load(root: None, **options) -> Dataset:
        from .rendered import rendered  # costs an import of the renderer, which real data never needs

        return rendered(split=split, **options)

    return load


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for reader in (otb, vot, uav, got10k, imagenet_vid, tlp)
    for benchmark in reader.BENCHMARKS
}

DATASETS: dict[str, Callable[..., Dataset]] = {
    "rendered": _rendered("test"),
    **{f"rendered-{split}": _rendered(split) for split in ("train", "val", "test", "long")},
    **{name: benchmark.load for name, benchmark in BENCHMARKS.items()},
    "folder": load_folder,
}


def load_dataset(name: str, root: str | Path | None = None, **options) -> Dataset:
    """A dataset by name: `rendered` needs no file, `otb` is every sequence under `root`, `otb100` the benchmark's list.

    options go to the dataset's own loader (`box=` for `folder`, `names=` for a benchmark). Raises ValueError for an
    unknown name, naming the near ones, and for a root that is missing or unwanted; FileNotFoundError says what layout
    it wants.

    >>> len(load_dataset("otb100", "OTB"))      # doctest: +SKIP
    100
    """
    if name not in DATASETS:
        raise ValueError(f"no dataset is called {name!r}{near(name, DATASETS)}")
    if name.startswith("rendered") and root is not None:
        raise ValueError(f"dataset {name!r} is made in memory and takes no root")
    if not name.startswith("rendered") and root is None:
        raise ValueError(f"dataset {name!r} lies in files: say where with root (--root DIR)")
    return DATASETS[name](root if root is None else Path(root).absolute(), **options)  # wherever it is read later


def parts_of(name: str, root: str | Path | None = None, **options) -> list[Part]:
    """A dataset in parts that can be read apart, each by the process that wants it: a benchmark's sequences (of
    ImageNet VID: snippets), found without reading an annotation. Raises as `load_dataset` does."""
    if (benchmark := BENCHMARKS.get(name)) is None or root is None:
        return [Read([sequence]) for sequence in load_dataset(name, root, **options).values()]
    return [partial(_read, reader, each) for each, reader in benchmark.found(Path(root).absolute(), **options).items()]


def _read(reader: Reader, name: str) -> list[Sequence]:
    read = reader(name)
    return read if isinstance(read, list) else [read]
