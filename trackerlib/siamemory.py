"""SiaMemory: a Siamese network that remembers (all-convolutional SiamFC, SqueezeNet and an LSTM).

Paper: "SiamMemory" in Procedia Computer Science 154 (2019), 146 to 153; no code was released. SiamFC's two max poolings
become strided convolutions and a 1 x 1 convolution narrows its features (Table 1). Its box in the frame and a global
vector of the frame are what a one-layer LSTM reads, and its answer is the tracker's:

    x_t = [cnn_fea (1024) ; cnn_loc (4)]                                                          (5)
    (i, f, o, g) = (sigma, sigma, sigma, tanh) T [x_t ; h_{t-1}]                                  (2)
    c_t = f c_{t-1} + i g,      h_t = o tanh(c_t)                                                 (3, 4)

Readings that the text leaves open carry their number in the register (M1 to M7 of SPEC, chapter 10).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import boxes as B
from .nn.checkpoints import weights_digest
from .nn.correlation import correlate_scales
from .nn.recurrent import SequenceRegressor
from .nn.squeezenet import FEATURES, SqueezeNet, whole_frame
from .siamfc import EXEMPLAR, SEARCH, SiamFC, SiamFCConfig, SiamFCState, SiamFCTracker, folded
from .tracker import Frames, Output

CONV6 = {"64/2": (64, 2), "64/1": (64, 1), "128/2": (128, 2)}  # M1: channels and groups of conv6


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without padding, batch norm, ReLU."""
    norm = nn.BatchNorm2d(outputs, eps=1e-6, momentum=0.05)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, groups=groups), norm, nn.ReLU(inplace=True))


class AllConv(nn.Module):
    """The Siamese branch, Table 1: 3,018,400 parameters and the bias b at width 1; scores as SiamFC's.

    width:     multiplies every channel count
    conv6:     M1, a reading of "128*64" and "x64": one of `CONV6`
    depthwise: M2, the pooling convolutions one channel each; else full ones, as All-CNN's
    Layers that SiamFC has too carry its names, so that its weights are copied by key (`from_siamfc`)."""

    def __init__(self, width: float = 1.0, conv6: str = "64/2", depthwise: bool = False):
        super().__init__()
        c1, c2, c3, c4, c5 = (round(n * width) for n in (96, 256, 384, 384, 256))
        (last, groups), self.width = CONV6[conv6], width
        self.backbone = nn.Sequential()
        self.backbone.conv1 = _layer(3, c1, 11, stride=2)
        self.backbone.conv_p1 = _layer(c1, c1, 3, stride=2, groups=c1 if depthwise else 1)
        self.backbone.conv2 = _layer(c1, c2, 5, groups=2)
        self.backbone.conv_p2 = _layer(c2, c2, 3, stride=2, groups=c2 if depthwise else 1)
        self.backbone.conv3 = _layer(c2, c3, 3)
        self.backbone.conv4 = _layer(c3, c4, 3, groups=2)
        self.backbone.conv5 = nn.Sequential(nn.Conv2d(c4, c5, 3, groups=2))
        self.backbone.conv6 = nn.Sequential(nn.Conv2d(c5, round(last * width), 1, groups=groups))
        scale = 1e-3 * c5 / round(last * width)  # SiamFC's, for products of fewer channels
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.bias = nn.Parameter(torch.zeros(()))

    def initialise(self, generator: torch.Generator) -> AllConv:
        """As SiamFC; then conv_p1 and conv_p2 average, each channel on its own, and conv6 is orthogonal."""
        SiamFC.initialise(self, generator)
        for pool in (self.backbone.conv_p1[0], self.backbone.conv_p2[0]):
            averaging(pool)
        nn.init.orthogonal_(self.backbone.conv6[0].weight, generator=generator)
        return self

    def from_siamfc(self, net: SiamFC) -> AllConv:
        """Take over the unchanged layers: conv1 to conv5 with their norms, and the bias."""
        if net.width != self.width:
            raise ValueError(f"SiamFC of width {net.width:g} has no layers for width {self.width:g}")
        self.load_state_dict(self.state_dict() | net.state_dict())
        return self

    def embed(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` RGB in 0..255 to `(B, 64, h, w)`; 127 to 6, 255 to 22."""
        return self.backbone(images)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Score maps `(B, 1, h, w)` of exemplars `(B, 3, 127, 127)` and search images `(B, 3, 255, 255)` (Eq. 1)."""
        z, x = self.embed(z).float(), self.embed(x).float()
        with torch.autocast(z.device.type, enabled=False):
            return self.scale * correlate_scales(z, x) + self.bias


NEW = ("backbone.conv_p1.", "backbone.conv_p2.", "backbone.conv6.")  # layers that SiamFC lacks


def calibrate(net: AllConv, batches: Iterable[dict[str, Tensor]]) -> None:
    """Set the norms' statistics by passes in training mode, before anything is learned: averaged features are smaller
    than the maxima that the layers after them know."""
    net.train()
    with torch.no_grad():
        for batch in batches:
            for k in "zx":
                net.embed(batch[k].permute(0, 3, 1, 2).float())


def branch_groups(net: AllConv, rate: float = 10.0) -> list[dict[str, Any]]:
    """Groups for `training.loop.fit`: the new layers learn at `rate` times the schedule's; vectors do not decay."""
    groups = []
    for new in (True, False):
        of = [p for name, p in net.named_parameters() if name.startswith(NEW) == new]
        facts = {"rate": rate if new else 1.0}
        groups += [facts | {"params": [p for p in of if p.ndim > 1]}]
        groups += [facts | {"params": [p for p in of if p.ndim <= 1], "weight_decay": 0.0}]
    return groups


def averaging(pool: nn.Conv2d) -> None:
    """Make a 3 x 3 convolution the average pooling of each channel (M2): what follows it sees pooled features."""
    with torch.no_grad():
        pool.weight.zero_()
        for channel in range(pool.out_channels):
            pool.weight[channel, channel if pool.groups == 1 else 0] = 1 / 9
        pool.bias.zero_()


class Memory(nn.Module):
    """The LSTM and its read-out: windows `(B, T, 1028)` of Eq. 5 to boxes `(B, 4)`, cx, cy, w, h in shares of frames.

    features: length of cnn_fea. It is brought to mean 0 and deviation 1 by two buffers that training sets, so that
    cnn_loc, four numbers below 1, does not depend on its scale. (The paper has no such step.)"""

    def __init__(self, features: int = FEATURES, hidden: int | None = None, readout: str = "linear"):
        super().__init__()
        self.regressor = SequenceRegressor(features + 4, hidden, readout)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def initialise(self, generator: torch.Generator) -> Memory:
        self.regressor.initialise(generator)
        return self

    def standardise(self, features: Tensor) -> None:
        """Take the statistics of training vectors `(N, features)`."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp_min(1e-6))

    def normal(self, windows: Tensor) -> Tensor:
        vector, box = windows.split([len(self.mean), 4], -1)
        return torch.cat([(vector - self.mean) / self.deviation, box], -1)

    def forward(self, windows: Tensor) -> Tensor:
        return self.regressor(self.normal(windows))


def memory_loss(net: Memory, batch: dict[str, Tensor], kind: str = "l2", weight: float = 1e-4) -> Tensor:
    """Regularised least squares (Eq. 8): `(1 / n) sum ||B - Bhat||^2 + lambda sum ||W||_F^2` (M5).

    batch: windows `(B, T, 1028)` and boxes `(B, 4)` of their last frames; kind: "l2"; "feature", the form released with
    ROLO: 100 times the mean squares, and that the state should be the input's vector; "none"."""
    windows = net.normal(batch["windows"])
    states = net.regressor.states(windows)[:, -1]
    errors = (net.regressor.boxes(states) - batch["boxes"]).square()
    if kind == "feature":
        size = min(states.shape[1], len(net.mean))
        return 100 * errors.mean() + 100 * weight * (windows[:, -1, :size] - states[:, :size]).square().mean()
    decay = sum(w.square().sum() for w in net.regressor.weights) if kind == "l2" else 0.0
    return errors.sum(1).mean() + weight * decay


@dataclass(frozen=True)
class SiaMemoryConfig(SiamFCConfig):
    """SiamFC-3s's constants, and those of the memory."""

    mode: str = "memory"  # "lstm_open_loop": it does not steer the search; "siam_only": it is not asked
    length: int = 6  # T, frames of a window (M4)
    lost: float = 0.2  # tau: below it (after the sigmoid) the Siamese box is not believed

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}")


MODES = ("memory", "lstm_open_loop", "siam_only")
SIAMEMORY = SiaMemoryConfig()


@dataclass
class SiaMemoryState(SiamFCState):
    box: Tensor  # (B, 4) the LSTM's last answer, in shares of the frame
    windows: Tensor  # (B, T, 1028) what it has read, the newest last


class SiaMemoryTracker(SiamFCTracker):
    """Siamese search, and the LSTM's box as answer and as the next search's place."""

    def __init__(
        self,
        net: AllConv,
        squeezenet: SqueezeNet,
        memory: Memory,
        config: SiaMemoryConfig = SIAMEMORY,
        name: str = "siamemory",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(net, config, name, device, dtype)
        self.squeezenet = folded(squeezenet, dtype).to(self.device)
        self.memory = memory.to(self.device).eval()
        self.vector_name = f"SqueezeNet's vector, weights {weights_digest(squeezenet)[:8]}"

    def init(self, frames: Frames, boxes: Tensor) -> SiaMemoryState:
        first = super().init(frames, boxes)
        box = in_shares(boxes, _sizes(frames, boxes))
        windows = torch.cat([self._vectors(frames), box], 1)[:, None].repeat(1, self.config.length, 1)
        return SiaMemoryState(**_leaves(first), box=box, windows=windows)

    def track(self, state: SiaMemoryState, frames: Frames) -> tuple[SiaMemoryState, Output]:
        """One frame on. Where the Siamese peak is low the memory reads its own last box, not the measured one."""
        c = self.config
        siamese, output = super().track(state, frames)
        if c.mode == "siam_only":
            return siamese, output
        sizes = _sizes(frames, output.boxes)
        lost = torch.sigmoid(output.scores) < c.lost
        measured = torch.where(lost[:, None], state.box, in_shares(output.boxes, sizes))
        read = torch.cat([self._vectors(frames), measured], 1)
        windows = torch.cat([state.windows[:, 1:], read[:, None]], 1)
        box = self.memory(windows)
        output.boxes = in_pixels(box, sizes)
        if c.mode == "memory":
            centre, size = B.centre(output.boxes), output.boxes[:, 2:]
            side = self._bounded(state, B.context_side(size) * SEARCH / EXEMPLAR)
            siamese = replace(siamese, centre=centre, size=size, side=side)
        return replace(siamese, box=box, windows=windows), output

    def _vectors(self, frames: Frames) -> Tensor:
        """cnn_fea of each lane's frame `(B, 1024)`, made once a frame for all lanes that see it."""
        return torch.cat(frames.once(self.vector_name, lambda image: self.squeezenet.vector(whole_frame(image))))


def _leaves(state: SiamFCState) -> dict[str, Tensor]:
    return {f.name: getattr(state, f.name) for f in fields(state)}


def _sizes(frames: Frames, like: Tensor) -> Tensor:
    """Width and height `(B, 2)` of each lane's frame."""
    return like.new_tensor([[frames.images[u].shape[2], frames.images[u].shape[1]] for u in frames.lane])


def in_shares(boxes: Tensor, sizes: Tensor) -> Tensor:
    """cnn_loc: boxes `(..., 4)` in pixels to cx, cy, w, h in shares of frames of `sizes (..., 2)`."""
    return torch.cat([B.centre(boxes) / sizes, boxes[..., 2:] / sizes], -1)


def in_pixels(shares: Tensor, sizes: Tensor) -> Tensor:
    """The inverse; a width or height that is not positive becomes one pixel."""
    return B.from_centre(shares[..., :2] * sizes, (shares[..., 2:] * sizes).clamp_min(1))
