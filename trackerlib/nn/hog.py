"""Histograms of oriented gradients as trackers use them: Felzenszwalb's 31 channels (PAMI 2010), in the binning of
Piotr Dollar's `fhog`, with which KCF's published results were made."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CLIP = 0.2  # of a normalised histogram
_TEXTURE = 0.2357  # weight of the four texture channels


def fhog(image: Tensor, cell: int = 4, orientations: int = 9) -> Tensor:
    """Features `(3 * orientations + 4, H // cell, W // cell)` of a grey image `(H, W)` with values in 0..1.

    Channels: 2n signed orientations, n unsigned ones, 4 energies of texture, each the mean over the four blocks of two
    by two cells that a cell belongs to. Orientations are rounded to the nearest bin, places are interpolated."""
    height, width = image.shape[0] // cell, image.shape[1] // cell
    if min(height, width) < 2:
        raise ValueError(f"an image of {tuple(image.shape)} has no two cells of {cell} pixels each way")
    planes = _oriented(image[: height * cell, : width * cell], image, 2 * orientations)
    signed = _pooled(planes, cell)
    unsigned = signed[:orientations] + signed[orientations:]
    scales = _block_norms(unsigned.square().sum(0), cell)
    blocks = (signed[:, None] * scales).clamp_max(CLIP)  # (2n, 4, h, w)
    free = (unsigned[:, None] * scales).clamp_max(CLIP)
    return torch.cat([blocks.sum(1) / 2, free.sum(1) / 2, _TEXTURE * blocks.sum(0)])


def _oriented(inside: Tensor, image: Tensor, bins: int) -> Tensor:
    """The gradient's magnitude in the plane of its orientation, `(bins, H, W)`; borders by one-sided differences."""
    dy, dx = torch.gradient(image)
    dx, dy = (d[: inside.shape[0], : inside.shape[1]] for d in (dx, dy))
    angle = torch.atan2(dy, dx) * (bins / (2 * math.pi))
    index = torch.floor(angle % bins + 0.5).long() % bins
    return torch.zeros(bins, *inside.shape, dtype=image.dtype, device=image.device).scatter_(
        0, index[None], torch.hypot(dx, dy)[None]
    )


def _pooled(planes: Tensor, cell: int) -> Tensor:
    """Each pixel shared by the cells nearest to it, bilinearly; border cells, which get 7/8 of the weight, made up."""
    taps = 1 - (torch.arange(2 * cell, dtype=planes.dtype, device=planes.device) + 0.5 - cell).abs() / cell
    kernel = (taps[:, None] * taps / cell**2)[None, None]
    cells = F.conv2d(planes[:, None], kernel, stride=cell, padding=cell // 2)[:, 0]
    for edge in (cells[:, 0], cells[:, -1], cells[:, :, 0], cells[:, :, -1]):
        edge *= 8 / 7
    return cells


def _block_norms(energy: Tensor, cell: int) -> Tensor:
    """One over the norm of the four blocks that each cell belongs to, `(4, h, w)`; blocks at the border are those next
    to them."""
    blocks = F.avg_pool2d(energy[None, None], 2, stride=1)[0, 0] * 4
    norms = (blocks + 1e-4 / 4 / cell**4).rsqrt()
    norms = F.pad(norms[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return torch.stack([norms[1:, 1:], norms[:-1, 1:], norms[1:, :-1], norms[:-1, :-1]])
