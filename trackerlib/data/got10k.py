"""GOT-10k (Huang et al., TPAMI 2019): three splits; the annotation of `test` stays with the evaluation server.

ROOT/val/list.txt                              names of the split's sequences
ROOT/val/NAME/00000001.jpg ...                 frames
ROOT/val/NAME/groundtruth.txt                  a 1-based x,y,w,h row a frame; in `test` the first alone
ROOT/val/NAME/cover.label                      0 (not in view) to 8 (wholly in view) a frame
ROOT/val/NAME/absence.label, cut_by_image.label    0 or 1 a frame
ROOT/val/NAME/meta_info.ini                    classes of object and motion, resolution

That pixels count from 1 is its author's word (got-10k/toolkit, issue 6).
"""

import configparser
import functools
import re
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from .. import boxes as B
from ..provenance import write_bytes
from .benchmark import SIDE, Benchmark, check_start, folders, image_files, images_of, own_list, some, valid
from .formats import plain_text, read_rows
from .sequence import Dataset, Sequence


def _readers(root: Path, split: str) -> dict:
    found = (folder for folder in folders(root / split) if (folder / "groundtruth.txt").is_file())
    return {folder.name: functools.partial(_sequence, folder, split) for folder in found}


def _sequence(folder: Path, split: str, name: str) -> Sequence:
    annotation = folder / "groundtruth.txt"
    raw = read_rows(annotation)
    if split == "test" and len(raw) == 1:
        unknown = max(len(image_files(folder)) - 1, 0)
        raw = np.concatenate([raw, np.full((unknown, 4), np.nan)])
    frames = images_of(folder, len(raw), annotation)
    check_start(raw[0], annotation)
    labels = {kind: _label(folder / f"{kind}.label", len(raw)) for kind in ("cover", "absence", "cut_by_image")}
    cover = labels.pop("cover")
    absent = np.zeros(len(raw), bool) if cover is None else cover == 0
    tags = {tag: label == 1 for tag, label in labels.items() if label is not None}
    boxes = np.where(valid(raw)[:, None], B.from_one_based(raw), np.nan)
    return Sequence(name, frames, boxes, raw=raw, absent=absent, tags=tags, **_about(folder / "meta_info.ini"))


def _label(file: Path, rows: int) -> np.ndarray | None:
    if not file.is_file():
        return None
    values = read_rows(file, columns=1)[:, 0]
    if len(values) != rows:
        raise ValueError(f"{file}: {len(values)} rows for {rows} frames; fetch the sequence again")
    return values


def _about(file: Path) -> dict:
    """Size and classes from `meta_info.ini`."""
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(plain_text(file))
        meta = parser["METAINFO"]
    except (configparser.Error, KeyError) as e:
        raise ValueError(f"{file}: {str(e).splitlines()[0]}; fetch the sequence again") from None
    sides = re.findall(r"\d+", meta.get("resolution", ""))
    size = tuple(int(side) for side in sides if re.fullmatch(SIDE, side))
    classes = tuple(meta[key].strip() for key in ("object_class", "motion_class") if key in meta)
    category = meta.get("object_class", "").strip()
    return {"attributes": classes, "size": size if len(size) == len(sides) == 2 else None, "category": category}


def write_submission(folder: str | Path, dataset: Dataset, archive: str | Path) -> Path:
    """Pack the results of a run set on `got10k-test` as the evaluation server wants them; gives back `archive`.

    folder: the run set's, which holds `<seq>/<seq>_001.txt` and `<seq>/<seq>_time.txt` (layout `got10k`).
    Raises ValueError for runs that are not there, have another length than the video, or have no frame times: the
    server measures speed too, and times exist for runs that were tracked one at a time (`--lanes 1`)."""
    folder, archive, buffer = Path(folder), Path(archive), BytesIO()
    if missing := [name for name in dataset if not (folder / name / f"{name}_001.txt").is_file()]:
        counts = f"{len(missing)} of {len(dataset)} sequences"
        raise ValueError(f"{folder}: {counts} have no result: {some(missing)}; run them")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, sequence in dataset.items():
            for kind, columns in (("001", 4), ("time", 1)):
                file = folder / name / f"{name}_{kind}.txt"
                rows = read_rows(file, columns)
                if len(rows) != len(sequence) or np.isnan(rows).any():
                    remedy = "; run with --lanes 1" if kind == "time" else ""
                    raise ValueError(f"{file}: want {len(sequence)} rows of numbers{remedy}")
                # a date of its own would make equal results unequal archives
                pack.writestr(zipfile.ZipInfo(f"{name}/{file.name}", (1980, 1, 1, 0, 0, 0)), file.read_bytes())
    write_bytes(archive, buffer.getvalue())
    return archive


def _got10k(split: str, sequences: int) -> Benchmark:
    wanted = f"ROOT/{split}/list.txt, ROOT/{split}/NAME/00000001.jpg ... and ROOT/{split}/NAME/groundtruth.txt"
    about = f"got10k-{split}", f"GOT-10k {split} split (TPAMI 2019)", wanted, "http://got-10k.aitestunion.com/downloads"
    readers, terms = functools.partial(_readers, split=split), {"layout": "got10k", "licence": "CC BY-NC-SA 4.0"}
    return Benchmark(*about, readers, lambda root: own_list(root / split), sequences, **terms)


BENCHMARKS = (_got10k("train", 9335), _got10k("val", 180), _got10k("test", 180))
