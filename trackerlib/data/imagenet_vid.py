"""ImageNet VID (ILSVRC2015, object detection from video): what SiamFC and DSiam are trained on.

    ROOT/Data/VID/train/ILSVRC2015_VID_train_0000/SNIPPET/000000.JPEG    frames of a snippet, counted from 0
    ROOT/Annotations/VID/train/ILSVRC2015_VID_train_0000/SNIPPET/000000.xml    the objects of a frame
    ROOT/Data/VID/val/SNIPPET/..., ROOT/Annotations/VID/val/SNIPPET/...        the same without the folder between
    ROOT/ILSVRC2015/Data/...                                                   or ROOT holds what the archive unpacks to

A snippet holds several tracks, each a Sequence called SNIPPET-TRACKID: the frames from the first to the last in which
it has a box. Between these a frame may lack it, or have no file (as frames without objects may): the row is NaN there,
and `absent`. A box without width or height stays in `raw` and is none in `boxes`.

Boxes are xmin,ymin,xmax-xmin,ymax-ymin. No document says where pixels count from. Published files have xmin = 0 (frame
0 of ILSVRC2015_train_00001000), and Flow-Guided Feature Aggregation (FGFA) reads and submits them unshifted as 0-based:
the first pixel is 0. Whether xmax is the last pixel or the edge behind it is open: SiamFC's per_frame_annotation.m adds
1 to width and height, FGFA cuts xmax to width - 1. We take it for the edge: a pixel is less than annotators differ by.

`data/lists/imagenet_vid.csv` holds the 30 classes (meta_vid.mat of the development kit). The kit counts 3862 snippets
with 1,122,397 frames in `train`, 555 with 176,126 in `val`; nobody counts the tracks."""

import functools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .benchmark import SIDE, Benchmark, folders, image_files, listed, some, valid
from .sequence import FrameSource, ImageFiles, NoFrames, Sequence

_EDGES = "xmin", "ymin", "xmax", "ymax"


class _Object(NamedTuple):
    """What a frame's file says of one track; the box is `x, y, w, h`."""

    track: int
    category: str
    box: tuple[float, float, float, float]
    occluded: bool
    generated: bool


class _Plain(ET.TreeBuilder):
    """An XML tree without a document type: that alone can define entities, and a few lines of them fill a memory."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE, which these files never have")


def _readers(root: Path, split: str) -> dict:
    """The snippets under a root; their tracks are known when the files are read."""
    base = next((r for r in (root, root / "ILSVRC2015", root / "ILSVRC") if (r / "Annotations/VID").is_dir()), root)
    annotations, images = base / "Annotations/VID" / split, base / "Data/VID" / split
    snippets = [snippet for folder in folders(annotations) for snippet in folders(folder) or [folder]]
    return {s.name: functools.partial(_tracks, s, images / s.relative_to(annotations)) for s in snippets}


def _tracks(annotations: Path, images: Path, snippet: str) -> list[Sequence]:
    """Every track of a snippet that has a box anywhere, in the order of their numbers."""
    files, frames = _numbered(annotations.glob("*.xml")), _numbered(image_files(images))
    if frames and (missing := sorted(files.keys() - frames.keys())):
        names = some([f"{number:06d}.JPEG" for number in missing])
        raise ValueError(f"{images}: {len(missing)} images of {annotations} are not there: {names}; fetch the snippet")
    order, size = sorted(frames or files), None
    tracks: dict[int, dict[int, _Object]] = {}
    for row, number in enumerate(order):
        objects, its_size = _read(files[number]) if number in files else ([], None)
        size = size or its_size
        for found in objects:
            tracks.setdefault(found.track, {})[row] = found
    paths = tuple(frames[number] for number in order) if frames else ()
    made = (_track(f"{snippet}-{track}", tracks[track], paths, str(images), size) for track in sorted(tracks))
    return [sequence for sequence in made if sequence]


def _numbered(files) -> dict[int, Path]:
    return {int(path.stem): path for path in files if path.stem.isdecimal()}


def _track(
    name: str, objects: dict[int, _Object], paths: tuple[Path, ...], folder: str, size: tuple[int, int] | None
) -> Sequence | None:
    """The Sequence of the objects of one track by frame; None where none of them has a box."""
    rows = [row for row, found in objects.items() if valid(np.array([found.box]))[0]]
    if not rows:
        return None
    first, count = rows[0], rows[-1] - rows[0] + 1
    raw, tags = np.full((count, 4), np.nan), {tag: np.zeros(count, bool) for tag in ("occluded", "generated")}
    absent = np.ones(count, bool)
    for row in range(first, first + count):
        if found := objects.get(row):
            raw[row - first], absent[row - first] = found.box, False
            tags["occluded"][row - first], tags["generated"][row - first] = found.occluded, found.generated
    frames: FrameSource = ImageFiles(paths[first : first + count]) if paths else NoFrames(count, folder)
    facts = {"absent": absent, "tags": tags, "size": size, "category": objects[first].category}
    return Sequence(name, frames, np.where(valid(raw)[:, None], raw, np.nan), raw=raw, origin=0, **facts)


def _read(file: Path) -> tuple[list[_Object], tuple[int, int] | None]:
    """The objects of a frame, and the size of the image where the file tells.

    Raises ValueError naming the file, and the line where it is no XML."""
    parser = ET.XMLParser(target=_Plain())
    try:
        parser.feed(file.read_bytes())
        root = parser.close()
    except ET.ParseError as error:
        raise ValueError(f"{file}, line {error.position[0]}: no XML ({error.msg}); fetch the snippet again") from None
    except (ValueError, LookupError) as error:  # what _Plain refuses; an encoding that Python lacks
        raise ValueError(f"{file}: {error}; fetch the snippet again") from None
    if root.tag != "annotation":
        raise ValueError(f"{file}: <{root.tag}> where <annotation> is due; fetch the snippet again")
    objects = [_object(found, file) for found in root.findall("object")]
    numbers = [found.track for found in objects]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise ValueError(f"{file}: two objects of the trackid {min(twice)}; remove one")
    return objects, _size(root)


def _object(found: ET.Element, file: Path) -> _Object:
    text = {part.tag: (part.text or "").strip() for part in found}
    if not re.fullmatch("[0-9]{1,9}", text.get("trackid", "")):
        raise ValueError(f"{file}: an object with the trackid {text.get('trackid')!r}, want a number; correct it")
    edges = {part.tag: part.text or "" for part in found.findall("bndbox/*")}
    try:
        left, top, right, bottom = (float(edges[edge]) for edge in _EDGES)
    except (KeyError, ValueError):
        what = f"the bndbox of trackid {text['trackid']} lacks one of the numbers {', '.join(_EDGES)}"
        raise ValueError(f"{file}: {what}; correct it") from None
    box, name = (left, top, right - left, bottom - top), text.get("name", "")
    flags = (text.get(flag) == "1" for flag in ("occluded", "generated"))
    return _Object(int(text["trackid"]), _classes().get(name, name), box, *flags)


def _size(root: ET.Element) -> tuple[int, int] | None:
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    return tuple(map(int, sides)) if all(re.fullmatch(SIDE, side) for side in sides) else None


@functools.cache
def _classes() -> dict[str, str]:
    """WordNet's number of a class to the benchmark's word for it."""
    return {row["wnid"]: row["name"] for row in listed("imagenet_vid")}


def _vid(split: str, snippets: str, between: str) -> Benchmark:
    name, title = f"imagenet-vid-{split}", f"ImageNet VID {split} split (ILSVRC2015), {snippets} snippets"
    wanted = "ROOT/{}/VID/" + split + between + "/SNIPPET/000000.{} ..."
    wanted = f"{wanted.format('Data', 'JPEG')} and {wanted.format('Annotations', 'xml')}"
    home, readers = "https://image-net.org/challenges/LSVRC/2015/", functools.partial(_readers, split=split)
    return Benchmark(name, title, wanted, home, readers, unit="snippets")


BENCHMARKS = (_vid("train", "3,862", "/ILSVRC2015_VID_train_0000"), _vid("val", "555", ""))
