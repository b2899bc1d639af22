"""Box algebra: the one place where conventions live.

A box is `(..., 4)` `x, y, w, h` in pixels, 0-based, *edge* convention: pixel `i` covers `[i, i + 1)`, so a box that
covers pixels 3 and 4 has `x = 3, w = 2` and its centre is `x + w / 2 = 4`. Every other convention is converted once, at
the door of the dataset or the file format, by the functions below.

All functions take NumPy arrays or torch tensors and give back the same kind.
"""

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


def _library(a: Array):
    return torch if isinstance(a, torch.Tensor) else np


def from_origin(rows: Array, origin: int) -> Array:
    """A benchmark's `x, y, w, h` whose first pixel is `origin` (OTB: 1) to ours."""
    return rows - _shift(rows, origin)


def to_origin(boxes: Array, origin: int) -> Array:
    """Ours to the `x, y, w, h` of a benchmark whose first pixel is `origin`."""
    return boxes + _shift(boxes, origin)


def from_one_based(rows: Array) -> Array:
    """OTB's 1-based `x, y, w, h` to ours."""
    return from_origin(rows, 1)


def to_one_based(boxes: Array) -> Array:
    """Ours to OTB's 1-based `x, y, w, h`."""
    return to_origin(boxes, 1)


def _shift(boxes: Array, origin: int) -> Array:
    if isinstance(boxes, torch.Tensor):
        return boxes.new_tensor([origin, origin, 0, 0])
    return np.array([origin, origin, 0, 0], dtype=np.float64)


def centre(boxes: Array) -> Array:
    """Centres `(..., 2)`."""
    return boxes[..., :2] + boxes[..., 2:] / 2


def from_centre(centres: Array, sizes: Array) -> Array:
    """Boxes `(..., 4)` of `(..., 2)` centres and `(..., 2)` sizes `w, h`."""
    return _library(centres).concatenate([centres - sizes / 2, sizes], -1)


def corners(boxes: Array) -> Array:
    """`x1, y1, x2, y2`, the far edges exclusive."""
    return _library(boxes).concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def from_corners(edges: Array) -> Array:
    """Boxes of `x1, y1, x2, y2`."""
    return _library(edges).concatenate([edges[..., :2], edges[..., 2:] - edges[..., :2]], -1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union `(...)` of boxes that broadcast together; 0 where the union is empty.

    Continuous areas: OTB's `-1 ... +1` cancels to the same number (calcRectInt.m)."""
    lib, p, q = _library(a), corners(a), corners(b)
    overlap = (lib.minimum(p[..., 2:], q[..., 2:]) - lib.maximum(p[..., :2], q[..., :2])).clip(0)
    shared = overlap[..., 0] * overlap[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    return lib.where(union > 0, shared / lib.where(union > 0, union, lib.ones_like(union)), lib.zeros_like(union))


def centre_error(a: Array, b: Array) -> Array:
    """Euclidean distance of the centres, in pixels."""
    return ((centre(a) - centre(b)) ** 2).sum(-1) ** 0.5


def context_side(sizes: Array, amount: float = 0.5) -> Array:
    """Side of the square that holds a target of `(..., 2)` size `w, h` and its context margin.

    `s = sqrt((w + 2p)(h + 2p))` with `2p = amount * (w + h)` (SiamFC: `s(w + 2p) * s(h + 2p) = 127^2`, amount 0.5)."""
    padded = sizes + amount * sizes.sum(-1, keepdims=True)
    return (padded[..., 0] * padded[..., 1]) ** 0.5
