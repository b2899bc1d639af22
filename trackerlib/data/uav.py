"""UAV123 and UAV20L (Mueller et al., ECCV 2016), whole or their annotations alone.

    ROOT/anno/UAV123/NAME.txt, ROOT/anno/UAV20L/NAME.txt    a 1-based x,y,w,h row a frame, NaN: not in view
    ROOT/anno/UAV123/att/NAME.txt, .../UAV20L/att/...       twelve flags
    ROOT/data_seq/UAV123/VIDEO/000001.jpg ...               frames, of both; several targets may share a video
    ROOT/NAME.txt and ROOT/att/NAME.txt                     or one benchmark's annotations alone: enough to score

`data/lists/uav.csv` says which frames of which video a target has (the benchmark's configSeqs.m, as got10k 0.1.3 and
pytracking agree on it; the lengths of the 20 annotations of UAV20L confirm it).

The twelve flags have no heading, and public readers name the columns in three ways. The boxes decide. Four attributes
are defined by them (area or aspect ratio outside half to twice that of the first box: SV, ARC; an area under 400
pixels: LR; the centre moved by more than 20 pixels in a frame: FM), and a target that is absent was fully occluded
(FOC). Of the 100 flags that UAV20L has for these five, the order below explains 99 (not SV of person2, out of range in
10 of 2,623 frames); `IV SV POC FOC OV FM CM BC SOB ARC VC LR` 61, and the alphabetical order 86, with 10 of 20 for LR.
"""

import functools
from pathlib import Path

import numpy as np

from .. import boxes as B
from .benchmark import Benchmark, check_start, image_files, list_names, listed, some, valid
from .formats import name_key, read_rows
from .sequence import FrameSource, ImageFiles, NoFrames, Sequence

ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")


@functools.cache
def _spans() -> dict[str, tuple[str, range]]:
    """Video and frame numbers of every target, by `name_key`."""
    return {name_key(r["name"]): (r["video"], range(int(r["first"]), int(r["last"]) + 1)) for r in listed("uav")}


def _readers(root: Path, version: str) -> dict:
    folder = root / "anno" / version if (root / "anno" / version).is_dir() else root
    numbered = functools.cache(lambda video: _numbered(root / "data_seq" / "UAV123" / video))
    known = {path.stem: path for path in sorted(folder.glob("*.txt")) if name_key(path.stem) in _spans()}
    return {name: functools.partial(_sequence, path, numbered) for name, path in known.items()}


def _numbered(folder: Path) -> tuple[Path, dict[int, Path]]:
    return folder, {int(path.stem): path for path in image_files(folder) if path.stem.isdecimal()}


def _sequence(annotation: Path, numbered, name: str) -> Sequence:
    video, span = _spans()[name_key(name)]
    raw = read_rows(annotation)
    if len(raw) != len(span):
        counts = f"{len(raw)} rows where the benchmark has {len(span)} frames"
        raise ValueError(f"{annotation}: {counts}; fetch the file again")
    check_start(raw[0], annotation)
    boxes = np.where(valid(raw)[:, None], B.from_one_based(raw), np.nan)
    attributes = _attributes(annotation.parent / "att" / annotation.name)
    return Sequence(name, _frames(*numbered(video), span), boxes, raw=raw, attributes=attributes)


def _frames(folder: Path, images: dict[int, Path], span: range) -> FrameSource:
    if not images:
        return NoFrames(len(span), str(folder))
    if missing := [number for number in span if number not in images]:
        names = some([f"{number:06d}.jpg" for number in missing])
        raise ValueError(f"{folder}: {len(missing)} of {len(span)} images are not there: {names}; fetch the video")
    return ImageFiles(tuple(images[number] for number in span))


def _attributes(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        return ()
    flags = read_rows(file, len(ATTRIBUTES))[0]
    return tuple(a for a, flag in zip(ATTRIBUTES, flags, strict=True) if flag)


def _uav(version: str, which: str, sequences: int, frames: int) -> Benchmark:
    wanted = f"ROOT/anno/{version}/NAME.txt and ROOT/data_seq/UAV123/VIDEO/000001.jpg ... (boxes alone: ROOT/NAME.txt)"
    about = (version.lower(), f"{version} (ECCV 2016)", wanted, "https://cemse.kaust.edu.sa/ivul/uav123")
    readers = functools.partial(_readers, version=version)
    return Benchmark(*about, readers, lambda root: list_names("uav", which), sequences, frames)


BENCHMARKS = (_uav("UAV123", "123", 123, 112_578), _uav("UAV20L", "20L", 20, 58_670))
