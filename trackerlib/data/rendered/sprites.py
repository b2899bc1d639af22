"""Procedural objects: jointed figures of textured, shaded polygons, and their poses.

A sprite lives in its own coordinates: the origin at its centre, y down, about one unit tall. Each part hangs on a bone,
bones swing with the *phase* of the motion (a stride, a wing beat), and parts lie at depths of their own, so that a
*turn* about the vertical axis moves them against each other (flat things also grow narrow). A second skin lets the
appearance drift.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import textures as T

PHASES = 12  # poses a cycle
TURNS = 48  # poses a full turn
SKINS = 8  # steps from the first skin to the second


@dataclass(frozen=True)
class Bone:
    """Its parts turn about `pivot` by `swing * sin(2 pi (phase + lag)) + rest` radians, then follow `parent`."""

    pivot: tuple[float, float]
    swing: float = 0.0
    lag: float = 0.0
    rest: float = 0.0
    parent: int = -1


@dataclass(eq=False)
class Part:
    """A polygon `(N, 2)` covered by a material (or by a second one, of the other skin)."""

    points: np.ndarray
    skins: tuple[T.Material, ...]
    bone: int = -1
    z: float = 0.0
    round: float = 0.45  # how much darker its edges are


@dataclass(eq=False)
class Sprite:
    """Parts from back to front. `wave`: amplitude and waves a unit of a non-rigid undulation; `solid`: parts keep their
    width when they turn away."""

    kind: str
    parts: list[Part]
    bones: list[Bone] = field(default_factory=list)
    wave: tuple[float, float] = (0.0, 0.0)
    solid: bool = False
    light: tuple[float, float] = (0.3, -0.5)
    pixels: float = 96.0  # pixels a unit of the painted poses
    _skins: dict = field(default_factory=dict, repr=False)
    _poses: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.strip()
        spread = np.concatenate([np.concatenate(self.outlines(p, 0)) for p in range(0, PHASES, 2)])
        deep = max(abs(part.z) for part in self.parts)
        self.half = np.abs(spread).max(0) + np.array([deep, 0]) + 2 / self.pixels
        self.canvas = tuple(int(n) for n in np.ceil(2 * self.half * self.pixels))  # w, h
        self.extent = spread.max(0) - spread.min(0)

    def outlines(self, phase: int, turn: int) -> list[np.ndarray]:
        """Each part's polygon in the pose."""
        angle, (cos, sin) = phase / PHASES, _turn(turn)
        posed = []
        for part in self.parts:
            points = part.points
            if self.wave[0]:
                along = points[:, 1] if self.wave[1] > 0 else points[:, 0]
                shift = self.wave[0] * np.sin(2 * np.pi * (abs(self.wave[1]) * along + angle))
                points = points + (
                    np.stack([shift, 0 * shift], 1) if self.wave[1] > 0 else np.stack([0 * shift, shift], 1)
                )
            matrix = self._bone(part.bone, angle)
            points = points @ matrix[:, :2].T + matrix[:, 2]
            across = points[:, 0] * cos if not self.solid else points[:, 0] + points[:, 0].mean() * (cos - 1)
            posed.append(np.stack([across + part.z * sin, points[:, 1]], 1))
        return posed

    def alpha(self, phase: int, turn: int) -> np.ndarray:
        """`(h, w)` uint8 coverage of a pose on the canvas."""
        key = phase % PHASES, turn % TURNS
        if key not in self._poses:
            clear = np.ones(self.canvas[::-1], np.float32)
            for points in self.outlines(*key):
                clear *= 1 - T.polygon_mask((points + self.half) * self.pixels, *self.canvas)
            self._poses[key] = np.round(255 - 255 * clear).astype(np.uint8)
        return self._poses[key]

    def paint(self, phase: int, turn: int = 0, skin: int = 0) -> np.ndarray:
        """`(h, w, 4)` uint8 of a pose: colours times coverage, and coverage."""
        key = phase % PHASES, turn % TURNS, skin
        if key not in self._poses:
            canvas = np.zeros((*self.canvas[::-1], 3), np.float32)
            cos, sin = _turn(turn)
            for part, points in zip(self.parts, self.outlines(phase, turn), strict=True):
                self._lay(canvas, part, points, self._bone(part.bone, phase / PHASES), (cos, sin), skin)
            alpha = self.alpha(phase, turn).astype(np.float32) / 255
            soft = cv2.GaussianBlur(alpha, (0, 0), 0.09 * self.pixels)
            dx, dy = self.light
            glow = dx * cv2.Sobel(soft, cv2.CV_32F, 1, 0) + dy * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
            canvas *= (1 - 0.35 * self.pixels / 12 * glow)[..., None].clip(0.45, 1.6)
            colours = np.round(canvas.clip(0, 255) * alpha[..., None]).astype(np.uint8)
            self._poses[key] = np.dstack([colours, self.alpha(phase, turn)])
        return self._poses[key]

    def resize(self, pixels: float) -> None:
        """Paint the poses at `pixels` a unit from now on."""
        self.pixels = float(pixels)
        self.__post_init__()

    def strip(self) -> None:
        """Forget what is painted (the parts have other materials now)."""
        self._skins.clear()
        self._poses.clear()

    def _lay(self, canvas, part, points, bone, turn, skin) -> None:
        points = (points + self.half) * self.pixels
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 2, self.canvas)
        if x0 >= x1 or y0 >= y1:
            return
        mask = T.polygon_mask(points - (x0, y0), x1 - x0, y1 - y0)
        texture = self._texture(part, skin)
        # rest pixels -> rest units -> bone -> turn -> canvas pixels of the region; a solid part is led by its middle
        narrow = 1.0 if self.solid else turn[0] if abs(turn[0]) > 0.05 else 0.05
        linear = np.diag([narrow, 1.0]) @ bone[:, :2]
        middle = np.array([texture.shape[1], texture.shape[0]]) / 2
        target = points.mean(0) - (x0, y0)
        matrix = np.column_stack([linear, target - linear @ middle])
        cover = cv2.warpAffine(texture, matrix, (int(x1 - x0), int(y1 - y0)), borderMode=cv2.BORDER_REPLICATE)
        dim = cv2.blur(mask, (2 * int(self.pixels / 40) + 3,) * 2) * 0.5  # the part's own shadow on those behind it
        canvas[y0:y1, x0:x1] *= 1 - dim[..., None]
        T.blend(canvas, cover, mask, int(x0), int(y0))

    def _texture(self, part: Part, skin: int) -> np.ndarray:
        """The part's surface at rest `(h, w, 3)` float32, darker towards its sides."""
        key = id(part), skin
        if key not in self._skins:
            low, high = part.points.min(0), part.points.max(0)
            width, height = (int(n) + 4 for n in np.ceil((high - low) * self.pixels))
            image = part.skins[0].paint(width, height)
            if skin and len(part.skins) > 1:
                image += (part.skins[1].paint(width, height) - image) * (skin / SKINS)
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            narrow, wide = (x, y) if width < height else (y, x)
            image *= (1 + 0.12 * part.round - part.round * (narrow**4 + 0.4 * wide**4))[..., None]
            self._skins[key] = image
        return self._skins[key]

    def _bone(self, index: int, angle: float) -> np.ndarray:
        """`(2, 3)` transform of the bone's parts."""
        matrix = np.eye(2, 3)
        while index >= 0:
            bone = self.bones[index]
            a = bone.rest + bone.swing * np.sin(2 * np.pi * (angle + bone.lag))
            rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
            shift = np.asarray(bone.pivot) - rotation @ bone.pivot
            matrix = np.column_stack([rotation @ matrix[:, :2], rotation @ matrix[:, 2] + shift])
            index = bone.parent
        return matrix


def _turn(turn: int) -> tuple[float, float]:
    angle = 2 * np.pi * turn / TURNS
    return float(np.cos(angle)), float(np.sin(angle))


def oval(x: float, y: float, rx: float, ry: float, count: int = 24) -> np.ndarray:
    a = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + rx * np.cos(a), y + ry * np.sin(a)], 1)


def slab(x0: float, y0: float, x1: float, y1: float, corner: float = 0.25) -> np.ndarray:
    """A rectangle with rounded corners (a superellipse)."""
    a = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    c, s = np.cos(a), np.sin(a)
    shape = np.stack([np.sign(c) * abs(c) ** corner, np.sign(s) * abs(s) ** corner], 1)
    return shape * [(x1 - x0) / 2, (y1 - y0) / 2] + [(x0 + x1) / 2, (y0 + y1) / 2]


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> np.ndarray:
    """A tapered capsule from one joint to the next."""
    a = np.linspace(0, np.pi, 7)
    along = np.arctan2(y1 - y0, x1 - x0)
    start = np.stack([x0 + w0 / 2 * np.cos(along + np.pi / 2 + a), y0 + w0 / 2 * np.sin(along + np.pi / 2 + a)], 1)
    end = np.stack([x1 + w1 / 2 * np.cos(along - np.pi / 2 + a), y1 + w1 / 2 * np.sin(along - np.pi / 2 + a)], 1)
    return np.concatenate([start, end])
