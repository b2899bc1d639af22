"""Procedural objects: jointed figures of textured, shaded polygons, their poses, and their way through the frame.

A sprite lives in its own coordinates: the origin at its centre, y down, about one unit tall. Each part hangs on a bone,
bones swing with the *phase* of the motion (a stride, a wing beat), and parts lie at depths of their own, so that a
*turn* about the vertical axis moves them against each other (flat things also grow narrow). A second skin lets the
appearance drift."""

from dataclasses import dataclass

import cv2
import numpy as np

from . import textures as T

PHASES = 12  # poses a cycle
TURNS = 48  # poses a full turn
SKINS = 8  # steps from the first skin to the second
LIGHT = (0.3, -0.5)  # where the light on the objects comes from

Skins = tuple[T.Material, ...]
Patch = tuple[np.ndarray, int, int]  # pixels, and the frame coordinates of their upper-left corner


@dataclass(frozen=True)
class Bone:
    """Its parts turn about `pivot` by `swing * sin(2 pi (phase + lag)) + rest` radians, then follow `parent`."""

    pivot: tuple[float, float] | np.ndarray
    swing: float = 0.0
    lag: float = 0.0
    rest: float = 0.0
    parent: int = -1


@dataclass(eq=False)
class Part:
    """A polygon `(N, 2)` covered by a material (or by a second one, of the other skin)."""

    points: np.ndarray
    skins: Skins
    bone: int = -1
    z: float = 0.0
    round: float = 0.45  # how much darker its edges are


@dataclass(eq=False)
class Sprite:
    """Parts from back to front."""

    kind: str
    parts: list[Part]
    bones: list[Bone] | tuple = ()
    wave: tuple[float, float] = (0.0, 0.0)  # amplitude and waves a unit of a non-rigid undulation
    solid: bool = False  # parts keep their width when they turn away

    def __post_init__(self):
        self.resize(96)

    def resize(self, pixels: float) -> None:
        """Paint the poses at `pixels` a unit from now on, and anew: the parts may have other materials."""
        self.pixels, self._textures, self._poses = float(pixels), {}, {}
        corners = np.concatenate([points for p in range(0, PHASES, 2) for points in self.outlines(p, 0)])
        self.extent, self.middle = np.ptp(corners, 0), (corners.max(0) + corners.min(0)) / 2
        deep = max(abs(part.z) for part in self.parts)
        self.half = np.abs(corners).max(0) + np.array([deep, 0]) + 2 / self.pixels
        self.canvas = tuple(int(n) for n in np.ceil(2 * self.half * self.pixels))  # w, h

    def outlines(self, phase: int, turn: int) -> list[np.ndarray]:
        """Each part's polygon in the pose."""
        angle, cos, sin = phase / PHASES, *rotation(2 * np.pi * turn / TURNS)[:, 0]
        (amplitude, waves), posed = self.wave, []
        pushed = 0 if waves > 0 else 1  # waves that run down the figure push it sideways, others up and down
        for part in self.parts:
            points = part.points.copy()
            if amplitude:
                points[:, pushed] += amplitude * np.sin(2 * np.pi * (abs(waves) * points[:, 1 - pushed] + angle))
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
            for part, points in zip(self.parts, self.outlines(phase, turn), strict=True):
                self._lay(canvas, part, (points + self.half) * self.pixels, phase, turn, skin)
            alpha = self.alpha(phase, turn).astype(np.float32) / 255
            soft = cv2.GaussianBlur(alpha, (0, 0), 0.09 * self.pixels)
            glow = LIGHT[0] * cv2.Sobel(soft, cv2.CV_32F, 1, 0) + LIGHT[1] * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
            canvas *= (1 - 0.35 * self.pixels / 12 * glow)[..., None].clip(0.45, 1.6)
            colours = np.round(canvas.clip(0, 255) * alpha[..., None]).astype(np.uint8)
            self._poses[key] = np.dstack([colours, self.alpha(phase, turn)])
        return self._poses[key]

    def _lay(self, canvas: np.ndarray, part: Part, points: np.ndarray, phase: int, turn: int, skin: int) -> None:
        """Paint a part with its corners at `points` of the canvas, and its shadow on the parts behind it."""
        if (placed := T.stencil(points, *self.canvas)) is None:
            return
        (mask, x, y), texture, cos = placed, self._texture(part, skin), np.cos(2 * np.pi * turn / TURNS)
        narrow = 1.0 if self.solid else cos if abs(cos) > 0.05 else 0.05
        linear = np.diag([narrow, 1.0]) @ self._bone(part.bone, phase / PHASES)[:, :2]
        middle = np.array(texture.shape[1::-1]) / 2
        matrix = np.column_stack([linear, points.mean(0) - (x, y) - linear @ middle])
        cover = cv2.warpAffine(texture, matrix, mask.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        dim = cv2.blur(mask, (2 * int(self.pixels / 40) + 3,) * 2) * 0.5
        view, _ = T.overlap(canvas, mask, x, y)
        view *= 1 - dim[..., None]
        T.blend(canvas, cover, mask, x, y)

    def _texture(self, part: Part, skin: int) -> np.ndarray:
        """The part's surface at rest `(h, w, 3)` float32, darker towards its sides."""
        key = id(part), skin
        if key not in self._textures:
            width, height = (int(n) + 4 for n in np.ceil(np.ptp(part.points, 0) * self.pixels))
            image = part.skins[0].paint(width, height)
            if skin and len(part.skins) > 1:
                image += (part.skins[1].paint(width, height) - image) * (skin / SKINS)
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            narrow, wide = (x, y) if width < height else (y, x)
            image *= (1 + 0.12 * part.round - part.round * (narrow**4 + 0.4 * wide**4))[..., None]
            self._textures[key] = image
        return self._textures[key]

    def _bone(self, index: int, angle: float) -> np.ndarray:
        """`(2, 3)` transform of the bone's parts."""
        matrix = np.eye(2, 3)
        while index >= 0:
            bone = self.bones[index]
            turned = rotation(bone.rest + bone.swing * np.sin(2 * np.pi * (angle + bone.lag)))
            shift = bone.pivot - turned @ bone.pivot
            matrix = np.column_stack([turned @ matrix[:, :2], turned @ matrix[:, 2] + shift])
            index = bone.parent
        return matrix


@dataclass(eq=False)
class Actor:
    """An object and its track in the frame: everything `(T, ...)`."""

    sprite: Sprite
    centre: np.ndarray  # (T, 2) of the sprite's origin, frame pixels
    scale: np.ndarray  # frame pixels a unit
    angle: np.ndarray  # radians in the plane
    phase: np.ndarray  # pose numbers: of the motion, of the turn
    turn: np.ndarray
    skin: np.ndarray  # 0 .. SKINS
    flip: bool
    smear: np.ndarray | None = None  # (T, 2) path during the exposure, frame pixels

    def at(self, t: int, painted: bool = True, sharp: bool = True) -> Patch:
        """The object alone in frame t: `(h, w, 4)` uint8 premultiplied colours and coverage, or, if not `painted`, its
        `(h, w)` coverage. `sharp=False` adds the smear of its motion."""
        pose = int(self.phase[t]), int(self.turn[t])
        image = self.sprite.paint(*pose, int(self.skin[t])) if painted else self.sprite.alpha(*pose)
        zoom = self.scale[t] / self.sprite.pixels
        whole = np.array(image.shape[1::-1]) * zoom
        if zoom < 0.75:  # area averaging first: a bilinear warp alone would alias
            image = cv2.resize(image, tuple(max(round(n), 2) for n in whole), interpolation=cv2.INTER_AREA)
        size = np.array(image.shape[1::-1])
        linear = rotation(self.angle[t]) @ np.diag(whole / size * [-1 if self.flip else 1, 1])
        reach = np.abs(linear) @ (size / 2) + 1 + (0 if sharp else np.abs(self.smear[t]) / 2)
        patch, x, y = _warped(image, linear, size / 2, self.centre[t], -reach, reach)
        return (patch if sharp else smeared(patch, self.smear[t], cv2.BORDER_CONSTANT)), x, y

    def shadow(self, t: int, slant: float, length: float) -> Patch:
        """Its cast shadow on the ground in frame t, `(h, w)` uint8 coverage."""
        image = self.sprite.alpha(int(self.phase[t]), int(self.turn[t]))
        zoom, below = self.scale[t] / self.sprite.pixels, 0.5 * self.sprite.extent[1]  # from the middle to the feet
        height, width = image.shape
        pivot = np.array([width / 2, height / 2 + below * self.sprite.pixels])
        linear = np.array([[-zoom if self.flip else zoom, slant * zoom], [0, length * zoom]])
        corners = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - pivot) @ linear.T
        foot = self.centre[t] + [0, below * self.scale[t]]
        return _warped(image, linear, pivot, foot, corners.min(0), corners.max(0) + 1)


def _warped(image, linear: np.ndarray, pivot, place: np.ndarray, low: np.ndarray, high: np.ndarray) -> Patch:
    """`image` turned and scaled by `linear`, its point `pivot` at `place`, in a patch from place + low to + high."""
    corner = np.floor(place + low).astype(int)
    size = np.ceil(place + high).astype(int) - corner
    matrix = np.column_stack([linear, place - corner - linear @ (pivot - 0.5) - 0.5])
    return cv2.warpAffine(image, matrix, size.tolist()), *corner.tolist()


def smeared(image: np.ndarray, path: np.ndarray, border: int = cv2.BORDER_DEFAULT) -> np.ndarray:
    """The image after a straight, even motion along `path` (dx, dy) during the exposure."""
    if np.hypot(*path) < 1:
        return image
    reach = np.ceil(np.abs(path) / 2).astype(int)
    kernel = np.zeros((2 * reach + 2)[::-1], np.float32)
    for s in np.linspace(-0.5, 0.5, 4 * int(np.hypot(*path)) + 5):
        x, y = reach + s * path
        i, j = int(x) + np.arange(2), int(y) + np.arange(2)  # a point is shared by the four pixels about it
        kernel[j[0] : j[0] + 2, i[0] : i[0] + 2] += np.outer(1 - abs(y - j), 1 - abs(x - i))
    kernel = np.ascontiguousarray(kernel[:-1, :-1])
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=border)


def coverage(target: Actor, front: list[Actor], t: int, size: tuple[int, int], sharp: bool = True) -> np.ndarray:
    """`(H, W)` float32 share of the target in each pixel of the frame, less what stands in front."""
    canvas = np.zeros(size[::-1], np.float32)
    view, part = T.overlap(canvas, *target.at(t, painted=False, sharp=sharp))
    view[:] = part.astype(np.float32) / 255
    for actor in front if view.size else ():
        view, part = T.overlap(canvas, *actor.at(t, painted=False, sharp=sharp))
        view *= 1 - part.astype(np.float32) / 255
    return canvas


def rotation(angle: float) -> np.ndarray:
    """`(2, 2)`, clockwise in the image."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def oval(x: float, y: float, rx: float, ry: float, count: int = 24) -> np.ndarray:
    a = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + rx * np.cos(a), y + ry * np.sin(a)], 1)


def slab(x0: float, y0: float, x1: float, y1: float, corner: float = 0.25) -> np.ndarray:
    """A rectangle with rounded corners (a superellipse)."""
    circle = oval(0, 0, 1, 1, 28)
    shape = np.sign(circle) * np.abs(circle) ** corner
    return shape * [(x1 - x0) / 2, (y1 - y0) / 2] + [(x0 + x1) / 2, (y0 + y1) / 2]


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> np.ndarray:
    """A tapered capsule from one joint to the next."""
    along, a = np.arctan2(y1 - y0, x1 - x0), np.linspace(0, np.pi, 7)
    caps = (x0, y0, w0, along + np.pi / 2 + a), (x1, y1, w1, along - np.pi / 2 + a)
    return np.concatenate([np.stack([x + w / 2 * np.cos(b), y + w / 2 * np.sin(b)], 1) for x, y, w, b in caps])


def shard(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """A polygon of low to high - 1 corners on the unit circle."""
    a = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(low, high))))
    return np.stack([np.cos(a), np.sin(a)], 1)
