"""The OTB benchmark (Wu et al., CVPR 2013 and TPAMI 2015), and any tree of sequences laid out like it.

    ROOT/NAME/img/0001.jpg ...            frames
    ROOT/NAME/groundtruth_rect.txt        a 1-based x,y,w,h row a frame
    ROOT/NAME/groundtruth_rect.1.txt, .2.txt   two targets in one video: NAME-1 and NAME-2
    ROOT/anno/NAME.txt                    or annotations alone: enough to score, not to track

What the benchmark fixes outside these files (lists, attributes, the part of a video that is used) is in
`data/lists/otb.csv`: `first`..`last` are the images that the annotation rows belong to; `skip` the rows before the
one-pass evaluation starts (Tiger1 begins at frame 6); `older` the rows of a shorter version of the annotation that
published results were made with; `attributes` those of the MATLAB toolkit's `anno/att`; `omit` the rows, counted from
1, from which TRE does not start: the 27 files `initOmit` of the MATLAB toolkit v1.0, for targets of OTB-2013 (and
RedTeam). No such list of the other targets is to be found; 17 of them start elsewhere in the published TRE results.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import boxes as B
from .benchmark import Benchmark, check_start, folders, image_files, list_names, listed, valid
from .formats import name_key, read_rows
from .sequence import FrameSource, ImageFiles, NoFrames, Sequence

_LISTS = {"otb2013": "2013", "otb50": "50", "otb100": "100"}


@dataclass(frozen=True)
class Entry:
    """What the benchmark fixes about one target; see the head of this module. Numbers it does not fix are 0."""

    name: str
    attributes: tuple[str, ...]
    first: int
    last: int
    skip: int
    older: int
    omit: tuple[range, ...]

    @property
    def rows(self) -> int:
        """Annotation rows from `first` to `last`; 0 where the annotation is the video's length."""
        return self.last - self.first + 1 if self.first else 0


@functools.cache
def entries() -> dict[str, Entry]:
    """The 100 targets of OTB by name, in the benchmark's order."""
    return {row["name"]: _entry(row) for row in listed("otb")}


@functools.cache
def entry_of(name: str) -> Entry | None:
    """The entry of a target under any toolkit's spelling."""
    return next((entry for known, entry in entries().items() if name_key(known) == name_key(name)), None)


def _entry(row: dict[str, str]) -> Entry:
    numbers = {key: int(row[key] or 0) for key in ("first", "last", "skip", "older")}
    spans = (map(int, span.split("-")) for span in row["omit"].split())
    omit = tuple(range(first, last + 1) for first, last in spans)
    return Entry(row["name"], tuple(row["attributes"].split()), **numbers, omit=omit)


def otb_list(name: str) -> list[str]:
    """The targets of `otb2013` (51), `otb50` or `otb100`, in the benchmark's order."""
    return list_names("otb", _LISTS[name])


def _otb(name: str, title: str, sequences: int | None = None, frames: int | None = None) -> Benchmark:
    wanted = "ROOT/NAME/img/0001.jpg ... and ROOT/NAME/groundtruth_rect.txt (annotations alone: ROOT/anno/NAME.txt)"
    home = "http://cvlab.hanyang.ac.kr/tracker_benchmark/datasets.html"
    return Benchmark(
        name, title, wanted, home, _readers, lambda root: otb_list(name) if name in _LISTS else None, sequences, frames
    )


def _readers(root: Path) -> dict:
    """Every target under a root."""
    if (root / "anno").is_dir():
        places = {path.stem: (path, root / path.stem / "img") for path in sorted((root / "anno").glob("*.txt"))}
    else:
        places = {target: (p, folder / "img") for folder in folders(root) for target, p in _annotations(folder).items()}
    return {target: functools.partial(_sequence, *place) for target, place in places.items()}


def _annotations(folder: Path) -> dict[str, Path]:
    """Targets of one video. Human4's first target was withdrawn: its file is empty, and Human4-2 is the one in use."""
    numbered = {
        f"{folder.name}-{path.suffixes[0][1:]}": path
        for path in sorted(folder.glob("groundtruth_rect.[0-9].txt"))
        if path.read_bytes().strip() or name_key(folder.name) != name_key("Human4")
    }
    single = folder / "groundtruth_rect.txt"
    there = single.is_file() or (folder / "img").is_dir()
    return numbered or ({folder.name: single} if there else {})


def _sequence(annotation: Path, images: Path, name: str) -> Sequence:
    if images.is_dir() and not annotation.is_file():
        raise FileNotFoundError(f"{images.parent}: images but no {annotation.name}; add it or move the folder away")
    entry, raw = entry_of(name), read_rows(annotation)
    start = entry.skip if entry and len(raw) == entry.rows else 0
    frames: FrameSource = NoFrames(len(raw) - start, str(images))
    if images.is_dir():
        files = _annotated_images(image_files(images), len(raw), entry, annotation, images)
        frames = ImageFiles(tuple(files[start:]))
    omit, raw = _omitted(entry, len(raw))[start:], raw[start:]
    check_start(raw[0], annotation, start + 1)
    boxes = np.where(valid(raw)[:, None], B.from_one_based(raw), np.nan)
    return Sequence(name, frames, boxes, raw=raw, attributes=entry.attributes if entry else (), omit=omit)


def _omitted(entry: Entry | None, rows: int) -> np.ndarray:
    """`(rows,)`: the rows that init-omit names. It counts `skip` too, whether those rows are in the file or not."""
    numbers = np.arange(1, rows + 1)
    if entry and entry.rows == rows + entry.skip:
        numbers += entry.skip
    return np.isin(numbers, [row for span in (entry.omit if entry else ()) for row in span])


def _annotated_images(files: list[Path], rows: int, entry: Entry | None, annotation: Path, folder: Path) -> list[Path]:
    """The images that the annotation rows belong to; a number that fits nothing known is an error."""
    counts = f"{annotation} has {rows} rows for {len(files)} images in {folder}"
    if rows > len(files):
        raise ValueError(f"{counts}: more boxes than frames; fetch the missing images, or remove the rows too many")
    if rows == len(files):
        return files
    for first in {entry.first, entry.first + entry.skip} if entry and entry.first else ():
        part = [path for number, path in _numbered(files) if first <= number <= entry.last]
        if len(part) == rows:
            return part
    raise ValueError(f"{counts}: a missing row? Complete the annotation, or remove the images it does not cover")


def _numbered(files: list[Path]) -> list[tuple[int, Path]]:
    """Images by the number in their name (a copy may begin at 247), or by position where names are no numbers."""
    numbers = all(path.stem.isdecimal() for path in files)
    return [(int(path.stem) if numbers else place, path) for place, path in enumerate(files, 1)]


def match_rows(sequence: Sequence, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A result's rows beside the annotation rows they belong to, and a note where that took a rule of the benchmark.

    Two published exceptions, for the benchmark's whole sequences only: a Tiger1 result that starts at the video's first
    frame (got10k, pysot) loses its first 5 rows; a ClifBar result of 329 rows is scored on the first 329 of 472. Any
    other difference in length is a ValueError."""
    entry, truth = entry_of(sequence.name), sequence.raw
    if len(rows) == len(truth):
        return rows, truth, ""
    if entry and entry.rows == len(truth) + entry.skip:
        if len(rows) == entry.rows:
            return rows[entry.skip :], truth, f"{sequence.name}: {len(rows)} rows, scored from frame {entry.skip + 1}"
        if entry.older and len(rows) == entry.older:
            return rows, truth[: len(rows)], f"{sequence.name}: scored on the {len(rows)} frames of an older annotation"
    raise ValueError(f"{len(rows)} rows for the {len(truth)} frames of {sequence.name}; redo that run")


BENCHMARKS = (
    _otb("otb", "every sequence laid out like OTB's"),
    _otb("otb2013", "OTB-2013 (CVPR 2013)", 51, 29_486),
    _otb("otb50", "OTB-50 (TPAMI 2015)", 50, 26_972),
    _otb("otb100", "OTB-100, also OTB-2015 (TPAMI 2015)", 100, 59_035),
)
