"""Context crops cut once and kept packed: what a Siamese network trains on (ILSVRC15-curation's save_crops.m).

A store is a folder of shards, each some videos of the dataset, cut by whatever process is free, whole or absent:

    00012.bin       crops one after the other: (255, 255, 3) uint8, or JPEG
    00012.csv       a row a crop: sequence, frame, w, h (target's size in crop pixels), source, offset, bytes
    00012.json      what it was cut from, counts and its sha256: written last
    index.csv, manifest.json        of all shards, when all are there
    prepared.json   what `data prepare` was asked for

Every crop is centred on its target at the scale where exemplar and context fill 127 pixels; what lies outside the frame
is the frame's mean colour. Shards are memory-mapped: a crop costs one read of its bytes."""

import functools
import hashlib
import io
import json
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from .. import boxes as B
from ..provenance import alone, canonical, code_digest, file_sha256, sha256, write_json, write_text
from .sequence import Dataset, Sequence

SIZE, EXEMPLAR = 255, 127


def cut(
    image: np.ndarray, box: np.ndarray, out: int = SIZE, exemplar: int = EXEMPLAR, fill: np.ndarray | None = None
) -> np.ndarray:
    """The `(out, out, 3)` uint8 context crop of one target, by the sampling rule of `images.context_crops`.

    fill: colour `(3,)` outside the frame; by default the frame's mean."""
    scale = exemplar / float(B.context_side(box[2:]))
    shift = (out - 1) / 2 - scale * (B.centre(box) - 0.5)
    fill = image.reshape(-1, 3).mean(0) if fill is None else fill
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(image, matrix, (out, out), flags=cv2.INTER_LINEAR, borderValue=fill.tolist())


def usable(sequence: Sequence, width: int, height: int) -> np.ndarray:
    """Frames worth training on `(T,)`: target in view, at least 20 pixels of area, an aspect ratio within 1:4, at most
    half of the image (siamfc-pytorch's filter, without its lower bound on the side: small targets are tracked too)."""
    w, h = sequence.boxes[:, 2], sequence.boxes[:, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = (w * h >= 20) & (np.maximum(w / h, h / w) <= 4) & (w * h <= 0.25 * width * height)
    return shape & ~sequence.absent & np.isfinite(sequence.boxes).all(1)


class Crops:
    """The crops of a store: `crops[row]` is `(255, 255, 3)` uint8, RGB."""

    def __init__(self, folder: Path, index: pd.DataFrame):
        self.folder, self._maps = folder, {}
        self._shard, self._offset, self._bytes = (index[name].to_numpy() for name in ("shard", "offset", "bytes"))

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, row: int) -> np.ndarray:
        shard, start = self._shard[row], self._offset[row]
        if shard not in self._maps:
            if len(self._maps) >= _OPEN:
                self._maps.pop(next(iter(self._maps)))
            self._maps[shard] = np.memmap(self.folder / f"{shard:05d}.bin", mode="r")
        data = self._maps[shard][start : start + self._bytes[row]]
        if len(data) == _RAW:
            return data.reshape(SIZE, SIZE, 3)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if image is None or image.shape != (SIZE, SIZE, 3):
            raise ValueError(f"{self.folder}/{shard:05d}.bin: damaged; run `data prepare` again, which cuts it anew")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


_RAW = SIZE * SIZE * 3
_OPEN = 64  # shards mapped at a time: each is an open file


@dataclass(frozen=True)
class CropStore:
    """A folder of packed crops; cheap to pickle, opened where it is used.

    index columns: sequence, frame, w, h (target size in crop pixels), source (a label: real, rendered, still), and
    where the crop lies: shard, offset, bytes."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Raises FileNotFoundError where no store was finished, ValueError where a file is damaged or cut short."""
        path = Path(self.folder) / "manifest.json"
        remedy = "run `data prepare` again: it cuts what is missing or damaged"
        try:
            manifest = json.loads(path.read_text())
            sizes = {Path(self.folder) / f"{s['shard']:05d}.bin": s["bytes"] for s in manifest["shards"]}
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no finished store of crops; {remedy}") from None
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}: damaged; {remedy}") from None
        for file, size in sizes.items():
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"{file}: not the {size} bytes that were written; {remedy}")
        return manifest

    @cached_property
    def index(self) -> pd.DataFrame:
        wanted, path = self.manifest["index"], Path(self.folder) / "index.csv"
        text = path.read_text()
        if sha256(text) != wanted:
            raise ValueError(f"{path}: damaged; run `data prepare` again")
        return pd.read_csv(io.StringIO(text), dtype={"sequence": str, "source": str}, keep_default_na=False)

    @cached_property
    def crops(self) -> Crops:
        return Crops(Path(self.folder), self.index)

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __len__(self) -> int:
        return len(self.index)

    def digest(self) -> str:
        """Names what was cut, and by which code."""
        return self.manifest["digest"]


@dataclass(frozen=True)
class Cutting:
    """How crops are cut.

    source:  what crops of targets are called in the index
    every:   one frame in so many
    stills:  also cut this many boxes a frame at random places ("still" rows): texture without a track, from which pairs
             are made of one frame seen twice
    quality: of JPEG (ILSVRC15-curation: 90); 0: no compression, more disk and less time to read (`bench`)"""

    source: str = "real"
    every: int = 1
    stills: int = 0
    seed: int = 0
    quality: int = 0


Part = Callable[[], list[Sequence]]  # reads some sequences, where it is called
PARTS = 8  # in a shard


def cut_crops(
    dataset: Dataset | list[Part],
    folder: str | Path,
    source: str = "real",
    every: int = 1,
    stills: int = 0,
    seed: int = 0,
    label: Callable[[Iterable], Iterable] = lambda shards: shards,
    quality: int = 0,
    work: Callable[[Callable, list], Iterable] = map,
    wanted: Mapping[str, Any] | None = None,
) -> CropStore:
    """Cut every usable frame of a dataset into a store; shards that are there, whole and of the same content, stay.

    dataset: or the parts of one too large to be read by one process, each read by the process that cuts it
    source, every, stills, seed, quality: see `Cutting`
    label:   wraps the iterable of finished shards, for a progress bar
    work:    `map`, or one whose calls are done by several processes, in any order (`cluster.spread`)
    wanted:  what the caller was asked for, beside how crops are cut; with it a folder of anything else is refused
    Frames that cannot be decoded are left out, named in a warning and in the manifest. Waits while another process cuts
    into the folder."""
    folder, cutting = Path(folder).absolute(), Cutting(source, every, stills, seed, quality)
    parts = dataset if isinstance(dataset, list) else [Read([sequence]) for sequence in dataset.values()]
    if not parts:
        raise ValueError(f"{folder}: no sequences to cut")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if wanted is not None:
            _check_wanted(folder, {**wanted, **asdict(cutting)})
        return _cut_shards(parts, folder, cutting, label, work)


def _check_wanted(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Raises ValueError where a folder holds crops of something else, or files of somebody's own: a slip must not write
    over what took long."""
    file = folder / "prepared.json"
    if not file.is_file():
        if foreign := sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
            what = f"holds {foreign[0]} ..., which `data prepare` did not make"
            raise ValueError(f"{folder}: {what}; choose another folder")
        write_json(file, wanted)
        return
    try:
        found = dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        raise ValueError(
            f"{file}: damaged; write {json.dumps(wanted)} there if that is what the crops are of"
        ) from None
    if other := [f"{k} {found.get(k)!r} where {v!r} is asked for" for k, v in wanted.items() if found.get(k) != v]:
        raise ValueError(f"{folder}: holds crops of {', '.join(other)}; choose another folder, or delete this one")


def _cut_shards(parts: list[Part], folder: Path, cutting: Cutting, label: Callable, work: Callable) -> CropStore:
    tasks = [Shard(i // PARTS, parts[i : i + PARTS], folder, cutting) for i in range(0, len(parts), PARTS)]
    records = sorted(label(_Counted(work(Shard.cut, tasks), len(tasks))), key=lambda record: record["shard"])
    if faults := [fault for record in records for fault in record["undecodable"]]:
        warnings.warn(f"{folder}: {len(faults)} frames left out: {faults[0]}{' ...' * (len(faults) > 1)}", stacklevel=2)
    read = functools.partial(pd.read_csv, dtype=str, keep_default_na=False)  # a video may be called NA
    tables = [read(folder / f"{r['shard']:05d}.csv").assign(shard=r["shard"]) for r in records]
    index = pd.concat(tables).to_csv(index=False)
    manifest = {
        "digest": sha256(*(record["key"] for record in records)),
        "cutting": asdict(cutting),
        "crops": sum(record["crops"] for record in records),
        "sequences": sum(record["sequences"] for record in records),
        "bytes": sum(record["bytes"] for record in records),
        "index": sha256(index),
        "shards": records,
    }
    write_text(folder / "index.csv", index)
    write_json(folder / "manifest.json", manifest)
    beyond = (path for path in folder.glob("[0-9]*.*") if int(path.stem) >= len(records))  # of a larger dataset
    for left in (*beyond, *folder.glob(".*.part")):  # or of a process that was killed
        left.unlink()
    return CropStore(folder)


@dataclass(frozen=True)
class _Counted:
    """An iterable whose length is known beforehand, for a progress bar."""

    items: Iterable
    count: int

    def __iter__(self) -> Iterator:
        return iter(self.items)

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Read:
    """A part that is read already."""

    sequences: list[Sequence]

    def __call__(self) -> list[Sequence]:
        return self.sequences


@dataclass(frozen=True)
class Shard:
    """A share of the work: parts of a dataset, and the files that are made of them."""

    number: int
    parts: list[Part]
    folder: Path
    cutting: Cutting

    def cut(self) -> dict[str, Any]:
        """The shard's record; cuts it unless it is there and undamaged.

        Raises ValueError, and leaves no record, when the dataset changes while it is cut."""
        sequences = [sequence for part in self.parts for sequence in part()]
        key = self._key(sequences)
        if record := self._found(key):
            return record
        self._file("json").unlink(missing_ok=True)
        rows, faults, digest = [], [], hashlib.sha256()
        temporary = self.folder / f".{self.number:05d}.{secrets.token_hex(4)}.part"
        try:
            with open(temporary, "xb") as file:
                for row, data in self._crops(sequences, faults):
                    rows.append((*row, file.tell(), len(data)))
                    digest.update(data)
                    file.write(data)
            size = temporary.stat().st_size
            if self._key([sequence for part in self.parts for sequence in part()]) != key:
                raise ValueError(f"{self._file('bin')}: the dataset changed while it was cut; run again")
            temporary.replace(self._file("bin"))
        except OSError as error:  # of a full disk it names no file
            raise OSError(error.errno, error.strerror, str(self._file("bin"))) from None
        finally:
            temporary.unlink(missing_ok=True)
        columns = ["sequence", "frame", "w", "h", "source", "offset", "bytes"]
        table = pd.DataFrame(rows, columns=columns).to_csv(index=False)
        write_text(self._file("csv"), table)
        record = {"shard": self.number, "key": key, "sequences": len(sequences), "crops": len(rows), "bytes": size}
        record |= {"sha256": digest.hexdigest(), "index": sha256(table), "undecodable": faults}
        record["record"] = sha256(canonical(record))
        write_json(self._file("json"), record)
        return record

    def _file(self, kind: str) -> Path:
        return self.folder / f"{self.number:05d}.{kind}"

    def _key(self, sequences: list[Sequence]) -> str:
        modules = {type(sequence.frames).__module__ for sequence in sequences}
        code = code_digest([__name__, *modules])
        return sha256(canonical(asdict(self.cutting)), code, *(sequence.digest() for sequence in sequences))

    def _found(self, key: str) -> dict[str, Any] | None:
        """The record of a shard that is there and undamaged; a damaged one is named."""
        path = self._file("json")
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text())
            sums = [file_sha256(self._file("bin")), sha256(self._file("csv").read_text())]
            if record["key"] != key:
                return None
            own = record["record"] == sha256(canonical({k: v for k, v in record.items() if k != "record"}))
            if own and sums == [record["sha256"], record["index"]]:
                return record
            fault = "its sha256 is another than when it was written"
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            fault = str(error)
        warnings.warn(f"{path.with_suffix('.bin')}: damaged ({fault}); cut again", stacklevel=2)
        return None

    def _crops(self, sequences: list[Sequence], faults: list[str]) -> Iterator[tuple[tuple, bytes]]:
        """Rows of the index and the bytes of each crop."""
        for number, sequence in enumerate(sequences):
            rng = np.random.default_rng([self.cutting.seed, self.number, number])
            for t, kind, image, box in _targets(sequence, self.cutting, rng, faults):
                crop = cut(image, box)
                w, h = box[2:] * EXEMPLAR / float(B.context_side(box[2:]))
                yield (sequence.name, t, round(w, 2), round(h, 2), kind), _packed(crop, self.cutting.quality)


def _packed(crop: np.ndarray, quality: int) -> bytes:
    if not quality:
        return crop.tobytes()
    return cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _targets(sequence: Sequence, cutting: Cutting, rng: np.random.Generator, faults: list[str]) -> Iterable[tuple]:
    """(frame, kind, image, box) of what is cut from one sequence; `faults` gets what cannot be decoded."""
    try:
        width, height = sequence.image_size()
    except ValueError as error:
        faults.append(str(error))
        return
    good = np.flatnonzero(usable(sequence, width, height))
    for t in good[good % cutting.every == 0]:
        try:
            image = sequence.frames[t]
        except ValueError as error:
            faults.append(str(error))
            continue
        yield t, cutting.source, image, sequence.boxes[t]
        for _ in range(cutting.stills):
            yield t, "still", image, _textured_box(image, rng)


def _textured_box(image: np.ndarray, rng: np.random.Generator, tries: int = 6) -> np.ndarray:
    """A random box, the liveliest of a few: flat sky teaches nothing."""
    best, liveliest = None, -1.0
    for _ in range(tries):
        side = np.exp(rng.uniform(np.log(16), np.log(0.35 * min(image.shape[:2]))))
        ratio = np.exp(rng.uniform(-1, 1) * np.log(2.5) / 2)
        size = np.array([side * ratio, side / ratio])
        x, y = rng.uniform(0, np.maximum(image.shape[1::-1] - size, 1))
        contrast = float(image[int(y) : int(y + size[1]) + 1 : 2, int(x) : int(x + size[0]) + 1 : 2].std())
        if contrast > liveliest:
            best, liveliest = np.array([x, y, *size]), contrast
    return best
