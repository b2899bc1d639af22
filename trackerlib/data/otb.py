"""The OTB benchmark (Wu et al., CVPR 2013 and TPAMI 2015), and any tree of sequences laid out like it.

    ROOT/NAME/img/0001.jpg ...            frames
    ROOT/NAME/groundtruth_rect.txt        a 1-based x,y,w,h row a frame
    ROOT/NAME/groundtruth_rect.1.txt, .2.txt   two targets in one video: NAME-1 and NAME-2
    ROOT/anno/NAME.txt                    or annotations alone: enough to score, not to track

What the benchmark fixes outside these files (lists, attributes, the part of a video that is used) is in
`data/lists/otb.csv`: `first`..`last` are the images that the annotation rows belong to; `skip` the rows before the
one-pass evaluation starts (Tiger1 begins at frame 6, `initOmit` of the MATLAB toolkit); `older` the rows of a shorter
version of the annotation that published results were made with; `attributes` those of the MATLAB toolkit's `anno/att`.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import boxes as B
from ..resources import resource
from .formats import name_key, read_rows
from .sequence import Dataset, FrameSource, ImageFiles, NoFrames, Sequence

LISTS = {"otb2013": "2013", "otb50": "50", "otb100": "100"}
_HOME = "http://cvlab.hanyang.ac.kr/tracker_benchmark/datasets.html"
_LAYOUT = (
    "wanted: ROOT/NAME/img/0001.jpg ... and ROOT/NAME/groundtruth_rect.txt (annotations alone: ROOT/anno/NAME.txt); "
    f"the sequences are at {_HOME}"
)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


@dataclass(frozen=True)
class Entry:
    """What the benchmark fixes about one target; see the head of this module."""

    name: str
    lists: tuple[str, ...]
    attributes: tuple[str, ...]
    first: int | None
    last: int | None
    skip: int
    older: int | None

    @property
    def rows(self) -> int | None:
        """Annotation rows from `first` to `last`; None where the annotation is the video's length."""
        return self.last - self.first + 1 if self.first else None


@functools.cache
def entries() -> dict[str, Entry]:
    """The 100 targets of OTB by name, in the benchmark's order."""
    with open(resource("data", "lists", "otb.csv"), newline="") as f:
        return {row["name"]: _entry(row) for row in csv.DictReader(f)}


def _entry(row: dict[str, str]) -> Entry:
    number = {k: int(row[k]) if row[k] else None for k in ("first", "last", "skip", "older")}
    return Entry(
        row["name"],
        tuple(row["lists"].split()),
        tuple(row["attributes"].split()),
        number["first"],
        number["last"],
        number["skip"] or 0,
        number["older"],
    )


def otb_list(name: str) -> list[str]:
    """The targets of `otb2013` (51), `otb50` or `otb100`, in the benchmark's order."""
    return [e.name for e in entries().values() if LISTS[name] in e.lists]


def load_otb(root: str | Path, names: Iterable[str] | None = None, name: str = "otb") -> Dataset:
    """Sequences under `root`: the benchmark's list when `name` is one, else `names`, else every one there is.

    `names` are found under other toolkits' spellings too (see `formats.name_key`). Raises FileNotFoundError saying
    where it looked, which layout it wants and where to get it, or ValueError naming a faulty annotation."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: no folder {root}; {_LAYOUT}")
    there = _targets(root)
    if not there:
        raise FileNotFoundError(f"{name}: no sequence under {root}; {_LAYOUT}")
    if names is None:
        names = otb_list(name) if name in LISTS else there
    places = _places(list(names), there, name, root)
    return Dataset(name, [_sequence(target, *place) for target, place in places.items()])


def _places(names: list[str], there: dict, dataset: str, root: Path) -> dict[str, tuple[Path, Path]]:
    by_key = {name_key(target): place for target, place in there.items()}
    places = {n: there.get(n) or by_key.get(name_key(n)) for n in names}
    missing = [n for n in names if places[n] is None]
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{dataset}: {len(missing)} of {len(names)} sequences are not under {root}: {some}; {_LAYOUT}"
        )
    return places


def _targets(root: Path) -> dict[str, tuple[Path, Path]]:
    """Every target under a root: name to (annotation file, image folder)."""
    if (root / "anno").is_dir():
        return {path.stem: (path, root / path.stem / "img") for path in sorted((root / "anno").glob("*.txt"))}
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        annotations = _annotations(folder)
        if not annotations and (folder / "img").is_dir():
            raise FileNotFoundError(f"{folder}: images but no groundtruth_rect.txt; add it or move the folder away")
        found |= {target: (path, folder / "img") for target, path in annotations.items()}
    return found


def _annotations(folder: Path) -> dict[str, Path]:
    """Targets of one video. Human4's first target was withdrawn: its file is empty, and Human4-2 is the one in use."""
    numbered = {
        f"{folder.name}-{path.suffixes[0][1:]}": path
        for path in sorted(folder.glob("groundtruth_rect.[0-9].txt"))
        if path.read_bytes().strip() or name_key(folder.name) != name_key("Human4")
    }
    single = folder / "groundtruth_rect.txt"
    return numbered or ({folder.name: single} if single.is_file() else {})


def _sequence(name: str, annotation: Path, images: Path) -> Sequence:
    entry, raw = entries().get(name), read_rows(annotation)
    frames: FrameSource = NoFrames(len(raw), str(images))
    start = entry.skip if entry and len(raw) == entry.rows else 0
    if images.is_dir():
        files = _annotated_images(image_files(images), len(raw), entry, annotation, images)
        frames = ImageFiles(tuple(files[start:]))
    elif start:
        frames = NoFrames(len(raw) - start, str(images))
    raw = raw[start:]
    _check_first(raw[0], annotation, start + 1)
    is_box = np.isfinite(raw).all(1) & (raw[:, 2:] > 0).all(1)
    boxes = np.where(is_box[:, None], B.from_one_based(raw), np.nan)
    return Sequence(name, frames, boxes, raw=raw, attributes=entry.attributes if entry else ())


def _annotated_images(files: list[Path], rows: int, entry: Entry | None, annotation: Path, folder: Path) -> list[Path]:
    """The images that the annotation rows belong to; a number that fits nothing known is an error."""
    counts = f"{annotation} has {rows} rows for {len(files)} images in {folder}"
    if rows > len(files):
        raise ValueError(f"{counts}: more boxes than frames; fetch the missing images")
    if rows == len(files):
        return files
    for first in {entry.first, entry.first + entry.skip} if entry and entry.first else ():
        part = [path for number, path in _numbered(files) if first <= number <= entry.last]
        if len(part) == rows:
            return part
    raise ValueError(f"{counts}: a missing row? Complete the annotation, or remove the images it does not cover")


def _numbered(files: list[Path]) -> list[tuple[int, Path]]:
    """Images by the number in their name (a copy may begin at 247), or by position where names are no numbers."""
    if all(path.stem.isdecimal() for path in files):
        return [(int(path.stem), path) for path in files]
    return list(enumerate(files, 1))


def _check_first(box: np.ndarray, annotation: Path, line: int) -> None:
    if not (np.isfinite(box).all() and (box[2:] > 0).all()):
        numbers = ",".join(f"{v:g}" for v in box)
        raise ValueError(f"{annotation}, line {line}: a tracker cannot start from the box {numbers}; correct the row")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in numeric order (`9.jpg` before `10.jpg`), hidden files left out."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", p.name)])


def match_rows(sequence: Sequence, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A result's rows beside the annotation rows they belong to, and a note where that took a rule of the benchmark.

    Two published exceptions, for the benchmark's whole sequences only: a Tiger1 result that starts at the video's first
    frame (got10k, pysot) loses its first 5 rows; a ClifBar result of 329 rows is scored on the first 329 of 472. Any
    other difference in length is a ValueError."""
    entry, truth = entries().get(sequence.name), sequence.raw
    if len(rows) == len(truth):
        return rows, truth, ""
    if entry and entry.rows == len(truth) + entry.skip:
        if len(rows) == entry.rows:
            return rows[entry.skip :], truth, f"{sequence.name}: {len(rows)} rows, scored from frame {entry.skip + 1}"
        if len(rows) == entry.older:
            return rows, truth[: len(rows)], f"{sequence.name}: scored on the {len(rows)} frames of an older annotation"
    raise ValueError(f"{len(rows)} rows for the {len(truth)} frames of {sequence.name}; redo that run")
