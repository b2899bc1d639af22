"""What training draws: pairs of crops, and crops with their class, with augmentation.

Every sample is a function of (seed, index) alone: workers, restarts and resumes cannot change what step k sees."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from ..provenance import canonical, code_digest, sha256
from .crops import SIZE, CropStore


@dataclass(frozen=True)
class Augmentation:
    """Defaults follow siamese-fc's acquire_augment, but that its lighting uses the covariance of the data set, and ours
    the crop's own; what is off by default is ours."""

    stretch: float = 0.05  # each side times 1 + U(-1, 1) * stretch
    shift: int = 4  # pixels, each way
    lighting: float = 0.1  # PCA of the crop's own colours
    rotate: float = 0.0  # degrees, each way
    tone: float = 0.0  # log of contrast and of gamma, and brightness in units of 64 levels: U(-1, 1) * tone
    grey: float = 0.0  # probability that both crops lose their colour
    blur: float = 0.0  # probability of a blur, defocus or motion
    noise: float = 0.0  # largest standard deviation of sensor noise, grey levels
    paste: float = 0.0  # probability that the search target stands on another crop as its background
    occlude: float = 0.0  # probability that part of the search target is covered
    flip: bool = False  # mirror both


STRONG = Augmentation(
    stretch=0.08, rotate=6, tone=0.25, grey=0.15, blur=0.2, noise=6, paste=0.15, occlude=0.15, flip=True
)


class PairSampler:
    """Pairs for SiamFC: `sampler[index]` gives uint8 `z (127, 127, 3)` and `x (search, search, 3)`.

    Both come from one sequence, at most `gap` frames apart, in either order; "still" crops meet themselves.
    weights: how often each kind of the stores is drawn, {"real": 2, "rendered": 1}; kinds not named weigh 1."""

    def __init__(
        self,
        stores: Iterable[CropStore],
        augmentation: Augmentation = Augmentation(),
        weights: dict[str, float] | None = None,
        gap: int = 100,
        search: int = 239,  # S3: 255 less the margin that random translation needs, a 15 x 15 score map
        exemplar: int = 127,
        seed: int = 0,
    ):
        self.stores, self.augmentation, self.gap = list(stores), augmentation, gap
        self.search, self.exemplar, self.seed = search, exemplar, seed
        self.names = [store.index["sequence"].to_numpy() for store in self.stores]
        self.sizes = [store.index[["w", "h"]].to_numpy() for store in self.stores]
        self.tracks: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}  # kind: (store, rows, frames) a sequence
        for number, store in enumerate(self.stores):
            for (_, kind), rows in store.index.groupby(["sequence", "source"], sort=True):
                if len(rows) > 1:
                    track = (number, rows.index.to_numpy(), rows["frame"].to_numpy())
                    self.tracks.setdefault(kind, []).append(track)
        if not self.tracks:
            raise ValueError(f"no usable track in {', '.join(str(s.folder) for s in self.stores)}")
        self.kinds = sorted(self.tracks)
        share = np.array([(weights or {}).get(kind, 1.0) for kind in self.kinds], float)
        self.shares = share / share.sum()

    def digest(self) -> str:
        """Names every sample this sampler can give: its stores, settings and code."""
        facts = [asdict(self.augmentation), self.shares.tolist(), self.gap, self.search, self.exemplar, self.seed]
        return sha256(canonical(facts), code_digest([__name__]), *(store.digest() for store in self.stores))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        a = self.augmentation
        kind = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
        number, first, second = self._rows(kind, rng)
        z, x = (np.ascontiguousarray(self.stores[number].crops[row]) for row in (first, second))
        size = self.sizes[number][second]
        if rng.random() < a.paste:
            x = _paste(x, size, self._background(number, second, rng), rng)
        if rng.random() < a.occlude:
            x = _occlude(x, size, self._background(number, second, rng), rng)
        grey, mirror = rng.random() < a.grey, a.flip and rng.random() < 0.5
        z, x = (
            colours(warp(crop, out, a, rng, mirror), a, rng) for crop, out in ((z, self.exemplar), (x, self.search))
        )
        return {"z": _greyed(z), "x": _greyed(x)} if grey else {"z": z, "x": x}

    def _rows(self, kind: str, rng: np.random.Generator) -> tuple[int, int, int]:
        number, rows, frames = self.tracks[kind][rng.integers(len(self.tracks[kind]))]
        i = rng.integers(len(rows))
        if kind == "still":
            return number, rows[i], rows[i]
        low, high = np.searchsorted(frames, [frames[i] - self.gap, frames[i] + self.gap + 1])
        j = rng.integers(low, high - 1) if high - low > 1 else i
        return number, rows[i], rows[j + (j >= i and high - low > 1)]

    def _background(self, number: int, row: int, rng: np.random.Generator) -> np.ndarray:
        """A crop of another sequence than this row's (of any, after four vain draws)."""
        name = self.names[number][row]
        for _ in range(4):
            other = rng.integers(len(self.stores))
            place = rng.integers(len(self.names[other]))
            if self.names[other][place] != name:
                break
        return np.ascontiguousarray(self.stores[other].crops[place])


LIVELY = Augmentation(stretch=0.35, shift=24, rotate=12, tone=0.25, grey=0.1, blur=0.2, noise=6, flip=True)


class ClassSampler:
    """Crops with what they show: `sampler[index]` gives uint8 `x (size, size, 3)` and the number `y` of its class.

    category: of each sequence by name; crops of sequences without one are left out. Classes are drawn equally often."""

    def __init__(
        self,
        store: CropStore,
        category: Mapping[str, str],
        augmentation: Augmentation = LIVELY,
        size: int = 128,
        seed: int = 0,
    ):
        self.store, self.augmentation, self.size, self.seed = store, augmentation, size, seed
        of = store.index["sequence"].map(category).replace("", None)
        self.rows = {name: rows.index.to_numpy() for name, rows in of.groupby(of)}
        self.classes = sorted(self.rows)
        if len(self.classes) < 2:
            raise ValueError(f"{store.folder}: crops of {len(self.classes)} classes; sequences want a category")

    def digest(self) -> str:
        """Names every sample this sampler can give."""
        facts = [asdict(self.augmentation), self.size, self.seed, {k: v.tolist() for k, v in self.rows.items()}]
        return sha256(canonical(facts), code_digest([__name__]), self.store.digest())

    def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
        rng = np.random.default_rng([self.seed, index])
        y = int(rng.integers(len(self.classes)))
        crop = np.ascontiguousarray(self.store.crops[rng.choice(self.rows[self.classes[y]])])
        mirror = self.augmentation.flip and rng.random() < 0.5
        x = colours(warp(crop, self.size, self.augmentation, rng, mirror), self.augmentation, rng)
        return {"x": _greyed(x) if rng.random() < self.augmentation.grey else x, "y": y}


def warp(crop: np.ndarray, out: int, a: Augmentation, rng: np.random.Generator, mirror: bool = False) -> np.ndarray:
    """Stretch, rotate, shift and mirror a stored crop into `(out, out, 3)`; what lies beyond it is its mean colour."""
    sx, sy = 1 + rng.uniform(-1, 1, 2) * a.stretch
    angle = np.deg2rad(rng.uniform(-1, 1) * a.rotate)
    shift = rng.integers(-a.shift, a.shift + 1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([-sx if mirror else sx, sy])
    matrix = np.column_stack([linear, (out - 1) / 2 + shift - linear @ np.full(2, (SIZE - 1) / 2)])
    fill = cv2.mean(crop)[:3]
    return cv2.warpAffine(crop, matrix, (out, out), flags=cv2.INTER_LINEAR, borderValue=fill)


def colours(crop: np.ndarray, a: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Blur, tone, PCA lighting and noise, `(H, W, 3)` uint8 to the same."""
    if rng.random() < a.blur:
        crop = _blurred(crop, rng)
    shift = np.zeros(3)
    if a.lighting:
        values, vectors = np.linalg.eigh(np.cov(crop[::4, ::4].reshape(-1, 3).T))
        shift = vectors @ (a.lighting * np.sqrt(values.clip(0)) * rng.standard_normal(3))
    contrast, gamma = np.exp(rng.uniform(-1, 1, 2) * a.tone)
    level = rng.uniform(-1, 1) * a.tone * 64
    ramp = np.arange(256)[:, None]
    table = 255 * (((ramp - 128) * contrast + 128 + level - shift).clip(0, 255) / 255) ** gamma
    crop = cv2.LUT(crop, np.rint(table).astype(np.uint8)[None])
    if not a.noise:
        return crop
    noise, sigma = np.empty(crop.shape, np.int16), rng.uniform(0, a.noise)
    cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
    cv2.randn(noise, (0, 0, 0), (sigma,) * 3)
    return cv2.add(crop.astype(np.int16), noise).clip(0, 255).astype(np.uint8)


def _blurred(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.6, 2.0))
    length, angle = rng.integers(3, 10), rng.uniform(0, np.pi)
    kernel, half = np.zeros((length, length), np.float32), (length - 1) / 2
    tip = np.array([np.cos(angle), np.sin(angle)]) * half
    cv2.line(kernel, *(tuple(round(v) for v in half + s * tip) for s in (-1, 1)), 1.0)
    return cv2.filter2D(crop, -1, kernel / kernel.sum())


def _greyed(crop: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _soft_box(centre: np.ndarray, size: np.ndarray, feather: float, power: float) -> np.ndarray:
    """A `(SIZE, SIZE, 1)` mask of a super-ellipse (power 2: ellipse, 6: nearly a box) with a soft edge."""
    at = np.arange(SIZE)
    dx, dy = (np.abs(at - c) / max(s / 2, 1) for c, s in zip(centre, size, strict=True))
    r = (dx[None] ** power + dy[:, None] ** power) ** (1 / power)
    return np.clip((1 + feather - r) / feather, 0, 1)[..., None].astype(np.float32)


def _blend(front: np.ndarray, back: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (back + mask * (front.astype(np.float32) - back)).astype(np.uint8)


def _paste(x: np.ndarray, size: np.ndarray, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mask = _soft_box(np.full(2, (SIZE - 1) / 2), size, rng.uniform(0.1, 0.4), rng.choice([2.5, 4.0, 8.0]))
    return _blend(x, np.roll(background, rng.integers(SIZE, size=2), (0, 1)), mask)


def _occlude(x: np.ndarray, size: np.ndarray, cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover up to half of the target by a piece of another crop that comes in from one side."""
    side = rng.integers(4)
    axis, sign = side % 2, 1 if side < 2 else -1
    span = np.maximum(size * rng.uniform(0.5, 1.5), 4)
    centre = np.full(2, (SIZE - 1) / 2)
    centre[axis] += sign * (span[axis] + size[axis] * rng.uniform(0.0, 1.0)) / 2
    centre[1 - axis] += rng.uniform(-0.4, 0.4) * size[1 - axis]
    return _blend(np.roll(cover, rng.integers(SIZE, size=2), (0, 1)), x, _soft_box(centre, span, 0.15, 6.0))
