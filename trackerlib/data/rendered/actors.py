"""An object on its way through the frame: its patch, its smear, its shadow, and what it hides."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .sprites import Sprite


@dataclass(eq=False)
class Actor:
    """An object and its track in the frame: everything `(T, ...)`."""

    sprite: Sprite
    centre: np.ndarray  # (T, 2) of the sprite's origin, frame pixels
    scale: np.ndarray  # (T,) frame pixels a unit
    angle: np.ndarray  # (T,) radians in the plane
    phase: np.ndarray  # (T,) pose numbers
    turn: np.ndarray
    skin: np.ndarray
    smear: np.ndarray  # (T, 2) path during the exposure, frame pixels
    flip: bool = False

    def at(self, t: int, painted: bool = True, sharp: bool = True) -> tuple[np.ndarray, int, int] | None:
        """The object alone in frame t: `(h, w, 4)` uint8 premultiplied colours and coverage (or `(h, w)` coverage), and
        where the patch's upper-left corner lies. `sharp=False` adds the smear of its motion."""
        pose = int(self.phase[t]), int(self.turn[t])
        image = self.sprite.paint(*pose, int(self.skin[t])) if painted else self.sprite.alpha(*pose)
        zoom = float(self.scale[t]) / self.sprite.pixels
        height, width = image.shape[:2]
        if zoom < 0.75:  # area averaging first: a bilinear warp alone would alias
            size = max(round(width * zoom), 2), max(round(height * zoom), 2)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sx, sy = width * zoom / image.shape[1], height * zoom / image.shape[0]
        cos, sin = np.cos(self.angle[t]), np.sin(self.angle[t])
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-sx if self.flip else sx, sy])
        middle = np.array([image.shape[1], image.shape[0]]) / 2
        reach = np.abs(linear) @ middle + 1 + (0 if sharp else np.abs(self.smear[t]) / 2)
        corner = np.floor(self.centre[t] - reach).astype(int)
        size = np.ceil(self.centre[t] + reach).astype(int) - corner
        matrix = np.column_stack([linear, self.centre[t] - corner - linear @ (middle - 0.5) - 0.5])
        patch = cv2.warpAffine(image, matrix, (int(size[0]), int(size[1])))
        if not sharp and np.hypot(*self.smear[t]) >= 1:
            patch = cv2.filter2D(patch, -1, smear_kernel(self.smear[t]), borderType=cv2.BORDER_CONSTANT)
        return patch, int(corner[0]), int(corner[1])

    def shadow(self, t: int, sun: tuple[float, float]) -> tuple[np.ndarray, int, int]:
        """Its cast shadow on the ground in frame t: coverage `(h, w)` uint8 and where it lies. sun: slant, length."""
        image = self.sprite.alpha(int(self.phase[t]), int(self.turn[t]))
        zoom = float(self.scale[t]) / self.sprite.pixels
        foot = self.centre[t] + [0, 0.5 * self.sprite.extent[1] * self.scale[t]]
        height, width = image.shape
        low = height / 2 + 0.5 * self.sprite.extent[1] * self.sprite.pixels  # row of the feet
        linear = np.array([[-zoom if self.flip else zoom, sun[0] * zoom], [0, sun[1] * zoom]])
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - [width / 2, low]
        spread = corners @ linear.T
        corner = np.floor(foot + spread.min(0)).astype(int)
        size = np.ceil(foot + spread.max(0)).astype(int) - corner + 1
        matrix = np.column_stack([linear, foot - corner - linear @ [width / 2 - 0.5, low - 0.5] - 0.5])
        return cv2.warpAffine(image, matrix, (int(size[0]), int(size[1]))), int(corner[0]), int(corner[1])


def smear_kernel(path: np.ndarray) -> np.ndarray:
    """Kernel of a straight, even motion along `path` (dx, dy)."""
    reach = np.ceil(np.abs(path) / 2).astype(int)
    kernel = np.zeros((2 * reach[1] + 1, 2 * reach[0] + 1), np.float32)
    for s in np.linspace(-0.5, 0.5, 4 * int(np.hypot(*path)) + 5):
        x, y = reach + s * path
        x0, y0 = min(int(x), 2 * reach[0]), min(int(y), 2 * reach[1])
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - abs(x - x0 - i)) * (1 - abs(y - y0 - j))
            if weight > 0 and x0 + i < kernel.shape[1] and y0 + j < kernel.shape[0]:
                kernel[y0 + j, x0 + i] += weight
    return kernel / kernel.sum()


def coverage(target: Actor, front: list[Actor], t: int, size, sharp: bool = True) -> np.ndarray:
    """`(H, W)` float32 share of the target in each pixel of the frame, less what stands in front."""
    width, height = size
    canvas = np.zeros((height, width), np.float32)
    patch, x, y = target.at(t, painted=False, sharp=sharp)
    part = cut(patch, x, y, width, height)
    if part is None:
        return canvas
    patch, x, y = part
    view = canvas[y : y + patch.shape[0], x : x + patch.shape[1]]
    view[:] = patch.astype(np.float32) / 255
    for actor in front:
        other, ox, oy = actor.at(t, painted=False, sharp=sharp)
        part = cut(other, ox - x, oy - y, patch.shape[1], patch.shape[0])
        if part is not None:
            other, ox, oy = part
            view[oy : oy + other.shape[0], ox : ox + other.shape[1]] *= 1 - other.astype(np.float32) / 255
    return canvas


def cut(patch: np.ndarray, x: int, y: int, width: int, height: int):
    """The part of a patch at (x, y) inside the frame and where it lies; None when there is none."""
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + patch.shape[1], width), min(y + patch.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return None
    return patch[y0 - y : y1 - y, x0 - x : x1 - x], x0, y0
