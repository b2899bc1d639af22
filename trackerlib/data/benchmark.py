"""What the readers of all benchmarks share: which sequences a folder holds, their images, and what is refused.

A reader is one file (`otb.py`, `vot.py`, ...): it says which layout it knows, finds the sequences under a root, and
turns one annotation into a `Sequence`. What a benchmark fixes outside its files is in `data/lists/<benchmark>.csv`."""

import csv
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..resources import resource
from .formats import name_key, plain_text
from .sequence import Dataset, FrameSource, ImageFiles, NoFrames, Sequence

Reader = Callable[[str], Sequence | list[Sequence]]  # of the name that it is to have; a list: all in one video
SIDE = "[1-9][0-9]{0,5}"  # of an image, in pixels, as a file may tell it
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


@dataclass(frozen=True)
class Benchmark:
    """A dataset that has a name.

    wanted:    the files it reads, in words
    home:      where they are to be had; `licence`: under which terms, where the authors state any
    readers:   the sequences under a root by name, found without opening an annotation
    names:     the benchmark's own list at a root, in its order; None: whatever is there
    sequences: how many there should be, and `frames` in all of them, where that is known
    layout:    how results of one-pass runs are stored (see `bench.layouts`)
    unit:      what a reader reads, in a word"""

    name: str
    title: str
    wanted: str
    home: str
    readers: Callable[[Path], Mapping[str, Reader]]
    names: Callable[[Path], list[str] | None] = lambda root: None
    sequences: int | None = None
    frames: int | None = None
    layout: str = "otb"
    licence: str = ""
    unit: str = "sequences"

    def find(self, root: Path, names: Iterable[str] | None = None) -> tuple[dict[str, Reader], list[str]]:
        """Readers of `names` (by default the benchmark's list) under a root, and the names that are not there.

        Names are found under other toolkits' spellings too (see `formats.name_key`)."""
        there = self.readers(root)
        names = list(names or self.names(root) or there)
        by_key = {name_key(name): reader for name, reader in there.items()}
        found = {name: there.get(name) or by_key.get(name_key(name)) for name in names}
        return {name: reader for name, reader in found.items() if reader}, [n for n in names if not found[n]]

    def found(self, root: str | Path, names: Iterable[str] | None = None) -> dict[str, Reader]:
        """Readers of the benchmark's sequences, or of those of `names`.

        Raises FileNotFoundError saying where it looked, which layout it wants and where to get it."""
        root = Path(root)
        wanted = f"wanted: {self.wanted}; the sequences are at {self.home}"
        if not root.exists():
            raise FileNotFoundError(f"{self.name}: no folder {root}; {wanted}")
        found, missing = self.find(root, names)
        if not found:
            raise FileNotFoundError(f"{self.name}: no sequence under {root}; {wanted}")
        if missing:
            counts = f"{len(missing)} of {len(missing) + len(found)} {self.unit} are not under {root}"
            raise FileNotFoundError(f"{self.name}: {counts}: {some(missing)}; {wanted}")
        return found

    def load(self, root: str | Path, names: Iterable[str] | None = None) -> Dataset:
        """The benchmark's sequences, or those of `names`; raises as `found` does, or ValueError for a faulty
        annotation, which it names."""
        read = [reader(name) for name, reader in self.found(root, names).items()]
        sequences = [s for one in read for s in (one if isinstance(one, list) else [one])]
        return Dataset(self.name, sequences, self.layout)


def some(names: list[str], count: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


@functools.cache
def listed(file: str) -> tuple[dict[str, str], ...]:
    """The rows of `data/lists/<file>.csv`."""
    with open(resource("data", "lists", f"{file}.csv"), newline="") as f:
        return tuple(csv.DictReader(f))


def list_names(file: str, which: str) -> list[str]:
    """The names whose column `lists` holds `which`, in the file's order."""
    return [row["name"] for row in listed(file) if which in row["lists"].split()]


def own_list(folder: Path) -> list[str] | None:
    """The names in the `list.txt` of a copy of the data; None without one."""
    file = folder / "list.txt"
    return plain_text(file).split() if file.is_file() else None


def folders(root: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, by name; none where `root` is no folder."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in numeric order (`9.jpg` before `10.jpg`), hidden files left out; none without it."""
    if not folder.is_dir():
        return []
    files = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", p.name)])


def images_of(folder: Path, rows: int, annotation: Path) -> FrameSource:
    """One image for each annotation row, or none at all: then the sequence can be scored, not tracked."""
    files = image_files(folder)
    if not files:
        return NoFrames(rows, str(folder))
    if len(files) != rows:
        remedy = "fetch the missing images" if rows > len(files) else "complete the annotation, or remove the others"
        raise ValueError(f"{annotation} has {rows} rows for {len(files)} images in {folder}: {remedy}")
    return ImageFiles(tuple(files))


def valid(rows: np.ndarray) -> np.ndarray:
    """`(T,)`: which rows `x, y, w, h` are boxes."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(rows).all(1) & (rows[:, 2:] > 0).all(1)


def check_start(row: np.ndarray, annotation: Path, line: int = 1) -> None:
    """Refuse an annotation whose first row is no box."""
    if not valid(row[None])[0]:
        numbers = ",".join(f"{v:g}" for v in row)
        raise ValueError(f"{annotation}, line {line}: a tracker cannot start from the box {numbers}; correct the row")
