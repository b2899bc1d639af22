"""Boxes among boxes: what detectors do with their anchors and proposals (S. Ren et al., *Faster R-CNN*, 2015).

Batch-first, and without a loop over anchors: boxes `(B, N, 4)`, x, y, w, h in pixels of the image."""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import boxes as B

GROWTH = log(1000 / 16)  # the largest logarithm of a side's change that is believed


def anchors(height: int, width: int, stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Boxes `(height * width * k, 4)` about the centres of a map's cells, by row, column, size and ratio.

    sizes: roots of areas, in pixels; ratios: height over width"""
    size, ratio = torch.meshgrid(torch.tensor(sizes).float(), torch.tensor(ratios).float(), indexing="ij")
    sides = torch.stack([size / ratio.sqrt(), size * ratio.sqrt()], -1).reshape(1, 1, -1, 2)
    y, x = (stride * (torch.arange(n) + 0.5) for n in (height, width))
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[:, :, None]
    return B.from_centre(*torch.broadcast_tensors(centres, sides)).reshape(-1, 4)


def encode(boxes: Tensor, of: Tensor, deviations: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """How `of (..., 4)` differ from `boxes`: centres in shares of the sides, logarithms of sides; over `deviations`."""
    place = (B.centre(of) - B.centre(boxes)) / boxes[..., 2:]
    sides = (of[..., 2:] / boxes[..., 2:]).log()
    return torch.cat([place, sides], -1) / place.new_tensor(deviations)


def decode(boxes: Tensor, deltas: Tensor, deviations: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """The inverse of `encode`; sides grow or shrink by 62.5 at most."""
    place, sides = (deltas * deltas.new_tensor(deviations)).split(2, -1)
    centre = B.centre(boxes) + place * boxes[..., 2:]
    return B.from_centre(centre, boxes[..., 2:] * sides.clamp(-GROWTH, GROWTH).exp())


def assign(iou: Tensor, positive: float, negative: float, best: float | None = None) -> Tensor:
    """What boxes whose IoU with the one object is `iou (B, N)` should be told: 1 from `positive` on, 0 below
    `negative`, else -1, to be left out. best: the boxes of the largest IoU are 1 too, if it is that much."""
    labels = torch.where(iou >= positive, 1, torch.where(iou < negative, 0, -1))
    if best is None:
        return labels
    most = iou.amax(-1, keepdim=True)
    return torch.where((iou == most) & (most >= best), 1, labels)


def sample(labels: Tensor, count: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Which of the boxes with `labels (B, N)` are trained on: `count` of each row by chance, up to a `share` of them
    positive, the rest negative."""
    keys = torch.rand(labels.shape, generator=generator, device=labels.device)

    def first(which: Tensor, so_many: Tensor | float) -> Tensor:
        rank = torch.where(which, keys, 2.0).argsort(-1).argsort(-1)
        return which & (rank < so_many)

    positive = first(labels == 1, count * share)
    return positive | first(labels == 0, count - positive.sum(-1, keepdim=True))


def roi_align(maps: Tensor, boxes: Tensor, size: int, stride: int, samples: int = 2) -> Tensor:
    """What maps `(B, C, H, W)` hold in each of their boxes `(B, K, 4)`: `(B, K, C, size, size)`.

    K. He et al., *Mask R-CNN* (2017): each of size x size bins is the mean of samples x samples points, read between
    the four cells around each. A cell's centre stands for its middle pixel ("aligned"); beyond half a cell outside of
    the map there is nothing. Places are float32 at least, whatever the maps are: bfloat16 knows a pixel of 700 from the
    fourth one after it."""
    (height, width), number, kind = maps.shape[2:], boxes.shape[1], maps.dtype
    maps, boxes = (of.to(torch.promote_types(kind, torch.float32)) for of in (maps, boxes))
    total, inner = 0, (torch.arange(size, device=maps.device) + 0.0) / size
    for row in range(samples):
        for column in range(samples):
            shift = ((column + 0.5) / samples / size, (row + 0.5) / samples / size)
            x, y = ((boxes[..., i, None] + (inner + shift[i]) * boxes[..., 2 + i, None]) / stride - 0.5 for i in (0, 1))
            inside = [(at >= -1) & (at <= length) for at, length in ((x, width), (y, height))]
            x, y = (2 * at / max(length - 1, 1) - 1 for at, length in ((x, width), (y, height)))
            grid = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., :, None]), -1)
            read = F.grid_sample(maps, grid.flatten(1, 2), padding_mode="border", align_corners=True)
            known = inside[0][..., None, :] & inside[1][..., :, None]
            total = total + read.unflatten(2, (number, size)) * known[:, None]
    return (total / samples**2).transpose(1, 2).to(kind)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression of `(..., N)` boxes `(..., N, 4)`: True where a box stays.

    A box goes when one that stays has a higher score (or the same, and comes first) and an IoU above `threshold` with
    it. Boxes of score 0 go, and suppress none. Batched: it sweeps over all pairs at once until nothing changes, as
    often as the longest chain of suppressions is long."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    sorted_boxes = boxes.gather(-2, order[..., None].expand(boxes.shape))
    before = B.iou(sorted_boxes[..., :, None, :], sorted_boxes[..., None, :, :]) > threshold
    before = before.triu(1)  # [i, j]: i comes first, and overlaps j
    alive = scores.gather(-1, order) > 0
    keep = alive
    while True:
        suppressed = (before & keep[..., :, None]).any(-2)
        now = alive & ~suppressed
        if torch.equal(now, keep):
            return torch.zeros_like(keep).scatter(-1, order, keep)
        keep = now
