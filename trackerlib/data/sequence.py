"""Sequence and Dataset: what every benchmark, protocol, notebook and sampler works on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from .. import boxes as B
from ..config import near
from ..images import read_image
from ..provenance import sha256


class FrameSource(Protocol):
    """Frames of a sequence: lazily decoded, random access, cheap to pickle. `digest` names their content."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int) -> np.ndarray: ...  # (H, W, 3) RGB uint8

    def digest(self) -> str: ...


@dataclass(frozen=True)
class ImageFiles:
    """One image file a frame."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, frame: int) -> np.ndarray:
        return read_image(self.paths[frame])

    def digest(self) -> str:
        """Of names, sizes and three of the files: to hash a benchmark's gigabytes would cost more than to track it."""
        sizes = (f"{p.name}:{p.stat().st_size}" for p in self.paths)
        return sha256(*sizes, *(self.paths[len(self) * i // 3].read_bytes() for i in range(3)))


class VideoFile:
    """Frames of a video file, decoded by OpenCV; safe to ask from several threads.

    Reading forwards decodes each frame once and keeps the last few for threads that come late; a jump seeks."""

    KEPT = 16

    def __init__(self, path: str | Path):
        """Raises FileNotFoundError, or ValueError when OpenCV can read no frame of it."""
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such video")
        self._reopen()
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        if self.count <= 0 or not self._capture.grab():
            raise ValueError(f"{path}: OpenCV can read no frame of it (not a video, or a codec it lacks)")
        self._reopen()

    def _reopen(self) -> None:
        self._lock, self._capture = threading.Lock(), cv2.VideoCapture(str(self.path))
        self._next, self._kept = 0, {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        frame = range(self.count)[frame]
        with self._lock:
            if frame not in self._kept and not self._next <= frame < self._next + self.KEPT:
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
                self._next, self._kept = frame, {}
            while frame not in self._kept:
                ok, image = self._capture.read()
                if not ok:
                    raise ValueError(f"{self.path}: frame {self._next} of {self.count} cannot be decoded")
                self._kept[self._next] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                self._kept.pop(self._next - self.KEPT, None)
                self._next += 1
            return self._kept[frame]

    def __getstate__(self) -> dict:
        return {"path": self.path, "count": self.count, "fps": self.fps}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        self._reopen()

    def digest(self) -> str:
        return sha256(self.path.name, str(self.path.stat().st_size))


@dataclass(frozen=True)
class NoFrames:
    """Annotations without images: enough to score, not to track."""

    count: int
    wanted: str  # the folder where images were looked for

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        raise FileNotFoundError(f"{self.wanted}: no images there; these annotations can be scored, not tracked")

    def digest(self) -> str:
        return "no frames"


@dataclass(frozen=True)
class Sequence:
    """One target in one video.

    frames:     lazily decoded images
    boxes:      `(T, 4)` float64, 0-based edge convention (see `trackerlib.boxes`); NaN rows where there is none
    raw:        the annotation rows as the benchmark's file has them, invalid ones too (metrics judge those): `(T, 4)`,
                or `(T, 8)` polygons, a rectangle among them followed by four NaN; by default `boxes` in `origin`
    origin:     the coordinate of the first pixel in `raw` and in that benchmark's result files (VOT, TLP: 0; others: 1)
    size:       width and height in pixels, where the annotation tells (`image_size()` asks the first frame otherwise)
    absent:     `(T,)` True where the target is not in view
    attributes: the benchmark's labels of the sequence (OTB: IV OPR SV OCC DEF MB FM IPR OV BC LR)
    tags:       per-frame labels, name to `(T,)` bool
    polygons:   `(T, 8)` source polygons, where there are any
    omit:       `(T,)` True at frames from which TRE may not start (OTB's init-omit lists)
    practical:  `(T,)` difference in overlap that VOT's annotators call none
    category:   what the target is (rendered: its kind; GOT-10k: its object class); empty where nothing tells"""

    name: str
    frames: FrameSource
    boxes: np.ndarray
    raw: np.ndarray | None = None
    absent: np.ndarray | None = None
    attributes: tuple[str, ...] = ()
    tags: Mapping[str, np.ndarray] = field(default_factory=dict)
    polygons: np.ndarray | None = None
    origin: int = 1
    size: tuple[int, int] | None = None
    omit: np.ndarray | None = None
    practical: np.ndarray | None = None
    category: str = ""

    def __post_init__(self):
        boxes = np.asarray(self.boxes, np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{self.name}: boxes must be (T, 4), not {boxes.shape}")
        if len(boxes) != len(self.frames):
            raise ValueError(f"{self.name}: {len(boxes)} boxes for {len(self.frames)} frames")
        raw = B.to_origin(boxes, self.origin) if self.raw is None else self.raw
        absent = ~np.isfinite(boxes).all(1) if self.absent is None else self.absent
        self.__dict__.update(boxes=boxes, raw=raw, absent=absent)  # for the dataclass is frozen

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def regions(self) -> np.ndarray:
        """The annotation as VOT's metrics want it, the first pixel at 0: `raw` polygons or rectangles, else `boxes`."""
        return self.raw if self.origin == 0 else self.boxes

    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels; decodes the first frame where the annotation does not tell."""
        return self.size or self.frames[0].shape[1::-1]

    def digest(self) -> str:
        """Names the annotation and the frames; part of a result's key."""
        return sha256(self.name, self.frames.digest(), np.ascontiguousarray(self.raw).tobytes())


class Dataset(Mapping[str, Sequence]):
    """An ordered mapping of name to Sequence.

    `d["David"]`, `d[0]`, `d[:5]` (a Dataset), `d.having("OCC")`, `d.filter(f)`, `d1 + d2`. `layout` is how the
    benchmark wants its one-pass results stored (see `bench.layouts`)."""

    def __init__(self, name: str, sequences: Iterable[Sequence], layout: str = "otb"):
        self.name, self.layout = name, layout
        self._sequences: dict[str, Sequence] = {}
        for s in sequences:
            if s.name in self._sequences:
                raise ValueError(f"{name}: two sequences are called {s.name}")
            self._sequences[s.name] = s

    def __getitem__(self, key):
        if isinstance(key, slice):
            return Dataset(self.name, list(self._sequences.values())[key], self.layout)
        if isinstance(key, int):
            return list(self._sequences.values())[key]
        if key not in self._sequences:
            raise KeyError(f"{self.name} has no sequence {key!r}{near(str(key), self._sequences)}")
        return self._sequences[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __add__(self, other: Dataset) -> Dataset:
        if self.layout != other.layout:
            raise ValueError(f"{self.name} and {other.name} store results in different layouts; evaluate them apart")
        return Dataset(f"{self.name}+{other.name}", [*self.values(), *other.values()], self.layout)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} sequences, {sum(map(len, self.values()))} frames)"

    def filter(self, keep: Callable[[Sequence], bool]) -> Dataset:
        return Dataset(self.name, [s for s in self.values() if keep(s)], self.layout)

    def having(self, attribute: str) -> Dataset:
        """The sequences that carry an attribute; an unknown one is an error that names those there are."""
        known = sorted({a for s in self.values() for a in s.attributes})
        if attribute not in known:
            raise KeyError(f"{self.name} has no attribute {attribute!r}; it has {', '.join(known) or 'none'}")
        return self.filter(lambda s: attribute in s.attributes)

    def digest(self) -> str:
        """Names annotations and frames: part of every result's key."""
        return sha256(*(s.digest() for s in self.values()))

    def annotation_digest(self) -> str:
        """Names the annotations alone, images or none: by this a benchmark is known (data/benchmarks.csv)."""
        return sha256(*(part for s in self.values() for part in (s.name, np.ascontiguousarray(s.raw).tobytes())))
