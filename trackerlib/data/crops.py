"""Context crops cut once and kept packed: what a Siamese network trains on (ILSVRC15-curation's save_crops.m).

A store is a folder: `crops.npy` (N, 255, 255, 3) uint8, memory-mapped, and `index.csv`, a row a crop. Every crop is
centred on its target at the scale where exemplar and context fill 127 pixels; what lies outside the frame is the
frame's mean colour."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from .. import boxes as B
from ..provenance import code_digest, sha256, write_text
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


@dataclass(frozen=True)
class CropStore:
    """A folder of packed crops; cheap to pickle, opened where it is used.

    index columns: sequence, frame, w, h (target size in crop pixels), source (a label: real, rendered, still)."""

    folder: Path

    @cached_property
    def index(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "index.csv")

    @cached_property
    def crops(self) -> np.ndarray:
        return np.load(self.folder / "crops.npy", mmap_mode="r")

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __len__(self) -> int:
        return len(self.index)

    def digest(self) -> str:
        """Names what was cut, and by which code."""
        return (self.folder / "complete").read_text()


def cut_crops(
    dataset: Dataset,
    folder: str | Path,
    source: str = "real",
    every: int = 1,
    stills: int = 0,
    seed: int = 0,
    label: Callable[[Iterable], Iterable] = lambda sequences: sequences,
) -> CropStore:
    """Cut every usable frame of a dataset into a store; a finished store of the same content is opened as it is.

    every:  take one frame in so many.
    stills: also cut this many boxes a frame at random places, sized like the sequence's targets ("still" rows): texture
            without a track, from which pairs are made of one frame seen twice.
    label:  wraps the iterable of sequences, for a progress bar."""
    folder = Path(folder)
    stamp = folder / "complete"
    code = code_digest([__name__, type(dataset[0].frames).__module__])
    digest = sha256(dataset.digest(), code, source, str(every), str(stills), str(seed))
    if stamp.is_file() and stamp.read_text() == digest:
        return CropStore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    rows = []
    limit = sum(-(-len(s) // every) for s in dataset.values()) * (1 + stills)
    crops = np.lib.format.open_memmap(folder / "crops.npy", "w+", np.uint8, (limit, SIZE, SIZE, 3))
    for number, sequence in enumerate(label(list(dataset.values()))):
        rng = np.random.default_rng([seed, number])
        for t, kind, image, box in _targets(sequence, source, every, stills, rng):
            crops[len(rows)] = cut(image, box)
            w, h = box[2:] * EXEMPLAR / float(B.context_side(box[2:]))
            rows.append((sequence.name, t, round(w, 2), round(h, 2), kind))
    crops.flush()
    index = pd.DataFrame(rows, columns=["sequence", "frame", "w", "h", "source"])
    write_text(folder / "index.csv", index.to_csv(index=False))
    write_text(stamp, digest)
    return CropStore(folder)


def _targets(sequence: Sequence, source: str, every: int, stills: int, rng: np.random.Generator) -> Iterable[tuple]:
    """(frame, kind, image, box) of what is cut from one sequence."""
    height, width = sequence.frames[0].shape[:2]
    good = np.flatnonzero(usable(sequence, width, height))
    for t in good[good % every == 0]:
        image = sequence.frames[t]
        yield t, source, image, sequence.boxes[t]
        for _ in range(stills):
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
