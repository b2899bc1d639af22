"""Procedural places: the still world, larger than the frame, in which the objects of `rendered` move.

Each layout paints back to front: sky, what stands on the horizon, ground, clutter. Surfaces and things are named in
words; where there are several, one is drawn. Lengths are in pixels of a world 240 rows high.
"""

import cv2
import numpy as np

from . import figures as F
from . import sprites as S
from . import textures as T


class Painter:
    """A canvas of one size, and the stream of random numbers and the split whose tiles it paints with."""

    def __init__(self, rng: np.random.Generator, split: str, width: int, height: int):
        self.rng, self.split, self.width, self.height = rng, split, width, height
        self.unit = height / 240
        self.canvas = np.zeros((height, width, 3), np.float32)
        self.used: list[np.ndarray] = []  # colours of large surfaces: what a camouflaged target would wear

    def px(self, low: float, high: float) -> float:
        """A random length."""
        return self.rng.uniform(low, high) * self.unit

    def across(self) -> float:
        """A random column."""
        return self.rng.uniform(0, self.width)

    def somewhere(self) -> np.ndarray:
        """A random point `(2,)`."""
        return self.rng.uniform(0, 1, 2) * (self.width, self.height)

    def some(self, low: int, high: int) -> range:
        """A loop of low to high - 1 rounds."""
        return range(int(self.rng.integers(low, high)))

    def pick(self, names: str) -> str:
        return self.rng.choice(names.split())

    def surface(self, names, contrast=(0.04, 0.2), kinds=T.NOISES, scale=(0.5, 2.5), spread=0.15, keep=True):
        """A material near the colour of one of the named surfaces (or near a given colour)."""
        if isinstance(names, str):
            names = T.SURFACES[self.pick(names) if " " in names else names]
        scale = tuple(s / self.unit for s in scale)
        material = T.Material(self.rng, self.split, names, contrast, kinds, scale, spread)
        if keep:
            self.used.append(material.colour)
        return material

    def rows(self, material: T.Material, y0: float, y1: float, horizon: float | None = None) -> None:
        """Paint whole rows; as a ground plane when a horizon is given."""
        y0, y1 = int(max(y0, 0)), int(min(y1, self.height))
        if y1 > y0:
            at = None if horizon is None else horizon - y0
            self.canvas[y0:y1] = material.paint(self.width, y1 - y0, at)

    def fill(self, points, paint: T.Material | np.ndarray, light: float = 1.0) -> None:
        """Fill a polygon with a material or a colour."""
        if placed := T.stencil(np.asarray(points, np.float64), self.width, self.height):
            mask, x, y = placed
            image = paint.paint(*mask.shape[::-1]) * light if isinstance(paint, T.Material) else paint
            T.blend(self.canvas, image, mask, x, y)

    def blob(self, material: T.Material, x: float, y: float, w: float, h: float, rough=0.6, shade=0.3) -> None:
        """A ragged blob about (x, y), lit from above."""
        w, h = max(int(w), 4), max(int(h), 4)
        mask = T.ragged(self.rng, self.split, w, h, rough)
        image = material.paint(w, h) * np.linspace(1 + shade, 1 - shade, h, dtype=np.float32)[:, None, None]
        T.blend(self.canvas, image, mask, int(x - w / 2), int(y - h / 2))

    def sky(self, bottom: float) -> None:
        rng, colour = self.rng, T.jitter(self.rng, T.SURFACES[self.pick("sky overcast")], 0.12)
        ramp = np.linspace(rng.uniform(0.75, 1), rng.uniform(1, 1.15), max(int(bottom), 1), dtype=np.float32)
        self.canvas[: int(bottom)] = np.minimum(colour * ramp[:, None, None], 252)
        cloud = self.surface("overcast", (0, 0.06), [0], (0.3, 1), 0.06, keep=False)
        for _ in self.some(0, 5):
            size = self.px(60, 220)
            self.blob(cloud, self.across(), rng.uniform(0, bottom * 0.8), size, size * 0.3, 1.2, 0.05)

    def tree(self, x: float, foot: float, size: float) -> None:
        rng = self.rng
        trunk = self.surface("wood", (0.1, 0.3), [2], (1, 3), 0.3, keep=False)
        w, top = size * rng.uniform(0.05, 0.1), foot - size * 0.6
        self.fill([(x - w / 2, top), (x + w / 2, top), (x + w * 0.7, foot), (x - w * 0.7, foot)], trunk)
        leaf = self.surface("foliage foliage grass hay", (0.25, 0.5), [1, 4, 6], (1, 3), 0.25, keep=False)
        for _ in self.some(2, 6):
            s, beside, up = rng.uniform(0.4, 0.8), rng.normal(0, 0.14), rng.uniform(0.55, 0.95)
            self.blob(leaf, x + beside * size, foot - size * up, size * s, size * s * rng.uniform(0.6, 1), 1.2, 0.45)

    def building(self, x0: float, x1: float, top: float, foot: float) -> None:
        """A facade with a grid of windows, some lit or open, perhaps shops below and a roof above."""
        rng = self.rng
        wall = self.surface("brick plaster concrete paving wall", (0.03, 0.18), [0, 1, 7, 7], (0.8, 3), 0.2)
        self.fill([(x0, top), (x1, top), (x1, foot), (x0, foot)], wall, rng.uniform(0.7, 1.1))
        cw, ch = rng.uniform(10, 30, 2) * self.unit  # a window with the wall about it
        w, h = cw * rng.uniform(0.35, 0.75), ch * rng.uniform(0.4, 0.8)
        pane = T.jitter(rng, rng.choice([[40, 46, 54], [90, 104, 116], [160, 170, 178]]), 0.2)
        frame = T.jitter(rng, wall.colour * rng.choice([0.6, 1.25]), 0.05)
        for y in np.arange(top + ch * 0.5, foot - ch * 0.6, ch):
            for x in np.arange(x0 + cw * 0.3, x1 - w, cw):
                tone = pane * np.exp(rng.normal(0, 0.25))
                self.fill(S.slab(x - 1, y - 1, x + w + 1, y + h + 1, 0.02), frame)
                self.fill(S.slab(x, y, x + w, y + h, 0.02), tone)
        if rng.random() < 0.5:
            roof = self.surface("roof", (0.05, 0.2), [7, 8], (1, 3))
            lean = rng.uniform(0, 0.2) * (x1 - x0)
            self.fill([(x0 - 3, top), (x0 + lean, top - ch), (x1 - lean, top - ch), (x1 + 3, top)], roof)

    def thing(self, kinds: str, x: float, foot: float, size: float) -> None:
        """A still object that stands at (x, foot), `size` px tall, with a shadow under it."""
        sprite = F.build(self.pick(kinds), self.split, *(int(n) for n in self.rng.integers(1 << 30, size=2)))
        sprite.resize(max(size / sprite.extent[1], 8.0))
        rgba = sprite.paint(int(self.rng.integers(S.PHASES)))[:, :: int(self.rng.choice([-1, 1]))].astype(np.float32)
        h, w = rgba.shape[:2]
        shadow = T.polygon_mask(S.oval(w * 0.55, h * 0.14, w * 0.45, h * 0.1), w + 4, int(h * 0.3) + 2)
        left, black = int(x - w / 2), np.float32([22, 22, 24])
        T.blend(self.canvas, black, cv2.blur(shadow, (5, 3)) * 0.5, left, int(foot - h * 0.2))
        cover = rgba[..., 3] / 255
        T.blend(self.canvas, rgba[..., :3] / np.maximum(cover, 0.02)[..., None], cover, left, int(foot - h))

    def things(self, kinds: str, low: int, high: int, top: float, bottom: float, size: tuple[float, float]) -> None:
        """Low to high - 1 still objects that stand between the rows top and bottom."""
        for _ in self.some(low, high):
            self.thing(kinds, self.across(), self.rng.uniform(top, bottom), self.px(*size))


def street(p: Painter) -> None:
    """A road between buildings and trees, with marks, kerbs, parked cars and posts."""
    rng, u = p.rng, p.unit
    horizon = p.height * rng.uniform(0.2, 0.42)
    p.sky(horizon + 2)
    far = p.surface("foliage concrete grass", (0.15, 0.4), [1, 4], (1, 3), keep=False)
    p.rows(far, horizon - p.px(2, 14), horizon + 2)
    x = -p.px(0, 60)
    while x < p.width:
        w = p.px(50, 170)
        if rng.random() < 0.7:
            p.building(x, x + w, horizon - p.px(20, 110), horizon + 16 * u)
        x += w + rng.choice([0, rng.uniform(5, 50)]) * u
    for _ in p.some(0, 8):
        p.tree(p.across(), horizon + p.px(4, 18), p.px(40, 120))
    walk = horizon + p.px(8, 26)
    p.rows(p.surface("paving concrete grass soil", kinds=[1, 5, 6, 7]), horizon, walk + 40 * u, horizon - 6 * u)
    p.rows(p.surface("asphalt", (0.04, 0.18), [1, 0, 6], (1, 3)), walk, p.height, horizon)
    p.rows(p.surface("concrete", (0.02, 0.1), keep=False), walk, walk + p.px(2, 5))
    paint, gone = T.jitter(rng, (210, 208, 196), 0.1), np.array([p.across(), horizon - 4])
    for x in rng.uniform(-1, 2, 3) * p.width:  # lines to the vanishing point
        ts, dashed = np.geomspace(0.15, 1, 9), rng.random() < 0.6
        for t0, t1 in zip(ts[:-1:2], ts[1::2] if dashed else ts[2::2], strict=False):
            a, b = (gone + t * (np.array([x, p.height]) - gone) for t in (t0, t1))
            if min(a[1], b[1]) > walk + 6 * u:
                far, near = (np.array([4 * t * u, 0]) for t in (t0, t1))
                p.fill([a - far, a + far, b + near, b - near], paint)
    if rng.random() < 0.3:  # a crossing
        y = rng.uniform(walk + 20 * u, p.height * 0.85)
        for x in np.arange(0, p.width, 18 * u):
            p.fill([(x, y), (x + 9 * u, y), (x + 14 * u, y + 22 * u), (x + 4 * u, y + 22 * u)], paint)
    p.things("car car person rider", 0, 7, walk - 4 * u, walk + 12 * u, (18, 34))
    for _ in p.some(0, 4):
        x, w, metal = p.across(), p.px(2, 7), p.surface("metal", keep=False)
        p.fill(S.slab(x, horizon - p.px(20, 120), x + w, walk + p.px(-4, 40), 0.05), metal)


def field(p: Painter) -> None:
    """Meadow, beach, hill or desert up to a horizon of trees, rocks or hills."""
    rng, u = p.rng, p.unit
    horizon = p.height * rng.choice([rng.uniform(-0.2, 0.05), rng.uniform(0.15, 0.4)])
    top = max(horizon, 0)
    p.sky(max(horizon, 1))
    ground, second = p.pick("grass hay sand soil snow paving asphalt"), p.pick("soil grass sand rock")
    if horizon > 0 and rng.random() < 0.7:
        hill = p.surface("foliage rock grass", (0.1, 0.35), [1, 4, 6], (1, 3))
        for _ in p.some(2, 14):
            w = p.px(40, 240)
            p.blob(hill, p.across(), horizon, w, p.px(16, 80), 0.9, 0.35)
    plane = p.surface(ground, (0.08, 0.26), [0, 1, 1, 6], (1, 4))
    p.rows(plane, top, p.height, min(horizon, -10) if horizon < 0 else horizon - 3)
    patch = p.surface(second, (0.08, 0.25), [0, 1, 6], (1, 3))
    for _ in p.some(0, 7):
        y = rng.uniform(top + 10 * u, p.height)
        w = p.px(40, 260) * (0.4 + y / p.height)
        p.blob(patch, p.across(), y, w, w * rng.uniform(0.1, 0.35), 1.5, 0.0)
    if rng.random() < 0.4:
        x0, x1, w = *rng.uniform(-0.2, 1.2, 2), rng.uniform(0.05, 0.3)
        band = np.array([[x0, top], [x0 + w * 0.2, top], [x1 + w, p.height], [x1, p.height]]) * [p.width, 1]
        p.fill(band, p.surface("soil asphalt sand paving"))
    for _ in p.some(0, 7):
        y, size = rng.uniform(top + 8 * u, p.height), p.px(10, 46)
        if rng.random() < 0.5:
            rock = p.surface("rock foliage hay", (0.15, 0.4), [1, 4, 5], (1, 3), keep=False)
            p.blob(rock, p.across(), y, size * 1.5, size, 0.9, 0.4)
        else:
            p.thing(" ".join(F.BUILDERS), p.across(), y, size)
    for _ in p.some(0, 3):
        p.tree(p.across(), max(horizon, 20) + p.px(0, 60), p.px(50, 150))


def aerial(p: Painter) -> None:
    """The ground from above: fields, roads, roofs, trees and their shadows."""
    rng, u = p.rng, p.unit
    p.rows(p.surface("grass soil sand asphalt sea concrete hay", (0.06, 0.24), [0, 1, 6]), 0, p.height)
    for _ in p.some(2, 9):
        plot = p.somewhere() + S.shard(rng, 4, 8) * p.px(30, 170)
        p.fill(plot, p.surface("grass soil hay concrete paving sand", (0.05, 0.25), [0, 1, 2, 6]))
    sun = rng.uniform(-1, 1, 2) * 9 * u
    for _ in p.some(0, 4):
        turn, w, at = S.rotation(rng.uniform(0, np.pi)), p.px(10, 60), p.somewhere()
        along, across = turn[:, 0] * 2000, turn[:, 1]
        side = across * w / 2
        road = [at - along - side, at + along - side, at + along + side, at - along + side]
        p.fill(road, p.surface("asphalt", (0.03, 0.12), [0, 1]))
        for d in np.arange(-w / 2 + 3, w / 2, max(w / 3, 8 * u)):  # lanes
            for s in np.arange(-0.2, 0.2, 0.011 if rng.random() < 0.6 else 0.4):
                a, b = at + along * s + across * d, at + along * (s + 0.006) + across * d
                p.fill([a - across * u, a + across * u, b + across * u, b - across * u], (208, 206, 196))
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    for _ in p.some(0, 16):
        place, turn = p.somewhere(), S.rotation(rng.choice([0.0, rng.uniform(0, np.pi)]))
        roof = (square * rng.uniform(8, 50, 2) * u) @ turn.T + place
        p.fill(roof + sun, p.surface("night", (0, 0.1), keep=False))
        p.fill(roof, p.surface("roof concrete metal plaster sand", kinds=[0, 7, 8]))
    leaf = p.surface("foliage", (0.2, 0.5), [1, 4], (1, 3), keep=False)
    for _ in range(int(rng.choice([0, rng.integers(2, 40)]))):
        x, y, s = *p.somewhere(), p.px(8, 34)
        p.blob(p.surface("night", keep=False), x + sun[0] * 0.6, y + sun[1] * 0.6, s, s, 0.8, 0)
        p.blob(leaf, x, y, s, s, 0.8, 0.3)
    p.things("car toy sign ball", 0, 8, 0, p.height, (8, 26))


def _road(p: Painter) -> None:
    """A straight road across the whole of an aerial view, with lanes."""
    rng, u = p.rng, p.unit
    turn, w, at = S.rotation(rng.uniform(0, np.pi)), p.px(10, 60), p.somewhere()
    along, across = turn[:, 0] * 2000, turn[:, 1]
    side = across * w / 2
    road = [at - along - side, at + along - side, at + along + side, at - along + side]
    p.fill(road, p.surface("asphalt", (0.03, 0.12), [0, 1]))
    for d in np.arange(-w / 2 + 3, w / 2, max(w / 3, 8 * u)):
        for s in np.arange(-0.2, 0.2, 0.011 if rng.random() < 0.6 else 0.4):
            a, b = at + along * s + across * d, at + along * (s + 0.006) + across * d
            p.fill([a - across * u, a + across * u, b + across * u, b - across * u], (208, 206, 196))


def water(p: Painter) -> None:
    """Sea, lake or pool, with waves, foam, a shore or a far coast."""
    rng = p.rng
    horizon = p.height * rng.choice([-0.3, rng.uniform(0.1, 0.35)])
    top = max(horizon, 0)
    p.sky(max(horizon, 1))
    if horizon > 0:
        for _ in p.some(0, 6):
            x = p.across()
            p.building(x, x + p.px(20, 90), horizon - p.px(8, 36), horizon + 2)
        coast = p.surface("foliage", (0.1, 0.3))
        p.blob(coast, p.across(), horizon, p.width * rng.uniform(0.3, 1), p.px(4, 24), 0.8)
    p.rows(p.surface("water sea water concrete", (0.06, 0.3), [0, 2, 2, 3], (0.8, 3)), top, p.height, horizon - 4)
    foam = p.surface("foam", (0.03, 0.15), [0, 1])
    for _ in range(int(rng.choice([0, rng.integers(1, 14)]))):
        y, w = rng.uniform(top, p.height), p.px(20, 240)
        p.blob(foam, p.across(), y, w, max(w * rng.uniform(0.04, 0.2), 4), 2.4, 0.0)
    if rng.random() < 0.4:
        y = p.height * rng.uniform(0.6, 0.9)
        p.rows(p.surface("sand rock grass concrete", (0.08, 0.25), [0, 1, 6]), y, p.height)
    p.things("toy sign person ball", 0, 4, top + 10, p.height, (10, 40))


def indoor(p: Painter) -> None:
    """A room: walls, floor, furniture, shelves of small things, posters, a window."""
    rng, u = p.rng, p.unit
    floor = p.height * rng.uniform(0.55, 0.95)
    p.rows(p.surface("wall plaster concrete curtain carpet wood", (0.01, 0.1), [0, 2, 8], (0.3, 1.5), 0.3), 0, floor)
    p.rows(p.surface("wood carpet concrete court paving", kinds=[0, 2, 7]), floor, p.height, floor - 30 * u)
    if rng.random() < 0.5:
        x, other = rng.uniform(0.1, 0.9) * p.width, p.surface("wall", (0.01, 0.1))
        p.fill([(x, 0), (p.width, 0), (p.width, floor + 20 * u), (x, floor)], other, rng.uniform(0.7, 0.95))
    for _ in p.some(2, 9):
        (w, h), x, y = rng.uniform(20, 130, 2) * u, rng.uniform(-20, p.width), rng.uniform(0, floor)
        made = p.surface(T.any_colour(rng), (0.02, 0.25), T.ANY, (0.4, 2))
        p.fill(S.slab(x + 3, y + 4, x + w + 3, y + h + 4, 0.03), made, 0.35)
        p.fill(S.slab(x, y, x + w, y + h, 0.03), made)
        if rng.random() < 0.4:
            inner = p.surface(T.any_colour(rng), (0.05, 0.4), [4, 5, 9, 0], (0.5, 2), keep=False)
            p.fill(S.slab(x + 0.1 * w, y + 0.1 * h, x + 0.9 * w, y + 0.9 * h, 0.03), inner)
    for _ in p.some(0, 4):
        y, x0, w = rng.uniform(0.2, 1) * floor, p.across(), p.px(40, 160)
        p.fill(S.slab(x0, y, x0 + w, y + 4 * u, 0.02), p.surface("wood", keep=False))
        for x in np.arange(x0, x0 + w, 13 * u):
            p.thing("sign toy ball sign", x + 6 * u, y, p.px(12, 30))
    p.things("toy sign person face ball", 1, 8, floor - 10 * u, floor + 50 * u, (16, 90))


def arena(p: Painter) -> None:
    """A court or a stage before a crowd or a curtain, with boards, lines and lamps."""
    rng, u = p.rng, p.unit
    floor, dark = p.height * rng.uniform(0.25, 0.5), rng.random() < 0.4
    if dark:
        p.rows(p.surface("night", (0.1, 0.5), [0, 2, 8], (0.3, 1)), 0, floor)
    else:
        p.rows(p.surface("night carpet concrete", (0.3, 0.6), [4, 5, 6], (1, 3)), 0, floor)
        for y in np.arange(8 * u, floor, 15 * u):
            for x in np.arange(p.px(0, 10), p.width, p.px(9, 20)):
                if rng.random() < 0.5:
                    p.fill(S.oval(x, y + 9 * u, 5 * u, 6 * u, 10), T.any_colour(rng))
                    p.fill(S.oval(x, y, 2.5 * u, 3 * u, 8), T.jitter(rng, (150, 110, 88), 0.3))
    p.rows(p.surface(T.any_colour(rng), (0.2, 0.6), [9, 9, 8], (0.5, 1.5)), floor - p.px(6, 20), floor)
    ground = p.surface(f"court grass wood snow {'night' if dark else 'court'} carpet", (0.02, 0.15), [0, 1, 2, 7])
    p.rows(ground, floor, p.height, floor - 60 * u)
    line = T.any_colour(rng)
    for _ in p.some(1, 6):
        if rng.random() < 0.5:
            ends = rng.uniform([-0.2 * p.width, floor], [1.2 * p.width, p.height], (2, 2))
            p.fill(S.limb(*ends.ravel(), 3 * u, 4 * u), line)
        else:
            x, y, r = p.across(), rng.uniform(floor + 20 * u, p.height), p.px(20, 90)
            outer, inner = S.oval(x, y, r, r * 0.35, 40), S.oval(x, y, r - 4 * u, r * 0.35 - 3 * u, 40)[::-1]
            p.fill(np.concatenate([outer, outer[:1], inner[-1:], inner]), line)
    for _ in p.some(0, 5):
        c, r = p.somewhere(), p.px(20, 80)
        y, x = np.ogrid[: p.height, : p.width]
        glow = np.exp(-((x - c[0]) ** 2 + ((y - c[1]) * 0.7) ** 2) / (2 * r * r)).astype(np.float32)
        p.canvas += glow[..., None] * (T.any_colour(rng) * rng.uniform(0.1, 0.8) if dark else rng.uniform(0, 40))
    p.things("person sign toy", 0, 5, floor, floor + 60 * u, (24, 60))


def leaves(p: Painter) -> None:
    """Dead leaves: textured shapes of power-law sizes that hide one another, as in a close or cluttered view."""
    rng, u = p.rng, p.unit
    p.rows(p.surface(T.any_colour(rng), (0.05, 0.3), T.ANY), 0, p.height)
    named = list(T.SURFACES.values())
    colours = [T.any_colour(rng) if rng.random() < 0.4 else np.float32(rng.choice(named)) for _ in range(6)]
    sizes = np.sort((rng.pareto(1.4, int(rng.integers(25, 90))) + 1) * 9 * u)[::-1].clip(max=170 * u)
    for size in sizes:
        x, y = p.somewhere()
        made = p.surface(colours[rng.integers(6)], (0.04, 0.35), T.ANY, (0.5, 3), 0.25)
        shape = rng.integers(3)
        if shape == 0:
            p.blob(made, x, y, size * 1.6, size * rng.uniform(0.6, 1.4), rng.uniform(0.2, 1.4), rng.uniform(0, 0.4))
            continue
        points = S.shard(rng, 3, 9)
        points = S.oval(0, 0, 1, rng.uniform(0.3, 1)) if shape == 1 else points
        p.fill(points * size @ S.rotation(rng.uniform(0, np.pi)).T + (x, y), made, rng.uniform(0.7, 1.2))


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
    return canvas.clip(0, 255).astype(np.uint8), painter.used
