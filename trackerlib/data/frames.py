"""Whole frames packed on disk, for training that reads each of them many times.

`keep_frames`: a dataset's frames as they are, in one memory-mapped file; the dataset stays what it was. `pack_frames`:
a store with all that is to be seen in each frame, what a detector trains on: `frames.npy` (N, side, side, 3) uint8 and
`objects.csv`, a row an object. Its frames are resized to a square, whatever their aspect, as YOLO sees them; boxes are
in shares of the frame."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from .. import boxes as B
from ..images import to_tensor, whole_frame
from ..provenance import canonical, code_digest, sha256, write_text
from .rendered import RenderedFrames, objects
from .samplers import Augmentation, colours
from .sequence import Dataset, Sequence

Label = Callable[[Iterable], Iterable]  # wraps the sequences that are worked on, for a progress bar
COLUMNS = ["row", "sequence", "frame", "category", "x", "y", "w", "h"]
MOST = 12  # objects a sample tells of


@dataclass(frozen=True)
class FrameStore:
    """A folder of packed frames; cheap to pickle, opened where it is used."""

    folder: Path

    @cached_property
    def objects(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "objects.csv")

    @cached_property
    def frames(self) -> np.ndarray:
        return np.load(self.folder / "frames.npy", mmap_mode="r")

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def digest(self) -> str:
        """Names what was packed, and by which code."""
        return (self.folder / "complete").read_text()


def seen_in(sequence: Sequence, t: int) -> list[tuple[str, np.ndarray]]:
    """What is in a frame, and its box: all of a rendered one, else the target, if it has a category."""
    if isinstance(sequence.frames, RenderedFrames):
        return objects(sequence.frames, t)
    known = sequence.category and not sequence.absent[t] and np.isfinite(sequence.boxes[t]).all()
    return [(sequence.category, sequence.boxes[t])] if known else []


def pack_frames(
    dataset: Dataset,
    folder: str | Path,
    side: int,
    every: int = 1,
    label: Label = lambda sequences: sequences,
) -> FrameStore:
    """Pack one frame in `every` of a dataset, those without any object too; a finished store of the same content is
    opened as it is."""
    folder = Path(folder)
    stamp, digest = _begun(dataset, folder, side, every)
    if not digest:
        return FrameStore(folder)
    total = sum(len(range(0, len(s), every)) for s in dataset.values())
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (total, side, side, 3))
    rows, numbers = [], count()
    for sequence in label(list(dataset.values())):
        for t in range(0, len(sequence), every):
            image, row = sequence.frames[t], next(numbers)
            frames[row] = whole_frame(to_tensor(image), side)[0].round().byte().permute(1, 2, 0)
            shares = np.tile(image.shape[1::-1], 2)
            rows += [(row, sequence.name, t, kind, *np.round(box / shares, 6)) for kind, box in seen_in(sequence, t)]
    frames.flush()
    write_text(folder / "objects.csv", pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    write_text(stamp, digest)
    return FrameStore(folder)


def _begun(dataset: Dataset, folder: Path, *settings) -> tuple[Path, str]:
    """Where to write that the folder is complete, and what; nothing when it is."""
    stamp, code = folder / "complete", code_digest([__name__, type(dataset[0].frames).__module__])
    digest = sha256(dataset.digest(), code, *map(str, settings))
    if stamp.is_file() and stamp.read_text() == digest:
        return stamp, ""
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    return stamp, digest


@dataclass(frozen=True)
class KeptFrames:
    """One frame in `every` of a sequence, from a memory-mapped file; cheap to pickle."""

    path: Path
    row: int  # of the sequence's first frame in the file
    count: int
    every: int
    content: str  # digest of the frames' source

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        frame = range(self.count)[frame]
        if frame % self.every:
            raise ValueError(f"{self.path}: frame {frame} was not kept, one in {self.every} was")
        return np.ascontiguousarray(_opened(self.path)[self.row + frame // self.every])

    def digest(self) -> str:
        return self.content


@lru_cache(4)
def _opened(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def keep_frames(
    dataset: Dataset, folder: str | Path, every: int = 1, label: Label = lambda sequences: sequences
) -> Dataset:
    """The same dataset with one frame in `every` on disk, `frames.npy` (N, H, W, 3); the others it has no more. A
    finished folder of the same content is opened as it is. Raises ValueError where frames differ in size."""
    if every < 1:
        raise ValueError(f"one frame in {every} cannot be kept; every is 1 at least")
    path = Path(folder) / "frames.npy"
    sizes = {sequence.image_size() for sequence in dataset.values()}
    if len(sizes) > 1:
        raise ValueError(f"{dataset.name}: frames of {len(sizes)} sizes cannot be kept in one file")
    counts = [len(range(0, len(sequence), every)) for sequence in dataset.values()]
    rows = np.cumsum([0, *counts]).tolist()
    stamp, digest = _begun(dataset, Path(folder), every)
    if digest:
        width, height = sizes.pop()
        fresh = path.with_suffix(".part")  # whoever still reads the old file keeps it
        frames = np.lib.format.open_memmap(fresh, "w+", np.uint8, (rows[-1], height, width, 3))
        for row, sequence in zip(rows, label(list(dataset.values())), strict=False):
            for k, t in enumerate(range(0, len(sequence), every)):
                frames[row + k] = sequence.frames[t]
        frames.flush()
        fresh.replace(path)
        _opened.cache_clear()
        write_text(stamp, digest)
    kept = (
        replace(sequence, frames=KeptFrames(path, row, len(sequence), every, sequence.frames.digest()))
        for row, sequence in zip(rows, dataset.values(), strict=False)
    )
    return Dataset(dataset.name, kept, dataset.layout)


SCENE = Augmentation(tone=0.25, grey=0.1, blur=0.15, noise=6, flip=True)


class SceneSampler:
    """Frames with all that is in them: `sampler[index]` gives uint8 `x (side, side, 3)` and float32 `objects (12, 5)`:
    class, and x, y, w, h in shares; rows beyond the last object have class -1.

    classes: by name, in the order of their numbers; other objects are left out
    jitter:  each edge of what is shown moves by up to this share of the frame (darknet: 0.2)
    An object of which less than half is left in what is shown is left out."""

    def __init__(
        self,
        store: FrameStore,
        classes: Many[str],
        augmentation: Augmentation = SCENE,
        jitter: float = 0.2,
        seed: int = 0,
    ):
        self.store, self.classes, self.augmentation = store, list(classes), augmentation
        self.jitter, self.seed = jitter, seed
        number = {name: k for k, name in enumerate(self.classes)}
        known = store.objects[store.objects["category"].isin(number)]
        self.held = {
            row: np.column_stack([of["category"].map(number), of[["x", "y", "w", "h"]]]).astype(float)
            for row, of in known.groupby("row")
        }
        if not self.held:
            raise ValueError(f"{store.folder}: no object is one of {', '.join(self.classes)}")

    def digest(self) -> str:
        """Names every sample this sampler can give."""
        facts = [asdict(self.augmentation), self.classes, self.jitter, self.seed]
        return sha256(canonical(facts), code_digest([__name__]), self.store.digest())

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        row = int(rng.integers(len(self.store.frames)))
        image, held = np.ascontiguousarray(self.store.frames[row]), self.held.get(row, np.empty((0, 5)))
        low, high = rng.uniform(-1, 1, (2, 2)) * self.jitter + [[0], [1]]  # x, y of the corners shown, in shares
        side, mirror = len(image), self.augmentation.flip and rng.random() < 0.5
        scale = 1 / (high - low)
        matrix = np.column_stack([np.diag(scale), -low * scale * side + 0.5 * scale - 0.5])
        fill = cv2.mean(image)[:3]
        image = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=fill)
        edges = (B.corners(held[:, 1:]).reshape(-1, 2, 2) - low) * scale
        shown = edges.clip(0, 1)
        left = np.prod(shown[:, 1] - shown[:, 0], -1) >= 0.5 * np.prod(edges[:, 1] - edges[:, 0], -1)
        boxes = B.from_corners(shown.reshape(-1, 4))
        if mirror:
            image = np.ascontiguousarray(image[:, ::-1])
            boxes[:, 0] = 1 - boxes[:, 0] - boxes[:, 2]
        kept = rng.permutation(np.column_stack([held[:, 0], boxes])[left])[:MOST]  # the first in a cell counts
        rows = np.full((MOST, 5), [-1.0, 0, 0, 0, 0], np.float32)
        rows[: len(kept)] = kept
        return {"x": colours(image, self.augmentation, rng), "objects": rows}
