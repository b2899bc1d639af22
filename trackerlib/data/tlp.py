"""TLP, Track Long and Prosper (Moudgil and Gandhi, ACCV 2018), and TinyTLP, the first 600 frames of each video.

    ROOT/NAME/img/00001.jpg ...           frames
    ROOT/NAME/groundtruth_rect.txt        frame,x,y,w,h,lost a frame, frames counted from 1, lost: not in view

`data/lists/tlp.csv` holds the 50 videos and their lengths."""

import functools
from pathlib import Path

import numpy as np

from .benchmark import Benchmark, check_start, folders, images_of, listed, valid
from .formats import read_rows
from .sequence import ImageFiles, NoFrames, Sequence

TINY = 600


def _readers(root: Path, tiny: bool) -> dict:
    found = (folder for folder in folders(root) if (folder / "groundtruth_rect.txt").is_file())
    return {folder.name: functools.partial(_sequence, folder, tiny) for folder in found}


@functools.cache
def _lengths() -> dict[str, int]:
    return {row["name"]: int(row["frames"]) for row in listed("tlp")}


def _sequence(folder: Path, tiny: bool, name: str) -> Sequence:
    annotation = folder / "groundtruth_rect.txt"
    rows = read_rows(annotation, columns=6)
    frames = images_of(folder / "img", len(rows), annotation)
    if wrong := np.flatnonzero(rows[:, 0] != np.arange(1, len(rows) + 1)).tolist():
        line = wrong[0] + 1
        raise ValueError(f"{annotation}, line {line}: frame {rows[wrong[0], 0]:g} where {line} is due; restore the row")
    if tiny:  # of TinyTLP's own files, or of TLP's
        rows = rows[:TINY]
        bare = isinstance(frames, NoFrames)
        frames = NoFrames(len(rows), frames.wanted) if bare else ImageFiles(frames.paths[:TINY])
    elif len(rows) != _lengths().get(name, len(rows)):
        raise ValueError(f"{annotation}: {len(rows)} rows where TLP has {_lengths()[name]} frames; is this TinyTLP?")
    raw, lost = rows[:, 1:5], rows[:, 5] == 1
    check_start(raw[0], annotation)
    boxes = np.where((valid(raw) & ~lost)[:, None], raw, np.nan)
    return Sequence(name, frames, boxes, raw=raw, absent=lost, origin=0)


def _tlp(name: str, title: str, tiny: bool, frames: int) -> Benchmark:
    wanted = "ROOT/NAME/img/00001.jpg ... and ROOT/NAME/groundtruth_rect.txt of frame,x,y,w,h,lost"
    readers, home = functools.partial(_readers, tiny=tiny), "https://amoudgl.github.io/tlp/"
    return Benchmark(name, title, wanted, home, readers, lambda root: list(_lengths()), 50, frames)


BENCHMARKS = (
    _tlp("tlp", "TLP (ACCV 2018)", False, 676_431),
    _tlp("tinytlp", "TinyTLP (ACCV 2018)", True, 50 * TINY),
)
