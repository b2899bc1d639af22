"""What joint training draws: clips, successive frames of one target, all seen through one window.

Every clip is a function of (seed, index) alone, as every pair of `samplers` is. All clips have one shape, whatever
their videos' sizes, and within a clip the window stands still: what moves in it, moved in the video."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import boxes as B
from ..provenance import canonical, code_digest, sha256
from .crops import EXEMPLAR, cut
from .sequence import Dataset, Sequence

MARGIN = 32  # window pixels that every target's centre keeps from the window's edge


class ClipSampler:
    """Clips for DSiam: `sampler[index]` gives uint8 `images (N, size, size, 3)` and float32 `boxes (N, 4)`, x, y, w, h
    in pixels of those images.

    The window is centred midway between the extremes of the target's centres, at the scale where the first frame's
    target and context fill 127 pixels. Outside the frame it shows the first frame's mean colour.

    length: N successive frames (DSiam, section 3.6: 10).
    area:   bounds on the first target's share of the image; the paper selects by it and gives no numbers.
    clips:  so many clips are drawn once, and all are seen before one is seen again (the paper: 2000); 0: every index is
            a fresh draw. A draw takes a sequence, then one of its usable clips.
    size:   window side: a search image of 255, and 64 pixels each way to follow the target. One that moves farther is
            cut with some of the fill colour beside it, as at the border of an image.
    Raises ValueError when the dataset has no usable clip (`usable_starts`)."""

    def __init__(
        self,
        dataset: Dataset,
        length: int = 10,
        area: tuple[float, float] = (0.01, 0.25),
        clips: int = 0,
        size: int = 383,
        seed: int = 0,
    ):
        self.dataset, self.length, self.area = dataset, length, area
        self.clips, self.size, self.seed = clips, size, seed
        starts = {name: usable_starts(sequence, length, area, size) for name, sequence in dataset.items()}
        self.starts = {name: first for name, first in starts.items() if len(first)}
        if not self.starts:
            wanted = f"{length} successive frames in view, {area[0]} to {area[1]} of the image, sides within 1:4"
            remedy = "shorten length, widen area, or take other sequences"
            raise ValueError(f"{dataset.name}: no usable clip in {len(dataset)} sequences ({wanted}); {remedy}")
        self.names = sorted(self.starts)

    def digest(self) -> str:
        """Names every clip this sampler can give: its dataset, settings and code."""
        facts = [self.length, list(self.area), self.clips, self.size, self.seed]
        modules = {__name__, *(type(sequence.frames).__module__ for sequence in self.dataset.values())}
        return sha256(canonical(facts), code_digest(sorted(modules)), self.dataset.digest())

    def draw(self, index: int) -> tuple[str, int]:
        """Which clip an index is: the sequence's name and the first frame."""
        if self.clips:
            epoch, place = divmod(index, self.clips)
            index = int(np.random.default_rng([self.seed, epoch, self.clips]).permutation(self.clips)[place])
        rng = np.random.default_rng([self.seed, index])
        name = self.names[rng.integers(len(self.names))]
        return name, int(rng.choice(self.starts[name]))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        name, start = self.draw(index)
        sequence, span = self.dataset[name], range(start, start + self.length)
        frames, boxes = [sequence.frames[t] for t in span], sequence.boxes[span]
        centres = B.centre(boxes)
        middle = (centres.min(0) + centres.max(0)) / 2
        window = B.from_centre(middle, boxes[0, 2:])  # the box whose context crop the window is
        fill = frames[0].reshape(-1, 3).mean(0)
        images = np.stack([cut(frame, window, self.size, fill=fill) for frame in frames])
        scale = EXEMPLAR / B.context_side(boxes[0, 2:])
        shown = B.from_centre(scale * (centres - middle) + self.size / 2, scale * boxes[:, 2:])
        return {"images": images, "boxes": shown.astype(np.float32)}


def usable_starts(sequence: Sequence, length: int, area: tuple[float, float], size: int) -> np.ndarray:
    """First frames `(n,)` of the usable clips of a sequence, judged by its annotation: the target in view all the time
    and no nearer to the window's edge than `MARGIN`; in the first frame its share of the image within `area` and its
    aspect within 1:4."""
    count = len(sequence) - length + 1
    if count < 1:
        return np.empty(0, int)
    boxes, (w, h) = sequence.boxes, sequence.boxes[:count, 2:].T
    with np.errstate(invalid="ignore", divide="ignore"):  # of rows without a box
        seen = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & ~sequence.absent
        share = w * h / np.prod(sequence.image_size())
        shape = (area[0] <= share) & (share <= area[1]) & (np.maximum(w / h, h / w) <= 4)
        path = sliding_window_view(B.centre(boxes), length, 0)  # (count, 2, length)
        reach = np.ptp(path, -1).max(1) / 2 * EXEMPLAR / B.context_side(boxes[:count, 2:])
        inside = reach <= size / 2 - MARGIN
    return np.flatnonzero(sliding_window_view(seen, length).all(1) & shape & inside)
