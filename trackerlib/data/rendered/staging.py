"""What happens in a rendered sequence: who moves where, in what light, seen by which camera.

Everything is drawn from one random stream and decided before a pixel is painted (`rendered` paints). Lengths are in
pixels of a frame 240 wide unless they are shares of something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import figures, textures
from .actors import Actor, coverage
from .sprites import PHASES, SKINS, TURNS, Part, Sprite, slab

VERSION = 1  # what is drawn for a (split, index) changes with this number only
ATTRIBUTES = ("IV", "OPR", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OV", "BC", "LR")
GROUNDED = ("person", "car", "rider", "animal")
OPEN = ("street", "field", "aerial", "arena")  # layouts with a ground that takes shadows


# How often each place and each kind of object is drawn: the commonest in tracking benchmarks most often.
_PLACES = {"street": 4, "field": 3, "aerial": 2, "water": 2, "indoor": 3, "arena": 2, "leaves": 2}
_KINDS = {"person": 5, "car": 4, "rider": 2, "animal": 2, "bird": 1, "ball": 1, "face": 2, "toy": 4, "sign": 1}
_TURNING = {"face": 3, "car": 2, "person": 2, "sign": 1, "ball": 1, "toy": 2}
_BENDING = {"person": 4, "rider": 1, "animal": 2, "bird": 2, "toy": 2}


@dataclass(frozen=True)
class Spec:
    """What defines a sequence. size: frame width and height; length: frames."""

    split: str
    index: int
    size: tuple[int, int] = (240, 160)
    length: int = 60


@dataclass(frozen=True)
class Shadow:
    """The straight edge of a large shadow that sweeps over the frame."""

    normal: np.ndarray  # (2,) unit vector, out of the shadow
    edge: np.ndarray  # (T,) where it lies along the normal
    soft: float  # its width, frame pixels
    depth: float  # share of the light taken away

    def light(self, points: np.ndarray, t) -> np.ndarray:
        """Share of the light left at `points` `(..., 2)` in frame(s) t."""
        inside = 1 / (1 + np.exp(np.clip((points @ self.normal - self.edge[t]) / self.soft, -30, 30)))
        return 1 - self.depth * inside


@dataclass(frozen=True)
class Recorder:
    """Lens, sensor and file."""

    soft: float  # px of blur
    sharpen: float  # unsharp masking, as cameras do
    shrink: float  # resolution of the recording, relative to the frame
    noise: float  # grey levels
    grain: float  # px
    gamma: float
    tint: tuple[float, float, float]
    grey: bool
    jpeg: int  # quality; 0: not compressed


@dataclass(eq=False)
class Plan:
    """All that happens in one sequence. Arrays are `(T, ...)`."""

    wanted: frozenset[str]  # the attributes it was made to show
    layout: str
    target: Actor
    behind: list[Actor]
    front: list[Actor]
    camera: np.ndarray  # (T, 2) world pixels of the frame's centre, from the world's centre
    zoom: np.ndarray
    camera_smear: np.ndarray
    gain: np.ndarray  # brightness of everything
    shadow: Shadow | None
    sun: tuple[float, float, float]  # slant, length and depth of cast shadows; depth 0: overcast
    recorder: Recorder
    camouflage: tuple[str, int, int] | None  # kind and seeds of a target to be dressed in the scene's colours
    world: tuple[int, int]  # width and height of the scene
    seed: np.random.SeedSequence
    scene: np.ndarray | None = None  # painted when the first frame is asked for


def _fold(x: np.ndarray, low, high) -> np.ndarray:
    """Reflect a track at the walls low and high."""
    span = np.maximum(high - low, 1e-6)
    x = np.abs((x - low) % (2 * span) - span)
    return high - x


def _smooth(rng: np.random.Generator, length: int, scale: float) -> np.ndarray:
    """A smooth random curve `(T,)` of unit deviation that changes over about `scale` frames."""
    grid = rng.standard_normal(int(length / scale) + 6)
    grid = np.convolve(grid, [0.25, 0.5, 0.25], "same")
    return np.interp(np.arange(length) / scale + rng.uniform(1, 2), np.arange(len(grid)), grid) * 1.6


def _bump(length: int, start: int, stop: int, ramp: int) -> np.ndarray:
    """0 before `start`, 1 between, 0 after `stop`, with cosine ramps."""
    t = np.arange(length)
    up, down = np.clip((t - start) / ramp, 0, 1), np.clip((stop - t) / ramp, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(up, down))


def _path(rng: np.random.Generator, length: int, width: float, kind: str) -> np.ndarray:
    """A track `(T, 2)` from the origin, for a frame `width` px wide."""
    t = np.arange(length)[:, None]
    u = width / 240
    heading = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(heading), 0.5 * np.sin(heading)])
    if kind == "straight":
        path = along * rng.uniform(0.3, 3.5) * u * t
    elif kind == "sway":
        a, b = rng.uniform(0, 2 * np.pi, 2)
        rate = rng.uniform(0.02, 0.12)
        path = (
            np.concatenate(
                [
                    np.sin(rate * t + a) * rng.uniform(10, 60),
                    np.sin(rate * rng.uniform(0.5, 2) * t + b) * rng.uniform(2, 24),
                ],
                1,
            )
            * u
        )
    elif kind == "fast":
        rate = rng.uniform(0.22, 0.4)
        swing = rng.uniform(15, 22) / rate * u
        path = along / np.hypot(*along) * swing * np.sin(rate * t + rng.uniform(0, 6))
    else:
        speed = np.stack([_smooth(rng, length, 8), 0.5 * _smooth(rng, length, 8)], 1) * rng.uniform(0.4, 3.0) * u
        path = np.cumsum(speed, 0)
        if kind == "jump":
            for at in rng.integers(min(4, length - 1), length, max(length // 20, 2)):
                path[at:] += rng.choice([-1, 1], 2) * rng.uniform([16, 4], [44, 20]) * u
    tremble = rng.choice([0, 0.3, 0.8]) * u
    return path - path[0] + rng.normal(0, tremble, (length, 2)).cumsum(0) * 0.3


CHALLENGES = (*ATTRIBUTES, "OCC")


def _challenges(rng: np.random.Generator, split: str, index: int) -> set[str]:
    """What shall go wrong in a sequence: by turns in the fixed splits, so that each attribute is well covered."""
    picks = set(rng.choice(CHALLENGES, int(rng.integers(0, 3)), replace=False))
    if split == "train":
        picks |= set(rng.choice(CHALLENGES, int(rng.integers(0, 2))))
    elif split == "long":
        picks = set(rng.choice(["IV", "SV", "OPR", "IPR", "DEF"], 2)) | {"OV", "BC", "OCC"}
    else:
        picks |= {ATTRIBUTES[index % 11], ATTRIBUTES[(index * 5 + 3) % 11]}
    return picks


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    share = np.array(list(weights.values()), float)
    return str(rng.choice(list(weights), p=share / share.sum()))


def stage(spec: Spec) -> Plan:
    """The plan of a sequence."""
    seed = np.random.SeedSequence([textures.split_seed(spec.split), spec.index, VERSION])
    rng = np.random.default_rng(seed)
    wanted = _challenges(rng, spec.split, spec.index)
    layout = _pick(rng, _PLACES) if spec.split == "train" else list(_PLACES)[spec.index % len(_PLACES)]
    kind = _pick(rng, _BENDING if "DEF" in wanted else _TURNING if "OPR" in wanted else _KINDS)
    shape, paint = (int(n) for n in rng.integers(0, 1 << 30, 2))
    sprite = figures.build(kind, spec.split, shape, paint, skins=2)
    if "DEF" in wanted and kind not in ("person", "rider"):
        sprite = _wavy(sprite, rng)
    target = _target(rng, sprite, wanted, spec, layout)
    camera, zoom = _camera(rng, spec)
    front, behind = _company(rng, wanted, spec, (kind, shape, paint), target, camera)
    shutter = rng.uniform(0.9, 1.3) if "MB" in wanted else rng.uniform(0, 0.35)
    for actor in (target, *front, *behind):
        actor.smear = _steps(actor.centre) * shutter
    gain, shadow = _light(rng, "IV" in wanted, spec, target)
    return Plan(
        wanted=frozenset(wanted),
        layout=layout,
        target=target,
        behind=behind,
        front=front,
        camera=camera,
        zoom=zoom,
        camera_smear=-_steps(camera) * shutter,
        gain=gain,
        shadow=shadow,
        sun=_sun(rng, layout),
        recorder=_recorder(rng, "LR" in wanted),
        camouflage=(kind, shape, paint) if "BC" in wanted and spec.split != "long" else None,
        world=(int(spec.size[0] * 2), int(spec.size[1] * 1.5)),
        seed=seed,
    )


def _steps(track: np.ndarray) -> np.ndarray:
    return np.diff(track, axis=0, prepend=track[:1])


def _sun(rng, layout: str) -> tuple[float, float, float]:
    depth = rng.choice([0, rng.uniform(0.2, 0.6)]) if layout in OPEN else 0.0
    return float(rng.uniform(-1.2, 1.2)), float(rng.uniform(0.15, 0.45)), float(depth)


def _recorder(rng, coarse: bool) -> Recorder:
    return Recorder(
        soft=float(rng.choice([0, 0, 0, rng.uniform(0.3, 0.8)])),
        sharpen=float(rng.choice([0, rng.uniform(0.5, 2), rng.uniform(0.5, 2)])),
        shrink=float(rng.uniform(0.45, 0.8) if coarse or rng.random() < 0.15 else 1),
        noise=float(rng.choice([0, rng.uniform(0.5, 6)])),
        grain=float(rng.choice([0, 0.8])),
        gamma=float(np.exp(rng.normal(0, 0.22))),
        tint=tuple(float(v) for v in np.exp(rng.normal(0, 0.05, 3))),
        grey=bool(rng.random() < 0.15),
        jpeg=int(rng.choice([0, rng.integers(35, 95)])),
    )


def _wavy(sprite: Sprite, rng) -> Sprite:
    tall = sprite.extent[1] > sprite.extent[0]
    wave = (
        0.16 * float(sprite.extent.max()) * rng.uniform(0.9, 1.4),
        (1 if tall else -1) * 0.8 / float(sprite.extent.max()),
    )
    return Sprite(sprite.kind, sprite.parts, sprite.bones, wave, sprite.solid)


def _target(rng, sprite, wanted: set[str], spec: Spec, layout: str) -> Actor:
    (width, height), length = spec.size, spec.length
    t, unit = np.arange(length), height / 160
    side = np.exp(rng.uniform(*np.log([12, 17]))) if "LR" in wanted else np.exp(rng.uniform(*np.log([21, 58]))) * unit
    scale = side / np.sqrt(np.prod(sprite.extent)) * np.exp(0.06 * _smooth(rng, length, 25))
    if "SV" in wanted:
        factor = rng.choice([0.5, 1.9]) * rng.uniform(0.9, 1.1)
        course = rng.choice([0, 1])
        ramp = t / max(length - 1, 1) if course else 0.5 - 0.5 * np.cos(2 * np.pi * t / np.clip(length - 1, 1, 120))
        scale = scale * factor**ramp
    limit = 0.62 * np.array([width, height]) / sprite.extent
    scale = np.clip(scale, 10 / sprite.extent.max(), limit.min())
    sprite.resize(max(scale.max(), 24))
    angle = np.deg2rad(rng.choice([0, 3])) * _smooth(rng, length, 6)
    if "IPR" in wanted:
        angle = angle + np.deg2rad(rng.choice([-1, 1]) * rng.uniform(35, 90)) * np.sin(
            2 * np.pi * t / rng.uniform(40, 110)
        )
    turn = np.zeros(length)
    if "OPR" in wanted:
        turn = rng.choice([-1, 1]) * rng.uniform(45, 65) / 360 * TURNS * np.sin(2 * np.pi * t / rng.uniform(40, 100))
    skin = np.zeros(length)
    if {"OPR", "DEF"} & wanted or rng.random() < 0.2:
        skin = SKINS * rng.uniform(0.3, 1) * (0.5 - 0.5 * np.cos(np.pi * t / rng.uniform(40, 90)))
    kinds = ["straight", "sway", "walk"]
    kind = str(rng.choice(["fast", "jump"] if "FM" in wanted else ["fast"] if "MB" in wanted else kinds))
    path = _path(rng, length, width, kind)
    half = np.maximum(sprite.extent, 0.1)[None] * scale[:, None] / 2 * (1.15 if "IPR" not in wanted else 1.5) + 2
    low, high = np.minimum(half, np.array([width, height]) / 2 - 1), np.array([width, height]) - half
    high = np.maximum(high, low + 1)
    if layout in ("street", "field", "arena", "indoor") and sprite.kind in GROUNDED:
        low = np.stack([low[:, 0], np.minimum(np.maximum(low[:, 1], 0.42 * height), high[:, 1] - 1)], 1)
    start = rng.uniform(low[0], high[0])
    centre = _fold(start + path, low, high)
    if "OV" in wanted:
        centre = _leave(rng, centre, half, spec)
    pace = rng.uniform(0.03, 0.11) * PHASES
    zero = np.zeros((length, 2))
    phase = (rng.integers(PHASES) + np.round(pace * t)) % PHASES
    return Actor(sprite, centre, scale, angle, phase, np.round(turn), np.round(skin), zero, bool(rng.random() < 0.5))


def _leave(rng, centre: np.ndarray, half: np.ndarray, spec: Spec) -> np.ndarray:
    """Push the track over the nearest border for a while: partly, or in the long sequences wholly."""
    (width, height), length = spec.size, spec.length
    whole = spec.split == "long"
    at = 15
    while at < length - 10:
        stay, ramp = (int(rng.integers(25, 70)), 18) if whole else (int(rng.integers(10, 24)), 8)
        stop = min(at + stay, length + ramp if not whole else length - 5)
        weight = _bump(length, at, stop, ramp)[:, None]
        middle = min(at + ramp, length - 1)
        room = np.array([centre[middle, 0], width - centre[middle, 0], centre[middle, 1], height - centre[middle, 1]])
        side = int(np.argmin(room + np.array([0, 0, width, width]) * (rng.random() < 0.8)))
        axis, sign = side // 2, -1 if side % 2 == 0 else 1
        reach = half[:, axis] * (1.8 if whole else rng.uniform(-0.1, 0.45))
        goal = centre.copy()
        goal[:, axis] = reach + spec.size[axis] if sign > 0 else -reach
        centre = centre * (1 - weight) + goal * weight
        at = stop + int(rng.integers(40, 110))
    return centre


def _camera(rng, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera looks in the world, and its zoom."""
    (width, height), length = spec.size, spec.length
    room = np.array([width * 0.45, height * 0.2])
    move = np.zeros((length, 2))
    style = rng.choice(["still", "pan", "hand", "hand", "follow"])
    if style == "pan":
        move = _path(rng, length, width, "straight") * [1, 0.3]
    elif style == "follow":
        move = _path(rng, length, width, "walk") * [1.3, 0.3]
    if style in ("hand", "follow"):
        move = (
            move + np.stack([_smooth(rng, length, 5), _smooth(rng, length, 5)], 1) * rng.uniform(0.5, 4) * width / 240
        )
    zoom = np.exp(np.abs(0.08 * _smooth(rng, length, 40))) if style != "still" else np.ones(length)
    return _fold(rng.uniform(-0.7, 0.7, 2) * room + move, -room, room), zoom


def _company(rng, wanted: set[str], spec: Spec, who: tuple[str, int, int], target: Actor, camera: np.ndarray):
    """Other objects: some behind the target, look-alikes when asked for, and what passes in front."""
    (width, height), length = spec.size, spec.length
    kind, shape, paint = who
    front, behind = [], []
    alike = 3 if spec.split == "long" else int(rng.integers(2, 4)) if "BC" in wanted else int(rng.random() < 0.15)
    for i in range(alike + int(rng.choice([0, 0, 1, 2, 3]))):
        seeds = [int(n) for n in rng.integers(0, 1 << 30, 2)]
        if i < alike:
            same = shape if rng.random() < 0.6 else seeds[0]
            sprite = figures.build(kind, spec.split, same, paint, skins=2, likeness=rng.uniform(0.1, 0.5))
        else:
            other = kind if rng.random() < 0.5 else _pick(rng, _KINDS)
            sprite = figures.build(other, spec.split, *seeds, skins=2)
        tall = float(target.scale[0]) * target.sprite.extent[1] * rng.uniform(0.8, 1.15)
        scale = min(tall / sprite.extent[1], 0.5 * width / sprite.extent[0])
        path = rng.uniform([0, 0.25 * height], [width, height])
        path = path + _path(rng, length, width, str(rng.choice(["straight", "walk", "sway"])))
        path = path - (camera - camera[0]) * (rng.random() < 0.7)
        path = _fold(path, np.array([-0.15 * width, 0]), np.array([1.15 * width, height]))
        (front if i % 3 == 2 else behind).append(_extra(rng, sprite, path, np.full(length, scale)))
    if "OCC" in wanted:
        count = max(length // 150, int(rng.integers(1, 3)))
        for t in (np.arange(count) + rng.uniform(0.3, 0.8)) / count * length:
            front.append(_occluder(rng, spec, target, int(np.clip(t, min(8, length - 1), length - 1))))
    clear = 0.99 * coverage(target, [], 0, spec.size).sum()  # nothing hides the target in the first frame
    return [a for a in front if coverage(target, [a], 0, spec.size).sum() > clear], behind


def _extra(rng, sprite: Sprite, centre: np.ndarray, scale: np.ndarray) -> Actor:
    length = len(centre)
    sprite.resize(np.clip(scale.max(), 12, 160))
    phase = np.round(rng.uniform(0, 12) + rng.uniform(0.03, 0.1) * PHASES * np.arange(length)) % PHASES
    zero = np.zeros(length)
    return Actor(sprite, centre, scale, zero, phase, zero, zero, np.zeros((length, 2)), bool(rng.random() < 0.5))


def _occluder(rng, spec: Spec, target: Actor, t0: int) -> Actor:
    """Something that crosses the target in frame t0: a post, a wall, a bush or another object."""
    height, length = spec.size[1], spec.length
    extent = target.sprite.extent * target.scale[t0]
    style = rng.choice(["post", "panel", "object"])
    if style == "object":
        sprite = figures.build(
            str(rng.choice(list(figures.BUILDERS))), spec.split, *map(int, rng.integers(0, 1 << 30, 2))
        )
        scale = max(extent) / sprite.extent.max() * rng.uniform(0.9, 1.5)
        aim = target.centre[t0] + rng.uniform(-0.2, 0.2, 2) * extent
    else:
        wide = extent[0] * (rng.uniform(0.35, 0.8) if style == "post" else rng.uniform(0.8, 1.4))
        scale = float(height) * 1.6 if style == "post" else max(extent[1] * rng.uniform(0.7, 1.6), wide)
        shape = slab(-wide / scale / 2, -0.5, wide / scale / 2, 0.5, 0.05)
        wear = figures.Wardrobe(rng, spec.split)
        sprite = Sprite(style, [Part(shape, wear(kinds=range(10)))])
        aim = target.centre[t0] + np.array([0, rng.uniform(-0.1, 0.3) * extent[1]])
    clear = (extent[0] + sprite.extent[0] * scale) / 2 + abs(target.centre[t0, 0] - target.centre[0, 0]) + 6
    speed = rng.choice([-1, 1]) * max(clear / max(t0, 1), rng.uniform(0.8, 2.5) * spec.size[0] / 240)
    drift = (np.arange(length) - t0)[:, None] * np.array([speed, 0])
    return _extra(rng, sprite, aim + drift, np.full(length, scale))


def _light(rng, change: bool, spec: Spec, target: Actor):
    """Brightness of the scene over time, and a shadow's edge that sweeps over the target."""
    length, t = spec.length, np.arange(spec.length)
    gain = rng.uniform(0.8, 1.2) * np.exp(0.02 * _smooth(rng, length, 10))
    if not change:
        return gain, None
    style = rng.choice(["step", "ramp", "flicker", "shadow"])
    factor = rng.choice([0.45, 0.55, 1.7])
    if style == "step":
        return gain * np.where(t < rng.uniform(0.3, 0.7) * length, 1, factor), None
    if style == "ramp":
        return gain * factor ** np.clip(t / length * 1.3, 0, 1), None
    if style == "flicker":
        return gain * np.where(np.sin(t / rng.uniform(2, 5)) > 0.4, factor, 1), None
    a = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(a), np.sin(a)])
    soft = rng.uniform(2, 12)
    middle = target.centre @ normal
    sweep = middle + (t - rng.uniform(0.3, 0.6) * length) * rng.uniform(2, 5)
    return gain, Shadow(normal, sweep, soft, float(rng.uniform(0.4, 0.6)))
