"""GOTURN: D. Held et al., *Learning to track at 100 FPS with deep regression networks* (ECCV 2016).

Two crops, of the target in the last frame and of the same place in this one, pass CaffeNet's convolutions; three fully
connected layers compare them and say where the box is now. Nothing is learned while tracking, and nothing is scored.

    (x1, y1, x2, y2) = 10 * corners of the target in the search crop, whose side is 1

Names and numbers that the paper leaves out are those of davheld/GOTURN (tracker.prototxt, example_generator.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from .. import boxes as B
from ..data.crops import SIZE
from ..data.samplers import PairSampler, colours
from ..images import context_crops
from ..nn.checkpoints import load_into, read_tensors, weights_file
from ..provenance import code_digest, sha256
from ..siamfc import folded, mean_colours
from ..tracker import Frames, Output, State, lane_by_lane

INPUT, CONTEXT, UNITS = 227, 2, 10  # pixels a side; region over target, each way; the search crop's side in outputs
MEAN = (123.0, 117.0, 104.0)  # RGB; Caffe's layers take BGR


def _even(channels: float) -> int:
    return max(2, 2 * round(channels / 2))


class _LocalNorm(nn.LocalResponseNorm):
    """In float32 whatever comes in: a CPU has no bfloat16 kernel for it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def _stream(width: float) -> nn.Sequential:
    """CaffeNet to pool5: `(B, 3, 227, 227)` to `(B, 256, 6, 6)`; 2,334,080 parameters at width 1."""
    c1, c2, c3, c4, c5 = (_even(n * width) for n in (96, 256, 384, 384, 256))
    normal = lambda: _LocalNorm(5, 1e-4, 0.75, 1.0)  # noqa: E731
    stream = nn.Sequential()
    stream.conv1 = nn.Sequential(nn.Conv2d(3, c1, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), normal())
    stream.conv2 = nn.Sequential(nn.Conv2d(c1, c2, 5, 1, 2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), normal())
    stream.conv3 = nn.Sequential(nn.Conv2d(c2, c3, 3, 1, 1), nn.ReLU())
    stream.conv4 = nn.Sequential(nn.Conv2d(c3, c4, 3, 1, 1, groups=2), nn.ReLU())
    stream.conv5 = nn.Sequential(nn.Conv2d(c4, c5, 3, 1, 1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2))
    return stream


class GOTURN(nn.Module):
    """111,414,660 parameters at width 1 with one stream for both crops, 113,748,740 with two.

    width:  multiplies every channel count, rounded to even ones (layers 2, 4 and 5 have two groups)
    shared: one set of convolutions; the released network has two, whose weights are equal: they were not trained"""

    def __init__(self, width: float = 1.0, shared: bool = True):
        super().__init__()
        if not width > 0:
            raise ValueError(f"width is above 0, not {width:g}")
        self.width = width
        self.target = _stream(width)
        self.search = None if shared else _stream(width)
        pool5, hidden = 2 * 36 * _even(256 * width), _even(4096 * width)
        layer = lambda inputs: nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.5))  # noqa: E731
        self.head = nn.Sequential()
        self.head.fc6, self.head.fc7, self.head.fc7b = layer(pool5), layer(hidden), layer(hidden)
        self.head.fc8 = nn.Sequential(nn.Linear(hidden, 4))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)

    def initialise(self, generator: torch.Generator) -> GOTURN:
        """He-normal layers, and a last bias that says the middle half of the search crop: nothing moves. What the
        layers add to it, before they are trained, is noise of the crop's own size; the wider the network, the more."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.fc8[0].weight, 0, 0.01, generator=generator)
        with torch.no_grad():
            self.head.fc8[0].bias.copy_(UNITS * torch.tensor([0.25, 0.25, 0.75, 0.75]))
        return self

    def features(self, crops: Tensor, search: bool) -> Tensor:
        """pool5 `(B, 9216)` of RGB crops `(B, 3, 227, 227)` in 0..255, of the search region or of the target."""
        stream = self.search if search and self.search is not None else self.target
        return stream((crops - self.mean).to(next(stream.parameters()).dtype)).flatten(1)

    def corners(self, target: Tensor, search: Tensor) -> Tensor:
        """x1, y1, x2, y2 `(B, 4)` in the search crop, whose side is 10, of both crops' features."""
        return self.head(torch.cat([target, search], 1)).float()

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        return self.corners(self.features(previous, False), self.features(current, True))


CAFFE = {"fc6-new": "head.fc6", "fc7-new": "head.fc7", "fc7-newb": "head.fc7b", "fc8-shapes": "head.fc8"}
CAFFE |= {f"conv{i}": f"target.conv{i}" for i in range(1, 6)} | {f"conv{i}_p": f"search.conv{i}" for i in range(1, 6)}


def from_caffe(blobs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names of the released network's blobs (`conv1.weight`, `conv1_p.bias`, `fc6-new.weight`, ...); the first
    layers' BGR becomes RGB. Raises ValueError for a blob that GOTURN does not have."""
    tensors = {}
    for name, blob in blobs.items():
        layer, _, kind = name.rpartition(".")
        if layer not in CAFFE:
            raise ValueError(f"GOTURN has no blob {name!r}; it has {', '.join(CAFFE)}, each with weight and bias")
        own = f"{CAFFE[layer]}.0.{kind}"
        tensors[own] = blob.flip(1) if own.endswith("conv1.0.weight") else blob
    return tensors


def load_goturn(weights: str | Path, seed: int = 0) -> GOTURN:
    """The network of a weights file or shipped name, of the file's own width and streams; "random" is an untrained one
    of an eighth of the width. Raises FileNotFoundError, and ValueError for another file."""
    if str(weights) == "random":
        return GOTURN(0.125).initialise(torch.Generator().manual_seed(seed)).eval()
    path = weights_file(weights)
    tensors = read_tensors(path)
    if any(name.partition(".")[0] in CAFFE for name in tensors):
        tensors = from_caffe(tensors)
    last = tensors.get("head.fc8.0.weight")
    if last is None or "target.conv1.0.weight" not in tensors:
        raise ValueError(f"{path}: not weights of GOTURN: no target.conv1.0.weight or head.fc8.0.weight")
    net = GOTURN(last.shape[1] / 4096, "search.conv1.0.weight" not in tensors)
    load_into(net, tensors, str(path))
    return net.eval()


def corner_loss(net: GOTURN, batch: dict[str, Tensor]) -> Tensor:
    """L1 distance of the corners, summed over the four and averaged over the batch, in tenths of the search crop.

    The release sums over its batch of 50 too (Caffe's Reduction over all axes), so its rates are to be taken 50 times:
    SGD with momentum 0.9, weight decay 5e-4, 1e-6 times 10 for the new layers and times 20 for their biases, a tenth of
    that after every 100,000 batches, 450,000 in all; each pair with ten moved regions and the unmoved one."""
    previous, current = (batch[k].permute(0, 3, 1, 2).float() for k in ("previous", "current"))
    return (net(previous, current) - batch["corners"]).abs().sum(1).mean()


def goturn_groups(net: GOTURN, features: float = 1.0) -> list[dict[str, Any]]:
    """Groups for `training.loop.fit`: biases learn twice as fast, as in tracker.prototxt; convolutions at `features`
    times the rate (the paper's are ImageNet's and stay as they are: 0)."""
    groups = []
    for part, rate in ((net.head, 1.0), (net.target, features), (net.search, features)):
        parameters = list(part.parameters()) if part is not None else []
        groups += [{"params": [p for p in parameters if p.ndim > 1], "rate": rate}]
        groups += [{"params": [p for p in parameters if p.ndim == 1], "rate": 2 * rate, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class ShiftedPairs(PairSampler):
    """Training pairs from packed crops: `sampler[index]` gives uint8 `previous` and `current (227, 227, 3)` and the
    target's `corners (4,)` in tenths of the latter.

    The search region lies about the target of this frame, moved and scaled by the paper's Laplace model: targets hardly
    move. One in eleven is not moved, as in the release, where that one is the frame's own motion. A still meets itself.
    What lies outside of a packed crop is its mean colour."""

    SHIFT, SCALE, LIMIT, UNMOVED = 1 / 5, 1 / 15, 0.4, 1 / 11

    def digest(self) -> str:
        return sha256(super().digest(), code_digest([__name__]))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        kind = self.kinds[rng.choice(len(self.kinds), p=self.shares)]
        number, *rows = self._rows(kind, rng)
        before, now = (np.ascontiguousarray(self.stores[number].crops[row]) for row in rows)
        (w0, h0), size = (self.sizes[number][row] for row in rows)
        if self.augmentation.flip and rng.random() < 0.5:
            before, now = before[:, ::-1], now[:, ::-1]
        middle = np.full(2, SIZE / 2)
        centre, region = (middle, size) if rng.random() < self.UNMOVED else self.moved(middle, size, rng)
        low = centre - CONTEXT * region / 2
        corners = UNITS * (np.stack([middle - size / 2, middle + size / 2]) - low) / (CONTEXT * region)
        previous = colours(cut_region(before, middle, CONTEXT * np.array([w0, h0])), self.augmentation, rng)
        current = colours(cut_region(now, centre, CONTEXT * region), self.augmentation, rng)
        return {"previous": previous, "current": current, "corners": corners.ravel().astype(np.float32)}

    def moved(self, centre: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A place `(2,)` at most a target's size away, and a size `(2,)` at most 0.4 smaller or larger."""
        scaled = size * (1 - rng.laplace(0, self.SCALE, 2).clip(-self.LIMIT, self.LIMIT))
        while (np.abs(shift := rng.laplace(0, self.SHIFT, 2)) > CONTEXT / 2).any():
            pass
        return centre + size * shift, scaled


def cut_region(image: np.ndarray, centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    """`(227, 227, 3)` of a region of any aspect; centre and size `(2,)` x, y in edge coordinates."""
    scale = INPUT / np.maximum(size, 1)
    shift = scale * (0.5 - (centre - size / 2)) - 0.5
    matrix = np.column_stack([np.diag(scale), shift])
    fill = cv2.mean(np.ascontiguousarray(image))[:3]
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (INPUT, INPUT), flags=cv2.INTER_LINEAR, borderValue=fill)


@dataclass(frozen=True)
class GOTURNConfig:
    fill: str = "mean"  # what lies outside the frame: its mean colour, as in training here; "black", the release's

    def __post_init__(self):
        if self.fill not in ("mean", "black"):
            raise ValueError(f"fill is 'mean' or 'black', not {self.fill!r}")


@dataclass
class GOTURNState(State):
    template: Tensor  # (B, 9216) pool5 of the target in the last frame
    fill: Tensor  # (B, 3) colour outside the frame
    box: Tensor  # (B, 4) the last answer


class GOTURNTracker:
    """Regress the box from the last frame's target and this frame's region about it."""

    def __init__(
        self,
        net: GOTURN,
        config: GOTURNConfig = GOTURNConfig(),
        name: str = "goturn",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.config, self.device, self.dtype = name, config, torch.device(device), dtype
        self.net, self.keep_maps = folded(net, dtype).to(self.device), False

    def init(self, frames: Frames, boxes: Tensor) -> GOTURNState:
        fill = mean_colours(frames)
        fill = torch.zeros_like(fill) if self.config.fill == "black" else fill
        return GOTURNState(self._look(frames, boxes, fill, self._target), fill, boxes.clone())

    def track(self, state: GOTURNState, frames: Frames) -> tuple[GOTURNState, Output]:
        """One frame on. Scores are ones: GOTURN does not say how sure it is."""
        region = B.from_centre(B.centre(state.box), CONTEXT * state.box[:, 2:])
        corners = self._look(frames, state.box, state.fill, lambda crop, b: self._found(state, crop, b))
        low, high = (region[:, :2] + corners[:, k : k + 2] / UNITS * region[:, 2:] for k in (0, 2))
        box = self._inside(frames, low, high)
        output = Output(box, torch.ones_like(box[:, 0]))
        if self.keep_maps:
            output.regions = region
        return replace(state, template=self._look(frames, box, state.fill, self._target), box=box.clone()), output

    def _target(self, crop: Tensor, _: slice) -> Tensor:
        return self.net.features(crop, False).float()

    def _found(self, state: GOTURNState, crop: Tensor, lanes: slice) -> Tensor:
        features = self.net.features(crop, True)
        return self.net.corners(state.template[lanes].to(features.dtype), features)

    def _inside(self, frames: Frames, low: Tensor, high: Tensor) -> Tensor:
        """Boxes `(B, 4)` at least a pixel and at most the frame large, their centres in the frame (the release cuts off
        what is outside, and may be left with nothing)."""
        sizes = frames.sizes(low)
        size = torch.minimum((high - low).clamp_min(1), sizes)
        return B.from_centre(torch.minimum(((low + high) / 2).clamp_min(0), sizes), size)

    def _look(self, frames: Frames, boxes: Tensor, fill: Tensor, f: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """`f` of the crops `(B, 3, 227, 227)` of twice the boxes; on a CPU lane by lane, as in SiamFC's tracker."""

        def crops(image: Tensor, lanes: list[int]) -> Tensor:
            cut = context_crops(image, B.centre(boxes[lanes]), CONTEXT * boxes[lanes, 2:], INPUT, fill[lanes])
            return cut.contiguous(memory_format=torch.channels_last)

        if self.device.type == "cpu":
            alone = lambda b: f(crops(frames.images[frames.lane[b]], [b]), slice(b, b + 1))  # noqa: E731
            return torch.cat(lane_by_lane(alone, len(frames.lane)))
        groups = list(frames.by_image())
        order = torch.tensor([b for _, lanes in groups for b in lanes]).argsort()
        return f(torch.cat([crops(image, lanes) for image, lanes in groups])[order], slice(None))
