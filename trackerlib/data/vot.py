"""The VOT short-term challenges 2013 to 2018 (Kristan et al.), from VOT's own folders or from pysot's one file.

    ROOT/NAME/groundtruth.txt             a row a frame: x,y,w,h or four corners; in ROOT/sequences/NAME too
    ROOT/NAME/00000001.jpg ...            frames; or in NAME/color/, or where NAME/sequence (vot-toolkit) says
    ROOT/NAME/<tag>.tag, .label           0 or 1 a frame; practical.value, practical.txt: a number a frame
    ROOT/list.txt                         the sequences in their order
    ROOT/VOT2018.json                     pysot's: polygons, tags and sizes of all; its images at ROOT/NAME/...

VOT's first pixel has the coordinate 0 and the corners of a region lie on pixels: the rectangle x,y,w,h is the polygon
from x,y to x+w-1,y+h-1 (so VOT's rasteriser has it). `Sequence.raw` keeps the rows as they are read.

`data/lists/vot.csv` holds the sequences of each year: 2016 annotates those of 2015 anew, 2018 has those of 2017.
"""

import functools
import json
import os.path
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .benchmark import SIDE, Benchmark, folders, images_of, list_names, own_list, valid
from .formats import MOST_NUMBERS, plain_text, read_rows, read_trajectory
from .sequence import ImageFiles, NoFrames, Sequence

TAGS = ("camera_motion", "illum_change", "occlusion", "size_change", "motion_change")


def corners(regions: np.ndarray) -> np.ndarray:
    """`(T, 8)` corners of `(T, 4)` or `(T, 8)` regions; rectangles have theirs on their first and last pixel."""
    x, y, w, h = regions[:, :4].T
    right, bottom = x + w - 1, y + h - 1
    of_rectangles = np.stack([x, y, right, y, right, bottom, x, bottom], 1)
    return of_rectangles if regions.shape[1] == 4 else np.where(_are_rectangles(regions), of_rectangles, regions)


def _are_rectangles(regions: np.ndarray) -> np.ndarray:
    return np.isnan(regions[:, 4:]).all(1, keepdims=True)


def boxes_of(regions: np.ndarray) -> np.ndarray:
    """The boxes, 0-based and of the edge convention, that stand for `(T, 4)` or `(T, 8)` regions; NaN for what is none.

    Rectangles are their own. Of a polygon, the centre is the mean of the corners; width and height are those of the
    bounding box, scaled alike to the polygon's area, plus 1 (get_axis_aligned_BB.m of SiamFC). The area is taken as the
    product of two sides: exact for rotated rectangles, which VOT's polygons are. The `+ 1`, and half a pixel that the
    centre gets here, say that corners lie on pixels: a rectangle's corners give back the rectangle."""
    points = corners(regions).reshape(-1, 4, 2)
    sides = np.linalg.norm(points[:, 1:3] - points[:, :2], axis=2)
    extent = np.ptp(points, axis=1)
    area = extent.prod(1)
    scale = np.sqrt(np.divide(sides.prod(1), area, out=np.ones_like(area), where=area > 0))
    size = scale[:, None] * extent + 1
    boxes = np.concatenate([points.mean(1) + 0.5 - size / 2, size], 1)
    boxes = np.where(_are_rectangles(regions), regions[:, :4], boxes)
    return np.where(valid(boxes)[:, None], boxes, np.nan)


def _readers(root: Path, year: str = "") -> dict:
    root = root / "sequences" if (root / "sequences").is_dir() else root
    found = [folder for folder in folders(root) if (folder / "groundtruth.txt").is_file()]
    if found:
        return {folder.name: functools.partial(_from_folder, folder) for folder in found}
    files = [root] if root.suffix == ".json" else sorted(root.glob(f"VOT{year or '*'}.json"))
    return {
        name: functools.partial(_from_record, file, record)
        for file in files[:1]
        for name, record in _records(file).items()
    }


def _from_folder(folder: Path, name: str) -> Sequence:
    annotation, about = folder / "groundtruth.txt", _properties(folder / "sequence")
    raw = _checked(read_trajectory(annotation).rows, lambda row: f"{annotation}, line {row + 1}")
    images = (folder / about.get("channels.color", "color/%08d.jpg")).parent
    frames = images_of(images if os.path.isdir(images) else folder, len(raw), annotation)
    tags = {path.stem: _column(path, len(raw)) == 1 for path in (*folder.glob("*.tag"), *folder.glob("*.label"))}
    practical = [path for path in (folder / "practical.value", folder / "practical.txt") if path.is_file()]
    size = tuple(int(about[side]) for side in ("width", "height") if re.fullmatch(SIDE, about.get(side, "")))
    difference = _column(practical[0], len(raw)) if practical else None
    return _sequence(name, frames, raw, tags, size=size if len(size) == 2 else None, practical=difference)


def _properties(file: Path) -> dict[str, str]:
    """The `key=value` lines of vot-toolkit's `sequence` file; {} without one."""
    lines = plain_text(file).splitlines() if file.is_file() else []
    return dict(line.strip().split("=", 1) for line in lines if "=" in line)


def _checked(raw: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    """`(T, 4)` or `(T, 8)` regions; refuses polygons that have not four corners and a first region that is none."""
    counts = np.isfinite(raw).sum(1)
    for row in np.flatnonzero(~np.isin(counts, (0, 4, 8))):
        what = f"{counts[row]} numbers where x,y,w,h or the four corners of a polygon are wanted"
        raise ValueError(f"{where(row)}: {what}; correct the row")
    raw = raw[:, : max(4, counts.max())]
    if np.isnan(boxes_of(raw[:1])).any():
        raise ValueError(f"{where(0)}: a tracker cannot start from this region; correct the row")
    return raw


def _column(file: Path, rows: int) -> np.ndarray:
    """A number a frame; a file that is short is filled with zeros, a long one cut, as vot-toolkit does."""
    if not file.read_bytes().strip():
        return np.zeros(rows)
    values = read_rows(file, columns=1)[:rows, 0]
    return np.pad(values, (0, rows - len(values)))


def _records(file: Path) -> dict[str, dict[str, Any]]:
    text = plain_text(file)
    try:
        records = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"{file}, line {e.lineno}: {e.msg}; fetch the file again") from None
    except (ValueError, RecursionError) as e:  # numbers of thousands of digits, or as many brackets
        raise ValueError(f"{file}: {e}; fetch the file again") from None
    if not isinstance(records, dict):
        raise ValueError(f"{file}: no mapping of sequences; fetch the file again")
    if (odd := next((name for name in records if not name.isprintable()), None)) is not None:
        raise ValueError(f"{file}: {odd!r} cannot name a sequence; fetch the file again")
    return records


def _from_record(file: Path, record: dict[str, Any], name: str) -> Sequence:
    try:
        rows, size = record["gt_rect"], (int(record["width"]), int(record["height"]))
        paths = tuple(file.parent / image for image in record["img_names"])
        given = {tag: [flag == 1 for flag in record[tag]] for tag in TAGS if record.get(tag)}  # []: not annotated
        raw = np.full((len(rows), min(max([8, *map(len, rows)]), MOST_NUMBERS)), np.nan)
        for row, numbers in zip(raw, rows, strict=True):
            row[: len(numbers)] = numbers
    except KeyError as e:
        raise ValueError(f"{file}: {name} has no {e}; fetch the file again") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as e:
        raise ValueError(f"{file}: {name} cannot be read ({e}); fetch the file again") from None
    for key, values in {"img_names": paths, **given}.items():
        if len(values) != len(raw) or not values:
            raise ValueError(f"{file}: {name} has {len(raw)} boxes and {len(values)} {key}; fetch the file again")
    raw = _checked(raw, lambda row: f"{file}, {name}, frame {row + 1}")
    frames = ImageFiles(paths) if os.path.isfile(paths[0]) else NoFrames(len(raw), str(paths[0].parent))
    tags = {tag: np.array(flags) for tag, flags in given.items()}
    return _sequence(name, frames, raw, tags, size=size if min(size) > 0 else None)


def _sequence(name: str, frames: ImageFiles | NoFrames, raw: np.ndarray, tags: dict, **facts) -> Sequence:
    """Adds `empty`, VOT's tag for a frame without any other."""
    if tags:
        tags = dict(sorted(tags.items())) | {"empty": ~np.any(list(tags.values()), 0)}
    polygons = corners(raw) if raw.shape[1] == 8 else None
    return Sequence(name, frames, boxes_of(raw), raw=raw, tags=tags, polygons=polygons, origin=0, **facts)


def _vot(year: str, sequences: int, frames: int | None = None) -> Benchmark:
    title, home = f"VOT{year} short-term challenge", f"https://www.votchallenge.net/vot{year}/dataset.html"
    wanted, readers = f"{_WANTED} pysot's ROOT/VOT{year}.json", functools.partial(_readers, year=year)
    return Benchmark(
        f"vot{year}", title, wanted, home, readers, lambda root: list_names("vot", year), sequences, frames
    )


_WANTED = "ROOT/NAME/groundtruth.txt with ROOT/NAME/color/00000001.jpg ..., or"
BENCHMARKS = (
    Benchmark(
        "vot",
        "every sequence in VOT's layout",
        f"{_WANTED} one of pysot's files",
        "https://www.votchallenge.net/challenges.html",
        _readers,
        lambda root: own_list(root) or own_list(root / "sequences"),
    ),
    _vot("2013", 16),
    _vot("2014", 25),
    _vot("2015", 60),
    _vot("2016", 60),
    _vot("2017", 60, 21356),
    _vot("2018", 60, 21356),
)
