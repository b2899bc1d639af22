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

import torch
from torch import Tensor, nn

from .nn.correlation import correlate_scales
from .siamfc import SiamFC

CONV6 = {"64, g=2": (64, 2), "64": (64, 1), "128, g=2": (128, 2)}  # M1: channels and groups of conv6


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

    def __init__(self, width: float = 1.0, conv6: str = "64, g=2", depthwise: bool = False):
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


def averaging(pool: nn.Conv2d) -> None:
    """Make a 3 x 3 convolution the average pooling of each channel (M2): what follows it sees pooled features."""
    with torch.no_grad():
        pool.weight.zero_()
        for channel in range(pool.out_channels):
            pool.weight[channel, channel if pool.groups == 1 else 0] = 1 / 9
        pool.bias.zero_()
