"""Procedural sequences: video with exact boxes, masks and attributes, from nothing but a split and an index.

A *plan* fixes what happens (tracks, light, occluders, camera) and measures it on the target's own coverage, without
painting anything; a frame is painted when it is asked for. Splits share no random stream and no surface (`textures`).

OTB's eleven attributes are computed from what is drawn, by OTB's definitions where they are numbers: SV, the box area
leaves [1/2, 2] times the first; FM, the centre moves more than 5 % of the frame's width from one frame to the next
(OTB: 20 px, in frames about 400 px wide); LR, a box of less than 400 px; OV, some of the target (> 5 %) out of the
frame; OCC, less than 70 % of what is in the frame visible; IV, the light on the target changes by more than 1.4 times;
MB, a smear of more than 2.5 % of the width; IPR and OPR, turns of more than 20 and 25 degrees; DEF, the outline,
turned and scaled back, overlaps the first by less than 0.75. BC: dressed in the scene's colours, among look-alikes.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from ..sequence import Dataset, Sequence
from . import figures, scenes
from .actors import coverage, cut, smear_kernel
from .sprites import TURNS
from .staging import ATTRIBUTES, GROUNDED, VERSION, Plan, Recorder, Spec, stage

COUNTS = {"train": 200, "val": 20, "test": 40, "long": 6}
LENGTHS = {"train": 60, "val": 60, "test": 60, "long": 600}


@dataclass(frozen=True)
class RenderedFrames(Spec):
    """Frames of one rendered sequence: random access, pickles as the four numbers that define it.

    Some 80 ms go by when a process first touches a sequence (its plan and its scene); it keeps the last 64."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame: int) -> np.ndarray:
        t = range(self.length)[frame]
        return _film(self).shoot(t)

    def mask(self, frame: int) -> np.ndarray:
        """`(H, W)` float32: the target's share of each pixel, without what is hidden or outside."""
        plan = _film(self).plan
        return coverage(plan.target, plan.front, range(self.length)[frame], self.size, sharp=False)

    def target(self, frame: int) -> tuple[np.ndarray, int, int]:
        """The target alone, unhidden, sharp and uncut: `(h, w, 4)` uint8 (colours times coverage, coverage) and the
        frame coordinates of the patch's upper-left pixel."""
        film = _film(self)
        film.paint()
        return film.plan.target.at(range(self.length)[frame])

    def digest(self) -> str:
        spec = f"rendered {VERSION} {self.split} {self.index} {self.size} {self.length}"
        return hashlib.sha256(spec.encode()).hexdigest()


def rendered(
    split: str = "test",
    start: int = 0,
    count: int | None = None,
    size: tuple[int, int] = (240, 160),
    frames: int | None = None,
) -> Dataset:
    """Procedural sequences `start .. start + count` of a split (see the module's text).

    split: `train` (200 unless `count` says otherwise; any index is valid, so thousands can be had), `val` (20), `test`
    (40) or `long` (6 of 600 frames, in which the target leaves the view among look-alikes: NaN boxes, `absent`).
    size: frame width and height. frames: length of each (60; long 600).
    Raises ValueError for an unknown split, indices that a fixed split does not have, or frames under 32 px."""
    if split not in COUNTS:
        raise ValueError(f"rendered has no split {split!r}; it has {', '.join(COUNTS)}")
    count = COUNTS[split] - start if count is None else count
    if start < 0 or count < 1 or (split != "train" and start + count > COUNTS[split]):
        raise ValueError(f"rendered {split} has sequences 0 to {COUNTS[split] - 1}, not {start} to {start + count - 1}")
    length = LENGTHS[split] if frames is None else frames
    if length < 1 or min(size) < 32:
        raise ValueError(f"rendered needs 1 frame of 32 x 32 pixels at least, not {length} of {size[0]} x {size[1]}")
    specs = (RenderedFrames(split, i, tuple(size), length) for i in range(start, start + count))
    return Dataset(f"rendered-{split}", [_sequence(s) for s in specs])


def _sequence(frames: RenderedFrames) -> Sequence:
    facts = _film(frames).facts
    return Sequence(
        f"{frames.split}-{frames.index:04d}",
        frames,
        facts.boxes,
        absent=facts.absent,
        attributes=facts.attributes,
        tags=facts.tags,
    )


def _edge(profile: np.ndarray) -> float:
    """Where a profile first rises through one half, in edge coordinates: linear between pixel centres."""
    i = int(np.argmax(profile > 0.5))
    before = profile[i - 1] if i else 0.0
    return i - 0.5 + (0.5 - before) / (profile[i] - before)


def tight_box(alpha: np.ndarray, x: int, y: int) -> np.ndarray:
    """Sub-pixel box `(4,)` of coverage above one half in a patch at (x, y): within half a pixel of the pixels' own."""
    columns, rows = alpha.max(0), alpha.max(1)
    x0, x1 = _edge(columns), len(columns) - _edge(columns[::-1])
    y0, y1 = _edge(rows), len(rows) - _edge(rows[::-1])
    return np.array([x + x0, y + y0, x1 - x0, y1 - y0], np.float64)


@dataclass(frozen=True)
class Facts:
    """What a plan shows, measured on the coverage of the target and of what stands before it."""

    boxes: np.ndarray
    absent: np.ndarray
    attributes: tuple[str, ...]
    tags: dict[str, np.ndarray]


def _measure(plan: Plan, spec: Spec) -> Facts:
    (width, height), target, length = spec.size, plan.target, spec.length
    boxes, inside, seen = np.empty((length, 4)), np.zeros(length), np.zeros(length)
    for t in range(length):
        patch, x, y = target.at(t, painted=False)
        alpha = patch.astype(np.float32) / 255
        boxes[t] = tight_box(alpha, x, y)
        part = cut(alpha, x, y, width, height)
        shown = float(part[0].sum()) if part else 0.0
        if shown:
            inside[t] = shown / alpha.sum()
            seen[t] = coverage(target, plan.front, t, spec.size).sum() / shown
    tags = _tags(plan, boxes, inside, seen, width)
    absent = inside * seen < 0.03 if spec.split == "long" else np.zeros(length, bool)
    boxes[absent] = np.nan
    return Facts(boxes, absent, tuple(a for a in ATTRIBUTES if tags[a].any()), tags)


def _tags(plan: Plan, boxes, inside, seen, width: int) -> dict[str, np.ndarray]:
    """The attributes frame by frame `(T,)` bool, by the definitions of the module's text."""
    target, length = plan.target, len(boxes)
    area = boxes[:, 2] * boxes[:, 3]
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    step = np.hypot(*np.diff(middle, axis=0, prepend=middle[:1]).T)
    light = plan.gain.copy()
    if plan.shadow:
        light *= plan.shadow.light(target.centre, np.arange(length))
    shapes = {p: target.sprite.alpha(int(p), 0).astype(np.float32) for p in np.unique(target.phase)}
    first = shapes[target.phase[0]]
    same = {p: np.minimum(a, first).sum() / np.maximum(a, first).sum() for p, a in shapes.items()}
    return {
        "IV": np.abs(np.log(light / light[0])) > np.log(1.4),
        "OPR": np.abs(target.turn - target.turn[0]) * 360 / TURNS > 25,
        "SV": (area > 2 * area[0]) | (area < 0.5 * area[0]),
        "OCC": (seen < 0.7) & (inside > 0.05),
        "DEF": np.array([same[p] for p in target.phase]) < 0.75,
        "MB": np.hypot(*target.smear.T) > 0.025 * width,
        "FM": step > 0.05 * width,
        "IPR": np.abs(np.rad2deg(target.angle - target.angle[0])) > 20,
        "OV": inside < 0.95,
        "BC": np.full(length, "BC" in plan.wanted),
        "LR": area < 400,
    }


@dataclass(eq=False)
class Film:
    """A sequence in the making: its plan, what was measured on it and, once a frame is wanted, its painted scene."""

    spec: Spec
    plan: Plan
    facts: Facts
    scene: np.ndarray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # frames are asked for by several threads

    def paint(self) -> None:
        """Paint the world, and dress a camouflaged target in its colours."""
        with self.lock:
            if self.scene is not None:
                return
            plan, split = self.plan, self.spec.split
            rng = np.random.default_rng(np.random.SeedSequence([*plan.seed.entropy, 1]))
            scene, colours = scenes.paint(plan.layout, rng, split, *plan.world)
            if plan.camouflage:
                kind, shape, paint = plan.camouflage
                dressed = figures.build(kind, split, shape, paint, 2, colours)
                for part, new in zip(plan.target.sprite.parts, dressed.parts, strict=True):
                    part.skins = new.skins
                plan.target.sprite.strip()
            self.scene = scene

    def shoot(self, t: int) -> np.ndarray:
        """Compose and record frame t: `(H, W, 3)` uint8."""
        self.paint()
        plan, (width, height) = self.plan, self.spec.size
        zoom, looks = plan.zoom[t], plan.camera[t] + np.array(plan.world) / 2
        matrix = np.column_stack([np.eye(2) * zoom, np.array([width, height]) / 2 - zoom * looks + (zoom - 1) / 2])
        frame = cv2.warpAffine(self.scene, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if np.hypot(*plan.camera_smear[t]) >= 1:
            frame = cv2.filter2D(frame, -1, smear_kernel(plan.camera_smear[t]))
        frame = frame.astype(np.float32)
        for actor in (*plan.behind, plan.target, *plan.front):
            if plan.sun[2] and actor.sprite.kind in GROUNDED:
                _darken(frame, actor.shadow(t, plan.sun[:2]), plan.sun[2])
            _lay(frame, actor.at(t, sharp=False))
        if plan.shadow:
            grid = np.stack(np.meshgrid(np.arange(2, width, 4), np.arange(2, height, 4)), -1)
            frame *= cv2.resize(plan.shadow.light(grid, t).astype(np.float32), (width, height))[..., None]
        rng = np.random.default_rng(np.random.SeedSequence([*plan.seed.entropy, 2, t]))
        return _record(plan.recorder, frame, plan.gain[t], rng)


@lru_cache(maxsize=64)
def _film(spec: RenderedFrames) -> Film:
    plan = stage(spec)
    return Film(spec, plan, _measure(plan, spec))


def _lay(frame: np.ndarray, patch: tuple[np.ndarray, int, int]) -> None:
    """Lay premultiplied colours over the frame, in place."""
    part = cut(*patch, frame.shape[1], frame.shape[0])
    if part is not None:
        rgba, x, y = part[0].astype(np.float32), *part[1:]
        view = frame[y : y + rgba.shape[0], x : x + rgba.shape[1]]
        view *= 1 - rgba[..., 3:] * np.float32(1 / 255)
        view += rgba[..., :3]


def _darken(frame: np.ndarray, patch: tuple[np.ndarray, int, int], depth: float) -> None:
    """A cast shadow on the frame, in place."""
    part = cut(*patch, frame.shape[1], frame.shape[0])
    if part is not None:
        cover, x, y = cv2.blur(part[0], (3, 3)).astype(np.float32), *part[1:]
        frame[y : y + cover.shape[0], x : x + cover.shape[1]] *= 1 - cover[..., None] * np.float32(depth / 255)


def _record(recorder: Recorder, frame: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """Light, lens, sensor and compression: `(H, W, 3)` float32 to uint8."""
    height, width = frame.shape[:2]
    if recorder.shrink < 1:
        small = cv2.resize(frame, None, fx=recorder.shrink, fy=recorder.shrink, interpolation=cv2.INTER_AREA)
        frame = cv2.resize(small, (width, height))
    if recorder.soft:
        frame = cv2.GaussianBlur(frame, (0, 0), recorder.soft)
    if recorder.sharpen:
        frame = cv2.addWeighted(frame, 1 + recorder.sharpen, cv2.GaussianBlur(frame, (3, 3), 0.8), -recorder.sharpen, 0)
    frame *= np.float32(gain * np.asarray(recorder.tint))
    if recorder.noise:
        y, x = (int(v) for v in rng.integers(0, 128, 2))
        noise = _noise(recorder.grain, height + 128, width + 128)[y : y + height, x : x + width]
        frame += noise * np.float32(recorder.noise)
    frame = _tone(cv2.convertScaleAbs(np.maximum(frame, 0, out=frame)), recorder.gamma)
    if recorder.grey:
        frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if recorder.jpeg:
        swapped = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        coded = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, recorder.jpeg])[1]
        frame = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return frame


def _tone(frame: np.ndarray, gamma: float) -> np.ndarray:
    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return cv2.LUT(frame, table)


@lru_cache(maxsize=4)
def _noise(grain: float, height: int, width: int) -> np.ndarray:
    """Sensor noise of unit deviation, white or of `grain` px, large enough to cut frames from."""
    noise = np.random.default_rng(5).standard_normal((height, width, 3)).astype(np.float32)
    if grain:
        noise = cv2.GaussianBlur(noise, (0, 0), grain)
    return noise / noise.std()
