"""Procedural surfaces: what the scenes and objects of `rendered` are covered with, and how they are laid on a canvas.

A *tile* is a grey pattern of zero mean and unit deviation (1/f noise, streaks, cells, bricks, leaves, lettering, ...),
a *material* lays one or two tiles over a colour at some scale, angle and contrast. Tiles are drawn from a pool a split,
seeded by the split, so that the surfaces of train, val and test have no tile in common."""

from functools import lru_cache

import cv2
import numpy as np

SIDE = 256  # of a tile, in pixels
POOL = 240  # tiles a split
SPLIT_SEED = {"train": 11, "val": 12, "test": 13, "long": 14}

# Mean colours (RGB) of surfaces in daylight photographs; materials jitter them.
SURFACES = {
    "asphalt": (96, 97, 100), "concrete": (158, 154, 146), "paving": (176, 168, 156), "brick": (142, 88, 68),
    "plaster": (205, 196, 178), "grass": (92, 112, 52), "hay": (150, 140, 84), "foliage": (48, 66, 34),
    "soil": (122, 98, 70), "sand": (196, 178, 144), "rock": (120, 114, 106), "wood": (138, 102, 68),
    "water": (52, 104, 112), "sea": (26, 62, 74), "foam": (206, 214, 216), "snow": (226, 230, 236),
    "roof": (134, 84, 66), "metal": (142, 148, 156), "wall": (186, 180, 170), "curtain": (70, 28, 34),
    "night": (18, 20, 26), "court": (204, 160, 104), "carpet": (96, 60, 58), "sky": (150, 184, 222),
    "overcast": (206, 210, 214),
}  # fmt: skip


def stream(split: str, *numbers: int) -> np.random.Generator:
    """The random stream of these numbers, apart from those of the other splits."""
    return np.random.default_rng([SPLIT_SEED[split], *numbers])


def _standard(tile: np.ndarray) -> np.ndarray:
    """Zero mean, unit deviation, clipped to 2.5 deviations; float32."""
    tile = tile.astype(np.float32)
    tile -= tile.mean()
    return np.clip(tile / (tile.std() + 1e-6), -2.5, 2.5)


def _noise(rng: np.random.Generator, slope: float, stretch: float = 1.0, band: float = 0.0) -> np.ndarray:
    """Periodic noise whose amplitude falls as `f ** -slope` (natural images: about 1), stretched along x;
    `band > 0` keeps only frequencies about `band` cycles a tile."""
    fy = np.fft.fftfreq(SIDE)[:, None] * SIDE / stretch**0.5
    fx = np.fft.rfftfreq(SIDE)[None] * SIDE * stretch**0.5
    f = np.hypot(fx, fy)
    f[0, 0] = 1e9
    amplitude = np.exp(-(np.log(f / band) ** 2) / 0.18) / f if band else f**-slope
    phase = rng.standard_normal(f.shape) + 1j * rng.standard_normal(f.shape)
    return _standard(np.fft.irfft2(amplitude * phase, (SIDE, SIDE)))


def _cells(rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells with tones of their own and darker seams: stones, tiles of a mosaic, scales."""
    seeds, count = np.full((SIDE, SIDE), 255, np.uint8), int(rng.integers(40, 900))
    seeds[rng.integers(0, SIDE, count), rng.integers(0, SIDE, count)] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    tone = rng.standard_normal(int(label.max()) + 1).astype(np.float32)[label]
    return _standard(tone * rng.uniform(0.2, 1.0) - rng.uniform(0.3, 1.2) * _standard(distance))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    """Courses of bricks, planks or panels, with joints and tones of their own."""
    tile = np.zeros((SIDE, SIDE), np.float32)
    height, width = int(rng.integers(6, 28)), int(rng.integers(12, 90))
    joint, shift = rng.uniform(-2.5, 1.0), rng.uniform(0, 0.5)
    for row, y in enumerate(range(0, SIDE, height)):
        for x in range(-int(row * shift * width) % width - width, SIDE, width):
            cv2.rectangle(tile, (x, y), (x + width - 2, y + height - 2), rng.normal(0, 0.35) + 1e-3, -1)
    tile[tile == 0] = joint
    return _standard(tile)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves: ellipses of power-law sizes that hide one another, each with a shaded side."""
    tile, smallest = np.zeros((SIDE, SIDE), np.float32), rng.uniform(2, 5)
    for size in np.sort(smallest * rng.pareto(1.6, 420) + smallest)[::-1].clip(max=60):
        x, y = (int(v) for v in rng.integers(0, SIDE, 2))
        a, b = int(size) + 1, int(size * rng.uniform(0.3, 0.9)) + 1
        angle, tone = rng.uniform(0, 180), rng.standard_normal()
        cv2.ellipse(tile, (x, y), (a, b), angle, 0, 360, tone - 0.5, -1)
        cv2.ellipse(tile, (x - 1, y - 1), (a - 1, max(b - 1, 1)), angle, 0, 360, tone, -1)
    return _standard(tile)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    """Stripes or checks of uneven widths, slightly wavy: cloth, shutters, railings."""
    edges = np.cumsum(rng.uniform(3, 26, 160) * rng.uniform(0.3, 1.6))
    tones = rng.standard_normal(161).astype(np.float32) if rng.random() < 0.5 else np.arange(161) % 2 * 2.0 - 1
    x = np.arange(SIDE)[None] + rng.uniform(0, 3) * _noise(rng, 2.0)
    tile = tones[np.searchsorted(edges, x)]
    if rng.random() < 0.4:
        tile = tile + tones[np.searchsorted(edges, x.T)]
    return _standard(cv2.GaussianBlur(tile.astype(np.float32), (0, 0), 0.6))


def _lettering(rng: np.random.Generator) -> np.ndarray:
    """Lines of invented characters (strokes between nine points): posters, shop signs, shirts."""
    tile, y = np.zeros((SIDE, SIDE), np.uint8), 4
    while y < SIDE:
        height = int(rng.integers(8, 44))
        x, width, thick = int(rng.integers(-20, 10)), int(height * rng.uniform(0.5, 0.8)), 1 + height // 9
        while x < SIDE:
            grid = np.stack(np.divmod(rng.permutation(9)[: rng.integers(3, 6)], 3), 1)[:, ::-1]
            strokes = (np.array([x, y]) + grid * np.array([width, height]) / 2).astype(np.int32)
            cv2.polylines(tile, [strokes], bool(rng.random() < 0.3), int(rng.integers(150, 256)), thick, cv2.LINE_AA)
            x += int(width * (1.5 if rng.random() < 0.85 else 3))
        y += int(height * rng.uniform(1.3, 2.2))
    return _standard(tile)


def _speckle(rng: np.random.Generator) -> np.ndarray:
    """Sparse bright or dark dots over soft noise: gravel, flowers, a crowd far away."""
    dots = (rng.random((SIDE, SIDE)) < rng.uniform(0.004, 0.05)).astype(np.float32)
    dots = cv2.GaussianBlur(dots, (0, 0), rng.uniform(0.7, 2.0))
    return _standard(_standard(dots) * rng.choice([-1, 1]) + rng.uniform(0.2, 1) * _noise(rng, 1.0))


_KINDS = (
    lambda rng: _noise(rng, rng.uniform(0.9, 1.7)),
    lambda rng: _noise(rng, rng.uniform(0.5, 0.9)),
    lambda rng: _noise(rng, rng.uniform(0.7, 1.4), stretch=rng.uniform(0.1, 0.5)),
    lambda rng: _noise(rng, 0, stretch=rng.uniform(0.5, 2), band=rng.uniform(6, 50)),
    *(_leaves, _cells, _speckle, _bricks, _stripes, _lettering),
)
NOISES, ANY = range(4), range(10)  # kinds of tiles: those without edges, and all


@lru_cache(maxsize=256)
def tile(split: str, number: int) -> np.ndarray:
    """Tile `number` of the split's pool, `(SIDE, SIDE)` float32; its kind is `number % 10`."""
    return _KINDS[number % len(_KINDS)](stream(split, number, 7))


def _draw_tile(rng: np.random.Generator, kinds) -> int:
    return int(rng.integers(0, POOL // 10)) * 10 + int(rng.choice(kinds))


def jitter(rng: np.random.Generator, colour, amount: float) -> np.ndarray:
    """A colour near `colour`: brightness by `amount`, each channel by a third of it; `(3,)` float32."""
    gain = np.exp(rng.normal(0, amount) + rng.normal(0, amount / 3, 3))
    return np.clip(np.asarray(colour, np.float32) * gain, 3, 250).astype(np.float32)


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of things people make: half of them near grey, the others of any hue, few vivid; `(3,)` float32."""
    saturation = rng.uniform(0, 0.12) if rng.random() < 0.5 else rng.beta(1.6, 2.2)
    value = rng.choice([rng.uniform(15, 60), rng.uniform(60, 170), rng.uniform(180, 245)])
    hue = rng.choice([rng.integers(0, 180), rng.integers(0, 22), rng.integers(98, 125)])  # reds, browns, blues: often
    hsv = np.uint8([[[hue, saturation * 255, value]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


class Material:
    """One surface: a colour, and tiles that modulate its brightness and tint."""

    def __init__(self, rng, split: str, colour, contrast, kinds, scale, spread: float = 0.12):
        """A random one near `colour`. Ranges: `contrast`, the brightness of one deviation of the pattern, relative;
        `scale`, in tile pixels a pixel (larger: finer)."""
        self.split, self.colour = split, jitter(rng, colour, spread)
        self.pattern, self.tint = _draw_tile(rng, kinds), _draw_tile(rng, [0])
        self.contrast, self.drift = rng.uniform(*contrast), rng.normal(0, 0.02, 3).astype(np.float32)
        self.scale, self.angle = float(np.exp(rng.uniform(*np.log(scale)))), rng.choice([0.0, rng.uniform(0, np.pi)])
        self.offset = rng.uniform(0, SIDE, 2)

    def paint(self, width: int, height: int, horizon: float | None = None) -> np.ndarray:
        """`(height, width, 3)` float32. `horizon`: the row where a ground plane seen in perspective vanishes."""
        pattern = self._wall(width, height) if horizon is None else self._ground(width, height, horizon)
        slow = cv2.resize(tile(self.split, self.tint)[: SIDE // 2, : SIDE // 2], (width, height))
        image = pattern[..., None] * (self.colour * self.contrast)
        image += self.colour
        image *= 1 + slow[..., None] * self.drift
        return image

    def _wall(self, width: int, height: int) -> np.ndarray:
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        there = np.float64([[c, -s, self.offset[0]], [s, c, self.offset[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        grain = tile(self.split, self.pattern)
        return cv2.warpAffine(grain, there, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP)

    def _ground(self, width: int, height: int, horizon: float) -> np.ndarray:
        """The tile on a ground plane: rows shrink as one over the distance to the horizon, where contrast fades out."""
        depth = np.maximum(np.arange(height, dtype=np.float32) - horizon, 0.5)[:, None]
        reach = max(height - horizon, 1.0)
        u = (np.arange(width, dtype=np.float32) - width / 2) * (reach / depth) * self.scale * 0.6
        v = reach / depth * reach * self.scale * 1.5
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        x, y = (c * u - s * v + self.offset[0]) % SIDE, (s * u + c * v + self.offset[1]) % SIDE
        maps, grain = (x.astype(np.float32), y.astype(np.float32)), tile(self.split, self.pattern)
        return cv2.remap(grain, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) * np.clip(depth / reach * 3, 0, 1)


def ragged(rng: np.random.Generator, split: str, width: int, height: int, roughness: float) -> np.ndarray:
    """Soft mask `(height, width)` float32 of a blob with a ragged outline: foliage, a bush, a cloud, a rock."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    grain = tile(split, _draw_tile(rng, [0, 4]))
    x0, y0 = rng.integers(0, SIDE // 2, 2)
    side = int(np.clip(max(width, height) * 1.2, 48, SIDE // 2))
    noise = cv2.resize(grain[y0 : y0 + side, x0 : x0 + side], (width, height))
    level = 0.72 - x * x - y * y + roughness * 0.3 * noise - 0.6 * np.maximum(np.maximum(abs(x), abs(y)) - 0.86, 0) * 8
    return np.clip(level * min(width, height) * 0.35 + 0.5, 0, 1).astype(np.float32)


def overlap(canvas: np.ndarray, patch: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of what a canvas and a patch laid at (x, y) share: of the canvas, of the patch. Empty where they miss."""
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = max(min(x + patch.shape[1], canvas.shape[1]), x0), max(min(y + patch.shape[0], canvas.shape[0]), y0)
    return canvas[y0:y1, x0:x1], patch[y0 - y : y1 - y, x0 - x : x1 - x]


def blend(canvas: np.ndarray, image: np.ndarray, mask: np.ndarray, x: int, y: int) -> None:
    """Lay `image` (or a colour) over `canvas` at (x, y) through `mask`, in place; what lies outside is cut."""
    view, share = overlap(canvas, mask, x, y)
    image = overlap(canvas, image, x, y)[1] if np.ndim(image) == 3 else image
    view += (image - view) * share[..., None]


def polygon_mask(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Antialiased mask `(height, width)` float32 in 0 .. 1 of polygon `points` `(N, 2)` (edge coordinates)."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) * (1 / 255)


def stencil(points: np.ndarray, width: int, height: int) -> tuple[np.ndarray, int, int] | None:
    """A polygon's mask on a canvas, no larger than it must be, and where its corner lies; None if outside."""
    x0, y0 = (int(n) for n in np.maximum(np.floor(points.min(0)) - 1, 0))
    x1, y1 = (int(n) for n in np.minimum(np.ceil(points.max(0)) + 2, (width, height)))
    return (polygon_mask(points - (x0, y0), x1 - x0, y1 - y0), x0, y0) if x0 < x1 and y0 < y1 else None
