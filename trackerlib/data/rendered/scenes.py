"""Procedural places: the still world, larger than the frame, in which the objects of `rendered` move.

Each layout paints back to front: sky, what stands on the horizon, ground, clutter.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import figures as F
from . import sprites as S
from . import textures as T
from .textures import SURFACES


class Painter:
    """A canvas of one size, and the stream of random numbers and the split whose tiles it paints with."""

    def __init__(self, rng: np.random.Generator, split: str, width: int, height: int):
        self.rng, self.split, self.width, self.height = rng, split, width, height
        self.unit = height / 240  # what is 1 px in a world of 240 rows
        self.canvas = np.zeros((height, width, 3), np.float32)
        self.used: list[np.ndarray] = []  # colours of large surfaces: what a camouflaged target would wear

    def surface(
        self, name, contrast=(0.04, 0.2), kinds=T.NOISES, scale=(0.5, 2.5), spread=0.15, keep=True
    ) -> T.Material:
        """A material near a named colour (or near a given one)."""
        colour = SURFACES[name] if isinstance(name, str) else name
        low, high = (s / self.unit for s in scale)
        material = T.Material.draw(self.rng, self.split, colour, contrast, kinds, (low, high), spread)
        if keep:
            self.used.append(material.colour)
        return material

    def rows(self, material: T.Material, y0: float, y1: float, horizon: float | None = None) -> None:
        """Paint whole rows; as a ground plane when a horizon is given."""
        y0, y1 = int(max(y0, 0)), int(min(y1, self.height))
        if y1 > y0:
            at = None if horizon is None else horizon - y0
            self.canvas[y0:y1] = material.paint(self.width, y1 - y0, at)

    def block(self, material: T.Material, points, light: float = 1.0) -> None:
        """Fill a polygon with a material."""
        points = np.asarray(points, np.float64)
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 2, (self.width, self.height))
        if x1 <= x0 or y1 <= y0:
            return
        mask = T.polygon_mask(points - (x0, y0), int(x1 - x0), int(y1 - y0))
        T.blend(self.canvas, material.paint(int(x1 - x0), int(y1 - y0)) * light, mask, int(x0), int(y0))

    def blob(
        self, material: T.Material, x: float, y: float, w: float, h: float, rough: float = 0.6, shade: float = 0.3
    ) -> None:
        """A ragged blob about (x, y), lit from above."""
        w, h = max(int(w), 4), max(int(h), 4)
        mask = T.ragged(self.rng, self.split, w, h, rough)
        image = material.paint(w, h) * np.linspace(1 + shade, 1 - shade, h, dtype=np.float32)[:, None, None]
        T.blend(self.canvas, image, mask, int(x - w / 2), int(y - h / 2))

    def sky(self, bottom: float) -> None:
        rng, colour = self.rng, T.jitter(self.rng, SURFACES[self.rng.choice(["sky", "overcast"])], 0.12)
        ramp = np.linspace(rng.uniform(0.75, 1), rng.uniform(1, 1.15), max(int(bottom), 1), dtype=np.float32)
        self.canvas[: int(bottom)] = np.minimum(colour * ramp[:, None, None], 252)
        cloud = self.surface("overcast", (0, 0.06), [0], (0.3, 1), 0.06, keep=False)
        for _ in range(int(rng.integers(0, 5))):
            size = rng.uniform(60, 220) * self.unit
            self.blob(cloud, rng.uniform(0, self.width), rng.uniform(0, bottom * 0.8), size, size * 0.3, 1.2, 0.05)

    def tree(self, x: float, foot: float, size: float) -> None:
        rng = self.rng
        trunk = self.surface("wood", (0.1, 0.3), [2], (1, 3), 0.3, keep=False)
        w = size * rng.uniform(0.05, 0.1)
        self.block(
            trunk,
            [(x - w / 2, foot - size * 0.6), (x + w / 2, foot - size * 0.6), (x + w * 0.7, foot), (x - w * 0.7, foot)],
        )
        leaf = self.surface(
            rng.choice(["foliage", "foliage", "grass", "dry grass"]), (0.25, 0.5), [1, 4, 6], (1, 3), 0.25, keep=False
        )
        for _ in range(int(rng.integers(2, 6))):
            s = size * rng.uniform(0.4, 0.8)
            self.blob(
                leaf,
                x + rng.normal(0, 0.14) * size,
                foot - size * rng.uniform(0.55, 0.95),
                s,
                s * rng.uniform(0.6, 1),
                1.2,
                0.45,
            )

    def building(self, x0: float, x1: float, top: float, foot: float) -> None:
        """A facade with a grid of windows, some lit or open, perhaps shops below and a roof above."""
        rng = self.rng
        wall = self.surface(
            rng.choice(["brick", "plaster", "concrete", "paving", "wall"]), (0.03, 0.18), [0, 1, 7, 7], (0.8, 3), 0.2
        )
        self.block(wall, [(x0, top), (x1, top), (x1, foot), (x0, foot)], rng.uniform(0.7, 1.1))
        cw, ch = (rng.uniform(10, 30, 2) * self.unit).astype(float)
        ww, wh = cw * rng.uniform(0.35, 0.75), ch * rng.uniform(0.4, 0.8)
        pane = T.jitter(rng, rng.choice([[40, 46, 54], [90, 104, 116], [160, 170, 178]]), 0.2)
        frame = T.jitter(rng, wall.colour * rng.choice([0.6, 1.25]), 0.05)
        for y in np.arange(top + ch * 0.5, foot - ch * 0.6, ch):
            for x in np.arange(x0 + cw * 0.3, x1 - ww, cw):
                tone = pane * np.exp(rng.normal(0, 0.25))
                T.fill(self.canvas, S.slab(x - 1, y - 1, x + ww + 1, y + wh + 1, 0.02), frame)
                T.fill(self.canvas, S.slab(x, y, x + ww, y + wh, 0.02), tone)
        if rng.random() < 0.5:
            roof = self.surface("roof", (0.05, 0.2), [7, 8], (1, 3))
            lean = rng.uniform(0, 0.2) * (x1 - x0)
            self.block(roof, [(x0 - 3, top), (x0 + lean, top - ch), (x1 - lean, top - ch), (x1 + 3, top)])

    def thing(self, kinds, x: float, foot: float, size: float) -> None:
        """A still object that stands at (x, foot), `size` px tall, with a shadow under it."""
        rng = self.rng
        sprite = F.build(str(rng.choice(kinds)), self.split, int(rng.integers(1 << 30)), int(rng.integers(1 << 30)))
        sprite.resize(max(size / sprite.extent[1], 8.0))
        rgba = sprite.paint(int(rng.integers(S.PHASES)))[:, :: int(rng.choice([-1, 1]))].astype(np.float32)
        h, w = rgba.shape[:2]
        shadow = T.polygon_mask(S.oval(w * 0.55, h * 0.14, w * 0.45, h * 0.1), w + 4, int(h * 0.3) + 2)
        T.blend(
            self.canvas, np.float32([22, 22, 24]), cv2.blur(shadow, (5, 3)) * 0.5, int(x - w / 2), int(foot - h * 0.2)
        )
        cover = rgba[..., 3] / 255
        T.blend(self.canvas, rgba[..., :3] / np.maximum(cover, 0.02)[..., None], cover, int(x - w / 2), int(foot - h))


def street(p: Painter) -> None:
    """A road between buildings and trees, with marks, kerbs, parked cars and posts."""
    rng, u = p.rng, p.unit
    horizon = p.height * rng.uniform(0.2, 0.42)
    p.sky(horizon + 2)
    far = p.surface(rng.choice(["foliage", "concrete", "grass"]), (0.15, 0.4), [1, 4], (1, 3), keep=False)
    p.rows(far, horizon - rng.uniform(2, 14) * u, horizon + 2)
    x = -rng.uniform(0, 60) * u
    while x < p.width:
        w = rng.uniform(50, 170) * u
        if rng.random() < 0.7:
            p.building(x, x + w, horizon - rng.uniform(20, 110) * u, horizon + 16 * u)
        x += w + rng.choice([0, rng.uniform(5, 50)]) * u
    for _ in range(int(rng.integers(0, 8))):
        p.tree(rng.uniform(0, p.width), horizon + rng.uniform(4, 18) * u, rng.uniform(40, 120) * u)
    walk = horizon + rng.uniform(8, 26) * u
    p.rows(
        p.surface(rng.choice(["paving", "concrete", "grass", "soil"]), (0.04, 0.2), [1, 5, 6, 7]),
        horizon,
        walk + 40 * u,
        horizon - 6 * u,
    )
    p.rows(p.surface("asphalt", (0.04, 0.18), [1, 0, 6], (1, 3)), walk, p.height, horizon)
    kerb = p.surface("concrete", (0.02, 0.1), keep=False)
    p.rows(kerb, walk, walk + rng.uniform(2, 5) * u)
    paint = T.jitter(rng, (210, 208, 196), 0.1)
    gone = np.array([rng.uniform(0, 1) * p.width, horizon - 4])
    for x in rng.uniform(-1, 2, 3) * p.width:
        dashed = rng.random() < 0.6
        ts = np.geomspace(0.15, 1, 9)
        for t0, t1 in zip(ts[:-1:2], ts[1::2] if dashed else ts[2::2], strict=False):
            a, b = (gone + t * (np.array([x, p.height]) - gone) for t in (t0, t1))
            if min(a[1], b[1]) > walk + 6 * u:
                near, far = np.array([4 * t1 * u, 0]), np.array([4 * t0 * u, 0])
                T.fill(p.canvas, [a - far, a + far, b + near, b - near], paint)
    if rng.random() < 0.3:
        y = rng.uniform(walk + 20 * u, p.height * 0.85)
        for x in np.arange(0, p.width, 18 * u):
            T.fill(p.canvas, [(x, y), (x + 9 * u, y), (x + 14 * u, y + 22 * u), (x + 4 * u, y + 22 * u)], paint)
    for _ in range(int(rng.integers(0, 7))):
        p.thing(
            ["car", "car", "person", "rider"],
            rng.uniform(0, p.width),
            walk + rng.uniform(-4, 12) * u,
            rng.uniform(18, 34) * u,
        )
    for _ in range(int(rng.integers(0, 4))):
        x, w, metal = rng.uniform(0, p.width), rng.uniform(2, 7) * u, p.surface("metal", keep=False)
        p.block(metal, S.slab(x, horizon - rng.uniform(20, 120) * u, x + w, walk + rng.uniform(-4, 40) * u, 0.05))


def field(p: Painter) -> None:
    """Meadow, beach, hill or desert up to a horizon of trees, rocks or hills."""
    rng, u = p.rng, p.unit
    horizon = p.height * rng.choice([rng.uniform(-0.2, 0.05), rng.uniform(0.15, 0.4)])
    p.sky(max(horizon, 1))
    ground, second = (
        rng.choice(["grass", "dry grass", "sand", "soil", "snow", "paving", "asphalt"]),
        rng.choice(["soil", "grass", "sand", "rock"]),
    )
    if horizon > 0 and rng.random() < 0.7:
        hill = p.surface(rng.choice(["foliage", "rock", "grass"]), (0.1, 0.35), [1, 4, 6], (1, 3))
        for _ in range(int(rng.integers(2, 14))):
            w = rng.uniform(40, 240) * u
            p.blob(hill, rng.uniform(0, p.width), horizon, w, rng.uniform(16, 80) * u, 0.9, 0.35)
    p.rows(
        p.surface(ground, (0.08, 0.26), [0, 1, 1, 6], (1, 4)),
        max(horizon, 0),
        p.height,
        min(horizon, -10) if horizon < 0 else horizon - 3,
    )
    patch = p.surface(second, (0.08, 0.25), [0, 1, 6], (1, 3))
    for _ in range(int(rng.integers(0, 7))):
        y = rng.uniform(max(horizon, 0) + 10 * u, p.height)
        w = rng.uniform(40, 260) * u * (0.4 + y / p.height)
        p.blob(patch, rng.uniform(0, p.width), y, w, w * rng.uniform(0.1, 0.35), 1.5, 0.0)
    if rng.random() < 0.4:
        x0, x1, w = *rng.uniform(-0.2, 1.2, 2), rng.uniform(0.05, 0.3)
        band = np.array([[x0, max(horizon, 0)], [x0 + w * 0.2, max(horizon, 0)], [x1 + w, p.height], [x1, p.height]])
        p.block(p.surface(rng.choice(["soil", "asphalt", "sand", "paving"])), band * [p.width, 1])
    for _ in range(int(rng.integers(0, 7))):
        y = rng.uniform(max(horizon, 0) + 8 * u, p.height)
        size = rng.uniform(10, 46) * u
        if rng.random() < 0.5:
            rock = p.surface(rng.choice(["rock", "foliage", "dry grass"]), (0.15, 0.4), [1, 4, 5], (1, 3), keep=False)
            p.blob(rock, rng.uniform(0, p.width), y, size * 1.5, size, 0.9, 0.4)
        else:
            p.thing(list(F.BUILDERS), rng.uniform(0, p.width), y, size)
    for _ in range(int(rng.integers(0, 3))):
        p.tree(rng.uniform(0, p.width), max(horizon, 20) + rng.uniform(0, 60) * u, rng.uniform(50, 150) * u)


def aerial(p: Painter) -> None:
    """The ground from above: fields, roads, roofs, trees and their shadows."""
    rng, u = p.rng, p.unit
    p.rows(
        p.surface(
            rng.choice(["grass", "soil", "sand", "asphalt", "deep water", "concrete", "dry grass"]),
            (0.06, 0.24),
            [0, 1, 6],
        ),
        0,
        p.height,
    )
    for _ in range(int(rng.integers(2, 9))):
        centre, a = (
            rng.uniform(0, 1, 2) * (p.width, p.height),
            np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8)))),
        )
        points = centre + np.stack([np.cos(a), np.sin(a)], 1) * rng.uniform(30, 170) * u
        p.block(
            p.surface(
                rng.choice(["grass", "soil", "dry grass", "concrete", "paving", "sand"]), (0.05, 0.25), [0, 1, 2, 6]
            ),
            points,
        )
    sun = rng.uniform(-1, 1, 2) * 9 * u
    for _ in range(int(rng.integers(0, 4))):
        a, w, at = rng.uniform(0, np.pi), rng.uniform(10, 60) * u, rng.uniform(0, 1, 2) * (p.width, p.height)
        along, across = np.array([np.cos(a), np.sin(a)]) * 2000, np.array([-np.sin(a), np.cos(a)])
        side = across * w / 2
        p.block(
            p.surface("asphalt", (0.03, 0.12), [0, 1]),
            [at - along - side, at + along - side, at + along + side, at - along + side],
        )
        for d in np.arange(-w / 2 + 3, w / 2, max(w / 3, 8 * u)):
            for s in np.arange(-0.2, 0.2, 0.011 if rng.random() < 0.6 else 0.4):
                a0, a1 = at + along * s + across * d, at + along * (s + 0.006) + across * d
                T.fill(p.canvas, [a0 - across * u, a0 + across * u, a1 + across * u, a1 - across * u], (208, 206, 196))
    for _ in range(int(rng.integers(0, 16))):
        c, a = rng.uniform(0, 1, 2) * (p.width, p.height), rng.choice([0.0, rng.uniform(0, np.pi)])
        size, turn = rng.uniform(8, 50, 2) * u, np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        points = (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2) @ turn + c
        p.block(p.surface("night", (0, 0.1), keep=False), points + sun)
        p.block(p.surface(rng.choice(["roof", "concrete", "metal", "plaster", "sand"]), (0.04, 0.2), [0, 7, 8]), points)
    leaf = p.surface("foliage", (0.2, 0.5), [1, 4], (1, 3), keep=False)
    for _ in range(int(rng.choice([0, rng.integers(2, 40)]))):
        x, y, s = rng.uniform(0, p.width), rng.uniform(0, p.height), rng.uniform(8, 34) * u
        p.blob(p.surface("night", keep=False), x + sun[0] * 0.6, y + sun[1] * 0.6, s, s, 0.8, 0)
        p.blob(leaf, x, y, s, s, 0.8, 0.3)
    for _ in range(int(rng.integers(0, 8))):
        p.thing(
            ["car", "toy", "sign", "ball"], rng.uniform(0, p.width), rng.uniform(0, p.height), rng.uniform(8, 26) * u
        )


def water(p: Painter) -> None:
    """Sea, lake or pool, with waves, foam, a shore or a far coast."""
    rng, u = p.rng, p.unit
    horizon = p.height * rng.choice([-0.3, rng.uniform(0.1, 0.35)])
    p.sky(max(horizon, 1))
    if horizon > 0:
        for _ in range(int(rng.integers(0, 6))):
            x = rng.uniform(0, p.width)
            p.building(x, x + rng.uniform(20, 90) * u, horizon - rng.uniform(8, 36) * u, horizon + 2)
        p.blob(
            p.surface("foliage", (0.1, 0.3)),
            rng.uniform(0, p.width),
            horizon,
            p.width * rng.uniform(0.3, 1),
            rng.uniform(4, 24) * u,
            0.8,
        )
    name = rng.choice(["water", "deep water", "water", "concrete"])
    p.rows(p.surface(name, (0.06, 0.3), [0, 2, 2, 3], (0.8, 3)), max(horizon, 0), p.height, horizon - 4)
    foam = p.surface("foam", (0.03, 0.15), [0, 1])
    for _ in range(int(rng.choice([0, rng.integers(1, 14)]))):
        y, w = rng.uniform(max(horizon, 0), p.height), rng.uniform(20, 240) * u
        p.blob(foam, rng.uniform(0, p.width), y, w, max(w * rng.uniform(0.04, 0.2), 4), 2.4, 0.0)
    if rng.random() < 0.4:
        y = p.height * rng.uniform(0.6, 0.9)
        p.rows(p.surface(rng.choice(["sand", "rock", "grass", "concrete"]), (0.08, 0.25), [0, 1, 6]), y, p.height)
    for _ in range(int(rng.integers(0, 4))):
        p.thing(
            ["toy", "sign", "person", "ball"],
            rng.uniform(0, p.width),
            rng.uniform(max(horizon, 0) + 10, p.height),
            rng.uniform(10, 40) * u,
        )


def indoor(p: Painter) -> None:
    """A room: walls, floor, furniture, shelves of small things, posters, a window."""
    rng, u = p.rng, p.unit
    floor = p.height * rng.uniform(0.55, 0.95)
    p.rows(
        p.surface(
            rng.choice(["wall", "plaster", "concrete", "curtain", "carpet", "wood"]),
            (0.01, 0.1),
            [0, 2, 8],
            (0.3, 1.5),
            0.3,
        ),
        0,
        floor,
    )
    p.rows(
        p.surface(rng.choice(["wood", "carpet", "concrete", "court", "paving"]), (0.04, 0.2), [0, 2, 7]),
        floor,
        p.height,
        floor - 30 * u,
    )
    if rng.random() < 0.5:
        x = rng.uniform(0.1, 0.9) * p.width
        p.block(
            p.surface("wall", (0.01, 0.1)),
            [(x, 0), (p.width, 0), (p.width, floor + 20 * u), (x, floor)],
            rng.uniform(0.7, 0.95),
        )
    for _ in range(int(rng.integers(2, 9))):
        w, h = rng.uniform(20, 130, 2) * u
        x, y = rng.uniform(-20, p.width), rng.uniform(0, floor)
        made = p.surface(T.any_colour(rng), (0.02, 0.25), range(10), (0.4, 2))
        p.block(made, S.slab(x + 3, y + 4, x + w + 3, y + h + 4, 0.03), 0.35)
        p.block(made, S.slab(x, y, x + w, y + h, 0.03))
        if rng.random() < 0.4:
            inner = p.surface(T.any_colour(rng), (0.05, 0.4), [4, 5, 9, 0], (0.5, 2), keep=False)
            p.block(inner, S.slab(x + 0.1 * w, y + 0.1 * h, x + 0.9 * w, y + 0.9 * h, 0.03))
    for _ in range(int(rng.integers(0, 4))):
        y, x0, w = rng.uniform(0.2, 1) * floor, rng.uniform(0, p.width), rng.uniform(40, 160) * u
        p.block(p.surface("wood", keep=False), S.slab(x0, y, x0 + w, y + 4 * u, 0.02))
        for x in np.arange(x0, x0 + w, 13 * u):
            p.thing(["sign", "toy", "ball", "sign"], x + 6 * u, y, rng.uniform(12, 30) * u)
    for _ in range(int(rng.integers(1, 8))):
        p.thing(
            ["toy", "sign", "person", "face", "ball"],
            rng.uniform(0, p.width),
            floor + rng.uniform(-10, 50) * u,
            rng.uniform(16, 90) * u,
        )


def arena(p: Painter) -> None:
    """A court or a stage before a crowd or a curtain, with boards, lines and lamps."""
    rng, u = p.rng, p.unit
    floor = p.height * rng.uniform(0.25, 0.5)
    dark = rng.random() < 0.4
    if dark:
        p.rows(p.surface("night", (0.1, 0.5), [0, 2, 8], (0.3, 1)), 0, floor)
    else:
        p.rows(p.surface(rng.choice(["night", "carpet", "concrete"]), (0.3, 0.6), [4, 5, 6], (1, 3)), 0, floor)
        for y in np.arange(8 * u, floor, 15 * u):
            for x in np.arange(rng.uniform(0, 10) * u, p.width, rng.uniform(9, 20) * u):
                if rng.random() < 0.5:
                    T.fill(p.canvas, S.oval(x, y + 9 * u, 5 * u, 6 * u, 10), T.any_colour(rng))
                    T.fill(p.canvas, S.oval(x, y, 2.5 * u, 3 * u, 8), T.jitter(rng, (150, 110, 88), 0.3))
    board = p.surface(T.any_colour(rng), (0.2, 0.6), [9, 9, 8], (0.5, 1.5))
    p.rows(board, floor - rng.uniform(6, 20) * u, floor)
    ground = rng.choice(["court", "grass", "wood", "snow", "night" if dark else "court", "carpet"])
    p.rows(p.surface(ground, (0.02, 0.15), [0, 1, 2, 7]), floor, p.height, floor - 60 * u)
    line = T.any_colour(rng)
    for _ in range(int(rng.integers(1, 6))):
        if rng.random() < 0.5:
            a, b = (np.array([rng.uniform(-0.2, 1.2) * p.width, rng.uniform(floor, p.height)]) for _ in range(2))
            T.fill(p.canvas, S.limb(*a, *b, 3 * u, 4 * u), line)
        else:
            c, r = (rng.uniform(0, p.width), rng.uniform(floor + 20 * u, p.height)), rng.uniform(20, 90) * u
            ring = np.concatenate([S.oval(*c, r, r * 0.35, 40), S.oval(*c, r - 4 * u, r * 0.35 - 3 * u, 40)[::-1]])
            T.fill(p.canvas, np.concatenate([ring[:40], ring[:1], ring[-1:], ring[40:]]), line)
    for _ in range(int(rng.integers(0, 5))):
        c, r = rng.uniform(0, 1, 2) * (p.width, p.height), rng.uniform(20, 80) * u
        y, x = np.ogrid[: p.height, : p.width]
        glow = np.exp(-((x - c[0]) ** 2 + ((y - c[1]) * 0.7) ** 2) / (2 * r * r)).astype(np.float32)
        p.canvas += glow[..., None] * (T.any_colour(rng) * rng.uniform(0.1, 0.8) if dark else rng.uniform(0, 40))
    for _ in range(int(rng.integers(0, 5))):
        p.thing(
            ["person", "sign", "toy"], rng.uniform(0, p.width), floor + rng.uniform(0, 60) * u, rng.uniform(24, 60) * u
        )


def leaves(p: Painter) -> None:
    """Dead leaves: textured shapes of power-law sizes that hide one another, as in a close or cluttered view."""
    rng, u = p.rng, p.unit
    p.rows(p.surface(T.any_colour(rng), (0.05, 0.3), range(10)), 0, p.height)
    colours = [
        T.any_colour(rng) if rng.random() < 0.4 else np.float32(SURFACES[rng.choice(list(SURFACES))]) for _ in range(6)
    ]
    sizes = np.sort((rng.pareto(1.4, int(rng.integers(25, 90))) + 1) * 9 * u)[::-1].clip(max=170 * u)
    for size in sizes:
        x, y = rng.uniform(0, p.width), rng.uniform(0, p.height)
        made = p.surface(colours[rng.integers(6)], (0.04, 0.35), range(10), (0.5, 3), 0.25)
        shape = rng.integers(3)
        if shape == 0:
            p.blob(made, x, y, size * 1.6, size * rng.uniform(0.6, 1.4), rng.uniform(0.2, 1.4), rng.uniform(0, 0.4))
        else:
            a = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
            points = (
                S.oval(0, 0, size, size * rng.uniform(0.3, 1))
                if shape == 1
                else np.stack([np.cos(a), np.sin(a)], 1) * size
            )
            t = rng.uniform(0, np.pi)
            p.block(
                made,
                points @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) + (x, y),
                rng.uniform(0.7, 1.2),
            )


LAYOUTS = {f.__name__: f for f in (street, field, aerial, water, indoor, arena, leaves)}


def paint(layout: str, rng: np.random.Generator, split: str, width: int, height: int) -> tuple[np.ndarray, list]:
    """The world `(height, width, 3)` uint8, and the colours of its larger surfaces."""
    painter = Painter(rng, split, width, height)
    LAYOUTS[layout](painter)
    canvas = painter.canvas
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    canvas *= (1 + rng.normal(0, 0.1) * x + rng.normal(0, 0.1) * y).astype(np.float32)[..., None]
    for _ in range(int(rng.choice([0, 0, 1, 3]))):  # shadows of what is not in view
        w, h = rng.uniform(0.15, 0.9, 2) * (width, height * 0.6)
        shade = T.ragged(rng, split, int(w), int(h), 1.4) * rng.uniform(0.2, 0.55)
        x0, y0 = rng.uniform([-0.2, 0.3], [1, 1]) * (width, height)
        T.blend(canvas, np.float32([12, 14, 22]), shade, int(x0), int(y0))
    return canvas.clip(0, 255).astype(np.uint8), painter.used or [np.float32([120, 120, 120])]
