"""Procedural sequences: video with exact boxes and attributes, from nothing but a split and an index.

A *plan* fixes what happens (tracks, light, occluders, camera) and is measured on the target's own coverage, without
painting anything; a frame is painted when it is asked for. Splits share no random stream and no surface (`textures`).
OTB's eleven attributes are computed from what is drawn, by OTB's definitions where they are numbers (`_tags`)."""

import hashlib
import threading
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from ... import boxes as B
from ..sequence import Dataset, Sequence
from . import figures, scenes
from .sprites import TURNS, Actor, coverage, smeared
from .staging import ATTRIBUTES, GROUNDED, VERSION, Plan, Size, Spec
from .textures import overlap, stream

COUNTS = {"train": 200, "val": 20, "test": 40, "long": 6}
LENGTHS = {"train": 60, "val": 60, "test": 60, "long": 600}


@dataclass(frozen=True)
class RenderedFrames(Spec):
    """Frames of one rendered sequence: random access, pickles as the four numbers that define it.

    Some 80 ms go by when a process first touches a sequence (its plan and its scene); it keeps the last 64."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame: int) -> np.ndarray:
        return _film(self).shoot(range(self.length)[frame])

    def digest(self) -> str:
        spec = f"rendered {VERSION} {self.split} {self.index} {self.size} {self.length}"
        return hashlib.sha256(spec.encode()).hexdigest()


def rendered(
    split: str = "test", start: int = 0, count: int | None = None, size: Size = (240, 160), frames: int | None = None
) -> Dataset:
    """Procedural sequences `start .. start + count`.

    split: `train` (200 unless `count` says otherwise; any index is valid, so thousands can be had), `val` (20), `test`
    (40) or `long` (6 of 600 frames, in which the target leaves the view among look-alikes: NaN boxes, `absent`; of
    these too more can be had).
    size: frame width and height. frames: length of each (60; long 600).
    Raises ValueError for an unknown split, indices that a fixed split does not have, or frames under 32 px."""
    if split not in COUNTS:
        raise ValueError(f"rendered has no split {split!r}; it has {', '.join(COUNTS)}")
    count = COUNTS[split] - start if count is None else count
    if start < 0 or count < 1 or (split in ("val", "test") and start + count > COUNTS[split]):
        known = f"0 to {COUNTS[split] - 1}" if split in ("val", "test") else "from 0 on, and a count of 1 at least"
        raise ValueError(f"rendered {split} has sequences {known}, not {count} from {start} on")
    length = LENGTHS[split] if frames is None else frames
    if length < 1 or min(size) < 32:
        raise ValueError(f"rendered needs 1 frame of 32 x 32 pixels at least, not {length} of {size[0]} x {size[1]}")
    specs = (RenderedFrames(split, i, tuple(size), length) for i in range(start, start + count))
    return Dataset(f"rendered-{split}", [_sequence(s) for s in specs])


def _sequence(frames: RenderedFrames) -> Sequence:
    """Boxes and attributes are measured on the coverage of the target and of what stands before it."""
    plan, length = _film(frames).plan, frames.length
    boxes, inside, seen = np.empty((length, 4)), np.zeros(length), np.zeros(length)
    for t in range(length):
        patch, x, y = plan.target.at(t, painted=False)
        alpha = patch.astype(np.float32) / 255
        boxes[t] = _tight_box(alpha, x, y)
        if shown := float(overlap(np.empty(frames.size[::-1]), alpha, x, y)[1].sum()):
            inside[t] = shown / alpha.sum()
            seen[t] = coverage(plan.target, plan.front, t, frames.size).sum() / shown
    tags = _tags(plan, boxes, inside, seen)
    absent = inside * seen < 0.03 if frames.split == "long" else np.zeros(length, bool)
    boxes[absent] = np.nan
    name, have = f"{frames.split}-{frames.index:04d}", tuple(a for a in ATTRIBUTES if tags[a].any())
    facts = {"attributes": have, "tags": tags, "size": frames.size, "category": plan.target.sprite.kind}
    return Sequence(name, frames, boxes, absent=absent, **facts)


def _tight_box(alpha: np.ndarray, x: int, y: int) -> np.ndarray:
    """Sub-pixel box `(4,)` of coverage above one half in a patch at (x, y): within half a pixel of the pixels' own."""
    columns, rows = alpha.max(0), alpha.max(1)
    x0, x1 = _edge(columns), len(columns) - _edge(columns[::-1])
    y0, y1 = _edge(rows), len(rows) - _edge(rows[::-1])
    return np.array([x + x0, y + y0, x1 - x0, y1 - y0], np.float64)


def _edge(profile: np.ndarray) -> float:
    """Where a profile first rises through one half, in edge coordinates: linear between pixel centres."""
    i = int(np.argmax(profile > 0.5))
    before = profile[i - 1] if i else 0.0
    return i - 0.5 + (0.5 - before) / (profile[i] - before)


def _tags(plan: Plan, boxes: np.ndarray, inside: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """The attributes, frame by frame. inside: the share of the target that is in the frame; seen: of this, visible."""
    target, area = plan.target, boxes[:, 2] * boxes[:, 3]
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    step = np.hypot(*np.diff(middle, axis=0, prepend=middle[:1]).T)
    light = plan.gain * (plan.shadow(target.centre, plan.t) if plan.shadow else 1)
    shapes = {p: target.sprite.alpha(int(p), 0).astype(np.float32) for p in np.unique(target.phase)}
    first = shapes[target.phase[0]]
    same = {p: np.minimum(a, first).sum() / np.maximum(a, first).sum() for p, a in shapes.items()}
    return {
        "IV": np.abs(np.log(light / light[0])) > np.log(1.4),  # of the light on the target
        "OPR": np.abs(target.turn - target.turn[0]) * 360 / TURNS > 25,
        "SV": (area > 2 * area[0]) | (area < 0.5 * area[0]),
        "OCC": (seen < 0.7) & (inside > 0.05),
        "DEF": np.array([same[p] for p in target.phase]) < 0.75,
        "MB": np.hypot(*target.smear.T) > 0.025 * plan.width,
        "FM": step > 0.05 * plan.width,  # OTB: 20 px, in frames about 400 px wide
        "IPR": np.abs(np.rad2deg(target.angle - target.angle[0])) > 20,
        "OV": inside < 0.95,
        "BC": np.full(plan.length, "BC" in plan.wanted),  # dressed in the scene's colours, or among look-alikes
        "LR": area < 400,
    }


def objects(frames: RenderedFrames, t: int, least: float = 0.3) -> list[tuple[str, np.ndarray]]:
    """Every object in frame t, the target among them: what it is, and its box `(4,)` in the frame.

    Only those of which a share of `least` is to be seen, within the frame and not behind others; posts and walls are
    no objects. What a detector learns from."""
    return [(actor.sprite.kind, box) for actor, box in _visible(frames, t, least)]


def lookalikes(frames: RenderedFrames, t: int, least: float = 0.3) -> np.ndarray:
    """Boxes `(N, 4)` in frame t of what was made to look like the target, if a share of `least` is to be seen."""
    alike = {id(actor) for actor in _film(frames).plan.alike}
    return np.reshape([box for actor, box in _visible(frames, t, least) if id(actor) in alike], (-1, 4))


def _visible(frames: RenderedFrames, t: int, least: float) -> list[tuple[Actor, np.ndarray]]:
    plan, found = _film(frames).plan, []
    actors = [*plan.behind, plan.target, *plan.front]
    limit = np.array([*frames.size, *frames.size], float)
    for place, actor in enumerate(actors):
        patch, x, y = actor.at(t, painted=False)
        alpha = patch.astype(np.float32) / 255
        if actor.sprite.kind not in figures.BUILDERS or alpha.max() <= 0.5:
            continue
        if coverage(actor, actors[place + 1 :], t, frames.size).sum() < least * alpha.sum():
            continue
        edges = B.corners(_tight_box(alpha, x, y)).clip(0, limit)
        found.append((actor, B.from_corners(edges)))
    return found


@dataclass(eq=False)
class Film:
    """A sequence in the making: its plan and, once a frame is wanted, its painted scene."""

    plan: Plan
    scene: np.ndarray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # frames are asked for by several threads

    def paint(self) -> None:
        """Paint the world, and dress a camouflaged target in its colours."""
        with self.lock:
            if self.scene is not None:
                return
            plan, split = self.plan, self.plan.spec.split
            scene, colours = scenes.paint(plan.layout, stream(*plan.seed, 1), split, *plan.world)
            if plan.camouflaged:
                kind, *seeds = plan.camouflaged
                dressed = figures.build(kind, split, *seeds, 2, colours)
                for part, new in zip(plan.target.sprite.parts, dressed.parts, strict=True):
                    part.skins = new.skins
                plan.target.sprite.resize(plan.target.sprite.pixels)
            self.scene = scene

    def shoot(self, t: int) -> np.ndarray:
        """Compose and record frame t: `(H, W, 3)` uint8."""
        self.paint()
        plan, size = self.plan, self.plan.spec.size
        zoom, looks = plan.zoom[t], plan.camera[t] + np.array(plan.world) / 2
        matrix = np.column_stack([np.eye(2) * zoom, np.array(size) / 2 - zoom * looks + (zoom - 1) / 2])
        frame = cv2.warpAffine(self.scene, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
        frame = smeared(frame, plan.camera_smear[t]).astype(np.float32)
        for actor in (*plan.behind, plan.target, *plan.front):
            if plan.sun[2] and actor.sprite.kind in GROUNDED:
                view, dark = overlap(frame, *actor.shadow(t, *plan.sun[:2]))
                if dark.size:
                    dark = cv2.blur(dark, (3, 3)).astype(np.float32)
                    view *= 1 - dark[..., None] * np.float32(plan.sun[2] / 255)
            view, patch = overlap(frame, *actor.at(t, sharp=False))
            patch = patch.astype(np.float32)
            view *= 1 - patch[..., 3:] * np.float32(1 / 255)
            view += patch[..., :3]  # its colours are times its coverage
        if plan.shadow:
            grid = np.stack(np.meshgrid(np.arange(2, size[0], 4), np.arange(2, size[1], 4)), -1)
            frame *= cv2.resize(plan.shadow(grid, t).astype(np.float32), size)[..., None]
        return plan.recorder.record(frame, plan.gain[t], stream(*plan.seed, 2, t))


@lru_cache(maxsize=64)
def _film(spec: RenderedFrames) -> Film:
    return Film(Plan(spec))
