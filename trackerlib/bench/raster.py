"""Overlap of regions as VOT counts it: in pixels of a raster, for all frames of all runs at once.

A polygon's raster is a set of row spans: its edges cross a row at nodes, and the pixels between a pair of nodes are
filled. So no mask is ever made; an intersection is a sum over rows of what two spans share. Three rasters are in use.
They differ by up to a pixel on each side, hence by percents on small targets:

- `LEGACY`, the MATLAB toolkit with `legacy_rasterization`: vertices as they are, in float32, relative to the joint
  bounding box of the two regions; spans are half-open.
- `TRAX`, the same library's later rule, which toolkit 7.0 and pysot-toolkit use: vertices rounded, spans closed, rows
  of one pixel lost.
- `PYTHON`, vot-toolkit 0.9: vertices rounded, spans closed.

Regions are rows of 4 numbers `x, y, w, h` (pixels x to x + w - 1) or of 8, a polygon, NaN in the last four where the
region is a rectangle; the first pixel is at 0. They are taken as float32: a pixel's worth of rounding depends on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_ROWS = 1 << 18  # rows of spans at a time: what the processor's cache holds
_LAST = 1 << 24  # beyond, float32 cannot number the rows
_NEXT, _BEFORE = [1, 2, 3, 0], [3, 0, 1, 2]  # vertices of a vertex
_FAR, _NONE = 1 << 29, 1 << 30  # beyond any raster; a node that is not there, which sorts last

Bounds = np.ndarray | tuple[float, float] | None


def matlab_round(values: np.ndarray) -> np.ndarray:
    """MATLAB's and C's round(): half away from zero (NumPy's: half to even)."""
    return np.trunc(values + np.copysign(0.5, values))


@dataclass(frozen=True)
class Raster:
    """Which pixels of a polygon count.

    rounding: of vertices; None leaves them and closes neither spans nor rows at their end
    dots:     spans of one pixel count"""

    rounding: Callable[[np.ndarray], np.ndarray] | None = None
    dots: bool = False

    @property
    def closed(self) -> bool:
        return self.rounding is not None


LEGACY = Raster()
TRAX = Raster(matlab_round)
PYTHON = Raster(np.rint, dots=True)


def corners(regions: np.ndarray, inset: float = 1.0) -> np.ndarray:
    """Vertices `(2, 4, T)` float32 of `(T, 4)` or `(T, 8)` regions; a rectangle ends at x + w - `inset`."""
    regions = np.asarray(regions, np.float32)
    x, y, w, h = regions[:, :4].T
    right, bottom = x + (w - np.float32(inset)), y + (h - np.float32(inset))  # in this order: rounding decides rows
    boxes = np.array([[x, right, right, x], [y, y, bottom, bottom]])
    if regions.shape[1] == 4:
        return boxes
    return np.where(np.isnan(regions[:, 4:]).all(1), boxes, regions.reshape(-1, 4, 2).transpose(2, 1, 0))


def raster_overlap(a: np.ndarray, b: np.ndarray, bounds: Bounds = None, raster: Raster = LEGACY) -> np.ndarray:
    """Intersection over union `(T,)` of two sets of regions, each `(T, 4)` or `(T, 8)`; NaN where a number of one
    is not finite. In float32, as the toolkits have it, but for `PYTHON`.

    bounds, `(2,)` or `(T, 2)`: pixels beyond 0, 0 and these last coordinates do not count."""
    return polygon_overlap(corners(a), corners(b), bounds, raster)


def polygon_overlap(a: np.ndarray, b: np.ndarray, bounds: Bounds = None, raster: Raster = LEGACY) -> np.ndarray:
    """`raster_overlap` of vertices `(2, 4, T)`, as `corners` gives them."""
    (low_a, high_a), (low_b, high_b) = _box(a, bounds, raster), _box(b, bounds, raster)
    origin = np.minimum(low_a, low_b)
    extent = np.maximum(high_a, high_b) - origin
    number = np.float64 if raster is PYTHON else np.float32
    overlap = np.where(np.isfinite(a).all((0, 1)) & np.isfinite(b).all((0, 1)), number(0), number(np.nan))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        common = np.minimum(high_a, high_b) - np.maximum(low_a, low_b)
        void = (common < 0).any(0) | (extent > _LAST).any(0)
        if raster is PYTHON:
            void |= (extent <= 0).any(0)
            overlap[(np.ptp(np.rint(np.concatenate([a, b], 1)), axis=1) == 0).any(0)] = 1  # of one column or row: equal
        else:  # the library's guards, the second one against masks that would not fit the memory
            area_a, area_b = (high_a - low_a).prod(0), (high_b - low_b).prod(0)
            void |= (common <= 0).any(0) | (area_a / area_b < 1e-10) | (area_b / area_a < 1e-10)
    todo = np.flatnonzero(~void & (overlap == 0))
    if len(todo):
        a, b = (v[:, :, todo] for v in (a, b))
        if raster.closed:
            a, b = (raster.rounding(v.astype(np.float64)) for v in (a, b))
        shift = origin[:, None, todo]
        shared, union = _areas(a - shift, b - shift, extent[:, todo].astype(np.int64) + 1, raster)
        with np.errstate(invalid="ignore"):
            ratio = shared.astype(number) / union.astype(number)
        overlap[todo] = np.nan_to_num(ratio) if raster is PYTHON else ratio  # of two regions between pixels
    return overlap


def _box(vertices: np.ndarray, bounds: Bounds, raster: Raster) -> tuple[np.ndarray, np.ndarray]:
    """First and last coordinates, each `(2, T)`, of what is inside the bounds."""
    low, high = vertices.min(1), vertices.max(1)
    if raster is TRAX:
        low, high = np.floor(low), np.ceil(high)
    elif raster.closed:
        low, high = raster.rounding(low), raster.rounding(high)
    if bounds is None:
        return low, high
    last = np.asarray(bounds, np.float32).reshape(-1, 2).T
    return np.maximum(low, 0), np.minimum(high, last)


def _areas(a: np.ndarray, b: np.ndarray, size: np.ndarray, raster: Raster) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of intersection and union, both `(N,)`, on rasters of `size` `(2, N)`.

    Pairs of one kind are counted together, some thousand rows at a time: with a rectangle, whose span is the same in
    every row; or with a polygon that a row can cross more than twice; or with one that leaves the raster."""
    swap = _is_box(a) & ~_is_box(b)
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    rows_a, rows_b = _rows(a[1], size[1], raster), _rows(b[1], size[1], raster)
    boxed = _is_box(b)
    tangled = ~_simple(a[1], rows_a, raster) | ~(boxed | _simple(b[1], rows_b, raster))
    outside = (np.minimum(a[0], b[0]).min(0) < 0) | (np.maximum(a[0], b[0]).max(0) >= size[0])
    kind = boxed * 4 + tangled * 2 + outside
    counts = np.empty((2, len(kind)), np.int64)
    for k in np.unique(kind):
        which = np.flatnonzero(kind == k)
        length = (rows_a if boxed[which[0]] else np.concatenate([rows_a, rows_b]))[:, which]
        block = np.cumsum(np.maximum(np.ptp(length, axis=0), 1)) // _ROWS
        for i in np.split(which, np.flatnonzero(np.diff(block)) + 1):
            pair = (a[:, :, i], rows_a[:, i]), (b[:, :, i], rows_b[:, i])
            counts[:, i] = _count(*pair, size[0, i], raster, bool(k & 4), bool(k & 2), bool(k & 1))
    return counts[0], counts[1]


def _is_box(vertices: np.ndarray) -> np.ndarray:
    """Whether the vertices are those of an upright rectangle, in the order of `corners`; `(N,)`."""
    x, y = vertices
    return (x[0] == x[3]) & (x[1] == x[2]) & (y[0] == y[1]) & (y[2] == y[3])


def _rows(y: np.ndarray, height: np.ndarray, raster: Raster) -> np.ndarray:
    """The row with which the edge below each vertex begins, `(4, N)`: an edge covers the rows between its ends' two.

    Half-open rule: rows r with y_low < r <= y_high; the closed rule adds the polygon's first row."""
    after = y + (y > y.min(0)) if raster.closed else np.floor(y) + 1
    return np.clip(after, 0, height).astype(np.int64)


def _simple(y: np.ndarray, rows: np.ndarray, raster: Raster) -> np.ndarray:
    """Whether every row crosses the polygon exactly twice, as with convex ones; `(N,)`."""
    course = y if raster.closed else rows
    simple = np.maximum(course[_NEXT] - course, 0).sum(0) == np.ptp(course, axis=0)
    if raster.closed:  # edges along a row add nodes to it: no harm if one is the whole top or bottom
        top, bottom = y == y.min(0), y == y.max(0)
        level = (y == y[_NEXT]) & ~top & ~bottom
        simple &= ~level.any(0) & (top.sum(0) < 3) & (bottom.sum(0) < 3)
    return simple


def _count(a, b, width: np.ndarray, raster: Raster, boxed: bool, tangled: bool, outside: bool) -> np.ndarray:
    """Pixels of intersection and union `(2, n)` of pairs of one kind; a and b are vertices and rows."""
    first, last = a[1].min(0), a[1].max(0)
    if not boxed:
        first, last = np.minimum(first, b[1].min(0)), np.maximum(last, b[1].max(0))
    count = np.maximum(last - first, 1)
    starts = np.cumsum(count) - count
    row = (np.arange(count.sum(), dtype=np.int32) - np.repeat((starts - first).astype(np.int32), count)).astype("f4")
    limit = np.repeat(width, count).astype(np.int32) if outside else None
    nodes = _all_nodes if tangled else _chain_nodes
    spans_a = _spans(nodes(*a, first, count, row, raster), limit, raster)
    if boxed:
        spans_b, area_b = _box_spans(*b, first, count, width, raster)
    else:
        spans_b = _spans(nodes(*b, first, count, row, raster), limit, raster)
        area_b = _total([right - left for left, right in spans_b], starts)
    area_a = _total([right - left for left, right in spans_a], starts)
    shared = _total([np.minimum(r, s) - np.maximum(p, q) for p, r in spans_a for q, s in spans_b], starts)
    return np.stack([shared, area_a + area_b - shared])


def _total(lengths: list[np.ndarray], starts: np.ndarray) -> np.ndarray:
    return sum(np.add.reduceat(np.maximum(n, 0), starts, dtype=np.int64) for n in lengths)


def _edges(vertices: np.ndarray) -> np.ndarray:
    """x, y of each vertex and dx, dy from there to the one before, `(4, 4, n)`."""
    return np.concatenate([vertices, vertices[:, _BEFORE] - vertices])


def _nodes(x, y, dx, dy, row) -> np.ndarray:
    """Where edges cross rows: x + (row - y) / dy * dx in float32, cut towards 0."""
    at = row - y
    at /= dy
    at *= dx
    at += x
    return np.clip(at, -_FAR, _FAR, out=at).astype(np.int32)


def _chain_nodes(vertices, rows, first, count, row, raster: Raster) -> list[np.ndarray]:
    """The two nodes of each row of simple polygons, in order.

    From its top vertex a simple polygon falls to its bottom along two chains of edges. The edges of a chain, each
    repeated once a row, with an empty one before and after, fill the rows first ... first + count without a gap."""
    turn = (np.argmin(rows, 0) + np.arange(5)[:, None]) % 4
    pair = np.arange(rows.shape[1])
    rows, edges = rows[turn, pair], _edges(vertices)[:, turn[1:], pair]
    empty = np.broadcast_to(np.array([0, 0, 0, 1], vertices.dtype)[:, None, None], (4, 1, rows.shape[1]))
    before, after, steps = rows[0] - first, first + count - rows.max(0), np.diff(rows, axis=0)
    nodes = []
    for length, chain in ((steps, edges), (-steps[::-1], edges[:, ::-1])):
        times = np.concatenate([[before], np.maximum(length, 0), [after]]).T.ravel()
        parts = np.concatenate([empty, chain, empty], 1).transpose(0, 2, 1).reshape(4, -1)
        nodes.append(_nodes(*(np.repeat(part, times) for part in parts), row))
    left, right = np.minimum(*nodes), np.maximum(*nodes)
    if raster.dots:
        right[np.repeat(np.resize([True, False, False, False, False, True], len(times)), times)] = -1
    return [left, right]


def _all_nodes(vertices, rows, first, count, row, raster: Raster) -> list[np.ndarray]:
    """Up to four nodes of each row, in order, of any polygon: every edge against every row."""
    nodes = []
    for e, (x, y, dx, dy) in enumerate(_edges(vertices).transpose(1, 0, 2)):
        low, high = np.minimum(rows[e], rows[e - 1]), np.maximum(rows[e], rows[e - 1])
        if raster.closed:
            low, high = np.minimum(y, y + dy), np.maximum(y, y + dy) + 1
        low, high = (np.where((dy != 0) | raster.dots, end, 0) for end in (low, high))
        dy = np.where(dy == 0, 1, dy).astype(dx.dtype)
        at = _nodes(*(np.repeat(part, count) for part in (x, y, dx, dy)), row)
        nodes.append(np.where((row >= np.repeat(low, count)) & (row < np.repeat(high, count)), at, _NONE))
    return list(np.sort(nodes, axis=0))


def _spans(nodes: list[np.ndarray], limit: np.ndarray | None, raster: Raster) -> list[tuple[np.ndarray, np.ndarray]]:
    """Half-open spans of pixels between pairs of nodes, cut to 0 ... limit.

    Under the closed rule a vertex gives its row two equal nodes: the first is passed over, and with it a row of one
    pixel is lost, unless (vot-toolkit) this is the last pair."""
    if len(nodes) == 2:
        return [_cut(*nodes, limit, raster)]
    at, end, spans = 0, 0, []
    for i in range(len(nodes) - 1):
        here = (at == i) & (nodes[i + 1] < _NONE)
        twin = here & (nodes[i] == nodes[i + 1]) & raster.closed
        if raster.dots:
            twin &= nodes[min(i + 2, 3)] < _NONE if i < 2 else False
        left, right = _cut(nodes[i], nodes[i + 1], limit, raster)
        right = np.where(here & ~twin, right, 0)
        spans.append((np.maximum(left, end), right))
        end, at = np.maximum(end, right), at + twin + 2 * (here & ~twin)
    return spans


def _cut(left: np.ndarray, right: np.ndarray, limit: np.ndarray | None, raster: Raster):
    if raster.closed:
        right = right + 1 if raster.dots else np.where(left < right, right + 1, left)
    if limit is None:
        return left, right
    return np.maximum(left, 0), np.where(right > limit, limit - (not raster.closed), right)


def _box_spans(vertices, rows, first, count, width, raster: Raster):
    """The one span of each row of rectangles, and their areas."""
    left, right = _cut(*np.sort(np.clip(vertices[0, :2], -_FAR, _FAR).astype(np.int32), axis=0), width, raster)
    top, bottom = rows.min(0), rows.max(0)
    if raster.dots:
        bottom = np.maximum(bottom, top + 1)
    before, until = np.clip(top - first, 0, count), np.clip(bottom - first, 0, count)
    times = np.stack([before, until - before, count - until]).T.ravel()
    area = np.maximum(right - left, 0) * (bottom - top)
    none = np.zeros_like(left)
    spans = [np.repeat(np.stack([none, end, none]).T.ravel(), times) for end in (left, right)]
    return [tuple(spans)], area
