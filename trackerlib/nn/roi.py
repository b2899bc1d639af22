"""Boxes among boxes: what detectors do with their proposals."""

import torch
from torch import Tensor

from .. import boxes as B


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
