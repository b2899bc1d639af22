"""HRNet (K. Sun et al., CVPR 2019): a network that keeps its resolution, and exchanges with coarser ones beside it.

The pose network of the release (leoxiaobin/deep-high-resolution-net.pytorch), names and all; what it reads besides RGB
and how many maps it answers are free."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resnet import BasicBlock, bottlenecks, conv3x3

STAGES = ((1, 2), (4, 3), (3, 4))  # modules of stage 2, 3, 4, and branches in each
BLOCKS = 4  # in each branch of a module


def step(inputs: int, outputs: int, stride: int = 1, active: bool = True) -> nn.Sequential:
    """A 3 x 3 layer, its norm, and a ReLU where it is `active`."""
    layers = [conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


def brought(inputs: list[int], i: int, j: int) -> nn.Module:
    """From branch j to branch i's channels and resolution."""
    if j == i:
        return nn.Identity()
    if j > i:
        narrow = nn.Conv2d(inputs[j], inputs[i], 1, bias=False)
        return nn.Sequential(narrow, nn.BatchNorm2d(inputs[i]), nn.Upsample(scale_factor=2 ** (j - i), mode="nearest"))
    last = step(inputs[j], inputs[i], 2, active=False)
    return nn.Sequential(*(step(inputs[j], inputs[j], 2) for _ in range(i - j - 1)), last)


class Exchange(nn.Module):
    """A module of the paper: each branch goes on alone, then the first `answers` of them get the sum of all."""

    def __init__(self, channels: list[int], answers: int):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(BLOCKS))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(brought(channels, i, j) for j in range(len(channels))) for i in range(answers)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps `(B, c, H, W)`, `(B, 2c, H / 2, W / 2)` and so on, to the same, or the first of them."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [sum(f(x) for f, x in zip(row, maps, strict=True)).relu() for row in self.fuse_layers]


class HRNet(nn.Module):
    """`(B, inputs, H, W)` to maps `(B, outputs, H / 4, W / 4)`; H and W are multiples of 32.

    base:  32 or 48, channels of the finest branch: 28,536,113 parameters (W32) with 3 inputs and 17 outputs
    width: multiplies every channel count"""

    def __init__(self, inputs: int = 3, outputs: int = 17, base: int = 32, width: float = 1.0):
        super().__init__()
        stem, finest = round(64 * width), round(base * width)
        self.conv1, self.bn1 = conv3x3(inputs, stem, 2), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = conv3x3(stem, stem, 2), nn.BatchNorm2d(stem)
        self.layer1 = bottlenecks(stem, stem, 4)
        before = [4 * stem]
        for k, (modules, branches) in enumerate(STAGES):
            channels = [finest * 2**i for i in range(branches)]
            kept = [step(b, c) if b != c else nn.Identity() for b, c in zip(before, channels, strict=False)]
            new = nn.Sequential(step(before[-1], channels[-1], 2))
            self.add_module(f"transition{k + 1}", nn.ModuleList([*kept, new]))
            answers = [branches] * modules
            if branches == len(STAGES) + 1:
                answers[-1] = 1
            self.add_module(f"stage{k + 2}", nn.Sequential(*(Exchange(channels, n) for n in answers)))
            before = channels
        self.final_layer = nn.Conv2d(finest, outputs, 1)

    def initialise(self, generator: torch.Generator) -> HRNet:
        """The release's: every convolution normal of deviation 0.001, norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.001, generator=generator)
        nn.init.zeros_(self.final_layer.bias)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / 4, W / 4)`."""
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        maps = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            *kept, new = transition
            maps = stage([layer(x) for layer, x in zip(kept, maps, strict=True)] + [new(maps[-1])])
        return self.final_layer(maps[0])


def more_inputs(tensors: dict[str, Tensor], inputs: int) -> dict[str, Tensor]:
    """A published network's tensors with a first layer of `inputs` channels: its own for RGB, zero for the rest."""
    first = tensors["conv1.weight"]
    return tensors | {"conv1.weight": nn.functional.pad(first, (0, 0, 0, 0, 0, inputs - first.shape[1]))}
