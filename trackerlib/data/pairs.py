"""What GSTP trains on, straight from videos: pairs of whole frames for SiamRCNN, trajectories for the motion model.

Every sample is a function of (seed, index) alone. Frames are decoded or rendered when they are asked for; training that
reads each one many times keeps them first (`frames.keep_frames`)."""

from dataclasses import asdict

import cv2
import numpy as np

from .. import boxes as B
from ..provenance import canonical, code_digest, sha256
from .samplers import Augmentation, colours
from .sequence import Dataset

SCENE = Augmentation(tone=0.2, blur=0.15, noise=6, flip=True)


class _Targets:
    """The frames of a dataset in which the target is to be `seen`, those of them that can be `shown`, and how."""

    def __init__(self, dataset: Dataset, augmentation: Augmentation, seed: int, facts: list):
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.facts = [*facts, asdict(augmentation), seed]
        self.seen, self.shown = {}, {}
        for name, sequence in dataset.items():
            with np.errstate(invalid="ignore"):
                known = np.isfinite(sequence.boxes).all(1) & (sequence.boxes[:, 2:] > 0).all(1)
                inside = (np.abs(2 * B.centre(sequence.boxes) / sequence.image_size() - 1) < 1).all(1)
            self.seen[name] = np.flatnonzero(known & inside & ~sequence.absent)
            at_hand = self.seen[name] % getattr(sequence.frames, "every", 1) == 0
            self.shown[name] = self.seen[name][at_hand]
        self.names = sorted(name for name, frames in self.shown.items() if len(frames))
        if not self.names:
            raise ValueError(f"{dataset.name}: no frame in which the target is to be seen")

    def _mirrored(self, rng: np.random.Generator) -> bool:
        return self.augmentation.flip and rng.random() < 0.5

    def digest(self) -> str:
        """Names every sample this sampler can give."""
        modules = {__name__, *(type(sequence.frames).__module__ for sequence in self.dataset.values())}
        return sha256(canonical(self.facts), code_digest(sorted(modules)), self.dataset.digest())


def _scaled(frame: np.ndarray, scale: float, offset: np.ndarray, canvas: tuple[int, int], **border) -> np.ndarray:
    """The frame times `scale`, its corner at `offset`, on a canvas. It shrinks by areas, as trackers see it."""
    size = np.array(frame.shape[1::-1])
    if scale < 1:
        small = tuple(np.maximum(np.round(size * scale), 1).astype(int).tolist())
        frame = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
    rest = size * scale / frame.shape[1::-1]
    matrix = np.column_stack([np.diag(rest), rest / 2 - 0.5 + offset])
    return cv2.warpAffine(frame, matrix, canvas, flags=cv2.INTER_LINEAR, **border)


class FramePairs(_Targets):
    """Two frames of one video: `sampler[index]` gives uint8 `z` and `x (height, width, 3)`, the target's boxes in them,
    `z_box` and `x_box (4,)`, how much of x is picture, `size (2,)`; the rest is padding; and the `video`'s number.

    Each frame is scaled so that the root of the target's area is log-uniform in `roots`, independently (the paper's
    multi-scale training: 64 to 256 pixels). What is larger than `canvas`, width and height, is cut, the target inside;
    what is smaller lies at its upper left. Both are mirrored, or none. exemplar: the canvas of z, if it is another: of
    z only what is about the target matters."""

    def __init__(
        self,
        dataset: Dataset,
        canvas: tuple[int, int] = (1333, 800),
        roots: tuple[float, float] = (64, 256),
        exemplar: tuple[int, int] | None = None,
        augmentation: Augmentation = SCENE,
        seed: int = 0,
    ):
        if not 1 <= roots[0] <= roots[1] or min(*canvas, *(exemplar or canvas)) < 32:
            raise ValueError(
                f"pairs want roots from 1 pixel up and canvases of 32 at least, not roots {tuple(roots)}, canvas "
                f"{tuple(canvas)} and exemplar {exemplar and tuple(exemplar)}"
            )
        self.canvases, self.roots = {"z": tuple(exemplar or canvas), "x": tuple(canvas)}, roots
        super().__init__(dataset, augmentation, seed, [self.canvases, list(roots)])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        video = rng.integers(len(self.names))
        name, mirror, sample = self.names[video], self._mirrored(rng), {"video": video}
        for label, canvas in self.canvases.items():
            image, box, size = self._framed(name, int(rng.choice(self.shown[name])), canvas, mirror, rng)
            sample |= {label: image, f"{label}_box": box, "size": size}
        return sample

    def _framed(
        self, name: str, t: int, canvas: tuple[int, int], mirror: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        frame, box = self.dataset[name].frames[t], self.dataset[name].boxes[t]
        size = np.array(frame.shape[1::-1])
        edges = B.corners(box).reshape(2, 2).clip(0, size)
        scale = np.exp(rng.uniform(*np.log(self.roots))) / np.sqrt(np.prod(edges[1] - edges[0]))
        edges, whole = edges * scale, size * scale
        room = (whole - canvas).clip(0)  # what has to be cut, on both sides together
        low, high = (edges[1] - canvas).clip(0, room), np.minimum(edges[0], room)
        start = rng.uniform(np.minimum(low, high), high)
        shown = np.minimum(whole, canvas)
        image = _scaled(frame, scale, -start, canvas, borderMode=cv2.BORDER_REPLICATE)
        across, down = np.ceil(shown - 1e-6).astype(int)
        image = colours(image, self.augmentation, rng)
        if mirror:
            image[:, :across] = image[:, :across][:, ::-1].copy()
        image[down:], image[:, across:] = 0, 0
        edges = (edges - start).clip(0, shown)
        if mirror:
            edges = np.column_stack([across - edges[::-1, 0], edges[:, 1]])
        return image, B.from_corners(edges.reshape(4)).astype(np.float32), np.array([across, down], np.float32)


class Trajectories(_Targets):
    """A frame and the path to it: `sampler[index]` gives uint8 `x (height, width, 3)`, the frame letterboxed, `places
    (K, 2)`, where the target was in K frames before, the oldest first, and `truth (2,)`, where it is, in pixels of x.

    Places shake by `jitter` of the root of the target's area (a tracker's are not exact), and in a share of `lost` of
    the samples they lie elsewhere, all alike: the target is to be found anew. Where the video begins, and where, in a
    share of `forget`, the oldest 0 .. K - 1 are left out, the oldest known stands for those before it."""

    def __init__(
        self,
        dataset: Dataset,
        history: int = 10,
        canvas: tuple[int, int] = (384, 288),
        jitter: float = 0.02,
        lost: float = 0.1,
        forget: float = 0.5,
        augmentation: Augmentation = SCENE,
        seed: int = 0,
    ):
        if history < 1:
            raise ValueError(f"a trajectory wants a history of one place at least, not {history}")
        self.history, self.canvas, self.jitter, self.lost, self.forget = history, canvas, jitter, lost, forget
        super().__init__(dataset, augmentation, seed, [history, list(canvas), jitter, lost, forget])
        self.shown = {name: frames[frames > self.seen[name][0]] for name, frames in self.shown.items() if len(frames)}
        self.names = [name for name in self.names if len(self.shown[name])]
        if not self.names:
            raise ValueError(f"{dataset.name}: no frame in which the target is to be seen, and was before")

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        name = self.names[rng.integers(len(self.names))]
        return self.of(name, int(rng.choice(self.shown[name])), rng)

    def of(self, name: str, t: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The sample of a given frame."""
        frame, boxes, seen = self.dataset[name].frames[t], self.dataset[name].boxes, self.seen[name]
        before = seen[seen < t][-self.history :]
        before = before[rng.integers(len(before)) :] if rng.random() < self.forget else before
        rows = np.concatenate([np.repeat(before[:1], self.history - len(before)), before])
        size, canvas = np.array(frame.shape[1::-1]), np.array(self.canvas)
        places = B.centre(boxes[rows])
        places = places + rng.normal(0, self.jitter, places.shape) * np.sqrt(np.prod(boxes[t, 2:]))
        if rng.random() < self.lost:
            places = places + rng.uniform(0, 1, 2) * size - places[-1]
        share = (canvas / size).min()
        offset = (canvas - size * share) / 2
        image = _scaled(frame, share, offset, self.canvas, borderValue=cv2.mean(frame)[:3])
        image = colours(image, self.augmentation, rng)
        places, truth = (at * share + offset for at in (places, B.centre(boxes[t])))
        if self._mirrored(rng):
            image = np.ascontiguousarray(image[:, ::-1])
            places, truth = (at * [-1, 1] + [canvas[0], 0] for at in (places, truth))
        return {"x": image, "places": places.astype(np.float32), "truth": truth.astype(np.float32)}
