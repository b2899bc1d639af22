"""Protocols: which runs a benchmark asks for, and when one is started again. The engine packs the runs into lanes, and
metrics derive from the same runs which annotation a result belongs to."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from .. import boxes as B
from ..config import configured, near
from ..data.formats import DECIMALS, REGION, Trajectory
from ..data.sequence import Dataset, NoFrames, Sequence
from .raster import LEGACY, TRAX, matlab_round, raster_overlap

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Run:
    """One trajectory: a sequence's frames `first .. last`, both included, started from `box`; `name` is its file."""

    name: str
    sequence: str
    first: int
    last: int
    box: Box

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Restart:
    """The target is lost: skip to `frame` and start again from `box`. A frame past the run's last ends it."""

    frame: int
    box: Box


class Go(Enum):
    """What follows a frame if not a restart."""

    ON = "on"
    STOP = "stop"


class Protocol:
    """What a benchmark asks for; what stands here is that of runs in one pass.

    `layout` is how trajectories are stored (see `bench.layouts`), None: as the dataset wants it."""

    name: ClassVar[str]
    layout: ClassVar[str | None] = None

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        """The runs, in the order of their names."""
        raise NotImplementedError

    def after(self, sequence: Sequence, run: Run, frame: int, box: np.ndarray) -> Go | Restart:
        """Asked once a frame is tracked."""
        return Go.ON

    def more(self, dataset: Dataset, read: Callable[[str], Trajectory | None]) -> Iterator[Run]:
        """Runs that the results so far call for (`read(name)`: None where a run failed)."""
        return iter(())


@dataclass(frozen=True)
class OPE(Protocol):
    """One-pass evaluation (Wu et al., CVPR 2013): from the first frame's annotation to the end, though the target may
    leave (UAV20L)."""

    name: ClassVar[str] = "OPE"

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        for s in dataset.values():
            yield Run(s.name, s.name, 0, len(s) - 1, first_box(s.name, s.boxes[0]))


@dataclass(frozen=True)
class TRE(Protocol):
    """Temporal robustness (Wu et al., CVPR 2013): `segments` starts over the video, each tracked to its end.

    Starts are spread over the frames that are annotated and not in the benchmark's init-omit list, up to the last one
    that leaves `shortest` frames (splitSeqTRE.m). Videos with fewer such frames than segments have fewer starts."""

    name: ClassVar[str] = "TRE"
    segments: int = 20
    shortest: int = 20

    def __post_init__(self):
        if self.segments < 2 or self.shortest < 1:
            raise ValueError(f"TRE wants segments of 2 or more and shortest of 1 or more, not {self}")

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        for s in dataset.values():
            for k, first in enumerate(self.starts(s), 1):
                yield Run(f"{s.name}_{k:02d}", s.name, first, len(s) - 1, first_box(s.name, s.boxes[first]))

    def starts(self, sequence: Sequence) -> list[int]:
        """First frames, 0-based."""
        with np.errstate(invalid="ignore"):
            usable = (B.to_one_based(sequence.boxes) > 0).all(1)
        if sequence.omit is not None:
            usable &= ~sequence.omit
        frames = np.flatnonzero(usable)
        end = int((frames <= len(sequence) - self.shortest).sum())
        if not end:
            return [0]
        # floor(1 : end / 19 : end), then the end itself, as positions from 1; in integers, for MATLAB's floats agree
        steps = self.segments - 1
        places = [1 + k * end // steps for k in range(steps) if steps + k * end <= steps * end]
        return [int(frames[p - 1]) for p in (*places, end)]


@dataclass(frozen=True)
class SRE(Protocol):
    """Spatial robustness (Wu et al., CVPR 2013): one-pass runs from 12 displaced or rescaled first boxes.

    Eight shifts by a tenth of the target and four scales, in 1-based pixels with MATLAB's rounding (shiftInitBB.m), cut
    at the image's border."""

    name: ClassVar[str] = "SRE"
    shift: float = 0.1

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        for s in dataset.values():
            first_box(s.name, s.boxes[0])
            for kind, box in self.boxes(B.to_one_based(s.boxes[0]), _bounds(s)).items():
                start = first_box(f"{s.name}, {kind}", B.from_one_based(np.array(box)))
                yield Run(f"{s.name}_{kind}", s.name, 0, len(s) - 1, start)

    def boxes(self, box: np.ndarray, bounds: tuple[float, float]) -> dict[str, Box]:
        """The first boxes by name, 1-based, of a 1-based box in an image of width and height `bounds`."""
        x, y, w, h = box
        first, last, step = box[:2], box[:2] + box[2:] - 1, self.shift * box[2:]
        dx, dy = np.ceil(step)
        moved = {"left": (x - dx, y, w, h), "right": (x + dx, y, w, h)}
        moved |= {"up": (x, y - dy, w, h), "down": (x, y + dy, w, h)}
        before, after = matlab_round(first - step), matlab_round(last + step)
        for name, at in (("topLeft", (1, 1)), ("topRight", (0, 1)), ("bottomLeft", (1, 0)), ("bottomRight", (0, 0))):
            low, high = np.where(at, before, first), np.where(at, last, after)
            moved[name] = (*low, *(high - low + 1))
        for tenths in (8, 9, 11, 12):
            sw, sh = w * tenths / 10, h * tenths / 10
            moved[f"scale_{tenths}"] = matlab_round(np.array([x + w / 2 - sw / 2, y + h / 2 - sh / 2, sw, sh]))
        return {name: _cut(b, *bounds) for name, b in moved.items()}


def _cut(box: Box, width: float, height: float) -> Box:
    """As shiftInitBB.m: a corner before the first pixel moves there with the size kept; what sticks out is cut."""
    x, y = max(box[0], 1), max(box[1], 1)
    return float(x), float(y), float(min(box[2], width - x + 1)), float(min(box[3], height - y + 1))


def _bounds(sequence: Sequence) -> tuple[float, float]:
    """The image's size; without images none is tracked, and a result's name is all that matters."""
    if sequence.size is None and isinstance(sequence.frames, NoFrames):
        return np.inf, np.inf
    return sequence.image_size()


@dataclass(frozen=True)
class Supervised(Protocol):
    """VOT's supervised experiment (Kristan et al., VOT2013 to 2018): a tracker whose region no longer overlaps the
    annotation has failed and is started again `skip` frames later.

    Overlap is of VOT's raster: the `legacy` one, unbounded, in the stack of 2015; cut at the image (`bounded`) from
    2016 on, and not the legacy one in the report of 2018. Each sequence is run `repetitions` times, but three times
    only where those three are alike: same starts and failures, all overlaps above 0.999."""

    name: ClassVar[str] = "supervised"
    layout: ClassVar[str] = "vot"
    skip: ClassVar[int] = 5
    repetitions: int = 15
    bounded: bool = False
    legacy: bool = True

    def __post_init__(self):
        if not 1 <= self.repetitions <= 15:
            raise ValueError(f"supervised wants 1 to 15 repetitions, not {self.repetitions}")

    @classmethod
    def as_of(cls, convention: str) -> "Supervised":
        """With the overlap that a convention (`supervised.SUPERVISED`) scores by."""
        from .supervised import SUPERVISED

        rule = SUPERVISED[convention]
        return cls(bounded=rule.bounded, legacy=rule.legacy)

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        for s in dataset.values():
            yield from self._repeated(s, 1, min(3, self.repetitions))

    def after(self, sequence: Sequence, run: Run, frame: int, box: np.ndarray) -> Go | Restart:
        bounds = tuple(side - 1 for side in sequence.image_size()) if self.bounded else None
        raster = LEGACY if self.legacy else TRAX
        if np.isnan(sequence.boxes[frame]).any():
            return Go.ON  # where the target is not annotated none can be lost
        box = np.round(box, DECIMALS)  # as the result file will have it: who scores that must find the same failures
        if raster_overlap(box[None], sequence.regions[frame][None], bounds, raster)[0] > 0:
            return Go.ON
        again = frame + self.skip
        while again <= run.last and not (sequence.boxes[again, 2:] > 0).all():  # nor from a box without area
            again += 1
        return Restart(again, first_box(sequence.name, sequence.boxes[again]) if again <= run.last else run.box)

    def more(self, dataset: Dataset, read: Callable[[str], Trajectory | None]) -> Iterator[Run]:
        for s in dataset.values():
            done = [read(run.name) for run in self._repeated(s, 1, min(3, self.repetitions))]
            if None not in done and not all(_alike(done[0], other) for other in done[1:]):
                yield from self._repeated(s, 4, self.repetitions)

    def _repeated(self, s: Sequence, low: int, high: int) -> Iterator[Run]:
        for k in range(low, high + 1):
            yield Run(f"{s.name}_{k:03d}", s.name, 0, len(s) - 1, first_box(s.name, s.boxes[0]))


def _alike(a: Trajectory, b: Trajectory) -> bool:
    """VOT's test of a deterministic tracker."""
    if len(a) != len(b) or (a.codes != b.codes).any():
        return False
    tracked = a.codes == REGION
    return bool((B.iou(a.rows[tracked, :4], b.rows[tracked, :4]) > 0.999).all())


def first_box(name: str, box: np.ndarray, size: tuple[int, int] | None = None) -> Box:
    """The box a run starts from; raises ValueError where no tracker could start: an empty box, or one that lies outside
    the frame, where its size (width, height) is told."""
    if not np.isfinite(box).all() or (box[2:] <= 0).any():
        shown = ", ".join(f"{v:g}" for v in box)
        why = "has no area or is NaN; a tracker needs a box to start from"
        raise ValueError(f"{name}: the first box (x, y, w, h = {shown}) {why}")
    if size is not None and ((box[:2] >= size) | (box[:2] + box[2:] <= 0)).any():
        shown = ", ".join(f"{v:g}" for v in box)
        why = f"lies outside the frame of {size[0]} x {size[1]} pixels; correct the annotation's first row"
        raise ValueError(f"{name}: the first box (x, y, w, h = {shown}) {why}")
    return tuple(float(v) for v in box)


PROTOCOLS = {cls.name: cls for cls in (OPE, TRE, SRE, Supervised)}


def protocol(name: str, **parameters) -> Protocol:
    """A protocol by name, "TRE" or "supervised:bounded=true,repetitions=1"; parameters are its checked fields."""
    name, _, text = name.partition(":")
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol is called {name!r}{near(name, PROTOCOLS)}")
    for part in filter(None, text.split(",")):
        field, _, value = part.partition("=")
        try:
            parameters[field] = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f"protocol {name}: {part!r} is not PARAMETER=VALUE with a value like 3 or true") from None
    return configured(PROTOCOLS[name](), parameters)
