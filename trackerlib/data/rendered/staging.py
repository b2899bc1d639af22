"""What happens in a rendered sequence: who moves where, in what light, seen by which camera.

Everything is drawn from one random stream and decided before a pixel is painted (`rendered` paints). Lengths are in
pixels of a frame 240 wide unless they are shares of something."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from . import figures, textures
from .sprites import PHASES, SKINS, TURNS, Actor, Part, Sprite, coverage, slab

VERSION = 1  # what is drawn for a (split, index) changes with this number only
ATTRIBUTES = ("IV", "OPR", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OV", "BC", "LR")
GROUNDED = ("person", "car", "rider", "animal")

# How often each place and each kind of object is drawn: the commonest in tracking benchmarks most often.
_PLACES = {"street": 4, "field": 3, "aerial": 2, "water": 2, "indoor": 3, "arena": 2, "leaves": 2}
_KINDS = {"person": 5, "car": 4, "rider": 2, "animal": 2, "bird": 1, "ball": 1, "face": 2, "toy": 4, "sign": 1}
_TURNING = {"face": 3, "car": 2, "person": 2, "sign": 1, "ball": 1, "toy": 2}
_BENDING = {"person": 4, "rider": 1, "animal": 2, "bird": 2, "toy": 2}


Size = tuple[int, int]  # width and height


@dataclass(frozen=True)
class Spec:
    """What defines a sequence. size: of the frames; length: their number."""

    split: str
    index: int
    size: Size = (240, 160)
    length: int = 60


class Plan:
    """All that happens in one sequence, drawn from one random stream. Arrays are `(T, ...)`."""

    def __init__(self, spec: Spec):
        self.spec, self.seed = spec, (spec.split, spec.index, VERSION)
        self.rng = textures.stream(*self.seed)
        (self.width, self.height), self.length, self.t = spec.size, spec.length, np.arange(spec.length)
        self.wanted = self._challenges()  # the attributes it is made to show
        self.layout = self._pick(_PLACES) if spec.split == "train" else list(_PLACES)[spec.index % len(_PLACES)]
        kind = self._pick(_BENDING if "DEF" in self.wanted else _TURNING if "OPR" in self.wanted else _KINDS)
        who = (kind, *self._seeds())
        self.leaps: list[int] = []  # frames in which the target, out of sight, goes elsewhere
        self.target = self._draw_target(who)
        self.camera, self.zoom = self._draw_camera()  # world pixels of the frame's centre, from the world's centre
        self.front, self.behind = self._draw_company(who)  # of the target
        shutter = self.rng.uniform(0.9, 1.3) if "MB" in self.wanted else self.rng.uniform(0, 0.35)
        for actor in (self.target, *self.front, *self.behind):
            actor.smear = np.diff(actor.centre, axis=0, prepend=actor.centre[:1]) * shutter
        self.target.smear[self.leaps] = 0
        self.camera_smear = np.diff(-self.camera, axis=0, prepend=-self.camera[:1]) * shutter
        self.gain, self.shadow = self._draw_light()
        open_ground = self.layout in ("street", "field", "aerial", "arena")
        sunny = self.rng.choice([0, self.rng.uniform(0.2, 0.6)]) if open_ground else 0.0
        self.sun = (
            self.rng.uniform(-1.2, 1.2),
            self.rng.uniform(0.15, 0.45),
            sunny,
        )  # cast shadows: slant, length, depth
        self.recorder = Recorder(self.rng, "LR" in self.wanted)
        self.camouflaged = who if "BC" in self.wanted and spec.split != "long" else None  # to wear the scene's colours
        self.world = spec.size[0] * 2, int(spec.size[1] * 1.5)  # width and height of the scene

    def _challenges(self) -> set[str]:
        """What shall go wrong: by turns in the fixed splits, so that each attribute is well covered."""
        rng, index, choices = self.rng, self.spec.index, (*ATTRIBUTES, "OCC")
        picks = set(rng.choice(choices, int(rng.integers(0, 3)), replace=False))
        if self.spec.split == "train":
            return picks | set(rng.choice(choices, int(rng.integers(0, 2))))
        if self.spec.split == "long":
            return set(rng.choice(["IV", "SV", "OPR", "IPR", "DEF"], 2)) | {"OV", "BC", "OCC"}
        return picks | {ATTRIBUTES[index % 11], ATTRIBUTES[(index * 5 + 3) % 11]}

    def _pick(self, weights: dict[str, float]) -> str:
        share = np.array(list(weights.values()), float)
        return str(self.rng.choice(list(weights), p=share / share.sum()))

    def _seeds(self) -> list[int]:
        """Of a figure's shape and paint."""
        return [int(n) for n in self.rng.integers(0, 1 << 30, 2)]

    def _smooth(self, scale: float) -> np.ndarray:
        """A smooth random curve `(T,)` of unit deviation that changes over about `scale` frames."""
        grid = np.convolve(self.rng.standard_normal(int(self.length / scale) + 6), [0.25, 0.5, 0.25], "same")
        return np.interp(self.t / scale + self.rng.uniform(1, 2), np.arange(len(grid)), grid) * 1.6

    def _path(self, kind: str) -> np.ndarray:
        """A track `(T, 2)` from the origin."""
        rng, t, u = self.rng, self.t[:, None], self.width / 240
        heading = rng.uniform(0, 2 * np.pi)
        along = np.array([np.cos(heading), 0.5 * np.sin(heading)])
        if kind == "straight":
            path = along * rng.uniform(0.3, 3.5) * u * t
        elif kind == "sway":
            (a, b), rate = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.02, 0.12)
            x = np.sin(rate * t + a) * rng.uniform(10, 60)
            y = np.sin(rate * rng.uniform(0.5, 2) * t + b) * rng.uniform(2, 24)
            path = np.hstack([x, y]) * u
        elif kind == "fast":
            rate = rng.uniform(0.22, 0.4)
            reach = rng.uniform(15, 22) / rate * u
            path = along / np.hypot(*along) * reach * np.sin(rate * t + rng.uniform(0, 6))
        else:
            speed = np.stack([self._smooth(8), 0.5 * self._smooth(8)], 1) * rng.uniform(0.4, 3.0) * u
            path = np.cumsum(speed, 0)
            if kind == "jump":
                for at in rng.integers(min(4, self.length - 1), self.length, max(self.length // 20, 2)):
                    path[at:] += rng.choice([-1, 1], 2) * rng.uniform([16, 4], [44, 20]) * u
        tremble = rng.choice([0, 0.3, 0.8]) * u
        return path - path[0] + rng.normal(0, tremble, (self.length, 2)).cumsum(0) * 0.3

    def _draw_target(self, who: tuple[str, int, int]) -> Actor:
        rng, wanted, t, frame = self.rng, self.wanted, self.t, np.array(self.spec.size)
        sprite = figures.build(who[0], self.spec.split, *who[1:], skins=2)
        if "DEF" in wanted and sprite.kind not in ("person", "rider"):  # which bend by themselves; others undulate
            longest, tall = sprite.extent.max(), sprite.extent[1] > sprite.extent[0]
            wave = 0.16 * longest * rng.uniform(0.9, 1.4), (1 if tall else -1) * 0.8 / longest
            sprite = replace(sprite, wave=wave)
        cycle = 2 * np.pi * t
        low, high, unit = (12, 17, 1) if "LR" in wanted else (21, 58, self.height / 160)
        side = np.exp(rng.uniform(*np.log([low, high]))) * unit
        scale = side / np.sqrt(np.prod(sprite.extent)) * np.exp(0.06 * self._smooth(25))
        if "SV" in wanted:
            factor, last = rng.choice([0.5, 1.9]) * rng.uniform(0.9, 1.1), self.length - 1
            there, back = t / max(last, 1), 0.5 - 0.5 * np.cos(cycle / np.clip(last, 1, 120))
            scale = scale * factor ** (there if rng.choice([0, 1]) else back)
        scale = np.clip(scale, 10 / sprite.extent.max(), (0.62 * frame / sprite.extent).min())
        sprite.resize(max(scale.max(), 24))
        angle, turn, skin = np.deg2rad(rng.choice([0, 3])) * self._smooth(6), np.zeros(len(t)), np.zeros(len(t))
        if "IPR" in wanted:
            angle = angle + np.deg2rad(rng.choice([-1, 1]) * rng.uniform(35, 90)) * np.sin(cycle / rng.uniform(40, 110))
        if "OPR" in wanted:
            turn = rng.choice([-1, 1]) * rng.uniform(45, 65) / 360 * TURNS * np.sin(cycle / rng.uniform(40, 100))
        if {"OPR", "DEF"} & wanted or rng.random() < 0.2:
            skin = SKINS * rng.uniform(0.3, 1) * (0.5 - 0.5 * np.cos(np.pi * t / rng.uniform(40, 90)))
        kinds = ["fast", "jump"] if "FM" in wanted else ["fast"] if "MB" in wanted else ["straight", "sway", "walk"]
        path = self._path(rng.choice(kinds))
        half = np.maximum(sprite.extent, 0.1) * scale[:, None] / 2 * (1.15 if "IPR" not in wanted else 1.5) + 2
        low = np.minimum(half, frame / 2 - 1)
        high = np.maximum(frame - half, low + 1)
        if self.layout in ("street", "field", "arena", "indoor") and sprite.kind in GROUNDED:
            low[:, 1] = np.minimum(np.maximum(low[:, 1], 0.42 * self.height), high[:, 1] - 1)
        centre = _fold(rng.uniform(low[0], high[0]) + path, low, high)
        if "OV" in wanted:
            centre = self._leave(centre, half)
        pace = rng.uniform(0.03, 0.11) * PHASES
        phase = (rng.integers(PHASES) + np.round(pace * t)) % PHASES
        return Actor(sprite, centre, scale, angle, phase, np.round(turn), np.round(skin), rng.random() < 0.5)

    def _leave(self, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Push the track over the nearest border for a while: partly, or in the long sequences wholly, and there in
        half of the cases it comes back over another one."""
        rng, length = self.rng, self.length
        whole = self.spec.split == "long"
        ramp, at = 18 if whole else 8, 15
        while at < length - 10:
            stay = int(rng.integers(25, 70) if whole else rng.integers(10, 24))
            leaps = whole and rng.random() < 0.5
            stop = at + max(stay, 2 * ramp + 4) if leaps else at + stay
            stop = min(stop, length - 5 if whole else length + ramp)
            x, y = centre[min(at + ramp, length - 1)]
            room = np.array([x, self.width - x, y, self.height - y])
            side = int(np.argmin(room + np.array([0, 0, self.width, self.width]) * (rng.random() < 0.8)))
            beyond = 1.8 if whole else rng.uniform(-0.1, 0.45)
            goal = self._outside(centre, half, side, beyond)
            if leaps and stop - at > 2 * ramp:
                leap = (at + stop) // 2  # out of sight
                other = (side + int(rng.integers(1, 4))) % 4
                goal[leap:] = self._outside(centre, half, other, beyond)[leap:]
                self.leaps.append(leap)
            away = np.minimum(np.clip((self.t - at) / ramp, 0, 1), np.clip((stop - self.t) / ramp, 0, 1))
            weight = (0.5 - 0.5 * np.cos(np.pi * away))[:, None]
            centre = centre * (1 - weight) + goal * weight
            at = stop + int(rng.integers(40, 110))
        return centre

    def _outside(self, centre: np.ndarray, half: np.ndarray, side: int, beyond: float) -> np.ndarray:
        """The track beside the frame: beyond its left, right, upper or lower border, by so many half sides."""
        goal, (axis, far) = centre.copy(), divmod(side, 2)
        reach = half[:, axis] * beyond
        goal[:, axis] = reach + self.spec.size[axis] if far else -reach
        return goal

    def _draw_camera(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the camera looks in the world, and its zoom."""
        rng, room = self.rng, np.array([self.width * 0.45, self.height * 0.2])
        move = np.zeros((self.length, 2))
        style = rng.choice(["still", "pan", "hand", "hand", "follow"])
        if style == "pan":
            move = self._path("straight") * [1, 0.3]
        elif style == "follow":
            move = self._path("walk") * [1.3, 0.3]
        if style in ("hand", "follow"):
            shake = np.stack([self._smooth(5), self._smooth(5)], 1)
            move = move + shake * rng.uniform(0.5, 4) * self.width / 240
        zoom = np.exp(np.abs(0.08 * self._smooth(40))) if style != "still" else np.ones(self.length)
        return _fold(rng.uniform(-0.7, 0.7, 2) * room + move, -room, room), zoom

    def _draw_company(self, who: tuple[str, int, int]) -> tuple[list[Actor], list[Actor]]:
        """Other objects, in front of the target and behind it: look-alikes when asked for, and what passes."""
        rng, wanted, spec, (width, height) = self.rng, self.wanted, self.spec, self.spec.size
        (kind, shape, paint), target, front, behind = who, self.target, [], []
        alike = 3 if spec.split == "long" else int(rng.integers(2, 4)) if "BC" in wanted else int(rng.random() < 0.15)
        self.alike = []  # those made to look like the target
        for i in range(alike + int(rng.choice([0, 0, 1, 2, 3]))):
            seeds = self._seeds()
            if i < alike:
                same = shape if rng.random() < 0.6 else seeds[0]
                sprite = figures.build(kind, spec.split, same, paint, skins=2, likeness=rng.uniform(0.1, 0.5))
            else:
                other = kind if rng.random() < 0.5 else self._pick(_KINDS)
                sprite = figures.build(other, spec.split, *seeds, skins=2)
            tall = target.scale[0] * target.sprite.extent[1] * rng.uniform(0.8, 1.15)
            scale = min(tall / sprite.extent[1], 0.5 * width / sprite.extent[0])
            start = rng.uniform([0, 0.25 * height], [width, height])
            path = start + self._path(rng.choice(["straight", "walk", "sway"]))
            path = path - (self.camera - self.camera[0]) * (rng.random() < 0.7)
            path = _fold(path, np.array([-0.15 * width, 0]), np.array([1.15 * width, height]))
            actor = self._extra(sprite, path, scale)
            (front if i % 3 == 2 else behind).append(actor)
            if i < alike:
                self.alike.append(actor)
        if "OCC" in wanted:
            count = max(self.length // 150, int(rng.integers(1, 3)))
            for t in (np.arange(count) + rng.uniform(0.3, 0.8)) / count * self.length:
                front.append(self._occluder(int(np.clip(t, min(8, self.length - 1), self.length - 1))))
        clear = 0.99 * coverage(target, [], 0, spec.size).sum()  # nothing hides the target in the first frame
        return [a for a in front if coverage(target, [a], 0, spec.size).sum() > clear], behind

    def _extra(self, sprite: Sprite, centre: np.ndarray, scale: float) -> Actor:
        sprite.resize(np.clip(scale, 12, 160))
        phase = np.round(self.rng.uniform(0, 12) + self.rng.uniform(0.03, 0.1) * PHASES * self.t) % PHASES
        zero, scales = np.zeros(self.length), np.full(self.length, scale)
        return Actor(sprite, centre, scales, zero, phase, zero, zero, self.rng.random() < 0.5)

    def _occluder(self, t0: int) -> Actor:
        """Something that crosses the target in frame t0: a post, a wall, a bush or another object."""
        rng, split, target = self.rng, self.spec.split, self.target
        extent = target.sprite.extent * target.scale[t0]
        style = rng.choice(["post", "panel", "object"])
        if style == "object":
            sprite = figures.build(rng.choice(list(figures.BUILDERS)), split, *self._seeds())
            scale = max(extent) / sprite.extent.max() * rng.uniform(0.9, 1.5)
            aim = target.centre[t0] + rng.uniform(-0.2, 0.2, 2) * extent
        else:
            wide = extent[0] * (rng.uniform(0.35, 0.8) if style == "post" else rng.uniform(0.8, 1.4))
            scale = self.height * 1.6 if style == "post" else max(extent[1] * rng.uniform(0.7, 1.6), wide)
            shape = slab(-wide / scale / 2, -0.5, wide / scale / 2, 0.5, 0.05)
            sprite = Sprite(style, [Part(shape, figures.Wardrobe(rng, split)())])
            aim = target.centre[t0] + np.array([0, rng.uniform(-0.1, 0.3) * extent[1]])
        clear = (extent[0] + sprite.extent[0] * scale) / 2 + abs(target.centre[t0, 0] - target.centre[0, 0]) + 6
        speed = rng.choice([-1, 1]) * max(clear / max(t0, 1), rng.uniform(0.8, 2.5) * self.width / 240)
        return self._extra(sprite, aim + (self.t - t0)[:, None] * np.array([speed, 0]), scale)

    def _draw_light(self) -> tuple[np.ndarray, Callable | None]:
        """Brightness of the scene `(T,)`, and the straight edge of a large shadow that sweeps over the target."""
        rng, t, length = self.rng, self.t, self.length
        gain = rng.uniform(0.8, 1.2) * np.exp(0.02 * self._smooth(10))
        if "IV" not in self.wanted:
            return gain, None
        style, factor = rng.choice(["step", "ramp", "flicker", "shadow"]), rng.choice([0.45, 0.55, 1.7])
        if style == "step":
            return gain * np.where(t < rng.uniform(0.3, 0.7) * length, 1, factor), None
        if style == "ramp":
            return gain * factor ** np.clip(t / length * 1.3, 0, 1), None
        if style == "flicker":
            return gain * np.where(np.sin(t / rng.uniform(2, 5)) > 0.4, factor, 1), None
        a, soft = rng.uniform(0, 2 * np.pi), rng.uniform(2, 12)
        normal = np.array([np.cos(a), np.sin(a)])
        edge = self.target.centre @ normal + (t - rng.uniform(0.3, 0.6) * length) * rng.uniform(2, 5)
        depth = rng.uniform(0.4, 0.6)

        def left(points: np.ndarray, t) -> np.ndarray:
            """Share of the light left at `points` `(..., 2)` in frame(s) t."""
            return 1 - depth * (1 / (1 + np.exp(np.clip((points @ normal - edge[t]) / soft, -30, 30))))

        return gain, left


def _fold(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Reflect a track at the walls low and high."""
    span = np.maximum(high - low, 1e-6)
    return high - np.abs((x - low) % (2 * span) - span)


class Recorder:
    """Lens, sensor and file of a sequence."""

    def __init__(self, rng: np.random.Generator, coarse: bool):
        self.soft = rng.choice([0, 0, 0, rng.uniform(0.3, 0.8)])  # px of blur
        self.sharpen = rng.choice([0, rng.uniform(0.5, 2), rng.uniform(0.5, 2)])  # unsharp masking, as cameras do
        self.shrink = rng.uniform(0.45, 0.8) if coarse or rng.random() < 0.15 else 1.0  # relative resolution
        self.noise = rng.choice([0, rng.uniform(0.5, 6)])  # grey levels
        self.grain = rng.choice([0, 0.8])  # px
        self.gamma, self.tint = np.exp(rng.normal(0, 0.22)), np.exp(rng.normal(0, 0.05, 3))
        self.grey = rng.random() < 0.15
        self.jpeg = int(rng.choice([0, rng.integers(35, 95)]))  # quality; 0: not compressed

    def record(self, frame: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
        """A picture `(H, W, 3)` float32, overwritten, in light of strength `gain`, as the file shows it: uint8."""
        height, width = frame.shape[:2]
        if self.shrink < 1:
            small = cv2.resize(frame, None, fx=self.shrink, fy=self.shrink, interpolation=cv2.INTER_AREA)
            frame = cv2.resize(small, (width, height))
        if self.soft:
            frame = cv2.GaussianBlur(frame, (0, 0), self.soft)
        if self.sharpen:
            blurred = cv2.GaussianBlur(frame, (3, 3), 0.8)
            frame = cv2.addWeighted(frame, 1 + self.sharpen, blurred, -self.sharpen, 0)
        frame *= np.float32(gain * self.tint)
        if self.noise:
            y, x = (int(v) for v in rng.integers(0, 128, 2))
            noise = _noise(self.grain, height + 128, width + 128)[y : y + height, x : x + width]
            frame += noise * np.float32(self.noise)
        tones = np.round(255 * (np.arange(256) / 255) ** self.gamma).astype(np.uint8)
        frame = cv2.LUT(cv2.convertScaleAbs(np.maximum(frame, 0, out=frame)), tones)
        if self.grey:
            frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.jpeg:
            swapped = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            coded = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])[1]
            frame = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return frame


@lru_cache(maxsize=4)
def _noise(grain: float, height: int, width: int) -> np.ndarray:
    """Sensor noise of unit deviation, white or of `grain` px, large enough to cut frames from."""
    noise = np.random.default_rng(5).standard_normal((height, width, 3)).astype(np.float32)
    if grain:
        noise = cv2.GaussianBlur(noise, (0, 0), grain)
    return noise / noise.std()
